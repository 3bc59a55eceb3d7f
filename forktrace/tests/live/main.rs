//! Live tests: forktrace traces the kernel that they run on, so they need root.
//!
//! Each traces something whose true answer is known by construction, mostly a
//! `forktrace workload`, and says in its name what it proves. Nothing is compared
//! with how long something should have taken: the tracer's figures must lie within
//! what the workload measured itself.
//!
//! `FORKTRACE_BIN` names the program to test, instead of the one that cargo built. A
//! test that this machine can't run prints `SKIP name: reason` and passes.

mod accounts;
mod attach;
mod blocking;
mod case_studies;
mod claim_workloads;
mod claims;
mod claims_native;
mod claims_python;
mod claims_servers;
mod conventions;
mod cpu;
mod cpu_users;
mod deadlocks;
mod documents;
mod edges;
mod ends;
mod experts;
mod exports;
mod fences;
mod files;
mod given;
mod graph;
mod handed;
mod hangs;
mod helpers;
mod hotplug;
mod imports;
mod java;
mod kernel_programs;
mod kernel_stops;
mod known_answers;
mod lags;
mod lock_kinds;
mod lock_names;
mod locks;
mod loss;
mod loss_of_causes;
mod metrics;
mod objects;
mod odd_targets;
mod polls;
mod programs;
mod prometheus;
mod providers;
mod queues;
mod reasons;
mod repeat;
#[cfg(test)]
#[path = "../shared/schema_check.rs"]
#[allow(dead_code, reason = "the schemas themselves are checked by unit tests")]
mod schema_check;
mod servers;
mod signals;
mod stacks;
mod stops;
mod support;
mod targets;
mod terminals;
mod throttling;
#[cfg(feature = "top")]
mod top;
mod trace_files;
mod tree;
mod unwound;
mod verdicts;
mod waits;
mod wakers;
mod watch;
