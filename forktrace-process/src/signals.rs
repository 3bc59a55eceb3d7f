//! Signals: which we answer instead of dying of them, and what the workload inherits.
//!
//! While we record, a signal must not end us in the middle, and the workload has to see
//! the dispositions that our caller chose, not those that we chose for ourselves.

use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt as _,
    },
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::sys::{
    resource::{Resource, setrlimit},
    signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask},
    signalfd::{SfdFlags, SignalFd, siginfo},
};

/// Signals that ask us to end.
const REQUESTS: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
];
/// Sent by the kernel: for the terminal, to all of its foreground group
/// (include/uapi/asm-generic/siginfo.h).
pub const SI_KERNEL: i32 = 0x80;
/// So many presses of Ctrl-C end the recording, whatever the workload does…
const PRESSES: u32 = 3;
/// …if no longer time than this lies between two of them.
const TOGETHER: Duration = Duration::from_secs(3);

/// The signals that we answer instead of dying of them.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    inherited: Inherited,
}

impl Signals {
    /// Blocks the signals and prepares to read them. A signal that our caller ignores,
    /// as `nohup` does SIGHUP, stays ignored.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take() -> Result<Self> {
        let mut ignored = Vec::new();
        // Without a default action for SIGCHLD the kernel keeps no status of a child
        // and tells of none; a file that grows too long shall be an error of `write`, and the
        // caller's soft limit of CPU time is the workload's to keep.
        for (signal, ours) in [
            (Signal::SIGCHLD, SigHandler::SigDfl),
            (Signal::SIGXFSZ, SigHandler::SigIgn),
            (Signal::SIGXCPU, SigHandler::SigIgn),
        ] {
            let before = set(signal, ours).with_context(|| format!("{signal} can't be set"))?;
            if matches!(before, SigHandler::SigIgn) {
                ignored.push(signal);
            }
        }
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGCHLD);
        let were_ignored = ignored_by_number();
        for signal in REQUESTS {
            if were_ignored >> (signal as u32 - 1) & 1 == 0 {
                blocked.add(signal);
            }
        }
        let mut mask = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&blocked), Some(&mut mask))
            .context("signals can't be blocked")?;
        let fd = SignalFd::with_flags(&blocked, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .context("no signalfd")?;
        Ok(Self {
            fd,
            inherited: Inherited {
                mask,
                status: fs::File::open("/proc/self/status").ok().map(Arc::new),
                ignored,
            },
        })
    }

    /// What the workload gets back.
    pub fn inherited(&self) -> Inherited {
        self.inherited.clone()
    }

    /// The next one that came.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn next(&self) -> Result<Option<siginfo>> {
        self.fd.read_signal().context("the signalfd can't be read")
    }

    /// A request to end that came before there was a workload, by number.
    ///
    /// # Errors
    /// As above.
    pub fn request(&self) -> Result<Option<i32>> {
        while let Some(signal) = self.next()? {
            if REQUESTS.iter().any(|&it| it as u32 == signal.ssi_signo) {
                return Ok(Some(signal.ssi_signo as i32));
            }
        }
        Ok(None)
    }

    /// The same descriptor again, for who wants one of its own.
    ///
    /// # Errors
    /// When there are too many descriptors.
    pub fn wakes(&self) -> io::Result<OwnedFd> {
        self.fd.as_fd().try_clone_to_owned()
    }
}

impl AsFd for Signals {
    /// Readable when a signal has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Signals as our caller left them to us.
#[derive(Clone, Debug)]
pub struct Inherited {
    mask: SigSet,
    /// `/proc/PID/status` of the process that took them.
    status: Option<Arc<fs::File>>,
    /// Of those whose action we changed.
    ignored: Vec<Signal>,
}

impl Inherited {
    /// Makes them so again, in a new process. Makes system calls only.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn restore(&self) -> io::Result<()> {
        set(Signal::SIGXFSZ, SigHandler::SigDfl)?;
        set(Signal::SIGXCPU, SigHandler::SigDfl)?;
        for &signal in &self.ignored {
            set(signal, SigHandler::SigIgn)?;
        }
        // The standard library ignores it for us, and gives a child the default.
        if SIGPIPE_WAS_IGNORED.load(Ordering::Relaxed) {
            set(Signal::SIGPIPE, SigHandler::SigIgn)?;
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.mask), None)?;
        Ok(())
    }

    /// Fails if a request to end waits for the process that these signals were taken
    /// in, and has not been read there. Makes system calls only.
    ///
    /// # Errors
    /// `ECANCELED`: then the workload must not begin.
    pub fn check_request(&self) -> io::Result<()> {
        let mut text = [0; 4096];
        // Without /proc there is only a moment in which a signal can be missed.
        let read = self.status.as_ref().map(|file| file.read_at(&mut text, 0));
        let Some(Ok(length)) = read else {
            return Ok(());
        };
        let pending = ["SigPnd:", "ShdPnd:"].map(|field| mask_of(&text[..length], field));
        let requests = REQUESTS.map(|signal| 1u64 << (signal as u32 - 1));
        if requests
            .iter()
            .any(|bit| (pending[0] | pending[1]) & bit != 0)
        {
            return Err(io::Error::from_raw_os_error(libc::ECANCELED));
        }
        Ok(())
    }
}

/// The signals that this process ignores, a bit each.
fn ignored_by_number() -> u64 {
    let status = fs::read("/proc/self/status").unwrap_or_default();
    mask_of(&status, "SigIgn:")
}

/// A mask of signals in a `/proc/PID/status`. It is read where nothing may be allocated, so
/// not by the parsers of text.
fn mask_of(status: &[u8], field: &str) -> u64 {
    let mut lines = status.split(|&byte| byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(field.as_bytes()));
    value
        .and_then(|value| std::str::from_utf8(value).ok())
        .and_then(|value| u64::from_str_radix(value.trim(), 16).ok())
        .unwrap_or(0)
}

/// Sets the action of a signal to one without a handler, and says what it was.
fn set(signal: Signal, action: SigHandler) -> nix::Result<SigHandler> {
    debug_assert!(matches!(action, SigHandler::SigDfl | SigHandler::SigIgn));
    let action = SigAction::new(action, SaFlags::empty(), SigSet::empty());
    // SAFETY: neither the default action nor none has a handler that could be unsafe.
    #[expect(unsafe_code, reason = "nix can't know that there is no handler")]
    let before = unsafe { sigaction(signal, &action) };
    Ok(before?.handler())
}

/// Whether our caller ignored SIGPIPE. The standard library does so for us before
/// `main`, so it has to be seen before that.
static SIGPIPE_WAS_IGNORED: AtomicBool = AtomicBool::new(false);

extern "C" fn look_at_sigpipe() {
    // SAFETY: `sigaction` with no new action only writes the old one, for which zeroes
    // are a value. It runs before `main`, and uses nothing of the standard library
    // that `main` has to prepare.
    #[expect(unsafe_code, reason = "nix has no way to only read an action")]
    let before = unsafe {
        let mut before = std::mem::zeroed::<libc::sigaction>();
        let read = libc::sigaction(libc::SIGPIPE, std::ptr::null(), &raw mut before);
        (read == 0).then_some(before.sa_sigaction)
    };
    SIGPIPE_WAS_IGNORED.store(before == Some(libc::SIG_IGN), Ordering::Relaxed);
}

// SAFETY: functions in this section are called once before `main`, and this one is fit
// for that.
#[expect(
    unsafe_code,
    reason = "there is no safe way to run before the standard library"
)]
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = look_at_sigpipe;

/// What to do about a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The workload got it too, or will in its time.
    Nothing,
    /// Send it to the workload.
    PassOn,
    /// End the recording.
    End,
}

/// Decides about signals, by what came before.
#[derive(Debug, Default)]
pub struct Requests {
    /// Sent to us alone.
    alone: u32,
    /// Presses of Ctrl-C or Ctrl-\ that came together.
    presses: u32,
    last: Option<Instant>,
}

impl Requests {
    /// What to do about `signal`, while the first process of the workload lives;
    /// `shares_group`: it is in our process group.
    ///
    /// A signal of the terminal goes to all of the foreground group, so it has reached
    /// the workload, if that is in our group, and is its to answer. A hang-up goes to
    /// the session's leader alone, which we may be.
    pub fn answer(&mut self, signal: &siginfo, shares_group: bool, now: Instant) -> Answer {
        let number = signal.ssi_signo as i32;
        if signal.ssi_code != SI_KERNEL {
            self.alone += 1;
            return match self.alone {
                1 => Answer::PassOn,
                _ => Answer::End,
            };
        }
        if number == Signal::SIGHUP as i32 {
            return Answer::PassOn;
        }
        if self.pressed(now) >= PRESSES {
            Answer::End
        } else if shares_group {
            Answer::Nothing
        } else {
            Answer::PassOn
        }
    }

    /// Whether `signal` ends what is waited for when the recording is over. A press of
    /// Ctrl-C may have been meant for a workload that has just ended: as before it takes
    /// three of them. Whatever was sent to us is meant for us.
    pub fn ends_wait(&mut self, signal: &siginfo, now: Instant) -> bool {
        let number = signal.ssi_signo as i32;
        if !REQUESTS.iter().any(|&it| it as i32 == number) {
            return false;
        }
        signal.ssi_code != SI_KERNEL
            || number == Signal::SIGHUP as i32
            || self.pressed(now) >= PRESSES
    }

    /// Counts a press; how many have come together.
    fn pressed(&mut self, now: Instant) -> u32 {
        if self
            .last
            .is_none_or(|last| now.duration_since(last) > TOGETHER)
        {
            self.presses = 0;
        }
        self.last = Some(now);
        self.presses += 1;
        self.presses
    }

    /// How many presses more end the recording, if one came a moment ago.
    pub fn presses_left(&self, now: Instant) -> Option<u32> {
        let recent = self
            .last
            .is_some_and(|last| now.duration_since(last) <= TOGETHER);
        recent.then(|| PRESSES.saturating_sub(self.presses))
    }
}

/// Ends this process by a signal, as the workload ended, so that whoever waits
/// for us sees the same. Without a core dump: the workload has made its own.
pub fn die_of(number: i32) -> ExitCode {
    // Whatever fails here, the status still tells.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    // SAFETY: the default action has no handler that could be unsafe, and `only` is
    // made by `sigemptyset` before it is used.
    #[expect(unsafe_code, reason = "nix knows no real-time signals")]
    unsafe {
        let mut only = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut only);
        libc::sigaddset(&raw mut only, number);
        libc::signal(number, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const only, std::ptr::null_mut());
        libc::raise(number);
    }
    ExitCode::from(128u8.saturating_add(number as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(signal: Signal, code: i32) -> siginfo {
        // SAFETY: zeroes are a value of it.
        #[expect(unsafe_code, reason = "it has no constructor")]
        let mut info: siginfo = unsafe { std::mem::zeroed() };
        info.ssi_signo = signal as u32;
        info.ssi_code = code;
        info
    }

    #[test]
    fn one_that_was_sent_to_us_is_passed_on_and_the_second_ends() {
        let mut requests = Requests::default();
        let now = Instant::now();
        let term = signal(Signal::SIGTERM, 0);
        assert_eq!(requests.answer(&term, true, now), Answer::PassOn);
        assert_eq!(requests.answer(&term, true, now), Answer::End);
    }

    #[test]
    fn the_terminals_is_passed_on_only_to_another_group() {
        for (shares_group, expected) in [(true, Answer::Nothing), (false, Answer::PassOn)] {
            let mut requests = Requests::default();
            let press = signal(Signal::SIGINT, SI_KERNEL);
            assert_eq!(
                requests.answer(&press, shares_group, Instant::now()),
                expected
            );
        }
    }

    #[test]
    fn a_hang_up_is_passed_on_whoever_sent_it() {
        let mut requests = Requests::default();
        let hang_up = signal(Signal::SIGHUP, SI_KERNEL);
        for _ in 0..5 {
            assert_eq!(
                requests.answer(&hang_up, true, Instant::now()),
                Answer::PassOn
            );
        }
    }

    #[test]
    fn three_presses_end_the_recording_if_they_come_together() {
        let mut requests = Requests::default();
        let press = signal(Signal::SIGINT, SI_KERNEL);
        let begun = Instant::now();
        let mut at = |ms: u64| requests.answer(&press, true, begun + Duration::from_millis(ms));
        assert_eq!(at(0), Answer::Nothing);
        assert_eq!(at(1_000), Answer::Nothing);
        // Too late for the third: the first of new ones.
        assert_eq!(at(60_000), Answer::Nothing);
        assert_eq!(at(60_500), Answer::Nothing);
        assert_eq!(at(61_000), Answer::End);
        assert_eq!(
            requests.presses_left(begun + Duration::from_secs(100)),
            None
        );
    }

    #[test]
    fn what_is_still_waited_for_at_the_end_ends_with_the_third_press() {
        let begun = Instant::now();
        let mut requests = Requests::default();
        let press = signal(Signal::SIGINT, SI_KERNEL);
        // Two of them came while it was recorded.
        requests.answer(&press, true, begun);
        assert!(!requests.ends_wait(&press, begun));
        assert!(!requests.ends_wait(&signal(Signal::SIGCHLD, 1), begun));
        assert!(requests.ends_wait(&press, begun));
        for (number, code) in [(Signal::SIGTERM, 0), (Signal::SIGHUP, SI_KERNEL)] {
            assert!(Requests::default().ends_wait(&signal(number, code), begun));
        }
    }

    #[test]
    fn who_presses_is_told_how_often() {
        let mut requests = Requests::default();
        let now = Instant::now();
        assert_eq!(requests.presses_left(now), None);
        requests.answer(&signal(Signal::SIGINT, SI_KERNEL), true, now);
        assert_eq!(requests.presses_left(now), Some(2));
    }

    #[test]
    fn masks_are_read_from_a_status() {
        let status = b"Name:\tx\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000002\n";
        assert_eq!(mask_of(status, "ShdPnd:"), 2);
        assert_eq!(mask_of(status, "SigPnd:"), 0);
        assert_eq!(mask_of(status, "SigIgn:"), 0);
    }
}
