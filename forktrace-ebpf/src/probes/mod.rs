//! The programs, by the kernel events that they are attached to.

mod interrupt;
mod lifecycle;
mod poll;
mod rivals;
mod sched;
