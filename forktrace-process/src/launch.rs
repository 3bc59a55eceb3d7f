//! Starts the workload.

mod not_there;

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, IsTerminal as _},
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    unistd::{Gid, Uid, User, getgrouplist, pipe2, read, setgid, setgroups, setuid, write},
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities,
};

use crate::{
    limits::{self, Limits},
    procfs::text::on_one_line,
    signals::Inherited,
};

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

/// Who is who in a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Whom the workload runs as; `None`: as we do.
    pub workload: Option<Account>,
    /// Who called sudo, and with whose rights we open the files that we write; `None`:
    /// with our own.
    pub caller: Option<Account>,
}

impl Accounts {
    /// The workload is the user's that is named with `-u`, under sudo that of the user
    /// who called sudo, otherwise our own; with `--as-root` all is our own.
    ///
    /// # Errors
    /// When a user does not exist.
    pub fn choose(user: Option<&str>, as_root: bool) -> Result<Self> {
        let caller = if as_root { None } else { Account::of_caller()? };
        let workload = match user {
            Some(name) => Some(Account::named(name)?),
            None => caller.clone(),
        };
        Ok(Self { workload, caller })
    }

    /// Whose a file is that we create with our own rights; `None`: ours.
    pub fn owner(&self) -> Option<&Account> {
        match self.caller {
            Some(_) => None,
            None => self.workload.as_ref(),
        }
    }
}

impl Account {
    /// Somebody of whom only the ids are known.
    pub fn without_name(uid: u32, gid: u32) -> Self {
        Self {
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            groups: vec![Gid::from_raw(gid)],
            home: PathBuf::from("/"),
            name: format!("user {uid}"),
            shell: PathBuf::from("/bin/sh"),
        }
    }

    fn named(name: &str) -> Result<Self> {
        let found = match name.parse::<u32>() {
            Ok(uid) => User::from_uid(Uid::from_raw(uid)),
            Err(_) => User::from_name(name),
        };
        let user = found
            .with_context(|| format!("the user {name} can't be looked up"))?
            .with_context(|| format!("there is no user {name}; `getent passwd` lists them"))?;
        Self::of(user)
    }

    /// Who called sudo; `None`: nobody, or root.
    ///
    /// # Errors
    /// When that user does not exist.
    pub fn of_caller() -> Result<Option<Self>> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        let Some(uid) = std::env::var_os("SUDO_UID") else {
            return Ok(None);
        };
        let number = uid.to_str().and_then(|uid| uid.parse::<u32>().ok());
        let Some(uid) = number else {
            bail!("SUDO_UID is {uid:?}, which is no user id; --as-root ignores it");
        };
        if uid == 0 {
            return Ok(None);
        }
        let uid = Uid::from_raw(uid);
        match User::from_uid(uid).with_context(|| format!("user {uid} can't be looked up"))? {
            Some(user) => Self::of(user).map(Some),
            None => bail!(
                "there is no user with the id {uid} that SUDO_UID names; --as-root runs the \
                 workload as root, and `env -u SUDO_UID forktrace …` with -u USER as another"
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

    /// Becomes this account for good, with no capability, as a login would. Makes
    /// system calls only.
    ///
    /// What stays is the capability bounding set, the securebits and `no_new_privs`:
    /// they only ever bar something, and setuid programs are to work as for the user.
    ///
    /// # Errors
    /// When the kernel refuses; then it is not this account, nor what it was.
    pub fn assume(&self) -> io::Result<()> {
        self.steps(|_, done| done)
    }

    fn steps(
        &self,
        mut step: impl FnMut(Step, io::Result<()>) -> io::Result<()>,
    ) -> io::Result<()> {
        // Ambient ones would come through the exec.
        let ambient = match clear_ambient_capability_set() {
            // No such set.
            Err(rustix::io::Errno::INVAL) => Ok(()),
            cleared => cleared,
        };
        step(Step::Capabilities, ambient.map_err(Into::into))?;
        step(Step::Groups, setgroups(&self.groups).map_err(Into::into))?;
        step(Step::Group, setgid(self.gid).map_err(Into::into))?;
        step(Step::User, setuid(self.uid).map_err(Into::into))?;
        if !self.uid.is_root() {
            // With SECBIT_NO_SETUID_FIXUP they are still there.
            let none = CapabilitySets {
                effective: CapabilitySet::empty(),
                permitted: CapabilitySet::empty(),
                inheritable: CapabilitySet::empty(),
            };
            step(
                Step::Capabilities,
                set_capabilities(None, none).map_err(Into::into),
            )?;
        }
        Ok(())
    }
}

/// Something between fork and exec that the kernel can refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Groups = 1,
    Group,
    User,
    Capabilities,
    Keyring,
}

impl Step {
    const ALL: [Self; 5] = [
        Self::Groups,
        Self::Group,
        Self::User,
        Self::Capabilities,
        Self::Keyring,
    ];

    fn call(self) -> &'static str {
        match self {
            Self::Groups => "setgroups",
            Self::Group => "setgid",
            Self::User => "setuid",
            Self::Capabilities => "capset",
            Self::Keyring => "keyctl (KEYCTL_JOIN_SESSION_KEYRING)",
        }
    }
}

/// Why the workload could not be started.
#[derive(Debug)]
pub struct LaunchError {
    /// The command.
    pub command: OsString,
    /// What the kernel said.
    pub error: io::Error,
    /// Why it was not found, if it was not.
    not_there: String,
    /// What it said that to, if not to the exec.
    step: Option<Step>,
    /// The limit that leaves no room for a process, as it was seen then.
    no_room: Option<String>,
}

impl LaunchError {
    /// The exit status that a shell gives: 127 for a command that is not there,
    /// 126 for one that can't be executed; `None`: we failed before.
    pub fn exit_status(&self) -> Option<u8> {
        // No process, or not the right one: nothing was executed.
        if self.step.is_some() || self.no_room.is_some() {
            return None;
        }
        Some(match self.error.kind() {
            io::ErrorKind::NotFound => 127,
            _ => 126,
        })
    }
}

impl std::error::Error for LaunchError {}

impl std::fmt::Display for LaunchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let command = on_one_line(&self.command.to_string_lossy());
        if let Some(step) = self.step {
            return write!(
                f,
                "{command} can't be run as another user: {}: {}; that takes the capabilities \
                 CAP_SETUID and CAP_SETGID, which root has outside of containers and user \
                 namespaces; --as-root runs it as we are",
                step.call(),
                self.error
            );
        }
        match self.error.kind() {
            _ if self.no_room.is_some() => write!(
                f,
                "there is no room for a process for {command}: {}",
                self.no_room.as_deref().unwrap_or_default()
            ),
            io::ErrorKind::NotFound => f.write_str(&self.not_there),
            io::ErrorKind::PermissionDenied => write!(
                f,
                "{command}: may not be executed; `ls -l` shows its permissions \
                 (a directory can't be executed, and a script needs chmod +x)"
            ),
            _ => write!(f, "{command}: can't be executed: {}", self.error),
        }
    }
}

/// What to start, and how.
pub struct Launch<'a, F> {
    /// The command.
    pub argv: &'a [OsString],
    /// Whom it runs as; `None`: as we do.
    pub account: Option<&'a Account>,
    /// The signals as we found them.
    pub signals: Inherited,
    /// The limits that we raised for ourselves.
    pub limits: Limits,
    /// The descriptor for its marks, and the variable that names it to the command.
    pub marks: (&'static str, File),
    /// Where what it prints on a terminal goes, if the terminal is somebody else's; then it
    /// reads nothing from there either.
    pub output: Option<File>,
    /// What the new process calls before all else; it may only make system calls.
    pub first: F,
}

/// Starts a command with our own streams, as far as they are not another's.
///
/// # Errors
/// When it can't be executed.
pub fn spawn<F>(launch: Launch<'_, F>) -> Result<Child, LaunchError>
where
    F: FnMut() -> io::Result<()> + Send + Sync + 'static,
{
    let Launch {
        argv,
        account,
        signals,
        limits,
        marks: (variable, marks),
        output,
        mut first,
    } = launch;
    let (program, args) = argv
        .split_first()
        .map_or((OsStr::new(""), &[][..]), |(p, a)| (p.as_os_str(), a));
    let failed = |error: io::Error, step| LaunchError {
        command: program.to_owned(),
        not_there: match error.kind() {
            io::ErrorKind::NotFound => not_there::why(&program.to_string_lossy()),
            _ => String::new(),
        },
        no_room: (error.raw_os_error() == Some(libc::EAGAIN))
            .then(|| limits::no_process(io::Error::from_raw_os_error(libc::EAGAIN)).to_string()),
        error,
        step,
    };
    let mut command = Command::new(program);
    command.args(args);
    command.env(variable, marks.as_raw_fd().to_string());
    if let Some(output) = output {
        without_terminal(&mut command, &output).map_err(|error| failed(error, None))?;
    }
    if let Some(account) = account {
        command
            .env("HOME", &account.home)
            .env("USER", &account.name)
            .env("LOGNAME", &account.name)
            .env("SHELL", &account.shell);
    }
    // The standard library hands on an error's number, not whose it is.
    let (refused, refuse) =
        pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(|error| failed(error.into(), None))?;
    let account = account.cloned();
    let foreign_keys = account.as_ref().is_some_and(keyring::is_foreign);
    let before_exec = move || {
        first()?;
        signals.check_request()?;
        let step = |step: Step, done: io::Result<()>| {
            done.inspect_err(|_| {
                let _ = write(&refuse, &[step as u8]);
            })
        };
        if let Some(account) = &account {
            account.steps(step)?;
            if foreign_keys {
                step(Step::Keyring, keyring::leave())?;
            }
        }
        limits.restore()?;
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
    let spawned = limits::tried_again(|| command.spawn());
    spawned.map_err(|error| {
        let mut number = [0];
        let read = read(&refused, &mut number);
        let step = Step::ALL
            .into_iter()
            .find(|&step| read == Ok(1) && step as u8 == number[0]);
        failed(error, step)
    })
}

/// Keeps a command off our terminal.
fn without_terminal(command: &mut Command, output: &File) -> io::Result<()> {
    if io::stdin().is_terminal() {
        command.stdin(Stdio::null());
    }
    if io::stdout().is_terminal() {
        command.stdout(output.try_clone()?);
    }
    if io::stderr().is_terminal() {
        command.stderr(output.try_clone()?);
    }
    Ok(())
}

/// Starts a program with the signals as our caller left them to us.
///
/// # Errors
/// When it can't be started.
pub fn with_signals(mut command: Command, inherited: Inherited) -> io::Result<Child> {
    #[expect(
        unsafe_code,
        reason = "the standard library leaves a child our mask of signals"
    )]
    // SAFETY: between fork and exec it only makes system calls.
    unsafe {
        command.pre_exec(move || inherited.restore());
    }
    command.spawn()
}

/// The session keyring: who has it may use the keys in it, whoever they belong to.
mod keyring {
    use std::io;

    use super::Account;

    /// include/uapi/linux/keyctl.h.
    const KEYCTL_GET_KEYRING_ID: libc::c_long = 0;
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    const KEYCTL_DESCRIBE: libc::c_long = 6;
    const KEY_SPEC_SESSION_KEYRING: libc::c_long = -3;

    /// Is ours somebody else's than this account's?
    pub(super) fn is_foreign(account: &Account) -> bool {
        let mut text = [0u8; 256];
        // SAFETY: the kernel writes no more than `text.len()` bytes to it.
        #[expect(unsafe_code, reason = "no library that we use knows keyrings")]
        let length = unsafe {
            let id = libc::syscall(
                libc::SYS_keyctl,
                KEYCTL_GET_KEYRING_ID,
                KEY_SPEC_SESSION_KEYRING,
                0,
            );
            if id < 0 {
                // The kernel knows none.
                return false;
            }
            let at = text.as_mut_ptr();
            libc::syscall(libc::SYS_keyctl, KEYCTL_DESCRIBE, id, at, text.len())
        };
        let length = usize::try_from(length).unwrap_or(0).min(text.len());
        // type;uid;gid;permissions;description
        let mut fields = text[..length].split(|&byte| byte == b';');
        let uid = fields.nth(1).and_then(|uid| std::str::from_utf8(uid).ok());
        uid.and_then(|uid| uid.parse().ok()) != Some(account.uid.as_raw())
    }

    /// Takes a new one, with nothing in it. Makes a system call only.
    pub(super) fn leave() -> io::Result<()> {
        let no_name = std::ptr::null::<libc::c_char>();
        // SAFETY: the kernel takes a null for a keyring without a name.
        #[expect(unsafe_code, reason = "no library that we use knows keyrings")]
        let id = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, no_name) };
        if id < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}
