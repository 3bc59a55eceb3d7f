//! Waits for children, for one that has borrowed our memory, and for a tracer.

use super::world::{Found, Member, Who, World};
use crate::{
    procfs::{self, Call, text},
    trace::ProviderKind,
};

/// Whom `wait4` or `waitid` wait for.
enum Which {
    Any,
    /// By the pid that the caller knows it by.
    One(i64),
    PidFd(u64),
}

fn which(name: &str, call: &Call) -> Which {
    // include/uapi/linux/wait.h
    const P_PID: u64 = 1;
    const P_PIDFD: u64 = 3;
    let [first, second, ..] = call.arguments;
    if name == "wait4" {
        let pid = i64::from(first as u32 as i32);
        return if pid > 0 { Which::One(pid) } else { Which::Any };
    }
    match first {
        P_PID => Which::One(i64::from(second as u32)),
        P_PIDFD => Which::PidFd(second),
        _ => Which::Any,
    }
}

/// The children, or the one that is waited for: any task of such a process can end it. Whom
/// the process traces counts as a child, as it does for the kernel.
pub(super) fn children(world: &mut World<'_>, member: &Member, name: &str, call: &Call) -> Found {
    let mut all = children_of(world, member);
    let traced = tracees(world, member)?;
    all.extend(traced);
    let these = match which(name, call) {
        Which::Any => all,
        Which::One(pid) => {
            let level = procfs::pid_levels(member.tgid, member.tid)?;
            let is_it = |child: &u32| {
                procfs::own_pids(*child).and_then(|pids| pids.get(level - 1).copied()) == Some(pid)
            };
            all.into_iter().filter(is_it).collect()
        }
        Which::PidFd(fd) => return pidfd(world, member, fd as u32),
    };
    if these.is_empty() {
        return None;
    }
    Some((ProviderKind::Child, world.all_of(&these, member)))
}

/// The process that a descriptor stands for.
pub(super) fn pidfd(world: &World<'_>, member: &Member, fd: u32) -> Found {
    let info = super::holders::FdInfo::of(member.tgid, fd)?;
    let pid = info.number("Pid").filter(|pid| *pid > 0)?;
    let process = u32::try_from(pid).ok()?;
    Some((ProviderKind::Child, world.all_of(&[process], member)))
}

/// The children of all threads of a process, by pid.
fn children_of(world: &World<'_>, member: &Member) -> Vec<u32> {
    let threads = world.process(member.tgid).iter();
    let files = threads.filter_map(|thread| {
        let (tgid, tid) = (thread.tgid, thread.tid);
        text::read(format!("/proc/{tgid}/task/{tid}/children")).ok()
    });
    let parse = |text: String| -> Vec<u32> {
        let pids = text.split_ascii_whitespace();
        pids.filter_map(|pid| pid.parse().ok()).collect()
    };
    files.flat_map(parse).collect()
}

/// The processes of the workload that a task's process traces; `None`: there was no time
/// to find out.
fn tracees(world: &World<'_>, member: &Member) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    for process in world.processes() {
        if world.is_late() {
            return None;
        }
        let tracer = procfs::tracer(process, process);
        if tracer.is_some_and(|t| world.process(member.tgid).iter().any(|m| m.tid == t)) {
            found.push(process);
        }
    }
    Some(found)
}

/// The child that has borrowed our memory, until it executes a program or ends.
pub(super) fn vforked(world: &World<'_>, member: &Member) -> Found {
    // kernel/fork.c: where the creator of such a child sleeps.
    let channel = procfs::wait_channel(member.tgid, member.tid)?;
    if channel != "kernel_clone" && !channel.contains("vfork") {
        return None;
    }
    let children = world.scene.members.iter();
    let ours = children.filter(|child| child.parent == member.serial && child.vforked);
    let last = ours.max_by_key(|child| child.serial)?;
    Some((ProviderKind::Child, Who::tasks(vec![last.serial])))
}

/// The task that holds another one as a debugger does.
pub(super) fn tracer(world: &World<'_>, member: &Member) -> Found {
    let tracer = procfs::tracer(member.tgid, member.tid)?;
    let found = world.scene.members.iter().find(|m| m.tid == tracer);
    let who = found.map_or_else(Who::outside, |m| Who::tasks(vec![m.serial]));
    Some((ProviderKind::Tracer, who))
}
