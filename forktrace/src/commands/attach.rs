//! `forktrace attach`: records what runs already and reports on it.

use std::time::Duration;

use anyhow::Result;
use forktrace_process::launch::Accounts;
use forktrace_record::{
    capture::{PollProbes, Settings, StackWays},
    record::Source,
    targets::{Target, Targets},
};

use super::{
    Outcome,
    assert::Assertions,
    recording::{Done, From, record_and_report},
};
use crate::cli::{AttachArgs, KeptArgs, TargetArgs};

/// Records what runs already and reports on it.
///
/// # Errors
/// When there is no such thing, or it could not be traced, or the report not be written.
pub(crate) fn attach(args: &AttachArgs) -> Result<Outcome> {
    let mut assertions = Assertions::of_report(&args.recording.asserts)?;
    let accounts = Accounts::choose(None, args.as_root)?;
    assertions.open("attach", "", &accounts, args.recording.output.force)?;
    let targets = Targets::find(&targets(&args.what))?;
    let existing = targets.existing();
    let source = || {
        Ok(Source::Attach {
            targets,
            length: args.length,
        })
    };
    let from = From {
        source,
        existing: Some(existing),
        picture: None,
    };
    let done = record_and_report(&args.recording, &mut assertions, &accounts, from)?;
    Ok(match done {
        Done::As(outcome) => outcome,
        Done::Well(_) => Outcome::Exit(0),
    })
}

/// How a recording of those is made of which the last seconds are kept.
pub(super) fn settings_of_kept(
    kept: &KeptArgs,
    stacks: Option<StackWays>,
    lag_min: Option<Duration>,
    targets: &Targets,
) -> Settings {
    Settings {
        ring_bytes: kept.tables.ring_size,
        max_tasks: kept.tables.max_tasks,
        // A table of counters can't be cut at a moment.
        polls: PollProbes::Off,
        plain: false,
        stacks,
        log: Default::default(),
        existing: Some(targets.existing()),
        lag_min,
    }
}

/// All that is asked for.
pub(super) fn targets(args: &TargetArgs) -> Vec<Target> {
    let plain = args.targets.iter().map(|text| match text.parse() {
        Ok(pid) if pid > 0 => Target::Pid(pid),
        _ => Target::Name(text.clone()),
    });
    let pids = args.pid.iter().copied().map(Target::Pid);
    let tids = args.tid.iter().copied().map(Target::Tid);
    let names = args.name.iter().cloned().map(Target::Name);
    let cgroups = args.cgroup.iter().cloned().map(Target::Cgroup);
    let units = args.unit.iter().cloned().map(Target::Unit);
    let containers = args.container.iter().cloned().map(Target::Container);
    let all = args.all.then_some(Target::All);
    pids.chain(tids)
        .chain(names)
        .chain(cgroups)
        .chain(units)
        .chain(containers)
        .chain(all)
        .chain(plain)
        .collect()
}
