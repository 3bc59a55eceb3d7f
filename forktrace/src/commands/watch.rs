//! `forktrace watch`: keeps the last seconds of what runs, and saves them when something is so.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use forktrace_claims::expression::{Expression, Figures, Shape};
use forktrace_core::{
    live::Live,
    recent::{Keep, Moment, Recent},
    trace::SavedWhen,
    utc::time_of_day,
};
use forktrace_process::{launch::Accounts, limits::Limits, signals::Signals};
use forktrace_record::{
    background,
    capture::Tracer,
    metrics::Listener,
    record::{Interrupted, Notice, Plan, Recording, Source, Watched, Watcher, Wish},
    targets::Targets,
};

use super::{
    Outcome,
    attach::{settings_of_kept, targets},
    saving::{Folder, Saved, Saver},
};
use crate::{cli::WatchArgs, progress};

/// Below this, who could end the waits of a stall is not asked for before its time, ns.
const STALL_NS: u64 = 100_000_000;

/// It came true, and nothing could be saved.
const NOTHING_SAVED: u8 = 125;

/// Watches what runs already, until a signal ends it.
///
/// # Errors
/// When there is no such thing, the condition is none, nothing can be saved where it is to be,
/// or the target can't be traced.
pub(crate) fn watch(args: &WatchArgs) -> Result<Outcome> {
    let condition = Condition::compile(&args.when)?;
    let accounts = Accounts::choose(None, args.as_root)?;
    let folder = Folder::open(&args.save_dir, args.max as usize, &accounts)?;
    let wanted = targets(&args.what);
    let targets = Targets::find(&wanted)?;
    let settings = settings_of_kept(
        &args.kept,
        args.stacks.ways(false),
        args.lag.min(),
        &targets,
    );
    let metrics = args.metrics.as_deref().map(Listener::bind).transpose()?;
    let limits = Limits::raise(&Tracer::needs(&settings)?)?;
    if let Some(metrics) = &metrics {
        progress::say_metrics(metrics.address());
    }
    let signals = Signals::take()?;
    let then = args.then.as_deref();
    let then = then.map(|command| (command, signals.inherited()));
    let mut watch = Watch {
        condition,
        saver: Saver::new(folder, &accounts, then),
        args,
        state: State::Armed,
        was_true: false,
        quiet_until_ns: 0,
        passed_over: 0,
        said: BTreeSet::new(),
        saved: 0,
        not_saved: 0,
    };
    let plan = Plan {
        source: Source::Attach {
            targets,
            length: args.kept.length,
        },
        settings,
        metrics,
    };
    let keep = Keep {
        ns: args.keep.as_nanos() as u64,
        bytes: args.kept.memory as usize,
    };
    let recording = match Recording::watch(plan, limits, signals, keep) {
        Ok(recording) => recording,
        Err(error) => match error.downcast_ref() {
            Some(&Interrupted { signal }) => return Ok(Outcome::Signal(signal)),
            None => return Err(error),
        },
    };
    if let Some((words, tasks)) = recording.attached() {
        progress::say_watching(words, tasks, &args.when, &args.save_dir);
    }
    let Watched { tracer, .. } = recording.run_watched(&mut watch, |notice| match notice {
        Notice::Log(text) => progress::say_log(&text),
        Notice::Deadlock(deadlock) => progress::say_deadlock(&deadlock),
        Notice::GoesOn(it) => progress::say_goes_on(&it),
        Notice::Progress(_) | Notice::LastLookUps(_) => {}
    })?;
    watch.finish()?;
    background::drop_in_background(tracer);
    progress::say_watched(watch.saved, watch.not_saved, &args.save_dir);
    Ok(Outcome::Exit(match (watch.saved, watch.not_saved) {
        (0, 1..) => NOTHING_SAVED,
        _ => 0,
    }))
}

/// What is watched for.
struct Condition {
    expression: Expression,
    wants_tasks: bool,
}

impl Condition {
    fn compile(source: &str) -> Result<Self> {
        let shape = Shape::of_moment();
        let compiled = Expression::compile(source, &shape);
        let expression = compiled.with_context(|| format!("--when '{source}'"))?;
        ensure!(
            expression.shape().can_be_true(),
            "--when '{source}': it is neither true nor false; compare it with something"
        );
        Ok(Self {
            wants_tasks: expression.names("tasks") || expression.calls("blocked"),
            expression,
        })
    }

    fn holds(&self, live: &Live, lost: u64) -> Result<bool> {
        let moment = live.moment(lost, self.wants_tasks);
        let variables = match serde_json::to_value(&moment)? {
            serde_json::Value::Object(fields) => fields,
            _ => serde_json::Map::new(),
        };
        Ok(self.expression.holds(&Figures::new(&variables))?)
    }
}

/// What it is about to do.
enum State {
    /// Waits for the condition.
    Armed,
    /// It came true; what comes after it is waited for.
    After {
        /// When all of that is there.
        until_ns: u64,
        /// Wall-clock time at which it came true, s since 1970.
        unix: u64,
        /// The same in the recording's time.
        true_ns: u64,
    },
}

struct Watch<'a> {
    condition: Condition,
    saver: Saver<'a>,
    args: &'a WatchArgs,
    state: State,
    was_true: bool,
    /// Nothing more is saved before.
    quiet_until_ns: u64,
    /// Times that it became true and was not saved.
    passed_over: u64,
    /// What has been complained of.
    said: BTreeSet<String>,
    saved: u64,
    /// Times that nothing, or not all, could be saved.
    not_saved: u64,
}

impl Watcher for Watch<'_> {
    fn look(&mut self, live: &Live, lost: u64) -> Result<Wish> {
        self.hear(false)?;
        let now_ns = live.at_ns();
        let holds = match self.condition.holds(live, lost) {
            Ok(holds) => holds,
            Err(error) => {
                self.complain(&format!("--when '{}': {error:#}", self.args.when));
                false
            }
        };
        let before = std::mem::replace(&mut self.was_true, holds);
        let began = holds && !before;
        match self.state {
            State::Armed if began && now_ns < self.quiet_until_ns => self.passed_over += 1,
            State::Armed if began => {
                let unix = SystemTime::now().duration_since(UNIX_EPOCH);
                let unix = unix.unwrap_or_default().as_secs();
                let after_ns = self.args.after.as_nanos() as u64;
                self.state = State::After {
                    until_ns: now_ns.saturating_add(after_ns),
                    unix,
                    true_ns: now_ns,
                };
                progress::say_true(&time_of_day(unix), &self.args.when, live.cause());
                return Ok(Wish::LookNow);
            }
            // The one before is still being written: this one waits for it.
            State::After { until_ns, .. } if now_ns >= until_ns && !self.saver.is_busy() => {
                return Ok(Wish::Save);
            }
            _ => {}
        }
        let all_blocked = live.all_blocked().since_ns;
        let stalls = all_blocked.is_some_and(|since| now_ns - since > STALL_NS);
        Ok(if stalls && live.cause() != "idle" {
            Wish::LookNow
        } else {
            Wish::Nothing
        })
    }

    fn is_waiting(&self) -> bool {
        matches!(self.state, State::After { .. })
    }

    fn save(&mut self, recent: &Recent, mut moment: Moment) -> Result<()> {
        let state = std::mem::replace(&mut self.state, State::Armed);
        let State::After { unix, true_ns, .. } = state else {
            return Ok(());
        };
        moment.saved = Some(SavedWhen {
            condition: self.args.when.clone(),
            at_ns: true_ns,
        });
        // Only at the end can there be one.
        self.hear(true)?;
        self.quiet_until_ns = moment
            .at_ns
            .saturating_add(self.args.pause.as_nanos() as u64);
        if let Err(why) = self.saver.start(unix, recent, moment) {
            self.not_saved += 1;
            self.complain(&why);
        }
        Ok(())
    }
}

impl Watch<'_> {
    /// Hears what became of what was being saved.
    fn hear(&mut self, waits: bool) -> Result<()> {
        match self.saver.hear(waits)? {
            None => {}
            Some(Saved::Whole(trace)) => {
                self.saved += 1;
                let passed_over = std::mem::take(&mut self.passed_over);
                progress::say_saved(&trace, passed_over);
            }
            Some(Saved::Not(why)) => {
                self.not_saved += 1;
                self.complain(&why);
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.hear(true)
    }

    /// Says it, if it was not said before.
    fn complain(&mut self, text: &str) {
        const MOST: usize = 100;
        if self.said.len() < MOST && self.said.insert(text.to_owned()) {
            progress::say_trouble(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(source: &str) -> String {
        let Err(error) = Condition::compile(source) else {
            panic!("{source} is a condition");
        };
        format!("{error:#}")
    }

    #[test]
    fn conditions_are_over_the_figures_of_a_moment() {
        for good in [
            "all_blocked.now_ns > 200 * ms && cause != 'idle'",
            "deadlocks.size() > 0",
            "blocked('worker*') == 4",
            "tasks.exists(t, t.name == 'x' && t.state == 'blocked' && t.for_ns > s)",
            "runnable > 10 || starved.now_ns > 50 * ms",
        ] {
            assert!(Condition::compile(good).is_ok(), "{good}");
        }
        assert!(error("all_blocked.now > 1").contains("it has episodes, longest_ns, now_ns, ns"));
        assert!(error("blocked +").contains("--when 'blocked +'"));
        assert!(error("blocked").contains("neither true nor false"));
        assert!(error("groups.size() > 0").contains("there is no groups"));
    }
}
