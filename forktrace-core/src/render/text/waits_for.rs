//! Who ended whose waits.

use std::collections::HashSet;

use super::{
    View,
    figures::{clean, count_cell, duration_cell},
    layout::{Table, wrapped},
};
use crate::report::{InterruptKind, Peer, PeerKind, WaitsFor};

/// The edges of the wait-for graph, most time first.
pub(super) fn section(view: &View<'_>) -> String {
    let edges = &view.report.waits_for;
    if edges.is_empty() {
        return String::new();
    }
    let rows = edges;
    let mut table = Table::default();
    table.text(
        "WAITED",
        12,
        rows.iter().map(|e| view.task(e.from)).collect(),
    );
    let wokers = rows.iter().map(|edge| by(view, &edge.to));
    table.text("UNTIL WOKEN BY", 12, wokers.collect());
    table.number("TIME", rows.iter().map(|e| duration_cell(e.ns)).collect());
    table.number("COUNT", rows.iter().map(|e| count_cell(e.count)).collect());
    let all = Edges::of(edges);
    let mutual = rows
        .iter()
        .map(|edge| if is_mutual(edge, &all) { "⇄" } else { "" });
    let mutual: Vec<String> = mutual.map(str::to_owned).collect();
    let any_mutual = mutual.iter().any(|mark| !mark.is_empty());
    if any_mutual {
        table.text("", 1, mutual);
    }
    let mut out = table.into_text(view.style);
    if any_mutual {
        let note =
            "⇄: the two woke each other alternately. That is message passing, not a deadlock.";
        out.push_str(&wrapped(view.style, "  ", note));
    }
    out
}

/// Who waits for whom: from and to.
pub(in crate::render) struct Edges(HashSet<(u32, u32)>);

impl Edges {
    pub(in crate::render) fn of(edges: &[WaitsFor]) -> Self {
        let between = |edge: &WaitsFor| Some((edge.from, edge.to.serial?));
        Self(edges.iter().filter_map(between).collect())
    }
}

/// Does the other wait for this one as well?
pub(in crate::render) fn is_mutual(edge: &WaitsFor, edges: &Edges) -> bool {
    let to = edge.to.serial;
    to.is_some_and(|to| to != edge.from && edges.0.contains(&(to, edge.from)))
}

fn by(view: &View<'_>, peer: &Peer) -> String {
    match (peer.kind, peer.serial) {
        (PeerKind::Task, Some(serial)) => view.task(serial),
        _ => outsider(peer),
    }
}

/// One who is no task of the workload.
pub(in crate::render) fn outsider(peer: &Peer) -> String {
    let tid = peer.tid.unwrap_or(0);
    let name = clean(peer.name.as_deref().unwrap_or("?"));
    match peer.kind {
        PeerKind::Task => "a task".to_owned(),
        PeerKind::Outside => format!("{tid} {name} (outside)"),
        PeerKind::KernelThread => format!("{tid} {name} (kernel)"),
        PeerKind::Interrupt => match peer.interrupt {
            Some(InterruptKind::Timer) => "a timer".to_owned(),
            Some(InterruptKind::Network) => "the network (interrupt)".to_owned(),
            Some(InterruptKind::Block) => "a disk (interrupt)".to_owned(),
            _ => "another interrupt".to_owned(),
        },
        PeerKind::Unknown => "unknown".to_owned(),
        PeerKind::Nobody => "(still waiting)".to_owned(),
    }
}
