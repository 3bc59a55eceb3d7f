//! A trace's blocks one by one, where a report has sums only.

use std::borrow::Borrow;
use std::path::Path;

use forktrace_core::{
    model::{Builder, Model, Off, State, Target, Task},
    trace::{Arch, Header, Waker},
    trace_file,
};
use serde_json::Value;

use super::{Finished, Forktrace, all_announced, n, run, spoilt};

/// Traces one `forktrace workload` to a complete report and a trace: one in which the
/// kernel announced each switch and wakeup, if it does so in one of a few runs.
#[track_caller]
pub(crate) fn timelines(workload: &str) -> (Finished, Timelines) {
    timelines_of(|run| run.workload(workload))
}

/// The same for what `with` makes of a run.
#[track_caller]
pub(crate) fn timelines_of(with: impl Fn(Forktrace) -> Forktrace) -> (Finished, Timelines) {
    const TRIES: u32 = 5;
    let mut tries = 0;
    loop {
        let run = run();
        let file = run.file("trace.ft");
        let traced = with(run.args(["--save"]).args([&file])).complete();
        tries += 1;
        if tries == TRIES || all_announced(traced.report()) {
            let timelines = Timelines::read(&file);
            return (traced, timelines);
        }
    }
}

pub(crate) struct Timelines {
    pub(crate) model: Model,
    start_ns: u64,
    arch: Arch,
}

impl Timelines {
    #[track_caller]
    pub(crate) fn read(file: &Path) -> Self {
        let data = std::fs::read(file).expect("the trace can be read");
        let mut builder: Option<Builder> = None;
        let new = |header: &Header| Builder::new(header.start_ns, header.arch);
        let info = trace_file::read(&data, |header, event| {
            builder.get_or_insert_with(|| new(header)).push(event);
        })
        .expect("it is a trace");
        let end_ns = info.finish.as_ref().map_or(info.last_ns, |f| f.end_ns);
        let model = builder.expect("it has events").build(end_ns);
        let mut all = model.tasks.iter().flat_map(|task| &task.stretches);
        if all.any(|off| off.flags & (Off::NO_WAKE | Off::INFERRED) != 0) {
            spoilt::note_inexact();
        }
        Self {
            model,
            start_ns: info.header.start_ns,
            arch: info.header.arch,
        }
    }

    /// The only task with this tid.
    #[track_caller]
    pub(crate) fn task(&self, tid: u32) -> &Task {
        let found: Vec<_> = self.model.tasks.iter().filter(|t| t.tid == tid).collect();
        assert_eq!(found.len(), 1, "tasks with tid {tid}");
        found[0]
    }

    /// Its blocks and stops in this syscall; `None`: outside syscalls.
    pub(crate) fn blocks_in<'a>(
        &'a self,
        tid: u32,
        syscall: Option<&'a str>,
    ) -> impl Iterator<Item = Off> + 'a {
        self.blocks(tid)
            .filter(move |off| self.syscall(off) == syscall)
    }

    /// Its blocks and stops whose end the kernel announced.
    pub(crate) fn blocks(&self, tid: u32) -> impl Iterator<Item = Off> {
        let all = self.task(tid).stretches.iter();
        all.filter(|off| off.state() != State::Runnable && off.flags & Off::NO_WAKE == 0)
    }

    /// The only block in this syscall within a part of a truth line, from its
    /// `begin_ns` to its `end_ns`; the longest, where the machine made it more.
    #[track_caller]
    pub(crate) fn block<'a>(&'a self, tid: u32, syscall: &'a str, part: &Value) -> Off {
        let (begin, end) = (self.since(&part["begin_ns"]), self.since(&part["end_ns"]));
        let within = |off: &Off| begin <= off.out_ns && off.in_ns <= end;
        let found = self.blocks_in(tid, Some(syscall)).filter(within);
        found
            .max_by_key(|off| off.wake_ns - off.out_ns)
            .unwrap_or_else(|| panic!("{tid} never blocked in {syscall} during {part}"))
    }

    /// A time of a truth line in the trace's.
    #[track_caller]
    pub(crate) fn since(&self, ns: &Value) -> u64 {
        n(ns) - self.start_ns
    }

    pub(crate) fn syscall(&self, off: impl Borrow<Off>) -> Option<&'static str> {
        self.arch.syscall_name(off.borrow().syscall.into())
    }

    pub(crate) fn target(&self, off: impl Borrow<Off>) -> &Target {
        &self.model.targets[off.borrow().target as usize]
    }

    /// The tid of the task of the workload that woke it, itself or through a soft
    /// interrupt.
    pub(crate) fn waker_tid(&self, off: impl Borrow<Off>) -> Option<u32> {
        match off.borrow().waker {
            Waker::Task { serial, .. } => {
                let is_it = |task: &&Task| task.serial == serial;
                self.model.tasks.iter().find(is_it).map(|task| task.tid)
            }
            _ => None,
        }
    }

    /// All blocks and stops of all tasks, whose waker is not known.
    pub(crate) fn of_unknown_wakers(&self) -> Vec<(u32, Option<&str>, Off)> {
        let tasks = self.model.tasks.iter();
        tasks
            .flat_map(|task| self.blocks(task.tid).map(move |off| (task.tid, off)))
            .filter(|(_, off)| matches!(off.waker, Waker::Unknown | Waker::None))
            .map(|(tid, off)| (tid, self.syscall(off), off))
            .collect()
    }
}
