//! A task's blocks, one by one.

use crate::{
    model::{State, Task, state_of},
    trace::Waker,
};

/// The block that was open when the recording ended, if the task was woken from
/// it and only waited for a CPU: waker, begin and end.
pub(super) fn open_block_that_ended(task: &Task) -> Option<(Waker, u64, u64)> {
    let open = task.open?;
    if state_of(open.why) != State::Blocked {
        return None;
    }
    let wake_ns = open.wake_ns?.min(task.end_ns);
    Some((open.waker, open.out_ns.min(wake_ns), wake_ns))
}
