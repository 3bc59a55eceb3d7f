//! The groups: the tree, and each process.

use super::{
    causes::causes,
    chains::Inquiry,
    changes::Early,
    division::GroupBy,
    episodes::{Stall, Watch},
    lanes::{self, Swept, Told},
    meanwhile::{Meantime, OfWaits},
    members::Members,
    providers::{Hang, Kin},
    spans,
};
use crate::report::{Cause, Episode, Group, GroupKind, Verdict, VerdictSum};

/// Of so many stalls all is told. Of more, as tables have them, what each task was in is left
/// out: there can be thousands of stalls of thousands of tasks.
const WHOLE_STALLS: usize = 100;

/// What is known of groups.
#[derive(Default)]
pub(super) struct GroupFigures {
    pub(super) groups: Vec<Group>,
    /// The tree's, then those of all processes; each longest first.
    pub(super) episodes: Vec<Episode>,
    /// The tree's, then each process's; each worst first.
    pub(super) causes: Vec<Cause>,
    /// What others did while tasks waited, where all of a recording is reported on.
    pub(super) meantime: Option<OfWaits>,
}

pub(super) fn groups(
    kin: &Kin<'_>,
    targets: &[u32],
    hangs: &[Hang],
    (by, labels): (GroupBy, &[&str]),
    episodes: usize,
) -> GroupFigures {
    let blocks = kin.blocks;
    let tasks = &blocks.model.tasks;
    let spans = spans::spans(blocks.model, blocks.part);
    let mut found = GroupFigures::default();
    if tasks.is_empty() {
        return found;
    }
    let part = blocks.part;
    let chosen = (0..tasks.len()).filter(|at| part.has(*at));
    let all: Vec<u32> = chosen.map(|at| at as u32).collect();
    let Some(first) = all.first() else {
        return found;
    };
    let mut in_tree = vec![u32::MAX; tasks.len()];
    for (position, at) in all.iter().enumerate() {
        in_tree[*at as usize] = position as u32;
    }
    let divided = by.divide(tasks, labels, &all);
    let tree = Members {
        group: 0,
        tasks: all.clone(),
        positions: &in_tree,
    };
    let of_groups = divided.groups.iter().map(|of| Members {
        group: of.id,
        tasks: of.tasks.clone(),
        positions: &divided.positions,
    });
    let of_groups: Vec<Members<'_>> = of_groups.collect();
    // The same tasks give the same figures: they are swept once.
    let swept_groups = match &of_groups[..] {
        [_] => &[],
        groups => groups,
    };
    let early = Early::new(tasks.len());
    let watch = |members| match Members::len(members) {
        0 | 1 => Told::Nobody(part),
        _ => {
            let rest = (episodes, &early);
            Told::Of(Box::new(Watch::new(kin, members, targets, hangs, rest)))
        }
    };
    let mut meantime = part.is_whole().then(|| Meantime::new(blocks.model));
    let others = (&early, meantime.as_mut());
    let (of_tree, of_each) = lanes::sweep(blocks, &tree, swept_groups, &watch, others);
    found.meantime = meantime.map(Meantime::finish);
    let context = (kin, targets, &spans);
    let first = &tasks[*first as usize];
    let what = (GroupKind::Tree, first.pid, first.name.as_str());
    let (of_tree, listed) = group(what, &tree, of_tree, context, &mut found);
    let mut groups = vec![of_tree];
    let of_tree = listed.into_iter().map(|stall| (&tree, stall));
    found.episodes = episodes_of(kin, of_tree);
    if let [only] = &divided.groups[..] {
        groups.push(Group {
            kind: by.kind(),
            id: only.id,
            name: only.name.clone(),
            ..groups[0].clone()
        });
        found.groups = groups;
        return found;
    }
    let of_tree = found.causes.len();
    let mut listed: Vec<Listed<'_>> = Vec::new();
    for ((of, members), swept) in divided.groups.iter().zip(&of_groups).zip(of_each) {
        let what = (by.kind(), of.pid, of.name.as_str());
        let (group, of_group) = group(what, members, swept, context, &mut found);
        groups.push(group);
        listed.extend(of_group.into_iter().map(|stall| (members, stall)));
    }
    if !part.is_all_time() {
        groups.retain(|group| group.kind == GroupKind::Tree || !group.tasks.is_empty());
        if groups.len() == 2 {
            listed.clear();
            found.causes.truncate(of_tree);
        }
    }
    // Chosen before they are looked into: a stall is small, and what is told of it is not.
    listed.sort_by_key(|(_, (_, stall))| std::cmp::Reverse(stall.end_ns - stall.start_ns));
    listed.truncate(episodes);
    found.episodes.extend(episodes_of(kin, listed.into_iter()));
    found.groups = groups;
    found
}

/// A stall to be listed, and whose it is.
type Listed<'a> = (&'a Members<'a>, (Verdict, Stall));

/// These stalls as they are reported, the longest first.
fn episodes_of<'a>(kin: &'a Kin<'a>, listed: impl Iterator<Item = Listed<'a>>) -> Vec<Episode> {
    let episodes = listed.enumerate().map(|(at, (members, (verdict, stall)))| {
        Inquiry::new(kin, members, stall).episode(verdict, at < WHOLE_STALLS)
    });
    episodes.collect()
}

/// What is the same for all groups.
type Context<'a> = (&'a Kin<'a>, &'a [u32], &'a spans::Spans<'a>);

fn group(
    (kind, pid, name): (GroupKind, u32, &str),
    members: &Members<'_>,
    swept: Swept,
    (kin, targets, spans): Context<'_>,
    found: &mut GroupFigures,
) -> (Group, Vec<(Verdict, Stall)>) {
    let blocks = kin.blocks;
    let Swept {
        profile,
        waiting_at_once,
        stalls,
    } = swept;
    let tasks = || {
        members
            .tasks
            .iter()
            .map(|at| &blocks.model.tasks[*at as usize])
    };
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
    let lived = members.tasks.iter().map(|at| *at as usize);
    let lived = lived.map(|at| (at, &blocks.model.tasks[at]));
    let lived = lived.filter(|(at, task)| blocks.part.has_life(*at, task));
    let group = Group {
        kind,
        id: members.group,
        pid,
        name: name.to_owned(),
        tasks: lived.map(|(_, task)| task.serial).collect(),
        lifetime_ns: profile.lifetime_ns,
        most_live: profile.most_live,
        all_blocked: profile.all_blocked,
        verdicts,
        starved: profile.starved,
        wall: profile.wall,
        blocked_at_once: profile.blocked_at_once,
        running_at_once: profile.running_at_once,
        waiting_at_once,
        unknown_ns: profile.unknown_ns,
        stops: profile.stops,
        spans: spans::of_group(spans, &tasks().collect::<Vec<_>>()),
    };
    (group, stalls.longest)
}
