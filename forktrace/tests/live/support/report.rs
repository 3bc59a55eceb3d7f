//! The JSON report, as far as the tests read it: they break when a name changes.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    pub(crate) schema_version: u32,
    pub(crate) workload: Workload,
    pub(crate) groups: Vec<Group>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) polls: Option<Vec<Poll>>,
    pub(crate) poll_probes: String,
    pub(crate) throttled: Vec<Throttled>,
    pub(crate) cpu_users: Vec<CpuUser>,
    pub(crate) cpu_wanted_ns: u64,
    pub(crate) cpu_users_unknown_ns: u64,
    pub(crate) pairs: Vec<Pair>,
    pub(crate) waits_for: Vec<WaitsFor>,
    pub(crate) episodes: Vec<Episode>,
    pub(crate) causes: Vec<Cause>,
    #[serde(rename = "stops")]
    pub(crate) kernel_stops: Vec<KernelStop>,
    pub(crate) deadlocks: Vec<Deadlock>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) locks: Vec<LockRow>,
    #[serde(default)]
    pub(crate) lags: serde_json::Value,
    pub(crate) path: CriticalPath,
    pub(crate) audit: Audit,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Finding {
    pub(crate) kind: String,
    pub(crate) sentence: String,
    pub(crate) ns: u64,
    pub(crate) tasks: Vec<u32>,
}

/// A lock, and who had it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LockRow {
    pub(crate) kind: String,
    pub(crate) ns: u64,
    pub(crate) waiters: u64,
    pub(crate) contended_ns: u64,
    pub(crate) proved_ns: u64,
    pub(crate) inferred_ns: u64,
    pub(crate) unknown_ns: u64,
    pub(crate) hand_off_ns: u64,
    pub(crate) holders: Vec<LockHolder>,
    pub(crate) code: Vec<CodeWait>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LockHolder {
    pub(crate) tid: Option<u32>,
    pub(crate) proof: String,
    pub(crate) ns: u64,
    pub(crate) ran_ns: u64,
    pub(crate) runnable_ns: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct CriticalPath {
    pub(crate) ns: u64,
    pub(crate) parts: Vec<PathPart>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PathPart {
    pub(crate) ns: u64,
}

/// The wait that a stall is put down to.
#[derive(Debug, Deserialize)]
pub(crate) struct EndedBy {
    pub(crate) tid: u32,
    pub(crate) name: String,
    pub(crate) reason: String,
    pub(crate) how: String,
    pub(crate) end_ns: Option<u64>,
    pub(crate) apart: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Workload {
    pub(crate) argv: Vec<String>,
    pub(crate) attached: Option<Vec<String>>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) duration_ns: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Group {
    pub(crate) kind: String,
    pub(crate) pid: u32,
    pub(crate) tasks: Vec<u32>,
    pub(crate) lifetime_ns: u64,
    pub(crate) most_live: u32,
    pub(crate) all_blocked: Episodes,
    pub(crate) starved: Episodes,
    pub(crate) blocked_at_once: Vec<AtOnce>,
    pub(crate) running_at_once: Vec<AtOnce>,
    pub(crate) unknown_ns: u64,
    pub(crate) stops: Vec<Stop>,
    pub(crate) verdicts: Vec<VerdictSum>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct VerdictSum {
    pub(crate) verdict: String,
    pub(crate) ns: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Stop {
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) tasks: u32,
    pub(crate) of: u32,
    pub(crate) spread_ns: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Episodes {
    pub(crate) lower_ns: u64,
    pub(crate) upper_ns: u64,
    pub(crate) episodes: u64,
    pub(crate) longest_ns: u64,
    pub(crate) longest_start_ns: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct AtOnce {
    pub(crate) count: u32,
    pub(crate) ns: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Task {
    pub(crate) serial: u32,
    pub(crate) tid: u32,
    pub(crate) pid: u32,
    pub(crate) ppid: u32,
    pub(crate) name: String,
    pub(crate) argv: Vec<String>,
    pub(crate) shares: Vec<String>,
    pub(crate) attached: bool,
    pub(crate) asleep_before_ns: Option<u64>,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) fate: String,
    pub(crate) running_ns: u64,
    pub(crate) runnable_ns: u64,
    pub(crate) blocked_ns: u64,
    pub(crate) stopped_ns: u64,
    pub(crate) unknown_ns: u64,
    pub(crate) unplaced_ns: u64,
    pub(crate) blocks: u64,
    pub(crate) longest_block_ns: u64,
    pub(crate) waits: Vec<Wait>,
    pub(crate) wakers: Vec<Waker>,
    pub(crate) longest_blocks: Vec<LongBlock>,
    pub(crate) switches: Switches,
    pub(crate) followed: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Wait {
    pub(crate) reason: String,
    pub(crate) syscall: Option<String>,
    pub(crate) ns: u64,
    pub(crate) count: u64,
    pub(crate) longest_ns: u64,
    pub(crate) cut_off: u64,
    pub(crate) objects: Vec<Object>,
    pub(crate) code: Vec<CodeWait>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct CodeWait {
    pub(crate) name: String,
    pub(crate) ns: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Switches {
    pub(crate) traced: u64,
    pub(crate) kernel: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Poll {
    pub(crate) tid: u32,
    pub(crate) syscall: String,
    pub(crate) calls: u64,
    pub(crate) ready_at_once: u64,
    pub(crate) blocked: u64,
    pub(crate) timed_out: u64,
    pub(crate) empty_at_once: u64,
    pub(crate) failed: u64,
    pub(crate) unfinished: u64,
    pub(crate) max_fds: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Throttled {
    pub(crate) cgroup: String,
    pub(crate) periods: u64,
    pub(crate) ns: u64,
    pub(crate) quota_us: Option<u64>,
    pub(crate) period_us: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct CpuUser {
    pub(crate) name: String,
    pub(crate) traced: bool,
    pub(crate) ns: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Pair {
    pub(crate) a: u32,
    pub(crate) b: u32,
    pub(crate) lift: Option<f64>,
    pub(crate) verdict: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct WaitsFor {
    pub(crate) from: u32,
    pub(crate) to: Peer,
    pub(crate) ns: u64,
    pub(crate) count: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Peer {
    pub(crate) kind: String,
    pub(crate) serial: Option<u32>,
    pub(crate) interrupt: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Waker {
    #[serde(flatten)]
    pub(crate) by: WokenBy,
    pub(crate) count: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct WokenBy {
    pub(crate) kind: String,
    pub(crate) serial: Option<u32>,
    pub(crate) tid: Option<u32>,
    pub(crate) name: Option<String>,
    pub(crate) outside: bool,
    pub(crate) interrupt: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct LongBlock {
    pub(crate) chain: Vec<Link>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Link {
    pub(crate) tid: u32,
    pub(crate) reason: String,
    pub(crate) object: Option<Object>,
    pub(crate) ended: String,
    pub(crate) woken_by: WokenBy,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Object {
    pub(crate) kind: String,
    pub(crate) name: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Shared {
    #[serde(flatten)]
    pub(crate) object: Object,
    pub(crate) tasks: Vec<u32>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Episode {
    pub(crate) group: u32,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) ns: u64,
    pub(crate) look_ups: u64,
    pub(crate) verdict: String,
    pub(crate) ended_by: Option<EndedBy>,
    pub(crate) tasks: u32,
    pub(crate) chain: Vec<Link>,
    pub(crate) chain_in_group: u32,
    pub(crate) held: u32,
    pub(crate) not_woken: u32,
    pub(crate) shared: Vec<Shared>,
    pub(crate) blocked: Vec<Link>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Cause {
    pub(crate) group: u32,
    pub(crate) verdict: String,
    pub(crate) alone: bool,
    pub(crate) root: Option<Link>,
    pub(crate) by: Vec<CauseTask>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct CauseTask {
    pub(crate) tid: u32,
    pub(crate) ns: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct KernelStop {
    pub(crate) kind: String,
    pub(crate) pid: u32,
    pub(crate) tasks: Vec<u32>,
    pub(crate) by: Option<WokenBy>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Deadlock {
    pub(crate) at_ns: u64,
    pub(crate) kind: String,
    pub(crate) tasks: Vec<DeadlockedTask>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct DeadlockedTask {
    pub(crate) serial: u32,
    pub(crate) tid: u32,
    pub(crate) name: String,
    pub(crate) waits_for: String,
    pub(crate) owner: Option<u32>,
    pub(crate) since_ns: u64,
    pub(crate) code: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Weakness {
    pub(crate) kind: String,
    pub(crate) count: u64,
    pub(crate) text: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Audit {
    pub(crate) complete: bool,
    pub(crate) lost_records: u64,
    pub(crate) tasks_not_followed: u64,
    pub(crate) switches_traced: u64,
    pub(crate) switches_kernel: u64,
    pub(crate) unknown_ns: u64,
    pub(crate) early_wakeups: u64,
    pub(crate) unwoken_ns: u64,
    pub(crate) weaknesses: Vec<Weakness>,
}

impl Report {
    /// The only task with this tid.
    #[track_caller]
    pub(crate) fn task(&self, tid: u32) -> &Task {
        let tasks = self.tasks_with(tid);
        assert_eq!(tasks.len(), 1, "tasks with tid {tid} in {:?}", self.ids());
        tasks[0]
    }

    pub(crate) fn tasks_with(&self, tid: u32) -> Vec<&Task> {
        self.tasks.iter().filter(|task| task.tid == tid).collect()
    }

    pub(crate) fn of_process(&self, pid: u32) -> Vec<&Task> {
        self.tasks.iter().filter(|task| task.pid == pid).collect()
    }

    /// The only process group with this pid.
    #[track_caller]
    pub(crate) fn process(&self, pid: u32) -> &Group {
        let is_it = |group: &&Group| group.kind == "process" && group.pid == pid;
        let found: Vec<_> = self.groups.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "process groups with pid {pid}: {found:?}");
        found[0]
    }

    #[track_caller]
    pub(crate) fn tree(&self) -> &Group {
        let found: Vec<_> = self.groups.iter().filter(|g| g.kind == "tree").collect();
        assert_eq!(found.len(), 1, "tree groups: {found:?}");
        found[0]
    }

    #[track_caller]
    pub(crate) fn weakness(&self, kind: &str) -> &Weakness {
        let found = self.audit.weaknesses.iter().find(|w| w.kind == kind);
        found.unwrap_or_else(|| panic!("no weakness {kind}: {:?}", self.audit))
    }

    /// Running and waiting for a CPU, over all tasks of a process: the most by which
    /// it can have been less than all blocked while the workload meant it to be.
    pub(crate) fn awake_ns(&self, pid: u32) -> u64 {
        self.of_process(pid)
            .iter()
            .map(|task| task.awake_ns())
            .sum()
    }

    /// (tid, pid, name) of all tasks, for messages.
    pub(crate) fn ids(&self) -> Vec<(u32, u32, &str)> {
        let of = |task: &'_ Task| (task.tid, task.pid);
        self.tasks
            .iter()
            .map(|t| (of(t).0, of(t).1, t.name.as_str()))
            .collect()
    }
}

impl Task {
    pub(crate) fn lifetime_ns(&self) -> u64 {
        self.end_ns - self.start_ns
    }

    pub(crate) fn awake_ns(&self) -> u64 {
        self.running_ns + self.runnable_ns
    }

    /// At least how long it was blocked in a call that took it `call_ns`, when the
    /// report says `wait_ns`: it was awake for no longer, and blocked elsewhere for no
    /// longer, than in all its life.
    pub(crate) fn least_wait(&self, call_ns: u64, wait_ns: u64) -> u64 {
        let elsewhere = self.blocked_ns - wait_ns + self.stopped_ns;
        call_ns.saturating_sub(self.awake_ns() + elsewhere)
    }

    /// The wait in this syscall; nothing when it never blocked there.
    pub(crate) fn wait(&self, reason: &str, syscall: &str) -> Option<&Wait> {
        let is_it = |w: &&Wait| w.reason == reason && w.syscall.as_deref() == Some(syscall);
        self.waits.iter().find(is_it)
    }

    /// The wait in this syscall, which there must be.
    #[track_caller]
    pub(crate) fn waited(&self, reason: &str, syscall: &str) -> &Wait {
        let found = self.wait(reason, syscall);
        found.unwrap_or_else(|| {
            panic!(
                "{} never waited in {reason} ({syscall}): {self:?}",
                self.tid
            )
        })
    }
}
