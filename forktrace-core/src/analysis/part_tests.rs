//! A part of a recording says what the whole says of it: on random time lines.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    why_tests::{READ, SLEEP, TIMER, any_tasks, by, header, info, model, task},
    *,
};
use crate::report::{AtOnce, Episode, Group, Verdict};

const ALL: Options = Options {
    more_episodes: None,
    episodes: usize::MAX,
    group_by: GroupBy::Process,
};

fn part(from_ns: u64, to_ns: u64) -> Part {
    Part {
        from_ns,
        to_ns,
        tasks: None,
    }
}

fn report_on(model: &Model, part: &Part) -> Report {
    analyse_part(&info(), model, &ALL, part, &[]).0
}

/// Sums by what they are of.
type Sums = BTreeMap<String, u64>;

fn add(sums: &mut Sums, of: String, ns: u64) {
    if ns > 0 {
        *sums.entry(of).or_default() += ns;
    }
}

/// All figures that add up over time.
fn sums(report: &Report) -> Sums {
    let mut sums = Sums::new();
    for task in &report.tasks {
        let mut of = |what: &str, ns| add(&mut sums, format!("task {} {what}", task.serial), ns);
        of("running", task.running_ns);
        of("runnable", task.runnable_ns);
        of("blocked", task.blocked_ns);
        of("stopped", task.stopped_ns);
        of("unknown", task.unknown_ns);
        of("lived", task.end_ns - task.start_ns);
        for wait in &task.waits {
            let what = format!("{} {:?} {}", wait.reason, wait.syscall, wait.interruptible);
            of(&what, wait.ns);
            of(&format!("{what} others ran"), wait.others_ran_ns);
            of(&format!("{what} others blocked"), wait.others_blocked_ns);
            for object in &wait.objects {
                of(&format!("{what} on {}", object.object.id), object.ns);
            }
        }
        for waker in &task.wakers {
            of(&format!("until {:?}", waker.by), waker.ns);
        }
    }
    for edge in &report.waits_for {
        add(
            &mut sums,
            format!("{} until {:?}", edge.from, edge.to),
            edge.ns,
        );
    }
    for part in &report.path.parts {
        let of = (&part.role, part.state, &part.reason, &part.object);
        add(&mut sums, format!("path {of:?}"), part.ns);
    }
    for role in &report.roles {
        add(
            &mut sums,
            format!("role {} blocked", role.name),
            role.blocked_ns,
        );
    }
    for group in &report.groups {
        let of = format!("group {:?} {}", group.kind, group.id);
        for (what, ns) in of_group(group) {
            add(&mut sums, format!("{of} {what}"), ns);
        }
    }
    sums
}

fn of_group(group: &Group) -> Vec<(String, u64)> {
    let wall = group.wall;
    let mut figures: Vec<(String, u64)> = [
        ("lifetime", group.lifetime_ns),
        ("all blocked", group.all_blocked.lower_ns),
        ("all blocked at most", group.all_blocked.upper_ns),
        ("starved", group.starved.lower_ns),
        ("wall running", wall.running_ns),
        ("wall blocked", wall.blocked_ns),
        ("wall starved", wall.starved_ns),
        ("cpu", wall.cpu_ns),
        ("unknown", group.unknown_ns),
    ]
    .map(|(what, ns)| (what.to_owned(), ns))
    .into();
    let at_once = |what: &str, rows: &[AtOnce]| -> Vec<(String, u64)> {
        let row = |row: &AtOnce| (format!("{} {what}", row.count), row.ns);
        rows.iter().map(row).collect()
    };
    figures.extend(at_once("blocked", &group.blocked_at_once));
    figures.extend(at_once("running", &group.running_at_once));
    for row in &group.waiting_at_once {
        figures.push((format!("{} in {}", row.count, row.reason), row.ns));
    }
    for sum in &group.verdicts {
        figures.push((format!("{:?}", sum.verdict), sum.ns));
    }
    figures
}

/// What is said of a stall besides how long it was.
fn said(episode: &Episode) -> Episode {
    Episode {
        ns: 0,
        ..episode.clone()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn parts_add_up_to_the_whole(tasks in any_tasks(), mut cuts in prop::collection::vec(0u64..40, 0..4)) {
        let model = model(tasks);
        let whole = analyse_with(&info(), &model, &ALL);
        let end_ns = model.tasks.iter().map(|t| t.end_ns).max().unwrap_or(0);
        cuts.extend([0, end_ns]);
        cuts.retain(|at| *at <= end_ns);
        cuts.sort_unstable();
        cuts.dedup();
        let mut all = Sums::new();
        for ends in cuts.windows(2) {
            let part = part(ends[0], ends[1]);
            let report = report_on(&model, &part);
            for (of, ns) in sums(&report) {
                add(&mut all, of, ns);
            }
            for stall in &report.episodes {
                let of_whole = whole.episodes.iter().filter(|it| {
                    (it.group, it.start_ns, it.end_ns) == (stall.group, stall.start_ns, stall.end_ns)
                });
                let of_whole: Vec<Episode> = of_whole.map(said).collect();
                // Where one process lived in the part, what is said of it is said of all.
                prop_assert!(of_whole.contains(&said(stall)), "{:?} {:?}", part, stall);
            }
            let inside = |it: &&Episode| it.group == 0 && part.of(it.start_ns, it.end_ns) == (it.start_ns, it.end_ns);
            for stall in whole.episodes.iter().filter(inside) {
                prop_assert!(report.episodes.contains(stall), "{:?} {:?}", part, stall);
            }
        }
        prop_assert_eq!(all, sums(&whole));
    }

    #[test]
    fn a_part_that_is_everything_says_what_the_whole_says(tasks in any_tasks()) {
        let model = model(tasks);
        let whole = analyse_with(&info(), &model, &ALL);
        let end_ns = model.tasks.iter().map(|t| t.end_ns).max().unwrap_or(0);
        let (report, cut) = analyse_part(&info(), &model, &ALL, &part(0, end_ns), &[]);
        let polls = whole.polls.clone();
        prop_assert_eq!(Report { part: None, polls, ..report }, whole);
        prop_assert_eq!(format!("{:?}", cut.tasks), format!("{:?}", model.tasks));
    }

    #[test]
    fn some_tasks_do_what_they_do_among_all(tasks in any_tasks(), chosen in prop::collection::vec(any::<bool>(), 7)) {
        let model = model(tasks);
        let whole = analyse_with(&info(), &model, &ALL);
        let mut part = part(0, u64::MAX);
        part.tasks = Some(chosen[..model.tasks.len()].to_vec());
        let (report, cut) = analyse_part(&info(), &model, &ALL, &part, &[]);
        let rows = model.tasks.iter().enumerate().filter(|(at, _)| part.has(*at));
        let rows: Vec<report::Task> = rows
            .filter_map(|(_, task)| whole.tasks.iter().find(|row| row.serial == task.serial))
            .cloned()
            .collect();
        let serials: Vec<u32> = rows.iter().map(|row| row.serial).collect();
        prop_assert_eq!(&report.tasks, &rows);
        prop_assert_eq!(cut.tasks.iter().map(|task| task.serial).collect::<Vec<_>>(), serials.clone());
        let edges = whole.waits_for.iter().filter(|edge| serials.contains(&edge.from));
        prop_assert_eq!(report.waits_for.iter().collect::<Vec<_>>(), edges.collect::<Vec<_>>());
        for group in &report.groups {
            prop_assert!(group.tasks.iter().all(|serial| serials.contains(serial)));
        }
    }

    #[test]
    fn groups_divide_the_tasks_by_whatever(tasks in any_tasks()) {
        let model = model(tasks);
        for group_by in [GroupBy::Process, GroupBy::Name, GroupBy::Role, GroupBy::Cgroup] {
            let report = analyse_with(&info(), &model, &Options { group_by, ..ALL });
            let (tree, parts) = report.groups.split_first().unwrap();
            let mut all: Vec<u32> = parts.iter().flat_map(|group| group.tasks.clone()).collect();
            all.sort_unstable();
            let mut expected = tree.tasks.clone();
            expected.sort_unstable();
            prop_assert_eq!(all, expected, "{:?}", group_by);
        }
    }
}

/// A character is a nanosecond.
fn two(of: &[&str]) -> Model {
    let [sleeper, reader] = of else { panic!() };
    model(vec![
        task(1, 1, sleeper, &[(SLEEP, 0, TIMER), (SLEEP, 0, TIMER)]),
        task(2, 1, reader, &[(READ, 1, by(1)), (READ, 1, by(1))]),
    ])
}

#[test]
fn a_wait_that_an_edge_cuts_keeps_who_ended_it() {
    let model = two(&["rbbbbbbbbrr$", "rbbbbbbbbbr$"]);
    let report = report_on(&model, &part(3, 6));
    let stall = &report.episodes[0];
    assert_eq!((stall.start_ns, stall.end_ns, stall.ns), (1, 9, 3));
    assert_eq!(stall.verdict, Verdict::Caused);
    let ended_by = stall.ended_by.as_ref().map(|by| by.task.serial);
    assert_eq!(ended_by, Some(1));
    let reader = &report.tasks[1];
    assert_eq!(
        (reader.blocked_ns, reader.start_ns, reader.end_ns),
        (3, 3, 6)
    );
    assert_eq!(reader.waiting_since_ns, Some(1));
    assert!(reader.began_before && reader.goes_on);
    assert_eq!(reader.wakers[0].by.serial, Some(1));
    assert_eq!(
        report
            .part
            .map(|part| (part.from_ns, part.to_ns, part.recorded_ns)),
        Some((3, 6, 11))
    );
}

#[test]
fn a_hang_at_the_end_is_none_of_what_was_before_it() {
    let model = two(&["rbrb>", "rbrb>"]);
    assert!(report_on(&model, &part(0, 3)).deadlocks.is_empty());
    assert_eq!(header().start_ns, 0);
}
