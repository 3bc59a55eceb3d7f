//! Who had the CPUs that tasks of the workload waited for.
//!
//! A task that is ready waits for the CPU that it then gets. What tasks of the workload did on
//! that CPU meanwhile is known; of the others, who had it last, and the last turns of those
//! that still want it.

use std::collections::HashMap;

use crate::{
    model::{Model, Part, Task},
    report::CpuUser,
};

/// Who waited for less is not counted, ns: the same as what the kernel programs leave out.
const LONG_NS: u64 = 100_000;
/// Names that are listed.
const MOST: usize = 100;

/// Who had the CPUs that tasks waited for.
#[derive(Debug, Default)]
pub(super) struct CpuUsers {
    pub(super) users: Vec<CpuUser>,
    /// For how long somebody waited: the sum over the CPUs.
    pub(super) wanted_ns: u64,
    /// Of that, the time of which it is not known who had the CPU.
    pub(super) unknown_ns: u64,
}

/// Times without overlap, in order.
#[derive(Default)]
struct Times(Vec<(u64, u64)>);

impl Times {
    fn of(mut times: Vec<(u64, u64)>) -> Self {
        times.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(times.len());
        for (from, to) in times {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        Self(merged)
    }

    fn total(&self) -> u64 {
        self.0.iter().map(|(from, to)| to - from).sum()
    }

    /// How much of this time is in them. `near`: what was looked at last, which mostly is not
    /// far before.
    fn within(&self, near: &mut usize, from: u64, to: u64) -> u64 {
        /// So many are looked at one after the other.
        const STEPS: usize = 8;
        let over = |at: usize| self.0.get(at).is_some_and(|(_, end)| *end <= from);
        let mut first = *near;
        if first > 0 && !over(first - 1) || over(first + STEPS) {
            first = self.0.partition_point(|(_, end)| *end <= from);
        }
        while over(first) {
            first += 1;
        }
        *near = first;
        let here = self.0[first..].iter().take_while(|(start, _)| *start < to);
        here.map(|(start, end)| to.min(*end) - from.max(*start))
            .sum()
    }
}

/// Who had them, most first. `roles` has the role of each task.
pub(super) fn cpu_users(model: &Model, roles: &[String], part: &Part) -> CpuUsers {
    let mut waits: HashMap<u16, Vec<(u64, u64)>> = HashMap::new();
    let chosen = model.tasks.iter().enumerate();
    for (_, task) in chosen.filter(|(at, _)| part.has(*at)) {
        for (off, cpu) in task.stretches.back_after(LONG_NS) {
            if let Some(cpu) = cpu {
                waits.entry(cpu).or_default().push((off.wake_ns, off.in_ns));
            }
        }
    }
    if waits.is_empty() {
        return CpuUsers::default();
    }
    let waits: HashMap<u16, Times> = waits
        .into_iter()
        .map(|(cpu, times)| (cpu, Times::of(times)))
        .collect();
    let mut users: HashMap<(&str, bool), u64> = HashMap::new();
    for (task, role) in model.tasks.iter().zip(roles) {
        // A task mostly stays on its CPU.
        let (mut last, mut ns, mut near) = (None, 0u64, 0);
        each_run(task, |cpu, from, to| {
            let times = match last {
                Some((same, times)) if same == cpu => times,
                _ => {
                    near = 0;
                    waits.get(&cpu)
                }
            };
            last = Some((cpu, times));
            ns = ns.saturating_add(times.map_or(0, |times| times.within(&mut near, from, to)));
        });
        if ns > 0 {
            *users.entry((role, true)).or_default() += ns;
        }
    }
    for user in &model.cpu_users {
        let from = user.at_ns.saturating_sub(user.ns);
        let times = waits.get(&user.cpu);
        let ns = times.map_or(0, |times| times.within(&mut 0, from, user.at_ns));
        if ns > 0 {
            *users.entry((&user.comm, false)).or_default() += ns;
        }
    }
    let wanted_ns = waits
        .values()
        .map(Times::total)
        .fold(0, u64::saturating_add);
    let known_ns = users.values().copied().fold(0, u64::saturating_add);
    let mut users: Vec<CpuUser> = users
        .into_iter()
        .map(|((name, traced), ns)| CpuUser {
            name: name.to_owned(),
            traced,
            ns,
        })
        .collect();
    users.sort_by(|a, b| (b.ns, &a.name, a.traced).cmp(&(a.ns, &b.name, b.traced)));
    users.truncate(MOST);
    CpuUsers {
        users,
        wanted_ns,
        unknown_ns: wanted_ns.saturating_sub(known_ns),
    }
}

/// When a task ran, and on which CPU.
fn each_run(task: &Task, mut run: impl FnMut(u16, u64, u64)) {
    // Which CPU it came back to, when, and the number of what comes next.
    let mut back: Option<(Option<u16>, u64, Option<u32>)> = None;
    let mut until = |back: Option<(Option<u16>, u64, Option<u32>)>, seq, out_ns| {
        // Between others records are missing.
        if let Some((Some(cpu), in_ns, next)) = back
            && seq == next
            && out_ns > in_ns
        {
            run(cpu, in_ns, out_ns);
        }
    };
    for (off, cpu) in task.stretches.with_cpus() {
        until(back, Some(off.seq), off.out_ns);
        back = Some((cpu, off.in_ns, off.seq.checked_add(1)));
    }
    let open = task.open.map(|open| open.out_ns);
    until(back, task.stretches_expected, open.unwrap_or(task.end_ns));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        analysis::why_tests::{model, task},
        model::WHOLE,
        trace,
    };

    fn on_cpu(task: &mut Task, cpu: u16) {
        let offs = task.stretches.iter();
        task.stretches = offs.map(|off| (off, Some(cpu))).collect();
    }

    /// A character is 0.1 ms. All on CPU 0.
    fn on_one_cpu(drawings: &[(&str, &str)]) -> (Model, Vec<String>) {
        let tasks = drawings.iter().enumerate().map(|(at, (name, drawing))| {
            let mut task = task(at as u32 + 1, 1, drawing, &[]);
            task.name = (*name).to_owned();
            task.start_ns *= LONG_NS;
            task.end_ns *= LONG_NS;
            task.stretches.edit(|offs| {
                for off in offs {
                    off.out_ns *= LONG_NS;
                    off.wake_ns *= LONG_NS;
                    off.in_ns *= LONG_NS;
                }
            });
            on_cpu(&mut task, 0);
            task
        });
        let tasks: Vec<Task> = tasks.collect();
        let roles = tasks.iter().map(|task| task.name.clone()).collect();
        (model(tasks), roles)
    }

    fn outside(name: &str, from: u64, to: u64) -> trace::CpuUser {
        trace::CpuUser {
            cpu: 0,
            tid: 1,
            tgid: 1,
            kernel_thread: false,
            at_ns: to * LONG_NS,
            ns: (to - from) * LONG_NS,
            comm: name.to_owned(),
        }
    }

    fn user(name: &str, traced: bool, times: u64) -> CpuUser {
        CpuUser {
            name: name.to_owned(),
            traced,
            ns: times * LONG_NS,
        }
    }

    #[test]
    fn tasks_of_the_workload_and_others_share_what_was_waited_for() {
        let (mut model, roles) = on_one_cpu(&[("one", "rwwwwrr$"), ("two", "wrrwwww$")]);
        model.cpu_users.push(outside("burner", 4, 5));
        let found = cpu_users(&model, &roles, &WHOLE);
        // One of them waits at any time.
        assert_eq!((found.wanted_ns, found.unknown_ns), (7 * LONG_NS, LONG_NS));
        let users = [
            user("one", true, 3),
            user("two", true, 2),
            user("burner", false, 1),
        ];
        assert_eq!(found.users, users);
    }

    #[test]
    fn a_turn_counts_as_far_as_somebody_waited() {
        let (mut model, roles) = on_one_cpu(&[("one", "rrrbbwwr$")]);
        model.cpu_users.push(outside("burner", 3, 7));
        let found = cpu_users(&model, &roles, &WHOLE);
        assert_eq!(found.users, [user("burner", false, 2)]);
        assert_eq!((found.wanted_ns, found.unknown_ns), (2 * LONG_NS, 0));
    }

    #[test]
    fn a_wait_on_another_cpu_is_none_for_this_one() {
        let (mut model, roles) = on_one_cpu(&[("one", "rwwwwr$")]);
        on_cpu(&mut model.tasks[0], 1);
        model.cpu_users.push(outside("burner", 1, 5));
        let found = cpu_users(&model, &roles, &WHOLE);
        assert_eq!(found.users, []);
        assert_eq!(found.unknown_ns, 4 * LONG_NS);
    }
}
