//! Roles: tasks that do the same job. A role is the program, the thread's name without its
//! number, and the program of the parent.

use std::collections::HashMap;

use super::blocks::{Block, Blocks};
use crate::{
    model::{Model, Target, Task},
    report::Ended,
};

/// Names of threads that a runtime keeps for itself, by how they begin. From the sources
/// of OpenJDK (`os::set_native_thread_name`), V8 and libuv, the Erlang runtime, and
/// jemalloc; the kernel keeps 15 bytes of a name.
const HELPERS: [&str; 29] = [
    "GC Thread#",
    "G1 ",
    "VM Thread",
    "VM Periodic Tas",
    "C1 CompilerThre",
    "C2 CompilerThre",
    "Signal Dispatch",
    "Finalizer",
    "Reference Handl",
    "Common-Cleaner",
    "Service Thread",
    "Monitor Deflati",
    "Notification Th",
    "Attach Listener",
    "Cleaner-",
    "libuv-worker",
    "V8 DefaultWorke",
    "DelayedTaskSche",
    "SignalInspector",
    "erts_",
    "sys_sig_dispatc",
    "sys_msg_dispatc",
    "async_",
    "jemalloc_bg_thd",
    "tokio-runtime-w",
    "bio_close_file",
    "bio_aof",
    "bio_lazy_free",
    "ThreadPoolForeg",
];

/// The role of each task, by index in the model.
pub fn roles(model: &Model) -> Vec<String> {
    let mut leaders: HashMap<u32, &Task> = HashMap::new();
    let mut by_pid: HashMap<u32, &Task> = HashMap::new();
    for task in &model.tasks {
        if task.serial == task.process {
            leaders.insert(task.process, task);
            // Pids are used again: what is left is the last one, which is near enough.
            by_pid.insert(task.pid, task);
        }
    }
    let role = |task: &Task| {
        let leader = leaders.get(&task.process).copied().unwrap_or(task);
        let parent = by_pid
            .get(&leader.ppid)
            .filter(|p| p.process != leader.process);
        let parent = parent.map(|parent| parent.name.as_str());
        let name = (task.serial != leader.serial).then_some(task.name.as_str());
        role(&leader.name, parent, name)
    };
    model.tasks.iter().map(role).collect()
}

/// The role of a task, by the name of its process, that of the process that is its parent, and
/// that of the thread; `None`: it is the process's first.
pub(crate) fn role(process: &str, parent: Option<&str>, thread: Option<&str>) -> String {
    let program = without_number(process);
    let program = match parent.map(without_number) {
        Some(parent) if parent == program => format!("{program} child"),
        Some(parent) => format!("{parent}/{program}"),
        None => program,
    };
    let Some(thread) = thread else {
        return program;
    };
    match without_number(thread) {
        name if thread == process || name.is_empty() => format!("{program} thread"),
        name => format!("{program}: {name}"),
    }
}

/// Does a runtime keep it for itself, by its name? Or did nobody ever wake it from the futex
/// that it slept on for nearly all its life? Not if that is a lock that somebody had: who is
/// stuck there would have had work.
pub(super) fn is_helper(blocks: &Blocks<'_>, at: usize) -> bool {
    let task = &blocks.model.tasks[at];
    if is_helper_name(&task.name) {
        return true;
    }
    let last = task.stretches.last().and_then(Block::of);
    let Some(last) = Block::open(task).or(last) else {
        return false;
    };
    let target = blocks.model.targets.get(last.target as usize);
    let ns = last.end_ns(task) - last.start_ns;
    task.serial != task.process
        && matches!(target, Some(Target::Futex(_)))
        && blocks.how(at, &last) == Ended::CutShort
        && ns >= task.lifetime_ns() / 10 * 9
        && !blocks.is_for_a_lock(task.serial, &last)
}

/// Is it the name of a thread that a runtime keeps for itself?
pub(super) fn is_helper_name(name: &str) -> bool {
    HELPERS.iter().any(|helper| name.starts_with(helper))
}

/// `worker-12` is `worker`, `pool-1-thread-3` is `pool-N-thread`.
fn without_number(name: &str) -> String {
    let digit_or_mark = |c: char| c.is_ascii_digit() || "-_#:/. ".contains(c);
    let stem = match name.ends_with(|c: char| c.is_ascii_digit()) {
        true => name.trim_end_matches(digit_or_mark),
        false => name,
    };
    let stem = if stem.is_empty() { name } else { stem };
    let mut out = String::with_capacity(stem.len());
    let mut after_mark = false;
    for c in stem.chars() {
        match c.is_ascii_digit() && (after_mark || out.ends_with('N')) {
            // A number that stands by itself; `python3` and `cc1` are names.
            true if out.ends_with('N') => {}
            true => out.push('N'),
            false => out.push(c),
        }
        after_mark = "-_#:/. ".contains(c);
    }
    // A program's name can be a number or end in one.
    match stem.len() + 1 == name.len() {
        true => name.to_owned(),
        false => out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_its_number() {
        for (name, expected) in [
            ("worker-12", "worker"),
            ("pool-1-thread-3", "pool-N-thread"),
            ("python3", "python3"),
            ("cc1", "cc1"),
            ("GC Thread#0", "GC Thread"),
            ("7", "7"),
            ("main", "main"),
        ] {
            assert_eq!(without_number(name), expected, "{name}");
        }
    }

    #[test]
    fn helpers_are_told_by_name() {
        assert!(is_helper_name("VM Periodic Tas") && is_helper_name("libuv-worker"));
        assert!(!is_helper_name("worker"));
    }
}
