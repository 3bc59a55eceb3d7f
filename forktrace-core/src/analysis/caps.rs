//! What of a report grows with the tasks, or with their square, and is cut down to what
//! somebody reads. What is left out is counted.

use std::cmp::Reverse;

use crate::report::{OtherEdges, Report, Task};

/// Of so many tasks the longest blocks are told.
const LONGEST_BLOCKS: usize = 1000;
/// Wakers of a task that are told.
const WAKERS: usize = 100;
/// Wakers that are told of all tasks together, where there are very many tasks.
const ALL_WAKERS: usize = 100_000;
/// Wakers of a task that are told in any case.
const FEW_WAKERS: usize = 5;
/// Edges of the wait-for graph that are told.
const EDGES: usize = 20_000;

/// The rows of which the longest blocks are told, in order.
pub(super) fn longest_blocked(tasks: &[Task]) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..tasks.len()).collect();
    if rows.len() > LONGEST_BLOCKS {
        rows.sort_by_key(|at| Reverse(tasks[*at].longest_block_ns));
        rows.truncate(LONGEST_BLOCKS);
        rows.sort_unstable();
    }
    rows
}

/// Leaves out what is too much.
pub(super) fn cap(report: &mut Report) {
    let most = (ALL_WAKERS / report.tasks.len().max(1)).clamp(FEW_WAKERS, WAKERS);
    for task in &mut report.tasks {
        task.other_wakers = task.wakers.len().saturating_sub(most) as u64;
        task.wakers.truncate(most);
        task.wakers.shrink_to_fit();
    }
    // They are sorted, most time first.
    let others = report.waits_for.iter().skip(EDGES);
    report.other_edges = others.fold(OtherEdges::default(), |sum, edge| OtherEdges {
        edges: sum.edges + 1,
        ns: sum.ns.saturating_add(edge.ns),
    });
    report.waits_for.truncate(EDGES);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::why_tests::{READ, by, report_on, task};

    /// Tasks that the first one wakes, each from a block that is a little longer.
    fn many(count: u32) -> Report {
        let tasks = (1..=count).map(|serial| {
            let line = format!("r{}r$", "b".repeat(serial as usize % 50 + 1));
            task(serial, 1, &line, &[(READ, 0, by(1))])
        });
        report_on(tasks.collect())
    }

    #[test]
    fn few_tasks_are_told_whole() {
        let report = many(20);
        assert_eq!(report.other_edges, OtherEdges::default());
        assert!(report.tasks.iter().all(|task| task.other_wakers == 0));
        assert!(
            report
                .tasks
                .iter()
                .all(|task| !task.longest_blocks.is_empty())
        );
    }

    #[test]
    fn of_many_tasks_the_longest_blocks_are_told() {
        let report = many(1100);
        let (told, others): (Vec<&Task>, Vec<&Task>) = report
            .tasks
            .iter()
            .partition(|task| !task.longest_blocks.is_empty());
        assert_eq!((told.len(), others.len()), (1000, 100));
        let shortest = told.iter().map(|task| task.longest_block_ns).min();
        let longest = others.iter().map(|task| task.longest_block_ns).max();
        assert!(shortest >= longest);
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let mut report = many(3);
        let (waker, edge) = (
            report.tasks[1].wakers[0].clone(),
            report.waits_for[0].clone(),
        );
        report.tasks[1].wakers = vec![waker; 130];
        report.waits_for = vec![edge.clone(); EDGES + 7];
        cap(&mut report);
        assert_eq!(
            (report.tasks[1].wakers.len(), report.tasks[1].other_wakers),
            (100, 30)
        );
        assert_eq!(report.waits_for.len(), EDGES);
        let expected = OtherEdges {
            edges: 7,
            ns: 7 * edge.ns,
        };
        assert_eq!(report.other_edges, expected);
    }
}
