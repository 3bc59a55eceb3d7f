//! The same of a group of one task: what it did is what the group did.

use super::{Collector, Histogram, Profile, Stops};
use crate::{
    analysis::{same_reason::SameReason, sum_by_key::SumByKey},
    model::{InSyscall, Part, Segment, State, Task},
    report::Wall,
};

/// The figures of a task by itself, and why it was blocked: as a sweep finds them.
pub(in crate::analysis) fn of_one(
    task: &Task,
    part: &Part,
    mut same_reason: SameReason,
) -> (Profile, SameReason) {
    let mut by_state = [0u64; 5];
    let mut by_call: SumByKey<InSyscall, u64> = SumByKey::default();
    let mut starved = Collector::default();
    let (mut stops, mut wanted_until_ns) = (Stops::default(), 0);
    let each = |segment: Segment| {
        let (from_ns, to_ns) = part.of(segment.start_ns, segment.end_ns);
        if to_ns <= from_ns {
            stops.close(wanted_until_ns);
            return;
        }
        wanted_until_ns = to_ns;
        by_state[segment.state.index()] += to_ns - from_ns;
        stops.at(from_ns, u32::from(segment.state == State::Stopped), 1);
        match (segment.state, segment.syscall) {
            (State::Runnable, _) => starved.add(from_ns, to_ns),
            (_, Some(call)) => *by_call.of(call) += to_ns - from_ns,
            _ => {}
        }
    };
    task.segments().each(|_| {}, each);
    stops.close(wanted_until_ns);
    for (call, ns) in by_call.into_rows() {
        let reason = same_reason.reason(0, call);
        same_reason.enter(reason);
        same_reason.pass(ns, 0);
        same_reason.leave(reason);
    }
    let of = |state: State| by_state[state.index()];
    let all_ns: u64 = by_state.iter().sum();
    let counted = |state: State| {
        let mut times = Histogram::default();
        times.add(0, all_ns - of(state));
        times.add(1, of(state));
        times.finish()
    };
    let profile = Profile {
        lifetime_ns: all_ns,
        most_live: u32::from(all_ns > 0),
        starved: starved.finish(of(State::Runnable) + of(State::Unknown)),
        wall: Wall {
            running_ns: of(State::Running),
            cpu_ns: of(State::Running),
            unknown_ns: of(State::Unknown),
            starved_ns: of(State::Runnable),
            blocked_ns: of(State::Blocked),
            stopped_ns: of(State::Stopped),
        },
        blocked_at_once: counted(State::Blocked),
        running_at_once: counted(State::Running),
        unknown_ns: of(State::Unknown),
        stops: stops.listed,
        ..Profile::default()
    };
    (profile, same_reason)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::Sweep, *};
    use crate::{
        analysis::changes::{
            Change,
            tests::{model, some_tasks},
        },
        trace::Arch,
    };

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn a_sweep_over_one_task_finds_the_same(
            tasks in some_tasks(),
            (from_ns, length_ns) in prop_oneof![
                Just((0, u64::MAX)),
                (0u64..200, 0u64..200),
            ],
        ) {
            let part = Part { from_ns, to_ns: from_ns.saturating_add(length_ns), tasks: None };
            let reasons = || SameReason::new(Arch::X86_64, vec![false]);
            for task in &model(&tasks).tasks {
                let mut sweep = Sweep::new(1, reasons(), &part);
                let mut end_ns = None;
                for segment in task.segments() {
                    sweep.change(0, &Change::new(segment.start_ns, 0, Some(&segment)), None);
                    end_ns = Some(segment.end_ns);
                }
                if let Some(end_ns) = end_ns {
                    sweep.change(0, &Change::new(end_ns, 0, None), None);
                }
                let (profile, same_reason, _) = sweep.finish();
                let (found, of_one) = of_one(task, &part, reasons());
                prop_assert_eq!(found, profile);
                let (found, expected) = (of_one.finish(), same_reason.finish());
                prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"));
            }
        }
    }
}
