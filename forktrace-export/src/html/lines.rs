//! The time lines of a page: as exact as there is room for.
//!
//! A run can have ten million stretches, and a page has room for some ten thousand. So all that
//! is at least as long as `exact_ns` stands in it to the nanosecond, and what is shorter is put
//! together until it is that long, with how much of it was in which state. `exact_ns` is the
//! shortest for which all find room; in most runs that is nothing, and the page holds all.

use std::collections::HashMap;

use forktrace_core::{
    analysis::{Names, Wait, Waits},
    model::{Model, Segment, State, Task},
    trace::Waker,
};

use crate::text;

/// Parts of all lines together.
const PARTS: usize = 90_000;
/// Bytes of all names together.
const NAME_BYTES: usize = 256 << 10;

/// A part of a line.
enum Part {
    /// In one state, exactly.
    One(Segment),
    /// In several, by [`State`]: ns each.
    Mixed([u64; 5]),
}

/// Hands out a task's parts.
fn parts(task: &Task, exact_ns: u64, mut each: impl FnMut(Part)) {
    let mut mixed = [0; 5];
    let mut mixed_ns = 0;
    let mut last: Option<Segment> = None;
    let mut flush = |mixed: &mut [u64; 5], mixed_ns: &mut u64, last: &mut Option<Segment>| {
        // What stands alone needs no mixing.
        match last.take() {
            Some(segment) if segment.end_ns - segment.start_ns == *mixed_ns => {
                each(Part::One(segment));
            }
            _ if *mixed_ns > 0 => each(Part::Mixed(*mixed)),
            _ => {}
        }
        (*mixed, *mixed_ns) = ([0; 5], 0);
    };
    for segment in task.segments() {
        let ns = segment.end_ns - segment.start_ns;
        if ns >= exact_ns {
            flush(&mut mixed, &mut mixed_ns, &mut last);
            (last, mixed_ns) = (Some(segment), ns);
            flush(&mut mixed, &mut mixed_ns, &mut last);
            continue;
        }
        mixed[segment.state.index()] += ns;
        mixed_ns += ns;
        last = Some(segment);
        if mixed_ns >= exact_ns {
            flush(&mut mixed, &mut mixed_ns, &mut last);
        }
    }
    flush(&mut mixed, &mut mixed_ns, &mut last);
}

fn fits(model: &Model, exact_ns: u64, most: usize) -> bool {
    let mut count = 0;
    for task in &model.tasks {
        parts(task, exact_ns, |_| count += 1);
        if count > most {
            return false;
        }
    }
    true
}

/// The shortest length for which all find room, ns; 0: all is exact.
fn exact_ns(model: &Model, most: usize) -> u64 {
    let most = most.max(2 * model.tasks.len());
    if fits(model, 0, most) {
        return 0;
    }
    let mut ns = (model.end_ns / 1_000_000).max(1);
    while ns < model.end_ns && !fits(model, ns, most) {
        ns *= 2;
    }
    // Between this and its half.
    let mut least = ns / 2;
    for _ in 0..3 {
        let middle = least.midpoint(ns);
        if fits(model, middle, most) {
            ns = middle;
        } else {
            least = middle;
        }
    }
    ns
}

/// The lines of all tasks.
pub(super) struct Lines {
    /// What is as long as this is exact.
    pub(super) exact_ns: u64,
    /// For each task the number of parts, then each with its length, what it is (a state, or
    /// [`MIXED`]), and what more there is to it. Numbers as in protocol buffers.
    pub(super) bytes: Vec<u8>,
    /// What waits are called; 0: nothing.
    pub(super) names: Vec<String>,
    /// Who woke, and the task's index if it is one; 0: nobody.
    pub(super) wakers: Vec<(String, Option<usize>)>,
}

/// In place of a state: how much was what follows, a byte for each state.
const MIXED: u64 = 5;

impl Lines {
    pub(super) fn new(model: &Model, names: &Names<'_>) -> Self {
        let exact_ns = exact_ns(model, PARTS);
        let waits = names.waits();
        let mut lines = Self {
            exact_ns,
            bytes: Vec::new(),
            names: vec![String::new()],
            wakers: vec![(String::new(), None)],
        };
        let mut known = Known {
            names,
            room: NAME_BYTES,
            waits: HashMap::new(),
            wakers: HashMap::new(),
        };
        for (at, task) in model.tasks.iter().enumerate() {
            lines.task(task, at, &waits, &mut known);
        }
        lines
    }

    fn task(&mut self, task: &Task, at: usize, waits: &Waits<'_>, known: &mut Known<'_>) {
        let mut count = 0;
        parts(task, self.exact_ns, |_| count += 1);
        self.number(count);
        let mut waits = waits.of(at).peekable();
        parts(task, self.exact_ns, |part| match part {
            Part::One(segment) => {
                self.number(segment.end_ns - segment.start_ns);
                self.number(segment.state.index() as u64);
                if segment.state == State::Blocked {
                    while waits.next_if(|w| w.end_ns <= segment.start_ns).is_some() {}
                    let wait = waits.peek().copied();
                    let wait = wait.filter(|wait| wait.start_ns <= segment.start_ns);
                    let (name, waker) = match wait {
                        Some(wait) => known.wait(task, &wait, self),
                        None => (0, 0),
                    };
                    self.number(name);
                    self.number(waker);
                }
            }
            Part::Mixed(states) => {
                let all: u64 = states.iter().sum();
                self.number(all);
                self.number(MIXED);
                for ns in states {
                    let share = u128::from(ns) * 255 / u128::from(all.max(1));
                    self.bytes.push(share as u8);
                }
            }
        });
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

/// Names that were given.
struct Known<'a> {
    names: &'a Names<'a>,
    /// Bytes that are left for names.
    room: usize,
    waits: HashMap<String, u64>,
    wakers: HashMap<Waker, u64>,
}

impl Known<'_> {
    /// The numbers of what it waited in and of who woke it.
    fn wait(&mut self, task: &Task, wait: &Wait, lines: &mut Lines) -> (u64, u64) {
        let (reason, _) = self.names.reason(task, wait);
        let mut name = text::wait(&reason, self.names.object(wait).as_ref());
        if !self.waits.contains_key(&name) {
            match self.room.checked_sub(name.len()) {
                Some(room) => self.room = room,
                // Of objects that are too many just the kind is told.
                None => name = reason,
            }
        }
        let number = *self.waits.entry(name).or_insert_with_key(|name| {
            lines.names.push(name.clone());
            lines.names.len() as u64 - 1
        });
        if !wait.woken {
            return (number, 0);
        }
        let by = *self.wakers.entry(wait.waker).or_insert_with(|| {
            let by = self.names.waker(wait.waker, wait.end_ns);
            let task = by.serial.and_then(|serial| self.names.index(serial));
            lines.wakers.push((text::waker(&by), task));
            lines.wakers.len() as u64 - 1
        });
        (number, by)
    }
}
