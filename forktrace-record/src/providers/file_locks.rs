//! Waits for a lock on a file: `flock`, `fcntl`, and those of open file descriptions.

use super::{
    holders::{FdInfo, link},
    world::{Found, Member, Who, World},
};
use crate::{
    procfs::{Call, text},
    trace::ProviderKind,
};

/// A line of `/proc/locks`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lock<'a> {
    /// The same for a lock and those who wait for it.
    number: &'a str,
    waits: bool,
    /// `POSIX`, `FLOCK` or `OFDLCK`.
    class: &'a str,
    /// Who took it, who may have handed it on; -1: a lock of an open file description.
    pid: i64,
    inode: u64,
    /// All but the number: the same in `/proc/PID/fdinfo`.
    text: &'a str,
}

/// `3: -> FLOCK  ADVISORY  WRITE 6769 fe:00:10035418 0 EOF`
fn parse(line: &str) -> Option<Lock<'_>> {
    let (number, rest) = line.split_once(':')?;
    let rest = rest.trim();
    let text = rest.strip_prefix("->").map(str::trim_start);
    let (waits, text) = (text.is_some(), text.unwrap_or(rest));
    let mut words = text.split_ascii_whitespace();
    let class = words.next()?;
    let pid = words.nth(2)?.parse().ok()?;
    let inode = words.next()?.rsplit(':').next()?.parse().ok()?;
    Some(Lock {
        number,
        waits,
        class,
        pid,
        inode,
        text,
    })
}

pub(super) fn find(world: &mut World<'_>, member: &Member, name: &str, call: &Call) -> Found {
    // include/uapi/asm-generic/fcntl.h
    const F_SETLKW: u64 = 7;
    const F_OFD_SETLKW: u64 = 38;
    let [fd, command, ..] = call.arguments;
    let class = match (name, command) {
        ("flock", _) => "FLOCK",
        (_, F_SETLKW) => "POSIX",
        (_, F_OFD_SETLKW) => "OFDLCK",
        _ => return None,
    };
    let fd = fd as u32;
    let inode = FdInfo::of(member.tgid, fd)?.number("ino")?;
    let table = text::read("/proc/locks").ok()?;
    let locks: Vec<Lock<'_>> = table.lines().filter_map(parse).collect();
    let taken = taken_before(&locks, class, i64::from(member.tgid), inode)?;
    let link = link(member.tgid, fd)?;
    Some((ProviderKind::FileLock, holder(world, member, taken, &link)))
}

/// The lock that a process waits for. Several of its threads may wait for the same file:
/// then for the same lock, or it is not known.
fn taken_before<'a>(
    locks: &'a [Lock<'a>],
    class: &str,
    tgid: i64,
    inode: u64,
) -> Option<&'a Lock<'a>> {
    let ours = |lock: &&Lock<'_>| {
        let pid = if class == "OFDLCK" { -1 } else { tgid };
        lock.waits && lock.class == class && lock.pid == pid && lock.inode == inode
    };
    let mut numbers = locks.iter().filter(ours).map(|lock| lock.number);
    let number = numbers.next()?;
    if numbers.any(|other| other != number) {
        return None;
    }
    locks
        .iter()
        .find(|lock| lock.number == number && !lock.waits)
}

/// Those who have the descriptor that the lock belongs to: not always who took it.
fn holder(world: &mut World<'_>, member: &Member, lock: &Lock<'_>, link: &str) -> Who {
    let mut pids: Vec<u32> = Vec::new();
    if lock.class == "POSIX" {
        pids.extend(u32::try_from(lock.pid));
    } else {
        let has_it = |info: &FdInfo| {
            info.fields("lock").any(|held| {
                let text = held.split_once(':').map(|(_, text)| text.trim());
                text == Some(lock.text)
            })
        };
        let held = world.holders().of(link).iter();
        let held = held.filter(|held| FdInfo::of(held.pid, held.fd).is_some_and(|i| has_it(&i)));
        pids.extend(held.map(|held| held.pid));
        pids.sort_unstable();
        pids.dedup();
    }
    let mut who = world.all_of(&pids, member);
    who.outside |= pids.is_empty();
    who
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
1: FLOCK  ADVISORY  WRITE 20921 fe:00:5693456 0 EOF
3: FLOCK  ADVISORY  WRITE 6695 fe:00:10035418 0 EOF
3: -> FLOCK  ADVISORY  WRITE 6769 fe:00:10035418 0 EOF
3:  -> FLOCK  ADVISORY  WRITE 6770 fe:00:10035418 0 EOF
4: POSIX  ADVISORY  WRITE 88 fe:00:77 0 99
4: -> POSIX  ADVISORY  WRITE 89 fe:00:77 0 99
5: OFDLCK ADVISORY  WRITE -1 fe:00:78 0 EOF
5: -> OFDLCK ADVISORY  WRITE -1 fe:00:78 0 EOF
odd
";

    fn pid_of(class: &str, tgid: i64, inode: u64) -> Option<i64> {
        let locks: Vec<_> = TABLE.lines().filter_map(parse).collect();
        assert_eq!(locks.len(), 8);
        taken_before(&locks, class, tgid, inode).map(|lock| lock.pid)
    }

    #[test]
    fn the_lock_that_is_waited_for_is_the_first_of_its_number() {
        assert_eq!(pid_of("FLOCK", 6769, 10_035_418), Some(6695));
        assert_eq!(pid_of("FLOCK", 6770, 10_035_418), Some(6695));
        assert_eq!(pid_of("POSIX", 89, 77), Some(88));
        assert_eq!(pid_of("OFDLCK", 4, 78), Some(-1));
        // It has it; another file; another kind.
        assert_eq!(pid_of("FLOCK", 6695, 10_035_418), None);
        assert_eq!(pid_of("FLOCK", 6770, 77), None);
        assert_eq!(pid_of("POSIX", 6770, 10_035_418), None);
    }
}
