//! Whole reports against the files in `golden/`.
//!
//! `UPDATE_GOLDEN=1 cargo test render` writes the files; read the difference.

use std::{env, fs, path::PathBuf};

use proptest::prelude::*;

use super::{
    Format, Show, Style, Views, pointer, render, samples, samples_why, text::figures::width,
};
use crate::{
    analysis,
    report::{Group, Report, RoleRow, StackKind, StackUse, Task, Wait, WaitedFor},
};

const PLAIN: Style = Style::PLAIN;
const VERBOSE: Style = Style {
    verbose: true,
    ..PLAIN
};
/// Pages that are tried: the narrowest, the usual ones, and one without UTF-8.
const PAGES: [Style; 5] = [
    Style {
        columns: 72,
        ..PLAIN
    },
    Style {
        columns: 80,
        ..PLAIN
    },
    PLAIN,
    Style {
        columns: 160,
        ..PLAIN
    },
    Style {
        columns: 80,
        ascii: true,
        ..PLAIN
    },
];
/// Lines of a summary; two more say where to look next.
const LINES: usize = 38;

fn all() -> [(&'static str, Report, Style); 10] {
    [
        ("sleeper", samples::sleeper(), PLAIN),
        ("selector", samples::selector(), PLAIN),
        ("sleepers", samples::sleepers(), PLAIN),
        ("fork_tree", samples::fork_tree(), PLAIN),
        ("fork_tree_verbose", samples::fork_tree(), VERBOSE),
        ("starved", samples::starved(), PLAIN),
        ("lossy", samples::lossy(), PLAIN),
        ("lossy_verbose", samples::lossy(), VERBOSE),
        ("crowd", samples::crowd(), PLAIN),
        ("standstill", samples_why::standstill(), PLAIN),
    ]
}

#[test]
fn the_text_is_as_agreed() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/render/golden");
    let update = env::var_os("UPDATE_GOLDEN").is_some();
    for (name, report, style) in all() {
        let path = folder.join(name).with_extension("txt");
        let text = render(&report, Format::Text, &style);
        if update {
            fs::write(&path, &text).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap();
        assert!(
            text == golden,
            "{} differs; UPDATE_GOLDEN=1 would write:\n{text}",
            path.display()
        );
    }
}

#[test]
fn no_line_is_wider_than_its_page_and_no_summary_longer_than_it_may_be() {
    for (name, mut report, _) in all() {
        for hard in [false, true] {
            if hard {
                widest(&mut report);
            }
            for (page, verbose) in PAGES
                .into_iter()
                .flat_map(|page| [(page, false), (page, true)])
            {
                let text = render(&report, Format::Text, &Style { verbose, ..page });
                for line in text.lines() {
                    assert!(
                        width(line) <= page.columns,
                        "{name}, {}: {line}",
                        page.columns
                    );
                    assert_eq!(line.trim_end(), line, "{name}: space at the end");
                }
                assert!(!page.ascii || text.is_ascii(), "{name}: {text}");
                let lines = text.lines().count();
                assert!(verbose || lines <= LINES, "{name}: {lines} lines: {text}");
            }
        }
    }
}

/// A workload of so many tasks, each of a role of its own, or all of one.
fn crowd_of(tasks: u32, own_roles: bool) -> Report {
    let mut report = samples::crowd();
    let model = report.tasks[0].clone();
    report.tasks = (0..tasks)
        .map(|n| Task {
            serial: n,
            tid: 5000 + n,
            name: format!("worker-{n}"),
            role: match own_roles {
                true => format!("role {n}"),
                false => "worker".to_owned(),
            },
            ..model.clone()
        })
        .collect();
    report.roles = analysis::roles_of(&report.tasks, &report.path);
    report.timeline.rows = report
        .roles
        .iter()
        .map(|role| RoleRow {
            role: role.name.clone(),
            running: vec![1; report.timeline.cells as usize],
            ..RoleRow::default()
        })
        .collect();
    report.waited_for = (0..tasks)
        .map(|n| WaitedFor {
            reason: "futex".to_owned(),
            object: None,
            ns: u64::from(n) * 1_000_000_000,
            count: 1,
            tasks: 1,
        })
        .collect();
    report
}

#[test]
fn a_summary_fits_however_many_tasks_there_are() {
    for (tasks, own_roles) in [
        (1, true),
        (5, true),
        (64, false),
        (1000, false),
        (1000, true),
    ] {
        let mut report = crowd_of(tasks, own_roles);
        let findings = samples_why::standstill().findings;
        report.findings = findings.iter().cycle().take(50).cloned().collect();
        for page in PAGES {
            let text = render(&report, Format::Text, &page);
            let lines = text.lines().count();
            assert!(lines <= LINES, "{tasks} tasks, {lines} lines: {text}");
            let pointer = pointer(&report, &page, Some("/var/tmp/trace.ft"));
            assert!(pointer.lines().count() <= 2, "{pointer}");
        }
    }
}

/// Whoever a finding is about, and what began it all, are not among "other roles".
#[test]
fn roles_that_findings_are_about_are_shown() {
    let mut report = crowd_of(40, true);
    report.findings = samples_why::standstill().findings;
    report.findings.truncate(1);
    report.findings[0].tasks = vec![31];
    let text = render(&report, Format::Text, &PLAIN);
    let told = text.matches("role 31").count();
    assert_eq!(told, 2, "in the time line and in the table: {text}");
    assert_eq!(text.matches("role 0 ").count(), 2, "{text}");
    let rest = text.lines().filter(|line| line.contains("other roles"));
    assert_eq!(rest.count(), 2, "{text}");
}

#[test]
fn stacks_are_shown_and_pointed_at_where_there_are_some() {
    let mut report = samples::sleepers();
    let stack = |n: u64| StackUse {
        kind: StackKind::OffCpu,
        name: "wor\x1bker".to_owned(),
        wakee: None,
        frames: (0..20).map(|at| format!("frame{at} of {n}")).collect(),
        cut_off: false,
        ns: (20 - n) * 1_000_000,
        count: 3,
    };
    let style = Style {
        views: [Show::Stacks].into_iter().collect(),
        ..PLAIN
    };
    report.stacks = Some(Vec::new());
    assert!(render(&report, Format::Text, &style).contains("No stacks were recorded"));
    assert!(!pointer(&report, &PLAIN, None).contains("stacks"));
    report.stacks = Some((0..8).map(stack).collect());
    let text = render(&report, Format::Text, &style);
    assert!(
        text.contains("20.0 ms, 3 blocks: wor\\x1bker was blocked in\n"),
        "{text}"
    );
    assert!(
        text.contains("      … 8 further out\n      frame8 of 0\n"),
        "{text}"
    );
    assert!(
        text.contains("frame19 of 4\n") && !text.contains("of 5"),
        "{text}"
    );
    assert!(
        text.contains("… and 3 other stacks, 42.0 ms in all"),
        "{text}"
    );
    let next = pointer(&report, &PLAIN, Some("a.ft"));
    assert!(next.contains(",stacks (or all)"), "{next}");
}

/// Nothing can be shown of nobody.
#[test]
fn of_a_trace_without_tasks_nothing_more_is_to_be_seen() {
    let mut report = samples::sleepers();
    report.tasks.clear();
    assert_eq!(pointer(&report, &PLAIN, Some("a.ft")), "");
}

#[test]
fn what_was_saved_for_a_reason_says_which() {
    let mut report = samples::sleepers();
    assert!(!render(&report, Format::Text, &PLAIN).contains("Saved because"));
    report.workload.saved = Some(crate::report::Saved {
        condition: "blocked > 3\x1b".to_owned(),
        at_ns: 1_200_000_000,
    });
    let text = render(&report, Format::Text, &PLAIN);
    assert!(
        text.contains("  Saved because blocked > 3\\x1b came true at 1.20 s.\n"),
        "{text}"
    );
}

#[test]
fn things_of_one_name_are_one_row() {
    let mut report = crowd_of(5, true);
    let object = |id: &str, kind: &str| crate::report::Object {
        id: id.to_owned(),
        kind: kind.to_owned(),
        name: "epoll (fd 8) of 2 fds".to_owned(),
    };
    for (n, row) in report.waited_for.iter_mut().enumerate() {
        row.reason = "epoll".to_owned();
        row.object = Some(object(&n.to_string(), "epoll"));
        row.ns = 1_000_000_000;
    }
    let text = render(&report, Format::Text, &PLAIN);
    let rows: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("epoll (fd 8)"))
        .collect();
    let [row] = rows[..] else { panic!("{text}") };
    let cells: Vec<&str> = row.split_whitespace().collect();
    // How many tasks it was is not in the report: each waited for one of them, or one for all.
    assert_eq!(
        cells[6..],
        ["×5", "5.00", "s", "100", "%", "5", "1.00", "s", "≤5"],
        "{row}"
    );
}

/// Names, numbers and times as long as they can be.
fn widest(report: &mut Report) {
    for task in &mut report.tasks {
        task.tid += 4_190_000;
        task.pid += 4_190_000;
        task.name = "\u{1b}日本語日本語日本語".to_owned();
        task.unknown_ns += 1;
        task.stopped_ns = 123_456_000_000_000;
        task.blocks = u64::MAX;
        task.start_ns += 86_400_000_000_000;
        task.end_ns += 2 * 86_400_000_000_000;
        for wait in &mut task.waits {
            wait.reason = "r".repeat(200);
            wait.cut_off = 9_999_999;
        }
    }
    for group in &mut report.groups {
        group.name = "n".repeat(300);
        group.most_live += 60_000;
        group.lifetime_ns *= 1_000_000;
        for at in group
            .blocked_at_once
            .iter_mut()
            .chain(&mut group.running_at_once)
        {
            at.ns *= 1_000_000;
        }
    }
    for poll in report.polls.iter_mut().flatten() {
        poll.calls = u64::MAX / 8;
        poll.unfinished = 999_999;
        poll.failed = 999_999;
        poll.max_fds = Some(1_048_576);
    }
    report.poll_probes = "/".repeat(250);
    report.workload.argv.push("x".repeat(500));
    report.audit.switches_kernel = u64::MAX;
    for weakness in &mut report.audit.weaknesses {
        weakness.text = "w".repeat(1_000);
    }
}

#[test]
fn colour_carries_no_meaning_of_its_own() {
    for (name, report, style) in all() {
        let painted = render(
            &report,
            Format::Text,
            &Style {
                color: true,
                ..style
            },
        );
        assert!(painted.contains('\x1b'));
        let mut bare = String::new();
        let mut parts = painted.split("\x1b[");
        bare.push_str(parts.next().unwrap());
        for part in parts {
            bare.push_str(part.split_once('m').unwrap().1);
        }
        assert_eq!(bare, render(&report, Format::Text, &style), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn nothing_of_a_traced_program_acts_on_the_terminal(
        pieces in prop::collection::vec(
            prop_oneof![
                prop::sample::select(vec![
                    "\u{1b}[31m", "\u{1b}]0;title\u{7}", "\u{9b}2J", "\r", "\n", "\t", "\0",
                    "\u{202e}", "\u{2066}", "\u{200b}", "\u{feff}", "\u{7f}", "\u{fffd}",
                    "\u{e0001}", "\u{2028}", ";", "\"", "\\", "'", " 12", "日本", "a\u{300}", "",
                ]).prop_map(str::to_owned),
                any::<String>(),
            ],
            0..6,
        ),
    ) {
        let evil = ["x".to_owned(), pieces.concat()].concat();
        check_harmless(&evil);
    }
}

#[track_caller]
fn check_harmless(evil: &str) {
    for (name, mut report, style) in all() {
        report.workload.argv = vec![evil.to_owned(), evil.to_owned()];
        report.workload.kernel = evil.to_owned();
        report.workload.arch = evil.to_owned();
        report.poll_probes = evil.to_owned();
        for group in &mut report.groups {
            group.name = evil.to_owned();
        }
        for task in &mut report.tasks {
            task.name = evil.to_owned();
            task.waits.push(Wait {
                reason: evil.to_owned(),
                syscall: Some(evil.to_owned()),
                interruptible: true,
                ns: u64::MAX,
                count: 1,
                longest_ns: 1,
                ..Wait::default()
            });
        }
        for mark in &mut report.marks {
            mark.name = evil.to_owned();
            mark.value = evil.into();
            mark.fields = [(evil.to_owned(), evil.into())].into_iter().collect();
        }
        for poll in report.polls.iter_mut().flatten() {
            poll.syscall = evil.to_owned();
        }
        for cause in &mut report.causes {
            for name in [&mut cause.name, &mut cause.syscall].into_iter().flatten() {
                *name = evil.to_owned();
            }
            if let Some(object) = &mut cause.object {
                object.name = evil.to_owned();
            }
            for by in &mut cause.by {
                by.task.name = evil.to_owned();
            }
            if let Some(name) = cause.woken_by.as_mut().and_then(|by| by.name.as_mut()) {
                *name = evil.to_owned();
            }
        }
        let links = report.causes.iter_mut().filter_map(|c| c.root.as_mut());
        for link in links.chain(report.episodes.iter_mut().flat_map(|e| &mut e.chain)) {
            link.task.name = evil.to_owned();
            if let Some(object) = &mut link.object {
                object.name = evil.to_owned();
            }
            if let Some(name) = &mut link.woken_by.name {
                *name = evil.to_owned();
            }
        }
        for stop in &mut report.stops {
            stop.name = evil.to_owned();
        }
        for weakness in &mut report.audit.weaknesses {
            weakness.text = evil.to_owned();
        }
        for edge in &mut report.waits_for {
            edge.to.name = Some(evil.to_owned());
        }
        let frames = vec![evil.to_owned(), evil.to_owned()];
        report.stacks = Some(vec![StackUse {
            kind: StackKind::Wakeup,
            name: evil.to_owned(),
            frames: frames.clone(),
            cut_off: false,
            wakee: Some(evil.to_owned()),
            ns: 5000,
            count: 1,
        }]);
        for format in [Format::Text, Format::Json, Format::Dot] {
            let shown = render(&report, format, &style);
            let acts = |c: char| {
                let code = u32::from(c);
                c != '\n'
                    && (c.is_control()
                        || matches!(code, 0x200b..=0x200f | 0x2028..=0x202e | 0x2066..=0x2069)
                        || matches!(code, 0xfeff | 0xe0000..=0xe0fff))
            };
            let bad = shown.chars().find(|&c| acts(c));
            assert_eq!(bad, None, "{name}, {format:?}");
        }
        let json = render(&report, Format::Json, &style);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            value["workload"]["argv"][0], evil,
            "JSON keeps what it escapes"
        );
    }
}

/// The answer, on one line.
fn headline(report: &Report) -> String {
    let style = Style {
        views: [Show::Stalls].into_iter().collect::<Views>(),
        ..PLAIN
    };
    let text = render(report, Format::Text, &style);
    let answer = text.split("\n\n").nth(1).unwrap();
    let answer = answer.strip_prefix("STALLS\n").unwrap();
    answer.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn with_groups(mut report: Report, change: impl Fn(&mut Group)) -> Report {
    report.groups.iter_mut().for_each(change);
    report
}

#[test]
fn never_is_said_of_a_complete_record_only() {
    let mut report = samples::selector();
    let answer = headline(&report);
    assert!(
        answer.starts_with(
            "The 4 threads were never all blocked at the same time; at most 3 of them were."
        ),
        "{answer}"
    );
    report.audit.complete = false;
    for lost_records in [0, 7] {
        report.audit.lost_records = lost_records;
        let answer = headline(&report);
        assert!(answer.contains("not seen to be all blocked"), "{answer}");
        assert!(answer.contains("the record is incomplete"), "{answer}");
        assert!(!answer.contains("never"), "{answer}");
    }
}

#[test]
fn time_that_is_only_possible_is_called_so() {
    let mut report = with_groups(samples::lossy(), |group| {
        group.all_blocked.lower_ns = 0;
        group.all_blocked.episodes = 0;
        group.all_blocked.longest_ns = 0;
        group.all_blocked.longest_start_ns = None;
    });
    let answer = headline(&report);
    assert!(
        answer.starts_with(
            "The 3 threads were not seen to be all blocked at the same time, but may have been for \
             up to 3.40 s of 4.00 s (85.0 %): records were lost."
        ),
        "{answer}"
    );
    report.audit.lost_records = 0;
    assert!(headline(&report).contains("not every task was followed."));
    report.audit.tasks_not_followed = 0;
    assert!(headline(&report).contains("the record has gaps."));
}

/// The audit is of the whole recording, so are its shares.
#[test]
fn a_part_divides_what_forktrace_took_by_all_that_was_recorded() {
    let mut report = samples::sleepers();
    report.audit.tracer_cpu_ns = Some(100_000_000);
    report.workload.duration_ns = 200_000_000;
    report.part = Some(crate::report::Part {
        from_ns: 0,
        to_ns: 200_000_000,
        recorded_ns: 2_000_000_000,
        only: Vec::new(),
        of_tasks: 5,
    });
    let text = render(&report, Format::Text, &PLAIN);
    assert!(text.contains("100 ms of CPU (5.0 % of one)"), "{text}");
}

#[test]
fn all_means_all() {
    // Half of the time one thread had not been created yet.
    let report = with_groups(samples::sleepers(), |group| {
        group.blocked_at_once[3].ns += 1_990_000_000;
        group.blocked_at_once[4].ns -= 1_990_000_000;
    });
    let answer = headline(&report);
    assert!(
        answer.starts_with(
            "All live threads were blocked at the same time for 3.98 s of 4.02 s \
             (99.0 %), in 12 episodes; the longest lasted 1.20 s, from 310 ms on. For \
             1.99 s of it that was all 4 threads."
        ),
        "{answer}"
    );
    // All but moments of it, which the rounded figures don't show.
    let nearly = with_groups(samples::sleepers(), |group| {
        group.blocked_at_once[3].ns += 1_000;
        group.blocked_at_once[4].ns -= 1_000;
    });
    let answer = headline(&nearly);
    assert!(
        answer.starts_with(
            "All 4 threads were blocked at the same time for 3.98 s of 4.02 s (99.0 %); the \
             longest episode lasted 1.20 s, from 310 ms on."
        ),
        "{answer}"
    );
    // No more than two ever lived together.
    let report = with_groups(report, |group| group.most_live = 2);
    let answer = headline(&report);
    assert!(
        answer.starts_with(
            "All live threads (at most 2 of the 4 threads) were blocked at the same \
             time for 3.98 s"
        ),
        "{answer}"
    );
    let report = with_groups(report, |group| group.most_live = 1);
    assert_eq!(
        headline(&report).split_inclusive('.').next().unwrap(),
        "No two of the 4 threads lived at the same time, so none could be blocked at the same time."
    );
}

#[test]
fn odd_reports_are_shown_too() {
    let mut report = samples::sleeper();
    report.groups.clear();
    report.tasks.clear();
    report.workload.exit_code = None;
    report.audit.switches_kernel = 0;
    report.audit.tracer_cpu_ns = None;
    let text = render(&report, Format::Text, &PLAIN);
    assert!(text.contains("The record holds no task."), "{text}");
    for (_, mut report, _) in all() {
        for group in &mut report.groups {
            group.lifetime_ns = 0;
            group.most_live = 0;
            group.blocked_at_once.clear();
            group.running_at_once.clear();
        }
        for style in [PLAIN, VERBOSE] {
            render(&report, Format::Text, &style);
        }
    }
}

#[test]
fn the_samples_keep_the_promises_of_a_report() {
    for (name, report, _) in all() {
        for task in &report.tasks {
            let sum = task.running_ns
                + task.runnable_ns
                + task.blocked_ns
                + task.stopped_ns
                + task.unknown_ns;
            assert_eq!(sum, task.end_ns - task.start_ns, "{name}: {}", task.tid);
        }
        for group in &report.groups {
            for profile in [&group.blocked_at_once, &group.running_at_once] {
                let sum: u64 = profile.iter().map(|at| at.ns).sum();
                assert_eq!(sum, group.lifetime_ns, "{name}: {:?}", group.kind);
            }
        }
    }
}
