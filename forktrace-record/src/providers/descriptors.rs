//! Waits for what comes through a descriptor: who has the other end.

use super::{
    family,
    holders::{FdInfo, link},
    peers, servers,
    world::{Found, Member, Who, World},
};
use crate::{
    procfs::{self, Call},
    trace::ProviderKind,
};

/// What a task wants of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// Something to read: from those who can write.
    Input,
    /// Room: from those who can read.
    Room,
}

/// The calls whose first argument is the descriptor that they wait for.
fn wants(name: &str) -> Option<Wants> {
    Some(match name {
        "read" | "readv" | "preadv2" | "recvfrom" | "recvmsg" | "recvmmsg" | "tee" => Wants::Input,
        "write" | "writev" | "pwritev2" | "sendto" | "sendmsg" | "sendmmsg" | "sendfile"
        | "vmsplice" => Wants::Room,
        _ => return None,
    })
}

pub(super) fn find(world: &mut World<'_>, member: &Member, name: &str, call: &Call) -> Found {
    let fd = call.arguments[0];
    if name == "splice" {
        // It waits for either end: for the one that is no pipe we don't know.
        return splice(world, member, fd as u32, call.arguments[2] as u32);
    }
    let wants = wants(name)?;
    other_end(world, member, fd as u32, wants)
}

fn splice(world: &mut World<'_>, member: &Member, from: u32, to: u32) -> Found {
    let (kind, input) = other_end(world, member, from, Wants::Input)?;
    let (_, room) = other_end(world, member, to, Wants::Room)?;
    Some((kind, input.and(room)))
}

/// Those who could give a task what it wants of a descriptor.
pub(super) fn other_end(world: &mut World<'_>, member: &Member, fd: u32, wants: Wants) -> Found {
    let link = link(member.tgid, fd)?;
    if link.starts_with("pipe:[") || is_fifo(member.tgid, fd, &link) {
        return Some((ProviderKind::OtherEnd, pipe(world, member, &link, wants)));
    }
    if let Some(inode) = socket_inode(&link) {
        return Some((ProviderKind::OtherEnd, socket(world, member, inode)?));
    }
    match link.strip_prefix("anon_inode:")? {
        "[eventfd]" => Some((ProviderKind::Shares, eventfd(world, member, fd)?)),
        "[pidfd]" => family::pidfd(world, member, fd),
        "[userfaultfd]" if wants == Wants::Input => servers::of_questions(world, member),
        // Timers come by themselves, and who could send a signal is not known.
        _ => None,
    }
}

fn is_fifo(tgid: u32, fd: u32, link: &str) -> bool {
    use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};
    if !link.starts_with('/') {
        return false;
    }
    // What is known of it, without asking a file system that may not answer.
    let path = format!("/proc/{tgid}/fd/{fd}");
    let known = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE);
    known.is_ok_and(|s| FileType::from_raw_mode(u32::from(s.stx_mode)) == FileType::Fifo)
}

pub(super) fn socket_inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

/// Those who have a pipe open the other way round.
fn pipe(world: &mut World<'_>, member: &Member, link: &str, wants: Wants) -> Who {
    let gives = |access: (bool, bool)| match wants {
        Wants::Input => access.1,
        Wants::Room => access.0,
    };
    let holders = world.holders();
    let complete = holders.complete;
    let held = holders.of(link).iter();
    let held = held.filter(|held| {
        let access = FdInfo::of(held.pid, held.fd).and_then(|info| info.access());
        access.is_some_and(gives)
    });
    let mut pids: Vec<u32> = held.map(|held| held.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    holding(world, member, &pids, complete)
}

/// The tasks of the processes that hold what is waited for. If that is nobody, a
/// descriptor is where we can't see it: a wait for an end that nobody has would be over.
fn holding(world: &World<'_>, member: &Member, pids: &[u32], complete: bool) -> Who {
    let mut who = world.all_of(pids, member);
    // A handler of its own could write, as many do to tell their main loop.
    let itself = pids.contains(&member.tgid) && !procfs::expects_nothing(member.tgid);
    who.outside |= pids.is_empty() || !complete || itself;
    who
}

/// Those who have the other end of a connection.
fn socket(world: &mut World<'_>, member: &Member, inode: u64) -> Option<Who> {
    let peer = match peers::peer(member.tgid, inode)? {
        peers::Peer::Inode(peer) => peer,
        peers::Peer::Elsewhere => return Some(Who::outside()),
    };
    let holders = world.holders();
    let complete = holders.complete;
    let held = holders.of(&format!("socket:[{peer}]")).iter();
    let pids: Vec<u32> = held.map(|held| held.pid).collect();
    Some(holding(world, member, &pids, complete))
}

/// Those who have the same counter.
fn eventfd(world: &mut World<'_>, member: &Member, fd: u32) -> Option<Who> {
    let id = |pid, fd| FdInfo::of(pid, fd)?.number("eventfd-id");
    let this = id(member.tgid, fd)?;
    let holders = world.holders();
    let complete = holders.complete;
    let held = holders.of("anon_inode:[eventfd]").iter();
    let same = held.filter(|held| id(held.pid, held.fd) == Some(this));
    let mut pids: Vec<u32> = same.map(|held| held.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    Some(holding(world, member, &pids, complete))
}
