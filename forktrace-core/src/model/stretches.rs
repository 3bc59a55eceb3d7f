//! A task's stretches off the CPU, packed: some ten bytes each, and those beyond a budget are
//! not in memory at all.
//!
//! They are given by value. What is changed afterwards is said beside them: what their targets
//! are called in the model is known when all tasks are.

mod chunk;
mod runs;
mod shelf;
#[cfg(test)]
mod tests;

use std::{cell::RefCell, iter::FusedIterator, ops::Range, sync::Arc};

use super::{Off, State};

use self::chunk::{Chunk, Kinds, View, pack};
pub(super) use self::runs::{Runs, Sorted};
pub use self::shelf::{Shelf, Spill};

/// Stretches in a chunk, as a power of two: of the first tasks, whose last chunks take most of
/// the memory that a task takes while a trace is read, and of all others.
pub(super) const LARGE: u8 = 8;
pub(super) const SMALL: u8 = 6;

/// So many targets of single stretches are asked for with each kind of stretch.
const FEW_OTHERS: usize = 16;

/// A task's stretches, in the order of their numbers.
#[derive(Clone, Debug, Default)]
pub struct Stretches {
    /// All but the last one are full.
    chunks: Vec<Chunk>,
    len: usize,
    /// How many stretches a full chunk has, as a power of two.
    log: u8,
    kinds: Kinds,
    sums: Sums,
    /// The model's number of each target, if it is not the one that is packed.
    targets: Vec<u32>,
    /// Targets of single stretches, by number of the stretch.
    others: Vec<(u32, u32)>,
    shelf: Arc<Shelf>,
}

/// What all stretches of a task come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Time blocked.
    pub blocked_ns: u64,
    /// Time stopped.
    pub stopped_ns: u64,
    /// Time runnable.
    pub runnable_ns: u64,
    /// The number of one is not that of those before it.
    has_gaps: bool,
    /// One left before the one before it had come back.
    overlap: bool,
    last_in_ns: u64,
}

impl Sums {
    fn add(&mut self, number: usize, off: &Off) {
        self.has_gaps |= off.seq as usize != number;
        self.overlap |= off.out_ns < self.last_in_ns;
        self.last_in_ns = off.in_ns;
        let away_ns = off.wake_ns.saturating_sub(off.out_ns);
        let sum = match off.state() {
            State::Blocked => &mut self.blocked_ns,
            State::Stopped => &mut self.stopped_ns,
            _ => &mut self.runnable_ns,
        };
        *sum = sum.saturating_add(away_ns);
        let ready_ns = off.in_ns.saturating_sub(off.wake_ns);
        self.runnable_ns = self.runnable_ns.saturating_add(ready_ns);
    }
}

impl Stretches {
    fn new(log: u8, shelf: Arc<Shelf>) -> Self {
        Self {
            log,
            shelf,
            ..Self::default()
        }
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What they come to, if they are numbered from 0 on and none is missing.
    pub fn sums(&self) -> Option<Sums> {
        (!self.sums.has_gaps).then_some(self.sums)
    }

    /// The same, if they follow each other within this time.
    pub fn sums_within(&self, start_ns: u64, end_ns: u64) -> Option<Sums> {
        let first = self.chunks.first().map_or(start_ns, Chunk::out_ns);
        let within = start_ns <= first && self.sums.last_in_ns <= end_ns;
        self.sums().filter(|sums| within && !sums.overlap)
    }

    /// All, in order.
    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        self.range(0..self.len)
    }

    /// Those from this one on.
    #[inline]
    pub fn from(&self, first: usize) -> Iter<'_> {
        self.range(first..self.len)
    }

    /// All, or none where none of them can be such, as far as its syscall, its target, its
    /// flags and why it left tell, and whether there is a timeout: its times and its waker are not
    /// looked at.
    pub fn iter_if(&self, is: impl Fn(Off) -> bool) -> Iter<'_> {
        let others = || self.others.iter().map(|(_, target)| *target);
        let can_be = |kind: Off| {
            let other = |target| is(Off { target, ..kind });
            is(self.named(kind)) || others().any(other)
        };
        let kinds = self.kinds.all().filter(|_| others().len() <= FEW_OTHERS);
        let none = kinds.is_some_and(|all| !all.iter().any(|kind| can_be(kind.off())));
        match none {
            true => self.range(0..0),
            false => self.iter(),
        }
    }

    /// Those that were woken so long after they had left, ns, or later: the others of most traces
    /// are not looked at.
    pub fn woken_after(&self, ns: u64) -> impl Iterator<Item = Off> + '_ {
        let some = self.of_chunks(move |chunk| chunk.woken_within_ns() >= ns);
        let some = some.map(|(off, _)| off);
        some.filter(move |off| off.wake_ns - off.out_ns >= ns)
    }

    /// Those that came back so long after they were woken, ns, or later, and the CPU that they
    /// came back to: in the same way.
    pub fn back_after(&self, ns: u64) -> impl Iterator<Item = (Off, Option<u16>)> + '_ {
        let some = self.of_chunks(move |chunk| chunk.back_within_ns() >= ns);
        some.filter(move |(off, _)| off.in_ns - off.wake_ns >= ns)
    }

    /// All, some at a time, each lot with how long after it had left none of its tasks was still
    /// to be woken, ns.
    pub fn by_lots(&self) -> impl Iterator<Item = (u64, Iter<'_>)> + '_ {
        let lots = self.chunks.iter().enumerate();
        lots.map(move |(at, chunk)| {
            let all = at << self.log..(at + 1) << self.log;
            (chunk.woken_within_ns(), self.range(all))
        })
    }

    /// All of those chunks that are like this.
    fn of_chunks<'a>(
        &'a self,
        is: impl Fn(&Chunk) -> bool + 'a,
    ) -> impl Iterator<Item = (Off, Option<u16>)> + 'a {
        let chunks = self.chunks.iter().enumerate();
        let such = chunks.filter(move |(_, chunk)| is(chunk));
        such.flat_map(move |(at, _)| self.range(at << self.log..(at + 1) << self.log).with_cpus())
    }

    /// To look at one after the other, in whatever order.
    pub fn reader(&self) -> Reader<'_> {
        Reader {
            of: self,
            near: Near::NONE,
        }
    }

    /// Some of them.
    #[inline]
    pub fn range(&self, range: Range<usize>) -> Iter<'_> {
        let end = range.end.min(self.len);
        Iter {
            of: self,
            front: range.start.min(end),
            back: end,
            ahead: Near::NONE,
            behind: Near::NONE,
        }
    }

    /// One of them.
    #[inline(always)]
    pub fn get(&self, at: usize) -> Option<Off> {
        (at < self.len).then(|| self.at(at))
    }

    /// One that is there; the first one otherwise.
    ///
    /// # Panics
    /// When there is none.
    #[inline(always)]
    pub fn at(&self, at: usize) -> Off {
        let view = self.chunks[at >> self.log].view(|at, len| self.cached(at, len));
        self.named(view.row(at & self.mask()).0)
    }

    /// The first one.
    pub fn first(&self) -> Option<Off> {
        self.get(0)
    }

    /// The last one.
    pub fn last(&self) -> Option<Off> {
        self.get(self.len.checked_sub(1)?)
    }

    /// The CPU that the task came back to after one of them, if that is known.
    pub fn cpu(&self, at: usize) -> Option<u16> {
        let chunk = self.chunks.get(at >> self.log).filter(|_| at < self.len)?;
        let view = chunk.view(|at, len| self.cached(at, len));
        view.row(at & self.mask()).1
    }

    /// All, each with the CPU that the task came back to.
    pub fn with_cpus(&self) -> Rows<'_> {
        self.iter().with_cpus()
    }

    /// Of stretches of which the first ones are such, how many are.
    pub fn partition_point(&self, mut is: impl FnMut(&Off) -> bool) -> usize {
        // Whole chunks by their first ones, then in one.
        let chunks = self.chunks.len();
        let (mut from, mut to) = (0, chunks);
        while from < to {
            let middle = from.midpoint(to);
            match is(&self.at(middle << self.log)) {
                true => from = middle + 1,
                false => to = middle,
            }
        }
        let Some(chunk) = from.checked_sub(1) else {
            return 0;
        };
        let view = self.chunks[chunk].view(|at, len| self.cached(at, len));
        let first = chunk << self.log;
        let (mut from, mut to) = (first + 1, (first + self.mask() + 1).min(self.len));
        while from < to {
            let middle = from.midpoint(to);
            match is(&self.named(view.row(middle & self.mask()).0)) {
                true => from = middle + 1,
                false => to = middle,
            }
        }
        from
    }

    /// How many left before this time.
    pub fn left_before(&self, at_ns: u64) -> usize {
        let from = self.chunks.partition_point(|chunk| chunk.out_ns() < at_ns);
        let Some(chunk) = from.checked_sub(1) else {
            return 0;
        };
        let first = chunk << self.log;
        let end = (first + self.mask() + 1).min(self.len);
        self.left_before_within(first + 1..end, at_ns)
    }

    /// The same, looked for from `near` on, in growing steps.
    pub fn left_before_near(&self, near: usize, at_ns: u64) -> usize {
        let before = |at: usize| at < self.len && self.out_ns(at) < at_ns;
        before_near(self.len, near, before)
    }

    /// The same, of which it is known that it lies there.
    fn left_before_within(&self, within: Range<usize>, at_ns: u64) -> usize {
        before_within(within, |at| self.out_ns(at) < at_ns)
    }

    /// The number of one that is there.
    ///
    /// # Panics
    /// When it is not there.
    #[inline]
    pub fn seq(&self, at: usize) -> u32 {
        let view = self.chunks[at >> self.log].view(|at, len| self.cached(at, len));
        view.seq(at & self.mask())
    }

    /// When one that is there left.
    ///
    /// # Panics
    /// When it is not there.
    #[inline]
    pub fn out_ns(&self, at: usize) -> u64 {
        let chunk = &self.chunks[at >> self.log];
        match at & self.mask() {
            0 => chunk.out_ns(),
            at => chunk.view(|at, len| self.cached(at, len)).out_ns(at),
        }
    }

    /// Where the stretch with this number is.
    pub fn position(&self, seq: u32) -> Option<usize> {
        let at = self.partition_point(|off| off.seq < seq);
        (self.get(at)?.seq == seq).then_some(at)
    }

    /// Changes them: unpacks all, and packs what is left.
    pub fn edit(&mut self, change: impl FnOnce(&mut Vec<Off>)) {
        let cpus: Vec<Option<u16>> = self.with_cpus().map(|(_, cpu)| cpu).collect();
        let mut all: Vec<Off> = self.iter().collect();
        change(&mut all);
        let cpus = cpus.into_iter().chain(std::iter::repeat(None));
        *self = all.into_iter().zip(cpus).collect();
    }

    #[inline]
    fn mask(&self) -> usize {
        (1 << self.log) - 1
    }

    /// A stretch with the model's number of its target.
    #[inline(always)]
    fn named(&self, mut off: Off) -> Off {
        if !self.targets.is_empty() {
            off.target = *self.targets.get(off.target as usize).unwrap_or(&0);
        }
        if self
            .others
            .first()
            .is_some_and(|(first, _)| *first <= off.seq)
        {
            off.target = self.other(off.seq).unwrap_or(off.target);
        }
        off
    }

    #[cold]
    fn other(&self, seq: u32) -> Option<u32> {
        let at = self.others.binary_search_by_key(&seq, |other| other.0);
        Some(self.others[at.ok()?].1)
    }

    /// Packs a full chunk, or the last one.
    fn push_chunk(&mut self, rows: &[(Off, Option<u16>)], buffer: &mut Vec<u8>) {
        for (number, (off, _)) in (self.len..).zip(rows) {
            self.sums.add(number, off);
        }
        self.len += rows.len();
        let chunk = pack(rows, &mut self.kinds, &self.shelf, buffer);
        self.chunks.extend(chunk);
    }

    /// What a target is called in the model, from its packed number.
    pub(super) fn name_targets(&mut self, targets: Vec<u32>) {
        self.targets = targets;
    }

    /// Stretches with these numbers wait for something else: in order.
    pub(super) fn name_others(&mut self, mut others: Vec<(u32, u32)>) {
        others.append(&mut self.others);
        // The last word is the first of these.
        others.sort_by_key(|(seq, _)| *seq);
        others.dedup_by_key(|(seq, _)| *seq);
        self.others = others;
    }

    /// Has any of them a target that is like this?
    pub(super) fn has_target(&self, is: impl Fn(u32) -> bool) -> bool {
        self.targets.iter().any(|target| is(*target))
            || self.others.iter().any(|(_, target)| is(*target))
    }

    /// Bytes of a chunk that is not in memory, kept for a while: one stretch after the other
    /// is asked for, of several tasks in turn.
    #[cold]
    #[inline(never)]
    fn cached(&self, at: u64, len: u32) -> Arc<[u8]> {
        /// So many chunks are kept by each thread.
        const SLOTS: usize = 4096;
        type Slot = Option<((u64, u64), Arc<[u8]>)>;
        thread_local! {
            static CACHE: RefCell<Vec<Slot>> = const { RefCell::new(Vec::new()) };
        }
        let key = (self.shelf.id(), at);
        let slot = (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize % SLOTS;
        CACHE.with_borrow_mut(|cache| {
            cache.resize(SLOTS, None);
            match &cache[slot] {
                Some((other, bytes)) if *other == key => Arc::clone(bytes),
                _ => {
                    let bytes = self.shelf.read(at, len);
                    cache[slot] = Some((key, Arc::clone(&bytes)));
                    bytes
                }
            }
        })
    }

    fn forget(&self) {
        for chunk in &self.chunks {
            self.shelf.forget(chunk.kept());
        }
    }
}

/// Of so many of which the first ones are before something, how many are: looked for from `near`
/// on, in growing steps. `before`: is it one that is there, and before?
#[inline]
fn before_near(len: usize, near: usize, mut before: impl FnMut(usize) -> bool) -> usize {
    let (mut from, mut until, mut step) = (near, near.min(len), 1);
    if before(near) {
        while before(from + step) {
            from += step;
            step *= 2;
        }
        until = (from + step).min(len);
        from += 1;
    } else {
        while let Some(at) = until.checked_sub(step).filter(|at| !before(*at)) {
            until = at;
            step *= 2;
        }
        // Where there is one so far before, that one is.
        from = until.checked_sub(step).map_or(0, |before| before + 1);
    }
    before_within(from..until, before)
}

/// The same, of which it is known that it lies there.
#[inline]
fn before_within(within: Range<usize>, mut before: impl FnMut(usize) -> bool) -> usize {
    let (mut from, mut to) = (within.start, within.end);
    while from < to {
        let middle = from.midpoint(to);
        match before(middle) {
            true => from = middle + 1,
            false => to = middle,
        }
    }
    from
}

/// Equal as far as one can see.
impl PartialEq for Stretches {
    fn eq(&self, other: &Self) -> bool {
        self.with_cpus().eq(other.with_cpus())
    }
}

impl FromIterator<(Off, Option<u16>)> for Stretches {
    fn from_iter<T: IntoIterator<Item = (Off, Option<u16>)>>(rows: T) -> Self {
        Self::new(LARGE, Arc::default()).of_these(rows)
    }
}

impl Stretches {
    /// Others, kept where these are.
    pub(super) fn of_these(&self, rows: impl IntoIterator<Item = (Off, Option<u16>)>) -> Self {
        let mut packed = Self::new(self.log, Arc::clone(&self.shelf));
        let mut buffer = Vec::new();
        let mut chunk = Vec::new();
        for row in rows {
            chunk.push(row);
            if chunk.len() > packed.mask() {
                packed.push_chunk(&chunk, &mut buffer);
                chunk.clear();
            }
        }
        packed.push_chunk(&chunk, &mut buffer);
        packed
    }
}

impl FromIterator<Off> for Stretches {
    fn from_iter<T: IntoIterator<Item = Off>>(offs: T) -> Self {
        offs.into_iter().map(|off| (off, None)).collect()
    }
}

impl From<Vec<Off>> for Stretches {
    fn from(offs: Vec<Off>) -> Self {
        offs.into_iter().collect()
    }
}

impl<'a> IntoIterator for &'a Stretches {
    type Item = Off;
    type IntoIter = Iter<'a>;

    #[inline]
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Goes over stretches.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    of: &'a Stretches,
    front: usize,
    back: usize,
    /// The chunks that the first and the last one are in.
    ahead: Near<'a>,
    behind: Near<'a>,
}

/// Looks at stretches: quickly at one that is near the last one.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    of: &'a Stretches,
    near: Near<'a>,
}

impl<'a> Reader<'a> {
    #[inline(always)]
    fn view(&mut self, at: usize) -> Option<&View<'a>> {
        (at < self.of.len).then_some(())?;
        let chunk = at >> self.of.log;
        if chunk != self.near.chunk {
            self.load(chunk);
        }
        self.near.view.as_ref()
    }

    /// Several readers can look at one chunk, one after the other.
    #[cold]
    #[inline(never)]
    fn load(&mut self, chunk: usize) {
        let of = self.of;
        let view = of.chunks[chunk].view(|at, len| of.cached(at, len));
        self.near = Near {
            chunk,
            view: Some(view),
        };
    }

    /// How many left before this time: looked for from `near` on, in growing steps.
    #[inline]
    pub fn left_before_near(&mut self, near: usize, at_ns: u64) -> usize {
        let len = self.of.len;
        let before = |at: usize| self.out_ns(at).is_some_and(|out_ns| out_ns < at_ns);
        before_near(len, near, before)
    }

    /// One of them.
    #[inline(always)]
    pub fn get(&mut self, at: usize) -> Option<Off> {
        let of = self.of;
        let (off, _) = self.view(at)?.row(at & of.mask());
        Some(of.named(off))
    }

    /// When it left.
    #[inline(always)]
    pub fn out_ns(&mut self, at: usize) -> Option<u64> {
        let mask = self.of.mask();
        Some(self.view(at)?.out_ns(at & mask))
    }

    /// Its number.
    #[inline(always)]
    pub fn seq(&mut self, at: usize) -> Option<u32> {
        let mask = self.of.mask();
        Some(self.view(at)?.seq(at & mask))
    }
}

/// A chunk that is being read.
#[derive(Clone, Debug)]
struct Near<'a> {
    chunk: usize,
    view: Option<View<'a>>,
}

impl<'a> Near<'a> {
    const NONE: Self = Self {
        chunk: usize::MAX,
        view: None,
    };

    /// The chunk that a stretch is in.
    #[inline(always)]
    fn view(&mut self, of: &'a Stretches, at: usize) -> Option<&View<'a>> {
        let chunk = at >> of.log;
        if chunk != self.chunk {
            self.load(of, chunk);
        }
        self.view.as_ref()
    }

    #[inline(always)]
    fn row(&mut self, of: &'a Stretches, at: usize) -> Option<(Off, Option<u16>)> {
        let (off, cpu) = self.view(of, at)?.row(at & of.mask());
        Some((of.named(off), cpu))
    }

    #[cold]
    #[inline(never)]
    fn load(&mut self, of: &'a Stretches, chunk: usize) {
        let view = of.chunks[chunk].view(|at, len| of.shelf.read(at, len));
        *self = Self {
            chunk,
            view: Some(view),
        };
    }
}

impl<'a> Iter<'a> {
    /// Each with the CPU that the task came back to.
    pub fn with_cpus(self) -> Rows<'a> {
        Rows(self)
    }

    #[inline(always)]
    fn next_row(&mut self) -> Option<(Off, Option<u16>)> {
        if self.front >= self.back {
            return None;
        }
        self.front += 1;
        self.ahead.row(self.of, self.front - 1)
    }
}

/// Goes over stretches, each with the CPU that the task came back to, if that is known.
#[derive(Clone, Debug)]
pub struct Rows<'a>(Iter<'a>);

impl Iterator for Rows<'_> {
    type Item = (Off, Option<u16>);

    #[inline(always)]
    fn next(&mut self) -> Option<(Off, Option<u16>)> {
        self.0.next_row()
    }
}

impl Iterator for Iter<'_> {
    type Item = Off;

    #[inline(always)]
    fn next(&mut self) -> Option<Off> {
        Some(self.next_row()?.0)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.back - self.front;
        (left, Some(left))
    }

    fn nth(&mut self, n: usize) -> Option<Off> {
        self.front = self.front.saturating_add(n).min(self.back);
        self.next()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Off> {
        if self.front >= self.back {
            return None;
        }
        self.back -= 1;
        Some(self.behind.row(self.of, self.back)?.0)
    }
}

impl ExactSizeIterator for Iter<'_> {}
impl FusedIterator for Iter<'_> {}
