//! Locks and semaphores that processes can share too.

use std::ffi::c_int;
use std::io;
use std::mem::{MaybeUninit, size_of};

use anyhow::{Context, Result};
use nix::libc;

use super::{Mapping, checked};

/// A POSIX mutex: one that only the threads of this process use, or one in shared
/// memory that the children it forks use too.
pub(crate) struct Lock(Mapping);

/// Who uses something: the threads of one process, or processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Among {
    Threads,
    Processes,
}

impl Among {
    pub(crate) fn from_flag(processes: bool) -> Self {
        if processes {
            Self::Processes
        } else {
            Self::Threads
        }
    }
}

impl Lock {
    pub(crate) fn new(among: Among) -> Result<Self> {
        let (memory, sharing) = match among {
            Among::Threads => (libc::MAP_PRIVATE, libc::PTHREAD_PROCESS_PRIVATE),
            Among::Processes => (libc::MAP_SHARED, libc::PTHREAD_PROCESS_SHARED),
        };
        let lock = Self(Mapping::new(size_of::<libc::pthread_mutex_t>(), memory)?);
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the attributes are initialised by the first call, used by the next
        // two and not after the last; the mutex is zeroed memory of the mapping, which
        // nobody uses yet.
        unsafe {
            done(libc::pthread_mutexattr_init(attributes.as_mut_ptr()))?;
            done(libc::pthread_mutexattr_setpshared(
                attributes.as_mut_ptr(),
                sharing,
            ))?;
            done(libc::pthread_mutex_init(lock.mutex(), attributes.as_ptr()))?;
            done(libc::pthread_mutexattr_destroy(attributes.as_mut_ptr()))?;
        }
        Ok(lock)
    }

    fn mutex(&self) -> *mut libc::pthread_mutex_t {
        self.0.start.cast()
    }

    /// Runs `body` with the lock held.
    pub(crate) fn with<T>(&self, body: impl FnOnce() -> T) -> Result<T> {
        // SAFETY: the mutex was initialised by `new` and lives as long as `self`.
        done(unsafe { libc::pthread_mutex_lock(self.mutex()) }).context("cannot lock")?;
        let result = body();
        // SAFETY: as above, and this task holds it.
        done(unsafe { libc::pthread_mutex_unlock(self.mutex()) }).context("cannot unlock")?;
        Ok(result)
    }
}

/// The pthread functions return their error.
fn done(error: c_int) -> Result<()> {
    match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)).context("a mutex was refused"),
    }
}

/// A System V semaphore, 0 at first, removed on drop.
pub(crate) struct Semaphore(c_int);

impl Semaphore {
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: integers only.
        let id = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
        checked(id.into()).context("cannot make a System V semaphore")?;
        Ok(Self(id))
    }

    pub(crate) fn up(&self) -> Result<()> {
        self.change(1)
    }

    /// Waits until it is above 0.
    pub(crate) fn down(&self) -> Result<()> {
        self.change(-1)
    }

    fn change(&self, by: i16) -> Result<()> {
        let mut operation = libc::sembuf {
            sem_num: 0,
            sem_op: by,
            sem_flg: 0,
        };
        // SAFETY: one operation, which outlives the call.
        let result = unsafe { libc::semop(self.0, &raw mut operation, 1) };
        checked(result.into()).context("semop failed")?;
        Ok(())
    }
}

impl Drop for Semaphore {
    fn drop(&mut self) {
        // SAFETY: removes a semaphore that is ours alone.
        unsafe { libc::semctl(self.0, 0, libc::IPC_RMID) };
    }
}
