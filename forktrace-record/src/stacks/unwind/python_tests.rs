//! What interpreters execute, of each version that there is on this machine.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use super::*;

/// A thread in a method, and main, each in a line of its own, with many modules of which most are in a
/// library each. Prints the thread's tid.
const PROGRAM: &str = "\
import array, binascii, cmath, csv, datetime, decimal, fcntl, grp, hashlib, heapq, json, math, mmap, pickle, queue, random, resource, select, socket, statistics, struct, sys, syslog, termios, threading, unicodedata, zlib
lock = threading.Lock()
lock.acquire()

class Zähler:
    def hole(self):
        # Lines without code.

        lock.acquire(); print('x')

def fetch():
    thread = threading.Thread(target=Zähler().hole, daemon=True)
    thread.start()
    print(thread.native_id, flush=True)
    sys.stdin.read()

fetch()
";

/// Debian's own, and those of pyenv.
fn interpreters() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let versions = home.map(|home| home.join(".pyenv/versions"));
    let versions = versions.and_then(|folder| fs::read_dir(folder).ok());
    let versions = versions.into_iter().flatten().flatten();
    let pyenv = versions.map(|version| version.path().join("bin/python3"));
    let all = [PathBuf::from("/usr/bin/python3")].into_iter().chain(pyenv);
    all.filter(|path| path.exists()).collect()
}

/// From 3.8 on, with the interpreter's lock.
fn is_known(interpreter: &PathBuf) -> bool {
    let ask = "import sys, sysconfig; sys.exit(not (sys.implementation.name == 'cpython' and \
               (3, 8) <= sys.version_info[:2] <= (3, 14) \
               and not sysconfig.get_config_var('Py_GIL_DISABLED')))";
    let status = Command::new(interpreter).args(["-c", ask]).status();
    status.is_ok_and(|status| status.success())
}

/// It waits for input, or for a lock without a limit: not for its turn.
fn is_settled(words: &[&str]) -> bool {
    let (read, futex) = if cfg!(target_arch = "x86_64") {
        ("0", "202")
    } else {
        ("63", "98")
    };
    match words {
        [call, fd, ..] if *call == read => *fd == "0x0",
        [call, _, _, _, limit, ..] if *call == futex => *limit == "0x0",
        _ => false,
    }
}

#[track_caller]
fn check(interpreter: &PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("späher.py");
    fs::write(&script, PROGRAM).expect("a file");
    let child = Command::new(interpreter)
        .arg(&script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = Running(child.expect("it starts"));
    let output = child.0.stdout.take().expect("a pipe");
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).expect("a line");
    let tid: u32 = line.trim().parse().expect("a tid");
    let pid = child.0.id();
    let mut unwinder = Unwinder::default();
    let mut walk_of = |tid| {
        let kept = kept(tid, is_settled);
        let mut question = question(pid, &kept);
        question.tid = tid;
        walk(&mut unwinder, question)
    };
    let [main, thread] = [pid, tid].map(|tid| {
        let walk = walk_of(tid);
        let named = walk.places.iter().filter(|place| place.is_name);
        let named = named.map(|place| (place.text.clone(), place.whose));
        named.collect::<Vec<_>>()
    });
    let own = |name: &str, line| (format!("{name} (späher.py:{line})"), Whose::Program);
    assert_eq!(
        main,
        [own("fetch", 15), own("<module>", 17)],
        "{interpreter:?}"
    );
    assert_eq!(thread[0], own("hole", 9), "{interpreter:?}: {thread:?}");
    // What called it is of the library: `run`, `_bootstrap_inner`, `_bootstrap`.
    assert_eq!(thread.len(), 4, "{interpreter:?}: {thread:?}");
    for (text, whose) in &thread[1..] {
        assert!(text.contains(" (threading.py:"), "{interpreter:?}: {text}");
        assert_eq!(*whose, Whose::Standard, "{interpreter:?}: {text}");
    }
    // The interpreter's own functions are not there.
    let walk = walk_of(tid);
    let is_its = |place: &Place| place.text.contains("python3");
    assert!(!walk.places.iter().any(is_its), "{walk:?}");
    assert_eq!(walk.end, End::Start);
}

#[test]
fn a_stack_of_python_has_functions_files_and_lines() {
    let all = interpreters();
    all.iter().filter(|it| is_known(it)).for_each(check);
}

#[test]
fn a_program_that_is_no_interpreter_has_its_own_functions() {
    let (child, kept) = sleeper();
    let question = question(child.0.id(), &kept);
    let walk = walk(&mut Unwinder::default(), question);
    assert!(walk.places.iter().all(|place| !place.is_name), "{walk:?}");
}
