//! Windows hold what a look at each task by itself finds, whatever there is in them.

use proptest::prelude::*;

use super::{
    super::{wakers::Wakers, why_tests::header},
    *,
};
use crate::{
    drawn,
    model::{Builder, Model, Task},
    trace::{Arch, Event, Stretch, Timeout, Waker, Why},
};

/// Stretches of a task: how long it ran before, how long it was away, why, who woke it, and
/// whether the record is there.
pub(in crate::analysis) type Drawn = (u64, u64, Why, u32, bool);

pub(in crate::analysis) fn model(tasks: &[(u64, Vec<Drawn>)]) -> Model {
    let mut builder = Builder::new(0, Arch::X86_64);
    for (serial, (born_ns, stretches)) in (1..).zip(tasks) {
        builder.push(Event::Born(drawn::born(serial, *born_ns)));
        let mut now_ns = *born_ns;
        for (seq, (ran, away, why, waker, is_there)) in (0..).zip(stretches) {
            let out_ns = now_ns.saturating_add(*ran);
            now_ns = out_ns.saturating_add(*away);
            if !is_there {
                continue;
            }
            builder.push(Event::Stretch(Stretch {
                serial,
                seq,
                out_ns,
                wake_ns: now_ns - away / 2,
                in_ns: now_ns,
                why: *why,
                early_wake: false,
                no_wake: false,
                inferred: false,
                compat: false,
                syscall: if waker % 2 == 0 { 0 } else { 202 },
                cpu_out: 0,
                cpu_in: 0,
                arg0: 0,
                arg1: 0,
                waker: Waker::Task {
                    serial: *waker,
                    softirq: false,
                },
                object: 0,
                timeout: Timeout::None,
            }));
        }
    }
    builder.build(2_000)
}

/// The block that a segment is of, by a look at each stretch.
fn block_of(task: &Task, segment: &Segment) -> Option<(u32, Block)> {
    let mut stretches = task.stretches.iter().enumerate();
    let found = stretches.find(|(_, off)| {
        let is_it = off.state() == State::Blocked && off.wake_ns >= segment.end_ns;
        is_it && off.out_ns < segment.end_ns
    });
    match found {
        Some((at, off)) => Some((at as u32, Block::of(off)?)),
        None => Some((NONE, Block::open(task)?)),
    }
}

/// All changes of all tasks, one task after the other, then sorted.
fn by_task(blocks: &Blocks<'_>) -> Vec<(Change, Option<Wait>)> {
    let mut all = Vec::new();
    for (at, task) in blocks.model.tasks.iter().enumerate() {
        let mut last = None;
        for segment in task.segments() {
            let block = match segment.state {
                State::Blocked => block_of(task, &segment),
                _ => None,
            };
            let wait = block.map(|(stretch, block)| {
                let (class, end) = (blocks.class(&block), blocks.end(at, &block));
                let from = match end {
                    End::Task(waker) if class != Class::Time => {
                        let it = (at as u32, &block);
                        Some(blocks.held_from(it, waker as usize, &mut 0))
                    }
                    _ => None,
                };
                Wait {
                    stretch,
                    block,
                    seen: Some(Seen { class, end, from }),
                }
            });
            all.push((
                Change::new(segment.start_ns, at as u32, Some(&segment)),
                wait,
            ));
            last = Some(segment.end_ns);
        }
        all.extend(last.map(|end_ns| (Change::new(end_ns, at as u32, None), None)));
    }
    all.sort_by_key(|(change, _)| (change.at_ns, change.task));
    all
}

fn some_time() -> impl Strategy<Value = u64> {
    // Bursts, and times in which nothing happens.
    prop_oneof![6 => 0u64..6, 2 => 0u64..60, 1 => 0u64..1_000, 1 => Just(u64::MAX / 2)]
}

pub(in crate::analysis) fn some_tasks() -> impl Strategy<Value = Vec<(u64, Vec<Drawn>)>> {
    let stretch = (
        some_time(),
        some_time(),
        drawn::any_why(),
        0u32..8,
        prop::bool::weighted(0.9),
    );
    let stretches = prop::collection::vec(stretch, 0..40);
    prop::collection::vec((some_time(), stretches), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn windows_hold_what_happens_in_its_order(
        tasks in some_tasks(),
        least in 1usize..100,
    ) {
        let model = model(&tasks);
        let header = header();
        let wakers = Wakers::new(&model, &header);
        let blocks = Blocks::new(&model, &wakers, Arch::X86_64);
        let all: Vec<u32> = (0..model.tasks.len() as u32).collect();
        let early = Early::new(model.tasks.len());
        let members = Members {
            group: 0,
            tasks: all.clone(),
            positions: &all,
        };
        early.set(&members, true);
        let look = Waits::new(&blocks, &early);
        let mut changes = Changes::in_windows_of(least, &model, &all, look);
        let mut found = Vec::new();
        while let Some(window) = changes.next() {
            // It may be of nothing but tasks that never lived, which change nothing.
            // No more than there is room for, but for what one moment has.
            let moments = window.changes.iter().map(|change| change.at_ns);
            let is_one = moments.clone().min() == moments.max();
            prop_assert!(is_one || window.changes.len() <= 4 * least.max(16 * tasks.len()) + 8);
            found.extend(window.changes().map(|(change, wait)| {
                let change = Change { wait: NONE, ..*change };
                (change, wait.copied())
            }));
        }
        prop_assert_eq!(found, by_task(&blocks));
    }
}
