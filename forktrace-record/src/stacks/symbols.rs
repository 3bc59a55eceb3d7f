//! The functions of stacks: what is done in the helper, and what it is asked.
//!
//! Symbol tables are files of the workload, and so are perf maps. They are read with the
//! rights of the workload's user, with bounds on size and memory, and a file that is cut
//! short while it is mapped costs names ([`cut_files`]).

use std::collections::{HashMap, HashSet};

use blazesym::{
    MaybeDefault, Pid,
    symbolize::{
        Input, Reason, Symbolized, Symbolizer,
        source::{Kernel, Process, Source},
    },
};
use serde::{Deserialize, Serialize};

use super::{
    code::Whose,
    cut_files,
    files::{named, symbolizer},
    frames::{Name, Named, frames},
    perf_map::{Budget, PerfMap},
    unwind::{Walk, monotonic_ns},
};
use crate::{clock::of_records_ns, trace::Frames};

/// So many functions are remembered, of all programs.
const MOST_NAMES: usize = 1 << 18;

/// Whose stack it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Of {
    Kernel,
    /// By its number, and which of the programs it is that were executed under that: by
    /// this process, or by one before that had the number.
    Process(u32, u32),
}

/// What the recorder tells and wants to know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Question {
    /// A program begins in this process, at this time of the monotonic clock, ns, with the
    /// code of the one that it was forked from, if any.
    Began(u32, u32, u64, Option<Of>),
    /// The functions of this stack, for the one of this number.
    Stack(u32, Of, Walk),
    /// What has got a name since; what processes have said of themselves is read at once,
    /// or soon.
    Again(bool),
}

/// What came of a question.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Stacks with names, some of them again with more; and their [`Frames::waits_in`], which
    /// is not sent with them.
    pub(crate) frames: Vec<(Frames, Option<u32>)>,
    /// A file was cut short while its functions were looked up, and what was found is not
    /// to be believed.
    pub(crate) cut: bool,
    /// When functions were looked up for it in the process, by `CLOCK_MONOTONIC`, ns; `None`: that was
    /// done before.
    pub(crate) read_ns: Option<i64>,
}

/// Looks functions up.
pub(crate) struct Symbols {
    of_kernel: Symbolizer,
    of_programs: Symbolizer,
    /// Source lines are wanted.
    lines: bool,
    /// The program that a process is in now.
    programs: HashMap<u32, u32>,
    /// When functions were looked up last in each process, by `CLOCK_MONOTONIC`, ns.
    looked_ns: HashMap<u32, i64>,
    /// Programs of which functions were looked up when their process was in another one already:
    /// what is known of them is not to be believed.
    mistaken: HashSet<Of>,
    /// Functions that were looked up.
    names: HashMap<(Of, u64), Name>,
    /// Functions that were looked up while a file was cut short.
    doubtful: Vec<(Of, u64)>,
    /// What each process that lives says of itself.
    processes: HashMap<Of, Told>,
    budget: Budget,
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
    walk: Walk,
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

impl Symbols {
    /// Knows the functions of the kernel, which takes a while to read. `lines`: source lines
    /// are wanted.
    pub(crate) fn new(lines: bool) -> Self {
        cut_files::survive();
        let mut symbols = Self::knowing_nothing(lines);
        // Any address will do.
        let walk = Walk {
            addresses: vec![u64::MAX],
            ..Walk::default()
        };
        symbols.look_up(Of::Kernel, &walk);
        symbols
    }

    fn knowing_nothing(lines: bool) -> Self {
        Self {
            of_kernel: symbolizer(false),
            of_programs: symbolizer(lines),
            lines,
            programs: HashMap::new(),
            looked_ns: HashMap::new(),
            mistaken: HashSet::new(),
            names: HashMap::new(),
            doubtful: Vec::new(),
            processes: HashMap::new(),
            budget: Budget::default(),
        }
    }

    pub(crate) fn answer(&mut self, question: Question) -> Answer {
        let gone = cut_files::pages_gone();
        let mut read_ns = None;
        let frames = match question {
            Question::Began(pid, program, at_ns, parent) => {
                self.began(pid, program, at_ns, parent);
                Vec::new()
            }
            Question::Stack(number, of, walk) => {
                let (frames, at_ns) = self.stack(number, of, walk);
                read_ns = at_ns;
                vec![frames]
            }
            Question::Again(at_once) => self.name_again(at_once),
        };
        let with_code = |frames: Frames| {
            let waits_in = frames.waits_in;
            (frames, waits_in)
        };
        Answer {
            frames: frames.into_iter().map(with_code).collect(),
            cut: cut_files::pages_gone() != gone,
            read_ns,
        }
    }

    fn began(&mut self, pid: u32, program: u32, at_ns: u64, parent: Option<Of>) {
        let map = match parent {
            Some(parent) => {
                let parent = self.processes.get_mut(&parent).map(|told| &mut told.map);
                PerfMap::forked(pid, at_ns, parent, &self.budget)
            }
            None => PerfMap::since(pid, at_ns, &self.budget),
        };
        let before = self.programs.insert(pid, program);
        let looked = self.looked_ns.remove(&pid);
        if looked.is_some_and(|ns| of_records_ns(ns) >= at_ns) {
            let before = Of::Process(pid, before.unwrap_or(0));
            self.mistaken.insert(before);
        }
        self.processes.insert(Of::Process(pid, program), map.into());
    }

    /// The functions of a stack, and when they were looked up if that was done just now.
    fn stack(&mut self, number: u32, of: Of, walk: Walk) -> (Frames, Option<i64>) {
        let read_ns = self.look_up(of, &walk);
        let told = match of {
            // What another program has made since is none of it.
            Of::Process(..) if !self.is_current(of) && !self.processes.contains_key(&of) => None,
            Of::Process(pid, _) => {
                let told = self.processes.remove(&of);
                let mut told = told.unwrap_or_else(|| PerfMap::of(pid, &self.budget).into());
                told.again |= told.map.read(false);
                self.name_made(of, &walk.addresses, &told.map);
                Some(told)
            }
            Of::Kernel => None,
        };
        let (frames, missing) = self.frames(of, number, &walk);
        // The next stack may have more luck.
        for key in self.doubtful.drain(..) {
            self.names.remove(&key);
        }
        if let Some(mut told) = told {
            if missing > 0 {
                told.unnamed.push(Unnamed {
                    number,
                    walk,
                    missing,
                });
            }
            self.processes.insert(of, told);
        }
        (frames, read_ns)
    }

    /// Looks again at stacks without names, where there are new ones to be had.
    fn name_again(&mut self, at_once: bool) -> Vec<Frames> {
        let mut named = Vec::new();
        for (of, mut told) in std::mem::take(&mut self.processes) {
            if of == Of::Kernel {
                continue;
            }
            let lives = self.is_current(of) && told.map.lives();
            // At the end all is there that it wrote.
            if told.map.read(at_once || !lives) | std::mem::take(&mut told.again) {
                told.unnamed.retain_mut(|stack| {
                    self.name_made(of, &stack.walk.addresses, &told.map);
                    // Also by names that another stack got.
                    let (frames, missing) = self.frames(of, stack.number, &stack.walk);
                    if missing < stack.missing {
                        named.push(frames);
                        stack.missing = missing;
                    }
                    missing > 0
                });
            }
            if lives {
                self.processes.insert(of, told);
            }
        }
        named
    }

    /// Names functions that the process has made.
    fn name_made(&mut self, of: Of, addresses: &[u64], map: &PerfMap) {
        for (i, address) in addresses.iter().enumerate() {
            let known = self.names.get(&(of, *address));
            if known.is_none_or(|name| *name == Name::None)
                && let Some(name) = map.name(call(i, *address))
            {
                let name = Named::new(name.to_owned(), Whose::Unknown);
                self.names.insert((of, *address), Name::Is(name));
            }
        }
    }

    /// The functions of a stack, and how many have no name.
    fn frames(&self, of: Of, number: u32, walk: &Walk) -> (Frames, usize) {
        let is_known = !self.mistaken.contains(&of);
        let name = |address: u64| self.names.get(&(of, address)).filter(|_| is_known);
        frames(name, of == Of::Kernel, number, walk)
    }

    /// Is this the program that its process is in? Otherwise the functions at its addresses are
    /// those of another.
    fn is_current(&self, of: Of) -> bool {
        match of {
            Of::Kernel => true,
            Of::Process(pid, program) => self.programs.get(&pid).is_none_or(|it| *it == program),
        }
    }

    /// Looks up the names of the addresses that are new, and tells when, if there were some.
    fn look_up(&mut self, of: Of, walk: &Walk) -> Option<i64> {
        if !self.is_current(of) {
            return None;
        }
        if self.names.len() > MOST_NAMES {
            self.names.clear();
            self.mistaken.clear();
        }
        let is_new = |(i, address): &(usize, &u64)| {
            let has_name = walk.places.get(*i).is_some_and(|place| place.is_name);
            !has_name && !self.names.contains_key(&(of, **address))
        };
        let new = walk.addresses.iter().enumerate().filter(is_new);
        let (new, calls): (Vec<u64>, Vec<u64>) = new
            .map(|(i, address)| (*address, call(i, *address)))
            .unzip();
        if new.is_empty() {
            return None;
        }
        let source = match of {
            Of::Kernel => Source::Kernel(Kernel {
                debug_syms: false,
                // The running kernel's own list has them all.
                vmlinux: MaybeDefault::None,
                ..Kernel::default()
            }),
            Of::Process(pid, _) => Source::Process(Process {
                // We read it ourselves: see there.
                perf_map: false,
                // Only symbol tables: what else there is can be compressed a thousand times,
                // or name other files.
                debug_syms: false,
                ..Process::new(Pid::from(pid))
            }),
        };
        let gone = cut_files::pages_gone();
        let known = match of {
            Of::Kernel => &self.of_kernel,
            Of::Process(..) => &self.of_programs,
        };
        let found = known.symbolize(&source, Input::AbsAddr(&calls));
        let read_ns = match of {
            Of::Kernel => None,
            Of::Process(pid, _) => {
                let read_ns = monotonic_ns();
                self.looked_ns.insert(pid, read_ns);
                Some(read_ns)
            }
        };
        if cut_files::pages_gone() != gone {
            // What it has read of that file is partly zeros. Which file that was it does
            // not say.
            self.of_programs = symbolizer(self.lines);
            self.doubtful = new.into_iter().map(|address| (of, address)).collect();
            let nameless = self.doubtful.iter().map(|key| (*key, Name::None));
            self.names.extend(nameless);
            return read_ns;
        }
        // When the process is gone there are no names.
        let Ok(found) = found else {
            return read_ns;
        };
        for (address, symbol) in new.into_iter().zip(found) {
            let name = match symbol {
                Symbolized::Sym(symbol) => Name::Is(named(symbol)),
                Symbolized::Unknown(Reason::Unmapped) => Name::NoCode,
                Symbolized::Unknown(_) => Name::None,
            };
            self.names.insert((of, address), name);
        }
        read_ns
    }
}

/// Where the call was that the `i`th address of a stack, innermost first, is in: a return
/// address is that of the instruction after it.
fn call(i: usize, address: u64) -> u64 {
    address.saturating_sub(u64::from(i > 0))
}

#[cfg(test)]
#[path = "symbols_tests.rs"]
mod tests;
