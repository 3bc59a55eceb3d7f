//! What forktrace may do here, as far as capabilities tell.

use std::fs;

use anyhow::{Context as _, Result};
use forktrace_process::procfs::text;

/// The capabilities that count, by number (include/uapi/linux/capability.h).
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Capabilities that we have.
#[derive(Clone, Copy)]
pub(super) struct Rights(u64);

impl Rights {
    /// Those of this process.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(super) fn ours() -> Result<Self> {
        let status =
            fs::read_to_string("/proc/self/status").context("/proc/self/status can't be read")?;
        let hex = text::field(&status, "CapEff").context("/proc/self/status has no line CapEff")?;
        let bits = u64::from_str_radix(hex, 16);
        bits.map(Self).with_context(|| format!("CapEff is {hex:?}"))
    }

    fn has(self, number: u32) -> bool {
        self.0 >> number & 1 == 1
    }

    /// May it load and attach eBPF programs?
    pub(super) fn can_record(self) -> bool {
        self.is_admin() || self.has(CAP_BPF) && self.has(CAP_PERFMON)
    }

    /// Has it `CAP_SYS_ADMIN`?
    pub(super) fn is_admin(self) -> bool {
        self.has(CAP_SYS_ADMIN)
    }
}
