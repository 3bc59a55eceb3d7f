//! Threads that can never go on, and some that look like it and can.

use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::options::seconds;
use super::sys::{Among, Lock, nap, now_ns, tid, yield_now};
use super::task::{StartLine, join, spawn};
use super::truth::Truth;

/// A deadlock of POSIX mutexes, or something that is none
///
/// The truth line comes before the threads lock for the last time, since nothing
/// comes after that. After --give-up seconds SIGALRM ends the process.
///
/// Truth:
///   kind       as given
///   main       tid of the main thread
///   threads    tids of the others, each waiting for the next one's mutex; none
///              for self
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Deadlock {
    /// What happens.
    #[arg(long, value_enum, default_value_t = Kind::Abba)]
    kind: Kind,
    /// How long until the process is ended; for held and idle, how long they take.
    #[arg(long, default_value = "60", value_parser = seconds)]
    give_up: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The only thread locks a mutex twice.
    #[value(name = "self")]
    Itself,
    /// Two threads lock two mutexes in opposite order.
    Abba,
    /// The same with three, and a fourth that waits for one of them.
    Ring,
    /// Two workers wait on a condition variable that nobody is left to signal.
    Hang,
    /// No deadlock: one sleeps with the mutex that three wait for.
    Held,
    /// No deadlock: the workers wait on a condition variable with a timeout, the
    /// main thread for the workers.
    Idle,
}

impl Deadlock {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("deadlock");
        match self.kind {
            Kind::Held => return self.held(truth),
            Kind::Idle => return self.idle(truth),
            Kind::Itself | Kind::Abba | Kind::Ring | Kind::Hang => {}
        }
        let seconds = u32::try_from(self.give_up.as_secs()).unwrap_or(u32::MAX);
        ensure!(
            seconds > 0,
            "--give-up must be 1 or more, or nothing ends this"
        );
        nix::unistd::alarm::set(seconds);
        match self.kind {
            Kind::Itself => {
                let mutex = Lock::new(Among::Threads)?;
                mutex.with(|| {
                    self.print(truth, &[])?;
                    mutex.with(|| ())
                })?
            }
            Kind::Hang => self.hang(truth),
            Kind::Ring => self.ring(truth, 3),
            _ => self.ring(truth, 2),
        }
    }

    fn print(&self, truth: Truth, threads: &[i32]) -> Result<()> {
        truth.print(json!({
            "kind": self.kind.to_possible_value().map(|value| value.get_name().to_owned()),
            "main": tid(),
            "threads": threads,
        }))
    }

    /// Each holds one mutex and wants the next one's; with three, a fourth thread
    /// wants one too.
    fn ring(&self, truth: Truth, number: usize) -> Result<()> {
        let mutexes = (0..number)
            .map(|_| Lock::new(Among::Threads))
            .collect::<Result<Vec<_>>>()?;
        let locked = StartLine::new(number + 1);
        let printed = StartLine::new(number + 1);
        let tids: Vec<AtomicI32> = (0..number).map(|_| AtomicI32::new(0)).collect();
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for at in 0..number {
                let (mutexes, tids, locked, printed) = (&mutexes, &tids, &locked, &printed);
                threads.push(spawn(scope, format!("lock-{at}"), move || {
                    mutexes[at].with(|| {
                        tids[at].store(tid(), SeqCst);
                        locked.wait();
                        printed.wait();
                        mutexes[(at + 1) % number].with(|| ())
                    })?
                })?);
            }
            locked.wait();
            let tids: Vec<i32> = tids.iter().map(|tid| tid.load(SeqCst)).collect();
            self.print(truth, &tids)?;
            printed.wait();
            if number > 2 {
                let first = &mutexes[0];
                threads.push(spawn(scope, "bystander", move || first.with(|| ()))?);
            }
            threads.into_iter().try_for_each(join)
        })
    }

    fn hang(&self, truth: Truth) -> Result<()> {
        let (work, given) = (Mutex::new(0), Condvar::new());
        let ready = StartLine::new(3);
        let tids = [AtomicI32::new(0), AtomicI32::new(0)];
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for (at, own_tid) in tids.iter().enumerate() {
                let (work, given, ready) = (&work, &given, &ready);
                threads.push(spawn(scope, format!("worker-{at}"), move || {
                    own_tid.store(tid(), SeqCst);
                    ready.wait();
                    let mut left = work.lock().unwrap_or_else(PoisonError::into_inner);
                    while *left == 0 {
                        left = given.wait(left).unwrap_or_else(PoisonError::into_inner);
                    }
                    Ok(())
                })?);
            }
            ready.wait();
            self.print(truth, &tids.each_ref().map(|tid| tid.load(SeqCst)))?;
            threads.into_iter().try_for_each(join)
        })
    }

    fn held(&self, truth: Truth) -> Result<()> {
        let mutex = Lock::new(Among::Threads)?;
        let ready = StartLine::new(4);
        thread::scope(|scope| {
            let waiters = mutex.with(|| {
                let mut threads = Vec::new();
                for at in 0..3 {
                    let (mutex, ready) = (&mutex, &ready);
                    threads.push(spawn(scope, format!("waiter-{at}"), move || {
                        ready.wait();
                        mutex.with(|| ())
                    })?);
                }
                ready.wait();
                nap(self.give_up)?;
                anyhow::Ok(threads)
            })??;
            waiters.into_iter().try_for_each(join)
        })?;
        self.print(truth, &[])
    }

    fn idle(&self, truth: Truth) -> Result<()> {
        let (work, given) = (Mutex::new(()), Condvar::new());
        let until_ns = now_ns() + self.give_up.as_nanos() as u64;
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for at in 0..3 {
                let (work, given) = (&work, &given);
                threads.push(spawn(scope, format!("worker-{at}"), move || {
                    while let Some(left) = until_ns.checked_sub(now_ns()) {
                        let work = work.lock().unwrap_or_else(PoisonError::into_inner);
                        // Nobody signals; each round ends by its timeout.
                        let left = Duration::from_nanos(left).min(Duration::from_millis(1500));
                        drop(given.wait_timeout(work, left));
                        yield_now();
                    }
                    Ok(())
                })?);
            }
            threads.into_iter().try_for_each(join)
        })?;
        self.print(truth, &[])
    }
}
