//! A record with gaps answers less: the first sentence says so before it says anything else,
//! and by how much.

use super::{duration, percent};
use crate::{
    report::{Confidence, Finding, FindingKind, Report, WeaknessKind},
    words::recased,
};

/// More than one part in so many that is uncertain is told, if the first finding is smaller than
/// that: another could be larger.
const LITTLE: u64 = 100;
/// From one part in so many on it is told whatever was found.
const MUCH: u64 = 20;

/// Says before the first finding what is not known.
pub(super) fn weaken(report: &Report, found: &mut [Finding]) {
    let Some(first) = found.first_mut() else {
        return;
    };
    let mut said = Vec::new();
    let weaknesses = &report.audit.weaknesses;
    let no_end = weaknesses
        .iter()
        .find(|it| it.kind == WeaknessKind::EndMissing);
    if let Some(no_end) = no_end {
        said.push(format!(
            "The trace breaks off at {}, and what came later is not known.",
            duration(no_end.start_ns.unwrap_or(0))
        ));
    }
    let whole = report.workload.duration_ns;
    let uncertain = match report.audit.complete {
        true => 0,
        false => report.audit.uncertain_ns.min(whole),
    };
    let is_less = first.ns < uncertain && uncertain > whole / LITTLE;
    let is_told = uncertain > 0 && (uncertain >= whole / MUCH || is_less);
    if is_told {
        said.push(format!(
            "For {} of {} ({}) it is uncertain what tasks did.",
            duration(uncertain),
            duration(whole),
            percent(uncertain, whole)
        ));
    }
    if said.is_empty() {
        return;
    }
    // Of what is not there nothing can be said, least of all that nothing was wrong.
    let is_nothing = first.kind == FindingKind::Idle;
    let sure = match is_nothing && no_end.is_some() || uncertain > whole / 2 {
        true => Confidence::Possible,
        false if is_told => Confidence::Likely,
        false => first.confidence,
    };
    first.confidence = first.confidence.max(sure);
    let sentence = recased(&first.sentence, char::to_ascii_lowercase);
    first.sentence = format!("{} As far as is known: {sentence}", said.join(" "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        analysis::{
            findings::tests::{SLEEP, TIMER, findings_with, slow},
            why_tests::task,
        },
        model::{Off, Target, Task},
    };

    /// Two that sleep for 50 ms of 80, one after the other.
    fn sleepers() -> Vec<Task> {
        let line = |serial, line| slow("naps", task(serial, serial, line, &[(SLEEP, 0, TIMER)]));
        let mut tasks = vec![line(1, "rbbbbbrr$"), line(2, "rbbbbbrr$")];
        tasks[1].ppid = 101;
        tasks
    }

    #[test]
    fn a_whole_record_is_not_weakened() {
        let all = findings_with(sleepers(), |_, _| ());
        assert!(!all[0].sentence.contains("As far as"), "{all:#?}");
    }

    #[test]
    fn of_a_trace_that_breaks_off_the_first_sentence_says_so() {
        let whole = findings_with(sleepers(), |_, _| ());
        let all = findings_with(sleepers(), |_, info| {
            info.finish = None;
            info.last_ns = info.header.start_ns + 40_000_000;
        });
        let first = &all[0].sentence;
        assert!(
            first.starts_with("The trace breaks off at 40.0 ms"),
            "{first}"
        );
        let rest = recased(&whole[0].sentence, char::to_ascii_lowercase);
        assert!(first.ends_with(&rest), "{first}");
        assert_eq!(all[1..], whole[1..]);
        // Nothing that was found says nothing of the rest.
        let ran = vec![slow("runs", task(1, 1, "rrrrrrrr$", &[]))];
        let all = findings_with(ran, |_, info| info.finish = None);
        assert_eq!(all[0].confidence, Confidence::Possible, "{all:#?}");
    }

    #[test]
    fn what_is_uncertain_is_told_by_how_much() {
        // How much of its sleep the second waited for a CPU is not known.
        let mut tasks = sleepers();
        let of = &mut tasks[1].stretches;
        of.edit(|offs| offs.iter_mut().for_each(|off| off.flags |= Off::NO_WAKE));
        let all = findings_with(tasks, |_, _| ());
        let first = &all[0].sentence;
        assert!(
            first.starts_with("For 50.0 ms of 80.0 ms (62.5 %)"),
            "{first}"
        );
        assert!(
            first.contains("uncertain") && first.contains("As far as is known"),
            "{first}"
        );
        assert!(all[0].confidence > Confidence::Proved, "{all:#?}");
        // A sleep lasted its time at least.
        let all = findings_with(sleepers(), |model, _| {
            model.targets.push(Target::Sleep);
            let sleep = model.targets.len() as u32 - 1;
            model.tasks[1].stretches.edit(|offs| {
                for off in offs {
                    (off.flags, off.target) = (off.flags | Off::NO_WAKE, sleep);
                    off.timeout_us = 30_000;
                }
            });
        });
        let first = &all[0].sentence;
        assert!(
            first.starts_with("For 20.0 ms of 80.0 ms (25.0 %)"),
            "{first}"
        );
    }
}
