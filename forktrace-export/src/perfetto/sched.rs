//! Switches and wakeups, as ftrace has them.
//!
//! A stretch says when its task left a CPU and when it came back to which; so what a CPU did
//! is put together from what each of its tasks did. Between our tasks it ran another program
//! or nothing, which the record does not tell: it is shown as idle.

use std::{
    collections::{BTreeMap, HashMap},
    io,
};

use forktrace_core::{
    model::{Fate, Model, Off, Task},
    trace::{Interrupt, Waker, Why},
};

use super::{Packets, field};
use crate::{Source, proto::Message, text::clean};

/// Events in one packet.
const BUNDLE_BYTES: usize = 64 << 10;

/// `TRACE_FLAG_HARDIRQ` and `TRACE_FLAG_SOFTIRQ` of `include/linux/trace_events.h`.
const HARD_INTERRUPT: u64 = 0x08;
const SOFT_INTERRUPT: u64 = 0x10;

/// `CLONE_THREAD` of `include/uapi/linux/sched.h`.
const CLONE_THREAD: u64 = 0x1_0000;

/// States of tasks, `include/linux/sched.h`.
const RUNNABLE: u64 = 0;
const INTERRUPTIBLE: u64 = 1;
const UNINTERRUPTIBLE: u64 = 2;
const STOPPED: u64 = 4;
const TRACED: u64 = 8;
const DEAD: u64 = 0x10;
/// Of a task of which records are lost: a state that means nothing to Perfetto, so that the
/// time counts as nothing.
const UNKNOWN: u64 = 0x2000;

/// `compact_sched` of `FtraceEventBundle`.
const COMPACT_SCHED: u32 = 4;
/// Fields of `FtraceEvent`.
const SCHED_SWITCH: u32 = 4;
const SCHED_WAKING: u32 = 20;
const TASK_NEWTASK: u32 = 235;
const SCHED_PROCESS_FREE: u32 = 240;

/// An event on one CPU.
struct Event {
    at_ns: u64,
    /// Parts those of one time: see [`order`].
    order: u8,
    task: u32,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    /// It was created.
    New,
    /// It leaves, in this state.
    Out(u64),
    /// It was made runnable.
    Waking(Waker),
    /// It comes.
    In,
    /// It is gone.
    Free,
}

/// Of what happens at one time: a task is created before it wants to run, one leaves before
/// it is woken, and before the next one comes. Some come and leave at one time.
mod order {
    pub(super) const NEW: u8 = 0;
    pub(super) const COMES_TO_LEAVE: u8 = 1;
    pub(super) const OUT: u8 = 2;
    pub(super) const WAKING: u8 = 3;
    pub(super) const IN: u8 = 4;
    pub(super) const OUT_AGAIN: u8 = 5;
    pub(super) const FREE: u8 = 6;
}

pub(super) fn write(
    source: &Source<'_>,
    tids: &[u32],
    packets: &mut Packets<'_>,
) -> io::Result<()> {
    let model = source.model;
    let mut cpus: BTreeMap<u16, Vec<Event>> = BTreeMap::new();
    // A process is there until its last thread has ended, and its first one so long.
    let mut processes: HashMap<u32, u64> = HashMap::new();
    for task in &model.tasks {
        let end_ns = processes.entry(task.process).or_default();
        *end_ns = task.end_ns.max(*end_ns);
    }
    for (at, task) in model.tasks.iter().enumerate() {
        let is_first = task.serial == task.process;
        let process_end_ns = processes.get(&task.serial).filter(|_| is_first);
        let mut life = Life {
            at: at as u32,
            task,
            gone_ns: process_end_ns.copied().unwrap_or(task.end_ns),
            came_ns: None,
            cpu: task.stretches.cpu(0).unwrap_or(0),
            events: &mut cpus,
        };
        life.all();
    }
    let people = People::new(model, tids);
    for (cpu, mut events) in cpus {
        events.sort_by_key(|event| (event.at_ns, event.order));
        let cpu = Cpu {
            cpu,
            people: &people,
            running: None,
            last_ns: 0,
            bundle: Message::default(),
            interrupts: Vec::new(),
        };
        cpu.write(&events, packets)?;
    }
    Ok(())
}

/// One task's way over the CPUs.
struct Life<'a> {
    at: u32,
    task: &'a Task,
    /// From when on its tid can be given to another.
    gone_ns: u64,
    /// Since when it is on a CPU; `None`: it is on none, or records are lost.
    came_ns: Option<u64>,
    /// The CPU that it is on, or was on last.
    cpu: u16,
    events: &'a mut BTreeMap<u16, Vec<Event>>,
}

impl Life<'_> {
    fn add(&mut self, at_ns: u64, order: u8, what: What) {
        let at_ns = at_ns.clamp(self.task.start_ns, self.gone_ns);
        self.events.entry(self.cpu).or_default().push(Event {
            at_ns,
            order,
            task: self.at,
            what,
        });
    }

    fn all(&mut self) {
        let task = self.task;
        self.add(task.start_ns, order::NEW, What::New);
        let mut expected = task.first_seq;
        self.was_there();
        for (off, cpu) in task.stretches.with_cpus() {
            if off.seq != expected {
                self.gap(off.out_ns);
            }
            expected = off.seq.wrapping_add(1);
            // Perfetto takes who was created to be runnable.
            if off.why != Why::New {
                self.out(off.out_ns, state(off.why));
            }
            let woken = !matches!(off.why, Why::New | Why::Preempted);
            if woken && off.flags & Off::NO_WAKE == 0 {
                self.add(off.wake_ns, order::WAKING, What::Waking(off.waker));
            }
            self.cpu = cpu.unwrap_or(self.cpu);
            self.add(off.in_ns, order::IN, What::In);
            self.came_ns = Some(off.in_ns);
        }
        if task.stretches_expected != Some(expected) {
            self.gap(task.open.map_or(task.end_ns, |open| open.out_ns));
        }
        if let Some(open) = task.open {
            self.out(open.out_ns, state(open.why));
            if let Some(wake_ns) = open.wake_ns {
                self.add(wake_ns, order::WAKING, What::Waking(open.waker));
            }
        }
        if task.fate == Fate::Ended {
            self.out(task.end_ns, DEAD);
            self.add(self.gone_ns, order::FREE, What::Free);
        } else if self.came_ns.is_some() {
            // With the recording ends what is known of the CPU.
            self.out(task.end_ns, RUNNABLE);
        }
    }

    /// Of a task that was there before the recording: it has a CPU when that begins, if only to
    /// leave it at once.
    fn was_there(&mut self) {
        let task = self.task;
        let off = task
            .stretches
            .first()
            .map(|off| (off.seq, off.why, off.out_ns));
        let open = task.open.map(|open| (open.why, open.out_ns));
        let (why, out_ns) = match (off, open) {
            (Some((seq, why, out_ns)), _) if seq == task.first_seq => (why, out_ns),
            (None, Some(open)) if task.stretches_expected == Some(task.first_seq) => open,
            _ => return,
        };
        if why != Why::New {
            let order = if out_ns > task.start_ns {
                order::IN
            } else {
                order::COMES_TO_LEAVE
            };
            self.add(task.start_ns, order, What::In);
            self.came_ns = Some(task.start_ns);
        }
    }

    /// From when it came until now all is unknown. Then it comes, to leave at once.
    fn gap(&mut self, until_ns: u64) {
        if let Some(came_ns) = self.came_ns {
            if came_ns >= until_ns {
                return;
            }
            self.out(came_ns, UNKNOWN);
        }
        self.add(until_ns, order::COMES_TO_LEAVE, What::In);
        self.came_ns = Some(until_ns);
    }

    fn out(&mut self, at_ns: u64, state: u64) {
        match self.came_ns.take() {
            // It came at the same time, and not just to leave.
            Some(came_ns) if came_ns >= at_ns && state != DEAD && !self.came_to_leave() => {
                self.add(at_ns, order::OUT_AGAIN, What::Out(state));
            }
            Some(_) => self.add(at_ns, order::OUT, What::Out(state)),
            None => {}
        }
    }

    fn came_to_leave(&self) -> bool {
        let last = self.events.get(&self.cpu).and_then(|events| events.last());
        last.is_some_and(|event| event.order == order::COMES_TO_LEAVE)
    }
}

fn state(why: Why) -> u64 {
    match why {
        Why::New | Why::Preempted => RUNNABLE,
        Why::Interruptible => INTERRUPTIBLE,
        Why::Killable | Why::Uninterruptible => UNINTERRUPTIBLE,
        Why::Traced => TRACED,
        // It is no sleep.
        Why::Stopped | Why::Frozen | Why::CoreDump => STOPPED,
    }
}

/// Who the tasks are.
struct People<'a> {
    model: &'a Model,
    tids: &'a [u32],
    names: Vec<String>,
    by_serial: HashMap<u32, usize>,
}

impl<'a> People<'a> {
    fn new(model: &'a Model, tids: &'a [u32]) -> Self {
        let tasks = model.tasks.iter().enumerate();
        Self {
            model,
            tids,
            names: model.tasks.iter().map(|task| clean(&task.name)).collect(),
            by_serial: tasks.map(|(at, task)| (task.serial, at)).collect(),
        }
    }

    /// Name and tid; of no task those of an idle CPU.
    fn person(&self, task: Option<u32>) -> (&str, u64) {
        task.map_or(("swapper", 0), |at| {
            let at = at as usize;
            (&self.names[at], self.tids[at].into())
        })
    }

    fn tid_of(&self, serial: u32) -> Option<u64> {
        let at = self.by_serial.get(&serial)?;
        Some(self.tids[*at].into())
    }

    /// The tid of a waker, or the flags that say in what kind of interrupt it was.
    fn waker(&self, waker: Waker) -> Result<u64, u64> {
        match waker {
            // Sending to this machine runs the receiver's half in a soft interrupt: it is the
            // sender that woke.
            Waker::Task { serial, .. } => self.tid_of(serial).ok_or(HARD_INTERRUPT),
            Waker::Outsider { tid, .. } => Ok(tid.into()),
            Waker::Interrupt(Interrupt::Soft(_)) => Err(SOFT_INTERRUPT),
            // Where it is not known who woke, no task is blamed either.
            Waker::Interrupt(_) | Waker::Unknown | Waker::None => Err(HARD_INTERRUPT),
        }
    }
}

/// Writes the events of one CPU.
struct Cpu<'a> {
    cpu: u16,
    people: &'a People<'a>,
    /// The task that is on it.
    running: Option<u32>,
    /// Time of the last event.
    last_ns: u64,
    bundle: Message,
    /// Wakeups by interrupts: time, who was woken, flags. Only in the compact form can the
    /// flags be given. It has no room for a waker: that is taken to be who is on the CPU.
    interrupts: Vec<(u64, u64, u64)>,
}

impl Cpu<'_> {
    fn write(mut self, events: &[Event], packets: &mut Packets<'_>) -> io::Result<()> {
        let mut rest = events.iter().peekable();
        while let Some(event) = rest.next() {
            let at_ns = packets.at(event.at_ns);
            let task = Some(event.task);
            match event.what {
                What::New => self.new_task(at_ns, event.task),
                What::Waking(waker) => match self.people.waker(waker) {
                    Ok(waker) => self.waking(at_ns, event.task, waker),
                    Err(flags) => {
                        // Of one packet these are read first, and who is woken has to have
                        // left before.
                        if self.last_ns == at_ns {
                            self.flush(packets)?;
                        }
                        let (_, tid) = self.people.person(task);
                        self.interrupts.push((at_ns, tid, flags));
                    }
                },
                What::In => self.switch(at_ns, self.running, RUNNABLE, task),
                What::Out(state) => {
                    // Who comes at the same moment is the next one. If times overlap, another
                    // one is on it already, and stays.
                    let is_next =
                        |next: &&Event| next.at_ns == event.at_ns && matches!(next.what, What::In);
                    let next = rest.next_if(is_next).map(|next| next.task);
                    let stays = self.running.filter(|running| *running != event.task);
                    if self.running != task {
                        self.switch(at_ns, self.running, RUNNABLE, task);
                    }
                    self.switch(at_ns, task, state, next.or(stays));
                }
                What::Free => {
                    let (name, tid) = self.people.person(task);
                    self.bundle.message(2, |it| {
                        it.number(1, at_ns).number(2, tid);
                        it.message(SCHED_PROCESS_FREE, |free| {
                            free.text(1, name).number(2, tid);
                        });
                    });
                }
            }
            self.last_ns = at_ns;
            if self.bundle.len() > BUNDLE_BYTES {
                self.flush(packets)?;
            }
        }
        self.flush(packets)
    }

    fn flush(&mut self, packets: &mut Packets<'_>) -> io::Result<()> {
        let events = std::mem::take(&mut self.bundle);
        let interrupts = std::mem::take(&mut self.interrupts);
        if events.len() == 0 && interrupts.is_empty() {
            return Ok(());
        }
        packets.packet(|packet| {
            packet.message(field::FTRACE_EVENTS, |bundle| {
                bundle.number(1, self.cpu.into());
                if !interrupts.is_empty() {
                    bundle.message(COMPACT_SCHED, |compact| self.compact(compact, &interrupts));
                }
                bundle.append(&events);
            });
        })
    }

    fn compact(&self, compact: &mut Message, interrupts: &[(u64, u64, u64)]) {
        let mut before_ns = 0;
        let times = interrupts.iter().map(|(at_ns, _, _)| {
            let since_ns = at_ns.wrapping_sub(before_ns);
            before_ns = *at_ns;
            since_ns
        });
        compact.text(5, "");
        compact.numbers(7, times);
        compact.numbers(8, interrupts.iter().map(|(_, tid, _)| *tid));
        compact.numbers(9, interrupts.iter().map(|_| self.cpu.into()));
        compact.numbers(10, interrupts.iter().map(|_| 120));
        compact.numbers(11, interrupts.iter().map(|_| 0));
        compact.numbers(12, interrupts.iter().map(|(_, _, flags)| *flags));
    }

    fn switch(&mut self, at_ns: u64, from: Option<u32>, state: u64, to: Option<u32>) {
        let (from_name, from_tid) = self.people.person(from);
        let (to_name, to_tid) = self.people.person(to);
        self.bundle.message(2, |event| {
            event.number(1, at_ns).number(2, from_tid);
            event.message(SCHED_SWITCH, |switch| {
                switch.text(1, from_name).number(2, from_tid).number(3, 120);
                switch.number(4, state);
                switch.text(5, to_name).number(6, to_tid).number(7, 120);
            });
        });
        self.running = to;
    }

    fn waking(&mut self, at_ns: u64, task: u32, waker: u64) {
        let (name, tid) = self.people.person(Some(task));
        self.bundle.message(2, |event| {
            event.number(1, at_ns).number(2, waker);
            event.message(SCHED_WAKING, |waking| {
                waking.text(1, name).number(2, tid).number(3, 120);
                waking.number(4, 1).number(5, self.cpu.into());
            });
        });
    }

    fn new_task(&mut self, at_ns: u64, at: u32) {
        let (name, tid) = self.people.person(Some(at));
        let task = &self.people.model.tasks[at as usize];
        let creator = self.people.tid_of(task.parent);
        let thread = if task.process == task.serial {
            0
        } else {
            CLONE_THREAD
        };
        self.bundle.message(2, |event| {
            event.number(1, at_ns);
            event.number(2, creator.unwrap_or(task.ppid.into()));
            event.message(TASK_NEWTASK, |new| {
                new.number(1, tid).text(2, name);
                new.number(3, task.clone_flags & !CLONE_THREAD | thread);
            });
        });
    }
}
