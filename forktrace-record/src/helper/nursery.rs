//! Where the helpers come from.
//!
//! The nursery is forked before anything else begins, while this process has one thread
//! and holds nothing. It waits, and forks a helper whenever it is told to: so a new one
//! costs next to nothing, and has nothing of a recording in its memory. One that can't even
//! be killed, because it waits in the kernel for a server that is gone, is left behind; it
//! holds nothing of the caller's.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    panic::{AssertUnwindSafe, catch_unwind},
};

use anyhow::{Context as _, Result};
use nix::{
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::{ForkResult, Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid},
};
use rustix::{
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
    process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::{Kind, fence};
use crate::launch::Account;

const KINDS: [Kind; 4] = [Kind::Names, Kind::Deadlocks, Kind::Providers, Kind::Symbols];

/// The recorder's end.
pub(crate) struct Nursery {
    control: OwnedFd,
    /// Readable when a helper has answered or died.
    ready: Epoll,
}

impl Nursery {
    /// Starts it. This process must have one thread. `account` is whom the workload runs
    /// as. What `begin` does takes its time in the nursery; what it gives is a helper's
    /// work, which each has to itself.
    ///
    /// # Errors
    /// When no process can be made.
    pub(crate) fn start<W: FnOnce(Kind, UnixStream) -> Result<()>>(
        account: Option<&Account>,
        begin: impl FnOnce() -> W,
    ) -> Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let recorder = Pid::this();
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .context("no socket for the helpers that look up names")?;
        let ready = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("no epoll instance")?;
        if !forked().context("no process for looking up names")? {
            return Ok(Self {
                control: ours,
                ready,
            });
        }
        // Nothing of the recorder's is run from here on, whatever happens.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            leave_everything(theirs.as_raw_fd())?;
            // What is ours is closed; `drop` would close another's of that number.
            std::mem::forget((ours, ready));
            raise(&theirs, account, begin, recorder)
        }));
        std::process::exit(0)
    }

    /// Becomes readable when a helper has answered, or died. It is the same descriptor
    /// always.
    pub(crate) fn ready(&self) -> BorrowedFd<'_> {
        self.ready.0.as_fd()
    }

    /// Waits until then, or so many milliseconds.
    pub(crate) fn wait(&self, millis: u16) {
        let mut events = [EpollEvent::empty(); 2];
        // Whatever comes of it, the sockets are looked at next.
        let _ = self.ready.wait(&mut events, EpollTimeout::from(millis));
    }

    /// A new helper in place of the last one of this kind, which is killed if it can be.
    ///
    /// # Errors
    /// When there is no socket, or no nursery any more.
    pub(crate) fn helper(&self, kind: Kind) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        self.tell(kind, Some(theirs.as_fd()))?;
        self.ready
            .add(&ours, EpollEvent::new(EpollFlags::EPOLLIN, kind as u64))?;
        Ok(ours)
    }

    /// No helper of this kind is wanted any more.
    pub(crate) fn abandon(&self, kind: Kind) {
        // Without a nursery there is none.
        let _ = self.tell(kind, None);
    }

    fn tell(&self, kind: Kind, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let sockets = socket.as_slice();
        if socket.is_some() {
            control.push(SendAncillaryMessage::ScmRights(sockets));
        }
        let kind = [kind as u8];
        // It reads at once: it does nothing else.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.control, &[IoSlice::new(&kind)], &mut control, flags)?;
        Ok(())
    }
}

/// Gives whether we are the new process.
fn forked() -> nix::Result<bool> {
    // SAFETY: the recorder forks this while it has one thread, and what is forked from it
    // never has more, so no lock is held in the child.
    #[expect(unsafe_code, reason = "fork is unsafe in programs with threads")]
    let forked = unsafe { fork() }?;
    Ok(matches!(forked, ForkResult::Child))
}

/// The caller's files, folder and terminal, our own files: all but one descriptor.
fn leave_everything(but: RawFd) -> Result<()> {
    setsid()?;
    chdir("/")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(null.as_fd())?;
    dup2_stdout(null.as_fd())?;
    dup2_stderr(null.as_fd())?;
    drop(null);
    let open = std::fs::read_dir("/proc/self/fd")?.flatten();
    let open = open.filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok());
    let open: Vec<RawFd> = open.filter(|fd| *fd > 2 && *fd != but).collect();
    for fd in open {
        // One of them was the folder's.
        let _ = nix::unistd::close(fd);
    }
    Ok(())
}

/// The nursery's life: a message is a kind, and the socket for a new helper of it.
fn raise<W: FnOnce(Kind, UnixStream) -> Result<()>>(
    control: &OwnedFd,
    account: Option<&Account>,
    begin: impl FnOnce() -> W,
    recorder: Pid,
) -> Result<()> {
    fence::of_nursery(recorder)?;
    let nursery = Pid::this();
    let mut helpers: [Option<OwnedFd>; KINDS.len()] = [const { None }; KINDS.len()];
    let work = begin();
    loop {
        let Some((kind, socket)) = next(control)? else {
            for helper in helpers.iter().flatten() {
                let _ = pidfd_send_signal(helper, Signal::KILL);
            }
            return Ok(());
        };
        if let Some(last) = helpers[kind as usize].take() {
            let _ = pidfd_send_signal(&last, Signal::KILL);
        }
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|it| it.pid().is_some()) {}
        let Some(socket) = socket else { continue };
        helpers[kind as usize] = match pidfd_of_fork()? {
            Some(helper) => helper,
            None => {
                // The others are the nursery's to end.
                helpers.fill_with(|| None);
                // Only the nursery listens there.
                nix::unistd::close(control.as_raw_fd())?;
                fence::of_helper(kind, account, nursery)?;
                return work(kind, UnixStream::from(socket));
            }
        };
    }
}

/// `None`: we are the new process. Within: one that has ended already.
fn pidfd_of_fork() -> Result<Option<Option<OwnedFd>>> {
    // SAFETY: as in `forked`.
    #[expect(unsafe_code, reason = "fork is unsafe in programs with threads")]
    let forked = unsafe { fork() }?;
    Ok(match forked {
        ForkResult::Child => None,
        ForkResult::Parent { child } => {
            let child = rustix::process::Pid::from_raw(child.as_raw());
            Some(child.and_then(|child| pidfd_open(child, PidfdFlags::empty()).ok()))
        }
    })
}

/// `None`: the recorder has ended.
fn next(control: &OwnedFd) -> io::Result<Option<(Kind, Option<OwnedFd>)>> {
    let mut kind = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [IoSliceMut::new(&mut kind)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        match recvmsg(control, &mut bytes, &mut ancillary, flags) {
            Err(rustix::io::Errno::INTR) => {}
            received => break received?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let socket = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        _ => None,
    });
    let kind = KINDS.into_iter().find(|it| *it as u8 == kind[0]);
    Ok(kind.map(|kind| (kind, socket)))
}
