//! From the bytes of a ring record to an event: the only place that knows the
//! records' layout. A record is believed only after its kind and its length are
//! known to be right.

use bytemuck::AnyBitPattern;
use forktrace_common::{
    event::{self as wire, flag, kind, waker, why},
    limits::POLL_KINDS,
};

use crate::trace::{
    Argv, Attached, Born, CpuUser, Event, Exec, Interrupt, Lag, LastName, Object, OpenStretch,
    Outsider, PollUse, Signal, Stacks, Stretch, TaskRecord, Timeout, Totals, Untracked, WaitFd,
    Waitset, Waker, Why,
};

/// A record that can't be one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undecodable;

/// Hands the events of a record to `sink`: one, or for the select/poll counters
/// one for each syscall used.
///
/// # Errors
/// When kind, length or a code in it is unknown.
// Long: a table, with an arm for each kind.
pub fn decode(cpu: u16, record: &[u8], mut sink: impl FnMut(Event)) -> Result<(), Undecodable> {
    match record.first() {
        Some(&kind::STRETCH) => sink(Event::Stretch(stretch(cpu, &read(record)?)?)),
        Some(&kind::TOTALS) => sink(Event::Totals(totals(&read(record)?))),
        Some(&kind::BORN) => {
            let born: wire::Born = read(record)?;
            sink(Event::Born(Born {
                serial: born.serial,
                parent: born.parent,
                process: born.process,
                tid: born.tid,
                tgid: born.tgid,
                ppid: born.ppid,
                clone_flags: born.clone_flags,
                kernel_worker: born.flags & flag::KERNEL_WORKER != 0,
                at_ns: born.at_ns,
                comm: name(&born.comm),
            }));
        }
        Some(&kind::EXEC) => sink(Event::Exec(exec(&read(record)?))),
        Some(&kind::ARGV) => {
            let line: wire::Argv = read(record)?;
            let argv = argv(&line);
            if !argv.is_empty() {
                sink(Event::Argv(Argv {
                    serial: line.serial,
                    at_ns: line.at_ns,
                    argv,
                }));
            }
        }
        Some(&kind::END) => {
            let end: wire::End = read(record)?;
            sink_attached(&end.state, &mut sink);
            sink(Event::Task(task(&end.state)?));
        }
        Some(&kind::POLLS) => {
            let record: wire::Polls = read(record)?;
            polls(record.serial, &record.polls, sink);
        }
        Some(&kind::UNTRACKED) => sink(Event::Untracked(untracked(&read(record)?))),
        Some(&kind::UNTRACKED_END) => sink(Event::UntrackedEnd(untracked(&read(record)?))),
        Some(&kind::OUTSIDER) => {
            let o: wire::Outsider = read(record)?;
            sink(Event::Outsider(Outsider {
                tid: o.tid,
                tgid: o.tgid,
                kernel_thread: o.kernel_thread != 0,
                at_ns: o.at_ns,
                comm: name(&o.comm),
            }));
        }
        Some(&kind::CPU_USER) => sink(Event::CpuUser(cpu_user(cpu, &read(record)?))),
        Some(&kind::OBJECT) => {
            let o: wire::Object = read(record)?;
            sink(Event::Object(Object {
                id: o.id,
                serial: o.serial,
                fd: o.fd as i32,
                at_ns: o.at_ns,
                file: o.file,
                operations: o.operations,
                inode: o.inode,
                device: o.device,
                mode: o.mode,
                last_name: LastName(o.name),
            }));
        }
        Some(&kind::WAITSET) => sink(Event::Waitset(waitset(&read(record)?))),
        Some(&kind::SIGNAL) => {
            let s: wire::Signal = read(record)?;
            sink(Event::Signal(Signal {
                serial: s.serial,
                signal: s.signal,
                group: s.group != 0,
                sender: waker(s.sender_class, s.sender)?,
                at_ns: s.at_ns,
            }));
        }
        Some(&kind::LAG) => {
            let l: wire::Lag = read(record)?;
            sink(Event::Lag(Lag {
                serial: l.serial,
                ready_ns: l.ready_ns,
                looked_ns: l.looked_ns,
                local_port: l.local_port,
                remote_port: l.remote_port,
            }));
        }
        Some(&kind::STACKS) => {
            let s: wire::Stacks = read(record)?;
            let id = |id: i32| u32::try_from(id).ok();
            sink(Event::Stacks(Stacks {
                serial: s.serial,
                seq: s.seq,
                waker: waker(s.waker_class, s.waker)?,
                kernel: id(s.kernel),
                user: id(s.user),
                at_ns: s.at_ns,
            }));
        }
        _ => return Err(Undecodable),
    }
    Ok(())
}

fn exec(e: &wire::Exec) -> Exec {
    Exec {
        serial: e.serial,
        old_tid: e.old_tid,
        tid: e.tid,
        at_ns: e.at_ns,
        comm: name(&e.comm),
    }
}

fn cpu_user(cpu: u16, u: &wire::CpuUser) -> CpuUser {
    CpuUser {
        cpu,
        tid: u.tid,
        tgid: u.tgid,
        kernel_thread: u.kernel_thread != 0,
        at_ns: u.at_ns,
        ns: u.ns,
        comm: name(bytemuck::bytes_of(&u.comm)),
    }
}

/// Who woke, from a class and the number that belongs to it.
fn waker(class: u8, number: u32) -> Result<Waker, Undecodable> {
    let task = |softirq| Waker::Task {
        serial: number,
        softirq,
    };
    let outsider = |softirq| Waker::Outsider {
        tid: number,
        softirq,
    };
    Ok(match class {
        waker::NONE => Waker::None,
        waker::TASK => task(false),
        waker::TASK_SOFTIRQ => task(true),
        waker::OUTSIDER => outsider(false),
        waker::OUTSIDER_SOFTIRQ => outsider(true),
        waker::TIMER => Waker::Interrupt(Interrupt::Timer),
        waker::HARD_INTERRUPT => Waker::Interrupt(Interrupt::Device(number)),
        waker::SOFT_INTERRUPT => Waker::Interrupt(Interrupt::Soft(number as u8)),
        waker::OTHER_INTERRUPT => Waker::Interrupt(Interrupt::Other),
        waker::UNKNOWN => Waker::Unknown,
        _ => return Err(Undecodable),
    })
}

fn waitset(w: &wire::Waitset) -> Waitset {
    const POLLIN: u16 = 1;
    const POLLPRI: u16 = 2;
    const POLLOUT: u16 = 4;
    let mut fds = Vec::new();
    let mut cut_off = false;
    if w.select == 0 {
        let shown = w.nfds.min(wire::WAITSET_POLLFDS) as usize;
        cut_off = w.nfds > wire::WAITSET_POLLFDS;
        for pollfd in w.bytes.chunks_exact(8).take(shown) {
            let fd = i32::from_le_bytes([pollfd[0], pollfd[1], pollfd[2], pollfd[3]]);
            let events = u16::from_le_bytes([pollfd[4], pollfd[5]]);
            // A negative one is not waited for.
            if fd >= 0 {
                fds.push(WaitFd { fd, events });
            }
        }
    } else {
        let bits = (w.nfds as usize).min(wire::WAITSET_SET_BYTES * 8);
        cut_off |= w.nfds as usize > bits;
        for fd in 0..bits {
            let mut events = 0;
            for (set, event) in [POLLIN, POLLOUT, POLLPRI].into_iter().enumerate() {
                let byte = w.bytes[set * wire::WAITSET_SET_BYTES + fd / 8];
                if byte & (1 << (fd % 8)) != 0 {
                    events |= event;
                }
            }
            if events != 0 {
                let fd = fd as i32;
                fds.push(WaitFd { fd, events });
            }
        }
        cut_off |= fds.len() > wire::WAITSET_POLLFDS as usize;
        fds.truncate(wire::WAITSET_POLLFDS as usize);
    }
    Waitset {
        id: w.id,
        serial: w.serial,
        at_ns: w.at_ns,
        fds,
        cut_off,
    }
}

fn read<T: AnyBitPattern>(record: &[u8]) -> Result<T, Undecodable> {
    // The ring rounds lengths up to 8, as all our records are.
    bytemuck::try_pod_read_unaligned(record).map_err(|_| Undecodable)
}

fn why(code: u8) -> Result<Why, Undecodable> {
    Ok(match code {
        why::NEW => Why::New,
        why::PREEMPTED => Why::Preempted,
        why::INTERRUPTIBLE => Why::Interruptible,
        why::KILLABLE => Why::Killable,
        why::UNINTERRUPTIBLE => Why::Uninterruptible,
        why::STOPPED => Why::Stopped,
        why::TRACED => Why::Traced,
        why::FROZEN => Why::Frozen,
        why::CORE_DUMP => Why::CoreDump,
        _ => return Err(Undecodable),
    })
}

fn stretch(cpu: u16, s: &wire::Stretch) -> Result<Stretch, Undecodable> {
    Ok(Stretch {
        serial: s.serial,
        seq: s.seq,
        out_ns: s.out_ns,
        wake_ns: s.wake_ns,
        in_ns: s.in_ns,
        why: why(s.why)?,
        early_wake: s.flags & flag::EARLY_WAKE != 0,
        no_wake: s.flags & flag::NO_WAKE != 0,
        inferred: s.flags & flag::INFERRED != 0,
        compat: s.flags & flag::COMPAT != 0,
        syscall: s.syscall,
        cpu_out: s.cpu_out,
        cpu_in: cpu,
        arg0: s.arg0,
        arg1: s.arg1,
        waker: waker(s.waker_class, s.waker)?,
        object: s.object,
        timeout: Timeout::from_us(s.timeout_us),
    })
}

fn totals(t: &wire::Totals) -> Totals {
    Totals {
        serial: t.serial,
        seq: t.seq,
        lost: t.lost,
        blocked_ns: t.blocked_ns,
        runnable_ns: t.runnable_ns,
        stopped_ns: t.stopped_ns,
    }
}

fn untracked(u: &wire::Untracked) -> Untracked {
    Untracked {
        tid: u.tid,
        tgid: u.tgid,
        ppid: u.ppid,
        at_ns: u.at_ns,
        comm: name(&u.comm),
    }
}

/// Says of a task that was taken in that it was, if it was.
fn sink_attached(state: &wire::TaskState, sink: &mut impl FnMut(Event)) {
    if state.attached != 0 {
        sink(Event::Attached(Attached {
            serial: state.serial,
            at_ns: state.born_ns,
            asleep_for_ns: None,
        }));
    }
}

/// The events of a task that was there before the recording and has been taken in: that it
/// was, its birth, and the file that it was found waiting for. `ahead_ns` is how far the
/// clock of the run queues is ahead of that of the records.
pub fn entered(
    state: &wire::TaskState,
    entry: &wire::Entry,
    ahead_ns: Option<i64>,
    mut sink: impl FnMut(Event),
) {
    let of_this_task = entry.serial == state.serial;
    let slept = of_this_task && entry.why > why::PREEMPTED && entry.last_ran_ns != 0;
    let asleep_for_ns = ahead_ns.filter(|_| slept).map(|ahead| {
        let left = (entry.last_ran_ns + entry.ran_ns).saturating_add_signed(-ahead);
        state.born_ns.saturating_sub(left)
    });
    sink(Event::Attached(Attached {
        serial: state.serial,
        at_ns: state.born_ns,
        asleep_for_ns,
    }));
    sink(Event::Born(born(state)));
    if of_this_task && entry.object != 0 {
        sink(Event::Object(Object {
            id: entry.object,
            serial: state.serial,
            fd: entry.fd as i32,
            at_ns: state.born_ns,
            file: entry.file,
            operations: entry.operations,
            inode: entry.inode,
            device: entry.device,
            mode: entry.mode,
            last_name: LastName::default(),
        }));
    }
}

fn born(s: &wire::TaskState) -> Born {
    Born {
        serial: s.serial,
        parent: s.parent,
        process: s.process,
        tid: s.tid,
        tgid: s.tgid,
        ppid: s.ppid,
        clone_flags: s.clone_flags,
        kernel_worker: s.flags & flag::KERNEL_WORKER != 0,
        at_ns: s.born_ns,
        comm: name(&s.comm),
    }
}

/// The stretch that a task is in; `None`: it runs, or has ended.
///
/// # Errors
/// When a code in it is unknown.
pub fn open(s: &wire::TaskState) -> Result<Option<OpenStretch>, Undecodable> {
    if s.end_ns != 0 || s.out_ns == 0 {
        return Ok(None);
    }
    let why = why(s.why)?;
    let waiting = !matches!(why, Why::New | Why::Preempted);
    Ok(Some(OpenStretch {
        out_ns: s.out_ns,
        wake_ns: if waiting {
            (s.wake_ns != 0).then(|| s.wake_ns.max(s.out_ns))
        } else {
            Some(s.out_ns)
        },
        why,
        compat: s.flags & flag::COMPAT != 0,
        syscall: s.syscall,
        arg0: s.arg0,
        arg1: s.arg1,
        waker: if waiting && s.wake_ns != 0 {
            waker(s.waker_class, s.waker)?
        } else {
            Waker::None
        },
        object: if waiting { s.object } else { 0 },
        timeout: if waiting {
            Timeout::from_us(s.timeout_us)
        } else {
            Timeout::None
        },
    }))
}

/// A task from its state, which comes with its end or from the task table.
///
/// # Errors
/// When a code in it is unknown.
pub fn task(s: &wire::TaskState) -> Result<TaskRecord, Undecodable> {
    let ended = s.end_ns != 0;
    let open = open(s)?;
    Ok(TaskRecord {
        born: born(s),
        end_ns: ended.then_some(s.end_ns),
        totals: Totals {
            serial: s.serial,
            seq: s.seq,
            lost: s.lost,
            blocked_ns: s.blocked_ns,
            runnable_ns: s.runnable_ns,
            stopped_ns: s.stopped_ns,
        },
        missed: s.missed,
        switches: s.switches,
        kernel_switches: ended.then_some(s.kernel_switches),
        kernel_cpu_ns: ended.then_some(s.kernel_cpu_ns),
        exit_code: ended.then_some(s.exit_code),
        ended_in: ended.then_some(s.syscall),
        open,
    })
}

/// A wait for a lock of the kernel, as it was when the task went to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelLock {
    /// The task that waits.
    pub serial: u32,
    /// The stretch that it is in.
    pub seq: u32,
    /// Since when.
    pub since_ns: u64,
    /// Address of the lock.
    pub lock: u64,
    /// Tid of the task that had it then; `None`: nobody had it, or it is not known who.
    pub holder_tid: Option<u32>,
    /// Serial of that task, if it is of the workload.
    pub holder: Option<u32>,
}

/// The lock of the kernel that a task sleeps in, from its state.
pub fn kernel_lock(s: &wire::TaskState) -> Option<KernelLock> {
    let asleep = s.end_ns == 0 && s.out_ns != 0 && s.wake_ns == 0;
    let waits = matches!(
        s.why,
        why::INTERRUPTIBLE | why::KILLABLE | why::UNINTERRUPTIBLE
    );
    let of_this = s.lock != 0 && s.lock_seq == s.seq;
    (asleep && waits && of_this).then(|| KernelLock {
        serial: s.serial,
        seq: s.seq,
        since_ns: s.out_ns,
        lock: s.lock,
        holder_tid: (s.lock_holder_tid != 0).then_some(s.lock_holder_tid),
        holder: (s.lock_holder != 0).then_some(s.lock_holder),
    })
}

/// The events of a task's select/poll counters: one for each syscall used.
pub fn polls(serial: u32, state: &wire::PollState, mut sink: impl FnMut(Event)) {
    for position in 0..POLL_KINDS {
        let counters = &state.counters[position + 1];
        let unfinished = state.pending as usize == position + 1;
        if unfinished || *counters != wire::PollCounters::default() {
            let poll_use = PollUse::new(serial, position as u8, counters, unfinished);
            sink(Event::Poll(poll_use));
        }
    }
}

fn name(comm: &[u8]) -> String {
    let len = comm.iter().position(|&b| b == 0).unwrap_or(comm.len());
    String::from_utf8_lossy(&comm[..len]).into_owned()
}

/// The arguments of a command line; one that is cut is left out, if it is not the only one.
fn argv(line: &wire::Argv) -> Vec<String> {
    let here = (line.here as usize).min(line.bytes.len());
    let text = String::from_utf8_lossy(&line.bytes[..here]);
    let mut args: Vec<String> = text.split('\0').map(str::to_owned).collect();
    // What is after the last NUL.
    let cut = line.bytes_of_all > line.here || args.last().is_some_and(String::is_empty);
    if cut && (args.len() > 1 || here == 0) {
        args.pop();
    }
    args
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;

    use super::*;

    fn events(record: &[u8]) -> Result<Vec<Event>, Undecodable> {
        let mut events = Vec::new();
        decode(3, record, |event| events.push(event))?;
        Ok(events)
    }

    #[test]
    fn a_command_line_is_cut_between_two_arguments() {
        let of = |text: &str, bytes_of_all: u32| {
            let mut line = wire::Argv::zeroed();
            (line.kind, line.here, line.bytes_of_all) =
                (kind::ARGV, text.len() as u32, bytes_of_all);
            line.bytes[..text.len()].copy_from_slice(text.as_bytes());
            match &events(bytemuck::bytes_of(&line)).expect("it is a record")[..] {
                [Event::Argv(argv)] => argv.argv.join("|"),
                other => format!("{other:?}"),
            }
        };
        assert_eq!(of("sleep\0 1\0", 9), "sleep| 1");
        assert_eq!(of("printf\0\0", 8), "printf|");
        assert_eq!(of("cc1\0-quiet\0lon", 600), "cc1|-quiet");
        assert_eq!(of("one_that_is_very_lon", 600), "one_that_is_very_lon");
        // A program can write there what it likes.
        assert_eq!(of("server: idle", 12), "server: idle");
        assert_eq!(of("", 9), "[]");
        let mut line = wire::Argv::zeroed();
        (line.kind, line.here) = (kind::ARGV, u32::MAX);
        assert_eq!(
            events(bytemuck::bytes_of(&line)).expect("a record").len(),
            1
        );
    }

    #[test]
    fn a_stretch_carries_the_cpu_of_its_ring() {
        let record = wire::Stretch {
            kind: kind::STRETCH,
            why: why::KILLABLE,
            flags: flag::COMPAT,
            serial: 7,
            out_ns: 1,
            wake_ns: 2,
            in_ns: 3,
            ..wire::Stretch::zeroed()
        };
        let events = events(bytemuck::bytes_of(&record)).expect("it is a record");
        let [Event::Stretch(s)] = events[..] else {
            panic!("{events:?}")
        };
        assert_eq!((s.serial, s.why, s.cpu_in), (7, Why::Killable, 3));
        assert!(s.compat && !s.early_wake && !s.no_wake);
    }

    #[test]
    fn wrong_kinds_lengths_and_codes_are_refused() {
        let mut record = wire::Stretch {
            kind: kind::STRETCH,
            why: 99,
            ..wire::Stretch::zeroed()
        };
        assert_eq!(events(bytemuck::bytes_of(&record)), Err(Undecodable));
        record.why = why::NEW;
        assert!(events(bytemuck::bytes_of(&record)).is_ok());
        assert_eq!(events(&bytemuck::bytes_of(&record)[..48]), Err(Undecodable));
        record.kind = 200;
        assert_eq!(events(bytemuck::bytes_of(&record)), Err(Undecodable));
        assert_eq!(events(&[]), Err(Undecodable));
    }

    #[test]
    fn a_lock_of_the_kernel_is_of_one_sleep() {
        let state = wire::TaskState {
            serial: 4,
            seq: 7,
            out_ns: 100,
            why: why::UNINTERRUPTIBLE,
            lock: 0x1000,
            lock_seq: 7,
            lock_holder: 3,
            lock_holder_tid: 33,
            ..wire::TaskState::zeroed()
        };
        let expected = KernelLock {
            serial: 4,
            seq: 7,
            since_ns: 100,
            lock: 0x1000,
            holder_tid: Some(33),
            holder: Some(3),
        };
        assert_eq!(kernel_lock(&state), Some(expected));
        for other in [
            wire::TaskState { seq: 8, ..state },
            wire::TaskState {
                wake_ns: 120,
                ..state
            },
            wire::TaskState { out_ns: 0, ..state },
            wire::TaskState {
                why: why::STOPPED,
                ..state
            },
        ] {
            assert_eq!(kernel_lock(&other), None);
        }
    }

    #[test]
    fn a_living_task_has_an_open_stretch_and_a_dead_one_has_none() {
        let mut state = wire::TaskState {
            task: 1,
            serial: 4,
            out_ns: 100,
            wake_ns: 90,
            why: why::INTERRUPTIBLE,
            ..wire::TaskState::zeroed()
        };
        let open = task(&state)
            .expect("it is a task")
            .open
            .expect("it is off the CPU");
        assert_eq!(
            open.wake_ns,
            Some(100),
            "an early wakeup ends the block where it began"
        );
        state.wake_ns = 0;
        assert_eq!(
            task(&state).map(|t| t.open.map(|o| o.wake_ns)),
            Ok(Some(None))
        );
        state.end_ns = 200;
        let dead = task(&state).expect("it is a task");
        assert_eq!((dead.open, dead.end_ns), (None, Some(200)));
    }
}
