//! How times are distributed.

use schemars::JsonSchema;
use serde::Serialize;

/// How long each of many times was. Percentiles are exact for up to 64 times, and off by no
/// more than 1.6 % for more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Spread {
    /// How many.
    pub count: u64,
    /// Half of them were no longer.
    pub p50_ns: u64,
    /// 90 % of them were no longer.
    pub p90_ns: u64,
    /// 99 % of them were no longer.
    pub p99_ns: u64,
    /// The longest, exactly.
    pub longest_ns: u64,
}
