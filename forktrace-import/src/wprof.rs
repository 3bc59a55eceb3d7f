//! What `wprof --json-trace` writes: a line of JSON for each event, as its `JSON_SCHEMA.md`
//! describes.
//!
//! Who wakes is who was on the CPU, whether it woke or an interrupt came in between: the lines do
//! not tell one from the other, but for an idle CPU. So no task is blamed.

use std::borrow::Cow;

use anyhow::{Context as _, Result, bail, ensure};
use bytemuck::Zeroable as _;
use forktrace_core::{trace::Imported, trace_file::Source};
use serde::Deserialize;

use crate::{
    record::{Record, flag, kind, state},
    sink::Sink,
    text,
};

/// The longest line that is read.
const LONGEST_LINE: usize = 16 << 20;
/// So many bytes are read at once.
const PART: usize = 256 << 10;
/// Times count from here on: 0 means "before the recording" elsewhere.
const START_NS: u64 = 1_000_000_000;
/// The longest recording, seconds: some thirty years.
const LONGEST: f64 = 1e9;

/// The first line.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    version: Cow<'a, str>,
    dur: f64,
    #[serde(default)]
    stack_cnt: u64,
}

/// Any other.
#[derive(Deserialize)]
struct Line<'a> {
    ts: f64,
    #[serde(borrow)]
    t: Cow<'a, str>,
    #[serde(default)]
    cpu: u32,
    prev: Option<Task<'a>>,
    next: Option<Task<'a>>,
    #[serde(borrow)]
    prev_state: Option<Cow<'a, str>>,
    waker: Option<Task<'a>>,
    wakee: Option<Task<'a>>,
    task: Option<Task<'a>>,
    child: Option<Task<'a>>,
    #[serde(default)]
    old_tid: u32,
}

/// A task, as lines have it.
#[derive(Deserialize)]
struct Task<'a> {
    /// Not there for an idle CPU.
    #[serde(default)]
    tid: u32,
    #[serde(default)]
    pid: u32,
    #[serde(borrow, default)]
    comm: Cow<'a, str>,
}

pub(crate) fn read(source: Source<'_>, sink: &mut Sink) -> Result<()> {
    sink.found.imported = Imported {
        from: "wprof".to_owned(),
        lacks: [
            "in which calls tasks were",
            "what for they waited",
            "which task woke another: it could be an interrupt as well",
            "what tasks did before their first event",
            "of tasks that never had a CPU meanwhile",
            "how many events wprof lost",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..Imported::default()
    };
    let mut lines = Lines {
        source,
        rest: Vec::new(),
        at: 0,
        from: 0,
    };
    let mut stacks = 0;
    let mut first = true;
    while let Some((at, line, whole)) = lines.next_line()? {
        let odd = || format!("the line at byte {at} is none of wprof's");
        if first {
            let head: Head<'_> = serde_json::from_slice(line).with_context(odd)?;
            let major = head.version.split('.').next().unwrap_or_default();
            ensure!(
                major.parse::<u32>().is_ok_and(|major| major <= 3),
                "its format has the version {:?}; up to 3 is known",
                head.version
            );
            stacks = head.stack_cnt;
            sink.found.start_ns = Some(START_NS);
            sink.found.end_ns = Some(ns(head.dur, at)?);
            first = false;
            continue;
        }
        // Stacks are lines of another kind, and are not looked at.
        if stacks > 0 {
            stacks -= 1;
            continue;
        }
        match serde_json::from_slice::<Line<'_>>(line) {
            Ok(line) => told(&line, at, sink)?,
            Err(_) if !whole && sink.count > 0 => {
                let fault = format!("the file is cut off in the line at byte {at}");
                sink.found.imported.faults.push(fault);
            }
            Err(error) => return Err(error).with_context(odd),
        }
    }
    Ok(())
}

/// A time in seconds.
fn ns(seconds: f64, at: usize) -> Result<u64> {
    if !(0.0..LONGEST).contains(&seconds) {
        bail!("the line at byte {at} has the time {seconds} s");
    }
    Ok(START_NS + (seconds * 1e9).round() as u64)
}

fn told(line: &Line<'_>, at: usize, sink: &mut Sink) -> Result<()> {
    let record = Record {
        at_ns: ns(line.ts, at)?,
        cpu: u16::try_from(line.cpu).unwrap_or(u16::MAX),
        ..Record::zeroed()
    };
    let (task, other) = match &*line.t {
        "switch" => (&line.prev, &line.next),
        "waking" | "wakeup_new" => (&line.wakee, &line.waker),
        "fork" => (&line.child, &line.task),
        "exec" | "task_rename" => (&line.task, &None),
        _ => return Ok(()),
    };
    let lacks = || format!("the line at byte {at} ({}) lacks a task", line.t);
    let task = task.as_ref().with_context(lacks)?;
    let record = Record {
        tid: task.tid,
        name: seen(task, sink),
        ..record
    };
    let other = match other {
        Some(other) => Record {
            tid: other.tid,
            name: seen(other, sink),
            ..record
        },
        None if matches!(&*line.t, "switch" | "fork") => bail!(lacks()),
        None => Record::zeroed(),
    };
    match &*line.t {
        "switch" => {
            let left = line.prev_state.as_deref().unwrap_or_default();
            for (record, kind, value) in [(record, kind::OUT, state_of(left)), (other, kind::IN, 0)]
            {
                // An idle CPU is no task.
                if record.tid != 0 {
                    sink.push(Record {
                        kind,
                        value,
                        ..record
                    });
                }
            }
        }
        "waking" | "wakeup_new" => sink.push(Record {
            kind: kind::WAKING,
            other: other.tid,
            flags: flag::EITHER,
            ..record
        }),
        "fork" => sink.push(Record {
            kind: kind::NEW,
            other: other.tid,
            value: task.pid.into(),
            ..record
        }),
        "exec" => sink.push(Record {
            kind: kind::EXEC,
            other: line.old_tid,
            ..record
        }),
        _ => sink.push(Record {
            kind: kind::RENAME,
            ..record
        }),
    }
    Ok(())
}

/// Takes note of a task, and gives the number of its name.
fn seen(task: &Task<'_>, sink: &mut Sink) -> u32 {
    // Of a task that wprof knows nothing of there is a number, and a name that is made of it.
    if task.tid != 0 && task.pid == 0 {
        return sink.people.number("");
    }
    let name = sink.people.number(&text::name(task.comm.as_bytes()));
    if task.tid != 0 {
        let person = sink.people.of(task.tid);
        person.tgid = task.pid;
        person.name = name;
    }
    name
}

fn state_of(name: &str) -> u64 {
    match name {
        "interruptible_sleep" => state::INTERRUPTIBLE,
        "killable_sleep" => state::KILLABLE,
        "uninterruptible_sleep" | "rtlock_wait" | "idle" | "parked" => state::UNINTERRUPTIBLE,
        // How it sleeps is not told.
        "freezable" => state::INTERRUPTIBLE,
        "stopped" => state::STOPPED,
        "traced" => state::TRACED,
        "frozen" => state::FROZEN,
        "exit_dead" | "exit_zombie" | "exit_trace" | "task_dead" => state::DEAD,
        "runnable" | "preempted" | "waking" | "new" => state::RUNNABLE,
        _ => state::UNKNOWN,
    }
}

/// The lines of a file.
struct Lines<'a> {
    source: Source<'a>,
    /// What was read, and how much of it was given.
    rest: Vec<u8>,
    from: usize,
    /// Where in the file `rest` ends.
    at: usize,
}

impl Lines<'_> {
    /// The next line, where it is, and whether it has its end.
    fn next_line(&mut self) -> Result<Option<(usize, &[u8], bool)>> {
        let mut looked_at = 0;
        loop {
            let left = &self.rest[self.from..];
            let end = left[looked_at..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = end.map(|end| looked_at + end) {
                let from = self.from;
                self.from += end + 1;
                let at = self.at - self.rest.len() + from;
                return Ok(Some((at, &self.rest[from..from + end], true)));
            }
            looked_at = left.len();
            let at = self.at - looked_at;
            ensure!(
                looked_at < LONGEST_LINE,
                "the line at byte {at} is longer than {LONGEST_LINE} bytes"
            );
            self.rest.drain(..self.from);
            self.from = 0;
            let had = self.rest.len();
            self.rest.resize(had + PART, 0);
            let read = self.source.read(self.at, &mut self.rest[had..]);
            self.rest.truncate(had + read);
            self.at += read;
            if read == 0 {
                if self.rest.is_empty() {
                    return Ok(None);
                }
                self.from = self.rest.len();
                return Ok(Some((at, &self.rest, false)));
            }
        }
    }
}
