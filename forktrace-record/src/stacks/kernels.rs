//! What the kernel found of its own stack at the blocks of each task: it stands beside what is read
//! of the program's, which is told later.

use std::collections::HashMap;

/// Stacks of blocks that are no task's last, at a time.
const MOST: usize = 4096;

/// Numbers of stacks; `None`: there was none.
#[derive(Default)]
pub(super) struct Kernels {
    /// Of the last block of each task, with the number of its stretch.
    last: HashMap<u32, (u32, Option<u32>)>,
    /// Of earlier ones that are still to be told.
    earlier: HashMap<(u32, u32), Option<u32>>,
}

impl Kernels {
    /// A block of a task begins. `is_open`: one of it is still to be told.
    pub(super) fn saw(
        &mut self,
        serial: u32,
        seq: u32,
        kernel: Option<u32>,
        is_open: impl Fn(u32) -> bool,
    ) {
        let before = self.last.insert(serial, (seq, kernel));
        self.keep(serial, before, is_open);
    }

    /// The task is no more.
    pub(super) fn forget(&mut self, serial: u32, is_open: impl Fn(u32) -> bool) {
        let before = self.last.remove(&serial);
        self.keep(serial, before, is_open);
    }

    fn keep(
        &mut self,
        serial: u32,
        before: Option<(u32, Option<u32>)>,
        is_open: impl Fn(u32) -> bool,
    ) {
        if let Some((seq, kernel)) = before.filter(|(seq, _)| is_open(*seq)) {
            if self.earlier.len() >= MOST {
                self.earlier.clear();
            }
            self.earlier.insert((serial, seq), kernel);
        }
    }

    /// That of this block, which is told now.
    pub(super) fn of(&mut self, serial: u32, seq: u32) -> Option<u32> {
        match self.last.get(&serial) {
            Some((of, kernel)) if *of == seq => *kernel,
            _ => self.earlier.remove(&(serial, seq)).flatten(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_its_own_also_when_others_came_after_it() {
        let mut kernels = Kernels::default();
        kernels.saw(1, 5, Some(50), |_| false);
        kernels.saw(1, 6, Some(60), |seq| seq == 5);
        assert_eq!(kernels.of(1, 6), Some(60));
        assert_eq!(kernels.of(1, 5), Some(50));
        assert_eq!(kernels.of(1, 5), None);
        // Nobody wants to know, and another task.
        kernels.saw(1, 7, Some(70), |_| false);
        assert_eq!((kernels.of(1, 6), kernels.of(2, 7)), (None, None));
        kernels.forget(1, |seq| seq == 7);
        assert_eq!(kernels.of(1, 7), Some(70));
        assert_eq!(kernels.of(1, 7), None);
    }
}
