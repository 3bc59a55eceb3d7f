//! What a call was given, where no descriptor tells what it waits for: a path, or the number of
//! an object of System V.

use std::fs;

use super::{
    paths,
    world::{Sleeper, World},
};
use crate::{
    procfs::{self, Call, maps, text},
    trace::GivenWhat,
};

/// What the call was given that this one sleeps in.
pub(super) fn of(world: &mut World<'_>, sleeper: &Sleeper) -> Option<GivenWhat> {
    let member = world.member(sleeper.serial)?;
    if sleeper.syscall < 0 {
        return page(member.tgid, sleeper.arg0);
    }
    let name = world.scene.arch.syscall_name(i32::from(sleeper.syscall))?;
    let path = paths::argument(name);
    let ipc = table(name);
    let signals = name == "rt_sigtimedwait";
    if path.is_none() && ipc.is_none() && !signals {
        return None;
    }
    let call = Call::of(member.tgid, member.tid)?;
    // Another call by now.
    if call.number != i64::from(sleeper.syscall) || call.arguments[0] != sleeper.arg0 {
        return None;
    }
    if let Some(position) = path {
        return paths::path(member, &call, position).map(GivenWhat::Path);
    }
    if signals {
        let mut mask = [0; 2];
        procfs::read_words(member.tgid, call.arguments[0], &mut mask)?;
        let [low, high] = mask.map(u64::from);
        return Some(GivenWhat::Signals(high << 32 | low));
    }
    let (file, make) = ipc?;
    let id = call.arguments[0] as i32;
    Some(make(id, key_of(member.tgid, file, id)))
}

/// The file that is mapped where a task waits for a page.
fn page(tgid: u32, address: u64) -> Option<GivenWhat> {
    let maps = text::read(format!("/proc/{tgid}/maps")).ok()?;
    let mapping = maps::mappings(&maps).find(|mapping| mapping.contains(address))?;
    let path = mapping.path.strip_prefix('/').filter(|_| address != 0)?;
    Some(GivenWhat::Page(format!("/{path}")))
}

/// The key of an object, if the task has the table of objects that we see.
fn key_of(tgid: u32, file: &str, id: i32) -> Option<u32> {
    let own = fs::read_link("/proc/self/ns/ipc").ok()?;
    let same = fs::read_link(format!("/proc/{tgid}/ns/ipc")).ok()? == own;
    let table = same.then(|| fs::read_to_string(format!("/proc/sysvipc/{file}")))?;
    key(&table.ok()?, id)
}

/// The key in a table of `/proc/sysvipc`, whose first columns are key and id
/// (ipc/sem.c, `sysvipc_sem_proc_show`: the key is a signed number).
fn key(table: &str, id: i32) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let key: i32 = words.next()?.parse().ok()?;
        (words.next()?.parse() == Ok(id)).then_some(key as u32)
    })
}

type Make = fn(i32, Option<u32>) -> GivenWhat;

/// The kernel's table of what a call waits for.
fn table(name: &str) -> Option<(&'static str, Make)> {
    match name {
        "semop" | "semtimedop" => Some(("sem", |id, key| GivenWhat::Semaphores { id, key })),
        "msgsnd" | "msgrcv" => Some(("msg", |id, key| GivenWhat::Messages { id, key })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_the_line_with_the_id() {
        let table = "\
       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime
         0          3   600          1     0     0     0     0          0 1795979539
-559038737          7   600          2     0     0     0     0          0 1795979540
odd
";
        assert_eq!(key(table, 3), Some(0));
        assert_eq!(key(table, 7), Some(0xdead_beef));
        assert_eq!(key(table, 0), None);
    }
}
