//! Perfetto's traces, and with them what ftrace recorded: protocol buffers, a packet after the
//! other. Fields are those of `protos/perfetto/trace/` in Perfetto's sources, whose numbers never
//! change; `forktrace report -o FILE.pftrace` writes the same.
//!
//! Packets come CPU by CPU and in no order of time. Wakeups in the compact form, which Perfetto
//! records by default, do not say who woke: that is who was on the CPU, if no interrupt was.

mod ftrace;

use std::{collections::HashMap, io::Read as _};

use anyhow::{Context as _, Result, bail, ensure};
use flate2::read::ZlibDecoder;
use forktrace_core::{
    trace::{Arch, Imported},
    trace_file::Source,
};

use self::ftrace::Ftrace;
use crate::{
    sink::Sink,
    text,
    wire::{self, Fields, Value},
};

/// Fields of `Trace` and `TracePacket`.
mod field {
    pub(super) const PACKET: u32 = 1;
    pub(super) const FTRACE_EVENTS: u32 = 1;
    pub(super) const PROCESS_TREE: u32 = 2;
    pub(super) const CLOCK_SNAPSHOT: u32 = 6;
    pub(super) const TIMESTAMP: u32 = 8;
    pub(super) const SYSTEM_INFO: u32 = 45;
    pub(super) const COMPRESSED_PACKETS: u32 = 50;
    pub(super) const TIMESTAMP_CLOCK: u32 = 58;
    pub(super) const DEFAULTS: u32 = 59;
}

/// Clocks of a snapshot.
mod clock {
    pub(super) const REALTIME: u64 = 1;
    pub(super) const MONOTONIC: u64 = 3;
    pub(super) const BOOTTIME: u64 = 6;
}

/// The longest packet that is read, and the longest that compressed ones become.
const LONGEST_PACKET: usize = 64 << 20;
/// Arguments of a command that are kept.
const MOST_ARGUMENTS: usize = 64;

pub(crate) fn read(source: Source<'_>, sink: &mut Sink) -> Result<()> {
    sink.found.imported = Imported {
        from: "Perfetto".to_owned(),
        lacks: [
            "in which calls tasks were",
            "what for they waited",
            "what they did before their first event",
            "of tasks that never had a CPU meanwhile",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..Imported::default()
    };
    let mut packets = Packets {
        ftrace: Ftrace::default(),
        sink,
        clocks: HashMap::new(),
        other_clocks: false,
        last_ns: None,
        broken: 0,
    };
    packets.all(source)?;
    packets.finish();
    Ok(())
}

struct Packets<'a> {
    ftrace: Ftrace,
    sink: &'a mut Sink,
    /// The clocks at the first moment that some were told together.
    clocks: HashMap<u64, u64>,
    /// Some packets' times are of clocks that we don't follow.
    other_clocks: bool,
    /// The last time of a packet, on the clock of those whose clock is not told.
    last_ns: Option<u64>,
    /// Packets that make no sense.
    broken: u64,
}

impl Packets<'_> {
    fn all(&mut self, source: Source<'_>) -> Result<()> {
        let length = source.length();
        let mut at = 0;
        let mut packet = Vec::new();
        while at < length {
            let mut head = [0; 16];
            let there = source.read(at, &mut head);
            let head = &head[..there];
            let Some((key, key_len)) = wire::number(head) else {
                return self.cut_off(at, length);
            };
            ensure!(
                key & 7 == 2,
                "at byte {at}, where a packet should begin, is {}",
                text::hex(&head[..head.len().min(4)])
            );
            let Some((len, len_len)) = wire::number(&head[key_len..]) else {
                return self.cut_off(at, length);
            };
            let from = at + key_len + len_len;
            let Some(len) = usize::try_from(len)
                .ok()
                .filter(|len| *len <= length - from.min(length))
            else {
                return self.cut_off(at, length);
            };
            if key >> 3 == u64::from(field::PACKET) {
                ensure!(
                    len <= LONGEST_PACKET,
                    "the packet at byte {at} has {len} bytes; up to {LONGEST_PACKET} are read"
                );
                packet.resize(len, 0);
                let read = source.read(from, &mut packet);
                self.packet(&packet[..read], true)
                    .with_context(|| format!("the packet at byte {at}"))?;
            }
            at = from + len;
        }
        Ok(())
    }

    /// The file ends within a packet: all before it counts.
    fn cut_off(&mut self, at: usize, length: usize) -> Result<()> {
        if self.sink.count == 0 {
            bail!("the packet at byte {at} is cut off: the file ends at byte {length}");
        }
        let fault = format!("the file is cut off in the packet at byte {at}");
        self.sink.found.imported.faults.push(fault);
        Ok(())
    }

    fn packet(&mut self, packet: &[u8], outermost: bool) -> Result<()> {
        let (mut at_ns, mut by_clock) = (None, None);
        let mut fields = Fields::of(packet);
        for (number, value) in fields.by_ref() {
            match number {
                field::FTRACE_EVENTS => {
                    let whole = self.ftrace.bundle(value.bytes(), self.sink);
                    self.broken += u64::from(!whole);
                }
                field::PROCESS_TREE => self.process_tree(value.bytes()),
                field::CLOCK_SNAPSHOT => self.snapshot(value.bytes()),
                field::SYSTEM_INFO => self.system(value.bytes()),
                field::TIMESTAMP => at_ns = Some(value.number()),
                field::TIMESTAMP_CLOCK => by_clock = Some(value.number()),
                field::DEFAULTS => self.other_clocks = true,
                field::COMPRESSED_PACKETS if outermost => self.compressed(value.bytes())?,
                _ => {}
            }
        }
        self.broken += u64::from(fields.broken);
        if let Some(at_ns) = at_ns {
            match by_clock {
                None | Some(clock::BOOTTIME) => {
                    self.last_ns = Some(at_ns.max(self.last_ns.unwrap_or(0)));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn compressed(&mut self, bytes: &[u8]) -> Result<()> {
        let mut unpacked = Vec::new();
        let mut decoder = ZlibDecoder::new(bytes).take(LONGEST_PACKET as u64 + 1);
        decoder
            .read_to_end(&mut unpacked)
            .context("what it compressed can't be unpacked")?;
        ensure!(
            unpacked.len() <= LONGEST_PACKET,
            "what it compressed has more than {LONGEST_PACKET} bytes"
        );
        for (number, value) in Fields::of(&unpacked) {
            if number == field::PACKET {
                self.packet(value.bytes(), false)?;
            }
        }
        Ok(())
    }

    fn process_tree(&mut self, tree: &[u8]) {
        for (number, value) in Fields::of(tree) {
            match number {
                1 => self.process(value.bytes()),
                2 => self.thread(value.bytes()),
                _ => {}
            }
        }
    }

    fn process(&mut self, process: &[u8]) {
        let (mut pid, mut ppid, mut kernel) = (0, 0, false);
        let mut argv = Vec::new();
        let mut is_name = false;
        for (number, value) in Fields::of(process) {
            match number {
                1 => pid = value.small(),
                2 => ppid = value.small(),
                3 if argv.len() < MOST_ARGUMENTS => {
                    argv.push(String::from_utf8_lossy(value.bytes()).into_owned());
                }
                8 => kernel = value.number() != 0,
                9 => is_name = value.number() != 0,
                _ => {}
            }
        }
        let person = self.sink.people.of(pid);
        person.tgid = pid;
        person.ppid = ppid;
        person.kernel = kernel;
        // One word can be the task's name, where there is no command line.
        if !is_name && argv.len() > 1 {
            person.argv = argv;
        }
    }

    fn thread(&mut self, thread: &[u8]) {
        let (mut tid, mut tgid, mut name) = (0, 0, String::new());
        for (number, value) in Fields::of(thread) {
            match number {
                1 => tid = value.small(),
                2 => name = text::name(value.bytes()),
                3 => tgid = value.small(),
                _ => {}
            }
        }
        let name = self.sink.people.number(&name);
        let leader = self.sink.people.get(tgid).cloned().unwrap_or_default();
        let person = self.sink.people.of(tid);
        person.tgid = tgid;
        person.name = name;
        if tid != tgid {
            person.ppid = leader.ppid;
            person.kernel = leader.kernel;
        }
    }

    fn snapshot(&mut self, snapshot: &[u8]) {
        let mut clocks = HashMap::new();
        for (number, value) in Fields::of(snapshot) {
            if number != 1 {
                continue;
            }
            let (mut clock, mut at) = (0, 0);
            for (number, value) in Fields::of(value.bytes()) {
                match (number, value) {
                    (1, Value::Number(it)) => clock = it,
                    (2, Value::Number(it)) => at = it,
                    _ => {}
                }
            }
            clocks.insert(clock, at);
        }
        if self.clocks.is_empty() && clocks.contains_key(&clock::BOOTTIME) {
            self.clocks = clocks;
        }
    }

    fn system(&mut self, system: &[u8]) {
        let names = Fields::of(system).filter(|(number, _)| *number == 1);
        for (number, value) in names.flat_map(|(_, value)| Fields::of(value.bytes())) {
            match number {
                3 => self.sink.found.kernel = text::name(value.bytes()),
                4 => {
                    self.sink.found.arch = match value.bytes() {
                        b"x86_64" => Some(Arch::X86_64),
                        b"aarch64" => Some(Arch::Aarch64),
                        _ => None,
                    }
                }
                _ => {}
            }
        }
    }

    fn finish(self) {
        let Self {
            ftrace,
            sink,
            clocks,
            other_clocks,
            last_ns,
            broken,
        } = self;
        let found = &mut sink.found;
        found.unix = clocks
            .get(&clock::BOOTTIME)
            .zip(clocks.get(&clock::REALTIME))
            .map(|(at, unix)| (*at, *unix));
        if let Some(boot_ns) = clocks.get(&clock::BOOTTIME) {
            // A trace of our own begins there, and has both clocks in one.
            let ours = clocks.get(&clock::MONOTONIC) == Some(boot_ns);
            found.start_ns = Some(*boot_ns).filter(|at| ours && *at <= sink.first_ns);
        }
        // What else was recorded can go on when no task of it has a CPU any more.
        found.end_ns = last_ns.filter(|_| !other_clocks);
        let imported = &mut found.imported;
        imported.lost = ftrace.lost;
        if ftrace.other_clock {
            let lacks = "the time between CPUs well: ftrace did not use the clock that counts \
                         since the start of the machine";
            imported.lacks.push(lacks.to_owned());
        }
        if broken > 0 {
            imported
                .faults
                .push(format!("{broken} of its packets make no sense in part"));
        }
    }
}
