//! The wait-for graph for Graphviz: tasks in a box for each process, and who
//! waited for whom, with the time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::text::{
    Edges,
    figures::{clean, count, duration},
    is_mutual, outsider,
};
use crate::report::{PeerKind, Report, Task, WaitsFor};

/// Edges with less than this share of all waiting are left out, and counted.
const LEAST_SHARE: f64 = 0.005;
/// A picture with more edges shows nothing.
const EDGES: usize = 200;

pub(super) fn render(report: &Report) -> String {
    let sum = |sum: u64, edge: &WaitsFor| sum.saturating_add(edge.ns);
    let total = report.waits_for.iter().fold(0, sum);
    let matters = |edge: &&WaitsFor| edge.ns > 0 && edge.ns as f64 >= LEAST_SHARE * total as f64;
    // They come most time first.
    let shown: Vec<&WaitsFor> = report
        .waits_for
        .iter()
        .filter(matters)
        .take(EDGES)
        .collect();
    let all = Edges::of(&report.waits_for);

    let mut out = String::from("digraph waits_for {\n");
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    let title = title(report, &shown, total);
    line(format!("  label=\"{title}\";"));
    line("  labelloc=t; rankdir=LR; fontname=\"sans-serif\";".to_owned());
    line("  node [shape=box, style=rounded, fontname=\"sans-serif\"];".to_owned());
    line("  edge [fontname=\"sans-serif\", fontsize=10];".to_owned());

    processes(report, &shown, &mut line);
    let mut others: BTreeMap<String, usize> = BTreeMap::new();
    for edge in &shown {
        let to = match edge.to.serial {
            Some(serial) => format!("t{serial}"),
            None => {
                let label = outsider(&edge.to);
                let next = others.len();
                let node = *others.entry(label.clone()).or_insert(next);
                if node == next {
                    let style = match edge.to.kind {
                        PeerKind::Interrupt => "ellipse",
                        _ => "plaintext",
                    };
                    let label = in_quotes(&label);
                    line(format!(
                        "  o{node} [label=\"{label}\", shape={style}, style=\"\"];"
                    ));
                }
                format!("o{node}")
            }
        };
        let both_ways = if is_mutual(edge, &all) {
            ", style=dashed"
        } else {
            ""
        };
        let width = 1.0 + 4.0 * edge.ns as f64 / total.max(1) as f64;
        line(format!(
            "  t{} -> {to} [label=\"{}\\n{} ×\", penwidth={width:.1}{both_ways}];",
            edge.from,
            duration(edge.ns),
            count(edge.count)
        ));
    }
    out.push_str("}\n");
    out
}

/// What the picture is of, and what is left out.
fn title(report: &Report, shown: &[&WaitsFor], total: u64) -> String {
    let mut title = format!(
        "Who woke whom: {}",
        match &report.workload.attached {
            Some(targets) => targets,
            None => &report.workload.argv,
        }
        .iter()
        .map(|arg| quoted(arg))
        .collect::<Vec<_>>()
        .join(" ")
    );
    let hidden = report.waits_for.len() - shown.len();
    if hidden > 0 {
        let shown_ns = shown
            .iter()
            .fold(0, |ns: u64, edge| ns.saturating_add(edge.ns));
        let hidden_ns = total.saturating_sub(shown_ns);
        let _ = write!(
            title,
            "\\n{} smaller edges, {} in all, are not shown",
            count(hidden as u64),
            duration(hidden_ns)
        );
    }
    title
}

/// The tasks at the ends of the edges, in a box for each process.
fn processes(report: &Report, shown: &[&WaitsFor], line: &mut impl FnMut(String)) {
    let in_edges: BTreeSet<u32> = shown
        .iter()
        .flat_map(|edge| [Some(edge.from), edge.to.serial])
        .flatten()
        .collect();
    let mut processes: BTreeMap<u32, Vec<&Task>> = BTreeMap::new();
    for task in report.tasks.iter().filter(|t| in_edges.contains(&t.serial)) {
        processes.entry(task.pid).or_default().push(task);
    }
    for (pid, tasks) in processes {
        line(format!("  subgraph cluster_{pid} {{"));
        let leader = tasks.iter().find(|t| t.tid == pid).unwrap_or(&tasks[0]);
        line(format!(
            "    label=\"{} (pid {pid})\";",
            quoted(&leader.name)
        ));
        for task in tasks {
            line(format!(
                "    t{} [label=\"{}\\n{}\"];",
                task.serial,
                quoted(&task.name),
                task.tid
            ));
        }
        line("  }".to_owned());
    }
}

/// A name inside quotes.
fn quoted(text: &str) -> String {
    in_quotes(&clean(text))
}

/// A text that is clean already. A backslash in it, be it of an escape, is shown as one: to
/// Graphviz `\n` would be a new line, and `\N` the name of the node.
fn in_quotes(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        render::samples,
        report::{InterruptKind, Peer},
    };

    fn edge(from: u32, to: Option<u32>, ns: u64) -> WaitsFor {
        WaitsFor {
            from,
            to: Peer {
                kind: if to.is_some() {
                    PeerKind::Task
                } else {
                    PeerKind::Interrupt
                },
                serial: to,
                tid: None,
                name: None,
                interrupt: to.is_none().then_some(InterruptKind::Timer),
            },
            ns,
            count: 3,
        }
    }

    #[test]
    fn small_edges_are_counted_and_names_can_do_no_harm() {
        let mut report = samples::sleeper();
        let serial = report.tasks[0].serial;
        let mut other = report.tasks[0].clone();
        other.serial = serial + 1;
        other.tid += 1;
        other.name = "a\"b\\c\nd".to_owned();
        report.tasks.push(other);
        report.waits_for = vec![
            edge(serial, Some(serial + 1), 6_000_000),
            edge(serial + 1, Some(serial), 5_000_000),
            edge(serial, None, 4_000_000),
            edge(serial + 1, None, 1_000),
        ];
        let dot = render(&report);
        assert!(
            dot.contains("1 smaller edges, 1.00 µs in all, are not shown"),
            "{dot}"
        );
        assert!(
            dot.contains("label=\"a\\\"b\\\\\\\\c\\\\nd\\n4122\""),
            "{dot}"
        );
        assert_eq!(dot.matches(" -> ").count(), 3, "{dot}");
        assert_eq!(dot.matches("style=dashed").count(), 2, "{dot}");
        assert!(
            dot.contains("a timer") && dot.contains("6.00 ms\\n3 ×"),
            "{dot}"
        );
    }

    #[test]
    fn a_run_without_waits_is_an_empty_graph() {
        let dot = render(&samples::sleeper());
        assert!(dot.starts_with("digraph") && dot.ends_with("}\n"));
        assert!(!dot.contains("->"));
    }
}
