//! The programs, by the kernel events that they are attached to.

mod lifecycle;
mod poll;
mod sched;
