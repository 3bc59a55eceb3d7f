//! What is written on a terminal while others use it.

use std::{
    fs::File,
    io::Read as _,
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::openpty,
};

use crate::support::forktrace;

/// Much longer than anything here takes.
const SOON: Duration = Duration::from_secs(120);

/// The leader of a session with a terminal of its own, and what was written there. Ended on
/// drop, with all that it started.
struct Session {
    leader: Child,
    shown: Arc<Mutex<String>>,
    folder: tempfile::TempDir,
}

impl Session {
    /// Has a shell run a script. In it `$RECORD` records a command that goes on until there is
    /// a file `enough`, and then leaves a file `ended`.
    fn start(script: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let pty = openpty(None, None).expect("a pseudo-terminal");
        // It hangs up when nobody has it any more.
        fcntl(&pty.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("fcntl");
        let slave = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("a descriptor"));
        let command = "while [ ! -e enough ]; do sleep 0.05; done; : >ended";
        let record = format!(
            "{} run -o report -- sh -c '{command}'",
            forktrace().display()
        );
        let leader = Command::new("setsid")
            .args(["--ctty", "sh", "-c", &script.replace("$RECORD", &record)])
            .stdin(slave(&pty.slave))
            .stdout(slave(&pty.slave))
            .stderr(slave(&pty.slave))
            .env_remove("SUDO_UID")
            .current_dir(folder.path())
            .spawn()
            .expect("a shell");
        drop(pty.slave);
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut terminal, writes) = (File::from(pty.master), Arc::clone(&shown));
        thread::spawn(move || {
            let mut bytes = [0; 1024];
            // An error once nobody has the other end.
            while let Ok(length @ 1..) = terminal.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]);
                writes.lock().expect("nobody panicked").push_str(&text);
            }
        });
        Self {
            leader,
            shown,
            folder,
        }
    }

    fn shown(&self) -> String {
        self.shown.lock().expect("nobody panicked").clone()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    #[track_caller]
    fn until(&self, done: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < SOON, "{}", self.shown());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets it come to its end.
    #[track_caller]
    fn end(mut self) -> String {
        File::create(self.file("enough")).expect("a file");
        self.until(|it| it.file("ended").exists());
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.leader.try_wait().expect("it is ours") {
                break status;
            }
            assert!(begun.elapsed() < SOON, "{}", self.shown());
            thread::sleep(Duration::from_millis(20));
        };
        assert!(status.success(), "{status}: {}", self.shown());
        assert!(self.file("report").exists());
        self.shown()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.leader.kill();
        let _ = self.leader.wait();
    }
}

/// On a terminal with `tostop` whoever writes there in the background is stopped, and its
/// whole job: the command too. A pager draws on the terminal; what else is written there is
/// in its picture.
#[test]
fn progress_is_shown_on_a_terminal_that_nobody_else_uses() {
    let background = Session::start("stty tostop; set -m; $RECORD & wait $!");
    // What `less` and `vi` do to a terminal.
    let under_a_pager = Session::start("stty -icanon -echo; $RECORD");
    let alone = Session::start("$RECORD");
    // By now the others, who began before, would have shown theirs.
    alone.until(|it| it.shown().matches("forktrace: ").count() > 1);
    assert!(alone.end().contains("running"));
    for (session, used) in [(background, "by a shell"), (under_a_pager, "by a pager")] {
        let shown = session.end();
        assert!(!shown.contains("forktrace"), "used {used}: {shown}");
    }
}
