//! Where the helpers come from.
//!
//! The nursery is forked before anything else begins, while this process has one thread
//! and holds nothing. It waits, and forks a helper whenever it is told to: so a new one
//! costs next to nothing, and has nothing of a recording in its memory. One that can't even
//! be killed, because it waits in the kernel for a server that is gone, is left behind; it
//! holds nothing of the caller's.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    libc,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
        memfd::{MFdFlags, memfd_create},
    },
    unistd::{ForkResult, Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, send, sendmsg,
        socketpair,
    },
    process::{
        PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, pidfd_send_signal, waitpid,
    },
};

use super::{
    Kind,
    channel::{Helpers, say_why_not},
    fence,
};
use crate::{launch::Account, limits, trace::How};

const KINDS: [Kind; 6] = [
    Kind::Names,
    Kind::Deadlocks,
    Kind::Providers,
    Kind::Symbols,
    Kind::Stacks,
    Kind::Java,
];

/// What the nursery tells: how a helper ended, or why there are none.
const SIGNALLED: u8 = 0;
const EXITED: u8 = 1;
const NOT_BEGUN: u8 = 2;
/// A helper gets its socket, and the tables of the kernel programs that it reads.
const MOST_GIVEN: usize = 4;
/// A message of it is no longer.
const LONGEST_MESSAGE: usize = 1024;

/// The exit status of a helper that failed, and of one that panicked.
const FAILED: i32 = 1;
const PANICKED: i32 = 101;

/// The recorder's end.
pub(crate) struct Nursery {
    process: Pid,
    control: OwnedFd,
    /// Readable when a helper has answered or died.
    ready: Epoll,
    heard: RefCell<Heard>,
    /// What helpers that follow stacks get.
    tables: RefCell<Vec<OwnedFd>>,
}

/// What it has told so far.
#[derive(Default)]
struct Heard {
    ends: Vec<(Kind, How)>,
    why_not: Option<String>,
}

impl Nursery {
    /// Starts it. This process must have one thread. `account` is whom the workload runs
    /// as. What `begin` does takes its time in the nursery; what it gives is a helper's
    /// work, which each has to itself.
    ///
    /// # Errors
    /// When no process can be made.
    pub(crate) fn start<W: FnOnce(Kind, UnixStream, Vec<OwnedFd>) -> Result<()>>(
        account: Option<&Account>,
        begin: impl FnOnce() -> W,
    ) -> Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let recorder = Pid::this();
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .context("no socket for the helpers that look up names")?;
        let ready = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("no epoll instance")?;
        let forked = limits::tried_again(forked).map_err(limits::no_process);
        if let Some(process) = forked.context("no process for looking up names")? {
            return Ok(Self {
                process,
                control: ours,
                ready,
                heard: RefCell::default(),
                tables: RefCell::default(),
            });
        }
        // Nothing of the recorder's is run from here on, whatever happens.
        let worked = catch_unwind(AssertUnwindSafe(|| {
            let left = leave_everything(&mut [theirs.as_raw_fd()]);
            // What is ours is closed; `drop` would close another's of that number.
            std::mem::forget((ours, ready));
            let fenced = left.and_then(|()| fence::of_nursery(recorder));
            if let Err(error) = fenced {
                // The recorder may be gone, too.
                let _ = tell_why_not(&theirs, &format!("{error:#}"));
                return Ok(());
            }
            raise(&theirs, account, begin)
        }));
        std::process::exit(match worked {
            Ok(Ok(())) => 0,
            Ok(Err(_)) => FAILED,
            Err(_) => PANICKED,
        })
    }

    /// What helpers that follow stacks get from now on.
    pub(crate) fn give(&self, tables: Vec<OwnedFd>) {
        *self.tables.borrow_mut() = tables;
    }

    /// Becomes readable when a helper has answered, or died; but for the one that follows stacks, which
    /// answers all the time, and which nobody waits for. It is the same descriptor always.
    pub(crate) fn ready(&self) -> BorrowedFd<'_> {
        self.ready.0.as_fd()
    }

    fn tell(&self, kind: Kind, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_GIVEN))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(files));
        }
        let kind = [kind as u8];
        // It reads at once: it does nothing else.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.control, &[IoSlice::new(&kind)], &mut control, flags)?;
        Ok(())
    }

    /// How helpers ended that died by themselves, so many of them: it is told a moment
    /// after their sockets close.
    pub(crate) fn ends(&self, expected: usize) -> Vec<(Kind, How)> {
        const MOMENT: Duration = Duration::from_millis(200);
        let begun = Instant::now();
        loop {
            self.hear();
            let left = MOMENT.saturating_sub(begun.elapsed());
            if self.heard.borrow().ends.len() >= expected || left.is_zero() {
                break;
            }
            let mut wakes = [PollFd::new(&self.control, PollFlags::IN)];
            let woken = poll(&mut wakes, Timespec::try_from(left).ok().as_ref());
            if woken.is_err() || wakes[0].revents().contains(PollFlags::HUP) {
                self.hear();
                break;
            }
        }
        std::mem::take(&mut self.heard.borrow_mut().ends)
    }

    /// Reads what it has told.
    fn hear(&self) {
        let mut heard = self.heard.borrow_mut();
        let mut message = [0; LONGEST_MESSAGE];
        loop {
            let mut space = [];
            let mut none = RecvAncillaryBuffer::new(&mut space);
            let mut bytes = [IoSliceMut::new(&mut message)];
            let received = recvmsg(&self.control, &mut bytes, &mut none, RecvFlags::DONTWAIT);
            let length = match received {
                Err(rustix::io::Errno::INTR) => continue,
                Ok(received) if received.bytes > 0 => received.bytes,
                _ => return,
            };
            match &message[..length] {
                [NOT_BEGUN, why @ ..] => {
                    heard.why_not = Some(String::from_utf8_lossy(why).into_owned());
                }
                [what, kind, number @ ..] => {
                    let kind = KINDS.into_iter().find(|it| *it as u8 == *kind);
                    let number = number.try_into().map(i32::from_ne_bytes);
                    if let (Some(kind), Ok(number)) = (kind, number) {
                        let how = match *what {
                            SIGNALLED => How::Signal(number),
                            _ => How::Exit(number),
                        };
                        heard.ends.push((kind, how));
                    }
                }
                _ => {}
            }
        }
    }
}

impl Helpers for Nursery {
    fn helper(&self, kind: Kind) -> Result<UnixStream, String> {
        let made = || {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            let tables = self.tables.borrow();
            let tables = tables.iter().filter(|_| kind == Kind::Stacks);
            let tables = tables.map(|table| table.as_fd());
            let files: Vec<_> = [theirs.as_fd()].into_iter().chain(tables).collect();
            self.tell(kind, &files)?;
            if kind != Kind::Stacks {
                let readable = EpollEvent::new(EpollFlags::EPOLLIN, kind as u64);
                self.ready.add(&ours, readable)?;
            }
            io::Result::Ok(ours)
        };
        made().map_err(|error| {
            self.hear();
            let heard = self.heard.borrow();
            match (&heard.why_not, error.kind()) {
                (Some(why), _) => why.clone(),
                (None, io::ErrorKind::BrokenPipe) => {
                    "the process that makes them has ended".to_owned()
                }
                (None, _) => error.to_string(),
            }
        })
    }

    fn abandon(&self, kind: Kind) {
        // Without a nursery there is none.
        let _ = self.tell(kind, &[]);
    }
}

impl Drop for Nursery {
    /// It ends, and leaves nothing of itself behind.
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.control, rustix::net::Shutdown::Both);
        // It kills its helpers and ends. Its end of the socket closes a moment before that.
        const MOMENT: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 200_000_000,
        };
        let mut wakes = [PollFd::new(&self.control, PollFlags::empty())];
        let gone = poll(&mut wakes, Some(&MOMENT)).is_ok_and(|count| count > 0);
        let options = if gone {
            WaitOptions::empty()
        } else {
            WaitOptions::NOHANG
        };
        let process = rustix::process::Pid::from_raw(self.process.as_raw());
        // Somebody else may have taken its status.
        let _ = waitpid(process, options);
    }
}

/// A new process, of this one, which has one thread. `None`: we are it.
pub(crate) fn forked() -> nix::Result<Option<Pid>> {
    // SAFETY: the recorder forks this while it has one thread, and what is forked from it
    // never has more, so no lock is held in the child.
    #[expect(unsafe_code, reason = "fork is unsafe in programs with threads")]
    let forked = unsafe { fork() }?;
    Ok(match forked {
        ForkResult::Child => None,
        ForkResult::Parent { child } => Some(child),
    })
}

/// The caller's files, folder and terminal, our own files: all but some descriptors.
pub(crate) fn leave_everything(but: &mut [RawFd]) -> Result<()> {
    setsid()?;
    chdir("/")?;
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = match null {
        Ok(null) => null,
        // Something that nobody else has.
        Err(_) => File::from(memfd_create("nothing", MFdFlags::MFD_CLOEXEC)?),
    };
    dup2_stdin(null.as_fd())?;
    dup2_stdout(null.as_fd())?;
    dup2_stderr(null.as_fd())?;
    drop(null);
    // Not what /proc/self/fd lists: it may not be there.
    but.sort_unstable();
    let mut first = 3;
    for &mut kept in but {
        close_range(first, kept - 1)?;
        first = first.max(kept + 1);
    }
    close_range(first, RawFd::MAX)?;
    Ok(())
}

fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: it takes numbers only. This process has forgotten the files that they were.
    #[expect(unsafe_code, reason = "no library that we use has it")]
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if closed == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// A helper that has not ended yet.
struct Raised {
    kind: Kind,
    pid: i32,
    /// `None`: it can't be killed or waited for by this.
    pidfd: Option<OwnedFd>,
    /// It is to go: how it ends is nobody's concern.
    unwanted: bool,
}

impl Raised {
    /// One whose socket has closed is about to end, and of what is worth knowing. One that
    /// is stuck is not.
    fn wait_if_dying(&self) {
        const MOMENT: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 500_000_000,
        };
        if let Some(pidfd) = &self.pidfd
            && !self.unwanted
        {
            let _ = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&MOMENT));
        }
    }

    fn end(&mut self) {
        self.unwanted = true;
        if let Some(pidfd) = &self.pidfd {
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
    }
}

/// The nursery's life: a message is a kind, and the socket for a new helper of it, with what else
/// it gets.
fn raise<W: FnOnce(Kind, UnixStream, Vec<OwnedFd>) -> Result<()>>(
    control: &OwnedFd,
    account: Option<&Account>,
    begin: impl FnOnce() -> W,
) -> Result<()> {
    let nursery = Pid::this();
    let mut helpers: Vec<Raised> = Vec::new();
    let work = begin();
    loop {
        if !has_message(control, &helpers)? {
            reap(control, &mut helpers);
            continue;
        }
        let Some((kind, files)) = next(control)? else {
            helpers.iter_mut().for_each(Raised::end);
            return Ok(());
        };
        let last = helpers.iter().filter(|helper| helper.kind == kind);
        last.for_each(Raised::wait_if_dying);
        reap(control, &mut helpers);
        let last = helpers.iter_mut().filter(|helper| helper.kind == kind);
        last.for_each(Raised::end);
        let mut files = files.into_iter();
        let Some(socket) = files.next() else { continue };
        let (socket, files) = (UnixStream::from(socket), files.collect());
        match limits::tried_again(forked) {
            Ok(Some(child)) => {
                let pid = rustix::process::Pid::from_raw(child.as_raw());
                let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
                helpers.push(Raised {
                    kind,
                    pid: child.as_raw(),
                    pidfd,
                    unwanted: false,
                });
            }
            Ok(None) => {
                // The others are the nursery's to end.
                drop(helpers);
                // Only the nursery listens there.
                nix::unistd::close(control.as_raw_fd())?;
                return match fence::of_helper(kind, account, nursery) {
                    Ok(()) => work(kind, socket, files),
                    Err(error) => Ok(say_why_not(socket, &format!("{error:#}"))?),
                };
            }
            Err(error) => {
                let why = limits::no_process(error);
                // Nobody listens any more, perhaps.
                let _ = say_why_not(socket, &why.to_string());
            }
        }
    }
}

/// Waits for a message, or until a helper ends.
fn has_message(control: &OwnedFd, helpers: &[Raised]) -> io::Result<bool> {
    let pidfds = helpers.iter().filter_map(|helper| helper.pidfd.as_ref());
    let mut wakes: Vec<PollFd<'_>> = [control]
        .into_iter()
        .chain(pidfds)
        .map(|fd| PollFd::new(fd, PollFlags::IN))
        .collect();
    match poll(&mut wakes, None) {
        Ok(_) => Ok(!wakes[0].revents().is_empty()),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Takes the status of those that have ended, and tells of those that were wanted.
fn reap(control: &OwnedFd, helpers: &mut Vec<Raised>) {
    while let Ok(Some((pid, status))) = waitpid(None, WaitOptions::NOHANG) {
        let Some(at) = helpers
            .iter()
            .position(|helper| helper.pid == pid.as_raw_nonzero().get())
        else {
            continue;
        };
        let helper = helpers.swap_remove(at);
        if !helper.unwanted {
            tell_end(control, helper.kind, status);
        }
    }
}

fn tell_end(control: &OwnedFd, kind: Kind, status: WaitStatus) {
    let (what, number) = match (status.terminating_signal(), status.exit_status()) {
        (Some(signal), _) => (SIGNALLED, signal),
        // One that has ended well has said why, if that was before its time.
        (None, Some(0) | None) => return,
        (None, Some(status)) => (EXITED, status),
    };
    let mut message = vec![what, kind as u8];
    message.extend(number.to_ne_bytes());
    // Who does not listen need not know.
    let _ = send(control, &message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
}

fn tell_why_not(control: &OwnedFd, why: &str) -> io::Result<()> {
    let mut message = vec![NOT_BEGUN];
    message.extend(why.bytes().take(LONGEST_MESSAGE - 1));
    send(control, &message, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// `None`: the recorder has ended.
fn next(control: &OwnedFd) -> io::Result<Option<(Kind, Vec<OwnedFd>)>> {
    let mut kind = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_GIVEN))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [IoSliceMut::new(&mut kind)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        match recvmsg(control, &mut bytes, &mut ancillary, flags) {
            Err(rustix::io::Errno::INTR) => {}
            // It has ended without reading all that it was told.
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            received => break received?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut files = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = message {
            files.extend(sent);
        }
    }
    let kind = KINDS.into_iter().find(|it| *it as u8 == kind[0]);
    Ok(kind.map(|kind| (kind, files)))
}
