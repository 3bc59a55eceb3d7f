//! The moment as a view shows it: plain data, that knows nothing of a terminal.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::{Counts, Lasting, Live, Task, WaitKind, detail::Detail};
use crate::{model::State, trace::ProviderKind};

/// What a recording is like at a moment. Lengths of time are in ns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Since the recording began.
    pub elapsed_ns: u64,
    /// How many tasks are in each state.
    pub counts: Counts,
    /// Tasks that were followed, in all.
    pub seen: u64,
    /// Two or more tasks live, and each is blocked.
    pub all_blocked: Lasting,
    /// None runs, and at least one wants to.
    pub starved: Lasting,
    /// CPU time of all tasks, ns.
    pub running_ns: u64,
    /// Records that were dropped.
    pub lost: u64,
    /// Sets of tasks that can't go on, by serial.
    pub stuck: Vec<Vec<u32>>,
    /// The tasks that live, by serial.
    pub tasks: Vec<Row>,
}

/// A task that lives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its serial.
    pub serial: u32,
    /// Its tid.
    pub tid: u32,
    /// Its process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// The name of its process.
    pub process: String,
    /// What it does in the program: as in a report.
    pub role: String,
    /// What it does now.
    pub state: State,
    /// What it waits for, if it is blocked.
    pub wait: Option<Waiting>,
    /// Who woke it last, in words, with the serial of a task of the workload; `None`: nobody
    /// was seen to.
    pub waker: Option<(Option<u32>, String)>,
    /// Time that it was blocked, by kind of wait, the longest first.
    pub blocked: Vec<(String, u64)>,
}

/// What a task waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// For how long so far: from before the recording, where that is known.
    pub for_ns: u64,
    /// It began before the recording.
    pub before: bool,
    /// That is all of its length.
    pub whole: bool,
    /// In what, as in a report.
    pub reason: String,
    /// What for, in words; empty: not known.
    pub object: String,
    /// What it tells of why all are blocked; `None`: it rests where it always does.
    pub cause: Option<Cause>,
    /// Who could end it; `None`: it was not found out.
    pub providers: Option<By>,
}

/// What a wait tells of why all are blocked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cause {
    /// How much.
    pub weight: u8,
    /// Its kind: `lock`, `disk`, `sleep`, …
    pub kind: String,
}

/// Who could end a wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    /// How they come to be it.
    pub kind: ProviderKind,
    /// Tasks of the workload, by serial: any of them.
    pub tasks: Vec<u32>,
    /// So can others, outside the workload.
    pub outside: bool,
}

impl Live {
    /// The moment up to which all is known, for a view. Names, wakers and providers are there
    /// only if it was made [`Live::in_detail`].
    pub fn snapshot(&self, lost: u64) -> Snapshot {
        let moment = self.moment(lost, false);
        let nothing;
        let detail = match &self.detail {
            Some(detail) => detail,
            None => {
                nothing = Detail::new();
                &nothing
            }
        };
        let mut tasks: Vec<Row> = self
            .tasks()
            .map(|(serial, task)| self.row(detail, serial, task))
            .collect();
        tasks.sort_unstable_by_key(|row| row.serial);
        Snapshot {
            elapsed_ns: moment.elapsed_ns,
            counts: self.counts(),
            seen: self.seen(),
            all_blocked: moment.all_blocked,
            starved: moment.starved,
            running_ns: self.running_ns(),
            lost,
            stuck: self.deadlocks().map(<[u32]>::to_vec).collect(),
            tasks,
        }
    }

    fn row(&self, detail: &Detail, serial: u32, task: &Task) -> Row {
        let name = |serial: u32| self.tasks.get(&serial).map(|task| task.name.as_str());
        let with_tid = |serial: u32| {
            let task = self.tasks.get(&serial)?;
            Some((task.tid, task.name.clone()))
        };
        let mut blocked: Vec<_> = WaitKind::ALL
            .iter()
            .map(|kind| (kind.name().to_owned(), task.blocked_ns[*kind as usize]))
            .filter(|(_, ns)| *ns > 0)
            .collect();
        blocked.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
        Row {
            serial,
            tid: task.tid,
            pid: task.pid,
            name: task.name.clone(),
            process: name(detail.process(serial))
                .unwrap_or(&task.name)
                .to_owned(),
            role: detail.role(serial, name),
            state: task.state,
            wait: self.waiting(detail, serial, task),
            waker: detail.waker(serial, with_tid),
            blocked,
        }
    }

    fn waiting(&self, detail: &Detail, serial: u32, task: &Task) -> Option<Waiting> {
        let wait = task.wait.filter(|_| task.state == State::Blocked)?;
        let before = detail.before(serial, wait.since_ns);
        let here_ns = self.at_ns().saturating_sub(wait.since_ns);
        let providers = detail.providers(serial, wait.since_ns).map(|found| By {
            kind: found.kind,
            tasks: found.tasks.clone(),
            outside: found.outside,
        });
        Some(Waiting {
            for_ns: here_ns.saturating_add(before.flatten().unwrap_or(0)),
            before: before.is_some(),
            whole: before.is_none_or(|asleep_ns| asleep_ns.is_some()),
            reason: wait.reason.to_owned(),
            object: detail.object(serial, wait.since_ns, wait.reason, &wait.call),
            cause: self.weight(task).map(|(weight, kind)| Cause {
                weight,
                kind: kind.name().to_owned(),
            }),
            providers,
        })
    }
}

/// What tasks are put together by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupBy {
    /// The role.
    #[default]
    Role,
    /// The process.
    Process,
}

/// Tasks that are shown as one.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// What they are called.
    pub name: String,
    /// How many are in each state.
    pub counts: Counts,
    /// All are blocked, and for so long, ns.
    pub all_blocked_ns: Option<u64>,
    /// One of them, by its place in [`Snapshot::tasks`], whose wait tells most of why; `None`:
    /// not all are blocked.
    pub on: Option<usize>,
    /// All of them rest where they always do.
    pub idle: bool,
}

impl Snapshot {
    /// The task with this serial, if it lives.
    pub fn task(&self, serial: u32) -> Option<&Row> {
        let at = self.tasks.binary_search_by_key(&serial, |row| row.serial);
        self.tasks.get(at.ok()?)
    }

    /// All tasks as one group.
    pub fn whole(&self) -> Group {
        self.group(String::new(), 0..self.tasks.len())
    }

    /// The groups, the largest first.
    pub fn groups(&self, by: GroupBy) -> Vec<Group> {
        let mut members: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, row) in self.tasks.iter().enumerate() {
            let name = match by {
                GroupBy::Role => row.role.clone(),
                GroupBy::Process => format!("{} ({})", row.process, row.pid),
            };
            members.entry(name).or_default().push(at);
        }
        let groups = members.into_iter();
        let mut groups: Vec<Group> = groups
            .map(|(name, members)| self.group(name, members.into_iter()))
            .collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.counts.live()));
        groups
    }

    fn group(&self, name: String, members: impl Iterator<Item = usize> + Clone) -> Group {
        let mut counts = Counts::default();
        for at in members.clone() {
            counts.enter(self.tasks[at].state);
        }
        let waits = members.filter_map(|at| Some((at, self.tasks[at].wait.as_ref()?)));
        let all = counts.blocked > 0 && counts.blocked == counts.live();
        let shortest = waits.clone().map(|(_, wait)| wait.for_ns).min();
        // Of those that tell the same, one who waits for none of the others, and of those the one
        // that blocked last.
        let told = waits.max_by_key(|(_, wait)| {
            let by = wait.providers.as_ref();
            let last = by.is_none_or(|by| by.tasks.is_empty());
            (wait.cause.clone(), last, std::cmp::Reverse(wait.for_ns))
        });
        Group {
            name,
            counts,
            all_blocked_ns: shortest.filter(|_| all),
            on: told.filter(|_| all).map(|(at, _)| at),
            idle: all && told.is_none_or(|(_, wait)| wait.cause.is_none()),
        }
    }

    /// Who waits for whom: each who is waited for, followed by those who wait for it, deeper
    /// by one. Who is in a circle is told there once.
    pub fn graph(&self) -> Vec<Line> {
        let mut waiters: BTreeMap<Node, Vec<&Row>> = BTreeMap::new();
        for row in &self.tasks {
            let found = row.wait.as_ref().and_then(|wait| wait.providers.as_ref());
            if let Some(found) = found {
                waiters.entry(Node::of(found)).or_default().push(row);
            }
        }
        let mut graph = Graph {
            sizes: HashMap::new(),
            waiters,
            told: BTreeSet::new(),
            lines: Vec::new(),
        };
        graph.draw(self);
        graph.lines
    }
}

/// Who is waited for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// A task, by serial.
    Task(u32),
    /// Any of these.
    OneOf(Vec<u32>),
    /// Somebody outside the workload.
    Outside,
    /// Nobody that could be found.
    Nobody,
}

impl Node {
    fn of(found: &By) -> Self {
        match (&found.tasks[..], found.outside) {
            ([], true) => Self::Outside,
            ([], false) => Self::Nobody,
            ([one], false) => Self::Task(*one),
            (many, _) => {
                let mut many = many.to_vec();
                many.sort_unstable();
                Self::OneOf(many)
            }
        }
    }
}

/// A line of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How many are between it and one who waits for none of the others.
    pub depth: usize,
    /// Who.
    pub node: Node,
    /// What makes it wait for who is above; `None`: it does not.
    pub how: Option<ProviderKind>,
    /// It waits for one below it: a circle.
    pub circle: bool,
}

struct Graph<'a> {
    waiters: BTreeMap<Node, Vec<&'a Row>>,
    /// How many wait for each, directly.
    sizes: HashMap<Node, usize>,
    told: BTreeSet<u32>,
    lines: Vec<Line>,
}

impl Graph<'_> {
    fn draw(&mut self, snapshot: &Snapshot) {
        let sizes = self
            .waiters
            .iter()
            .map(|(node, of)| (node.clone(), of.len()));
        self.sizes = sizes.collect();
        let mut nodes: Vec<Node> = self.waiters.keys().cloned().collect();
        nodes.sort_by_key(|node| std::cmp::Reverse(self.sizes[node]));
        let is_root = |node: &Node| {
            let Node::Task(serial) = node else {
                return true;
            };
            let wait = snapshot.task(*serial).and_then(|row| row.wait.as_ref());
            wait.is_none_or(|wait| wait.providers.is_none())
        };
        let (roots, others): (Vec<_>, Vec<_>) = nodes.into_iter().partition(is_root);
        for root in roots {
            self.tell(root, false);
        }
        // What is left goes in circles, or hangs on one.
        for node in others {
            if let Node::Task(serial) = node
                && !self.told.contains(&serial)
            {
                let start = on_the_circle(snapshot, serial);
                self.tell(Node::Task(start), true);
            }
        }
    }

    /// A node and all below it. Without recursion: chains can be as long as there are tasks.
    fn tell(&mut self, root: Node, circle: bool) {
        let mut left = vec![(root, 0, None)];
        while let Some((node, depth, how)) = left.pop() {
            if let Node::Task(serial) = node
                && !self.told.insert(serial)
            {
                continue;
            }
            let below = self.waiters.get(&node).map_or(&[][..], Vec::as_slice);
            let below = below.iter().rev().filter_map(|row| {
                let found = row.wait.as_ref()?.providers.as_ref()?;
                Some((Node::Task(row.serial), depth + 1, Some(found.kind)))
            });
            left.extend(below);
            let circle = circle && depth == 0;
            self.lines.push(Line {
                depth,
                node,
                how,
                circle,
            });
        }
    }
}

/// A task of the circle that the waits of this one lead into; itself if they lead into none.
fn on_the_circle(snapshot: &Snapshot, serial: u32) -> u32 {
    let next = |serial: u32| {
        let found = snapshot.task(serial)?.wait.as_ref()?.providers.as_ref()?;
        match Node::of(found) {
            Node::Task(next) => Some(next),
            _ => None,
        }
    };
    let mut seen = BTreeSet::new();
    let mut at = serial;
    while seen.insert(at) {
        match next(at) {
            Some(then) => at = then,
            None => return serial,
        }
    }
    at
}
