//! The tools that are compared, and how each is put on a workload.

use std::{
    ffi::OsString,
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::ChildStdin,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use nix::sys::signal::Signal;

use super::{noop, process::Background};

/// How long a tool may take until it traces, and to write what it has.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a workload runs with. In the order of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    /// Nothing: what the others are compared with.
    Bare,
    /// Programs that do nothing, on sched_switch and sched_waking.
    Noop,
    /// forktrace on something else, which does nothing.
    Untraced,
    /// The same without its probes of the select/poll family.
    UntracedNoPolls,
    /// forktrace on the workload.
    Traced,
    /// The same without its probes of the select/poll family.
    TracedNoPolls,
    /// The same without wakers and what is waited for.
    TracedPlain,
    /// forktrace on the workload, with stacks by unwind tables.
    TracedDwarf,
    /// With stacks by frame pointers.
    TracedFp,
    /// With both.
    TracedStacks,
    /// forktrace attached to the workload when it begins.
    AttachedTo,
    PerfSched,
    Offcputime,
    Strace,
    /// Nothing once more: how far two equal runs are apart.
    BareAgain,
}

impl Tool {
    pub(super) const ALL: [Tool; 15] = [
        Tool::Bare,
        Tool::Noop,
        Tool::Untraced,
        Tool::UntracedNoPolls,
        Tool::Traced,
        Tool::TracedNoPolls,
        Tool::TracedPlain,
        Tool::TracedDwarf,
        Tool::TracedFp,
        Tool::TracedStacks,
        Tool::AttachedTo,
        Tool::PerfSched,
        Tool::Offcputime,
        Tool::Strace,
        Tool::BareAgain,
    ];

    pub(super) fn label(self) -> &'static str {
        match self {
            Tool::Bare => "bare",
            Tool::Noop => "no-op probes on sched_switch and sched_waking",
            Tool::Untraced => "forktrace, tracing something else",
            Tool::UntracedNoPolls => "forktrace, tracing something else, --polls off",
            Tool::Traced => "forktrace",
            Tool::TracedNoPolls => "forktrace, --polls off",
            Tool::TracedPlain => "forktrace, --polls off --plain",
            Tool::TracedDwarf => "forktrace, --polls off --stacks=dwarf",
            Tool::TracedFp => "forktrace, --polls off --stacks=fp",
            Tool::TracedStacks => "forktrace, --polls off --stacks",
            Tool::AttachedTo => "forktrace attach",
            Tool::PerfSched => "perf sched record",
            Tool::Offcputime => "offcputime (libbpf-tools)",
            Tool::Strace => "strace -f -c",
            Tool::BareAgain => "bare again",
        }
    }

    /// The part of the work that it gets, one in so many: strace would take
    /// minutes for what the others do in a second.
    pub(super) fn share(self) -> u64 {
        match self {
            Tool::Strace => 50,
            _ => 1,
        }
    }

    /// The command that runs `argv` with the tool. A tool that does not run
    /// commands is [attached](Self::attach) instead, and leaves it as it is.
    pub(super) fn command(
        self,
        forktrace: &Path,
        folder: &Path,
        argv: &[OsString],
    ) -> Vec<OsString> {
        let mut command: Vec<OsString> = match self {
            Tool::Traced => forktrace_run(forktrace, &[]),
            Tool::TracedNoPolls => forktrace_run(forktrace, &["--polls", "off"]),
            Tool::TracedPlain => forktrace_run(forktrace, &["--polls", "off", "--plain"]),
            Tool::TracedDwarf => forktrace_run(forktrace, &["--polls", "off", "--stacks=dwarf"]),
            Tool::TracedFp => forktrace_run(forktrace, &["--polls", "off", "--stacks=fp"]),
            Tool::TracedStacks => forktrace_run(forktrace, &["--polls", "off", "--stacks"]),
            Tool::AttachedTo => {
                let said = folder.join("attach.err").into();
                let mut command = ["sh", "-c", ATTACH_AND_EXEC].map(OsString::from).to_vec();
                command.extend([forktrace.into(), said]);
                command
            }
            Tool::PerfSched => {
                let file = folder.join("perf.data").into();
                let mut command = ["perf", "sched", "record", "-o"]
                    .map(OsString::from)
                    .to_vec();
                command.extend([file, "--".into()]);
                command
            }
            Tool::Strace => {
                let file = folder.join("strace.out").into();
                let mut command = ["strace", "-f", "-c", "-o"].map(OsString::from).to_vec();
                command.push(file);
                command
            }
            _ => Vec::new(),
        };
        command.extend_from_slice(argv);
        command
    }

    /// Attaches a tool that watches the whole machine.
    pub(super) fn attach(self, forktrace: &Path, folder: &Path) -> Result<Attached> {
        let untraced = |options: &[&str]| {
            let mut argv = forktrace_run(forktrace, options);
            argv.push("cat".into());
            let (mut tracer, mut stdin, mut stdout) = Background::start_with_pipes(&argv, folder)?;
            // What we write comes back once cat runs, and so is traced.
            let echo = stdin
                .write_all(b"\n")
                .and_then(|()| stdout.read_exact(&mut [0]));
            if echo.is_err() {
                tracer.until(PATIENCE, |_| false)?;
            }
            Ok(Attached::Untraced(tracer, stdin))
        };
        match self {
            Tool::Noop => Ok(Attached::Noop(noop::attach()?)),
            Tool::Untraced => untraced(&[]),
            Tool::UntracedNoPolls => untraced(&["--polls", "off"]),
            Tool::Offcputime => {
                let mut tracer = Background::start(&["offcputime".into()], folder)?;
                tracer.until(PATIENCE, |it| has_bpf_link(it.id()))?;
                Ok(Attached::Offcputime(tracer))
            }
            _ => Ok(Attached::Nothing),
        }
    }
}

/// Becomes the command in its arguments once forktrace is attached to it, which ends with it.
const ATTACH_AND_EXEC: &str = r#"said=$1; shift
"$0" attach -p $$ -o "$said.txt" 2>"$said" &
until grep -q "attached to" "$said"; do kill -0 $! || exit 1; sleep 0.01; done
exec "$@""#;

fn forktrace_run(forktrace: &Path, options: &[&str]) -> Vec<OsString> {
    let mut command = vec![
        forktrace.into(),
        "run".into(),
        "-q".into(),
        "--as-root".into(),
    ];
    command.extend(options.iter().map(OsString::from));
    command.push("--".into());
    command
}

/// Whether the process has an eBPF program attached.
fn has_bpf_link(pid: u32) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else {
        return false;
    };
    entries
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .any(|info| info.contains("link_id:"))
}

/// A tool that watches the machine. Dropping it ends it.
pub(super) enum Attached {
    Nothing,
    Noop(Ebpf),
    /// Ends when its workload has read the end of its input.
    Untraced(Background, ChildStdin),
    Offcputime(Background),
}

impl Attached {
    /// Ends the tool and makes sure that it did its work.
    pub(super) fn detach(self) -> Result<()> {
        match self {
            Attached::Nothing => Ok(()),
            Attached::Noop(ebpf) => {
                drop(ebpf);
                Ok(())
            }
            Attached::Untraced(tracer, stdin) => {
                drop(stdin);
                tracer.end(PATIENCE)
            }
            Attached::Offcputime(mut tracer) => {
                tracer.signal(Signal::SIGINT)?;
                let status = tracer
                    .wait(PATIENCE)?
                    .context("it did not end when interrupted")?;
                ensure!(status.success(), "it ended with {status}");
                let printed = tracer.printed()?;
                ensure!(!printed.trim().is_empty(), "it printed no stack");
                Ok(())
            }
        }
    }
}
