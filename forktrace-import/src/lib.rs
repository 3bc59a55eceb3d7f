//! Makes a trace of what another recorder wrote: `perf sched record`, Perfetto (and with it
//! ftrace), wprof.
//!
//! ```text
//! perf       ┐ records   ┌ sorted ┐ in order  ┌ story ┐ events
//! perfetto   ├──────────▶│        ├──────────▶│       ├─────────▶ a trace file
//! wprof      ┘           └────────┘           └───────┘
//!                 people: who there is
//! ```
//!
//! Each form has a reader, which makes records (`record.rs`) of what is in a file: a task leaves a
//! CPU, comes to one, is woken. They are brought into the order of time (`sorted`), and a state a
//! task makes stretches of them (`story`). What a form does not tell is unknown afterwards, and
//! the header says what that is ([`forktrace_core::trace::Imported`]): nothing of another
//! recorder's can be checked against the kernel's counters, so such a trace is never complete.
//!
//! Files can come from anybody: memory is bounded by their length, and what makes no sense is an
//! error that says where, or is counted.

mod people;
mod perf;
mod perfetto;
mod record;
mod sink;
mod sorted;
mod story;
#[cfg(test)]
mod tests;
mod text;
mod wire;
mod wprof;

use std::{io::Write, sync::Arc};

use anyhow::{Context as _, Result, bail};
use forktrace_core::{
    model::Spill,
    trace::{Arch, AttachedTo, Finish, Header, Machine, PollWay},
    trace_file::{Source, TraceWriter},
    words::quantity,
};

use self::{
    sink::{Found, Sink},
    story::Story,
};

/// What is known of a file besides its bytes.
#[derive(Default)]
pub struct About {
    /// Its name, for people.
    pub name: String,
    /// When it was written last, ns since 1970; `None`: it is not known.
    pub written_unix_ns: Option<u64>,
    /// Where what doesn't fit into memory goes; `None`: it stays in memory.
    pub spill: Option<Arc<dyn Spill>>,
}

/// What a trace was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// Tasks.
    pub tasks: u64,
    /// Stretches off the CPU.
    pub stretches: u64,
}

/// Reads what another recorder wrote and writes a trace of it.
///
/// # Errors
/// When it is of no form that is known, makes no sense (it is said where), or the trace can't be
/// written.
pub fn import(source: Source<'_>, about: &About, out: &mut dyn Write) -> Result<Made> {
    let mut sink = Sink::new(about.spill.clone());
    read(source, &mut sink)?;
    if sink.first_ns == u64::MAX {
        bail!(
            "it holds no event of the scheduler; {} records them",
            sink.found.imported.from
        );
    }
    let Sink {
        people,
        sorter,
        found,
        first_ns,
        last_ns,
        ..
    } = sink;
    let start_ns = found.start_ns.unwrap_or(first_ns);
    let end_ns = found.end_ns.unwrap_or(last_ns).max(last_ns).max(start_ns);
    let header = header(&found, about, (start_ns, end_ns));
    let mut writer = TraceWriter::new(out, &header).context("the trace can't be written")?;
    let mut stretches = 0;
    let mut story = Story::new(&people, start_ns, |event| {
        stretches += u64::from(matches!(event, forktrace_core::trace::Event::Stretch(_)));
        writer.push(&event);
    });
    sorter.finish(|record| story.tell(record))?;
    let (tasks, living) = story.end(end_ns);
    let finish = Finish {
        end_ns,
        cut_short: living > 0,
        ..Finish::default()
    };
    let (finish, failed) = writer.finish(finish);
    if let Some(error) = failed {
        return Err(error).context("the trace can't be written");
    }
    if finish.unwritten > 0 {
        bail!(
            "{} of the trace can't be written: {}",
            quantity(finish.unwritten, "record"),
            finish
                .write_error
                .as_deref()
                .unwrap_or("it is not known why")
        );
    }
    Ok(Made { tasks, stretches })
}

/// Finds out which form it has.
fn read(source: Source<'_>, sink: &mut Sink) -> Result<()> {
    let mut start = [0; 16];
    let len = source.read(0, &mut start);
    match &start[..len] {
        [b'P', b'E', b'R', b'F', b'I', b'L', b'E', b'2', ..] => perf::read(source, sink),
        [b'2', b'E', b'L', b'I', b'F', b'R', b'E', b'P', ..] => {
            bail!("it is a perf.data file of a machine with the other byte order")
        }
        [0x17, 0x08, 0x44, b't', b'r', b'a', b'c', ..] => bail!(
            "it is a file of trace-cmd, which is not read; `perf sched record` and Perfetto record \
             the same events"
        ),
        [0x0a, ..] => perfetto::read(source, sink),
        [b'{', b'"', b'v', ..] => wprof::read(source, sink),
        [b'{' | b'[', ..] => bail!(
            "it is JSON, but not of `wprof --json-trace`; Chrome's form has no states of tasks"
        ),
        _ if forktrace_core::trace_file::is_trace(&start[..len]) => {
            bail!("it is a trace of forktrace already: `forktrace report` reads it")
        }
        [] => bail!("it is empty"),
        start => bail!(
            "it begins with {}, which no perf.data, Perfetto trace or wprof JSON does",
            text::hex(&start[..start.len().min(8)])
        ),
    }
}

fn header(found: &Found, about: &About, (start_ns, end_ns): (u64, u64)) -> Header {
    let mut imported = found.imported.clone();
    let start_unix_ns = match (found.unix, about.written_unix_ns) {
        (Some((at_ns, unix_ns)), _) if at_ns <= start_ns => {
            unix_ns.saturating_add(start_ns - at_ns)
        }
        (Some((at_ns, unix_ns)), _) => unix_ns.saturating_sub(at_ns - start_ns),
        (None, written) => {
            imported
                .lacks
                .push("when that was by the calendar (the file's date was taken)".to_owned());
            written.unwrap_or(0).saturating_sub(end_ns - start_ns)
        }
    };
    Header {
        forktrace: env!("CARGO_PKG_VERSION").to_owned(),
        argv: Vec::new(),
        kernel: match &*found.kernel {
            "" => "unknown".to_owned(),
            kernel => kernel.to_owned(),
        },
        // It matters for numbers of calls only, and there are none.
        arch: found.arch.unwrap_or(Arch::X86_64),
        cpus: found.cpus,
        start_ns,
        start_unix_ns,
        polls: PollWay::None {
            why: format!("{} does not record such calls", imported.from),
        },
        ring_bytes: 0,
        max_tasks: 0,
        plain: false,
        interrupts: Vec::new(),
        attached: Some(AttachedTo {
            targets: vec![about.name.clone()],
        }),
        machine: (!found.host.is_empty()).then(|| Machine {
            host: found.host.clone(),
            ..Machine::default()
        }),
        cgroup: String::new(),
        lag_min_ns: None,
        imported: Some(imported),
    }
}
