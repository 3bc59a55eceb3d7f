//! Questions to a helper and its answers, in order: a number of bytes and so many bytes of
//! postcard, each.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read as _, Write as _},
    marker::PhantomData,
    os::unix::net::UnixStream,
    rc::Rc,
    time::{Duration, Instant},
};

use nix::{
    sys::time::TimeValLike as _,
    time::{ClockId, clock_gettime},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{Kind, Nursery};
use crate::trace::{Event, HelperLost};

/// A longer question or answer is none.
const LONGEST: usize = 8 << 20;
/// Less is read at a time.
const CHUNK: usize = 64 << 10;

/// What went wrong with a helper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Troubles {
    /// Times that it did not answer in time, and was abandoned.
    pub(crate) stuck: u64,
    /// Times that it died, or said what it can't have meant.
    pub(crate) died: u64,
    /// Questions that were not answered for either.
    pub(crate) unanswered: u64,
}

impl Troubles {
    /// For the trace; `None`: there were none.
    pub(crate) fn event(self) -> Option<Event> {
        let lost = HelperLost {
            stuck: self.stuck,
            died: self.died,
            unanswered: self.unanswered,
        };
        (self != Self::default()).then_some(Event::HelperLost(lost))
    }
}

impl std::ops::Add for Troubles {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            stuck: self.stuck + other.stuck,
            died: self.died + other.died,
            unanswered: self.unanswered + other.unanswered,
        }
    }
}

/// The recorder's end. `P` is kept with each question until it is answered.
pub(crate) struct Channel<P, A> {
    nursery: Rc<Nursery>,
    kind: Kind,
    /// `None`: lost too often.
    socket: Option<UnixStream>,
    /// What the socket had no room for.
    unsent: Vec<u8>,
    received: Vec<u8>,
    asked: VecDeque<Asked<P>>,
    /// Since when the helper has been at the first of them.
    since: Instant,
    patience: Duration,
    /// A helper that is lost is replaced so many times.
    most_replaced: u64,
    troubles: Troubles,
    cpu_ns: u64,
    answer: PhantomData<fn() -> A>,
}

struct Asked<P> {
    about: P,
    question: Vec<u8>,
}

/// What came of the questions since the last look.
pub(crate) struct Received<P, A> {
    /// Answers, and the CPU time that each took, ns.
    pub(crate) answers: Vec<(P, A, u64)>,
    /// Questions that will never be answered.
    pub(crate) lost: Vec<P>,
    /// A new helper has begun, which knows nothing: [`Channel::go_on`] is to be called.
    pub(crate) anew: bool,
}

impl<P, A: DeserializeOwned> Channel<P, A> {
    /// To a new helper, which may take so long for an answer, and is replaced so many times
    /// when it is lost: one that is stuck stays there as long as what it waits for.
    ///
    /// # Errors
    /// When there is none to be had.
    pub(crate) fn new(
        nursery: &Rc<Nursery>,
        kind: Kind,
        patience: Duration,
        most_replaced: u64,
    ) -> io::Result<Self> {
        Ok(Self {
            socket: Some(nursery.helper(kind)?),
            nursery: nursery.clone(),
            kind,
            unsent: Vec::new(),
            received: Vec::new(),
            asked: VecDeque::new(),
            since: Instant::now(),
            patience,
            most_replaced,
            troubles: Troubles::default(),
            cpu_ns: 0,
            answer: PhantomData,
        })
    }

    /// Is there somebody to ask?
    pub(crate) fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Questions that are not answered yet.
    pub(crate) fn waiting(&self) -> usize {
        self.asked.len()
    }

    /// CPU time that the answers took, ns.
    pub(crate) fn cpu_ns(&self) -> u64 {
        self.cpu_ns
    }

    /// What went wrong so far.
    pub(crate) fn troubles(&self) -> Troubles {
        self.troubles
    }

    /// Asks. Nobody waits, and what can't be sent now is kept: who asks bounds how much.
    pub(crate) fn ask(&mut self, about: P, question: &impl Serialize) {
        let payload = postcard::to_stdvec(question).unwrap_or_default();
        if !self.is_open() || payload.is_empty() || payload.len() > LONGEST {
            // Nothing that we ask is so long: the next look tells.
            self.troubles.unanswered += 1;
            return;
        }
        if self.asked.is_empty() {
            self.since = Instant::now();
        }
        let question = framed(&payload);
        self.unsent.extend_from_slice(&question);
        self.asked.push_back(Asked { about, question });
        self.send();
    }

    fn send(&mut self) {
        let Some(socket) = &mut self.socket else {
            return;
        };
        while !self.unsent.is_empty() {
            match socket.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Full, or its end has gone: reading tells which.
                Err(_) => break,
            }
        }
    }

    /// Takes what has been answered. A helper that is lost is replaced.
    pub(crate) fn receive(&mut self) -> Received<P, A> {
        let mut received = Received {
            answers: Vec::new(),
            lost: Vec::new(),
            anew: false,
        };
        let sane = self.take_answers(&mut received.answers);
        if !received.answers.is_empty() {
            self.since = Instant::now();
        }
        let stuck = !self.asked.is_empty() && self.since.elapsed() > self.patience;
        if self.is_open() && (!sane || stuck) {
            if sane {
                self.troubles.stuck += 1;
            } else {
                self.troubles.died += 1;
            }
            self.replace(&mut received);
        }
        self.send();
        received
    }

    /// Gives whether the helper lives and makes sense.
    fn take_answers(&mut self, answers: &mut Vec<(P, A, u64)>) -> bool {
        let Some(socket) = &mut self.socket else {
            return true;
        };
        let mut chunk = [0; CHUNK];
        let mut lives = true;
        loop {
            match socket.read(&mut chunk) {
                Ok(0) => lives = false,
                Ok(len) => {
                    self.received.extend_from_slice(&chunk[..len]);
                    if self.received.len() < LONGEST {
                        continue;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => lives = false,
            }
            break;
        }
        let mut rest = &*self.received;
        while let Some(frame) = unframed(rest) {
            let Ok(frame) = frame else { return false };
            rest = &rest[4 + frame.len()..];
            let Ok((cpu_ns, answer)) = postcard::from_bytes::<(u64, A)>(frame) else {
                return false;
            };
            // It answers what it was asked, and nothing else.
            let Some(asked) = self.asked.pop_front() else {
                return false;
            };
            self.cpu_ns += cpu_ns;
            answers.push((asked.about, answer, cpu_ns));
        }
        let left = rest.len();
        self.received.drain(..self.received.len() - left);
        lives
    }

    fn replace(&mut self, received: &mut Received<P, A>) {
        self.unsent.clear();
        self.received.clear();
        // The one that it hung or died of is not asked again.
        received
            .lost
            .extend(self.asked.pop_front().map(|a| a.about));
        let may_go_on = self.troubles.stuck + self.troubles.died <= self.most_replaced;
        self.socket = may_go_on
            .then(|| self.nursery.helper(self.kind).ok())
            .flatten();
        self.since = Instant::now();
        received.anew = self.is_open();
        if !self.is_open() {
            self.nursery.abandon(self.kind);
            received.lost.extend(self.asked.drain(..).map(|a| a.about));
        }
        self.troubles.unanswered += received.lost.len() as u64;
    }

    /// Waits for no more answers. Gives what was not answered.
    pub(crate) fn give_up(&mut self) -> Vec<P> {
        let asked: Vec<P> = self.asked.drain(..).map(|asked| asked.about).collect();
        if !asked.is_empty() {
            self.troubles.stuck += 1;
            self.troubles.unanswered += asked.len() as u64;
        }
        self.socket = None;
        asked
    }

    /// Asks the new helper what it has to know at first, and then what the lost one did
    /// not answer.
    pub(crate) fn go_on<Q: Serialize>(&mut self, first: impl IntoIterator<Item = (P, Q)>) {
        let again = std::mem::take(&mut self.asked);
        for (about, question) in first {
            self.ask(about, &question);
        }
        for asked in again {
            self.unsent.extend_from_slice(&asked.question);
            self.asked.push_back(asked);
        }
        self.send();
    }
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(4 + payload.len());
    frame.extend((payload.len() as u32).to_ne_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The first frame of these bytes; `None`: it is not all there.
fn unframed(bytes: &[u8]) -> Option<Result<&[u8], TooLong>> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = u32::from_ne_bytes(*length) as usize;
    if length > LONGEST {
        return Some(Err(TooLong));
    }
    rest.get(..length).map(Ok)
}

struct TooLong;

/// The helper's end: answers until nobody asks any more.
pub(crate) fn serve<Q: DeserializeOwned, A: Serialize>(
    mut socket: UnixStream,
    mut answer: impl FnMut(Q) -> A,
) -> io::Result<()> {
    let mut frame = Vec::new();
    loop {
        let mut length = [0; 4];
        socket.read_exact(&mut length)?;
        let length = u32::from_ne_bytes(length) as usize;
        if length > LONGEST {
            return Err(ErrorKind::InvalidData.into());
        }
        frame.resize(length, 0);
        socket.read_exact(&mut frame)?;
        let question = postcard::from_bytes(&frame).map_err(io::Error::other)?;
        let before_ns = cpu_ns();
        let answer = answer(question);
        let used_ns = cpu_ns().saturating_sub(before_ns);
        let payload = postcard::to_stdvec(&(used_ns, answer)).map_err(io::Error::other)?;
        socket.write_all(&framed(&payload))?;
    }
}

/// CPU time of this process.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID);
    time.map_or(0, |time| time.num_nanoseconds() as u64)
}
