//! Work in a process of its own: with another user's rights, or such that may die.

use std::{
    io::{self, IoSlice, IoSliceMut, Write as _},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
};

use nix::unistd::{ForkResult, fork};
use rustix::{
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
    process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid},
};

use crate::launch::Account;

/// Descriptors that an answer can carry.
const MOST_DESCRIPTORS: usize = 2;
/// Bytes that an answer can have.
const MOST_BYTES: usize = 64 << 10;

/// What came of the work.
#[derive(Debug, Default)]
pub struct Answer {
    /// What it said.
    pub bytes: Vec<u8>,
    /// What it opened.
    pub descriptors: Vec<OwnedFd>,
}

/// A process that works for us.
#[derive(Debug)]
pub struct Worker {
    pid: Pid,
    socket: OwnedFd,
}

/// How a worker's work ended.
#[derive(Debug)]
pub enum Ended {
    /// It did what it should, or says why not.
    Answered(io::Result<Answer>),
    /// It died before: its exit status or signal, where known.
    Died(Option<WaitStatus>),
}

impl Worker {
    /// Starts it. It has all that we have at this moment.
    ///
    /// # Errors
    /// When no process can be made.
    pub fn start(work: impl FnOnce() -> io::Result<Answer>) -> io::Result<Self> {
        let (ours, its) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        // What is buffered is ours to write.
        let _ = io::stdout().flush();
        // SAFETY: this process has one thread, so the child finds no lock held.
        #[expect(unsafe_code, reason = "fork is unsafe in programs with threads")]
        match unsafe { fork() }? {
            ForkResult::Parent { child } => {
                let pid = Pid::from_raw(child.as_raw());
                let pid = pid.ok_or_else(|| io::Error::other("fork gave no pid"))?;
                Ok(Self { pid, socket: ours })
            }
            ForkResult::Child => {
                drop(ours);
                // A panic must not go on in our callers, which are not this process's.
                let worked = catch_unwind(AssertUnwindSafe(work));
                let answered = worked.map(|answer| send(its.as_fd(), answer));
                std::process::exit(i32::from(!matches!(answered, Ok(Ok(())))))
            }
        }
    }

    /// Readable when it has ended or has an answer.
    pub fn wakes(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Ends it before its time.
    pub fn kill(&self) {
        let _ = kill_process(self.pid, Signal::KILL);
    }

    /// Waits for its answer.
    ///
    /// # Errors
    /// When it can't be heard.
    pub fn finish(self) -> io::Result<Ended> {
        let answer = receive(self.socket.as_fd())?;
        let status = loop {
            match waitpid(Some(self.pid), WaitOptions::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                // With SIGCHLD ignored nobody knows.
                waited => break waited.ok().flatten().map(|(_, status)| status),
            }
        };
        Ok(answer.map_or(Ended::Died(status), Ended::Answered))
    }
}

/// Does work with the rights of `account` and nothing of ours, so that the kernel
/// decides what it may: user, groups, capabilities and security modules alike. `None`:
/// with ours.
///
/// # Errors
/// Those of the work, and when there can be no such process.
pub fn with_rights_of(
    account: Option<&Account>,
    work: impl FnOnce() -> io::Result<Answer>,
) -> io::Result<Answer> {
    let Some(account) = account else {
        return work();
    };
    let worker = Worker::start(|| {
        account.assume()?;
        work()
    })?;
    match worker.finish()? {
        Ended::Answered(answer) => answer,
        Ended::Died(status) => Err(io::Error::other(format!(
            "the process that does it as {} died ({status:?})",
            account.name
        ))),
    }
}

const DONE: u8 = 0;
const FAILED_BY_NUMBER: u8 = 1;
const FAILED_BY_WORDS: u8 = 2;

fn send(socket: BorrowedFd<'_>, answer: io::Result<Answer>) -> io::Result<()> {
    let (kind, bytes, descriptors) = match answer {
        Ok(answer) => (DONE, answer.bytes, answer.descriptors),
        Err(error) => match error.raw_os_error() {
            Some(number) => (FAILED_BY_NUMBER, number.to_le_bytes().to_vec(), Vec::new()),
            None => (FAILED_BY_WORDS, error.to_string().into_bytes(), Vec::new()),
        },
    };
    let bytes = &bytes[..bytes.len().min(MOST_BYTES)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::Error::other("too many descriptors"));
    }
    let parts = [
        IoSlice::new(std::slice::from_ref(&kind)),
        IoSlice::new(bytes),
    ];
    sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// `None`: whoever was to answer is gone.
fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<io::Result<Answer>>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffer = vec![0; 1 + MOST_BYTES];
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            received => break received?,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            descriptors.extend(fds);
        }
    }
    let Some((&kind, bytes)) = buffer[..received.bytes].split_first() else {
        return Ok(None);
    };
    let number = bytes.first_chunk().copied().map(i32::from_le_bytes);
    Ok(Some(match (kind, number) {
        (DONE, _) => Ok(Answer {
            bytes: bytes.to_vec(),
            descriptors,
        }),
        (FAILED_BY_NUMBER, Some(number)) => Err(io::Error::from_raw_os_error(number)),
        _ => Err(io::Error::other(
            String::from_utf8_lossy(bytes).into_owned(),
        )),
    }))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd as _};

    use super::*;

    fn sent(answer: io::Result<Answer>) -> Option<io::Result<Answer>> {
        let (ours, its) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .expect("a pair");
        send(its.as_fd(), answer).expect("sent");
        drop(its);
        receive(ours.as_fd()).expect("received")
    }

    #[test]
    fn answers_arrive_as_they_are() {
        let file = File::open("/proc/self/status").expect("a file");
        let answer = sent(Ok(Answer {
            bytes: b"name".to_vec(),
            descriptors: vec![file.into()],
        }));
        let answer = answer.expect("one").expect("good");
        assert_eq!(
            (answer.bytes.as_slice(), answer.descriptors.len()),
            (&b"name"[..], 1)
        );
        let error = sent(Err(io::Error::from_raw_os_error(libc::EROFS)));
        let error = error.expect("one").expect_err("bad");
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
        let error = sent(Err(io::Error::other("words")));
        assert_eq!(error.expect("one").expect_err("bad").to_string(), "words");
    }

    #[test]
    fn who_dies_has_no_answer() {
        let (ours, its) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .expect("a pair");
        drop(its);
        assert!(receive(ours.as_fd()).expect("received").is_none());
    }
}
