//! The other ends of sockets.

use crate::procfs::text;
use crate::resolve::{Unix, ask_for_unix_sockets, inet_ends};

/// Where the other end of a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// On this machine.
    Inode(u64),
    /// Beyond it, or with nobody that the tables have.
    Elsewhere,
}

/// `None`: it has none, or it is not known.
pub(super) fn peer(tgid: u32, inode: u64) -> Option<Peer> {
    inet_peer(tgid, inode).or_else(|| unix_peer(inode))
}

fn unix_peer(inode: u64) -> Option<Peer> {
    let table = ask_for_unix_sockets().ok()?;
    let peer = |socket: &Unix| socket.peer;
    table.get(&inode).and_then(peer).map(Peer::Inode)
}

fn inet_peer(tgid: u32, inode: u64) -> Option<Peer> {
    let tables = ["tcp", "tcp6"].map(|table| {
        let text = text::read(format!("/proc/{tgid}/net/{table}"));
        text.unwrap_or_default()
    });
    let lines = || tables.iter().flat_map(|text| text.lines().skip(1));
    let ends = lines().filter_map(inet_ends);
    let (_, (local, remote)) = ends.clone().find(|(found, _)| *found == inode)?;
    if remote.port() == 0 {
        return None;
    }
    let mut theirs = ends.filter(|(_, ends)| *ends == (remote, local));
    match theirs.next() {
        // 0: nobody has it any more.
        Some((0, _)) => None,
        Some((peer, _)) => Some(Peer::Inode(peer)),
        None => Some(Peer::Elsewhere),
    }
}
