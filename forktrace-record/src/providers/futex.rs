//! Waits for a futex: who owns the lock, whose end is waited for, who shares the memory.
//!
//! What a word means is a convention of the library that waits for it; the layouts are
//! those of the GNU C library since 2.27, the same on all 64-bit machines.

use super::{
    memory::FileId,
    world::{Found, Member, Who, World},
};
use crate::{
    procfs::{
        self, Call, FUTEX_LOCK_PI, FUTEX_LOCK_PI2, FUTEX_PRIVATE_FLAG, FUTEX_TID_MASK, FUTEX_WAIT,
        FUTEX_WAIT_BITSET, futex_command,
    },
    trace::ProviderKind,
};

// include/uapi/linux/futex.h
const FUTEX_WAITERS: u32 = 0x8000_0000;

/// Words of a `pthread_rwlock_t` before the one that is waited for.
const RWLOCK_WRITER_PHASE: u64 = 2;
const RWLOCK_WRITERS: u64 = 3;

pub(super) fn find(world: &mut World<'_>, member: &Member, call: &Call) -> Found {
    let [address, op, value, timeout, ..] = call.arguments;
    let (op, value) = (op as u32, value as u32);
    let command = futex_command(op);
    if timeout != 0 {
        return None;
    }
    let private = op & FUTEX_PRIVATE_FLAG != 0;
    let file = match private {
        true => None,
        false => world.maps(member.tgid).shared_file(address),
    };
    let words = words(member.tgid, address);
    let owner = match command {
        FUTEX_LOCK_PI | FUTEX_LOCK_PI2 => {
            let owner = words.first().map(|word| word & FUTEX_TID_MASK);
            owner.filter(|tid| *tid != 0)
        }
        FUTEX_WAIT => mutex_owner(&words, op, value).or_else(|| robust_owner(&words, value)),
        FUTEX_WAIT_BITSET => {
            if let Some(joined) = joined(world, member, &words, op, value) {
                return Some((ProviderKind::Joined, Who::tasks(vec![joined])));
            }
            [RWLOCK_WRITER_PHASE, RWLOCK_WRITERS]
                .into_iter()
                .find_map(|before| {
                    let base = address.checked_sub(before * 4)?;
                    rwlock_writer(&self::words(member.tgid, base), before, value)
                })
        }
        _ => return None,
    };
    if let Some(tid) = owner {
        return Some((
            ProviderKind::Owner,
            owner_of(world, member, tid, file, command)?,
        ));
    }
    let readers = command == FUTEX_WAIT_BITSET && {
        let base = address.checked_sub(RWLOCK_WRITER_PHASE * 4)?;
        is_read_locked(&self::words(member.tgid, base), value) && world.maps(member.tgid).has_glibc
    };
    if readers {
        let processes = match file {
            Some(file) => sharing(world, file),
            None => vec![member.tgid],
        };
        return Some((ProviderKind::Readers, world.all_of(&processes, member)));
    }
    let file = file?;
    let sharing = sharing(world, file);
    Some((ProviderKind::Shares, world.all_of(&sharing, member)))
}

/// The other threads of a process, where nobody else can wake who waits for this futex: no other
/// process reaches it, no timer, debugger or signal runs code that could, and all its threads are
/// known.
pub(super) fn parked(world: &mut World<'_>, member: &Member, address: u64) -> Option<Who> {
    /// A process with more has one that goes on.
    const MOST: usize = 64;
    let known = world.process(member.tgid).len();
    let alone = known <= MOST
        && world.expects_nothing(member.tgid)
        && procfs::waits_forever(member.tgid, member.tid, address);
    // Of one that was attached to, it may be some only.
    let all = || procfs::threads(member.tgid) == Some(known);
    (alone && all()).then(|| world.all_of(&[member.tgid], member))
}

/// The first words at an address, as many as there are.
fn words(tgid: u32, address: u64) -> Vec<u32> {
    let mut words = vec![0; 8];
    for length in [8, 5, 1] {
        words.truncate(length);
        if procfs::read_words(tgid, address, &mut words).is_some() {
            return words;
        }
    }
    Vec::new()
}

/// The owner in a mutex that is not robust.
fn mutex_owner(words: &[u32], op: u32, value: u32) -> Option<u32> {
    let words = words.first_chunk::<5>()?;
    procfs::glibc_owner(*words, op, value).filter(|tid| *tid != 0)
}

/// The owner of a robust one is in the lock itself; they are all waited for as if they
/// were shared.
fn robust_owner(words: &[u32], value: u32) -> Option<u32> {
    const ROBUST: u32 = 16;
    /// Normal, recursive, error-checking; robust; shared; whether the lock is elided.
    const KNOWN: u32 = 3 | ROBUST | 128 | 0x300;
    let [lock, _, owner, users, kind] = *words.first_chunk::<5>()?;
    let tid = lock & FUTEX_TID_MASK;
    let is_one = lock == value
        && lock & FUTEX_WAITERS != 0
        && owner == tid
        && kind & ROBUST != 0
        && kind & !KNOWN == 0
        && (1..1 << 20).contains(&users);
    (is_one && tid != 0).then_some(tid)
}

/// `struct __pthread_rwlock_arch_t`: readers, writers, the two futexes, two blanks, the
/// tid of the writer that has it, whether it is shared.
fn rwlock_writer(words: &[u32], futex: u64, value: u32) -> Option<u32> {
    const WRITE_LOCKED: u32 = 2;
    /// Bits of a futex word: it is used; whose turn it is.
    const USED: u32 = 2;
    const FUTEX_BITS: u32 = 3;
    let [readers, _, phase, writers, _, _, writer, shared] = *words.first_chunk::<8>()?;
    let waited_for = match futex {
        RWLOCK_WRITER_PHASE => phase,
        _ => writers,
    };
    let is_one = waited_for == value
        && value & USED != 0
        && value & !FUTEX_BITS == 0
        && readers & WRITE_LOCKED != 0
        && shared <= 1;
    (is_one && writer != 0).then_some(writer)
}

/// Does a writer that waits for this value of the phase wait for readers? They are counted, and
/// no other writer has the lock.
fn is_read_locked(words: &[u32], value: u32) -> bool {
    const WRITE_PHASE: u32 = 1;
    const WRITE_LOCKED: u32 = 2;
    const READER_SHIFT: u32 = 3;
    const USED: u32 = 2;
    let Some([readers, _, phase, _, _, _, writer, shared]) = words.first_chunk::<8>() else {
        return false;
    };
    (*phase, value) == (USED, USED)
        && readers & (WRITE_PHASE | WRITE_LOCKED) == WRITE_LOCKED
        && (1..1 << 20).contains(&(readers >> READER_SHIFT))
        && *writer == 0
        && *shared <= 1
}

/// The thread that is waited for with `pthread_join`: the kernel clears its tid when it
/// ends, and wakes who waits there, in whatever process.
fn joined(
    world: &mut World<'_>,
    member: &Member,
    words: &[u32],
    op: u32,
    value: u32,
) -> Option<u32> {
    let tid = *words.first()?;
    if op & FUTEX_PRIVATE_FLAG != 0 || tid != value {
        return None;
    }
    let joined = world.thread(member.tgid, tid)?;
    (joined != member.serial).then_some(joined)
}

/// The processes that share a file's memory.
fn sharing(world: &mut World<'_>, file: FileId) -> Vec<u32> {
    let mut processes = world.processes();
    processes.retain(|process| world.maps(*process).shares(file));
    processes
}

/// Whose tid this is, among those who can reach the lock.
fn owner_of(
    world: &mut World<'_>,
    member: &Member,
    tid: u32,
    file: Option<FileId>,
    command: u32,
) -> Option<Who> {
    if let Some(owner) = world.thread(member.tgid, tid) {
        return Some(Who::tasks(vec![owner]));
    }
    if let Some(file) = file {
        for process in sharing(world, file) {
            if let Some(owner) = world.thread(process, tid) {
                return Some(Who::tasks(vec![owner]));
            }
        }
        // It may be another program that shares it.
        if procfs::lives(tid) {
            return Some(Who {
                foreign: Some(tid),
                ..Who::outside()
            });
        }
    }
    // Other libraries have other layouts: a living owner can't be there by chance, but any
    // number can.
    let certain =
        matches!(command, FUTEX_LOCK_PI | FUTEX_LOCK_PI2) || world.maps(member.tgid).has_glibc;
    certain.then_some(Who {
        foreign: Some(tid),
        ..Who::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_robust_mutex_names_its_owner_in_the_lock() {
        let lock = 4121 | FUTEX_WAITERS;
        assert_eq!(
            robust_owner(&[lock, 0, 4121, 1, 16, 0, 0, 0], lock),
            Some(4121)
        );
        assert_eq!(
            robust_owner(&[lock, 1, 4121, 1, 16 | 128 | 1], lock),
            Some(4121)
        );
        // Not robust; another owner; nobody waits; not what is waited for; too short.
        assert_eq!(robust_owner(&[lock, 0, 4121, 1, 0], lock), None);
        assert_eq!(robust_owner(&[lock, 0, 4122, 1, 16], lock), None);
        assert_eq!(robust_owner(&[4121, 0, 4121, 1, 16], 4121), None);
        assert_eq!(robust_owner(&[lock, 0, 4121, 1, 16], 2), None);
        assert_eq!(robust_owner(&[lock], lock), None);
    }

    #[test]
    fn a_writer_is_named_by_the_lock_that_it_has() {
        // A reader waits for the phase, another writer for its turn.
        let lock = [2 | 1, 0, 3, 3, 0, 0, 4121, 0];
        assert_eq!(rwlock_writer(&lock, RWLOCK_WRITER_PHASE, 3), Some(4121));
        assert_eq!(rwlock_writer(&lock, RWLOCK_WRITERS, 3), Some(4121));
        // Read-locked; no writer's name; not what is waited for; anything.
        assert_eq!(rwlock_writer(&[8, 0, 3, 3, 0, 0, 4121, 0], 2, 3), None);
        assert_eq!(rwlock_writer(&[3, 0, 3, 3, 0, 0, 0, 0], 2, 3), None);
        assert_eq!(rwlock_writer(&lock, 2, 1), None);
        assert_eq!(rwlock_writer(&[3, 0, 7, 3, 0, 0, 4121, 0], 2, 7), None);
    }

    #[test]
    fn a_writer_waits_for_readers_whom_the_lock_counts() {
        // Two have it, and a writer has announced itself.
        let lock = [2 << 3 | 2, 0, 2, 0, 0, 0, 0, 0];
        assert!(is_read_locked(&lock, 2));
        assert!(!is_read_locked(&lock, 3));
        // Nobody has it; a writer has it; anything.
        assert!(!is_read_locked(&[2, 0, 2, 0, 0, 0, 0, 0], 2));
        assert!(!is_read_locked(&[2 << 3 | 3, 0, 2, 0, 0, 0, 4121, 0], 2));
        assert!(!is_read_locked(&[2 << 3 | 2, 0, 2, 0, 0, 0, 0, 77], 2));
        assert!(!is_read_locked(&[2 << 3 | 2], 2));
    }
}
