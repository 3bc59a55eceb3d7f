//! The recorder: everything that touches the running machine.
//!
//! [`capture`] (bytes from the kernel programs) → [`decode`] (events) → the trace
//! file, driven by [`record`]; beside it [`resolve`], [`deadlock`] and [`stacks`] find out what
//! only a living process can tell.

pub mod at_work;
mod attached;
pub mod background;
pub mod capture;
pub mod clock;
pub mod deadlock;
pub mod decode;
mod helper;
pub mod kernel;
mod last_wait;
mod look_ups;
pub mod marks;
pub mod metrics;
pub mod noticed;
mod observed;
mod polls;
mod priority;
mod procfs;
pub mod providers;
pub mod record;
pub mod resolve;
pub mod root;
mod sink;
pub mod stacks;
pub mod targets;

use forktrace_core::{analysis, report, trace, trace_file};
use forktrace_process::{launch, limits, privileges, signals};
