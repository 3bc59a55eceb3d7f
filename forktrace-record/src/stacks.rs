//! The stacks of blocks and wakers, with names that are looked up while the processes live.
//!
//! The kernel follows frame pointers, and numbers the stacks that it finds. Of a block that
//! lasts the recorder has the stack followed while the task sleeps (`looks`, by a helper:
//! `unwind`), which then takes the place of the kernel's. Either gets a number of ours
//! ([`Namer`]), and another helper finds the functions (`Symbols`).

mod allowance;
mod apart;
mod code;
mod cut_files;
mod doubts;
mod files;
mod frames;
mod go;
mod java;
mod jvm;
mod kernels;
mod known;
mod lasting;
mod lines;
mod lookout;
mod looks;
mod perf_map;
mod programs;
mod sections;
mod symbols;
mod told;
mod unwind;

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    rc::Rc,
    time::{Duration, Instant},
};

use self::{
    doubts::Doubts,
    java::Machines,
    kernels::Kernels,
    looks::{Looked, Looks},
    programs::Programs,
    symbols::{Answer, Of, Question},
    told::{Answers, Asked, nameless, of_one_gone},
    unwind::Walk,
};
pub(crate) use self::{jvm::ask as ask_java, lookout::Lookout, symbols::Symbols};
use crate::{
    capture::StackWays,
    clock::of_records_ns,
    helper::{Channel, Kind, Nursery, Troubles},
    last_wait::{LastWait, Patience},
    sink::Sink,
    trace::{Born, Event, Stacks, TaskRecord, WaitsIn, Waker},
};

/// Questions that the helper has at a time. It gets them as fast as they come: a process
/// can soon be gone.
const MOST_ASKED: usize = 4096;
/// Stacks that were followed by us and are known again.
const MOST_WALKS: usize = 1 << 16;
/// Stacks that wait for older records; more are told by what is known.
const MOST_WAITING: usize = 1 << 16;
/// A helper that does not answer for so long is abandoned: the symbols of the largest
/// programs take seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// And so many more are tried.
const REPLACED: u64 = 8;
/// The workload begins without the helper that follows stacks, if that takes longer to begin.
const LONGEST_START: Duration = Duration::from_secs(2);
/// What it has found at the end of the recording is waited for so long.
const LAST_LOOK: Duration = Duration::from_millis(50);
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
    programs: Programs,
    /// Stacks that wait for their numbers.
    waiting: Vec<Stacks>,
    /// Of these, those before which all was read that came before they were taken.
    ready: usize,
    /// The rings were not read to their end the last time.
    is_behind: bool,
    answered: Answers,
    asked_again: Instant,
    /// Stacks that the helper was not asked about: it had too much to do.
    left_out: u64,
    /// Times that a file was cut short while it was read.
    cut: u64,
}

impl Namer {
    /// For a recording that begins now; `tables`: those of the tasks, for whoever follows stacks.
    pub(crate) fn new(nursery: &Rc<Nursery>, ways: StackWays, tables: Vec<OwnedFd>) -> Self {
        nursery.give(tables);
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
            programs: Programs::default(),
            waiting: Vec::new(),
            ready: 0,
            is_behind: false,
            answered: Answers::default(),
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

    /// Takes what was found of those who sleep, and has others looked at. To be called before the rings
    /// are read: what the kernel found of these blocks then comes before.
    pub(crate) fn look(&mut self) {
        self.looks.iter_mut().for_each(Looks::turn);
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
            let was_told = || self.doubts.was_looked_at(off.serial, off.seq);
            looks.ended(off, was_told);
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
                        at_ns: 0,
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
        let parent = self.pids.get(&born.parent);
        let parent = parent.map(|pid| self.programs.at(*pid, born.at_ns));
        self.begins(born.tgid, born.at_ns, parent);
    }

    /// A program begins under this number.
    fn begins(&mut self, pid: u32, at_ns: u64, parent: Option<Of>) {
        let Some(began) = self.programs.begins(pid, at_ns, parent) else {
            return;
        };
        if let Some(java) = &mut self.java {
            java.began(pid, began.program);
        }
        if let Some(looks) = &mut self.looks {
            looks.began(pid);
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
            let ended = self.programs.ended(task.born.tgid);
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

    /// Does something wait until all was read that is there now?
    pub(crate) fn waits(&self) -> bool {
        self.ready < self.waiting.len()
    }

    /// The rings are about to be read. What is given back goes to [`Self::was_read`].
    pub(crate) fn before_reading(&mut self) -> (usize, usize) {
        self.is_behind = true;
        (self.waiting.len(), self.answered.waiting())
    }

    /// All was read that was there when this was given: nothing that is still to come is older
    /// than what waited then.
    pub(crate) fn was_read(&mut self, (waiting, answered): (usize, usize)) {
        self.is_behind = false;
        self.ready = waiting;
        self.answered.was_read(answered);
    }

    /// Writes the stacks that were kept back, and those that they are made of as far as the
    /// helper has told. `addresses` gives the stack of a kernel's number.
    pub(crate) fn name(&mut self, addresses: impl Fn(u32) -> Vec<u64>, writer: &mut Sink) {
        let ready = match self.waiting.len() {
            // The rings are never empty.
            too_many @ MOST_WAITING.. => too_many,
            _ => self.ready,
        };
        self.ready = 0;
        let ready: Vec<Stacks> = self.waiting.drain(..ready).collect();
        for mut stacks in ready {
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
            stacks.at_ns = 0;
            writer.push(&Event::Stacks(stacks));
        }
        let looks = self.looks.as_mut().filter(|_| !self.is_behind);
        for looked in looks.map(Looks::take).unwrap_or_default() {
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
            since_ns,
            number,
            walk,
        } = looked;
        let kernel = self.of_kernel.of(serial, seq);
        if !self.doubts.look(serial, seq, kernel) {
            return;
        }
        let key = (self.programs.at(pid, since_ns), number);
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
            at_ns: 0,
        }));
    }

    /// Writes what the helper has told.
    pub(crate) fn answers(&mut self, writer: &mut Sink) {
        let received = self.helper.receive();
        let answers = received.answers.into_iter();
        let answers = answers.map(|(about, answer, _)| (about, answer));
        for (about, answer) in self.answered.ready(answers) {
            self.write_answer(&about, answer, writer);
        }
        for asked in received.lost {
            if let Asked::Stack(number, _, walk) = asked {
                writer.push(&Event::Frames(nameless(number, &walk)));
            }
        }
        if received.anew {
            let began = self.programs.living().into_iter();
            let began = began.map(|(pid, began)| (Asked::Other, began.question(pid)));
            self.helper.go_on(began);
        }
    }

    /// Writes what the helper has told of a stack. If the process had executed another program when
    /// functions were looked up in it, they can be those of that one.
    fn write_answer(&mut self, about: &Asked, answer: Answer, writer: &mut Sink) {
        self.cut += u64::from(answer.cut);
        if let Asked::Stack(number, of, walk) = about
            && let Some(read_ns) = answer.read_ns
            && self.programs.is_over(*of, of_records_ns(read_ns))
        {
            writer.push(&Event::Frames(of_one_gone(*number, walk)));
            return;
        }
        for (frames, waits_in) in answer.frames {
            let number = frames.number;
            writer.push(&Event::Frames(frames));
            if let Some(frame) = waits_in {
                writer.push(&Event::WaitsIn(WaitsIn { number, frame }));
            }
        }
    }

    /// Writes all that the helper still has to tell.
    pub(crate) fn finish(
        &mut self,
        last_wait: &mut LastWait<'_>,
        addresses: impl Fn(u32) -> Vec<u64>,
        writer: &mut Sink,
    ) {
        if let Some(looks) = &mut self.looks {
            looks.wait_for_answer(LAST_LOOK);
        }
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
        // All was read.
        let all = self.before_reading();
        self.was_read(all);
        self.answers(writer);
        for asked in self.helper.give_up() {
            if let Asked::Stack(number, _, walk) = asked {
                writer.push(&Event::Frames(nameless(number, &walk)));
            }
        }
    }

    /// Whose program is on a stack, and which it was in then.
    fn of(&self, stacks: &Stacks) -> Option<Of> {
        let pid = match stacks.waker {
            Waker::None => self.pids.get(&stacks.serial).copied(),
            Waker::Task { serial, .. } => self.pids.get(&serial).copied(),
            Waker::Outsider { tid, .. } => Some(tid),
            Waker::Interrupt(_) | Waker::Unknown => None,
        };
        pid.map(|pid| self.programs.at(pid, stacks.at_ns))
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
            self.helper.ask(Asked::Stack(number, of, walk), &question);
        } else {
            self.left_out += 1;
            writer.push(&Event::Frames(nameless(number, &walk)));
        }
        number
    }
}

/// Is the stack of this block still to be told?
fn is_open(looks: Option<&Looks>, serial: u32, seq: u32) -> bool {
    looks.is_some_and(|looks| looks.is_open(serial, seq))
}
