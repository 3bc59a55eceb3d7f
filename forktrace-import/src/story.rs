//! From records in the order of time to the events of a trace: a state a task.
//!
//! What is not told is unknown, and stays so until the next record that says what the task does.
//! In a trace that is a missing number among a task's stretches: all between the end of the
//! stretch before and the beginning of the one after is unknown. Where more is known than that, a
//! stretch of no length (a *fence*) marks where the unknown begins or ends.

mod life;

use std::collections::{HashMap, HashSet};

use forktrace_core::trace::{
    Argv, Attached, CpuUser, Event, Exec, Interrupt, Outsider, Waker, Why,
};

use self::life::{Life, Now};
use crate::{
    people::People,
    record::{Record, flag, kind, state},
};

/// Records of one time are looked at together, up to so many.
const MOST_AT_ONCE: usize = 64;
/// Turns of tasks outside are told of from this length on, ns: as forktrace's own are.
const TURN_NS: u64 = 100_000;

/// See the module.
pub(crate) struct Story<'a, F> {
    people: &'a People,
    start_ns: u64,
    give: F,
    /// Records of one time.
    at_once: Vec<Record>,
    living: HashMap<u32, Life>,
    /// The first task of each process, by tgid.
    processes: HashMap<u32, u32>,
    /// Who is on each CPU, and since when.
    cpus: HashMap<u16, (u32, u64)>,
    /// Outsiders that were told of.
    told: HashSet<u32>,
    /// Tids of the kernel's threads that were created meanwhile, and of members that have the
    /// tid of one that is gone.
    kernel: HashMap<u32, bool>,
    lost: Lost,
    last_serial: u32,
}

/// When events are lost, of any CPU and of each: these count the times. While some are, nothing
/// is sure that happens at that time.
#[derive(Default)]
struct Lost {
    times: u32,
    under_way: u32,
    of_cpu: HashMap<u16, (u32, u32)>,
}

impl Lost {
    fn begins(&mut self, cpu: u16) {
        let of_cpu = self.of_cpu.entry(cpu).or_default();
        self.times += 1;
        self.under_way += 1;
        of_cpu.0 += 1;
        of_cpu.1 += 1;
    }

    fn ends(&mut self, cpu: u16) {
        let of_cpu = self.of_cpu.entry(cpu).or_default();
        if of_cpu.1 > 0 {
            of_cpu.1 -= 1;
            self.under_way -= 1;
        }
    }

    /// How often events were lost until now; `None`: some are being lost.
    fn anywhere(&self) -> Option<u32> {
        (self.under_way == 0).then_some(self.times)
    }

    /// The same of one CPU.
    fn on(&self, cpu: u16) -> Option<u32> {
        let (times, under_way) = self.of_cpu.get(&cpu).copied().unwrap_or_default();
        (under_way == 0).then_some(times)
    }
}

impl<'a, F: FnMut(Event)> Story<'a, F> {
    pub(crate) fn new(people: &'a People, start_ns: u64, give: F) -> Self {
        Self {
            people,
            start_ns,
            give,
            at_once: Vec::new(),
            living: HashMap::new(),
            processes: HashMap::new(),
            cpus: HashMap::new(),
            told: HashSet::new(),
            kernel: HashMap::new(),
            lost: Lost::default(),
            last_serial: 0,
        }
    }

    /// Takes the next record.
    pub(crate) fn tell(&mut self, record: Record) {
        let first = self.at_once.first();
        let waits = first.is_some_and(|it| it.at_ns != record.at_ns);
        if waits || self.at_once.len() >= MOST_AT_ONCE {
            self.tell_waiting();
        }
        self.at_once.push(record);
    }

    /// Tells what happened at one time: of one CPU in the order of the file, of several so that
    /// each task leaves before it is woken, and is woken before it comes.
    fn tell_waiting(&mut self) {
        while !self.at_once.is_empty() {
            let next = (0..self.at_once.len()).find(|at| self.can_be_next(*at));
            let record = self.at_once.remove(next.unwrap_or(0));
            self.tell_one(record);
        }
    }

    fn can_be_next(&self, at: usize) -> bool {
        let record = &self.at_once[at];
        let is_switch = |it: &Record| matches!(it.kind, kind::OUT | kind::IN);
        let mut before = self.at_once[..at].iter();
        if is_switch(record) && before.any(|it| is_switch(it) && it.cpu == record.cpu) {
            return false;
        }
        let Some(life) = self.living.get(&record.tid) else {
            return true;
        };
        let comes = |kind: u8| {
            let mut others = self.at_once.iter();
            others.any(|it| it.kind == kind && it.tid == record.tid)
        };
        match (record.kind, &life.now) {
            (kind::OUT, Now::Running { .. }) => true,
            (kind::OUT, _) => !comes(kind::IN),
            (kind::IN, Now::Running { .. }) => !comes(kind::OUT),
            (kind::IN, Now::Off(off)) => off.wake.is_some() || !comes(kind::WAKING),
            (kind::WAKING, Now::Running { .. }) => !comes(kind::OUT),
            _ => true,
        }
    }

    fn tell_one(&mut self, record: Record) {
        match record.kind {
            kind::NEW => self.created(&record),
            kind::OUT => self.leaves(&record),
            kind::IN => self.comes(&record),
            kind::WAKING => self.woken(&record),
            kind::EXEC => self.executes(&record),
            kind::RENAME => {
                if let Some(life) = self.living.get_mut(&record.tid) {
                    life.name = record.name;
                }
            }
            kind::LOST_FROM => self.lost.begins(record.cpu),
            kind::LOST_UNTIL => self.lost.ends(record.cpu),
            _ => {}
        }
    }

    fn is_member(&self, tid: u32) -> bool {
        match self.kernel.get(&tid) {
            Some(kernel) => !kernel,
            None => self.people.is_member(tid),
        }
    }

    /// A task that something is told of; one that was not created meanwhile was there before.
    /// `None`: it is none of those whose time is told.
    fn life(&mut self, tid: u32, name: u32) -> Option<&mut Life> {
        if !self.living.contains_key(&tid) {
            if tid == 0 || !self.is_member(tid) {
                return None;
            }
            let person = self.people.get(tid).cloned().unwrap_or_default();
            let tgid = if person.tgid == 0 { tid } else { person.tgid };
            let mut life = self.begin(tid, tgid, self.start_ns);
            life.ppid = person.ppid;
            life.name = if name == 0 { person.name } else { name };
            // What it did until now is unknown.
            life.gap();
            (self.give)(Event::Born(life.born(self.people)));
            (self.give)(Event::Attached(Attached {
                serial: life.serial,
                at_ns: self.start_ns,
                asleep_for_ns: None,
            }));
            self.tell_argv(&life, &person.argv);
            self.living.insert(tid, life);
        }
        let life = self.living.get_mut(&tid)?;
        if name != 0 {
            life.name = name;
        }
        Some(life)
    }

    fn begin(&mut self, tid: u32, tgid: u32, at_ns: u64) -> Life {
        self.last_serial += 1;
        let serial = self.last_serial;
        let process = if tid == tgid {
            self.processes.insert(tgid, serial);
            serial
        } else {
            *self.processes.entry(tgid).or_insert(serial)
        };
        Life::new((serial, process), (tid, tgid), at_ns)
    }

    fn tell_argv(&mut self, life: &Life, argv: &[String]) {
        if !argv.is_empty() && life.tid == life.tgid {
            (self.give)(Event::Argv(Argv {
                serial: life.serial,
                at_ns: life.born_ns,
                argv: argv.to_vec(),
            }));
        }
    }

    fn created(&mut self, record: &Record) {
        let Record {
            tid, other, at_ns, ..
        } = *record;
        if tid == 0 {
            return;
        }
        // Two events tell of it.
        if let Some(there) = self.living.get_mut(&tid)
            && there.is_new()
        {
            there.name = if record.name == 0 {
                there.name
            } else {
                record.name
            };
            return;
        }
        if let Some(mut before) = self.living.remove(&tid) {
            before.gap();
            (self.give)(before.ended(self.people, at_ns));
        }
        let by_kernel = match self.kernel.get(&other) {
            Some(kernel) => *kernel,
            None => self.people.is_kernel(other),
        };
        if by_kernel && !self.living.contains_key(&other) {
            self.kernel.insert(tid, true);
            return;
        }
        // It is sure now that the tid is a thread of the kernel's no more.
        if self.people.is_kernel(tid) {
            self.kernel.insert(tid, false);
        }
        let creator = self.life(other, 0).map(|it| (it.serial, it.tgid));
        let person = self.people.get(tid);
        let tgid = match (record.value as u32, creator) {
            (0, Some((_, tgid))) if record.flags & flag::THREAD != 0 => tgid,
            (0, _) if record.flags & flag::PROCESS != 0 => tid,
            (0, _) => person.map_or(tid, |it| if it.tgid == 0 { tid } else { it.tgid }),
            (tgid, _) => tgid,
        };
        let mut life = self.begin(tid, tgid, at_ns);
        life.parent = creator.map_or(0, |(serial, _)| serial);
        life.ppid = match creator {
            Some((_, creators)) if tid == tgid => creators,
            _ => person.map_or(0, |it| it.ppid),
        };
        life.name = record.name;
        life.now = Now::new_born(at_ns, record.cpu);
        (self.give)(Event::Born(life.born(self.people)));
        if let Some(person) = person {
            self.tell_argv(&life, &person.argv);
        }
        self.living.insert(tid, life);
    }

    fn woken(&mut self, record: &Record) {
        if self.life(record.tid, record.name).is_none() {
            return;
        }
        let waker = self.waker(record);
        let lost = self.lost.anywhere();
        if let Some(life) = self.living.get_mut(&record.tid) {
            life.woken(record, waker, lost);
        }
    }

    /// Who woke. In doubt nobody is blamed.
    fn waker(&mut self, record: &Record) -> Waker {
        let has = |flag: u8| record.flags & flag != 0;
        let by = match self.cpus.get(&record.cpu) {
            Some((tid, _)) if has(flag::ON_CPU) => *tid,
            _ if has(flag::ON_CPU) => 0,
            _ => record.other,
        };
        match by {
            _ if has(flag::HARD) => return Waker::Interrupt(Interrupt::Other),
            0 => return Waker::Interrupt(Interrupt::Other),
            // A sender's own, or one that a task was interrupted for.
            _ if has(flag::SOFT | flag::EITHER) => return Waker::Unknown,
            _ => {}
        }
        if let Some(life) = self.life(by, 0) {
            return Waker::Task {
                serial: life.serial,
                softirq: false,
            };
        }
        if self.told.insert(by) {
            let person = self.people.get(by).cloned().unwrap_or_default();
            (self.give)(Event::Outsider(Outsider {
                tid: by,
                tgid: if person.tgid == 0 { by } else { person.tgid },
                kernel_thread: self.people.is_kernel(by),
                at_ns: record.at_ns,
                comm: self.people.name(person.name).to_owned(),
            }));
        }
        Waker::Outsider {
            tid: by,
            softirq: false,
        }
    }

    fn leaves(&mut self, record: &Record) {
        let Record {
            tid, cpu, at_ns, ..
        } = *record;
        let was = self.cpus.remove(&cpu);
        if let Some((other, _)) = was.filter(|(other, _)| *other != tid) {
            // A thread that executes a program takes over the tid of its process's first.
            let takes_over = self.living.get(&other).is_some_and(|it| it.tgid == tid);
            if takes_over && !self.is_running(tid) {
                self.take_over(other, tid, at_ns);
            } else {
                self.missed(other);
            }
        }
        let (lost, on_cpu) = (self.lost.anywhere(), self.lost.on(cpu));
        let Some(life) = self.life(tid, record.name) else {
            let was = was.filter(|(it, _)| *it == tid);
            self.outside(record, was.map_or(at_ns, |(_, since_ns)| since_ns));
            return;
        };
        let mut told = Vec::new();
        life.leaves(at_ns, cpu, (record.value, on_cpu, lost), &mut told);
        let ended = record.value == state::DEAD;
        told.into_iter()
            .for_each(|it| (self.give)(Event::Stretch(it)));
        if ended && let Some(life) = self.living.remove(&tid) {
            (self.give)(life.ended(self.people, at_ns));
        }
    }

    fn is_running(&self, tid: u32) -> bool {
        let running = |life: &Life| matches!(life.now, Now::Running { .. });
        self.living.get(&tid).is_some_and(running)
    }

    /// A task that is none of those whose time is told had a CPU.
    fn outside(&mut self, record: &Record, since_ns: u64) {
        let ns = record.at_ns.saturating_sub(since_ns);
        if record.tid == 0 || ns < TURN_NS {
            return;
        }
        let person = self.people.get(record.tid).cloned().unwrap_or_default();
        let name = if record.name == 0 {
            person.name
        } else {
            record.name
        };
        (self.give)(Event::CpuUser(CpuUser {
            cpu: record.cpu,
            tid: record.tid,
            tgid: if person.tgid == 0 {
                record.tid
            } else {
                person.tgid
            },
            kernel_thread: true,
            at_ns: record.at_ns,
            ns,
            comm: self.people.name(name).to_owned(),
        }));
    }

    fn comes(&mut self, record: &Record) {
        let Record {
            tid, cpu, at_ns, ..
        } = *record;
        if let Some((other, _)) = self.cpus.insert(cpu, (tid, at_ns)) {
            self.missed(other);
        }
        let (lost, on_cpu) = (self.lost.anywhere(), self.lost.on(cpu));
        let Some(life) = self.life(tid, record.name) else {
            return;
        };
        let mut told = Vec::new();
        life.comes(at_ns, cpu, (on_cpu, lost), &mut told);
        told.into_iter()
            .for_each(|it| (self.give)(Event::Stretch(it)));
    }

    /// A task left its CPU, and that was not told.
    fn missed(&mut self, tid: u32) {
        if let Some(life) = self.living.get_mut(&tid)
            && matches!(life.now, Now::Running { .. })
        {
            life.gap();
            life.now = Now::Unknown;
        }
    }

    fn executes(&mut self, record: &Record) {
        let Record {
            tid, cpu, at_ns, ..
        } = *record;
        let on_cpu = self.cpus.get(&cpu).map(|(tid, _)| *tid);
        let before = match record.other {
            0 => on_cpu.filter(|it| self.living.get(it).is_some_and(|life| life.tgid == tid)),
            other => Some(other),
        };
        let before = before.filter(|it| *it != tid && self.living.contains_key(it));
        if let Some(before) = before.filter(|_| !self.is_running(tid)) {
            self.take_over(before, tid, at_ns);
        }
        let old_tid = before.unwrap_or(tid);
        let Some(life) = self.life(tid, record.name) else {
            return;
        };
        let exec = Exec {
            serial: life.serial,
            old_tid,
            tid,
            at_ns,
            comm: String::new(),
        };
        let name = life.name;
        (self.give)(Event::Exec(Exec {
            comm: self.people.name(name).to_owned(),
            ..exec
        }));
    }

    /// A task has another's tid from now on.
    fn take_over(&mut self, from: u32, to: u32, at_ns: u64) {
        if let Some(mut gone) = self.living.remove(&to) {
            gone.gap();
            (self.give)(gone.ended(self.people, at_ns));
        }
        if let Some(mut life) = self.living.remove(&from) {
            life.tid = to;
            self.living.insert(to, life);
        }
        for (tid, _) in self.cpus.values_mut() {
            if *tid == from {
                *tid = to;
            }
        }
    }

    /// Tells what the living are doing when the recording ends. Gives how many tasks there were
    /// in all, and how many live.
    pub(crate) fn end(mut self, end_ns: u64) -> (u64, u64) {
        self.tell_waiting();
        let mut living: Vec<Life> = self.living.drain().map(|(_, life)| life).collect();
        living.sort_by_key(|life| life.serial);
        let lost = &self.lost;
        for mut life in living.iter_mut().map(std::mem::take) {
            let sure = match &life.now {
                Now::Running { cpu, lost: then } => then.is_some() && lost.on(*cpu) == *then,
                // Where it was not told that it wants to run, it can be that nothing was yet.
                Now::Off(off) if off.why == Why::New => off.wake.is_some(),
                Now::Off(off) => off.lost.is_some() && lost.anywhere() == off.lost,
                Now::Unknown => true,
            };
            if !sure {
                life.gap();
                life.now = Now::Unknown;
            }
            (self.give)(life.lives(self.people, end_ns));
        }
        (self.last_serial.into(), living.len() as u64)
    }
}

/// Why a task leaves a CPU, by [`state`].
fn why(value: u64) -> Why {
    match value {
        state::INTERRUPTIBLE => Why::Interruptible,
        state::UNINTERRUPTIBLE => Why::Uninterruptible,
        state::KILLABLE => Why::Killable,
        state::STOPPED => Why::Stopped,
        state::TRACED => Why::Traced,
        state::FROZEN => Why::Frozen,
        _ => Why::Preempted,
    }
}
