//! What a recording has found so far: every event goes through here to where it is kept,
//! past those who want to know of it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use forktrace_core::{
    recent::{Counters, Moment},
    render::Recorder,
};
use nix::sys::{
    resource::{UsageWho, getrusage},
    signal::Signal,
    signalfd::siginfo,
    time::TimeValLike as _,
};

use super::told::{Notice, Recorded, Watcher, Wish};
use crate::{
    at_work::AtWork,
    capture::{Losses, TableEntry, Tracer},
    clock::{now_ns, own_cpu},
    deadlock, decode,
    helper::Nursery,
    last_wait::LastWait,
    noticed::Noticed,
    observed::Observed,
    polls::Polls,
    procfs,
    providers::Search,
    resolve::Resolver,
    root::Root,
    signals::{Answer, Requests, Signals},
    sink::Sink,
    stacks::Namer,
    trace::{Event, Finish, PollsCounted, TablesRefused, TaskRecord},
};

/// Before the last seconds are given out, the rings are emptied at most so many times.
const MOST_DRAINS: u32 = 64;
/// Who sleeps so long after a signal that was to end it is not going to end of it.
const UNMOVED: Duration = Duration::from_secs(2);

/// CPU time that this process has used, ns.
pub(super) fn own_cpu_ns() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("getrusage")?;
    let total = usage.user_time() + usage.system_time();
    Ok(total.num_microseconds() as u64 * 1000)
}

/// What the end of a recording takes.
pub(super) struct Ending<'a> {
    pub(super) nursery: &'a Nursery,
    pub(super) watch: &'a deadlock::Watch,
    pub(super) cpu_before: u64,
    pub(super) not_real_time: Option<String>,
    pub(super) notify: &'a mut dyn FnMut(Notice),
}

/// A task that is there.
struct Living {
    tgid: u32,
    tid: u32,
    comm: String,
}

/// A task as the table has it, with its switches if they were counted.
fn task_of(entry: &TableEntry) -> Option<TaskRecord> {
    let mut task = decode::task(&entry.state).ok()?;
    if let Some(counted) = entry.counted {
        task.switches = counted.traced;
        task.kernel_switches = Some(counted.kernel);
    }
    Some(task)
}

pub(super) struct Session {
    pub(super) writer: Sink,
    /// `None`: calls of select and poll are counted, or never will be.
    pub(super) polls: Option<Polls>,
    pub(super) names: Resolver,
    pub(super) search: Search,
    pub(super) noticed: Noticed,
    pub(super) records: u64,
    pub(super) tasks: u64,
    pub(super) undecodable: u64,
    /// Ends that were read from the task table, so far.
    pub(super) taken: u64,
    /// Names the functions of stacks, if stacks are wanted.
    pub(super) stacks: Option<Namer>,
    /// The first process of the workload; `None`: it ran already.
    pub(super) root: Option<Root>,
    /// A signal has ended the recording.
    pub(super) detach: bool,
    /// A signal came that is to end something.
    pub(super) signalled: bool,
    /// When the last one came.
    pub(super) signalled_at: Option<Instant>,
    pub(super) requests: Requests,
    /// What the tasks did in this second of the recording.
    pub(super) at_work: (u64, AtWork),
    /// More came while the rings were read than they hold, and is still there.
    pub(super) unread: bool,
    /// `None`: nobody wants to know.
    pub(super) observed: Option<Observed>,
}

impl Session {
    pub(super) fn root_ended(&self) -> bool {
        self.root.as_ref().is_some_and(Root::ended)
    }

    pub(super) fn look_at_root(&mut self) -> Result<()> {
        self.root.as_mut().map_or(Ok(()), Root::look)
    }

    /// Once the first process is gone, or if there is none of ours, each signal ends the
    /// recording. For the rest see [`Requests::answer`].
    pub(super) fn on_signal(&mut self, signal: &siginfo) -> Result<()> {
        let number = signal.ssi_signo as i32;
        if number == Signal::SIGCHLD as i32 {
            return self.look_at_root();
        }
        self.signalled = true;
        self.signalled_at = Some(Instant::now());
        let Some(root) = self.root.as_ref().filter(|root| !root.ended()) else {
            self.detach = true;
            return Ok(());
        };
        let shares_group = root.is_in_our_group();
        match self.requests.answer(signal, shares_group, Instant::now()) {
            Answer::Nothing => {}
            Answer::PassOn => root.send(number)?,
            Answer::End => self.detach = true,
        }
        Ok(())
    }

    /// Of so many tasks that live, these were found not to be able to go on. If a signal that
    /// was to end them has not moved one of them, none will: they ignore it, or are where only
    /// SIGKILL reaches them. Whoever sent it wants the report.
    pub(super) fn give_up_on(&mut self, stuck: usize, live: u64) {
        let unmoved = self.signalled_at.is_some_and(|at| at.elapsed() >= UNMOVED);
        self.detach |= unmoved && live > 0 && stuck as u64 >= live;
    }

    pub(super) fn write(&mut self, event: &Event) {
        if let Event::Born(_) | Event::Untracked(_) = event {
            self.tasks += 1;
        }
        self.names.note(event);
        self.search.note(event);
        self.noticed.note(event);
        if let Some(polls) = &mut self.polls {
            polls.note(event);
        }
        if let Some(observed) = &mut self.observed {
            observed.note(event);
        }
        match &mut self.stacks {
            Some(namer) => namer.see(event, &mut self.writer),
            None => self.writer.push(event),
        }
    }

    /// The same until nothing is left.
    fn drain_all(&mut self, tracer: &mut Tracer) {
        self.drain(tracer);
        while self.unread {
            self.drain(tracer);
        }
    }

    /// Begins to count calls of select and poll, if it is time.
    pub(super) fn count_polls(&mut self, tracer: &mut Tracer, now_ns: u64) {
        let turn = |polls: &mut Polls| polls.turn(tracer, now_ns);
        let Some(counted) = self.polls.as_mut().and_then(turn) else {
            return;
        };
        if counted != PollsCounted::Attaching {
            self.polls = None;
        }
        self.write(&Event::PollsCounted(counted));
    }

    /// Gives names to the stacks that came, while their processes live.
    pub(super) fn name_stacks(&mut self, tracer: &mut Tracer) {
        // What a stack was taken in can have begun in a record that was not there yet when the ring
        // of its CPU was read.
        if self.stacks.as_ref().is_some_and(Namer::waits) {
            self.drain(tracer);
        }
        if let Some(namer) = &mut self.stacks {
            namer.name(|id| tracer.stack(id), &mut self.writer);
        }
    }

    /// Finds out what the tasks wait for, while they do.
    pub(super) fn resolve(&mut self, now_ns: u64) {
        let (writer, observed) = (&mut self.writer, &mut self.observed);
        self.names.resolve(now_ns, |event| {
            if let Some(observed) = observed {
                observed.note(&event);
            }
            writer.push(&event);
        });
    }

    pub(super) fn drain(&mut self, tracer: &mut Tracer) {
        let before = self.stacks.as_mut().map(Namer::before_reading);
        self.unread = tracer.drain(|cpu, record| {
            self.records += 1;
            if decode::decode(cpu, record, |event| self.write(&event)).is_err() {
                self.undecodable += 1;
            }
        });
        if let (Some(namer), Some(before), false) = (&mut self.stacks, before, self.unread) {
            namer.was_read(before);
        }
    }

    /// Takes what was found of those who sleep, and reads what the tasks are in, if somebody wants to
    /// know.
    pub(super) fn look(&mut self, tracer: &Tracer) -> Result<()> {
        self.stacks.iter_mut().for_each(Namer::look);
        self.observed.as_mut().map_or(Ok(()), |it| it.look(tracer))
    }

    /// Takes over what that look told, if the rings are empty. True: the live state is a new
    /// one.
    pub(super) fn observe(&mut self, tracer: &Tracer) -> bool {
        let Some(observed) = self.observed.as_mut().filter(|_| !self.unread) else {
            return false;
        };
        let losses = tracer.losses();
        observed.advance(&Recorder {
            records: self.records,
            lost: losses.records(),
            not_followed: losses.table_full,
        })
    }

    /// Shows the live state to somebody, and does what he wishes.
    pub(super) fn show(&mut self, tracer: &mut Tracer, watcher: &mut dyn Watcher) -> Result<()> {
        let Some(observed) = &mut self.observed else {
            return Ok(());
        };
        let cpu = own_cpu();
        let lost = tracer.losses().records();
        let wish = watcher.look(observed.live(), lost, self.writer.recent())?;
        observed.took(own_cpu().saturating_sub(cpu));
        match wish {
            Wish::Nothing => Ok(()),
            Wish::LookNow => {
                self.search.hurry();
                Ok(())
            }
            Wish::Save => self.save(tracer, watcher),
            Wish::End => {
                self.detach = true;
                Ok(())
            }
        }
    }

    /// Gives out the last seconds: what the tasks are in first, then what has come until then.
    pub(super) fn save(&mut self, tracer: &mut Tracer, watcher: &mut dyn Watcher) -> Result<()> {
        tracer.count_switches()?;
        let at_ns = now_ns()?;
        let mut living = Vec::new();
        tracer.steady(|entry| living.extend(task_of(&entry)));
        for _ in 0..MOST_DRAINS {
            self.drain(tracer);
            if !self.unread {
                break;
            }
        }
        self.name_stacks(tracer);
        self.take_unreported(tracer)?;
        self.resolve(at_ns);
        let moment = Moment {
            at_ns,
            living,
            counters: self.counters(tracer)?,
            not_real_time: None,
            saved: None,
        };
        match self.writer.recent() {
            Some(recent) => watcher.save(recent, moment),
            None => Ok(()),
        }
    }

    fn counters(&self, tracer: &Tracer) -> Result<Counters> {
        let losses = tracer.losses();
        Ok(Counters {
            ring_full: losses.ring_full,
            no_ring: losses.no_ring,
            other: losses.other,
            not_followed: losses.table_full,
            undecodable: self.undecodable,
            cpu_ns: own_cpu_ns()?,
        })
    }

    pub(super) fn tick(&mut self, tracer: &Tracer, now_ns: u64) -> Result<()> {
        let counters = match self.writer.recent() {
            Some(_) => self.counters(tracer)?,
            None => Counters::default(),
        };
        self.writer.tick(now_ns, &counters);
        Ok(())
    }

    /// Says who it is, if it lives.
    fn write_entry(&mut self, entry: &TableEntry) -> Option<Living> {
        if let Some(polls) = &entry.polls {
            decode::polls(entry.state.serial, polls, |event| self.write(&event));
        }
        match task_of(entry) {
            Some(mut task) => {
                let living = task.end_ns.is_none().then(|| {
                    task.born.comm = procfs::name_of_living(task.born.tgid, task.born.tid);
                    Living {
                        tgid: task.born.tgid,
                        tid: task.born.tid,
                        comm: task.born.comm.clone(),
                    }
                });
                self.write(&Event::Task(task));
                living
            }
            None => {
                self.undecodable += 1;
                None
            }
        }
    }

    /// Ends whose record was dropped: from the task table, so that neither
    /// they nor the table's slots are lost.
    pub(super) fn take_unreported(&mut self, tracer: &mut Tracer) -> Result<()> {
        if tracer.losses().unreported > self.taken {
            tracer.take_unreported(|entry| {
                self.taken += 1;
                self.write_entry(&entry);
            })?;
        }
        Ok(())
    }

    pub(super) fn finish(
        mut self,
        mut tracer: Tracer,
        signals: Signals,
        end: Ending<'_>,
    ) -> Result<Recorded> {
        tracer.detach()?;
        let end_ns = now_ns()?;
        self.drain_all(&mut tracer);
        self.count_polls(&mut tracer, end_ns);
        tracer.end_polls_later();
        let Ending {
            nursery,
            watch,
            cpu_before,
            not_real_time,
            notify,
        } = end;
        let mut tell = |presses| notify(Notice::LastLookUps(presses));
        let mut requests = std::mem::take(&mut self.requests);
        let mut last_wait = LastWait::new(nursery.ready(), &signals, &mut requests, &mut tell);
        if self.stacks.as_ref().is_some_and(Namer::waits) {
            self.drain_all(&mut tracer);
        }
        if let Some(namer) = &mut self.stacks {
            namer.finish(&mut last_wait, |id| tracer.stack(id), &mut self.writer);
        }
        let (live, untracked) = tracer.live();
        let mut left = BTreeMap::new();
        tracer.remaining(|entry| {
            // The first thread names the process, if it still lives.
            if let Some(Living { tgid, tid, comm }) = self.write_entry(&entry) {
                if tgid == tid {
                    left.insert(tgid, comm);
                } else {
                    left.entry(tgid).or_insert(comm);
                }
            }
        })?;
        let left: Vec<_> = left.into_iter().collect();
        let Self {
            mut writer, names, ..
        } = self;
        let losses = tracer.losses_of_all_cpus();
        write_counts(&tracer, &losses, &mut writer)?;
        let (look_ups, throttled, of_names) =
            names.finish(&mut last_wait, end_ns, |event| writer.push(&event));
        let mut troubles = of_names + watch.troubles() + self.search.troubles();
        let mut helpers_cpu_ns =
            look_ups.cpu_ns + watch.helper_cpu_ns() + self.search.helper_cpu_ns();
        if let Some(namer) = &self.stacks {
            troubles = troubles + namer.troubles();
            helpers_cpu_ns += namer.helper_cpu_ns();
        }
        troubles.extend(nursery.ends(troubles.unexplained()));
        if let Some(lost) = troubles.event() {
            writer.push(&lost);
        }
        if let Some(root) = &mut self.root {
            root.look()?;
        }
        let outcome = self.root.as_ref().map(Root::outcome);
        let (exit_code, signal) = outcome.unwrap_or_default();
        let finish = Finish {
            end_ns,
            exit_code,
            signal,
            cut_short: live + untracked > 0,
            lost_ring_full: losses.ring_full,
            lost_no_ring: losses.no_ring,
            lost_other: losses.other + tracer.left_out()?,
            lost_stacks: self.stacks.is_some().then_some(losses.stacks),
            not_followed: losses.table_full,
            undecodable: self.undecodable,
            tracer_cpu_ns: own_cpu_ns()?.saturating_sub(cpu_before) + helpers_cpu_ns,
            look_ups,
            throttled,
            not_real_time,
            ..Finish::default()
        };
        let (finish, finish_error) = match writer {
            Sink::File(writer) | Sink::Both(writer, _) => writer.finish(finish),
            Sink::Recent(_) => (finish, None),
        };
        Ok(Recorded {
            finish,
            finish_error,
            tracer,
            left: (self.detach && self.root.is_some()).then_some(left),
            signals,
        })
    }
}

/// What is only counted, and told at the end.
fn write_counts(tracer: &Tracer, losses: &Losses, writer: &mut Sink) -> Result<()> {
    let polls_left_out = tracer.polls_left_out()?;
    if polls_left_out > 0 {
        writer.push(&Event::PollsLeftOut(polls_left_out));
    }
    if let Some(counts) = tracer.lags()? {
        writer.push(&Event::LagCounts(counts));
    }
    let refused = TablesRefused {
        slots: losses.slots,
        others: losses.refused,
    };
    if refused != TablesRefused::default() {
        writer.push(&Event::TablesRefused(refused));
    }
    Ok(())
}
