//! Settles claims, also altered ones.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use super::{REAL_CPU, forktrace, lacks, skip};

/// How often a claim that stays open is settled again.
const TRIES: u32 = 4;

/// The file of a built-in claim.
pub(crate) fn built_in(claim: &str) -> String {
    let file = format!("../forktrace-claims/claims/{claim}.toml");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Settles a claim; the verdict must be as expected.
///
/// On a busy machine a control can miss its mark, and figures can lie between both
/// verdicts. Then there must be no verdict, and it is settled again; one that stays open
/// is skipped. A wrong verdict never is. An emulated CPU makes other things dear than
/// a real one.
#[track_caller]
pub(crate) fn check_verdict(claim: &str, text: &str, expected: &str) {
    let test = std::thread::current().name().unwrap_or(claim).to_owned();
    if lacks(&test, &[REAL_CPU]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(format!("{claim}.toml"));
    fs::write(&path, text).expect("the claim is written");
    let mut reason = String::new();
    for _ in 0..TRIES {
        let output = Command::new(forktrace())
            .args(["claims", "run", "--quick", "--format", "json"])
            .arg(&path)
            .env_remove("SUDO_UID")
            .output()
            .expect("forktrace runs");
        let outcome: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
        let settled = &outcome["claims"][0];
        let verdict = settled["verdict"].as_str().expect("a verdict");
        settled["reason"]
            .as_str()
            .unwrap_or_default()
            .clone_into(&mut reason);
        // A workload that finds no CPU for half a minute says nothing either.
        let too_slow = reason.contains("did not end within");
        assert!(too_slow || settled["error"].is_null(), "{settled:#}");
        if verdict == "not_testable" {
            return skip(&test, &reason);
        }
        if verdict == expected {
            return;
        }
        assert_eq!(verdict, "inconclusive", "{settled:#}");
    }
    skip(
        &test,
        &format!("{claim} was inconclusive {TRIES} times: {reason}"),
    );
}

/// Settles a built-in claim with changes, each an arm, what to replace after its heading
/// for the first time, and by what; the verdict must be as expected.
#[track_caller]
pub(crate) fn check_altered(claim: &str, changes: &[(&str, &str, &str)], expected: &str) {
    let mut text = built_in(claim);
    for (arm, from, to) in changes {
        let heading = format!("[arms.{arm}]");
        let at = text.find(&heading).expect("the arm") + heading.len();
        let at = at + text[at..].find(from).expect("what to change");
        text.replace_range(at..at + from.len(), to);
    }
    check_verdict(claim, &text, expected);
}
