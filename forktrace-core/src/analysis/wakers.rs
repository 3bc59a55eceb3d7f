//! Who wakers are.

use std::collections::HashMap;

use crate::{
    model::Model,
    report::{InterruptKind, WakerKind, WokenBy},
    trace::interrupts,
    trace::{Header, Interrupt, Waker},
};

/// A number of blocks and their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) count: u64,
    pub(super) ns: u64,
}

impl Sum {
    pub(super) fn add(&mut self, ns: u64) {
        self.count += 1;
        self.ns = self.ns.saturating_add(ns);
    }
}

/// Knows tasks by serial and interrupts by number.
pub(super) struct Wakers<'a> {
    model: &'a Model,
    /// Where in [`Model::tasks`] a serial is.
    serials: Serials,
    devices: HashMap<u32, (InterruptKind, &'a str)>,
}

impl<'a> Wakers<'a> {
    pub(super) fn new(model: &'a Model, header: &'a Header) -> Self {
        let devices = header.interrupts.iter();
        Self {
            model,
            serials: Serials::new(model),
            devices: devices
                .map(|(number, name)| (*number, (interrupts::kind(name), name.as_str())))
                .collect(),
        }
    }

    /// Where in [`Model::tasks`] the task with this serial is.
    #[inline]
    pub(super) fn index(&self, serial: u32) -> Option<usize> {
        self.serials.get(serial)
    }

    /// Where the task is that this is, if it is one of the workload.
    #[inline]
    pub(super) fn task(&self, waker: Waker) -> Option<usize> {
        match waker {
            Waker::Task { serial, .. } => self.index(serial),
            _ => None,
        }
    }

    /// Who this waker was at this time.
    pub(super) fn describe(&self, waker: Waker, at_ns: u64) -> WokenBy {
        let of_task = |softirq| match softirq {
            true => WakerKind::TaskSoftirq,
            false => WakerKind::Task,
        };
        match waker {
            Waker::None | Waker::Unknown => WokenBy::default(),
            Waker::Task { serial, softirq } => {
                let task = self.index(serial).map(|at| &self.model.tasks[at]);
                WokenBy {
                    kind: of_task(softirq),
                    serial: Some(serial),
                    tid: task.map(|t| t.tid),
                    name: task.map(|t| t.name.clone()),
                    ..WokenBy::default()
                }
            }
            Waker::Outsider { tid, softirq } => {
                let known = self.model.outsider(tid, at_ns);
                WokenBy {
                    kind: of_task(softirq),
                    tid: Some(tid),
                    name: known.map(|o| o.comm.clone()),
                    outside: true,
                    kernel_thread: known.is_some_and(|o| o.kernel_thread),
                    ..WokenBy::default()
                }
            }
            Waker::Interrupt(interrupt) => {
                let (kind, device) = self.interrupt(interrupt);
                WokenBy {
                    kind: WakerKind::Interrupt,
                    interrupt: Some(kind),
                    device: device.map(str::to_owned),
                    ..WokenBy::default()
                }
            }
        }
    }

    /// What an interrupt was for, and its device's name.
    fn interrupt(&self, interrupt: Interrupt) -> (InterruptKind, Option<&'a str>) {
        match interrupt {
            Interrupt::Timer => (InterruptKind::Timer, None),
            Interrupt::Device(number) => match self.devices.get(&number) {
                Some((kind, name)) => (*kind, Some(name)),
                None => (InterruptKind::Other, None),
            },
            Interrupt::Soft(vector) => (interrupts::kind_of_vector(vector), None),
            Interrupt::Other => (InterruptKind::Other, None),
        }
    }

    /// Which of the tasks with this tid an outsider was.
    pub(super) fn which(&self, tid: u32, at_ns: u64) -> u32 {
        let outsiders = &self.model.outsiders;
        let until = outsiders.partition_point(|o| (o.tid, o.at_ns) <= (tid, at_ns));
        // Before its first record it is the same as after.
        let at = match until.checked_sub(1).and_then(|at| outsiders.get(at)) {
            Some(o) if o.tid == tid => until - 1,
            _ => until,
        };
        at as u32
    }
}

/// Serials of a real trace count from 1, those of a forged one need not.
enum Serials {
    Dense(Vec<u32>),
    Sorted(Vec<(u32, u32)>),
}

impl Serials {
    fn new(model: &Model) -> Self {
        // A task that is not followed wakes nobody that we know of.
        let followed = model.tasks.iter().enumerate().filter(|(_, t)| t.followed);
        let mut pairs: Vec<_> = followed.map(|(at, t)| (t.serial, at as u32)).collect();
        pairs.sort_unstable();
        let most = pairs.last().map_or(0, |(serial, _)| *serial as usize);
        if most > 8 * pairs.len() + 1024 {
            return Self::Sorted(pairs);
        }
        let mut dense = vec![u32::MAX; most + 1];
        for (serial, at) in pairs {
            dense[serial as usize] = at;
        }
        Self::Dense(dense)
    }

    #[inline]
    fn get(&self, serial: u32) -> Option<usize> {
        let at = match self {
            Self::Dense(dense) => *dense.get(serial as usize).filter(|at| **at != u32::MAX)?,
            Self::Sorted(pairs) => {
                let at = pairs.binary_search_by_key(&serial, |(serial, _)| *serial);
                pairs[at.ok()?].1
            }
        };
        Some(at as usize)
    }
}
