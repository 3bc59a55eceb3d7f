//! When Java virtual machines are asked for names (by a helper: `jvm`): soon after they have
//! begun, less and less often later, for what they compile grows fewer, and at the end.

use std::{
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

use super::jvm::Told;
use crate::helper::{Channel, Kind, Nursery, Troubles};

/// A process is asked for the first time after so long, and each time after twice as long.
const FIRST: Duration = Duration::from_millis(400);
const LONGEST: Duration = Duration::from_secs(60);
/// One that was found to be no machine is looked at again so often: it can become one.
const MOST_LOOKS: u32 = 4;
/// A helper that does not answer for so long is abandoned.
const PATIENCE: Duration = Duration::from_secs(10);
/// And so many more are tried.
const REPLACED: u64 = 4;
/// Processes that are asked about at a time.
const MOST_ASKED: usize = 64;

pub(super) struct Machines {
    helper: Channel<(u32, u32), Told>,
    known: HashMap<(u32, u32), Known>,
    /// What is to be told.
    failures: Vec<String>,
}

struct Known {
    due: Instant,
    wait: Duration,
    looks: u32,
    is_one: bool,
    failed: bool,
}

impl Machines {
    pub(super) fn new(nursery: &Rc<Nursery>) -> Self {
        Self {
            helper: Channel::new(nursery.clone(), Kind::Java, PATIENCE, REPLACED),
            known: HashMap::new(),
            failures: Vec::new(),
        }
    }

    pub(super) fn helper_cpu_ns(&self) -> u64 {
        self.helper.cpu_ns()
    }

    pub(super) fn troubles(&self) -> Troubles {
        self.helper.troubles()
    }

    /// What could not be done since this was last called, and why.
    pub(super) fn take_failures(&mut self) -> Vec<String> {
        std::mem::take(&mut self.failures)
    }

    /// A program is over.
    pub(super) fn forget(&mut self, pid: u32, program: u32) {
        self.known.remove(&(pid, program));
    }

    /// A program begins, in place of what was in that process.
    pub(super) fn began(&mut self, pid: u32, program: u32) {
        let known = Known {
            due: Instant::now() + FIRST,
            wait: FIRST,
            looks: 0,
            is_one: false,
            failed: false,
        };
        self.known.remove(&(pid, program.wrapping_sub(1)));
        self.known.insert((pid, program), known);
    }

    /// Asks those who are due, and takes answers.
    pub(super) fn turn(&mut self) {
        self.receive();
        if !self.helper.is_open() || self.helper.waiting() > 0 {
            return;
        }
        let now = Instant::now();
        let due = self.known.iter_mut().filter(|(_, known)| known.due <= now);
        let mut asked = Vec::new();
        for (of, known) in due.take(MOST_ASKED) {
            known.wait = LONGEST.min(known.wait * 2);
            known.due = now + known.wait;
            asked.push(*of);
        }
        self.ask(asked);
    }

    /// Asks all machines once more, for the last time.
    pub(super) fn ask_all(&mut self) {
        let machines = self.known.iter().filter(|(_, it)| it.is_one && !it.failed);
        let machines = machines.map(|(of, _)| *of).collect();
        self.ask(machines);
    }

    /// How many are still to answer; `None`: none.
    pub(super) fn left(&mut self) -> Option<usize> {
        self.receive();
        Some(self.helper.waiting()).filter(|waiting| *waiting > 0)
    }

    fn ask(&mut self, those: Vec<(u32, u32)>) {
        for of in those {
            self.helper.ask(of, &of.0);
        }
    }

    fn receive(&mut self) {
        let received = self.helper.receive();
        for (of, told, _) in received.answers {
            let Some(known) = self.known.get_mut(&of) else {
                continue;
            };
            known.looks += 1;
            let goes_on = match told {
                Told::None => known.looks < MOST_LOOKS,
                Told::Written => {
                    known.is_one = true;
                    true
                }
                Told::Not(why) => {
                    // It is told once, and it can be better the next time.
                    if !known.failed {
                        let pid = of.0;
                        self.failures.push(format!(
                            "process {pid} did not name its Java methods: {why}"
                        ));
                    }
                    known.failed = true;
                    known.looks < MOST_LOOKS
                }
            };
            if !goes_on {
                self.known.remove(&of);
            }
        }
        if received.anew {
            self.helper.go_on::<u32>([]);
        }
    }
}
