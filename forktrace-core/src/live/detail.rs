//! What a view of the moment shows beside states: names, who woke each task last, and who could
//! end the waits that last. Memory is bounded by the number of tasks, and by tables of a fixed
//! size.

use std::collections::HashMap;

use super::kinds::Call;
use crate::{
    analysis::{given, kind_name, role},
    lately::Lately,
    model::{State, state_of},
    trace::{
        Born, Event, Given, GivenWhat, Interrupt, InterruptKind, Object, Providers, Stretch,
        Timeout, Waker, interrupts::kind_of_vector,
    },
    words::duration,
};

/// So many files, sets of descriptors and names of futexes are remembered at least…
const OBJECTS: usize = 1 << 13;
/// …and so many tasks that have ended, or are outside.
const GONE: usize = 1 << 11;
/// Of so many descriptors of a set the names are shown.
const NAMED_FDS: usize = 3;

/// A task, as far as it is shown.
struct Known {
    process: u32,
    pid: u32,
    ppid: u32,
    /// When it was taken in, and for how long it had been asleep then, ns; `None`: it was
    /// created during the recording.
    attached: Option<(u64, Option<u64>)>,
    waker: Waker,
    /// Found out while it sleeps.
    providers: Option<Providers>,
    given: Option<Given>,
}

/// A file or a set of descriptors.
enum Thing {
    File(String),
    /// By descriptor.
    Set(Vec<(i32, Option<String>)>),
}

/// Names, wakers and providers.
pub(super) struct Detail {
    tasks: HashMap<u32, Known>,
    /// The first task of each process that lives, by pid.
    leaders: HashMap<u32, u32>,
    attached: Option<(u32, u64, Option<u64>)>,
    things: Lately<u32, Thing>,
    locks: Lately<(u32, u64), String>,
    /// Tid and name.
    outsiders: Lately<u32, String>,
    ended: Lately<u32, (u32, String)>,
}

impl Detail {
    pub(super) fn new() -> Self {
        Self {
            tasks: HashMap::new(),
            leaders: HashMap::new(),
            attached: None,
            things: Lately::new(OBJECTS),
            locks: Lately::new(OBJECTS),
            outsiders: Lately::new(GONE),
            ended: Lately::new(GONE),
        }
    }

    /// Takes notice of an event.
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::Stretch(stretch) => self.stretch(stretch),
            Event::Attached(it) => {
                self.attached = Some((it.serial, it.at_ns, it.asleep_for_ns));
            }
            Event::Born(born) => self.born(born),
            Event::Task(task) if task.end_ns.is_some() => {
                let born = &task.born;
                self.tasks.remove(&born.serial);
                if self.leaders.get(&born.tgid) == Some(&born.serial) {
                    self.leaders.remove(&born.tgid);
                }
                let name = (born.tid, born.comm.clone());
                remember(&mut self.ended, born.serial, name);
            }
            Event::Providers(found) => {
                if let Some(task) = self.tasks.get_mut(&found.serial) {
                    task.providers = Some(found.clone());
                }
            }
            Event::Given(what) => {
                if let Some(task) = self.tasks.get_mut(&what.serial) {
                    task.given = Some(what.clone());
                }
            }
            Event::Outsider(it) => remember(&mut self.outsiders, it.tid, it.comm.clone()),
            Event::LockName(it) => {
                let process = self.process(it.serial);
                remember(&mut self.locks, (process, it.address), it.name.clone());
            }
            Event::SharedFutex(it) => {
                let process = self.process(it.serial);
                let name = format!("{:#x} in shared memory", it.offset);
                remember(&mut self.locks, (process, it.address), name);
            }
            Event::Object(object) => {
                let thing = Thing::File(unnamed(object));
                self.things.insert(object.id, thing);
            }
            Event::Waitset(set) => {
                let fds = set.fds.iter().map(|it| (it.fd, None)).collect();
                self.things.insert(set.id, Thing::Set(fds));
            }
            Event::Named(named) => {
                let name = kind_name(&named.kind, named.inode, named.fd).1;
                match self.things.get(named.id) {
                    Some(Thing::File(known)) => *known = name,
                    Some(Thing::Set(fds)) => {
                        if let Some(it) = fds.iter_mut().find(|it| it.0 == named.fd) {
                            it.1 = Some(name);
                        }
                    }
                    None => {}
                }
            }
            _ => {}
        }
    }

    fn born(&mut self, born: &Born) {
        let attached = self.attached.take();
        let attached = attached.filter(|(serial, ..)| *serial == born.serial);
        if born.serial == born.process {
            self.leaders.insert(born.tgid, born.serial);
        }
        let known = Known {
            process: born.process,
            pid: born.tgid,
            ppid: born.ppid,
            attached: attached.map(|(_, at_ns, asleep_ns)| (at_ns, asleep_ns)),
            waker: Waker::None,
            providers: None,
            given: None,
        };
        self.tasks.insert(born.serial, known);
    }

    fn stretch(&mut self, s: &Stretch) {
        if s.object != 0 {
            // It is in use.
            self.things.get(s.object);
        }
        let Some(task) = self.tasks.get_mut(&s.serial) else {
            return;
        };
        task.providers.take_if(|it| it.seq <= s.seq);
        task.given.take_if(|it| it.seq <= s.seq);
        if state_of(s.why) == State::Blocked && s.waker != Waker::None {
            task.waker = s.waker;
        }
    }

    /// Forgets what was not used for long, but for the objects that tasks wait for now.
    pub(super) fn make_room(&mut self, waited_for: impl Iterator<Item = u32>) {
        if self.things.is_full() {
            self.things.forget(waited_for);
        }
    }

    /// What stands for all tasks of a task's process.
    pub(super) fn process(&self, serial: u32) -> u32 {
        self.tasks.get(&serial).map_or(serial, |task| task.process)
    }

    /// The role of a task, by the names that `name` knows.
    pub(super) fn role<'a>(&self, serial: u32, name: impl Fn(u32) -> Option<&'a str>) -> String {
        let own = name(serial).unwrap_or_default();
        let Some(task) = self.tasks.get(&serial) else {
            return role(own, None, None);
        };
        let parent = self.leaders.get(&task.ppid);
        let parent = parent.filter(|_| task.ppid != task.pid);
        let parent = parent.and_then(|parent| name(*parent));
        match name(task.process) {
            Some(process) if task.process != serial => role(process, parent, Some(own)),
            _ => role(own, parent, None),
        }
    }

    /// Who woke it last, in words; `None`: nobody that was seen. `name` gives tid and name of
    /// those who live.
    pub(super) fn waker(
        &self,
        serial: u32,
        name: impl Fn(u32) -> Option<(u32, String)>,
    ) -> Option<(Option<u32>, String)> {
        let words = |text: &str| Some((None, text.to_owned()));
        match self.tasks.get(&serial)?.waker {
            Waker::None => None,
            Waker::Task { serial, .. } => {
                let gone = || self.ended.peek(serial).cloned();
                let (tid, name) = name(serial).or_else(gone)?;
                Some((Some(serial), format!("{name} ({tid})")))
            }
            Waker::Outsider { tid, .. } => {
                let name = self.outsiders.peek(tid).map_or("", String::as_str);
                Some((None, format!("{name} ({tid}), outside")))
            }
            Waker::Interrupt(Interrupt::Timer) => words("a timer"),
            Waker::Interrupt(Interrupt::Soft(vector)) => words(match kind_of_vector(vector) {
                InterruptKind::Timer => "a timer",
                InterruptKind::Network => "the network",
                InterruptKind::Block => "the disk",
                InterruptKind::Other => "an interrupt",
            }),
            Waker::Interrupt(_) => words("an interrupt"),
            Waker::Unknown => words("unknown"),
        }
    }

    /// Who could end the wait that a task is in since then, if that was found out.
    pub(super) fn providers(&self, serial: u32, since_ns: u64) -> Option<&Providers> {
        let found = self.tasks.get(&serial)?.providers.as_ref();
        found.filter(|it| it.at_ns >= since_ns)
    }

    /// If the task was asleep since before the recording: for how long it had been, ns.
    pub(super) fn before(&self, serial: u32, since_ns: u64) -> Option<Option<u64>> {
        let (at_ns, asleep_ns) = self.tasks.get(&serial)?.attached?;
        (since_ns <= at_ns).then_some(asleep_ns)
    }

    /// What a task waits for since then, in words; empty: not known.
    pub(super) fn object(&self, serial: u32, since_ns: u64, reason: &str, call: &Call) -> String {
        let task = self.tasks.get(&serial);
        let what = task.and_then(|task| task.given.as_ref());
        let what = what.filter(|it| it.at_ns >= since_ns).map(|it| &it.what);
        let id = match what {
            Some(GivenWhat::Set(id)) => *id,
            Some(what) => return given(what).1,
            None => call.object,
        };
        let named = match id {
            0 => None,
            id => self.things.peek(id),
        };
        match named {
            Some(Thing::File(name)) => return name.clone(),
            Some(Thing::Set(fds)) => return of_set(fds),
            None => {}
        }
        match reason {
            "sleep" => match call.timeout {
                Timeout::Us(us) if us < Timeout::LONGEST_US => {
                    format!("for {}", duration(u64::from(us) * 1000))
                }
                _ => String::new(),
            },
            "futex" => {
                let name = self.locks.peek((self.process(serial), call.arg0));
                name.cloned().unwrap_or_else(|| format!("{:#x}", call.arg0))
            }
            "page fault" => format!("page {:#x}", call.arg0 & !0xfff),
            _ => String::new(),
        }
    }
}

fn remember<K: Copy + Eq + std::hash::Hash, V>(table: &mut Lately<K, V>, key: K, value: V) {
    table.insert(key, value);
    if table.is_full() {
        table.forget(std::iter::empty());
    }
}

/// What is known of a file before its name is.
fn unnamed(object: &Object) -> String {
    match object.mode & 0o170_000 {
        0o010_000 => format!("pipe {}", object.inode),
        0o140_000 => format!("socket {}", object.inode),
        _ => format!("fd {}", object.fd),
    }
}

fn of_set(fds: &[(i32, Option<String>)]) -> String {
    let named = fds.iter().take(NAMED_FDS);
    let named = named.map(|(fd, name)| name.clone().unwrap_or_else(|| format!("fd {fd}")));
    let mut names: Vec<String> = named.collect();
    if fds.len() == 1 {
        return names.swap_remove(0);
    }
    if fds.len() > NAMED_FDS {
        names.push("…".to_owned());
    }
    format!("{} fds: {}", fds.len(), names.join(", "))
}
