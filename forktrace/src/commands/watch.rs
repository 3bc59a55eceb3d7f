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
    windows::Windows,
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
    let saves = args.when.as_deref().zip(args.save_dir.as_deref());
    let condition = saves
        .map(|(when, _)| Condition::compile(when))
        .transpose()?;
    let accounts = Accounts::choose(None, args.as_root)?;
    let folder = saves.map(|(_, to)| Folder::open(to, args.max as usize, &accounts));
    let folder = folder.transpose()?;
    let memory = args.kept.memory as usize;
    let windows = args.export.as_deref();
    let windows = windows.map(|to| Windows::open(to, args.every, memory, &accounts, args.force));
    let windows = windows.transpose()?;
    let wanted = targets(&args.what);
    let targets = Targets::find(&wanted)?;
    let settings = settings_of_kept(
        &args.kept,
        args.stacks.ways(false, false),
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
    let stalls = condition.zip(saves).zip(folder);
    let mut watch = Watch {
        stalls: stalls.map(|((condition, (when, _)), folder)| Stalls {
            condition,
            when,
            saver: Saver::new(folder, &accounts, then),
            args,
            state: State::Armed,
            was_true: false,
            quiet_until_ns: 0,
            passed_over: 0,
            saved: 0,
            not_saved: 0,
        }),
        windows,
        is_over: false,
        said: Complaints::default(),
    };
    let plan = Plan {
        source: Source::Attach {
            targets,
            length: args.kept.length,
        },
        settings,
        metrics,
    };
    let recording = match Recording::watch(plan, limits, signals, watch.keep(args)) {
        Ok(recording) => recording,
        Err(error) => match error.downcast_ref() {
            Some(&Interrupted { signal }) => return Ok(Outcome::Signal(signal)),
            None => return Err(error),
        },
    };
    if let Some((words, tasks)) = recording.attached() {
        let exports = args.export.as_deref().map(|to| (args.every, to));
        progress::say_watching(words, tasks, saves, exports);
        progress::say_left_out(recording.left_out());
    }
    let Watched { tracer, .. } = recording.run_watched(&mut watch, |notice| match notice {
        Notice::Log(text) => progress::say_log(&text),
        Notice::NoNames(text) => progress::say_no_names(&text),
        Notice::Deadlock(deadlock) => progress::say_deadlock(&deadlock),
        Notice::GoesOn(it) => progress::say_goes_on(&it),
        Notice::Progress(_) | Notice::NotWritten(_) | Notice::LastLookUps(_) => {}
    })?;
    watch.hear(true)?;
    background::drop_in_background(tracer);
    Ok(Outcome::Exit(watch.say_over(args)))
}

/// What is watched for.
struct Condition {
    expression: Expression,
    wants_tasks: bool,
    /// Those of the last moment that it was looked at.
    figures: Figures,
    /// Those that it doesn't name.
    unnamed: BTreeSet<String>,
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
            figures: Figures::new(&serde_json::Map::new()),
            unnamed: BTreeSet::new(),
        })
    }

    fn holds(&mut self, live: &Live, lost: u64) -> Result<bool> {
        let moment = live.moment(lost, self.wants_tasks);
        if let serde_json::Value::Object(fields) = serde_json::to_value(&moment)? {
            let unnamed = &mut self.unnamed;
            for (name, value) in &fields {
                if unnamed.contains(name) {
                    continue;
                }
                // `blocked(…)` counts in the tasks.
                let is_counted_in = name == "tasks" && self.wants_tasks;
                if !is_counted_in && !self.expression.names(name) {
                    unnamed.insert(name.clone());
                    continue;
                }
                self.figures.set(name, value);
            }
        }
        Ok(self.expression.holds(&self.figures)?)
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

/// Saves what is watched for.
struct Stalls<'a> {
    condition: Condition,
    /// The same as it was given.
    when: &'a str,
    saver: Saver<'a>,
    args: &'a WatchArgs,
    state: State,
    was_true: bool,
    /// Nothing more is saved before.
    quiet_until_ns: u64,
    /// Times that it became true and was not saved.
    passed_over: u64,
    saved: u64,
    /// Times that nothing, or not all, could be saved.
    not_saved: u64,
}

impl Stalls<'_> {
    fn look(&mut self, live: &Live, lost: u64, said: &mut Complaints) -> Result<Wish> {
        self.hear(false, said)?;
        let now_ns = live.at_ns();
        let holds = match self.condition.holds(live, lost) {
            Ok(holds) => holds,
            Err(error) => {
                said.say(&format!("--when '{}': {error:#}", self.when));
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
                progress::say_true(&time_of_day(unix), self.when, live.cause());
                return Ok(Wish::LookNow);
            }
            _ if self.is_due(now_ns) => return Ok(Wish::Save),
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

    /// Is it time to save? While the one before is still being written, this one waits for it.
    fn is_due(&self, now_ns: u64) -> bool {
        let is_over = matches!(self.state, State::After { until_ns, .. } if now_ns >= until_ns);
        is_over && !self.saver.is_busy()
    }

    fn is_waiting(&self) -> bool {
        matches!(self.state, State::After { .. })
    }

    fn save(&mut self, recent: &Recent, mut moment: Moment, said: &mut Complaints) -> Result<()> {
        let state = std::mem::replace(&mut self.state, State::Armed);
        let State::After { unix, true_ns, .. } = state else {
            return Ok(());
        };
        moment.saved = Some(SavedWhen {
            condition: self.when.to_owned(),
            at_ns: true_ns,
        });
        // Only at the end can there be one.
        self.hear(true, said)?;
        self.quiet_until_ns = moment
            .at_ns
            .saturating_add(self.args.pause.as_nanos() as u64);
        if let Err(why) = self.saver.start(unix, recent, moment) {
            self.not_saved += 1;
            said.say(&why);
        }
        Ok(())
    }

    /// Hears what became of what was being saved.
    fn hear(&mut self, waits: bool, said: &mut Complaints) -> Result<()> {
        match self.saver.hear(waits)? {
            None => {}
            Some(Saved::Whole(trace)) => {
                self.saved += 1;
                let passed_over = std::mem::take(&mut self.passed_over);
                progress::say_saved(&trace, passed_over);
            }
            Some(Saved::Not(why)) => {
                self.not_saved += 1;
                said.say(&why);
            }
        }
        Ok(())
    }
}

/// What has been complained of.
#[derive(Default)]
struct Complaints(BTreeSet<String>);

impl Complaints {
    /// Says it, if it was not said before.
    fn say(&mut self, text: &str) {
        const MOST: usize = 100;
        if self.0.len() < MOST && self.0.insert(text.to_owned()) {
            progress::say_trouble(text);
        }
    }
}

struct Watch<'a> {
    stalls: Option<Stalls<'a>>,
    windows: Option<Windows<'a>>,
    /// The recording is over.
    is_over: bool,
    said: Complaints,
}

impl Watcher for Watch<'_> {
    fn look(&mut self, live: &Live, lost: u64, recent: Option<&Recent>) -> Result<Wish> {
        self.hear_of_windows(false)?;
        let wish = match &mut self.stalls {
            Some(stalls) => stalls.look(live, lost, &mut self.said)?,
            None => Wish::Nothing,
        };
        let is_due = |windows: &Windows<'_>| {
            recent.is_some_and(|recent| windows.is_due(live.at_ns(), recent))
        };
        Ok(match self.windows.as_ref().is_some_and(is_due) {
            true => Wish::Save,
            false => wish,
        })
    }

    fn save(&mut self, recent: &Recent, moment: Moment) -> Result<()> {
        if let Some(stalls) = &mut self.stalls
            && (self.is_over || stalls.is_due(moment.at_ns))
        {
            stalls.save(recent, moment.clone(), &mut self.said)?;
        }
        if self.is_over {
            self.hear_of_windows(true)?;
        }
        if let Some(windows) = &mut self.windows
            && (self.is_over || windows.is_due(moment.at_ns, recent))
        {
            for note in windows.start(recent, moment) {
                self.said.say(&note);
            }
        }
        Ok(())
    }

    fn wants_last(&mut self) -> bool {
        self.is_over = true;
        self.windows.is_some() || self.stalls.as_ref().is_some_and(Stalls::is_waiting)
    }
}

impl Watch<'_> {
    /// How much is kept in memory.
    fn keep(&self, args: &WatchArgs) -> Keep {
        let keep_ns = args.keep.as_nanos() as u64;
        // A window is there as a whole until it is written, which takes a while.
        let window_ns = args.every.as_nanos() as u64;
        let window_ns = self.windows.as_ref().map_or(0, |_| window_ns);
        Keep {
            ns: keep_ns.max(window_ns.saturating_mul(2)),
            bytes: args.kept.memory as usize,
        }
    }

    fn hear(&mut self, waits: bool) -> Result<()> {
        if let Some(stalls) = &mut self.stalls {
            stalls.hear(waits, &mut self.said)?;
        }
        self.hear_of_windows(waits)
    }

    fn hear_of_windows(&mut self, waits: bool) -> Result<()> {
        if let Some(windows) = &mut self.windows {
            for note in windows.hear(waits)? {
                self.said.say(&note);
            }
        }
        Ok(())
    }

    /// Says what has come of it. Returns the exit code.
    fn say_over(&self, args: &WatchArgs) -> u8 {
        let saved = self.stalls.as_ref().map(|it| (it.saved, it.not_saved));
        let exported = self.windows.as_ref().map(|it| (it.exported, it.failed));
        progress::say_watched(
            saved.zip(args.save_dir.as_deref()),
            self.stalls.as_ref().map_or(0, |it| it.passed_over),
            exported.zip(args.export.as_deref()),
        );
        let nothing = |done: Option<(u64, u64)>| matches!(done, Some((0, 1..)));
        match nothing(saved) || nothing(exported) {
            true => NOTHING_SAVED,
            false => 0,
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
