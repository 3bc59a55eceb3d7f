//! The truth line: what a workload knows about itself.

use std::io::Write;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use super::sys::{now_ns, pid};

/// The figures common to all workloads, from the workload's first instant on.
pub(super) struct Truth {
    workload: &'static str,
    start_ns: u64,
}

#[derive(Serialize)]
struct Line {
    workload: &'static str,
    pid: i32,
    start_ns: u64,
    end_ns: u64,
    #[serde(flatten)]
    figures: Value,
}

impl Truth {
    pub(super) fn begin(workload: &'static str) -> Self {
        let start_ns = now_ns();
        Self { workload, start_ns }
    }

    /// Prints the line, with `figures` (a JSON object) beside the common ones.
    pub(super) fn print(self, figures: Value) -> Result<()> {
        let line = Line {
            workload: self.workload,
            pid: pid(),
            start_ns: self.start_ns,
            end_ns: now_ns(),
            figures,
        };
        let mut line = serde_json::to_vec(&line).context("cannot write the truth as JSON")?;
        line.push(b'\n');
        // One write: daemons and children share this stdout.
        let mut stdout = std::io::stdout().lock();
        stdout
            .write_all(&line)
            .and_then(|()| stdout.flush())
            .context("cannot print the truth line on stdout")
    }
}
