//! The eBPF programs of forktrace.
//!
//! `probes` has one file for each group of kernel events. They find the state of
//! a task with `filter`, read the kernel's structures through `kernel` only, and
//! send records with `emit`.
//!
//! These programs run on every context switch and every wakeup of the machine.
//! A task that is not traced must leave them after one table look-up.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod cpu;
mod death;
mod emit;
mod enter;
mod filter;
mod kernel;
mod maps;
mod probes;
mod shared;
mod stacks;
mod untracked;
mod wait;
mod waker;

/// The helpers that we call need no GPL licence except `bpf_probe_read_*`, and
/// tracing programs are refused without one. The kernel knows a few texts only; this
/// is the one for code under a permissive licence, such as ours (MIT or Apache-2.0).
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // SAFETY: the compiler proves that no panic is reachable: the verifier
    // would refuse the endless loop.
    loop {}
}
