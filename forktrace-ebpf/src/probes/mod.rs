//! The programs, by the kernel events that they are attached to.

mod attach;
mod interrupt;
mod lag;
pub mod lifecycle;
mod poll;
mod rivals;
pub mod sched;
