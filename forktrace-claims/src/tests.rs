//! Claim files with mistakes, and the table of verdicts.

use serde_json::{Map, Value, json};

use super::{
    file::{Claim, ClaimError, Origin},
    machine::Machine,
    measured::{Measured, RunAudit},
    verdict::{Settled, Verdict, decide},
};
use forktrace_core::model::Model;

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
        picture: None,
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
            Verdict::Error,
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
    assert_eq!(settled.verdict, Verdict::Error);
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

/// A picture for the claim.
fn with_picture(picture: &str) -> String {
    good() + "\n[picture]\n" + picture
}

const MOMENT: &str = r#"arm = "first"
moment = 'task("waiter").waits[0].witness'
tasks = "tasks"
shows = "{moment.name} runs on CPU {moment.cpu}"
"#;

#[test]
fn mistakes_in_pictures_are_placed() {
    let bars = "shows = \"them\"\n[picture.bars]\n\"it\" = \"first.blocked_ns\"\n";
    for text in [MOMENT, bars] {
        if let Err(error) = parse(&with_picture(text)) {
            panic!("{error}");
        }
    }
    for (text, from, to, line, words) in [
        (MOMENT, "\"first\"", "\"frist\"", 38, "no arm frist"),
        (MOMENT, "\"first\"", "\"other\"", 38, "evidence is marks"),
        (MOMENT, "waits[0].witness", "waits[0]", 39, "no start_ns"),
        (MOMENT, "\"tasks\"", "\"groups\"", 40, "no list of tasks"),
        (MOMENT, "moment.cpu", "moment.cqu", 41, "has no cqu"),
        (
            MOMENT,
            "shows",
            "params = { count = 1 }\nshows",
            41,
            "not run with this",
        ),
        (MOMENT, "shows", "context = 0.5\nshows", 41, "use 1 to 20"),
        (
            MOMENT,
            "arm = \"first\"\n",
            "",
            40,
            "arm, moment and tasks, or else bars",
        ),
        (
            bars,
            "first.blocked_ns",
            "first.blokked_ns",
            40,
            "it has blocked_ns",
        ),
    ] {
        let text = with_picture(&text.replacen(from, to, 1));
        let error = parse(&text).expect_err(to);
        assert!(error.message.contains(words), "{to}: {error}");
        assert_eq!(error.line, line, "{to}: {error}");
    }
}

#[test]
fn a_picture_of_figures_has_their_spread() {
    let text = with_picture(
        "shows = \"twice, {twice_ns}\"\n[picture.bars]\nfirst = \"first.blocked_ns\"\n\
         twice = \"twice_ns\"\nabsent = \"other.points[7].blocked_ns\"\n",
    );
    let claim = parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let runs = [
        run(0, json!(60), true),
        run(0, json!(70), true),
        run(1, json!(9), true),
    ];
    let picture = decide(&claim, &runs, &machine())
        .picture
        .expect("a picture");
    let bars: Vec<_> = picture
        .bars
        .iter()
        .map(|bar| (&*bar.label, bar.low, bar.value, bar.high, &*bar.text))
        .collect();
    assert_eq!(
        bars[0],
        ("first", 60.0, 65.0, 70.0, "65 ns (60 ns to 70 ns)")
    );
    assert_eq!((bars[1].0, bars[1].2, bars.len()), ("twice", 130.0, 2));
    assert!(
        picture.shows.starts_with("Twice, 130 ns"),
        "{}",
        picture.shows
    );
}

#[test]
fn a_run_without_the_moment_has_no_picture() {
    let claim = parse(&with_picture(MOMENT)).unwrap_or_else(|error| panic!("{error}"));
    let plan = claim.picture.expect("a plan");
    assert!(plan.is_of(&claim.arms[0], &Map::new()));
    assert!(!plan.is_of(&claim.arms[1], &Map::new()));
    let witness = |witness: Value| {
        let report =
            json!({"tasks": [{"name": "waiter", "serial": 1, "waits": [{"witness": witness}]}]});
        let variables = report.as_object().expect("variables").clone();
        let picture = plan.of_run("run 1".to_owned(), &variables, &Model::default());
        picture.and_then(|picture| picture.missing)
    };
    let missing = witness(Value::Null);
    assert_eq!(missing.as_deref(), Some("run 1 shows no such moment"));
    let missing = witness(json!({"name": "x", "cpu": 0, "start_ns": 5, "end_ns": 9}));
    assert_eq!(
        missing.as_deref(),
        Some("run 1 shows none of these tasks then")
    );
}

/// The second arm may be left out.
fn optional() -> String {
    good()
        .replace(
            "evidence = \"marks\"\n",
            "evidence = \"marks\"\noptional = true\n",
        )
        .replace(
            "{other.points[0].blocked_ns}",
            "{other.points.map(p, p.blocked_ns)}",
        )
}

#[test]
fn a_claim_is_decided_without_an_optional_arm() {
    let claim = parse(&optional()).unwrap_or_else(|error| panic!("{error}"));
    // This machine has no Python.
    let settled = decide(&claim, &[run(0, json!(60), true)], &machine());
    assert_eq!(settled.verdict, Verdict::Supported, "{}", settled.reason);
    assert_eq!(
        settled.reason,
        "Twice is 120 ns. The arm other was left out: there is no python3 in PATH."
    );
    assert_eq!(settled.left_out.len(), 1);
    let control = settled.control.expect("a control").text;
    assert_eq!(control, "Others were blocked for not measured.");
}

#[test]
fn only_what_can_be_missing_is_optional() {
    // Its measures are reached by its points: there may be none.
    let without_points = optional().replace(
        "other.points.all(p, p.blocked_ns.low > 5)",
        "other.count == 1",
    );
    let error = parse(&without_points).expect_err("no points");
    assert!(error.message.contains("other has no count"), "{error}");
    let native = good().replace("\"sleepers\"]\n", "\"sleepers\"]\noptional = true\n");
    let error = parse(&native).expect_err("nothing to miss");
    assert!(
        error.message.contains("nothing that could be missing"),
        "{error}"
    );
}

#[test]
fn the_audit_says_why_runs_were_repeated() {
    let mut repeated = run(0, json!(60), true);
    repeated.audit.repeated = vec!["a wakeup was lost".to_owned(); 2];
    let audit = settled(&[repeated, run(1, json!(9), true)])
        .audit
        .expect("an audit");
    assert_eq!(audit.runs_repeated, 2);
    assert_eq!(audit.repeated_because, ["arms.first: a wakeup was lost"]);
}

#[test]
fn what_is_shown_of_a_claim_is_broken_into_lines_and_not_by_escapes() {
    use crate::render::{ClaimsFormat, show};
    use forktrace_core::render::Style;

    let text = good().replace(
        "when = \"twice_ns.value > 100\"",
        "when = \"\"\"twice_ns.value\n    > 100\"\"\"",
    );
    let text = text.replace("method = \"", "method = \"First.\\nThen: ");
    let claim = parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let shown = show(&claim, ClaimsFormat::Text, &Style::PLAIN);
    assert!(!shown.contains("\\n"), "{shown}");
    assert!(shown.contains("First. Then: "), "{shown}");
}
