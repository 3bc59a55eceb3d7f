//! What went wrong with helpers.

use super::{Kind, fence::memory_of};
use crate::trace::{Event, HelperEnd, HelperLost, How};

/// A longer reason is cut: it comes from a helper.
const LONGEST_REASON: usize = 300;

/// What went wrong with helpers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Troubles {
    /// Times that one did not answer in time, and was abandoned.
    pub(crate) stuck: u64,
    /// Times that one died, or said what it can't have meant.
    pub(crate) died: u64,
    /// Questions that were not answered for either.
    pub(crate) unanswered: u64,
    /// Times that a file was cut short while its functions were looked up.
    pub(crate) cut: u64,
    /// How those that died did, as far as that is known.
    ends: Vec<(Kind, How)>,
}

impl Troubles {
    /// One died, and this is known of it.
    pub(super) fn ended(&mut self, of: Kind, how: How) {
        let how = match how {
            How::NotBegun(why) => How::NotBegun(why.chars().take(LONGEST_REASON).collect()),
            how => how,
        };
        self.ends.push((of, how));
    }

    /// Those that died and of which nothing is known so far.
    pub(crate) fn unexplained(&self) -> usize {
        usize::try_from(self.died)
            .unwrap_or(usize::MAX)
            .saturating_sub(self.ends.len())
    }

    /// For the trace; `None`: there were none.
    pub(crate) fn event(mut self) -> Option<Event> {
        self.ends.sort();
        let mut ends: Vec<HelperEnd> = Vec::new();
        for (of, how) in self.ends {
            match ends.last_mut() {
                Some(last) if last.of == of && last.how == how => last.times += 1,
                _ => ends.push(HelperEnd {
                    of,
                    how,
                    times: 1,
                    memory_bytes: memory_of(of),
                }),
            }
        }
        if self.cut > 0 {
            ends.push(HelperEnd {
                of: Kind::Symbols,
                how: How::FileCut,
                times: self.cut,
                memory_bytes: 0,
            });
        }
        let lost = HelperLost {
            stuck: self.stuck,
            died: self.died,
            unanswered: self.unanswered,
            ends,
        };
        (lost != HelperLost::default()).then_some(Event::HelperLost(lost))
    }
}

impl std::ops::Add for Troubles {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self.ends.extend(other.ends);
        Self {
            stuck: self.stuck + other.stuck,
            died: self.died + other.died,
            unanswered: self.unanswered + other.unanswered,
            cut: self.cut + other.cut,
            ends: self.ends,
        }
    }
}

impl Extend<(Kind, How)> for Troubles {
    fn extend<T: IntoIterator<Item = (Kind, How)>>(&mut self, ends: T) {
        self.ends.extend(ends);
    }
}
