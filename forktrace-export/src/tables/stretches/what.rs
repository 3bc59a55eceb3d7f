//! What rows are: all but whose they are, when, and how long. Few differ, and mostly the same comes
//! again, so that their texts are found once.

use std::collections::HashMap;

use forktrace_core::{
    analysis::{Names, Wait},
    model::{State, Task},
    report::{Ended, WakerKind},
    trace::Waker,
};

use crate::{rollup::by_minute::STATES, tables::column::Words};

/// What a row is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct What {
    state: State,
    wait: Option<OfWait>,
}

/// What a wait is: the call and who ended it by their places among those that are known.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct OfWait {
    ended: Ended,
    call: u32,
    target: u32,
    waker: Option<u32>,
}

/// The same as numbers of texts.
pub(super) struct OfWhat {
    pub(super) state: u32,
    pub(super) reason: Option<u32>,
    pub(super) syscall: Option<u32>,
    pub(super) object_kind: Option<u32>,
    pub(super) object: Option<u32>,
    pub(super) ended: Option<u32>,
    pub(super) waker_kind: Option<u32>,
    pub(super) waker: Option<u32>,
    /// Its serial.
    pub(super) waker_task: Option<u32>,
}

/// What was found, each once.
#[derive(Default)]
pub(super) struct Found {
    numbers: HashMap<What, u32>,
    all: Vec<What>,
    last: u32,
}

impl Found {
    /// Its number.
    #[inline]
    pub(super) fn number(&mut self, what: What) -> u32 {
        if self.all.get(self.last as usize) != Some(&what) {
            self.last = self.find(what);
        }
        self.last
    }

    fn find(&mut self, what: What) -> u32 {
        let all = &mut self.all;
        *self.numbers.entry(what).or_insert_with(|| {
            all.push(what);
            all.len() as u32 - 1
        })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &What> {
        self.all.iter()
    }
}

/// The texts of rows, each found once.
pub(super) struct Texts<'a> {
    names: &'a Names<'a>,
    pub(super) words: Words,
    /// Of each state and each end, by their places in their lists.
    states: [u32; 5],
    ends: [u32; 5],
    calls: Known<InCall, OfCall>,
    /// By target: its kind and name; `None`: nobody asked yet.
    objects: Vec<Option<Option<(u32, u32)>>>,
    /// Those who are the same whenever they woke.
    wakers: HashMap<Waker, u32>,
    all_wakers: Known<OfWaker, OfWaker>,
    /// The last tasks that woke, by the low bits of the serial.
    lately: Box<[Option<(u32, bool, u32)>]>,
}

/// A call and its table, and whether the kernel's own task is in it.
type InCall = (i16, bool, bool);
/// The reason, and the call's name.
type OfCall = (u32, Option<u32>);
/// Kind, name and serial.
type OfWaker = (u32, Option<u32>, Option<u32>);

/// What is known of keys, in the order in which they came.
struct Known<K, V> {
    places: HashMap<K, u32>,
    all: Vec<V>,
    /// The last one, which mostly comes again.
    last: Option<(K, u32)>,
}

impl<K, V> Default for Known<K, V> {
    fn default() -> Self {
        Self {
            places: HashMap::new(),
            all: Vec::new(),
            last: None,
        }
    }
}

impl<K: Copy + Eq + std::hash::Hash, V> Known<K, V> {
    #[inline]
    fn place(&mut self, key: K, find: impl FnOnce() -> V) -> u32 {
        match self.last {
            Some((same, place)) if same == key => place,
            _ => {
                let all = &mut self.all;
                let place = *self.places.entry(key).or_insert_with(|| {
                    all.push(find());
                    all.len() as u32 - 1
                });
                self.last = Some((key, place));
                place
            }
        }
    }
}

/// So many tasks that woke are found at once.
const LATELY: usize = 1 << 10;
const ENDS: [Ended; 5] = [
    Ended::Fulfilled,
    Ended::TimedOut,
    Ended::Interrupted,
    Ended::CutShort,
    Ended::Unknown,
];

impl<'a> Texts<'a> {
    pub(super) fn new(names: &'a Names<'a>, targets: usize) -> Self {
        let mut words = Words::default();
        Self {
            names,
            states: STATES.map(|(_, word)| words.number(word)),
            ends: ENDS.map(|ended| words.number(word_of_end(ended))),
            words,
            calls: Known::default(),
            objects: vec![None; targets],
            wakers: HashMap::new(),
            all_wakers: Known::default(),
            lately: vec![None; LATELY].into(),
        }
    }

    /// What a row of a task is that begins with this state, and with this wait if it is one.
    #[inline]
    pub(super) fn what(&mut self, task: &Task, state: State, wait: Option<&Wait>) -> What {
        let wait = wait.map(|wait| OfWait {
            ended: wait.ended,
            call: self.call(task, wait),
            target: wait.target,
            waker: self.waker(wait),
        });
        What { state, wait }
    }

    /// Its texts.
    pub(super) fn of(&mut self, what: &What) -> OfWhat {
        let mut of = OfWhat {
            state: self.states[what.state.index()],
            reason: None,
            syscall: None,
            object_kind: None,
            object: None,
            ended: None,
            waker_kind: None,
            waker: None,
            waker_task: None,
        };
        let Some(wait) = &what.wait else {
            return of;
        };
        if let Some((reason, syscall)) = self.calls.all.get(wait.call as usize) {
            (of.reason, of.syscall) = (Some(*reason), *syscall);
        }
        (of.object_kind, of.object) = self.object(wait.target).unzip();
        of.ended = Some(self.ends[place_of_end(wait.ended)]);
        let waker = wait
            .waker
            .and_then(|at| self.all_wakers.all.get(at as usize));
        if let Some((kind, name, serial)) = waker {
            (of.waker_kind, of.waker, of.waker_task) = (Some(*kind), *name, *serial);
        }
        of
    }

    /// The number of a text.
    pub(super) fn number(&mut self, text: &str) -> u32 {
        self.words.number(text)
    }

    #[inline]
    fn call(&mut self, task: &Task, wait: &Wait) -> u32 {
        let Self {
            names,
            words,
            calls,
            ..
        } = self;
        calls.place((wait.syscall, wait.compat, task.kernel_worker), || {
            let (reason, syscall) = names.reason(task, wait);
            let syscall = syscall.map(|name| words.number(&name));
            (words.number(&reason), syscall)
        })
    }

    fn object(&mut self, target: u32) -> Option<(u32, u32)> {
        let Self {
            names,
            words,
            objects,
            ..
        } = self;
        let mut find = || {
            let object = names.object_at(target)?;
            Some((words.number(&object.kind), words.number(&object.name)))
        };
        match objects.get_mut(target as usize) {
            Some(known) => *known.get_or_insert_with(find),
            None => find(),
        }
    }

    /// Who ended it, if anybody did.
    #[inline]
    fn waker(&mut self, wait: &Wait) -> Option<u32> {
        if !wait.woken || wait.waker == Waker::None {
            return None;
        }
        if let Waker::Task { serial, softirq } = wait.waker {
            let slot = serial as usize % LATELY;
            if let Some((of, how, known)) = self.lately[slot]
                && (of, how) == (serial, softirq)
            {
                return Some(known);
            }
            let found = self.find_waker(wait);
            self.lately[slot] = Some((serial, softirq, found));
            return Some(found);
        }
        Some(self.find_waker(wait))
    }

    fn find_waker(&mut self, wait: &Wait) -> u32 {
        if let Some(known) = self.wakers.get(&wait.waker) {
            return *known;
        }
        let by = self.names.waker(wait.waker, wait.end_ns);
        let kind = self.words.number(match by.kind {
            WakerKind::Task => "task",
            WakerKind::TaskSoftirq => "task_softirq",
            WakerKind::Interrupt => "interrupt",
            WakerKind::Unknown => "unknown",
            WakerKind::Nobody => "nobody",
        });
        let interrupt = by.interrupt.map(|kind| serde_json::json!(kind));
        let interrupt = interrupt.as_ref().and_then(|kind| kind.as_str());
        let name = by.name.as_deref().or(by.device.as_deref()).or(interrupt);
        let name = name.map(|name| self.words.number(name));
        let found = (kind, name, by.serial);
        let place = self.all_wakers.place(found, || found);
        // A tid outside the workload can become another task's.
        if !matches!(wait.waker, Waker::Outsider { .. }) {
            self.wakers.insert(wait.waker, place);
        }
        place
    }
}

fn place_of_end(ended: Ended) -> usize {
    match ended {
        Ended::Fulfilled => 0,
        Ended::TimedOut => 1,
        Ended::Interrupted => 2,
        Ended::CutShort => 3,
        Ended::Unknown => 4,
    }
}

pub(in crate::tables) fn word_of_end(ended: Ended) -> &'static str {
    match ended {
        Ended::Fulfilled => "fulfilled",
        Ended::TimedOut => "timed_out",
        Ended::Interrupted => "interrupted",
        Ended::CutShort => "cut_short",
        Ended::Unknown => "unknown",
    }
}
