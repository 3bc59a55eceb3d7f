//! What is said about data that waits in sockets.

use std::time::Duration;

use clap::Args;

use super::values::time;

/// Whether it is told how long data waited.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct LagArgs {
    /// Tell how long data waited in TCP sockets until a task looked, where that took TIME or longer [default TIME: 1ms]. Costs every TCP packet and read of the machine a little; needs Linux 6.3 [docs/lag.md].
    #[arg(long, value_name = "TIME", value_parser = time, num_args = 0..=1, require_equals = true, default_missing_value = "1ms")]
    pub(crate) lag: Option<u64>,
}

impl LagArgs {
    /// From which length on, if that is wanted.
    pub(crate) fn min(self) -> Option<Duration> {
        self.lag.map(Duration::from_nanos)
    }
}
