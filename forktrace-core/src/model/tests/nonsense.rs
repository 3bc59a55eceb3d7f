//! Whatever is in the file.

use proptest::prelude::*;

use super::*;

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
