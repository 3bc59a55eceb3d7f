//! The state of a recording as metrics, for Prometheus and whoever reads its form.
//!
//! There are two forms: OpenMetrics 1.0, and the older text format of Prometheus (0.0.4), in
//! which a counter has its suffix in its name and there is no end mark. No label's values
//! grow with the workload.

use std::fmt::{self, Write as _};

use crate::live::{Live, RUNNABLE_CLASSES};

/// Which of the two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsForm {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Prometheus,
}

/// What a recording knows besides its live state, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorder {
    /// Records that were received.
    pub records: u64,
    /// Records that were dropped.
    pub lost: u64,
    /// Tasks that are not followed.
    pub not_followed: u64,
}

/// All metrics.
pub fn metrics(live: &Live, recorder: &Recorder, form: MetricsForm) -> String {
    let mut page = Page {
        text: String::new(),
        form,
    };
    // Can't fail: a text takes everything.
    let _ = page.all(live, recorder);
    page.text
}

struct Page {
    text: String,
    form: MetricsForm,
}

/// Nanoseconds as seconds, exactly.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:09}",
            self.0 / 1_000_000_000,
            self.0 % 1_000_000_000
        )
    }
}

impl Page {
    fn all(&mut self, live: &Live, recorder: &Recorder) -> fmt::Result {
        self.states(live)?;
        self.together(live)?;
        self.waits(live)?;
        self.counter(
            "records",
            "Records received from the kernel.",
            recorder.records,
        )?;
        self.counter(
            "records_lost",
            "Records that were dropped: the figures lack what they would have told.",
            recorder.lost,
        )?;
        self.counter(
            "tasks_not_followed",
            "Tasks that were not followed, since the task table was full: they are in no figure.",
            recorder.not_followed,
        )?;
        if self.form == MetricsForm::OpenMetrics {
            writeln!(self.text, "# EOF")?;
        }
        Ok(())
    }

    fn states(&mut self, live: &Live) -> fmt::Result {
        let counts = live.counts();
        self.head("tasks", "gauge", "Living tasks, by what they do.")?;
        for (state, count) in [
            ("running", counts.running),
            ("runnable", counts.runnable),
            ("blocked", counts.blocked),
            ("stopped", counts.stopped),
        ] {
            writeln!(self.text, "forktrace_tasks{{state=\"{state}\"}} {count}")?;
        }
        self.counter(
            "tasks_seen",
            "Tasks that were followed since the start.",
            live.seen(),
        )?;
        let elapsed = Seconds(live.elapsed_ns());
        self.seconds("recorded_seconds", "Time that was looked at.", elapsed)?;
        let running = Seconds(live.running_ns());
        self.seconds("running_seconds", "CPU time of all tasks.", running)
    }

    fn together(&mut self, live: &Live) -> fmt::Result {
        let (all, starved) = (live.all_blocked(), live.starved());
        self.seconds(
            "all_blocked_seconds",
            "Time in which two or more tasks lived and each was blocked.",
            Seconds(all.ns),
        )?;
        self.counter(
            "all_blocked_episodes",
            "Times that this was so and is over.",
            all.count,
        )?;
        let now_ns = all
            .since_ns
            .map_or(0, |since| live.at_ns().saturating_sub(since));
        self.head(
            "all_blocked_now_seconds",
            "gauge",
            "For how long all have been blocked; 0: one is not.",
        )?;
        writeln!(
            self.text,
            "forktrace_all_blocked_now_seconds {}",
            Seconds(now_ns)
        )?;
        self.seconds_head(
            "all_blocked_ended_by_seconds",
            "Time in which all were blocked, by the wait whose end ended it.",
        )?;
        for (kind, ns) in live.ended_by() {
            let (cause, object) = (kind.wait.name(), kind.object.name());
            writeln!(
                self.text,
                "forktrace_all_blocked_ended_by_seconds_total{{cause=\"{cause}\",object=\"{object}\"}} {}",
                Seconds(*ns)
            )?;
        }
        self.seconds(
            "starved_seconds",
            "Time in which no task ran and at least one wanted to.",
            Seconds(starved.ns),
        )?;
        let found = live.deadlocks_found();
        self.counter("deadlocks", "Deadlocks and hangs that were found.", found)
    }

    fn waits(&mut self, live: &Live) -> fmt::Result {
        self.seconds_head(
            "blocked_seconds",
            "Time blocked, over all tasks, by reason.",
        )?;
        for (reason, ns) in live.blocked_ns() {
            writeln!(
                self.text,
                "forktrace_blocked_seconds_total{{reason=\"{reason}\"}} {}",
                Seconds(*ns)
            )?;
        }
        let name = "runnable_seconds";
        self.head(name, "histogram", "Waits for a CPU, over all tasks.")?;
        self.unit(name)?;
        let runnable = live.runnable();
        let mut count = 0;
        for (at, in_class) in runnable.counts.iter().enumerate() {
            count += in_class;
            match RUNNABLE_CLASSES.get(at) {
                Some(upper) => {
                    // As OpenMetrics has numbers in this label: never without a point.
                    let upper = format!("{}", *upper as f64 / 1e9);
                    let point = if upper.contains('.') { "" } else { ".0" };
                    writeln!(
                        self.text,
                        "forktrace_{name}_bucket{{le=\"{upper}{point}\"}} {count}"
                    )?;
                }
                None => writeln!(self.text, "forktrace_{name}_bucket{{le=\"+Inf\"}} {count}")?,
            }
        }
        writeln!(self.text, "forktrace_{name}_sum {}", Seconds(runnable.ns))?;
        writeln!(self.text, "forktrace_{name}_count {count}")
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) -> fmt::Result {
        let suffix = match (kind, self.form) {
            ("counter", MetricsForm::Prometheus) => "_total",
            _ => "",
        };
        writeln!(self.text, "# TYPE forktrace_{name}{suffix} {kind}")?;
        writeln!(self.text, "# HELP forktrace_{name}{suffix} {help}")
    }

    /// The older form has no units.
    fn unit(&mut self, name: &str) -> fmt::Result {
        match self.form {
            MetricsForm::OpenMetrics => writeln!(self.text, "# UNIT forktrace_{name} seconds"),
            MetricsForm::Prometheus => Ok(()),
        }
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.head(name, "counter", help)?;
        writeln!(self.text, "forktrace_{name}_total {value}")
    }

    fn seconds_head(&mut self, name: &str, help: &str) -> fmt::Result {
        self.head(name, "counter", help)?;
        self.unit(name)
    }

    fn seconds(&mut self, name: &str, help: &str, value: Seconds) -> fmt::Result {
        self.seconds_head(name, help)?;
        writeln!(self.text, "forktrace_{name}_total {value}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Arch;

    fn page(form: MetricsForm) -> String {
        let recorder = Recorder {
            records: 7,
            lost: 1,
            not_followed: 0,
        };
        metrics(&Live::new(Arch::X86_64, 0), &recorder, form)
    }

    #[test]
    fn each_sample_follows_its_own_head() {
        for form in [MetricsForm::OpenMetrics, MetricsForm::Prometheus] {
            let page = page(form);
            let mut family = String::new();
            for line in page.lines().filter(|line| *line != "# EOF") {
                if let Some(head) = line.strip_prefix("# TYPE ") {
                    head.split(' ')
                        .next()
                        .expect("a name")
                        .clone_into(&mut family);
                } else if !line.starts_with("# ") {
                    assert!(line.starts_with(&family), "{line} after {family}");
                }
            }
            assert!(page.contains("forktrace_records_lost_total 1\n"), "{page}");
        }
    }

    #[test]
    fn the_two_forms_differ_in_what_their_readers_want() {
        let open = page(MetricsForm::OpenMetrics);
        assert!(open.ends_with("# EOF\n"));
        assert!(open.contains("# TYPE forktrace_records counter\n"));
        assert!(open.contains("# UNIT forktrace_starved_seconds seconds\n"));
        let old = page(MetricsForm::Prometheus);
        assert!(!old.contains("EOF") && !old.contains("UNIT"));
        assert!(old.contains("# TYPE forktrace_records_total counter\n"));
        for class in ["0.00001", "2.0", "+Inf"] {
            let bucket = format!("forktrace_runnable_seconds_bucket{{le=\"{class}\"}} 0\n");
            assert!(old.contains(&bucket), "{old}");
        }
    }

    #[test]
    fn seconds_are_exact() {
        assert_eq!(Seconds(1_000_000_001).to_string(), "1.000000001");
        assert_eq!(Seconds(0).to_string(), "0.000000000");
    }
}
