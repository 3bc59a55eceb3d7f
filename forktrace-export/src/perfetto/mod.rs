//! Perfetto's trace format: protocol buffers, one packet after the other.
//!
//! The scheduler's part (`sched`) is what ftrace would have recorded, so that Perfetto's own
//! views and queries work on it: switches by CPU, and wakeups with the flag that says whether
//! an interrupt woke, without which its critical path blames the task that was interrupted.
//! On tracks of their own (`tracks`) stands what only we know: what each wait was for, how it
//! ended, the stalls, and where records are missing.
//!
//! Fields are those of `protos/perfetto/trace/` in Perfetto's sources, whose numbers never
//! change. Times are the traced machine's `CLOCK_MONOTONIC`, under the name of the clock that
//! Perfetto takes for its own: how long the machine was suspended before is not known.

mod sched;
mod tracks;

use std::{
    collections::HashMap,
    io::{self, Write},
};

use forktrace_core::analysis::Names;

use crate::{Export, Source, proto::Message, text::clean};

/// See the module.
pub(crate) struct Perfetto;

/// Fields of `Trace` and `TracePacket`.
mod field {
    pub(super) const PACKET: u32 = 1;
    pub(super) const FTRACE_EVENTS: u32 = 1;
    pub(super) const PROCESS_TREE: u32 = 2;
    pub(super) const CLOCK_SNAPSHOT: u32 = 6;
    pub(super) const TIMESTAMP: u32 = 8;
    pub(super) const SEQUENCE: u32 = 10;
    pub(super) const TRACK_EVENT: u32 = 11;
    pub(super) const INTERNED_DATA: u32 = 12;
    pub(super) const SEQUENCE_FLAGS: u32 = 13;
    pub(super) const TRACK_DESCRIPTOR: u32 = 60;
}

/// Writes packets.
struct Packets<'a> {
    out: &'a mut dyn Write,
    message: Message,
    /// Of the trace's first moment, ns.
    start_ns: u64,
}

impl Packets<'_> {
    fn packet(&mut self, fill: impl FnOnce(&mut Message)) -> io::Result<()> {
        self.message.clear();
        self.message.message(field::PACKET, fill);
        self.out.write_all(self.message.bytes())
    }

    /// A time of the trace on the clock of the packets.
    fn at(&self, ns: u64) -> u64 {
        self.start_ns.saturating_add(ns)
    }
}

impl Export for Perfetto {
    fn write(&self, source: &Source<'_>, out: &mut dyn Write) -> io::Result<()> {
        let names = Names::new(source.info, source.model);
        let mut packets = Packets {
            out,
            message: Message::default(),
            start_ns: source.info.header.start_ns,
        };
        let tids = tids(source);
        clocks(source, &mut packets)?;
        process_tree(source, &tids, &mut packets)?;
        sched::write(source, &tids, &mut packets)?;
        tracks::write(source, &names, &tids, &mut packets)
    }
}

/// Says when the trace began by the calendar.
fn clocks(source: &Source<'_>, packets: &mut Packets<'_>) -> io::Result<()> {
    const REALTIME: u64 = 1;
    const MONOTONIC: u64 = 3;
    const BOOTTIME: u64 = 6;
    let header = &source.info.header;
    packets.packet(|packet| {
        packet.message(field::CLOCK_SNAPSHOT, |snapshot| {
            for (clock, ns) in [
                (BOOTTIME, header.start_ns),
                (MONOTONIC, header.start_ns),
                (REALTIME, header.start_unix_ns),
            ] {
                snapshot.message(1, |it| {
                    it.number(1, clock).number(2, ns);
                });
            }
            snapshot.number(2, BOOTTIME);
        });
    })
}

/// The tids of the tasks. A thread that executes a program takes over its leader's tid, and
/// of each task only the last one is known: of two that would have one at the same time, the
/// second gets one that the kernel gives to nobody.
fn tids(source: &Source<'_>) -> Vec<u32> {
    /// `PID_MAX_LIMIT` of `include/linux/threads.h`.
    const BEYOND_ALL: u32 = 4 << 20;
    let mut until: HashMap<u32, u64> = HashMap::new();
    let tasks = source.model.tasks.iter();
    let tids = tasks.map(|task| {
        let last = until.entry(task.tid).or_insert(0);
        if *last > task.start_ns {
            return BEYOND_ALL.saturating_add(task.serial);
        }
        *last = task.end_ns;
        task.tid
    });
    tids.collect()
}

/// Names of processes and threads. Of a number that was used twice the last one: tasks are
/// told apart by the events of their creation.
fn process_tree(source: &Source<'_>, tids: &[u32], packets: &mut Packets<'_>) -> io::Result<()> {
    let tasks = &source.model.tasks;
    for task in tasks.iter().filter(|task| task.tid == task.pid) {
        packets.packet(|packet| {
            packet.message(field::PROCESS_TREE, |tree| {
                tree.message(1, |process| {
                    process.number(1, task.pid.into());
                    process.number(2, task.ppid.into());
                    let named = [task.name.clone()];
                    let argv = if task.argv.is_empty() {
                        &named[..]
                    } else {
                        &task.argv
                    };
                    for arg in argv {
                        process.text(3, &clean(arg));
                    }
                });
            });
        })?;
    }
    let workload = tasks.iter().zip(tids);
    let workload = workload.map(|(t, tid)| (*tid, t.pid, t.name.as_str()));
    let outside = &source.model.outsiders;
    let outside = outside.iter().map(|o| (o.tid, o.tgid, o.comm.as_str()));
    for (tid, pid, name) in outside.chain(workload) {
        packets.packet(|packet| {
            packet.message(field::PROCESS_TREE, |tree| {
                tree.message(2, |thread| {
                    thread.number(1, tid.into());
                    thread.text(2, &clean(name));
                    thread.number(3, pid.into());
                });
            });
        })?;
    }
    Ok(())
}
