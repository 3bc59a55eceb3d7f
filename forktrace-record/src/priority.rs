//! A recorder that gets a CPU in time.
//!
//! Real-time tasks of the workload can keep one of the ordinary kind off the CPUs for as
//! long as it takes to fill the rings. So the recorder is one of them while it records, and
//! of the highest priority; it sleeps nearly all the time, and the kernel leaves the
//! others a twentieth of each second in any case (`sched_rt_runtime_us`).

use std::io;

use nix::{
    libc,
    sys::resource::{RLIM_INFINITY, Resource, setrlimit},
};

use crate::limits::at_most;

/// The highest. Tasks of the same one have turns when those that run block, and a task that does
/// not block sends nothing.
const PRIORITY: i32 = 99;

/// Of the helper that looks at tasks while they sleep: that must not wait for who else wants
/// the CPUs, for a block is over before.
const PRIORITY_OF_LOOKS: i32 = 1;
/// What one look may take of a CPU without a pause, µs: then the kernel ends the helper, for it
/// would keep the CPU from all others. The first one of a large program takes some 50 ms.
const LONGEST_LOOK_US: u64 = 500_000;

/// While this lives the calling thread is a real-time task, if that is allowed.
pub(crate) struct RealTime {
    /// `None`: it was one before.
    before: Option<(i32, libc::sched_param)>,
}

impl RealTime {
    /// After the workload has begun, which is to run as it would without us.
    ///
    /// # Errors
    /// When it takes more rights (`CAP_SYS_NICE`, or `ulimit -r`).
    pub(crate) fn begin() -> io::Result<Self> {
        let (policy, parameters) = own()?;
        if matches!(
            policy & !libc::SCHED_RESET_ON_FORK,
            libc::SCHED_FIFO | libc::SCHED_RR | libc::SCHED_DEADLINE
        ) {
            return Ok(Self { before: None });
        }
        // What a real-time task may use of a CPU without a pause, and is killed for after.
        setrlimit(Resource::RLIMIT_RTTIME, RLIM_INFINITY, RLIM_INFINITY)?;
        let wanted = libc::sched_param {
            sched_priority: PRIORITY,
        };
        // What is forked from here on is an ordinary task.
        set(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &wanted)?;
        Ok(Self {
            before: Some((policy, parameters)),
        })
    }
}

/// Makes the calling process a real-time task, of which the kernel bounds how long it runs. Who
/// may not is left as it is: it only looks later.
pub(crate) fn look_in_time() {
    let wanted = libc::sched_param {
        sched_priority: PRIORITY_OF_LOOKS,
    };
    if at_most(Resource::RLIMIT_RTTIME, LONGEST_LOOK_US).is_ok() {
        let _ = set(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &wanted);
    }
}

impl Drop for RealTime {
    fn drop(&mut self) {
        if let Some((policy, parameters)) = &self.before {
            // Less is always allowed, but for what is forked to be an ordinary task.
            let _ = set(*policy | libc::SCHED_RESET_ON_FORK, parameters);
        }
    }
}

#[expect(unsafe_code, reason = "nix has no scheduling policies")]
fn own() -> io::Result<(i32, libc::sched_param)> {
    let mut parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel writes the structure that is passed, of its own size.
    let failed = unsafe { libc::sched_getparam(0, &raw mut parameters) } != 0;
    // SAFETY: takes a number only.
    let policy = unsafe { libc::sched_getscheduler(0) };
    if failed || policy < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((policy, parameters))
}

#[expect(unsafe_code, reason = "nix has no scheduling policies")]
fn set(policy: i32, parameters: &libc::sched_param) -> io::Result<()> {
    // SAFETY: the kernel reads the structure that is passed.
    match unsafe { libc::sched_setscheduler(0, policy, parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
