//! Claim files with mistakes, and the table of verdicts.

use serde_json::{Map, Value, json};

use super::{
    file::{Claim, ClaimError, Origin},
    machine::Machine,
    run::{Measured, RunAudit},
    verdict::{Settled, Verdict, decide},
};

const GOOD: &str = r#"id = "a-claim"
statement = "Something is so."
method = "Look."
holds = "size(tasks) > 0"

[params]
count = { quick = [1, 2], full = [1, 2, 4] }

[arms.first]
command = ["{forktrace}", "workload", "sleepers"]

[arms.other]
command = ["{python}", "x.py", "{count}"]
evidence = "marks"
holds = "size(marks) == 1"

[measures]
blocked_ns = "sum(marks.map(m, m.value))"

[figures]
twice_ns = "first.blocked_ns.value * 2"

[control]
when = "other.points.all(p, p.blocked_ns.low > 5)"
because = "others were blocked for {other.points[0].blocked_ns}"

[supported]
when = "twice_ns.value > 100"
because = "twice is {twice_ns}"

[refuted]
when = "twice_ns.value < 50"
because = """
it is {twice_ns},
no more than {first.blocked_ns.max}"""
"#;

fn origin() -> Origin {
    Origin {
        name: "a.toml".to_owned(),
        folder: None,
    }
}

fn parse(text: &str) -> Result<Claim, ClaimError> {
    Claim::parse(text, origin())
}

/// `size(tasks)` is no part of what an arm with marks sees.
fn good() -> String {
    GOOD.replace("size(tasks) > 0", "workload.duration_ns > 0")
}

#[test]
fn a_claim_file_says_what_to_run() {
    let claim = parse(&good()).unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<_> = claim.arms.iter().map(|arm| arm.name.as_str()).collect();
    assert_eq!(names, ["first", "other"], "in the order of the file");
    assert!(
        claim.arms[0].params[0].is_empty(),
        "its command mentions none"
    );
    assert_eq!(
        claim.arms[1].params[1][0].values,
        [json!(1), json!(2), json!(4)]
    );
    assert_eq!(claim.arms[0].runs, [3, 11]);
    assert_eq!(claim.arms[1].holds.len(), 2);
}

#[test]
fn mistakes_are_placed() {
    let mut wrong = Vec::new();
    for (from, to, line, words) in [
        ("method = \"Look.\"", "methd = \"Look.\"", 3, "methd"),
        ("id = \"a-claim\"", "id = \"A claim\"", 1, "a-z"),
        ("because = \"twice is {twice_ns}\"\n", "", 27, "because"),
        (
            "sum(marks",
            "summ(marks",
            18,
            "measures.blocked_ns, column 5: there is no function summ",
        ),
        ("m.value))", "m.value)", 18, "measures.blocked_ns"),
        (
            "first.blocked_ns.value",
            "first.blokked_ns.value",
            21,
            "it has blocked_ns, points",
        ),
        (
            "twice_ns.value > 100",
            "twice_ns > 100 + first",
            28,
            "can't be computed with",
        ),
        (
            "twice_ns.value > 100",
            "twice_ns.value",
            28,
            "neither true nor false",
        ),
        (
            "other.points.all",
            "other.blocked_ns.all",
            24,
            "other has no blocked_ns",
        ),
        (
            "{first.blocked_ns.max}",
            "{first.blocked_ns.most}",
            35,
            "has no most",
        ),
        (
            "{first.blocked_ns.max}",
            "{first.blocked_ns.max",
            35,
            "counterpart",
        ),
        (
            "\"{count}\"",
            "\"{cuont}\"",
            13,
            "nothing is called {cuont}",
        ),
        ("[1, 2, 4]", "[]", 7, "params.count"),
        ("evidence = \"marks\"", "evidence = \"words\"", 14, "words"),
        ("[arms.other]", "[arms.s]", 12, "has a meaning"),
        (
            "size(marks) == 1",
            "size(tasks) == 1",
            15,
            "there is no tasks",
        ),
        (
            "holds = \"workload.duration_ns > 0\"\n",
            "",
            8,
            "no `holds`",
        ),
        ("[figures]", "[figures", 20, ""),
    ] {
        let text = good();
        assert!(text.contains(from), "{from}");
        let Err(error) = parse(&text.replacen(from, to, 1)) else {
            wrong.push(format!("{to}: no error"));
            continue;
        };
        if !error.message.contains(words) || (error.file.as_str(), error.line) != ("a.toml", line) {
            wrong.push(format!("{to}: not in line {line} with {words:?}: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn machine() -> Machine {
    Machine {
        cpus: 2,
        cpu_model: None,
        kernel: "6.1".to_owned(),
        arch: "x86_64".to_owned(),
        memory_bytes: None,
        root: true,
        cgroup2: None,
        python: None,
        forktrace: "0".to_owned(),
    }
}

/// A run that measured this.
fn run(arm: usize, blocked_ns: Value, complete: bool) -> Measured {
    let mut params = Map::new();
    if arm == 1 {
        params.insert("count".to_owned(), json!(1));
    }
    Measured {
        arm,
        params,
        measures: [("blocked_ns".to_owned(), blocked_ns)]
            .into_iter()
            .collect(),
        audit: RunAudit {
            complete,
            carries: complete,
            weaknesses: vec!["something is lost".to_owned()],
            ..RunAudit::default()
        },
        trace: None,
    }
}

fn settled(runs: &[Measured]) -> Settled {
    let claim = parse(&good()).unwrap_or_else(|error| panic!("{error}"));
    decide(&claim, runs, &machine())
}

#[test]
fn the_table_of_verdicts() {
    let control = |ns: u64| run(1, json!(ns), true);
    for (runs, verdict, words) in [
        (
            vec![run(0, json!(60), true), control(9)],
            Verdict::Supported,
            "Twice is 120 ns.",
        ),
        (
            vec![run(0, json!(20), true), control(9)],
            Verdict::Refuted,
            "It is 40 ns, no more than 20 ns.",
        ),
        (
            vec![run(0, json!(40), true), control(9)],
            Verdict::Inconclusive,
            "twice_ns.value = 80",
        ),
        // The control failed.
        (
            vec![run(0, json!(60), true), control(5)],
            Verdict::Inconclusive,
            "The control",
        ),
        // Records were lost where a figure comes from …
        (
            vec![run(0, json!(60), false), control(9)],
            Verdict::Inconclusive,
            "something is lost",
        ),
        (
            vec![
                run(0, json!(60), true),
                run(0, json!(60), false),
                control(9),
            ],
            Verdict::Inconclusive,
            "something is lost",
        ),
        // … and where none does.
        (
            vec![run(0, json!(60), true), run(1, json!(9), false)],
            Verdict::Supported,
            "120",
        ),
        // A figure without a value.
        (
            vec![run(0, json!(null), true), control(9)],
            Verdict::Inconclusive,
            "figures.twice_ns",
        ),
    ] {
        let settled = settled(&runs);
        assert_eq!(settled.verdict, verdict, "{}", settled.reason);
        assert!(
            settled.reason.contains(words),
            "{words}: {}",
            settled.reason
        );
    }
}

#[test]
fn a_figure_without_a_value_names_its_line() {
    let settled = settled(&[run(0, json!(null), true), run(1, json!(9), true)]);
    assert_eq!(settled.error.map(|error| error.line), Some(21));
}

#[test]
fn predicates_that_overlap_are_an_error() {
    let text = good().replace("twice_ns.value < 50", "twice_ns.value < 500");
    let claim = parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let settled = decide(
        &claim,
        &[run(0, json!(60), true), run(1, json!(9), true)],
        &machine(),
    );
    assert_eq!(settled.verdict, Verdict::Inconclusive);
    let error = settled.error.expect("an error");
    assert_eq!(error.line, 32);
    assert!(error.message.contains("overlap"), "{}", error.message);
}

#[test]
fn the_interval_of_a_figure_covers_its_value_and_is_the_same_each_time() {
    let runs: Vec<_> = (0..11)
        .map(|i| run(0, json!(60 + i), true))
        .chain([run(1, json!(9), true)])
        .collect();
    let (first, second) = (settled(&runs), settled(&runs));
    assert_eq!(first.figures, second.figures);
    let figure = &first.figures["twice_ns"];
    assert_eq!(figure["value"], json!(130));
    let (low, high) = (figure["low"].as_f64(), figure["high"].as_f64());
    assert!(Some(120.0) <= low && low < Some(130.0), "{figure}");
    assert!(Some(130.0) < high && high <= Some(140.0), "{figure}");
}
