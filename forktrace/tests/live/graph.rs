//! Who waited for whom, and who was blocked together.

use crate::support::{WaitsFor, trace, unspoilt};

/// A ping-pong: each waits for the other one, hardly ever for anybody else, and
/// never at the same time.
#[test]
fn players_of_ping_pong_wait_for_each_other_and_apart() {
    unspoilt(|| {
        let finished = trace("ping-pong --seconds 2");
        let (report, truth) = (finished.report(), finished.truth());
        let tids = truth["pairs"][0].clone();
        let serial = |who: &str| {
            let tid = tids[who].as_u64().unwrap_or_else(|| panic!("{truth}"));
            report.task(tid as u32).serial
        };
        let (a, b) = (serial("a_tid"), serial("b_tid"));
        for (from, to) in [(a, b), (b, a)] {
            let waits = report.waits_for.iter().filter(|edge| edge.from == from);
            let (to_it, others): (Vec<_>, Vec<_>) =
                waits.partition(|edge| edge.to.serial == Some(to));
            let count = |edges: &[&WaitsFor]| edges.iter().map(|e| e.count).sum::<u64>();
            assert_eq!(to_it.len(), 1, "{to_it:?}");
            assert!(count(&to_it) > 20 * count(&others), "{to_it:?} {others:?}");
            assert!(to_it[0].ns > 0 && to_it[0].to.kind == "task");
        }
        let pair = report
            .pairs
            .iter()
            .find(|p| (p.a, p.b) == (a.min(b), a.max(b)));
        let pair = pair.unwrap_or_else(|| panic!("{:?}", report.pairs));
        assert!(pair.lift < Some(0.5), "{pair:?}");
        assert_eq!(pair.verdict, "apart", "{pair:?}");
    });
}

/// Naps end by a timer.
#[test]
fn sleepers_wait_for_timers() {
    unspoilt(|| {
        let finished = trace("many-sleepers --processes 4 --threads 5");
        let report = finished.report();
        let timers = report
            .waits_for
            .iter()
            .filter(|e| e.to.interrupt.as_deref() == Some("timer"));
        let naps: u64 = timers.map(|edge| edge.count).sum();
        assert!(naps >= 20, "{:?}", report.waits_for);
    });
}
