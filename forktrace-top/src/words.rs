//! Texts of the view. All that comes from outside is escaped here.

use forktrace_core::{
    live::{Node, Row, Snapshot, Waiting},
    model::State,
    render::text::figures::clean,
    trace::ProviderKind,
    words::duration,
};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// As in a column.
pub(crate) fn state(state: State) -> &'static str {
    match state {
        State::Running => "run",
        State::Runnable => "want",
        State::Blocked => "block",
        State::Stopped => "stop",
        State::Unknown => "?",
    }
}

/// How long a wait has lasted. With a `>` it began before the recording, and nobody knows when.
pub(crate) fn length(wait: &Waiting) -> String {
    let more = if wait.whole { "" } else { ">" };
    format!("{more}{}", duration(wait.for_ns))
}

/// A task's name and tid.
pub(crate) fn who(row: &Row) -> String {
    format!("{} ({})", clean(&row.name), row.tid)
}

/// The same by serial; of one that has ended no more is known.
pub(crate) fn who_is(snapshot: &Snapshot, serial: u32) -> String {
    let gone = || "a task that has ended".to_owned();
    snapshot.task(serial).map_or_else(gone, who)
}

/// Some of several tasks.
pub(crate) fn some(snapshot: &Snapshot, serials: &[u32]) -> String {
    const MOST: usize = 3;
    let named = serials.iter().take(MOST);
    let named: Vec<_> = named.map(|it| who_is(snapshot, *it)).collect();
    let more = match serials.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    named.join(", ") + &more
}

/// The call and its object.
pub(crate) fn call(wait: &Waiting) -> String {
    match &wait.object {
        object if object.is_empty() => wait.reason.clone(),
        // `epoll (fd 4)` says both.
        object if object.starts_with(&wait.reason) => clean(object),
        object => format!("{} {}", wait.reason, clean(object)),
    }
}

/// What a task waits for, and whom if that is one task.
pub(crate) fn waits_for(snapshot: &Snapshot, row: &Row) -> String {
    let Some(wait) = &row.wait else {
        return String::new();
    };
    let of = match wait
        .providers
        .as_ref()
        .map(|by| (&by.tasks[..], by.outside))
    {
        Some(([one], false)) => format!(", {}", who_is(snapshot, *one)),
        Some(([], false)) => ", nobody left".to_owned(),
        _ => String::new(),
    };
    call(wait) + &of
}

/// What makes a task be waited for.
pub(crate) fn how(kind: ProviderKind) -> &'static str {
    match kind {
        ProviderKind::Owner => "owns the lock",
        ProviderKind::Joined | ProviderKind::Child => "is to end",
        ProviderKind::OtherEnd => "has the other end",
        ProviderKind::Shares => "shares it",
        ProviderKind::FileLock => "holds the file lock",
        ProviderKind::Tracer => "traces it",
        ProviderKind::Server => "serves it",
        ProviderKind::KernelLock => "holds the lock in the kernel",
        ProviderKind::Readers => "may hold it for reading",
    }
}

/// A node of the graph: who, and what it does itself.
pub(crate) fn node(snapshot: &Snapshot, node: &Node) -> String {
    match node {
        Node::Task(serial) => match snapshot.task(*serial) {
            Some(row) => format!("{} {}", who(row), does(row)),
            None => who_is(snapshot, *serial),
        },
        Node::OneOf(serials) => {
            format!("any of {}: {}", serials.len(), some(snapshot, serials))
        }
        Node::Outside => "somebody outside".to_owned(),
        Node::Nobody => "nobody that is left".to_owned(),
    }
}

/// What a task does now.
pub(crate) fn does(row: &Row) -> String {
    match (&row.wait, row.state) {
        (Some(wait), _) => format!("blocked {} in {}", length(wait), call(wait)),
        (None, State::Blocked) => "is blocked".to_owned(),
        (None, State::Runnable) => "wants a CPU".to_owned(),
        (None, State::Stopped) => "is stopped".to_owned(),
        (None, State::Running | State::Unknown) => "runs".to_owned(),
    }
}

/// Text for a terminal that may know nothing but ASCII.
pub(crate) fn shown(text: &str, ascii: bool) -> String {
    if !ascii || text.is_ascii() {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            'µ' => out.push('u'),
            '…' => out.push_str(".."),
            '↔' => out.push_str("<->"),
            '└' => out.push('`'),
            '─' => out.push('-'),
            c if c.is_ascii() => out.push(c),
            _ => out.push('?'),
        }
    }
    out
}

/// As much of a text as has room, and whether that is less than all with an ellipsis.
pub(crate) fn fit(text: &str, columns: usize, ascii: bool) -> String {
    let text = shown(text, ascii);
    if text.width() <= columns {
        return text;
    }
    let mark = if ascii { ".." } else { "…" };
    let room = columns.saturating_sub(mark.width());
    let (mut out, mut used) = (String::new(), 0);
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > room {
            break;
        }
        out.push(c);
    }
    // Where not even that has room.
    out.push_str(&mark[..if room == 0 { 0 } else { mark.len() }]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_says_so() {
        assert_eq!(fit("abcdef", 6, false), "abcdef");
        assert_eq!(fit("abcdef", 5, false), "abcd…");
        assert_eq!(fit("abcdef", 5, true), "abc..");
        assert_eq!(fit("日本語", 5, false), "日本…");
        assert_eq!(fit("日本語", 4, false), "日…");
        assert_eq!(fit("abc", 0, false), "");
        assert_eq!(fit("1.20 µs ↔ x", 20, true), "1.20 us <-> x");
    }
}
