//! What several CPUs, or a program and user space, use at the same time.
//!
//! Such values are never borrowed: a Rust reference promises that nobody else writes. They
//! are reached through [`Shared`], which loads and stores a field whole, once, and in
//! the order of the source. Who writes which field is written at the structures
//! ([`forktrace_common::event`]). That others see the stores in that order too, where it
//! counts, is by the kernel's locks.

use core::arch::asm;

use crate::kernel::layout;

/// A value, or a field of one, in a map.
pub struct Shared<T>(*mut T);

impl<T> Clone for Shared<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

impl<T> Shared<T> {
    /// The value that a look-up in a map of such values gave.
    #[inline(always)]
    pub fn in_map(value: *mut T) -> Self {
        Self(value)
    }

    /// A part of it. For [`at!`] and arrays.
    #[inline(always)]
    pub fn part<F>(self, part: impl FnOnce(*mut T) -> *mut F) -> Shared<F> {
        Shared(part(self.0))
    }

    /// For copying it whole when it has no other user, and as an address.
    #[inline(always)]
    pub fn as_ptr(self) -> *mut T {
        self.0
    }
}

impl<T: Copy> Shared<T> {
    /// Reads it.
    #[inline(always)]
    pub fn load(self) -> T {
        // SAFETY: the pointer is into a map, the verifier proves it; values of maps are
        // integers, valid whatever their bits. Volatile: see the module's text.
        unsafe { self.0.read_volatile() }
    }

    /// Writes it.
    #[inline(always)]
    pub fn store(self, value: T) {
        // SAFETY: as above.
        unsafe { self.0.write_volatile(value) }
    }
}

impl Shared<u32> {
    /// Adds to a number that nobody else changes.
    #[inline(always)]
    pub fn increase(self, n: u32) {
        self.store(self.load().wrapping_add(n));
    }
}

impl Shared<u64> {
    /// Adds to a number that nobody else changes.
    #[inline(always)]
    pub fn increase(self, n: u64) {
        self.store(self.load().wrapping_add(n));
    }

    /// Adds to a number that others change too, and gives the value before.
    ///
    /// In assembly, since the compiler's eBPF target declares no read-modify-write
    /// atomics, though the machine has had them since Linux 5.12.
    #[inline(always)]
    pub fn fetch_add(self, n: u64) -> u64 {
        let before;
        // SAFETY: one instruction on an aligned word of a map.
        unsafe {
            asm!(
                "{n} = atomic_fetch_add((u64 *)({word} + 0), {n})",
                word = in(reg) self.0,
                n = inout(reg) n => before,
            );
        }
        before
    }

    /// Writes a number that nobody else changes, after all that the program wrote before:
    /// whoever reads it reads that too.
    #[inline(always)]
    pub fn publish(self, value: u64) {
        // SAFETY: no instruction; the compiler moves no access to memory across it.
        unsafe { asm!("", options(nostack, preserves_flags)) };
        if layout!(ordered_stores) != 0 {
            self.store(value);
        } else {
            // An atomic instruction that gives the value before is a full barrier.
            let more = value.wrapping_sub(self.load());
            self.fetch_add(more);
        }
    }

    /// Makes it 0 if it still is what it was.
    #[inline(always)]
    pub fn clear_if(self, before: u64) {
        // SAFETY: one instruction on an aligned word of a map.
        unsafe {
            asm!(
                "r0 = cmpxchg_64({word} + 0, r0, {zero})",
                word = in(reg) self.0,
                zero = in(reg) 0u64,
                inout("r0") before => _,
            );
        }
    }
}

/// A field of a [`Shared`] structure: `at!(state.wake_ns)`.
macro_rules! at {
    ($shared:ident.$field:ident) => {{
        // Also used within other unsafe blocks.
        #[allow(unused_unsafe)]
        // SAFETY: the field's address, without a reference in between.
        let field = $shared.part(|value| unsafe { &raw mut (*value).$field });
        field
    }};
}
pub(crate) use at;
