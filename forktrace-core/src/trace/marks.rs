//! How a workload may say things about itself, and how much.

/// Names the descriptor to the workload.
pub const VARIABLE: &str = "FORKTRACE_MARKS_FD";

/// A longer line is refused, bytes.
pub const LONGEST_LINE: usize = 4096;
/// More marks are refused: a report holds them all in memory.
pub const MOST: u64 = 1 << 20;
/// So many bytes of marks are read: what a workload can take of our memory and time.
pub const MOST_BYTES: u64 = 32 << 20;
