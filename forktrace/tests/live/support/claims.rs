//! Settles claims, also altered ones.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use super::{forktrace, skip};

/// Claims that compare rates or costs: other work on the machine spreads these, and
/// then they may lie between both verdicts.
const BY_RATE: [&str; 3] = ["pool-amortises", "processes-for-io", "thread-per-fd"];

/// Settles a built-in claim with changes, each an arm, what to replace after its heading
/// for the first time, and by what; the verdict must be as expected.
///
/// On a busy machine a control can miss its mark, and rates can lie between both
/// verdicts: then there must be no verdict.
#[track_caller]
pub(crate) fn check_altered(
    test: &str,
    claim: &str,
    changes: &[(&str, &str, &str)],
    expected: &str,
) {
    let file = format!("{claim}.toml");
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("claims")
        .join(&file);
    let mut text = fs::read_to_string(built_in).expect("the claim's file");
    for (arm, from, to) in changes {
        let heading = format!("[arms.{arm}]");
        let at = text.find(&heading).expect("the arm") + heading.len();
        let at = at + text[at..].find(from).expect("what to change");
        text.replace_range(at..at + from.len(), to);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let altered = folder.path().join(&file);
    fs::write(&altered, text).expect("the altered claim");
    let output = Command::new(forktrace())
        .args(["claims", "run", "--quick", "--format", "json"])
        .arg(&altered)
        .output()
        .expect("forktrace runs");
    let outcome: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let settled = &outcome["claims"][0];
    assert!(settled["error"].is_null(), "{settled:#}");
    let verdict = settled["verdict"].as_str().expect("a verdict");
    if verdict == "not_testable" {
        return skip(test, settled["reason"].as_str().unwrap_or_default());
    }
    let sound = settled["control"]["holds"] == true && settled["audit"]["complete"] == true;
    if sound && BY_RATE.contains(&claim) && verdict == "inconclusive" {
        let reason = settled["reason"].as_str().unwrap_or_default();
        skip(test, &format!("the machine is too busy: {reason}"));
    } else if sound {
        assert_eq!(verdict, expected, "{settled:#}");
    } else {
        assert_eq!(verdict, "inconclusive", "{settled:#}");
        skip(test, "the machine is too busy: the control missed its mark");
    }
}
