//! The progress line of a long recording.

use std::{
    io::{self, IsTerminal as _, Write as _},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use forktrace_core::{
    render::text::{
        deadlock_lines, deadlock_sentence,
        figures::{clean, duration},
    },
    report::{Deadlock, words::quantity},
    words::without_error_numbers,
};
use forktrace_record::{at_work::AtWork, noticed::GoesOn, record::Progress};
use rustix::termios::{LocalModes, tcgetattr, tcgetpgrp};

/// Nothing is shown before this: most recordings are short.
const FIRST: Duration = Duration::from_secs(3);
/// That all are blocked is worth telling from here on, ns.
const ALL_BLOCKED: u64 = 500_000_000;
/// The line is renewed this often.
const INTERVAL: Duration = Duration::from_secs(1);

/// A line on standard error that is written over again and again.
#[derive(Debug)]
pub(crate) struct ProgressLine {
    enabled: bool,
    /// When the next line is due, since the workload began.
    due: Duration,
    shown: bool,
    /// What the last line said of Ctrl-C.
    presses_left: Option<u32>,
}

impl ProgressLine {
    /// A line, or none.
    pub(crate) fn new(enabled: bool) -> Self {
        Self {
            enabled,
            due: FIRST,
            shown: false,
            presses_left: None,
        }
    }

    /// Shows how far the recording is, if it is time.
    pub(crate) fn show(&mut self, progress: &Progress) {
        // Who has pressed Ctrl-C wants to know at once what became of it.
        let pressed = progress.presses_left.is_some() && progress.presses_left != self.presses_left;
        if !self.enabled || progress.elapsed < self.due && !pressed {
            return;
        }
        self.presses_left = progress.presses_left;
        self.due = progress.elapsed + INTERVAL;
        if !terminal_is_ours() {
            // What was shown is not ours to take away any more.
            self.shown = false;
            return;
        }
        self.shown = true;
        // The line is a courtesy: a terminal that can't be written to is no error.
        let _ = write!(io::stderr(), "\r\x1b[K{}", line(progress));
    }

    /// Says at once that tasks can never go on.
    pub(crate) fn deadlock(&mut self, deadlock: &Deadlock) {
        self.clear();
        let more = "  The run goes on; end it with Ctrl-C and the report follows.\n";
        say(&(message(deadlock) + more));
    }

    /// Takes back that tasks can never go on.
    pub(crate) fn goes_on(&mut self, it: &GoesOn) {
        self.clear();
        say_goes_on(it);
    }

    /// Shows what the kernel programs say.
    pub(crate) fn log(&mut self, text: &str) {
        self.clear();
        let _ = writeln!(io::stderr(), "forktrace: eBPF: {}", text.escape_debug());
    }

    /// Says which names can't be had.
    pub(crate) fn no_names(&mut self, text: &str) {
        self.clear();
        say_no_names(text);
    }

    /// Says that the trace is not whole, and why.
    pub(crate) fn not_written(&mut self, why: &str) {
        self.clear();
        say(&format!(
            "forktrace: the trace can't be written ({}): what comes from now on may be missing\n",
            why.escape_debug()
        ));
    }

    /// Says what it waits for, to whom presses Ctrl-C when the recording is over.
    pub(crate) fn last_look_ups(&mut self, presses_left: u32) {
        self.clear();
        say(&still_looking_up(presses_left));
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) && terminal_is_ours() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Whether standard error is a terminal whose foreground job we are, in the mode in
/// which a shell leaves it to us: not where another program draws on it.
fn terminal_is_ours() -> bool {
    let stderr = io::stderr();
    let modes = tcgetattr(&stderr).map(|it| it.local_modes);
    in_foreground() && modes.is_ok_and(|modes| modes.contains(LocalModes::ICANON))
}

fn in_foreground() -> bool {
    tcgetpgrp(io::stderr()).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// Says something on standard error while the workload runs. A terminal on which jobs in
/// the background may not write would stop us for it, and the workload with us.
fn say(text: &str) {
    let stderr = io::stderr();
    let stops_us = stderr.is_terminal()
        && !in_foreground()
        && tcgetattr(&stderr).is_ok_and(|it| it.local_modes.contains(LocalModes::TOSTOP));
    if !stops_us {
        let _ = stderr.lock().write_all(text.as_bytes());
    }
}

/// Says that what was asked for is traced from now on, and how that ends.
pub(crate) fn say_attached(words: &[String], tasks: u64) {
    say(&attached(words, tasks));
}

fn attached(words: &[String], tasks: u64) -> String {
    let words: Vec<_> = words.iter().map(|it| clean(it)).collect();
    let plural = if tasks == 1 { "" } else { "s" };
    format!(
        "forktrace: attached to {}: {tasks} task{plural}; Ctrl-C ends the recording.\n",
        words.join(", ")
    )
}

/// Says which processes are not followed, though who started them is.
pub(crate) fn say_left_out(processes: &[String]) {
    if let Some(text) = left_out(processes) {
        say(&text);
    }
}

fn left_out(processes: &[String]) -> Option<String> {
    /// So many are named.
    const MOST: usize = 3;
    let names: Vec<_> = processes.iter().take(MOST).map(|it| clean(it)).collect();
    let (they, them) = match processes.len() {
        0 => return None,
        1 => ("process that it created before is", "it"),
        _ => ("processes that it created before are", "them"),
    };
    let more = if processes.len() > MOST { ", …" } else { "" };
    Some(format!(
        "forktrace: {} {they} not followed: {}{more}; more `-p`, or `-n NAME`, take {them} in.\n",
        processes.len(),
        names.join(", "),
    ))
}

/// Says what is watched, for what, and where it is saved.
pub(crate) fn say_watching(
    words: &[String],
    tasks: u64,
    saves: Option<(&str, &Path)>,
    exports: Option<(Duration, &Path)>,
) {
    let words: Vec<_> = words.iter().map(|it| clean(it)).collect();
    let folder = |path: &Path| clean(&path.to_string_lossy());
    let saves = saves.map_or(String::new(), |(when, to)| {
        let (when, to) = (clean(when), folder(to));
        format!("; when {when}, the last seconds go to {to}")
    });
    let exports = exports.map_or(String::new(), |(every, to)| {
        format!("; tables go to {} every {every:?}", folder(to))
    });
    say(&format!(
        "forktrace: watching {}: {}{saves}{exports}; Ctrl-C ends it.\n",
        words.join(", "),
        quantity(tasks, "task"),
    ));
}

/// Says that what is watched for has come.
pub(crate) fn say_true(at: &str, when: &str, cause: &str) {
    let cause = match cause {
        "none" => String::new(),
        cause => format!(" (all are blocked: {})", cause.replace('_', " ")),
    };
    say(&format!(
        "forktrace: {at}: {} is true{cause}.\n",
        clean(when)
    ));
}

/// Says that it has been saved.
pub(crate) fn say_saved(trace: &Path, passed_over: u64) {
    let more = match passed_over {
        0 => String::new(),
        n => format!("; before, {}", too_soon(n)),
    };
    let trace = trace.to_string_lossy();
    say(&format!("forktrace: saved {}{more}.\n", clean(&trace)));
}

/// That it came true so many times and was not saved.
fn too_soon(times: u64) -> String {
    let times = match times {
        1 => "once more".to_owned(),
        n => format!("{n} more times"),
    };
    format!("it came true {times}, too soon after the last to be saved (--pause)")
}

/// Says how watching has ended, and how often since the last trace it came true and was not saved.
pub(crate) fn say_watched(
    saved: Option<((u64, u64), &Path)>,
    passed_over: u64,
    exported: Option<((u64, u64), &Path)>,
) {
    let said = |done: Option<((u64, u64), &Path)>, what: &str, how: &str| {
        done.map_or(String::new(), |((well, failed), folder)| {
            let failed = match failed {
                0 => String::new(),
                n => format!(", and {} could not be", quantity(n, "other")),
            };
            let (well, folder) = (quantity(well, what), folder.to_string_lossy());
            format!("; {well} {how} {}{failed}", clean(&folder))
        })
    };
    let more = match passed_over {
        0 => String::new(),
        n => format!("; after the last of them {}", too_soon(n)),
    };
    say(&format!(
        "forktrace: the watch is over{}{more}{}.\n",
        said(saved, "trace", "saved in"),
        said(exported, "window", "exported to"),
    ));
}

/// Says that the view is closed, and what comes then.
#[cfg(feature = "top")]
pub(crate) fn say_view_closed() {
    say(
        "forktrace: the view is closed, and the command goes on; what it prints from now on comes when it has ended.\n",
    );
}

/// Says that something went wrong which does not end it.
pub(crate) fn say_trouble(text: &str) {
    say(&format!(
        "forktrace: {}\n",
        clean(&without_error_numbers(text))
    ));
}

/// Says that tasks can never go on.
pub(crate) fn say_deadlock(deadlock: &Deadlock) {
    say(&message(deadlock));
}

/// Takes back that tasks can never go on.
pub(crate) fn say_goes_on(it: &GoesOn) {
    say(&taken_back(it));
}

/// Says what the kernel programs say.
pub(crate) fn say_log(text: &str) {
    say(&format!("forktrace: eBPF: {}\n", text.escape_debug()));
}

/// Says which names can't be had.
pub(crate) fn say_no_names(text: &str) {
    say(&format!("forktrace: {}\n", text.escape_debug()));
}

/// Says where the metrics are.
pub(crate) fn say_metrics(address: SocketAddr) {
    say(&format!("forktrace: metrics at http://{address}/metrics\n"));
}

/// Says which processes a signal has left running.
pub(crate) fn say_left(left: &[(u32, String)]) {
    say(&left_running(left));
}

/// Says that the report is being made, to whom presses Ctrl-C for it.
pub(crate) fn say_patience() {
    say("forktrace: the recording is over and the report is being made; Ctrl-C again ends that\n");
}

fn still_looking_up(presses_left: u32) -> String {
    let presses = match presses_left {
        1 => "Ctrl-C again ends".to_owned(),
        left => format!("Ctrl-C {left} times more ends"),
    };
    format!(
        "forktrace: the recording is over, and the last names are being looked up; {presses} that\n"
    )
}

fn left_running(left: &[(u32, String)]) -> String {
    /// More are only counted.
    const MOST: usize = 10;
    if left.is_empty() {
        return "forktrace: a signal ended the recording.\n".to_owned();
    }
    let named = left.iter().take(MOST);
    let named: Vec<_> = named
        .map(|(pid, name)| format!("{pid} ({})", clean(name)))
        .collect();
    let more = match left.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "forktrace: a signal ended the recording; still running: {}{more}.\n",
        named.join(", ")
    )
}

fn line(p: &Progress) -> String {
    let AtWork {
        running,
        runnable,
        blocked,
        stopped,
        all_blocked_ns,
        ..
    } = p.at_work;
    let want = if runnable == 1 { "wants" } else { "want" };
    let mut text = format!(
        "forktrace: {} s; {}: {running} running, {runnable} {want} a CPU, {blocked} blocked",
        p.elapsed.as_secs(),
        quantity(p.live, "task"),
    );
    if stopped > 0 {
        text.push_str(&format!(", {stopped} stopped"));
    }
    if all_blocked_ns >= ALL_BLOCKED {
        let seconds = all_blocked_ns as f64 / 1e9;
        text.push_str(&format!("; all blocked for {seconds:.1} s"));
    }
    if p.lost > 0 {
        text.push_str(&format!("; {} lost", quantity(p.lost, "record")));
    }
    match p.presses_left {
        None | Some(0) => {}
        Some(1) => text.push_str("; Ctrl-C again ends the recording"),
        Some(left) => text.push_str(&format!("; Ctrl-C {left} times more ends the recording")),
    }
    text
}

fn message(deadlock: &Deadlock) -> String {
    let mut text = format!("forktrace: {}\n", deadlock_sentence(deadlock));
    for line in deadlock_lines(deadlock) {
        text.push_str(&format!("  - {line}\n"));
    }
    text
}

fn taken_back(it: &GoesOn) -> String {
    format!(
        "forktrace: tid {} ({}) has gone on at {}: what was said at {} did not last.\n",
        it.tid,
        clean(&it.name),
        duration(it.at_ns),
        duration(it.found_ns),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use forktrace_core::report::{DeadlockKind, DeadlockedTask};

    #[test]
    fn who_is_not_followed_is_told() {
        let of = |n: u32| {
            let titles = (1..=n).map(|pid| format!("nginx (pid {pid})"));
            left_out(&titles.collect::<Vec<_>>())
        };
        assert_eq!(of(0), None);
        assert_eq!(
            of(1).as_deref(),
            Some(
                "forktrace: 1 process that it created before is not followed: nginx (pid 1); \
                 more `-p`, or `-n NAME`, take it in.\n"
            )
        );
        assert_eq!(
            of(4).as_deref(),
            Some(
                "forktrace: 4 processes that it created before are not followed: nginx (pid 1), \
                 nginx (pid 2), nginx (pid 3), …; more `-p`, or `-n NAME`, take them in.\n"
            )
        );
    }

    #[test]
    fn a_deadlock_is_told_with_names_and_owners() {
        let task = |serial: u32, name: &str, waits_for: &str, owner| DeadlockedTask {
            serial,
            tid: 4120 + serial,
            name: name.to_owned(),
            waits_for: waits_for.to_owned(),
            owner,
            since_ns: 200_000_000,
            waited_before_ns: None,
            code: None,
        };
        let mut deadlock = Deadlock {
            at_ns: 1_200_000_000,
            end_ns: None,
            kind: DeadlockKind::Cycle,
            tasks: vec![
                task(1, "left", "mutex 0x7f01", Some(2)),
                task(2, "ri\x1bght", "mutex 0x7f02", Some(1)),
            ],
        };
        assert_eq!(
            message(&deadlock),
            "forktrace: Deadlock, found at 1.20 s: each of 2 tasks waits for a lock that the next one holds, \
             in a circle.\n  \
             - tid 4121 (left) waits for mutex 0x7f01, held by tid 4122, since 200 ms\n  \
             - tid 4122 (ri\\x1bght) waits for mutex 0x7f02, held by tid 4121, since 200 ms\n"
        );
        deadlock.tasks = vec![task(1, "once", "mutex 0x7f01", Some(1))];
        assert!(message(&deadlock).contains("held by itself"));
        deadlock.kind = DeadlockKind::AllAsleep;
        deadlock.tasks = vec![
            task(1, "sh", "child", None),
            task(2, "worker", "futex 0x1", None),
        ];
        let text = message(&deadlock);
        assert!(text.contains("Hang since 1.20 s: 2 tasks sleep"), "{text}");
        assert!(text.contains("waits for a child to end"), "{text}");
    }

    #[test]
    fn what_did_not_last_is_taken_back() {
        let it = GoesOn {
            found_ns: 1_170_000_000,
            tid: 7,
            name: "a\x1bb".to_owned(),
            at_ns: 2_500_000_000,
        };
        assert_eq!(
            taken_back(&it),
            "forktrace: tid 7 (a\\x1bb) has gone on at 2.50 s: what was said at 1.17 s did not last.\n"
        );
    }

    #[test]
    fn the_line_says_what_a_waiting_person_wants_to_know() {
        let progress = Progress {
            elapsed: Duration::from_millis(12_345),
            tasks: 7,
            live: 5,
            records: 1_000,
            lost: 0,
            at_work: AtWork {
                running: 1,
                runnable: 1,
                blocked: 3,
                ..AtWork::default()
            },
            presses_left: None,
        };
        assert_eq!(
            line(&progress),
            "forktrace: 12 s; 5 tasks: 1 running, 1 wants a CPU, 3 blocked"
        );
        let stuck = Progress {
            lost: 2,
            at_work: AtWork {
                blocked: 5,
                all_blocked_ns: 1_230_000_000,
                ..AtWork::default()
            },
            ..progress
        };
        assert_eq!(
            line(&stuck),
            "forktrace: 12 s; 5 tasks: 0 running, 0 want a CPU, 5 blocked; all blocked for 1.2 s; \
             2 records lost"
        );
        let pressed = Progress {
            presses_left: Some(2),
            ..progress
        };
        assert!(line(&pressed).ends_with("3 blocked; Ctrl-C 2 times more ends the recording"));
    }

    #[test]
    fn who_waits_for_names_is_told_how_to_end_that() {
        assert_eq!(
            still_looking_up(1),
            "forktrace: the recording is over, and the last names are being looked up; Ctrl-C \
             again ends that\n"
        );
        assert!(still_looking_up(2).ends_with("Ctrl-C 2 times more ends that\n"));
    }

    #[test]
    fn what_it_is_attached_to_is_named() {
        assert_eq!(
            attached(&["a\x1bb (pid 7)".to_owned(), "the unit c".to_owned()], 1),
            "forktrace: attached to a\\x1bb (pid 7), the unit c: 1 task; Ctrl-C ends the \
             recording.\n"
        );
    }

    #[test]
    fn who_is_left_running_is_named() {
        assert_eq!(
            left_running(&[(7, "sh".to_owned()), (9, "a\x1bb".to_owned())]),
            "forktrace: a signal ended the recording; still running: 7 (sh), 9 (a\\x1bb).\n"
        );
        let many: Vec<_> = (0..12).map(|pid| (pid, "x".to_owned())).collect();
        assert!(left_running(&many).ends_with("9 (x) and 2 more.\n"));
    }
}
