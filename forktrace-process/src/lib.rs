//! Processes, and with whose rights they run: starting the workload as the user who
//! called sudo, children that have given up rights, privileges, signals, and the parsers of
//! `/proc`. Nothing here knows of traces or of eBPF.

pub mod child;
pub mod launch;
pub mod limits;
pub mod privileges;
pub mod procfs;
pub mod signals;
