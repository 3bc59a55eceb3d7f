//! Names for the functions of stacks, looked up while the processes live.

mod perf_map;

use std::collections::HashMap;

use blazesym::{
    Pid,
    symbolize::{
        Input, Reason, Symbolized, Symbolizer,
        source::{Kernel, Process, Source},
    },
};

use self::perf_map::PerfMap;
use crate::{
    trace::{Born, Event, Frames, Stacks, Waker},
    trace_file::TraceWriter,
};

/// The kernel takes no deeper stacks (`PERF_MAX_STACK_DEPTH`).
const DEEPEST: usize = 127;

/// Functions that a thread begins with, or `main`, below which there is only what calls
/// it. A stack that does not go back to one of them was cut off.
const BEGINNINGS: [&str; 12] = [
    "_start",
    "_dl_start_user",
    "__libc_start_call_main",
    "__libc_start_main",
    "main",
    "clone",
    "clone3",
    "__clone",
    "__clone3",
    "start_thread",
    "thread_start",
    "runtime.goexit",
];

/// What the kernel calls on the way to our programs, by how its name begins. How much of
/// it is on top of a stack depends on who else uses the tracepoint.
const TRACEPOINT: [&str; 4] = ["__traceiter_", "__bpf_trace_", "bpf_trace_run", "bpf_prog_"];

/// In place of a stack of which no function can be named any more.
const GONE: &str = "[process gone]";

/// Whose stack it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Of {
    Kernel,
    /// By its number, and which of the programs it is that were executed under that: by
    /// this process, or by one before that had the number.
    Process(u32, u32),
}

/// Replaces the kernel's numbers of stacks by ours, and writes each stack once.
pub struct Namer {
    symbolizer: Symbolizer,
    /// By whose and by the kernel's number.
    known: HashMap<(Of, u32), u32>,
    /// Process of each living task.
    pids: HashMap<u32, u32>,
    /// How many programs have begun under each number of a process.
    programs: HashMap<u32, u32>,
    /// Stacks that wait for their names.
    waiting: Vec<Stacks>,
    /// Functions that were looked up.
    names: HashMap<(Of, u64), Name>,
    /// What each process that lives says of itself.
    processes: HashMap<Of, Told>,
}

/// What is known of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Is(String),
    /// It has none, so far.
    None,
    /// There is no code: whoever called did not keep a frame pointer, and from here on
    /// it is not a stack.
    NoCode,
}

/// What a process has told of the code that it made.
struct Told {
    map: PerfMap,
    /// Stacks with functions that have no name yet, to be looked at again when there are
    /// more.
    unnamed: Vec<Unnamed>,
    /// The map has changed since they were looked at.
    again: bool,
}

struct Unnamed {
    /// Our number of the stack.
    number: u32,
    addresses: Vec<u64>,
    /// How many of its functions have no name.
    missing: usize,
}

impl From<PerfMap> for Told {
    fn from(map: PerfMap) -> Self {
        Self {
            map,
            unnamed: Vec::new(),
            again: false,
        }
    }
}

impl Default for Namer {
    fn default() -> Self {
        Self::new()
    }
}

impl Namer {
    /// Knows the functions of the kernel, which takes a while to read.
    pub fn new() -> Self {
        let mut namer = Self::knowing_nothing();
        // Any address will do.
        namer.look_up(Of::Kernel, &[u64::MAX]);
        namer
    }

    fn knowing_nothing() -> Self {
        Self {
            symbolizer: Symbolizer::builder()
                .enable_code_info(false)
                .enable_inlined_fns(false)
                .build(),
            known: HashMap::new(),
            pids: HashMap::new(),
            programs: HashMap::new(),
            waiting: Vec::new(),
            names: HashMap::new(),
            processes: HashMap::new(),
        }
    }

    /// Passes an event on; stacks are kept back until [`Self::name`].
    pub fn see<W: std::io::Write>(&mut self, event: &Event, writer: &mut TraceWriter<W>) {
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
            Event::Exec(exec) => {
                let of = self.next_program(exec.tid);
                let map = PerfMap::since(exec.tid, exec.at_ns);
                self.processes.insert(of, map.into());
            }
            _ => {}
        }
        writer.push(event);
    }

    /// A process begins with the code of its creator.
    fn forked(&mut self, born: &Born) {
        let parent = self.pids.get(&born.parent).map(|pid| self.process(*pid));
        let parent = parent.and_then(|of| self.processes.get_mut(&of));
        let map = PerfMap::forked(born.tgid, born.at_ns, parent.map(|told| &mut told.map));
        let of = self.next_program(born.tgid);
        self.processes.insert(of, map.into());
    }

    /// Writes the stacks that were kept back, after those that they are made of.
    /// `addresses` gives the stack of a kernel's number. What processes have said of
    /// themselves is read `at_once`, or soon.
    pub fn name<W: std::io::Write>(
        &mut self,
        addresses: impl Fn(u32) -> Vec<u64>,
        at_once: bool,
        writer: &mut TraceWriter<W>,
    ) {
        for mut stacks in std::mem::take(&mut self.waiting) {
            let process = self.of(&stacks);
            for (id, of) in [
                (&mut stacks.kernel, Some(Of::Kernel)),
                (&mut stacks.user, process),
            ] {
                let found = id.zip(of);
                *id = found.and_then(|(id, of)| self.number(of, id, &addresses, writer));
            }
            writer.push(&Event::Stacks(stacks));
        }
        self.name_again(at_once, writer);
    }

    /// Looks again at stacks without names, where there are new ones to be had.
    fn name_again<W: std::io::Write>(&mut self, at_once: bool, writer: &mut TraceWriter<W>) {
        for (of, mut told) in std::mem::take(&mut self.processes) {
            let Of::Process(pid, _) = of else { continue };
            let lives = self.process(pid) == of && told.map.lives();
            // At the end all is there that it wrote.
            if told.map.read(at_once || !lives) | std::mem::take(&mut told.again) {
                told.unnamed.retain_mut(|stack| {
                    self.name_made(of, &stack.addresses, &told.map);
                    // Also by names that another stack got.
                    let (frames, missing) = self.frames(of, stack.number, &stack.addresses);
                    if missing < stack.missing {
                        writer.push(&Event::Frames(frames));
                        stack.missing = missing;
                    }
                    missing > 0
                });
            }
            if lives {
                self.processes.insert(of, told);
            }
        }
    }

    /// Names functions that the process has made.
    fn name_made(&mut self, of: Of, addresses: &[u64], map: &PerfMap) {
        for (i, address) in addresses.iter().enumerate() {
            let known = self.names.get(&(of, *address));
            if known.is_none_or(|name| *name == Name::None)
                && let Some(name) = map.name(call(i, *address))
            {
                self.names.insert((of, *address), Name::Is(name.to_owned()));
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

    /// A program begins under this number.
    fn next_program(&mut self, pid: u32) -> Of {
        *self.programs.entry(pid).or_default() += 1;
        self.process(pid)
    }

    /// Our number of a stack; `None` when it is not there.
    fn number<W: std::io::Write>(
        &mut self,
        of: Of,
        id: u32,
        addresses: impl Fn(u32) -> Vec<u64>,
        writer: &mut TraceWriter<W>,
    ) -> Option<u32> {
        if let Some(number) = self.known.get(&(of, id)) {
            return Some(*number);
        }
        let addresses = addresses(id);
        if addresses.is_empty() {
            return None;
        }
        let number = self.known.len() as u32;
        self.look_up(of, &addresses);
        let told = match of {
            Of::Process(pid, _) => {
                let told = self.processes.remove(&of);
                let mut told = told.unwrap_or_else(|| PerfMap::of(pid).into());
                told.again |= told.map.read(false);
                self.name_made(of, &addresses, &told.map);
                Some(told)
            }
            Of::Kernel => None,
        };
        let (frames, missing) = self.frames(of, number, &addresses);
        writer.push(&Event::Frames(frames));
        self.known.insert((of, id), number);
        if let Some(mut told) = told {
            if missing > 0 {
                told.unnamed.push(Unnamed {
                    number,
                    addresses,
                    missing,
                });
            }
            self.processes.insert(of, told);
        }
        Some(number)
    }

    /// The functions of a stack, and how many have no name.
    fn frames(&self, of: Of, number: u32, addresses: &[u64]) -> (Frames, usize) {
        let name = |address: &u64| self.names.get(&(of, *address));
        let is_code = |address: &&u64| name(address) != Some(&Name::NoCode);
        let code = addresses.iter().take_while(is_code);
        let mut missing = 0;
        let mut frames: Vec<String> = code
            .map(|address| match name(address) {
                Some(Name::Is(name)) => name.clone(),
                _ => {
                    missing += 1;
                    format!("[{address:#x}]")
                }
            })
            .collect();
        let whole = frames.len() == addresses.len() && addresses.len() < DEEPEST;
        let cut_off = match of {
            Of::Kernel => {
                let ours = |name: &String| TRACEPOINT.iter().any(|it| name.starts_with(it));
                let ours = frames.iter().take_while(|name| ours(name)).count();
                frames.drain(..ours);
                !whole
            }
            Of::Process(..) => !whole || !begins(&frames),
        };
        // Where a task is there is code: if not, it has executed another program since.
        let is_gone = match addresses.first().and_then(name) {
            None => addresses.iter().all(|address| name(address).is_none()),
            Some(name) => *name == Name::NoCode,
        };
        if of != Of::Kernel && is_gone {
            frames = vec![GONE.to_owned()];
        }
        let frames = Frames {
            number,
            frames,
            cut_off,
        };
        (frames, missing)
    }

    /// Looks up the names of the addresses that are new.
    fn look_up(&mut self, of: Of, addresses: &[u64]) {
        let is_new = |(_, address): &(usize, &u64)| !self.names.contains_key(&(of, **address));
        let new = addresses.iter().enumerate().filter(is_new);
        let (new, calls): (Vec<u64>, Vec<u64>) = new
            .map(|(i, address)| (*address, call(i, *address)))
            .unzip();
        let source = match of {
            Of::Kernel => Source::Kernel(Kernel {
                debug_syms: false,
                ..Kernel::default()
            }),
            Of::Process(pid, _) => Source::Process(Process {
                // We read it ourselves: see there.
                perf_map: false,
                ..Process::new(Pid::from(pid))
            }),
        };
        // When the process is gone there are no names.
        let Ok(found) = self.symbolizer.symbolize(&source, Input::AbsAddr(&calls)) else {
            return;
        };
        for (address, symbol) in new.into_iter().zip(found) {
            let name = match symbol {
                Symbolized::Sym(symbol) => Name::Is(symbol.name.into_owned()),
                Symbolized::Unknown(Reason::Unmapped) => Name::NoCode,
                Symbolized::Unknown(_) => Name::None,
            };
            self.names.insert((of, address), name);
        }
    }
}

/// Where the call was that the `i`th address of a stack, innermost first, is in: a return
/// address is that of the instruction after it.
fn call(i: usize, address: u64) -> u64 {
    address.saturating_sub(u64::from(i > 0))
}

/// Does a stack, innermost function first, go back to where a thread begins?
fn begins(frames: &[String]) -> bool {
    // Below the first function there can be a piece of the loader.
    let last = frames.iter().rev().take(2);
    last.into_iter()
        .any(|name| BEGINNINGS.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{trace::Arch, trace::Header, trace::PollWay};

    fn header() -> Header {
        Header {
            forktrace: String::new(),
            argv: Vec::new(),
            kernel: String::new(),
            arch: Arch::X86_64,
            cpus: 1,
            start_ns: 0,
            start_unix_ns: 0,
            polls: PollWay::Raw,
            ring_bytes: 0,
            max_tasks: 0,
            plain: false,
            interrupts: Vec::new(),
        }
    }

    #[test]
    fn a_name_is_given_to_each_stack_that_waited_for_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("map");
        std::fs::write(&path, "100 10 made\n").expect("a file");
        let mut namer = Namer::knowing_nothing();
        let of = namer.process(std::process::id());
        let known = [(0x105, Name::None), (0x205, Name::Is("main".to_owned()))];
        let known = known.map(|(address, name)| ((of, address), name));
        namer.names.extend(known);
        let mut told = Told::from(PerfMap::in_file(path));
        let unnamed = |number| Unnamed {
            number,
            addresses: vec![0x105, 0x205],
            missing: 1,
        };
        told.unnamed = vec![unnamed(0), unnamed(1)];
        namer.processes.insert(of, told);

        let mut writer = TraceWriter::new(Vec::new(), &header()).expect("there is room");
        namer.name_again(true, &mut writer);
        assert!(namer.processes[&of].unnamed.is_empty());
        let (frames, missing) = namer.frames(of, 0, &[0x105, 0x205]);
        assert_eq!((&*frames.frames.join(" "), missing), ("made main", 0));
    }

    #[test]
    fn a_stack_that_begins_where_there_is_no_code_is_of_a_program_that_is_gone() {
        let mut namer = Namer::knowing_nothing();
        let of = namer.next_program(7);
        namer.names.insert((of, 1), Name::NoCode);
        namer.names.insert((of, 2), Name::Is("main".to_owned()));
        assert_eq!(namer.frames(of, 0, &[1, 2]).0.frames, [GONE]);
        assert_eq!(namer.frames(of, 0, &[2, 1]).0.frames, ["main"]);
        // Another program with the same number knows nothing of these.
        let next = namer.next_program(7);
        assert_eq!(namer.frames(next, 0, &[2]).0.frames, [GONE]);
    }
}
