//! Waits for one of several descriptors: whoever could make one of them ready.

use super::{
    descriptors::{Wants, other_end},
    holders::FdInfo,
    world::{Found, Member, Sleeper, Who, World},
};
use crate::{
    procfs::{self, Call},
    trace::{ProviderKind, WaitFd},
};

/// Of more, nothing is told.
const MOST: usize = 256;
// include/uapi/asm-generic/poll.h, and the same for epoll.
const POLLIN: u32 = 1;
const POLLOUT: u32 = 4;

/// Is it a call that is given its descriptors, all at once?
pub(super) fn is_set(name: &str) -> bool {
    matches!(name, "poll" | "ppoll" | "select" | "pselect6")
}

/// What a nameless call of select or poll waits for, each descriptor once.
pub(super) fn of(world: &mut World<'_>, sleeper: &Sleeper) -> Option<Vec<WaitFd>> {
    if !sleeper.nameless || sleeper.syscall < 0 {
        return None;
    }
    let name = world.scene.arch.syscall_name(i32::from(sleeper.syscall))?;
    let read = match name {
        name if !is_set(name) => return None,
        "poll" | "ppoll" => polled,
        _ => selected,
    };
    let member = world.member(sleeper.serial)?;
    let call = Call::of(member.tgid, member.tid)?;
    // Another call by now.
    if call.number != i64::from(sleeper.syscall) || call.arguments[0] != sleeper.arg0 {
        return None;
    }
    let mut fds: Vec<WaitFd> = Vec::new();
    for (fd, wants) in read(member, &call)? {
        let fd = i32::try_from(fd).ok()?;
        let events = match wants {
            Wants::Input => POLLIN,
            Wants::Room => POLLOUT,
        } as u16;
        match fds.last_mut().filter(|last| last.fd == fd) {
            Some(last) => last.events |= events,
            None => fds.push(WaitFd { fd, events }),
        }
    }
    fds.sort_by_key(|it| it.fd);
    (!fds.is_empty()).then_some(fds)
}

/// All descriptors of a set, and what for; those of which it is not known who could make
/// them ready leave the whole set unknown.
pub(super) fn find(world: &mut World<'_>, member: &Member, name: &str, call: &Call) -> Found {
    let set = match name {
        "poll" | "ppoll" => polled(member, call),
        "select" | "pselect6" => selected(member, call),
        _ => interest(member, call),
    }?;
    if set.is_empty() {
        return None;
    }
    let mut all: Option<(ProviderKind, Who)> = None;
    for (fd, wants) in set {
        let (kind, who) = other_end(world, member, fd, wants)?;
        all = Some(match all {
            Some((first, known)) if first == kind => (kind, known.and(who)),
            Some((_, known)) => (ProviderKind::OtherEnd, known.and(who)),
            None => (kind, who),
        });
    }
    all
}

fn wants(events: u32) -> impl Iterator<Item = Wants> {
    let input = (events & POLLIN != 0).then_some(Wants::Input);
    let room = (events & POLLOUT != 0).then_some(Wants::Room);
    // A set of neither waits for the other end to be closed.
    let end = (input.is_none() && room.is_none()).then_some(Wants::Input);
    [input, room, end].into_iter().flatten()
}

fn polled(member: &Member, call: &Call) -> Option<Vec<(u32, Wants)>> {
    let [at, count, ..] = call.arguments;
    let count = usize::try_from(count).ok().filter(|count| *count <= MOST)?;
    let mut words = vec![0; count * 2];
    procfs::read_words(member.tgid, at, &mut words)?;
    let set = words.chunks_exact(2).filter(|pair| (pair[0] as i32) >= 0);
    let set = set.flat_map(|pair| wants(pair[1] & 0xffff).map(|wants| (pair[0], wants)));
    Some(set.collect())
}

fn selected(member: &Member, call: &Call) -> Option<Vec<(u32, Wants)>> {
    let [nfds, read, write, ..] = call.arguments;
    let nfds = usize::try_from(nfds).ok().filter(|nfds| *nfds <= 1024)?;
    let mut set = Vec::new();
    for (at, wants) in [(read, Wants::Input), (write, Wants::Room)] {
        if at == 0 {
            continue;
        }
        let mut words = vec![0; nfds.div_ceil(32)];
        procfs::read_words(member.tgid, at, &mut words)?;
        let is_set = |fd: &usize| words[fd / 32] & 1 << (fd % 32) != 0;
        set.extend((0..nfds).filter(is_set).map(|fd| (fd as u32, wants)));
    }
    (set.len() <= MOST).then_some(set)
}

/// What the kernel says that an epoll instance waits for.
fn interest(member: &Member, call: &Call) -> Option<Vec<(u32, Wants)>> {
    let info = FdInfo::of(member.tgid, call.arguments[0] as u32)?;
    let mut set = Vec::new();
    for line in info.fields("tfd") {
        let (fd, events, inode) = member_of(line)?;
        // The number is another file by now, or always was in another process.
        let same = FdInfo::of(member.tgid, fd)?.number("ino") == Some(inode);
        if !same || set.len() > MOST {
            return None;
        }
        set.extend(wants(events).map(|wants| (fd, wants)));
    }
    Some(set)
}

/// `5 events:       19 data:                5  pos:0 ino:1a2b sdev:9`
fn member_of(line: &str) -> Option<(u32, u32, u64)> {
    let mut words = line.split_ascii_whitespace();
    let fd = words.next()?.parse().ok()?;
    let mut events = None;
    let mut inode = None;
    let mut is_events = false;
    for word in words {
        if is_events {
            events = u32::from_str_radix(word, 16).ok();
        }
        is_events = word == "events:";
        if let Some(number) = word.strip_prefix("ino:") {
            inode = u64::from_str_radix(number, 16).ok();
        }
    }
    Some((fd, events?, inode?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_of_an_epoll_set_is_read() {
        let line = "5 events:       19 data:                5  pos:0 ino:1a2b sdev:9";
        assert_eq!(member_of(line), Some((5, 0x19, 0x1a2b)));
        assert_eq!(member_of("5 events:"), None);
        assert_eq!(member_of(""), None);
    }

    #[test]
    fn what_is_wanted_follows_from_the_events() {
        let of = |events| wants(events).collect::<Vec<_>>();
        assert_eq!(of(POLLIN), [Wants::Input]);
        assert_eq!(of(POLLIN | POLLOUT), [Wants::Input, Wants::Room]);
        assert_eq!(of(0), [Wants::Input]);
    }
}
