//! Options that choose a part of a recording.

use clap::{Args, ValueEnum};
use forktrace_core::{
    analysis::{self, GroupBy},
    model::{Model, Part, WHOLE},
    trace::Header,
    words::duration,
};

/// Which part of a recording is reported on.
#[derive(Args, Debug)]
pub(crate) struct PartArgs {
    /// Report on what came after TIME since the recording began: 3.2s, 250ms, 50% of it, or -5s from its end.
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    pub(crate) from: Option<Moment>,
    /// Report on what came before TIME, given as for --from.
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    pub(crate) to: Option<Moment>,
    /// Report on some tasks, with what they waited for: those of a process (its PID or name), a thread (its TID or name), a role, or a cgroup (its path or its last name, with all below it); * and ? stand for any characters; may be given several times.
    #[arg(long, value_name = "NAME|PID|ROLE|CGROUP")]
    pub(crate) only: Vec<String>,
    /// What tasks are compared within, besides all of them.
    #[arg(long, value_enum, value_name = "WHAT", default_value_t)]
    pub(crate) group_by: By,
}

/// What makes tasks a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// The process.
    #[default]
    Process,
    /// The name of the thread.
    Name,
    /// The role: program, name without its number, and parent.
    Role,
    /// The cgroup of the process: a unit, a container.
    Cgroup,
}

impl By {
    /// As the analysis knows it.
    pub(crate) fn group_by(self) -> GroupBy {
        match self {
            Self::Process => GroupBy::Process,
            Self::Name => GroupBy::Name,
            Self::Role => GroupBy::Role,
            Self::Cgroup => GroupBy::Cgroup,
        }
    }
}

/// A moment of a recording whose length is not known yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Moment {
    /// So many ns after its start.
    After(u64),
    /// So many ns before its end.
    BeforeEnd(u64),
    /// This part of it.
    Share(f64),
}

impl Moment {
    fn at_ns(self, length_ns: u64) -> Result<u64, String> {
        match self {
            Self::After(ns) if ns > length_ns => Err(format!("{} is after its end", duration(ns))),
            Self::After(ns) => Ok(ns),
            Self::BeforeEnd(ns) => length_ns
                .checked_sub(ns)
                .ok_or_else(|| format!("{} before its end is before its start", duration(ns))),
            Self::Share(share) => Ok((length_ns as f64 * share).round() as u64),
        }
    }
}

impl PartArgs {
    /// Is less than all asked for?
    pub(crate) fn is_part(&self) -> bool {
        self.from.is_some() || self.to.is_some() || !self.only.is_empty()
    }

    /// Where it begins in a recording of this length, both ns; `None`: where that begins, or it is
    /// not in it.
    pub(crate) fn begins_ns(&self, length_ns: u64) -> Option<u64> {
        self.from?.at_ns(length_ns).ok()
    }

    /// The part that is asked for; `None`: all.
    ///
    /// # Errors
    /// Where there is no such part: what there is.
    pub(crate) fn part(&self, model: &Model, header: &Header) -> Result<Option<Part>, String> {
        if !self.is_part() {
            return Ok(None);
        }
        let last = model.tasks.iter().map(|task| task.end_ns).max();
        let length_ns = last.unwrap_or(model.end_ns);
        let long = |what: String| format!("{what}: the recording is {} long", duration(length_ns));
        let mut part = WHOLE.clone();
        if let Some(from) = self.from {
            part.from_ns = from
                .at_ns(length_ns)
                .map_err(|what| long(format!("--from {what}")))?;
        }
        if let Some(to) = self.to {
            part.to_ns = to
                .at_ns(length_ns)
                .map_err(|what| long(format!("--to {what}")))?;
        }
        if part.from_ns >= part.to_ns.min(length_ns) {
            return Err(long(format!(
                "nothing is between --from, {}, and --to, {}",
                duration(part.from_ns),
                duration(part.to_ns.min(length_ns))
            )));
        }
        if !self.only.is_empty() {
            let tasks = analysis::choose(model, header, &self.only);
            part.tasks = Some(tasks.map_err(|what| format!("--only: {what}"))?);
        }
        let mut tasks = model.tasks.iter().enumerate();
        if !tasks.any(|(at, task)| part.has_life(at, task)) {
            return Err(self.nobody(model, &part, length_ns));
        }
        Ok(Some(part))
    }

    /// What is said where those that were chosen did not live then.
    fn nobody(&self, model: &Model, part: &Part, length_ns: u64) -> String {
        let chosen = model.tasks.iter().enumerate();
        let chosen = chosen.filter(|(at, _)| part.has(*at)).map(|(_, task)| task);
        let first = chosen.clone().map(|task| task.start_ns).min().unwrap_or(0);
        let last = chosen.map(|task| task.end_ns).max().unwrap_or(0);
        let who = match self.only.is_empty() {
            true => "no task".to_owned(),
            false => format!("no task that is {}", self.only.join(" or ")),
        };
        format!(
            "{who} lived between {} and {}; they lived from {} to {}",
            duration(part.from_ns),
            duration(part.to_ns.min(length_ns)),
            duration(first),
            duration(last)
        )
    }
}

/// Parses a moment.
fn moment(text: &str) -> Result<Moment, String> {
    let trimmed = text.trim();
    let wrong = || format!("{text:?} is no time; write 3.2s or 250ms, 50%, or -5s from the end");
    if let Some(share) = trimmed.strip_suffix('%') {
        let share: f64 = share.trim().parse().map_err(|_| wrong())?;
        return match (0.0..=100.0).contains(&share) {
            true => Ok(Moment::Share(share / 100.0)),
            false => Err(format!("{text:?} is not from 0% to 100%")),
        };
    }
    match trimmed.strip_prefix('-') {
        Some(rest) => super::time(rest).map(Moment::BeforeEnd),
        None => super::time(trimmed).map(Moment::After),
    }
    .map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        for (text, expected) in [
            ("3.2s", Moment::After(3_200_000_000)),
            ("2", Moment::After(2_000_000_000)),
            ("-5ms", Moment::BeforeEnd(5_000_000)),
            ("50%", Moment::Share(0.5)),
            ("100 %", Moment::Share(1.0)),
        ] {
            assert_eq!(moment(text), Ok(expected), "{text}");
        }
        for bad in ["", "%", "-", "101%", "-1%", "soon", "--1s", "NaN%"] {
            assert!(moment(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn moments_of_a_recording() {
        assert_eq!(Moment::Share(0.25).at_ns(400), Ok(100));
        assert_eq!(Moment::BeforeEnd(100).at_ns(400), Ok(300));
        assert_eq!(Moment::After(400).at_ns(400), Ok(400));
        for bad in [Moment::After(401), Moment::BeforeEnd(401)] {
            assert!(bad.at_ns(400).is_err(), "{bad:?}");
        }
    }
}
