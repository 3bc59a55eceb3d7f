//! One thread that waits in one system call after the other, beside threads that
//! work on.

mod call;

use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use nix::unistd::{Pid, pipe};
use serde_json::{Value, json};

use super::cpu::step;
use super::crew::call_me;
use super::marks::{Mark, Marks};
use super::poll::Watched;
use super::sys::{Among, Lock, nap, now_ns, pid, reap, tid, voluntary_switches, yield_now};
use super::task::{StartLine, join, until_alone};
use super::truth::Truth;
use call::{Call, Prepared};

/// A thread waits in one system call after the other while its siblings work
///
/// The thread `waiter` makes each of the calls once, on something silent, and is
/// let go after --millis: by the call's timeout, or by a process of its own that
/// shares nothing with it but the descriptor. (fsync nobody can delay: it writes and
/// syncs a file over and over until the time is up.) Its siblings: `compute`, which
/// is the main thread, never makes a blocking call; `reader` reads what `writer` sends
/// it through a pipe every half millisecond; `sleeper` sleeps a millisecond at a time.
/// Between two calls the waiter computes until each sibling has got on.
///
/// With --holding-lock the waiter holds a lock during each call, and each sibling
/// takes it for every step: they must stand still, all of them, until it is back.
///
/// Marks:
///   call        value: ns the call took; call; since: when it began; t: when it ended
/// Truth:
///   tid, waiter_tid, holding_lock
///   siblings    {compute, reader, writer, sleeper}: their tids
///   calls       [{call, begin_ns, end_ns, switches, computed, received, slept}]: how often the waiter blocked, by the kernel's count, and
///               the steps that the siblings made between begin and end
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct WaitCalls {
    /// The calls, in this order.
    #[arg(long, value_enum, value_delimiter = ',', required = true)]
    calls: Vec<Call>,
    /// How long each of them lasts.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    millis: u64,
    /// The waiter holds a lock meanwhile that its siblings need.
    #[arg(long)]
    holding_lock: bool,
}

/// Runs something, with the lock held if there is one.
type Locked<'a> = dyn Fn(&mut dyn FnMut() -> Result<()>) -> Result<()> + 'a;

/// The siblings' steps so far.
#[derive(Default)]
struct Steps {
    computed: AtomicU64,
    received: AtomicU64,
    slept: AtomicU64,
}

impl Steps {
    /// Reads until nobody writes any more.
    fn receive(&self, from: &mut File, locked: &Locked<'_>) -> Result<i32> {
        let mut byte = [0];
        while from.read(&mut byte).context("cannot read from a pipe")? > 0 {
            locked(&mut || {
                self.received.fetch_add(1, SeqCst);
                Ok(())
            })?;
        }
        Ok(tid())
    }

    fn sleep(&self, over: &AtomicBool, locked: &Locked<'_>) -> Result<i32> {
        while !over.load(SeqCst) {
            nap(SLEEP)?;
            locked(&mut || {
                self.slept.fetch_add(1, SeqCst);
                Ok(())
            })?;
        }
        Ok(tid())
    }

    fn compute(&self, over: &AtomicBool, locked: &Locked<'_>) -> Result<()> {
        while !over.load(SeqCst) {
            locked(&mut || {
                step();
                self.computed.fetch_add(1, SeqCst);
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Writes a byte now and then, until it is over.
fn send(mut to: File, over: &AtomicBool, locked: &Locked<'_>) -> Result<i32> {
    while !over.load(SeqCst) {
        locked(&mut || to.write_all(&[0]).context("cannot write to a pipe"))?;
        nap(PACE)?;
    }
    Ok(tid())
}

impl Steps {
    fn now(&self) -> [u64; 3] {
        [&self.computed, &self.received, &self.slept].map(|it| it.load(SeqCst))
    }

    fn since(&self, before: [u64; 3]) -> [u64; 3] {
        let now = self.now();
        [0, 1, 2].map(|i| now[i] - before[i])
    }
}

const PACE: Duration = Duration::from_micros(500);
const SLEEP: Duration = Duration::from_millis(1);
const SIBLINGS: usize = 4;

impl WaitCalls {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("wait-calls");
        let marks = Marks::open()?;
        // Not in memory, as /tmp may be: a sync there has nothing to wait for.
        let folder = tempfile::tempdir_in("/var/tmp")
            .or_else(|_| tempfile::tempdir())
            .context("cannot make a temporary folder")?;
        let watched = Watched::new()?;
        let mut prepared = self
            .calls
            .iter()
            .enumerate()
            .map(|(i, &call)| call.prepare(i, self.millis, &folder, &watched))
            .collect::<Result<Vec<_>>>()?;
        let releasers: Vec<Pid> = prepared
            .iter()
            .filter(|it| it.call != Call::Wait4)
            .filter_map(|it| Some(it.releaser.as_ref()?.child))
            .collect();

        call_me("compute")?;
        let lock = Lock::new(Among::Threads)?;
        let locked = |body: &mut dyn FnMut() -> Result<()>| -> Result<()> {
            if self.holding_lock {
                lock.with(body)?
            } else {
                body()
            }
        };
        let steps = Steps::default();
        let over = AtomicBool::new(false);
        let line = StartLine::new(SIBLINGS + 1);
        let (mut from, mut to) = {
            let (from, to) = pipe().context("cannot make a pipe")?;
            (File::from(from), Some(File::from(to)))
        };

        let (waiter, siblings) = thread::scope(|scope| -> Result<_> {
            let waiter = line.spawn(scope, "waiter", || {
                let calls = prepared
                    .drain(..)
                    .map(|it| self.measure(it, &steps, &locked, &marks))
                    .collect::<Result<Vec<_>>>();
                over.store(true, SeqCst);
                Ok((tid(), calls?))
            })?;
            let reader = line.spawn(scope, "reader", || steps.receive(&mut from, &locked))?;
            let writer = line.spawn(scope, "writer", || {
                let to = to.take().context("the pipe is gone")?;
                send(to, &over, &locked)
            })?;
            let sleeper = line.spawn(scope, "sleeper", || steps.sleep(&over, &locked))?;
            line.wait();
            steps.compute(&over, &locked)?;
            until_alone()?;
            let siblings = json!({
                "compute": tid(),
                "reader": join(reader)?,
                "writer": join(writer)?,
                "sleeper": join(sleeper)?,
            });
            Ok((join(waiter)?, siblings))
        })?;
        releasers.into_iter().try_for_each(reap)?;

        let (waiter_tid, calls) = waiter;
        truth.print(json!({
            "tid": pid(),
            "waiter_tid": waiter_tid,
            "holding_lock": self.holding_lock,
            "siblings": siblings,
            "calls": calls,
        }))
    }

    /// Makes one call, and computes until each sibling has made a step after it.
    fn measure(
        &self,
        prepared: Prepared<'_>,
        steps: &Steps,
        locked: &Locked<'_>,
        marks: &Marks,
    ) -> Result<Value> {
        let Prepared {
            call,
            make,
            releaser,
        } = prepared;
        let mut make = Some(make);
        let mut measured = Value::Null;
        locked(&mut || {
            let make = make.take().context("a call is made once")?;
            if let Some(releaser) = &releaser {
                releaser.begin()?;
            }
            let steps_before = steps.now();
            let switches_before = voluntary_switches()?;
            let begin_ns = now_ns();
            make(Duration::from_millis(self.millis))
                .with_context(|| format!("{} failed", call.syscall()))?;
            let end_ns = now_ns();
            let switches = voluntary_switches()? - switches_before;
            let [computed, received, slept] = steps.since(steps_before);
            marks.write(
                Mark::new("call", end_ns - begin_ns)
                    .with("call", call.syscall())
                    .with("since", begin_ns)
                    .at(end_ns),
            )?;
            measured = json!({
                "call": call.syscall(),
                "begin_ns": begin_ns,
                "end_ns": end_ns,
                "switches": switches,
                "computed": computed,
                "received": received,
                "slept": slept,
            });
            Ok(())
        })?;
        let after = steps.now();
        while steps.since(after).contains(&0) {
            yield_now();
        }
        Ok(measured)
    }
}
