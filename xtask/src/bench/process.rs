//! Running what is measured, with errors of one line: a tool that fails on
//! this kernel goes into a table with what it said.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    errno::Errno,
    sys::{
        prctl::set_child_subreaper,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use crate::util::show;

/// Nothing that is measured takes this long, seconds.
const LIMIT: &str = "600";
/// Nor do processes that were left behind need this long to end.
const SETTLE: Duration = Duration::from_secs(60);

/// From now on a process that outlives the one that started it becomes a child
/// of ours, so that [`settle`] knows of it.
pub(crate) fn adopt_orphans() -> Result<()> {
    set_child_subreaper(true).context("could not become the parent of orphans")
}

/// Waits until nothing that was started is left. forktrace lets a process of
/// its own take its probes away, which it does not wait for; while that runs,
/// they still cost whatever is measured next. Call it when every [`Background`]
/// has ended.
pub(crate) fn settle() -> Result<()> {
    let deadline = Instant::now() + SETTLE;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return Ok(()),
            Ok(WaitStatus::StillAlive) if Instant::now() > deadline => {
                bail!(
                    "something that it started was still there {} s after",
                    SETTLE.as_secs()
                )
            }
            Ok(WaitStatus::StillAlive) => thread::sleep(Duration::from_millis(5)),
            Ok(_) => {}
            Err(error) => return Err(error).context("could not wait for what it left behind"),
        }
    }
}

/// What a command prints on its standard output. Fails with the last line of
/// its standard error unless it exits with 0, and when it does not end.
pub(super) fn capture(argv: &[OsString]) -> Result<String> {
    // In the foreground, so that an interrupt from the terminal reaches all.
    let mut command = Command::new("timeout");
    command
        .args(["--foreground", "--kill-after=10", LIMIT])
        .args(argv)
        .stdin(Stdio::null())
        .env("LC_ALL", "C");
    let output = command
        .output()
        .with_context(|| format!("could not start `{}`", show(&command)))?;
    if output.status.code() == Some(124) {
        bail!("it did not end within {LIMIT} s");
    }
    if !output.status.success() {
        let line = last_line(&output.stderr).or_else(|| last_line(&output.stdout));
        bail!(line.unwrap_or_else(|| output.status.to_string()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The last line that is not empty.
fn last_line(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().rfind(|line| !line.trim().is_empty())?;
    Some(line.trim().to_owned())
}

/// A command that runs beside us. Dropping it ends it.
pub(super) struct Background {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Background {
    /// Starts a command; what it prints goes to files in `folder`.
    pub(super) fn start(argv: &[OsString], folder: &Path) -> Result<Self> {
        let (stdout, stderr) = (folder.join("stdout"), folder.join("stderr"));
        let to = Stdio::from(create(&stdout)?);
        Self::spawn(argv, (Stdio::null(), to), stdout, stderr)
    }

    /// Starts a command that we talk with.
    pub(super) fn start_with_pipes(
        argv: &[OsString],
        folder: &Path,
    ) -> Result<(Self, ChildStdin, ChildStdout)> {
        let (stdout, stderr) = (folder.join("stdout"), folder.join("stderr"));
        let mut it = Self::spawn(argv, (Stdio::piped(), Stdio::piped()), stdout, stderr)?;
        let stdin = it.child.stdin.take().context("it has no standard input")?;
        let stdout = it
            .child
            .stdout
            .take()
            .context("it has no standard output")?;
        Ok((it, stdin, stdout))
    }

    fn spawn(
        argv: &[OsString],
        (stdin, to): (Stdio, Stdio),
        stdout: PathBuf,
        stderr: PathBuf,
    ) -> Result<Self> {
        let mut command = Command::new(argv.first().map_or(OsStr::new(""), OsString::as_os_str));
        command
            .args(&argv[1..])
            .stdin(stdin)
            .stdout(to)
            .stderr(create(&stderr)?)
            .env("LC_ALL", "C");
        let child = command
            .spawn()
            .with_context(|| format!("could not start `{}`", show(&command)))?;
        Ok(Self {
            child,
            stdout,
            stderr,
        })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub(super) fn printed(&self) -> Result<String> {
        let bytes = fs::read(&self.stdout)
            .with_context(|| format!("could not read {}", self.stdout.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Asks until `ready` says yes. Fails when the command ends before.
    pub(super) fn until(&mut self, limit: Duration, ready: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !ready(self) {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    self.complaint()
                        .unwrap_or_else(|| format!("it ended: {status}"))
                );
            }
            if Instant::now() > deadline {
                let said = self.complaint().unwrap_or_else(|| "nothing".to_owned());
                bail!(
                    "it was not ready after {} s, and said: {said}",
                    limit.as_secs()
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits for its end.
    pub(super) fn end(mut self, limit: Duration) -> Result<()> {
        match self.wait(limit)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!(self.complaint().unwrap_or_else(|| status.to_string())),
            None => bail!("it did not end within {} s", limit.as_secs()),
        }
    }

    /// Asks it to end.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, signal).with_context(|| format!("could not send {signal} to process {pid}"))
    }

    /// Its status, if it ends in time.
    pub(super) fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait()? {
                None if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
                status => return Ok(status),
            }
        }
    }

    /// The last line that it wrote to its standard error.
    fn complaint(&self) -> Option<String> {
        last_line(&fs::read(&self.stderr).ok()?)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // A tracer that is killed at once would leave its workload behind.
        let _ = self.signal(Signal::SIGTERM);
        if !matches!(self.wait(Duration::from_secs(10)), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("could not write {}", path.display()))
}
