//! The sweep against a clock that ticks once a nanosecond, the figures against
//! time lines that are known, and an example of each wait, count and weakness.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{changes::Change, profile::Sweep, same_reason::SameReason, *};
use crate::{
    drawn,
    model::{Builder, InSyscall, Segment, State, state_of},
    report::{
        AtOnce, Episodes, Fate, Group, GroupKind, GroupStop, StackKind, WaitingAtOnce, Weakness,
        WeaknessKind,
    },
    trace::{
        Born, Event, Header, OpenStretch, PollUse, PollWay, PollsCounted, Stretch, TablesRefused,
        TaskRecord, Timeout, Totals, Untracked, Waker, Why,
    },
    trace_file::{Damage, damage::DamageKind},
};

/// The trace begins here.
const START: u64 = 5_000;

// --- The sweep ---

/// A task's states, a nanosecond each; `None`: it does not live.
type Line = Vec<Option<State>>;

fn letter(char: char) -> Option<State> {
    match char {
        'r' => Some(State::Running),
        'w' => Some(State::Runnable),
        'b' => Some(State::Blocked),
        's' => Some(State::Stopped),
        '?' => Some(State::Unknown),
        _ => None,
    }
}

/// A line of a drawing, a character a nanosecond; a space is no life.
fn line(drawing: &str) -> Line {
    drawing.chars().map(letter).collect()
}

/// A segment; blocked ones are in this syscall.
fn segment(start_ns: u64, end_ns: u64, state: State, syscall: &str) -> Segment {
    let number = Arch::X86_64.syscall_number(syscall).expect("it is there");
    let syscall = InSyscall {
        number: number as i16,
        compat: false,
    };
    Segment {
        start_ns,
        end_ns,
        state,
        syscall: (state == State::Blocked).then_some(syscall),
    }
}

/// The profile and the reasons of tasks.
fn swept(tasks: Vec<Vec<Segment>>) -> (Profile, Vec<WaitingAtOnce>) {
    let same_reason = SameReason::new(Arch::X86_64, vec![false; tasks.len()]);
    let mut sweep = Sweep::new(tasks.len(), same_reason, &WHOLE);
    let mut changes: Vec<Change> = Vec::new();
    for (task, segments) in (0..).zip(&tasks) {
        let begin = |s: &Segment| Change::new(s.start_ns, task, Some(s));
        changes.extend(segments.iter().map(begin));
        let last = segments.last();
        changes.extend(last.map(|s| Change::new(s.end_ns, task, None)));
    }
    changes.sort_by_key(|change| (change.at_ns, change.task));
    for change in &changes {
        sweep.change(change.task as usize, change, None);
    }
    let (profile, same_reason, _) = sweep.finish();
    (profile, same_reason.finish())
}

/// The same as segments, as the model gives them.
fn segments(line: &Line) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    for (at, state) in line.iter().enumerate() {
        let (at, Some(state)) = (at as u64, *state) else {
            continue;
        };
        match segments.last_mut() {
            Some(last) if last.state == state => last.end_ns += 1,
            _ => segments.push(segment(at, at + 1, state, "read")),
        }
    }
    segments
}

fn sweep_of(drawing: &[&str]) -> Profile {
    swept(drawing.iter().map(|d| segments(&line(d))).collect()).0
}

/// Maximal intervals of a condition that is known a nanosecond at a time.
fn episodes(holds: &[bool], upper: &[bool]) -> Episodes {
    let mut found: Vec<(u64, u64)> = Vec::new();
    for (at, _) in holds.iter().enumerate().filter(|(_, holds)| **holds) {
        let at = at as u64;
        match found.last_mut() {
            Some((start, len)) if *start + *len == at => *len += 1,
            _ => found.push((at, 1)),
        }
    }
    let longest_ns = found.iter().map(|(_, len)| *len).max().unwrap_or(0);
    let longest = found.iter().find(|(_, len)| *len == longest_ns);
    Episodes {
        lower_ns: holds.iter().filter(|h| **h).count() as u64,
        upper_ns: upper.iter().filter(|h| **h).count() as u64,
        episodes: found.len() as u64,
        longest_ns,
        longest_start_ns: longest.map(|(start, _)| *start),
    }
}

/// Each time that some were stopped, out of how many were stopped and lived.
fn stops(counts: &[(u32, u32)]) -> Vec<GroupStop> {
    let mut found = Vec::new();
    let mut at = 0;
    for part in counts.split_inclusive(|(stopped, _)| *stopped == 0) {
        let here: Vec<_> = part
            .iter()
            .take_while(|(stopped, _)| *stopped > 0)
            .collect();
        let most = here.iter().map(|(stopped, _)| *stopped).max().unwrap_or(0);
        if let Some(first) = here.iter().position(|(stopped, _)| *stopped == most) {
            found.push(GroupStop {
                start_ns: at,
                end_ns: at + here.len() as u64,
                tasks: most,
                of: here[first].1,
                spread_ns: first as u64,
            });
        }
        at += part.len() as u64;
    }
    found
}

/// What `sweep` should say, found by looking at each nanosecond by itself.
fn oracle(tasks: &[Line]) -> Profile {
    let end = tasks.iter().map(Vec::len).max().unwrap_or(0);
    let mut profile = Profile::default();
    let mut blocked_at_once = BTreeMap::new();
    let mut running_at_once = BTreeMap::new();
    let (mut all_blocked, mut all_blocked_upper) = (vec![false; end], vec![false; end]);
    let (mut starved, mut starved_upper) = (vec![false; end], vec![false; end]);
    let mut stopped = Vec::new();
    for at in 0..end {
        let live: Vec<State> = tasks.iter().filter_map(|t| *t.get(at)?).collect();
        let of = |state: State| live.iter().filter(|s| **s == state).count() as u32;
        stopped.push((of(State::Stopped), live.len() as u32));
        if live.is_empty() {
            continue;
        }
        let count = |state: State| live.iter().filter(|s| **s == state).count();
        profile.lifetime_ns += 1;
        profile.most_live = profile.most_live.max(live.len() as u32);
        profile.unknown_ns += u64::from(count(State::Unknown) > 0);
        *blocked_at_once.entry(count(State::Blocked)).or_insert(0) += 1;
        *running_at_once.entry(count(State::Running)).or_insert(0) += 1;
        profile.wall.cpu_ns += count(State::Running) as u64;
        let any = |state: State| count(state) > 0;
        *match true {
            _ if any(State::Running) => &mut profile.wall.running_ns,
            _ if any(State::Unknown) => &mut profile.wall.unknown_ns,
            _ if any(State::Runnable) => &mut profile.wall.starved_ns,
            _ if any(State::Blocked) => &mut profile.wall.blocked_ns,
            _ => &mut profile.wall.stopped_ns,
        } += 1;
        let all = |upper: State| live.iter().all(|s| *s == State::Blocked || *s == upper);
        all_blocked[at] = live.len() >= 2 && all(State::Blocked);
        all_blocked_upper[at] = live.len() >= 2 && all(State::Unknown);
        // Unknown as running, unknown as waiting for a CPU.
        let runs = |upper: State| live.iter().any(|s| *s == State::Running || *s == upper);
        let waits = count(State::Runnable) > 0;
        starved[at] = waits && !runs(State::Unknown);
        starved_upper[at] = (waits || runs(State::Unknown)) && !runs(State::Running);
    }
    let at_once = |counts: BTreeMap<usize, u64>| {
        let at_once = |(count, ns)| AtOnce {
            count: count as u32,
            ns,
        };
        counts.into_iter().map(at_once).collect()
    };
    profile.all_blocked = episodes(&all_blocked, &all_blocked_upper);
    profile.starved = episodes(&starved, &starved_upper);
    profile.blocked_at_once = at_once(blocked_at_once);
    profile.running_at_once = at_once(running_at_once);
    profile.stops = stops(&stopped);
    profile
}

fn any_state() -> impl Strategy<Value = State> {
    // Blocked more often, or six tasks are never all blocked.
    prop_oneof![
        5 => Just(State::Blocked),
        2 => Just(State::Running),
        2 => Just(State::Runnable),
        1 => Just(State::Stopped),
        2 => Just(State::Unknown),
    ]
}

/// A task's segments; two in a row can be of the same state, as the model's can.
fn any_segments() -> impl Strategy<Value = Vec<Segment>> {
    let parts = prop::collection::vec((any_state(), any_syscall(), 1u64..9), 0..9);
    (0u64..16, parts).prop_map(|(born, parts)| {
        let mut at = born;
        let part = |(state, syscall, len)| {
            let start_ns = at;
            at += len;
            segment(start_ns, at, state, syscall)
        };
        parts.into_iter().map(part).collect()
    })
}

/// Two of one family, and another.
fn any_syscall() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("read"), Just("pread64"), Just("futex")]
}

/// How many tasks wait for each reason, counted at each tick of a clock.
fn waiting_oracle(tasks: &[Vec<Segment>]) -> Vec<WaitingAtOnce> {
    let end_ns = tasks
        .iter()
        .filter_map(|t| t.last())
        .map(|s| s.end_ns)
        .max();
    let mut times: BTreeMap<(&str, u32), (u64, u64)> = BTreeMap::new();
    for at in 0..end_ns.unwrap_or(0) {
        let now: Vec<&Segment> = tasks
            .iter()
            .filter_map(|t| t.iter().find(|s| s.start_ns <= at && at < s.end_ns))
            .collect();
        let running = now.iter().any(|s| s.state == State::Running);
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for syscall in now.iter().filter_map(|s| s.syscall) {
            let name = Arch::X86_64.syscall_name(syscall.number.into());
            *counts.entry(family(name.expect("it has one"))).or_default() += 1;
        }
        for reason in counts {
            let (ns, others_running_ns) = times.entry(reason).or_default();
            *ns += 1;
            *others_running_ns += u64::from(running);
        }
    }
    let row = |((reason, count), (ns, others_running_ns)): ((&str, u32), _)| WaitingAtOnce {
        reason: reason.to_owned(),
        count,
        ns,
        others_running_ns,
    };
    times.into_iter().map(row).collect()
}

fn line_of(segments: &[Segment]) -> Line {
    let mut line = Line::new();
    for segment in segments {
        line.resize(segment.start_ns as usize, None);
        line.resize(segment.end_ns as usize, Some(segment.state));
    }
    line
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn the_sweep_agrees_with_a_clock(tasks in prop::collection::vec(any_segments(), 0..7)) {
        let mut tasks = tasks;
        // In the order of creation, as in a model.
        tasks.sort_by_key(|t| t.first().map_or(0, |s| s.start_ns));
        let lines: Vec<Line> = tasks.iter().map(|t| line_of(t)).collect();
        let (profile, _) = swept(tasks);
        prop_assert_eq!(profile, oracle(&lines));
    }

    #[test]
    fn the_reasons_agree_with_a_clock(tasks in prop::collection::vec(any_segments(), 0..7)) {
        let expected = waiting_oracle(&tasks);
        let (_, waiting) = swept(tasks);
        prop_assert_eq!(waiting, expected);
    }

    #[test]
    fn the_sweep_agrees_with_a_clock_in_any_order_of_tasks(
        tasks in prop::collection::vec(any_segments(), 0..7),
    ) {
        let lines: Vec<Line> = tasks.iter().map(|t| line_of(t)).collect();
        let (profile, _) = swept(tasks);
        prop_assert_eq!(profile, oracle(&lines));
    }
}

fn at_once(pairs: &[(u32, u64)]) -> Vec<AtOnce> {
    pairs
        .iter()
        .map(|&(count, ns)| AtOnce { count, ns })
        .collect()
}

#[test]
fn all_blocked_needs_two_live_tasks() {
    let profile = sweep_of(&["rbbbbbb", "   bb  "]);
    assert_eq!(profile.all_blocked.lower_ns, 2);
    assert_eq!(profile.all_blocked.longest_start_ns, Some(3));
    assert_eq!(profile.most_live, 2);
    assert_eq!(profile.blocked_at_once, at_once(&[(0, 1), (1, 4), (2, 2)]));
}

#[test]
fn an_exchange_in_one_instant_does_not_cut_an_episode() {
    let profile = sweep_of(&["rbbbbbr", "rwwwbbr", "rbbbwwr"]);
    // From 1 to 6 one waits for the CPU and none runs, first the second task,
    // then the third.
    assert_eq!(
        (profile.starved.episodes, profile.starved.longest_ns),
        (1, 5)
    );
    assert_eq!(profile.all_blocked.episodes, 0);
}

#[test]
fn a_task_that_is_replaced_at_once_leaves_all_blocked() {
    let profile = sweep_of(&["bbbbbbbb", "bbbb    ", "    bbbb"]);
    assert_eq!(
        (profile.all_blocked.episodes, profile.all_blocked.longest_ns),
        (1, 8)
    );
    assert_eq!(profile.most_live, 2);
}

#[test]
fn the_first_of_equally_long_episodes_is_named() {
    let profile = sweep_of(&["rbbrbbrbbr", "rbbrbbrbbr"]);
    assert_eq!(profile.all_blocked.episodes, 3);
    assert_eq!(profile.all_blocked.longest_start_ns, Some(1));
}

#[test]
fn stopped_is_neither_blocked_nor_starved() {
    let profile = sweep_of(&["ssss", "bbbb"]);
    assert_eq!(
        (profile.all_blocked.upper_ns, profile.starved.upper_ns),
        (0, 0)
    );
    let profile = sweep_of(&["ssss", "wwww"]);
    assert_eq!((profile.starved.lower_ns, profile.starved.upper_ns), (4, 4));
}

#[test]
fn unknown_time_widens_the_bounds_and_ends_an_episode() {
    let profile = sweep_of(&["bbb??bbb", "bbbbbbbb"]);
    let all = profile.all_blocked;
    assert_eq!(
        (all.lower_ns, all.upper_ns, all.episodes, all.longest_ns),
        (6, 8, 2, 3)
    );
    assert_eq!(profile.unknown_ns, 2);
    assert_eq!(profile.running_at_once, at_once(&[(0, 8)]));
    let profile = sweep_of(&["ww??ww", "bbbbbb", "w??www"]);
    assert_eq!((profile.starved.lower_ns, profile.starved.upper_ns), (3, 6));
}

#[test]
fn time_in_which_nobody_lives_is_no_time() {
    let profile = sweep_of(&["rb      ", "     bb ", "        "]);
    assert_eq!((profile.lifetime_ns, profile.most_live), (4, 1));
    assert_eq!(sweep_of(&[]), Profile::default());
}

// --- Time lines that are known ---

/// A stretch of a task to be: time on the CPU before it, why it leaves, how long
/// until it is woken and until it runs.
#[derive(Clone, Debug)]
struct Turn {
    run_ns: u64,
    why: Why,
    away_ns: u64,
    wait_ns: u64,
    syscall: i16,
    /// There is no room for its record.
    lost: bool,
    /// Nor for the sums that are to make up for those before it.
    sums_lost: bool,
    /// The probe did not see one of its ends.
    missed: bool,
}

/// How a task ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Ended,
    Running,
    /// In its last turn, and not woken yet.
    Away,
    /// In its last turn, woken.
    Woken,
}

/// A task to be.
#[derive(Clone, Debug)]
struct Life {
    born_ns: u64,
    process: u32,
    turns: Vec<Turn>,
    end: End,
    last_ns: u64,
}

fn some_why() -> impl Strategy<Value = Why> {
    prop_oneof![
        6 => Just(Why::Interruptible),
        1 => Just(Why::Killable),
        1 => Just(Why::Uninterruptible),
        3 => Just(Why::Preempted),
        1 => Just(Why::Stopped),
        1 => Just(Why::Frozen),
    ]
}

fn any_turn() -> impl Strategy<Value = Turn> {
    let times = (0u64..5, some_why(), 0u64..8, 0u64..4);
    let syscalls = prop::sample::select(vec![-1, 0, 7, 23, 202, 219]);
    (
        times,
        syscalls,
        prop::bool::weighted(0.35),
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |((run_ns, why, away_ns, wait_ns), syscall, lost, sums_lost)| Turn {
                run_ns,
                why,
                away_ns,
                wait_ns,
                syscall,
                lost,
                sums_lost,
                missed: false,
            },
        )
}

fn any_life() -> impl Strategy<Value = Life> {
    let end = prop::sample::select(vec![
        End::Ended,
        End::Ended,
        End::Running,
        End::Away,
        End::Woken,
    ]);
    (
        0u64..12,
        1u32..3,
        prop::collection::vec(any_turn(), 1..8),
        end,
        0u64..5,
    )
        .prop_map(|(born_ns, process, mut turns, end, last_ns)| {
            (turns[0].why, turns[0].run_ns) = (Why::New, 0);
            Life {
                born_ns,
                process,
                turns,
                end,
                last_ns,
            }
        })
}

fn some_lives() -> impl Strategy<Value = Vec<Life>> {
    prop::collection::vec(any_life(), 1..6)
}

/// What comes of a life: what happened, and what the kernel programs say of it.
struct Lived {
    serial: u32,
    /// By nanosecond from the beginning of the trace.
    line: Line,
    born: Born,
    /// In the order in which they are sent; those that were dropped are missing.
    sent: Vec<Event>,
    record: TaskRecord,
    lost: u64,
    /// Time from which only the sums are known.
    gaps_ns: u64,
}

/// Plays the kernel programs: see `forktrace-ebpf/src/emit.rs`. The trace ends at
/// `end_ns` at the earliest.
fn live(lives: &[Life], end_ns: u64) -> (Vec<Lived>, u64) {
    let mut lived = Vec::new();
    let length = |life: &Life| {
        let turns = life.turns.iter().map(|t| t.run_ns + t.away_ns + t.wait_ns);
        life.born_ns + turns.sum::<u64>() + life.last_ns
    };
    let end_ns = lives.iter().map(length).max().unwrap_or(0).max(end_ns);
    for (i, life) in lives.iter().enumerate() {
        lived.push(live_one(i as u32 + 1, life, end_ns));
    }
    (lived, end_ns)
}

fn live_one(serial: u32, life: &Life, end_ns: u64) -> Lived {
    let born = Born {
        process: life.process,
        tgid: 100 + life.process,
        comm: format!("task {serial}"),
        ..born(serial, life.born_ns)
    };
    let mut line: Line = vec![None; life.born_ns as usize];
    let mut sent = Vec::new();
    let mut totals = Totals {
        serial,
        ..Totals::default()
    };
    let (mut resync, mut lost, mut gaps_ns, mut gap_from) = (false, 0, 0, None);
    let mut open = None;
    let (mut switches, mut missed) = (0, 0);
    let mut in_ns = life.born_ns;
    for (i, turn) in life.turns.iter().enumerate() {
        line.resize(line.len() + turn.run_ns as usize, Some(State::Running));
        let out_ns = line.len() as u64;
        switches += u64::from(turn.why != Why::New);
        let away = state_of(turn.why);
        let waits = away != State::Runnable;
        if i + 1 == life.turns.len() && matches!(life.end, End::Away | End::Woken) {
            let woken = life.end == End::Woken || !waits;
            let wake_ns = if !waits {
                out_ns
            } else if woken {
                (out_ns + turn.away_ns).min(end_ns)
            } else {
                end_ns
            };
            line.resize(wake_ns as usize, Some(away));
            line.resize(end_ns as usize, Some(State::Runnable));
            open = Some(OpenStretch {
                out_ns: START + out_ns,
                wake_ns: woken.then_some(START + wake_ns),
                why: turn.why,
                compat: false,
                syscall: turn.syscall,
                arg0: 0,
                arg1: 0,
                waker: Waker::None,
                object: 0,
                timeout: Timeout::None,
            });
            gaps_ns += gap_from.take().map_or(0, |from| out_ns - from);
            break;
        }
        line.resize(line.len() + turn.away_ns as usize, Some(away));
        let wake_ns = if waits { line.len() as u64 } else { out_ns };
        line.resize(line.len() + turn.wait_ns as usize, Some(State::Runnable));
        let before = totals;
        totals.seq += 1;
        let was_in_ns = std::mem::replace(&mut in_ns, line.len() as u64);
        if turn.missed {
            missed += 1;
            gap_from.get_or_insert(was_in_ns);
            continue;
        }
        totals.runnable_ns += in_ns - wake_ns;
        match away {
            State::Blocked => totals.blocked_ns += wake_ns - out_ns,
            State::Stopped => totals.stopped_ns += wake_ns - out_ns,
            _ => {}
        }
        // The kernel program sends no sums that lack a stretch.
        if resync && !turn.sums_lost && missed == 0 {
            sent.push(Event::Totals(before));
            resync = false;
        }
        if turn.lost {
            resync = true;
            lost += 1;
            totals.lost += 1;
            gap_from.get_or_insert(was_in_ns);
        } else {
            gaps_ns += gap_from.take().map_or(0, |from| out_ns - from);
            sent.push(Event::Stretch(Stretch {
                serial,
                seq: before.seq,
                out_ns: START + out_ns,
                wake_ns: START + wake_ns,
                in_ns: START + in_ns,
                why: turn.why,
                early_wake: false,
                no_wake: false,
                inferred: false,
                compat: false,
                syscall: turn.syscall,
                cpu_out: 0,
                cpu_in: 0,
                arg0: 0,
                arg1: 0,
                waker: Waker::None,
                object: 0,
                timeout: Timeout::None,
            }));
        }
    }
    let ended = life.end == End::Ended;
    if ended {
        line.resize(line.len() + life.last_ns as usize, Some(State::Running));
    } else if open.is_none() {
        line.resize(end_ns as usize, Some(State::Running));
    }
    gaps_ns += gap_from.map_or(0, |from| line.len() as u64 - from);
    switches += u64::from(ended);
    let end_ns = ended.then_some(START + line.len() as u64);
    let record = TaskRecord {
        totals,
        missed,
        switches,
        kernel_switches: ended.then_some(switches),
        open,
        ..drawn::record(born.clone(), end_ns)
    };
    Lived {
        serial,
        line,
        born,
        sent,
        record,
        lost,
        gaps_ns,
    }
}

fn header() -> Header {
    Header {
        argv: vec!["workload".to_owned()],
        ..drawn::header(START)
    }
}

fn info(finish: Option<Finish>, last_ns: u64) -> TraceInfo {
    TraceInfo {
        file_id: 1,
        header: header(),
        finish,
        damage: Vec::new(),
        skipped: crate::trace_file::Skipped::default(),
        last_ns,
    }
}

fn report_on(info: &TraceInfo, events: impl IntoIterator<Item = Event>) -> Report {
    let mut builder = Builder::new(START, Arch::X86_64);
    for event in events {
        builder.push(event);
    }
    let end_ns = info.finish.as_ref().map_or(info.last_ns, |f| f.end_ns);
    analyse(info, &builder.build(end_ns))
}

/// A report on a trace with a proper end.
fn report_to(end_ns: u64, events: impl IntoIterator<Item = Event>) -> Report {
    let finish = Finish {
        end_ns: START + end_ns,
        ..Finish::default()
    };
    report_on(&info(Some(finish), START), events)
}

fn spent(line: &Line, state: State) -> u64 {
    line.iter().filter(|s| **s == Some(state)).count() as u64
}

/// Each group of the report with what happened to its tasks.
fn truths<'a>(
    report: &'a Report,
    lived: &'a [Lived],
) -> impl Iterator<Item = (&'a Group, Profile)> {
    report.groups.iter().map(|group| {
        let tasks = lived.iter().filter(|l| group.tasks.contains(&l.serial));
        let lines: Vec<Line> = tasks.map(|l| l.line.clone()).collect();
        (group, oracle(&lines))
    })
}

/// Sums that hold in every report.
fn check_sums(report: &Report) -> Result<(), TestCaseError> {
    for task in &report.tasks {
        let sum = task.running_ns
            + task.runnable_ns
            + task.blocked_ns
            + task.stopped_ns
            + task.unknown_ns;
        prop_assert_eq!(sum, task.end_ns - task.start_ns, "{:?}", task);
        let waited: u64 = task.waits.iter().map(|w| w.ns).sum();
        prop_assert_eq!(waited, task.blocked_ns, "{:?}", task);
        let blocks: u64 = task.waits.iter().map(|w| w.count).sum();
        prop_assert_eq!(blocks, task.blocks, "{:?}", task);
        let longest = task.waits.iter().map(|w| w.longest_ns).max().unwrap_or(0);
        prop_assert_eq!(longest, task.longest_block_ns, "{:?}", task);
        prop_assert!(task.waits.is_sorted_by_key(|w| std::cmp::Reverse(w.ns)));
    }
    for group in &report.groups {
        for profile in [&group.blocked_at_once, &group.running_at_once] {
            let sum: u64 = profile.iter().map(|a| a.ns).sum();
            prop_assert_eq!(sum, group.lifetime_ns, "{:?}", group);
        }
        for bounds in [&group.all_blocked, &group.starved] {
            prop_assert!(bounds.lower_ns <= bounds.upper_ns, "{:?}", group);
            prop_assert!(bounds.upper_ns <= group.lifetime_ns, "{:?}", group);
            prop_assert!(bounds.longest_ns <= bounds.lower_ns, "{:?}", group);
            prop_assert_eq!(bounds.longest_start_ns.is_some(), bounds.episodes > 0);
        }
    }
    Ok(())
}

/// The bounds of each group contain what happened.
fn check_bounds(report: &Report, lived: &[Lived]) -> Result<(), TestCaseError> {
    for (group, truth) in truths(report, lived) {
        let (bounds, truth_ns) = (&group.all_blocked, truth.all_blocked.lower_ns);
        prop_assert!(
            bounds.lower_ns <= truth_ns && truth_ns <= bounds.upper_ns,
            "all blocked for {} ns: {:?}",
            truth_ns,
            group
        );
        let starved_ns = truth.starved.lower_ns;
        prop_assert!(
            group.starved.lower_ns <= starved_ns,
            "starved for {} ns: {:?}",
            starved_ns,
            group
        );
    }
    Ok(())
}

/// What happened is known but for time that is said to be unknown.
fn check_unknown(report: &Report, lived: &[Lived]) -> Result<(), TestCaseError> {
    for seen in &report.tasks {
        let task = lived.iter().find(|l| l.serial == seen.serial);
        let line = &task.expect("no task is invented").line;
        for (sum, state) in [
            (seen.running_ns, State::Running),
            (seen.blocked_ns, State::Blocked),
            (seen.runnable_ns, State::Runnable),
            (seen.stopped_ns, State::Stopped),
        ] {
            let truth = spent(line, state);
            prop_assert!(
                sum <= truth && truth <= sum + seen.unknown_ns,
                "{:?} for {}: {:?}",
                state,
                truth,
                seen
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_whole_trace_gives_exact_figures(lives in some_lives(), end_ns in 0u64..60) {
        let mut lives = lives;
        lives.iter_mut().flat_map(|l| &mut l.turns).for_each(|t| t.lost = false);
        let (lived, end_ns) = live(&lives, end_ns);
        let events = lived.iter().flat_map(|l| {
            let ends = [Event::Born(l.born.clone()), Event::Task(l.record.clone())];
            l.sent.iter().cloned().chain(ends)
        });
        let report = report_to(end_ns, events);
        check_sums(&report)?;
        prop_assert!(report.audit.complete, "{:?}", report.audit);
        prop_assert_eq!(report.audit.unknown_ns, 0);
        for (group, truth) in truths(&report, &lived) {
            let seen = Profile {
                lifetime_ns: group.lifetime_ns,
                most_live: group.most_live,
                all_blocked: group.all_blocked,
                starved: group.starved,
                blocked_at_once: group.blocked_at_once.clone(),
                running_at_once: group.running_at_once.clone(),
                wall: group.wall,
                unknown_ns: group.unknown_ns,
                stops: group.stops.clone(),
            };
            prop_assert_eq!(seen, truth, "{:?}", group);
        }
    }

    /// Sums stay exact under loss, bounds contain the truth, and it is said.
    #[test]
    fn lost_records_widen_the_bounds_and_leave_the_sums(
        lives in some_lives(),
        end_ns in 0u64..60,
        births in prop::collection::vec(any::<bool>(), 6),
        backwards in any::<bool>(),
    ) {
        let (lived, end_ns) = live(&lives, end_ns);
        let mut events = Vec::new();
        for (task, with_birth) in lived.iter().zip(births) {
            if with_birth {
                events.push(Event::Born(task.born.clone()));
            }
            events.extend(task.sent.clone());
            events.push(Event::Task(task.record.clone()));
        }
        if backwards {
            events.reverse();
        }
        let lost = lived.iter().map(|l| l.lost).sum();
        let finish = Finish {
            end_ns: START + end_ns,
            lost_ring_full: lost,
            ..Finish::default()
        };
        let report = report_on(&info(Some(finish), START), events);
        check_sums(&report)?;
        check_bounds(&report, &lived)?;
        prop_assert_eq!(report.audit.complete, lost == 0, "{:?}", report.audit);
        prop_assert_eq!(report.audit.lost_records, lost);
        for task in &lived {
            let seen = report.tasks.iter().find(|t| t.serial == task.serial);
            let seen = seen.expect("each task is in the report");
            prop_assert_eq!(seen.running_ns, spent(&task.line, State::Running), "{:?}", seen);
            prop_assert_eq!(seen.runnable_ns, spent(&task.line, State::Runnable), "{:?}", seen);
            prop_assert_eq!(seen.blocked_ns, spent(&task.line, State::Blocked), "{:?}", seen);
            prop_assert_eq!(seen.stopped_ns, spent(&task.line, State::Stopped), "{:?}", seen);
            prop_assert_eq!((seen.unknown_ns, seen.unplaced_ns), (0, task.gaps_ns), "{:?}", seen);
        }
    }

    /// The file is cut off at a time: later events are not in it, no task that
    /// then lived has a record, and others may have lost theirs.
    #[test]
    fn a_trace_that_is_cut_off_still_contains_the_truth(
        lives in some_lives(),
        cut_ns in 1u64..80,
        no_record in prop::collection::vec(any::<bool>(), 6),
    ) {
        let (mut lived, _) = live(&lives, 0);
        let in_file = |at_ns: Option<u64>| at_ns.is_none_or(|at| at <= START + cut_ns);
        let mut events = Vec::new();
        for (task, no_record) in lived.iter().zip(no_record) {
            // Sums are sent with the stretch that comes next, so they may be in
            // the file without it.
            let born = [Event::Born(task.born.clone())].into_iter();
            events.extend(born.chain(task.sent.clone()).take_while(|e| in_file(e.at_ns())));
            if !no_record && task.record.end_ns.is_some_and(|end| end <= START + cut_ns) {
                events.push(Event::Task(task.record.clone()));
            }
        }
        let last_ns = events.iter().filter_map(Event::at_ns).max().unwrap_or(START);
        for task in &mut lived {
            task.line.truncate((last_ns - START) as usize);
        }
        let report = report_on(&info(None, last_ns), events);
        check_sums(&report)?;
        check_bounds(&report, &lived)?;
        prop_assert!(!report.audit.complete);
        check_unknown(&report, &lived)?;
    }

    /// Switches that the kernel never announced: not even the sums know of them.
    #[test]
    fn missed_switches_make_unknown_time(
        lives in some_lives(),
        missed in prop::collection::vec(prop::bool::weighted(0.2), 48),
    ) {
        let mut lives = lives;
        for (turn, missed) in lives.iter_mut().flat_map(|l| &mut l.turns).zip(missed) {
            turn.missed = missed;
        }
        let (lived, end_ns) = live(&lives, 0);
        let events = lived.iter().flat_map(|l| {
            l.sent.iter().cloned().chain([Event::Task(l.record.clone())])
        });
        let report = report_to(end_ns, events);
        check_sums(&report)?;
        check_bounds(&report, &lived)?;
        check_unknown(&report, &lived)?;
        let any_missed = lived.iter().any(|l| l.record.missed > 0);
        prop_assert!(!any_missed || !report.audit.complete);
    }

    #[test]
    fn the_bounds_of_starved_contain_the_truth(lives in some_lives()) {
        let (lived, end_ns) = live(&lives, 0);
        let events = lived.iter().flat_map(|l| {
            l.sent.iter().cloned().chain([Event::Task(l.record.clone())])
        });
        let report = report_to(end_ns, events);
        for (group, truth) in truths(&report, &lived) {
            let truth_ns = truth.starved.lower_ns;
            prop_assert!(truth_ns <= group.starved.upper_ns, "{}: {:?}", truth_ns, group);
        }
    }

    /// Nothing is believed that can't be: a forged trace makes no panic.
    #[test]
    fn a_forged_trace_gives_a_report(
        lives in some_lives(),
        forged in prop::collection::vec(any_forged(), 0..12),
        end_ns in any_time(),
        ended in any::<bool>(),
    ) {
        let (lived, _) = live(&lives, 0);
        let mut events: Vec<Event> = forged;
        for task in lived {
            events.extend(task.sent);
            events.push(Event::Task(task.record));
        }
        let finish = ended.then(|| Finish { end_ns, cut_short: true, ..Finish::default() });
        let report = report_on(&info(finish, end_ns), events);
        prop_assert_eq!(report.schema_version, SCHEMA_VERSION);
    }
}

/// Up to a few thousand years: sums of these still fit.
fn any_time() -> impl Strategy<Value = u64> {
    prop_oneof![4 => START - 10..START + 80, 1 => Just(0), 1 => 0u64..1 << 56]
}

fn any_forged() -> impl Strategy<Value = Event> {
    let times = (any_time(), any_time(), any_time());
    let seqs = prop_oneof![4 => 0u32..8, 1 => Just(u32::MAX)];
    (
        1u32..8,
        seqs,
        some_why(),
        times,
        any::<i16>(),
        any::<u8>(),
        0u8..6,
    )
        .prop_map(|(serial, seq, why, (a, b, c), syscall, bits, kind)| {
            let sums = Totals {
                serial,
                seq,
                lost: 0,
                blocked_ns: a,
                runnable_ns: b,
                stopped_ns: c,
            };
            let born = Born {
                at_ns: a,
                kernel_worker: bits & 1 != 0,
                ..born(serial, 0)
            };
            match kind {
                0 => Event::Totals(sums),
                1 => Event::Task(TaskRecord {
                    end_ns: (bits & 2 != 0).then_some(b),
                    totals: sums,
                    switches: c,
                    kernel_switches: (bits & 4 != 0).then_some(a),
                    open: (bits & 8 != 0).then_some(OpenStretch {
                        out_ns: b,
                        wake_ns: (bits & 16 != 0).then_some(c),
                        why,
                        compat: bits & 32 != 0,
                        syscall,
                        arg0: 0,
                        arg1: 0,
                        waker: Waker::None,
                        object: 0,
                        timeout: Timeout::None,
                    }),
                    ..record(born, None)
                }),
                2 => Event::Born(born),
                3 => Event::Untracked(Untracked {
                    at_ns: a,
                    ..untracked(serial, 0)
                }),
                _ => Event::Stretch(Stretch {
                    out_ns: a,
                    wake_ns: b,
                    in_ns: c,
                    compat: bits & 1 != 0,
                    ..stretch(serial, seq, why, [0; 3], syscall)
                }),
            }
        })
}

// --- Examples ---

fn born(serial: u32, at_ns: u64) -> Born {
    drawn::born(serial, START + at_ns)
}

fn record(born: Born, end_ns: Option<u64>) -> TaskRecord {
    TaskRecord {
        switches: 1,
        kernel_switches: end_ns.map(|_| 1),
        kernel_cpu_ns: end_ns.map(|_| 1),
        ..drawn::record(born, end_ns.map(|ns| START + ns))
    }
}

fn untracked(tid: u32, at_ns: u64) -> Untracked {
    Untracked {
        tid,
        tgid: 101,
        ppid: 1,
        at_ns: START + at_ns,
        comm: "many".to_owned(),
    }
}

fn stretch(serial: u32, seq: u32, why: Why, times: [u64; 3], syscall: i16) -> Stretch {
    Stretch {
        serial,
        seq,
        out_ns: START + times[0],
        wake_ns: START + times[1],
        in_ns: START + times[2],
        why,
        early_wake: false,
        no_wake: false,
        inferred: false,
        compat: false,
        syscall,
        cpu_out: 0,
        cpu_in: 0,
        arg0: 0,
        arg1: 0,
        waker: Waker::None,
        object: 0,
        timeout: Timeout::None,
    }
}

fn number(name: &str) -> i16 {
    Arch::X86_64.syscall_number(name).expect("x86 has it") as i16
}

/// A task that ends at 100 and has these stretches, each of 10 ns at 10 times its
/// place: 5 away, 2 waiting. Sums and switches are right.
fn task_of(stretches: impl IntoIterator<Item = Stretch>) -> Vec<Event> {
    let mut record = record(born(1, 0), Some(100));
    let mut events = Vec::new();
    for (i, mut s) in stretches.into_iter().enumerate() {
        let at = START + 10 * i as u64;
        (s.seq, s.out_ns, s.wake_ns, s.in_ns) = (i as u32, at, at + 5, at + 7);
        record.totals.seq += 1;
        record.totals.runnable_ns += 2;
        match state_of(s.why) {
            State::Blocked => record.totals.blocked_ns += 5,
            State::Stopped => record.totals.stopped_ns += 5,
            _ => record.totals.runnable_ns += 5,
        }
        record.switches += 1;
        events.push(Event::Stretch(s));
    }
    record.kernel_switches = Some(record.switches);
    events.push(Event::Task(record));
    events
}

fn blocks(syscalls: &[(Why, i16)]) -> Vec<Event> {
    task_of(
        syscalls
            .iter()
            .map(|&(why, syscall)| stretch(1, 0, why, [0; 3], syscall)),
    )
}

/// Reason, syscall, time and count of the only task's waits.
fn waits(report: &Report) -> Vec<(&str, Option<&str>, u64, u64)> {
    let waits = report.tasks[0].waits.iter();
    waits
        .map(|w| (w.reason.as_str(), w.syscall.as_deref(), w.ns, w.count))
        .collect()
}

#[test]
fn waits_are_counted_by_syscall_most_time_first() {
    use Why::{Interruptible, New, Preempted, Stopped, Uninterruptible};
    let report = report_to(
        100,
        blocks(&[
            (New, -1),
            (Interruptible, number("pselect6")),
            (Interruptible, number("read")),
            (Preempted, number("write")),
            (Interruptible, number("read")),
            (Stopped, number("read")),
            (Interruptible, number("read")),
        ]),
    );
    assert_eq!(
        waits(&report),
        [
            ("read", Some("read"), 15, 3),
            ("select", Some("pselect6"), 5, 1)
        ]
    );
    let task = &report.tasks[0];
    assert_eq!((task.blocks, task.longest_block_ns), (4, 5));
    assert_eq!(task.longest_runnable_ns, 7, "preempted for 7");
    assert_eq!((task.stopped_ns, task.blocked_ns), (5, 20));
    assert!(task.waits[0].interruptible);

    // The same call, asleep in another way, is another wait.
    let report = report_to(
        100,
        blocks(&[
            (New, -1),
            (Uninterruptible, number("read")),
            (Interruptible, number("read")),
        ]),
    );
    assert_eq!(report.tasks[0].waits.len(), 2);
}

#[test]
fn waits_without_a_syscall_that_we_know() {
    let cases = [
        (-1, 0x7000, false, false, "page fault", None),
        // On its way back to user mode.
        (-1, 0, false, false, "outside syscalls", None),
        (
            2000,
            1,
            false,
            false,
            "unknown syscall",
            Some("syscall 2000"),
        ),
        (
            3,
            1,
            true,
            false,
            "unknown syscall",
            Some("32-bit syscall 3"),
        ),
        (3, 1, false, true, "kernel", None),
    ];
    for (syscall, arg0, compat, kernel_worker, reason, name) in cases {
        let mut events = task_of([Stretch {
            compat,
            arg0,
            ..stretch(1, 0, Why::Interruptible, [0; 3], syscall)
        }]);
        if let Some(Event::Task(record)) = events.last_mut() {
            record.born.kernel_worker = kernel_worker;
        }
        assert_eq!(waits(&report_to(100, events)), [(reason, name, 5, 1)]);
    }
}

#[test]
fn time_blocked_in_a_gap_is_a_wait_for_an_unknown_reason() {
    let mut events = blocks(&[
        (Why::New, -1),
        (Why::Interruptible, number("poll")),
        (Why::Interruptible, number("read")),
    ]);
    events.remove(1);
    let report = report_to(100, events);
    assert_eq!(
        waits(&report),
        [("read", Some("read"), 5, 1), ("unknown", None, 5, 0)]
    );
    assert_eq!(report.tasks[0].unplaced_ns, 13);
}

#[test]
fn a_wait_that_the_end_of_the_recording_cuts_off_is_counted_as_such() {
    let open = OpenStretch {
        out_ns: START + 20,
        wake_ns: None,
        why: Why::Interruptible,
        compat: false,
        syscall: number("futex"),
        arg0: 0,
        arg1: 0,
        waker: Waker::None,
        object: 0,
        timeout: Timeout::None,
    };
    let mut living = record(born(1, 0), None);
    living.open = Some(open);
    let report = report_to(100, [Event::Task(living.clone())]);
    assert_eq!(waits(&report), [("futex", Some("futex"), 80, 1)]);
    let task = &report.tasks[0];
    assert_eq!(
        (task.waits[0].cut_off, task.longest_block_ns, task.fate),
        (1, 80, Fate::Alive)
    );
    // Woken, and not on a CPU yet.
    living.open = Some(OpenStretch {
        wake_ns: Some(START + 50),
        ..open
    });
    let report = report_to(100, [Event::Task(living)]);
    let task = &report.tasks[0];
    assert_eq!(
        (task.blocked_ns, task.runnable_ns, task.running_ns),
        (30, 50, 20)
    );
}

#[test]
fn groups_are_the_tree_and_each_process() {
    let task = |serial, process, name: &str| {
        let mut record = record(born(serial, u64::from(serial)), Some(50));
        record.born.process = process;
        record.born.tgid = 100 + process;
        record.born.comm = name.to_owned();
        Event::Task(record)
    };
    let report = report_to(
        60,
        [task(1, 1, "one"), task(2, 1, "thread"), task(3, 3, "three")],
    );
    let groups = report.groups.iter();
    let groups: Vec<_> = groups
        .map(|g| (g.kind, g.id, g.pid, g.name.as_str(), &g.tasks[..]))
        .collect();
    assert_eq!(
        groups,
        [
            (GroupKind::Tree, 0, 101, "one", &[1, 2, 3][..]),
            (GroupKind::Process, 1, 101, "one", &[1, 2]),
            (GroupKind::Process, 3, 103, "three", &[3]),
        ]
    );
    assert_eq!(report.workload.duration_ns, 49);
    assert!(report_to(60, []).groups.is_empty());
}

fn poll_use(position: u8) -> PollUse {
    PollUse {
        serial: 1,
        position,
        calls: 9,
        ready_at_once: 5,
        blocked: 4,
        timed_out: 3,
        max_fds: 16,
        unknown_fds: 0,
        empty_at_once: 2,
        failed: 1,
        unfinished: 1,
    }
}

#[test]
fn polls_are_shown_as_counted() {
    let mut epoll = poll_use(4);
    epoll.max_fds = 0;
    let unreadable = PollUse {
        unknown_fds: 10,
        ..poll_use(1)
    };
    let of_the_future = poll_use(200);
    let mut events = blocks(&[(Why::New, -1)]);
    events.extend([poll_use(2), epoll, unreadable, of_the_future].map(Event::Poll));
    let report = report_to(100, events.clone());
    let polls = report.polls.expect("they were watched");
    let shown: Vec<_> = polls
        .iter()
        .map(|p| (p.syscall.as_str(), p.max_fds))
        .collect();
    assert_eq!(
        shown,
        [("poll", Some(16)), ("epoll_wait", None), ("pselect6", None)]
    );
    let poll = &polls[0];
    assert_eq!(
        (poll.serial, poll.tid, poll.calls, poll.unfinished),
        (1, 101, 9, 1)
    );
    assert_eq!(
        (poll.ready_at_once, poll.blocked, poll.timed_out),
        (5, 4, 3)
    );
    assert_eq!((poll.empty_at_once, poll.failed), (2, 1));

    // Not measured is not 0.
    let mut info = info(Some(Finish::default()), START);
    info.header.polls = PollWay::None {
        why: "nobody looked".to_owned(),
    };
    let report = report_on(&info, events);
    assert_eq!(
        (report.polls, report.poll_probes.as_str()),
        (None, "nobody looked")
    );
}

#[test]
fn polls_that_are_counted_from_some_time_on_say_so() {
    let report_with = |counted: &[PollsCounted]| {
        let counted = counted.iter().cloned().map(Event::PollsCounted);
        let events = [good_task(), counted.collect()].concat();
        let mut info = info(Some(Finish::default()), START);
        info.header.polls = PollWay::Tracepoint;
        report_on(&info, events)
    };
    let from = PollsCounted::From {
        attaching_ns: START + 2_000_000,
        attached_ns: START + 3_000_000,
    };
    let report = report_with(&[PollsCounted::NotYet, PollsCounted::Attaching, from]);
    assert_eq!(report.polls, Some(vec![]));
    for words in ["from 3.00 ms on", "no calls before 2.00 ms"] {
        assert!(report.poll_probes.contains(words), "{}", report.poll_probes);
    }
    // Not measured is not 0.
    for (counted, words) in [
        (
            PollsCounted::NotYet,
            "no task was seen to wait in such a call",
        ),
        (PollsCounted::Attaching, "the recording was over before"),
        (PollsCounted::Failed("no luck".to_owned()), "no luck"),
    ] {
        let report = report_with(&[counted]);
        assert_eq!(report.polls, None);
        assert!(report.poll_probes.contains(words), "{}", report.poll_probes);
    }
    // From the start, as always before.
    let report = report_with(&[]);
    assert!(report.polls.is_some() && !report.poll_probes.contains("from"));
}

/// A task whose last counters are sent twice.
#[test]
fn polls_that_come_twice_count_once() {
    let mut events = blocks(&[(Why::New, -1)]);
    let last = PollUse {
        calls: 10,
        ..poll_use(2)
    };
    events.extend([poll_use(2), last].map(Event::Poll));
    let polls = report_to(100, events).polls.expect("they were watched");
    assert_eq!(polls.iter().map(|p| p.calls).collect::<Vec<_>>(), [10]);
}

/// What a kind is called in JSON.
fn name(kind: WeaknessKind) -> String {
    let json = serde_json::to_value(kind).expect("it serialises");
    json.as_str().expect("it is a name").to_owned()
}

/// The only weakness of a report that is the weaker for it.
#[track_caller]
fn only_weakness(report: &Report, kind: &str) -> Weakness {
    let [weakness] = &report.audit.weaknesses[..] else {
        panic!("{:?}", report.audit.weaknesses)
    };
    assert_eq!(name(weakness.kind), kind);
    assert!(
        !weakness.text.is_empty() && !weakness.text.ends_with('.'),
        "{weakness:?}"
    );
    assert_eq!(
        report.audit.complete,
        matches!(
            kind,
            "records_unknown" | "cut_short" | "switch_in_inferred" | "names_missing"
        )
    );
    weakness.clone()
}

fn good_task() -> Vec<Event> {
    blocks(&[
        (Why::New, -1),
        (Why::Interruptible, 0),
        (Why::Preempted, -1),
    ])
}

fn report_with(change: impl FnOnce(&mut Finish), events: Vec<Event>) -> Report {
    let mut finish = Finish {
        end_ns: START + 100,
        ..Finish::default()
    };
    change(&mut finish);
    report_on(&info(Some(finish), START), events)
}

#[test]
fn a_good_trace_has_no_weakness() {
    let report = report_with(|f| f.tracer_cpu_ns = 7, good_task());
    assert_eq!(report.audit.weaknesses, []);
    assert!(report.audit.complete);
    assert_eq!(
        (report.audit.switches_traced, report.audit.switches_kernel),
        (4, 4)
    );
    assert_eq!(
        (report.audit.tracer_cpu_ns, report.audit.kernel_cpu_ns),
        (Some(7), 1)
    );
    assert_eq!(report.audit.running_ns, report.tasks[0].running_ns);
}

#[test]
fn losses_on_the_way_are_placed_at_the_gaps() {
    for kind in ["ring_full", "no_ring"] {
        let mut events = good_task();
        events.remove(1);
        let change = |f: &mut Finish| match kind {
            "ring_full" => f.lost_ring_full = 1,
            _ => f.lost_no_ring = 1,
        };
        let report = report_with(change, events);
        let weakness = only_weakness(&report, kind);
        let range = (weakness.start_ns, weakness.end_ns);
        assert_eq!((weakness.count, range), (1, (Some(7), Some(20))));
        assert_eq!(
            (report.audit.lost_records, report.audit.unknown_ns),
            (1, 13)
        );
    }
}

#[test]
fn other_losses_are_counted() {
    let report = report_with(|f| f.lost_other = 2, good_task());
    assert_eq!(only_weakness(&report, "other_records").count, 2);
    let report = report_with(|f| f.undecodable = 3, good_task());
    assert_eq!(only_weakness(&report, "undecodable").count, 3);
    assert_eq!(report.audit.lost_records, 3);
}

#[test]
fn calls_that_were_not_counted_are_said_and_leave_the_times_complete() {
    let events = [good_task(), vec![Event::PollsLeftOut(3)]].concat();
    let report = report_with(|_| (), events);
    let [weakness] = &report.audit.weaknesses[..] else {
        panic!("{:?}", report.audit.weaknesses)
    };
    assert_eq!(
        (weakness.kind, weakness.count),
        (WeaknessKind::PollsLeftOut, 3)
    );
    assert!(report.audit.complete);
    assert!(
        report.poll_probes.contains("up to 3"),
        "{}",
        report.poll_probes
    );
}

#[test]
fn refused_changes_of_the_tables_are_said_and_leave_the_times_complete() {
    let refused = TablesRefused {
        slots: 2,
        others: 1,
    };
    let events = [good_task(), vec![Event::TablesRefused(refused)]].concat();
    let report = report_with(|_| (), events);
    let found = report.audit.weaknesses.iter();
    let found: Vec<_> = found.map(|w| (w.kind, w.count)).collect();
    let expected = [
        (WeaknessKind::SlotsLost, 2),
        (WeaknessKind::TablesRefused, 1),
    ];
    assert_eq!(found, expected);
    assert!(report.audit.complete);
}

#[test]
fn weaknesses_come_worst_first_and_notes_last() {
    let mut info = info(None, START + 100);
    info.header.plain = true;
    info.skipped.unreadable = 1;
    info.skipped.unknown_kind = 1;
    let events = [
        good_task(),
        vec![Event::PollsLeftOut(3), Event::MarksUnread(7)],
    ];
    let report = report_on(&info, events.concat());
    let kinds: Vec<String> = report
        .audit
        .weaknesses
        .iter()
        .map(|w| name(w.kind))
        .collect();
    let expected = [
        "end_missing",
        "records_unreadable",
        "polls_left_out",
        "marks_unread",
        "records_unknown",
        "plain",
    ];
    assert_eq!(kinds, expected);
}

/// A forged trace can have holes that nothing else tells of.
#[test]
fn a_report_with_unknown_time_or_tasks_that_were_not_followed_is_not_complete() {
    let mut events = good_task();
    events.remove(1);
    let report = report_with(|_| (), events);
    assert!(report.audit.unknown_ns > 0);
    assert_eq!(
        only_weakness(&report, "time_unknown").count,
        report.audit.unknown_ns
    );

    let untracked = crate::trace::Untracked {
        tid: 77,
        tgid: 77,
        ppid: 1,
        at_ns: START + 5,
        comm: "many".to_owned(),
    };
    let events = [good_task(), vec![Event::Untracked(untracked)]].concat();
    let report = report_with(|_| (), events);
    assert_eq!(report.audit.tasks_not_followed, 1);
    assert_eq!(only_weakness(&report, "table_full").count, 1);
}

#[test]
fn lost_stacks_are_said_and_leave_the_times_complete() {
    let report = report_with(|f| f.lost_stacks = Some(4), good_task());
    let [weakness] = &report.audit.weaknesses[..] else {
        panic!("{:?}", report.audit.weaknesses)
    };
    assert_eq!(
        (weakness.kind, weakness.count),
        (WeaknessKind::StacksLost, 4)
    );
    assert!(report.audit.complete && report.stacks.is_some());
    let none = report_with(|f| f.lost_stacks = Some(0), good_task());
    assert!(none.audit.weaknesses.is_empty());
}

#[test]
fn a_block_has_one_wakeup_however_many_its_waker_made() {
    let waker = Waker::Interrupt(crate::trace::Interrupt::Timer);
    let block = Stretch {
        waker,
        ..stretch(1, 0, Why::Interruptible, [10, 30, 31], 0)
    };
    let stacks = |waker| {
        Event::Stacks(crate::trace::Stacks {
            serial: 1,
            seq: 0,
            waker,
            kernel: None,
            user: None,
            at_ns: 0,
        })
    };
    let mut events = vec![Event::Born(born(1, 0)), Event::Stretch(block)];
    let another = Waker::Interrupt(crate::trace::Interrupt::Soft(3));
    events.extend([Waker::None, waker, another, waker].map(stacks));
    let report = report_with(|f| f.lost_stacks = Some(0), events);
    let found = report.stacks.expect("there are some");
    let found: Vec<_> = found.iter().map(|it| (it.kind, it.ns, it.count)).collect();
    let expected = [(StackKind::OffCpu, 20, 1), (StackKind::Wakeup, 20, 1)];
    assert_eq!(found, expected);
}

#[test]
fn the_stack_that_was_followed_while_a_block_lasted_counts_and_the_share_is_told() {
    const MS: u64 = 1_000_000;
    // Two long ones, and a short one without a stack.
    let blocks = [
        [10, 3 * MS, 3 * MS],
        [4 * MS, 5 * MS, 5 * MS],
        [6 * MS, 6 * MS + 7, 7 * MS],
    ];
    let blocks = blocks.into_iter().enumerate();
    let blocks = blocks
        .map(|(seq, times)| Event::Stretch(stretch(1, seq as u32, Why::Interruptible, times, 0)));
    let stacks = |seq, kernel, user| {
        Event::Stacks(crate::trace::Stacks {
            serial: 1,
            seq,
            waker: Waker::None,
            kernel,
            user,
            at_ns: 0,
        })
    };
    let frames = |number, names: &[&str], cut_off| {
        Event::Frames(crate::trace::Frames {
            number,
            frames: names.iter().map(|name| (*name).to_owned()).collect(),
            cut_off,
            waits_in: None,
        })
    };
    let mut events = vec![Event::Born(born(1, 0))];
    events.extend(blocks);
    events.extend([
        frames(0, &["read"], true),
        frames(1, &["read", "load", "main"], false),
        frames(2, &["vfs_read"], false),
        stacks(0, Some(2), Some(0)),
        stacks(1, Some(2), Some(0)),
        stacks(0, Some(2), Some(1)),
    ]);
    let report = report_with(|f| f.lost_stacks = Some(0), events);
    let found = report.stacks.expect("there are some");
    let found: Vec<_> = found
        .iter()
        .map(|it| (it.frames.join(" "), it.ns, it.cut_off))
        .collect();
    let of = |frames: &str, ns, cut_off| (frames.to_owned(), ns, cut_off);
    let expected = [
        of("main load read vfs_read_[k]", 3 * MS - 10, false),
        of("read vfs_read_[k]", MS, true),
        of("[no stack]", 7, false),
    ];
    assert_eq!(found, expected);
    let share = |blocked_ns| crate::report::StackShare {
        blocked_ns,
        with_stack_ns: 4 * MS - 10,
        whole_ns: 3 * MS - 10,
    };
    let coverage = report.stack_coverage.expect("they were taken");
    assert_eq!(coverage.long, share(4 * MS - 10));
    assert_eq!(coverage.all, share(4 * MS - 3));
    let lacks = coverage.lacks.iter();
    let lacks: Vec<_> = lacks.map(|it| (&*it.why, it.ns, it.count)).collect();
    assert_eq!(lacks, [("it is cut off", MS, 1)]);
}

#[test]
fn why_a_block_has_no_stack_is_told() {
    const MS: u64 = 1_000_000;
    let block = |seq, times: [u64; 3], inferred| {
        let block = stretch(1, seq, Why::Interruptible, times, 0);
        Event::Stretch(Stretch { inferred, ..block })
    };
    let events = vec![
        Event::Born(born(1, 0)),
        block(0, [10, 2 * MS + 10, 3 * MS], false),
        block(1, [4 * MS, 7 * MS, 7 * MS], true),
    ];
    let report = report_with(|f| f.lost_stacks = Some(0), events);
    let coverage = report.stack_coverage.expect("they were wanted");
    let lacks = coverage.lacks.iter();
    let lacks: Vec<_> = lacks.map(|it| (&*it.why, it.ns)).collect();
    let expected = [
        ("the kernel did not announce when it was over", 3 * MS),
        ("it was over before its stack was read", 2 * MS),
    ];
    assert_eq!(lacks, expected);
}

#[test]
fn a_block_that_is_open_at_the_end_has_its_stack_too() {
    let sleeps = OpenStretch {
        out_ns: START + 10,
        wake_ns: None,
        why: Why::Interruptible,
        compat: false,
        syscall: 0,
        arg0: 0,
        arg1: 0,
        waker: Waker::None,
        object: 0,
        timeout: Timeout::None,
    };
    let lives = |serial| {
        Event::Task(TaskRecord {
            open: Some(sleeps),
            ..record(born(serial, 0), None)
        })
    };
    let events = vec![
        Event::Born(born(1, 0)),
        Event::Born(born(2, 0)),
        Event::Frames(crate::trace::Frames {
            number: 0,
            frames: ["read", "fetch", "main"].map(str::to_owned).to_vec(),
            cut_off: false,
            waits_in: Some(1),
        }),
        Event::Stacks(crate::trace::Stacks {
            serial: 1,
            seq: 0,
            waker: Waker::None,
            kernel: None,
            user: Some(0),
            at_ns: 0,
        }),
        lives(1),
        lives(2),
    ];
    let report = report_with(|f| f.lost_stacks = Some(0), events);
    let found = report.stacks.expect("there are some");
    let found: Vec<_> = found
        .iter()
        .map(|it| (it.frames.join(" "), it.ns, it.count))
        .collect();
    let expected = [
        ("[no stack]".to_owned(), 90, 1),
        ("main fetch read".to_owned(), 90, 1),
    ];
    assert_eq!(found, expected);
    let all = report.stack_coverage.expect("they were taken").all;
    assert_eq!((all.blocked_ns, all.whole_ns), (180, 90));
    assert_eq!(report.tasks[0].waits[0].code[0].name, "fetch");
}

#[test]
fn the_function_that_waited_is_told_with_its_time() {
    const MS: u64 = 1_000_000;
    // fsync of x86-64, 4 times as long by one caller as by the other.
    let blocks = [
        [10, 80 * MS + 10, 80 * MS + 20],
        [81 * MS, 101 * MS, 101 * MS],
    ];
    let blocks = blocks.into_iter().enumerate().map(|(seq, times)| {
        Event::Stretch(stretch(1, seq as u32, Why::Uninterruptible, times, 74))
    });
    let stacks_of = |seq, user| {
        Event::Stacks(crate::trace::Stacks {
            serial: 1,
            seq,
            waker: Waker::None,
            kernel: None,
            user,
            at_ns: 0,
        })
    };
    let stacks = |seq, user| stacks_of(seq, Some(user));
    let frames = |number, by: &str, waits_in| {
        Event::Frames(crate::trace::Frames {
            number,
            frames: ["fsync", by, "main"].map(str::to_owned).to_vec(),
            cut_off: false,
            waits_in,
        })
    };
    let mut events = vec![Event::Born(born(1, 0))];
    events.extend(blocks);
    events.extend([
        frames(0, "save(int)", Some(1)),
        frames(1, "log_line", Some(1)),
        frames(2, "other", Some(7)),
        // What was followed later counts, also where that does not tell.
        stacks(0, 1),
        stacks(0, 0),
        stacks(1, 1),
    ]);
    let report = report_with(|f| f.lost_stacks = Some(0), events.clone());
    let code = |report: &report::Report| {
        let code = report.tasks[0].waits[0].code.iter();
        let code = code.map(|it| (it.name.clone(), it.ns, it.count));
        code.collect::<Vec<_>>()
    };
    let expected = [
        ("save".to_owned(), 80 * MS, 1),
        ("log_line".to_owned(), 20 * MS, 1),
    ];
    assert_eq!(code(&report), expected);
    let first = &report.findings[0];
    assert_eq!(first.code.as_deref(), Some("save"));
    assert!(first.sentence.ends_with(", mostly in `save`."), "{first:?}");
    let link = &report.tasks[0].longest_blocks[0].chain[0];
    assert_eq!(link.code.as_deref(), Some("save"));

    events.push(stacks(0, 2));
    let report = report_with(|f| f.lost_stacks = Some(0), events.clone());
    assert_eq!(code(&report), expected[1..]);
    assert_eq!(report.findings[0].code, None);

    // Taken back.
    events.push(stacks_of(0, None));
    let report = report_with(|f| f.lost_stacks = Some(0), events);
    assert_eq!(code(&report), expected[1..]);
    let coverage = report.stack_coverage.expect("they were taken").all;
    assert_eq!(coverage.with_stack_ns, 20 * MS);
    let mut stacks = report.stacks.expect("there are some").into_iter();
    let none = stacks.find(|it| it.frames == ["[no stack]"]);
    assert_eq!(none.map(|it| it.ns), Some(80 * MS));
}

#[test]
fn tasks_that_are_not_followed_are_counted_from_the_first_on() {
    let mut events = good_task();
    events.extend([
        Event::Untracked(untracked(200, 40)),
        Event::Untracked(untracked(201, 30)),
    ]);
    let report = report_with(|f| f.not_followed = 2, events);
    let weakness = only_weakness(&report, "table_full");
    assert_eq!((weakness.start_ns, weakness.end_ns), (Some(30), Some(100)));
    assert_eq!(report.audit.tasks_not_followed, 2);
    assert!(weakness.text.contains("--max-tasks"), "{}", weakness.text);
}

#[test]
fn records_that_could_not_be_written_are_placed() {
    let change = |f: &mut Finish| {
        f.unwritten = 4;
        (f.unwritten_from_ns, f.unwritten_until_ns) = (Some(START + 20), Some(START + 30));
        f.write_error = Some("No space left on device".to_owned());
    };
    let weakness = only_weakness(&report_with(change, good_task()), "write_failed");
    assert_eq!((weakness.start_ns, weakness.end_ns), (Some(20), Some(30)));
    assert!(weakness.text.contains("No space left"), "{}", weakness.text);
}

#[test]
fn a_recording_that_is_cut_short_on_demand_is_complete() {
    let mut events = good_task();
    events.push(Event::Task(record(born(2, 10), None)));
    let report = report_with(|f| f.cut_short = true, events);
    assert_eq!(only_weakness(&report, "cut_short").count, 1);
}

#[test]
fn a_trace_without_an_end_is_not_complete() {
    let report = report_on(&info(None, START + 100), good_task());
    let weakness = only_weakness(&report, "end_missing");
    assert_eq!((weakness.start_ns, weakness.end_ns), (Some(100), Some(100)));
    assert_eq!(report.audit.tracer_cpu_ns, None);
    assert_eq!(report.workload.exit_code, None);
}

#[test]
fn damage_of_the_file_is_placed() {
    let damage = Damage {
        offset: 1000,
        bytes: 10,
        kind: DamageKind::BadPayload,
        blocks_lost: Some(1),
        records_lost: Some(5),
        lost: None,
        after_ns: START + 10,
        before_ns: Some(START + 20),
    };
    let mut info = info(
        Some(Finish {
            end_ns: START + 100,
            ..Finish::default()
        }),
        START,
    );
    info.damage.push(damage);
    let report = report_on(&info, good_task());
    let weakness = only_weakness(&report, "file_damaged");
    let range = (weakness.start_ns, weakness.end_ns);
    assert_eq!((weakness.count, range), (5, (Some(10), Some(20))));
    assert_eq!(report.audit.lost_records, 5);
    // At the end of the file nothing tells how much is lost, or until when.
    info.damage[0].records_lost = None;
    info.damage[0].before_ns = None;
    let weakness = only_weakness(&report_on(&info, good_task()), "file_damaged");
    assert_eq!((weakness.count, weakness.end_ns), (1, Some(100)));
}

#[test]
fn what_is_passed_over_in_the_file_is_told() {
    let skipped = |unknown_kind, unreadable, too_large_from| {
        let end = Finish {
            end_ns: START + 100,
            ..Finish::default()
        };
        let mut info = info(Some(end), START);
        info.skipped = crate::trace_file::Skipped {
            unknown_kind,
            unreadable,
            too_large_from,
        };
        report_on(&info, good_task())
    };
    // What a later version adds can't make what this one knows wrong.
    let report = skipped(3, 0, None);
    assert!(report.audit.complete);
    assert_eq!(only_weakness(&report, "records_unknown").count, 3);
    let report = skipped(0, 2, None);
    assert!(!report.audit.complete);
    assert_eq!(only_weakness(&report, "records_unreadable").count, 2);
    let report = skipped(0, 0, Some(4711));
    assert!(!report.audit.complete);
    let text = &only_weakness(&report, "file_too_large").text;
    assert!(text.contains("up to byte 4711 only"), "{text}");
}

/// A good task with another record.
fn with_record(change: impl FnOnce(&mut TaskRecord)) -> Report {
    let mut events = good_task();
    let Some(Event::Task(record)) = events.last_mut() else {
        panic!("the record comes last")
    };
    change(record);
    report_with(|_| (), events)
}

#[test]
fn switches_are_compared_with_the_kernels() {
    let report = with_record(|r| r.kernel_switches = Some(r.switches + 1));
    assert_eq!(only_weakness(&report, "switches_differ").count, 1);
    assert_eq!(
        (report.audit.switches_traced, report.audit.switches_kernel),
        (4, 5)
    );
}

#[test]
fn sums_are_compared_with_the_kernel_programs() {
    let report = with_record(|r| r.totals.blocked_ns += 1);
    assert_eq!(only_weakness(&report, "sums_differ").count, 1);
}

#[test]
fn all_sums_are_compared_with_the_kernel_programs() {
    let report = with_record(|r| r.totals.runnable_ns += 1);
    assert_eq!(only_weakness(&report, "sums_differ").count, 1);
    let report = with_record(|r| r.totals.stopped_ns += 1);
    assert_eq!(only_weakness(&report, "sums_differ").count, 1);
}

#[test]
fn a_block_without_a_wakeup_is_counted_and_one_with_an_early_one_is_no_weakness() {
    let mut no_wake = stretch(1, 0, Why::Interruptible, [0; 3], 0);
    no_wake.no_wake = true;
    let report = report_with(|_| (), task_of([no_wake]));
    assert_eq!(only_weakness(&report, "wakeup_missing").count, 1);

    let mut early = stretch(1, 0, Why::Interruptible, [0; 3], 0);
    early.early_wake = true;
    let report = report_with(|_| (), task_of([early]));
    assert_eq!(report.audit.weaknesses, []);
    assert_eq!(report.audit.early_wakeups, 1);
}

#[test]
fn switches_that_the_kernel_did_not_announce_are_counted() {
    let mut inferred = stretch(1, 0, Why::Interruptible, [0; 3], 0);
    inferred.inferred = true;
    let report = report_with(|_| (), task_of([inferred]));
    assert_eq!(only_weakness(&report, "switch_in_inferred").count, 1);

    // That of which not even this is known makes the report incomplete.
    let report = with_record(|r| r.missed = 2);
    assert_eq!(only_weakness(&report, "switches_missed").count, 2);
}

#[test]
fn a_task_without_a_record_is_counted() {
    let mut events = good_task();
    events.push(Event::Born(born(2, 10)));
    let report = report_with(|_| (), events);
    assert_eq!(only_weakness(&report, "task_end_missing").count, 1);
    assert_eq!(report.tasks[1].fate, Fate::Unknown);
    assert_eq!(report.audit.unknown_ns, 90);
}

#[test]
fn files_without_a_name_are_counted_with_the_reasons() {
    let object = crate::trace::Object {
        id: 1,
        serial: 1,
        fd: 3,
        at_ns: START,
        file: 0xffff_8880_0000_0000,
        operations: 0,
        inode: 7,
        device: 9,
        mode: 0o100_644,
        last_name: crate::trace::LastName::default(),
    };
    let mut off = stretch(1, 0, Why::Interruptible, [0; 3], 0);
    off.object = 1;
    let events = || {
        let mut events = task_of([off]);
        events.push(Event::Object(object));
        events
    };
    let report = report_with(|f| f.look_ups.gone = 1, events());
    let weakness = only_weakness(&report, "names_missing");
    assert_eq!(weakness.count, 1);
    assert!(weakness.text.ends_with(": their processes had ended"));

    let mut named = events();
    named.push(Event::Named(crate::trace::Named {
        id: 1,
        fd: 3,
        inode: 7,
        device: 9,
        kind: crate::trace::FileKind::File("/etc/hosts".to_owned()),
    }));
    let report = report_with(|f| f.look_ups.gone = 1, named);
    assert_eq!(report.audit.weaknesses, []);
}

#[test]
fn throttled_cgroups_are_in_the_report() {
    let throttled = crate::trace::Throttled {
        cgroup: "/a".to_owned(),
        periods: 3,
        ns: 5_000,
        quota_us: Some(20_000),
        period_us: Some(100_000),
    };
    let report = report_with(|f| f.throttled = vec![throttled], good_task());
    let [found] = &report.throttled[..] else {
        panic!("{:?}", report.throttled);
    };
    assert_eq!(
        (found.cgroup.as_str(), found.periods, found.ns),
        ("/a", 3, 5_000)
    );
    assert!(report.audit.complete);
}
