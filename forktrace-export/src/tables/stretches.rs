//! The table of stretches: window by window, so that an engine can skip what it does not ask
//! for, and no more than a window is held in memory.
//!
//! A row begins where its task leaves the CPU. It says how long the task then was blocked (or
//! stopped), how long it wanted a CPU after that, and how long it ran with it, until it left
//! it again. So the rows of a task add up to its life, to the nanosecond.

use std::{
    collections::HashMap,
    io,
    iter::Peekable,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use forktrace_core::{
    analysis::{Names, Wait, Waits},
    model::{Segment, Segments, State, Task},
    report::{Ended, WakerKind},
    trace::Waker,
    utc,
};

use super::{
    DAY_NS, Open, Part, ROW_GROUP, Table, Time,
    column::{Column, Filled, OrNone, RowGroup, Rows, Words, Writer, number},
};
use crate::Recording;

const COLUMNS: [Column; 19] = [
    Column::text("trace"),
    Column::number("task"),
    Column::text("role"),
    Column::number("start_ns").that_differs(),
    Column::timestamp("start"),
    Column::text("state"),
    Column::text("reason").or_none(),
    Column::text("syscall").or_none(),
    Column::text("object_kind").or_none(),
    Column::text("object").or_none(),
    Column::text("ended").or_none(),
    Column::text("waker_kind").or_none(),
    Column::text("waker").or_none(),
    Column::number("waker_task").or_none(),
    Column::number("blocked_ns").that_differs(),
    Column::number("stopped_ns"),
    Column::number("runnable_ns").that_differs(),
    Column::number("running_ns").that_differs(),
    Column::number("unknown_ns"),
];

/// Packs in so many threads at most.
const MOST_THREADS: usize = 4;

/// Writes the table. Returns how many rows it has.
pub(super) fn write(
    recording: Recording<'_>,
    trace: &str,
    roles: &[String],
    open: Open<'_>,
) -> io::Result<u64> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        // Where there is no room for more threads, fewer do.
        let packers = (0..threads.min(MOST_THREADS)).map_while(|_| {
            let (rows, to_pack) = sync_channel::<Lot>(1);
            let (packed, results) = sync_channel(1);
            let packer = thread::Builder::new();
            let packer = packer.spawn_scoped(scope, move || pack(&to_pack, &packed));
            packer.is_ok().then_some(Packer {
                rows,
                results,
                owes: false,
            })
        });
        let mut file = File {
            open,
            packers: packers.collect(),
            next: 0,
            writer: None,
            rows: 0,
        };
        let names = Names::new(recording.info, recording.model);
        let waits = names.waits();
        let mut walk = Walk::new(recording, (trace, roles), &names, &waits);
        while let Some((day, lot)) = walk.next_lot() {
            file.take(day, lot)?;
        }
        file.finish()
    })
}

fn pack(lots: &Receiver<Lot>, packed: &SyncSender<io::Result<RowGroup>>) {
    for lot in lots {
        // Who gave them may have given up.
        if packed.send(lot.rows().encode(&COLUMNS)).is_err() {
            return;
        }
    }
}

/// A thread that packs.
struct Packer {
    rows: SyncSender<Lot>,
    results: Receiver<io::Result<RowGroup>>,
    /// It has been given rows that were not fetched.
    owes: bool,
}

/// The files under way. Rows go to the packers in turn and come back in turn, so that what is
/// written does not depend on who was faster.
struct File<'a> {
    open: Open<'a>,
    packers: Vec<Packer>,
    next: usize,
    /// The file of this day.
    writer: Option<(u64, Writer)>,
    rows: u64,
}

impl File<'_> {
    fn take(&mut self, day: u64, lot: Lot) -> io::Result<()> {
        if self.writer.as_ref().is_none_or(|(of, _)| *of != day) {
            self.end_day()?;
            let part = Part {
                table: Table::Stretches,
                day: utc::day(day),
            };
            let writer = Writer::new((self.open)(&part)?, &COLUMNS)?;
            self.writer = Some((day, writer));
        }
        if self.packers.is_empty() {
            return self.append(lot.rows().encode(&COLUMNS)?);
        }
        self.fetch(self.next)?;
        let packer = &mut self.packers[self.next];
        packer.rows.send(lot).map_err(|_| gone())?;
        packer.owes = true;
        self.next = (self.next + 1) % self.packers.len();
        Ok(())
    }

    /// Writes what a packer has made.
    fn fetch(&mut self, packer: usize) -> io::Result<()> {
        let packer = &mut self.packers[packer];
        if !std::mem::take(&mut packer.owes) {
            return Ok(());
        }
        let rows = packer.results.recv().map_err(|_| gone())??;
        self.append(rows)
    }

    fn append(&mut self, rows: RowGroup) -> io::Result<()> {
        self.rows += rows.rows() as u64;
        match &mut self.writer {
            Some((_, writer)) => writer.append(rows),
            None => Ok(()),
        }
    }

    fn end_day(&mut self) -> io::Result<()> {
        for step in 0..self.packers.len() {
            self.fetch((self.next + step) % self.packers.len())?;
        }
        match self.writer.take() {
            Some((_, writer)) => writer.finish(),
            None => Ok(()),
        }
    }

    fn finish(mut self) -> io::Result<u64> {
        self.end_day()?;
        Ok(self.rows)
    }
}

fn gone() -> io::Error {
    io::Error::other("a thread that packs rows ended too early")
}

/// A row that is not finished yet.
#[derive(Clone, Copy)]
struct Row {
    start_ns: u64,
    state: State,
    wait: Option<Wait>,
    blocked_ns: u64,
    stopped_ns: u64,
    runnable_ns: u64,
    running_ns: u64,
    unknown_ns: u64,
}

impl Row {
    fn begin(segment: &Segment) -> Self {
        let mut row = Self {
            start_ns: segment.start_ns,
            state: segment.state,
            wait: None,
            blocked_ns: 0,
            stopped_ns: 0,
            runnable_ns: 0,
            running_ns: 0,
            unknown_ns: 0,
        };
        row.add(segment);
        row
    }

    /// Does this segment belong to it?
    fn goes_on(&self, with: State) -> bool {
        match with {
            State::Blocked | State::Stopped => false,
            // Woken; else it was preempted, and a row begins.
            State::Runnable => self.runnable_ns + self.running_ns + self.unknown_ns == 0,
            State::Running | State::Unknown => true,
        }
    }

    fn add(&mut self, segment: &Segment) {
        *match segment.state {
            State::Blocked => &mut self.blocked_ns,
            State::Stopped => &mut self.stopped_ns,
            State::Runnable => &mut self.runnable_ns,
            State::Running => &mut self.running_ns,
            State::Unknown => &mut self.unknown_ns,
        } += segment.end_ns - segment.start_ns;
    }
}

/// A task's rows, one after the other.
struct OfTask<'a, I: Iterator<Item = Wait>> {
    segments: Peekable<Segments<'a>>,
    waits: Peekable<I>,
}

impl<I: Iterator<Item = Wait>> OfTask<'_, I> {
    /// The next row that begins before this time.
    fn next_row(&mut self, before_ns: u64) -> Option<Row> {
        let first = self.segments.next_if(|it| it.start_ns < before_ns)?;
        let mut row = Row::begin(&first);
        if first.state == State::Blocked {
            // Blocks of no length have no segment.
            let at = first.start_ns;
            while self.waits.next_if(|it| it.end_ns <= at).is_some() {}
            row.wait = self.waits.next_if(|it| it.start_ns <= at);
        }
        while let Some(more) = self.segments.next_if(|it| row.goes_on(it.state)) {
            row.add(&more);
        }
        Some(row)
    }
}

type WaitsOf<'a> = Box<dyn Iterator<Item = Wait> + 'a>;

/// All rows: by window, within a window by task, and by time within a task.
struct Walk<'a> {
    recording: Recording<'a>,
    texts: Texts<'a>,
    trace: u32,
    roles: Vec<u32>,
    tasks: Vec<OfTask<'a, WaitsOf<'a>>>,
    /// The task that is next.
    at: usize,
    windows: Windows,
}

impl<'a> Walk<'a> {
    fn new(
        recording: Recording<'a>,
        (trace, roles): (&str, &[String]),
        names: &'a Names<'a>,
        waits: &'a Waits<'a>,
    ) -> Self {
        let model = recording.model;
        let mut texts = Texts::new(names, model.targets.len());
        let trace = texts.words.number(trace);
        let roles = roles.iter().map(|role| texts.words.number(role));
        let roles = roles.collect();
        let tasks = model.tasks.iter().enumerate().map(|(at, task)| OfTask {
            segments: task.segments().peekable(),
            waits: (Box::new(waits.of(at)) as WaitsOf<'a>).peekable(),
        });
        Self {
            recording,
            texts,
            trace,
            roles,
            tasks: tasks.collect(),
            at: 0,
            windows: Windows::new(recording),
        }
    }

    /// The next rows, all of one window, and their day.
    fn next_lot(&mut self) -> Option<(u64, Lot)> {
        let mut lot = Lot::with_room(self.windows.rows);
        loop {
            let until_ns = self.windows.until_ns()?;
            while let Some(task) = self.tasks.get_mut(self.at) {
                while lot.len() < ROW_GROUP
                    && let Some(row) = task.next_row(until_ns)
                {
                    self.texts.add(self.recording, self.at, &row, &mut lot);
                }
                let task = &self.recording.model.tasks[self.at];
                lot.task.resize(lot.len(), i64::from(task.serial));
                lot.role.resize(lot.len(), self.roles[self.at]);
                if lot.len() >= ROW_GROUP {
                    return Some((self.windows.day(), self.finished(lot)));
                }
                self.at += 1;
            }
            let day = self.windows.day();
            self.at = 0;
            self.windows.step();
            if lot.len() > 0 {
                return Some((day, self.finished(lot)));
            }
        }
    }

    fn finished(&self, lot: Lot) -> Lot {
        Lot {
            trace: self.trace,
            words: self.texts.words.given_out(),
            ..lot
        }
    }
}

/// Rows of a window, in columns, as far as they have to be found one by one.
struct Lot {
    words: Words,
    trace: u32,
    task: Vec<i64>,
    role: Vec<u32>,
    start_ns: Vec<i64>,
    state: Vec<u32>,
    reason: OrNone<u32>,
    syscall: OrNone<u32>,
    object_kind: OrNone<u32>,
    object: OrNone<u32>,
    ended: OrNone<u32>,
    waker_kind: OrNone<u32>,
    waker: OrNone<u32>,
    waker_task: OrNone<i64>,
    blocked_ns: Vec<i64>,
    stopped_ns: Vec<i64>,
    runnable_ns: Vec<i64>,
    running_ns: Vec<i64>,
    unknown_ns: Vec<i64>,
}

impl Lot {
    fn with_room(rows: usize) -> Self {
        let numbers = || Vec::with_capacity(rows);
        Self {
            words: Words::default(),
            trace: 0,
            task: numbers(),
            role: Vec::with_capacity(rows),
            start_ns: numbers(),
            state: Vec::with_capacity(rows),
            reason: OrNone::with_room(rows),
            syscall: OrNone::with_room(rows),
            object_kind: OrNone::with_room(rows),
            object: OrNone::with_room(rows),
            ended: OrNone::with_room(rows),
            waker_kind: OrNone::with_room(rows),
            waker: OrNone::with_room(rows),
            waker_task: OrNone::with_room(rows),
            blocked_ns: numbers(),
            stopped_ns: numbers(),
            runnable_ns: numbers(),
            running_ns: numbers(),
            unknown_ns: numbers(),
        }
    }

    fn len(&self) -> usize {
        self.start_ns.len()
    }

    /// In the order of [`COLUMNS`].
    fn rows(self) -> Rows {
        let len = self.len();
        let start = self.start_ns.iter().map(|ns| ns / 1000).collect();
        let columns = vec![
            Filled::texts(vec![self.trace; len]),
            Filled::numbers(self.task),
            Filled::texts(self.role),
            Filled::numbers(self.start_ns),
            Filled::numbers(start),
            Filled::texts(self.state),
            self.reason.into(),
            self.syscall.into(),
            self.object_kind.into(),
            self.object.into(),
            self.ended.into(),
            self.waker_kind.into(),
            self.waker.into(),
            self.waker_task.into(),
            Filled::numbers(self.blocked_ns),
            Filled::numbers(self.stopped_ns),
            Filled::numbers(self.runnable_ns),
            Filled::numbers(self.running_ns),
            Filled::numbers(self.unknown_ns),
        ];
        Rows::of(len, columns, self.words)
    }
}

/// Times at which windows end: so many that each has some [`ROW_GROUP`] rows if they are
/// spread evenly, and one at each midnight.
struct Windows {
    /// Wall-clock time of the trace's beginning, ns since 1970.
    start_unix_ns: u64,
    /// Where the window under way began.
    from_ns: u64,
    length_ns: u64,
    end_ns: u64,
    /// Of each window, about.
    rows: usize,
    done: bool,
}

impl Windows {
    fn new(recording: Recording<'_>) -> Self {
        let tasks = &recording.model.tasks;
        let end_ns = tasks.iter().map(|task| task.end_ns).max().unwrap_or(0);
        let rows: usize = tasks.iter().map(|task| task.stretches.len() + 1).sum();
        let windows = rows.div_ceil(ROW_GROUP).max(1) as u64;
        Self {
            start_unix_ns: recording.info.header.start_unix_ns,
            from_ns: 0,
            length_ns: end_ns.div_ceil(windows).max(1),
            end_ns,
            rows: rows.min(ROW_GROUP),
            done: tasks.is_empty(),
        }
    }

    /// When the window under way ends; `None`: there is none.
    fn until_ns(&self) -> Option<u64> {
        let midnight = (self.day() + 1).saturating_mul(DAY_NS);
        let midnight = midnight.saturating_sub(self.start_unix_ns);
        let mut until = self.from_ns.saturating_add(self.length_ns);
        // There is none after the last that a number of ns can tell.
        if midnight > self.from_ns {
            until = until.min(midnight);
        }
        (!self.done).then_some(if until > self.end_ns { u64::MAX } else { until })
    }

    fn day(&self) -> u64 {
        self.start_unix_ns.saturating_add(self.from_ns) / DAY_NS
    }

    fn step(&mut self) {
        match self.until_ns() {
            None | Some(u64::MAX) => self.done = true,
            Some(until) => self.from_ns = until,
        }
    }
}

/// The texts of rows, each found once.
struct Texts<'a> {
    names: &'a Names<'a>,
    words: Words,
    /// Of each state and each end, by their places in their lists.
    states: [u32; 5],
    ends: [u32; 5],
    reasons: HashMap<InCall, OfReason>,
    /// The last one, which mostly comes again.
    reason: Option<(InCall, OfReason)>,
    /// By target: its kind and name; `None`: nobody asked yet.
    objects: Vec<Option<Option<(u32, u32)>>>,
    wakers: HashMap<Waker, OfWaker>,
    /// The last tasks that woke, by the low bits of the serial.
    lately: Box<[Option<(u32, bool, OfWaker)>]>,
}

/// A call and its table, and whether the kernel's own task is in it.
type InCall = (i16, bool, bool);
/// The reason, and the call's name.
type OfReason = (u32, Option<u32>);

/// So many tasks that woke are found at once.
const LATELY: usize = 1 << 10;
const STATES: [(State, &str); 5] = [
    (State::Running, "running"),
    (State::Runnable, "runnable"),
    (State::Blocked, "blocked"),
    (State::Stopped, "stopped"),
    (State::Unknown, "unknown"),
];
const ENDS: [Ended; 5] = [
    Ended::Fulfilled,
    Ended::TimedOut,
    Ended::Interrupted,
    Ended::CutShort,
    Ended::Unknown,
];

/// Kind, name and serial.
type OfWaker = (u32, Option<u32>, Option<u32>);

impl<'a> Texts<'a> {
    fn new(names: &'a Names<'a>, targets: usize) -> Self {
        let mut words = Words::default();
        Self {
            names,
            states: STATES.map(|(_, word)| words.number(word)),
            ends: ENDS.map(|ended| words.number(word_of_end(ended))),
            words,
            reasons: HashMap::new(),
            reason: None,
            objects: vec![None; targets],
            wakers: HashMap::new(),
            lately: vec![None; LATELY].into(),
        }
    }

    /// Adds a row of a task, but for what all rows of the task have.
    fn add(&mut self, recording: Recording<'_>, task: usize, row: &Row, lot: &mut Lot) {
        let (mut reason, mut syscall, mut object, mut ended, mut waker) =
            (None, None, None, None, None);
        if let Some(wait) = &row.wait {
            let (of_reason, of_syscall) = self.reason(&recording.model.tasks[task], wait);
            (reason, syscall) = (Some(of_reason), of_syscall);
            object = self.object(wait);
            ended = Some(self.ends[place_of_end(wait.ended)]);
            waker = self.waker(wait);
        }
        let (start_ns, _) = Time::of(recording, row.start_ns).values();
        lot.start_ns.push(start_ns);
        lot.state.push(self.states[row.state.index()]);
        lot.reason.push(reason);
        lot.syscall.push(syscall);
        lot.object_kind.push(object.map(|(kind, _)| kind));
        lot.object.push(object.map(|(_, name)| name));
        lot.ended.push(ended);
        lot.waker_kind.push(waker.map(|(kind, ..)| kind));
        lot.waker.push(waker.and_then(|(_, name, _)| name));
        let serial = waker.and_then(|(.., serial)| serial);
        lot.waker_task.push(serial.map(i64::from));
        lot.blocked_ns.push(number(row.blocked_ns));
        lot.stopped_ns.push(number(row.stopped_ns));
        lot.runnable_ns.push(number(row.runnable_ns));
        lot.running_ns.push(number(row.running_ns));
        lot.unknown_ns.push(number(row.unknown_ns));
    }

    fn reason(&mut self, task: &Task, wait: &Wait) -> (u32, Option<u32>) {
        let Self {
            names,
            words,
            reasons,
            reason: last,
            ..
        } = self;
        let key = (wait.syscall, wait.compat, task.kernel_worker);
        if let Some((_, same)) = last.filter(|(it, _)| *it == key) {
            return same;
        }
        let found = *reasons.entry(key).or_insert_with(|| {
            let (reason, syscall) = names.reason(task, wait);
            let syscall = syscall.map(|name| words.number(&name));
            (words.number(&reason), syscall)
        });
        *last = Some((key, found));
        found
    }

    fn object(&mut self, wait: &Wait) -> Option<(u32, u32)> {
        let Self {
            names,
            words,
            objects,
            ..
        } = self;
        let mut find = || {
            let object = names.object(wait)?;
            Some((words.number(&object.kind), words.number(&object.name)))
        };
        match objects.get_mut(wait.target as usize) {
            Some(known) => *known.get_or_insert_with(find),
            None => find(),
        }
    }

    /// Who ended it, if anybody did.
    fn waker(&mut self, wait: &Wait) -> Option<OfWaker> {
        if !wait.woken || wait.waker == Waker::None {
            return None;
        }
        if let Waker::Task { serial, softirq } = wait.waker {
            let slot = serial as usize % LATELY;
            if let Some((of, how, known)) = self.lately[slot]
                && (of, how) == (serial, softirq)
            {
                return Some(known);
            }
            let found = self.find_waker(wait);
            self.lately[slot] = Some((serial, softirq, found));
            return Some(found);
        }
        Some(self.find_waker(wait))
    }

    fn find_waker(&mut self, wait: &Wait) -> OfWaker {
        if let Some(known) = self.wakers.get(&wait.waker) {
            return *known;
        }
        let by = self.names.waker(wait.waker, wait.end_ns);
        let kind = self.words.number(match by.kind {
            WakerKind::Task => "task",
            WakerKind::TaskSoftirq => "task_softirq",
            WakerKind::Interrupt => "interrupt",
            WakerKind::Unknown => "unknown",
            WakerKind::Nobody => "nobody",
        });
        let interrupt = by.interrupt.map(|kind| serde_json::json!(kind));
        let interrupt = interrupt.as_ref().and_then(|kind| kind.as_str());
        let name = by.name.as_deref().or(by.device.as_deref()).or(interrupt);
        let name = name.map(|name| self.words.number(name));
        let found = (kind, name, by.serial);
        // A tid outside the workload can become another task's.
        if !matches!(wait.waker, Waker::Outsider { .. }) {
            self.wakers.insert(wait.waker, found);
        }
        found
    }
}

fn place_of_end(ended: Ended) -> usize {
    match ended {
        Ended::Fulfilled => 0,
        Ended::TimedOut => 1,
        Ended::Interrupted => 2,
        Ended::CutShort => 3,
        Ended::Unknown => 4,
    }
}

pub(super) fn word_of_end(ended: Ended) -> &'static str {
    match ended {
        Ended::Fulfilled => "fulfilled",
        Ended::TimedOut => "timed_out",
        Ended::Interrupted => "interrupted",
        Ended::CutShort => "cut_short",
        Ended::Unknown => "unknown",
    }
}
