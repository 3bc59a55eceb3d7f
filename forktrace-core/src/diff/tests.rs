use std::collections::BTreeMap;

use super::{Change, Diff, Digest, Thing, compare, digest::RoleSums, schema};
use crate::{
    random::SplitMix,
    render::{
        Style,
        text::{diff::render, sheets::sheets},
    },
    report::{FindingKind, Verdict, schema_check},
};

/// A run as a random workload would give it.
fn run(random: &mut SplitMix, complete: bool) -> Digest {
    let roles = ["main", "worker", "logger"];
    let reasons = [None, Some("futex"), Some("sleep"), Some("read")];
    let mut path = BTreeMap::new();
    let mut stalls = BTreeMap::new();
    let mut waits = BTreeMap::new();
    let mut sums: BTreeMap<String, RoleSums> = BTreeMap::new();
    for _ in 0..random.below(12) {
        let role = roles[random.below(3) as usize].to_owned();
        let reason = reasons[random.below(4) as usize].map(str::to_owned);
        let ns = random.below(2_000_000_000);
        sums.entry(role.clone()).or_default().path_ns += ns;
        let wait = reason.clone().unwrap_or_default();
        *waits.entry((role.clone(), wait, None)).or_default() += ns;
        *path
            .entry((role.clone(), random.below(5) as u8, reason.clone(), None))
            .or_default() += ns;
        let stall = (Some(Verdict::Caused), Some(role), reason, None);
        *stalls.entry(stall).or_default() += random.below(1_000_000);
    }
    let findings = [(FindingKind::Stall, None, None)];
    Digest {
        wall_ns: path.values().sum(),
        stalled_ns: stalls.values().sum(),
        has_path: true,
        path,
        stalls,
        waits,
        roles: sums,
        findings: findings
            .map(|key| (key, (random.below(9), "One.".to_owned())))
            .into(),
        complete,
        uncertain_ns: if complete { 0 } else { 6_000_000 },
        argv: vec!["./w".to_owned()],
        ..Digest::default()
    }
}

fn runs(random: &mut SplitMix, n: u64) -> Vec<Digest> {
    (0..n).map(|_| run(random, true)).collect()
}

fn changes(diff: &Diff) -> Vec<(String, Change)> {
    let mut all = vec![
        ("wall".to_owned(), diff.wall),
        ("stalled".to_owned(), diff.stalled),
    ];
    let path = diff.path.iter();
    all.extend(path.map(|row| {
        (
            format!("{} {:?} {:?}", row.role, row.state, row.reason),
            row.change,
        )
    }));
    let stalls = diff.stalls.iter();
    all.extend(stalls.map(|row| (format!("stall {:?} {:?}", row.name, row.reason), row.change)));
    let waits = diff.waits.iter();
    all.extend(waits.map(|row| (format!("wait {} {}", row.role, row.reason), row.change)));
    all.extend(diff.roles.iter().map(|row| (row.name.clone(), row.path)));
    all.extend(
        diff.findings
            .iter()
            .map(|row| (format!("{:?}", row.kind), row.change)),
    );
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn changes_of_the_parts_add_up_to_the_change_of_the_whole() {
    let mut random = SplitMix(1);
    for round in 0..500 {
        let (n, m) = (1 + random.below(5), 1 + random.below(5));
        let (base, new) = (runs(&mut random, n), runs(&mut random, m));
        let diff = compare(&base, &new);
        for (parts, whole) in [
            (
                diff.path.iter().map(|row| row.change).collect::<Vec<_>>(),
                diff.wall,
            ),
            (
                diff.stalls.iter().map(|row| row.change).collect(),
                diff.stalled,
            ),
        ] {
            let sum = |figure: fn(&Change) -> i64| parts.iter().map(figure).sum::<i64>();
            assert_eq!(sum(|it| it.delta_ns), whole.delta_ns, "round {round}");
            assert_eq!(
                sum(|it| it.base_ns as i64),
                whole.base_ns as i64,
                "round {round}"
            );
            assert_eq!(
                sum(|it| it.new_ns as i64),
                whole.new_ns as i64,
                "round {round}"
            );
        }
    }
}

#[test]
fn a_comparison_with_itself_is_nothing() {
    let mut random = SplitMix(2);
    for n in 1..5 {
        let base = runs(&mut random, n);
        let diff = compare(&base, &base);
        for (what, change) in changes(&diff) {
            assert_eq!(change.delta_ns, 0, "{what}");
            assert_ne!(change.significant, Some(true), "{what}");
        }
        assert!(
            diff.sentence.starts_with("B took as long as A"),
            "{}",
            diff.sentence
        );
        assert_eq!(diff.more, [""; 0]);
    }
}

#[test]
fn the_other_way_round_it_is_the_negative() {
    let mut random = SplitMix(3);
    for _ in 0..300 {
        let (n, m) = (1 + random.below(4), 1 + random.below(4));
        let (base, new) = (runs(&mut random, n), runs(&mut random, m));
        let (there, back) = (compare(&base, &new), compare(&new, &base));
        for ((what, a), (other, b)) in changes(&there).iter().zip(&changes(&back)) {
            assert_eq!(what, other);
            assert_eq!((a.base_ns, a.new_ns), (b.new_ns, b.base_ns), "{what}");
            assert_eq!(a.delta_ns, -b.delta_ns, "{what}");
            assert_eq!(a.low_ns, b.high_ns.map(|ns| -ns), "{what}");
            assert_eq!(a.high_ns, b.low_ns.map(|ns| -ns), "{what}");
            assert_eq!(a.significant, b.significant, "{what}");
        }
    }
}

#[test]
fn one_run_on_a_side_gives_no_interval_and_says_so() {
    let mut random = SplitMix(4);
    let (base, new) = (runs(&mut random, 1), runs(&mut random, 3));
    let diff = compare(&base, &new);
    assert_eq!(diff.wall.low_ns, None);
    assert!(
        diff.notes[0].starts_with("There is one run of A"),
        "{:?}",
        diff.notes
    );
    let diff = compare(&new, &new);
    assert!(
        diff.wall.low_ns.is_some() && diff.notes.is_empty(),
        "{:?}",
        diff.notes
    );
}

/// A run with one part, which takes so long.
fn sleeper(ns: u64) -> Digest {
    let part = ("worker".to_owned(), 2, Some("sleep".to_owned()), None);
    Digest {
        wall_ns: ns,
        has_path: true,
        path: [(part, ns)].into(),
        complete: true,
        ..Digest::default()
    }
}

#[test]
fn the_sentence_names_what_the_change_is() {
    let second = 1_000_000_000;
    let diff = compare(
        &[sleeper(15 * second)],
        &[sleeper(15 * second + 9 * second / 5)],
    );
    assert_eq!(
        diff.sentence,
        "B took 1.80 s longer (12.0 %): 1.80 s of it is `worker` sleeping."
    );
    let diff = compare(&[sleeper(2 * second)], &[sleeper(second)]);
    assert_eq!(
        diff.sentence,
        "B took 1.00 s less (50.0 %): 1.00 s of it is `worker` sleeping."
    );
}

#[test]
fn what_chance_can_do_is_no_difference() {
    let runs = |all: [u64; 3]| all.map(|ms| sleeper(ms * 1_000_000));
    let diff = compare(&runs([900, 1000, 1100]), &runs([920, 1050, 1120]));
    assert!(
        diff.sentence
            .starts_with("No difference in wall time is proved"),
        "{}",
        diff.sentence
    );
    let diff = compare(&runs([900, 1000, 1100]), &runs([1920, 2050, 2120]));
    assert!(
        diff.sentence.contains("is `worker` sleeping"),
        "{}",
        diff.sentence
    );
}

#[test]
fn an_incomplete_trace_weakens_the_answer_by_a_number() {
    let mut new = sleeper(1_004_000_000);
    (new.complete, new.uncertain_ns) = (false, 6_000_000);
    let diff = compare(&[sleeper(1_000_000_000)], &[new]);
    assert_eq!(
        diff.sentence,
        "B took 4.00 ms longer (0.4 %), which is within what the records leave open (± 6.00 ms)."
    );
    let note = "Records are missing in 1 trace of B: changes are ± 6.00 ms.";
    assert!(diff.notes.iter().any(|it| it == note), "{:?}", diff.notes);
}

/// A run whose worker waited so long for a lock with this name.
fn waiter(name: &str, ns: u64) -> Digest {
    let thing = Thing {
        kind: "futex".to_owned(),
        name: name.to_owned(),
    };
    let wait = ("worker".to_owned(), "futex".to_owned(), Some(thing));
    Digest {
        waits: [(wait, ns)].into(),
        ..sleeper(1_000_000_000)
    }
}

#[test]
fn a_lock_that_only_one_side_names_is_not_told_as_gone() {
    let diff = compare(&[waiter("futex …3a0", 7)], &[waiter("futex …be0", 9)]);
    let [row] = &diff.waits[..] else {
        panic!("{:?}", diff.waits)
    };
    assert_eq!(row.change.delta_ns, 2);
    let diff = compare(&[waiter("futex …148", 7)], &[waiter("futex …148", 9)]);
    let name = diff.waits[0].object.as_ref().map(|it| it.name.as_str());
    assert_eq!(name, Some("futex …148"));
}

#[test]
fn single_runs_that_differ_little_are_told_as_alike() {
    let diff = compare(&[sleeper(1_000_000_000)], &[sleeper(1_002_000_000)]);
    assert_eq!(
        diff.sentence,
        "B took about as long as A: 2.00 ms longer (0.2 %)."
    );
}

#[test]
fn docs_show_the_schema_of_the_types() {
    schema_check::is_shown(&schema(), "diff.schema.json");
}

#[test]
fn the_schema_requires_and_describes_every_property() {
    schema_check::requires_and_describes_every_property(schema().as_value());
}

#[test]
fn the_json_is_as_the_schema_says() {
    let mut random = SplitMix(5);
    let (base, new) = (runs(&mut random, 2), runs(&mut random, 3));
    let json = serde_json::to_value(compare(&base, &new)).expect("JSON");
    assert_eq!(schema_check::check(schema().as_value(), &json), [""; 0]);
}

#[test]
fn of_a_trace_that_breaks_off_neither_length_nor_end_is_known() {
    let mut random = SplitMix(9);
    let base = runs(&mut random, 1);
    let mut new = runs(&mut random, 1);
    (new[0].complete, new[0].no_end) = (false, true);
    let diff = compare(&base, &new);
    assert!(
        diff.sentence.starts_with("How long B took is not known"),
        "{}",
        diff.sentence
    );
    assert_eq!((diff.new.incomplete, diff.new.without_end), (1, 1));
    let notes = diff.notes.join("\n");
    assert!(notes.contains("1 trace of B without an end"), "{notes}");
    assert!(!notes.contains("± 0 s"), "{notes}");
    // Of another, whose records are missing, how much that is may not be known.
    (new[0].uncertain_ns, new[0].no_end) = (0, false);
    let notes = compare(&base, &new).notes.join("\n");
    assert!(notes.contains("off is not known"), "{notes}");
}

#[test]
fn a_change_is_told_once() {
    let stall = |ns: u64, role: &str| {
        let mut of = Digest {
            wall_ns: 1_000_000_000 + ns,
            has_path: true,
            complete: true,
            argv: vec!["./w".to_owned()],
            ..Digest::default()
        };
        let own = ("main".to_owned(), 0, None, None);
        of.path.insert(own, 1_000_000_000);
        if ns > 0 {
            let part = (role.to_owned(), 2, Some("sleep".to_owned()), None);
            of.path.insert(part, ns);
            let key = (FindingKind::Stall, Some(role.to_owned()), None);
            of.findings
                .insert(key, (ns, "Everything waited.".to_owned()));
        }
        of
    };
    let diff = compare(&[stall(0, "w")], &[stall(2_000_000_000, "w")]);
    assert!(diff.sentence.contains("`w` sleeping"), "{}", diff.sentence);
    assert!(
        !diff.more.iter().any(|it| it.starts_with("New: ")),
        "{:?}",
        diff.more
    );
    // Another one's is told.
    let mut new = stall(2_000_000_000, "w");
    let key = (FindingKind::Stall, Some("other".to_owned()), None);
    new.findings
        .insert(key, (1_500_000_000, "Another.".to_owned()));
    let diff = compare(&[stall(0, "w")], &[new]);
    assert!(
        diff.more.iter().any(|it| it == "New: Another."),
        "{:?}",
        diff.more
    );
}

#[test]
fn what_grew_a_hundredfold_leaves_the_table_aligned() {
    use crate::render::{Style, text};

    let side = |ns: u64| {
        let mut of = Digest {
            wall_ns: ns,
            has_path: true,
            complete: true,
            ..Digest::default()
        };
        of.path.insert(("main".to_owned(), 0, None, None), ns);
        of
    };
    let diff = compare(&[side(3_333_333)], &[side(1_002_000_000)]);
    assert!(diff.sentence.contains("(×300)"), "{}", diff.sentence);
    // As wide as cells get, with which the page of 72 columns has no room for the share.
    let wide = compare(&[side(1_111_111)], &[side(11_100_000)]);
    let style = Style {
        columns: 72,
        ..Style::PLAIN
    };
    let text = text::diff::render(&wide, &style);
    let row = text.lines().find(|line| line.contains("wall time"));
    assert!(row.is_some_and(|row| row.contains("+9.99 ms")), "{text}");
    for columns in [72, 80] {
        let style = Style {
            columns,
            ..Style::PLAIN
        };
        let text = text::diff::render(&diff, &style);
        let row = text
            .lines()
            .find(|line| line.contains("wall time"))
            .expect("a row");
        for cell in ["+999 ms", "×300", "3.33 ms", "1.00 s"] {
            assert!(row.contains(cell), "{columns}: {text}");
        }
    }
}

/// A run of ten parts, each of which scatters by a tenth, the first as long as given.
fn scattered(random: &mut SplitMix, first_ns: u64) -> Digest {
    let mut of = Digest {
        has_path: true,
        complete: true,
        ..Digest::default()
    };
    for at in 0..10u64 {
        let mean = if at == 0 { first_ns } else { 1_000_000 << at };
        let ns = mean - mean / 10 + random.below(mean / 5);
        let role = format!("role {at}");
        of.path
            .insert((role.clone(), 2, Some("sleep".to_owned()), None), ns);
        of.waits
            .insert((role.clone(), "sleep".to_owned(), None), ns);
        of.wall_ns += ns;
        let sums = RoleSums {
            tasks: 1,
            path_ns: ns,
            blocked_ns: ns,
            ..RoleSums::default()
        };
        of.roles.insert(role, sums);
    }
    of
}

#[test]
fn of_runs_that_differ_by_chance_hardly_a_row_is_told() {
    let mut random = SplitMix(11);
    let (mut rows, mut told) = (0, 0);
    for _ in 0..300 {
        let mut side = |n| -> Vec<Digest> {
            (0..n)
                .map(|_| scattered(&mut random, 1_000_000_000))
                .collect()
        };
        let diff = compare(&side(4), &side(4));
        rows += diff.path.len();
        told += diff
            .path
            .iter()
            .filter(|row| diff.tells(&row.change))
            .count();
    }
    assert!(told * 100 < rows * 4, "{told} of {rows}");
}

#[test]
fn that_a_change_may_be_chance_is_told_once() {
    use crate::render::{Style, text};

    let mut random = SplitMix(12);
    let mut side = |first_ns, n: usize| -> Vec<Digest> {
        (0..n).map(|_| scattered(&mut random, first_ns)).collect()
    };
    let (a, b) = (side(1_000_000_000, 4), side(3_000_000_000, 4));
    let diff = compare(&a, &b);
    let short = text::diff::render(&diff, &Style::PLAIN);
    assert_eq!(short.matches("may be chance").count(), 1, "{short}");
    assert_eq!(short.matches("`role 0` sleeping").count(), 3, "{short}");
    assert!(!short.contains("`role 9`"), "{short}");
    assert!(short.contains("… and 9 others"), "{short}");
    let verbose = Style {
        verbose: true,
        ..Style::PLAIN
    };
    let all = text::diff::render(&diff, &verbose);
    assert!(all.contains("`role 9`"), "{all}");
    // Single runs tell nothing about chance; what is little is left out.
    let diff = compare(&a[..1], &b[..1]);
    let short = text::diff::render(&diff, &Style::PLAIN);
    assert!(!short.contains("`role 1`"), "{short}");
    let once = "Changes of less than 1 % of the run are left out (-v shows all).";
    assert_eq!(short.matches(once).count(), 1, "{short}");
}

#[test]
fn a_number_of_tasks_that_differs_from_run_to_run_is_no_news() {
    let mut random = SplitMix(13);
    let mut with_tasks = |counts: [u64; 3]| {
        counts.map(|tasks| {
            let mut of = scattered(&mut random, 1_000_000_000);
            of.roles.get_mut("role 3").expect("a role").tasks = tasks;
            of
        })
    };
    let news = |diff: &Diff| diff.more.iter().any(|it| it.starts_with("There are"));
    let diff = compare(&with_tasks([3, 4, 4]), &with_tasks([4, 4, 4]));
    assert!(!news(&diff), "{:?}", diff.more);
    let diff = compare(&with_tasks([3, 3, 3]), &with_tasks([4, 4, 4]));
    let said = "There are 4 tasks `role 3`, and there were 3.";
    assert!(diff.more.iter().any(|it| it == said), "{:?}", diff.more);
}

/// A run of a server that is called so, with workers that wait for a lock in it.
fn of_server(program: &str, ns: u64) -> Digest {
    let worker = format!("{program}: worker");
    let lock = Thing {
        kind: "futex".to_owned(),
        name: format!("futex {program}+0x10 (in {program})"),
    };
    let futex = Some("futex".to_owned());
    let sums = RoleSums {
        tasks: 2,
        blocked_ns: ns,
        ..RoleSums::default()
    };
    Digest {
        program: program.to_owned(),
        argv: vec![format!("./{program}")],
        wall_ns: ns,
        stalled_ns: ns,
        has_path: true,
        path: [((worker.clone(), 2, futex.clone(), Some(lock.clone())), ns)].into(),
        stalls: [(
            (
                Some(Verdict::Caused),
                Some(program.to_owned()),
                futex,
                Some(lock.clone()),
            ),
            ns,
        )]
        .into(),
        waits: [((worker.clone(), "futex".to_owned(), Some(lock.clone())), ns)].into(),
        roles: [(worker.clone(), sums), (program.to_owned(), sums)].into(),
        findings: [(
            (FindingKind::Lock, Some(worker), Some(lock)),
            (ns, "One.".to_owned()),
        )]
        .into(),
        complete: true,
        ..Digest::default()
    }
}

#[test]
fn a_program_that_has_another_name_is_the_same() {
    let second = 1_000_000_000;
    let diff = compare(
        &[of_server("web", second)],
        &[of_server("web-2", 3 * second)],
    );
    let both = |change: &Change| (change.base_ns, change.new_ns) == (second, 3 * second);
    assert!(diff.path.len() == 1 && both(&diff.path[0].change));
    assert!(diff.stalls.len() == 1 && both(&diff.stalls[0].change));
    assert!(diff.waits.len() == 1 && both(&diff.waits[0].change));
    assert!(diff.findings.len() == 1 && both(&diff.findings[0].change));
    let roles = diff
        .roles
        .iter()
        .map(|role| (role.name.as_str(), role.new_tasks));
    let roles: BTreeMap<_, _> = roles.collect();
    assert_eq!(roles, [("web", 2.0), ("web: worker", 2.0)].into());
    let note = "The traces are of different command lines; `web-2` of B is called `web` here.";
    assert!(diff.notes.iter().any(|it| it == note), "{:?}", diff.notes);

    // Where the one before is there too, nobody knows which is which.
    let mut new = of_server("web-2", second);
    new.roles.insert("web".to_owned(), RoleSums::default());
    let diff = compare(&[of_server("web", second)], &[new]);
    assert_eq!(diff.path.len(), 2);
}

#[test]
fn a_summary_has_forty_lines_and_says_nothing_twice() {
    let mut random = SplitMix(3);
    for round in 0..20 {
        let (n, m) = (1 + random.below(3), 1 + random.below(3));
        let mut all = [runs(&mut random, n), runs(&mut random, m)];
        for (side, runs) in all.iter_mut().enumerate() {
            for run in runs {
                // What is not listed by cause is one part.
                run.stalls.retain(|(_, _, reason, _), _| reason.is_some());
                run.stalled_ns = run.stalls.values().sum();
                for at in 0..random.below(40) {
                    let ns = random.below(3_000_000_000);
                    let name = format!("a-program-with-a-long-name/{at}-{side} thread");
                    let wait = (name.clone(), "futex".to_owned(), None);
                    run.path
                        .insert((name.clone(), 2, Some("futex".to_owned()), None), ns);
                    run.wall_ns += ns;
                    let verdict = [Verdict::Unknown, Verdict::Caused][random.below(2) as usize];
                    let stall = (
                        Some(verdict),
                        Some("x".to_owned()),
                        Some("read".to_owned()),
                        None,
                    );
                    *run.stalls.entry(stall).or_default() += ns;
                    run.stalled_ns += ns;
                    run.waits.insert(wait, ns);
                    let finding = (FindingKind::Lock, Some(name.clone()), None);
                    let sentence =
                        format!("One lock holds up {name}, which is a sentence of some length.");
                    run.findings.insert(finding, (ns, sentence));
                    run.roles.entry(name).or_default().blocked_ns = ns;
                }
            }
        }
        let diff = compare(&all[0], &all[1]);
        let style = Style {
            columns: 80,
            ..Style::default()
        };
        let text = render(&diff, &style);
        assert!(text.lines().count() <= 40, "round {round}: {text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        for most in [None, Some(8)] {
            // The random path has waits of tasks that run.
            let sheets = sheets(&diff, most).into_iter();
            for sheet in sheets.filter(|it| it.title != "CRITICAL PATH") {
                let rows = sheet.rows.iter().chain(&sheet.others);
                let mut words: Vec<_> = rows.map(|row| &row.what).collect();
                let told = words.len();
                words.sort();
                words.dedup();
                assert_eq!(
                    words.len(),
                    told,
                    "round {round}, {}: {words:?}",
                    sheet.title
                );
            }
        }
    }
}
