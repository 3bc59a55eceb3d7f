//! Bundles of ftrace's events of one CPU.

use std::collections::HashMap;

use bytemuck::Zeroable as _;

use crate::{
    record::{Record, flag, kind, state},
    sink::Sink,
    text,
    wire::{Fields, packed},
};

/// Fields of `FtraceEventBundle`.
mod bundle {
    pub(super) const CPU: u32 = 1;
    pub(super) const EVENT: u32 = 2;
    pub(super) const LOST: u32 = 3;
    pub(super) const COMPACT: u32 = 4;
    pub(super) const CLOCK: u32 = 5;
}

/// Fields of `FtraceEvent`.
mod event {
    pub(super) const TIMESTAMP: u32 = 1;
    pub(super) const PID: u32 = 2;
    pub(super) const SWITCH: u32 = 4;
    pub(super) const FLAGS: u32 = 5;
    pub(super) const WAKEUP: u32 = 17;
    pub(super) const WAKING: u32 = 20;
    pub(super) const WAKEUP_NEW: u32 = 114;
    pub(super) const NEW: u32 = 235;
    pub(super) const RENAME: u32 = 236;
    pub(super) const EXEC: u32 = 237;
    pub(super) const FORK: u32 = 239;
}

/// `TRACE_FLAG_HARDIRQ`, `TRACE_FLAG_NMI` and `TRACE_FLAG_SOFTIRQ`, `include/linux/trace_events.h`.
const HARD_INTERRUPT: u64 = 0x08 | 0x40;
const SOFT_INTERRUPT: u64 = 0x10;
/// `CLONE_THREAD` of `include/uapi/linux/sched.h`.
const CLONE_THREAD: u64 = 0x1_0000;

/// What is known of all bundles so far.
#[derive(Default)]
pub(super) struct Ftrace {
    /// Who came last to each CPU: the compact form does not say who leaves.
    on_cpu: HashMap<u16, u32>,
    /// The last time of each CPU.
    last_ns: HashMap<u16, u64>,
    /// Times that events were lost.
    pub(super) lost: u64,
    pub(super) other_clock: bool,
}

/// The numbers and the texts of a message by field, as far as they are looked at.
struct Message<'a> {
    numbers: [u64; 8],
    texts: [&'a [u8]; 8],
}

impl<'a> Message<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let mut message = Self {
            numbers: [0; 8],
            texts: [&[]; 8],
        };
        for (number, value) in Fields::of(bytes) {
            if let Some(slot) = message.numbers.get_mut(number as usize) {
                *slot = value.number();
                message.texts[number as usize] = value.bytes();
            }
        }
        message
    }

    fn tid(&self, field: usize) -> u32 {
        self.numbers[field] as u32
    }
}

impl Ftrace {
    /// Reads a bundle. Gives whether all of it made sense.
    pub(super) fn bundle(&mut self, bytes: &[u8], sink: &mut Sink) -> bool {
        let fields = || Fields::of(bytes);
        let of = |number: u32| fields().find(|(it, _)| *it == number);
        let cpu = of(bundle::CPU).map_or(0, |(_, value)| value.number());
        let cpu = u16::try_from(cpu).unwrap_or(u16::MAX);
        self.other_clock |= of(bundle::CLOCK).is_some_and(|(_, value)| value.number() != 0);
        let lost = of(bundle::LOST).is_some_and(|(_, value)| value.number() != 0);
        let mut all = Vec::new();
        let mut all_read = fields();
        for (number, value) in all_read.by_ref() {
            match number {
                bundle::EVENT => self.event(value.bytes(), cpu, sink, &mut all),
                bundle::COMPACT => self.compact(value.bytes(), cpu, sink, &mut all),
                _ => {}
            }
        }
        let first_ns = all.iter().map(|it| it.at_ns).min();
        if let (true, Some(first_ns)) = (lost, first_ns) {
            self.lost += 1;
            let from_ns = self.last_ns.get(&cpu).copied().unwrap_or(first_ns);
            for (kind, at_ns) in [
                (kind::LOST_FROM, from_ns.min(first_ns)),
                (kind::LOST_UNTIL, first_ns),
            ] {
                sink.push(Record {
                    at_ns,
                    cpu,
                    kind,
                    ..Record::zeroed()
                });
            }
        }
        for record in all {
            let last_ns = self.last_ns.entry(cpu).or_default();
            *last_ns = record.at_ns.max(*last_ns);
            sink.push(record);
        }
        !all_read.broken
    }

    fn event(&mut self, bytes: &[u8], cpu: u16, sink: &mut Sink, all: &mut Vec<Record>) {
        let (mut at_ns, mut pid, mut flags) = (0, 0, 0);
        let mut what = None;
        for (number, value) in Fields::of(bytes) {
            match number {
                event::TIMESTAMP => at_ns = value.number(),
                event::PID => pid = value.small(),
                event::FLAGS => flags = value.number(),
                _ => what = Some((number, value.bytes())),
            }
        }
        let Some((number, bytes)) = what else {
            return;
        };
        let at = Record {
            at_ns,
            cpu,
            ..Record::zeroed()
        };
        let mut name = |text: &[u8]| sink.people.number(&text::name(text));
        let message = Message::of(bytes);
        match number {
            event::SWITCH => {
                let out = Record {
                    tid: message.tid(2),
                    name: name(message.texts[1]),
                    value: state::of_kernel(message.numbers[4]),
                    ..at
                };
                let comes = Record {
                    tid: message.tid(6),
                    name: name(message.texts[5]),
                    ..at
                };
                self.switch(out, comes, all);
            }
            event::WAKING | event::WAKEUP | event::WAKEUP_NEW => all.push(Record {
                kind: kind::WAKING,
                tid: message.tid(2),
                other: pid,
                name: name(message.texts[1]),
                flags: interrupt(flags)
                    | if number == event::WAKING {
                        0
                    } else {
                        flag::QUEUED
                    },
                ..at
            }),
            event::NEW => all.push(Record {
                kind: kind::NEW,
                tid: message.tid(1),
                other: pid,
                name: name(message.texts[2]),
                flags: if message.numbers[3] & CLONE_THREAD != 0 {
                    flag::THREAD
                } else {
                    flag::PROCESS
                },
                ..at
            }),
            event::FORK => all.push(Record {
                kind: kind::NEW,
                tid: message.tid(4),
                other: message.tid(2),
                name: name(message.texts[3]),
                ..at
            }),
            event::EXEC => all.push(Record {
                kind: kind::EXEC,
                tid: message.tid(2),
                other: message.tid(3),
                ..at
            }),
            event::RENAME => all.push(Record {
                kind: kind::RENAME,
                tid: message.tid(1),
                name: name(message.texts[3]),
                ..at
            }),
            _ => {}
        }
    }

    /// An idle CPU is no task.
    fn switch(&mut self, out: Record, comes: Record, all: &mut Vec<Record>) {
        self.on_cpu.insert(comes.cpu, comes.tid);
        for (record, kind) in [(out, kind::OUT), (comes, kind::IN)] {
            if record.tid != 0 {
                all.push(Record { kind, ..record });
            }
        }
    }

    fn compact(&mut self, bytes: &[u8], cpu: u16, sink: &mut Sink, all: &mut Vec<Record>) {
        let mut lists: [&[u8]; 13] = [&[]; 13];
        let mut names = Vec::new();
        for (number, value) in Fields::of(bytes) {
            match (number, lists.get_mut(number as usize)) {
                (5, _) => names.push(sink.people.number(&text::name(value.bytes()))),
                (_, Some(list)) => *list = value.bytes(),
                _ => {}
            }
        }
        let name = |at: u64| names.get(at as usize).copied().unwrap_or(0);
        let at = Record {
            cpu,
            ..Record::zeroed()
        };
        let mut at_ns = 0u64;
        let switches = packed(lists[1]).zip(packed(lists[2]));
        let switches = switches.zip(packed(lists[3]).zip(packed(lists[6])));
        for ((since_ns, prev_state), (next, next_name)) in switches {
            at_ns = at_ns.wrapping_add(since_ns);
            let at = Record { at_ns, ..at };
            let out = Record {
                tid: self.on_cpu.get(&cpu).copied().unwrap_or(0),
                value: state::of_kernel(prev_state),
                ..at
            };
            let comes = Record {
                tid: next as u32,
                name: name(next_name),
                ..at
            };
            self.switch(out, comes, all);
        }
        let mut at_ns = 0u64;
        // Older ones have no flags: then it is not known whether an interrupt woke.
        let flagged = !lists[12].is_empty();
        let flags = packed(lists[12]).map(interrupt);
        let flags = flags.chain(std::iter::repeat_with(|| {
            if flagged { 0 } else { flag::EITHER }
        }));
        let wakings = packed(lists[7]).zip(packed(lists[8]));
        for ((since_ns, tid), (wakee, flags)) in wakings.zip(packed(lists[11]).zip(flags)) {
            at_ns = at_ns.wrapping_add(since_ns);
            all.push(Record {
                at_ns,
                kind: kind::WAKING,
                tid: tid as u32,
                name: name(wakee),
                flags: flags | flag::ON_CPU,
                ..at
            });
        }
    }
}

/// Our flags of ftrace's.
fn interrupt(flags: u64) -> u8 {
    match flags {
        _ if flags & HARD_INTERRUPT != 0 => flag::HARD,
        _ if flags & SOFT_INTERRUPT != 0 => flag::SOFT,
        _ => 0,
    }
}
