//! What a tracer takes of what its process may have.

use forktrace_common::{
    event::{CpuStats, TaskState},
    limits::MAX_CPUS,
};

use super::{Settings, rings::Sizes};
use crate::limits::Needs;

/// Programs, what attaches them, maps, files.
const DESCRIPTORS: u64 = 80;
/// Address space without rings and tables, bytes: the kernel's types, three times, while
/// the programs are loaded, and what threads reserve: each that allocates, 64 MiB.
const ADDRESS_SPACE: u64 = 300 << 20;
/// The same of memory of one's own.
const DATA: u64 = 64 << 20;

/// What a tracer with these settings takes on so many CPUs.
pub(super) fn needs(settings: &Settings, cpus: usize) -> Needs {
    let rings = Sizes::new(settings.ring_bytes, cpus, settings.walks_stacks()).mapped();
    let cpus = cpus as u64;
    let rings = cpus * rings;
    let tasks = (u64::from(settings.max_tasks) + 1) * size_of::<TaskState>() as u64;
    let tables = tasks + (MAX_CPUS * size_of::<CpuStats>()) as u64;
    Needs {
        descriptors: DESCRIPTORS + 2 * cpus,
        address_space: ADDRESS_SPACE + rings + tables,
        data: DATA,
    }
}
