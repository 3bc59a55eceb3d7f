//! The state machine, as pictures: a character is a nanosecond.
//!
//! What happened is drawn with
//!
//! | char  | state                                                         |
//! |-------|---------------------------------------------------------------|
//! | space | not born yet, or ended                                        |
//! | `w`   | runnable: new, preempted (after `r`) or woken (after `b`)     |
//! | `r`   | running                                                       |
//! | `b`   | blocked                                                       |
//! | `s`   | stopped                                                       |
//! | `\|`  | takes no time: the task blocks here, but was woken already    |
//!
//! and, after the task's last nanosecond, `$` (it ended), `>` (it lives) or `~`
//! (the trace is cut: its record is missing). The record of a stretch in capitals
//! is lost. What is seen of it is drawn the same way, with `?` for unknown.

use proptest::prelude::*;

use super::*;
use crate::{
    trace::Arch,
    trace::{Born, Event, Exec, Stretch, Timeout, Untracked, Waker},
};

/// The trace begins here.
const START: u64 = 1_000_000;

/// The task of the pictures.
const SERIAL: u32 = 7;

fn born(serial: u32, at_ns: u64) -> Born {
    Born {
        serial,
        parent: 1,
        process: serial,
        tid: 100 + serial,
        tgid: 100 + serial,
        ppid: 99,
        clone_flags: 0,
        kernel_worker: false,
        at_ns: START + at_ns,
        comm: "born".to_owned(),
    }
}

/// A record of a task without stretches.
fn record(born: Born, end_ns: Option<u64>) -> TaskRecord {
    TaskRecord {
        totals: Totals {
            serial: born.serial,
            ..Totals::default()
        },
        born,
        end_ns: end_ns.map(|ns| START + ns),
        missed: 0,
        switches: 0,
        kernel_switches: end_ns.map(|_| 0),
        kernel_cpu_ns: end_ns.map(|_| 0),
        exit_code: end_ns.map(|_| 0),
        ended_in: None,
        open: None,
    }
}

fn stretch(serial: u32, seq: u32, why: Why, times: [u64; 3]) -> Stretch {
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
        syscall: -1,
        cpu_out: 0,
        cpu_in: seq as u16,
        arg0: 0,
        arg1: 0,
        waker: Waker::None,
        object: 0,
        timeout: Timeout::None,
    }
}

/// How a drawn life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Ended,
    Alive,
    Cut,
}

/// What a drawing means.
struct Life {
    born_ns: u64,
    /// Where `$`, `>` or `~` stands.
    end_ns: u64,
    end: End,
    /// The last one is open when the task is not switched in again.
    stretches: Vec<Stretch>,
    open: Option<OpenStretch>,
    lost: Vec<bool>,
}

impl Life {
    fn read(drawing: &str) -> Self {
        let text = drawing.trim_start();
        let born_ns = (drawing.len() - text.len()) as u64;
        let at = text.find(['$', '>', '~']).expect("a drawing has an end");
        let end = match &text[at..=at] {
            "$" => End::Ended,
            ">" => End::Alive,
            _ => End::Cut,
        };
        let mut now = born_ns;
        let mut lost = Vec::new();
        // Why, out, wake: of the stretch under way.
        let mut under_way: Option<(Why, u64, Option<u64>)> = None;
        let mut stretches: Vec<Stretch> = Vec::new();
        for char in text[..at].chars() {
            let lower = char.to_ascii_lowercase();
            let leaves = match (lower, under_way) {
                ('w', None) if stretches.is_empty() => Some(Why::New),
                ('w', None) => Some(Why::Preempted),
                ('b' | '|', None | Some((_, _, Some(_)))) => Some(Why::Interruptible),
                ('s', None | Some((_, _, Some(_)))) => Some(Why::Stopped),
                _ => None,
            };
            // A block right after a wait for the CPU: it ran for no time.
            let comes_in = lower == 'r' || leaves.is_some();
            if comes_in && let Some((why, out, wake)) = under_way.take() {
                let seq = stretches.len() as u32;
                stretches.push(stretch(SERIAL, seq, why, [out, wake.unwrap_or(now), now]));
            }
            if let Some(why) = leaves {
                let waits = !matches!(why, Why::New | Why::Preempted);
                under_way = Some((why, now, (!waits || char == '|').then_some(now)));
                lost.push(false);
            }
            if lower == 'w'
                && let Some((_, _, wake)) = &mut under_way
            {
                wake.get_or_insert(now);
            }
            if char.is_ascii_uppercase()
                && let Some(lost) = lost.last_mut()
            {
                *lost = true;
            }
            now += u64::from(char != '|');
        }
        let open = under_way.map(|(why, out_ns, wake_ns)| OpenStretch {
            out_ns: START + out_ns,
            wake_ns: wake_ns.map(|ns| START + ns),
            why,
            compat: false,
            syscall: -1,
            arg0: 0,
            arg1: 0,
            waker: Waker::None,
            object: 0,
            timeout: Timeout::None,
        });
        assert!(
            end != End::Ended || open.is_none(),
            "{drawing}: a task ends while it runs"
        );
        Self {
            born_ns,
            end_ns: now,
            end,
            stretches,
            open,
            lost,
        }
    }

    fn sums(&self, seq: u32) -> Totals {
        let mut sums = Totals {
            serial: SERIAL,
            seq,
            ..Totals::default()
        };
        for s in &self.stretches[..seq as usize] {
            sums.runnable_ns += s.in_ns - s.wake_ns;
            match state_of(s.why) {
                State::Blocked => sums.blocked_ns += s.wake_ns - s.out_ns,
                State::Stopped => sums.stopped_ns += s.wake_ns - s.out_ns,
                _ => sums.runnable_ns += s.wake_ns - s.out_ns,
            }
            sums.lost += u32::from(self.lost[s.seq as usize]);
        }
        sums
    }

    fn record(&self) -> Option<TaskRecord> {
        let ended = match self.end {
            End::Ended => Some(self.end_ns),
            End::Alive => None,
            End::Cut => return None,
        };
        Some(TaskRecord {
            totals: self.sums(self.stretches.len() as u32),
            open: self.open,
            ..record(born(SERIAL, self.born_ns), ended)
        })
    }

    /// The events that reach the trace.
    fn events(&self, with_born: bool, with_totals: bool) -> Vec<Event> {
        let mut events = Vec::new();
        if with_born {
            events.push(Event::Born(born(SERIAL, self.born_ns)));
        }
        let mut resync = false;
        for (s, &lost) in self.stretches.iter().zip(&self.lost) {
            if lost {
                resync = true;
                continue;
            }
            if std::mem::take(&mut resync) && with_totals {
                events.push(Event::Totals(self.sums(s.seq)));
            }
            events.push(Event::Stretch(*s));
        }
        events.extend(self.record().map(Event::Task));
        events
    }
}

fn build(events: impl IntoIterator<Item = Event>, end_ns: u64) -> Model {
    let mut builder = Builder::new(START, Arch::X86_64);
    for event in events {
        builder.push(event);
    }
    builder.build(START + end_ns)
}

fn char_of(state: State) -> char {
    match state {
        State::Running => 'r',
        State::Runnable => 'w',
        State::Blocked => 'b',
        State::Stopped => 's',
        State::Unknown => '?',
    }
}

/// Draws a task, after checking that its segments make a whole.
fn draw(task: &Task) -> String {
    assert!(task.start_ns <= task.end_ns, "{task:?}");
    // Each stretch of a drawing ends on a CPU of its own.
    let numbers = task.stretches.iter().map(|s| s.seq);
    assert!(
        task.cpus.iter().map(|&cpu| u32::from(cpu)).eq(numbers),
        "{task:?}"
    );
    let mut drawing = " ".repeat(task.start_ns as usize);
    let mut cursor = task.start_ns;
    for segment in task.segments() {
        assert_eq!(segment.start_ns, cursor, "a gap or an overlap: {task:?}");
        assert!(
            segment.end_ns > segment.start_ns,
            "an empty segment: {task:?}"
        );
        for _ in segment.start_ns..segment.end_ns {
            drawing.push(char_of(segment.state));
        }
        cursor = segment.end_ns;
    }
    assert_eq!(cursor, task.end_ns, "{task:?}");
    drawing.push(match task.fate {
        Fate::Ended => '$',
        Fate::Alive => '>',
        Fate::Unknown => '~',
    });
    drawing
}

/// Some orders of the same events: as they are, backwards, and shuffled.
fn orders(events: Vec<Event>) -> Vec<Vec<Event>> {
    let mut orders = vec![events.clone(), events.iter().rev().cloned().collect()];
    let mut state = 1u64;
    for _ in 0..8 {
        let mut events = events.clone();
        for i in (1..events.len()).rev() {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            events.swap(i, (state >> 33) as usize % (i + 1));
        }
        orders.push(events);
    }
    orders
}

/// Checks what is seen of what happened, in any order of the file, with and
/// without the creation (if there is a record) and sums.
#[track_caller]
fn check_lossy(happened: &str, seen: &str) {
    let life = Life::read(happened);
    let trace_end = happened.len() as u64 - 1 - happened.matches('|').count() as u64;
    for with_totals in [true, false] {
        for with_born in [true, false] {
            if !with_born && life.end == End::Cut {
                continue;
            }
            for events in orders(life.events(with_born, with_totals)) {
                let model = build(events.clone(), trace_end);
                let [task] = &model.tasks[..] else {
                    panic!("{happened}: {model:?}")
                };
                assert_eq!(draw(task), seen.trim_end(), "{happened}: {events:#?}");
                assert_eq!(model.end_ns, trace_end, "{happened}");
            }
        }
    }
}

/// Checks that what is seen is what happened.
#[track_caller]
fn check(happened: &str) {
    check_lossy(happened, &happened.replace('|', ""));
}

#[test]
fn a_task_is_new_runs_blocks_is_woken_runs() {
    check("wwrrbbbwrr$");
    check("    wwrrbbbwrr$");
    check("  wrbbbwwwrrbwrrrbbrr$     ");
}

#[test]
fn a_wakeup_that_puts_it_on_a_cpu_at_once_leaves_no_wait() {
    check("wrbbbrbrrbr$");
}

#[test]
fn an_early_wakeup_makes_a_block_of_no_length() {
    check("wrr|wwrr$");
    check("wrr|rr$");
    check("wrr|w|wbbwr$");
    let life = Life::read("wrr|wwrr$");
    let model = build(life.events(true, false), 7);
    assert_eq!(model.tasks[0].stretches[1].state(), State::Blocked);
    assert_eq!(model.tasks[0].stretches.len(), 2);
}

#[test]
fn preempted_it_is_runnable() {
    check("wrrwwwrrwrbbwr$");
}

#[test]
fn stopped_is_not_blocked() {
    check("wrsssswwrbbwrssr$");
    for why in [Why::Stopped, Why::Traced, Why::Frozen, Why::CoreDump] {
        assert_eq!(state_of(why), State::Stopped, "{why:?}");
    }
    for why in [Why::Interruptible, Why::Killable, Why::Uninterruptible] {
        assert_eq!(state_of(why), State::Blocked, "{why:?}");
    }
}

#[test]
fn it_blocks_again_without_having_run() {
    check("wbbwbbwsswr$");
}

#[test]
fn what_is_open_at_the_end_is_seen() {
    check("wwrrbbb>");
    check("wwrrbbbww>");
    check("wwrrbbbwwrr>");
    check("wwrrww>");
    check("wwrrsss>");
    check("wwrr|ww>");
}

#[test]
fn a_task_that_never_ran_is_runnable_all_along() {
    check("wwwwww>");
    check("   wwwwww>");
}

#[test]
fn a_task_that_slept_all_along_is_seen() {
    check("wbbbbbbbbbbbbbbbbbbb>");
}

#[test]
fn a_task_born_at_the_end_has_an_empty_life() {
    check("     >");
}

#[test]
fn a_gap_in_the_middle_goes_from_one_switch_in_to_the_next_switch_out() {
    check_lossy(
        "wwrrbbwrrBBWWrrrbbwr$", //
        "wwrrbbw?????????bbwr$",
    );
    // Several records.
    check_lossy(
        "wrbbwrBBwrrWWrSSSwrwwr$", //
        "wrbbw??????????????wwr$",
    );
    // Two gaps.
    check_lossy(
        "wrBBwrbbwrBBwrbbr>", //
        "w?????bbw?????bbr>",
    );
}

#[test]
fn a_gap_at_the_start() {
    check_lossy(
        "WWrrbbwrr$", //
        "????bbwrr$",
    );
    check_lossy(
        "  WWrrBBWrrwwr>", //
        "  ?????????wwr>",
    );
}

#[test]
fn a_gap_at_the_end_is_known_by_the_record() {
    check_lossy(
        "wwrrbbwrrBBwr$", //
        "wwrrbbw??????$",
    );
    check_lossy(
        "wwrrbbwrrBBwr>", //
        "wwrrbbw??????>",
    );
    // It lies before the stretch that is open.
    check_lossy(
        "wwrrBBwrbbb>", //
        "ww??????bbb>",
    );
    check_lossy(
        "wwrrBBwrbbbww>", //
        "ww??????bbbww>",
    );
}

#[test]
fn all_records_lost_but_the_last() {
    check_lossy(
        "WrBBwrBBWrr$", //
        "???????????$",
    );
    check_lossy(
        "WrBBwrb>", //
        "??????b>",
    );
}

#[test]
fn without_its_record_a_task_is_unknown_after_the_last_stretch() {
    check_lossy(
        "wwrrbbbwrr~", //
        "wwrrbbbw??~",
    );
    check_lossy(
        "wwrrbbbw~", //
        "ww??????~",
    );
    check_lossy(
        "ww~", //
        "??~",
    );
    // It may have lived until the end of the trace.
    check_lossy(
        "wwrrbbbwrr~   ", //
        "wwrrbbbw?????~",
    );
    check_lossy(
        "wrBBwrrbbwr~   ", //
        "w??????bbw????~",
    );
}

#[test]
fn a_record_without_a_creation_tells_who_the_task_is() {
    let who = Born {
        tid: 55,
        tgid: 50,
        ppid: 40,
        process: 3,
        kernel_worker: true,
        comm: "late".to_owned(),
        ..born(SERIAL, 4)
    };
    let model = build([Event::Task(record(who, Some(9)))], 20);
    let task = &model.tasks[0];
    assert_eq!((task.tid, task.pid, task.ppid), (55, 50, 40));
    assert_eq!((task.process, task.kernel_worker), (3, true));
    assert_eq!(
        (task.name.as_str(), task.start_ns, task.end_ns),
        ("late", 4, 9)
    );
}

#[test]
fn a_creation_without_a_record_tells_who_the_task_is() {
    let model = build([Event::Born(born(SERIAL, 4))], 20);
    let task = &model.tasks[0];
    assert_eq!((task.tid, task.pid, task.ppid), (107, 107, 99));
    assert_eq!((task.name.as_str(), task.fate), ("born", Fate::Unknown));
    assert_eq!(draw(task), format!("    {}~", "?".repeat(16)));
}

#[test]
fn a_task_of_which_only_stretches_are_left_lives_from_the_first_one_on() {
    let s = stretch(SERIAL, 3, Why::Interruptible, [5, 7, 8]);
    let model = build([Event::Stretch(s)], 12);
    let task = &model.tasks[0];
    // Its number says that there was more before, but not since when it lived.
    assert_eq!(draw(task), "     bbw????~");
    assert_eq!((task.name.as_str(), task.tid, task.pid), ("?", 0, 0));
    assert_eq!((task.process, task.followed), (SERIAL, true));
}

#[test]
fn a_task_of_which_only_sums_are_left_has_no_life() {
    let sums = Totals {
        serial: SERIAL,
        seq: 5,
        ..Totals::default()
    };
    let model = build([Event::Totals(sums)], 12);
    assert_eq!(draw(&model.tasks[0]), format!("{}~", " ".repeat(12)));
}

#[test]
fn a_stretch_that_comes_twice_counts_once() {
    let life = Life::read("wrbbwrwr$");
    let mut events = life.events(true, false);
    events.extend(life.events(true, false));
    for events in orders(events) {
        let model = build(events, 8);
        assert_eq!(draw(&model.tasks[0]), "wrbbwrwr$");
        assert_eq!(model.tasks[0].stretches.len(), 3);
    }
}

#[test]
fn a_trace_cut_short_ends_with_its_last_event() {
    // The end of the trace is not known, or wrongly: no event is cut off.
    let life = Life::read("wrbbwrwrbbw~");
    let model = build(life.events(true, false), 3);
    assert_eq!(draw(&model.tasks[0]), "wrbbwrw~");
    assert_eq!(model.end_ns, 7);
}

#[test]
fn tasks_come_in_the_order_of_creation() {
    let events = [(5, 30), (2, 10), (9, 10), (1, 20)];
    let events = events.map(|(serial, at)| Event::Born(born(serial, at)));
    for events in orders(events.to_vec()) {
        let model = build(events, 40);
        let serials: Vec<u32> = model.tasks.iter().map(|t| t.serial).collect();
        assert_eq!(serials, [2, 9, 1, 5]);
    }
}

fn exec(serial: u32, at_ns: u64, old_tid: u32, tid: u32, comm: &str) -> Event {
    Event::Exec(Exec {
        serial,
        old_tid,
        tid,
        at_ns: START + at_ns,
        comm: comm.to_owned(),
    })
}

#[test]
fn exec_gives_a_new_name_and_the_leaders_tid() {
    let events = vec![
        Event::Born(born(SERIAL, 0)),
        exec(SERIAL, 5, 107, 90, "first"),
        exec(SERIAL, 9, 90, 90, "second"),
    ];
    for events in orders(events) {
        let model = build(events, 20);
        let task = &model.tasks[0];
        assert_eq!((task.name.as_str(), task.tid), ("second", 90));
    }
}

#[test]
fn the_record_knows_the_last_name_and_tid_best() {
    let last = Born {
        tid: 90,
        comm: "renamed".to_owned(),
        ..born(SERIAL, 0)
    };
    let nameless = Born {
        comm: String::new(),
        ..last.clone()
    };
    for (last, name) in [(last, "renamed"), (nameless, "executed")] {
        let events = vec![
            Event::Born(born(SERIAL, 0)),
            exec(SERIAL, 5, 107, 107, "executed"),
            Event::Task(record(last, Some(9))),
        ];
        for events in orders(events) {
            let model = build(events, 20);
            assert_eq!(
                (model.tasks[0].name.as_str(), model.tasks[0].tid),
                (name, 90)
            );
        }
    }
}

#[test]
fn two_tasks_with_one_tid_are_kept_apart() {
    // After the exec of another thread, the leader's tid is that thread's.
    let leader = record(born(1, 0), Some(6));
    let thread = Born {
        tid: 101,
        process: 1,
        ..born(2, 2)
    };
    let events = vec![
        Event::Task(leader),
        exec(2, 6, 102, 101, "thread"),
        Event::Task(record(thread, Some(12))),
    ];
    for events in orders(events) {
        let model = build(events, 20);
        let lives: Vec<_> = model
            .tasks
            .iter()
            .map(|t| (t.tid, t.start_ns, t.end_ns))
            .collect();
        assert_eq!(lives, [(101, 0, 6), (101, 2, 12)]);
        assert!(model.tasks.iter().all(|t| t.process == 1));
    }
}

fn syscall(name: &str) -> i16 {
    Arch::X86_64.syscall_number(name).expect("x86 has it") as i16
}

/// Numbers of stretches, the syscalls that they were in, and those that are seen.
#[track_caller]
fn check_restarts(stretches: &[(u32, Why, &str)], seen: &[&str]) {
    let mut events = vec![Event::Born(born(SERIAL, 0))];
    for &(seq, why, name) in stretches {
        let at = 10 * u64::from(seq);
        let mut s = stretch(SERIAL, seq, why, [at, at + 2, at + 3]);
        s.syscall = syscall(name);
        events.push(Event::Stretch(s));
    }
    for events in orders(events) {
        let model = build(events, 100);
        let names = model.tasks[0].stretches.iter();
        let names = names.map(|s| Arch::X86_64.syscall_name(s.syscall.into()).expect("a name"));
        assert_eq!(names.collect::<Vec<_>>(), seen, "{stretches:?}");
    }
}

#[test]
fn a_restarted_syscall_is_the_one_before() {
    use Why::{Interruptible, Preempted, Stopped};
    check_restarts(
        &[
            (0, Interruptible, "poll"),
            (1, Stopped, "poll"),
            (2, Interruptible, "restart_syscall"),
            (3, Interruptible, "restart_syscall"),
            (4, Interruptible, "read"),
        ],
        &["poll", "poll", "poll", "poll", "read"],
    );
    // A preemption on the way is no syscall.
    check_restarts(
        &[
            (0, Interruptible, "clock_nanosleep"),
            (1, Preempted, "getpid"),
            (2, Interruptible, "restart_syscall"),
        ],
        &["clock_nanosleep", "getpid", "clock_nanosleep"],
    );
}

#[test]
fn a_restarted_syscall_is_not_joined_across_a_gap() {
    use Why::Interruptible;
    check_restarts(
        &[
            (0, Interruptible, "poll"),
            (2, Interruptible, "restart_syscall"),
            (3, Interruptible, "restart_syscall"),
        ],
        &["poll", "restart_syscall", "restart_syscall"],
    );
    // The gap is at the start.
    check_restarts(
        &[(1, Interruptible, "restart_syscall")],
        &["restart_syscall"],
    );
}

/// What the open stretch is in, after stretches with these numbers.
fn open_restart(seqs: &[u32], expected: u32) -> Option<&'static str> {
    let mut events = Vec::new();
    for &seq in seqs {
        let at = 10 * u64::from(seq);
        let mut s = stretch(SERIAL, seq, Why::Interruptible, [at, at + 2, at + 3]);
        s.syscall = syscall("poll");
        events.push(Event::Stretch(s));
    }
    let mut record = record(born(SERIAL, 0), None);
    record.totals.seq = expected;
    record.open = Some(OpenStretch {
        out_ns: START + 50,
        wake_ns: None,
        why: Why::Interruptible,
        compat: false,
        syscall: syscall("restart_syscall"),
        arg0: 0,
        arg1: 0,
        waker: Waker::None,
        object: 0,
        timeout: Timeout::None,
    });
    events.push(Event::Task(record));
    let model = build(events, 100);
    Arch::X86_64.syscall_name(model.tasks[0].open?.syscall.into())
}

#[test]
fn an_open_restarted_syscall_is_the_one_before() {
    assert_eq!(open_restart(&[0, 1], 2), Some("poll"));
    assert_eq!(open_restart(&[], 0), Some("restart_syscall"));
}

#[test]
fn an_open_restarted_syscall_is_not_joined_across_a_gap() {
    assert_eq!(open_restart(&[0, 1], 4), Some("restart_syscall"));
    assert_eq!(open_restart(&[0, 2], 4), Some("restart_syscall"));
}

#[test]
fn a_reused_tgid_is_that_of_the_process_that_is_followed() {
    let first = record(born(1, 0), Some(5));
    let mut second = record(born(2, 6), Some(12));
    second.born.tgid = first.born.tgid;
    let events = [
        Event::Task(first),
        Event::Task(second),
        // Its end is lost.
        Event::Untracked(untracked(201, 101, 2)),
        Event::Untracked(untracked(202, 101, 8)),
    ];
    let model = build(events, 20);
    let process_of = |tid| model.tasks.iter().find(|t| t.tid == tid).map(|t| t.process);
    assert_eq!(process_of(202), Some(2));
}

fn untracked(tid: u32, tgid: u32, at_ns: u64) -> Untracked {
    Untracked {
        tid,
        tgid,
        ppid: 99,
        at_ns: START + at_ns,
        comm: "many".to_owned(),
    }
}

/// The drawings of all tasks.
fn draw_all(events: impl IntoIterator<Item = Event>, end_ns: u64) -> Vec<String> {
    build(events, end_ns).tasks.iter().map(draw).collect()
}

#[test]
fn a_task_that_is_not_followed_is_unknown_all_along() {
    let events = [
        Event::Untracked(untracked(200, 200, 3)),
        Event::UntrackedEnd(untracked(200, 200, 8)),
        Event::Untracked(untracked(200, 200, 9)),
    ];
    let model = build(events.clone(), 12);
    assert!(model.tasks.iter().all(|t| !t.followed && t.tid == 200));
    // The second one has the first one's tid.
    assert_eq!(draw_all(events, 12), ["   ?????$", "         ???~"]);
}

/// The end was on another CPU than the creation, whose ring was emptied first.
#[test]
fn the_creation_and_the_end_of_a_task_that_is_not_followed_come_in_any_order() {
    let events = vec![
        Event::Untracked(untracked(200, 200, 3)),
        Event::UntrackedEnd(untracked(200, 200, 8)),
        Event::Untracked(untracked(200, 200, 9)),
        Event::Untracked(untracked(201, 201, 10)),
        Event::UntrackedEnd(untracked(201, 201, 10)),
    ];
    for events in orders(events) {
        let seen = draw_all(events, 12);
        assert_eq!(seen, ["   ?????$", "         ???~", "          $"]);
    }
}

#[test]
fn a_task_that_is_not_followed_and_whose_creation_is_lost_was_there() {
    let model = build([Event::UntrackedEnd(untracked(200, 200, 8))], 12);
    assert_eq!((model.tasks.len(), model.tasks[0].end_ns), (1, 8));
}

#[test]
fn a_task_that_is_not_followed_belongs_to_the_process_with_its_tgid() {
    let first = record(born(1, 0), Some(5));
    // Another process with the same pid, later.
    let mut second = record(born(2, 6), Some(12));
    second.born.tgid = first.born.tgid;
    let events = [
        Event::Task(first),
        Event::Task(second),
        Event::Untracked(untracked(201, 101, 2)),
        Event::UntrackedEnd(untracked(201, 101, 4)),
        Event::Untracked(untracked(202, 101, 8)),
        Event::Untracked(untracked(203, 300, 8)),
    ];
    let model = build(events, 20);
    let process_of = |tid| model.tasks.iter().find(|t| t.tid == tid).map(|t| t.process);
    assert_eq!(process_of(201), Some(1));
    assert_eq!(process_of(202), Some(2));
    let own = model
        .tasks
        .iter()
        .find(|t| t.tid == 203)
        .expect("it is there");
    assert_eq!(own.process, own.serial, "nobody else is of its process");
}

#[test]
fn a_task_that_is_not_followed_ends_no_later_than_its_process() {
    let thread = |serial, start, end| {
        let mut record = record(born(serial, start), end);
        record.born.process = 1;
        record.born.tgid = 101;
        Event::Task(record)
    };
    let lost_end = Event::Untracked(untracked(200, 101, 3));
    // All of its process ended: it can't have lived longer.
    assert_eq!(
        draw_all(
            [
                thread(1, 0, Some(5)),
                thread(2, 1, Some(8)),
                lost_end.clone()
            ],
            12
        )[2],
        "   ?????~"
    );
    // One of its process lives.
    assert_eq!(
        draw_all([thread(1, 0, Some(5)), thread(2, 1, None), lost_end], 12)[2],
        "   ?????????~"
    );
}

#[test]
fn nothing_makes_an_empty_model() {
    let model = build([], 5);
    assert!(model.tasks.is_empty());
    assert_eq!(model.end_ns, 5);
}

/// Times around the start and the end of the trace, and at the ends of time.
fn any_time() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => START..START + 40,
        1 => START - 10..START + 60,
        1 => Just(0),
        1 => Just(u64::MAX),
        1 => any::<u64>(),
    ]
}

fn any_seq() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0u32..6, 1 => Just(u32::MAX), 1 => any::<u32>()]
}

fn any_why() -> impl Strategy<Value = Why> {
    prop::sample::select(vec![
        Why::New,
        Why::Preempted,
        Why::Interruptible,
        Why::Killable,
        Why::Uninterruptible,
        Why::Stopped,
        Why::Traced,
        Why::Frozen,
        Why::CoreDump,
    ])
}

fn any_born() -> impl Strategy<Value = Born> {
    (0u32..4, 0u32..4, any_time()).prop_map(|(serial, process, at_ns)| Born {
        process,
        at_ns,
        ..born(serial, 0)
    })
}

fn any_untracked() -> impl Strategy<Value = Untracked> {
    (100u32..104, 100u32..104, any_time()).prop_map(|(tid, tgid, at_ns)| Untracked {
        at_ns,
        ..untracked(tid, tgid, 0)
    })
}

fn any_event() -> impl Strategy<Value = Event> {
    let stretch = (
        0u32..4,
        any_seq(),
        any_time(),
        any_time(),
        any_time(),
        any_why(),
        0i16..300,
    );
    let stretch = stretch.prop_map(|(serial, seq, out_ns, wake_ns, in_ns, why, syscall)| {
        Event::Stretch(Stretch {
            out_ns,
            wake_ns,
            in_ns,
            syscall,
            ..super::tests::stretch(serial, seq, why, [0; 3])
        })
    });
    let open =
        (any_time(), prop::option::of(any_time()), any_why()).prop_map(|(out_ns, wake_ns, why)| {
            OpenStretch {
                out_ns,
                wake_ns,
                why,
                compat: false,
                syscall: 219,
                arg0: 0,
                arg1: 0,
                waker: Waker::None,
                object: 0,
                timeout: Timeout::None,
            }
        });
    let record = (
        any_born(),
        prop::option::of(any_time()),
        any_seq(),
        prop::option::of(open),
    );
    let record = record.prop_map(|(born, end_ns, seq, open)| {
        let mut record = super::tests::record(born, None);
        (record.end_ns, record.totals.seq, record.open) = (end_ns, seq, open);
        Event::Task(record)
    });
    prop_oneof![
        6 => stretch,
        2 => record,
        1 => any_born().prop_map(Event::Born),
        1 => (0u32..4, any_time()).prop_map(|(serial, at)| match exec(serial, 0, 1, 2, "") {
            Event::Exec(e) => Event::Exec(Exec { at_ns: at, ..e }),
            other => other,
        }),
        1 => any_untracked().prop_map(Event::Untracked),
        1 => any_untracked().prop_map(Event::UntrackedEnd),
    ]
}

/// What holds of any model, whatever it was made of.
fn check_whole(model: &Model) -> Result<(), TestCaseError> {
    for task in &model.tasks {
        prop_assert!(task.start_ns <= task.end_ns, "{:?}", task);
        prop_assert!(task.end_ns <= model.end_ns, "{:?}", task);
        let mut cursor = task.start_ns;
        for segment in task.segments() {
            prop_assert_eq!(segment.start_ns, cursor, "{:?}", task);
            prop_assert!(segment.end_ns > cursor, "{:?}", task);
            cursor = segment.end_ns;
        }
        prop_assert_eq!(cursor, task.end_ns, "{:?}", task);
    }
    prop_assert!(model.tasks.is_sorted_by_key(|t| (t.start_ns, t.serial)));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// A forged file, or one from a kernel whose clock goes back.
    #[test]
    fn nonsense_makes_whole_lives(
        events in prop::collection::vec(any_event(), 0..24),
        end_ns in any_time(),
    ) {
        let mut builder = Builder::new(START, Arch::X86_64);
        for event in events {
            builder.push(event);
        }
        check_whole(&builder.build(end_ns))?;
    }

    /// Drawings that nobody thought of.
    #[test]
    fn what_is_seen_is_what_happened(
        offset in 0usize..4,
        new in 1usize..4,
        parts in prop::collection::vec((1usize..4, 0usize..5, 0usize..4, any::<bool>()), 0..8),
        last in 1usize..4,
        end in prop::sample::select(vec!['$', '>']),
    ) {
        let mut drawing = " ".repeat(offset) + &"w".repeat(new);
        for (run, away, wait, stop) in parts {
            drawing += &"r".repeat(run);
            drawing += match (away, stop) {
                (0, _) => "|",
                (_, true) => "s",
                (_, false) => "b",
            };
            drawing += &if stop { "s" } else { "b" }.repeat(away.saturating_sub(1));
            drawing += &"w".repeat(wait);
        }
        drawing += &"r".repeat(last);
        drawing.push(end);
        check(&drawing);
    }
}
