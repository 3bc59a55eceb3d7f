//! Which program a process was in, by time: a number of a process is given to others, and each can
//! execute one program after the other.

use std::collections::HashMap;

use super::symbols::{Of, Question};

/// Of what was executed under a number, so many are known still.
const MOST: usize = 4;

/// When a program began, and what its process was forked from.
#[derive(Clone, Copy)]
pub(super) struct Began {
    pub(super) program: u32,
    pub(super) at_ns: u64,
    pub(super) parent: Option<Of>,
}

impl Began {
    pub(super) fn question(&self, pid: u32) -> Question {
        Question::Began(pid, self.program, self.at_ns, self.parent)
    }
}

/// The programs of all processes.
#[derive(Default)]
pub(super) struct Programs {
    /// The last ones that began under each number, in the order of time.
    began: HashMap<u32, Vec<Began>>,
    /// Those of processes that live.
    living: HashMap<u32, Began>,
}

impl Programs {
    /// A program began under this number; `None`: another one has begun since, as was said before.
    pub(super) fn begins(&mut self, pid: u32, at_ns: u64, parent: Option<Of>) -> Option<Began> {
        let all = self.began.entry(pid).or_default();
        let program = all.iter().map(|it| it.program).max().unwrap_or(0) + 1;
        let began = Began {
            program,
            at_ns,
            parent,
        };
        let place = all.partition_point(|it| it.at_ns <= at_ns);
        let is_last = place == all.len();
        all.insert(place, began);
        if all.len() > MOST {
            all.remove(0);
        }
        if !is_last {
            return None;
        }
        self.living.insert(pid, began);
        Some(began)
    }

    /// The process is no more: what it was in, if that is known.
    pub(super) fn ended(&mut self, pid: u32) -> Option<Began> {
        self.living.remove(&pid)
    }

    /// What processes are in that live, in the order of time.
    pub(super) fn living(&self) -> Vec<(u32, Began)> {
        let mut living: Vec<_> = self.living.iter().map(|(pid, it)| (*pid, *it)).collect();
        living.sort_unstable_by_key(|(_, began)| began.at_ns);
        living
    }

    /// The one that the process of this number was in at this time, ns; of number 0 if that began
    /// before all that are known.
    pub(super) fn at(&self, pid: u32, at_ns: u64) -> Of {
        let all = self.began.get(&pid).map_or(&[][..], Vec::as_slice);
        let began = all.iter().rev().find(|began| began.at_ns <= at_ns);
        Of::Process(pid, began.map_or(0, |began| began.program))
    }

    /// Had its process executed another program by then, ns?
    pub(super) fn is_over(&self, of: Of, at_ns: u64) -> bool {
        match of {
            Of::Kernel => false,
            Of::Process(pid, _) => self.at(pid, at_ns) != of,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_in_the_program_that_began_last_before() {
        let mut programs = Programs::default();
        let of = |program| Of::Process(7, program);
        assert_eq!(programs.at(7, 50), of(0));
        programs.begins(7, 100, None);
        programs.begins(7, 200, Some(Of::Process(6, 1)));
        assert_eq!(programs.at(7, 99), of(0));
        assert_eq!(programs.at(7, 100), of(1));
        assert_eq!(programs.at(7, 199), of(1));
        assert_eq!(programs.at(7, 200), of(2));
        assert_eq!(programs.at(8, 200), Of::Process(8, 0));
        assert!(!programs.is_over(of(1), 199) && programs.is_over(of(1), 200));
        assert!(!programs.is_over(Of::Kernel, 200));
        // What is too old to be known is none of those that are.
        for n in 3..10 {
            assert!(programs.begins(7, 100 * n, None).is_some());
        }
        assert_eq!(programs.at(7, 650), of(6));
        assert_eq!(programs.at(7, 599), of(0));
        let ended = programs.ended(7).map(|began| began.program);
        assert_eq!((ended, programs.living().len()), (Some(9), 0));
    }

    #[test]
    fn a_program_that_is_told_late_began_before_the_one_that_was_told_first() {
        let mut programs = Programs::default();
        let of = |program| Of::Process(7, program);
        // It executes another on one CPU, having been forked on one that is read later.
        assert!(programs.begins(7, 200, None).is_some());
        assert!(programs.begins(7, 100, None).is_none());
        assert_eq!((programs.at(7, 150), programs.at(7, 200)), (of(2), of(1)));
        assert_eq!(programs.living()[0].1.program, 1);
        assert!(programs.begins(7, 300, None).is_some());
        assert_eq!(programs.at(7, 300), of(3));
    }
}
