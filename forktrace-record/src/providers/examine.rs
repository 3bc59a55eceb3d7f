//! What the helper does: tells of each task that sleeps who could wake it.
//!
//! Each kind of wait has a file of its own, and says nothing where it can't be sure: a task
//! that is named could really end the wait, and nobody is left out who could, or the wait is
//! not told of.

use nix::{
    sys::time::TimeValLike as _,
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize};

use super::{
    descriptors, family, file_locks, futex, given, servers, waitsets,
    world::{Found, Scene, Sleeper, Who, World},
};
use crate::{
    procfs::{self, Call},
    trace::{Given, ProviderKind, Providers, WaitFd},
};

/// A look names no more tasks than that, and one wait a part of it.
const MOST_NAMED: usize = 1 << 16;
const MOST_NAMED_OF_ONE: usize = 1 << 12;

/// Tells who could end the waits of these sleepers, as far as it is known.
pub(crate) fn examine(scene: &Scene) -> Answer {
    let mut world = World::new(scene);
    let mut answer = Answer::default();
    let mut named = 0;
    for sleeper in &scene.sleepers {
        if world.is_late() || named > MOST_NAMED {
            break;
        }
        answer.examined += 1;
        if let Some(what) = given::of(&mut world, sleeper).filter(|_| !sleeper.timed) {
            answer.given.push(Given {
                serial: sleeper.serial,
                seq: sleeper.seq,
                at_ns: now_ns(),
                what,
            });
        }
        if let Some(fds) = waitsets::of(&mut world, sleeper) {
            answer.sets.push(SetFound {
                serial: sleeper.serial,
                seq: sleeper.seq,
                at_ns: now_ns(),
                fds,
            });
        }
        if sleeper.timed {
            continue;
        }
        let found = find(&mut world, sleeper);
        let Some((kind, who)) = found.filter(|(_, who)| who.tasks.len() <= MOST_NAMED_OF_ONE)
        else {
            if let Some(who) = parked(&mut world, sleeper) {
                answer
                    .parked
                    .push(providers(sleeper, (ProviderKind::Shares, who)));
            }
            continue;
        };
        named += who.tasks.len();
        answer.providers.push(providers(sleeper, (kind, who)));
    }
    answer
}

fn providers(sleeper: &Sleeper, (kind, who): (ProviderKind, Who)) -> Providers {
    Providers {
        serial: sleeper.serial,
        seq: sleeper.seq,
        at_ns: now_ns(),
        kind,
        tasks: who.tasks,
        outside: who.outside,
        foreign: who.foreign,
    }
}

/// What came of a look.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// So many of the sleepers were looked at, from the first on.
    pub(super) examined: u32,
    pub(super) providers: Vec<Providers>,
    /// Those of whom no more is known than that a thread of their own process can wake them.
    pub(super) parked: Vec<Providers>,
    /// What calls were given, where no descriptor tells it.
    pub(super) given: Vec<Given>,
    /// The descriptors that nameless calls of select and poll wait for.
    pub(super) sets: Vec<SetFound>,
}

/// The descriptors that a sleeper waits for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SetFound {
    pub(super) serial: u32,
    /// The number of the stretch.
    pub(super) seq: u32,
    pub(super) at_ns: u64,
    pub(super) fds: Vec<WaitFd>,
}

fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| now.num_nanoseconds() as u64)
}

/// The other threads of one that waits for a futex of which they alone can wake it.
fn parked(world: &mut World<'_>, sleeper: &Sleeper) -> Option<Who> {
    let name = world.scene.arch.syscall_name(i32::from(sleeper.syscall))?;
    let member = world.member(sleeper.serial)?;
    (name == "futex").then(|| futex::parked(world, member, sleeper.arg0))?
}

/// Who could end this one's wait.
fn find(world: &mut World<'_>, sleeper: &Sleeper) -> Found {
    let member = world.member(sleeper.serial)?;
    if sleeper.traced {
        return family::tracer(world, member);
    }
    match procfs::wait_channel(member.tgid, member.tid).as_deref() {
        // fs/userfaultfd.c, fs/fuse/dev.c: whatever call it is in.
        Some("handle_userfault") => return servers::of_page_fault(world, member),
        Some("request_wait_answer") => return servers::of_file_system(world, member),
        _ => {}
    }
    let call = Call::of(member.tgid, member.tid)?;
    // Another call by now.
    if call.number != i64::from(sleeper.syscall) || call.arguments[0] != sleeper.arg0 {
        return None;
    }
    let name = world.scene.arch.syscall_name(i32::from(sleeper.syscall))?;
    match name {
        "futex" => futex::find(world, member, &call),
        "wait4" | "waitid" => family::children(world, member, name, &call),
        "vfork" | "clone" | "clone3" => family::vforked(world, member),
        "flock" | "fcntl" => file_locks::find(world, member, name, &call),
        "poll" | "ppoll" | "select" | "pselect6" | "epoll_wait" | "epoll_pwait"
        | "epoll_pwait2" => waitsets::find(world, member, name, &call),
        _ => descriptors::find(world, member, name, &call),
    }
}
