//! The state of a recording while it goes on, and when it is renewed.

use std::{
    collections::VecDeque,
    mem,
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
/// it, at least.
const REST: u32 = 100;
/// One takes what the cheapest of so many took.
const LOOKS: usize = 8;

/// How far looks are apart.
///
/// On a busy machine a look can take many times what it takes otherwise, by the clock since others
/// had the CPU, and of CPU time since they had the caches. If the next one came so much later, a
/// stall could begin and end between the two.
#[derive(Default)]
struct Pace {
    /// What the last look has taken of CPU so far.
    spent: Duration,
    /// What those before it took, the newest last.
    before: VecDeque<Duration>,
}

impl Pace {
    /// Another look begins.
    fn begin(&mut self) {
        let spent = mem::take(&mut self.spent);
        if spent > Duration::ZERO {
            self.before.push_back(spent);
        }
        if self.before.len() >= LOOKS {
            self.before.pop_front();
        }
    }

    fn took(&mut self, time: Duration) {
        self.spent += time;
    }

    /// From one look to the next, at least.
    fn gap(&self) -> Duration {
        let cheapest = self.before.iter().fold(self.spent, |a, b| a.min(*b));
        cheapest * REST
    }
}

/// The state of a recording.
pub(crate) struct Observed {
    live: Live,
    /// Looks are this far apart at least.
    interval: Duration,
    due: Instant,
    pace: Pace,
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
            pace: Pace::default(),
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
        self.pace.begin();
        self.looked_ns = Some(now_ns()?);
        self.living.clear();
        let living = &mut self.living;
        tracer.living(|state| {
            if let Ok(open) = decode::open(&state) {
                living.push((state.serial, open));
            }
        });
        self.due = begun + self.interval;
        self.pace.took(own_cpu().saturating_sub(cpu));
        Ok(())
    }

    /// What is made of the last look has taken so much more of CPU.
    pub(crate) fn took(&mut self, time: Duration) {
        self.pace.took(time);
        self.due = self.due.max(Instant::now() + self.pace.gap());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_took_long_once_does_not_put_off_the_next() {
        let ms = Duration::from_millis;
        let mut pace = Pace::default();
        pace.took(ms(1));
        assert_eq!(pace.gap(), ms(100));
        pace.begin();
        pace.took(ms(20));
        pace.took(ms(30));
        assert_eq!(pace.gap(), ms(100));
        // That each takes long is what looks take.
        for _ in 0..LOOKS {
            pace.begin();
            pace.took(ms(50));
        }
        assert_eq!(pace.gap(), ms(5000));
    }
}
