//! Processes that look things up for the recorder, because looking can hang, crash or
//! take any amount of memory: a file system that no longer answers, a library that is cut
//! short while it is read, a file made to be expensive.
//!
//! ```text
//! recorder ──questions──▶ names     /proc of the tasks, deadlocks   (a few capabilities)
//!    │     ◀──answers────
//!    │     ──questions──▶ symbols   ELF files, perf maps            (the workload's user)
//!    │     ◀──answers────
//!    └──"a new one"─────▶ nursery   forks the two, and again when one is lost
//! ```
//!
//! The recorder never waits for a helper: sockets that can't take more keep their rest, and
//! what is not answered in time is abandoned with the helper, counted, and a new one begins.
//! `nursery` makes the processes, `fence` takes their rights away, `channel` carries
//! questions. What a helper does is with those who ask: `names`, `deadlock` and `stacks`;
//! `look_ups` puts the two together.

mod channel;
mod fence;
mod nursery;
mod troubles;

pub(crate) use channel::{Channel, say_why_not, serve};
pub(crate) use nursery::{Nursery, forked, leave_everything};
pub(crate) use troubles::Troubles;

/// What a helper is for.
pub(crate) use crate::trace::HelperOf as Kind;
