//! What the tasks of the workload do at this moment, for whom waits for it.

use forktrace_common::event::{TaskState, why};

/// How many tasks are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AtWork {
    /// On a CPU.
    pub running: u64,
    /// Want one.
    pub runnable: u64,
    /// Asleep.
    pub blocked: u64,
    /// Stopped, traced or frozen.
    pub stopped: u64,
    /// For so long none but these was in another state than blocked, ns; 0: one is.
    pub all_blocked_ns: u64,
    /// When the last of the blocked ones blocked; 0: none is.
    pub last_ns: u64,
}

impl AtWork {
    /// Of the living tasks, as the task table has them.
    pub(crate) fn of(living: impl FnOnce(&mut dyn FnMut(&TaskState)), now_ns: u64) -> Self {
        let mut found = Self::default();
        living(&mut |task| found.add(task));
        if found.blocked > 0 && found.running + found.runnable + found.stopped == 0 {
            found.all_blocked_ns = now_ns.saturating_sub(found.last_ns);
        }
        found
    }

    fn add(&mut self, task: &TaskState) {
        // The table goes on while it is read, so each word is taken for what it is.
        *match task.why {
            _ if task.out_ns == 0 => &mut self.running,
            _ if task.wake_ns > 0 => &mut self.runnable,
            why::NEW | why::PREEMPTED => &mut self.runnable,
            why::STOPPED | why::TRACED | why::FROZEN | why::CORE_DUMP => &mut self.stopped,
            _ => {
                self.last_ns = self.last_ns.max(task.out_ns);
                &mut self.blocked
            }
        } += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(why: u8, out_ns: u64, wake_ns: u64) -> TaskState {
        TaskState {
            why,
            out_ns,
            wake_ns,
            ..TaskState::default()
        }
    }

    #[test]
    fn all_are_blocked_since_the_last_one_blocked() {
        let blocked = [
            task(why::KILLABLE, 100, 0),
            task(why::INTERRUPTIBLE, 300, 0),
        ];
        let of = |tasks: &[TaskState]| AtWork::of(|add| tasks.iter().for_each(add), 1_000);
        let found = of(&blocked);
        assert_eq!((found.blocked, found.all_blocked_ns), (2, 700));
        for other in [
            task(why::INTERRUPTIBLE, 0, 0),
            task(why::INTERRUPTIBLE, 300, 900),
            task(why::PREEMPTED, 300, 0),
            task(why::STOPPED, 300, 0),
        ] {
            let found = of(&[blocked[0], blocked[1], other]);
            assert_eq!((found.blocked, found.all_blocked_ns), (2, 0), "{found:?}");
        }
        assert_eq!(of(&[]), AtWork::default());
    }
}
