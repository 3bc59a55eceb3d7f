//! The Firefox Profiler's processed format, version 55:
//! <https://github.com/firefox-devtools/profiler/blob/main/docs-developer/CHANGELOG-formats.md>
//!
//! A sample is one wait, or one time without a CPU, with its length as its weight. Waits that
//! are long enough to be seen are markers too, as are stalls.
//!
//! The crate `fxprof-processed-profile` takes weights in whole milliseconds only, and holds all
//! of a profile in memory; so the JSON is put together here, a thread at a time.

use std::io::{self, Write};

use forktrace_core::{
    analysis::{Names, Wait, Waits},
    model::{State, Task},
};
use serde_json::{Value, json};

use crate::{
    Export, Source,
    stacks::{Frames, Paths},
    text::{self, clean},
};

/// See the module.
pub(crate) struct Firefox;

/// Waits of less than this part of the run are no markers.
const LEAST_PART: u64 = 10_000;

const OTHER: u32 = 0;
const BLOCKED: u32 = 1;
const RUNNABLE: u32 = 2;

impl Export for Firefox {
    fn write(&self, source: &Source<'_>, out: &mut dyn Write) -> io::Result<()> {
        let names = Names::new(source.info, source.model);
        let waits = names.waits();
        let paths = Paths::new(source, &names);
        write!(out, "{{\"meta\":{},\"libs\":[],\"threads\":[", meta(source))?;
        for (at, task) in source.model.tasks.iter().enumerate() {
            if at > 0 {
                out.write_all(b",")?;
            }
            let thread = thread(source, &paths, &waits, at, task);
            serde_json::to_writer(&mut *out, &thread)?;
        }
        out.write_all(b"],\"pages\":[],\"profilerOverhead\":[],\"counters\":[]}\n")
    }
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

fn meta(source: &Source<'_>) -> Value {
    let argv = source.report.workload.argv.iter().map(|arg| clean(arg));
    let argv: Vec<String> = argv.collect();
    let field = |key: &str, label: &str| json!({"key": key, "label": label, "format": "string"});
    let category =
        |name: &str, color: &str| json!({"name": name, "color": color, "subcategories": ["Other"]});
    let places = json!(["marker-chart", "marker-table", "timeline-overview"]);
    json!({
        "categories": [
            category("Other", "grey"),
            category("Blocked", "orange"),
            category("Wants a CPU", "red"),
        ],
        "debug": false,
        "extensions": {"length": 0, "baseURL": [], "id": [], "name": []},
        "interval": 1,
        "preprocessedProfileVersion": 55,
        "processType": 0,
        "product": format!("forktrace: {}", argv.join(" ")),
        "oscpu": clean(&format!(
            "Linux {} {}", source.report.workload.kernel, source.report.workload.arch
        )),
        "sampleUnits": {"time": "ms", "eventDelay": "ms", "threadCPUDelta": "ns"},
        "startTime": source.info.header.start_unix_ns as f64 / 1e6,
        "symbolicated": true,
        "pausedRanges": [],
        "version": 24,
        "usesOnlyOneStackType": true,
        "sourceCodeIsNotOnSearchfox": true,
        "markerSchema": [
            {
                "name": "Wait",
                "display": places,
                "chartLabel": "{marker.data.what}",
                "tableLabel": "{marker.data.what}",
                "tooltipLabel": "{marker.data.what}",
                "fields": [
                    field("what", "Waits for"),
                    field("woken_by", "Woken by"),
                    field("verdict", "Ended"),
                ],
            },
            {
                "name": "Stall",
                "display": places,
                "chartLabel": "{marker.data.what}",
                "tableLabel": "{marker.data.what}",
                "tooltipLabel": "{marker.data.what}",
                "fields": [field("what", "Put down to")],
            },
        ],
    })
}

/// Tables of one thread that refer to each other by index.
#[derive(Default)]
struct Tables {
    texts: Frames,
    /// Name and category of each frame. A function is a frame here.
    frames: Vec<(u32, u32)>,
    /// Prefix and frame.
    stacks: Vec<(Option<u32>, u32)>,
    known: std::collections::HashMap<(Option<u32>, String, u32), u32>,
    samples: Vec<Sample>,
    markers: Vec<Marker>,
}

struct Sample {
    at_ns: u64,
    ns: u64,
    stack: Option<u32>,
}

struct Marker {
    name: u32,
    start_ns: u64,
    end_ns: u64,
    category: u32,
    data: Value,
}

impl Tables {
    fn stack(&mut self, path: &[String], category: u32) -> Option<u32> {
        let mut prefix = None;
        for name in path {
            let key = (prefix, name.clone(), category);
            prefix = Some(match self.known.get(&key) {
                Some(stack) => *stack,
                None => {
                    let name = self.texts.number(name);
                    let frame = self.frames.iter().position(|f| *f == (name, category));
                    let frame = frame.unwrap_or_else(|| {
                        self.frames.push((name, category));
                        self.frames.len() - 1
                    });
                    self.stacks.push((prefix, frame as u32));
                    let stack = self.stacks.len() as u32 - 1;
                    self.known.insert(key, stack);
                    stack
                }
            });
        }
        prefix
    }
}

fn thread(
    source: &Source<'_>,
    paths: &Paths<'_>,
    waits: &Waits<'_>,
    at: usize,
    task: &Task,
) -> Value {
    let mut tables = Tables::default();
    let least_ns = source.report.workload.duration_ns / LEAST_PART;
    for wait in waits.of(at).filter(|wait| wait.end_ns > wait.start_ns) {
        let stack = tables.stack(&paths.functions(task, &wait), BLOCKED);
        tables.samples.push(Sample {
            at_ns: wait.start_ns,
            ns: wait.end_ns - wait.start_ns,
            stack,
        });
        if wait.end_ns - wait.start_ns >= least_ns {
            let marker = wait_marker(&mut tables, paths, task, &wait);
            tables.markers.push(marker);
        }
    }
    for segment in task.segments().filter(|it| it.state == State::Runnable) {
        let stack = tables.stack(&["wants a CPU".to_owned()], RUNNABLE);
        tables.samples.push(Sample {
            at_ns: segment.start_ns,
            ns: segment.end_ns - segment.start_ns,
            stack,
        });
    }
    if at == 0 {
        stalls(source, &mut tables);
    }
    tables.samples.sort_by_key(|sample| sample.at_ns);
    written(source, task, &tables)
}

fn wait_marker(tables: &mut Tables, paths: &Paths<'_>, task: &Task, wait: &Wait) -> Marker {
    Marker {
        name: tables.texts.number("Wait"),
        start_ns: wait.start_ns,
        end_ns: wait.end_ns,
        category: BLOCKED,
        data: json!({
            "type": "Wait",
            "what": paths.what(task, wait),
            "woken_by": paths.waker(wait),
            "verdict": text::ended(wait.ended),
        }),
    }
}

/// Of the whole workload: they stand with its first thread.
fn stalls(source: &Source<'_>, tables: &mut Tables) {
    for episode in source.report.episodes.iter().filter(|it| it.group == 0) {
        let what = episode.ended_by.as_ref().map_or_else(String::new, |by| {
            let what = text::wait(&by.reason, by.object.as_ref());
            format!("{} (tid {}) in {what}", clean(&by.task.name), by.task.tid)
        });
        let marker = Marker {
            name: tables.texts.number("Stall"),
            start_ns: episode.start_ns,
            end_ns: episode.end_ns,
            category: OTHER,
            data: json!({"type": "Stall", "what": what}),
        };
        tables.markers.push(marker);
    }
}

fn written(source: &Source<'_>, task: &Task, tables: &Tables) -> Value {
    let frames = tables.frames.len();
    let none = |n: usize| vec![Value::Null; n];
    let mut before_ns = 0;
    let deltas: Vec<f64> = tables
        .samples
        .iter()
        .map(|sample| ms(sample.at_ns - std::mem::replace(&mut before_ns, sample.at_ns)))
        .collect();
    let process = source.model.tasks.iter().find(|t| t.serial == task.process);
    let ended = (task.end_ns < source.model.end_ns).then(|| ms(task.end_ns));
    json!({
        "name": clean(&task.name),
        "isMainThread": task.serial == task.process,
        "pid": task.pid.to_string(),
        "tid": task.tid.to_string(),
        "processName": clean(process.map_or(&task.name, |it| &it.name)),
        "processType": "default",
        "processStartupTime": ms(process.map_or(task.start_ns, |it| it.start_ns)),
        "processShutdownTime": Value::Null,
        "registerTime": ms(task.start_ns),
        "unregisterTime": ended,
        "pausedRanges": [],
        "showMarkersInTimeline": true,
        "stringArray": tables.texts.texts,
        "frameTable": {
            "length": frames,
            "address": vec![-1; frames],
            "inlineDepth": vec![0; frames],
            "category": tables.frames.iter().map(|f| f.1).collect::<Vec<_>>(),
            "subcategory": vec![0; frames],
            "func": (0..frames).collect::<Vec<_>>(),
            "nativeSymbol": none(frames),
            "innerWindowID": vec![0; frames],
            "line": none(frames),
            "column": none(frames),
        },
        "funcTable": {
            "length": frames,
            "name": tables.frames.iter().map(|f| f.0).collect::<Vec<_>>(),
            "isJS": vec![false; frames],
            "relevantForJS": vec![false; frames],
            "resource": vec![-1; frames],
            "fileName": none(frames),
            "lineNumber": none(frames),
            "columnNumber": none(frames),
        },
        "stackTable": {
            "length": tables.stacks.len(),
            "prefix": tables.stacks.iter().map(|s| s.0).collect::<Vec<_>>(),
            "frame": tables.stacks.iter().map(|s| s.1).collect::<Vec<_>>(),
        },
        "samples": {
            "length": tables.samples.len(),
            "weightType": "tracing-ms",
            "stack": tables.samples.iter().map(|s| s.stack).collect::<Vec<_>>(),
            "timeDeltas": deltas,
            "weight": tables.samples.iter().map(|s| ms(s.ns)).collect::<Vec<_>>(),
        },
        "markers": {
            "length": tables.markers.len(),
            "category": tables.markers.iter().map(|m| m.category).collect::<Vec<_>>(),
            "data": tables.markers.iter().map(|m| &m.data).collect::<Vec<_>>(),
            "startTime": tables.markers.iter().map(|m| ms(m.start_ns)).collect::<Vec<_>>(),
            "endTime": tables.markers.iter().map(|m| ms(m.end_ns)).collect::<Vec<_>>(),
            "name": tables.markers.iter().map(|m| m.name).collect::<Vec<_>>(),
            "phase": vec![1; tables.markers.len()],
        },
        "nativeSymbols": {
            "length": 0, "address": [], "functionSize": [], "libIndex": [], "name": [],
        },
        "resourceTable": {"length": 0, "lib": [], "name": [], "host": [], "type": []},
    })
}
