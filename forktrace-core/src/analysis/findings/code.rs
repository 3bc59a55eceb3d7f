//! The function that waited, in a sentence.

use super::Report;
use crate::report::{Cause, CodeWait, Link, Wait};

/// The function that waited for most of a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) name: Option<String>,
    /// It waited for nearly all of it.
    always: bool,
}

impl Waiter {
    /// Of the functions that waited for something for so long in all.
    pub(super) fn of(rows: &[CodeWait], ns: u64) -> Self {
        let first = rows.iter().max_by_key(|row| row.ns);
        let first = first.filter(|row| row.ns > 0 && row.ns >= ns / 2);
        Self {
            name: first.map(|row| row.name.clone()),
            always: first.is_some_and(|row| row.ns >= ns - ns / 10),
        }
    }

    /// Of all blocks of these tasks, by serial, for a reason and in a syscall, if it is one.
    pub(super) fn of_tasks(
        report: &Report,
        serials: impl Iterator<Item = u32>,
        (reason, syscall): (&str, Option<&str>),
    ) -> Self {
        let serials: Vec<u32> = serials.collect();
        let tasks = report.tasks.iter();
        let tasks = tasks.filter(|task| serials.contains(&task.serial));
        let is_it = |wait: &&Wait| {
            let same = || syscall.is_none() || wait.syscall.as_deref() == syscall;
            wait.reason == reason && same()
        };
        let mut rows: Vec<CodeWait> = Vec::new();
        let mut ns = 0u64;
        for wait in tasks.flat_map(|task| task.waits.iter().filter(is_it)) {
            ns = ns.saturating_add(wait.ns);
            for code in &wait.code {
                match rows.iter_mut().find(|row| row.name == code.name) {
                    Some(row) => row.ns = row.ns.saturating_add(code.ns),
                    None => rows.push(code.clone()),
                }
            }
        }
        Self::of(&rows, ns)
    }

    /// Of the waits that stalls are put down to. Of one stall it is that block's, of several,
    /// or where a wait was taken up again, that of all such waits of their tasks.
    pub(super) fn of_cause(report: &Report, cause: &Cause, root: &Link) -> Self {
        let end_ns = root.end_ns.unwrap_or(u64::MAX);
        let is_one =
            cause.episodes == 1 && end_ns.saturating_sub(root.start_ns) >= cause.ns - cause.ns / 10;
        if is_one {
            return Self {
                name: root.code.clone(),
                always: true,
            };
        }
        if cause.by.len() < cause.tasks as usize {
            // The others may have waited elsewhere.
            return Self::default();
        }
        let serials = cause.by.iter().map(|by| by.task.serial);
        Self::of_tasks(report, serials, (&root.reason, cause.syscall.as_deref()))
    }

    /// What is said of it after what was waited for; mostly nothing.
    pub(super) fn told(&self) -> String {
        match &self.name {
            Some(name) if self.always => format!(" in `{name}`"),
            Some(name) => format!(", mostly in `{name}`"),
            None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_is_named_that_waited_for_most_of_the_time() {
        let rows = [("save", 80), ("log", 20)].map(|(name, ns)| CodeWait {
            name: name.to_owned(),
            ns,
            count: 1,
        });
        let told = |rows: &[CodeWait], ns| Waiter::of(rows, ns).told();
        assert_eq!(told(&rows, 100), ", mostly in `save`");
        assert_eq!(told(&rows[..1], 85), " in `save`");
        // Of most of the time nothing is known.
        assert_eq!(told(&rows, 200), "");
        assert_eq!(told(&[], 0), "");
    }
}
