//! Settles claims, also altered ones.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use super::{forktrace, skip};

/// How often a claim is tried that comes out inconclusive.
const TRIES: u32 = 4;

/// A built-in claim's file.
pub(crate) fn file_of(id: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("claims/{id}.toml"));
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Settles a claim file: the verdict must be as expected.
///
/// Whoever else uses the machine can make controls miss their marks and spread rates
/// until they lie between both verdicts. So a claim that is inconclusive is tried again,
/// and left alone when it stays so; the other verdict is wrong at once.
#[track_caller]
pub(crate) fn check_verdict(test: &str, id: &str, text: &str, expected: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(format!("{id}.toml"));
    fs::write(&path, text).expect("the claim is written");
    let mut reason = String::new();
    for _ in 0..TRIES {
        let output = Command::new(forktrace())
            .args(["claims", "run", "--quick", "--format", "json"])
            .arg(&path)
            // Under sudo some claims would run as another user, who may do less.
            .env_remove("SUDO_UID")
            .output()
            .expect("forktrace runs");
        let outcome: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
        let settled = &outcome["claims"][0];
        reason = settled["reason"].as_str().unwrap_or_default().to_owned();
        // A workload that finds no CPU for half a minute says nothing either.
        let too_slow = reason.contains("did not end within");
        assert!(too_slow || settled["error"].is_null(), "{settled:#}");
        match settled["verdict"].as_str() {
            Some(verdict) if verdict == expected => return,
            Some("not_testable") => return skip(test, &reason),
            Some("inconclusive") => {}
            _ => panic!("{id} should be {expected}: {settled:#}"),
        }
    }
    skip(
        test,
        &format!("the machine is too busy: {id} was inconclusive {TRIES} times. {reason}"),
    );
}

/// Settles a built-in claim with changes, each an arm, what to replace after its heading
/// for the first time, and by what; the verdict must be as expected.
#[track_caller]
pub(crate) fn check_altered(
    test: &str,
    claim: &str,
    changes: &[(&str, &str, &str)],
    expected: &str,
) {
    let mut text = file_of(claim);
    for (arm, from, to) in changes {
        let heading = format!("[arms.{arm}]");
        let at = text.find(&heading).expect("the arm") + heading.len();
        let at = at + text[at..].find(from).expect("what to change");
        text.replace_range(at..at + from.len(), to);
    }
    check_verdict(test, claim, &text, expected);
}
