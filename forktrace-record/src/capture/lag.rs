//! How long data waited in sockets: the programs for that, and what they need of the kernel.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::EbpfLoader;
use forktrace_common::layout::{Layout, SocketLayout};

use super::{Tracer, if_used};
use crate::{kernel::btf::Btf, trace::LagCounts};

/// The programs' tracepoints, and the arguments that they use of each. That of a socket's end
/// first, so that none is missed of those that are noted.
const TRACEPOINTS: [(&str, usize); 3] = [
    ("inet_sock_set_state", 3),
    ("sock_recv_length", 2),
    ("sk_data_ready", 1),
];

/// TCP sockets of the machine that can have data at the same time which nobody has looked at.
const SOCKETS: u32 = 16_384;

/// Sets the size of the table.
pub(super) fn size(loader: &mut EbpfLoader<'_>, wanted: bool) {
    loader.map_max_entries("DATA_SINCE", if_used(wanted, SOCKETS));
}

/// Looks up what the programs need, if they are wanted: for data that waits for so long.
///
/// # Errors
/// When this kernel lacks some of it.
pub(super) fn resolve(btf: &Btf, min: Option<Duration>, layout: &mut Layout) -> Result<()> {
    let Some(min) = min else {
        return Ok(());
    };
    for (name, args) in TRACEPOINTS {
        if btf.tracepoint_args(name).is_none_or(|has| has < args) {
            bail!(
                "--lag needs the tracepoint {name}, which this kernel doesn't have: Linux 6.3 is \
                 the first that has all"
            );
        }
    }
    let field = |path: &str| {
        let offset = btf.offset_of("sock", path);
        offset
            .ok_or_else(|| anyhow!("--lag needs sock.{path}, which the kernel's BTF doesn't have"))
    };
    layout.lag_min_us = u32::try_from(min.as_micros()).unwrap_or(u32::MAX);
    layout.socket = SocketLayout {
        family: field("__sk_common.skc_family")?,
        state: field("__sk_common.skc_state")?,
        local_port: field("__sk_common.skc_num")?,
        remote_port: field("__sk_common.skc_dport")?,
        protocol: field("sk_protocol")?,
    };
    Ok(())
}

/// The tracepoints, by name.
pub(super) fn tracepoints() -> impl Iterator<Item = &'static str> {
    TRACEPOINTS.into_iter().map(|(name, _)| name)
}

impl Tracer {
    /// What the programs counted; `None`: they are not there.
    ///
    /// # Errors
    /// When the kernel's count of programs that it left out can't be read.
    pub fn lags(&self) -> Result<Option<LagCounts>> {
        if !self.counts_lags {
            return Ok(None);
        }
        let mut counts = LagCounts::default();
        for cpu in self.cpus.entries() {
            let cpu = self.cpus.load(cpu);
            counts.looks += cpu.lags;
            counts.not_noted += cpu.lags_not_noted;
        }
        let left_out = self.recursion_misses(|name| tracepoints().any(|it| it == name));
        counts.not_noted += left_out.context("programs of --lag")?;
        Ok(Some(counts))
    }
}
