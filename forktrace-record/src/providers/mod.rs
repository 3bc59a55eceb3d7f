//! Who could end the waits that last, found out while they last: `/proc` tells it of living
//! tasks only.
//!
//! Now and then the task table is read. A helper looks at those who have slept for long
//! (`examine`), at each the more seldom the longer it sleeps, so that parked threads cost
//! next to nothing. What it finds is written if the task still sleeps the same sleep.

mod closed;
mod descriptors;
mod examine;
mod family;
mod file_locks;
mod futex;
mod given;
mod holders;
mod kernel_locks;
mod memory;
mod paths;
mod peers;
mod servers;
#[cfg(test)]
mod tests;
mod waitsets;
mod world;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    rc::Rc,
    time::{Duration, Instant},
};

pub(crate) use self::examine::examine;
use self::{
    examine::Answer,
    world::{Member, Scene, Sleeper},
};
use crate::{
    capture::Tracer,
    deadlock::living,
    decode,
    helper::{Channel, Kind, Nursery, Troubles},
    procfs,
    trace::{
        self, Arch, Born, Deadlock, Event, Given, GivenWhat, ProviderKind, Providers, StuckOn,
        TaskRecord, Timeout, Waitset, Why,
    },
};

/// Looks are this far apart at least…
const INTERVAL: Duration = Duration::from_millis(250);
/// …and so many times as long as a look takes.
const REST: u32 = 50;
/// When one is wanted at once, they are as far apart as that.
const SOONEST: Duration = Duration::from_millis(50);
/// Who has slept for less is not looked at.
const LONG_NS: u64 = 100_000_000;
/// Who was looked at is looked at again when it has slept so many times as long.
const AGAIN: u64 = 4;
/// Who has slept for less is not said to hang.
const HANG_NS: u64 = 1_000_000_000;
/// Nor where one waits for a lock of another: the look for deadlocks reads which lock that
/// is, and has this much time to tell of it first.
const LOCKED_NS: u64 = 10_000_000_000;
/// A look is at so many sleepers at most.
const MOST: usize = 1 << 12;
/// Tids of tasks that have ended, so many as are remembered.
const MOST_ENDED: usize = 1 << 16;
/// A helper that does not answer for so long is abandoned.
const PATIENCE: Duration = Duration::from_secs(5);
/// It is replaced so often.
const REPLACED: u64 = 3;

/// Finds out who could end waits.
pub struct Search {
    helper: Channel<Vec<(u32, u32)>, Answer>,
    arch: Arch,
    due: Instant,
    /// When the last one began.
    looked: Instant,
    /// When locks of the kernel are looked at again, for which it takes no helper.
    locks_due: Instant,
    /// What was told of those, by who waits.
    locks_told: HashMap<u32, Providers>,
    /// By serial.
    known: HashMap<u32, Known>,
    ended: Ended,
    /// The number of the set that was found last, from the highest down: the kernel programs
    /// count from 1 up.
    last_set: u32,
}

/// What is known of a task's present sleep.
struct Known {
    seq: u32,
    /// When it is looked at again.
    next_ns: u64,
    told: Option<Providers>,
    /// It is parked at a futex, and these could wake it: not told, since it is nothing new.
    parked: Option<Providers>,
    /// What its call was given is known.
    given: bool,
}

/// What came of a look.
#[derive(Default)]
pub(crate) struct Seen {
    /// Who could end waits.
    pub(crate) providers: Vec<Providers>,
    /// What calls were given.
    pub(crate) given: Vec<Given>,
    /// The descriptors of some of them.
    pub(crate) sets: Vec<Waitset>,
    /// Those who can't go on.
    pub(crate) stuck: Option<Stuck>,
}

/// Tasks that can't go on, since each waits for another one of them, or for nobody.
pub(crate) struct Stuck {
    pub(crate) deadlock: Deadlock,
    /// Tids and names of those who are told of, by serial.
    pub(crate) names: HashMap<u32, (u32, String)>,
    /// Who could end their waits.
    pub(crate) told: Vec<Providers>,
}

/// Tids of the workload's tasks that have ended.
#[derive(Default)]
struct Ended {
    tids: HashSet<u32>,
    order: VecDeque<u32>,
}

impl Ended {
    fn add(&mut self, tid: u32) {
        if self.tids.insert(tid) {
            self.order.push_back(tid);
        }
        if self.order.len() > MOST_ENDED
            && let Some(oldest) = self.order.pop_front()
        {
            self.tids.remove(&oldest);
        }
    }
}

impl Search {
    /// For a workload that begins now.
    pub(crate) fn new(nursery: &Rc<Nursery>, arch: Arch) -> Self {
        Self {
            helper: Channel::new(nursery.clone(), Kind::Providers, PATIENCE, REPLACED),
            arch,
            due: Instant::now() + INTERVAL,
            looked: Instant::now(),
            locks_due: Instant::now() + INTERVAL,
            locks_told: HashMap::new(),
            known: HashMap::new(),
            ended: Ended::default(),
            last_set: u32::MAX,
        }
    }

    /// Takes notice of an event.
    pub(crate) fn note(&mut self, event: &Event) {
        if let Event::Task(task) = event
            && task.end_ns.is_some()
        {
            self.ended.add(task.born.tid);
        }
    }

    /// The next look is sooner than it would be.
    pub(crate) fn hurry(&mut self) {
        let now = Instant::now();
        // Longer is a rest from a look that took long.
        if self.due <= now + INTERVAL {
            self.due = self.due.min(now.max(self.looked + SOONEST));
        }
    }

    /// CPU time that the helper used, ns.
    pub(crate) fn helper_cpu_ns(&self) -> u64 {
        self.helper.cpu_ns()
    }

    /// What went wrong with the helper.
    pub(crate) fn troubles(&self) -> Troubles {
        self.helper.troubles()
    }

    /// Has sleepers looked at, if it is time, and gives what was found of those before. `now_ns` is the time of the records' clock.
    pub(crate) fn look(&mut self, tracer: &Tracer, now_ns: u64) -> Seen {
        let mut seen = Seen::default();
        let received = self.helper.receive();
        if received.anew {
            self.helper.go_on::<Scene>([]);
            self.due = Instant::now() + PATIENCE * 2;
        }
        for (asked, answer, cpu_ns) in received.answers {
            let rest = Duration::from_nanos(cpu_ns) * REST;
            self.due = self.due.max(Instant::now() + rest);
            self.confirmed(&asked, answer, tracer, now_ns, &mut seen);
        }
        let begun = Instant::now();
        if begun >= self.locks_due {
            seen.providers.extend(self.kernel_locks(tracer, now_ns));
            self.locks_due = Instant::now() + INTERVAL.max(begun.elapsed() * REST);
        }
        if begun >= self.due && self.helper.is_open() && self.helper.waiting() == 0 {
            self.looked = begun;
            let tasks = living(tracer);
            seen.stuck = self.stuck(&tasks, now_ns);
            if let Some(scene) = self.scene(&tasks, now_ns) {
                let asked = scene.sleepers.iter().map(|s| (s.serial, s.seq)).collect();
                self.helper.ask(asked, &scene);
            }
            self.due = Instant::now() + INTERVAL.max(begun.elapsed() * REST);
        }
        seen
    }

    /// Those who have slept for long, each until another one of them ends that.
    fn stuck(&self, tasks: &[TaskRecord], now_ns: u64) -> Option<Stuck> {
        let mut threads: HashMap<u32, Vec<u32>> = HashMap::new();
        for task in tasks {
            let of = threads.entry(task.born.process).or_default();
            of.push(task.born.serial);
        }
        let told = tasks.iter().filter_map(|task| {
            let (since_ns, serial) = (sleeps_since(task)?, task.born.serial);
            let known = self.known.get(&serial);
            // Who holds a lock of the kernel holds up whatever the call wants of others.
            let told = self.locks_told.get(&serial);
            let told = told.or_else(|| known?.told.as_ref());
            // Of a thread that was created later nothing was known.
            let parked = || {
                let of = threads.get(&task.born.process)?;
                known?.parked.as_ref().filter(|it| names_all(it, of))
            };
            let it = (told.or_else(parked)?, told.is_none());
            let same = it.0.seq == task.totals.seq && since_ns + HANG_NS <= now_ns;
            same.then_some((serial, it))
        });
        let (told, set) = stuck_of(told.collect());
        let of_set = tasks.iter().filter(|task| set.contains(&task.born.serial));
        let stuck = of_set.filter_map(|task| {
            Some(trace::Stuck {
                serial: task.born.serial,
                on: StuckOn::Told,
                since_ns: sleeps_since(task)?,
            })
        });
        let stuck: Vec<trace::Stuck> = stuck.collect();
        let last_ns = stuck.iter().map(|stuck| stuck.since_ns).max()?;
        let told = set.iter().filter_map(|serial| told.get(serial));
        let told: Vec<Providers> = told.map(|told| (*told).clone()).collect();
        let locked = told.iter().any(|it| {
            it.kind == ProviderKind::Owner && it.foreign.is_none() && !it.tasks.is_empty()
        });
        if locked && last_ns + LOCKED_NS > now_ns {
            return None;
        }
        let named = |serial: &u32| told.iter().any(|told| told.tasks.contains(serial));
        let names = tasks.iter().map(|task| &task.born);
        let names = names.filter(|it| named(&it.serial) || set.contains(&it.serial));
        let name = |it: &Born| procfs::name_of_living(it.tgid, it.tid);
        Some(Stuck {
            names: names.map(|it| (it.serial, (it.tid, name(it)))).collect(),
            deadlock: Deadlock {
                at_ns: now_ns,
                cycle: false,
                tasks: stuck,
            },
            told,
        })
    }

    /// Who holds the locks of the kernel that tasks have long waited for, where that is new.
    fn kernel_locks(&mut self, tracer: &Tracer, now_ns: u64) -> Vec<Providers> {
        let mut waits = Vec::new();
        tracer.living(|state| waits.extend(decode::kernel_lock(&state)));
        let mut found = kernel_locks::holders(&waits, now_ns.saturating_sub(LONG_NS));
        let told = std::mem::take(&mut self.locks_told);
        self.locks_told = found.iter().map(|p| (p.serial, p.clone())).collect();
        found.retain(|p| told.get(&p.serial) != Some(p));
        found
    }

    /// Those who have slept for long; `None`: nobody is due.
    fn scene(&mut self, tasks: &[TaskRecord], now_ns: u64) -> Option<Scene> {
        let asleep: HashMap<u32, u32> = tasks
            .iter()
            .filter(|task| sleeps_since(task).is_some())
            .map(|task| (task.born.serial, task.totals.seq))
            .collect();
        self.known
            .retain(|serial, known| asleep.get(serial) == Some(&known.seq));
        let mut due: Vec<(u64, Sleeper)> = tasks
            .iter()
            .filter_map(|task| {
                let since_ns = sleeps_since(task)?;
                let known = self.known.get(&task.born.serial);
                let next_ns = known.map_or(since_ns + LONG_NS, |known| known.next_ns);
                (next_ns <= now_ns).then_some(())?;
                Some((next_ns, sleeper(task, self.arch)?))
            })
            .collect();
        if due.is_empty() {
            return None;
        }
        due.sort_unstable_by_key(|(next_ns, sleeper)| (*next_ns, sleeper.serial));
        due.truncate(MOST);
        Some(Scene {
            arch: self.arch,
            members: tasks.iter().map(member).collect(),
            sleepers: due.into_iter().map(|(_, sleeper)| sleeper).collect(),
        })
    }

    /// What is new, of those who still sleep the same sleep.
    fn confirmed(
        &mut self,
        asked: &[(u32, u32)],
        answer: Answer,
        tracer: &Tracer,
        now_ns: u64,
        seen: &mut Seen,
    ) {
        let tasks = living(tracer);
        let still: HashMap<(u32, u32), u64> = tasks
            .iter()
            .filter_map(|task| {
                let since_ns = sleeps_since(task)?;
                Some(((task.born.serial, task.totals.seq), since_ns))
            })
            .collect();
        for (serial, seq) in asked.iter().take(answer.examined as usize) {
            let Some(since_ns) = still.get(&(*serial, *seq)) else {
                continue;
            };
            let next_ns = since_ns + now_ns.saturating_sub(*since_ns) * AGAIN;
            let told = self.known.remove(serial).filter(|known| known.seq == *seq);
            self.known.insert(
                *serial,
                Known {
                    seq: *seq,
                    next_ns,
                    given: told.as_ref().is_some_and(|known| known.given),
                    told: told.and_then(|known| known.told),
                    parked: None,
                },
            );
        }
        for parked in answer.parked {
            let known = self.known.get_mut(&parked.serial);
            if let Some(known) = known.filter(|known| known.seq == parked.seq) {
                known.parked = Some(parked);
            }
        }
        let lives: HashSet<u32> = tasks.iter().map(|task| task.born.tid).collect();
        let mut found = answer.providers;
        found.retain(|found| {
            // A number that was never a tid of the workload is no owner.
            let is_ours = |tid| lives.contains(&tid) || self.ended.tids.contains(&tid);
            let is_owner = found.outside || found.foreign.is_none_or(is_ours);
            is_owner && still.contains_key(&(found.serial, found.seq)) && self.is_new(found)
        });
        seen.providers.append(&mut found);
        for found in answer.sets {
            let known = self.known.get_mut(&found.serial);
            let same = still.contains_key(&(found.serial, found.seq));
            if same && known.is_some_and(|known| !std::mem::replace(&mut known.given, true)) {
                self.last_set -= 1;
                seen.sets.push(Waitset {
                    id: self.last_set,
                    serial: found.serial,
                    at_ns: found.at_ns,
                    fds: found.fds,
                    cut_off: false,
                });
                seen.given.push(Given {
                    serial: found.serial,
                    seq: found.seq,
                    at_ns: found.at_ns,
                    what: GivenWhat::Set(self.last_set),
                });
            }
        }
        seen.given.extend(answer.given.into_iter().filter(|given| {
            let known = self.known.get_mut(&given.serial);
            let same = still.contains_key(&(given.serial, given.seq));
            same && known.is_some_and(|known| !std::mem::replace(&mut known.given, true))
        }));
    }

    fn is_new(&mut self, found: &Providers) -> bool {
        let Some(known) = self.known.get_mut(&found.serial) else {
            return false;
        };
        let same = known.told.as_ref().is_some_and(|told| {
            let said = |p: &Providers| (p.kind, p.outside, p.foreign);
            said(told) == said(found) && told.tasks == found.tasks
        });
        known.told = Some(found.clone());
        !same
    }
}

/// Are these all that could wake a thread that is parked, of those of its process that live?
fn names_all(parked: &Providers, threads: &[u32]) -> bool {
    let named = |serial: &u32| *serial == parked.serial || parked.tasks.contains(serial);
    threads.iter().all(named)
}

/// Those who can't go on, of sleepers with who could wake them and whether they are parked; who
/// is, is left out where all is for futexes and children: the look for deadlocks tells of that.
fn stuck_of(sleepers: HashMap<u32, (&Providers, bool)>) -> (HashMap<u32, &Providers>, Vec<u32>) {
    let tells_else = |serial: &u32| {
        sleepers.get(serial).is_some_and(|(told, parked)| {
            let kind = told.kind;
            let by_deadlocks = matches!(
                kind,
                ProviderKind::Child | ProviderKind::Owner | ProviderKind::Joined
            );
            !parked && !by_deadlocks
        })
    };
    let all = sleepers.iter().map(|(serial, (told, _))| (*serial, *told));
    let all: HashMap<u32, &Providers> = all.collect();
    let set = closed::closed(&all);
    if set.iter().any(tells_else) {
        return (all, set);
    }
    let told = sleepers.iter().filter(|(_, (_, parked))| !parked);
    let told: HashMap<u32, &Providers> = told.map(|(at, (told, _))| (*at, *told)).collect();
    let set = closed::closed(&told);
    (told, set)
}

/// Since when a task sleeps, or is held by a tracer.
fn sleeps_since(task: &TaskRecord) -> Option<u64> {
    let open = task.open.as_ref()?;
    let asleep = matches!(
        open.why,
        Why::Interruptible | Why::Killable | Why::Uninterruptible | Why::Traced
    );
    (asleep && open.wake_ns.is_none()).then_some(open.out_ns)
}

/// `None`: time ends its wait and it is known what it waits for, or the call is not of our
/// table.
fn sleeper(task: &TaskRecord, arch: Arch) -> Option<Sleeper> {
    let open = task.open.as_ref()?;
    if open.compat || task.born.kernel_worker {
        return None;
    }
    let nameless = open.object == 0;
    let timed = open.timeout != Timeout::None;
    let is_set = || {
        let name = arch.syscall_name(i32::from(open.syscall));
        name.is_some_and(waitsets::is_set)
    };
    if timed && !(nameless && is_set()) {
        return None;
    }
    Some(Sleeper {
        serial: task.born.serial,
        seq: task.totals.seq,
        syscall: open.syscall,
        arg0: open.arg0,
        traced: open.why == Why::Traced,
        nameless,
        timed,
    })
}

fn member(task: &TaskRecord) -> Member {
    // include/uapi/linux/sched.h
    const CLONE_VFORK: u64 = 0x4000;
    let born = &task.born;
    Member {
        serial: born.serial,
        parent: born.parent,
        tgid: born.tgid,
        tid: born.tid,
        vforked: born.clone_flags & CLONE_VFORK != 0,
    }
}

#[cfg(test)]
mod of_parked {
    use super::*;

    fn told(serial: u32, kind: ProviderKind, tasks: &[u32]) -> Providers {
        Providers {
            serial,
            seq: 1,
            at_ns: 0,
            kind,
            tasks: tasks.to_vec(),
            outside: false,
            foreign: None,
        }
    }

    fn set(sleepers: &[(Providers, bool)]) -> Vec<u32> {
        let sleepers = sleepers.iter();
        let (told, set) = stuck_of(sleepers.map(|(p, is)| (p.serial, (p, *is))).collect());
        assert!(set.iter().all(|serial| told.contains_key(serial)));
        set
    }

    #[test]
    fn who_is_parked_hangs_with_the_thread_that_could_wake_it() {
        // 1 waits for process 2, whose main thread waits for its thread 3, which waits for room
        // in a pipe that 1 and its own process read.
        let parent = (told(1, ProviderKind::Child, &[2, 3]), false);
        let main = (told(2, ProviderKind::Shares, &[3]), true);
        let feeder = (told(3, ProviderKind::OtherEnd, &[1, 2]), false);
        assert_eq!(
            set(&[parent.clone(), main.clone(), feeder.clone()]),
            [1, 2, 3]
        );
        // Another thread of that process goes on.
        let may = (told(2, ProviderKind::Shares, &[3, 4]), true);
        assert_eq!(set(&[parent.clone(), may, feeder]), [0; 0]);
        // Or began only after it was looked at.
        assert!(names_all(&main.0, &[2, 3]) && !names_all(&main.0, &[2, 3, 4]));
        // All of it is for the look for deadlocks to tell.
        let joins = (told(3, ProviderKind::Joined, &[2]), false);
        assert_eq!(set(&[parent, main, joins]), [0; 0]);
    }
}
