//! Locks: who holds one, who waits for it, and who hands it on.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::linux::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use super::sys::{
    Pages, nap, now_ns, page_size, tid, touch_a_huge_page, voluntary_switches, yield_now,
};
use super::task::{Announcement, StartLine, end_look_ups, join, spawn};
use super::truth::Truth;

/// One thread holds a mutex across a nap, and all the others wait for it
///
/// The main thread is the holder. It naps when the kernel says that all others sleep,
/// then lets the mutex go. Each of the others takes it once and lets it go at once: the
/// first is woken by the holder, each other one by the one before it.
///
/// Truth:
///   holder_tid  the main thread
///   nap         {begin_ns, end_ns}: within it all threads sleep
///   release_ns  when the holder was about to let the mutex go
///   waiters     [{tid, begin_ns, end_ns, waker_tid}] in the order in which they got
///               the mutex; begin_ns is before they asked for it, end_ns when they had
///               it
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct SharedMutex {
    /// How many threads, the holder included.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=1000))]
    threads: u32,
    /// How long the holder naps.
    #[arg(long, default_value_t = 100)]
    millis: u64,
}

impl SharedMutex {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("shared-mutex");
        let order = Mutex::new(Vec::new());
        let announcements: Vec<_> = (1..self.threads).map(|_| Announcement::default()).collect();
        let (nap_times, release_ns) = thread::scope(|scope| -> Result<_> {
            let held = order.lock().unwrap_or_else(PoisonError::into_inner);
            let mut waiters = Vec::new();
            for (i, announcement) in announcements.iter().enumerate() {
                let order = &order;
                waiters.push(spawn(scope, format!("waiter-{}", i + 1), move || {
                    announcement.about_to_block()?;
                    let begin_ns = now_ns();
                    let mut order = order.lock().unwrap_or_else(PoisonError::into_inner);
                    order.push((tid(), begin_ns, now_ns()));
                    Ok(())
                })?);
            }
            for (announcement, waiter) in announcements.iter().zip(&waiters) {
                announcement.until_asleep(1, || waiter.is_finished())?;
            }
            end_look_ups();
            let begin_ns = now_ns();
            nap(Duration::from_millis(self.millis))?;
            let nap_times = json!({"begin_ns": begin_ns, "end_ns": now_ns()});
            let release_ns = now_ns();
            drop(held);
            waiters.into_iter().try_for_each(join)?;
            Ok((nap_times, release_ns))
        })?;
        let order = order.into_inner().unwrap_or_else(PoisonError::into_inner);
        truth.print(json!({
            "holder_tid": tid(),
            "nap": nap_times,
            "release_ns": release_ns,
            "waiters": in_turn(tid(), order.iter().copied()),
        }))
    }
}

/// Those who got a lock, each woken by the one before.
fn in_turn(first_waker: i32, order: impl Iterator<Item = (i32, u64, u64)>) -> Vec<Value> {
    let mut waker_tid = first_waker;
    order
        .map(|(tid, begin_ns, end_ns)| {
            let waiter = json!({
                "tid": tid,
                "begin_ns": begin_ns,
                "end_ns": end_ns,
                "waker_tid": waker_tid,
            });
            waker_tid = tid;
            waiter
        })
        .collect()
}

/// One thread syncs a file while it holds a mutex, and all the others wait for that
///
/// The main thread is the one. In each round it takes the mutex, waits until the kernel
/// says that all others sleep on it, writes the file anew, syncs it, and lets the mutex
/// go.
///
/// Truth:
///   holder_tid  the main thread
///   file        {path, inode, device}: the synced file
///   rounds      [{fsync: {begin_ns, end_ns, switches}, release_ns, waiters}]: switches
///               is how often the sync blocked, by the kernel's count; waiters is as in
///               shared-mutex
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct FsyncUnderLock {
    /// How many threads, the one that syncs included.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=1000))]
    threads: u32,
    /// How many rounds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// How much is written before each sync.
    #[arg(long, default_value_t = 1024)]
    kilobytes: usize,
    /// Where the file is made: a disk's file system, for the sync to take time.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

impl FsyncUnderLock {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("fsync-under-lock");
        let folder = tempfile::tempdir_in(&self.folder)
            .with_context(|| format!("cannot make a folder in {}", self.folder.display()))?;
        let path = folder.path().canonicalize()?.join("data");
        let mut file = File::create(&path).context("cannot make a file")?;
        let about = file.metadata().context("cannot look at a file")?;

        let lock = Mutex::new(Vec::new());
        let round = AtomicU64::new(0);
        let passed = AtomicU64::new(0);
        let announcements: Vec<_> = (1..self.threads).map(|_| Announcement::default()).collect();
        let rounds = thread::scope(|scope| -> Result<_> {
            let mut waiters = Vec::new();
            for (i, announcement) in announcements.iter().enumerate() {
                let (lock, round, passed) = (&lock, &round, &passed);
                waiters.push(spawn(scope, format!("waiter-{}", i + 1), move || {
                    for number in 1..=self.rounds {
                        while round.load(SeqCst) < number {
                            yield_now();
                        }
                        announcement.about_to_block()?;
                        let begin_ns = now_ns();
                        let mut order = lock.lock().unwrap_or_else(PoisonError::into_inner);
                        order.push((tid(), begin_ns, now_ns()));
                        drop(order);
                        passed.fetch_add(1, SeqCst);
                    }
                    Ok(())
                })?);
            }
            let mut rounds = Vec::new();
            let mut play = |number: u64| -> Result<()> {
                let held = lock.lock().unwrap_or_else(PoisonError::into_inner);
                round.store(number, SeqCst);
                for (announcement, waiter) in announcements.iter().zip(&waiters) {
                    announcement.until_asleep(number, || waiter.is_finished())?;
                }
                file.rewind().context("cannot rewind a file")?;
                file.write_all(&vec![number as u8; self.kilobytes * 1024])
                    .context("cannot write a file")?;
                let switches_before = voluntary_switches()?;
                let begin_ns = now_ns();
                file.sync_all().context("cannot sync a file")?;
                let fsync = json!({
                    "begin_ns": begin_ns,
                    "end_ns": now_ns(),
                    "switches": voluntary_switches()? - switches_before,
                });
                let release_ns = now_ns();
                drop(held);
                while passed.load(SeqCst) < number * waiters.len() as u64 {
                    yield_now();
                }
                let mut order = lock.lock().unwrap_or_else(PoisonError::into_inner);
                rounds.push(json!({
                    "fsync": fsync,
                    "release_ns": release_ns,
                    "waiters": in_turn(tid(), order.drain(..)),
                }));
                Ok(())
            };
            let played = (1..=self.rounds).try_for_each(&mut play);
            round.store(u64::MAX, SeqCst);
            waiters.into_iter().try_for_each(join)?;
            played.map(|()| rounds)
        })?;
        truth.print(json!({
            "holder_tid": tid(),
            "file": {"path": path, "inode": about.st_ino(), "device": about.st_dev()},
            "rounds": rounds,
        }))
    }
}

/// Threads that pass a turn around, each with a condition variable of its own
///
/// Whose turn it is passes it on and waits for the next. The notice is given after the
/// mutex was let go. So who waits for a turn is woken by the thread before it in the
/// circle, which owned nothing.
///
/// Truth:
///   threads  [{tid, waker_tid, condvar, waits}] in the order of the circle; condvar is
///            the address of what it waits for its turn on, within 16 bytes; waits is
///            how often its turn had not come when it looked
///   rounds   how often each had its turn
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct HandOff {
    /// How many threads.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=1000))]
    threads: u32,
    /// How often each has its turn.
    #[arg(long, default_value_t = 200)]
    rounds: u64,
}

impl HandOff {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("hand-off");
        let count = self.threads as usize;
        let start = StartLine::new(count);
        let turn = Mutex::new(0);
        // Apart from each other, so that an address tells which.
        let condvars: Vec<Box<Condvar>> = (0..count).map(|_| Box::default()).collect();
        let play = |number: usize| -> Result<(i32, u64)> {
            let mut waits = 0;
            for round in 0..self.rounds {
                let mine = round * count as u64 + number as u64;
                let mut now = turn.lock().unwrap_or_else(PoisonError::into_inner);
                while *now != mine {
                    waits += 1;
                    now = condvars[number]
                        .wait(now)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                *now += 1;
                drop(now);
                condvars[(number + 1) % count].notify_one();
            }
            Ok((tid(), waits))
        };
        let played = thread::scope(|scope| -> Result<Vec<_>> {
            let others = (1..count)
                .map(|i| {
                    let play = &play;
                    start.spawn(scope, format!("hand-{i}"), move || play(i))
                })
                .collect::<Result<Vec<_>>>()?;
            start.wait();
            let mut played = vec![play(0)?];
            for other in others {
                played.push(join(other)?);
            }
            Ok(played)
        })?;
        let threads: Vec<Value> = (0..count)
            .map(|i| {
                json!({
                    "tid": played[i].0,
                    "waker_tid": played[(i + count - 1) % count].0,
                    "condvar": &raw const *condvars[i] as u64,
                    "waits": played[i].1,
                })
            })
            .collect();
        truth.print(json!({"threads": threads, "rounds": self.rounds}))
    }
}

/// Page faults that wait for the memory map's lock, and those who wait for the fault
///
/// One thread maps memory, touches it and unmaps it, over and over: a huge page, where
/// the kernel gives those, which takes it long. The main thread changes the protection
/// of other pages meanwhile. Both need the lock of their process's memory map, and
/// nobody else does: who waits for it is woken by the other.
///
/// Truth:
///   faulter_tid, mapper_tid  the two
///   faults                   how many times memory was touched
///   protections              how often protections were changed
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct MapLock {
    /// How many times memory is touched.
    #[arg(long, default_value_t = 1000)]
    faults: u64,
    /// How much memory's protection is changed at a time.
    #[arg(long, default_value_t = 1024)]
    kilobytes: usize,
}

impl MapLock {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("map-lock");
        let mut pages = Pages::new((self.kilobytes * 1024).div_ceil(page_size()?))?;
        (0..pages.count()).for_each(|page| pages.touch(page));
        let over = AtomicBool::new(false);
        let (faulter_tid, protections) = thread::scope(|scope| -> Result<_> {
            let faulter = spawn(scope, "faulter", || {
                let touched = (0..self.faults).try_for_each(|_| touch_a_huge_page());
                over.store(true, SeqCst);
                touched.map(|()| tid())
            })?;
            let mut protections: u64 = 0;
            while !over.load(SeqCst) {
                pages.protect_and_unprotect()?;
                protections += 2;
            }
            Ok((join(faulter)?, protections))
        })?;
        truth.print(json!({
            "faulter_tid": faulter_tid,
            "mapper_tid": tid(),
            "faults": self.faults,
            "protections": protections,
        }))
    }
}
