//! Waits for an answer. A server that waits for input has nothing to do; a run that ends by itself
//! and had to wait for the other side of a connection until then would have been shorter without.

use std::collections::HashSet;

use super::{Blocks, FindingKind, Report};
use crate::{
    analysis::objects,
    report::{Cause, Ended, Link, Object, PathState, Verdict},
};

/// What a run that ended by itself asked others.
pub(super) struct Asked {
    /// Ids of connections, and of sets with one that nobody can connect to.
    connections: HashSet<String>,
}

impl Asked {
    pub(super) fn of(report: &Report, blocks: &Blocks<'_>) -> Self {
        let connections = match ended_by_itself(report) {
            true => objects::connections(blocks.model),
            false => HashSet::new(),
        };
        Self { connections }
    }

    /// Is it such a connection?
    fn is(&self, object: Option<&Object>) -> bool {
        object.is_some_and(|object| self.connections.contains(&object.id))
    }

    /// What a wait for this, at the end of all that waited for each other, is.
    pub(super) fn kind(&self, reason: &str, object: Option<&Object>) -> FindingKind {
        match kind(reason, object) {
            FindingKind::Idle if self.is(object) => FindingKind::Peer,
            kind => kind,
        }
    }

    /// The same cause; where all waited for input, and the run for this one: it held the run up.
    pub(super) fn held(&self, report: &Report, cause: Cause) -> Cause {
        let asked = cause.verdict == Verdict::Idle && self.is(cause.object.as_ref());
        // Or it gave up.
        let answered =
            |root: &&Link| asked && matches!(root.ended, Ended::Fulfilled | Ended::TimedOut);
        let Some(root) = cause.root.as_ref().filter(answered) else {
            return cause;
        };
        let of_root = report.tasks.iter().find(|it| it.serial == root.task.serial);
        let role = of_root.map(|task| task.role.as_str());
        let on_path = report.path.parts.iter().filter(|part| {
            part.state == PathState::Blocked
                && Some(part.role.as_str()) == role
                && part.reason.as_deref() == Some(root.reason.as_str())
                && self.is(part.object.as_ref())
        });
        let on_path = on_path.map(|part| part.ns).fold(0, u64::saturating_add);
        match on_path >= cause.ns / 2 {
            true => Cause {
                verdict: Verdict::Caused,
                ..cause
            },
            false => cause,
        }
    }
}

/// Did the run end, and not because somebody had seen enough of it?
pub(super) fn ended_by_itself(report: &Report) -> bool {
    let workload = &report.workload;
    let ended = workload.attached.is_none() && workload.exit_code.is_some_and(|code| code < 128);
    ended && report.part.is_none()
}

/// What a wait for this, at the end of all that waited for each other, is.
fn kind(reason: &str, object: Option<&Object>) -> FindingKind {
    let remote = object.is_some_and(|o| o.kind == "tcp" || o.kind == "udp");
    match reason {
        "page fault" => FindingKind::PageFault,
        "fsync" => FindingKind::Disk,
        "read" | "recv" | "connect" if remote => FindingKind::Peer,
        "read" | "recv" | "accept" | "select" | "poll" | "epoll" | "signal wait" => {
            FindingKind::Idle
        }
        _ => FindingKind::Stall,
    }
}
