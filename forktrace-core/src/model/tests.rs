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

mod identity;
mod joins;
mod nonsense;
mod not_followed;

use super::*;
use crate::{
    drawn::{self, any_why},
    trace::Arch,
    trace::{Born, Event, Exec, Stretch, Timeout, Untracked, Waker},
};

/// The trace begins here.
const START: u64 = 1_000_000;

/// The task of the pictures.
const SERIAL: u32 = 7;

fn born(serial: u32, at_ns: u64) -> Born {
    Born {
        parent: 1,
        process: serial,
        tgid: 100 + serial,
        ppid: 99,
        comm: "born".to_owned(),
        ..drawn::born(serial, START + at_ns)
    }
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

fn exec(serial: u32, at_ns: u64, old_tid: u32, tid: u32, comm: &str) -> Event {
    Event::Exec(Exec {
        serial,
        old_tid,
        tid,
        at_ns: START + at_ns,
        comm: comm.to_owned(),
    })
}

/// A record of a task without stretches.
fn record(born: Born, end_ns: Option<u64>) -> TaskRecord {
    drawn::record(born, end_ns.map(|ns| START + ns))
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
        task.stretches
            .with_cpus()
            .map(|(_, cpu)| u32::from(cpu.unwrap()))
            .eq(numbers),
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
    assert_eq!(model.tasks[0].stretches.at(1).state(), State::Blocked);
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
