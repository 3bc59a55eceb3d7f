//! What one attaches to can have a name that is no text, or that a terminal would obey, or have
//! lost its first thread.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::fs::symlink,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::wait::{Id, WaitPidFlag, waitid},
    unistd::Pid,
};

use crate::support::{Finished, Forktrace, check_recorded, lacks, unspoilt};

/// A process that sleeps under a name, ended on drop. The kernel cuts a name at 15 bytes.
struct Sleeper(Child);

impl Sleeper {
    fn called(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join(name);
        symlink("/bin/sleep", &program).expect("a link");
        let child = Command::new(&program).arg("1000").spawn();
        let child = child.expect("it starts");
        // A new program has its memory a moment before it has its name.
        let comm = format!("/proc/{}/comm", child.id());
        let first = &name.as_bytes()[..1];
        while !std::fs::read(&comm).expect("it lives").starts_with(first) {
            std::thread::yield_now();
        }
        Self(child)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }

    /// It has ended, and nobody has taken note of that.
    fn die(&mut self) {
        self.0.kill().expect("it is ours");
        let only_look = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        let pid = Id::Pid(Pid::from_raw(self.0.id() as i32));
        waitid(pid, only_look).expect("it is ours");
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn attach(arguments: &[&str]) -> Finished {
    let forktrace = Forktrace::new("attach").json().args(["--for", "100ms"]);
    forktrace.args(arguments).finish()
}

/// 15 bytes are one of two and four of three, and a part of the next.
#[test]
fn a_name_that_is_cut_amid_a_character_is_found_and_shown() {
    unspoilt(|| {
        let sleeper = Sleeper::called("é名前名前名");
        let pid = sleeper.0.id();
        let raw = std::fs::read(format!("/proc/{pid}/comm")).expect("it lives");
        assert!(String::from_utf8(raw).is_err());
        for by in [["-p", &sleeper.pid()], ["-n", "é名前*"]] {
            let finished = attach(&by);
            assert!(finished.status.success(), "{by:?}: {}", finished.stderr);
            check_recorded(finished.report(), &["cut_short"]);
            let name = &finished.report().task(pid).name;
            assert!(name.starts_with("é名前名前"), "{name}");
        }
    });
}

#[test]
fn a_name_in_an_error_does_not_act_on_the_terminal() {
    let mut sleeper = Sleeper::called("\u{1b}[31ma\nb\u{7}\u{202e}");
    sleeper.die();
    let finished = attach(&["-p", &sleeper.pid()]);
    assert_eq!(finished.status.code(), Some(125));
    let stderr = finished.stderr.strip_suffix('\n').expect("a line");
    assert!(stderr.contains("has ended already"), "{stderr}");
    assert!(
        !stderr.contains(|c: char| c.is_control() || c == '\u{202e}'),
        "{stderr}"
    );
}

/// A process whose first thread has ended looks like one that has ended altogether.
#[test]
fn a_process_without_its_first_thread_is_one() {
    if lacks("a_process_without_its_first_thread_is_one", &["python3"]) {
        return;
    }
    unspoilt(|| {
        // The other thread speaks when the first one is gone.
        let script = "import ctypes, os, threading, time
def rest():
    while open(f'/proc/self/stat').read().split()[2] != 'Z':
        time.sleep(0.001)
    print(threading.get_native_id(), flush=True)
    time.sleep(1000)
threading.Thread(target=rest).start()
ctypes.CDLL(None).syscall({'x86_64': 60}.get(os.uname().machine, 93), 0)";
        let mut command = Command::new("python3");
        let command = command.args(["-c", script, "without-its-first"]);
        let child = command.stdout(Stdio::piped()).spawn();
        let mut process = Sleeper(child.expect("python3 starts"));
        let stdout = process.0.stdout.take().expect("it has one");
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        read.expect("it writes");
        let tid = line.trim().parse().expect("a tid");
        for by in [["-p", &process.pid()], ["-n", "*without-its-first"]] {
            let finished = attach(&by);
            assert!(finished.status.success(), "{by:?}: {}", finished.stderr);
            check_recorded(finished.report(), &["cut_short"]);
            assert_eq!(finished.report().task(tid).pid, process.0.id());
        }
    });
}

/// A server whose workers do the work looks idle by its first process alone.
#[test]
fn the_children_that_are_not_followed_are_named() {
    unspoilt(|| {
        let mut command = Command::new("sh");
        let command = command.args(["-c", "sleep 1000 & echo $!; wait"]);
        let child = command.stdout(Stdio::piped()).spawn();
        let mut shell = Sleeper(child.expect("sh starts"));
        let stdout = shell.0.stdout.take().expect("it has one");
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        read.expect("it writes");
        let sleep = Sleeping(line.trim().parse().expect("a pid"));
        let named = format!("(pid {}); more `-p`, or `-n NAME`, take it in.", sleep.0);
        let alone = attach(&["-p", &shell.pid()]);
        assert!(alone.stderr.contains(&named), "{}", alone.stderr);
        let both = attach(&["-p", &shell.pid(), "-p", line.trim()]);
        assert!(!both.stderr.contains("not followed"), "{}", both.stderr);
    });
}

/// Somebody else's child, which ends with the test.
struct Sleeping(i32);

impl Drop for Sleeping {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.0),
            nix::sys::signal::Signal::SIGKILL,
        );
    }
}
