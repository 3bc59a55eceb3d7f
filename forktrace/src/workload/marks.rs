//! What a workload says about itself while it is traced.

use anyhow::{Context, Result};
use serde_json::Value;

use super::sys::write_to;
use crate::marks::VARIABLE;

/// Writes a mark, a JSON object with at least a `name`, such as
/// `json!({"t": now_ns(), "name": "done", "value": 7})`. Does nothing when nobody
/// traces. One write: the marks of several tasks don't mix.
#[allow(dead_code, reason = "for the workloads of claims")]
pub(super) fn mark(fields: &Value) -> Result<()> {
    let Some(fd) = std::env::var_os(VARIABLE) else {
        return Ok(());
    };
    let fd = fd.to_str().and_then(|fd| fd.parse().ok());
    let fd = fd.with_context(|| format!("{VARIABLE} is no descriptor"))?;
    let mut line = serde_json::to_vec(fields).context("cannot write a mark as JSON")?;
    line.push(b'\n');
    write_to(fd, &line).with_context(|| format!("cannot write a mark to {VARIABLE}"))
}
