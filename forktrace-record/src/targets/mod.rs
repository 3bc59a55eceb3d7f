//! What a recording is attached to: from what a user names to what the kernel programs know
//! tasks by.
//!
//! Only `/proc`, the tree of cgroups and files of container engines are read; nobody is asked.

mod cgroups;
mod containers;
mod processes;

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::{Result, bail, ensure};
use wildmatch::WildMatch;

use self::{
    cgroups::Cgroups,
    processes::{CommandLines, Process, living},
};
use crate::{
    capture::{Existing, Wanted},
    procfs,
};

/// What somebody wants to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A process: its threads, and what they create from then on.
    Pid(u32),
    /// One thread, and what it creates from then on.
    Tid(u32),
    /// Processes whose name, program or command line is like this.
    Name(String),
    /// All in a cgroup, and what comes to it.
    Cgroup(PathBuf),
    /// All of a systemd unit, likewise.
    Unit(String),
    /// All of a container, by its name or its id, likewise.
    Container(String),
    /// Everything but the kernel's own threads.
    All,
}

impl Target {
    /// How its cgroup is found; `None`: it is not by one.
    fn cgroup(&self) -> Option<impl FnOnce() -> Result<cgroups::Cgroup> + '_> {
        let by_cgroup = matches!(self, Self::Cgroup(_) | Self::Unit(_) | Self::Container(_));
        by_cgroup.then_some(|| match self {
            Self::Unit(unit) => Cgroups::new()?.unit(unit),
            Self::Container(name) => Cgroups::new()?.container(name, &containers::ids_of(name)),
            Self::Cgroup(path) => Cgroups::new()?.at(path),
            _ => bail!("it is not by a cgroup"),
        })
    }
}

/// What a recording is attached to.
#[derive(Debug)]
pub struct Targets {
    targets: Vec<Target>,
    /// The cgroups among them.
    cgroups: Vec<cgroups::Cgroup>,
    /// Each in words.
    words: Vec<String>,
    /// What processes are called, if that matters.
    lines: CommandLines,
    /// See [`Self::left_out`].
    left_out: Vec<String>,
}

impl Targets {
    /// Finds out what they are, and that all are there.
    ///
    /// # Errors
    /// When one is not, or is none of ours to follow.
    pub fn find(targets: &[Target]) -> Result<Self> {
        let mut cgroups = Vec::new();
        let mut words = Vec::new();
        let by_name = targets.iter().any(|it| matches!(it, Target::Name(_)));
        let lines = if by_name {
            CommandLines::read()?
        } else {
            CommandLines::default()
        };
        for target in targets {
            let cgroup = target.cgroup().map(|find| find()).transpose()?;
            words.push(match target {
                Target::Pid(pid) => processes::check_process(*pid)?,
                Target::Tid(tid) => processes::check_thread(*tid)?,
                Target::Name(glob) => named(glob, &lines)?,
                Target::Cgroup(_) => {
                    let path = cgroup.as_ref().map_or("", |it| it.path());
                    format!("the cgroup {path}")
                }
                Target::Unit(unit) => format!("the unit {unit}"),
                Target::Container(name) => format!("the container {name}"),
                Target::All => "all processes".to_owned(),
            });
            cgroups.extend(cgroup);
        }
        let pid = |target: &Target| match target {
            Target::Pid(pid) => Some(*pid),
            _ => None,
        };
        let pids: Option<BTreeSet<u32>> = targets.iter().map(pid).collect();
        let left_out = pids.map_or_else(Vec::new, |pids| processes::below(&pids));
        Ok(Self {
            targets: targets.to_vec(),
            cgroups,
            words,
            lines,
            left_out,
        })
    }

    /// Each of them in words.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The cgroup of the first of them that has one; empty: none is known.
    pub(crate) fn cgroup(&self) -> String {
        if let Some(cgroup) = self.cgroups.first() {
            return cgroup.path().to_owned();
        }
        let of = |wanted: &Wanted| match wanted {
            Wanted::Pid(id) | Wanted::Tid(id) => Some(procfs::cgroup(&id.to_string())),
            Wanted::Cgroup(_) | Wanted::All => None,
        };
        let wanted = self.wanted().unwrap_or_default();
        wanted.iter().find_map(of).unwrap_or_default()
    }

    /// What the kernel programs have to know.
    pub fn existing(&self) -> Existing {
        Existing {
            by_cgroup: !self.cgroups.is_empty(),
        }
    }

    /// What is wanted as of now: processes that have a name come and go.
    ///
    /// # Errors
    /// When `/proc` can't be read.
    pub fn wanted(&self) -> Result<BTreeSet<Wanted>> {
        let mut wanted: BTreeSet<Wanted> = self.cgroups.iter().map(|it| it.wanted()).collect();
        for target in &self.targets {
            match target {
                Target::Pid(pid) => drop(wanted.insert(Wanted::Pid(*pid))),
                Target::Tid(tid) => drop(wanted.insert(Wanted::Tid(*tid))),
                Target::All => drop(wanted.insert(Wanted::All)),
                Target::Name(glob) => {
                    wanted.extend(
                        of_name(glob, &self.lines)?
                            .iter()
                            .map(|it| Wanted::Pid(it.pid)),
                    );
                }
                Target::Cgroup(_) | Target::Unit(_) | Target::Container(_) => {}
            }
        }
        Ok(wanted)
    }

    /// Processes that a process among them has created already, in words: of its children only
    /// those that come later are followed. None where more is wanted than processes. Looked for
    /// before anything is attached, like the targets: all processes are gone through.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Can it end and come again?
    pub(crate) fn may_return(&self) -> bool {
        let of_now = |it: &Target| matches!(it, Target::Pid(_) | Target::Tid(_));
        !self.targets.iter().all(of_now)
    }

    /// Finds the cgroups again that have gone: one that comes again has another number.
    pub(crate) fn renew(&mut self) {
        let found = self.targets.iter().filter_map(Target::cgroup);
        for (cgroup, again) in self.cgroups.iter_mut().zip(found) {
            if !cgroup.is_there()
                && let Ok(again) = again()
            {
                *cgroup = again;
            }
        }
    }

    /// Can more come when none of it lives any more?
    pub fn may_come(&self) -> bool {
        self.targets.contains(&Target::All) || self.cgroups.iter().any(|it| it.is_there())
    }
}

/// The processes that have such a name, but us and those that started us.
fn of_name(glob: &str, lines: &CommandLines) -> Result<Vec<Process>> {
    let pattern = WildMatch::new(glob);
    let ours = std::process::id();
    // The command line of a sudo that started us holds the name too.
    let above = processes::parents(ours);
    let mut found = living(lines)?;
    found.retain(|process| {
        process.pid != ours
            && !above.contains(&process.pid)
            && !processes::parents(process.pid).contains(&ours)
            && process.names().any(|name| pattern.matches(&name))
    });
    Ok(found)
}

/// Those that have such a name, in words.
fn named(glob: &str, lines: &CommandLines) -> Result<String> {
    ensure!(!glob.is_empty(), "a name is empty; `*` is any");
    let found = of_name(glob, lines)?;
    match found.as_slice() {
        [] => bail!(
            "no process but forktrace itself is called {glob:?}, by its name, its program or its \
             whole command line; `ps -eo pid,comm,args` shows them, and `*` stands for anything: \
             -n '*{}*'",
            glob.trim_matches('*')
        ),
        [process] => Ok(process.title()),
        many => Ok(format!("{glob} ({} processes)", many.len())),
    }
}
