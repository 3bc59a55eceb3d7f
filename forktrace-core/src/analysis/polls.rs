//! The table of calls of the select/poll family.

use forktrace_common::layout::poll::{EPOLL_WAIT, NAMES};

use crate::{
    model::Model,
    report::Poll,
    trace::{PollWay, PollsCounted},
    words::duration,
};

/// What does without that.
const AT_ONCE: &str = "`--polls tracepoint` counts from the start";

pub(super) fn polls(model: &Model) -> Vec<Poll> {
    let mut polls = Vec::new();
    for task in &model.tasks {
        for used in &task.polls {
            let position = usize::from(used.position);
            let Some(name) = NAMES.get(position) else {
                continue;
            };
            polls.push(Poll {
                serial: task.serial,
                tid: task.tid,
                syscall: (*name).to_owned(),
                calls: used.calls,
                ready_at_once: used.ready_at_once,
                blocked: used.blocked,
                timed_out: used.timed_out,
                empty_at_once: used.empty_at_once,
                failed: used.failed,
                unfinished: used.unfinished,
                max_fds: (position < EPOLL_WAIT
                    && used.calls.saturating_add(used.unfinished) > used.unknown_fds.into())
                .then_some(used.max_fds),
            });
        }
    }
    polls
}

/// Were they counted, at least from some time on?
pub(super) fn counted(way: &PollWay, model: &Model) -> bool {
    let began = matches!(model.polls_counted, None | Some(PollsCounted::From { .. }));
    began && !matches!(way, PollWay::None { .. })
}

/// In words.
pub(super) fn how(way: &PollWay, model: &Model) -> String {
    let how = match way {
        PollWay::Fentry => "counted at the syscalls' own functions (fentry)".to_owned(),
        PollWay::Tracepoint => "counted at the syscalls' own tracepoints".to_owned(),
        PollWay::Raw => "counted at the entry and return of all syscalls".to_owned(),
        PollWay::None { why } => why.clone(),
    };
    let how = match &model.polls_counted {
        None => how,
        Some(PollsCounted::NotYet) => format!(
            "no task was seen to wait in such a call, nor to run for a second without a switch, \
             and only then are they {how}; {AT_ONCE}"
        ),
        Some(PollsCounted::Attaching) => {
            format!("the recording was over before they could be {how}; {AT_ONCE}")
        }
        Some(PollsCounted::From {
            attaching_ns,
            attached_ns,
        }) => format!(
            "{how} from {} on, when a task had begun to wait in one: no calls before {} are \
             among them; {AT_ONCE}",
            duration(*attached_ns),
            duration(*attaching_ns)
        ),
        Some(PollsCounted::Failed(why)) => why.clone(),
    };
    let left_out = model.polls_left_out;
    if left_out == 0 {
        how
    } else {
        format!("{how}; up to {left_out} entries and returns are missing")
    }
}
