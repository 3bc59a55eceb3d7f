//! Assertions, marks and claims, on the running kernel.

use std::fs;

use serde_json::Value;

use crate::{
    schema_check,
    support::{Finished, Forktrace, REAL_CPU, lacks, run, unspoilt},
};

#[test]
fn an_assertion_decides_the_exit_status() {
    unspoilt(|| {
        let asserting = |expression: &str| {
            run()
                .args(["-q", "--assert", expression, "--", "sh", "-c", "exit 7"])
                .finish()
        };
        let holds = asserting("size(tasks) == 1 && workload.exit_code == 7");
        assert_eq!((holds.status.code(), &*holds.stderr), (Some(7), ""));

        let fails = asserting("groups[0].most_live > 1 * ms");
        assert_eq!(fails.status.code(), Some(3), "{}", fails.stderr);
        for words in [
            "is false: groups[0].most_live > 1 * ms",
            "groups[0].most_live = 1\n",
        ] {
            assert!(fails.stderr.contains(words), "{}", fails.stderr);
        }
    });
}

#[test]
fn an_assertion_that_is_wrong_is_found_before_the_workload_runs() {
    unspoilt(|| {
        for (wrong, words) in [
            (
                "groups[0].mist_live > 1",
                "column 10: groups[0] has no mist_live",
            ),
            ("groups[0].most_live >", "column"),
            ("groups[0].most_live", "neither true nor false"),
        ] {
            let finished = run()
                .args(["-q", "--assert", wrong, "--", "echo", "it ran"])
                .finish();
            assert_eq!(finished.status.code(), Some(125), "{}", finished.stderr);
            assert!(finished.stderr.contains(words), "{}", finished.stderr);
            assert_eq!(finished.stdout, "", "the workload ran");
        }
        // A figure that only the run can show to be missing.
        let finished = run()
            .args(["-q", "--assert", "tasks[99].tid > 0", "--", "true"])
            .finish();
        assert_eq!(finished.status.code(), Some(125), "{}", finished.stderr);
    });
}

#[test]
fn a_saved_trace_can_be_held_to_assertions() {
    unspoilt(|| {
        let saving = run();
        let trace = saving.file("trace");
        let saved = saving
            .args(["-q", "--save"])
            .args([&trace])
            .args(["--", "true"])
            .finish();
        assert!(saved.status.success(), "{}", saved.stderr);
        for (expression, status) in [
            ("size(tasks) == 1", 0),
            ("size(tasks) == 2", 3),
            ("tusks", 125),
        ] {
            let finished = Forktrace::new("report")
                .args(["--assert", expression])
                .args([&trace])
                .finish();
            assert_eq!(finished.status.code(), Some(status), "{}", finished.stderr);
        }
    });
}

#[test]
fn marks_reach_the_report() {
    unspoilt(|| {
        let script = r#"
        for i in 1 2 3; do
            sh -c "echo '{\"name\": \"count\", \"value\": $i, \"t\": 99$i}' >&$FORKTRACE_MARKS_FD" &
        done
        wait
        echo nonsense >&$FORKTRACE_MARKS_FD
    "#;
        let finished = run().shell(script).finish();
        let json: Value =
            serde_json::from_slice(&fs::read(finished.file("report.json")).expect("a report"))
                .expect("JSON");
        assert_eq!(json["audit"]["complete"], true, "{}", json["audit"]);
        let marks = json["marks"].as_array().expect("marks");
        let mut values: Vec<_> = marks.iter().map(|mark| mark["value"].as_u64()).collect();
        values.sort_unstable();
        assert_eq!(values, [Some(1), Some(2), Some(3)]);
        assert!(marks.iter().all(|mark| mark["name"] == "count"));
        let weaknesses = json["audit"]["weaknesses"].as_array().expect("weaknesses");
        assert!(
            weaknesses
                .iter()
                .any(|w| w["kind"] == "marks_refused" && w["count"] == 1),
            "{weaknesses:?}"
        );
    });
}

#[test]
fn the_descriptor_for_marks_is_the_workloads_alone() {
    unspoilt(|| {
        // What forktrace has open besides is not for the workload.
        let finished = run()
            .shell("ls -l /proc/self/fd | grep -c memfd; test -n \"$FORKTRACE_MARKS_FD\"")
            .complete();
        assert_eq!(finished.stdout, "1\n");
    });
}

/// A claim about a shell script.
fn claim(script: &str, extra: &str) -> String {
    format!(
        r#"id = "mine"
statement = "A script says yes."
method = "Ask it."
runs = {{ quick = 1, full = 1 }}
limit_s = 120
holds = "size(tasks) > 0"
{extra}
[arms.script]
command = ["sh", "-c", '''{script}''']
[measures]
answer = "mark('answer')"
[control]
when = "script.answer.n == 1"
because = "it answered"
[supported]
when = "script.answer.value == 1"
because = "the answer was {{script.answer}}"
[refuted]
when = "script.answer.value == 0"
because = "the answer was {{script.answer}}"
"#
    )
}

/// Runs claim files, all in one go.
fn claims(files: &[&str]) -> (Finished, Vec<Value>) {
    let mut running = Forktrace::new("claims").args(["run", "--quick", "--format", "json"]);
    let mut paths = Vec::new();
    for (i, text) in files.iter().enumerate() {
        let path = running.file(&format!("claim-{i}.toml"));
        fs::write(&path, text).expect("a file");
        paths.push(path);
    }
    running = running.args(paths);
    let finished = running.finish();
    let json: Value = serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", finished.stdout, finished.stderr));
    let schema = include_str!("../../../docs/claims.schema.json");
    let schema: Value = serde_json::from_str(schema).expect("a schema");
    assert_eq!(schema_check::check(&schema, &json), Vec::<String>::new());
    let claims = json["claims"].as_array().expect("claims").clone();
    (finished, claims)
}

const YES: &str = r#"echo '{"name": "answer", "value": 1}' >&$FORKTRACE_MARKS_FD"#;

#[test]
fn a_claim_of_ones_own_is_settled() {
    unspoilt(|| {
        let no = YES.replace("\"value\": 1", "\"value\": 0");
        let maybe = YES.replace("\"value\": 1", "\"value\": 0.5");
        let impossible =
            "[[needs]]\nthat = 'machine.cpus > 100000'\nelse = 'there are {machine.cpus} CPUs'\n";
        let (finished, claims) = claims(&[
            &claim(YES, ""),
            &claim(&no, ""),
            &claim(&maybe, ""),
            &claim(YES, impossible),
        ]);
        let verdicts: Vec<_> = claims
            .iter()
            .filter_map(|claim| claim["verdict"].as_str())
            .collect();
        assert_eq!(
            verdicts,
            ["supported", "refuted", "inconclusive", "not_testable"]
        );
        assert_eq!(finished.status.code(), Some(1), "one is inconclusive");
        assert_eq!(claims[0]["reason"], "The answer was 1.");
        assert_eq!(claims[0]["control"]["holds"], true);
        assert_eq!(claims[0]["audit"]["complete"], true);
    });
}

#[test]
fn a_claim_shows_the_moment_that_it_is_about() {
    unspoilt(|| {
        // A shell that waits for a child: the moment is its longest block.
        let picture = r#"
[picture]
arm = "script"
moment = "tasks[0].longest_blocks[0].chain.map(l, {'start_ns': l.start_ns, 'end_ns': l.end_ns})[0]"
context = 1
tasks = "tasks"
shows = "{tasks[0].name} waits"
"#;
        let script = format!("sleep 0.05; {YES}");
        let (_, claims) = claims(&[&(claim(&script, "") + picture)]);
        let picture = &claims[0]["picture"];
        assert_eq!(picture["shows"], "Sh waits.", "{}", claims[0]);
        let rows = picture["timeline"]["rows"].as_array().expect("rows");
        let [shell, sleep] = &rows[..] else {
            panic!("{rows:?}")
        };
        assert_eq!(shell["slices"], "b".repeat(72), "it is blocked throughout");
        let slept = sleep["slices"].as_str().expect("slices");
        assert!(slept.contains('b'), "{sleep}");
    });
}

#[test]
fn a_claim_about_the_kernel_needs_no_python() {
    // It counts to ten million many times.
    if lacks("a_claim_about_the_kernel_needs_no_python", &[REAL_CPU]) {
        return;
    }
    unspoilt(|| {
        let arguments = ["run", "--quick", "--format", "json", "shared-counter"];
        let mut running = Forktrace::new("claims").args(arguments);
        running.command().env("PATH", "/nonexistent");
        let finished = running.finish();
        let json: Value = serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", finished.stdout, finished.stderr));
        let claim = &json["claims"][0];
        assert!(claim["error"].is_null(), "{claim}");
        assert_eq!(claim["left_out"][0]["arm"], "python", "{claim}");
        let reason = claim["reason"].as_str().expect("a reason");
        assert!(
            reason.contains("python was left out: there is no python3"),
            "{reason}"
        );
        // On a busy machine two tasks may never meet at the counter.
        assert_ne!(claim["verdict"], "not_testable", "{claim}");
        assert_ne!(claim["verdict"], "refuted", "{claim}");
    });
}

#[test]
fn what_goes_wrong_with_a_workload_is_placed_and_harms_no_other_claim() {
    unspoilt(|| {
        // No other test's.
        let own = std::process::id();
        let (first, second) = (format!("1{own:08}.1"), format!("1{own:08}.2"));
        let absent = claim("", "").replace("\"sh\"", "\"/nonexistent/program\"");
        let files = [
            absent,
            claim("echo oh no >&2; exit 3", ""),
            claim("kill -SEGV $$", ""),
            // It leaves a child behind that must be killed too.
            claim(&format!("sleep {first} & sleep {second}"), "")
                .replace("limit_s = 120", "limit_s = 0.5"),
            claim("true", ""),
            claim(YES, "").replace("size(tasks) > 0", "size(tasks) > 7"),
            claim(YES, "nonsense = 1"),
            claim(YES, ""),
        ];
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let (finished, claims) = claims(&files);
        assert_eq!(finished.status.code(), Some(125), "{}", finished.stderr);
        for (i, (line, words)) in [
            (9, "/nonexistent/program"),
            (9, "exit status 3; it said: oh no"),
            (9, "SIGSEGV ended it"),
            (9, "did not end within 0.5 s"),
            (11, "none of the marks is named \"answer\""),
            (6, "size(tasks) = 1"),
            (7, "nonsense"),
        ]
        .iter()
        .enumerate()
        {
            let error = &claims[i]["error"];
            let message = error["message"].as_str().unwrap_or("");
            assert!(message.contains(words), "{words}: {}", claims[i]);
            assert_eq!(error["line"], *line, "{message}");
            assert!(
                error["file"]
                    .as_str()
                    .is_some_and(|file| file.ends_with(&format!("claim-{i}.toml")))
            );
            assert_eq!(claims[i]["verdict"], "error");
        }
        assert_eq!(claims[7]["verdict"], "supported");
        // The hanging workload is gone, with what it started.
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            let hangs = |seconds: &str| line == format!("sleep\0{seconds}\0");
            assert!(!hangs(&first) && !hangs(&second));
        }
    });
}

#[test]
fn kept_traces_carry_the_verdict() {
    unspoilt(|| {
        let settling = Forktrace::new("claims");
        let folder = settling.file("traces");
        let file = settling.file("mine.toml");
        fs::write(&file, claim(YES, "")).expect("a file");
        let settled = settling
            .args(["run", "--quick", "--save"])
            .args([&folder, &file])
            .finish();
        assert!(
            settled.status.success(),
            "{}{}",
            settled.stdout,
            settled.stderr
        );
        assert!(
            settled.stdout.contains("mine: SUPPORTED"),
            "{}",
            settled.stdout
        );
        let report = Forktrace::new("report")
            .args(["--assert", "mark('answer') == 1"])
            .args([folder.join("mine.script.1.ft")])
            .finish();
        assert_eq!(report.status.code(), Some(0), "{}", report.stderr);
    });
}

#[test]
fn a_claim_that_is_not_there_is_an_error() {
    unspoilt(|| {
        for arguments in [
            ["run", "no-such-claim"],
            ["show", "no-such-claim"],
            ["run", "./absent.toml"],
        ] {
            let finished = Forktrace::new("claims").args(arguments).finish();
            assert_eq!(finished.status.code(), Some(125), "{}", finished.stderr);
        }
        let listed = Forktrace::new("claims").args(["list"]).finish();
        assert!(
            listed.stdout.contains("select-blocks-siblings"),
            "{}",
            listed.stdout
        );
    });
}
