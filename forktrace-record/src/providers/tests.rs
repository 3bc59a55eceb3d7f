//! On real waits: this process's threads and children are the workload.

use std::{
    fs,
    io::Read as _,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::{
    examine::examine,
    world::{Member, Scene, Sleeper, Who},
};
use crate::{
    procfs::{self, Call},
    trace::{Arch, ProviderKind, Providers},
};

fn tids(tgid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{tgid}/task")).expect("it lives");
    let names = tasks.flatten().map(|entry| entry.file_name());
    names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect()
}

/// These processes are the workload. A task's serial is its tid.
fn scene(processes: &[u32], sleeper: u32, tgid: u32) -> Scene {
    let call = Call::of(tgid, sleeper).expect("it sleeps");
    let members = processes.iter().flat_map(|process| {
        let first = procfs::parent(*process).unwrap_or(0);
        tids(*process).into_iter().map(move |tid| Member {
            serial: tid,
            parent: first,
            tgid: *process,
            tid,
            vforked: true,
        })
    });
    Scene {
        arch: Arch::of_this_machine().expect("one that we know"),
        members: members.collect(),
        sleepers: vec![Sleeper {
            serial: sleeper,
            seq: 7,
            syscall: call.number as i16,
            arg0: call.arguments[0],
            traced: false,
            nameless: true,
            timed: false,
        }],
    }
}

/// Waits until a task sleeps in this call, and for good.
fn asleep(tgid: u32, tid: u32, names: &[&str]) {
    let arch = Arch::of_this_machine().expect("one that we know");
    loop {
        if let Some(call) = Call::of(tgid, tid)
            && let Some(name) = arch.syscall_name(call.number as i32)
            && names.contains(&name)
            // Python waits for its own lock with a timeout.
            && (name != "futex" || call.arguments[3] == 0)
        {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn one(processes: &[u32], sleeper: u32, tgid: u32) -> Option<Providers> {
    let answer = examine(&scene(processes, sleeper, tgid));
    assert_eq!(answer.examined, 1);
    assert!(answer.providers.len() <= 1);
    let found = answer.providers.into_iter().next()?;
    assert_eq!((found.serial, found.seq), (sleeper, 7));
    Some(found)
}

fn python(program: &str) -> Killed {
    let child = Command::new("python3")
        .args(["-c", program])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    Killed(child.expect("python3 is there"))
}

struct Killed(Child);

impl Killed {
    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Numbers of a line that it prints.
    fn line(&mut self) -> Vec<u32> {
        use std::io::BufRead as _;
        let mut line = String::new();
        let out = self.0.stdout.as_mut().expect("a pipe");
        std::io::BufReader::new(out)
            .read_line(&mut line)
            .expect("a line");
        line.split_whitespace()
            .map(|n| n.parse().expect("a number"))
            .collect()
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the thread does, by its tid; it is left behind.
fn sleeping(names: &[&str], wait: impl FnOnce() + Send + 'static) -> u32 {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        send.send(nix::unistd::gettid().as_raw() as u32)
            .expect("heard");
        wait();
    });
    let tid = receive.recv().expect("it began");
    asleep(std::process::id(), tid, names);
    tid
}

fn found(kind: ProviderKind, who: Who) -> Option<(ProviderKind, Vec<u32>, bool, Option<u32>)> {
    Some((kind, who.tasks, who.outside, who.foreign))
}

fn told(found: Option<Providers>) -> Option<(ProviderKind, Vec<u32>, bool, Option<u32>)> {
    found.map(|p| (p.kind, p.tasks, p.outside, p.foreign))
}

#[test]
fn a_thread_that_is_joined_ends_the_wait() {
    let me = std::process::id();
    let (keep, wait) = mpsc::channel::<()>();
    let (send, receive) = mpsc::channel();
    let joined = thread::spawn(move || {
        send.send(nix::unistd::gettid().as_raw() as u32)
            .expect("heard");
        let _ = wait.recv();
    });
    let tid = receive.recv().expect("it began");
    let sleeper = sleeping(&["futex"], move || joined.join().expect("it ends"));
    let who = Who::tasks(vec![tid]);
    assert_eq!(
        told(one(&[me], sleeper, me)),
        found(ProviderKind::Joined, who)
    );
    drop(keep);
}

const MUTEX: &str = r"
import ctypes, os, sys, threading, time
c = ctypes.CDLL(None)
m, a = ctypes.create_string_buffer(64), ctypes.create_string_buffer(64)
kind, robust, pi, fork, dead = map(int, '@'.split())
if pi or robust or kind:
    c.pthread_mutexattr_init(a)
    c.pthread_mutexattr_settype(a, kind)
    if robust: c.pthread_mutexattr_setrobust(a, 1)
    if pi: c.pthread_mutexattr_setprotocol(a, 1)
    c.pthread_mutex_init(m, a)
def hold():
    c.pthread_mutex_lock(m)
    held.append(threading.get_native_id())
    if not dead: time.sleep(1000)
held = []
t = threading.Thread(target=hold, daemon=True); t.start()
while not held: time.sleep(0.001)
if dead: t.join()
def child():
    print(os.getpid(), held[0], flush=True)
    c.pthread_mutex_lock(m)
if fork:
    p = os.fork()
    if not p: child()
    os.waitpid(p, 0)
else: child()
";

fn mutex(kind: u32, robust: bool, pi: bool, fork: bool, dead: bool) -> Option<Providers> {
    let flags = [robust, pi, fork, dead].map(|flag| u32::from(flag).to_string());
    let how = format!("{kind} {}", flags.join(" "));
    let mut program = python(&MUTEX.replace('@', &how));
    let line = program.line();
    let (waiter, owner) = (line[0], line[1]);
    asleep(waiter, waiter, &["futex"]);
    let all = if fork {
        vec![program.pid(), waiter]
    } else {
        vec![waiter]
    };
    let told = one(&all, waiter, waiter)?;
    assert_eq!(told.kind, ProviderKind::Owner);
    assert!(!told.outside);
    if fork {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(waiter as i32),
            nix::sys::signal::SIGKILL,
        )
        .expect("it lives");
    }
    // As the test wants it: the owner is a task, or it is foreign.
    match told.foreign {
        Some(foreign) => assert_eq!((foreign, &*told.tasks), (owner, &[][..])),
        None => assert_eq!(told.tasks, [owner]),
    }
    Some(told)
}

#[test]
fn the_owner_of_each_kind_of_mutex_is_named() {
    // Normal, recursive, error-checking.
    for kind in 0..3 {
        for (robust, pi) in [(false, false), (true, false), (false, true)] {
            let told = mutex(kind, robust, pi, false, false);
            let told = told.unwrap_or_else(|| panic!("{kind} {robust} {pi}"));
            assert_eq!(told.foreign, None, "{kind} {robust} {pi}");
        }
    }
}

#[test]
fn a_mutex_that_was_copied_locked_or_whose_owner_is_dead_has_a_foreign_owner() {
    let told = mutex(0, false, false, true, false).expect("it is known");
    assert!(told.foreign.is_some());
    let told = mutex(0, false, false, false, true).expect("it is known");
    assert!(told.foreign.is_some());
}

#[test]
fn the_other_end_of_a_pipe_is_with_those_who_have_it() {
    let mut program = python(
        "import os, subprocess\n\
         p = subprocess.Popen(['cat', '/dev/zero'], stdout=subprocess.PIPE)\n\
         print(p.pid, flush=True)\n\
         p.wait()",
    );
    let cat = program.line()[0];
    asleep(cat, cat, &["write"]);
    asleep(program.pid(), program.pid(), &["wait4", "waitid"]);
    let all = [program.pid(), cat];
    let who = Who::tasks(vec![program.pid()]);
    assert_eq!(
        told(one(&all, cat, cat)),
        found(ProviderKind::OtherEnd, who)
    );
    let who = Who::tasks(vec![cat]);
    let of_python = one(&all, program.pid(), program.pid());
    assert_eq!(told(of_python), found(ProviderKind::Child, who));
    // Of python alone nothing is traced: cat is outside.
    let of_python = one(&[program.pid()], program.pid(), program.pid());
    assert_eq!(told(of_python), found(ProviderKind::Child, Who::outside()));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(cat as i32),
        nix::sys::signal::SIGKILL,
    )
    .expect("it lives");
}

#[test]
fn the_other_ends_of_sockets_are_with_those_who_have_them() {
    for (make, outside) in [
        ("a, b = socket.socketpair()", false),
        (
            "l = socket.create_server(('127.0.0.1', 0))\n\
             a = socket.create_connection(l.getsockname()); b, _ = l.accept()",
            false,
        ),
    ] {
        let mut program = python(&format!(
            "import os, socket\n{make}\n\
             p = os.fork()\n\
             if not p:\n    a.close(); print(os.getpid(), flush=True); b.recv(1)\n\
             b.close(); os.waitpid(p, 0)"
        ));
        let child = program.line()[0];
        asleep(child, child, &["recvfrom"]);
        asleep(program.pid(), program.pid(), &["wait4"]);
        let who = Who {
            outside,
            ..Who::tasks(vec![program.pid()])
        };
        let all = [program.pid(), child];
        assert_eq!(
            told(one(&all, child, child)),
            found(ProviderKind::OtherEnd, who),
            "{make}"
        );
        let alone = one(&[child], child, child);
        assert_eq!(
            told(alone),
            found(ProviderKind::OtherEnd, Who::outside()),
            "{make}"
        );
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(child as i32),
            nix::sys::signal::SIGKILL,
        )
        .expect("it lives");
    }
}

#[test]
fn a_counter_is_shared_by_those_who_have_it() {
    let mut program = python(
        "import os\n\
         e, other = os.eventfd(0), os.eventfd(0)\n\
         p = os.fork()\n\
         if not p:\n    os.close(other); print(os.getpid(), flush=True); os.eventfd_read(e)\n\
         os.close(e)\n\
         os.waitpid(p, 0)",
    );
    let child = program.line()[0];
    asleep(child, child, &["read"]);
    // It alone has it: nobody is left.
    asleep(program.pid(), program.pid(), &["wait4"]);
    let told_of = told(one(&[program.pid(), child], child, child));
    assert_eq!(told_of, found(ProviderKind::Shares, Who::default()));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child as i32),
        nix::sys::signal::SIGKILL,
    )
    .expect("it lives");
}

#[test]
fn a_file_lock_is_with_those_who_have_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("lock");
    let path = path.to_str().expect("a path");
    for (lock, call) in [("fcntl.flock", "flock"), ("fcntl.lockf", "fcntl")] {
        let mut program = python(&format!(
            "import fcntl, os\n\
             f = open('{path}', 'w'); {lock}(f, fcntl.LOCK_EX)\n\
             p = os.fork()\n\
             if not p:\n    f.close(); g = open('{path}', 'w'); print(os.getpid(), flush=True)\n    \
             {lock}(g, fcntl.LOCK_EX)\n\
             os.waitpid(p, 0)"
        ));
        let child = program.line()[0];
        asleep(child, child, &[call]);
        let who = Who::tasks(vec![program.pid()]);
        let told_of = told(one(&[program.pid(), child], child, child));
        assert_eq!(told_of, found(ProviderKind::FileLock, who), "{lock}");
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(child as i32),
            nix::sys::signal::SIGKILL,
        )
        .expect("it lives");
    }
}

#[test]
fn a_set_waits_for_all_that_could_make_it_ready() {
    for wait in [
        "p = select.poll(); p.register(r, select.POLLIN); p.register(s, select.POLLIN); p.poll()",
        "select.select([r, s], [], [])",
        "p = select.epoll(); p.register(r, select.EPOLLIN); p.register(s, select.EPOLLIN); p.poll()",
    ] {
        let mut program = python(&format!(
            "import os, select, socket\n\
             r, w = os.pipe(); s, t = socket.socketpair()\n\
             p = os.fork()\n\
             if not p:\n    os.close(w); t.close(); print(os.getpid(), flush=True)\n    {wait}\n\
             os.waitpid(p, 0)"
        ));
        let child = program.line()[0];
        asleep(
            child,
            child,
            &["poll", "ppoll", "select", "pselect6", "epoll_wait"],
        );
        let who = Who::tasks(vec![program.pid()]);
        let told_of = told(one(&[program.pid(), child], child, child));
        assert_eq!(told_of, found(ProviderKind::OtherEnd, who), "{wait}");
        // The descriptors of epoll are its own.
        let sets = examine(&scene(&[program.pid(), child], child, child)).sets;
        let fds = sets.iter().flat_map(|set| &set.fds);
        let fds: Vec<(i32, u16)> = fds.map(|it| (it.fd, it.events)).collect();
        match wait.contains("epoll") {
            true => assert_eq!(fds, []),
            false => assert_eq!(fds, [(3, 1), (5, 1)], "{wait}"),
        }
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(child as i32),
            nix::sys::signal::SIGKILL,
        )
        .expect("it lives");
    }
}

#[test]
fn a_thread_that_nobody_writes_to_has_nobody() {
    let me = std::process::id();
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let sleeper = sleeping(&["read"], move || drop(reader.read(&mut [0])));
    let told_of = one(&[me], sleeper, me).expect("it is known");
    // Our other threads have the other end too.
    assert_eq!(told_of.kind, ProviderKind::OtherEnd);
    assert!(!told_of.tasks.contains(&sleeper) && told_of.tasks.contains(&me));
    drop(writer);
}
