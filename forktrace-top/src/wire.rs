//! What the recorder and the view say to each other: packets over a socket. A snapshot comes
//! as a file in memory, so that its size does not matter.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut, Read as _, Seek as _, Write as _},
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use forktrace_core::live::Snapshot;
use rustix::{
    fs::{MemfdFlags, memfd_create},
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};

/// Longer texts are cut.
const MOST_BYTES: usize = 4096;

/// What the user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// That the last seconds are saved.
    Save,
    /// That it ends.
    Quit,
}

/// To the view.
#[derive(Debug)]
pub(crate) enum ToView {
    /// The moment.
    Snapshot(Box<Snapshot>),
    /// Something to tell.
    Message(String),
    /// The recording is over, and why.
    Ended(String),
}

/// From the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FromView {
    /// The last snapshot has been taken: another one may come.
    Ready,
    Wish(Wish),
}

/// Is the other end gone?
pub(crate) fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

/// Sends something to the view. False: there is no room now.
///
/// # Errors
/// When it is gone.
pub(crate) fn send(socket: BorrowedFd<'_>, what: &ToView) -> io::Result<bool> {
    let (kind, text, file) = match what {
        ToView::Snapshot(snapshot) => (b's', "", Some(in_memory(snapshot)?)),
        ToView::Message(text) => (b'm', text.as_str(), None),
        ToView::Ended(text) => (b'e', text.as_str(), None),
    };
    let text = &text.as_bytes()[..text.floor_char_boundary(MOST_BYTES)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files: Vec<_> = file.iter().map(|file| file.as_fd()).collect();
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    let parts = [
        IoSlice::new(std::slice::from_ref(&kind)),
        IoSlice::new(text),
    ];
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    match sendmsg(socket, &parts, &mut control, flags) {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN | Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn in_memory(snapshot: &Snapshot) -> io::Result<File> {
    let bytes = postcard::to_stdvec(snapshot).map_err(io::Error::other)?;
    let file = memfd_create("snapshot", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(file);
    file.write_all(&bytes)?;
    Ok(file)
}

/// What the recorder said next; `None`: nothing now.
///
/// # Errors
/// `UnexpectedEof` when it is gone.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<ToView>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffer = [0; 1 + MOST_BYTES];
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = match recvmsg(socket, &mut parts, &mut control, flags) {
        Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
        received => received?,
    };
    let files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let file: Option<OwnedFd> = files.flatten().next();
    let Some((kind, text)) = buffer[..received.bytes].split_first() else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let text = String::from_utf8_lossy(text).into_owned();
    Ok(Some(match (kind, file) {
        (b's', Some(file)) => {
            let mut file = File::from(file);
            let mut bytes = Vec::new();
            file.rewind()?;
            file.read_to_end(&mut bytes)?;
            let snapshot = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
            ToView::Snapshot(Box::new(snapshot))
        }
        (b'm', _) => ToView::Message(text),
        (b'e', _) => ToView::Ended(text),
        _ => return Ok(None),
    }))
}

/// Says something to the recorder.
///
/// # Errors
/// When it is gone.
pub(crate) fn say(socket: BorrowedFd<'_>, what: FromView) -> io::Result<()> {
    let byte = match what {
        FromView::Ready => b'r',
        FromView::Wish(Wish::Save) => b's',
        FromView::Wish(Wish::Quit) => b'q',
    };
    rustix::net::send(socket, &[byte], SendFlags::NOSIGNAL)?;
    Ok(())
}

/// What the view said next; `None`: nothing now.
///
/// # Errors
/// `UnexpectedEof` when it is gone.
pub(crate) fn hear(socket: BorrowedFd<'_>) -> io::Result<Option<FromView>> {
    loop {
        let mut byte = [0];
        let heard = rustix::net::recv(socket, &mut byte, RecvFlags::DONTWAIT);
        match heard.map(|(length, _)| length) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(Errno::AGAIN) => return Ok(None),
            // Said once, where it is gone and has left something unread: what it said before is
            // still to be heard.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => match byte[0] {
                b'r' => return Ok(Some(FromView::Ready)),
                b's' => return Ok(Some(FromView::Wish(Wish::Save))),
                b'q' => return Ok(Some(FromView::Wish(Wish::Quit))),
                _ => {}
            },
        }
    }
}
