//! A line of JSON for each stretch, wait, wakeup and stall, for programs that want more than
//! sums: `ndjson.schema.json` says what each line holds.
//!
//! Lines come task by task, and by time within a task; tasks first, stalls last. Nothing is
//! held in memory, so a reader can begin at once.

use std::io::{self, Write};

use forktrace_core::{
    analysis::{Names, Wait},
    model::{State, Task},
    render,
    trace::Waker,
};
use serde_json::{Value, json};

use crate::{Export, Source};

/// The JSON Schema of a line.
pub const SCHEMA: &str = include_str!("ndjson.schema.json");

/// Version of the lines.
const VERSION: u32 = 1;

/// See the module.
pub(crate) struct Ndjson;

impl Export for Ndjson {
    fn write(&self, source: &Source<'_>, out: &mut dyn Write) -> io::Result<()> {
        let report = source.report;
        let first = json!({
            "type": "trace",
            "schema_version": VERSION,
            "argv": report.workload.argv,
            "duration_ns": report.workload.duration_ns,
            "start_unix_ns": source.info.header.start_unix_ns,
            "complete": report.audit.complete,
        });
        line(out, &first)?;
        for task in &report.tasks {
            let task = json!({
                "type": "task",
                "serial": task.serial,
                "tid": task.tid,
                "pid": task.pid,
                "ppid": task.ppid,
                "name": task.name,
                "role": task.role,
                "start_ns": task.start_ns,
                "end_ns": task.end_ns,
                "running_ns": task.running_ns,
                "runnable_ns": task.runnable_ns,
                "blocked_ns": task.blocked_ns,
                "stopped_ns": task.stopped_ns,
                "unknown_ns": task.unknown_ns,
            });
            line(out, &task)?;
        }
        let names = Names::new(source.info, source.model);
        let waits = names.waits();
        for (at, task) in source.model.tasks.iter().enumerate() {
            for segment in task.segments() {
                let stretch = json!({
                    "type": "stretch",
                    "serial": task.serial,
                    "state": state(segment.state),
                    "start_ns": segment.start_ns,
                    "end_ns": segment.end_ns,
                });
                line(out, &stretch)?;
            }
            for wait in waits.of(at) {
                line(out, &wait_line(&names, task, &wait))?;
                if wait.woken && wait.waker != Waker::None {
                    let mut by = json!(names.waker(wait.waker, wait.end_ns));
                    by["type"] = json!("wakeup");
                    by["at_ns"] = json!(wait.end_ns);
                    by["wakee"] = json!(task.serial);
                    line(out, &by)?;
                }
            }
        }
        for episode in &report.episodes {
            let mut stall = json!(episode);
            stall["type"] = json!("stall");
            line(out, &stall)?;
        }
        Ok(())
    }
}

fn wait_line(names: &Names<'_>, task: &Task, wait: &Wait) -> Value {
    let (reason, syscall) = names.reason(task, wait);
    json!({
        "type": "wait",
        "serial": task.serial,
        "start_ns": wait.start_ns,
        "end_ns": wait.end_ns,
        "reason": reason,
        "syscall": syscall,
        "object": names.object(wait),
        "ended": wait.ended,
        "woken": wait.woken,
    })
}

fn state(state: State) -> &'static str {
    match state {
        State::Running => "running",
        State::Runnable => "runnable",
        State::Blocked => "blocked",
        State::Stopped => "stopped",
        State::Unknown => "unknown",
    }
}

fn line(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    // It ends in a newline.
    out.write_all(render::escaped(&value.to_string()).as_bytes())
}
