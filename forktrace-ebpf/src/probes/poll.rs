//! The select/poll family: how often each was called, and what came of it.
//!
//! Switches tell how long a call blocked, but not of calls that found something
//! ready at once. So entry and return are counted, in the kernel, a task at a
//! time; there is no record for each call. Three ways lead here, of which user
//! space attaches the cheapest that the kernel allows: fentry/fexit on each
//! syscall's function, the syscalls' own tracepoints, or the raw tracepoints of
//! all syscalls.

use aya_ebpf::{
    EbpfContext,
    helpers::generated,
    macros::{btf_tracepoint, fentry, fexit, tracepoint},
    programs::{BtfTracePointContext, FEntryContext, FExitContext, TracePointContext},
};
use core::{arch::asm, ffi::c_void};
use forktrace_common::{
    event::{PollCounters, PollState, TaskState},
    layout::poll::{POLL, PPOLL, PSELECT6, SELECT},
    limits::POLL_KINDS,
};

use crate::{
    filter,
    kernel::{Regs, Task, layout},
    maps::POLLS,
    shared::{Shared, at},
};

/// Words of an fd set that are read: 1024 fds, which is all that glibc allows.
const SET_WORDS: usize = 16;

/// Where the arguments of a call are.
trait Args {
    fn get(&self, n: usize) -> u64;
}

/// In registers.
impl Args for Regs {
    #[inline(always)]
    fn get(&self, n: usize) -> u64 {
        match n {
            0 => self.arg(0),
            1 => self.arg(1),
            2 => self.arg(2),
            _ => self.arg(3),
        }
    }
}

/// In the record of a syscall tracepoint: 8 bytes common to all tracepoints, the
/// number in 8 bytes, the arguments. The layout is ABI.
struct Record(*const u64);

impl Record {
    #[inline(always)]
    fn of(ctx: &TracePointContext) -> Self {
        Self(ctx.as_ptr().cast::<u64>().cast_const())
    }

    /// Which call of the family this is.
    #[inline(always)]
    fn position(&self) -> Option<usize> {
        // SAFETY: the context of a syscall's entry holds its number here.
        position(unsafe { *self.0.add(1) } as i32)
    }
}

impl Args for Record {
    #[inline(always)]
    fn get(&self, n: usize) -> u64 {
        // SAFETY: the context of a syscall's entry holds six arguments.
        unsafe { *self.0.add(2 + n) }
    }
}

/// The current task's state and poll state, if it is traced.
#[inline(always)]
fn current() -> Option<(Shared<TaskState>, Shared<PollState>)> {
    let traced = filter::resolve(Task::current())?;
    let polls = POLLS.get_ptr_mut(traced.slot)?;
    Some((traced.state, Shared::in_map(polls)))
}

/// The counters of a call, by [`PollState::pending`]. The mask is for the verifier.
#[inline(always)]
fn counters(polls: Shared<PollState>, pending: usize) -> Shared<PollCounters> {
    const { assert!((POLL_KINDS + 1).is_power_of_two()) };
    let counters = at!(polls.counters);
    // SAFETY: within the array.
    counters.part(|array| unsafe { array.cast::<PollCounters>().add(pending & POLL_KINDS) })
}

/// A call begins. `position` is that of [`forktrace_common::layout::poll`].
#[inline(always)]
fn enter(position: usize, args: &impl Args) {
    let Some((state, polls)) = current() else {
        return;
    };
    let pending = position as u32 + 1;
    let before = at!(polls.pending).load();
    if before == pending {
        // The kernel restarts the call after a stop: it is the same call.
        return;
    }
    if before != 0 {
        // A signal handler ended the call before: it returned EINTR, which its
        // exit event does not tell from a restart.
        finish(state, polls, before, -1);
    }
    at!(state.polled).store(1);
    at!(polls.pending).store(pending);
    at!(polls.blocks).store(at!(state.blocks).load());

    let fds = match position {
        POLL | PPOLL => Some(args.get(1) as u32),
        SELECT | PSELECT6 => set_size(args),
        // The interest list is not among the arguments.
        _ => return,
    };
    let counters = counters(polls, position + 1);
    match fds {
        Some(fds) => at!(counters.max_fds).store(at!(counters.max_fds).load().max(fds)),
        None => at!(counters.unknown_fds).increase(1),
    }
}

/// The number of fds in the three sets of a select: bits below `n` that are set
/// in any of them.
#[inline(always)]
fn set_size(args: &impl Args) -> Option<u32> {
    let n = args.get(0) as u32;
    if n as usize > SET_WORDS * 64 {
        return None;
    }
    let count = bits_below(n, args.get(1), args.get(2), args.get(3));
    (count >= 0).then_some(count as u32)
}

/// The number of bits below `n` that are set in any of three sets at these
/// addresses, of which 0 is none; -1 when one can't be read.
///
/// The sets are on the stack, because a task can take another's place on the CPU
/// here. Each is read at once and all words are counted, used or not: a loop that
/// reads words or stops early takes the verifier a hundred times as long.
#[inline(never)]
fn bits_below(n: u32, first: u64, second: u64, third: u64) -> i32 {
    let mut bits = [0u64; SET_WORDS];
    let mut used = u64::from(n.div_ceil(64)) * 8;
    // SAFETY: two instructions that change this variable. In assembly, or the compiler
    // tests another register than the one that the verifier wants to see tested.
    unsafe {
        asm!("if {used} <= {most} goto +1", "{used} = {most}", used = inout(reg) used,
            most = const SET_WORDS * 8);
    }
    for from in [first, second, third] {
        // Nothing is read from nowhere, which never fails.
        let used = if from == 0 { 0 } else { used };
        let mut set = [0u64; SET_WORDS];
        // SAFETY: the helper checks the address; the room is as large as the most
        // that can be asked for.
        let failed = unsafe {
            generated::bpf_probe_read_user(
                set.as_mut_ptr().cast(),
                used as u32,
                from as *const c_void,
            )
        };
        if failed != 0 {
            return -1;
        }
        for (word, more) in bits.iter_mut().zip(set) {
            *word |= more;
        }
    }
    let mut count = 0;
    for (i, word) in bits.into_iter().enumerate() {
        let last = n & 63 != 0 && i as u32 == n / 64;
        let word = if last {
            word & ((1 << (n & 63)) - 1)
        } else {
            word
        };
        count += word.count_ones() as i32;
    }
    count
}

/// A call of the family, or a restart of one, returns.
#[inline(always)]
fn exit(returned: i64) {
    let Some((state, polls)) = current() else {
        return;
    };
    let pending = at!(polls.pending).load();
    // ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK: the
    // kernel will enter the call again.
    if pending == 0 || matches!(returned, -512 | -513 | -514 | -516) {
        return;
    }
    finish(state, polls, pending, returned);
}

#[inline(always)]
fn finish(state: Shared<TaskState>, polls: Shared<PollState>, pending: u32, returned: i64) {
    let counters = counters(polls, pending as usize);
    at!(polls.pending).store(0);
    let blocked = at!(state.blocks).load() != at!(polls.blocks).load();
    at!(counters.calls).increase(1);
    if blocked {
        at!(counters.blocked).increase(1);
    }
    if returned < 0 {
        at!(counters.failed).increase(1);
    } else if returned == 0 {
        at!(counters.timed_out).increase(1);
        if !blocked {
            at!(counters.empty_at_once).increase(1);
        }
    } else if !blocked {
        at!(counters.ready_at_once).increase(1);
    }
}

/// The position of a syscall in the family.
#[inline(always)]
fn position(syscall: i32) -> Option<usize> {
    macro_rules! find {
        ($($i:literal)*) => {
            $(if syscall == layout!(poll_syscalls[$i]) {
                return Some($i);
            })*
        };
    }
    find!(0 1 2 3 4 5 6);
    None
}

/// Attached to `syscalls/sys_enter_*` of poll and epoll. Not for select: the
/// kernel refuses to attach a program that reads more arguments than the
/// syscall has, and poll has three.
#[tracepoint]
pub fn poll_enter(ctx: TracePointContext) -> u32 {
    let record = Record::of(&ctx);
    match record.position() {
        Some(SELECT | PSELECT6) | None => {}
        Some(position) => enter(position, &record),
    }
    0
}

/// Attached to `syscalls/sys_enter_*` of select.
#[tracepoint]
pub fn select_enter(ctx: TracePointContext) -> u32 {
    let record = Record::of(&ctx);
    if let Some(position @ (SELECT | PSELECT6)) = record.position() {
        enter(position, &record);
    }
    0
}

/// Attached to `syscalls/sys_exit_*` of the family and of `restart_syscall`.
#[tracepoint]
pub fn poll_exit(ctx: TracePointContext) -> u32 {
    // SAFETY: the context of a syscall's return holds its result here.
    exit(unsafe { *ctx.as_ptr().cast::<i64>().add(2) });
    0
}

/// Every syscall of the machine: the number decides.
#[btf_tracepoint(function = "sys_enter")]
pub fn poll_sys_enter(ctx: BtfTracePointContext) -> i32 {
    let syscall: i64 = ctx.arg(1);
    if let Some(position) = position(syscall as i32) {
        if !Task::current().is_compat() {
            enter(position, &Regs::from_arg(ctx.arg(0)));
        }
    }
    0
}

/// Every syscall of the machine: only a call that is under way is ended.
#[btf_tracepoint(function = "sys_exit")]
pub fn poll_sys_exit(ctx: BtfTracePointContext) -> i32 {
    exit(ctx.arg(1));
    0
}

macro_rules! functions {
    ($($enter:ident $exit:ident $position:literal;)*) => {
        $(
            /// At the syscall's function.
            #[fentry]
            pub fn $enter(ctx: FEntryContext) -> i32 {
                enter($position, &Regs::from_arg(ctx.arg(0)));
                0
            }

            /// At the return of the syscall's function.
            #[fexit]
            pub fn $exit(ctx: FExitContext) -> i32 {
                exit(ctx.arg(1));
                0
            }
        )*
    };
}

functions! {
    fentry_select fexit_select 0;
    fentry_pselect6 fexit_pselect6 1;
    fentry_poll fexit_poll 2;
    fentry_ppoll fexit_ppoll 3;
    fentry_epoll_wait fexit_epoll_wait 4;
    fentry_epoll_pwait fexit_epoll_pwait 5;
    fentry_epoll_pwait2 fexit_epoll_pwait2 6;
}

/// At the return of `restart_syscall`, which ends a poll that was stopped.
#[fexit]
pub fn fexit_restart_syscall(ctx: FExitContext) -> i32 {
    exit(ctx.arg(1));
    0
}
