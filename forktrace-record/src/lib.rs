//! The recorder: everything that touches the running machine.
//!
//! [`capture`] (bytes from the kernel programs) → [`decode`] (events) → the trace
//! file, driven by [`record`]; beside it [`names`], [`deadlock`] and [`stacks`] find out what
//! only a living process can tell.

pub mod background;
pub mod capture;
pub mod child;
pub mod clock;
pub mod deadlock;
pub mod decode;
mod helper;
pub mod kernel;
pub mod launch;
mod look_ups;
pub mod marks;
pub mod names;
mod priority;
pub mod privileges;
mod procfs;
pub mod providers;
pub mod record;
pub mod root;
pub mod signals;
pub mod stacks;

use forktrace_core::{analysis, report, trace, trace_file};
