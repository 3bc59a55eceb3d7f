//! The table of calls of the select/poll family.

use forktrace_common::layout::poll::{EPOLL_WAIT, NAMES};

use crate::{model::Model, report::Poll, trace::PollWay};

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

pub(super) fn how(way: &PollWay, left_out: u64) -> String {
    let how = match way {
        PollWay::Fentry => "counted at the syscalls' own functions (fentry)".to_owned(),
        PollWay::Tracepoint => "counted at the syscalls' own tracepoints".to_owned(),
        PollWay::Raw => "counted at the entry and return of all syscalls".to_owned(),
        PollWay::None { why } => why.clone(),
    };
    if left_out == 0 {
        how
    } else {
        format!("{how}; up to {left_out} entries and returns are missing")
    }
}
