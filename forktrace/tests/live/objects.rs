//! What tasks wait for: each thing by what it is, and one thing as one.

use std::{collections::BTreeMap, fs};

use forktrace_core::{
    model::{Builder, File, FutexKey, Model, Target, Waitset},
    trace::FileKind,
    trace_file,
};
use serde_json::Value;

use crate::support::{Finished, lacks, list, n, run, unspoilt};

/// What the workload says of itself, and the model of its trace.
struct Traced {
    model: Model,
    lines: Vec<Value>,
}

/// Children that each wait for one thing, most of them until they are killed.
fn trace() -> Traced {
    let run = run();
    let (trace, script) = (run.file("trace"), run.file("objects.py"));
    fs::write(&script, include_str!("objects.py")).expect("a script");
    let finished: Finished = run
        .json()
        .args(["--save"])
        .args([&trace])
        .args(["--", "python3"])
        .args([&script])
        .complete();
    let data = fs::read(trace).expect("the trace");
    let mut builder: Option<Builder> = None;
    let info = trace_file::read(&data, |header, event| {
        let new = || Builder::new(header.start_ns, header.arch);
        builder.get_or_insert_with(new).push(event);
    })
    .expect("a trace");
    let finish = info.finish.expect("an end");
    Traced {
        model: builder.expect("events").build(finish.end_ns),
        lines: finished.truths(),
    }
}

impl Traced {
    fn truth(&self) -> &Value {
        self.lines.last().expect("a line")
    }

    #[track_caller]
    fn fact(&self, what: &str) -> &str {
        let fact = self.truth()["facts"][what].as_str();
        fact.unwrap_or_else(|| panic!("no fact {what}"))
    }

    #[track_caller]
    fn number(&self, what: &str) -> u64 {
        n(&self.truth()["facts"][what])
    }

    fn fds(&self, what: &str) -> Vec<i32> {
        let fds = list(&self.truth()["facts"][what]);
        fds.iter().map(|fd| n(fd) as i32).collect()
    }

    fn tid(&self, child: &str) -> u32 {
        n(&self.truth()["children"][child]) as u32
    }

    /// What a child waited for longest.
    #[track_caller]
    fn target(&self, child: &str) -> &Target {
        let tid = self.tid(child);
        let task = self.model.tasks.iter().find(|task| task.tid == tid);
        let task = task.unwrap_or_else(|| panic!("no task {tid}"));
        let known = task.stretches.iter().filter(|off| {
            let target = &self.model.targets[off.target as usize];
            !matches!(
                target,
                Target::Unknown | Target::Sleep | Target::PageFault(_)
            )
        });
        let longest = known.max_by_key(|off| off.wake_ns - off.out_ns);
        let longest = longest.unwrap_or_else(|| panic!("{child} waited for nothing: {task:?}"));
        &self.model.targets[longest.target as usize]
    }

    #[track_caller]
    fn file(&self, child: &str) -> &File {
        match self.target(child) {
            Target::File { file, .. } => &self.model.files[*file as usize],
            other => panic!("{child} waited for {other:?}"),
        }
    }

    #[track_caller]
    fn kind(&self, child: &str) -> &FileKind {
        let file = self.file(child);
        let kind = file.kind.as_ref();
        kind.unwrap_or_else(|| panic!("the file of {child} has no name: {file:?}"))
    }

    #[track_caller]
    fn waitset(&self, child: &str) -> &Waitset {
        match self.target(child) {
            Target::Fds(set) => &self.model.waitsets[*set as usize],
            other => panic!("{child} waited for {other:?}"),
        }
    }

    #[track_caller]
    fn futex(&self, child: &str) -> FutexKey {
        match self.target(child) {
            Target::Futex(key) => *key,
            other => panic!("{child} waited for {other:?}"),
        }
    }
}

fn inet(protocol: &str, local: &str, remote: &str, listening: bool) -> FileKind {
    FileKind::InetSocket {
        protocol: protocol.to_owned(),
        local: local.to_owned(),
        remote: remote.to_owned(),
        listening,
    }
}

#[test]
fn what_is_waited_for_is_named_and_told_apart() {
    unspoilt(|| {
        if lacks("what_is_waited_for_is_named_and_told_apart", &["python3"]) {
            return;
        }
        let traced = trace();
        pipes(&traced);
        sockets(&traced);
        others(&traced);
        sets(&traced);
        futexes(&traced);
    });
}

fn pipes(traced: &Traced) {
    let (one, two) = (traced.file("pipe_a_1"), traced.file("pipe_a_2"));
    assert_eq!(one, two, "one pipe, shared across fork");
    let high = traced.file("pipe_a_3");
    assert_eq!(one, high, "the same by a number that a small table has not");
    let other = traced.file("pipe_b");
    assert_ne!((one.file, one.inode), (other.file, other.inode));
    assert_eq!(one.inode, traced.number("pipe_a"));
    assert_eq!(other.inode, traced.number("pipe_b"));
    assert_eq!(*traced.kind("pipe_a_1"), FileKind::Pipe);
    assert_eq!(*traced.kind("pipe_b"), FileKind::Pipe);
}

fn sockets(traced: &Traced) {
    let listening = traced.fact("listening");
    assert_eq!(
        *traced.kind("tcp_listener"),
        inet("tcp", listening, "", true)
    );
    let (local, remote) = (traced.fact("local"), traced.fact("remote"));
    assert_eq!(*traced.kind("tcp"), inet("tcp", local, remote, false));
    let udp = traced.fact("udp");
    assert_eq!(*traced.kind("udp"), inet("udp", udp, "", false));
    let door = FileKind::UnixSocket {
        path: Some(traced.fact("unix").to_owned()),
        peer: None,
        listening: true,
    };
    assert_eq!(*traced.kind("unix_listener"), door);
    match traced.kind("unix") {
        FileKind::UnixSocket {
            path: None,
            peer,
            listening: false,
        } => {
            // A kernel without unix_diag does not tell.
            assert!(peer.is_none_or(|peer| peer == traced.number("peer")));
        }
        other => panic!("{other:?}"),
    }
}

fn others(traced: &Traced) {
    assert_eq!(*traced.kind("eventfd"), FileKind::EventFd);
    assert_eq!(*traced.kind("timerfd"), FileKind::TimerFd);
    assert_ne!(traced.file("eventfd"), traced.file("timerfd"));
    let path = traced.fact("file").to_owned();
    assert_eq!(*traced.kind("file"), FileKind::File(path));
    match traced.kind("closed") {
        FileKind::File(path) => assert!(path.ends_with("/closed"), "{path}"),
        other => panic!("{other:?}"),
    }
}

fn sets(traced: &Traced) {
    assert_eq!(*traced.kind("epoll"), FileKind::Epoll);
    let interests = &traced.file("epoll").interests;
    let [interest] = &interests[..] else {
        panic!("it never changed: {interests:?}");
    };
    assert!(!interest.cut_off);
    let watched: BTreeMap<i32, _> = interest.fds.iter().map(|w| (w.fd.fd, w)).collect();
    let fds = traced.fds("epoll");
    assert_eq!(watched.keys().copied().collect::<Vec<_>>(), fds);
    let (pipe, event) = (watched[&fds[0]], watched[&fds[1]]);
    assert_eq!(pipe.inode, traced.number("pipe_a"));
    assert_eq!(pipe.device, traced.file("pipe_a_1").device);
    assert_eq!(pipe.kind, Some(FileKind::Pipe));
    assert_eq!(event.kind, Some(FileKind::EventFd));

    let set = traced.waitset("poll");
    assert!(!set.cut_off);
    let mut fds: Vec<i32> = set.fds.iter().map(|waited| waited.fd.fd).collect();
    fds.sort_unstable();
    assert_eq!(fds, traced.fds("poll"));
    let listening = inet("tcp", traced.fact("listening"), "", true);
    for waited in &set.fds {
        match &waited.kind {
            Some(FileKind::Pipe) => {
                let file = traced.file("pipe_b");
                assert_eq!(waited.identity, Some((file.inode, file.device)));
            }
            kind => assert_eq!(*kind, Some(listening.clone())),
        }
    }
}

fn futexes(traced: &Traced) {
    let addresses = traced.lines.iter().filter(|line| !line["futex"].is_null());
    let addresses: BTreeMap<u32, u64> = addresses
        .map(|line| (n(&line["futex"]) as u32, n(&line["address"])))
        .collect();
    let address = |child| addresses[&traced.tid(child)];
    assert_ne!(
        address("shared_1"),
        address("shared_2"),
        "meant to be mapped at two addresses"
    );
    let shared = traced.futex("shared_1");
    match shared {
        FutexKey::Shared { inode, offset, .. } => {
            assert_eq!((inode, offset), (traced.number("shared"), 4096 + 8));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(traced.futex("shared_2"), shared);
    assert_eq!(traced.futex("shared_one_of_one"), shared);
    if traced.number("new_futex_wait") == 1 {
        assert_eq!(traced.futex("shared_new"), shared);
    }
    assert_ne!(traced.futex("shared_other"), shared);
    let (one, two) = (traced.futex("private_1"), traced.futex("private_2"));
    assert_ne!(one, two, "private memory, at the same address");
    for key in [one, two] {
        let FutexKey::Private { address, .. } = key else {
            panic!("{key:?}");
        };
        assert_eq!(address, traced.number("private"));
    }
    match traced.target("private_any_of_three") {
        Target::AnyFutex {
            first: FutexKey::Private { address, .. },
            count: 3,
        } => assert_eq!(*address, traced.number("private")),
        other => panic!("{other:?}"),
    }
}
