//! What is packed comes back as it was.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use proptest::prelude::*;

use super::{Runs, Shelf, Spill, Stretches};
use crate::{
    model::Off,
    trace::{Interrupt, Waker, Why},
};

/// A file in memory.
#[derive(Default)]
pub(crate) struct Memory(Mutex<Vec<u8>>);

impl Spill for Memory {
    fn keep(&self, bytes: &[u8]) -> io::Result<u64> {
        let mut all = self.0.lock().unwrap();
        all.extend_from_slice(bytes);
        Ok((all.len() - bytes.len()) as u64)
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let all = self.0.lock().unwrap();
        into.copy_from_slice(&all[at as usize..][..into.len()]);
        Ok(())
    }
}

fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0u64..300,
        2 => 0u64..70_000,
        1 => any::<u64>(),
        1 => u64::MAX - 5..=u64::MAX,
    ]
}

fn any_waker() -> impl Strategy<Value = Waker> {
    let small = prop_oneof![0u32..3, any::<u32>()];
    prop_oneof![
        Just(Waker::None),
        Just(Waker::Unknown),
        (small.clone(), any::<bool>())
            .prop_map(|(serial, softirq)| Waker::Task { serial, softirq }),
        (small.clone(), any::<bool>()).prop_map(|(tid, softirq)| Waker::Outsider { tid, softirq }),
        Just(Waker::Interrupt(Interrupt::Timer)),
        Just(Waker::Interrupt(Interrupt::Other)),
        small.prop_map(|number| Waker::Interrupt(Interrupt::Device(number))),
        any::<u8>().prop_map(|vector| Waker::Interrupt(Interrupt::Soft(vector))),
    ]
}

prop_compose! {
    fn any_off()(
        out_ns in any_number(),
        wake_ns in any_number(),
        in_ns in any_number(),
        waker in any_waker(),
        (syscall, flags) in prop_oneof![Just((0, 0)), (any::<i16>(), any::<u8>())],
        why in prop::sample::select(Why::ALL.to_vec()),
        target in prop_oneof![0u32..3, any::<u32>()],
        timeout_us in prop_oneof![Just(0), any::<u32>()],
    ) -> Off {
        Off { out_ns, wake_ns, in_ns, seq: 0, syscall, why, flags, waker, target, timeout_us }
    }
}

/// On a shelf with room for some of them, in chunks of so many.
fn shelf(budget: usize, log: u8) -> Arc<Shelf> {
    let spill: Arc<dyn Spill> = Arc::<Memory>::default();
    Arc::new(Shelf::new(budget, Some(spill)).in_chunks_of(log))
}

fn collected(pushed: &[(Off, u16)], shelf: &Arc<Shelf>, restart: Option<i16>) -> super::Sorted {
    let mut runs = Runs::new(shelf.chunks(0), restart);
    let mut buffer = Vec::new();
    for (off, cpu) in pushed {
        runs.push(*off, *cpu, (shelf, &mut buffer));
    }
    runs.finish(shelf, &mut buffer)
}

proptest! {
    #[test]
    fn what_is_packed_comes_back(
        offs in prop::collection::vec((any_off(), any::<u16>(), prop_oneof![9 => Just(1u32), 1 => 1u32..70_000]), 0..100),
        budget in 0usize..2000,
        log in 0u8..8,
    ) {
        let mut seq = 0u32;
        let all: Vec<(Off, u16)> = offs
            .into_iter()
            .map(|(off, cpu, step)| {
                seq = seq.saturating_add(step);
                (Off { seq, ..off }, cpu)
            })
            .collect();
        let shelf = shelf(budget, log);
        let packed = collected(&all, &shelf, None).stretches;
        let offs: Vec<Off> = all.iter().map(|(off, _)| *off).collect();
        prop_assert_eq!(packed.len(), offs.len());
        prop_assert_eq!(packed.iter().collect::<Vec<_>>(), offs.clone());
        let back: Vec<Off> = packed.iter().rev().collect();
        prop_assert!(back.iter().rev().eq(&offs));
        for (at, (off, cpu)) in all.iter().enumerate() {
            prop_assert_eq!(packed.get(at), Some(*off));
            prop_assert_eq!(packed.out_ns(at), off.out_ns);
            prop_assert_eq!(packed.cpu(at), Some(*cpu));
            prop_assert_eq!(packed.position(off.seq), Some(at));
            let numbers: Vec<u32> = packed.from(at).map(|off| off.seq).collect();
            let others: Vec<u32> = offs[at..].iter().map(|off| off.seq).collect();
            prop_assert_eq!(numbers, others);
            let before = offs.partition_point(|other| other.seq <= off.seq);
            prop_assert_eq!(packed.partition_point(|other| other.seq <= off.seq), before);
        }
        prop_assert_eq!(packed.get(all.len()), None);
        prop_assert!(shelf.failure().is_none());
    }

    #[test]
    fn times_in_order_are_found(
        steps in prop::collection::vec(0u64..50, 0..100),
        log in 0u8..8,
        at_ns in 0u64..3000,
    ) {
        let mut out_ns = 0;
        let offs: Vec<Off> = steps
            .iter()
            .zip(0..)
            .map(|(step, seq)| {
                out_ns += step;
                Off { out_ns, wake_ns: out_ns, in_ns: out_ns, seq, ..plain() }
            })
            .collect();
        let all: Vec<(Off, u16)> = offs.iter().map(|off| (*off, 0)).collect();
        let packed = collected(&all, &shelf(usize::MAX, log), None).stretches;
        let before = offs.partition_point(|off| off.out_ns < at_ns);
        prop_assert_eq!(packed.left_before(at_ns), before);
        prop_assert_eq!(packed.left_before_within(0..offs.len(), at_ns), before);
    }

    #[test]
    fn long_ones_are_found_without_a_look_at_the_others(
        times in prop::collection::vec((any_number(), any_number()), 0..100),
        budget in 0usize..2000,
        log in 0u8..8,
        ns in any_number(),
    ) {
        let offs = times.iter().zip(0..).map(|((away_ns, ready_ns), seq)| {
            let wake_ns = *away_ns;
            (Off { wake_ns, in_ns: wake_ns.saturating_add(*ready_ns), seq, ..plain() }, 3)
        });
        let all: Vec<(Off, u16)> = offs.collect();
        let packed = collected(&all, &shelf(budget, log), None).stretches;
        let offs = || all.iter().map(|(off, _)| *off);
        let woken = offs().filter(|off| off.wake_ns - off.out_ns >= ns);
        prop_assert!(packed.woken_after(ns).eq(woken));
        let back = offs().filter(|off| off.in_ns - off.wake_ns >= ns);
        prop_assert!(packed.back_after(ns).eq(back.map(|off| (off, Some(3)))));
        let lots = packed.by_lots().flat_map(|(_, lot)| lot);
        prop_assert!(lots.eq(offs()));
        for (within_ns, mut lot) in packed.by_lots() {
            prop_assert!(lot.all(|off| off.wake_ns - off.out_ns <= within_ns));
        }
    }

    /// In whatever order they come, of two with one number the first counts; a call that is
    /// restarted is the one before it.
    #[test]
    fn the_order_of_coming_does_not_matter(
        numbers in prop::collection::vec((0u32..60, any::<bool>()), 0..150),
        log in 0u8..4,
    ) {
        const RESTART: i16 = 219;
        let all: Vec<(Off, u16)> = numbers
            .iter()
            .zip(0u32..)
            .map(|((seq, restarts), at)| {
                let syscall = if *restarts { RESTART } else { at as i16 };
                let why = if at % 5 == 0 { Why::Preempted } else { Why::Interruptible };
                (Off { seq: *seq, syscall, why, target: at, ..plain() }, 0)
            })
            .collect();
        let mut sorted: BTreeMap<u32, Off> = BTreeMap::new();
        for (off, _) in &all {
            sorted.entry(off.seq).or_insert(*off);
        }
        let mut expected: Vec<Off> = sorted.into_values().collect();
        let mut before: Option<Off> = None;
        let mut next_seq = 0;
        for off in &mut expected {
            before = before.filter(|_| off.seq == next_seq);
            next_seq = off.seq + 1;
            if off.why == Why::Preempted {
                continue;
            }
            if let Some(before) = before.filter(|_| off.syscall == RESTART) {
                (off.syscall, off.target) = (before.syscall, before.target);
            }
            before = Some(*off);
        }
        let found = collected(&all, &shelf(100, log), Some(RESTART));
        prop_assert_eq!(found.stretches.iter().collect::<Vec<_>>(), expected);
        prop_assert_eq!(found.last_block, before.map(|off| (off.syscall, off.target)));
        prop_assert_eq!(found.next_seq, next_seq);
    }
}

fn plain() -> Off {
    Off {
        out_ns: 0,
        wake_ns: 0,
        in_ns: 0,
        seq: 0,
        syscall: 0,
        why: Why::Interruptible,
        flags: 0,
        waker: Waker::None,
        target: 0,
        timeout_us: 0,
    }
}

#[test]
fn targets_are_called_what_the_model_says() {
    let offs = (0..5).map(|seq| Off {
        seq,
        target: seq % 2,
        ..plain()
    });
    let mut packed: Stretches = offs.collect();
    packed.name_targets(vec![70, 80]);
    packed.name_others(vec![(4, 90)]);
    packed.name_others(vec![(2, 91)]);
    let targets: Vec<u32> = packed.iter().map(|off| off.target).collect();
    assert_eq!(targets, [70, 80, 91, 80, 90]);
    assert!(packed.has_target(|target| target == 91) && !packed.has_target(|target| target == 1));
}

struct Broken;

impl Spill for Broken {
    fn keep(&self, _: &[u8]) -> io::Result<u64> {
        Ok(0)
    }

    fn read(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::Error::other("gone"))
    }
}

#[test]
fn what_cannot_be_read_back_is_told() {
    let shelf = Arc::new(Shelf::new(0, Some(Arc::new(Broken))));
    let packed = collected(&[(plain(), 0)], &shelf, None).stretches;
    assert_eq!(packed.iter().count(), 1);
    assert_eq!(shelf.failure().unwrap().to_string(), "gone");
}
