//! Tasks that are chosen by a word: a name, a pid, a tid, a role, a cgroup.

use std::collections::BTreeSet;

use wildmatch::WildMatch;

use super::roles;
use crate::{
    model::{Model, Task},
    trace::Header,
    words::quantity,
};

/// Of each kind, so many are told to whom chose none.
const TOLD: usize = 12;

/// The tasks that any of these words stands for, by index in the model. A word is a pid, a
/// tid, or a pattern (`*` stands for anything, `?` for one character) for the name of a task,
/// the name of a process (with all its threads), a role, or the cgroup of a process: by its path
/// or its last name, with all that are below it.
///
/// # Errors
/// Where a word stands for none: what there is.
pub fn choose(model: &Model, header: &Header, words: &[String]) -> Result<Vec<bool>, String> {
    let there_are = ThereAre {
        model,
        roles: roles::roles(model),
        cgroups: model.cgroups_of_tasks(header),
    };
    let mut chosen = vec![false; model.tasks.len()];
    for word in words {
        let of_word = there_are.of_word(word);
        if !of_word.contains(&true) {
            return Err(there_are.none(word));
        }
        for (chosen, is) in chosen.iter_mut().zip(of_word) {
            *chosen |= is;
        }
    }
    Ok(chosen)
}

/// What can be chosen from, in the order of the tasks.
struct ThereAre<'a> {
    model: &'a Model,
    roles: Vec<String>,
    cgroups: Vec<Option<&'a str>>,
}

impl ThereAre<'_> {
    fn of_word(&self, word: &str) -> Vec<bool> {
        let all = |is: &dyn Fn(usize, &Task) -> bool| -> Vec<bool> {
            let tasks = self.model.tasks.iter().enumerate();
            tasks.map(|(at, task)| is(at, task)).collect()
        };
        if let Ok(number) = word.parse::<u32>() {
            let of_pid = all(&|_, task| task.pid == number);
            // A thread by itself; the first one has the number of its process.
            let chosen = match of_pid.contains(&true) {
                true => of_pid,
                false => all(&|_, task| task.tid == number),
            };
            if chosen.contains(&true) {
                return chosen;
            }
        }
        let pattern = WildMatch::new(word);
        let tasks = self.model.tasks.iter();
        let leaders = tasks.filter(|task| task.serial == task.process);
        let processes: BTreeSet<u32> = leaders
            .filter(|task| pattern.matches(&task.name))
            .map(|task| task.process)
            .collect();
        all(&|at, task| {
            processes.contains(&task.process)
                || pattern.matches(&task.name)
                || pattern.matches(&self.roles[at])
                || self.cgroups[at].is_some_and(|path| is_in(path, &pattern))
        })
    }

    /// What is said where a word stands for nothing.
    fn none(&self, word: &str) -> String {
        let tasks = &self.model.tasks;
        let names: BTreeSet<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
        let roles: BTreeSet<&str> = self.roles.iter().map(String::as_str).collect();
        let pids: BTreeSet<u32> = tasks.iter().map(|task| task.pid).collect();
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let cgroups: BTreeSet<&str> = self.cgroups.iter().copied().flatten().collect();
        format!(
            "no task has the name, the role, the pid, the tid or the cgroup {word:?}. There are the \
             names {}; the roles {}; the pids {}; the cgroups {}",
            listed(names.into_iter()),
            listed(roles.into_iter()),
            listed(pids.iter().map(String::as_str)),
            listed(cgroups.into_iter()),
        )
    }
}

/// Is the cgroup with this path one that the pattern stands for, or below one?
fn is_in(path: &str, pattern: &WildMatch) -> bool {
    let ends = path.match_indices('/').map(|(at, _)| at);
    let above = ends.filter(|at| *at > 0).map(|at| &path[..at]);
    above.chain([path]).any(|path| {
        let last = path.rsplit('/').next().unwrap_or_default();
        pattern.matches(path) || !last.is_empty() && pattern.matches(last)
    })
}

fn listed<'a>(all: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = all.len().saturating_sub(TOLD);
    let told: Vec<String> = all
        .take(TOLD)
        .map(|it| it.escape_debug().to_string())
        .collect();
    match more {
        0 if told.is_empty() => "none".to_owned(),
        0 => told.join(", "),
        more => format!(
            "{}, and {}",
            told.join(", "),
            quantity(more as u64, "other")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        analysis::why_tests::{model, task},
        drawn,
    };

    fn workload() -> Model {
        let named = |serial, process, name: &str| Task {
            name: name.to_owned(),
            ..task(serial, process, "rrr$", &[])
        };
        let tasks = vec![
            named(1, 1, "main"),
            named(2, 1, "worker-1"),
            named(3, 3, "other"),
            named(4, 3, "worker-2"),
        ];
        let told = [
            (1, "/system.slice/web.service"),
            (3, "/system.slice/db.service/one"),
        ];
        Model {
            cgroups: told.map(|(of, path)| (of, path.to_owned())).into(),
            ..model(tasks)
        }
    }

    fn chosen(words: &[&str]) -> Result<Vec<u32>, String> {
        let model = workload();
        let words: Vec<String> = words.iter().map(|it| (*it).to_owned()).collect();
        let chosen = choose(&model, &drawn::header(0), &words)?;
        let serials = model.tasks.iter().map(|task| task.serial);
        Ok(serials
            .zip(chosen)
            .filter(|(_, is)| *is)
            .map(|(it, _)| it)
            .collect())
    }

    #[test]
    fn by_name_pid_tid_role_cgroup_and_pattern() {
        for (words, expected) in [
            (&["worker-1"][..], &[2][..]),
            (&["main"], &[1, 2]),
            (&["103"], &[3, 4]),
            (&["104"], &[4]),
            (&["main: worker"], &[2]),
            (&["worker-*"], &[2, 4]),
            (&["*: worker", "main"], &[1, 2, 4]),
            (&["web.service"], &[1, 2]),
            (&["/system.slice/db.service"], &[3, 4]),
            (&["db.*"], &[3, 4]),
            (&["/system.slice"], &[1, 2, 3, 4]),
        ] {
            assert_eq!(chosen(words).as_deref(), Ok(expected), "{words:?}");
        }
    }

    #[test]
    fn what_there_is_is_told_to_whom_chose_nothing() {
        let error = chosen(&["main", "nobody"]).unwrap_err();
        assert!(
            error.contains("\"nobody\". There are the names main, other, worker-1"),
            "{error}"
        );
        assert!(
            error.contains("the roles main, main: worker, other"),
            "{error}"
        );
        assert!(error.contains("the pids 101, 103"), "{error}");
        assert!(
            error.contains("the cgroups /system.slice/db.service/one, /system.slice/web.service"),
            "{error}"
        );
    }
}
