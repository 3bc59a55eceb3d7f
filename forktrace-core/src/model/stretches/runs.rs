//! A task's stretches as they come: nearly in order. A task that moves from CPU to CPU sends
//! them through several rings, which are emptied one after the other.
//!
//! So they are packed in *runs*, each in order: one that comes too late for the first run goes
//! to the second, and so on. At the end the runs are merged. There are about as many as CPUs
//! that the task was on.

use std::{mem, sync::Arc};

use super::{Shelf, Stretches};
use crate::model::{Off, State};

/// Stretches as they come.
pub(in crate::model) struct Runs {
    runs: Vec<Run>,
    log: u8,
    /// While there is one run.
    joined: Join,
}

/// Some of a task's stretches, in order.
struct Run {
    packed: Stretches,
    /// What is not packed yet.
    rows: Vec<(Off, Option<u16>)>,
    /// The number of the last one that is packed.
    last: Option<u32>,
}

/// All stretches of a task.
pub(in crate::model) struct Sorted {
    pub(in crate::model) stretches: Stretches,
    /// Syscall and target of the last block, if no record after it is lost.
    pub(in crate::model) last_block: Option<(i16, u32)>,
    /// The number of the stretch that comes next.
    pub(in crate::model) next_seq: u32,
}

/// A timed call that a stop interrupts goes on as `restart_syscall`: it is the call before.
/// Where records between the two are lost, it stays what it is.
#[derive(Clone, Copy)]
struct Join {
    restart: Option<i16>,
    before: Option<(i16, u32)>,
    expected: u32,
}

impl Join {
    fn new(restart: Option<i16>) -> Self {
        Self {
            restart,
            before: None,
            expected: 0,
        }
    }

    fn next(&mut self, off: &mut Off) {
        if off.seq != self.expected {
            self.before = None;
        }
        self.expected = off.seq.wrapping_add(1);
        if off.state() == State::Runnable {
            return;
        }
        if Some(off.syscall) == self.restart
            && let Some((syscall, target)) = self.before
        {
            off.syscall = syscall;
            off.target = target;
        }
        self.before = Some((off.syscall, off.target));
    }
}

impl Run {
    fn new(log: u8, shelf: &Arc<Shelf>) -> Self {
        Self {
            packed: Stretches::new(log, Arc::clone(shelf)),
            rows: Vec::new(),
            last: None,
        }
    }

    fn pack(&mut self, buffer: &mut Vec<u8>) {
        if let Some((off, _)) = self.rows.last() {
            self.last = Some(off.seq);
        }
        self.packed.push_chunk(&self.rows, buffer);
        self.rows.clear();
    }
}

impl Runs {
    /// `log`: how many stretches are packed at once, as a power of two. `restart`: the number
    /// of `restart_syscall`.
    pub(in crate::model) fn new(log: u8, restart: Option<i16>) -> Self {
        Self {
            runs: Vec::new(),
            log,
            joined: Join::new(restart),
        }
    }

    /// Adds one. Of two with one number the first counts.
    #[inline]
    pub(in crate::model) fn push(
        &mut self,
        off: Off,
        cpu: u16,
        (shelf, buffer): (&Arc<Shelf>, &mut Vec<u8>),
    ) {
        let follows = |run: &Run| run.rows.last().is_some_and(|(last, _)| last.seq < off.seq);
        let at = match self.runs.first() {
            Some(first) if follows(first) => 0,
            _ => match self.place(&off, shelf) {
                Some(at) => at,
                None => return,
            },
        };
        let only = self.runs.len() == 1;
        let run = &mut self.runs[at];
        let row = (off, Some(cpu));
        match run.rows.last() {
            Some((last, _)) if last.seq > off.seq => {
                let at = run.rows.partition_point(|(other, _)| other.seq < off.seq);
                run.rows.insert(at, row);
            }
            _ => run.rows.push(row),
        }
        if run.rows.len() >> self.log > 0 {
            if only {
                for (off, _) in &mut run.rows {
                    self.joined.next(off);
                }
            }
            run.pack(buffer);
        }
    }

    /// The first run that takes one; `None`: it is there already.
    #[cold]
    fn place(&mut self, off: &Off, shelf: &Arc<Shelf>) -> Option<usize> {
        for (at, run) in self.runs.iter().enumerate() {
            let known = run
                .rows
                .binary_search_by_key(&off.seq, |(other, _)| other.seq);
            if known.is_ok() {
                return None;
            }
            if run.last.is_none_or(|last| last < off.seq) {
                return Some(at);
            }
        }
        self.runs.push(Run::new(self.log, shelf));
        Some(self.runs.len() - 1)
    }

    /// All, in order.
    pub(in crate::model) fn finish(mut self, shelf: &Arc<Shelf>, buffer: &mut Vec<u8>) -> Sorted {
        if self.runs.len() > 1 {
            return self.merged(shelf, buffer);
        }
        let mut run = match self.runs.pop() {
            Some(run) => run,
            None => Run::new(self.log, shelf),
        };
        for (off, _) in &mut run.rows {
            self.joined.next(off);
        }
        run.pack(buffer);
        Sorted::new(run.packed, self.joined)
    }

    fn merged(mut self, shelf: &Arc<Shelf>, buffer: &mut Vec<u8>) -> Sorted {
        for run in &mut self.runs {
            run.pack(buffer);
        }
        let runs = mem::take(&mut self.runs);
        let mut iters: Vec<_> = runs
            .iter()
            .map(|run| run.packed.with_cpus().peekable())
            .collect();
        let mut join = Join::new(self.joined.restart);
        let mut all = Run::new(self.log, shelf);
        let mut last = None;
        loop {
            let nexts = iters.iter_mut().enumerate();
            let nexts = nexts.filter_map(|(at, run)| Some((run.peek()?.0.seq, at)));
            // Of two with one number the one in the earlier run came first.
            let Some((seq, at)) = nexts.min() else {
                break;
            };
            let Some((mut off, cpu)) = iters[at].next() else {
                break;
            };
            if last.replace(seq) == Some(seq) {
                continue;
            }
            join.next(&mut off);
            all.rows.push((off, cpu));
            if all.rows.len() >> self.log > 0 {
                all.pack(buffer);
            }
        }
        all.pack(buffer);
        drop(iters);
        for run in &runs {
            run.packed.forget();
        }
        Sorted::new(all.packed, join)
    }
}

impl Sorted {
    fn new(mut stretches: Stretches, join: Join) -> Self {
        stretches.chunks.shrink_to_fit();
        Self {
            stretches,
            last_block: join.before,
            next_seq: join.expected,
        }
    }
}
