//! Collects events, in whatever order the file has them, and makes tasks of them.

mod again;
mod index;

use std::{collections::HashMap, sync::Arc};

use forktrace_common::layout::{Waits, futex, wait};

use self::{
    again::{Anew, Resumed, with_resumed},
    index::Index,
};
use super::{
    Fate, Futexes, LockNames, Model, Off, OwnerSeen, Shelf, Task, earlier, later,
    stretches::{LARGE, Runs, SMALL, Sorted},
    targets::{Known, Raw, Targets},
    untracked::Untracked,
};
use crate::{
    trace::{self, Arch, waits},
    trace::{
        Argv, Attached, Born, Cgroup, CpuUser, Deadlock, Event, Exec, Frames, Given, HelperLost,
        Lag, LagCounts, LockName, Mark, MarksRefused, OpenStretch, Outsider, PollUse, PollsCounted,
        Providers, Signal, Stacks, Stretch, TablesRefused, TaskRecord, Totals,
    },
};

/// Of so many tasks more stretches are packed at once: what is not packed yet takes most of a
/// task's memory.
const FIRST_TASKS: usize = 1500;

/// So many targets of a task are looked through, and not looked up.
const FEW_TARGETS: usize = 8;

struct Collected {
    born: Option<Born>,
    stretches: Runs,
    sums: Vec<Totals>,
    record: Option<TaskRecord>,
    execs: Vec<Exec>,
    argv: Option<Argv>,
    attached: Option<Attached>,
    /// Where the trace is read from a later moment on: its sums then.
    earlier: Option<Totals>,
    /// Its end is lost: it was before this moment, since the start.
    gone_ns: Option<u64>,
    /// What is known where its stretches are lost.
    resumed: Vec<Resumed>,
    polls: Vec<PollUse>,
    /// What it waited for; [`Off::target`] is an index here until the end.
    targets: Vec<Raw>,
    /// Once there are more than a few.
    by_target: HashMap<Raw, u32>,
    last_target: u32,
}

impl Collected {
    fn new(stretches: Runs) -> Self {
        Self {
            born: None,
            stretches,
            sums: Vec::new(),
            record: None,
            execs: Vec::new(),
            argv: None,
            attached: None,
            earlier: None,
            gone_ns: None,
            resumed: Vec::new(),
            polls: Vec::new(),
            targets: Vec::new(),
            by_target: HashMap::new(),
            last_target: 0,
        }
    }

    /// Its birth. The record of its end knows all that the birth knew, and the
    /// last tid.
    fn born(&self) -> Option<&Born> {
        self.record.as_ref().map(|r| &r.born).or(self.born.as_ref())
    }

    /// Its last name. The events of programs that it executed are in the order of time.
    fn name(&self) -> &str {
        let names = [
            self.record.as_ref().map(|r| r.born.comm.as_str()),
            self.execs.last().map(|e| e.comm.as_str()),
            self.born.as_ref().map(|b| b.comm.as_str()),
        ];
        let mut names = names.into_iter().flatten();
        names.find(|name| !name.is_empty()).unwrap_or("?")
    }

    /// The index of a target. Mostly it is that of the stretch before, or one of a few.
    fn target(&mut self, raw: Raw) -> u32 {
        if self.targets.get(self.last_target as usize) != Some(&raw) {
            self.last_target = self.find_target(raw);
        }
        self.last_target
    }

    fn find_target(&mut self, raw: Raw) -> u32 {
        let targets = &mut self.targets;
        let next = targets.len() as u32;
        if targets.len() < FEW_TARGETS {
            let same = targets.iter().position(|other| *other == raw);
            return same.map_or_else(
                || {
                    targets.push(raw);
                    next
                },
                |at| at as u32,
            );
        }
        if self.by_target.is_empty() {
            self.by_target = targets.iter().copied().zip(0..).collect();
        }
        let at = *self.by_target.entry(raw).or_insert(next);
        if at == next {
            targets.push(raw);
        }
        at
    }
}

/// Times that data waited which are kept, of 24 bytes each.
const MOST_LAGS: usize = 1 << 20;

/// Collects events.
pub struct Builder {
    start_ns: u64,
    restart_syscall: Option<i16>,
    waitid: Option<i16>,
    waits: Box<Waits>,
    known: Known,
    outsiders: Vec<Outsider>,
    cpu_users: Vec<CpuUser>,
    lags: Vec<Lag>,
    lags_left_out: u64,
    lag_counts: Option<LagCounts>,
    signals: Vec<Signal>,
    stacks: Vec<Stacks>,
    frames: HashMap<u32, Frames>,
    deadlocks: Vec<Deadlock>,
    providers: Vec<Providers>,
    given: Vec<Given>,
    polls_left_out: u64,
    polls_counted: Option<PollsCounted>,
    tables_refused: TablesRefused,
    helper_lost: Option<HelperLost>,
    lock_names: Vec<LockName>,
    cgroups: Vec<Cgroup>,
    owners: Vec<OwnerSeen>,
    tasks: Vec<(u32, Collected)>,
    index: Index,
    untracked: Vec<trace::Untracked>,
    untracked_ends: Vec<trace::Untracked>,
    marks: Vec<Mark>,
    marks_refused: MarksRefused,
    marks_unread: u64,
    since_ns: u64,
    ended_before: u64,
    anew: Option<Box<Anew>>,
    shelf: Arc<Shelf>,
    /// Where stretches are packed.
    buffer: Vec<u8>,
}

impl Builder {
    /// For a trace that began at `start_ns` on a machine of this architecture.
    pub fn new(start_ns: u64, arch: Arch) -> Self {
        Self::on(Arc::default(), start_ns, arch)
    }

    /// The same, with its stretches on this shelf.
    pub fn on(shelf: Arc<Shelf>, start_ns: u64, arch: Arch) -> Self {
        Self {
            shelf,
            buffer: Vec::new(),
            start_ns,
            restart_syscall: arch.syscall_number("restart_syscall").map(|n| n as i16),
            waitid: arch.syscall_number("waitid").map(|n| n as i16),
            waits: Box::new(waits(arch)),
            known: Known::default(),
            outsiders: Vec::new(),
            cpu_users: Vec::new(),
            lags: Vec::new(),
            lags_left_out: 0,
            lag_counts: None,
            signals: Vec::new(),
            stacks: Vec::new(),
            frames: HashMap::new(),
            deadlocks: Vec::new(),
            providers: Vec::new(),
            given: Vec::new(),
            polls_left_out: 0,
            polls_counted: None,
            tables_refused: TablesRefused::default(),
            helper_lost: None,
            lock_names: Vec::new(),
            cgroups: Vec::new(),
            owners: Vec::new(),
            tasks: Vec::new(),
            index: Index::default(),
            untracked: Vec::new(),
            untracked_ends: Vec::new(),
            marks: Vec::new(),
            marks_refused: MarksRefused::default(),
            marks_unread: 0,
            since_ns: 0,
            ended_before: 0,
            anew: None,
        }
    }

    /// Adds an event.
    // Long: a table, with an arm for each kind.
    pub fn push(&mut self, event: Event) {
        match event {
            Event::Stretch(s) => self.stretch(&s),
            Event::Totals(t) => self.of(t.serial).sums.push(t),
            Event::Born(b) => {
                let serial = b.serial;
                self.of(serial).born = Some(b);
            }
            Event::Exec(e) => self.of(e.serial).execs.push(e),
            Event::Argv(argv) => {
                let last = &mut self.of(argv.serial).argv;
                if last.as_ref().is_none_or(|last| last.at_ns <= argv.at_ns) {
                    *last = Some(argv);
                }
            }
            Event::Task(t) => self.record(t),
            Event::Poll(p) => {
                let polls = &mut self.of(p.serial).polls;
                // A task whose end was sent in part and then read from the
                // table comes twice.
                polls.retain(|seen| seen.position != p.position);
                polls.push(p);
            }
            Event::Untracked(u) => self.untracked.push(u),
            Event::UntrackedEnd(u) => self.untracked_ends.push(u),
            Event::Outsider(mut o) => {
                o.at_ns = self.since_start(o.at_ns);
                self.outsiders.push(o);
            }
            Event::Signal(mut s) => {
                s.at_ns = self.since_start(s.at_ns);
                self.signals.push(s);
            }
            Event::Object(o) => {
                self.known.objects.insert(o.id, o);
            }
            Event::Waitset(w) => {
                self.known.waitsets.insert(w.id, w);
            }
            Event::Named(n) => self.known.name(n),
            Event::Interest(mut i) => {
                i.at_ns = self.since_start(i.at_ns);
                self.known.interests.entry(i.id).or_default().push(i);
            }
            Event::SharedFutex(f) => self.known.futexes.push(f),
            Event::LockName(n) => self.lock_names.push(n),
            Event::Cgroup(c) => self.cgroups.push(c),
            Event::Stacks(s) => self.stacks.push(s),
            Event::Frames(f) => {
                self.frames.insert(f.number, f);
            }
            Event::WaitsIn(it) => {
                if let Some(frames) = self.frames.get_mut(&it.number) {
                    frames.waits_in = Some(it.frame);
                }
            }
            Event::Mark(mark) => self.marks.push(Mark {
                at_ns: mark.at_ns.map(|ns| self.since_start(ns)),
                since_ns: mark.since_ns.map(|ns| self.since_start(ns)),
                ..mark
            }),
            Event::MarksRefused(refused) => self.marks_refused = refused,
            Event::Deadlock(mut d) => {
                d.at_ns = self.since_start(d.at_ns);
                for stuck in &mut d.tasks {
                    stuck.since_ns = self.since_start(stuck.since_ns);
                }
                self.deadlocks.push(d);
            }
            Event::Providers(mut p) => {
                p.at_ns = self.since_start(p.at_ns);
                self.providers.push(p);
            }
            Event::Given(given) => self.given.push(given),
            Event::PollsCounted(counted) => self.polls_counted = Some(self.counted(counted)),
            Event::PollsLeftOut(count) => self.polls_left_out = count,
            Event::TablesRefused(refused) => self.tables_refused = refused,
            Event::MarksUnread(bytes) => self.marks_unread = bytes,
            Event::HelperLost(lost) => self.helper_lost = Some(lost),
            Event::CpuUser(mut u) => {
                u.at_ns = self.since_start(u.at_ns);
                self.cpu_users.push(u);
            }
            Event::Lag(mut lag) => {
                lag.looked_ns = self.since_start(lag.looked_ns);
                lag.ready_ns = self.since_start(lag.ready_ns).min(lag.looked_ns);
                match self.lags.len() < MOST_LAGS {
                    true => self.lags.push(lag),
                    false => self.lags_left_out += 1,
                }
            }
            Event::LagCounts(counts) => self.lag_counts = Some(counts),
            Event::Attached(attached) => {
                let task = &mut self.of(attached.serial).attached;
                // It is told again when the task ends, by who knows less.
                task.get_or_insert(attached);
            }
        }
    }

    /// Adds a stretch. Those of a task come in the order of the file; it does not matter what
    /// else comes between them.
    pub fn stretch(&mut self, s: &Stretch) {
        let mut off = self.off(s);
        let raw = if off.state() == super::State::Runnable {
            Raw::Unknown
        } else {
            self.raw(s.syscall, s.compat, s.arg0, s.arg1, s.object)
        };
        if let Raw::Futex { count: 1, .. } = raw {
            self.note_owner(s.serial, s.seq, s.syscall, s.arg1);
        }
        let at = self.index_of(s.serial);
        let task = &mut self.tasks[at].1;
        off.target = task.target(raw);
        let to = (&self.shelf, &mut self.buffer);
        task.stretches.push(off, s.cpu_in, to);
    }

    /// What a task waits for, as far as the stretch itself tells.
    fn raw(&self, syscall: i16, compat: bool, arg0: u64, arg1: u32, object: u32) -> Raw {
        if compat {
            return Raw::Unknown;
        }
        if Some(syscall) == self.waitid {
            return Raw::waitid(arg0, arg1);
        }
        let number = usize::try_from(syscall).ok();
        let wait = number.map(|n| *self.waits.get(n).unwrap_or(&0));
        Raw::new(wait, arg0, arg1, object)
    }

    /// All that the kernel programs knew of a task.
    fn record(&mut self, task: TaskRecord) {
        let serial = task.born.serial;
        if let Some(open) = task.open.filter(|open| !open.compat) {
            self.note_owner(serial, task.totals.seq, open.syscall, open.arg1);
        }
        self.of(serial).record = Some(task);
    }

    /// The owner that was in a lock when this task went to sleep on it.
    fn note_owner(&mut self, serial: u32, seq: u32, syscall: i16, arg1: u32) {
        let tid = futex::owner(arg1);
        let number = usize::try_from(syscall).ok();
        let wait = number.and_then(|number| self.waits.get(number));
        if tid != 0 && wait == Some(&wait::FUTEX) {
            self.owners.push(OwnerSeen { serial, seq, tid });
        }
    }

    fn of(&mut self, serial: u32) -> &mut Collected {
        let at = self.index_of(serial);
        &mut self.tasks[at].1
    }

    fn index_of(&mut self, serial: u32) -> usize {
        let next = self.tasks.len();
        let at = self.index.of(serial, next as u32) as usize;
        if at == next {
            let log = match next < FIRST_TASKS {
                true => LARGE,
                false => SMALL,
            };
            let stretches = Runs::new(self.shelf.chunks(log), self.restart_syscall);
            self.tasks.push((serial, Collected::new(stretches)));
        }
        at
    }

    fn off(&self, s: &Stretch) -> Off {
        // Ours are in order; a forged file's need not be.
        let out_ns = self.since_start(s.out_ns);
        let wake_ns = self.since_start(s.wake_ns).max(out_ns);
        Off {
            out_ns,
            wake_ns,
            in_ns: self.since_start(s.in_ns).max(wake_ns),
            seq: s.seq,
            syscall: match super::state_of(s.why) {
                // Its other fields are of the block before.
                super::State::Runnable => s.syscall,
                _ => in_page_fault(s.syscall, s.arg0),
            },
            why: s.why,
            flags: if s.early_wake { Off::EARLY_WAKE } else { 0 }
                | if s.no_wake { Off::NO_WAKE } else { 0 }
                | if s.compat { Off::COMPAT } else { 0 }
                | if s.inferred { Off::INFERRED } else { 0 },
            waker: s.waker,
            target: 0,
            timeout_us: s.timeout.to_us(),
        }
    }

    fn counted(&self, counted: PollsCounted) -> PollsCounted {
        match counted {
            PollsCounted::From {
                attaching_ns,
                attached_ns,
            } => PollsCounted::From {
                attaching_ns: self.since_start(attaching_ns),
                attached_ns: self.since_start(attached_ns),
            },
            other => other,
        }
    }

    fn since_start(&self, ns: u64) -> u64 {
        ns.saturating_sub(self.start_ns)
    }

    /// The tasks, given when the trace ended.
    pub fn build(mut self, end_ns: u64) -> Model {
        let end_ns = self.since_start(end_ns);
        let mut collected = std::mem::take(&mut self.tasks);
        let mut buffer = std::mem::take(&mut self.buffer);
        collected.sort_unstable_by_key(|(serial, _)| *serial);
        let processes: HashMap<u32, u32> = collected
            .iter()
            .filter_map(|(serial, c)| Some((*serial, c.born()?.process)))
            .collect();
        let process = |serial| *processes.get(&serial).unwrap_or(&serial);
        let mut targets = Targets::new(std::mem::take(&mut self.known), process);
        let earlier: Vec<Option<Totals>> = collected.iter().map(|(_, c)| c.earlier).collect();
        let mut tasks: Vec<Task> = collected
            .into_iter()
            .map(|(serial, task)| self.task(serial, task, end_ns, &mut targets, &mut buffer))
            .collect();
        let untracked = Untracked {
            begun: std::mem::take(&mut self.untracked),
            ended: std::mem::take(&mut self.untracked_ends),
        };
        untracked.add_to(&mut tasks, |ns| self.since_start(ns), end_ns);
        // Whose process those are in was found by when tasks really began.
        for (task, totals) in tasks.iter_mut().zip(earlier) {
            if let Some(totals) = totals {
                earlier::begin_at(task, &totals, self.since_ns);
            }
        }
        tasks.sort_by_key(|task| (task.start_ns, task.serial));
        end_with_process(&mut tasks);
        let last = tasks.iter().map(|task| task.end_ns).max().unwrap_or(0);
        let given = later::given(&mut tasks, &mut targets, std::mem::take(&mut self.given));
        later::children(&mut tasks, &mut targets, &self.providers);
        later::joins(&mut tasks, &mut targets, &self.providers);
        let futexes = Futexes::new(targets.take_commands(), std::mem::take(&mut self.owners));
        let (targets, files, waitsets) = targets.finish();
        self.outsiders.sort_by_key(|o| (o.tid, o.at_ns));
        self.signals.sort_by_key(|s| s.at_ns);
        self.deadlocks.sort_by_key(|d| d.at_ns);
        Model {
            tasks,
            since_ns: self.since_ns,
            ended_before: self.ended_before,
            end_ns: end_ns.max(last),
            targets,
            files,
            waitsets,
            outsiders: self.outsiders,
            cpu_users: self.cpu_users,
            lags: self.lags,
            lags_left_out: self.lags_left_out,
            lag_counts: self.lag_counts,
            signals: self.signals,
            stacks: self.stacks,
            frames: self.frames,
            marks: self.marks,
            marks_refused: self.marks_refused,
            marks_unread: self.marks_unread,
            deadlocks: self.deadlocks,
            providers: self.providers,
            given,
            polls_left_out: self.polls_left_out,
            polls_counted: self.polls_counted,
            tables_refused: self.tables_refused,
            helper_lost: self.helper_lost,
            lock_names: LockNames::new(self.lock_names, process),
            cgroups: last_cgroups(self.cgroups, process),
            futexes,
        }
    }

    fn task(
        &self,
        serial: u32,
        mut c: Collected,
        trace_end_ns: u64,
        targets: &mut Targets,
        buffer: &mut Vec<u8>,
    ) -> Task {
        let Sorted {
            mut stretches,
            last_block,
            next_seq,
        } = c.stretches.finish(&self.shelf, buffer);
        c.stretches = Runs::new(0, None);
        c.sums.sort_by_key(|s| s.seq);
        c.execs.sort_by_key(|e| e.at_ns);
        let process = c.born().map_or(serial, |b| b.process);
        let indices: Vec<u32> = c
            .targets
            .iter()
            .map(|raw| targets.index(*raw, process))
            .collect();
        stretches.name_targets(indices.clone());
        if !c.resumed.is_empty() {
            stretches = with_resumed(&stretches, &c.resumed);
        }
        let finished = c.record.as_ref().map(|r| r.totals.seq);
        let last_before = last_block.filter(|_| finished == Some(next_seq));

        let first_seen = stretches.first().map_or(trace_end_ns, |s| s.out_ns);
        let last_seen = stretches.last().map_or(0, |s| s.in_ns);
        let argv = c.argv.take().map_or(Vec::new(), |argv| argv.argv);
        let born = c.born();
        let start_ns = born.map_or(first_seen, |b| self.since_start(b.at_ns));
        let (end_ns, fate) = match &c.record {
            Some(TaskRecord {
                end_ns: Some(end), ..
            }) => (self.since_start(*end), Fate::Ended),
            Some(_) => (trace_end_ns, Fate::Alive),
            None => {
                let gone_ns = c.gone_ns.unwrap_or(trace_end_ns);
                (gone_ns.max(last_seen), Fate::Unknown)
            }
        };
        let last_exec = c.execs.last();
        let name = c.name().to_owned();
        // A first thread keeps its tid to its end. That of one which another thread replaces by
        // an exec is given to that one a moment before the last switch, if that comes late.
        let of_first = c.born.as_ref().filter(|b| b.tid == b.tgid).map(|b| b.tid);
        let last_tid = c.record.as_ref().map(|r| r.born.tid);
        let tid = of_first
            .or(last_tid)
            .or(last_exec.map(|e| e.tid))
            .or(born.map(|b| b.tid))
            .unwrap_or(0);
        let mut open = c.record.as_ref().and_then(|r| r.open);
        let mut open_target = 0;
        if let Some(open) = &mut open {
            open_target = targets.index(self.open_raw(open), process);
            open.syscall = in_page_fault(open.syscall, open.arg0);
            open.out_ns = self.since_start(open.out_ns);
            open.wake_ns = open.wake_ns.map(|ns| self.since_start(ns));
            if Some(open.syscall) == self.restart_syscall
                && let Some((syscall, raw)) = last_before
            {
                open.syscall = syscall;
                open_target = *indices.get(raw as usize).unwrap_or(&0);
            }
        }
        Task {
            serial,
            process,
            tid,
            pid: born.map_or(0, |b| b.tgid),
            ppid: born.map_or(0, |b| b.ppid),
            parent: born.map_or(0, |b| b.parent),
            name,
            argv,
            clone_flags: born.map_or(0, |b| b.clone_flags),
            kernel_worker: born.is_some_and(|b| b.kernel_worker),
            attached: c.attached,
            start_ns: start_ns.min(end_ns),
            end_ns,
            fate,
            followed: true,
            first_seq: 0,
            stretches_expected: c.record.as_ref().map(|r| r.totals.seq),
            stretches,
            open,
            open_target,
            sums: c.sums,
            record: c.record,
            polls: c.polls,
        }
    }

    fn open_raw(&self, open: &OpenStretch) -> Raw {
        if super::state_of(open.why) == super::State::Runnable {
            return Raw::Unknown;
        }
        self.raw(open.syscall, open.compat, open.arg0, open.arg1, open.object)
    }
}

/// The kernel programs look for the page fault that a task outside of syscalls is in:
/// it can also sleep on its way back to user mode.
fn in_page_fault(syscall: i16, arg0: u64) -> i16 {
    match (syscall, arg0) {
        (-1, 1..) => super::PAGE_FAULT,
        _ => syscall,
    }
}

/// The last cgroup of each process, by the serial of its first task.
fn last_cgroups(mut told: Vec<Cgroup>, process: impl Fn(u32) -> u32) -> HashMap<u32, String> {
    told.sort_by_key(|it| it.at_ns);
    let of = told.into_iter().map(|it| (process(it.serial), it.path));
    of.collect()
}

/// A task that is not followed and whose end was not seen lived no longer than
/// the last task of its process that was followed, if all of those have ended.
fn end_with_process(tasks: &mut [Task]) {
    // By process: the last end, and whether one still lives.
    let mut followed: HashMap<u32, (u64, bool)> = HashMap::new();
    for task in tasks.iter().filter(|task| task.followed) {
        let (last_end, lives) = followed.entry(task.process).or_default();
        *last_end = task.end_ns.max(*last_end);
        *lives |= task.fate != Fate::Ended;
    }
    for task in tasks {
        if task.followed || task.fate == Fate::Ended {
            continue;
        }
        if let Some(&(last_end, false)) = followed.get(&task.process) {
            task.end_ns = last_end.max(task.start_ns);
        }
    }
}
