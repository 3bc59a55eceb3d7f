//! forktrace says from the kernel's own scheduler events whether the tasks of a
//! workload were blocked at the same time, what each waited for, and who ended it.
//!
//! The data flows one way: `capture` (bytes) → `decode` (events) → `trace_file`
//! → `model` (a time line a task) → `analysis` → `report` → `render`.

pub mod analysis;
pub mod background;
pub mod capture;
pub mod claims;
pub mod cli;
pub mod commands;
pub mod deadlock;
pub mod decode;
pub mod expression;
pub mod kernel;
pub mod launch;
pub mod marks;
pub mod model;
pub mod names;
pub mod record;
pub mod render;
pub mod report;
pub mod stacks;
pub mod trace;
pub mod trace_file;
pub mod workload;
