//! `forktrace run --repeat N`: the same run again and again.
//!
//! Each is a `forktrace run` in a process of its own, since a recording gives its privileges
//! up once the workload has begun.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Read as _,
    os::{fd::OwnedFd, unix::process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use forktrace_core::{
    diff::{Digest, deviation, mean},
    pipeline,
    render::text::figures::clean,
    trace::signals,
    words::{duration, quantity},
};
use forktrace_export::Form;
use forktrace_process::{
    child::{Answer, with_rights_of},
    launch::{Accounts, with_signals},
    privileges::drop_all,
    signals::{SI_KERNEL, Signals},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::event::{PollFd, PollFlags, poll};
use tempfile::TempDir;

use super::{Outcome, assert, output::to_stderr};
use crate::cli::{AssertArgs, OutputArgs, RecordingArgs, RunArgs, TableArgs, is_tables};

/// Runs it so many times, until one fails, and says how long the runs took.
///
/// # Errors
/// When forktrace can't run itself, or a trace can't be read.
pub(super) fn repeat(args: &RunArgs, times: u32) -> Result<Outcome> {
    let accounts = Accounts::choose(args.user.as_deref(), args.as_root)?;
    one_file_each(&args.recording.output, times)?;
    let program = std::env::current_exe().context("our own program can't be found")?;
    let scratch = match args.recording.save {
        Some(_) => None,
        None => Some(folder(&accounts)?),
    };
    let save = match (&args.recording.save, &scratch) {
        (Some(save), _) => save.clone(),
        (None, Some(folder)) => folder.path().join("trace.ft"),
        (None, None) => PathBuf::from("trace.ft"),
    };
    let signals = Signals::take()?;
    let quiet = args.recording.quiet;
    let mut outcome = Outcome::Exit(0);
    let mut ended = None;
    let mut traces = Vec::new();
    for number in 1..=times {
        if !quiet {
            to_stderr(format!("forktrace: run {number} of {times}\n").as_bytes())?;
        }
        let trace = numbered(&save, number);
        let mut command = Command::new(&program);
        command.args(arguments(args, number, &trace));
        let (status, stopped) = wait(command, &signals)?;
        traces.push(trace);
        let asserts = !args.recording.asserts.assertions.is_empty();
        match (status.code(), status.signal()) {
            (Some(0), _) => {}
            // Of the others it may be true.
            (Some(code), _) if code == i32::from(assert::FALSE) && asserts => {
                outcome = Outcome::Exit(assert::FALSE);
            }
            (Some(code), _) => {
                outcome = Outcome::Exit(code as u8);
                ended = Some((number, format!("exit status {code}")));
                break;
            }
            (None, signal) => {
                let signal = signal.unwrap_or(libc::SIGKILL);
                outcome = Outcome::Signal(signal);
                ended = Some((number, signals::name(signal)));
                break;
            }
        }
        if stopped {
            break;
        }
    }
    if let Some((number, how)) = ended.filter(|(number, _)| *number < times) {
        let text =
            format!("forktrace: run {number} of {times} ended with {how}: no more are made\n");
        to_stderr(text.as_bytes())?;
    }
    if !quiet {
        let kept = args.recording.save.is_some();
        let summary = summary(&traces, times, kept, &accounts)?;
        to_stderr(summary.as_bytes())?;
    }
    Ok(outcome)
}

/// Each run writes a report of its own. What has no number in its name gets them all, one after
/// the other, which is a document in a few forms only.
fn one_file_each(output: &OutputArgs, times: u32) -> Result<()> {
    let all = output.output.iter();
    for path in all.filter(|path| numbered(path, 1) == **path && !is_tables(path)) {
        let form = Form::of(path)?.or(output.format).unwrap_or_default();
        // Text is read by people, and these have a line for each row.
        let is_one = matches!(form, Form::Text | Form::Ndjson | Form::Folded);
        ensure!(
            is_one || path == Path::new("/dev/null"),
            "-o {} would get {times} reports one after the other, which is no {} any more; give a \
             file, and each run writes one with its number in the name",
            path.display(),
            name(&form)
        );
    }
    Ok(())
}

/// A folder that the user can write to for whom the traces are.
fn folder(accounts: &Accounts) -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    let folder = builder.prefix("forktrace-").tempdir();
    let folder = folder.context("no temporary folder for the traces; set TMPDIR, or use --save")?;
    if let Some(caller) = &accounts.caller {
        let (uid, gid) = (caller.uid.as_raw(), caller.gid.as_raw());
        std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid))
            .context("the folder for the traces can't be given away")?;
    }
    Ok(folder)
}

/// How the run ended, and whether somebody wants no more of them.
fn wait(command: Command, signals: &Signals) -> Result<(ExitStatus, bool)> {
    let child = with_signals(command, signals.inherited());
    let mut child = child.context("forktrace can't run itself")?;
    let mut stopped = false;
    loop {
        if let Some(status) = child.try_wait().context("forktrace can't be waited for")? {
            return Ok((status, stopped));
        }
        let mut wakes = [PollFd::new(signals, PollFlags::IN)];
        match poll(&mut wakes, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        while let Some(signal) = signals.next()? {
            let number = signal.ssi_signo as i32;
            if number == libc::SIGCHLD {
                continue;
            }
            stopped = true;
            // What the terminal sends, the child has got too.
            if signal.ssi_code != SI_KERNEL {
                let signal = Signal::try_from(number).context("an odd signal")?;
                // It may have ended just now.
                let _ = kill(Pid::from_raw(child.id() as i32), signal);
            }
        }
    }
}

/// `trace.ft` of the third run is `trace.3.ft`.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    // A folder of tables takes all runs.
    if path == Path::new("-") || path.starts_with("/dev") || is_tables(path) {
        return path.to_owned();
    }
    let text = name.to_string_lossy();
    let length = match (Form::suffix(path), path.extension()) {
        (Some(suffix), _) => suffix.len(),
        (None, Some(suffix)) => suffix.to_string_lossy().len() + 1,
        (None, None) => 0,
    };
    let Some((stem, suffix)) = text.split_at_checked(text.len().saturating_sub(length)) else {
        return path.to_owned();
    };
    path.with_file_name(format!("{stem}.{number}{suffix}"))
}

/// The arguments of one run. Everything that `run` knows is named, so that nothing is
/// forgotten.
fn arguments(args: &RunArgs, number: u32, trace: &Path) -> Vec<OsString> {
    let RunArgs {
        recording,
        user,
        as_root,
        repeat: _,
        until_exit,
        command,
        // Not with this.
        top: _,
    } = args;
    let RecordingArgs {
        output,
        save: _,
        quiet: _,
        tables: TableArgs {
            ring_size,
            max_tasks,
        },
        polls,
        stacks,
        lag,
        plain,
        log_bpf,
        metrics,
        asserts,
    } = recording;
    let OutputArgs {
        output: files,
        force,
        format,
        folded,
        show,
        verbose,
        episodes,
        color,
    } = output;
    let AssertArgs { assertions, junit } = asserts;
    let mut out = Words(vec!["run".into(), "--quiet".into()]);
    out.value("--save", trace);
    for file in files {
        out.value("--output", numbered(file, number));
    }
    out.flag("--force", *force);
    if let Some(format) = format {
        out.value("--format", name(format));
    }
    if let Some(folded) = folded {
        out.value("--folded", name(folded));
    }
    for show in show {
        out.value("--show", name(show));
    }
    out.flag("--verbose", *verbose);
    out.value("--episodes", episodes.to_string());
    out.value("--color", name(color));
    if let Some(ring_size) = ring_size {
        out.value("--ring-size", ring_size.to_string());
    }
    out.value("--max-tasks", max_tasks.to_string());
    if let Some(metrics) = metrics {
        out.value("--metrics", metrics.as_str());
    }
    out.value("--polls", name(polls));
    if let Some(way) = &stacks.stacks {
        out.value("--stacks", name(way));
    }
    if let Some(over_ns) = stacks.stacks_over {
        out.value("--stacks-over", format!("{over_ns}ns"));
    }
    out.flag("--java", stacks.java);
    if let Some(min_ns) = lag.lag {
        out.0.push(format!("--lag={min_ns}ns").into());
    }
    out.flag("--plain", *plain);
    out.value("--log-bpf", name(log_bpf));
    for assertion in assertions {
        out.value("--assert", assertion);
    }
    if let Some(junit) = junit {
        out.value("--junit", numbered(junit, number));
    }
    if let Some(user) = user {
        out.value("--user", user);
    }
    out.flag("--as-root", *as_root);
    out.flag("--until-exit", *until_exit);
    out.0.push("--".into());
    out.0.extend(command.iter().cloned());
    out.0
}

/// Words of a command line.
struct Words(Vec<OsString>);

impl Words {
    fn flag(&mut self, name: &str, given: bool) {
        if given {
            self.0.push(name.into());
        }
    }

    fn value(&mut self, name: &str, value: impl AsRef<OsStr>) {
        let mut word = OsString::from(name);
        word.push("=");
        word.push(value);
        self.0.push(word);
    }
}

/// A value as it is written.
fn name(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// How long the runs took, for people.
fn summary(traces: &[PathBuf], times: u32, kept: bool, accounts: &Accounts) -> Result<String> {
    let digests = digests(traces, accounts)?;
    if digests.is_empty() {
        return Ok("forktrace: no run left a trace\n".to_owned());
    }
    let figures = |figure: fn(&Digest) -> u64| {
        let all: Vec<u64> = digests.iter().map(figure).collect();
        let (least, most) = (all.iter().min(), all.iter().max());
        format!(
            "{}{} ({} … {})",
            duration(mean(&all)),
            deviation(&all).map_or_else(String::new, |sd| format!(" ± {}", duration(sd))),
            duration(*least.unwrap_or(&0)),
            duration(*most.unwrap_or(&0))
        )
    };
    let made = digests.len() as u64;
    let mut out = format!(
        "{}{}, mean ± standard deviation (least … most)\n  wall time    {}\n  all blocked  {}\n",
        quantity(made, "run"),
        match made < u64::from(times) {
            true => format!(" of {times}"),
            false => String::new(),
        },
        figures(Digest::wall_ns),
        figures(Digest::stalled_ns)
    );
    if let (true, Some(first), Some(last)) = (kept, traces.first(), traces.last()) {
        let [first, last] = [first, last].map(|path| clean(&path.to_string_lossy()));
        out += &format!("saved: {first} … {last}; `forktrace diff` compares them with others\n");
    }
    Ok(out)
}

/// The figures of the traces that are there.
fn digests(traces: &[PathBuf], accounts: &Accounts) -> Result<Vec<Digest>> {
    // A file may be another by now, so it is opened with the rights of whom it is for.
    let mut files = Vec::new();
    for path in traces {
        let opened = with_rights_of(accounts.caller.as_ref().or(accounts.owner()), || {
            Ok(Answer {
                descriptors: vec![OwnedFd::from(File::open(path)?)],
                ..Answer::default()
            })
        });
        // A run that could not begin has none.
        let file = opened.ok().and_then(|it| it.descriptors.into_iter().next());
        files.extend(file.map(|file| (path, file)));
    }
    drop_all()?;
    let mut digests = Vec::new();
    for (path, file) in files {
        let name = path.display();
        let mut data = Vec::new();
        File::from(file)
            .read_to_end(&mut data)
            .with_context(|| format!("{name} can't be read"))?;
        let report = pipeline::make(&data, None, &Default::default());
        let report = report.with_context(|| format!("{name}"))?;
        digests.push(Digest::of(&path.to_string_lossy(), &report));
    }
    Ok(digests)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn files_get_the_number_of_the_run() {
        for (path, third) in [
            ("a.ft", "a.3.ft"),
            ("/x/a.b.ft", "/x/a.b.3.ft"),
            ("a.fx.json", "a.3.fx.json"),
            ("a.PB.gz", "a.3.PB.gz"),
            ("report", "report.3"),
            ("-", "-"),
            ("/dev/null", "/dev/null"),
        ] {
            assert_eq!(numbered(Path::new(path), 3), Path::new(third), "{path}");
        }
    }

    #[test]
    fn reports_that_are_one_document_are_not_written_one_after_the_other() {
        let refused = |said: &str| {
            let args = parsed(said.split_whitespace().map(OsString::from));
            one_file_each(&args.recording.output, 2)
                .err()
                .map(|error| error.to_string())
        };
        for (said, form) in [
            ("run --format json -o - ls", "json"),
            ("run --format html -o /dev/stdout ls", "html"),
            ("run --format pprof -o a.txt -o - ls", "pprof"),
        ] {
            let error = refused(said).unwrap_or_else(|| panic!("{said}"));
            assert!(
                error.contains("2 reports") && error.contains(form),
                "{error}"
            );
        }
        for said in [
            "run ls",
            "run -o - ls",
            "run -o a.json ls",
            "run --format json -o a ls",
            "run --format ndjson -o - ls",
            "run --format json -o /dev/null ls",
        ] {
            assert_eq!(refused(said), None, "{said}");
        }
    }

    fn parsed(words: impl IntoIterator<Item = OsString>) -> RunArgs {
        let words = std::iter::once("forktrace".into()).chain(words);
        match Cli::try_parse_from(words) {
            Ok(Cli {
                command: Command::Run(args),
            }) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_run_is_told_all_that_was_told_us() {
        let said = "run -q --repeat 4 --save a.ft -o r.json -o r.txt --force --format text \
            --folded off-cpu --show stalls,locks -v --episodes 3 --color never --ring-size 64K \
            --max-tasks 7 --polls raw --stacks=dwarf --stacks-over 3ms --java --log-bpf info --assert 1<2 --assert=2<3 \
            --junit j.xml --user root --until-exit -- make -j4 --save x";
        let args = parsed(said.split_whitespace().map(OsString::from));
        let again = parsed(arguments(&args, 2, Path::new("a.2.ft")));
        let said = said.replace(" --repeat 4", "").replace("a.ft", "a.2.ft");
        let said = said
            .replace("r.json", "r.2.json")
            .replace("r.txt", "r.2.txt");
        let said = said.replace("j.xml", "j.2.xml");
        let expected = parsed(said.split_whitespace().map(OsString::from));
        assert_eq!(format!("{again:?}"), format!("{expected:?}"));
    }
}
