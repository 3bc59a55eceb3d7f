//! Running, and waiting for a CPU.

use serde_json::Value;

use crate::support::{assert_within, id, list, n, span, too_busy, trace, unspoilt};

#[test]
fn spinners_on_one_cpu_wait_for_it_and_never_block() {
    unspoilt(|| {
        let traced = trace("spinners --count 4 --seconds 0.6");
        let (truth, report) = (traced.truth(), traced.report());
        let process = report.process(id(&truth["pid"]));
        assert_eq!((process.tasks.len(), process.most_live), (4, 4));

        let most = process.running_at_once.iter().map(|at| at.count).max();
        assert_eq!(most, Some(1), "one CPU runs one task: {process:?}");
        assert_eq!(process.all_blocked.upper_ns, 0, "{process:?}");

        let threads = list(&truth["threads"]);
        for thread in threads {
            let task = report.task(id(&thread["tid"]));
            let (wall_ns, cpu_ns) = (span(thread), n(&thread["cpu_ns"]));
            let outside_ns = task.lifetime_ns() - wall_ns;
            if n(&thread["switches"]) > 0 {
                too_busy(format!("it was held up: {thread}"));
            }
            assert!(task.blocked_ns <= outside_ns, "{thread} {task:?}");
            // While another one ran it waited, and it ran for what the kernel charged it,
            // and for what a hypervisor took from both.
            let others: u64 = threads
                .iter()
                .filter(|other| other["tid"] != thread["tid"])
                .map(|other| ran_within(other, thread))
                .sum();
            let error_ns = (cpu_ns + others) / 50;
            let at_least = others.saturating_sub(error_ns);
            let at_most = wall_ns - cpu_ns + outside_ns + error_ns;
            assert_within("runnable", task.runnable_ns, at_least, at_most);
            assert_within(
                "running",
                task.running_ns,
                cpu_ns - error_ns,
                task.lifetime_ns() - at_least,
            );
            assert!(task.switches.traced > 0, "{task:?}");
        }

        // Of four that want one CPU, three wait at any time when all spin.
        let begin = threads
            .iter()
            .map(|t| n(&t["begin_ns"]))
            .max()
            .expect("threads");
        let end = threads
            .iter()
            .map(|t| n(&t["end_ns"]))
            .min()
            .expect("threads");
        let runnable: u64 = report.tasks.iter().map(|task| task.runnable_ns).sum();
        assert!(
            runnable >= 3 * end.saturating_sub(begin),
            "{runnable} in {}",
            end - begin
        );

        // Each time one of them is switched in it ends a wait; when somebody else has
        // the CPU, all of them are starved.
        let area = |count: u32| {
            let at = process.running_at_once.iter().find(|at| at.count == count);
            at.map_or(0, |at| at.ns)
        };
        assert!(process.starved.upper_ns <= area(0), "{process:?}");
        assert_eq!(area(0) + area(1), process.lifetime_ns);
    });
}

/// At least so long a thread had a CPU while another one spun.
fn ran_within(thread: &Value, other: &Value) -> u64 {
    let before = n(&other["begin_ns"]).saturating_sub(n(&thread["begin_ns"]));
    let after = n(&thread["end_ns"]).saturating_sub(n(&other["end_ns"]));
    n(&thread["cpu_ns"]).saturating_sub(before + after)
}
