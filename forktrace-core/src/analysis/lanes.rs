//! Sweeps over all groups at once: the changes of all tasks are read once, on a thread of their
//! own, and each is told to the groups that the task is in: to all tasks together on one thread, to
//! groups of some on another.

use std::{
    panic::resume_unwind,
    sync::{
        Arc,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
};

use super::{
    blocks::Blocks,
    changes::{Change, Changes, Early, Wait, Waits, Window},
    episodes::{Stalls, Watch},
    meanwhile::{Meantime, WaitKey},
    members::Members,
    profile::{Profile, Sweep, Watcher, of_one},
    same_reason::SameReason,
};
use crate::{model::Part, report::WaitingAtOnce};

/// So many windows may be ready before they are looked at.
const WINDOWS: usize = 4;

/// Who watches a sweep.
pub(super) enum Told<'a> {
    /// Of two tasks or more.
    Of(Box<Watch<'a>>),
    Nobody(&'a Part),
}

impl Watcher for Told<'_> {
    fn all_blocked(&mut self, start_ns: u64, end_ns: u64, next: usize) {
        if let Self::Of(watch) = self {
            watch.all_blocked(start_ns, end_ns, next);
        }
    }

    fn change(&mut self, task: usize, to: &Change, wait: Option<&Wait>) {
        if let Self::Of(watch) = self {
            watch.change(task, to, wait);
        }
    }

    fn part(&self) -> &Part {
        match self {
            Self::Of(watch) => watch.part(),
            Self::Nobody(part) => part,
        }
    }
}

/// What came of the sweep over a group.
#[derive(Default)]
pub(super) struct Swept {
    pub(super) profile: Profile,
    pub(super) waiting_at_once: Vec<WaitingAtOnce>,
    pub(super) stalls: Stalls,
}

/// A group, whose sweep is there while its tasks live.
struct Lane<'a, F> {
    blocks: &'a Blocks<'a>,
    members: &'a Members<'a>,
    /// Who watches it.
    watch: &'a F,
    /// How many tasks have not ended.
    live: usize,
    sweep: Option<Sweep<Told<'a>>>,
    swept: Swept,
}

impl<'a, F: Fn(&'a Members<'a>) -> Told<'a>> Lane<'a, F> {
    fn new(blocks: &'a Blocks<'a>, members: &'a Members<'a>, watch: &'a F) -> Self {
        Self {
            blocks,
            members,
            watch,
            live: members.tasks.len(),
            sweep: None,
            swept: Swept::default(),
        }
    }

    fn change(&mut self, position: u32, change: &Change, wait: Option<&Wait>) {
        let (blocks, members) = (self.blocks, self.members);
        let sweep = self.sweep.get_or_insert_with(|| {
            let tasks = members.tasks.iter();
            let tasks = tasks.map(|at| blocks.model.tasks[*at as usize].kernel_worker);
            let same_reason = SameReason::new(blocks.arch, tasks.collect());
            Sweep::new(members.tasks.len(), same_reason, (self.watch)(members))
        });
        sweep.change(position as usize, change, wait);
        if change.state.is_none() {
            self.live -= 1;
            if self.live == 0 {
                self.finish();
            }
        }
    }

    fn finish(&mut self) {
        if let Some(sweep) = self.sweep.take() {
            let (profile, same_reason, told) = sweep.finish();
            self.swept = Swept {
                profile,
                waiting_at_once: same_reason.finish(),
                stalls: match told {
                    Told::Of(watch) => watch.finish(),
                    Told::Nobody(_) => Stalls::default(),
                },
            };
        }
    }
}

/// Sweeps over all tasks, and over groups of them. All that happens is told to `meantime` as
/// well.
pub(super) fn sweep<'a, F: Fn(&'a Members<'a>) -> Told<'a> + Sync>(
    blocks: &'a Blocks<'a>,
    tree: &'a Members<'a>,
    groups: &'a [Members<'a>],
    watch: &'a F,
    (early, mut meantime): (&'a Early, Option<&mut Meantime>),
) -> (Swept, Vec<Swept>) {
    let mut all = Lane::new(blocks, tree, watch);
    let lanes = groups
        .iter()
        .map(|members| Lane::new(blocks, members, watch));
    let mut lanes: Vec<_> = lanes.collect();
    // By task: its group, and where it is in it. What one did by itself takes no sweep.
    let mut places = vec![(u32::MAX, 0); blocks.model.tasks.len()];
    for (lane, members) in groups.iter().enumerate().filter(|(_, it)| it.len() > 1) {
        for (position, at) in members.tasks.iter().enumerate() {
            places[*at as usize] = (lane as u32, position as u32);
        }
    }
    let mut look_at_groups = |window: &Window| {
        for (change, wait) in window.changes() {
            let (lane, position) = places[change.task as usize];
            if let Some(lane) = lanes.get_mut(lane as usize) {
                lane.change(position, change, wait);
            }
        }
    };
    let tasks = &blocks.model.tasks;
    let mut look_at_all = |window: &Window| {
        for (change, wait) in window.changes() {
            if let Some(meantime) = &mut meantime {
                meantime.change(change, || {
                    let block = &wait?.block;
                    let task = &tasks[change.task as usize];
                    Some(WaitKey::of(task, block.syscall, block.compat, block.why))
                });
            }
            if let Some(position) = tree.position(change.task) {
                all.change(position, change, wait);
            }
        }
    };
    let mut changes = Changes::new(blocks.model, &tree.tasks, Waits::new(blocks, early));
    let done = thread::scope(|scope| {
        let (back, over) = mpsc::channel();
        let (sender, of_groups) = mpsc::sync_channel(WINDOWS);
        let (to_all, of_all) = mpsc::sync_channel(WINDOWS);
        let mut to = vec![to_all];
        if groups.iter().any(|members| members.len() > 1) {
            to.push(sender);
            let (look, back) = (&mut look_at_groups, back.clone());
            let looks = move || take(&of_groups, look, &back);
            if thread::Builder::new().spawn_scoped(scope, looks).is_err() {
                return false;
            }
        }
        let changes = &mut changes;
        let reads = move || read(changes, &to, &over);
        let Ok(reads) = thread::Builder::new().spawn_scoped(scope, reads) else {
            return false;
        };
        take(&of_all, &mut look_at_all, &back);
        reads.join().unwrap_or_else(|panic| resume_unwind(panic));
        true
    });
    // A limit of memory or of processes left no room for a thread.
    while let Some(window) = changes.next().filter(|_| !done) {
        look_at_all(&window);
        look_at_groups(&window);
        changes.is_over(window);
    }
    all.finish();
    let lanes = lanes.into_iter().map(|mut lane| {
        lane.finish();
        match lane.members.tasks[..] {
            [only] => swept_one(blocks, only),
            _ => lane.swept,
        }
    });
    let lanes = lanes.collect();
    (all.swept, lanes)
}

/// What a sweep over a task by itself comes to.
fn swept_one(blocks: &Blocks<'_>, at: u32) -> Swept {
    let task = &blocks.model.tasks[at as usize];
    let same_reason = SameReason::new(blocks.arch, vec![task.kernel_worker]);
    let (profile, same_reason) = of_one(task, blocks.part, same_reason);
    Swept {
        profile,
        waiting_at_once: same_reason.finish(),
        stalls: Stalls::default(),
    }
}

fn read(
    changes: &mut Changes<'_, Waits<'_>>,
    to: &[SyncSender<Arc<Window>>],
    over: &Receiver<Arc<Window>>,
) {
    while let Some(window) = changes.next() {
        let window = Arc::new(window);
        if to.iter().any(|to| to.send(Arc::clone(&window)).is_err()) {
            // Who takes them panicked: that is what is told.
            return;
        }
        drop(window);
        // Of several who looked at one the last one gives it back whole.
        let back = over.try_iter().filter_map(Arc::into_inner);
        back.for_each(|window| changes.is_over(window));
    }
}

fn take(
    windows: &Receiver<Arc<Window>>,
    look: &mut impl FnMut(&Window),
    back: &mpsc::Sender<Arc<Window>>,
) {
    for window in windows {
        look(&window);
        // Nobody wants it after the last one was read.
        let _ = back.send(window);
    }
}
