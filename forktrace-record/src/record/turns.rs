//! The loop of a recording: what wakes it, and what a turn of it does.

use std::{
    future::poll_fn,
    io,
    os::fd::{AsFd as _, OwnedFd},
    task::Poll,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::yield_now,
};

use super::{
    session::Session,
    told::{Notice, Progress, Watcher},
};
use crate::{
    analysis::named_deadlock as named, at_work::AtWork, attached::Attached, capture::Tracer,
    clock::now_ns, deadlock, helper::Nursery, marks::Marks, observed::Observed, signals::Signals,
    stacks::Namer, trace::Event,
};

/// The rings are looked at this often even when none is a quarter full.
const TICK: Duration = Duration::from_millis(200);
/// The same, when stacks have to get their names while their processes live.
const TICK_FOR_STACKS: Duration = Duration::from_millis(10);
/// The same at first and when tasks wait for something new: it can soon be gone,
/// and its name with it.
const TICK_WHEN_NEW: Duration = Duration::from_millis(20);
/// The same, when the first process has ended and others are waited for.
const TICK_AT_END: Duration = Duration::from_millis(5);

/// All that can wake the loop before its time.
struct Wakes {
    sources: Vec<AsyncFd<OwnedFd>>,
    /// One of the sources. tokio's own timers go by whole milliseconds, and each that is the next
    /// one wakes the loop once more.
    timer: TimerFd,
}

/// What has woken the loop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Woken {
    /// Nothing: its time is up.
    Nobody,
    /// The answer of a helper.
    Helper,
    /// Something else, or that too.
    Else,
}

impl Wakes {
    /// Which of them are that of the helpers and the timer.
    const HELPERS: usize = 1;
    const TIMER: usize = 2;

    fn new(signals: &Signals, tracer: &Tracer, nursery: &Nursery) -> Result<Self> {
        let rings = tracer.ring_fds().map(|ring| ring.try_clone_to_owned());
        let helpers = nursery.ready().try_clone_to_owned();
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).context("no timer")?;
        let own = [signals.wakes(), helpers, timer.as_fd().try_clone_to_owned()];
        let fds = own.into_iter().chain(rings);
        let sources = fds.map(|fd| {
            let fd = fd.context("no descriptor to wait for the rings")?;
            // SAFETY: an `OwnedFd` is open until it is dropped, with the `AsyncFd`.
            #[expect(unsafe_code, reason = "tokio can't know what a type's descriptor is")]
            // A ring that holds anything counts as readable, but only its edges wake.
            let source = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
            source.map_err(|error| anyhow!("the rings can't be waited for: {error}"))
        });
        Ok(Self {
            sources: sources.collect::<Result<_>>()?,
            timer,
        })
    }

    /// Waits until one of them has become readable, at most so long.
    async fn next(&self, at_most: Duration) -> Result<Woken> {
        if at_most.is_zero() {
            yield_now().await;
            return Ok(Woken::Else);
        }
        let at = Expiration::OneShot(at_most.into());
        self.timer
            .set(at, TimerSetTimeFlags::empty())
            .context("the timer")?;
        let readable = poll_fn(|context| {
            let mut woken = Woken::Nobody;
            let mut is_time = false;
            for (at, source) in self.sources.iter().enumerate() {
                if let Poll::Ready(ready) = source.poll_read_ready(context) {
                    ready?.clear_ready();
                    match (at, woken) {
                        (Self::TIMER, _) => is_time = true,
                        (Self::HELPERS, Woken::Nobody) => woken = Woken::Helper,
                        _ => woken = Woken::Else,
                    }
                }
            }
            match woken {
                Woken::Nobody if !is_time => Poll::Pending,
                woken => Poll::Ready(io::Result::Ok(woken)),
            }
        });
        readable.await.context("the rings can't be waited for")
    }
}

/// What a turn of the loop works on.
pub(super) struct Loop<'a> {
    pub(super) signals: &'a Signals,
    pub(super) marks: Option<&'a mut Marks>,
    pub(super) attached: Option<&'a mut Attached>,
    pub(super) tracer: &'a mut Tracer,
    pub(super) session: &'a mut Session,
    pub(super) watch: &'a mut deadlock::Watch,
    pub(super) watcher: Option<&'a mut (dyn Watcher + 'a)>,
    pub(super) begun: Instant,
    pub(super) start_ns: u64,
    pub(super) until_exit: bool,
    pub(super) said_not_written: bool,
    pub(super) notify: &'a mut (dyn FnMut(Notice) + 'a),
}

impl Loop<'_> {
    /// Turn for turn, until it is over.
    pub(super) async fn run(&mut self, nursery: &Nursery) -> Result<()> {
        let wakes = Wakes::new(self.signals, self.tracer, nursery)?;
        let mut tick = TICK_WHEN_NEW;
        let mut turned = Instant::now();
        loop {
            let left = self.time_left(tick, turned);
            let woken = wakes.next(left).await?;
            // With stacks, names come all the time, and turns are often enough.
            let has_time = woken == Woken::Helper && self.session.stacks.is_some();
            if has_time && !self.time_left(tick, turned).is_zero() {
                continue;
            }
            turned = Instant::now();
            if self.turn(&mut tick)? {
                return Ok(());
            }
        }
    }

    /// How long to wait for the next turn at most, after the one that began then.
    fn time_left(&self, tick: Duration, turned: Instant) -> Duration {
        let from_one_to_the_next = if self.session.unread {
            Duration::ZERO
        } else if self.session.root_ended() {
            TICK_AT_END
        } else if self.session.stacks.is_some() {
            TICK_FOR_STACKS
        } else {
            tick
        };
        let left = from_one_to_the_next.saturating_sub(turned.elapsed());
        let ends = self.attached.as_ref().and_then(|it| it.time_left());
        let looks = self.session.observed.as_ref().map(Observed::time_left);
        ends.into_iter().chain(looks).fold(left, Duration::min)
    }

    /// Does what there is to do; true: the recording is over.
    fn turn(&mut self, tick: &mut Duration) -> Result<bool> {
        self.session.look_at_root()?;
        while let Some(signal) = self.signals.next()? {
            self.session.on_signal(&signal)?;
        }
        // The counters before the rings: what they count is then in the rings.
        let (live, untracked) = self.tracer.live();
        let observed = self.take_what_came()?;
        // Before names are found out, after which nothing is new any more.
        *tick = if self.session.names.is_busy() {
            TICK_WHEN_NEW
        } else {
            TICK.min(*tick * 2)
        };
        self.session.resolve(now_ns()?);
        self.session.tick(self.tracer, now_ns()?)?;
        if let Some(watcher) = self.watcher.as_mut().filter(|_| observed) {
            self.session.show(self.tracer, &mut **watcher)?;
        }
        self.tell_who_goes_on()?;
        let nobody = live == 0 && untracked == 0;
        let over = match &self.attached {
            Some(attached) => attached.is_over(nobody),
            None => self.session.root_ended() && (self.until_exit || nobody),
        };
        if over || self.session.detach {
            return Ok(true);
        }
        self.look_for_the_stuck(live + untracked)?;
        self.tell_progress(live + untracked)?;
        Ok(false)
    }

    /// Empties the rings and whatever else has something; true: the live state is a new one.
    fn take_what_came(&mut self) -> Result<bool> {
        let session = &mut *self.session;
        if let Some(attached) = &mut self.attached {
            attached.turn(self.tracer, |event| session.write(&event))?;
        }
        session.look(self.tracer)?;
        session.drain(self.tracer);
        session.count_polls(self.tracer, now_ns()?);
        let observed = session.observe(self.tracer);
        session.name_stacks(self.tracer);
        for failure in session.stacks.iter_mut().flat_map(Namer::take_failures) {
            (self.notify)(Notice::NoNames(failure));
        }
        if !self.said_not_written
            && let Some(why) = session.writer.error()
        {
            self.said_not_written = true;
            (self.notify)(Notice::NotWritten(why.to_owned()));
        }
        self.tracer
            .read_log(|line| (self.notify)(Notice::Log(line)));
        session.take_unreported(self.tracer)?;
        if let Some(marks) = &mut self.marks {
            let read = marks.drain(|event| session.write(&event));
            read.context("the workload's marks can't be read")?;
        }
        Ok(observed)
    }

    /// Of those who were said never to go on.
    fn tell_who_goes_on(&mut self) -> Result<()> {
        let session = &mut *self.session;
        // Who goes on since somebody ends it all has not shown that it was none.
        if session.signalled {
            return Ok(());
        }
        let mut gone_on = session.noticed.ended();
        if session.noticed.is_due(Instant::now()) {
            let living = deadlock::living(self.tracer);
            gone_on.extend(session.noticed.gone_on(&living, now_ns()?));
        }
        for gone_on in gone_on {
            (self.notify)(Notice::GoesOn(gone_on));
        }
        Ok(())
    }

    /// Looks for deadlocks, and for those who could end the waits of the moment.
    fn look_for_the_stuck(&mut self, live: u64) -> Result<()> {
        let session = &mut *self.session;
        let since = |ns: u64| ns.saturating_sub(self.start_ns);
        for found in self.watch.look(self.tracer, now_ns()?) {
            let name = |serial| found.names.get(&serial).cloned();
            let told = named(&found.deadlock, since, name, |_| None, |_| None);
            if session.noticed.is_new(&told) {
                (self.notify)(Notice::Deadlock(told));
            }
            session.write(&Event::Deadlock(found.deadlock));
        }
        let seen = session.search.look(self.tracer, now_ns()?);
        for found in seen.providers {
            session.write(&Event::Providers(found));
        }
        for set in seen.sets {
            session.write(&Event::Waitset(set));
        }
        for given in seen.given {
            session.write(&Event::Given(given));
        }
        if let Some(stuck) = seen.stuck {
            session.give_up_on(stuck.deadlock.tasks.len(), live);
            let name = |serial| stuck.names.get(&serial).cloned();
            let who = |serial| stuck.told.iter().find(|told| told.serial == serial);
            let told = named(&stuck.deadlock, since, name, who, |_| None);
            if session.noticed.is_new(&told) {
                (self.notify)(Notice::Deadlock(told));
                session.write(&Event::Deadlock(stuck.deadlock));
            }
        }
        Ok(())
    }

    fn tell_progress(&mut self, live: u64) -> Result<()> {
        let session = &mut *self.session;
        let losses = self.tracer.losses();
        let second = self.begun.elapsed().as_secs();
        if session.at_work.0 != second {
            let tracer = &*self.tracer;
            let living = |add: &mut dyn FnMut(&_)| tracer.living(|task| add(&task));
            session.at_work = (second, AtWork::of(living, now_ns()?));
        }
        (self.notify)(Notice::Progress(Progress {
            elapsed: self.begun.elapsed(),
            tasks: session.tasks,
            live,
            records: session.records,
            lost: losses.records(),
            at_work: session.at_work.1,
            presses_left: session.requests.presses_left(Instant::now()),
        }));
        Ok(())
    }
}
