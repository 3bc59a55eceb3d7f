//! What the helper told of functions, until it can be written, and what is told without it.

use super::{
    frames::GONE,
    symbols::{Answer, Of},
    unwind::{End, Walk},
};
use crate::trace::Frames;

/// What a question was about.
pub(super) enum Asked {
    Stack(u32, Of, Walk),
    Other,
}

/// Answers that wait until all was read that came before them.
#[derive(Default)]
pub(super) struct Answers {
    waiting: Vec<(Asked, Answer)>,
    /// The first of them can be written.
    ready: usize,
}

impl Answers {
    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// All was read that came before the first of them, of which there are so many.
    pub(super) fn was_read(&mut self, first: usize) {
        self.ready = self.ready.max(first.min(self.waiting.len()));
    }

    /// Takes in answers, and gives those that can be written, in the order in which they came.
    pub(super) fn ready(
        &mut self,
        more: impl Iterator<Item = (Asked, Answer)>,
    ) -> Vec<(Asked, Answer)> {
        self.waiting.extend(more);
        let ready = std::mem::take(&mut self.ready);
        self.waiting.drain(..ready).collect()
    }
}

/// A stack of a program that is no more: where its functions are in their files, if that is known.
pub(super) fn of_one_gone(number: u32, walk: &Walk) -> Frames {
    if !walk.places.is_empty() {
        return nameless(number, walk);
    }
    Frames {
        number,
        frames: vec![GONE.to_owned()],
        cut_off: true,
        waits_in: None,
    }
}

/// A stack of which no function was looked up.
pub(super) fn nameless(number: u32, walk: &Walk) -> Frames {
    let places = walk.places.iter().map(Some).chain(std::iter::repeat(None));
    let frames = walk.addresses.iter().zip(places);
    let frames = frames.map(|(address, place)| match place {
        Some(place) => place.text.clone(),
        None => format!("[{address:#x}]"),
    });
    Frames {
        number,
        frames: frames.collect(),
        cut_off: walk.end != End::Start,
        waits_in: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_waits_until_all_was_read_that_came_before_it() {
        let answer = |number| {
            (
                Asked::Stack(number, Of::Kernel, Walk::default()),
                Answer::default(),
            )
        };
        let mut answers = Answers::default();
        let told = |answers: &mut Answers, more: &[u32]| -> Vec<u32> {
            let more: Vec<_> = more.iter().copied().map(answer).collect();
            let ready = answers.ready(more.into_iter()).into_iter();
            let numbers = ready.filter_map(|(about, _)| match about {
                Asked::Stack(number, ..) => Some(number),
                Asked::Other => None,
            });
            numbers.collect()
        };
        assert!(told(&mut answers, &[0, 1]).is_empty());
        let before = answers.waiting();
        assert!(told(&mut answers, &[2]).is_empty());
        answers.was_read(before);
        assert_eq!(told(&mut answers, &[3]), [0, 1]);
        // What was read before is not read again.
        assert!(told(&mut answers, &[]).is_empty());
        answers.was_read(9);
        assert_eq!(told(&mut answers, &[]), [2, 3]);
    }
}
