//! Asks a Java virtual machine for the names of what it has compiled: `jcmd PID
//! Compiler.perfmap`, by the way that `jcmd` goes itself, so that no JDK is needed.
//!
//! HotSpot (src/hotspot/os/posix/attachListener_posix.cpp): who finds no socket
//! `/tmp/.java_pidN` makes an empty file `/tmp/.attach_pidN` and sends SIGQUIT, and the machine
//! makes the socket. It talks to root and to its own user. What is sent is a version, a command
//! and three arguments, each with a zero byte behind; what comes back is a number, 0 for
//! success, and text. It then writes `/tmp/perf-N.map`.
//!
//! All of it is done with the rights of the machine's user, in the machine's own `/tmp`. A
//! program that does not handle SIGQUIT is sent none: it would end of it.

use std::{
    fs,
    io::{self, ErrorKind, Read as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Gid, Pid, Uid, setegid, seteuid, setgroups},
};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};
use serde::{Deserialize, Serialize};

use crate::procfs::text::{self, field};

/// The machine's library.
const LIBRARY: &str = "/libjvm.so";
/// So long a machine may take to begin to listen, and to answer.
const PATIENCE: Duration = Duration::from_secs(4);
const MOMENT: Duration = Duration::from_millis(20);
/// No more is read of what it says, bytes.
const MOST_SAID: u64 = 4096;
/// Version, command, and three arguments.
const QUESTION: &[u8] = b"1\0jcmd\0Compiler.perfmap\0\0\0";

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Told {
    /// It is no such machine, or not yet.
    None,
    /// It has written the names.
    Written,
    /// It did not, and why.
    Not(String),
}

/// What `/proc/PID/status` tells.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    /// What the process calls itself in its own namespace.
    own: u32,
    user: u32,
    group: u32,
    handles_quit: bool,
}

/// Asks the process of this number, if it is such a machine.
pub(crate) fn ask(pid: u32) -> Told {
    let status = text::read(format!("/proc/{pid}/status")).ok();
    let Some(machine) = status.and_then(|status| Machine::of(&status)) else {
        return Told::None;
    };
    let maps = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let is_one = maps
        .split(|byte| *byte == b'\n')
        .any(|line| line.trim_ascii_end().ends_with(LIBRARY.as_bytes()));
    if !is_one {
        return Told::None;
    }
    if !machine.handles_quit {
        return Told::Not("it does not handle SIGQUIT (-Xrs), so it can't be asked".to_owned());
    }
    match asked(pid, &machine) {
        Ok(answer) => told(&answer),
        Err(error) => Told::Not(error.to_string()),
    }
}

impl Machine {
    fn of(status: &str) -> Option<Self> {
        let effective = |name| field(status, name)?.split_whitespace().nth(1)?.parse().ok();
        let own = field(status, "NStgid")?.split_whitespace().last()?;
        let handled = u64::from_str_radix(field(status, "SigCgt")?.trim(), 16).ok()?;
        Some(Self {
            own: own.parse().ok()?,
            user: effective("Uid")?,
            group: effective("Gid")?,
            handles_quit: handled & 1 << (Signal::SIGQUIT as u32 - 1) != 0,
        })
    }
}

/// What it says.
fn asked(pid: u32, machine: &Machine) -> io::Result<Vec<u8>> {
    let folder = format!("/proc/{pid}/root/tmp");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(CWD, folder, flags, Mode::empty())?;
    let _user = AsUser::of(machine)?;
    let mut socket = connected(pid, machine.own, &folder)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(QUESTION)?;
    let mut answer = Vec::new();
    match socket.take(MOST_SAID).read_to_end(&mut answer) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Err(io::Error::other("it does not answer"))
        }
        read => read.map(|_| answer),
    }
}

/// A connection to the machine, which may have to be told first that it is to listen.
fn connected(pid: u32, own: u32, folder: &OwnedFd) -> io::Result<UnixStream> {
    let socket = format!("/proc/self/fd/{}/.java_pid{own}", folder.as_raw_fd());
    let is_absent = |error: &io::Error| {
        matches!(
            error.kind(),
            ErrorKind::NotFound | ErrorKind::ConnectionRefused
        )
    };
    match UnixStream::connect(&socket) {
        Err(error) if is_absent(&error) => {}
        connected => return connected,
    }
    let _request = Request::make(folder, own)?;
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGQUIT)?;
    let begun = Instant::now();
    loop {
        thread::sleep(MOMENT);
        match UnixStream::connect(&socket) {
            Err(error) if is_absent(&error) && begun.elapsed() < PATIENCE => {}
            Err(error) if is_absent(&error) => {
                return Err(io::Error::other("it does not begin to listen"));
            }
            connected => return connected,
        }
    }
}

/// The file that asks the machine to listen; taken away in the end.
struct Request<'a> {
    folder: &'a OwnedFd,
    name: String,
}

impl<'a> Request<'a> {
    fn make(folder: &'a OwnedFd, own: u32) -> io::Result<Self> {
        let name = format!(".attach_pid{own}");
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        match openat(folder, &name, flags, Mode::RUSR | Mode::WUSR) {
            // Somebody else asks, or did not clean up.
            Ok(_) | Err(rustix::io::Errno::EXIST) => Ok(Self { folder, name }),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        let _ = unlinkat(self.folder.as_fd(), &self.name, AtFlags::empty());
    }
}

/// While this lives this process has the rights of another user, if it may.
struct AsUser {
    before: Option<(Uid, Gid)>,
}

impl AsUser {
    fn of(machine: &Machine) -> io::Result<Self> {
        let (user, group) = (Uid::from_raw(machine.user), Gid::from_raw(machine.group));
        let before = (Uid::effective(), Gid::effective());
        if before == (user, group) {
            return Ok(Self { before: None });
        }
        setgroups(&[group])?;
        setegid(group)?;
        let as_user = Self {
            before: Some(before),
        };
        seteuid(user)?;
        Ok(as_user)
    }
}

impl Drop for AsUser {
    fn drop(&mut self) {
        if let Some((user, group)) = self.before {
            let back = seteuid(user).and_then(|()| setegid(group));
            if back.is_err() {
                // Nothing is to be done as somebody else by mistake.
                std::process::exit(1);
            }
        }
    }
}

/// What an answer means.
fn told(answer: &[u8]) -> Told {
    let answer = String::from_utf8_lossy(answer);
    let (number, said) = answer.split_once('\n').unwrap_or((&answer, ""));
    if number.trim() == "0" {
        return Told::Written;
    }
    let said = said.lines().map(str::trim).find(|line| !line.is_empty());
    Told::Not(match said {
        Some(said) if said.contains("Unknown diagnostic command") => {
            "it has no `Compiler.perfmap`, which came with Java 17".to_owned()
        }
        Some(said) => said.to_owned(),
        None => format!("it answers with {:?}", number.trim()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_success_or_says_what_failed() {
        assert_eq!(told(b"0\n"), Told::Written);
        assert_eq!(told(b"0\nDumped."), Told::Written);
        let not = |answer: &[u8]| match told(answer) {
            Told::Not(why) => why,
            told => panic!("{told:?}"),
        };
        let unknown = b"1\njava.lang.IllegalArgumentException: Unknown diagnostic command\n";
        assert!(not(unknown).contains("came with Java 17"));
        assert_eq!(not(b"101\n\n refused\nmore"), "refused");
        assert_eq!(not(b""), "it answers with \"\"");
    }

    #[test]
    fn a_machine_is_known_by_its_own_number_and_whether_it_survives_being_asked() {
        let status = |caught: &str| {
            format!(
                "Name:\tjava\nTgid:\t70\nUid:\t0\t5\t0\t5\nGid:\t0\t6\t0\t6\nNStgid:\t70\t3\n\
                 SigCgt:\t{caught}\n"
            )
        };
        let expected = |handles_quit| Machine {
            own: 3,
            user: 5,
            group: 6,
            handles_quit,
        };
        let of = |caught| Machine::of(&status(caught));
        assert_eq!(of("0000000181005ccf"), Some(expected(true)));
        assert_eq!(of("0000000181005ccb"), Some(expected(false)));
        assert_eq!(Machine::of("Name:\tjava\n"), None);
    }

    #[test]
    fn a_process_without_a_machine_is_not_asked() {
        assert_eq!(ask(std::process::id()), Told::None);
        assert_eq!(ask(u32::MAX), Told::None);
    }
}
