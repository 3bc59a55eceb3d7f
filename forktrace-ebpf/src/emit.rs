//! Sends records.
//!
//! A record goes to the ring of the CPU that sends it. The reader is not woken
//! for each (that costs 25 µs), but once in a quarter of the ring; in between it
//! looks by itself from time to time.

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use forktrace_common::event::{Stretch, TaskState, Totals, flag, kind};

use crate::{
    filter::{cpu, stats},
    kernel::layout,
    maps::RINGS,
};

/// What became of a record.
pub enum Sent {
    /// It is in the ring.
    Yes,
    /// The ring is full.
    RingFull,
    /// This CPU has no ring.
    NoRing,
}

#[inline(always)]
fn send<T: 'static>(cpu: u32, flags: u32, write: impl FnOnce(*mut T)) -> Sent {
    let Some(ring) = RINGS.get(cpu) else {
        return Sent::NoRing;
    };
    let Some(mut entry) = ring.reserve_untyped::<T>(0) else {
        return Sent::RingFull;
    };
    write(entry.as_mut_ptr());
    entry.submit(u64::from(flags));
    Sent::Yes
}

/// Sends a record of a kind that is rare; `write` fills all of it, in place,
/// because the stack is small. True when it is in the ring.
#[inline(always)]
pub fn rare<T: 'static>(write: impl FnOnce(*mut T)) -> bool {
    matches!(send(cpu(), BPF_RB_NO_WAKEUP, write), Sent::Yes)
}

/// The same, and wakes the reader.
#[inline(always)]
pub fn rare_and_wake<T: 'static>(write: impl FnOnce(*mut T)) -> bool {
    matches!(send(cpu(), BPF_RB_FORCE_WAKEUP, write), Sent::Yes)
}

/// Counts a record that found no room and that no later record makes up for.
#[inline(always)]
pub fn count_lost_other() {
    if let Some(stats) = stats(cpu()) {
        stats.lost_other += 1;
    }
}

/// Sends a stretch, and before it the task's sums if records before it were lost.
#[inline(always)]
pub fn stretch(state: &mut TaskState, sums_before: Totals, write: impl FnOnce(*mut Stretch)) {
    let cpu = cpu();
    let Some(stats) = stats(cpu) else {
        return;
    };
    // Sums that lack a stretch would be wrong: better none.
    if state.flags & flag::RESYNC != 0 && state.missed == 0 {
        let write = |record: *mut Totals| {
            // SAFETY: the record is in the ring, reserved for us.
            unsafe { *record = sums_before }
        };
        if matches!(send(cpu, BPF_RB_NO_WAKEUP, write), Sent::Yes) {
            state.flags &= !flag::RESYNC;
        }
    }
    let count = stats.stretches + 1;
    let wake = if count & u64::from(layout!(wake_mask)) == 0 {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    };
    match send(cpu, wake, write) {
        Sent::Yes => {
            stats.stretches = count;
            return;
        }
        Sent::RingFull => stats.lost_ring_full += 1,
        Sent::NoRing => stats.lost_no_ring += 1,
    }
    state.lost += 1;
    state.flags |= flag::RESYNC;
}

/// The sums of a task as a record.
#[inline(always)]
pub fn totals(state: &TaskState) -> Totals {
    Totals {
        kind: kind::TOTALS,
        zero: [0; 3],
        serial: state.serial,
        seq: state.seq,
        lost: state.lost,
        blocked_ns: state.blocked_ns,
        runnable_ns: state.runnable_ns,
        stopped_ns: state.stopped_ns,
    }
}
