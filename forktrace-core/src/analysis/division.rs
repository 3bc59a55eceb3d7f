//! What tasks are divided into groups by.

use std::collections::{BTreeMap, HashMap};

use crate::{
    model::{Model, Task},
    report::GroupKind,
    trace::Header,
};

/// The group of those whose cgroup was not told.
const NOT_KNOWN: &str = "not known";

/// What makes tasks a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupBy {
    /// They are threads of one process.
    #[default]
    Process,
    /// They have the same name.
    Name,
    /// They have the same role.
    Role,
    /// Their processes are in the same cgroup.
    Cgroup,
}

/// A group.
pub(super) struct Part {
    /// [`crate::report::Group::id`].
    pub(super) id: u32,
    pub(super) pid: u32,
    pub(super) name: String,
    /// Indices in the model, ascending.
    pub(super) tasks: Vec<u32>,
}

/// All groups.
pub(super) struct Division {
    pub(super) groups: Vec<Part>,
    /// By index in the model: the position in its group.
    pub(super) positions: Vec<u32>,
}

impl GroupBy {
    pub(super) fn kind(self) -> GroupKind {
        match self {
            Self::Process => GroupKind::Process,
            Self::Name => GroupKind::Name,
            Self::Role => GroupKind::Role,
            Self::Cgroup => GroupKind::Cgroup,
        }
    }

    /// What groups are told by, of each task: its role, or the cgroup of its process.
    pub(super) fn labels<'a>(
        self,
        model: &'a Model,
        header: &'a Header,
        roles: &'a [String],
    ) -> Vec<&'a str> {
        match self {
            Self::Process | Self::Name | Self::Role => roles.iter().map(String::as_str).collect(),
            Self::Cgroup => {
                let cgroups = model.cgroups_of_tasks(header).into_iter();
                cgroups.map(|path| path.unwrap_or(NOT_KNOWN)).collect()
            }
        }
    }

    /// Divides those that were chosen, by [their labels](Self::labels) where it is these that count.
    pub(super) fn divide(self, tasks: &[Task], labels: &[&str], chosen: &[u32]) -> Division {
        let mut by_name: HashMap<&str, u32> = HashMap::new();
        let mut of_name = |at: usize, name| *by_name.entry(name).or_insert(tasks[at].serial);
        let mut groups: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut positions = vec![u32::MAX; tasks.len()];
        for at in chosen {
            let task = &tasks[*at as usize];
            let id = match self {
                Self::Process => task.process,
                Self::Name => of_name(*at as usize, task.name.as_str()),
                Self::Role | Self::Cgroup => of_name(*at as usize, labels[*at as usize]),
            };
            let members = groups.entry(id).or_default();
            positions[*at as usize] = members.len() as u32;
            members.push(*at);
        }
        let groups = groups.into_iter().filter_map(|(id, members)| {
            // Serials grow with time, but a task that is not followed has one of ours.
            let mut all = members.iter().map(|at| *at as usize);
            let first = all.clone().find(|at| tasks[*at].serial == id);
            let leader = first.or(all.next())?;
            Some(Part {
                id,
                pid: tasks[leader].pid,
                name: match self {
                    Self::Process | Self::Name => tasks[leader].name.clone(),
                    Self::Role | Self::Cgroup => labels[leader].to_owned(),
                },
                tasks: members,
            })
        });
        Division {
            groups: groups.collect(),
            positions,
        }
    }
}
