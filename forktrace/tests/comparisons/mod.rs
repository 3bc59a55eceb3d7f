//! Known changes: traces of our own workloads, recorded before and after a change of an
//! option, and what `forktrace diff` says of them, as figures and word for word.
//!
//! Recorded as the other golden traces, with `--polls off`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/comparisons")
}

/// `forktrace diff` with these arguments, in the folder of the traces.
fn diff(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_forktrace"))
        .env_clear()
        .current_dir(folder())
        .arg("diff")
        .args(arguments.split_whitespace())
        .output()
        .expect("forktrace was built")
}

#[track_caller]
fn printed(arguments: &str) -> String {
    let output = diff(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[track_caller]
fn json(traces: &str) -> Value {
    let json = printed(&format!("--format json {traces}"));
    let diff = serde_json::from_str(&json).expect("JSON");
    let schema = forktrace_core::diff::schema();
    let wrong = super::schema_check::check(schema.as_value(), &diff);
    assert_eq!(wrong, Vec::<String>::new());
    for (parts, whole) in [("path", "wall"), ("stalls", "stalled")] {
        let parts = diff[parts].as_array().expect("rows");
        let deltas = parts.iter().filter_map(|row| row["delta_ns"].as_i64());
        assert_eq!(
            Some(deltas.sum()),
            diff[whole]["delta_ns"].as_i64(),
            "{traces}"
        );
    }
    diff
}

const HOLD: &str = "hold_100ms.1.ft hold_100ms.2.ft hold_100ms.3.ft -- \
    hold_200ms.1.ft hold_200ms.2.ft hold_200ms.3.ft";

/// The change of the row of this list that has these values, in ms.
#[track_caller]
fn ms(diff: &Value, list: &str, has: &[(&str, &str)]) -> f64 {
    let rows = diff[list].as_array().expect("rows");
    let is_it = |row: &&Value| has.iter().all(|(name, value)| row[*name] == *value);
    let rows: Vec<&Value> = rows.iter().filter(is_it).collect();
    assert!(!rows.is_empty(), "{has:?}: {diff:#}");
    rows.iter()
        .filter_map(|row| row["delta_ns"].as_f64())
        .sum::<f64>()
        / 1e6
}

#[track_caller]
fn is_near(is: f64, expected: f64) {
    assert!(
        (is - expected).abs() <= expected / 10.0,
        "{is}, not {expected}"
    );
}

/// The holder of a lock naps for 200 ms in place of 100 ms while three others wait.
#[test]
fn a_lock_held_longer_is_the_holders_sleep_and_the_others_wait() {
    let diff = json(HOLD);
    let sentence = diff["sentence"].as_str().expect("a sentence");
    assert!(sentence.contains("is `forktrace` sleeping"), "{sentence}");
    is_near(
        ms(&diff, "path", &[("reason", "sleep"), ("role", "forktrace")]),
        100.0,
    );
    is_near(ms(&diff, "stalls", &[("reason", "sleep")]), 100.0);
    is_near(
        ms(
            &diff,
            "waits",
            &[("reason", "futex"), ("role", "forktrace: waiter")],
        ),
        300.0,
    );
    assert_eq!(diff["wall"]["significant"], true);
}

#[test]
fn one_more_thread_is_told() {
    let diff = json("hold_100ms.1.ft five_threads.ft");
    let more = diff["more"].as_array().expect("sentences");
    let told = "There are 4 tasks `forktrace: waiter`, and there were 3.";
    assert!(more.iter().any(|it| it == told), "{more:?}");
    is_near(
        ms(
            &diff,
            "waits",
            &[("reason", "futex"), ("role", "forktrace: waiter")],
        ),
        100.0,
    );
}

/// An input gives twenty bytes, one each 30 ms in place of 20 ms.
#[test]
fn a_slower_input_is_what_all_waited_for() {
    let diff = json("slow_20ms.ft slow_30ms.ft");
    let sentence = diff["sentence"].as_str().expect("a sentence");
    assert!(sentence.contains("waiting for timerfd"), "{sentence}");
    is_near(
        ms(&diff, "path", &[("reason", "read"), ("state", "blocked")]),
        200.0,
    );
}

#[test]
fn a_trace_that_misses_records_gives_the_uncertainty() {
    let diff = json("slow_20ms.ft lossy_30ms.ft");
    let uncertain_ns = diff["uncertain_ns"].as_u64().expect("a time");
    assert!(uncertain_ns > 1_000_000, "{uncertain_ns}");
    assert_eq!(diff["new"]["incomplete"], 1);
    let notes = diff["notes"].to_string();
    assert!(
        notes.contains("Records are missing in 1 trace of B: changes are ± "),
        "{notes}"
    );
}

#[test]
fn a_trace_does_not_differ_from_itself() {
    let diff = json("hold_100ms.1.ft hold_100ms.1.ft");
    for list in ["path", "stalls", "waits", "findings"] {
        for row in diff[list].as_array().expect("rows") {
            assert_eq!(row["delta_ns"], 0, "{row}");
        }
    }
}

#[test]
fn a_comparison_is_told_word_for_word() {
    for (name, options, traces) in [
        ("hold.txt", "", HOLD),
        ("hold.md", "--format markdown", HOLD),
        ("hold.html", "--format html", HOLD),
        ("threads.txt", "-v", "hold_100ms.1.ft five_threads.ft"),
        ("slow.txt", "", "slow_20ms.ft lossy_30ms.ft"),
    ] {
        let found = printed(&format!("{options} {traces}"));
        if name.ends_with(".txt") {
            let wide = found.lines().find(|line| line.chars().count() > 100);
            assert_eq!(wide, None);
        }
        let path = folder().join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, found).expect("it can be written");
            continue;
        }
        let expected = fs::read_to_string(&path).expect("UPDATE_GOLDEN=1 writes it");
        assert_eq!(found, expected, "{name}; UPDATE_GOLDEN=1 takes it over");
    }
}

#[test]
fn assertions_are_over_the_change_and_ci_can_read_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let junit = folder.path().join("out.xml");
    let asserts = "--assert wall.share<=0.05 --assert wall.delta_ns>0";
    let output = diff(&format!("{asserts} --junit {} {HOLD}", junit.display()));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(errors.contains("is false: wall.share<=0.05"), "{errors}");
    let xml = fs::read_to_string(&junit).expect("it was written");
    assert!(
        xml.contains("tests=\"2\" failures=\"1\" errors=\"0\""),
        "{xml}"
    );
    // One run on a side has no interval.
    let output = diff("--assert wall.low_ns>0 slow_20ms.ft slow_30ms.ft");
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn what_is_missing_is_said_with_what_to_type() {
    for (arguments, says) in [
        ("a.ft", "nothing to compare a.ft with"),
        (
            "a.ft b.ft c.ft",
            "Put -- between them: forktrace diff A1 A2 -- B1 B2",
        ),
        ("a.ft -- b.ft -v", "give options before the traces"),
        ("-o x.pdf slow_20ms.ft slow_30ms.ft", ".txt .json .md .html"),
        ("--assert wall.delta>0 a.ft b.ft", "wall"),
    ] {
        let output = diff(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{arguments}");
        assert!(errors.contains(says), "{arguments}: {errors}");
    }
}
