//! The groups: the tree, and each process.

use std::collections::BTreeMap;

use super::{
    causes::causes,
    chains::Inquiry,
    episodes::{Stalls, Watch},
    members::Members,
    profile::sweep,
    providers::{Hang, Kin},
    same_reason::SameReason,
    spans,
};
use crate::{
    model::Task,
    report::{Cause, Episode, Group, GroupKind, VerdictSum},
};

/// What is known of groups.
#[derive(Default)]
pub(super) struct GroupFigures {
    pub(super) groups: Vec<Group>,
    /// The tree's, then those of all processes; each longest first.
    pub(super) episodes: Vec<Episode>,
    /// The tree's, then each process's; each worst first.
    pub(super) causes: Vec<Cause>,
}

pub(super) fn groups(
    kin: &Kin<'_>,
    targets: &[u32],
    hangs: &[Hang],
    episodes: usize,
) -> GroupFigures {
    let blocks = kin.blocks;
    let tasks = &blocks.model.tasks;
    let spans = spans::spans(blocks.model);
    let mut found = GroupFigures::default();
    if tasks.is_empty() {
        return found;
    }
    let mut processes: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let mut in_process = Vec::with_capacity(tasks.len());
    for (at, task) in tasks.iter().enumerate() {
        let members = processes.entry(task.process).or_default();
        in_process.push(members.len() as u32);
        members.push(at as u32);
    }
    let all: Vec<u32> = (0..tasks.len() as u32).collect();
    let tree = Members {
        group: 0,
        tasks: all.clone(),
        positions: &all,
    };
    let mut add = |kind, members: &Members<'_>, leader: &Task| {
        group(
            kind,
            members,
            leader,
            (kin, targets, hangs, &spans, episodes),
            &mut found,
        )
    };
    let whole = add(GroupKind::Tree, &tree, &tasks[0]);
    let mut groups = vec![whole];
    if processes.len() == 1 {
        // The same tasks give the same figures: they are swept once.
        groups.push(Group {
            kind: GroupKind::Process,
            id: tasks[0].process,
            ..groups[0].clone()
        });
        found.groups = groups;
        return found;
    }
    let of_tree = found.episodes.len();
    for (process, members) in processes {
        // Serials grow with time, but a task that is not followed has one of ours.
        let leader = members.iter().map(|at| &tasks[*at as usize]);
        let leader = leader
            .clone()
            .find(|t| t.serial == process)
            .or(leader.clone().next());
        let Some(leader) = leader else { continue };
        let members = Members {
            group: process,
            tasks: members,
            positions: &in_process,
        };
        let context = (kin, targets, hangs, &spans, episodes);
        groups.push(group(
            GroupKind::Process,
            &members,
            leader,
            context,
            &mut found,
        ));
    }
    found.episodes[of_tree..].sort_by_key(|e| std::cmp::Reverse(e.end_ns - e.start_ns));
    found.episodes.truncate(of_tree + episodes);
    found.groups = groups;
    found
}

/// What is the same for all groups.
type Context<'a> = (
    &'a Kin<'a>,
    &'a [u32],
    &'a [Hang],
    &'a spans::Spans<'a>,
    usize,
);

fn group(
    kind: GroupKind,
    members: &Members<'_>,
    leader: &Task,
    (kin, targets, hangs, spans, episodes): Context<'_>,
    found: &mut GroupFigures,
) -> Group {
    let blocks = kin.blocks;
    let tasks = || {
        members
            .tasks
            .iter()
            .map(|at| &blocks.model.tasks[*at as usize])
    };
    let segments = tasks().map(Task::segments);
    let mut stalls = Stalls::default();
    let mut same_reason = SameReason::new(
        blocks.arch,
        tasks().map(|task| task.kernel_worker).collect(),
    );
    let profile = if members.tasks.len() > 1 {
        let mut watch = Watch::new(kin, members, targets, hangs, episodes);
        let profile = sweep(segments, &mut same_reason, &mut watch);
        stalls = watch.finish();
        profile
    } else {
        sweep(segments, &mut same_reason, &mut ())
    };
    let inquire = |stall| Inquiry::new(kin, members, stall);
    let listed = stalls.longest.iter();
    found
        .episodes
        .extend(listed.map(|(verdict, stall)| inquire(*stall).episode(*verdict)));
    found
        .causes
        .extend(causes(blocks, members, targets, stalls.causes));
    let verdicts = stalls.verdicts.into_rows().into_iter();
    let verdicts = verdicts.map(|(verdict, total)| VerdictSum {
        verdict,
        ns: total.ns,
        episodes: total.episodes,
        longest_ns: total.longest_ns,
    });
    let mut verdicts: Vec<VerdictSum> = verdicts.collect();
    verdicts.sort_by_key(|v| std::cmp::Reverse(v.ns));
    Group {
        kind,
        id: members.group,
        pid: leader.pid,
        name: leader.name.clone(),
        tasks: tasks().map(|task| task.serial).collect(),
        lifetime_ns: profile.lifetime_ns,
        most_live: profile.most_live,
        all_blocked: profile.all_blocked,
        verdicts,
        starved: profile.starved,
        wall: profile.wall,
        blocked_at_once: profile.blocked_at_once,
        running_at_once: profile.running_at_once,
        waiting_at_once: same_reason.finish(),
        unknown_ns: profile.unknown_ns,
        stops: profile.stops,
        spans: spans::of_group(spans, &tasks().collect::<Vec<_>>()),
    }
}
