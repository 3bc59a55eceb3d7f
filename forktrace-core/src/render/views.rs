//! The views of a report: each shows one side of it whole.

/// A view of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Show {
    /// All findings, with what each rests on.
    Findings,
    /// When all tasks were blocked at once, and what that is put down to.
    Stalls,
    /// The longest stalls one by one, each with its chain of wakers.
    Episodes,
    /// The critical path: what the run took its time for.
    Path,
    /// Locks and other futexes that were waited for.
    Locks,
    /// Everything that was waited for, and in which calls.
    Waits,
    /// A row a role, and a row a task.
    Tasks,
    /// Who ended whose waits.
    Wakers,
    /// Where tasks blocked, and where they were woken, if stacks were recorded.
    Stacks,
    /// Pairs of tasks that were blocked together more than by chance.
    Pairs,
    /// Calls of select, poll and epoll.
    Polls,
    /// How long data waited in sockets until tasks read it (--lag).
    Lag,
    /// What the kernel stopped or held off the CPUs.
    Stops,
    /// What the workload said about itself.
    Marks,
    /// What the figures are worth.
    Audit,
    /// The summary, and then every view (the same as -v).
    All,
}

impl Show {
    /// Every view, in the order in which they are shown.
    pub const VIEWS: [Self; 15] = [
        Self::Findings,
        Self::Stalls,
        Self::Episodes,
        Self::Path,
        Self::Locks,
        Self::Waits,
        Self::Tasks,
        Self::Wakers,
        Self::Stacks,
        Self::Pairs,
        Self::Polls,
        Self::Lag,
        Self::Stops,
        Self::Marks,
        Self::Audit,
    ];
}

/// Several views.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Views(u16);

impl Views {
    /// None.
    pub const NONE: Self = Self(0);

    /// Is it one of them?
    pub fn has(self, view: Show) -> bool {
        self.0 & 1 << view as u16 != 0
    }

    /// Are there none?
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }
}

impl FromIterator<Show> for Views {
    fn from_iter<T: IntoIterator<Item = Show>>(views: T) -> Self {
        Self(
            views
                .into_iter()
                .fold(0, |all, view| all | 1 << view as u16),
        )
    }
}
