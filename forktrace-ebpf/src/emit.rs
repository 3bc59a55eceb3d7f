//! Sends records.
//!
//! A record goes to the rings of the CPU that sends it: a stretch to the one in a mapped
//! array, all others to the kernel's ring buffer (see [`forktrace_common::event`]). The
//! reader is not woken for each (that costs 25 µs), but once in a quarter of a ring; in
//! between it looks by itself from time to time.

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_log_ebpf::warn;
use forktrace_common::event::{Placed, Stretch, TaskState, Totals, kind};

use crate::{
    cpu::{Cpu, count},
    kernel::layout,
    maps::{RINGS, STRETCHES},
    shared::{Shared, at},
};

/// Bytes that the kernel puts before each record (`BPF_RINGBUF_HDR_SZ`).
const HEADER: u64 = 8;

/// Sends a record; `write` fills all of it, in place, because the stack is small.
/// True when it is in the ring.
#[inline(always)]
fn send<T: 'static>(cpu: Cpu, wake: bool, write: impl FnOnce(*mut T)) -> bool {
    let Some(ring) = RINGS.get(cpu.number()) else {
        return false;
    };
    let Some(mut entry) = ring.reserve_untyped::<Placed<T>>(0) else {
        return false;
    };
    let stats = cpu.stats;
    let placed = entry.as_mut_ptr();
    // SAFETY: the record is in the ring, reserved for us.
    unsafe {
        (&raw mut (*placed).after).write(at!(stats.written).load());
        write(&raw mut (*placed).record);
    }
    // All records count: those of what is waited for are larger than others.
    let size = size_of::<Placed<T>>().next_multiple_of(8) as u64;
    let unwoken = at!(stats.unwoken).load() + HEADER + size;
    if wake || unwoken >= u64::from(layout!(wake_bytes)) {
        at!(stats.unwoken).store(0);
        entry.submit(u64::from(BPF_RB_FORCE_WAKEUP));
    } else {
        at!(stats.unwoken).store(unwoken);
        entry.submit(u64::from(BPF_RB_NO_WAKEUP));
    }
    true
}

/// Sends a record that `write` fills in place. True when it is in the ring.
#[inline(always)]
pub fn in_place<T: 'static>(cpu: Cpu, write: impl FnOnce(*mut T)) -> bool {
    send(cpu, false, write)
}

/// The same, and wakes the reader.
#[inline(always)]
pub fn in_place_and_wake<T: 'static>(cpu: Cpu, write: impl FnOnce(*mut T)) -> bool {
    send(cpu, true, write)
}

/// Sends a record. True when it is in the ring.
#[inline(always)]
pub fn record<T: 'static>(cpu: Cpu, make: impl FnOnce() -> T) -> bool {
    // SAFETY: the record is in the ring, reserved for us.
    in_place(cpu, |record: *mut T| unsafe { record.write(make()) })
}

/// Sends a record that no later one makes up for: counted when it is dropped.
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
        "a record of {} bytes was dropped: the ring is full, and a name may be lost with it", bytes
    );
}

/// Sends a stretch, counted when it is dropped. Only a switch may: there is no other
/// writer that this could be interrupted by.
#[inline(always)]
pub fn stretch(cpu: Cpu, make: impl FnOnce() -> Stretch) -> bool {
    let stats = cpu.stats;
    let written = at!(stats.written).load();
    if written == at!(stats.stop).load() && !has_room(cpu, written) {
        count!(cpu, lost_ring_full);
        return false;
    }
    let slots = layout!(ring_slots);
    let place = cpu.number() * slots + (written as u32 & (slots - 1));
    let Some(slot) = STRETCHES.get_ptr_mut(place) else {
        count!(cpu, lost_no_ring);
        return false;
    };
    // SAFETY: the pointer is into the map; user space reads the slot only once
    // `written` says so, and it has read what was there before.
    unsafe { slot.write(make()) };
    at!(stats.written).publish(written + 1);
    true
}

/// Is there room for another stretch? Says until when there is, and wakes the reader if that
/// is due. For one in a quarter of the ring, and for those that find it full.
#[inline(never)]
fn has_room(cpu: Cpu, written: u64) -> bool {
    let stats = cpu.stats;
    let slots = u64::from(layout!(ring_slots));
    let quarter = slots / 4;
    let mut woken = at!(stats.woken).load();
    if written - woken >= quarter {
        woken = written;
        at!(stats.woken).store(woken);
        wake_reader(cpu);
    }
    // What is stored into places that were read is stored after this: the branch decides.
    let end = at!(stats.read).load() + slots;
    let wake_at = woken + quarter;
    at!(stats.stop).store(if end < wake_at { end } else { wake_at });
    written < end
}

/// Wakes the reader by a record that is none. Where there is no room for it, it has been
/// woken for all those that are there.
#[inline(always)]
fn wake_reader(cpu: Cpu) {
    let entry = RINGS
        .get(cpu.number())
        .and_then(|ring| ring.reserve_untyped::<u64>(0));
    if let Some(entry) = entry {
        entry.discard(u64::from(BPF_RB_FORCE_WAKEUP));
    }
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
