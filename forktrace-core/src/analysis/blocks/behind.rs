//! Which of a task's stretches are blocks, and which of these wait for input: some three bits a
//! stretch, so that a look back from any of them takes no search.

use std::ops::Range;

/// Stretches in a word.
const WORD: usize = 64;

/// What a look back from any of a task's stretches finds.
#[derive(Default)]
pub(super) struct Behind {
    words: Vec<Word>,
    len: usize,
    blocks: u32,
    /// The number of the last wait for input among the blocks, plus 1.
    input: u32,
    /// Stretches before which records are lost, in order.
    gaps: Vec<u32>,
}

/// What is known of some stretches, a bit each, and of those before.
struct Word {
    blocks: u64,
    inputs: u64,
    blocks_before: u32,
    /// The last wait for input before, as a block, plus 1.
    input_before: u32,
    /// How many bits the length of the longest block has, ns.
    longest: u8,
}

impl Behind {
    /// Adds a stretch. `input`: it is a block, and whether that waits for input; `ns`: how long
    /// it was; `gap`: records before it are lost.
    pub(super) fn push(&mut self, input: Option<bool>, ns: u64, gap: bool) {
        let bit = self.len % WORD;
        if bit == 0 {
            self.words.push(Word {
                blocks: 0,
                inputs: 0,
                blocks_before: self.blocks,
                input_before: self.input,
                longest: 0,
            });
        }
        if gap {
            self.gaps.push(self.len as u32);
        }
        if let (Some(input), Some(word)) = (input, self.words.last_mut()) {
            self.blocks += 1;
            word.blocks |= 1 << bit;
            word.longest = word.longest.max((u64::BITS - ns.leading_zeros()) as u8);
            if input {
                word.inputs |= 1 << bit;
                self.input = self.blocks;
            }
        }
        self.len += 1;
    }

    /// How many blocks are before a stretch.
    pub(super) fn blocks_before(&self, at: usize) -> usize {
        let all = self.blocks as usize;
        self.words.get(at / WORD).map_or(all, |word| {
            let before = (1u64 << (at % WORD)) - 1;
            word.blocks_before as usize + (word.blocks & before).count_ones() as usize
        })
    }

    /// The stretch that a block is, by its number among the blocks: quickly if it is not long
    /// before `near`.
    pub(super) fn stretch(&self, block: usize, near: usize) -> Option<usize> {
        const STEPS: usize = 8;
        if block >= self.blocks as usize {
            return None;
        }
        let until = |word: &Word| word.blocks_before as usize <= block;
        let near = near / WORD;
        let steps = near.saturating_sub(STEPS)..=near;
        let mut close = self.words.get(steps.clone()).unwrap_or_default().iter();
        let close = close.rposition(until).map(|at| steps.start() + at);
        // The word after it begins after the block.
        let close = close.filter(|at| !self.words.get(at + 1).is_some_and(until));
        let at = match close {
            Some(at) => at,
            None => self.words.partition_point(until).checked_sub(1)?,
        };
        Some(self.within(at, block))
    }

    /// The stretch that a block of this word is.
    fn within(&self, at: usize, block: usize) -> usize {
        let mut bits = self.words[at].blocks;
        let before = block - self.words[at].blocks_before as usize;
        // Mostly each is one.
        let all = u64::MAX >> (WORD - 1 - before % WORD);
        if bits & all == all {
            return at * WORD + before;
        }
        for _ in 0..before {
            bits &= bits.wrapping_sub(1);
        }
        at * WORD + bits.trailing_zeros() as usize
    }

    /// Is it plain that no block among these stretches is so long? False where it takes a look
    /// at them.
    pub(super) fn are_shorter(&self, stretches: Range<usize>, ns: u64) -> bool {
        /// More words are not looked at.
        const WORDS: usize = 4;
        let words = stretches.start / WORD..stretches.end.div_ceil(WORD);
        let few = words.len() <= WORDS;
        let mut all = self.words.get(words).unwrap_or_default().iter();
        few && all.all(|word| {
            let bits = u32::from(word.longest);
            bits < u64::BITS && 1u64 << bits <= ns
        })
    }

    /// The last wait for input up to this stretch, by its number among the blocks.
    pub(super) fn last_input(&self, at: usize) -> Option<usize> {
        let word = self.words.get(at / WORD)?;
        let until = u64::MAX >> (WORD - 1 - at % WORD);
        let inputs = word.inputs & until;
        if inputs == 0 {
            return (word.input_before as usize).checked_sub(1);
        }
        let last = u64::BITS - 1 - inputs.leading_zeros();
        let before = (word.blocks & ((1 << last) - 1)).count_ones();
        Some((word.blocks_before + before) as usize)
    }

    /// The last stretch up to this one before which records are lost.
    pub(super) fn gap(&self, at: usize) -> Option<usize> {
        let gaps = self.gaps.partition_point(|gap| *gap as usize <= at);
        Some(self.gaps[gaps.checked_sub(1)?] as usize)
    }
}
