//! What is behind a stretch is the same by its index as by a walk back.

use proptest::prelude::*;

use super::{super::why_tests::header, held::LOOK_BACK, *};
use crate::{
    model::Builder,
    trace::{Event, Stretch},
};

/// [`Blocks::held_from`] as a walk back over each stretch.
fn held_by_walking(blocks: &Blocks<'_>, block: &Block, waker: usize) -> HeldFrom {
    let mut held = HeldFrom {
        ns: u64::MAX,
        known_before: true,
    };
    let Some(wake_ns) = block.wake_ns else {
        return held;
    };
    let task = &blocks.model.tasks[waker];
    let until = task.stretches.left_before(wake_ns);
    let after = task.stretches.get(until).map(|off| off.seq);
    let mut next = after.or(task.stretches_expected);
    let mut count = 0;
    // Since a wait for input was met: blocks that were looked at for a long one before it.
    let mut before: Option<u32> = None;
    for off in task.stretches.range(0..until).rev() {
        if next != Some(off.seq.wrapping_add(1)) {
            held.known_before &= before.is_some();
            return held;
        }
        next = Some(off.seq);
        let Some(block) = Block::of(off) else {
            continue;
        };
        let input = blocks.class(&block).is_input();
        if let Some(seen) = &mut before {
            let (end_ns, after_ns) = (off.wake_ns, wake_ns - off.wake_ns);
            let long = after_ns * 4 <= end_ns - block.start_ns;
            *seen += 1;
            match (long, input) {
                (true, true) => return held,
                (true, false) => {
                    held.ns = block.start_ns;
                    return held;
                }
                (false, _) if *seen == 8 => return held,
                (false, _) => continue,
            }
        }
        held.ns = block.start_ns;
        if input {
            before = Some(0);
        } else if count == LOOK_BACK {
            return held;
        }
        count += 1;
    }
    held.known_before = before.is_some() || next == Some(0);
    held
}

const READ: i16 = 0;
const FUTEX: i16 = 202;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_holds_up_is_what_a_walk_back_finds(
        // Why it went, whether it waited for input, for how long, whether the record is
        // there.
        stretches in prop::collection::vec(
            (
                prop::sample::select(vec![Why::Preempted, Why::Interruptible, Why::Killable]),
                prop::bool::weighted(0.03),
                prop::sample::select(vec![5u64, 5, 5, 100]),
                prop::bool::weighted(0.98),
            ),
            0..200,
        ),
        first_seq in prop_oneof![4 => Just(0u32), 1 => Just(1)],
        expected in prop::option::of(0u32..200),
        wakes in prop::collection::vec((0u64..10_000, 0usize..200), 1..20),
    ) {
        let mut builder = Builder::new(0, Arch::X86_64);
        let mut now_ns = 10;
        for (seq, (why, input, length, is_there)) in (first_seq..).zip(&stretches) {
            let out_ns = now_ns;
            now_ns += length + 15;
            if !is_there {
                continue;
            }
            builder.push(Event::Stretch(Stretch {
                serial: 1,
                seq,
                out_ns,
                wake_ns: out_ns + length,
                in_ns: out_ns + length + 5,
                why: *why,
                early_wake: false,
                no_wake: false,
                inferred: false,
                compat: false,
                syscall: if *input { READ } else { FUTEX },
                cpu_out: 0,
                cpu_in: 0,
                arg0: 0,
                arg1: 0,
                waker: Waker::None,
                object: 0,
                timeout: Timeout::None,
            }));
        }
        let mut model = builder.build(30_000);
        for task in &mut model.tasks {
            task.stretches_expected = expected;
        }
        let header = header();
        let wakers = Wakers::new(&model, &header);
        let blocks = Blocks::new(&model, &wakers, Arch::X86_64);
        for (wake_ns, mut near) in wakes {
            let block = Block {
                start_ns: 0,
                wake_ns: Some(wake_ns),
                why: Why::Interruptible,
                syscall: FUTEX,
                compat: false,
                target: 0,
                timeout: Timeout::None,
                seq: 0,
                waker: Waker::None,
            };
            if !model.tasks.is_empty() {
                prop_assert_eq!(
                    blocks.held_from((0, &block), 0, &mut near),
                    held_by_walking(&blocks, &block, 0),
                    "at {}", wake_ns
                );
            }
        }
    }
}
