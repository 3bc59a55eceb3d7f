//! Attaches the programs that watch the select/poll family, by the cheapest way
//! that the kernel allows.

use std::{
    os::fd::{AsFd as _, AsRawFd as _, RawFd},
    path::Path,
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use aya::{
    Btf,
    programs::{BtfTracePoint, FEntry, FExit, TracePoint},
};
use forktrace_common::layout::{Layout, poll};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::{Programs, program};
use crate::{
    kernel::btf,
    limits,
    trace::{Arch, PollWay},
};

/// What the user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum PollProbes {
    /// fentry, else tracepoints once a task waits in such a call, else none.
    #[default]
    Auto,
    /// fentry and fexit on each syscall's function: costs other syscalls nothing.
    Fentry,
    /// The syscalls' own tracepoints, from the start: each syscall of the machine pays 11 ns in
    /// a tight loop, and 55 to 75 ns after a context switch, when that code is cold.
    Tracepoint,
    /// The raw tracepoints of all syscalls: each syscall of the machine pays about 40 ns.
    Raw,
    /// Don't watch.
    Off,
}

/// Is it one of the programs that watch the family?
pub(super) fn is_program(name: &str) -> bool {
    ["poll_", "select_enter", "fentry_", "fexit_"]
        .iter()
        .any(|start| name.starts_with(start))
}

/// Does what can be done while others are loaded.
pub(super) fn attach(
    programs: &mut Programs<'_>,
    wish: PollProbes,
    kernel_types: &btf::Btf,
    types: &Btf,
    layout: &Layout,
) -> Result<Wished> {
    let way = match wish {
        PollProbes::Off => PollWay::None {
            why: "switched off with --polls off".to_owned(),
        },
        PollProbes::Fentry => {
            fentry(programs, kernel_types, types)
                .context("--polls fentry is not possible on this kernel")?;
            PollWay::Fentry
        }
        PollProbes::Tracepoint => {
            tracepoints(programs, layout)
                .context("--polls tracepoint is not possible on this kernel")?;
            PollWay::Tracepoint
        }
        PollProbes::Raw => {
            raw(programs, types).context("--polls raw is not possible on this kernel")?;
            PollWay::Raw
        }
        PollProbes::Auto => {
            let Err(no_fentry) = fentry(programs, kernel_types, types) else {
                return Ok(Wished::Attached(PollWay::Fentry));
            };
            let loaded = load_tracepoints(programs);
            return Ok(Wished::Later { no_fentry, loaded });
        }
    };
    Ok(Wished::Attached(way))
}

/// What came of the user's wish.
pub(super) enum Wished {
    /// It is as it will be.
    Attached(PollWay),
    /// It takes the tracepoints, later.
    Later {
        /// Why fentry is not possible.
        no_fentry: anyhow::Error,
        /// The programs are, or why not.
        loaded: Result<()>,
    },
}

/// The syscall as which a poll goes on after a stop.
const RESTART: &str = "restart_syscall";

/// fentry and fexit programs on the functions of the family that exist. When
/// one fails, those before it are taken back.
fn fentry(programs: &mut Programs<'_>, kernel_types: &btf::Btf, types: &Btf) -> Result<()> {
    let arch = Arch::of_this_machine()?;
    let mut entries = Vec::new();
    let mut exits = Vec::new();
    let result = (|| {
        for name in poll::NAMES.into_iter().chain([RESTART]) {
            let mut function = arch.syscall_function(name);
            if name == RESTART && !kernel_types.has_function(&function) {
                // A syscall without arguments is a static function, and what fentry
                // attaches to in others an alias of it that has no BTF.
                function = format!("__do_sys_{name}");
            }
            if !kernel_types.has_function(&function) {
                if name == RESTART {
                    bail!("the kernel's BTF has no function that ends a restarted call");
                }
                continue;
            }
            if name != RESTART {
                let program: &mut FEntry = program(programs, &format!("fentry_{name}"))?;
                program.load(&function, types)?;
                let link = program
                    .attach()
                    .with_context(|| format!("attach to {function}"))?;
                entries.push((name, link));
            }
            let program: &mut FExit = program(programs, &format!("fexit_{name}"))?;
            program.load(&function, types)?;
            let link = program
                .attach()
                .with_context(|| format!("attach to {function}"))?;
            exits.push((name, link));
        }
        if entries.is_empty() {
            bail!("the kernel's BTF has no function of the family");
        }
        Ok(())
    })();
    if result.is_err() {
        for (name, link) in entries {
            let program: &mut FEntry = program(programs, &format!("fentry_{name}"))?;
            program.detach(link)?;
        }
        for (name, link) in exits {
            let program: &mut FExit = program(programs, &format!("fexit_{name}"))?;
            program.detach(link)?;
        }
    }
    result
}

/// The programs at syscall tracepoints.
const AT_TRACEPOINTS: [&str; 3] = ["poll_enter", "select_enter", "poll_exit"];

/// Loads them.
fn load_tracepoints(programs: &mut Programs<'_>) -> Result<()> {
    for name in AT_TRACEPOINTS {
        let program: &mut TracePoint = program(programs, name)?;
        program.load()?;
    }
    Ok(())
}

/// Their descriptors, once they are loaded.
pub(super) fn tracepoint_programs(programs: &mut Programs<'_>) -> Result<Vec<RawFd>> {
    let fd = |name| {
        let program: &mut TracePoint = program(programs, name)?;
        anyhow::Ok(program.fd()?.as_fd().as_raw_fd())
    };
    AT_TRACEPOINTS.into_iter().map(fd).collect()
}

/// Syscall tracepoints. Their ids are in tracefs; where nobody has mounted it,
/// a thread mounts it for itself alone, in a mount namespace that ends with it.
fn tracepoints(programs: &mut Programs<'_>, layout: &Layout) -> Result<()> {
    load_tracepoints(programs)?;
    if tracefs_is_mounted() {
        return attach_tracepoints(programs, layout);
    }
    thread::scope(|scope| {
        let attached = thread::Builder::new().spawn_scoped(scope, || {
            see_tracefs()?;
            attach_tracepoints(programs, layout)
        });
        let attached = attached.map_err(limits::no_process);
        let attached = attached.context("no thread to mount tracefs in")?.join();
        attached.unwrap_or_else(|_| Err(anyhow!("the thread that attaches them failed")))
    })
}

/// Where it can be mounted.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

fn tracefs_is_mounted() -> bool {
    TRACEFS
        .iter()
        .any(|path| Path::new(path).join("events").is_dir())
}

/// Mounts tracefs for the calling thread alone, where nobody else has.
pub(super) fn see_tracefs() -> Result<()> {
    if tracefs_is_mounted() {
        return Ok(());
    }
    mount_tracefs().context("tracefs is not mounted and can't be")
}

/// Fails where one of the tracepoints is not there.
pub(super) fn see_tracepoints(layout: &Layout) -> Result<()> {
    for event in tracepoint_names(layout)
        .into_iter()
        .flat_map(|(_, events)| events)
    {
        let there = TRACEFS.iter().any(|path| {
            Path::new(path)
                .join("events/syscalls")
                .join(&event)
                .is_dir()
        });
        ensure!(there, "the kernel has no tracepoint syscalls/{event}");
    }
    Ok(())
}

/// Which program goes where.
fn tracepoint_names(layout: &Layout) -> Vec<(&'static str, Vec<String>)> {
    let names = poll::NAMES.into_iter().zip(layout.poll_syscalls);
    let names = names.filter_map(|(name, number)| (number >= 0).then_some(name));
    let names: Vec<&str> = names.collect();
    let entries = |of_select| {
        let names = names
            .iter()
            .filter(move |name| name.contains("select") == of_select);
        names.map(|name| format!("sys_enter_{name}")).collect()
    };
    let exits = names.iter().chain(&[RESTART]);
    let exits = exits.map(|name| format!("sys_exit_{name}")).collect();
    // The returns first: one of a call whose entry was not seen is no call.
    vec![
        ("poll_exit", exits),
        ("poll_enter", entries(false)),
        ("select_enter", entries(true)),
    ]
}

/// Mounts tracefs in a mount namespace of the calling thread's own.
fn mount_tracefs() -> Result<()> {
    const NOTHING: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).context("no mount namespace")?;
    // Without this the mount would spread to everybody's namespace. It is the mount below
    // it that decides, which /sys is also where the root is no mount point: in a chroot.
    mount(
        NOTHING,
        "/sys",
        NOTHING,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        NOTHING,
    )
    .context("the mount of /sys can't be made private")?;
    mount(
        Some("tracefs"),
        "/sys/kernel/tracing",
        Some("tracefs"),
        MsFlags::empty(),
        NOTHING,
    )
    .context("mount of tracefs on /sys/kernel/tracing")
}

/// Attaches the programs, which are loaded.
pub(super) fn attach_tracepoints(programs: &mut Programs<'_>, layout: &Layout) -> Result<()> {
    for (name, events) in tracepoint_names(layout) {
        let program: &mut TracePoint = program(programs, name)?;
        for event in events {
            program
                .attach("syscalls", &event)
                .with_context(|| format!("attach to {event}"))?;
        }
    }
    Ok(())
}

/// The raw tracepoints of all syscalls.
fn raw(programs: &mut Programs<'_>, types: &Btf) -> Result<()> {
    for (name, tracepoint) in [
        ("poll_sys_enter", "sys_enter"),
        ("poll_sys_exit", "sys_exit"),
    ] {
        let program: &mut BtfTracePoint = program(programs, name)?;
        program.load(tracepoint, types)?;
        program
            .attach()
            .with_context(|| format!("attach to {tracepoint}"))?;
    }
    Ok(())
}
