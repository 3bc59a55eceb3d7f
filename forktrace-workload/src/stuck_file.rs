//! A file system that no longer answers.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::stat::{minor, stat},
};
use serde_json::json;

use super::options::seconds;
use super::sys::{FileWord, nap, now_ns, tid};
use super::task::{Announcement, join, spawn};
use super::truth::Truth;

/// Waits for a file system whose server answers no more
///
/// The server is a thread of this program, behind `/dev/fuse`, so this takes root.
///
/// Truth:
///   tid             the thread that waits
///   begin_ns        when it began to
///   end_ns          when it was let go: the file system is gone then
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct StuckFile {
    /// What for.
    #[arg(long, value_enum, default_value_t = On::Read)]
    on: On,
    /// How long.
    #[arg(long, default_value = "2", value_parser = seconds)]
    seconds: Duration,
}

/// What the file is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum On {
    /// It is read.
    Read,
    /// It is opened.
    Open,
    /// It is mapped, and a lock lies in it: who looks at the lock needs the page.
    Lock,
}

impl StuckFile {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("stuck-file");
        let folder = tempfile::tempdir().context("no folder to mount on")?;
        unshare(CloneFlags::CLONE_NEWNS).context("no mounts of our own (this takes root)")?;
        let none = None::<&str>;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(none, "/", none, private, none).context("mounts can't be made private")?;
        let control = tempfile::tempdir().context("no folder to mount on")?;
        let server = Server::mount(folder.path())?;
        let announcement = Announcement::default();
        let word = OnceLock::new();
        std::thread::scope(|scope| {
            let path = folder.path().join("file");
            let (server, announcement) = (&server, &announcement);
            let serving = spawn(scope, "server", move || server.serve())?;
            let mut connection = server.connection(control.path())?;
            let open = || OpenOptions::new().read(true).write(true).open(&path);
            let mut file = match self.on {
                On::Open => None,
                On::Read | On::Lock => Some(open().context("the file can't be opened")?),
            };
            if let (On::Lock, Some(file)) = (self.on, &file) {
                let mapped = FileWord::new(file)?;
                // Whoever sleeps from here on does not wait for the server.
                ensure!(mapped.read() == Server::WORD, "another file is mapped");
                let _ = word.set(mapped);
            }
            let waiting = word.get();
            let jailer = spawn(scope, "jailer", move || {
                announcement.until_asleep(1, || false)?;
                if waiting.is_some() {
                    server.answers.store(false, Ordering::SeqCst);
                    server.forget_pages()?;
                }
                nap(self.seconds)?;
                let end_ns = now_ns();
                if let Some(word) = waiting {
                    word.wake()?;
                }
                let written = connection.write_all(b"1");
                written.context("the connection can't be aborted")?;
                Ok(end_ns)
            })?;
            if self.on != On::Lock {
                server.answers.store(false, Ordering::SeqCst);
            }
            announcement.about_to_block()?;
            let begin_ns = now_ns();
            match (waiting, &mut file) {
                (Some(word), _) => word.wait(Server::WORD)?,
                // Errors, once nobody can answer any more.
                (None, Some(file)) => drop(file.read(&mut [0; 8])),
                (None, None) => drop(open()),
            }
            let end_ns = join(jailer)?;
            let _ = join(serving);
            truth.print(json!({ "tid": tid(), "begin_ns": begin_ns, "end_ns": end_ns }))
        })
    }
}

/// See `include/uapi/linux/fuse.h`: one file of one page.
struct Server {
    device: File,
    answers: AtomicBool,
    folder: PathBuf,
}

impl Server {
    /// The first word of the file: a mutex of the GNU C library that is locked and waited
    /// for.
    const WORD: u32 = 2;
    const PAGE: usize = 4096;
    const FILE: u64 = 2;

    fn mount(folder: &Path) -> Result<Self> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let device = device.context("/dev/fuse can't be opened")?;
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            device.as_raw_fd()
        );
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let options = Some(options.as_str());
        mount(Some("fuse"), folder, Some("fuse"), flags, options).context("FUSE mount")?;
        Ok(Self {
            device,
            answers: AtomicBool::new(true),
            folder: folder.to_owned(),
        })
    }

    fn serve(&self) -> Result<()> {
        let mut request = vec![0; 1 << 17];
        loop {
            match (&self.device).read(&mut request) {
                Ok(length) => self.answer(&request[..length])?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => {}
                // It is not mounted any more.
                Err(_) => return Ok(()),
            }
        }
    }

    fn answer(&self, request: &[u8]) -> Result<()> {
        const LOOKUP: u32 = 1;
        const FORGET: u32 = 2;
        const GETATTR: u32 = 3;
        const OPEN: u32 = 14;
        const READ: u32 = 15;
        const RELEASE: u32 = 18;
        const FLUSH: u32 = 25;
        const INIT: u32 = 26;
        const INTERRUPT: u32 = 36;
        const BATCH_FORGET: u32 = 42;
        let Some(header) = request.first_chunk::<40>() else {
            bail!("a request of {} bytes", request.len());
        };
        let u32_at = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|i| header[at + i]));
        let unique = u64::from(u32_at(8)) | u64::from(u32_at(12)) << 32;
        let node = u64::from(u32_at(16));
        let mut out = Vec::new();
        let mut error = 0;
        match u32_at(4) {
            // What is asked about the file itself or its pages.
            READ | GETATTR | OPEN if !self.answers.load(Ordering::SeqCst) => return Ok(()),
            FORGET | BATCH_FORGET | INTERRUPT => return Ok(()),
            INIT => {
                out.extend([7_u32, 31, 0, 0, 0, Self::PAGE as u32].map(u32::to_ne_bytes));
                out.resize(16, [0; 4]);
            }
            LOOKUP => {
                // Node, generation, how long the name and (not) the rest holds.
                let words = [Self::FILE, 0, 1000, 0, 0];
                out.extend(words.into_iter().flat_map(halves));
                out.extend(attributes(Self::FILE));
            }
            GETATTR => {
                out.extend([0, 0].into_iter().flat_map(halves));
                out.extend(attributes(node));
            }
            // FOPEN_KEEP_CACHE.
            OPEN => out.extend([1_u32, 0, 2, 0].map(u32::to_ne_bytes)),
            READ => {
                let mutex = [Self::WORD, 0, 1, 1, 0].map(u32::to_ne_bytes);
                out.extend(mutex);
                out.resize(Self::PAGE / 4, [0; 4]);
            }
            FLUSH | RELEASE => {}
            _ => error = -nix::libc::ENOSYS,
        }
        self.write(error, unique, out.as_flattened())
    }

    /// Pages of the file are to be asked for again.
    fn forget_pages(&self) -> Result<()> {
        const NOTIFY_INVAL_INODE: i32 = 2;
        let words = [Self::FILE, 0, -1_i64 as u64];
        let words: Vec<[u8; 4]> = words.into_iter().flat_map(halves).collect();
        self.write(NOTIFY_INVAL_INODE, 0, words.as_flattened())
    }

    fn write(&self, error: i32, unique: u64, body: &[u8]) -> Result<()> {
        let body = if error < 0 { &[] } else { body };
        let mut out = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
        out.extend(error.to_ne_bytes());
        out.extend(unique.to_ne_bytes());
        out.extend(body);
        match (&self.device).write_all(&out) {
            // Nobody waits for it any more.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => Ok(()),
            written => written.context("/dev/fuse can't be written"),
        }
    }

    /// What is written to when everybody who waits is to get an error. It is opened while
    /// the server still answers.
    fn connection(&self, control: &Path) -> Result<File> {
        let (none, kind) = (None::<&str>, Some("fusectl"));
        mount(none, control, kind, MsFlags::empty(), none).context("fusectl mount")?;
        let root = stat(&self.folder).context("the root can't be looked at")?;
        let number = minor(root.st_dev).to_string();
        let abort = control.join(number).join("abort");
        let abort = OpenOptions::new().write(true).open(abort);
        abort.context("the connection can't be controlled")
    }
}

fn halves(word: u64) -> [[u8; 4]; 2] {
    [word as u32, (word >> 32) as u32].map(u32::to_ne_bytes)
}

/// `struct fuse_attr`: the root is a folder, everything else the file.
fn attributes(node: u64) -> Vec<[u8; 4]> {
    const FOLDER: u32 = 0o40_777;
    const PLAIN: u32 = 0o100_777;
    let is_file = node == Server::FILE;
    // Inode, size, blocks, three times.
    let size = if is_file { Server::PAGE as u64 } else { 0 };
    let mut out: Vec<[u8; 4]> = [node, size, 0, 0, 0, 0]
        .into_iter()
        .flat_map(halves)
        .collect();
    let mode = if is_file { PLAIN } else { FOLDER };
    // Their nanoseconds, mode, links, user, group, device, block size, flags.
    let rest = [0, 0, 0, mode, 1, 0, 0, 0, Server::PAGE as u32, 0];
    out.extend(rest.map(u32::to_ne_bytes));
    out
}
