//! Waits for a program that answers in the kernel's place: a handler of page faults, a file
//! system's daemon.

use super::{
    holders::FdInfo,
    paths,
    world::{Found, Member, Who, World},
};
use crate::{procfs::Call, trace::ProviderKind};

/// Those who have a userfaultfd. Which memory it is for the kernel does not tell; one that
/// was inherited serves the parent's.
pub(super) fn of_page_fault(world: &mut World<'_>, member: &Member) -> Found {
    let held = world.holders().of("anon_inode:[userfaultfd]").iter();
    let pids: Vec<u32> = held.map(|held| held.pid).collect();
    serving(world, member, pids)
}

/// Who could touch memory whose faults this task handles: the threads of its process, and of
/// the one that made it, whose memory it can be for.
pub(super) fn of_questions(world: &mut World<'_>, member: &Member) -> Found {
    let maker = world.maker(member.tgid);
    let processes: Vec<u32> = [Some(member.tgid), maker].into_iter().flatten().collect();
    Some((ProviderKind::Shares, world.all_of(&processes, member)))
}

/// The daemon of the FUSE file system that the task has asked something.
pub(super) fn of_file_system(world: &mut World<'_>, member: &Member) -> Found {
    let call = Call::of(member.tgid, member.tid)?;
    let name = world
        .scene
        .arch
        .syscall_name(i32::try_from(call.number).ok()?)?;
    let mounts = paths::Mounts::of(member.tgid)?;
    let mount = match paths::argument(name) {
        Some(position) => mounts.of_path(&paths::path(member, &call, position)?)?,
        None => {
            let info = FdInfo::of(member.tgid, call.arguments[0] as u32)?;
            mounts.of_number(info.number("mnt_id")?)?
        }
    };
    if !mount.is_fuse {
        return None;
    }
    let device = u64::from(mount.device);
    let held = world.holders().below("/dev/fuse").filter(|(held, whole)| {
        let info = FdInfo::of(held.pid, held.fd);
        info.is_some_and(|info| match info.number("fuse_connection") {
            Some(connection) => connection == device,
            // Kernels before 6.14 do not say which connection it is.
            None => *whole,
        })
    });
    let pids = held.map(|(held, _)| held.pid).collect();
    serving(world, member, pids)
}

fn serving(world: &World<'_>, member: &Member, mut pids: Vec<u32>) -> Found {
    pids.sort_unstable();
    pids.dedup();
    let (ours, theirs): (Vec<u32>, Vec<u32>) = pids
        .into_iter()
        .partition(|pid| !world.process(*pid).is_empty());
    let who = match (ours.is_empty(), theirs.is_empty()) {
        (true, true) => return None,
        (true, false) => Who::outside(),
        (false, _) => world.all_of(&ours, member),
    };
    Some((ProviderKind::Server, who))
}
