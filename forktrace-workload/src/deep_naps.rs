//! Naps at the bottom of a stack of known depth: what a stack costs.

use std::hint::black_box;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::sys::{nap, now_ns, tid};
use super::truth::Truth;

/// One task naps again and again, so many calls deep
///
/// The calls do nothing but the next one. The naps make no system call but
/// clock_nanosleep, and one comes right after the other.
///
/// Truth:
///   tid, naps, depth
///   begin_ns, end_ns  of all naps
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct DeepNaps {
    /// How many calls lie between main's function and the naps.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(..=10_000))]
    depth: u32,
    /// How many naps.
    #[arg(long, default_value_t = 100)]
    naps: u32,
    /// How long each one is at least, in microseconds.
    #[arg(long, default_value_t = 2_000)]
    micros: u64,
}

impl DeepNaps {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("deep-naps");
        let [begin_ns, end_ns] = deep(self.depth, &mut || {
            let begin_ns = now_ns();
            for _ in 0..self.naps {
                nap(Duration::from_micros(self.micros))?;
            }
            Ok([begin_ns, now_ns()])
        })?;
        truth.print(json!({
            "tid": tid(),
            "naps": self.naps,
            "depth": self.depth,
            "begin_ns": begin_ns,
            "end_ns": end_ns,
        }))
    }
}

#[inline(never)]
fn deep(calls: u32, then: &mut dyn FnMut() -> Result<[u64; 2]>) -> Result<[u64; 2]> {
    match calls.checked_sub(1) {
        // What comes after the call keeps its frame.
        Some(left) => black_box(deep(left, then)),
        None => then(),
    }
}
