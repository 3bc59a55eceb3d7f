//! Who waited until whom: the wait-for graph of the whole run.

use super::{blocks::Block, wakers::Sum};
use crate::{
    model,
    report::{Peer, PeerKind, Task, WaitsFor, Waker, WakerKind, WokenBy},
};

/// The edges, most time first. `tasks` are the model's, in their order.
pub(super) fn waits_for<'a>(
    of_model: impl Iterator<Item = &'a model::Task>,
    tasks: &[Task],
) -> Vec<WaitsFor> {
    let mut edges = Vec::new();
    for (of_model, task) in of_model.zip(tasks) {
        let mut peers: Vec<(Peer, Sum)> = task.wakers.iter().map(peer).collect();
        // What it waits for when the trace ends.
        if let Some(block) = Block::open(of_model).filter(|block| block.wake_ns.is_none()) {
            let sum = Sum {
                ns: block.end_ns(of_model) - block.start_ns,
                count: 1,
            };
            peers.push((of_kind(PeerKind::Nobody), sum));
        }
        // By itself or through a soft interrupt, by one device or another.
        peers.sort_by(|(a, _), (b, _)| key(a).cmp(&key(b)));
        peers.dedup_by(|(other, more), (peer, sum)| {
            let same = other == peer;
            if same {
                sum.ns = sum.ns.saturating_add(more.ns);
                sum.count += more.count;
            }
            same
        });
        edges.extend(peers.into_iter().map(|(to, sum)| WaitsFor {
            from: task.serial,
            to,
            ns: sum.ns,
            count: sum.count,
        }));
    }
    edges.sort_by_key(|edge| std::cmp::Reverse(edge.ns));
    edges
}

fn key(peer: &Peer) -> impl Ord {
    let Peer {
        kind,
        serial,
        tid,
        name,
        interrupt,
    } = peer;
    (*kind, *serial, *tid, name.as_deref(), *interrupt)
}

fn of_kind(kind: PeerKind) -> Peer {
    Peer {
        kind,
        serial: None,
        tid: None,
        name: None,
        interrupt: None,
    }
}

fn peer(waker: &Waker) -> (Peer, Sum) {
    let WokenBy {
        kind,
        serial,
        tid,
        ref name,
        outside,
        kernel_thread,
        interrupt,
        device: _,
    } = waker.by;
    let peer = match kind {
        WakerKind::Task | WakerKind::TaskSoftirq if outside => Peer {
            tid,
            name: name.clone(),
            ..of_kind(match kernel_thread {
                true => PeerKind::KernelThread,
                false => PeerKind::Outside,
            })
        },
        WakerKind::Task | WakerKind::TaskSoftirq => Peer {
            serial,
            ..of_kind(PeerKind::Task)
        },
        WakerKind::Interrupt => Peer {
            interrupt,
            ..of_kind(PeerKind::Interrupt)
        },
        WakerKind::Unknown => of_kind(PeerKind::Unknown),
        WakerKind::Nobody => of_kind(PeerKind::Nobody),
    };
    let sum = Sum {
        ns: waker.ns,
        count: waker.count,
    };
    (peer, sum)
}
