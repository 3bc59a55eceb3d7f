//! The groups: the tree, and each process.

use super::{
    Options,
    causes::causes,
    chains::{Begun, Inquiry},
    changes::Early,
    division::GroupBy,
    episodes::{Stall, Watch},
    lanes::{self, Swept, Told},
    meanwhile::{Meantime, OfWaits},
    members::Members,
    providers::Kin,
    spans,
    standstill::Hang,
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
    /// The same for who wants more of them.
    pub(super) more_episodes: Option<Vec<Episode>>,
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
    options: &Options,
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
            let most = options.episodes.max(options.more_episodes.unwrap_or(0));
            let rest = (most, &early);
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
    let (of_tree, stalls) = group(what, &tree, of_tree, context, &mut found);
    let mut groups = vec![of_tree];
    let mut listed = Listed {
        kin,
        tree: (&tree, stalls),
        groups: Vec::new(),
    };
    if let [only] = &divided.groups[..] {
        groups.push(Group {
            kind: by.kind(),
            id: only.id,
            name: only.name.clone(),
            ..groups[0].clone()
        });
        found.groups = groups;
        listed.tell(options, &mut found);
        return found;
    }
    let of_tree = found.causes.len();
    for ((of, members), swept) in divided.groups.iter().zip(&of_groups).zip(of_each) {
        let what = (by.kind(), of.pid, of.name.as_str());
        let (group, stalls) = group(what, members, swept, context, &mut found);
        groups.push(group);
        listed.groups.push((members, stalls));
    }
    if !part.is_all_time() {
        groups.retain(|group| group.kind == GroupKind::Tree || !group.tasks.is_empty());
        if groups.len() == 2 {
            listed.groups.clear();
            found.causes.truncate(of_tree);
        }
    }
    listed.tell(options, &mut found);
    found.groups = groups;
    found
}

/// Stalls of a group, longest first.
type Stalls<'a> = (&'a Members<'a>, Vec<(Verdict, Stall)>);
/// A stall to be listed, and whose it is.
type OfGroup<'a> = (&'a Members<'a>, (Verdict, Stall));

/// Stalls that can be listed.
struct Listed<'a> {
    kin: &'a Kin<'a>,
    tree: Stalls<'a>,
    groups: Vec<Stalls<'a>>,
}

impl<'a> Listed<'a> {
    fn tell(&self, options: &Options, found: &mut GroupFigures) {
        found.episodes = self.longest(options.episodes);
        found.more_episodes = options.more_episodes.map(|most| self.longest(most));
    }

    /// So many of the tree, and of all others. They are chosen before they are looked into: a stall
    /// is small, and what is told of it is not.
    fn longest(&self, most: usize) -> Vec<Episode> {
        let of = |(members, stalls): &Stalls<'a>| -> Vec<OfGroup<'a>> {
            let stalls = stalls.iter().take(most);
            stalls.map(|stall| (*members, *stall)).collect()
        };
        let mut others: Vec<OfGroup<'a>> = self.groups.iter().flat_map(of).collect();
        others.sort_by_key(|(_, (_, stall))| std::cmp::Reverse(stall.end_ns - stall.start_ns));
        others.truncate(most);
        let mut episodes = episodes_of(self.kin, of(&self.tree));
        episodes.extend(episodes_of(self.kin, others));
        episodes
    }
}

/// These stalls as they are reported, the longest first.
fn episodes_of<'a>(kin: &'a Kin<'a>, listed: Vec<OfGroup<'a>>) -> Vec<Episode> {
    let mut stalls: Vec<(usize, OfGroup<'a>)> = listed.into_iter().enumerate().collect();
    // What is looked into one after the other in time is near what was looked into before.
    stalls.sort_by_key(|(_, (_, (_, stall)))| stall.end_ns);
    let mut begun = Begun::new(kin.blocks.model);
    let episodes = stalls.into_iter().map(|(at, (members, (verdict, stall)))| {
        let inquiry = Inquiry::new(kin, members, stall, &mut begun);
        (at, inquiry.episode(verdict, at < WHOLE_STALLS))
    });
    let mut episodes: Vec<(usize, Episode)> = episodes.collect();
    episodes.sort_unstable_by_key(|(at, _)| *at);
    episodes.into_iter().map(|(_, episode)| episode).collect()
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
