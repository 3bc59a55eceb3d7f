//! Tasks that are there already: passes of the kernel's iterator over all tasks take them in.

use std::{collections::BTreeSet, io::Read as _, mem::offset_of, sync::atomic::Ordering::Relaxed};

use anyhow::{Context as _, Result, bail};
use aya::{Btf, Ebpf, programs::Iter};
use forktrace_common::event::{Control, Entry, TaskState, flag, wanted};
use nix::sys::resource::{UsageWho, getrusage};

use super::{TableEntry, Tracer};
use crate::clock::now_ns;

/// What can be wanted at most: processes, tasks and cgroups together.
pub(super) const MOST_WANTED: u32 = 1 << 16;
/// Tells of processes that come to a cgroup.
pub(super) const CGROUP_TRACEPOINT: &str = "cgroup_attach_task";
const ITERATOR: &str = "enter_tasks";
/// A pass that takes somebody in is followed by another one: who has just been taken in may
/// have made others a moment before. Each is a generation, so it is no long row.
const MOST_PASSES: u32 = 100;

/// Which tasks that are there are taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Existing {
    /// Some by their cgroup, so that those count which come to it later.
    pub by_cgroup: bool,
}

/// Switches of a task that lives, since it was taken in or born.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// As our programs counted them.
    pub traced: u64,
    /// As the kernel did.
    pub kernel: u64,
}

/// Something that tasks are known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// All threads of a process, by its pid in our pid namespace.
    Pid(u32),
    /// One thread, by its tid in our pid namespace.
    Tid(u32),
    /// All in a cgroup and below, by its id in the unified hierarchy.
    Cgroup(u64),
    /// All that are not the kernel's.
    All,
}

impl Wanted {
    fn key(self) -> [u64; 2] {
        match self {
            Self::Pid(pid) => [wanted::PID, pid.into()],
            Self::Tid(tid) => [wanted::TID, tid.into()],
            Self::Cgroup(id) => [wanted::CGROUP, id],
            Self::All => [wanted::ALL, 0],
        }
    }
}

/// Loads the iterator's program.
pub(super) fn load(ebpf: &mut Ebpf, types: &Btf) -> Result<()> {
    iterator(ebpf)?
        .load("task", types)
        .context("the kernel refuses the program that takes in tasks which are there")
}

fn iterator(ebpf: &mut Ebpf) -> Result<&mut Iter> {
    let program = ebpf.program_mut(ITERATOR);
    let program = program.with_context(|| format!("the eBPF object has no program {ITERATOR}"))?;
    Ok(program.try_into()?)
}

impl Tracer {
    /// Takes in the tasks that are there and wanted, and waits until whatever they do is
    /// seen. `wanted` is asked before each pass over all tasks.
    ///
    /// Our own process and our helpers are never among them.
    ///
    /// # Errors
    /// When the kernel refuses, or there is no end of new ones.
    pub fn enter(&mut self, mut wanted: impl FnMut() -> Result<BTreeSet<Wanted>>) -> Result<()> {
        for pass in 1..=MOST_PASSES {
            let wanted = wanted()?;
            // Their pids are given again.
            for gone in self.asked.difference(&wanted) {
                let _ = self.wanted.remove(&gone.key());
            }
            self.asked.retain(|one| wanted.contains(one));
            for one in wanted {
                self.asked.insert(one);
                let room = self.wanted.insert(one.key(), 0, 0);
                room.with_context(|| format!("no more than {MOST_WANTED} targets fit"))?;
            }
            let before = self.control().entered;
            self.pass()?;
            if self.control().entered == before && pass > 1 {
                return Ok(());
            }
        }
        bail!(
            "tasks come and go faster than they can be taken in: {MOST_PASSES} passes over all \
             tasks found new ones each time"
        )
    }

    /// One pass over all tasks.
    fn pass(&mut self) -> Result<()> {
        let program = iterator(&mut self.ebpf)?;
        let link = program.attach().context("no iterator over tasks")?;
        let link = program.take_link(link)?;
        let mut tasks = link.into_file().context("no iterator over tasks")?;
        // It writes nothing: what is read is its end.
        let mut nothing = [0; 64];
        while tasks
            .read(&mut nothing)
            .context("the tasks can't be gone through")?
            > 0
        {}
        Ok(())
    }

    /// Tasks came to a cgroup that is wanted, so often.
    pub fn arrivals(&self) -> u64 {
        self.control().arrivals
    }

    /// The tasks that were taken in and what they were found doing, for each that is there.
    pub fn entered(&self, mut sink: impl FnMut(&TaskState, &Entry)) {
        for slot in self.used_slots() {
            let state = self.tasks.load(slot as usize);
            if state.attached != 0 && (state.task != 0 || state.flags & flag::UNREPORTED != 0) {
                sink(&state, &self.entries.load(slot as usize));
            }
        }
    }

    /// The tasks that live, each as it was at one moment since this was called.
    pub fn steady(&self, mut sink: impl FnMut(TableEntry)) {
        /// Who is switched so often that it is never the same twice is taken as it is.
        const TRIES: u32 = 20;
        /// No program is longer between its first and its last word of a state.
        const SPINS: u32 = 200;
        for slot in self.used_slots() {
            let mut state = self.state(slot);
            for _ in 0..TRIES {
                if state.task == 0 {
                    break;
                }
                (0..SPINS).for_each(|_| std::hint::spin_loop());
                let before = std::mem::replace(&mut state, self.state(slot));
                if bytemuck::bytes_of(&before) == bytemuck::bytes_of(&state) {
                    break;
                }
            }
            if state.task != 0 && state.end_ns == 0 {
                let counted = self.counted(slot, &state);
                sink(TableEntry {
                    state,
                    polls: None,
                    counted,
                });
            }
        }
    }

    /// Takes those out that ended in the moment in which they were taken in, so that their
    /// last switch was not seen: a pass over all tasks does not meet them. To be called a
    /// while after [`Self::enter`]: what is left of a task that is ending is announced then.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take_vanished(&mut self, mut sink: impl FnMut(TaskState)) -> Result<()> {
        let begun_ns = now_ns()?;
        self.pass()?;
        for slot in self.used_slots() {
            let state = self.tasks.load(slot as usize);
            let entry = self.entries.load(slot as usize);
            let is_waiting = state.task != 0 && state.flags & flag::ENTERED != 0;
            if !is_waiting || entry.seen_ns >= begun_ns || state.born_ns >= begun_ns {
                continue;
            }
            let task = self.tasks.word(slot as usize, offset_of!(TaskState, task));
            // Unless its last switch is announced just now.
            let still = task.compare_exchange(state.task, 0, Relaxed, Relaxed);
            if still.is_err() {
                continue;
            }
            sink(state);
            self.tasks.clear(slot as usize);
            self.free_slots.push(slot, 0)?;
            let live = self.control.word(0, offset_of!(Control, live));
            live.fetch_sub(1, Relaxed);
        }
        Ok(())
    }

    /// The state of a task. Of one that was not switched since it was taken in, what it was
    /// found doing then is what it does still.
    pub(super) fn state(&self, slot: u32) -> TaskState {
        let state = self.tasks.load(slot as usize);
        if !self.attaches || state.flags & flag::ENTERED == 0 {
            return state;
        }
        with_entry(state, &self.entries.load(slot as usize))
    }

    /// Compares our count of switches with the kernel's for all tasks that live. To be called
    /// while the programs are attached.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn count_switches(&mut self) -> Result<()> {
        self.pass()
    }

    /// What came of it.
    pub(super) fn counted(&self, slot: u32, state: &TaskState) -> Option<Counted> {
        if !self.attaches || state.end_ns != 0 {
            return None;
        }
        let entry = self.entries.load(slot as usize);
        (entry.check_serial == state.serial).then_some(Counted {
            traced: entry.check_traced,
            kernel: entry.check_kernel,
        })
    }

    /// How far the run queues' clock is ahead of that of the records, ns, within a tenth of
    /// a millisecond or so; `None`: it can't be told.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn run_queue_clock_ahead(&mut self) -> Result<Option<i64>> {
        const TRIES: u32 = 5;
        let mut best: Option<i64> = None;
        for _ in 0..TRIES {
            // We come to a CPU just before the clock is read, and stay there.
            std::thread::sleep(std::time::Duration::from_micros(200));
            let switches = switches()?;
            let now = now_ns()?;
            self.pass()?;
            let ran = self.control().reader_ran_ns;
            if ran != 0 && self::switches()? == switches {
                // We came before we looked, so the least distance is the nearest.
                let ahead = ran as i64 - now as i64;
                best = Some(best.map_or(ahead, |best| best.max(ahead)));
            }
        }
        Ok(best)
    }
}

/// Context switches of this thread.
fn switches() -> Result<i64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).context("getrusage")?;
    Ok(usage.voluntary_context_switches() + usage.involuntary_context_switches())
}

/// A state with what the entry tells, as far as it is of this task.
fn with_entry(mut state: TaskState, entry: &Entry) -> TaskState {
    if entry.serial != state.serial {
        return state;
    }
    if entry.why == 0 {
        state.out_ns = 0;
        state.in_ns = state.born_ns;
        return state;
    }
    TaskState {
        why: entry.why,
        flags: state.flags | entry.flags,
        syscall: entry.syscall,
        arg0: entry.arg0,
        arg1: entry.arg1,
        object: entry.object,
        timeout_us: entry.timeout_us,
        ..state
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use forktrace_common::event::why;

    use super::*;

    #[test]
    fn what_a_task_was_found_doing_is_what_it_does_until_it_is_switched() {
        let state = TaskState {
            serial: 7,
            born_ns: 100,
            out_ns: 100,
            why: why::PREEMPTED,
            flags: flag::ENTERED,
            ..TaskState::zeroed()
        };
        let asleep = Entry {
            serial: 7,
            why: why::INTERRUPTIBLE,
            syscall: 23,
            arg0: 5,
            ..Entry::zeroed()
        };
        let seen = with_entry(state, &asleep);
        assert_eq!(
            (seen.why, seen.syscall, seen.arg0),
            (why::INTERRUPTIBLE, 23, 5)
        );
        assert_eq!(seen.out_ns, 100, "it counts from then on");

        let on_a_cpu = Entry { why: 0, ..asleep };
        let seen = with_entry(state, &on_a_cpu);
        assert_eq!((seen.out_ns, seen.in_ns), (0, 100), "it runs");

        let of_another = Entry {
            serial: 8,
            ..asleep
        };
        assert_eq!(with_entry(state, &of_another).why, why::PREEMPTED);
    }
}
