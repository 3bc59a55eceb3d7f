//! A recording that is attached to what runs already: who is taken in, and until when.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{
    capture::{Tracer, Wanted},
    decode, procfs,
    targets::Targets,
    trace::{Attached as IsAttached, Event},
};

/// Tasks that ended in the moment in which they were taken in are looked for after this
/// time: a task that is ending takes no longer.
const VANISHED_AFTER: Duration = Duration::from_secs(1);

/// Targets that may come again are looked for this often while none of them lives…
const LOOK_FOR: Duration = Duration::from_secs(1);
/// …and so often while one does: all processes are gone through for it.
const LOOK_BESIDE: Duration = Duration::from_secs(10);

/// A recording that is attached.
pub(crate) struct Attached {
    targets: Targets,
    until: Option<Instant>,
    /// How far the run queues' clock is ahead of ours, ns.
    ahead_ns: Option<i64>,
    /// Serials of the tasks of which the recording has been told.
    told: BTreeSet<u32>,
    /// Tasks that came to the cgroups, as of the last pass over all tasks.
    arrivals: u64,
    /// When those are looked for that ended unseen.
    sweep: Option<Instant>,
    /// It goes on when all targets have ended, as long as one may come again.
    persists: bool,
    /// When those that may come again were looked for, and what was wanted then.
    looked: Instant,
    wanted: BTreeSet<Wanted>,
}

impl Attached {
    /// Takes in the targets.
    ///
    /// # Errors
    /// When none is left, or the kernel refuses.
    pub(crate) fn begin(
        targets: Targets,
        length: Option<Duration>,
        persists: bool,
        tracer: &mut Tracer,
    ) -> Result<Self> {
        let ahead_ns = tracer.run_queue_clock_ahead()?;
        let arrivals = tracer.arrivals();
        tracer.enter(|| targets.wanted())?;
        let mut some = false;
        tracer.entered(|_, _| some = true);
        let (live, untracked) = tracer.live();
        if !some && live == 0 && untracked == 0 && !targets.may_come() {
            bail!(
                "{} ended before forktrace was attached",
                targets.words().join(" and ")
            );
        }
        let now = Instant::now();
        Ok(Self {
            until: length.and_then(|length| now.checked_add(length)),
            ahead_ns,
            told: BTreeSet::new(),
            arrivals,
            sweep: now.checked_add(VANISHED_AFTER),
            persists: persists && targets.may_return(),
            looked: now,
            wanted: targets.wanted()?,
            targets,
        })
    }

    /// The targets in words.
    pub(crate) fn words(&self) -> &[String] {
        self.targets.words()
    }

    /// See [`Targets::left_out`].
    pub(crate) fn left_out(&self) -> &[String] {
        self.targets.left_out()
    }

    /// How long it may still last; `None`: as long as it likes.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(Instant::now());
        Some(left)
    }

    /// Is it over? `nobody`: no task of it lives.
    pub(crate) fn is_over(&self, nobody: bool) -> bool {
        self.time_left().is_some_and(|left| left.is_zero())
            || nobody && !self.persists && !self.targets.may_come()
    }

    /// Takes in who came, and those out who vanished; tells of all who are new.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn turn(&mut self, tracer: &mut Tracer, mut sink: impl FnMut(Event)) -> Result<()> {
        let arrivals = tracer.arrivals();
        let first = self.told.is_empty();
        self.look_for(tracer, &mut sink)?;
        if arrivals != self.arrivals {
            self.arrivals = arrivals;
            tracer.enter(|| self.targets.wanted())?;
            self.tell(tracer, &mut sink);
        } else if first {
            self.tell(tracer, &mut sink);
        }
        if self.sweep.is_some_and(|at| at <= Instant::now()) {
            self.sweep = None;
            tracer.take_vanished(|state| {
                if let Ok(mut task) = decode::task(&state) {
                    // That is all that is known of it.
                    task.end_ns = Some(state.born_ns);
                    task.open = None;
                    sink(Event::Attached(IsAttached {
                        serial: state.serial,
                        at_ns: state.born_ns,
                        asleep_for_ns: None,
                    }));
                    sink(Event::Task(task));
                }
            })?;
        }
        Ok(())
    }

    /// Takes in targets that have come again.
    fn look_for(&mut self, tracer: &mut Tracer, sink: impl FnMut(Event)) -> Result<()> {
        let (live, untracked) = tracer.live();
        let interval = if live + untracked == 0 {
            LOOK_FOR
        } else {
            LOOK_BESIDE
        };
        if !self.persists || self.looked.elapsed() < interval {
            return Ok(());
        }
        self.looked = Instant::now();
        self.targets.renew();
        let wanted = self.targets.wanted()?;
        let come = !wanted.is_subset(&self.wanted);
        self.wanted = wanted;
        if come {
            tracer.enter(|| self.targets.wanted())?;
            self.tell(tracer, sink);
            self.sweep = Instant::now().checked_add(VANISHED_AFTER);
        }
        Ok(())
    }

    fn tell(&mut self, tracer: &Tracer, mut sink: impl FnMut(Event)) {
        let ahead_ns = self.ahead_ns;
        let told = std::mem::take(&mut self.told);
        tracer.entered(|state, entry| {
            self.told.insert(state.serial);
            if told.contains(&state.serial) {
                return;
            }
            decode::entered(state, entry, ahead_ns, |mut event| {
                if let Event::Born(born) = &mut event {
                    born.comm = procfs::name_of_living(born.tgid, born.tid);
                }
                sink(event);
            });
        });
    }
}
