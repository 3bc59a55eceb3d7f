//! Sends records.
//!
//! A record goes to the ring of the CPU that sends it. The reader is not woken
//! for each (that costs 25 µs), but once in a quarter of the ring; in between it
//! looks by itself from time to time.

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_log_ebpf::warn;
use forktrace_common::event::{Stretch, TaskState, Totals, kind};

use crate::{
    cpu::{Cpu, count},
    kernel::layout,
    maps::RINGS,
    shared::{Shared, at},
};

/// Bytes that the kernel puts before each record (`BPF_RINGBUF_HDR_SZ`).
const HEADER: u64 = 8;

/// What became of a record.
pub enum Sent {
    /// It is in the ring.
    Yes,
    /// The ring is full.
    RingFull,
    /// This CPU has no ring.
    NoRing,
}

/// Sends a record; `write` fills all of it, in place, because the stack is small.
#[inline(always)]
fn send<T: 'static>(cpu: Cpu, wake: bool, write: impl FnOnce(*mut T)) -> Sent {
    let Some(ring) = RINGS.get(cpu.number()) else {
        return Sent::NoRing;
    };
    let Some(mut entry) = ring.reserve_untyped::<T>(0) else {
        return Sent::RingFull;
    };
    write(entry.as_mut_ptr());
    let stats = cpu.stats;
    // All records count: those of what is waited for are larger than stretches.
    let unwoken = at!(stats.unwoken).load() + HEADER + size_of::<T>().next_multiple_of(8) as u64;
    if wake || unwoken >= u64::from(layout!(wake_bytes)) {
        at!(stats.unwoken).store(0);
        entry.submit(u64::from(BPF_RB_FORCE_WAKEUP));
    } else {
        at!(stats.unwoken).store(unwoken);
        entry.submit(u64::from(BPF_RB_NO_WAKEUP));
    }
    Sent::Yes
}

/// Sends a record that `write` fills in place. True when it is in the ring.
#[inline(always)]
pub fn in_place<T: 'static>(cpu: Cpu, write: impl FnOnce(*mut T)) -> bool {
    matches!(send(cpu, false, write), Sent::Yes)
}

/// The same, and wakes the reader.
#[inline(always)]
pub fn in_place_and_wake<T: 'static>(cpu: Cpu, write: impl FnOnce(*mut T)) -> bool {
    matches!(send(cpu, true, write), Sent::Yes)
}

/// Sends a record. True when it is in the ring.
#[inline(always)]
pub fn record<T: 'static>(cpu: Cpu, make: impl FnOnce() -> T) -> bool {
    // SAFETY: the record is in the ring, reserved for us.
    in_place(cpu, |record: *mut T| unsafe { record.write(make()) })
}

/// Sends a record that no later one makes up for: counted when it finds no room.
#[inline(always)]
pub fn other<T: 'static>(cpu: Cpu, make: impl FnOnce() -> T) -> bool {
    let sent = record(cpu, make);
    if !sent {
        count!(cpu, lost_other);
        log_lost(size_of::<T>() as u32);
    }
    sent
}

/// One for all: the text of a message is a good part of a program.
#[inline(never)]
pub fn log_lost(bytes: u32) {
    warn!(
        (),
        "a record of {} bytes found no room, and a name may be lost with it", bytes
    );
}

/// Sends a stretch, counted when it finds no room.
#[inline(always)]
pub fn stretch(cpu: Cpu, make: impl FnOnce() -> Stretch) -> bool {
    // SAFETY: the record is in the ring, reserved for us.
    match send(cpu, false, |record: *mut Stretch| unsafe {
        record.write(make())
    }) {
        Sent::Yes => return true,
        Sent::RingFull => count!(cpu, lost_ring_full),
        Sent::NoRing => count!(cpu, lost_no_ring),
    }
    false
}

/// Sends the sums of a task.
#[inline(always)]
pub fn totals(cpu: Cpu, state: Shared<TaskState>) -> bool {
    record(cpu, || Totals {
        kind: kind::TOTALS,
        zero: [0; 3],
        serial: at!(state.serial).load(),
        seq: at!(state.seq).load(),
        lost: at!(state.lost).load(),
        blocked_ns: at!(state.blocked_ns).load(),
        runnable_ns: at!(state.runnable_ns).load(),
        stopped_ns: at!(state.stopped_ns).load(),
    })
}
