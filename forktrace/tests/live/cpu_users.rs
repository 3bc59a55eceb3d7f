//! Who had the CPUs that a workload waited for.

use std::{
    fs,
    os::unix::fs::symlink,
    process::{Child, Command, Stdio},
};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::support::{Report, trace_until};

/// A process that spins on this CPU under a name of its own, until it is dropped.
pub(crate) struct Burner(Child);

impl Burner {
    pub(crate) fn start(folder: &std::path::Path, cpu: usize) -> Self {
        let program = folder.join("burner");
        if !program.exists() {
            symlink("/bin/sh", &program).expect("a link");
        }
        let mut command = Command::new(program);
        command.args(["-c", "echo; while :; do :; done"]);
        let child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut cpus = CpuSet::new();
        cpus.set(cpu).expect("a CPU");
        let pid = Pid::from_raw(child.id() as i32);
        sched_setaffinity(pid, &cpus).expect("it can be bound to a CPU");
        Self(child)
    }

    /// CPU time that it has used, ns.
    fn cpu_ns(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.0.id()));
        let text = text.expect("the kernel tells its CPU time");
        let first = text.split(' ').next().and_then(|ns| ns.parse().ok());
        first.expect("a number")
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn user(report: &Report, name: &str, traced: bool) -> u64 {
    let users = report.cpu_users.iter();
    let these = users.filter(|user| user.name == name && user.traced == traced);
    these.map(|user| user.ns).sum()
}

#[test]
fn who_had_the_cpu_while_the_workload_waited_for_it_is_told_inside_and_outside() {
    let folder = tempfile::tempdir().expect("a folder");
    // One that is not traced, on the CPU of two that are: all are always ready.
    let burner = Burner::start(folder.path(), 0);
    // On a machine that is very busy it can be missed.
    trace_until("spinners --count 2 --seconds 0.5 --pin-cpu 0", |traced| {
        let report = traced.report();
        let users = &report.cpu_users;
        let burner_ns = user(report, "burner", false);
        let burned_ns = burner.cpu_ns();
        assert!(
            burner_ns <= burned_ns,
            "{burner_ns} of {burned_ns}: {users:?}"
        );
        let inside: u64 = users.iter().filter(|u| u.traced).map(|u| u.ns).sum();
        let running: u64 = report.tasks.iter().map(|task| task.running_ns).sum();
        assert!(0 < inside && inside <= running, "{inside} {running}");
        let all: u64 = users.iter().map(|user| user.ns).sum();
        let sum = all + report.cpu_users_unknown_ns;
        assert!(
            sum >= report.cpu_wanted_ns,
            "{sum} {}",
            report.cpu_wanted_ns
        );
        let starved = report.findings.iter().find(|f| f.kind == "starved");
        let sentence = &starved.expect("they waited").sentence;
        burner_ns > 0 && sentence.contains("ran `")
    });
}
