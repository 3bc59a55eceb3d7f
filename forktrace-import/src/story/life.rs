//! One task's life, as far as it was told.

use forktrace_core::trace::{
    Born, CALL_NOT_RECORDED, Event, OpenStretch, Stretch, TaskRecord, Timeout, Totals, Waker, Why,
};

use super::why;
use crate::{
    people::People,
    record::{Record, flag, state},
};

/// How often events had been lost by then; `None`: some were being lost.
type Losses = Option<u32>;

/// What a task does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Now {
    /// It is not known. Its next stretch has a number after a missing one.
    #[default]
    Unknown,
    /// It has a CPU.
    Running { cpu: u16, lost: Losses },
    /// It has none.
    Off(Away),
}

impl Now {
    /// It was created, and wants to run.
    pub(super) fn new_born(at_ns: u64, cpu: u16) -> Self {
        Self::Off(Away {
            out_ns: at_ns,
            cpu,
            why: Why::New,
            wake: None,
            early: false,
            // Nobody else can have run under its tid.
            lost: Some(0),
        })
    }
}

/// A stretch that is not over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Away {
    pub(super) out_ns: u64,
    pub(super) cpu: u16,
    pub(super) why: Why,
    pub(super) wake: Option<(u64, Waker)>,
    /// It was woken before it left.
    pub(super) early: bool,
    pub(super) lost: Losses,
}

/// See the module.
#[derive(Default)]
pub(super) struct Life {
    pub(super) serial: u32,
    pub(super) process: u32,
    pub(super) tid: u32,
    pub(super) tgid: u32,
    pub(super) ppid: u32,
    pub(super) parent: u32,
    pub(super) name: u32,
    pub(super) born_ns: u64,
    pub(super) now: Now,
    /// A wakeup while it ran.
    early: Option<(u64, Waker)>,
    seq: u32,
    gaps: u32,
    switches: u64,
    sums: Totals,
}

impl Life {
    pub(super) fn new(
        (serial, process): (u32, u32),
        (tid, tgid): (u32, u32),
        born_ns: u64,
    ) -> Self {
        Self {
            serial,
            process,
            tid,
            tgid,
            born_ns,
            ..Self::default()
        }
    }

    /// Has it not run yet?
    pub(super) fn is_new(&self) -> bool {
        matches!(self.now, Now::Off(off) if off.why == Why::New)
    }

    pub(super) fn born(&self, people: &People) -> Born {
        Born {
            serial: self.serial,
            parent: self.parent,
            process: self.process,
            tid: self.tid,
            tgid: self.tgid,
            ppid: self.ppid,
            clone_flags: 0,
            kernel_worker: false,
            at_ns: self.born_ns,
            comm: people.name(self.name).to_owned(),
        }
    }

    /// Leaves out a number: what is between the stretches around it is unknown.
    pub(super) fn gap(&mut self) {
        self.seq = self.seq.saturating_add(1);
        self.gaps = self.gaps.saturating_add(1);
    }

    /// A stretch of no length, next to which something is unknown.
    fn fence(&mut self, at_ns: u64, cpu: u16) -> Stretch {
        let away = Away {
            out_ns: at_ns,
            cpu,
            why: Why::Preempted,
            wake: None,
            early: false,
            lost: None,
        };
        self.stretch(&away, at_ns, cpu)
    }

    fn stretch(&mut self, away: &Away, in_ns: u64, cpu: u16) -> Stretch {
        let sleeps = !matches!(away.why, Why::Preempted | Why::New);
        let (wake_ns, waker, no_wake) = match away.wake {
            _ if !sleeps => (away.out_ns, Waker::None, false),
            Some((at_ns, waker)) => (at_ns.clamp(away.out_ns, in_ns), waker, false),
            None => (in_ns, Waker::None, true),
        };
        let stretch = Stretch {
            serial: self.serial,
            seq: self.seq,
            out_ns: away.out_ns,
            wake_ns,
            in_ns,
            why: away.why,
            early_wake: away.early,
            no_wake,
            inferred: false,
            compat: false,
            syscall: CALL_NOT_RECORDED,
            cpu_out: away.cpu,
            cpu_in: cpu,
            arg0: 0,
            arg1: 0,
            waker,
            object: 0,
            timeout: Timeout::Unknown,
        };
        self.seq = self.seq.saturating_add(1);
        let sums = &mut self.sums;
        let asleep = match away.why {
            Why::Preempted | Why::New => &mut sums.runnable_ns,
            Why::Interruptible | Why::Killable | Why::Uninterruptible => &mut sums.blocked_ns,
            Why::Stopped | Why::Traced | Why::Frozen | Why::CoreDump => &mut sums.stopped_ns,
        };
        *asleep = asleep.saturating_add(wake_ns - away.out_ns);
        sums.runnable_ns = sums.runnable_ns.saturating_add(in_ns - wake_ns);
        stretch
    }

    /// It leaves a CPU in a state, when so much had been lost on that CPU and anywhere.
    pub(super) fn leaves(
        &mut self,
        at_ns: u64,
        cpu: u16,
        (value, on_cpu, lost): (u64, Losses, Losses),
        told: &mut Vec<Stretch>,
    ) {
        self.switches += 1;
        match self.now {
            Now::Running { cpu: on, lost } if on == cpu && lost.is_some() && lost == on_cpu => {}
            Now::Running { .. } => self.gap(),
            // It came, and that was not told.
            Now::Off(away) => {
                told.push(self.fence(away.out_ns, away.cpu));
                self.gap();
            }
            Now::Unknown => {}
        }
        let early = self.early.take();
        if value == state::UNKNOWN {
            told.push(self.fence(at_ns, cpu));
            self.gap();
            self.now = Now::Unknown;
            return;
        }
        let why = why(value);
        let sleeps = why != Why::Preempted;
        self.now = Now::Off(Away {
            out_ns: at_ns,
            cpu,
            why,
            wake: early.filter(|_| sleeps),
            early: sleeps && early.is_some(),
            lost,
        });
    }

    /// It comes to a CPU, when so much had been lost on that CPU and anywhere.
    pub(super) fn comes(
        &mut self,
        at_ns: u64,
        cpu: u16,
        (on_cpu, lost): (Losses, Losses),
        told: &mut Vec<Stretch>,
    ) {
        self.switches += u64::from(self.is_new());
        match self.now {
            Now::Off(away) if away.why == Why::New || away.lost.is_some() && away.lost == lost => {
                let early = away.early && away.wake.is_some();
                let away = Away { early, ..away };
                told.push(self.stretch(&away, at_ns, cpu));
            }
            Now::Off(away) => {
                told.push(self.fence(away.out_ns, away.cpu));
                self.gap();
                told.push(self.fence(at_ns, cpu));
            }
            Now::Running { .. } => {
                self.gap();
                told.push(self.fence(at_ns, cpu));
            }
            Now::Unknown => told.push(self.fence(at_ns, cpu)),
        }
        self.early = None;
        self.now = Now::Running { cpu, lost: on_cpu };
    }

    /// It is made runnable, when so much had been lost.
    pub(super) fn woken(&mut self, record: &Record, waker: Waker, lost: Losses) {
        let wake = (record.at_ns, waker);
        let queued = record.flags & flag::QUEUED != 0;
        match &mut self.now {
            // One that comes while it sleeps counts, in place of one before.
            Now::Off(away) if away.wake.is_none() || away.early && !queued => {
                away.wake = Some(wake);
                away.early = false;
            }
            Now::Off(_) => {}
            Now::Running { .. } if queued => {}
            Now::Running { .. } => self.early = Some(wake),
            // Since when it slept is not known; from now on it wants a CPU.
            Now::Unknown => {
                self.now = Now::Off(Away {
                    out_ns: record.at_ns,
                    cpu: record.cpu,
                    why: Why::Preempted,
                    wake: None,
                    early: false,
                    lost,
                });
            }
        }
    }

    fn record(&self, people: &People, end_ns: Option<u64>, open: Option<OpenStretch>) -> Event {
        Event::Task(TaskRecord {
            born: self.born(people),
            end_ns,
            totals: Totals {
                serial: self.serial,
                seq: self.seq,
                ..self.sums
            },
            missed: self.gaps,
            switches: self.switches,
            kernel_switches: None,
            kernel_cpu_ns: None,
            exit_code: None,
            ended_in: None,
            open,
        })
    }

    /// It ended.
    pub(super) fn ended(&self, people: &People, at_ns: u64) -> Event {
        self.record(people, Some(at_ns), None)
    }

    /// It lives when the recording ends.
    pub(super) fn lives(&self, people: &People, end_ns: u64) -> Event {
        let open = match self.now {
            Now::Off(away) => Some(OpenStretch {
                out_ns: away.out_ns,
                wake_ns: match away.why {
                    Why::Preempted | Why::New => Some(away.out_ns),
                    _ => away.wake.map(|(at_ns, _)| at_ns.clamp(away.out_ns, end_ns)),
                },
                why: away.why,
                compat: false,
                syscall: CALL_NOT_RECORDED,
                arg0: 0,
                arg1: 0,
                waker: away.wake.map_or(Waker::None, |(_, waker)| waker),
                object: 0,
                timeout: Timeout::Unknown,
            }),
            _ => None,
        };
        self.record(people, None, open)
    }
}
