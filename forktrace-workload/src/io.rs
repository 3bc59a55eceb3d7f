//! Every kind of wait that ends by what another task does.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo, pipe};
use serde_json::{Value, json};

use super::sys::{fork_child, nap, now_ns, pid, reap, tid, voluntary_switches};
use super::task::{Announcement, join, spawn};
use super::truth::Truth;

/// Threads that block in one call each until they are let go
///
/// When the kernel says that all sleep, the main thread naps and then lets them go
/// one after the other, 1 ms apart. The child whose end wait4 waits for is let go
/// like the others; it is blocked in read until then.
///
/// Truth:
///   child_pid  the child that wait4 waits for
///   waits      [{what, syscall, tid, begin_ns, end_ns, switches, asleep_ns,
///              release_ns, waker_tid}]: what is read, write, accept, recv, futex, wait,
///              open, flock or fsync; the thread was blocked all the time from asleep_ns to
///              release_ns, when the main thread was about to let it go, and not
///              longer than from begin_ns to end_ns; switches is how often it blocked in
///              between, by the kernel's count; waker_tid is the task that
///              wakes it (for wait the child). For fsync, whose duration nobody
///              knows and which may not block at all, the last three are null
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Io {
    /// How long all of them stay blocked.
    #[arg(long, default_value_t = 50)]
    millis: u64,
}

const APART: Duration = Duration::from_millis(1);

/// One wait: what blocks, and what ends it.
struct Wait<'a> {
    what: &'static str,
    syscall: &'static str,
    block: Box<dyn FnOnce() -> Result<()> + Send + 'a>,
    /// None when it ends by itself.
    release: Option<Release<'a>>,
}

struct Release<'a> {
    waker_tid: i32,
    /// Never blocks, even if nobody waits.
    act: Box<dyn FnOnce() -> Result<()> + 'a>,
}

impl<'a> Wait<'a> {
    /// A wait that the main thread ends itself.
    fn new(
        what: &'static str,
        syscall: &'static str,
        block: impl FnOnce() -> Result<()> + Send + 'a,
        release: impl FnOnce() -> Result<()> + 'a,
    ) -> Self {
        Self {
            what,
            syscall,
            block: Box::new(block),
            release: Some(Release {
                waker_tid: tid(),
                act: Box::new(release),
            }),
        }
    }
}

/// What the blocked thread measures.
struct Waited {
    tid: i32,
    begin_ns: u64,
    end_ns: u64,
    switches: u64,
}

impl Io {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("io");
        // First, while there is nothing that the child could inherit.
        let (child, child_release) = waiting_child()?;
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let mutex = Mutex::new(());
        let waits = vec![
            read()?,
            write()?,
            accept()?,
            recv()?,
            futex(&mutex),
            wait(child, child_release),
            open(&folder.path().join("fifo"))?,
            flock(&folder.path().join("lock"))?,
            fsync(&folder.path().join("data"))?,
        ];
        let waits = self.run_all(waits)?;
        truth.print(json!({"child_pid": child.as_raw(), "waits": waits}))
    }

    fn run_all(&self, waits: Vec<Wait<'_>>) -> Result<Vec<Value>> {
        let announcements: Vec<_> = waits.iter().map(|_| Announcement::default()).collect();
        let mut names = Vec::new();
        let mut blocks = Vec::new();
        let mut releases = Vec::new();
        for wait in waits {
            names.push((wait.what, wait.syscall));
            blocks.push(wait.block);
            releases.push(wait.release);
        }

        thread::scope(|scope| {
            let mut handles = Vec::new();
            let mut asleep = Vec::new();
            let block_all = || -> Result<()> {
                for ((block, announcement), &(what, _)) in
                    blocks.into_iter().zip(&announcements).zip(&names)
                {
                    handles.push(spawn(scope, what, move || {
                        announcement.about_to_block()?;
                        let switches_before = voluntary_switches()?;
                        let begin_ns = now_ns();
                        block()?;
                        let end_ns = now_ns();
                        Ok(Waited {
                            tid: tid(),
                            begin_ns,
                            end_ns,
                            switches: voluntary_switches()? - switches_before,
                        })
                    })?);
                }
                for ((release, announcement), handle) in
                    releases.iter().zip(&announcements).zip(&handles)
                {
                    if release.is_some() {
                        announcement.until_asleep(1, || handle.is_finished())?;
                    }
                    asleep.push(now_ns());
                }
                nap(Duration::from_millis(self.millis))
            };

            // Whatever failed, let the others go, or the scope would never end.
            let mut outcome = block_all();
            let mut released = Vec::new();
            for release in releases {
                released.push(release.map(|release| {
                    let release_ns = now_ns();
                    let done = (release.act)().and_then(|()| nap(APART));
                    if outcome.is_ok() {
                        outcome = done;
                    }
                    (release_ns, release.waker_tid)
                }));
            }
            let waited = handles.into_iter().map(join).collect::<Result<Vec<_>>>()?;
            outcome?;

            Ok(names
                .iter()
                .zip(waited)
                .zip(asleep)
                .zip(released)
                .map(|(((&(what, syscall), waited), asleep_ns), released)| {
                    json!({
                        "what": what,
                        "syscall": syscall,
                        "tid": waited.tid,
                        "begin_ns": waited.begin_ns,
                        "end_ns": waited.end_ns,
                        "switches": waited.switches,
                        "asleep_ns": released.map(|_| asleep_ns),
                        "release_ns": released.map(|(release_ns, _)| release_ns),
                        "waker_tid": released.map(|(_, waker_tid)| waker_tid),
                    })
                })
                .collect())
        })
    }
}

fn read() -> Result<Wait<'static>> {
    let (reader, mut writer) = pipe_files()?;
    Ok(Wait::new(
        "read",
        "read",
        move || read_one(reader),
        move || write_one(&mut writer),
    ))
}

fn write() -> Result<Wait<'static>> {
    let (mut reader, mut writer) = pipe_files()?;
    // A pipe without a reader would fail the write that follows the wakeup.
    let keep = reader.try_clone().context("cannot duplicate a pipe")?;
    let fill = [0_u8; 4096];
    set_flags(&writer, OFlag::O_NONBLOCK)?;
    let filled = loop {
        if let Err(error) = writer.write(&fill) {
            break error;
        }
    };
    ensure!(
        filled.kind() == ErrorKind::WouldBlock,
        "cannot fill a pipe: {filled}"
    );
    set_flags(&writer, OFlag::empty())?;
    Ok(Wait::new(
        "write",
        "write",
        move || {
            write_one(&mut writer)?;
            drop(keep);
            Ok(())
        },
        move || {
            let mut all = vec![0; 1024 * 1024];
            reader.read(&mut all).context("cannot drain a pipe")?;
            Ok(())
        },
    ))
}

fn accept() -> Result<Wait<'static>> {
    let address = SocketAddr::from_abstract_name(format!("forktrace-workload-{}", pid()))?;
    let listener = UnixListener::bind_addr(&address).context("cannot listen")?;
    Ok(Wait::new(
        "accept",
        "accept4",
        move || {
            listener.accept().context("cannot accept")?;
            Ok(())
        },
        move || {
            UnixStream::connect_addr(&address).context("cannot connect")?;
            Ok(())
        },
    ))
}

fn recv() -> Result<Wait<'static>> {
    let (receiver, mut sender) = UnixStream::pair().context("cannot make a socket pair")?;
    Ok(Wait::new(
        "recv",
        "recvfrom",
        move || read_one(receiver),
        move || write_one(&mut sender),
    ))
}

fn futex(mutex: &Mutex<()>) -> Wait<'_> {
    let held = mutex.lock().unwrap_or_else(PoisonError::into_inner);
    Wait::new(
        "futex",
        "futex",
        || {
            drop(mutex.lock());
            Ok(())
        },
        || {
            drop(held);
            Ok(())
        },
    )
}

/// A child that ends when it is written to.
fn waiting_child() -> Result<(Pid, File)> {
    let (reader, writer) = pipe_files()?;
    let mut writer = Some(writer);
    let mut reader = Some(reader);
    let child = fork_child(|| {
        // Or else the end of its parent would not end it.
        writer.take();
        reader.take().map_or(Ok(()), read_one)
    })?;
    let writer = writer.context("the child took our pipe")?;
    Ok((child, writer))
}

fn wait(child: Pid, mut writer: File) -> Wait<'static> {
    let mut wait = Wait::new(
        "wait",
        "wait4",
        move || reap(child),
        move || write_one(&mut writer),
    );
    if let Some(release) = &mut wait.release {
        release.waker_tid = child.as_raw();
    }
    wait
}

fn open(fifo: &Path) -> Result<Wait<'static>> {
    mkfifo(fifo, Mode::S_IRUSR | Mode::S_IWUSR).context("cannot make a FIFO")?;
    let (fifo, same_fifo) = (fifo.to_owned(), fifo.to_owned());
    Ok(Wait::new(
        "open",
        "openat",
        move || {
            File::open(fifo).context("cannot open a FIFO")?;
            Ok(())
        },
        move || {
            // Without O_NONBLOCK this would wait for a reader if there is none.
            OpenOptions::new()
                .write(true)
                .custom_flags(OFlag::O_NONBLOCK.bits())
                .open(same_fifo)
                .context("cannot open a FIFO's other end")?;
            Ok(())
        },
    ))
}

fn flock(path: &Path) -> Result<Wait<'static>> {
    let held = File::create(path).context("cannot make a file")?;
    held.lock().context("cannot lock a file")?;
    // A lock belongs to an open file description: this is another one.
    let other = File::open(path).context("cannot open a file again")?;
    Ok(Wait::new(
        "flock",
        "flock",
        move || other.lock().context("cannot lock a file"),
        move || held.unlock().context("cannot unlock a file"),
    ))
}

fn fsync(path: &Path) -> Result<Wait<'static>> {
    let mut file = File::create(path).context("cannot make a file")?;
    file.write_all(&vec![1; 1024 * 1024])
        .context("cannot write a file")?;
    Ok(Wait {
        what: "fsync",
        syscall: "fsync",
        block: Box::new(move || file.sync_all().context("cannot sync a file")),
        release: None,
    })
}

fn pipe_files() -> Result<(File, File)> {
    let (reader, writer) = pipe().context("cannot make a pipe")?;
    Ok((File::from(reader), File::from(writer)))
}

fn read_one(mut from: impl Read) -> Result<()> {
    from.read_exact(&mut [0]).context("cannot read a byte")
}

fn write_one(to: &mut impl Write) -> Result<()> {
    to.write_all(&[0]).context("cannot write a byte")
}

fn set_flags(file: &File, flags: OFlag) -> Result<()> {
    fcntl(file, FcntlArg::F_SETFL(flags)).context("cannot change a pipe's flags")?;
    Ok(())
}
