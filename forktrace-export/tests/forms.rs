//! All forms, made of saved traces: that they say the same, and that no name does harm.

mod hostile;
mod rolled;

use std::{collections::HashMap, io::Read as _};

use forktrace_core::{
    diff::{Digest, compare},
    render::Style,
    report::{StackKind, StackUse},
};
use forktrace_export::{DiffForm, Form, Source, StackKind as Kind};
use serde_json::Value;

use hostile::{EVIL, Read, hostile, read};

const TRACES: [&str; 6] = [
    "sleepers",
    "select_and_compute",
    "fork_tree",
    "exec_non_leader",
    "ping_pong_loss",
    "table_full",
];

fn export(read: &Read, form: Form, kind: Option<Kind>) -> Vec<u8> {
    let source = Source {
        info: &read.info,
        model: &read.model,
        report: &read.report,
    };
    let mut out = Vec::new();
    let export = form.export(Style::default(), kind);
    export.write(&source, &mut out).expect("memory takes it");
    out
}

fn text(read: &Read, form: Form, kind: Option<Kind>) -> String {
    String::from_utf8(export(read, form, kind)).expect("text")
}

const TEXTS: [Form; 8] = [
    Form::Html,
    Form::Text,
    Form::Json,
    Form::Dot,
    Form::Folded,
    Form::Svg,
    Form::Firefox,
    Form::Ndjson,
];
const KINDS: [Option<Kind>; 5] = [
    None,
    Some(Kind::OffCpu),
    Some(Kind::Wakeup),
    Some(Kind::Chain),
    Some(Kind::Object),
];

/// Does a terminal do anything on this, or does it turn text around?
fn acts(c: char) -> bool {
    let code = u32::from(c);
    c != '\n'
        && (c.is_control()
            || matches!(code, 0x200b..=0x200f | 0x2028..=0x202e | 0x2066..=0x2069 | 0xfeff))
}

#[test]
fn no_name_acts_in_any_form() {
    let mut read = hostile();
    for with_stacks in [false, true] {
        if with_stacks {
            read.report.stacks = Some(vec![StackUse {
                kind: StackKind::OffCpu,
                name: EVIL.to_owned(),
                wakee: None,
                frames: vec![EVIL.to_owned(); 2],
                cut_off: true,
                ns: 5_000_000,
                count: 1,
            }]);
        }
        for form in TEXTS {
            for kind in KINDS {
                let shown = text(&read, form, kind);
                let bad = shown.chars().find(|&c| acts(c));
                assert_eq!(bad, None, "{form:?} {kind:?}: {shown}");
            }
        }
    }
    let svg = text(&read, Form::Svg, None);
    assert_eq!(svg.matches("<script").count(), 1, "{svg}");
    assert_eq!(svg.matches("]]>").count(), 1, "{svg}");
    for form in [Form::Perfetto, Form::Pprof] {
        let mut bytes = export(&read, form, None);
        if form == Form::Pprof {
            let mut whole = Vec::new();
            let mut gzip = flate2::read::GzDecoder::new(&bytes[..]);
            gzip.read_to_end(&mut whole).expect("gzip");
            bytes = whole;
        }
        let escape = bytes.windows(4).any(|it| it == b"\x1b[31");
        assert!(!escape, "{form:?}");
    }
}

#[test]
fn no_name_acts_in_any_form_of_a_comparison() {
    let (evil, good) = (hostile(), read("fork_tree"));
    let one = [Digest::of(EVIL, &evil.report)];
    let other = [Digest::of("good.ft", &good.report)];
    for diff in [compare(&one, &other), compare(&other, &one)] {
        for form in [
            DiffForm::Text,
            DiffForm::Json,
            DiffForm::Markdown,
            DiffForm::Html,
        ] {
            let mut out = Vec::new();
            let style = Style {
                verbose: true,
                ..Style::default()
            };
            form.write(&diff, &style, &mut out)
                .expect("memory takes it");
            let shown = String::from_utf8(out).expect("text");
            let bad = shown.chars().find(|&c| acts(c));
            assert_eq!(bad, None, "{form:?}: {shown}");
            if matches!(form, DiffForm::Html | DiffForm::Markdown) {
                for markup in ["<img", "<b>", "</script", "<!--"] {
                    assert!(!shown.contains(markup), "{form:?}: {markup}: {shown}");
                }
                assert!(shown.contains("&lt;img"), "{form:?}: {shown}");
            }
        }
    }
}

#[test]
fn folded_lines_hold_what_tasks_were_blocked() {
    for name in TRACES {
        let read = read(name);
        let waits = |form: &str| -> u64 {
            let line = form.lines();
            line.map(|line| {
                let (_, us) = line.rsplit_once(' ').expect("a number at the end");
                us.parse::<u64>().expect("a number")
            })
            .sum()
        };
        let blocked_ns: u64 = waits_ns(&read);
        for kind in KINDS {
            let folded = text(&read, Form::Folded, kind);
            let lines = folded.lines().count() as u64;
            let sum = waits(&folded);
            // Each line is rounded down.
            assert!(
                sum <= blocked_ns / 1000 && blocked_ns / 1000 <= sum + lines,
                "{name} {kind:?}: {sum} µs of {blocked_ns} ns"
            );
        }
    }
}

/// How long tasks were blocked where it is known when.
fn waits_ns(read: &Read) -> u64 {
    let lines = text(read, Form::Ndjson, None);
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines
        .filter(|line| line["type"] == "wait")
        .map(|line| {
            line["end_ns"].as_u64().expect("a time") - line["start_ns"].as_u64().expect("a time")
        })
        .sum()
}

#[test]
fn a_line_a_stretch_says_what_the_report_sums() {
    for name in TRACES {
        let read = read(name);
        let mut blocked: HashMap<u64, u64> = HashMap::new();
        let mut slept: HashMap<u64, u64> = HashMap::new();
        let mut waits: HashMap<u64, u64> = HashMap::new();
        let lines = text(&read, Form::Ndjson, None);
        for line in lines.lines() {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let ns =
                || line["end_ns"].as_u64().unwrap_or(0) - line["start_ns"].as_u64().unwrap_or(0);
            let serial = line["serial"].as_u64();
            match line["type"].as_str().expect("a type") {
                "task" => {
                    let unplaced = read.report.tasks.iter();
                    let unplaced = unplaced.filter(|t| Some(u64::from(t.serial)) == serial);
                    let unplaced: u64 = unplaced.map(|t| t.unplaced_ns + t.unknown_ns).sum();
                    if unplaced == 0 {
                        let ns = line["blocked_ns"].as_u64().expect("a time");
                        blocked.insert(serial.expect("a serial"), ns);
                    }
                }
                "stretch" if line["state"] == "blocked" => {
                    *slept.entry(serial.expect("a serial")).or_default() += ns();
                }
                "wait" => *waits.entry(serial.expect("a serial")).or_default() += ns(),
                _ => {}
            }
        }
        assert!(!blocked.is_empty(), "{name}");
        for (serial, ns) in blocked {
            assert_eq!(
                slept.get(&serial).copied().unwrap_or(0),
                ns,
                "{name}, task {serial}"
            );
            assert_eq!(
                waits.get(&serial).copied().unwrap_or(0),
                ns,
                "{name}, task {serial}"
            );
        }
    }
}

#[test]
fn lines_are_as_their_schema_says() {
    let schema: Value = serde_json::from_str(forktrace_export::NDJSON_SCHEMA).expect("JSON");
    let kinds: HashMap<&str, &Value> = schema["oneOf"]
        .as_array()
        .expect("one of")
        .iter()
        .map(|kind| {
            (
                kind["properties"]["type"]["const"]
                    .as_str()
                    .expect("a type"),
                kind,
            )
        })
        .collect();
    let mut seen: HashMap<String, u64> = HashMap::new();
    for name in TRACES {
        for line in text(&read(name), Form::Ndjson, None).lines() {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let kind = line["type"].as_str().expect("a type");
            *seen.entry(kind.to_owned()).or_default() += 1;
            let kind = kinds[kind];
            for field in kind["required"].as_array().expect("fields") {
                assert!(
                    line.get(field.as_str().expect("a name")).is_some(),
                    "{field} in {line}"
                );
            }
            if kind["additionalProperties"] == false {
                for field in line.as_object().expect("an object").keys() {
                    assert!(kind["properties"].get(field).is_some(), "{field} in {line}");
                }
            }
        }
    }
    for kind in kinds.keys() {
        assert!(seen.contains_key(*kind), "no line of type {kind}");
    }
}

#[test]
fn the_firefox_profile_weighs_what_tasks_were_off_the_cpu() {
    for name in TRACES {
        let read = read(name);
        let profile: Value = serde_json::from_str(&text(&read, Form::Firefox, None)).expect("JSON");
        let threads = profile["threads"].as_array().expect("threads");
        assert_eq!(threads.len(), read.report.tasks.len());
        for (thread, task) in threads.iter().zip(&read.report.tasks) {
            if task.unplaced_ns + task.unknown_ns > 0 {
                continue;
            }
            let weights = thread["samples"]["weight"].as_array().expect("weights");
            let ms: f64 = weights
                .iter()
                .map(|ms| ms.as_f64().expect("a number"))
                .sum();
            let off_ms = (task.blocked_ns + task.runnable_ns) as f64 / 1e6;
            assert!(
                (ms - off_ms).abs() < 1e-6 * off_ms.max(1.0),
                "{name}: {ms} ms, {off_ms} ms"
            );
        }
    }
}
