//! Waits and what they are for, in few kinds: what is exported as labels must not grow with
//! the workload.

use crate::{
    analysis::family,
    lately::Lately,
    model::PAGE_FAULT,
    trace::{Arch, CALL_NOT_RECORDED, Event, FileKind, Interrupt, Timeout, Waker},
};

/// What kind of wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WaitKind {
    /// For time to pass.
    Sleep,
    /// For a disk or a file system.
    Disk,
    /// For a page.
    PageFault,
    /// For a lock whose owner is known, or a file lock.
    Lock,
    /// In a futex: a lock, a condition variable, or parked.
    Futex,
    /// For a child to end or to execute a program.
    Child,
    /// For the other end of a pipe or a Unix socket, or a message.
    Peer,
    /// For the other end of an internet socket.
    Network,
    /// For whatever comes first: select, poll, epoll, accept, a signal.
    Event,
    /// In the kernel, for something of its own.
    Kernel,
    /// Any of these, ended by its timeout.
    Timeout,
    /// A task was created, so not all were blocked any more.
    Created,
    /// Anything else.
    #[default]
    Other,
}

impl WaitKind {
    /// How many there are.
    pub const COUNT: usize = 13;

    /// All of them, in their order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Sleep,
        Self::Disk,
        Self::PageFault,
        Self::Lock,
        Self::Futex,
        Self::Child,
        Self::Peer,
        Self::Network,
        Self::Event,
        Self::Kernel,
        Self::Timeout,
        Self::Created,
        Self::Other,
    ];

    /// As in a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sleep => "sleep",
            Self::Disk => "disk",
            Self::PageFault => "page_fault",
            Self::Lock => "lock",
            Self::Futex => "futex",
            Self::Child => "child",
            Self::Peer => "peer",
            Self::Network => "network",
            Self::Event => "event",
            Self::Kernel => "kernel",
            Self::Timeout => "timeout",
            Self::Created => "created",
            Self::Other => "other",
        }
    }
}

/// What kind of object is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectClass {
    /// None, or not known.
    #[default]
    None,
    /// A regular file or a directory.
    File,
    /// A pipe.
    Pipe,
    /// A Unix socket.
    UnixSocket,
    /// An internet socket.
    InetSocket,
    /// A socket that others connect to.
    Listener,
    /// An eventfd, a timerfd, a signalfd, a pidfd, an inotify descriptor.
    EventFd,
    /// An epoll instance or an io_uring.
    Epoll,
    /// A terminal.
    Terminal,
    /// Another device.
    Device,
    /// Anything else.
    Other,
}

impl ObjectClass {
    /// As in a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::File => "file",
            Self::Pipe => "pipe",
            Self::UnixSocket => "unix_socket",
            Self::InetSocket => "inet_socket",
            Self::Listener => "listener",
            Self::EventFd => "eventfd",
            Self::Epoll => "epoll",
            Self::Terminal => "terminal",
            Self::Device => "device",
            Self::Other => "other",
        }
    }

    fn of(kind: &FileKind) -> Self {
        if kind.is_listening() {
            return Self::Listener;
        }
        match kind {
            FileKind::File(_) | FileKind::Directory(_) => Self::File,
            FileKind::Pipe | FileKind::Fifo(_) => Self::Pipe,
            FileKind::UnixSocket { .. } => Self::UnixSocket,
            FileKind::InetSocket { .. } => Self::InetSocket,
            FileKind::EventFd
            | FileKind::TimerFd
            | FileKind::SignalFd
            | FileKind::PidFd(_)
            | FileKind::Notify => Self::EventFd,
            FileKind::Epoll | FileKind::IoUring => Self::Epoll,
            FileKind::Terminal(_) => Self::Terminal,
            FileKind::Device(_) => Self::Device,
            FileKind::OtherSocket(_) | FileKind::Other(_) => Self::Other,
        }
    }

    /// By the type in a file's mode (inode(7)), before its name is known.
    fn of_mode(mode: u16) -> Self {
        match mode & 0o170_000 {
            0o100_000 | 0o040_000 => Self::File,
            0o010_000 => Self::Pipe,
            0o060_000 => Self::Device,
            _ => Self::None,
        }
    }
}

/// A wait in few words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// Of the wait.
    pub wait: WaitKind,
    /// Of what it is for.
    pub object: ObjectClass,
}

/// What a task sleeps in, as far as a kind follows from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) syscall: i16,
    pub(super) compat: bool,
    pub(super) arg0: u64,
    pub(super) object: u32,
    pub(super) uninterruptible: bool,
    /// How long it waits at most.
    pub(super) timeout: Timeout,
}

/// So many objects are remembered at least: the kernel programs know a few hundred a CPU, and
/// send one that they have forgotten again.
const OBJECTS: usize = 1 << 15;

/// Knows what the calls of an architecture are, and what numbers of objects stand for.
pub(super) struct Kinds {
    /// The family of each syscall.
    families: Vec<&'static str>,
    objects: Lately<u32, ObjectClass>,
}

impl Kinds {
    pub(super) fn new(arch: Arch) -> Self {
        const SYSCALLS: i32 = 512;
        let of = |number| arch.syscall_name(number).map_or("unknown syscall", family);
        Self {
            families: (0..SYSCALLS).map(of).collect(),
            objects: Lately::new(OBJECTS),
        }
    }

    /// Takes notice of what an object is.
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::Object(object) => self.learn(object.id, ObjectClass::of_mode(object.mode)),
            Event::Named(named) => self.learn(named.id, ObjectClass::of(&named.kind)),
            _ => {}
        }
    }

    fn learn(&mut self, id: u32, class: ObjectClass) {
        if class == ObjectClass::None {
            return;
        }
        self.objects.insert(id, class);
        if self.objects.is_full() {
            self.objects.forget(std::iter::empty());
        }
    }

    fn class(&mut self, id: u32) -> ObjectClass {
        self.objects.get(id).copied().unwrap_or_default()
    }

    /// What a wait is in: as the reason in a report.
    pub(super) fn reason(&self, call: &Call) -> &'static str {
        match call.syscall {
            PAGE_FAULT => "page fault",
            -1 if call.arg0 != 0 => "page fault",
            -1 => "outside syscalls",
            CALL_NOT_RECORDED => "unknown",
            _ if call.compat => "unknown syscall",
            number => {
                let family = usize::try_from(number)
                    .ok()
                    .and_then(|n| self.families.get(n));
                family.copied().unwrap_or("unknown syscall")
            }
        }
    }

    /// What kind of wait it is, while it lasts.
    pub(super) fn kind(&mut self, call: &Call) -> Kind {
        use {ObjectClass as Class, WaitKind as Wait};
        let object = match call.object {
            0 => Class::None,
            id => self.class(id),
        };
        let of_file = match object {
            Class::File | Class::Device => Wait::Disk,
            Class::Pipe | Class::UnixSocket => Wait::Peer,
            Class::InetSocket => Wait::Network,
            Class::Listener | Class::EventFd | Class::Epoll | Class::Terminal => Wait::Event,
            Class::None | Class::Other if call.uninterruptible => Wait::Disk,
            Class::None | Class::Other => Wait::Other,
        };
        let wait = match self.reason(call) {
            "sleep" => Wait::Sleep,
            "fsync" | "copy" | "file system" | "open" | "exec" | "close" | "aio" => Wait::Disk,
            "page fault" => Wait::PageFault,
            "read" | "write" => of_file,
            "recv" | "send" | "connect" if object == Class::None => Wait::Network,
            "recv" | "send" | "connect" => of_file,
            "futex" => Wait::Futex,
            "file lock" => Wait::Lock,
            "wait" => Wait::Child,
            "fork" if !call.uninterruptible => Wait::Child,
            "select" | "poll" | "epoll" | "accept" | "signal wait" | "io_uring" => Wait::Event,
            "semaphore" | "message queue" => Wait::Peer,
            _ if call.uninterruptible => Wait::Kernel,
            _ => Wait::Other,
        };
        Kind { wait, object }
    }

    /// What kind of wait it was, once it has ended.
    pub(super) fn ended(&mut self, call: &Call, waker: Waker) -> Kind {
        let kind = self.kind(call);
        let waits_for_time = matches!(kind.wait, WaitKind::Sleep);
        match waker {
            Waker::Interrupt(Interrupt::Timer) if !waits_for_time && !call.uninterruptible => {
                let wait = WaitKind::Timeout;
                Kind { wait, ..kind }
            }
            _ => kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Named;

    fn call(name: &str, object: u32) -> Call {
        let number = Arch::X86_64.syscall_number(name).expect("a syscall");
        Call {
            syscall: number as i16,
            compat: false,
            arg0: 0,
            object,
            uninterruptible: false,
            timeout: Timeout::None,
        }
    }

    #[test]
    fn a_read_is_what_it_reads_from() {
        let mut kinds = Kinds::new(Arch::X86_64);
        for (id, kind) in [
            (1, FileKind::File("/a".to_owned())),
            (2, FileKind::Pipe),
            (3, FileKind::Terminal("/dev/tty".to_owned())),
        ] {
            kinds.note(&Event::Named(Named {
                id,
                fd: 3,
                inode: 1,
                device: 1,
                kind,
            }));
        }
        let wait = |object| kinds.kind(&call("read", object)).wait;
        assert_eq!(
            [1, 2, 3, 9].map(wait),
            [
                WaitKind::Disk,
                WaitKind::Peer,
                WaitKind::Event,
                WaitKind::Other
            ]
        );
        assert_eq!(kinds.kind(&call("read", 2)).object, ObjectClass::Pipe);
    }

    #[test]
    fn a_timer_ends_a_poll_by_its_timeout_and_a_sleep_as_meant() {
        let mut kinds = Kinds::new(Arch::X86_64);
        let timer = Waker::Interrupt(Interrupt::Timer);
        let mut ended = |name| kinds.ended(&call(name, 0), timer).wait;
        assert_eq!(ended("poll"), WaitKind::Timeout);
        assert_eq!(ended("clock_nanosleep"), WaitKind::Sleep);
        assert_eq!(
            kinds.ended(&call("poll", 0), Waker::None).wait,
            WaitKind::Event
        );
    }

    #[test]
    fn the_objects_that_are_remembered_are_bounded() {
        let mut kinds = Kinds::new(Arch::X86_64);
        for id in 1..=3 * OBJECTS as u32 {
            kinds.learn(id, ObjectClass::Pipe);
            // This one is waited for all the time.
            assert_eq!(kinds.class(1), ObjectClass::Pipe, "at {id}");
        }
        let kept = kinds.objects.values().count();
        assert!(kept <= 2 * OBJECTS + 1, "{kept}");
        assert_eq!(kinds.class(3 * OBJECTS as u32), ObjectClass::Pipe);
        assert_eq!(kinds.class(2), ObjectClass::None);
    }
}
