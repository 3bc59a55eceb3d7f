//! Requests that waited for a task to look at them.

use super::{Confidence, Finding, FindingKind, Report, count, did, duration, finding, who};
use crate::report::{Lag, LagDid, LagSide};

/// What waited for less is no finding, ns: a tenth of what people notice.
const LONG_NS: u64 = 10_000_000;
/// So many are told.
const MOST: usize = 3;

pub(super) fn findings(report: &Report) -> Vec<Finding> {
    let rows = report.lags.iter().flat_map(|lags| &lags.rows);
    let mut long: Vec<&Lag> = rows.filter(|row| row.longest.ns >= LONG_NS).collect();
    long.sort_by_key(|row| std::cmp::Reverse(row.longest.ns));
    let min_ns = report.lags.as_ref().map_or(0, |lags| lags.min_ns);
    let told = long.into_iter().take(MOST).map(|row| {
        let longest = &row.longest;
        let what = match row.side {
            LagSide::Serves => "Requests on",
            LagSide::Asks => "Answers from",
        };
        let times = match row.waited.count {
            1 => "once".to_owned(),
            n => format!("{} times", count(n)),
        };
        let sentence = format!(
            "{what} TCP port {} waited for up to {} until {} read them ({times} for {} or \
             longer): in the longest time it {}.",
            row.port,
            duration(longest.ns),
            who(&longest.name, longest.tid),
            duration(min_ns),
            mostly(&longest.did),
        );
        Finding {
            tasks: vec![longest.serial],
            object: longest
                .did
                .waits
                .first()
                .and_then(|wait| wait.object.clone()),
            next: Some("--stacks shows which functions block it".to_owned()),
            ..finding(FindingKind::Lag, longest.ns, Confidence::Proved, sentence)
        }
    });
    told.collect()
}

/// What a task did for most of the time, and how long.
fn mostly(task: &LagDid) -> String {
    let wait = task.waits.first();
    let blocked_ns = wait.map_or(0, |wait| wait.ns);
    let most_ns = task
        .running_ns
        .max(task.runnable_ns)
        .max(blocked_ns)
        .max(task.unknown_ns);
    let what = match wait {
        Some(wait) if wait.ns == most_ns => did(
            &wait.reason,
            wait.syscall.as_deref(),
            wait.object.as_ref(),
            None,
        ),
        _ if task.runnable_ns == most_ns => "was ready to run and had no CPU".to_owned(),
        _ if task.running_ns == most_ns => "ran, busy with something else,".to_owned(),
        _ => "did what is not known".to_owned(),
    };
    format!("{what} for {}", duration(most_ns))
}
