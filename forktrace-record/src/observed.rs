//! The state of a recording while it goes on, and when it is renewed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use forktrace_core::{
    live::Live,
    render::{MetricsForm, Recorder, metrics},
};

use crate::{
    capture::Tracer,
    clock::{now_ns, own_cpu},
    decode,
    metrics::Page,
    trace::{Event, OpenStretch},
};

/// Looks are so many times as far apart as the CPU time that one takes with all that is made of
/// it, at least. Of time on the clock, on a busy machine, stalls would come between two looks.
const REST: u32 = 100;

/// The state of a recording.
pub(crate) struct Observed {
    live: Live,
    /// Looks are this far apart at least.
    interval: Duration,
    due: Instant,
    /// What the last look has taken of CPU so far.
    spent: Duration,
    /// When the table was read, and what it told.
    looked_ns: Option<u64>,
    living: Vec<(u32, Option<OpenStretch>)>,
    /// Where the metrics are to be.
    page: Option<Arc<Page>>,
}

impl Observed {
    pub(crate) fn new(live: Live, interval: Duration, page: Option<Arc<Page>>) -> Self {
        Self {
            live,
            interval,
            due: Instant::now(),
            spent: Duration::ZERO,
            looked_ns: None,
            living: Vec::new(),
            page,
        }
    }

    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    pub(crate) fn note(&mut self, event: &Event) {
        self.live.note(event);
    }

    /// How long until the next look.
    pub(crate) fn time_left(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    /// Reads what the tasks are in, if it is time. To be called before the rings are emptied.
    ///
    /// # Errors
    /// When the clock can't be read.
    pub(crate) fn look(&mut self, tracer: &Tracer) -> Result<()> {
        let begun = Instant::now();
        if self.looked_ns.is_some() || self.due > begun {
            return Ok(());
        }
        let cpu = own_cpu();
        self.looked_ns = Some(now_ns()?);
        self.living.clear();
        let living = &mut self.living;
        tracer.living(|state| {
            if let Ok(open) = decode::open(&state) {
                living.push((state.serial, open));
            }
        });
        self.due = begun + self.interval;
        self.spent = own_cpu().saturating_sub(cpu);
        Ok(())
    }

    /// What is made of the last look has taken so much more of CPU.
    pub(crate) fn took(&mut self, time: Duration) {
        self.spent += time;
        self.due = self.due.max(Instant::now() + self.spent * REST);
    }

    /// Takes over what the look told, once the rings have been emptied since. True: the
    /// state is a new one.
    pub(crate) fn advance(&mut self, recorder: &Recorder) -> bool {
        let Some(looked_ns) = self.looked_ns.take() else {
            return false;
        };
        let cpu = own_cpu();
        self.live.advance(looked_ns, self.living.drain(..));
        if let Some(page) = &self.page {
            let form = |form| metrics(&self.live, recorder, form);
            page.set([MetricsForm::OpenMetrics, MetricsForm::Prometheus].map(form));
        }
        self.took(own_cpu().saturating_sub(cpu));
        true
    }
}
