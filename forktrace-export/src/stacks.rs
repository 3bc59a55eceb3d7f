//! Where tasks blocked, as stacks: frames from the outermost on, with the time.
//!
//! With recorded stacks the frames are functions. Without, they are what a task waited in and
//! for, which every recording tells.

use std::collections::HashMap;

use forktrace_core::{
    analysis::{Names, Wait, Waits},
    model::{Model, Task},
    report::{self, StackUse},
    trace::Waker,
};

use crate::{
    Source,
    text::{self, clean},
};

/// What stacks are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum StackKind {
    /// Where tasks blocked; without recorded stacks, in which call and for what.
    OffCpu,
    /// Where tasks were woken, and by whom.
    Wakeup,
    /// From each blocked task to who woke it, who had woken that one, up to the first.
    Chain,
    /// What was waited for, then by whom.
    Object,
}

/// Links of a chain that are followed.
const MOST_LINKS: usize = 32;

/// Stands where the outermost functions are missing.
const CUT_OFF: &str = "[cut off]";

/// Time with one stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stack {
    /// Outermost first.
    pub(crate) frames: Vec<String>,
    /// Time blocked.
    pub(crate) ns: u64,
}

/// All stacks, most time first. `None`: where tasks blocked, and where they were woken if
/// that was recorded.
pub(crate) fn fold(source: &Source<'_>, kind: Option<StackKind>) -> Vec<Stack> {
    let recorded = source.report.stacks.as_deref();
    let of = |wanted: report::StackKind| {
        let all = recorded.unwrap_or_default().iter();
        all.filter(move |stack| stack.kind == wanted).map(of_use)
    };
    let has = |kind| recorded.is_some_and(|all| all.iter().any(|stack| stack.kind == kind));
    let (off_cpu, wakeup) = (report::StackKind::OffCpu, report::StackKind::Wakeup);
    match kind {
        None if has(off_cpu) => of(off_cpu).chain(of(wakeup)).collect(),
        Some(StackKind::OffCpu) if has(off_cpu) => of(off_cpu).collect(),
        Some(StackKind::Wakeup) if has(wakeup) => of(wakeup).collect(),
        kind => of_waits(source, kind.unwrap_or(StackKind::OffCpu)),
    }
}

/// As it was recorded.
fn of_use(stack: &StackUse) -> Stack {
    let mut frames = vec![
        match stack.kind {
            report::StackKind::OffCpu => "off-cpu".to_owned(),
            report::StackKind::Wakeup => "wakeup".to_owned(),
        },
        clean(&stack.name),
    ];
    if stack.cut_off {
        frames.push(CUT_OFF.to_owned());
    }
    frames.extend(stack.frames.iter().map(|name| clean(name)));
    // On top of the stack of a wakeup: who was woken.
    let wakee = stack.wakee.iter();
    frames.extend(wakee.map(|name| format!("wakes {}", clean(name))));
    Stack {
        frames,
        ns: stack.ns,
    }
}

fn of_waits(source: &Source<'_>, kind: StackKind) -> Vec<Stack> {
    let names = Names::new(source.info, source.model);
    let waits = names.waits();
    let mut folder = Folder {
        paths: Paths::new(source, &names),
        chains: (kind == StackKind::Chain).then(|| Chains::new(source.model, &waits)),
        frames: Frames::default(),
        sums: HashMap::new(),
    };
    for (at, task) in source.model.tasks.iter().enumerate() {
        for wait in waits.of(at) {
            folder.add(kind, at, task, &wait);
        }
    }
    folder.finish()
}

struct Folder<'a> {
    paths: Paths<'a>,
    chains: Option<Chains>,
    frames: Frames,
    sums: HashMap<Vec<u32>, u64>,
}

impl Folder<'_> {
    fn add(&mut self, kind: StackKind, at: usize, task: &Task, wait: &Wait) {
        let ns = wait.end_ns - wait.start_ns;
        if ns == 0 {
            return;
        }
        let name = clean(&task.name);
        let paths = &self.paths;
        let stack = match kind {
            StackKind::OffCpu => {
                let head = ["off-cpu".to_owned(), name];
                head.into_iter().chain(paths.wait(task, wait)).collect()
            }
            StackKind::Wakeup => vec![
                "wakeup".to_owned(),
                paths.waker(wait),
                format!("wakes {name}"),
                paths.what(task, wait),
            ],
            StackKind::Object => {
                let mut path = paths.wait(task, wait);
                path.reverse();
                path.insert(0, "object".to_owned());
                path.push(name);
                path
            }
            StackKind::Chain => {
                let mut frames = vec!["chain".to_owned()];
                let chains = self.chains.as_ref();
                for (at, wait) in chains.map(|it| it.of(paths, at, wait)).unwrap_or_default() {
                    let task = &paths.model.tasks[at];
                    let what = paths.what(task, &wait);
                    frames.push(format!("{} in {what}", clean(&task.name)));
                    if !matches!(wait.waker, Waker::Task { .. }) {
                        frames.push(paths.waker(&wait));
                    }
                }
                frames
            }
        };
        let key = stack.iter().map(|frame| self.frames.number(frame));
        *self.sums.entry(key.collect()).or_default() += ns;
    }

    fn finish(self) -> Vec<Stack> {
        let frames = &self.frames.texts;
        let stacks = self.sums.into_iter().map(|(stack, ns)| Stack {
            frames: stack
                .iter()
                .map(|at| frames[*at as usize].clone())
                .collect(),
            ns,
        });
        let mut stacks: Vec<Stack> = stacks.collect();
        stacks.sort_by(|a, b| b.ns.cmp(&a.ns).then_with(|| a.frames.cmp(&b.frames)));
        stacks
    }
}

/// Texts by number.
#[derive(Default)]
pub(crate) struct Frames {
    pub(crate) texts: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Frames {
    pub(crate) fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.texts.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }
}

/// What a task was doing when it blocked, outermost first.
pub(crate) struct Paths<'a> {
    pub(crate) model: &'a Model,
    names: &'a Names<'a>,
    /// The numbers of its stacks, user's and kernel's, by task and stretch.
    stacks: HashMap<(u32, u32), (Option<u32>, Option<u32>)>,
}

impl<'a> Paths<'a> {
    pub(crate) fn new(source: &Source<'a>, names: &'a Names<'a>) -> Self {
        let own = source.model.stacks.iter();
        let own = own.filter(|stacks| stacks.waker == Waker::None);
        Self {
            model: source.model,
            names,
            stacks: own
                .map(|it| ((it.serial, it.seq), (it.user, it.kernel)))
                .collect(),
        }
    }

    /// The call, and what it waited for.
    pub(crate) fn wait(&self, task: &Task, wait: &Wait) -> Vec<String> {
        let (reason, syscall) = self.names.reason(task, wait);
        let object = self.names.object(wait);
        let object = object.filter(|object| object.kind != "sleep");
        let mut path = vec![syscall.unwrap_or(reason)];
        path.extend(object.map(|object| clean(&object.name)));
        path
    }

    /// The functions that led to it, where they were recorded, and the wait.
    pub(crate) fn functions(&self, task: &Task, wait: &Wait) -> Vec<String> {
        let mut path = Vec::new();
        if let Some((user, kernel)) = self.stacks.get(&(task.serial, wait.seq)) {
            let of = |number: &Option<u32>| number.and_then(|n| self.model.frames.get(&n));
            let (user, kernel) = (of(user), of(kernel));
            if user.is_some_and(|frames| frames.cut_off) {
                path.push(CUT_OFF.to_owned());
            }
            let functions = user.iter().flat_map(|it| it.frames.iter().rev());
            path.extend(functions.map(|name| clean(name)));
            let functions = kernel.iter().flat_map(|it| it.frames.iter().rev());
            path.extend(functions.map(|name| format!("{}_[k]", clean(name))));
        }
        path.extend(self.wait(task, wait));
        path
    }

    /// The same in one line.
    pub(crate) fn what(&self, task: &Task, wait: &Wait) -> String {
        let (reason, _) = self.names.reason(task, wait);
        text::wait(&reason, self.names.object(wait).as_ref())
    }

    /// Who ended it.
    pub(crate) fn waker(&self, wait: &Wait) -> String {
        if wait.woken {
            text::waker(&self.names.waker(wait.waker, wait.end_ns))
        } else {
            "nobody".to_owned()
        }
    }
}

/// Knows what woke each task last.
struct Chains(Vec<Vec<Wait>>);

impl Chains {
    fn new(model: &Model, waits: &Waits<'_>) -> Self {
        let tasks = 0..model.tasks.len();
        Self(tasks.map(|at| waits.of(at).collect()).collect())
    }

    /// A wait, then the last one within it of the task that ended it, and so on.
    fn of(&self, paths: &Paths<'_>, at: usize, wait: &Wait) -> Vec<(usize, Wait)> {
        let mut chain = vec![(at, *wait)];
        let (mut from_ns, mut until_ns, mut waker) = (wait.start_ns, wait.end_ns, wait.waker);
        while let Waker::Task { serial, .. } = waker
            && chain.len() < MOST_LINKS
            && let Some(by) = paths.names.index(serial)
        {
            let waits = &self.0[by];
            // Before it woke another it had to be woken itself: so a circle comes to an end.
            let ended = waits.partition_point(|it| it.end_ns < until_ns);
            let last = ended.checked_sub(1).map(|last| waits[last]);
            let Some(last) = last.filter(|last| last.end_ns > from_ns) else {
                break;
            };
            chain.push((by, last));
            from_ns = from_ns.max(last.start_ns);
            (until_ns, waker) = (last.end_ns, last.waker);
        }
        chain
    }
}
