//! Names for what tasks waited for. What is not known is said, not guessed.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use crate::{
    model::{File, FutexKey, Model, Target, Waitset},
    report::Object,
    trace::{FileKind, GivenWhat, Interest, LockName},
};

/// Descriptors of a set that are named.
const NAMED_FDS: usize = 3;

/// include/uapi/linux/stat.h
const S_IFMT: u16 = 0o170_000;
const S_IFIFO: u16 = 0o010_000;
const S_IFCHR: u16 = 0o020_000;
const S_IFDIR: u16 = 0o040_000;
const S_IFBLK: u16 = 0o060_000;
const S_IFREG: u16 = 0o100_000;
const S_IFSOCK: u16 = 0o140_000;

/// What a target is; `None`: not known.
pub(super) fn describe(model: &Model, target: u32) -> Option<Object> {
    let object = |kind: &str, id: String, name: String| {
        Some(Object {
            kind: kind.to_owned(),
            id,
            name,
        })
    };
    match model.targets.get(target as usize)? {
        Target::Unknown => None,
        Target::Fd(fd) => object("fd", format!("fd {fd}"), format!("fd {fd}")),
        Target::File { fd, file } => {
            let file = model.files.get(*file as usize)?;
            let (kind, name) = file_name(file, *fd);
            object(&kind, identity(file).to_string(), name)
        }
        Target::Fds(set) => {
            let it = model.waitsets.get(*set as usize)?;
            match it.is_empty() {
                true => object("sleep", "sleep".to_owned(), "sleep".to_owned()),
                false => object("fds", format!("fds {set}"), set_name(it)),
            }
        }
        Target::Futex(key) => {
            let (id, name) = futex(model, *key);
            object("futex", id, name)
        }
        Target::AnyFutex { first, count } => {
            let (id, name) = futex(model, *first);
            object(
                "futex",
                format!("any of {count}, the first {id}"),
                format!("any of {count} futexes, the first {name}"),
            )
        }
        Target::Child(pid) => {
            let name = match pid {
                Some(pid @ 1..) => format!("child {pid}"),
                Some(-1) => "any child".to_owned(),
                Some(0) => "a child of its own process group".to_owned(),
                Some(pid) => format!("a child of process group {}", pid.unsigned_abs()),
                None => "a child".to_owned(),
            };
            object("child", name.clone(), name)
        }
        Target::Thread(serial) => {
            let tid = model.tasks.iter().find(|task| task.serial == *serial)?.tid;
            object("thread", format!("thread {tid}"), format!("thread {tid}"))
        }
        Target::Sleep => object("sleep", "sleep".to_owned(), "sleep".to_owned()),
        Target::Given(at) => {
            let what = model.given.get(*at as usize)?;
            let (kind, name) = given(what);
            object(kind, name.clone(), name)
        }
        Target::PageFault(address) => {
            let name = format!("page {:#x}", address & !0xfff);
            object("page", name.clone(), name)
        }
    }
}

/// The kind and name of what a call was given.
pub(crate) fn given(what: &GivenWhat) -> (&'static str, String) {
    let key = |key: &Option<u32>| match key {
        None => String::new(),
        Some(0) => " (private)".to_owned(),
        Some(key) => format!(" (key {key:#x})"),
    };
    match what {
        GivenWhat::Path(path) => ("path", path.clone()),
        GivenWhat::Semaphores { id, key: of } => {
            ("semaphores", format!("semaphores {id}{}", key(of)))
        }
        GivenWhat::Messages { id, key: of } => {
            ("message queue", format!("message queue {id}{}", key(of)))
        }
        GivenWhat::Signals(mask) => ("signals", signals(*mask)),
        GivenWhat::Page(path) => ("mapping", format!("page of {path}")),
        GivenWhat::Set(_) => ("fds", "several descriptors".to_owned()),
    }
}

/// `signal TERM`, `signals INT, TERM`; of many, how many.
fn signals(mask: u64) -> String {
    const NAMED: usize = 6;
    /// include/uapi/asm-generic/signal.h, from 1 on.
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let name = |number: usize| match NAMES.get(number) {
        Some(name) => (*name).to_owned(),
        None => (number + 1).to_string(),
    };
    let numbers = (0..64).filter(|number| mask >> number & 1 == 1);
    let names: Vec<String> = numbers.map(name).collect();
    match &names[..] {
        [only] => format!("signal {only}"),
        few if few.len() <= NAMED => format!("signals {}", few.join(", ")),
        many => format!("any of {} signals", many.len()),
    }
}

/// A disk, by the device of the file system on it; 0: not known which.
pub(super) fn disk(device: u32) -> Object {
    let name = match device {
        0 => "the disk".to_owned(),
        device => format!("disk {}:{}", device >> 20, device & 0xf_ffff),
    };
    Object {
        kind: "disk".to_owned(),
        id: name.clone(),
        name,
    }
}

/// Ids of all that stands for a connection to somebody: of sockets that have another end, and of
/// sets with one of these to which nobody can connect.
pub(super) fn connections(model: &Model) -> HashSet<String> {
    let is_connection = |kind: &FileKind| match kind {
        // Without a path both ends can be its own, as an event loop has them.
        FileKind::UnixSocket { path, .. } => path.is_some(),
        FileKind::InetSocket {
            protocol, remote, ..
        } => !remote.is_empty() || protocol == "udp",
        _ => false,
    };
    let are = |kinds: &[&FileKind]| {
        let one = kinds.iter().any(|kind| is_connection(kind));
        one && !kinds.iter().any(|kind| kind.is_listening())
    };
    let of_files = model.files.iter().filter(|file| {
        let interests = file.interests.iter().flat_map(|interest| &interest.fds);
        let watched = interests.filter_map(|watched| watched.kind.as_ref());
        are(&file.kind.iter().chain(watched).collect::<Vec<_>>())
    });
    let of_sets = model.waitsets.iter().enumerate().filter(|(_, set)| {
        let kinds = set.fds.iter().filter_map(|waited| waited.kind.as_ref());
        are(&kinds.collect::<Vec<_>>())
    });
    of_files
        .map(|file| identity(file).to_string())
        .chain(of_sets.map(|(set, _)| format!("fds {set}")))
        .collect()
}

/// What two targets have in common that are the same thing to wait for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    File(Identity),
    Futex(FutexKey),
    Set(u32),
    Child(i64),
    Thread(u32),
    Given(u32),
}

/// The key of a target.
fn key(model: &Model, target: &Target) -> Option<Key> {
    Some(match target {
        // A descriptor's number, an address or “any child” is another thing in each
        // process.
        Target::Unknown | Target::Fd(_) | Target::Sleep | Target::PageFault(_) => return None,
        Target::Child(pid) => Key::Child((*pid).filter(|pid| *pid > 0)?),
        Target::Thread(serial) => Key::Thread(*serial),
        Target::File { file, .. } => Key::File(identity(model.files.get(*file as usize)?)),
        // Of several, the first one only is known.
        Target::Futex(futex) | Target::AnyFutex { first: futex, .. } => Key::Futex(*futex),
        // It is a sleep.
        Target::Fds(set) if model.waitsets.get(*set as usize)?.is_empty() => return None,
        Target::Fds(set) => Key::Set(*set),
        Target::Given(at) => Key::Given(*at),
    })
}

/// All that can be shared by those who wait for this target at this time: several
/// things, for a set of descriptors; for an epoll instance itself and what it watches.
pub(super) fn shareable(model: &Model, target: u32, at_ns: u64) -> Vec<(Key, Object)> {
    let Some(waited_for) = model.targets.get(target as usize) else {
        return Vec::new();
    };
    let one_of_several = |fd: i32, inode: u64, device: u32, kind: &FileKind| {
        if !has_own_inode(kind) {
            return None;
        }
        let (kind, name) = kind_name(kind, inode, fd);
        let identity = Identity::Inode(inode, device);
        let object = Object {
            kind: kind.to_owned(),
            id: identity.to_string(),
            name,
        };
        Some((Key::File(identity), object))
    };
    let several: Vec<_> = match waited_for {
        Target::Fds(set) => {
            let set = model.waitsets.get(*set as usize);
            let fds = set.iter().flat_map(|set| &set.fds);
            fds.filter_map(|waited| {
                let (inode, device) = waited.identity?;
                one_of_several(waited.fd.fd, inode, device, waited.kind.as_ref()?)
            })
            .collect()
        }
        Target::File { file, .. } => {
            let interests = model.files.get(*file as usize).map(|f| &f.interests[..]);
            let watched = watched_at(interests.unwrap_or_default(), at_ns);
            let watched = watched.iter().flat_map(|interest| &interest.fds);
            watched
                .filter_map(|w| one_of_several(w.fd.fd, w.inode, w.device, w.kind.as_ref()?))
                .collect()
        }
        _ => Vec::new(),
    };
    let itself = match key(model, waited_for) {
        // A set is nothing but its descriptors.
        None | Some(Key::Set(_)) => None,
        Some(key) => describe(model, target).map(|object| (key, object)),
    };
    itself.into_iter().chain(several).collect()
}

/// What an epoll instance watched at this time: the last reading before it, or the
/// first one after it.
fn watched_at(interests: &[Interest], at_ns: u64) -> Option<&Interest> {
    let until = interests.partition_point(|interest| interest.at_ns <= at_ns);
    interests.get(until.saturating_sub(1))
}

/// For each target one that stands for all that are the same thing; 0 where two
/// who wait for it need not wait for the same thing.
pub(super) fn representatives(model: &Model) -> Vec<u32> {
    let mut first: HashMap<Key, u32> = HashMap::new();
    let targets = model.targets.iter().enumerate();
    let targets = targets.map(|(at, target)| match key(model, target) {
        // One task's own.
        Some(Key::Set(_)) => at as u32,
        Some(key) => *first.entry(key).or_insert(at as u32),
        None => 0,
    });
    targets.collect()
}

/// When two open files are the same thing to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    /// The two ends of a pipe, or a file opened twice.
    Inode(u64, u32),
    /// Eventfds, epoll instances and their like share one inode.
    Open(u64),
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inode(inode, device) => {
                let (major, minor) = (device >> 20, device & 0xf_ffff);
                write!(f, "inode {inode} on {major}:{minor}")
            }
            Self::Open(address) => write!(f, "open file {address:#x}"),
        }
    }
}

/// When an open file is the same as another.
pub(super) fn identity(file: &File) -> Identity {
    let by_inode = match &file.kind {
        Some(kind) => has_own_inode(kind),
        // Some kernels show the inode that all nameless files share as regular.
        None => matches!(file.mode & S_IFMT, S_IFIFO | S_IFSOCK | S_IFDIR | S_IFBLK),
    };
    if by_inode {
        Identity::Inode(file.inode, file.device)
    } else {
        Identity::Open(file.file)
    }
}

/// Is what this is told by its inode?
pub(super) fn has_own_inode(kind: &FileKind) -> bool {
    matches!(
        kind,
        FileKind::File(_)
            | FileKind::Directory(_)
            | FileKind::Pipe
            | FileKind::Fifo(_)
            | FileKind::UnixSocket { .. }
            | FileKind::InetSocket { .. }
            | FileKind::OtherSocket(_)
            | FileKind::Terminal(_)
    )
}

/// Kind and name of a file that is waited for by this descriptor.
fn file_name(file: &File, fd: i32) -> (String, String) {
    if let Some(kind) = &file.kind {
        let (kind, mut name) = kind_name(kind, file.inode, fd);
        if let Some(interest) = file.interests.last() {
            let more = if interest.cut_off { "+" } else { "" };
            let watched = interest.fds.len();
            let fds = if watched == 1 { "fd" } else { "fds" };
            name = format!("{name} of {watched}{more} {fds}");
            let named = members(interest);
            if !named.is_empty() {
                let cut = if named.len() < watched || interest.cut_off {
                    ", …"
                } else {
                    ""
                };
                name = format!("{name}: {}{cut}", named.join(", "));
            }
        }
        return (kind.to_owned(), name);
    }
    let inode = file.inode;
    let (kind, name) = match file.mode & S_IFMT {
        S_IFIFO => ("pipe", format!("pipe {inode}")),
        S_IFSOCK => ("socket", format!("socket {inode}")),
        S_IFDIR => ("directory", format!("directory, inode {inode} (fd {fd})")),
        S_IFCHR | S_IFBLK => ("device", format!("device, inode {inode} (fd {fd})")),
        S_IFREG => ("file", format!("file, inode {inode} (fd {fd})")),
        _ => ("fd", format!("fd {fd}")),
    };
    (kind.to_owned(), name)
}

/// Names of some that an epoll instance watches: first what tells it from others, which is
/// where connections come in; then what has a name of its own.
fn members(interest: &Interest) -> Vec<String> {
    let known = interest.fds.iter().filter_map(|watched| {
        let kind = watched.kind.as_ref()?;
        let rank = match kind {
            _ if kind.is_listening() => 0,
            FileKind::InetSocket { .. } => 1,
            kind if has_own_inode(kind) => 2,
            _ => 3,
        };
        Some((
            rank,
            watched.fd.fd,
            kind_name(kind, watched.inode, watched.fd.fd).1,
        ))
    });
    let mut known: Vec<_> = known.collect();
    known.sort();
    let names = known.into_iter().map(|(.., name)| name);
    names.take(NAMED_FDS).collect()
}

/// Kind and name of a file, by what it is.
pub(crate) fn kind_name(kind: &FileKind, inode: u64, fd: i32) -> (&str, String) {
    let by_fd = |name: &'static str| (name, format!("{name} (fd {fd})"));
    match kind {
        FileKind::File(path) => ("file", path.clone()),
        FileKind::Directory(path) => ("directory", path.clone()),
        FileKind::Pipe => ("pipe", format!("pipe {inode}")),
        FileKind::Fifo(path) => ("fifo", path.clone()),
        FileKind::UnixSocket { path, peer, .. } => {
            let name = match (path, peer) {
                (Some(path), _) => format!("unix socket {path}"),
                (None, Some(peer)) => format!("unix socket {inode} ↔ {peer}"),
                (None, None) => format!("unix socket {inode}"),
            };
            ("unix socket", name)
        }
        FileKind::InetSocket {
            protocol,
            local,
            remote,
            listening,
        } => {
            let name = match (listening, remote.is_empty()) {
                (true, _) => format!("{protocol} {local}, listening"),
                (false, true) => format!("{protocol} {local}"),
                (false, false) => format!("{protocol} {local} ↔ {remote}"),
            };
            (protocol, name)
        }
        FileKind::OtherSocket(what) => ("socket", format!("socket {inode} ({what})")),
        FileKind::EventFd => by_fd("eventfd"),
        FileKind::TimerFd => by_fd("timerfd"),
        FileKind::SignalFd => by_fd("signalfd"),
        FileKind::PidFd(Some(pid)) => ("pidfd", format!("end of process {pid}")),
        FileKind::PidFd(None) => by_fd("pidfd"),
        FileKind::Notify => by_fd("inotify"),
        FileKind::Epoll => by_fd("epoll"),
        FileKind::IoUring => by_fd("io_uring"),
        FileKind::Terminal(path) => ("terminal", path.clone()),
        FileKind::Device(path) => ("device", path.clone()),
        FileKind::Other(what) => ("other", format!("{what} (fd {fd})")),
    }
}

/// `3 fds: pipe 17, tcp …, fd 9`.
fn set_name(set: &Waitset) -> String {
    let count = set.fds.len();
    let more = if set.cut_off { " or more" } else { "" };
    let noun = if count == 1 && !set.cut_off {
        "fd"
    } else {
        "fds"
    };
    if count == 0 {
        return format!("{count}{more} {noun}");
    }
    let named = set.fds.iter().take(NAMED_FDS).map(|waited| {
        let inode = waited.identity.map_or(0, |(inode, _)| inode);
        match &waited.kind {
            Some(kind) => kind_name(kind, inode, waited.fd.fd).1,
            None if waited.reopened => format!("fd {} (several files)", waited.fd.fd),
            None => format!("fd {}", waited.fd.fd),
        }
    });
    let mut names: Vec<String> = named.collect();
    if count == 1 && !set.cut_off {
        return names.remove(0);
    }
    if count > NAMED_FDS || set.cut_off {
        names.push("…".to_owned());
    }
    format!("{count}{more} {noun}: {}", names.join(", "))
}

fn futex(model: &Model, key: FutexKey) -> (String, String) {
    match key {
        FutexKey::Private { process, address } => (
            format!("futex {address:#x} of process {process}"),
            match model.lock_names.of(process, address) {
                Some(LockName { name, module, .. }) => format!("futex {name} (in {module})"),
                None => format!("futex {address:#x} (private)"),
            },
        ),
        FutexKey::Shared {
            device,
            inode,
            offset,
        } => (
            format!(
                "futex {offset:#x} in inode {inode} on {}:{}",
                device >> 20,
                device & 0xf_ffff
            ),
            format!("futex {offset:#x} in shared memory (inode {inode})"),
        ),
        FutexKey::Unresolved { process, address } => (
            format!("futex {address:#x} of process {process}, perhaps shared"),
            format!("futex {address:#x}"),
        ),
    }
}
