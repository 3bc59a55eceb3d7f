//! The stacks of blocks and wakers, with names that are looked up while the processes live.
//!
//! The kernel follows frame pointers, and numbers the stacks that it finds. Of a block that
//! lasts the recorder has the stack followed while the task sleeps (`looks`, by a helper:
//! `unwind`), which then takes the place of the kernel's. Either gets a number of ours
//! ([`Namer`]), and another helper finds the functions (`Symbols`).

mod allowance;
mod code;
mod cut_files;
mod doubts;
mod frames;
mod go;
mod java;
mod jvm;
mod kernels;
mod lines;
mod looks;
mod perf_map;
mod proofs;
mod sections;
mod symbols;
mod unwind;

use std::{
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

use self::{
    doubts::Doubts,
    java::Machines,
    kernels::Kernels,
    looks::{Looked, Looks},
    symbols::{Answer, Of, Question},
    unwind::{End, Walk},
};
pub(crate) use self::{jvm::ask as ask_java, symbols::Symbols, unwind::Unwinder};
use crate::{
    capture::{StackWays, Tracer},
    helper::{Channel, Kind, Nursery, Troubles},
    last_wait::{LastWait, Patience},
    sink::Sink,
    trace::{Born, Event, Frames, Stacks, TaskRecord, WaitsIn, Waker},
};

/// Questions that the helper has at a time. It gets them as fast as they come: a process
/// can soon be gone.
const MOST_ASKED: usize = 4096;
/// Stacks that were followed by us and are known again.
const MOST_WALKS: usize = 1 << 16;
/// A helper that does not answer for so long is abandoned: the symbols of the largest
/// programs take seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// And so many more are tried.
const REPLACED: u64 = 8;
/// The workload begins without the helper that follows stacks, if that takes longer to begin.
const LONGEST_START: Duration = Duration::from_secs(2);
/// What processes have told of themselves is looked at again so often.
const AGAIN: Duration = Duration::from_millis(20);
/// At the end of a recording the helper may take so long for all that is left, and be
/// silent for so long.
const LAST_WAIT: Patience = Patience {
    longest: Duration::from_secs(20),
    silence: Duration::from_secs(2),
};

/// Replaces the kernel's numbers of stacks by ours, and writes each stack once.
pub struct Namer {
    helper: Channel<Asked, Answer>,
    /// By whose and by the kernel's number.
    known: HashMap<(Of, u32), u32>,
    /// The same of those that were followed by us.
    walks: HashMap<(Of, u64), u32>,
    /// Stacks that have a number.
    numbers: u32,
    /// Follows stacks while tasks sleep; `None`: that is not wanted.
    looks: Option<Looks>,
    /// Has Java machines say what they compiled; `None`: that is not wanted.
    java: Option<Machines>,
    /// What was looked at.
    doubts: Doubts,
    /// The kernel's stacks of blocks, while some are looked at.
    of_kernel: Kernels,
    /// Process of each living task.
    pids: HashMap<u32, u32>,
    /// How many programs have begun under each number of a process.
    programs: HashMap<u32, u32>,
    /// The programs that processes are in which live.
    living: HashMap<u32, Began>,
    /// Stacks that wait for their numbers.
    waiting: Vec<Stacks>,
    asked_again: Instant,
    /// Stacks that the helper was not asked about: it had too much to do.
    left_out: u64,
    /// Times that a file was cut short while it was read.
    cut: u64,
}

/// When a program began, and what its process was forked from.
#[derive(Clone, Copy)]
struct Began {
    program: u32,
    at_ns: u64,
    parent: Option<Of>,
}

/// What a question was about.
enum Asked {
    Stack(u32, Walk),
    Other,
}

impl Namer {
    /// For a recording that begins now.
    pub(crate) fn new(nursery: &Rc<Nursery>, ways: StackWays) -> Self {
        let looks = ways.look_after.map(|over| Looks::new(nursery, over));
        let java = ways.ask_java.then(|| Machines::new(nursery));
        Self {
            helper: Channel::new(nursery.clone(), Kind::Symbols, PATIENCE, REPLACED),
            known: HashMap::new(),
            walks: HashMap::new(),
            numbers: 0,
            looks,
            java,
            doubts: Doubts::default(),
            of_kernel: Kernels::default(),
            pids: HashMap::new(),
            programs: HashMap::new(),
            living: HashMap::new(),
            waiting: Vec::new(),
            asked_again: Instant::now(),
            left_out: 0,
            cut: 0,
        }
    }

    /// Waits until stacks can be followed, before the workload begins.
    pub(crate) fn wait_for_helper(&mut self) {
        if let Some(looks) = &mut self.looks {
            looks.wait_for_helper(LONGEST_START);
        }
    }

    /// CPU time that the helpers used, ns.
    pub(crate) fn helper_cpu_ns(&self) -> u64 {
        let of_looks = self.looks.as_ref().map_or(0, Looks::helper_cpu_ns);
        let of_java = self.java.as_ref().map_or(0, Machines::helper_cpu_ns);
        self.helper.cpu_ns() + of_looks + of_java
    }

    /// Until somebody may have slept long enough for his stack to be followed; `None`: nobody
    /// ever does.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        self.looks.as_ref().map(Looks::time_left)
    }

    /// Has the stacks followed of those who have slept long enough, and takes what was found.
    pub(crate) fn look(&mut self, tracer: &Tracer, now_ns: u64) {
        if let Some(looks) = &mut self.looks {
            let programs = &self.programs;
            let program = |pid| programs.get(&pid).copied().unwrap_or(0);
            looks.turn(tracer, now_ns, program);
        }
    }

    /// What went wrong with the helper. Stacks that it was not asked about count as
    /// questions that it did not answer.
    pub(crate) fn troubles(&self) -> Troubles {
        let mut troubles = self.helper.troubles();
        if let Some(looks) = &self.looks {
            troubles = troubles + looks.troubles();
        }
        if let Some(java) = &self.java {
            troubles = troubles + java.troubles();
        }
        troubles.unanswered += self.left_out + self.cut;
        troubles.cut += self.cut;
        troubles
    }

    /// Passes an event on; stacks are kept back until [`Self::name`].
    pub(crate) fn see(&mut self, event: &Event, writer: &mut Sink) {
        if let (Event::Stretch(off), Some(looks)) = (event, &mut self.looks) {
            looks.ended(off);
        }
        match event {
            Event::Stacks(stacks) => {
                self.waiting.push(*stacks);
                return;
            }
            Event::Born(born) => {
                self.pids.insert(born.serial, born.tgid);
                if born.tid == born.tgid {
                    self.forked(born);
                }
            }
            Event::Stretch(off) if off.inferred && self.looks.is_some() => {
                writer.push(event);
                if let Some(kernel) = self.doubts.infer(off.serial, off.seq) {
                    writer.push(&Event::Stacks(Stacks {
                        serial: off.serial,
                        seq: off.seq,
                        waker: Waker::None,
                        kernel,
                        user: None,
                    }));
                }
                return;
            }
            Event::Exec(exec) => self.begins(exec.tid, exec.at_ns, None),
            Event::Task(task) => self.ended(task),
            _ => {}
        }
        writer.push(event);
    }

    /// A process begins with the code of its creator.
    fn forked(&mut self, born: &Born) {
        let parent = self.pids.get(&born.parent).map(|pid| self.process(*pid));
        self.begins(born.tgid, born.at_ns, parent);
    }

    /// A program begins under this number.
    fn begins(&mut self, pid: u32, at_ns: u64, parent: Option<Of>) {
        let program = self.programs.entry(pid).or_default();
        *program += 1;
        let began = Began {
            program: *program,
            at_ns,
            parent,
        };
        self.living.insert(pid, began);
        if let Some(java) = &mut self.java {
            java.began(pid, began.program);
        }
        self.ask(Asked::Other, &began.question(pid));
    }

    fn ended(&mut self, task: &TaskRecord) {
        if task.end_ns.is_some() {
            let serial = task.born.serial;
            let is_open = |seq| is_open(self.looks.as_ref(), serial, seq);
            self.of_kernel.forget(serial, is_open);
            self.doubts.forget(serial);
        }
        if task.end_ns.is_some() && task.born.tid == task.born.tgid {
            let ended = self.living.remove(&task.born.tgid);
            if let (Some(java), Some(ended)) = (&mut self.java, ended) {
                java.forget(task.born.tgid, ended.program);
            }
        }
    }

    fn ask(&mut self, about: Asked, question: &Question) {
        if self.helper.is_open() {
            self.helper.ask(about, question);
        }
    }

    /// What could not be done since this was last called, in words.
    pub(crate) fn take_failures(&mut self) -> Vec<String> {
        let java = self.java.as_mut();
        java.map(Machines::take_failures).unwrap_or_default()
    }

    /// Writes the stacks that were kept back, and those that they are made of as far as the
    /// helper has told. `addresses` gives the stack of a kernel's number.
    pub(crate) fn name(&mut self, addresses: impl Fn(u32) -> Vec<u64>, writer: &mut Sink) {
        for mut stacks in std::mem::take(&mut self.waiting) {
            let process = self.of(&stacks);
            for (id, of) in [
                (&mut stacks.kernel, Some(Of::Kernel)),
                (&mut stacks.user, process),
            ] {
                let found = id.zip(of);
                *id = found.and_then(|(id, of)| self.number(of, id, &addresses, writer));
            }
            if stacks.waker == Waker::None && self.looks.is_some() {
                let Stacks { serial, seq, .. } = stacks;
                let is_open = |seq| is_open(self.looks.as_ref(), serial, seq);
                self.of_kernel.saw(serial, seq, stacks.kernel, is_open);
            }
            writer.push(&Event::Stacks(stacks));
        }
        let looked = self.looks.as_mut().map(Looks::take).unwrap_or_default();
        for looked in looked {
            self.write_looked(looked, writer);
        }
        self.answers(writer);
        if let Some(java) = &mut self.java {
            java.turn();
        }
        if self.asked_again.elapsed() > AGAIN && self.helper.waiting() == 0 {
            self.asked_again = Instant::now();
            self.ask(Asked::Other, &Question::Again(false));
        }
    }

    /// Writes the stack of a block that was followed: in place of what the kernel found of the
    /// program's, beside what it found of its own.
    fn write_looked(&mut self, looked: Looked, writer: &mut Sink) {
        let Looked {
            serial,
            seq,
            pid,
            number,
            walk,
        } = looked;
        let kernel = self.of_kernel.of(serial, seq);
        if !self.doubts.look(serial, seq, kernel) {
            return;
        }
        let key = (self.process(pid), number);
        let user = match self.walks.get(&key) {
            Some(number) => *number,
            None => {
                if self.walks.len() >= MOST_WALKS {
                    self.walks.clear();
                }
                let number = self.new_number(key.0, (*walk).clone(), writer);
                self.walks.insert(key, number);
                number
            }
        };
        writer.push(&Event::Stacks(Stacks {
            serial,
            seq,
            waker: Waker::None,
            kernel,
            user: Some(user),
        }));
    }

    /// Writes what the helper has told.
    pub(crate) fn answers(&mut self, writer: &mut Sink) {
        let received = self.helper.receive();
        for (_, answer, _) in received.answers {
            self.cut += u64::from(answer.cut);
            for (frames, waits_in) in answer.frames {
                let number = frames.number;
                writer.push(&Event::Frames(frames));
                if let Some(frame) = waits_in {
                    writer.push(&Event::WaitsIn(WaitsIn { number, frame }));
                }
            }
        }
        for asked in received.lost {
            if let Asked::Stack(number, walk) = asked {
                writer.push(&Event::Frames(nameless(number, &walk)));
            }
        }
        if received.anew {
            let mut began: Vec<_> = self.living.iter().collect();
            began.sort_unstable_by_key(|(_, began)| began.at_ns);
            let began = began.into_iter();
            let began = began.map(|(pid, began)| (Asked::Other, began.question(*pid)));
            self.helper.go_on(began);
        }
    }

    /// Writes all that the helper still has to tell.
    pub(crate) fn finish(
        &mut self,
        last_wait: &mut LastWait<'_>,
        addresses: impl Fn(u32) -> Vec<u64>,
        writer: &mut Sink,
    ) {
        self.name(addresses, writer);
        if let Some(java) = &mut self.java {
            java.ask_all();
            last_wait.until_done(LAST_WAIT, || java.left());
        }
        self.ask(Asked::Other, &Question::Again(true));
        last_wait.until_done(LAST_WAIT, || {
            self.answers(writer);
            Some(self.helper.waiting()).filter(|waiting| *waiting > 0)
        });
        for asked in self.helper.give_up() {
            if let Asked::Stack(number, walk) = asked {
                writer.push(&Event::Frames(nameless(number, &walk)));
            }
        }
    }

    /// Whose program is on a stack.
    fn of(&self, stacks: &Stacks) -> Option<Of> {
        let pid = match stacks.waker {
            Waker::None => self.pids.get(&stacks.serial).copied(),
            Waker::Task { serial, .. } => self.pids.get(&serial).copied(),
            Waker::Outsider { tid, .. } => Some(tid),
            Waker::Interrupt(_) | Waker::Unknown => None,
        };
        pid.map(|pid| self.process(pid))
    }

    fn process(&self, pid: u32) -> Of {
        Of::Process(pid, self.programs.get(&pid).copied().unwrap_or(0))
    }

    /// Our number of a stack; `None` when it is not there.
    fn number(
        &mut self,
        of: Of,
        id: u32,
        addresses: impl Fn(u32) -> Vec<u64>,
        writer: &mut Sink,
    ) -> Option<u32> {
        if let Some(number) = self.known.get(&(of, id)) {
            return Some(*number);
        }
        let addresses = addresses(id);
        if addresses.is_empty() {
            return None;
        }
        let walk = Walk {
            addresses,
            ..Walk::default()
        };
        let number = self.new_number(of, walk, writer);
        self.known.insert((of, id), number);
        Some(number)
    }

    /// A number for a stack that has none yet; its functions are asked for.
    fn new_number(&mut self, of: Of, walk: Walk, writer: &mut Sink) -> u32 {
        let number = self.numbers;
        self.numbers = self.numbers.wrapping_add(1);
        if self.helper.is_open() && self.helper.waiting() < MOST_ASKED {
            let question = Question::Stack(number, of, walk.clone());
            self.helper.ask(Asked::Stack(number, walk), &question);
        } else {
            self.left_out += 1;
            writer.push(&Event::Frames(nameless(number, &walk)));
        }
        number
    }
}

impl Began {
    fn question(&self, pid: u32) -> Question {
        Question::Began(pid, self.program, self.at_ns, self.parent)
    }
}

/// Is the stack of this block still to be told?
fn is_open(looks: Option<&Looks>, serial: u32, seq: u32) -> bool {
    looks.is_some_and(|looks| looks.is_open(serial, seq))
}

/// A stack of which no function was looked up.
fn nameless(number: u32, walk: &Walk) -> Frames {
    let places = walk.places.iter().map(Some).chain(std::iter::repeat(None));
    let frames = walk.addresses.iter().zip(places);
    let frames = frames.map(|(address, place)| match place {
        Some(place) => place.text.clone(),
        None => format!("[{address:#x}]"),
    });
    Frames {
        number,
        frames: frames.collect(),
        cut_off: walk.end != End::Start,
        waits_in: None,
    }
}
