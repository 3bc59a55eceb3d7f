//! What a task that goes to sleep waits for, and for how long at most: from the
//! arguments of its syscall, which are still in its memory.

use aya_ebpf::helpers::{bpf_probe_read_user, generated};
use forktrace_common::{
    event::{
        Entry, Object, TaskState, WAITSET_BYTES, WAITSET_POLLFDS, WAITSET_SET_BYTES, Waitset, kind,
        timeout,
    },
    layout::{futex, wait, waitv},
};

use crate::{
    cpu::{Cpu, count},
    emit,
    filter::control,
    kernel::{self, File, Regs, Task, layout},
    maps::{KnownObject, OBJECTS, SCRATCH, SCRATCH_WORDS},
    shared::{Shared, at},
};

// The operations of `futex` that wait (include/uapi/linux/futex.h). The first has
// a relative timeout, the others an absolute one.
const FUTEX_WAIT: u64 = 0;
const FUTEX_LOCK_PI: u64 = 6;
const FUTEX_WAIT_BITSET: u64 = 9;
const FUTEX_WAIT_REQUEUE_PI: u64 = 11;
const FUTEX_LOCK_PI2: u64 = 13;
const FUTEX_CMD_MASK: u64 = 0x7f;
const FUTEX_PRIVATE_FLAG: u64 = 128;
const FUTEX_TID_MASK: u32 = 0x3fff_ffff;
const FUTEX_WAITERS: u32 = 0x8000_0000;
const FUTEX_CLOCK_REALTIME: u64 = 256;
const CLOCK_MONOTONIC: u64 = 1;
const TIMER_ABSTIME: u64 = 1;
// include/uapi/linux/stat.h
const S_IFMT: u16 = 0o170_000;
const S_IFIFO: u16 = 0o010_000;
const S_IFSOCK: u16 = 0o140_000;
/// Words of each set of a `select` that are looked at.
const SET_WORDS: u32 = (WAITSET_SET_BYTES / 8) as u32;

/// Notes object and timeout of the call in the state, which has the syscall and its first
/// two arguments.
#[inline(always)]
pub fn look(cpu: Cpu, task: Task, regs: Regs, state: Shared<TaskState>, now: u64) {
    let (mut id, mut timeout_us) = (0, timeout::NONE);
    match kernel::wait_kind(at!(state.syscall).load()) {
        wait::NONE => {}
        wait::CHILD => at!(state.common_wait).store(1),
        wait::FD => {
            let (object, common_wait) = object(cpu, task, state);
            id = object;
            at!(state.common_wait).store(common_wait);
        }
        wait::FUTEX => {
            at!(state.common_wait).store(1);
            let op = regs.arg(1) as u32 as u64;
            let owner = owner(task, regs.arg(0), op, regs.arg(2) as u32);
            at!(state.arg1).store(futex::arg1(op as u32, owner));
            let (at, realtime) = (regs.arg(3), op & FUTEX_CLOCK_REALTIME != 0);
            timeout_us = match op & FUTEX_CMD_MASK {
                _ if at == 0 => timeout::NONE,
                FUTEX_WAIT => relative(at, 1000),
                // Always of the wall clock.
                FUTEX_LOCK_PI => timeout::UNKNOWN,
                FUTEX_WAIT_BITSET | FUTEX_WAIT_REQUEUE_PI | FUTEX_LOCK_PI2 if realtime => {
                    timeout::UNKNOWN
                }
                FUTEX_WAIT_BITSET | FUTEX_WAIT_REQUEUE_PI | FUTEX_LOCK_PI2 => absolute(at, now),
                // The others don't wait for the futex, and that argument is a number.
                _ => timeout::NONE,
            };
        }
        _ => {
            id = rarer_object(cpu, task, state);
            timeout_us = rarer_timeout(task, state, now);
        }
    }
    at!(state.object).store(id);
    at!(state.timeout_us).store(timeout_us);
}

/// The tid of the lock's owner, as the lock has it now: the current task goes to sleep on it
/// and has seen it taken. 0: it has no owner that is known.
///
/// The kernel's own rule for locks with priority inheritance is that the word is the owner's
/// tid; the robust ones of the C libraries (and all of musl's but the plainest) keep to it. A
/// mutex of the GNU C library is 2 when somebody waits, and has its owner two words further
/// (`struct __pthread_mutex_s`, the same since 2007 on all 64-bit machines: lock, count,
/// owner, users, kind). Its join waits while a word that the kernel clears at a thread's end is
/// that thread's tid. Other locks have no owner that could be read.
#[inline(always)]
fn owner(task: Task, address: u64, op: u64, value: u32) -> u32 {
    /// Normal, recursive, error-checking, adaptive; shared; flags of elision.
    const PLAIN: u32 = 3 | 128 | 0x300;
    const MOST_USERS: u32 = 1 << 20;
    let found = match op & FUTEX_CMD_MASK {
        FUTEX_WAIT if value == 2 => {
            // SAFETY: the helper checks the address.
            let words = unsafe { bpf_probe_read_user(address as *const [u32; 5]) };
            match words {
                Ok([2, _, owner, 1..MOST_USERS, kind]) if kind & !PLAIN == 0 => owner,
                _ => 0,
            }
        }
        FUTEX_WAIT if value & FUTEX_WAITERS != 0 => value & FUTEX_TID_MASK,
        // As if it were shared, for the kernel takes it for that.
        FUTEX_WAIT_BITSET if op & FUTEX_PRIVATE_FLAG == 0 => value,
        FUTEX_LOCK_PI | FUTEX_LOCK_PI2 => {
            // SAFETY: as above.
            let word = unsafe { bpf_probe_read_user(address as *const u32) };
            word.unwrap_or(0) & FUTEX_TID_MASK
        }
        _ => 0,
    };
    // In another pid namespace it is another one's number.
    if found != 0 && task.pid_depth() != 0 {
        return 0;
    }
    found
}

/// The same for a task that is met in its sleep: without what is in its memory, which is
/// not ours. A timeout there is one of unknown length.
#[inline(always)]
pub fn look_from_outside(task: Task, regs: Regs, entry: Shared<Entry>) {
    let kind = kernel::wait_kind(at!(entry.syscall).load());
    if matches!(kind, wait::FD | wait::EPOLL_MS | wait::EPOLL_TIMESPEC) {
        let fd = regs.arg(0) as u32;
        if let Some(file) = task.file(fd) {
            at!(entry.fd).store(fd);
            at!(entry.mode).store(file.mode());
            at!(entry.device).store(file.device());
            at!(entry.file).store(file.address);
            at!(entry.operations).store(file.operations);
            at!(entry.inode).store(file.number);
            at!(entry.object).store(new_id());
        }
    }
    // As in `rarer_object`.
    match kind {
        wait::FUTEX_WAIT => at!(entry.arg1).store(regs.arg(3) as u32),
        wait::FUTEX_WAITV => at!(entry.arg0).store(0),
        _ => {}
    }
    let at = match kind {
        wait::EPOLL_MS => return at!(entry.timeout_us).store(milliseconds(regs.arg(3))),
        wait::POLL => return at!(entry.timeout_us).store(milliseconds(regs.arg(2))),
        wait::FUTEX => match regs.arg(1) & FUTEX_CMD_MASK {
            FUTEX_WAIT
            | FUTEX_LOCK_PI
            | FUTEX_WAIT_BITSET
            | FUTEX_WAIT_REQUEUE_PI
            | FUTEX_LOCK_PI2 => regs.arg(3),
            _ => 0,
        },
        wait::EPOLL_TIMESPEC | wait::TIMESPEC_3 | wait::FUTEX_WAITV => regs.arg(3),
        wait::PPOLL | wait::TIMESPEC_2 | wait::CLOCK_NANOSLEEP => regs.arg(2),
        wait::SELECT | wait::PSELECT6 | wait::FUTEX_WAIT => regs.arg(4),
        wait::NANOSLEEP => regs.arg(0),
        _ => 0,
    };
    if at != 0 {
        at!(entry.timeout_us).store(timeout::UNKNOWN);
    }
}

/// What the rarer kinds wait for. Those of futexes change the arguments in the state to
/// what they would be for `futex`.
#[inline(never)]
fn rarer_object(cpu: Cpu, task: Task, state: Shared<TaskState>) -> u32 {
    let regs = task.regs();
    match kernel::wait_kind(at!(state.syscall).load()) {
        wait::EPOLL_MS | wait::EPOLL_TIMESPEC => object(cpu, task, state).0,
        wait::POLL | wait::PPOLL => pollfds(cpu, regs, state),
        wait::SELECT | wait::PSELECT6 => sets(cpu, regs, state),
        wait::FUTEX_WAIT => {
            at!(state.arg1).store(regs.arg(3) as u32);
            0
        }
        wait::FUTEX_WAITV => {
            first_futex(regs, state);
            0
        }
        _ => 0,
    }
}

/// How long they wait at most.
#[inline(never)]
fn rarer_timeout(task: Task, state: Shared<TaskState>, now: u64) -> u32 {
    let regs = task.regs();
    let kind = kernel::wait_kind(at!(state.syscall).load());
    // Where the timeout is, and in what form.
    let monotonic = match kind {
        wait::CLOCK_NANOSLEEP => regs.arg(0) == CLOCK_MONOTONIC,
        wait::FUTEX_WAIT => regs.arg(5) as u32 as u64 == CLOCK_MONOTONIC,
        wait::FUTEX_WAITV => regs.arg(4) as u32 as u64 == CLOCK_MONOTONIC,
        _ => true,
    };
    let (at, is_absolute) = match kind {
        wait::EPOLL_MS => return milliseconds(regs.arg(3)),
        wait::POLL => return milliseconds(regs.arg(2)),
        wait::EPOLL_TIMESPEC | wait::TIMESPEC_3 => (regs.arg(3), false),
        wait::PPOLL | wait::TIMESPEC_2 => (regs.arg(2), false),
        wait::SELECT | wait::PSELECT6 => (regs.arg(4), false),
        wait::NANOSLEEP => (regs.arg(0), false),
        wait::CLOCK_NANOSLEEP => (regs.arg(2), regs.arg(1) & TIMER_ABSTIME != 0),
        wait::FUTEX_WAIT => (regs.arg(4), true),
        wait::FUTEX_WAITV => (regs.arg(3), true),
        _ => return timeout::NONE,
    };
    if at == 0 {
        timeout::NONE
    } else if !is_absolute {
        relative(at, if kind == wait::SELECT { 1 } else { 1000 })
    } else if monotonic {
        absolute(at, now)
    } else {
        timeout::UNKNOWN
    }
}

/// In place of the arguments, the first futex of a list: its address, its flags and
/// the list's length (see [`waitv`]).
#[inline(always)]
fn first_futex(regs: Regs, state: Shared<TaskState>) {
    // `struct futex_waitv` (include/uapi/linux/futex.h): value, address, flags.
    // SAFETY: the helper checks the address.
    let first = unsafe { bpf_probe_read_user(regs.arg(0) as *const [u64; 3]) };
    let Ok([_, address, flags]) = first else {
        at!(state.arg0).store(0);
        return;
    };
    at!(state.arg0).store(address);
    at!(state.arg1).store(waitv::arg1(flags as u32, regs.arg(1) as u32));
}

/// A timeout in milliseconds, where less than 0 is none.
#[inline(always)]
fn milliseconds(ms: u64) -> u32 {
    let ms = ms as u32 as i32;
    if ms < 0 {
        return timeout::NONE;
    }
    clamp(ms as u64 * 1000)
}

#[inline(always)]
fn clamp(us: u64) -> u32 {
    if us > u64::from(timeout::MAX) {
        timeout::MAX
    } else {
        us as u32
    }
}

/// Two words of the task's memory: seconds, and parts of a second.
#[inline(always)]
fn read_time(at: u64) -> Option<[u64; 2]> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(at as *const [u64; 2]) }.ok()
}

/// Seconds, so few that they are no problem in smaller units: a century at most.
#[inline(always)]
fn whole(seconds: u64) -> u64 {
    if seconds < 1 << 32 { seconds } else { 1 << 32 }
}

/// A duration at an address, `divisor` parts of a second a microsecond.
#[inline(always)]
fn relative(at: u64, divisor: u64) -> u32 {
    match read_time(at) {
        Some([seconds, parts]) => clamp(whole(seconds) * 1_000_000 + parts / divisor),
        None => timeout::UNKNOWN,
    }
}

/// A moment of `CLOCK_MONOTONIC` at an address, from now.
#[inline(always)]
fn absolute(at: u64, now: u64) -> u32 {
    match read_time(at) {
        Some([seconds, ns]) => {
            let until = whole(seconds) * 1_000_000_000 + ns;
            clamp(until.saturating_sub(now) / 1000)
        }
        None => timeout::UNKNOWN,
    }
}

/// A new number for an object or a waitset.
#[inline(always)]
fn new_id() -> u32 {
    match control() {
        Some(control) => at!(control.objects).fetch_add(1) as u32 + 1,
        None => 0,
    }
}

/// The number of the file that the descriptor in the first argument is, and
/// [`TaskState::common_wait`].
#[inline(always)]
fn object(cpu: Cpu, task: Task, state: Shared<TaskState>) -> (u32, u8) {
    let fd = at!(state.arg0).load() as u32;
    let Some(file) = task.file(fd) else {
        return (0, 0);
    };
    let mask = layout!(object_mask);
    let first = cpu.number() * (mask + 1);
    // Fibonacci hashing.
    let hash =
        (cpu.as_number(file.address) ^ file.number << 24).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let index = hash as u32 & mask;
    // Each file has two places, so that two can't drive each other out for ever.
    let (Some(place), Some(other)) = (
        OBJECTS.get_ptr_mut(first + index),
        OBJECTS.get_ptr_mut(first + (index ^ 1)),
    ) else {
        return (0, 0);
    };
    // SAFETY: the pointers are into the map, to this CPU's part and two places; a
    // switch does not meet another on its CPU.
    let (place, other) = unsafe { (&mut *place, &mut *other) };
    if place.is(file) {
        return place.number_and_kind();
    }
    if other.is(file) {
        return other.number_and_kind();
    }
    let (id, mode) = (new_id(), file.mode());
    let (serial, device, at_ns) = (at!(state.serial).load(), file.device(), kernel::now());
    let sent = emit::in_place(cpu, |record: *mut Object| {
        // SAFETY: the record is in the ring, reserved for us.
        unsafe {
            record.write(Object {
                kind: kind::OBJECT,
                zero: 0,
                mode,
                id,
                serial,
                fd,
                at_ns,
                file: file.address,
                operations: file.operations,
                inode: file.number,
                device,
                zero2: 0,
                name: [0; _],
            });
            file.last_name(&raw mut (*record).name);
        }
    });
    if !sent {
        count!(cpu, lost_other);
        emit::log_lost(size_of::<Object>() as u32);
        return (0, 0);
    }
    *other = *place;
    *place = KnownObject {
        file: file.address,
        operations: file.operations,
        inode: file.inode,
        number: file.number,
        id,
        common_wait: u32::from(matches!(mode & S_IFMT, S_IFIFO | S_IFSOCK)),
    };
    place.number_and_kind()
}

impl KnownObject {
    #[inline(always)]
    fn number_and_kind(&self) -> (u32, u8) {
        (self.id, self.common_wait as u8)
    }

    #[inline(always)]
    fn is(&self, file: File) -> bool {
        self.file == file.address
            && self.operations == file.operations
            && self.inode == file.inode
            && self.number == file.number
    }
}

/// The number of the list of `pollfd`s in the first two arguments.
#[inline(always)]
fn pollfds(cpu: Cpu, regs: Regs, state: Shared<TaskState>) -> u32 {
    let Some(words) = SCRATCH.get_ptr_mut(cpu.number()) else {
        return 0;
    };
    let nfds = regs.arg(1) as u32;
    let count = if nfds < WAITSET_POLLFDS {
        nfds
    } else {
        WAITSET_POLLFDS
    };
    // SAFETY: the buffer is in the map and holds that many.
    let failed = unsafe {
        generated::bpf_probe_read_user(words.cast(), bounded(count * 8), regs.arg(0) as *const _)
    };
    if failed != 0 {
        return 0;
    }
    waitset(cpu, state, nfds, false)
}

/// A size that the verifier can see to be one, in a register that the compiler
/// can't do without.
#[inline(always)]
fn bounded(bytes: u32) -> u32 {
    core::hint::black_box(bytes) & (2 * WAITSET_BYTES as u32 - 1)
}

/// The number of the three sets in the first four arguments.
#[inline(always)]
fn sets(cpu: Cpu, regs: Regs, state: Shared<TaskState>) -> u32 {
    let Some(words) = SCRATCH.get_ptr_mut(cpu.number()) else {
        return 0;
    };
    let nfds = regs.arg(0) as u32;
    let used = if nfds < SET_WORDS * 64 {
        nfds.div_ceil(64)
    } else {
        SET_WORDS
    };
    let from = [regs.arg(1), regs.arg(2), regs.arg(3)];
    // SAFETY: the buffer is in the map, and three sets fit into it.
    unsafe { words.cast::<u64>().write_bytes(0, 3 * SET_WORDS as usize) };
    for (i, from) in from.into_iter().enumerate() {
        if from == 0 {
            continue;
        }
        // SAFETY: as above.
        let failed = unsafe {
            let to = words.cast::<u8>().add(i * WAITSET_SET_BYTES);
            generated::bpf_probe_read_user(to.cast(), bounded(used * 8), from as *const _)
        };
        if failed != 0 {
            return 0;
        }
    }
    waitset(cpu, state, nfds, true)
}

/// The number of the waitset in the scratch room: a new one, if it is not that
/// of the task's last call.
#[inline(never)]
fn waitset(cpu: Cpu, state: Shared<TaskState>, nfds: u32, select: bool) -> u32 {
    // Of a `pollfd`, the last two bytes are a result.
    let (words, mask) = if select {
        (3 * SET_WORDS, u64::MAX)
    } else {
        (nfds, 0x0000_ffff_ffff_ffff)
    };
    let Some(scratch) = SCRATCH.get_ptr_mut(cpu.number()) else {
        return 0;
    };
    // FNV-1a by words; not 0 in practice, and 0 only sends the set again.
    let mut hash = 0xcbf2_9ce4_8422_2325u64 ^ u64::from(nfds);
    // Opaque, or the compiler unrolls the loop into a long program.
    let count = core::hint::black_box(WAITSET_BYTES / 8);
    for i in 0..SCRATCH_WORDS {
        if i >= count || i as u32 >= words {
            break;
        }
        // SAFETY: within the buffer.
        let word = unsafe {
            scratch
                .cast::<u64>()
                .add(core::hint::black_box(i) & (SCRATCH_WORDS - 1))
                .read()
        } & mask;
        hash = (hash ^ word).wrapping_mul(0x0100_0000_01b3);
        hash ^= hash >> 29;
    }
    if at!(state.waitset_hash).load() == hash && hash != 0 {
        return at!(state.waitset).load();
    }
    let id = new_id();
    let (serial, at_ns) = (at!(state.serial).load(), at!(state.out_ns).load());
    let sent = emit::in_place(cpu, |record: *mut Waitset| {
        // SAFETY: the record is in the ring, reserved for us; the buffer is as
        // large as the field.
        unsafe {
            (*record).kind = kind::WAITSET;
            (*record).select = u8::from(select);
            (*record).zero = [0; 2];
            (*record).id = id;
            (*record).serial = serial;
            (*record).nfds = nfds;
            (*record).at_ns = at_ns;
            (&raw mut (*record).bytes)
                .cast::<[u64; WAITSET_BYTES / 8]>()
                .copy_from_nonoverlapping(scratch.cast(), 1);
        }
    });
    if !sent {
        count!(cpu, lost_other);
        emit::log_lost(size_of::<Waitset>() as u32);
        return 0;
    }
    at!(state.waitset_hash).store(hash);
    at!(state.waitset).store(id);
    id
}
