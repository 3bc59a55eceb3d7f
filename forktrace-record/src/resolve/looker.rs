//! The look-ups themselves: what is done in the helper, and what it is asked.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{
    cgroup, epoll,
    fds::{self, Identity, Nameless},
    futex::{Files, Memories, Place},
    process::{Folder, Who},
    sockets::Sockets,
};
use crate::{
    kernel::symbols,
    trace::{FileKind, WaitFd, Watched, cgroups},
};

/// Most folders that are open at once.
const MOST_FOLDERS: usize = 64;

/// What the recorder wants to know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Question {
    /// What is asked about was there when this round began: whatever is read in it, or
    /// later, tells.
    pub(super) round: u64,
    pub(super) what: What,
}

/// About what.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum What {
    /// A descriptor, which was this file.
    File(Who, i32, Identity),
    /// Descriptors.
    Files(Who, Vec<i32>),
    /// What an epoll instance watches, by its descriptor.
    Interest(Who, i32, Identity),
    /// Where the futex at this address is.
    Futex(Who, u64),
    /// What the program calls the memory at this address.
    Variable(Who, u64),
    /// The cgroup of a process, and what the files of those say that are new.
    CgroupOf(Who),
    /// Our own.
    OwnCgroups,
    /// Cgroups that are known, by name.
    CgroupsAgain(Vec<String>),
    /// What the kernel calls the operations of its files.
    Operations,
    /// The command line of a process.
    Argv(Who),
}

/// What it is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The process has ended.
    Gone,
    /// Of each descriptor what it is.
    Files(Vec<Result<(Identity, FileKind), Nameless>>),
    /// What is watched, and how much of it there is.
    Interest(Vec<Watched>, u64),
    /// It is another file by now.
    NoInterest,
    /// Where a futex is; `None`: there is no such address any more.
    Futex(Option<Place>),
    /// A variable, and the program or library that it is of; `None`: it is none.
    Variable(Option<(String, String)>),
    /// What cgroups' files say.
    Cgroups(Vec<cgroup::State>),
    /// The same of the cgroup that a process is in, by its path in the unified hierarchy.
    InCgroup(String, Vec<cgroup::State>),
    /// Kinds of files by the addresses of their operations.
    Operations(Vec<(u64, FileKind)>),
    /// A command line.
    Argv(Vec<String>),
}

/// Looks things up.
pub(crate) struct Looker {
    sockets: Sockets,
    memories: Memories,
    files: Files,
    cgroups: cgroup::Reader,
    /// The folders of tasks that were opened in this round, `None` for those that are
    /// gone.
    folders: HashMap<u32, Option<Folder>>,
    round: u64,
}

impl Looker {
    /// Knows nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            sockets: Sockets::new(),
            memories: Memories::default(),
            files: Files::default(),
            cgroups: cgroup::Reader::new(),
            folders: HashMap::new(),
            round: 0,
        }
    }

    pub(crate) fn answer(&mut self, question: &Question) -> Answer {
        if question.round != self.round {
            self.round = question.round;
            self.folders.clear();
            self.sockets.of_round(self.round);
        }
        match &question.what {
            What::File(who, fd, expected) => self.in_folder(who, |folder, it| {
                let found = fds::look_up(folder, *fd, Some(*expected), &mut it.sockets);
                Answer::Files(vec![found])
            }),
            What::Files(who, fds) => self.in_folder(who, |folder, it| {
                let look_up = |fd: &i32| fds::look_up(folder, *fd, None, &mut it.sockets);
                Answer::Files(fds.iter().map(look_up).collect())
            }),
            What::Interest(who, fd, identity) => self.in_folder(who, |folder, it| {
                interest(folder, *fd, *identity, &mut it.sockets)
            }),
            What::Futex(who, address) => self.in_folder(who, |folder, it| {
                let memory = who.memory;
                Answer::Futex(it.memories.place(memory, folder, *address, it.round))
            }),
            What::Variable(who, address) => self.in_folder(who, |folder, it| {
                let (memories, files) = (&mut it.memories, &mut it.files);
                let found = memories.variable(who.memory, folder, *address, it.round, files);
                Answer::Variable(found)
            }),
            What::CgroupOf(who) => self.in_folder(who, |folder, it| {
                let text = folder.read("cgroup").unwrap_or_default();
                Answer::InCgroup(cgroups::path(&text).to_owned(), it.cgroups.of(&text))
            }),
            What::OwnCgroups => Answer::Cgroups(self.cgroups.own()),
            What::CgroupsAgain(names) => {
                let read = |name: &String| self.cgroups.read(name);
                Answer::Cgroups(names.iter().filter_map(read).collect())
            }
            What::Operations => Answer::Operations(operations()),
            What::Argv(who) => self.in_folder(who, |folder, _| {
                Answer::Argv(argv(&folder.read("cmdline").unwrap_or_default()))
            }),
        }
    }

    fn in_folder(&mut self, who: &Who, look: impl FnOnce(&Folder, &mut Self) -> Answer) -> Answer {
        if self.folders.len() >= MOST_FOLDERS && !self.folders.contains_key(&who.serial) {
            self.folders.clear();
        }
        let known = self.folders.remove(&who.serial);
        let folder = known.unwrap_or_else(|| Folder::of(who));
        let answer = match &folder {
            Some(folder) => look(folder, self),
            None => Answer::Gone,
        };
        self.folders.insert(who.serial, folder);
        answer
    }
}

fn interest(folder: &Folder, fd: i32, identity: Identity, sockets: &mut Sockets) -> Answer {
    // The descriptor can be another file by now.
    let found = fds::look_up(folder, fd, Some(identity), sockets);
    if !matches!(found, Ok((_, FileKind::Epoll))) {
        return Answer::NoInterest;
    }
    let Some((fds, count)) = epoll::read(folder, fd) else {
        return Answer::NoInterest;
    };
    let watched = fds.into_iter().map(|(fd, identity): (WaitFd, Identity)| {
        let found = fds::look_up(folder, fd.fd, Some(identity), sockets);
        Watched {
            fd,
            inode: identity.inode,
            device: identity.device,
            kind: found.ok().map(|(_, kind)| kind),
        }
    });
    Answer::Interest(watched.collect(), count as u64)
}

/// `/proc/PID/cmdline`, up to a length that is enough to tell one process from another.
fn argv(cmdline: &str) -> Vec<String> {
    const LONGEST: usize = 4096;
    let mut length = 0;
    let fits = |arg: &&str| {
        length += arg.len();
        length <= LONGEST
    };
    let args = cmdline.strip_suffix('\0').unwrap_or(cmdline);
    if args.is_empty() {
        return Vec::new();
    }
    args.split('\0')
        .take_while(fits)
        .map(str::to_owned)
        .collect()
}

/// Those that say all there is to say of a file.
fn operations() -> Vec<(u64, FileKind)> {
    let found = symbols::addresses(|name| fds::by_symbol(name).is_some());
    let kind = |(address, name): (u64, String)| Some((address, fds::by_symbol(&name)?));
    found.into_iter().filter_map(kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_split_at_its_zeros() {
        assert_eq!(argv("sh\0-c\0\0"), ["sh", "-c", ""]);
        assert_eq!(argv("title"), ["title"]);
        assert_eq!(argv(""), [""; 0]);
        let long = "x".repeat(3000);
        assert_eq!(argv(&format!("{long}\0{long}\0y\0")), [long]);
    }
}
