//! What to record, and the trace's header that says so.

use std::{
    ffi::OsString,
    fs::File,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use nix::sys::utsname::{self, UtsName};

use crate::{
    capture::{Settings, Tracer},
    clock::now_ns,
    launch::Account,
    marks::Marks,
    metrics::Listener,
    procfs,
    targets::Targets,
    trace::{Arch, AttachedTo, Header, Machine},
};

/// What to record.
#[derive(Debug)]
pub struct Plan {
    /// Where the tasks come from.
    pub source: Source,
    /// How the tracer is set up.
    pub settings: Settings,
    /// Where metrics are served meanwhile; `None`: nowhere.
    pub metrics: Option<Listener>,
}

/// Where the tasks of a recording come from.
#[derive(Debug)]
pub enum Source {
    /// A command that is started, and all that it creates.
    Launch(Command),
    /// Tasks that are there, and all that they create from then on.
    Attach {
        /// Which.
        targets: Targets,
        /// For how long at most.
        length: Option<Duration>,
    },
}

/// A command to start.
#[derive(Debug)]
pub struct Command {
    /// The command.
    pub argv: Vec<OsString>,
    /// Whom it runs as; `None`: as we do.
    pub account: Option<Account>,
    /// Stop when the first process ends, whatever else still lives.
    pub until_exit: bool,
    /// What it says about itself.
    pub marks: Marks,
    /// Where what it prints on a terminal goes, if that is shown something else; `None`: to the
    /// terminal.
    pub output: Option<File>,
}

/// What the trace of such a recording begins with.
pub(super) fn header(plan: &Plan, tracer: &Tracer) -> Result<Header> {
    let (argv, attached, cgroup) = match &plan.source {
        Source::Launch(command) => {
            let argv = command.argv.iter();
            let argv = argv.map(|a| a.to_string_lossy().into_owned());
            // It begins where we are.
            (argv.collect(), None, procfs::cgroup("self"))
        }
        Source::Attach { targets, .. } => {
            let words = targets.words().to_vec();
            (
                Vec::new(),
                Some(AttachedTo { targets: words }),
                targets.cgroup(),
            )
        }
    };
    let system = utsname::uname().context("uname")?;
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ok(Header {
        forktrace: env!("CARGO_PKG_VERSION").to_owned(),
        argv,
        kernel: system.release().to_string_lossy().into_owned(),
        arch: Arch::of_this_machine()?,
        cpus: tracer.cpus(),
        start_ns: now_ns()?,
        start_unix_ns: unix.as_nanos() as u64,
        polls: tracer.poll_way().clone(),
        ring_bytes: tracer.ring_bytes(),
        max_tasks: plan.settings.max_tasks,
        plain: plan.settings.plain,
        interrupts: crate::kernel::interrupts::of_devices(),
        attached,
        machine: Some(machine(&system)),
        cgroup,
        lag_min_ns: plan.settings.lag_min.map(|min| min.as_nanos() as u64),
        imported: None,
    })
}

/// What tells this machine's traces from those of others.
fn machine(system: &UtsName) -> Machine {
    let first_line = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().next().unwrap_or_default().trim().to_owned()
    };
    Machine {
        host: system.nodename().to_string_lossy().into_owned(),
        id: first_line("/etc/machine-id"),
        boot_id: first_line("/proc/sys/kernel/random/boot_id"),
    }
}
