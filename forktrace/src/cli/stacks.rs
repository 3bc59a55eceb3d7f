//! What is said about stacks.

use std::time::Duration;

use clap::{Args, ValueEnum};
use forktrace_record::capture::StackWays;

use super::values::time;

/// Blocks that last for so long have their stacks followed, ns.
const OVER_NS: u64 = 1_000_000;

/// How stacks are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StackWay {
    /// Both of the others: unwind tables where a block lasts, frame pointers for all.
    Best,
    /// By frame pointers, in the kernel, at each block and wakeup.
    Fp,
    /// By the unwind tables of programs (.eh_frame), only of blocks that last, not of wakers.
    Dwarf,
}

/// Which stacks are recorded.
#[derive(Args, Clone, Debug)]
pub(crate) struct StackArgs {
    /// Record stack traces of blocked tasks and of their wakers, for folded files, flame graphs and profiles. Adds a few microseconds per block; with =dwarf next to nothing, and no wakers.
    #[arg(long, value_name = "WAY", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "best")]
    pub(crate) stacks: Option<StackWay>,
    /// Follow stacks by unwind tables where a block lasts longer than this [default: 1ms].
    #[arg(long, value_name = "TIME", value_parser = time, requires = "stacks")]
    pub(crate) stacks_over: Option<u64>,
    /// Ask Java machines of the workload (17 or later) for the names of what they have compiled, as `jcmd PID Compiler.perfmap` does: each then writes /tmp/perf-PID.map.
    #[arg(long, requires = "stacks")]
    pub(crate) java: bool,
}

impl StackArgs {
    /// What that means, if stacks are wanted; `shown`: something else asks for them too,
    /// `lines`: functions are to be named with their lines.
    pub(crate) fn ways(&self, shown: bool, lines: bool) -> Option<StackWays> {
        let way = self.stacks.or(shown.then_some(StackWay::Best))?;
        let over = Duration::from_nanos(self.stacks_over.unwrap_or(OVER_NS));
        Some(StackWays {
            walk: way != StackWay::Dwarf,
            look_after: (way != StackWay::Fp).then_some(over),
            ask_java: self.java,
            lines,
        })
    }
}
