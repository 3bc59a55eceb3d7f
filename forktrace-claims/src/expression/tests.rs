use proptest::prelude::*;
use serde_json::{Value, json};

use super::{functions::KNOWN, number::METHODS, *};

fn figures(json: &Value) -> Figures {
    Figures::new(json.as_object().expect("an object"))
}

/// A report in little.
fn sample() -> Value {
    json!({
        "groups": [
            { "kind": "tree", "lifetime_ns": 100, "all_blocked": { "longest_ns": 61_000_000u64 },
              "running_at_once": [{"count": 0, "ns": 5}, {"count": 1, "ns": 20}, {"count": 2, "ns": 75}] },
        ],
        "tasks": [
            { "tid": 1, "name": "main", "longest_block_ns": 10, "end_ns": null },
            { "tid": 2, "name": "worker", "longest_block_ns": 500, "end_ns": 7 },
            { "tid": 3, "name": "worker", "longest_block_ns": 30, "end_ns": 8 },
        ],
        "marks": [
            { "name": "requests", "value": 12.5 },
            { "name": "twice", "value": 1 },
            { "name": "twice", "value": 2 },
        ],
    })
}

fn value(source: &str) -> Result<Value, String> {
    let compiled = Expression::compile(source, &Shape::Any).map_err(|error| error.to_string())?;
    compiled
        .evaluate(&figures(&sample()))
        .map_err(|failure| failure.to_string())
}

fn used(source: &str) -> Vec<String> {
    let compiled = Expression::compile(source, &Shape::Any).expect("it compiles");
    compiled.used(&figures(&sample()))
}

#[test]
fn all_numbers_are_of_one_kind() {
    for (source, expected) in [
        ("groups[0].lifetime_ns / 3 * 3", json!(100)),
        ("7 / 2", json!(3.5)),
        ("size(tasks) > 2", json!(true)),
        ("tasks.size() * 2.5", json!(7.5)),
        ("size(tasks) == 3 && size('abc') == 3", json!(true)),
        ("tasks[size(tasks) - 1].tid", json!(3)),
        ("[10, 20, 30][2 - 1]", json!(20)),
        ("7 % 4", json!(3)),
        ("50 * ms + 2 * us + 3 * s", json!(3_050_002_000u64)),
        ("-groups[0].lifetime_ns", json!(-100)),
        ("3 in [1, 2, 3]", json!(true)),
        ("tasks.exists_one(t, t.tid == 2)", json!(true)),
        ("groups[0]['lifetime_ns'] == 100", json!(true)),
        ("tasks[0].end_ns == null ? 1 : 2", json!(1)),
    ] {
        assert_eq!(value(source), Ok(expected), "{source}");
    }
}

#[test]
fn the_functions_do_what_they_say() {
    for (source, expected) in [
        ("sum(tasks.map(t, t.tid))", json!(6)),
        ("sum([])", json!(0)),
        ("mean([1, 2, 6])", json!(3)),
        ("median([5, 1, 3])", json!(3)),
        ("median([4, 1])", json!(2.5)),
        ("quantile([0, 10], 0.25)", json!(2.5)),
        ("min(3, 1, 2)", json!(1)),
        ("max([3, 1, 2])", json!(3)),
        ("abs(-2)", json!(2)),
        ("at_least(groups[0].running_at_once, 1)", json!(95)),
        ("at_least(groups[0].running_at_once, 3)", json!(0)),
        ("mark('requests')", json!(12.5)),
        ("task('main').tid", json!(1)),
        ("string(4121)", json!("4121")),
        ("'abc'.contains('b') && 'abc'.startsWith('a')", json!(true)),
    ] {
        assert_eq!(value(source), Ok(expected), "{source}");
    }
    for (source, error) in [
        ("median([])", "the list is empty"),
        ("mark('twice')", "2 of the marks are named \"twice\""),
        ("mark('none')", "none of the marks is named \"none\""),
        ("task('worker')", "2 of the tasks"),
        ("quantile([1], 2)", "a number from 0 to 1"),
        ("tasks[9].tid", "ut of bounds"),
        ("tasks[0].end_ns + 1", "null"),
    ] {
        let found = value(source).expect_err(source);
        assert!(
            found.to_lowercase().contains(&error.to_lowercase()),
            "{source}: {found}"
        );
    }
}

/// Every function that the check knows is really there.
#[test]
fn every_known_function_can_be_called() {
    for known in KNOWN {
        let arguments = vec!["[1]"; known.arguments.0];
        let call = match METHODS.contains(&known.name) {
            true => format!("'a'.{}('b')", known.name),
            false => format!("{}({})", known.name, arguments.join(", ")),
        };
        let error = match value(&call) {
            Ok(_) => continue,
            Err(error) => error,
        };
        assert!(!error.contains("Undeclared"), "{}: {error}", known.name);
    }
}

#[test]
fn names_that_are_not_there_are_found_before_anything_runs() {
    let report = Shape::of_report();
    for good in [
        "groups[0].all_blocked.longest_ns <= 50 * ms",
        "tasks.all(t, t.longest_block_ns < 1 * s)",
        "tasks.filter(t, t.name == 'x').map(t, t.waits)[0][0].ns > 0",
        "marks.exists(m, m.name == 'x' && m.anything_else == 3)",
        "polls == null || size(polls) == 0",
        "task('x').waits[0].witness.tid == 3",
        "has(workload.argv)",
        "groups[0].spans.map(x, x.all_blocked_ns / x.ns)[0] < 0.1",
    ] {
        let compiled = Expression::compile(good, &report);
        assert!(compiled.is_ok_and(|e| e.shape().can_be_true()), "{good}");
    }
    for (bad, line, column, words) in [
        (
            "groups[0].al_blocked.ns > 1",
            1,
            10,
            "groups[0] has no al_blocked; it has all_blocked",
        ),
        (
            "true &&\n  tasks.all(t, t.tidd > 1)",
            2,
            17,
            "t has no tidd",
        ),
        ("taks[0].tid > 1", 1, 1, "there is no taks; there are audit"),
        ("tasks[0].tid.x > 1", 1, 13, "it has no x"),
        ("contains('a', 'b')", 1, 9, "text.contains(part)"),
        ("maximum(tasks) > 1", 1, 8, "there is no function maximum"),
        ("median(1, 2) > 1", 1, 7, "median takes 1"),
        ("groups[0] + 1 > 2", 1, 11, "can't be computed with"),
        ("task('x').waitz", 1, 10, "has no waitz"),
        ("groups[0].kind.all(x, true)", 1, 10, "not a list"),
        ("1 +", 1, 4, ""),
        ("", 1, 1, ""),
    ] {
        let error = Expression::compile(bad, &report).expect_err(bad);
        assert!(error.message.contains(words), "{bad}: {error}");
        assert_eq!(
            (error.line, error.column),
            (line, Some(column)),
            "{bad}: {error}"
        );
    }
}

#[test]
fn the_figures_that_were_used_are_shown() {
    assert_eq!(
        used("groups[0].all_blocked.longest_ns <= 50 * ms && size(tasks) > 1"),
        [
            "groups[0].all_blocked.longest_ns = 61000000",
            "size(tasks) = 3"
        ]
    );
    assert_eq!(
        used("tasks.all(t, t.longest_block_ns < 100)"),
        ["tasks[1].longest_block_ns = 500"],
        "the row for which it is false"
    );
    assert_eq!(
        used("tasks.exists(t, t.tid > 5)"),
        ["tasks[0].tid = 1", "tasks[1].tid = 2", "tasks[2].tid = 3"]
    );
    assert_eq!(used("tasks[9].tid > 1"), ["tasks[9].tid: not there"]);
    assert_eq!(used("max(tasks.map(t, t.tid)) > 5"), ["max(tasks.…) = 3"]);
}

proptest! {
    /// Whatever is written, the answer is an error or a value, never a crash.
    #[test]
    fn nothing_crashes(source in "[a-z0-9.\\[\\]()+*/<>=!&|?:,' \n-]{0,40}") {
        let _ = value(&source);
        if let Ok(compiled) = Expression::compile(&source, &Shape::of_report()) {
            let _ = compiled.used(&figures(&sample()));
        }
    }

    #[test]
    fn a_quantile_lies_between_its_neighbours(
        mut list in prop::collection::vec(-1e6f64..1e6, 1..50), q in 0.0..=1.0f64,
    ) {
        list.sort_by(f64::total_cmp);
        let found = quantile_of(&list, q);
        let below = list.iter().filter(|&&x| x < found - 1e-6).count();
        let above = list.iter().filter(|&&x| x > found + 1e-6).count();
        let n = (list.len() - 1) as f64;
        prop_assert!(below as f64 <= q * n + 1.0 && above as f64 <= (1.0 - q) * n + 1.0);
    }
}
