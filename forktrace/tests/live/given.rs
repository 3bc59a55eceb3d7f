//! What calls were given is told where no descriptor says what they wait for, and what each
//! process was executed with.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use forktrace_core::{
    trace::{Event, GivenWhat},
    trace_file,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    attach::{attach, attached, interrupt},
    support::{lacks, n, run},
};

/// What the trace tells so far, by tid.
fn told(trace: &[u8]) -> HashMap<u32, GivenWhat> {
    let mut tids: HashMap<u32, u32> = HashMap::new();
    let mut given = Vec::new();
    let read = trace_file::read(trace, |_, event| match event {
        Event::Born(born) => drop(tids.insert(born.serial, born.tid)),
        Event::Given(it) => given.push(it),
        _ => {}
    });
    if read.is_err() {
        return HashMap::new();
    }
    let given = given
        .into_iter()
        .filter_map(|it| Some((*tids.get(&it.serial)?, it.what)));
    given.collect()
}

/// Three children that wait until they are killed: for who writes to a FIFO, for a semaphore,
/// and for a message.
const WAITS: &str = r#"
import ctypes, json, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
os.chdir(sys.argv[1])
os.mkfifo("fifo")
key, IPC_RMID = 0x46000000 | os.getpid(), 0
sem = libc.semget(0, 1, 0o600)
queue = libc.msgget(key, 0o1600)
def child(wait):
    pid = os.fork()
    if pid == 0:
        libc.prctl(1, signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        wait()
        os._exit(0)
    return pid
def end(*_):
    libc.semctl(sem, 0, IPC_RMID)
    libc.msgctl(queue, IPC_RMID, None)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
take = (ctypes.c_short * 3)(0, -1, 0)
text = ctypes.create_string_buffer(64)
children = [
    child(lambda: os.open("fifo", os.O_RDONLY)),
    child(lambda: libc.semop(sem, take, 1)),
    child(lambda: libc.msgrcv(queue, text, 8, 0, 0)),
]
print(json.dumps({"children": children, "sem": sem, "queue": queue, "key": key}), flush=True)
while True: signal.pause()
"#;

#[test]
fn paths_and_numbers_of_system_v_are_told_while_they_are_waited_for() {
    if lacks(
        "paths_and_numbers_of_system_v_are_told_while_they_are_waited_for",
        &["python3"],
    ) {
        return;
    }
    let run = run();
    let (trace, folder) = (run.file("trace"), run.folder().to_owned());
    // Others than root are to write there.
    let waits = folder.join("waits");
    fs::create_dir(&waits).expect("a folder");
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(&waits, all).expect("it is ours");
    let mut running = run
        .json()
        .args(["--save"])
        .args([&trace])
        .args(["--", "python3", "-c", WAITS])
        .args([&waits])
        .start();
    let truth: Value = serde_json::from_str(&running.line(1)).expect("JSON");
    let [open, take, receive] = [0, 1, 2].map(|at| n(&truth["children"][at]) as u32);
    let path = fs::canonicalize(&waits).expect("a folder").join("fifo");
    let path = path.to_str().expect("a path").to_owned();
    let expected = HashMap::from([
        (open, GivenWhat::Path(path.clone())),
        (
            take,
            GivenWhat::Semaphores {
                id: n(&truth["sem"]) as i32,
                key: Some(0),
            },
        ),
        (
            receive,
            GivenWhat::Messages {
                id: n(&truth["queue"]) as i32,
                key: Some(n(&truth["key"]) as u32),
            },
        ),
    ]);
    let begun = Instant::now();
    loop {
        let told = told(&fs::read(&trace).unwrap_or_default());
        if told == expected {
            break;
        }
        let is_late = begun.elapsed() > Duration::from_secs(200);
        assert!(!is_late, "{told:#?}\n{}", running.stderr());
        std::thread::sleep(Duration::from_millis(100));
    }
    kill(Pid::from_raw(running.pid() as i32), Signal::SIGTERM).expect("forktrace runs");
    let finished = running.finish();
    let of = |tid: u32| format!("{:?}", finished.report().task(tid).waits);
    assert!(of(open).contains(&path), "{}", of(open));
    let semaphores = format!("semaphores {} (private)", n(&truth["sem"]));
    assert!(of(take).contains(&semaphores), "{}", of(take));
    let (queue, key) = (n(&truth["queue"]), n(&truth["key"]));
    let queue = format!("message queue {queue} (key {key:#x})");
    assert!(of(receive).contains(&queue), "{}", of(receive));
}

/// Two processes that wait until they are killed, in calls that the kernel programs did not see
/// begin.
const POLLS: &str = r#"
import json, os, select, socket
fds = [*os.pipe(), *(end.detach() for end in socket.socketpair())]
pid = os.fork()
if pid:
    print(json.dumps({"pids": [os.getpid(), pid], "inodes": [os.fstat(fd).st_ino for fd in fds]}), flush=True)
    select.select([fds[0]], [], [])
else:
    poll = select.poll()
    poll.register(fds[2], select.POLLIN)
    poll.poll(1_000_000)
"#;

#[test]
fn the_descriptors_of_calls_that_were_there_before_are_told() {
    if lacks(
        "the_descriptors_of_calls_that_were_there_before_are_told",
        &["python3"],
    ) {
        return;
    }
    let mut target = Command::new("python3")
        .args(["-c", POLLS])
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let mut line = String::new();
    BufReader::new(target.stdout.take().expect("a pipe"))
        .read_line(&mut line)
        .expect("a line");
    let truth: Value = serde_json::from_str(&line).expect("JSON");
    let [waits, polls] = [0, 1].map(|at| n(&truth["pids"][at]) as u32);
    let arch = forktrace_core::trace::Arch::of_this_machine().expect("one that we know");
    for (pid, calls) in [(waits, ["select", "pselect6"]), (polls, ["poll", "ppoll"])] {
        let is_there = || {
            let call = fs::read_to_string(format!("/proc/{pid}/syscall")).expect("it lives");
            let number = call.split(' ').next().and_then(|word| word.parse().ok());
            let name = number.and_then(|number| arch.syscall_name(number));
            name.is_some_and(|name| calls.contains(&name))
        };
        while !is_there() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let run = attach(["-p", &waits.to_string(), "-p", &polls.to_string()]);
    let trace = run.file("trace");
    let running = attached(run.args(["--save"]).args([&trace]));
    let begun = Instant::now();
    loop {
        let mut named = 0;
        let data = fs::read(&trace).unwrap_or_default();
        let read = trace_file::read(&data, |_, event| {
            named += u32::from(matches!(event, Event::Named(_)));
        });
        if read.is_ok() && named == 2 {
            break;
        }
        let is_late = begun.elapsed() > Duration::from_secs(200);
        assert!(!is_late, "{named}\n{}", running.stderr());
        std::thread::sleep(Duration::from_millis(100));
    }
    let finished = interrupt(running);
    for pid in [polls, waits] {
        kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("it lives");
    }
    target.wait().expect("it has ended");
    let of = |tid: u32| format!("{:?}", finished.report().task(tid).waits);
    for (tid, kind, inode) in [(waits, "pipe", 0), (polls, "unix socket", 2)] {
        let name = format!("{kind} {}", n(&truth["inodes"][inode]));
        assert!(of(tid).contains(&name), "{name}: {}", of(tid));
    }
}

/// They are over before anybody can ask them.
#[test]
fn processes_of_one_name_are_told_apart_by_what_they_were_executed_with() {
    let script = "for i in 1 2 3; do sleep 0.00$i & done; wait; sleep 0.004; :";
    let finished = run().shell(script).finish();
    let tasks = finished.report().tasks.iter();
    let mut told: Vec<Vec<String>> = tasks
        .filter(|task| task.name == "sleep")
        .map(|task| task.argv.clone())
        .collect();
    told.sort_unstable();
    let expected = [1, 2, 3, 4].map(|i| vec!["sleep".to_owned(), format!("0.00{i}")]);
    assert_eq!(told, expected);
}
