//! Starts the workload.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    unistd::{Gid, Uid, User, getgrouplist, setgid, setgroups, setuid},
};

use crate::{signals::Inherited, trace::marks::VARIABLE};

/// Whom the workload runs as, and whose the files are that we write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: Uid,
    /// Primary group.
    pub gid: Gid,
    /// All groups.
    pub groups: Vec<Gid>,
    /// `HOME`.
    pub home: PathBuf,
    /// Login name.
    pub name: String,
    /// `SHELL`.
    pub shell: PathBuf,
}

impl Account {
    /// The account to use: of the user named with `-u`; under sudo that of the
    /// user who called sudo; otherwise, and with `--as-root`, `None`: our own.
    ///
    /// # Errors
    /// When the user does not exist.
    pub fn choose(user: Option<&str>, as_root: bool) -> Result<Option<Self>> {
        if let Some(name) = user {
            let found = match name.parse::<u32>() {
                Ok(uid) => User::from_uid(Uid::from_raw(uid)),
                Err(_) => User::from_name(name),
            };
            let user = found
                .with_context(|| format!("the user {name} can't be looked up"))?
                .with_context(|| format!("there is no user {name}; `getent passwd` lists them"))?;
            return Self::of(user).map(Some);
        }
        if as_root || !Uid::effective().is_root() {
            return Ok(None);
        }
        let Some(uid) = std::env::var("SUDO_UID").ok() else {
            return Ok(None);
        };
        let uid: u32 = uid.parse().with_context(|| {
            format!("SUDO_UID is {uid:?}, which is no user id; --as-root ignores it")
        })?;
        if uid == 0 {
            return Ok(None);
        }
        let uid = Uid::from_raw(uid);
        match User::from_uid(uid).with_context(|| format!("user {uid} can't be looked up"))? {
            Some(user) => Self::of(user).map(Some),
            None => bail!(
                "there is no user with the id {uid} that SUDO_UID names; \
                 -u USER chooses another and --as-root runs the workload as root"
            ),
        }
    }

    fn of(user: User) -> Result<Self> {
        let name = std::ffi::CString::new(user.name.as_str())
            .with_context(|| format!("the user name {:?} holds a NUL", user.name))?;
        let groups = getgrouplist(&name, user.gid)
            .with_context(|| format!("the groups of {} can't be listed", user.name))?;
        Ok(Self {
            uid: user.uid,
            gid: user.gid,
            groups,
            home: user.dir,
            name: user.name,
            shell: user.shell,
        })
    }
}

/// Why the workload could not be started.
#[derive(Debug)]
pub struct LaunchError {
    /// The command.
    pub command: OsString,
    /// What the kernel said.
    pub error: io::Error,
}

impl LaunchError {
    /// The exit status that a shell gives: 127 for a command that is not there,
    /// 126 for one that can't be executed.
    pub fn exit_status(&self) -> u8 {
        match self.error.kind() {
            io::ErrorKind::NotFound => 127,
            _ => 126,
        }
    }
}

impl std::error::Error for LaunchError {}

impl std::fmt::Display for LaunchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let command = self.command.to_string_lossy();
        match self.error.kind() {
            io::ErrorKind::NotFound if command.contains('/') => {
                write!(f, "{command}: there is no such file")
            }
            io::ErrorKind::NotFound => write!(
                f,
                "{command}: no such command in PATH; under sudo PATH may be another than yours: \
                 give the whole path, as `command -v {command}` prints it"
            ),
            io::ErrorKind::PermissionDenied => write!(
                f,
                "{command}: may not be executed; `ls -l` shows its permissions \
                 (a directory can't be executed, and a script needs chmod +x)"
            ),
            _ => write!(f, "{command}: can't be executed: {}", self.error),
        }
    }
}

/// Starts a command with our own streams, with the signals as we found them, and
/// with a descriptor for its marks. The new process calls `first` before all else; it
/// may only make system calls.
///
/// # Errors
/// When it can't be executed.
pub fn spawn(
    argv: &[OsString],
    account: Option<&Account>,
    signals: Inherited,
    marks: File,
    mut first: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) -> Result<Child, LaunchError> {
    let (program, args) = argv
        .split_first()
        .map_or((OsStr::new(""), &[][..]), |(p, a)| (p.as_os_str(), a));
    let mut command = Command::new(program);
    command.args(args);
    command.env(VARIABLE, marks.as_raw_fd().to_string());
    if let Some(account) = account {
        command
            .env("HOME", &account.home)
            .env("USER", &account.name)
            .env("LOGNAME", &account.name)
            .env("SHELL", &account.shell);
    }
    let ids = account.map(|a| (a.uid, a.gid, a.groups.clone()));
    let before_exec = move || {
        first()?;
        signals.check_request()?;
        if let Some((uid, gid, groups)) = &ids {
            setgroups(groups)?;
            setgid(*gid)?;
            setuid(*uid)?;
        }
        signals.restore()?;
        // Only from here on, so that nobody else inherits it.
        fcntl(&marks, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(())
    };
    #[expect(
        unsafe_code,
        reason = "the standard library has no other way to set groups"
    )]
    // SAFETY: between fork and exec the closure only makes system calls; it
    // takes no lock, and allocates only to say why it failed, in a process that
    // was forked from one with one thread.
    unsafe {
        command.pre_exec(before_exec);
    }
    command.spawn().map_err(|error| LaunchError {
        command: program.to_owned(),
        error,
    })
}
