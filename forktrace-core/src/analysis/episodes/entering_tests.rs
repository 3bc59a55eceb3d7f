//! What is said of stalls is the same whenever those who are blocked enter.

use proptest::prelude::*;

use super::{
    super::{
        blocks::Blocks,
        changes::{Changes, Early, Waits},
        members::Members,
        objects,
        profile::Sweep,
        providers::Kin,
        same_reason::SameReason,
        standstill::hangs,
        wakers::Wakers,
        why_tests::{any_tasks, header, model},
    },
    Stalls, Watch,
};
use crate::{model::Model, trace::Arch};

/// `process`: whose stalls; 0: those of all. `at_once`: each enters when it blocks; `early`: what
/// blocks were is looked at ahead.
fn stalls(model: &Model, process: u32, (at_once, early): (bool, bool)) -> Stalls {
    let header = header();
    let wakers = Wakers::new(model, &header);
    let blocks = Blocks::new(model, &wakers, Arch::X86_64);
    let targets = objects::representatives(model);
    let mut positions = Vec::new();
    let mut tasks: Vec<u32> = Vec::new();
    for (at, task) in (0..).zip(&model.tasks) {
        let is = process == 0 || task.process == process;
        positions.push(if is { tasks.len() as u32 } else { u32::MAX });
        tasks.extend(is.then_some(at));
    }
    let members = Members {
        group: process,
        tasks,
        positions: &positions,
    };
    let kin = Kin::new(&blocks);
    let hangs = hangs(&kin);
    let ahead = Early::new(model.tasks.len());
    ahead.set(&members, early);
    let mut watch = Watch::new(&kin, &members, &targets, &hangs, (usize::MAX, &ahead));
    watch.at_once = at_once;
    let same_reason = SameReason::new(Arch::X86_64, vec![false; members.len()]);
    let mut sweep = Sweep::new(members.len(), same_reason, watch);
    let mut changes = Changes::new(model, &members.tasks, Waits::new(&blocks, &ahead));
    while let Some(window) = changes.next() {
        for (change, wait) in window.changes() {
            let position = members.position(change.task).unwrap();
            sweep.change(position as usize, change, wait);
        }
    }
    let (_, _, watch) = sweep.finish();
    watch.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn stalls_are_the_same_whenever_members_enter(tasks in any_tasks(), process in 0u32..3) {
        let model = model(tasks);
        let shown = |stalls: Stalls| {
            let causes = stalls.causes.into_rows();
            (stalls.verdicts.into_rows(), format!("{causes:?}"), stalls.longest)
        };
        let expected = shown(stalls(&model, process, (true, false)));
        for early in [false, true] {
            prop_assert_eq!(&shown(stalls(&model, process, (false, early))), &expected);
        }
    }
}
