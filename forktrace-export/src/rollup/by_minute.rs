//! The time of tasks, cut by the minute: sums of what each did in it.

use std::{collections::HashMap, io};

use forktrace_core::{
    analysis::Names,
    model::{InSyscall, Segment, Segments, State, Task},
};

use crate::Recording;

/// Length of a row's time, ns.
pub(crate) const MINUTE_NS: u64 = 60_000_000_000;

/// What tasks did in a minute.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sum {
    pub(crate) ns: u64,
    /// Times that began in this minute.
    pub(crate) count: u64,
    /// The longest of them, to its end, wherever that was.
    pub(crate) longest_ns: u64,
}

impl Sum {
    pub(crate) fn add(&mut self, more: Sum) {
        self.ns = self.ns.saturating_add(more.ns);
        self.count = self.count.saturating_add(more.count);
        self.longest_ns = self.longest_ns.max(more.longest_ns);
    }
}

/// What a task can be doing: a state, and of `blocked` the reason.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    pub(crate) state: &'static str,
    pub(crate) reason: Option<String>,
}

/// What states are called in tables, by [`State::index`].
pub(crate) const STATES: [(State, &str); 5] = [
    (State::Running, "running"),
    (State::Runnable, "runnable"),
    (State::Blocked, "blocked"),
    (State::Stopped, "stopped"),
    (State::Unknown, "unknown"),
];

/// A sum of a task: its index in the model, minutes since 1970, which of the kinds, and the sum.
pub(crate) type Told = (usize, u64, usize, Sum);

/// Goes through the time of all tasks.
pub(crate) struct ByMinute<'a> {
    recording: Recording<'a>,
    tasks: Vec<OfTask<'a>>,
    kinds: Kinds<'a>,
    under_way: UnderWay,
}

/// What tasks were doing.
struct Kinds<'a> {
    names: &'a Names<'a>,
    all: Vec<Kind>,
    calls: HashMap<InCall, usize>,
    /// The last call, which mostly comes again.
    last: Option<(InCall, usize)>,
}

/// A call, and whether the kernel's own task is in it.
type InCall = (InSyscall, bool);

struct OfTask<'a> {
    segments: Segments<'a>,
    rest: Option<Piece>,
}

/// A time in which a task did one thing, ns since 1970, or what is left of it.
#[derive(Clone, Copy)]
struct Piece {
    kind: usize,
    from: u64,
    to: u64,
    /// Of the whole, if it begins here.
    length: Option<u64>,
}

impl<'a> ByMinute<'a> {
    pub(crate) fn new(recording: Recording<'a>, names: &'a Names<'a>) -> Self {
        let tasks = recording.model.tasks.iter().map(|task| OfTask {
            segments: task.segments(),
            rest: None,
        });
        let kinds = STATES.map(|(_, state)| Kind {
            state,
            reason: None,
        });
        Self {
            recording,
            tasks: tasks.collect(),
            kinds: Kinds {
                names,
                all: kinds.into(),
                calls: HashMap::new(),
                last: None,
            },
            under_way: UnderWay::default(),
        }
    }

    /// When the first task began and the last one ended, ns since 1970.
    pub(crate) fn lived(&self) -> Option<(u64, u64)> {
        let tasks = &self.recording.model.tasks;
        let from = tasks.iter().map(|task| task.start_ns).min()?;
        let to = tasks.iter().map(|task| task.end_ns).max()?;
        Some((self.unix(from), self.unix(to)))
    }

    fn unix(&self, ns: u64) -> u64 {
        self.recording.info.header.start_unix_ns.saturating_add(ns)
    }

    /// What can be asked of [`Told`]'s numbers.
    #[cfg(feature = "parquet")]
    pub(crate) fn kinds(&self) -> &[Kind] {
        &self.kinds.all
    }

    /// Tells what tasks did up to a moment, ns since 1970, of which nothing was told yet: task by
    /// task, the minutes of each in their order. A minute may come in several sums.
    ///
    /// # Errors
    /// Those of `sink`.
    pub(crate) fn until(
        &mut self,
        until: u64,
        sink: &mut dyn FnMut(&[Kind], Told) -> io::Result<()>,
    ) -> io::Result<()> {
        let start_unix_ns = self.recording.info.header.start_unix_ns;
        let before_ns = match until {
            u64::MAX => u64::MAX,
            until => until.saturating_sub(start_unix_ns),
        };
        let Self {
            kinds, under_way, ..
        } = self;
        let tasks = self.tasks.iter_mut().zip(&self.recording.model.tasks);
        for (at, (of, task)) in tasks.enumerate() {
            if of.rest.is_some_and(|rest| rest.from >= until) {
                continue;
            }
            // Gives false where it is not over by then, or can't be told.
            let mut told = Ok(());
            let mut take = |piece: Piece, kinds: &Kinds<'_>, rest: &mut Option<Piece>| {
                if under_way.take(&piece) {
                    return true;
                }
                let mut tell = |minute, kind, sum| sink(&kinds.all, (at, minute, kind, sum));
                let flushed = under_way.flush(&mut tell);
                match flushed.and_then(|()| cut(&piece, until, &mut tell)) {
                    Ok(left) => *rest = left,
                    Err(error) => told = Err(error),
                }
                under_way.begin((piece.to / MINUTE_NS, kinds.all.len()));
                rest.is_none() && told.is_ok()
            };
            let is_over = match of.rest.take() {
                Some(rest) => take(rest, kinds, &mut of.rest),
                None => true,
            };
            if is_over {
                of.segments.each_before(before_ns, |segment, _| {
                    let piece = kinds.piece(task, segment, start_unix_ns);
                    take(piece, kinds, &mut of.rest)
                });
            }
            told?;
            let mut tell = |minute, kind, sum| sink(&kinds.all, (at, minute, kind, sum));
            under_way.flush(&mut tell)?;
            under_way.begin((u64::MAX, 0));
        }
        Ok(())
    }
}

impl Kinds<'_> {
    #[inline]
    fn piece(&mut self, task: &Task, segment: &Segment, start_unix_ns: u64) -> Piece {
        let unix = |ns: u64| start_unix_ns.saturating_add(ns);
        let kind = match segment.syscall {
            Some(call) => self.of(task, call),
            None => segment.state.index(),
        };
        Piece {
            kind,
            from: unix(segment.start_ns),
            to: unix(segment.end_ns),
            length: Some(segment.end_ns - segment.start_ns),
        }
    }

    /// Of a task that is blocked in a call.
    #[inline]
    fn of(&mut self, task: &Task, call: InSyscall) -> usize {
        let key = (call, task.kernel_worker);
        match self.last {
            Some((same, kind)) if same == key => kind,
            _ => self.find(task, key),
        }
    }

    fn find(&mut self, task: &Task, key: InCall) -> usize {
        let kind = match self.calls.get(&key) {
            Some(known) => *known,
            None => {
                let kind = Kind {
                    state: "blocked",
                    reason: Some(self.names.reason_in(task, key.0).0),
                };
                let known = self.all.iter().position(|it| *it == kind);
                let at = known.unwrap_or_else(|| {
                    self.all.push(kind);
                    self.all.len() - 1
                });
                self.calls.insert(key, at);
                at
            }
        };
        self.last = Some((key, kind));
        kind
    }
}

/// Tells a piece by minutes, up to a moment; gives what is left then.
fn cut(
    piece: &Piece,
    until: u64,
    tell: &mut dyn FnMut(u64, usize, Sum) -> io::Result<()>,
) -> io::Result<Option<Piece>> {
    let to = piece.to.min(until);
    let mut length = piece.length;
    pieces((piece.from, to), &mut |minute, sum| {
        let sum = Sum {
            count: u64::from(length.is_some()),
            longest_ns: length.take().unwrap_or(0),
            ..sum
        };
        tell(minute, piece.kind, sum)
    })?;
    Ok((to < piece.to).then_some(Piece {
        from: to,
        length,
        ..*piece
    }))
}

/// A time from and to, ns since 1970, by minutes.
pub(crate) fn pieces(
    (from, to): (u64, u64),
    tell: &mut dyn FnMut(u64, Sum) -> io::Result<()>,
) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let minute = at / MINUTE_NS;
        let next = to.min((minute + 1).saturating_mul(MINUTE_NS));
        let begins = at == from;
        let sum = Sum {
            ns: next - at,
            count: u64::from(begins),
            longest_ns: if begins { to - from } else { 0 },
        };
        tell(minute, sum)?;
        at = next;
    }
    Ok(())
}

/// The minute that a task is in, with its sums by kind.
#[derive(Default)]
struct UnderWay {
    minute: u64,
    from: u64,
    to: u64,
    sums: Vec<Sum>,
}

impl UnderWay {
    fn begin(&mut self, (minute, kinds): (u64, usize)) {
        self.minute = minute;
        self.from = minute.saturating_mul(MINUTE_NS);
        self.to = minute.saturating_add(1).saturating_mul(MINUTE_NS);
        self.sums.resize(kinds.max(self.sums.len()), Sum::default());
    }

    /// Adds a piece, if it is whole in this minute and of a kind that is known.
    fn take(&mut self, piece: &Piece) -> bool {
        let inside = self.from <= piece.from && piece.to <= self.to;
        let Some(sum) = self.sums.get_mut(piece.kind).filter(|_| inside) else {
            return false;
        };
        sum.add(Sum {
            ns: piece.to - piece.from,
            count: u64::from(piece.length.is_some()),
            longest_ns: piece.length.unwrap_or(0),
        });
        true
    }

    fn flush(&mut self, tell: &mut dyn FnMut(u64, usize, Sum) -> io::Result<()>) -> io::Result<()> {
        for (kind, sum) in self.sums.iter_mut().enumerate() {
            if sum.ns > 0 || sum.count > 0 {
                tell(self.minute, kind, std::mem::take(sum))?;
            }
        }
        Ok(())
    }
}
