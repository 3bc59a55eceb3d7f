//! Words for rows of a comparison. Names in them are as the workload gave them.

use super::{Change, PathChange, StallChange, Thing};
use crate::{
    report::{PathState, Verdict},
    words::duration,
};

/// What a part of the path is, as a noun.
pub fn doing(row: &PathChange) -> String {
    let role = &row.role;
    match (row.state, row.reason.as_deref()) {
        (PathState::Running, _) => format!("`{role}` running"),
        (PathState::Runnable, _) => format!("`{role}` waiting for a CPU"),
        (PathState::Blocked, Some(reason)) => {
            format!("`{role}` {}", waiting(reason, row.object.as_ref()))
        }
        (PathState::Stopped, _) => format!("`{role}` stopped"),
        _ => format!("what is not known of `{role}`"),
    }
}

/// What a wait is, as a participle.
pub fn waiting(reason: &str, object: Option<&Thing>) -> String {
    match (reason, object) {
        ("sleep", _) => "sleeping".to_owned(),
        ("page fault", _) => "waiting for pages of memory".to_owned(),
        ("futex", Some(object)) if object.kind == "thread" => {
            format!("waiting for {} to end", object.name)
        }
        (reason, Some(object)) if object.name.starts_with(reason) => {
            format!("waiting for {}", object.name)
        }
        (reason, Some(object)) => format!("waiting for {} ({reason})", object.name),
        (reason, None) => format!("waiting in {reason}"),
    }
}

/// What stalls are put down to, as a noun.
pub fn put_down_to(row: &StallChange) -> String {
    let Some(reason) = &row.reason else {
        return "what is not listed by cause".to_owned();
    };
    let what = waiting(reason, row.object.as_ref());
    let what = match &row.name {
        Some(name) => format!("`{name}` {what}"),
        None => format!("tasks {what}"),
    };
    match row.verdict {
        Some(Verdict::Idle) => format!("{what}, all others idle too"),
        Some(Verdict::CommonCause) => format!("{what}, as all others did"),
        Some(Verdict::Coincidence) => format!("{what}, by coincidence with others"),
        Some(Verdict::Stuck) => format!("{what} for ever"),
        Some(Verdict::Unknown) => format!("{what}, why is not known"),
        Some(Verdict::Caused) | None => what,
    }
}

/// The interval of a change, for people.
pub fn interval(change: &Change) -> Option<String> {
    let (low, high) = (change.low_ns?, change.high_ns?);
    Some(match low == high {
        true => signed(low),
        false => format!("{} … {}", signed(low), signed(high)),
    })
}

/// Half of the interval's width: `± 3.00 ms`.
pub fn give_or_take(change: &Change) -> Option<String> {
    let (low, high) = (change.low_ns?, change.high_ns?);
    Some(format!("± {}", duration(high.abs_diff(low) / 2)))
}

/// `+1.80 s`, `-3.00 ms`.
pub fn signed(ns: i64) -> String {
    match ns {
        0 => "0 s".to_owned(),
        1.. => format!("+{}", duration(ns.unsigned_abs())),
        _ => format!("-{}", duration(ns.unsigned_abs())),
    }
}
