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
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Kind, Troubles};
use crate::trace::How;

/// A longer question or answer is none.
const LONGEST: usize = 8 << 20;
/// Less is read at a time. It is zeroed at each look, and most answers are short.
const CHUNK: usize = 4 << 10;

/// What a helper says.
#[derive(Debug, Serialize, Deserialize)]
enum Reply<A> {
    /// It answers, and says what CPU time that took, ns.
    Answer(u64, A),
    /// It can't do its work here at all.
    NotBegun(String),
}

/// Where helpers come from.
pub(crate) trait Helpers {
    /// A new one in place of the last one of this kind, which is killed if it can be; in
    /// words, why there is none.
    fn helper(&self, kind: Kind) -> Result<UnixStream, String>;

    /// No helper of this kind is wanted any more.
    fn abandon(&self, kind: Kind);
}

/// The recorder's end. `P` is kept with each question until it is answered.
pub(crate) struct Channel<P, A> {
    helpers: Rc<dyn Helpers>,
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

/// How a helper is.
enum State {
    Lives,
    Gone,
    /// What it says is no answer.
    Senseless,
    /// It says why it can't work here.
    NotBegun(String),
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
    /// when it is lost: one that is stuck stays there as long as what it waits for. If
    /// there is none to be had, the recording goes without, and the troubles say why.
    pub(crate) fn new(
        helpers: Rc<dyn Helpers>,
        kind: Kind,
        patience: Duration,
        most_replaced: u64,
    ) -> Self {
        let mut channel = Self {
            socket: None,
            helpers,
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
        };
        channel.begin();
        channel
    }

    /// Lets a new helper begin, if there is one to be had.
    fn begin(&mut self) {
        match self.helpers.helper(self.kind) {
            Ok(socket) => self.socket = Some(socket),
            Err(why) => {
                self.socket = None;
                self.troubles.died += 1;
                self.troubles.ended(self.kind, How::NotBegun(why));
            }
        }
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
        self.troubles.clone()
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
        let state = self.take_answers(&mut received.answers);
        if !received.answers.is_empty() {
            self.since = Instant::now();
        }
        let overdue = !self.asked.is_empty() && self.since.elapsed() > self.patience;
        match state {
            _ if !self.is_open() => {}
            State::Lives if overdue => {
                self.troubles.stuck += 1;
                self.replace(&mut received);
            }
            State::Lives => {}
            // Of what it died the nursery sees.
            State::Gone => {
                self.troubles.died += 1;
                self.replace(&mut received);
            }
            State::Senseless => {
                self.troubles.died += 1;
                self.troubles.ended(self.kind, How::Senseless);
                self.replace(&mut received);
            }
            // The next one could not either.
            State::NotBegun(why) => {
                self.troubles.died += 1;
                self.troubles.ended(self.kind, How::NotBegun(why));
                self.close(&mut received);
            }
        }
        self.send();
        received
    }

    fn take_answers(&mut self, answers: &mut Vec<(P, A, u64)>) -> State {
        let Some(socket) = &mut self.socket else {
            return State::Lives;
        };
        let mut chunk = [0; CHUNK];
        let mut state = State::Lives;
        loop {
            match socket.read(&mut chunk) {
                Ok(0) => state = State::Gone,
                Ok(len) => {
                    self.received.extend_from_slice(&chunk[..len]);
                    if self.received.len() < LONGEST {
                        continue;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => state = State::Gone,
            }
            break;
        }
        let mut rest = &*self.received;
        while let Some(frame) = unframed(rest) {
            let Ok(frame) = frame else {
                return State::Senseless;
            };
            rest = &rest[4 + frame.len()..];
            let (cpu_ns, answer) = match postcard::take_from_bytes::<Reply<A>>(frame) {
                Ok((Reply::Answer(cpu_ns, answer), [])) => (cpu_ns, answer),
                Ok((Reply::NotBegun(why), [])) => return State::NotBegun(why),
                _ => return State::Senseless,
            };
            // It answers what it was asked, and nothing else.
            let Some(asked) = self.asked.pop_front() else {
                return State::Senseless;
            };
            self.cpu_ns = self.cpu_ns.saturating_add(cpu_ns);
            answers.push((asked.about, answer, cpu_ns));
        }
        let left = rest.len();
        self.received.drain(..self.received.len() - left);
        state
    }

    fn replace(&mut self, received: &mut Received<P, A>) {
        // The one that it hung or died of is not asked again.
        let lost = self.asked.pop_front().map(|asked| asked.about);
        self.troubles.unanswered += u64::from(lost.is_some());
        received.lost.extend(lost);
        if self.troubles.stuck + self.troubles.died > self.most_replaced {
            return self.close(received);
        }
        self.unsent.clear();
        self.received.clear();
        self.begin();
        self.since = Instant::now();
        received.anew = self.is_open();
        if !self.is_open() {
            self.close(received);
        }
    }

    /// Nobody is asked any more.
    fn close(&mut self, received: &mut Received<P, A>) {
        self.socket = None;
        self.unsent.clear();
        self.received.clear();
        self.helpers.abandon(self.kind);
        self.troubles.unanswered += self.asked.len() as u64;
        let lost = self.asked.drain(..).map(|asked| asked.about);
        received.lost.extend(lost);
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
        match socket.read_exact(&mut length) {
            // The recorder has closed its end.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
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
        send(&mut socket, &Reply::Answer(used_ns, answer))?;
    }
}

/// Says that this helper can't do its work here at all.
pub(crate) fn say_why_not(mut socket: UnixStream, why: &str) -> io::Result<()> {
    send(&mut socket, &Reply::<()>::NotBegun(why.to_owned()))
}

fn send<A: Serialize>(socket: &mut UnixStream, reply: &Reply<A>) -> io::Result<()> {
    let payload = postcard::to_stdvec(reply).map_err(io::Error::other)?;
    socket.write_all(&framed(&payload))
}

/// CPU time of this process.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID);
    time.map_or(0, |time| time.num_nanoseconds() as u64)
}

#[cfg(test)]
#[path = "channel_tests.rs"]
mod tests;
