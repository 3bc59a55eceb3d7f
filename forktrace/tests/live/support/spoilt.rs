//! Recordings that the machine spoilt are made again.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use forktrace_core::report::WeaknessKind;

use super::{report::Report, skip};

thread_local! {
    /// What spoilt a recording of the test that runs on this thread.
    static SPOILT: RefCell<Option<Spoilt>> = const { RefCell::new(None) };
}

enum Spoilt {
    /// The report itself says that it is not exact.
    Inexact,
    /// Others had the CPUs, so that the test has nothing to compare.
    Busy(String),
}

/// What the kernel did not announce, what came too fast for a forktrace without a CPU, for
/// its programs when one is interrupted, and what was gone before that could look.
const INEXACT: [WeaknessKind; 6] = [
    WeaknessKind::SwitchInInferred,
    WeaknessKind::WakeupMissing,
    WeaknessKind::SwitchesMissed,
    WeaknessKind::RingFull,
    WeaknessKind::PollsLeftOut,
    WeaknessKind::NamesMissing,
];

/// Takes note if this report says that it is not exact.
pub(super) fn note(report: &Report) {
    let mut kinds = report.audit.weaknesses.iter().map(|it| &it.kind);
    if kinds.any(|kind| INEXACT.iter().any(|inexact| *kind == name(*inexact))) {
        note_inexact();
    }
}

/// Takes note if what was printed is a report that calls itself incomplete.
pub(super) fn note_text(output: &str) {
    if output.contains("Audit: ") && !output.contains("Audit: complete;") {
        note_inexact();
    }
}

/// As the JSON has it.
fn name(kind: WeaknessKind) -> serde_json::Value {
    serde_json::to_value(kind).expect("it is a name")
}

pub(super) fn note_inexact() {
    SPOILT.with_borrow_mut(|spoilt| *spoilt = Some(Spoilt::Inexact));
}

/// Ends this try of a test: what it needs happens on any machine, but not each time.
#[track_caller]
pub(crate) fn again(why: String) -> ! {
    note_inexact();
    panic!("this time it proves nothing: {why}");
}

/// Ends this try of a test: on a machine so busy it proves nothing.
#[track_caller]
pub(crate) fn too_busy(why: String) -> ! {
    SPOILT.with_borrow_mut(|spoilt| *spoilt = Some(Spoilt::Busy(why.clone())));
    panic!("the machine is too busy: {why}");
}

/// Runs a test. One that fails when a report says that it is not exact (the kernel did
/// not announce a switch or a wakeup) runs again. One that always fails fails, and one
/// that always finds the machine too busy is skipped.
///
/// A test that compares a report with the truth runs in this.
#[track_caller]
#[expect(clippy::print_stdout, reason = "a test's output is shown if it fails")]
pub(crate) fn unspoilt(test: impl Fn()) {
    const TRIES: u32 = 10;
    for tries_left in (0..TRIES).rev() {
        SPOILT.take();
        let Err(panic) = catch_unwind(AssertUnwindSafe(&test)) else {
            return;
        };
        match SPOILT.take() {
            Some(Spoilt::Busy(why)) if tries_left == 0 => {
                let name = std::thread::current().name().map(str::to_owned);
                return skip(&name.unwrap_or_default(), &format!("too busy: {why}"));
            }
            Some(_) if tries_left > 0 => println!("AGAIN: the machine spoilt it, see above"),
            _ => resume_unwind(panic),
        }
    }
}
