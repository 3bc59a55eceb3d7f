//! Names for the functions of stacks, looked up while the processes live.

use std::collections::HashMap;

use blazesym::{
    Pid,
    symbolize::{
        Input, Symbolized, Symbolizer,
        source::{Kernel, Process, Source},
    },
};

use crate::{
    trace::{Event, Frames, Stacks, Waker},
    trace_file::TraceWriter,
};

/// The kernel takes no deeper stacks (`PERF_MAX_STACK_DEPTH`).
const DEEPEST: usize = 127;

/// Functions that a thread begins with. A stack that does not go back to one of
/// them was cut off.
const BEGINNINGS: [&str; 8] = [
    "_start",
    "_dl_start_user",
    "clone",
    "clone3",
    "__clone",
    "__clone3",
    "start_thread",
    "runtime.goexit",
];

/// Whose stack it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Of {
    Kernel,
    /// A process, and how often it has executed a program.
    Process(u32, u32),
}

/// Replaces the kernel's numbers of stacks by ours, and writes each stack once.
pub struct Namer {
    symbolizer: Symbolizer,
    /// By whose and by the kernel's number.
    known: HashMap<(Of, u32), u32>,
    /// Process of each living task.
    pids: HashMap<u32, u32>,
    /// How often each process has executed a program.
    execs: HashMap<u32, u32>,
    /// Stacks that wait for their names.
    waiting: Vec<Stacks>,
    /// Functions that were looked up.
    names: HashMap<(Of, u64), String>,
}

impl Default for Namer {
    fn default() -> Self {
        Self::new()
    }
}

impl Namer {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self {
            symbolizer: Symbolizer::builder().enable_code_info(false).build(),
            known: HashMap::new(),
            pids: HashMap::new(),
            execs: HashMap::new(),
            waiting: Vec::new(),
            names: HashMap::new(),
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
            }
            Event::Exec(exec) => *self.execs.entry(exec.tid).or_default() += 1,
            _ => {}
        }
        writer.push(event);
    }

    /// Writes the stacks that were kept back, after those that they are made of.
    /// `addresses` gives the stack of a kernel's number.
    pub fn name<W: std::io::Write>(
        &mut self,
        addresses: impl Fn(u32) -> Vec<u64>,
        writer: &mut TraceWriter<W>,
    ) {
        for mut stacks in std::mem::take(&mut self.waiting) {
            let pid = match stacks.waker {
                Waker::None => self.pids.get(&stacks.serial).copied(),
                Waker::Task { serial, .. } => self.pids.get(&serial).copied(),
                Waker::Outsider { tid, .. } => Some(tid),
                Waker::Interrupt(_) | Waker::Unknown => None,
            };
            let process = pid.map(|pid| self.process(pid));
            for (id, of) in [
                (&mut stacks.kernel, Some(Of::Kernel)),
                (&mut stacks.user, process),
            ] {
                let found = id.zip(of);
                *id = found.and_then(|(id, of)| self.number(of, id, &addresses, writer));
            }
            writer.push(&Event::Stacks(stacks));
        }
    }

    fn process(&self, pid: u32) -> Of {
        Of::Process(pid, self.execs.get(&pid).copied().unwrap_or(0))
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
        let name = |address: &u64| match self.names.get(&(of, *address)) {
            Some(name) => name.clone(),
            None => format!("[{address:#x}]"),
        };
        let frames: Vec<String> = addresses.iter().map(name).collect();
        let cut_off = of != Of::Kernel && !begins(&frames) || addresses.len() >= DEEPEST;
        writer.push(&Event::Frames(Frames {
            number,
            frames,
            cut_off,
        }));
        self.known.insert((of, id), number);
        Some(number)
    }

    /// Looks up the names of the addresses that are new.
    fn look_up(&mut self, of: Of, addresses: &[u64]) {
        let new: Vec<u64> = addresses
            .iter()
            .copied()
            .filter(|address| !self.names.contains_key(&(of, *address)))
            .collect();
        // A return address is that of the instruction after the call.
        let innermost = addresses.first();
        let calls: Vec<u64> = new
            .iter()
            .map(|address| address - u64::from(innermost != Some(address)))
            .collect();
        let source = match of {
            Of::Kernel => Source::Kernel(Kernel {
                debug_syms: false,
                ..Kernel::default()
            }),
            Of::Process(pid, _) => Source::Process(Process::new(Pid::from(pid))),
        };
        // When the process is gone there are no names.
        let Ok(found) = self.symbolizer.symbolize(&source, Input::AbsAddr(&calls)) else {
            return;
        };
        for (address, symbol) in new.into_iter().zip(found) {
            if let Symbolized::Sym(symbol) = symbol {
                self.names.insert((of, address), symbol.name.into_owned());
            }
        }
    }
}

/// Does a stack, innermost function first, go back to where a thread begins?
fn begins(frames: &[String]) -> bool {
    // Below the first function there can be a piece of the loader.
    let last = frames.iter().rev().take(2);
    last.into_iter()
        .any(|name| BEGINNINGS.contains(&name.as_str()))
}
