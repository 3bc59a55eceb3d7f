//! Brings records into the order of time, with bounded memory: what is more than a run is
//! sorted run by run, put away, and merged.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use anyhow::{Context as _, Result};
use bytemuck::Zeroable as _;
use forktrace_core::model::Spill;

use crate::record::Record;

/// Records that are sorted at once: 40 MB.
const RUN: usize = 1 << 20;
/// Records that are put away and read back at once: 80 KB for each run while they are merged.
const PIECE: usize = 2048;

/// A run that was put away.
struct Run {
    /// Where its pieces are; all but the last are full.
    pieces: Vec<u64>,
    len: usize,
}

/// See the module.
pub(crate) struct Sorter {
    run: usize,
    buffer: Vec<Record>,
    runs: Vec<Run>,
    spill: Option<Arc<dyn Spill>>,
    /// It took no more.
    full: bool,
}

impl Sorter {
    pub(crate) fn new(spill: Option<Arc<dyn Spill>>) -> Self {
        Self {
            run: RUN,
            buffer: Vec::new(),
            runs: Vec::new(),
            spill,
            full: false,
        }
    }

    /// Adds one.
    pub(crate) fn push(&mut self, record: Record) {
        self.buffer.push(record);
        if self.buffer.len() >= self.run {
            self.put_away();
        }
    }

    fn sort(&mut self) {
        self.buffer.sort_unstable_by_key(|it| (it.at_ns, it.order));
    }

    fn put_away(&mut self) {
        let Some(spill) = self.spill.clone().filter(|_| !self.full) else {
            return;
        };
        self.sort();
        let mut pieces = Vec::new();
        for piece in self.buffer.chunks(PIECE) {
            match spill.keep(bytemuck::cast_slice(piece)) {
                Ok(at) => pieces.push(at),
                // Then all that comes stays in memory.
                Err(_) => {
                    self.full = true;
                    return;
                }
            }
        }
        let len = self.buffer.len();
        self.buffer.clear();
        self.runs.push(Run { pieces, len });
    }

    /// Gives all of them in order.
    ///
    /// # Errors
    /// When what was put away can't be read back.
    pub(crate) fn finish(mut self, mut give: impl FnMut(Record)) -> Result<()> {
        self.sort();
        let spill = self.spill;
        let mut sources: Vec<Cursor> = self.runs.into_iter().map(Cursor::of).collect();
        sources.push(Cursor {
            run: None,
            piece: self.buffer,
            at: 0,
        });
        let mut heads = BinaryHeap::new();
        for (number, source) in sources.iter_mut().enumerate() {
            if let Some(record) = source.next(spill.as_deref())? {
                heads.push(Reverse((record.at_ns, record.order, number)));
                source.at -= 1;
            }
        }
        while let Some(Reverse((_, _, number))) = heads.pop() {
            let source = &mut sources[number];
            if let Some(record) = source.next(spill.as_deref())? {
                give(record);
            }
            if let Some(next) = source.next(spill.as_deref())? {
                source.at -= 1;
                heads.push(Reverse((next.at_ns, next.order, number)));
            }
        }
        Ok(())
    }
}

/// A run that is read.
struct Cursor {
    /// What is left of it; `None`: all is in `piece`.
    run: Option<(std::vec::IntoIter<u64>, usize)>,
    piece: Vec<Record>,
    at: usize,
}

impl Cursor {
    fn of(run: Run) -> Self {
        Self {
            run: Some((run.pieces.into_iter(), run.len)),
            piece: Vec::new(),
            at: 0,
        }
    }

    fn next(&mut self, spill: Option<&dyn Spill>) -> Result<Option<Record>> {
        if self.at == self.piece.len()
            && let (Some((pieces, left)), Some(spill)) = (&mut self.run, spill)
            && let Some(at) = pieces.next()
        {
            let len = PIECE.min(*left);
            *left -= len;
            self.piece.resize(len, Record::zeroed());
            let into = bytemuck::cast_slice_mut(&mut self.piece);
            spill.read(at, into).context(
                "the temporary file that holds a part of it can't be read back; TMPDIR says where \
                 it is",
            )?;
            self.at = 0;
        }
        let record = self.piece.get(self.at).copied();
        self.at += usize::from(record.is_some());
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Mutex};

    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<u8>>);

    impl Spill for Kept {
        fn keep(&self, bytes: &[u8]) -> io::Result<u64> {
            let mut kept = self.0.lock().expect("no panic");
            kept.extend_from_slice(bytes);
            Ok((kept.len() - bytes.len()) as u64)
        }

        fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
            let kept = self.0.lock().expect("no panic");
            let at = at as usize;
            into.copy_from_slice(&kept[at..at + into.len()]);
            Ok(())
        }
    }

    /// As many as make several runs of several pieces, in no order, with times that are the same.
    #[test]
    fn all_come_back_in_order() {
        for (run, spills) in [(5000, true), (7, true), (5000, false), (1 << 20, true)] {
            let mut sorter = Sorter {
                run,
                ..Sorter::new(spills.then(|| Arc::new(Kept::default()) as Arc<dyn Spill>))
            };
            let mut all = Vec::new();
            for order in 0..23_456u64 {
                let at_ns = order.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
                let record = Record {
                    at_ns,
                    order,
                    ..Record::zeroed()
                };
                sorter.push(record);
                all.push(record);
            }
            all.sort_by_key(|it| (it.at_ns, it.order));
            let mut back = Vec::new();
            sorter.finish(|it| back.push(it)).expect("it is read back");
            assert_eq!(back.len(), all.len());
            assert!(back == all, "a run of {run}");
        }
    }
}
