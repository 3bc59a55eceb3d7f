//! Work on several CPUs at once, where there may be threads.

use std::{
    panic::resume_unwind,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// Work that goes on, or has been done.
pub(super) enum Work<'scope, T> {
    Goes(thread::ScopedJoinHandle<'scope, T>),
    Done(T),
}

impl<T> Work<'_, T> {
    /// What came of it.
    pub(super) fn join(self) -> T {
        match self {
            Self::Goes(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Self::Done(done) => done,
        }
    }
}

/// Does it in a thread. Where there can be none, for limits of memory or of processes, it
/// is done at once.
pub(super) fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Work<'scope, T> {
    let ours = Arc::new(Mutex::new(Some(work)));
    let its = Arc::clone(&ours);
    let take = |from: &Mutex<Option<_>>| {
        let mut work = from.lock().unwrap_or_else(PoisonError::into_inner);
        work.take().expect("one of the two takes it, once")
    };
    let spawned = thread::Builder::new().spawn_scoped(scope, move || take(&its)());
    match spawned {
        Ok(thread) => Work::Goes(thread),
        Err(_) => Work::Done(take(&ours)()),
    }
}
