//! Who woke a task, summed over its blocks.

use super::{
    blocks::Block,
    sum_by_key::SumByKey,
    wakers::{Sum, Wakers},
};
use crate::{
    model::{Off, Task},
    report::{self, WokenBy},
    trace::Waker,
};

/// Who ended the blocks of a task.
pub(super) struct EndedBy<'a> {
    wakers: &'a Wakers<'a>,
    /// By waker and, for a tid that was used again, which of them.
    sums: SumByKey<(Waker, u32), (Sum, u64)>,
}

impl<'a> EndedBy<'a> {
    pub(super) fn new(wakers: &'a Wakers<'a>) -> Self {
        Self {
            wakers,
            sums: SumByKey::default(),
        }
    }

    /// Adds a stretch that is a block.
    #[inline]
    pub(super) fn add(&mut self, off: &Off) {
        let which = match off.waker {
            Waker::Outsider { tid, .. } => self.wakers.which(tid, off.wake_ns),
            _ => 0,
        };
        let (sum, at_ns) = self.sums.of((off.waker, which));
        sum.add(off.wake_ns - off.out_ns);
        *at_ns = off.wake_ns;
    }

    /// Adds the one that is open at the end, and tells all, most time first.
    pub(super) fn finish(mut self, task: &Task) -> Vec<report::Waker> {
        if let Some(block) = Block::open(task)
            && let Some(wake_ns) = block.wake_ns
        {
            let (sum, at_ns) = self.sums.of((block.waker, 0));
            sum.add(wake_ns - block.start_ns);
            *at_ns = wake_ns;
        }
        let rows = self.sums.into_rows().into_iter();
        let rows = rows.map(|((waker, _), (sum, at_ns))| (self.wakers.describe(waker, at_ns), sum));
        merged(rows.collect())
    }
}

/// Different wakers can be the same for us: two soft vectors of one kind, or a
/// record repeated.
fn merged(rows: Vec<(WokenBy, Sum)>) -> Vec<report::Waker> {
    let mut merged: Vec<report::Waker> = Vec::with_capacity(rows.len());
    let key = |by: &WokenBy| (by.kind, by.serial, by.tid, by.interrupt);
    let mut rows = rows;
    rows.sort_by(|(a, _), (b, _)| (key(a), &a.name, &a.device).cmp(&(key(b), &b.name, &b.device)));
    for (by, sum) in rows {
        match merged.last_mut() {
            Some(last) if last.by == by => {
                last.count += sum.count;
                last.ns = last.ns.saturating_add(sum.ns);
            }
            _ => merged.push(report::Waker {
                by,
                count: sum.count,
                ns: sum.ns,
            }),
        }
    }
    merged.sort_by_key(|w| std::cmp::Reverse((w.ns, w.count)));
    merged
}
