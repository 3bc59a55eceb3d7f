//! Who waited until whom: the wait-for graph of the whole run.

use std::collections::{BTreeMap, HashMap};

use crate::{
    kernel::interrupts,
    model::{Model, State, state_of},
    report::{InterruptKind, Peer, PeerKind, WaitsFor},
    trace::{Interrupt, Waker},
};

/// Time and number of waits.
#[derive(Clone, Copy, Default)]
struct Sum {
    ns: u64,
    count: u64,
}

/// The edges, most time first. `devices` are the names of interrupts by number.
pub(super) fn waits_for(model: &Model, devices: &[(u32, String)]) -> Vec<WaitsFor> {
    let mut edges = Vec::new();
    for task in &model.tasks {
        let mut sums = Sums::new();
        for off in &task.stretches {
            if off.state() == State::Blocked {
                sums.add(off.waker, off.wake_ns, off.wake_ns - off.out_ns);
            }
        }
        // An outsider's name can change, and so can who has a tid: by name.
        let mut peers: BTreeMap<Key, Sum> = BTreeMap::new();
        for waited in sums.all {
            let key = key(model, devices, waited.waker, waited.at_ns);
            let peer = peers.entry(key).or_default();
            peer.ns += waited.sum.ns;
            peer.count += waited.sum.count;
        }
        if let Some(open) = task.open
            && state_of(open.why) == State::Blocked
        {
            let wake_ns = open.wake_ns.unwrap_or(task.end_ns).min(task.end_ns);
            let key = match open.wake_ns {
                Some(at_ns) => key(model, devices, open.waker, at_ns),
                None => Key::Nobody,
            };
            let peer = peers.entry(key).or_default();
            peer.ns += wake_ns.saturating_sub(open.out_ns);
            peer.count += 1;
        }
        edges.extend(peers.into_iter().map(|(key, sum)| WaitsFor {
            from: task.serial,
            to: key.into(),
            ns: sum.ns,
            count: sum.count,
        }));
    }
    edges.sort_by_key(|edge| std::cmp::Reverse(edge.ns));
    edges
}

/// Sums of one task by waker.
struct Sums {
    all: Vec<Waited>,
    index: HashMap<(Waker, u64), usize>,
    /// Where those of the last blocks are: there are millions, by few wakers.
    recent: [usize; RECENT],
}

const RECENT: usize = 16;

#[derive(Clone, Copy)]
struct Waited {
    waker: Waker,
    /// An outsider has a sum for each second: its tid can be another's later.
    second: u64,
    /// Of the first wakeup.
    at_ns: u64,
    sum: Sum,
}

impl Sums {
    fn new() -> Self {
        Self {
            all: Vec::new(),
            index: HashMap::new(),
            recent: [usize::MAX; RECENT],
        }
    }

    fn add(&mut self, waker: Waker, at_ns: u64, ns: u64) {
        let (place, second) = match waker {
            Waker::Task { serial, .. } => (serial, 0),
            Waker::Outsider { tid, .. } => (tid, at_ns / 1_000_000_000),
            _ => (0, 0),
        };
        let recent = &mut self.recent[place as usize % RECENT];
        let is_it = |w: &&mut Waited| w.waker == waker && w.second == second;
        if self.all.get_mut(*recent).filter(is_it).is_none() {
            let all = &mut self.all;
            *recent = *self.index.entry((waker, second)).or_insert_with(|| {
                all.push(Waited {
                    waker,
                    second,
                    at_ns,
                    sum: Sum::default(),
                });
                all.len() - 1
            });
        }
        let sum = &mut self.all[*recent].sum;
        sum.ns += ns;
        sum.count += 1;
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Task(u32),
    Outside(u32, Option<String>),
    KernelThread(u32, String),
    Interrupt(InterruptKind),
    Unknown,
    Nobody,
}

impl From<Key> for Peer {
    fn from(key: Key) -> Self {
        let of_kind = |kind| Self {
            kind,
            serial: None,
            tid: None,
            name: None,
            interrupt: None,
        };
        match key {
            Key::Task(serial) => Self {
                serial: Some(serial),
                ..of_kind(PeerKind::Task)
            },
            Key::Outside(tid, name) => Self {
                tid: Some(tid),
                name,
                ..of_kind(PeerKind::Outside)
            },
            Key::KernelThread(tid, name) => Self {
                tid: Some(tid),
                name: Some(name),
                ..of_kind(PeerKind::KernelThread)
            },
            Key::Interrupt(interrupt) => Self {
                interrupt: Some(interrupt),
                ..of_kind(PeerKind::Interrupt)
            },
            Key::Unknown => of_kind(PeerKind::Unknown),
            Key::Nobody => of_kind(PeerKind::Nobody),
        }
    }
}

fn key(model: &Model, devices: &[(u32, String)], waker: Waker, at_ns: u64) -> Key {
    match waker {
        Waker::Task { serial, .. } => Key::Task(serial),
        Waker::Outsider { tid, .. } => match model.outsider(tid, at_ns) {
            Some(o) if o.kernel_thread => Key::KernelThread(tid, o.comm.clone()),
            Some(o) => Key::Outside(tid, Some(o.comm.clone())),
            None => Key::Outside(tid, None),
        },
        Waker::Interrupt(interrupt) => Key::Interrupt(kind(interrupt, devices)),
        Waker::None | Waker::Unknown => Key::Unknown,
    }
}

fn kind(interrupt: Interrupt, devices: &[(u32, String)]) -> InterruptKind {
    match interrupt {
        Interrupt::Timer => InterruptKind::Timer,
        Interrupt::Device(number) => devices
            .iter()
            .find(|(known, _)| *known == number)
            .map_or(InterruptKind::Other, |(_, name)| interrupts::kind(name)),
        Interrupt::Soft(vector) => interrupts::kind_of_vector(vector),
        Interrupt::Other => InterruptKind::Other,
    }
}
