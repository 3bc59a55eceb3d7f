//! `forktrace top` on a terminal of its own: what its screens say, what keys do, and that the
//! terminal is given back.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    num::NonZero,
    os::{fd::OwnedFd, unix::process::ExitStatusExt as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::{Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{SpecialCharacterIndices, Termios, tcgetattr},
    },
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    attach::Target,
    support::{forktrace, id},
};

/// Much longer than anything here takes.
const SOON: Duration = Duration::from_secs(120);
const COLUMNS: u16 = 130;
const LINES: u16 = 40;

/// forktrace, with a terminal of its own. Ended on drop.
struct Session {
    child: Child,
    keys: File,
    /// The other end of the terminal: it does not hang up while this is open.
    terminal: OwnedFd,
    before: Termios,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Session {
    fn start(arguments: &[&str], folder: &Path) -> Self {
        let size = Winsize {
            ws_row: LINES,
            ws_col: COLUMNS,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).expect("a pseudo-terminal");
        fcntl(&pty.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("fcntl");
        fcntl(&pty.slave, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("fcntl");
        let before = tcgetattr(&pty.slave).expect("its modes");
        let slave = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        // `setsid` executes it in its own place, so that the pid is that of forktrace.
        let child = Command::new("setsid")
            .arg("--ctty")
            .arg(forktrace())
            .args(arguments)
            .stdin(slave())
            .stdout(slave())
            .stderr(slave())
            .env_remove("SUDO_UID")
            .env("LC_ALL", "C.UTF-8")
            .current_dir(folder)
            .spawn()
            .expect("setsid");
        let [lines, columns] = [LINES, COLUMNS].map(|it| NonZero::new(it).expect("it is not zero"));
        let screen = Arc::new(Mutex::new(vt100::Parser::new(lines, columns, 0)));
        let master = File::from(pty.master);
        let mut shown = master.try_clone().expect("a descriptor");
        let writes = Arc::clone(&screen);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = shown.read(&mut bytes) {
                let mut screen = writes.lock().expect("nobody panicked");
                screen.process(&bytes[..length]);
            }
        });
        Self {
            child,
            keys: master,
            terminal: pty.slave,
            before,
            screen,
        }
    }

    fn text(&self) -> String {
        let screen = self.screen.lock().expect("nobody panicked");
        screen.screen().contents()
    }

    /// Waits until the screen is so.
    #[track_caller]
    fn until(&mut self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let text = self.text();
            if is_so(&text) {
                return text;
            }
            let ended = self.child.try_wait().expect("it is ours");
            assert!(
                ended.is_none() && begun.elapsed() < SOON,
                "not {what} ({ended:?}):\n{text}"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The same when it has ended: what it wrote last may be still to be read.
    #[track_caller]
    fn left(&self, what: &str) {
        let begun = Instant::now();
        while !self.text().contains(what) {
            assert!(begun.elapsed() < SOON, "no {what}:\n{}", self.text());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("it is open");
    }

    fn send(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32);
        kill(pid, signal).expect("it is ours");
    }

    /// Its end, with the terminal as it was before.
    #[track_caller]
    fn end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                break status;
            }
            assert!(begun.elapsed() < SOON, "it goes on:\n{}", self.text());
            thread::sleep(Duration::from_millis(20));
        };
        // Of a view whose recorder was killed the end is not ours to wait for.
        let mut left = "its modes";
        while begun.elapsed() < SOON {
            let now = tcgetattr(&self.terminal).expect("its modes");
            let same = same_modes(&now, &self.before);
            let screen = self.screen.lock().expect("nobody panicked");
            left = match (same, screen.screen().alternate_screen()) {
                (false, _) => "its modes",
                (true, true) => "the other screen",
                (true, false) if screen.screen().hide_cursor() => "no cursor",
                (true, false) => return status,
            };
            drop(screen);
            thread::sleep(Duration::from_millis(20));
        }
        panic!("the terminal keeps {left}:\n{}", self.text());
    }
}

fn same_modes(a: &Termios, b: &Termios) -> bool {
    let of = |it: &Termios| (it.input_flags, it.output_flags, it.local_flags);
    let stop = SpecialCharacterIndices::VSUSP as usize;
    of(a) == of(b) && a.control_chars[stop] == b.control_chars[stop]
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The line of the screen that has all of these.
#[track_caller]
fn line<'a>(text: &'a str, words: &[&str]) -> &'a str {
    let mut lines = text.lines();
    let found = lines.find(|line| words.iter().all(|word| line.contains(word)));
    found.unwrap_or_else(|| panic!("no line has {words:?}:\n{text}"))
}

/// Two who read, and one who sleeps, with their tids.
struct Readers {
    target: Target,
    napper: u32,
    readers: [u32; 2],
    pipe: String,
}

impl Readers {
    fn start() -> Self {
        let target = Target::of("top.py", Command::new("python3"), &[]);
        let told: &Value = target.begun();
        Self {
            napper: id(&told["napper"]),
            readers: ["reader-1", "reader-2"].map(|name| id(&told[name])),
            pipe: format!("read pipe {}", told["pipe"]),
            target,
        }
    }

    fn top(&self, folder: &Path) -> Session {
        let [pid, napper] = [self.target.pid(), self.napper].map(|pid| pid.to_string());
        Session::start(&["top", "-p", &pid, "-p", &napper], folder)
    }
}

#[test]
fn the_screens_say_who_waits_for_what_and_whom() {
    let folder = tempfile::tempdir().expect("a folder");
    let truth = Readers::start();
    let mut session = truth.top(folder.path());
    let napper = format!("napper ({})", truth.napper);
    let behind = format!("{}, {napper}", truth.pipe);
    // The main thread waits for input.
    let text = session.until("all blocked, and behind whom", |text| {
        text.contains("ALL BLOCKED") && text.matches(&behind).count() == 2
    });
    line(&text, &["4 tasks: 0 running, 0 want a CPU, 4 blocked"]);
    for reader in truth.readers {
        let tid = reader.to_string();
        line(&text, &["block", &tid, "reader", &behind]);
    }
    line(&text, &["block", &truth.napper.to_string(), "sleep"]);
    session.press("w");
    let text = session.until("the graph", |text| text.contains("WHO WAITS FOR WHOM"));
    let at = |words: &[&str]| {
        let found = line(&text, words);
        text.lines().position(|line| line == found)
    };
    let root = at(&[&napper, "blocked", "in sleep"]).expect("it is there");
    for (reader, name) in truth.readers.iter().zip(["reader-1", "reader-2"]) {
        let reader = format!("{name} ({reader})");
        let place = at(&["└ ", &reader, &truth.pipe, "has the other end"]);
        assert!(place > Some(root), "{text}");
    }
    // One of them, by its name alone.
    session.press("/reader-2\r");
    let others = [truth.napper, truth.readers[0]].map(|tid| format!(" {tid} "));
    session.until("filtered", |text| {
        let none = |tid: &String| !text.contains(tid.as_str());
        text.contains("1 with \"reader-2\"") && others.iter().all(none)
    });
    session.press("\r");
    let text = session.until("one task", |text| text.contains("could end it"));
    line(&text, &["state", "block"]);
    line(&text, &["waits for", &truth.pipe]);
    line(&text, &["for ", "before the recording"]);
    line(&text, &["could end it", &napper, "has the other end"]);
    session.press("s");
    let text = session.until("saved", |text| text.contains("saved "));
    assert!(text.contains("saved ./forktrace-"), "{text}");
    session.press("q");
    let status = session.end();
    assert!(status.success(), "{status}:\n{}", session.text());
    // What was saved is said where it stays, and is a trace of these tasks.
    session.left("saved ./forktrace-");
    let saved = std::fs::read_dir(folder.path()).expect("the folder");
    let saved = saved.map(|file| file.expect("a file").path());
    let trace = saved.filter(|path| path.extension().is_some_and(|it| it == "ft"));
    let trace = trace.last().expect("a trace");
    let report = Command::new(forktrace())
        .args(["report", "--format", "json"])
        .arg(&trace)
        .output()
        .expect("forktrace starts");
    assert!(report.status.success(), "{report:?}");
    let report: Value = serde_json::from_slice(&report.stdout).expect("a report");
    let tids: Vec<u32> = report["tasks"].as_array().map_or(Vec::new(), |tasks| {
        tasks.iter().map(|task| id(&task["tid"])).collect()
    });
    for tid in [truth.napper, truth.readers[0], truth.readers[1]] {
        assert!(tids.contains(&tid), "{tid} is not among {tids:?}");
    }
    truth.target.end();
}

/// Whatever ends it: the user, a signal to it alone or to all, or that it is killed.
#[test]
fn the_terminal_is_given_back_on_each_way_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let truth = Readers::start();
    for (signal, well) in [
        (Some(Signal::SIGTERM), true),
        (Some(Signal::SIGKILL), false),
        // Ctrl-C.
        (None, true),
    ] {
        let mut session = truth.top(folder.path());
        session.until("the view", |text| text.contains("LAST WOKEN BY"));
        match signal {
            Some(signal) => session.send(signal),
            None => session.press("\x03"),
        }
        let status = session.end();
        assert_eq!(status.success(), well, "{signal:?}: {status}");
    }
    truth.target.end();
}

#[test]
fn when_the_target_ends_the_last_picture_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let truth = Readers::start();
    let mut session = truth.top(folder.path());
    session.until("the view", |text| text.contains("LAST WOKEN BY"));
    truth.target.end();
    let text = session.until("its end", |text| text.contains("all of it has ended"));
    assert!(text.contains("forktrace top"), "{text}");
    session.press("sq");
    let status = session.end();
    assert!(status.success(), "{status}:\n{}", session.text());
}

/// What the command prints is not in the picture; it comes when the view is closed, which ends
/// nothing else.
#[test]
fn a_command_is_shown_while_it_runs_and_keeps_off_the_terminal() {
    let folder = tempfile::tempdir().expect("a folder");
    let command = "printf %s%s\\n pri nted; exec sleep 1000";
    let arguments = [
        "run", "-q", "--top", "--save", "t.ft", "--", "sh", "-c", command,
    ];
    let mut session = Session::start(&arguments, folder.path());
    let text = session.until("asleep", |text| text.contains("sleep for 1,000 s"));
    line(&text, &["1 task: 0 running, 0 want a CPU, 1 blocked"]);
    assert!(!text.contains("printed"), "{text}");
    session.press("q");
    session.left("the view is closed, and the command goes on");
    session.left("printed");
    // As ever, Ctrl-C is for the command.
    session.press("\x03");
    let status = session.end();
    assert_eq!(status.signal(), Some(Signal::SIGINT as i32), "{status}");
    let trace = std::fs::read(folder.path().join("t.ft")).expect("a trace");
    assert!(!trace.is_empty());
}
