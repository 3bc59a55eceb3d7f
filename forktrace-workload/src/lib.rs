//! Known-answer workloads: small programs whose true blocking is fixed by
//! construction and which measure themselves, and the servers, pools and jobs that
//! claims are settled with.
//!
//! `forktrace run -- forktrace workload NAME` tries the tracer on something
//! known, and the live tests compare its figures with the workload's own.
//!
//! **The truth line.** A workload prints one line of JSON on stdout, at its end,
//! and nothing else: `workload`, `pid`, `start_ns`, `end_ns` and the figures that
//! the workload's own help lists. Every time is CLOCK_MONOTONIC in nanoseconds. A
//! `begin_ns` is read just before the system call in question and an `end_ns` just
//! after it, so the block lies within the two.
//!
//! Rules that make the figures exact, for whoever adds a workload:
//!
//! - A thread that must not block does not wait for another one, it spins with
//!   `sched_yield` (see `task::StartLine` and `task::until_alone`).
//! - A waker waits until the kernel says that the other one has switched out (see
//!   `task::Announcement`), never for "long enough".
//! - Nothing asserts a time: the tests also run on slow emulated machines.

mod contention;
mod cpu;
mod create;
mod crew;
mod deadlock;
mod exec;
mod fault;
mod group_ops;
mod group_stop;
mod io;
mod jobs;
mod kernel_copy;
mod leader_followers;
mod locks;
mod marks;
mod options;
mod ping_pong;
mod poll;
mod pool;
mod random;
mod serve;
mod shared_memory;
mod signal;
mod sleep;
mod stuck_file;
mod sys;
mod targets;
mod task;
mod task_cost;
mod tree;
mod truth;
mod wait_call;
mod waitset;
mod wakes;
mod work;

use anyhow::Result;
use clap::Subcommand;

/// The known-answer workloads; each one's help lists the figures it prints.
#[derive(Debug, Subcommand)]
#[expect(
    missing_docs,
    reason = "documented on the options' structs, whose docs are the commands' help"
)]
pub enum Workload {
    SelectAndCompute(cpu::SelectAndCompute),
    Sleepers(sleep::Sleepers),
    PingPong(ping_pong::PingPong),
    ForkTree(tree::ForkTree),
    ShortThreads(tree::ShortThreads),
    ShortProcesses(tree::ShortProcesses),
    CreateAndJoin(create::CreateAndJoin),
    Nothing(exec::Nothing),
    Nap(exec::Nap),
    ExecNonLeader(exec::ExecNonLeader),
    Stop(signal::Stop),
    PageFaults(fault::PageFaults),
    StuckFile(stuck_file::StuckFile),
    Spinners(cpu::Spinners),
    TidReuse(tree::TidReuse),
    Daemon(tree::Daemon),
    Polls(poll::Polls),
    Io(io::Io),
    Die(signal::Die),
    ManySleepers(sleep::ManySleepers),
    SharedMutex(locks::SharedMutex),
    FsyncUnderLock(locks::FsyncUnderLock),
    HandOff(locks::HandOff),
    MapLock(locks::MapLock),
    Pipeline(wakes::Pipeline),
    Loopback(wakes::Loopback),
    NapsBesideSpinner(wakes::NapsBesideSpinner),
    EarlyWakes(wakes::EarlyWakes),
    SleepOn(wakes::SleepOn),
    Spawns(wakes::Spawns),
    Rhythms(wakes::Rhythms),
    SilentSockets(targets::SilentSockets),
    PollSets(targets::PollSets),
    Timeouts(targets::Timeouts),
    FdReuse(targets::FdReuse),
    Serve(serve::Serve),
    LeaderFollowers(leader_followers::LeaderFollowers),
    Jobs(jobs::Jobs),
    WaitCalls(wait_call::WaitCalls),
    GroupOp(group_ops::GroupOp),
    GroupStop(group_stop::GroupStop),
    Contention(contention::Contention),
    Waitset(waitset::Waitset),
    KernelCopy(kernel_copy::KernelCopy),
    MemoryCost(task_cost::MemoryCost),
    SyncCost(task_cost::SyncCost),
    SharedCounter(shared_memory::SharedCounter),
    MemoryVisibility(shared_memory::MemoryVisibility),
    Deadlock(deadlock::Deadlock),
}

/// Runs one workload in this process, to its end.
///
/// # Errors
///
/// When the kernel refuses something the workload is made of. A workload never
/// fails because of how long something took.
pub fn run(workload: &Workload) -> Result<()> {
    match workload {
        Workload::SelectAndCompute(it) => it.run(),
        Workload::Sleepers(it) => it.run(),
        Workload::PingPong(it) => it.run(),
        Workload::ForkTree(it) => it.run(),
        Workload::ShortThreads(it) => it.run(),
        Workload::ShortProcesses(it) => it.run(),
        Workload::CreateAndJoin(it) => it.run(),
        Workload::Nothing(it) => it.run(),
        Workload::Nap(it) => it.run(),
        Workload::ExecNonLeader(it) => it.run(),
        Workload::Stop(it) => it.run(),
        Workload::PageFaults(it) => it.run(),
        Workload::StuckFile(it) => it.run(),
        Workload::Spinners(it) => it.run(),
        Workload::TidReuse(it) => it.run(),
        Workload::Daemon(it) => it.run(),
        Workload::Polls(it) => it.run(),
        Workload::Io(it) => it.run(),
        Workload::Die(it) => it.run(),
        Workload::ManySleepers(it) => it.run(),
        Workload::SharedMutex(it) => it.run(),
        Workload::FsyncUnderLock(it) => it.run(),
        Workload::HandOff(it) => it.run(),
        Workload::MapLock(it) => it.run(),
        Workload::Pipeline(it) => it.run(),
        Workload::Loopback(it) => it.run(),
        Workload::NapsBesideSpinner(it) => it.run(),
        Workload::EarlyWakes(it) => it.run(),
        Workload::SleepOn(it) => it.run(),
        Workload::Spawns(it) => it.run(),
        Workload::Rhythms(it) => it.run(),
        Workload::SilentSockets(it) => it.run(),
        Workload::PollSets(it) => it.run(),
        Workload::Timeouts(it) => it.run(),
        Workload::FdReuse(it) => it.run(),
        Workload::Serve(it) => it.run(),
        Workload::LeaderFollowers(it) => it.run(),
        Workload::Jobs(it) => it.run(),
        Workload::WaitCalls(it) => it.run(),
        Workload::GroupOp(it) => it.run(),
        Workload::GroupStop(it) => it.run(),
        Workload::Contention(it) => it.run(),
        Workload::Waitset(it) => it.run(),
        Workload::KernelCopy(it) => it.run(),
        Workload::MemoryCost(it) => it.run(),
        Workload::SyncCost(it) => it.run(),
        Workload::SharedCounter(it) => it.run(),
        Workload::MemoryVisibility(it) => it.run(),
        Workload::Deadlock(it) => it.run(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(subcommand)]
        _workload: Workload,
    }

    #[test]
    fn the_options_are_consistent() {
        <Command as clap::CommandFactory>::command().debug_assert();
    }
}
