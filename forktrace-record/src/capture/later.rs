//! Attaches the syscall tracepoints of the select/poll family once it is worth it: from then
//! on every syscall of the machine is slower.
//!
//! By then the recorder has given up the rights that it takes, and the kernel can take
//! its time. So a process is forked before, which has nothing but the programs and those
//! rights; it waits until it is told to begin, and holds what it has attached until its
//! other end is gone.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
    panic::{AssertUnwindSafe, catch_unwind},
};

use anyhow::{Context as _, Result, bail};
use forktrace_common::layout::Layout;
use nix::unistd::Pid;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send,
        shutdown, socketpair,
    },
    process::{WaitOptions, waitpid},
    thread::CapabilitySet,
};

use super::{
    Programs,
    polls::{self, Wished},
};
use crate::{
    clock::now_ns,
    helper::{forked, leave_everything},
    limits,
    privileges::keep_only,
    trace::{PollWay, PollsCounted},
};

/// To open perf events of tracepoints, to attach programs to them, and to read tracefs where
/// only root may.
const RIGHTS: CapabilitySet = CapabilitySet::PERFMON
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::DAC_READ_SEARCH);

/// A message is no longer, bytes.
const LONGEST: usize = 1024;

/// How calls of the family are counted, and what attaches the programs for that, where they
/// are not yet.
pub(super) struct Polls {
    pub(super) way: PollWay,
    pub(super) later: Option<Later>,
}

impl From<PollWay> for Polls {
    fn from(way: PollWay) -> Self {
        Self { way, later: None }
    }
}

impl Polls {
    /// Does what takes that this process has one thread.
    pub(super) fn ready(wished: Wished, programs: &mut Programs<'_>, layout: &Layout) -> Self {
        let (no_fentry, loaded) = match wished {
            Wished::Attached(way) => return way.into(),
            Wished::Later { no_fentry, loaded } => (no_fentry, loaded),
        };
        match loaded.and_then(|()| Later::start(programs, layout)) {
            Ok(later) => Self {
                way: PollWay::Tracepoint,
                later: Some(later),
            },
            Err(no_tracepoint) => {
                let why = format!(
                    "fentry: {no_fentry:#}; syscall tracepoints: {no_tracepoint:#}; \
                     `--polls raw` works, at about 40 ns for each syscall of the machine"
                );
                PollWay::None { why }.into()
            }
        }
    }
}

/// The recorder's end of the process that attaches. What that has attached goes with it.
pub struct Later {
    process: Pid,
    socket: OwnedFd,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waits,
    Attaches,
    Done,
}

impl Later {
    /// Starts it, and waits until it is ready. This process must have one thread. The
    /// programs are loaded and not attached.
    ///
    /// # Errors
    /// When there can be no such process, or it sees that it won't be able to.
    pub(super) fn start(programs: &mut Programs<'_>, layout: &Layout) -> Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .context("no socket for the process that attaches them")?;
        let mut kept = polls::tracepoint_programs(programs)?;
        kept.push(its.as_raw_fd());
        let forked = limits::tried_again(forked).map_err(limits::no_process);
        if let Some(process) = forked.context("no process that attaches them")? {
            drop(its);
            let mut message = [0; LONGEST];
            let length = receive(&ours, &mut message, RecvFlags::empty())?;
            return match &message[..length] {
                [] => bail!("the process that attaches them ended"),
                [READY] => Ok(Self {
                    process,
                    socket: ours,
                    stage: Stage::Waits,
                }),
                why => bail!("{}", String::from_utf8_lossy(why)),
            };
        }
        // Nothing of the recorder's is run from here on, whatever happens, and nothing is
        // dropped: what descriptors were are others', or none.
        let worked = catch_unwind(AssertUnwindSafe(|| {
            let ready = prepare(&mut kept, layout);
            if tell(&its, &ready.map_or_else(words, |()| vec![READY])).is_err() {
                return;
            }
            let mut message = [0; LONGEST];
            let told = receive(&its, &mut message, RecvFlags::empty());
            if !told.is_ok_and(|length| length > 0) {
                return;
            }
            let _ = tell(&its, &attach(programs, layout).unwrap_or_else(words));
            // Until the other end is gone.
            let _ = receive(&its, &mut message, RecvFlags::empty());
        }));
        std::process::exit(i32::from(worked.is_err()))
    }

    /// Tells it to begin. True: it was not told before.
    pub fn begin(&mut self) -> bool {
        if self.stage != Stage::Waits {
            return false;
        }
        self.stage = Stage::Attaches;
        // That it is gone shows in its answer.
        let _ = send(
            &self.socket,
            &[READY],
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        );
        true
    }

    /// What came of it, once, if that is known by now.
    pub fn answer(&mut self) -> Option<PollsCounted> {
        if self.stage != Stage::Attaches {
            return None;
        }
        let mut message = [0; LONGEST];
        let length = match receive(&self.socket, &mut message, RecvFlags::DONTWAIT) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            received => received.unwrap_or(0),
        };
        self.stage = Stage::Done;
        Some(answered(&message[..length]))
    }
}

impl Drop for Later {
    /// It ends. One that has attached nothing does so at once, and leaves nothing of itself
    /// behind; the others take up to a second, which nobody waits for.
    fn drop(&mut self) {
        const MOMENT: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 200_000_000,
        };
        let _ = shutdown(&self.socket, Shutdown::Both);
        let mut options = WaitOptions::NOHANG;
        if self.stage == Stage::Waits {
            // Its end closes when it does.
            let mut wakes = [PollFd::new(&self.socket, PollFlags::empty())];
            if poll(&mut wakes, Some(&MOMENT)).is_ok_and(|count| count > 0) {
                options = WaitOptions::empty();
            }
        }
        // Somebody else may have taken its status.
        let _ = waitpid(
            rustix::process::Pid::from_raw(self.process.as_raw()),
            options,
        );
    }
}

/// What it is told to begin with, and says that it can.
const READY: u8 = 1;
/// The first byte of the answer when all are attached: two times follow.
const ATTACHED: u8 = 2;

fn answered(message: &[u8]) -> PollsCounted {
    let times = match message {
        [ATTACHED, times @ ..] => times.split_first_chunk::<8>(),
        _ => None,
    };
    match times.map(|(first, rest)| (first, rest.try_into())) {
        Some((attaching, Ok(attached))) => PollsCounted::From {
            attaching_ns: u64::from_ne_bytes(*attaching),
            attached_ns: u64::from_ne_bytes(attached),
        },
        _ if message.is_empty() => {
            PollsCounted::Failed("the process that attaches the programs ended".to_owned())
        }
        _ => PollsCounted::Failed(String::from_utf8_lossy(message).into_owned()),
    }
}

/// Leaves everything but these descriptors, and looks whether the tracepoints are there.
fn prepare(kept: &mut [RawFd], layout: &Layout) -> Result<()> {
    leave_everything(kept)?;
    polls::see_tracefs()?;
    polls::see_tracepoints(layout)?;
    keep_only(RIGHTS)?;
    Ok(())
}

/// Attaches them, and gives the message that says so.
fn attach(programs: &mut Programs<'_>, layout: &Layout) -> Result<Vec<u8>> {
    let attaching = now_ns()?;
    polls::attach_tracepoints(programs, layout)?;
    let attached = now_ns()?;
    let times = [attaching.to_ne_bytes(), attached.to_ne_bytes()].concat();
    Ok([&[ATTACHED], &times[..]].concat())
}

fn words(error: anyhow::Error) -> Vec<u8> {
    let mut words = format!("{error:#}").into_bytes();
    words.truncate(LONGEST);
    words
}

fn tell(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    send(socket.as_fd(), message, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The length of the message; 0: the other end is gone.
fn receive(socket: &OwnedFd, message: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
    loop {
        match recv(socket.as_fd(), &mut *message, flags) {
            Err(rustix::io::Errno::INTR) => {}
            received => return Ok(received.map(|(length, _)| length)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_two_times_or_words() {
        let times = [7_u64.to_ne_bytes(), 9_u64.to_ne_bytes()].concat();
        let from = PollsCounted::From {
            attaching_ns: 7,
            attached_ns: 9,
        };
        assert_eq!(answered(&[&[ATTACHED], &times[..]].concat()), from);
        for (message, why) in [
            (&b""[..], "the process that attaches the programs ended"),
            (b"no", "no"),
            (&[ATTACHED, 1][..], "\u{2}\u{1}"),
        ] {
            assert_eq!(answered(message), PollsCounted::Failed(why.to_owned()));
        }
    }
}
