//! What a recorder is told of the memory that it may use.

use std::time::Duration;

use clap::Args;

use super::values::{length, ring_size};

/// How large its tables are.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct TableArgs {
    /// Per-CPU ring buffer size, such as 512K or 16M [default: 32M divided among the CPUs, at most 4M each].
    #[arg(long, value_name = "SIZE", value_parser = ring_size)]
    pub(crate) ring_size: Option<u32>,
    /// Maximum number of tasks tracked at once.
    #[arg(long, value_name = "N", default_value_t = 16384, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub(crate) max_tasks: u32,
}

/// How much is kept of a recording that goes on, and for how long it does.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct KeptArgs {
    /// Keep no more than SIZE in memory of what came before, whatever --keep says: 1M holds some 50,000 blocks.
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = ring_size)]
    pub(crate) memory: u32,
    /// Stop after TIME.
    #[arg(long = "for", value_name = "TIME", value_parser = length)]
    pub(crate) length: Option<Duration>,
    /// How large its tables are.
    #[command(flatten)]
    pub(crate) tables: TableArgs,
}
