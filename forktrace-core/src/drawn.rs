//! What tests of several stages draw traces from.

use proptest::prelude::*;

use crate::trace::{Born, Why};

/// A thread of the process whose tgid is 101.
pub(crate) fn born(serial: u32, at_ns: u64) -> Born {
    Born {
        serial,
        parent: 0,
        process: 1,
        tid: 100 + serial,
        tgid: 101,
        ppid: 1,
        clone_flags: 0,
        kernel_worker: false,
        at_ns,
        comm: "task".to_owned(),
    }
}

/// Any reason to leave the CPU, each as often.
pub(crate) fn any_why() -> impl Strategy<Value = Why> {
    prop::sample::select(Why::ALL.to_vec())
}
