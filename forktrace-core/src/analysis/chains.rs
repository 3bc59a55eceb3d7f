//! Who woke whom, link by link: of the episodes that are listed and of each task's
//! longest blocks.

use std::{cmp::Reverse, collections::HashMap};

use super::{
    blocks::{Block, Blocks, End},
    episodes::Stall,
    held_by::{HeldBy, awaited_by, counted, held_by_what, waits_for_child},
    members::Members,
    objects,
    providers::Kin,
    standstill::{Standstill, wait_at},
    syscall_families::{NO_SYSCALL, wait_reason},
};
use crate::{
    model::{Model, State, Target},
    report::{
        Apart, EndedBy, Episode, Link, LongBlock, Shared, TaskName, Terminator, Trigger, Verdict,
        WakerKind, WokenBy,
    },
    trace::Timeout,
};

/// Links of a chain beyond a group, and of a long block's.
const LINKS: usize = 16;
/// Blocks of a waker that are looked at for the longest of them.
const LOOK_BACK: usize = 256;
/// Links of a chain within a group that are listed: of a longer one, the first and the last.
const CHAIN: usize = 64;
/// Tasks of an episode that are listed.
const BLOCKED: usize = 32;
/// Objects of an episode that are listed.
const SHARED: usize = 8;

/// A task (index in the model) and its block.
type Step = (u32, Block);

pub(super) fn name(blocks: &Blocks<'_>, task: u32) -> TaskName {
    let task = &blocks.model.tasks[task as usize];
    TaskName {
        serial: task.serial,
        tid: task.tid,
        name: task.name.clone(),
    }
}

/// A block as a link.
pub(super) fn link(blocks: &Blocks<'_>, (at, block): Step) -> Link {
    let task = &blocks.model.tasks[at as usize];
    let syscall = if task.kernel_worker {
        NO_SYSCALL
    } else {
        block.syscall
    };
    let (reason, syscall) = wait_reason(blocks.arch, syscall, block.compat, task.kernel_worker);
    let end = blocks.end(at as usize, &block);
    let is_sleep = matches!(
        blocks.model.targets.get(block.target as usize),
        Some(Target::Sleep)
    );
    Link {
        task: name(blocks, at),
        reason,
        syscall,
        object: match is_sleep {
            true => None,
            false => objects::describe(blocks.model, block.target),
        },
        timeout_ns: match block.timeout {
            Timeout::Us(us) if us < Timeout::LONGEST_US => Some(u64::from(us) * 1000),
            _ => None,
        },
        start_ns: block.start_ns,
        end_ns: block.wake_ns,
        ended: blocks.how(at as usize, &block),
        woken_by: match (end, block.wake_ns) {
            (End::Nobody, _) | (_, None) => WokenBy {
                kind: WakerKind::Nobody,
                ..WokenBy::default()
            },
            (_, Some(wake_ns)) => blocks.wakers.describe(block.waker, wake_ns),
        },
        code: blocks.code.of(task.serial, block.seq).map(str::to_owned),
    }
}

/// The block of the waker that explains best why it came no earlier: the longest
/// of its last ones that ended after `from_ns`.
fn waker_block(blocks: &Blocks<'_>, (at, block): Step, from_ns: u64) -> Option<Step> {
    let End::Task(waker) = blocks.end(at as usize, &block) else {
        return None;
    };
    let wake_ns = block.wake_ns?;
    let offs = &blocks.model.tasks[waker as usize].stretches;
    let until = offs.partition_point(|off| off.wake_ns <= wake_ns);
    let inside = |off: &crate::model::Off| off.wake_ns > from_ns;
    let recent = offs
        .range(0..until)
        .rev()
        .take(LOOK_BACK)
        .take_while(inside);
    let longest = recent
        .filter(|off| off.state() == State::Blocked && off.wake_ns > off.out_ns)
        .max_by_key(|off| off.wake_ns - off.out_ns.max(from_ns))?;
    Some((waker, Block::of(longest)?))
}

/// Follows a chain from its last link, inside a window that begins at `from_ns`.
/// Says whether it goes on.
fn follow(blocks: &Blocks<'_>, chain: &mut Vec<Step>, from_ns: u64) -> bool {
    let Some(mut step) = chain.last().copied() else {
        return false;
    };
    for _ in 0..LINKS {
        let Some(next) = waker_block(blocks, step, from_ns) else {
            return false;
        };
        chain.push(next);
        step = next;
    }
    waker_block(blocks, step, from_ns).is_some()
}

/// A block, its waker's longest block inside it, and so on; and whether it goes on.
pub(super) fn chain(blocks: &Blocks<'_>, at: u32, block: Block) -> (Vec<Link>, bool) {
    let mut chain = vec![(at, block)];
    let cut = follow(blocks, &mut chain, block.start_ns);
    let links = chain.into_iter().map(|step| link(blocks, step));
    (links.collect(), cut)
}

/// The longest blocks of a task, each with its chain.
pub(super) fn longest_blocks(blocks: &Blocks<'_>, at: u32, keep: usize) -> Vec<LongBlock> {
    let task = &blocks.model.tasks[at as usize];
    let mut longest: Vec<(u64, Block)> = Vec::with_capacity(keep + 1);
    let consider = |least: &mut u64, longest: &mut Vec<_>, ns: u64, block: Option<Block>| {
        let Some(block) = block.filter(|_| ns > *least) else {
            return;
        };
        let place = longest.partition_point(|(other, _)| *other >= ns);
        longest.insert(place, (ns, block));
        longest.truncate(keep);
        if longest.len() == keep {
            *least = longest.last().map_or(0, |(ns, _)| *ns);
        }
    };
    let part = blocks.part;
    let mut least = 0;
    for (within_ns, lot) in task.stretches.by_lots() {
        if within_ns <= least {
            continue;
        }
        for off in lot {
            let ns = part.ns(off.out_ns, off.wake_ns);
            consider(&mut least, &mut longest, ns, Block::of(off));
        }
    }
    let open = Block::open(task);
    let ns = open.map_or(0, |b| part.ns(b.start_ns, b.end_ns(task)));
    consider(&mut least, &mut longest, ns, open);
    let chains = longest.into_iter().map(|(_, block)| {
        let (chain, chain_cut) = self::chain(blocks, at, block);
        LongBlock { chain, chain_cut }
    });
    chains.collect()
}

/// All that is known of one stall.
pub(super) struct Inquiry<'a> {
    blocks: &'a Blocks<'a>,
    members: &'a Members<'a>,
    stall: Stall,
    /// By position; `None`: it did not live.
    held: Vec<Option<(Block, HeldBy)>>,
    /// By position: the member that each was behind.
    leads: Vec<Option<u32>>,
}

/// How many stretches of each task (index in the model) began before a moment, as far as somebody
/// asked. Of moments one after the other it is quickly found.
pub(super) struct Begun<'a> {
    model: &'a Model,
    near: Vec<Option<usize>>,
}

impl<'a> Begun<'a> {
    pub(super) fn new(model: &'a Model) -> Self {
        Self {
            model,
            near: vec![None; model.tasks.len()],
        }
    }

    fn before(&mut self, task: u32, at_ns: u64) -> usize {
        let stretches = &self.model.tasks[task as usize].stretches;
        let found = match self.near[task as usize] {
            Some(near) => stretches.left_before_near(near, at_ns),
            None => stretches.left_before(at_ns),
        };
        self.near[task as usize] = Some(found);
        found
    }
}

impl<'a> Inquiry<'a> {
    pub(super) fn new(
        kin: &'a Kin<'a>,
        members: &'a Members<'a>,
        stall: Stall,
        begun: &mut Begun<'_>,
    ) -> Self {
        let blocks = kin.blocks;
        let held = members.tasks.iter().map(|at| {
            let task = &blocks.model.tasks[*at as usize];
            let lives = task.start_ns < stall.end_ns && task.end_ns >= stall.end_ns;
            if !lives {
                return None;
            }
            let next = begun.before(*at, stall.end_ns);
            let block = match stall.unfulfilled {
                true => wait_at(blocks, task, stall.end_ns),
                false => Block::last_before(task, next, stall.end_ns),
            };
            let block = block?;
            let what = (blocks.class(&block), blocks.end(*at as usize, &block));
            let from = |waker: u32| {
                let mut near = begun.before(waker, stall.end_ns);
                blocks.held_from((*at, &block), waker as usize, &mut near)
            };
            let held_by = held_by_what(blocks, members, *at, what, from);
            Some((block, held_by))
        });
        let mut held: Vec<Option<(Block, HeldBy)>> = held.collect();
        let starts = held.iter().map(|p| p.map(|(block, _)| block.start_ns));
        let starts: Vec<Option<u64>> = starts.collect();
        let all: Vec<_> = held.iter().map(|p| p.map(|(_, held_by)| held_by)).collect();
        let counted = counted(&all, &starts);
        for (known, counted) in held.iter_mut().zip(counted) {
            if let (Some((_, held_by)), Some(counted)) = (known, counted) {
                *held_by = counted;
            }
        }
        let mut leads: Vec<Option<u32>> = if stall.unfulfilled {
            let still = Standstill::before(kin, stall.end_ns);
            let lead = |at: &u32| members.position(still.leads_to(kin, *at)?);
            members.tasks.iter().map(lead).collect()
        } else {
            let lead = |held_by: &Option<(Block, HeldBy)>| match held_by {
                Some((_, HeldBy::Edge { to, .. })) => Some(*to),
                _ => None,
            };
            held.iter().map(lead).collect()
        };
        let root = held.get(stall.root as usize).copied().flatten();
        let waiter = root.and_then(|(block, _)| awaited_by(blocks, members, stall.root, &block));
        let child = members.tasks.get(stall.root as usize);
        if let (Some(waiter), Some(child)) = (waiter, child)
            && let Some((block, _)) = held[waiter as usize]
            && waits_for_child(blocks, &block, &blocks.model.tasks[*child as usize])
        {
            leads[waiter as usize] = Some(stall.root);
        }
        // It is the end of all chains, in a circle too.
        if let Some(root) = leads.get_mut(stall.root as usize) {
            *root = None;
        }
        for (lead, held_by) in leads.iter_mut().zip(&held) {
            *lead = lead.filter(|to| held_by.is_some() && held[*to as usize].is_some());
        }
        Self {
            blocks,
            members,
            stall,
            held,
            leads,
        }
    }

    fn step(&self, position: u32) -> Option<Step> {
        let (block, _) = (*self.held.get(position as usize)?)?;
        Some((self.members.tasks[position as usize], block))
    }

    /// By position: how many links away the root is; `None`: its chain leads elsewhere.
    /// Takes as long as there are members, however long the chains.
    fn distances(&self) -> Vec<Option<u32>> {
        let mut known: Vec<Option<Option<u32>>> = vec![None; self.held.len()];
        for first in self.live() {
            let (mut at, mut path) = (first, Vec::new());
            let mut distance = loop {
                match (known[at as usize], self.leads[at as usize]) {
                    (Some(known), _) => break known,
                    _ if at == self.stall.root => break Some(0),
                    (None, None) => break None,
                    (None, Some(to)) => {
                        // A circle that the root is not in.
                        known[at as usize] = Some(None);
                        path.push(at);
                        at = to;
                    }
                }
            };
            known[at as usize] = Some(distance);
            for at in path.into_iter().rev() {
                distance = distance.map(|links| links + 1);
                known[at as usize] = Some(distance);
            }
        }
        known.into_iter().map(Option::flatten).collect()
    }

    /// From a member to the root.
    fn path(&self, from: u32) -> Vec<u32> {
        let mut path = vec![from];
        let mut at = from;
        while let Some(to) = self.leads[at as usize].filter(|_| path.len() <= self.held.len()) {
            path.push(to);
            at = to;
        }
        path
    }

    fn live(&self) -> impl Iterator<Item = u32> {
        let held = self.held.iter().enumerate();
        held.filter_map(|(at, held_by)| held_by.is_some().then_some(at as u32))
    }

    /// The episode as it is reported; `whole`: with what each was in.
    pub(super) fn episode(&self, verdict: Verdict, whole: bool) -> Episode {
        let Stall {
            start_ns,
            end_ns,
            ns,
            look_ups,
            next,
            root,
            ..
        } = self.stall;
        let distances = self.distances();
        let away = |at: u32| distances[at as usize].map(|links| (links, Reverse(at)));
        let held = self.live().filter(|at| *at != root && away(*at).is_some());
        let held = held.count() as u32;
        let farthest = self.live().filter_map(away).max();
        let mut path = farthest.map_or(Vec::new(), |(_, Reverse(at))| self.path(at));
        let chain_left_out = path.len().saturating_sub(CHAIN);
        if chain_left_out > 0 {
            path.drain(CHAIN / 2..CHAIN / 2 + chain_left_out);
        }
        let mut chain: Vec<Step> = path.into_iter().filter_map(|at| self.step(at)).collect();
        let chain_in_group = chain.len() as u32;
        let chain_cut = follow(self.blocks, &mut chain, start_ns);
        let of = |held_by: HeldBy| {
            self.held
                .iter()
                .flatten()
                .filter(move |(_, p)| *p == held_by)
        };
        Episode {
            group: self.members.group,
            start_ns,
            end_ns,
            ns,
            look_ups,
            verdict,
            ended_by: self.ended_by(verdict),
            tasks: self.live().count() as u32,
            trigger: self.trigger(),
            terminator: self.terminator(next),
            chain: self.links(chain),
            chain_in_group,
            chain_cut,
            chain_left_out: chain_left_out as u32,
            held,
            idle: self.idle(),
            not_woken: of(HeldBy::NotWoken).count() as u32,
            shared: self.shared(),
            blocked: {
                let steps = self.live().filter_map(|at| self.step(at));
                self.links(steps.take(if whole { BLOCKED } else { 0 }))
            },
        }
    }

    /// The wait that it is put down to.
    fn ended_by(&self, verdict: Verdict) -> Option<EndedBy> {
        let step = self.step(self.stall.root)?;
        let link = link(self.blocks, step);
        let stuck = verdict == Verdict::Stuck;
        Some(EndedBy {
            task: link.task,
            reason: link.reason,
            syscall: link.syscall,
            object: link.object,
            how: link.ended,
            start_ns: link.start_ns,
            end_ns: link.end_ns,
            apart: match (stuck, self.stall.unfulfilled) {
                (true, _) => Some(Apart::Stuck),
                (false, true) => Some(Apart::CutShort),
                (false, false) if self.stall.root != self.stall.next => Some(Apart::AMomentLater),
                (false, false) => None,
            },
            code: link.code,
        })
    }

    /// How many had nothing to do.
    fn idle(&self) -> u32 {
        let idle = |held_by: &HeldBy| {
            matches!(
                held_by,
                HeldBy::Input | HeldBy::Time | HeldBy::EdgeLater | HeldBy::NotWoken
            )
        };
        let held = self.held.iter().flatten();
        held.filter(|(_, held_by)| idle(held_by)).count() as u32
    }

    fn links(&self, steps: impl IntoIterator<Item = Step>) -> Vec<Link> {
        steps.into_iter().map(|s| link(self.blocks, s)).collect()
    }

    fn trigger(&self) -> Option<Trigger> {
        let steps = self.live().filter_map(|at| self.step(at));
        let (task, block) = steps.max_by_key(|(_, block)| block.start_ns)?;
        Some(Trigger {
            task: name(self.blocks, task),
            at_ns: block.start_ns,
        })
    }

    fn terminator(&self, next: u32) -> Option<Terminator> {
        let (task, block) = self.step(next)?;
        let wake_ns = block.wake_ns.filter(|wake| *wake <= self.stall.end_ns)?;
        Some(Terminator {
            task: name(self.blocks, task),
            woken_by: self.blocks.wakers.describe(block.waker, wake_ns),
        })
    }

    fn shared(&self) -> Vec<Shared> {
        let mut by_key: HashMap<objects::Key, usize> = HashMap::new();
        let mut shared: Vec<Shared> = Vec::new();
        for (task, block) in self.live().filter_map(|at| self.step(at)) {
            let serial = self.blocks.model.tasks[task as usize].serial;
            for (key, object) in
                objects::shareable(self.blocks.model, block.target, self.stall.end_ns)
            {
                let at = *by_key.entry(key).or_insert_with(|| {
                    shared.push(Shared {
                        object,
                        tasks: Vec::new(),
                    });
                    shared.len() - 1
                });
                let tasks = &mut shared[at].tasks;
                if tasks.last() != Some(&serial) {
                    tasks.push(serial);
                }
            }
        }
        shared.retain(|s| s.tasks.len() > 1);
        shared.sort_by_key(|s| std::cmp::Reverse(s.tasks.len()));
        shared.truncate(SHARED);
        // There was one for each thing that anybody waited for.
        shared.shrink_to_fit();
        shared
    }
}
