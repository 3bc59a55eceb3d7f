//! Page faults: those that cost time and those that block.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

use super::options::seconds;
use super::sys::{Pages, UserFaults, nap, now_ns, page_size, tid, voluntary_switches};
use super::task::{Announcement, join, spawn};
use super::truth::Truth;

/// Page faults that do not block, and one that does
///
/// First the main thread touches every page of new private memory and unmaps it
/// again: each page is a minor fault, which the kernel serves without blocking. Then
/// another thread touches a page watched by a userfaultfd, and blocks in the fault
/// until the main thread resolves it.
///
/// Truth:
///   touch              {tid, begin_ns, end_ns, passes, pages (of all passes),
///                      minor_faults (at least one a page), switches}: the last two by
///                      the kernel's count; 0 switches means that it never blocked
///   userfaultfd        {tid, begin_ns, end_ns, blocked_ns, asleep_ns, resolve_ns,
///                      waker_tid}: tid was blocked all the time from asleep_ns to
///                      resolve_ns, when the main thread was about to resolve the
///                      fault, and not longer than blocked_ns = end_ns - begin_ns;
///                      null when the kernel refuses it
///   userfaultfd_error  why it is null (else null)
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct PageFaults {
    /// How much memory is touched in a pass.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    megabytes: u32,
    /// Make passes for at least this long; 0 is one pass.
    #[arg(long, default_value = "0", value_parser = seconds)]
    seconds: Duration,
    /// How long the other thread's fault stays unresolved.
    #[arg(long, default_value_t = 100)]
    fault_millis: u64,
}

impl PageFaults {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("page-faults");
        let touched = self.touch()?;
        let watched = Pages::new(1)?;
        let (blocked, error) = match UserFaults::watch(&watched) {
            Ok(faults) => (self.block_in_fault(&watched, faults)?, None),
            Err(error) => (Value::Null, Some(format!("{error:#}"))),
        };
        truth.print(json!({
            "touch": touched,
            "userfaultfd": blocked,
            "userfaultfd_error": error,
        }))
    }

    fn touch(&self) -> Result<Value> {
        let count = (self.megabytes as usize * 1024 * 1024).div_ceil(page_size()?);
        let switches_before = voluntary_switches()?;
        let faults_before = minor_faults()?;
        let begin_ns = now_ns();
        let mut passes = 0;
        loop {
            let pages = Pages::new(count)?;
            (0..pages.count()).for_each(|page| pages.touch(page));
            drop(pages);
            passes += 1;
            if now_ns() - begin_ns >= self.seconds.as_nanos() as u64 {
                break;
            }
        }
        let end_ns = now_ns();
        Ok(json!({
            "tid": tid(),
            "begin_ns": begin_ns,
            "end_ns": end_ns,
            "passes": passes,
            "pages": passes * count,
            "minor_faults": minor_faults()? - faults_before,
            "switches": voluntary_switches()? - switches_before,
        }))
    }

    fn block_in_fault(&self, watched: &Pages, faults: UserFaults) -> Result<Value> {
        let announcement = Announcement::default();
        thread::scope(|scope| {
            let toucher = spawn(scope, "toucher", || {
                announcement.about_to_block()?;
                let begin_ns = now_ns();
                watched.touch(0);
                Ok((tid(), begin_ns, now_ns()))
            })?;
            // Dropped on error too, which lets the toucher go on.
            let faults = faults;
            let address = faults.next()?;
            // The message may come before the toucher is off its CPU.
            announcement.until_asleep(1, || toucher.is_finished())?;
            let asleep_ns = now_ns();
            nap(Duration::from_millis(self.fault_millis))?;
            let resolve_ns = now_ns();
            faults.resolve(address)?;
            let (toucher_tid, begin_ns, end_ns) = join(toucher)?;
            Ok(json!({
                "tid": toucher_tid,
                "begin_ns": begin_ns,
                "end_ns": end_ns,
                "blocked_ns": end_ns - begin_ns,
                "asleep_ns": asleep_ns,
                "resolve_ns": resolve_ns,
                "waker_tid": tid(),
            }))
        })
    }
}

fn minor_faults() -> Result<i64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).context("getrusage failed")?;
    Ok(usage.minor_page_faults())
}
