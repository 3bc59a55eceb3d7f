//! How much memory a file may take when it is unpacked.
//!
//! Blocks are compressed, and equal bytes to a thousandth. A file that somebody made for it
//! could take all memory of the machine, where an honest one takes 10 to 60 times its
//! length; but one of tens of thousands of tasks that slept throughout, 18 bytes each, takes
//! 500 times as much.

use std::mem::size_of;

use crate::trace::{Event, FileKind, Frames, GivenWhat, WaitFd, Watched};

/// What each file may take, bytes.
const LEAST: u64 = 64 << 20;
/// What a file may take in addition, per byte of its length…
const PER_BYTE: u64 = 256;
/// …or so much a byte, up to so much in all.
const OF_MANY_TASKS: u64 = 1024;
const MOST_OF_MANY_TASKS: u64 = 1 << 30;

/// What is left for the events of a file.
pub(super) struct Budget {
    left: u64,
}

impl Budget {
    pub(super) fn of_file(len: usize) -> Self {
        let by_length = |bytes: u64| bytes.saturating_mul(len as u64);
        let of_many_tasks = by_length(OF_MANY_TASKS).min(MOST_OF_MANY_TASKS);
        Self {
            left: LEAST.saturating_add(by_length(PER_BYTE).max(of_many_tasks)),
        }
    }

    /// Takes so many bytes; false when they are more than are left.
    pub(super) fn take(&mut self, bytes: u64) -> bool {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

/// The same of a stretch.
pub(super) const STRETCH: u64 = size_of::<Event>() as u64 + 64;

/// What an event takes until its report is written, in the model and as rows of the
/// report, bytes: an estimate, rather too high.
pub(super) fn memory_of(event: &Event) -> u64 {
    // Of a task: the row of its report alone is 2 KiB.
    const TASK: usize = 4096;
    // Of a text in a row of a list.
    const TEXT: usize = 64;
    // Of a row of the report that is no task.
    const ROW: usize = 512;
    let own = size_of::<Event>();
    let bytes = own
        + match event {
            Event::Stretch(_) => return STRETCH,
            Event::Totals(_)
            | Event::Stacks(_)
            | Event::PollsLeftOut(_)
            | Event::PollsCounted(_)
            | Event::TablesRefused(_)
            | Event::MarksUnread(_)
            | Event::Attached(_)
            | Event::Lag(_)
            | Event::LagCounts(_)
            | Event::WaitsIn(_) => 0,
            Event::HelperLost(lost) => lost.ends.len() * ROW,
            Event::Born(b) => TASK + 2 * b.comm.len(),
            Event::Task(t) => TASK + 2 * t.born.comm.len(),
            Event::Untracked(u) | Event::UntrackedEnd(u) => TASK + 2 * u.comm.len(),
            Event::Exec(e) => ROW + 2 * e.comm.len(),
            Event::Argv(a) => ROW + a.argv.iter().map(|arg| TEXT + 2 * arg.len()).sum::<usize>(),
            Event::Cgroup(c) => ROW + 2 * c.path.len(),
            Event::Outsider(o) => ROW + 2 * o.comm.len(),
            Event::CpuUser(u) => 2 * u.comm.len(),
            Event::Poll(_) | Event::Object(_) | Event::Signal(_) => ROW,
            Event::Waitset(w) => ROW + w.fds.len() * 4 * size_of::<WaitFd>(),
            Event::Named(n) => ROW + text_of(&n.kind),
            Event::Given(g) => {
                ROW + match &g.what {
                    GivenWhat::Path(path) | GivenWhat::Page(path) => 2 * path.len(),
                    GivenWhat::Semaphores { .. }
                    | GivenWhat::Messages { .. }
                    | GivenWhat::Set(_)
                    | GivenWhat::Signals(_) => 0,
                }
            }
            Event::Interest(i) => {
                let fd = |fd: &Watched| size_of::<Watched>() + fd.kind.as_ref().map_or(0, text_of);
                ROW + i.fds.iter().map(fd).sum::<usize>()
            }
            Event::SharedFutex(f) => ROW + 2 * f.path.len(),
            Event::LockName(n) => ROW + 2 * (n.name.len() + n.module.len()),
            Event::Frames(Frames { frames, .. }) => {
                frames.iter().map(|name| TEXT + 2 * name.len()).sum()
            }
            Event::Mark(m) => ROW + 2 * m.name.len() + json(&m.fields),
            Event::MarksRefused(m) => 2 * m.example.len(),
            Event::Deadlock(d) => ROW + d.tasks.len() * ROW,
            Event::Providers(p) => ROW + 2 * p.tasks.len() * size_of::<u32>(),
        };
    bytes as u64
}

/// What JSON takes when it is unpacked: an object is a tree with a node of its own, however
/// little there is in it, and a list and each of its values are some words.
fn json(text: &str) -> usize {
    const NODE: usize = 768;
    const VALUE: usize = 96;
    let values = text.bytes().map(|byte| match byte {
        b'{' => NODE,
        b'[' | b',' => VALUE,
        _ => 3,
    });
    values.sum()
}

/// The bytes of a kind's texts, twice.
fn text_of(kind: &FileKind) -> usize {
    2 * match kind {
        FileKind::File(text)
        | FileKind::Directory(text)
        | FileKind::Fifo(text)
        | FileKind::OtherSocket(text)
        | FileKind::Terminal(text)
        | FileKind::Device(text)
        | FileKind::Other(text) => text.len(),
        FileKind::UnixSocket { path, .. } => path.as_ref().map_or(0, String::len),
        FileKind::InetSocket {
            protocol,
            local,
            remote,
            ..
        } => protocol.len() + local.len() + remote.len(),
        FileKind::Pipe
        | FileKind::EventFd
        | FileKind::TimerFd
        | FileKind::SignalFd
        | FileKind::PidFd(_)
        | FileKind::Notify
        | FileKind::Epoll
        | FileKind::IoUring => 0,
    }
}

#[cfg(test)]
mod tests {
    /// Measured with a report of 38 such marks: some 560 bytes for each `{"":0}`.
    #[test]
    fn small_objects_count_for_the_trees_that_they_are() {
        assert!(super::json(r#"{"":0},"#) > 560);
        assert!(super::json(r#"{"value":"a long text that takes what it is"}"#) < 1_000);
    }
}
