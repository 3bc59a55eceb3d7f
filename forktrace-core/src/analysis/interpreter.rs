//! The lock of Python's interpreter (GIL). Who wants it asks for it every few milliseconds, and
//! who has it then lets it go.

use std::collections::HashSet;

use crate::model::{FutexKey, Model, Target};

/// The variable of `CPython` that has the lock, with all else of the runtime.
const VARIABLE: &str = "_PyRuntime";

/// Is this the name of what the lock is in?
pub(super) fn is_it(object: &str) -> bool {
    let name = object.strip_prefix("futex ").unwrap_or(object);
    let rest = name.strip_prefix(VARIABLE);
    rest.is_some_and(|rest| rest.starts_with(['+', ' ']) || rest.is_empty())
}

/// The lock's words, by target.
pub(super) fn words(model: &Model) -> HashSet<u32> {
    let is_word = |target: &Target| match target {
        Target::Futex(FutexKey::Private { process, address }) => {
            let name = model.lock_names.of(*process, *address);
            name.is_some_and(|name| is_it(&name.name))
        }
        _ => false,
    };
    let all = model.targets.iter().enumerate();
    all.filter(|(_, target)| is_word(target))
        .map(|(at, _)| at as u32)
        .collect()
}
