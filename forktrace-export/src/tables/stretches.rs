//! The table of stretches: window by window, so that an engine can skip what it does not ask
//! for, and no more than a window is held in memory.
//!
//! A row begins where its task leaves the CPU. It says how long the task then was blocked (or
//! stopped), how long it wanted a CPU after that, and how long it ran with it, until it left
//! it again. So the rows of a task add up to its life, to the nanosecond.

mod what;

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use forktrace_core::{
    analysis::{Names, Waits},
    model::{Off, Segment, Segments, State},
    utc,
};

pub(super) use self::what::word_of_end;
use self::what::{Found, OfWhat, Texts, What};
use super::{
    DAY_NS, Open, Part, ROW_GROUP, Table, Time,
    column::{Column, Filled, RowGroup, Rows, Words, Writer, number},
    dictionary::Runs,
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
    what: What,
    blocked_ns: u64,
    stopped_ns: u64,
    runnable_ns: u64,
    running_ns: u64,
    unknown_ns: u64,
}

impl Row {
    #[inline]
    fn begin(segment: &Segment, what: What) -> Self {
        let mut row = Self {
            start_ns: segment.start_ns,
            what,
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
    #[inline]
    fn goes_on(&self, with: State) -> bool {
        match with {
            State::Blocked | State::Stopped => false,
            // Woken; else it was preempted, and a row begins.
            State::Runnable => self.runnable_ns + self.running_ns + self.unknown_ns == 0,
            State::Running | State::Unknown => true,
        }
    }

    #[inline]
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
struct OfTask<'a> {
    segments: Segments<'a>,
    /// What was begun.
    row: Option<Row>,
}

impl OfTask<'_> {
    /// Adds the rows that begin before this time, as far as there is room. `what` says what a row
    /// is, by the state that it begins with and, if that is a wait, the stretch that it is; `None`:
    /// the one that is open at the end.
    fn add_rows(
        &mut self,
        (before_ns, start_unix_ns): (u64, u64),
        lot: &mut Lot,
        mut what: impl FnMut(State, Option<Option<&Off>>) -> What,
    ) {
        if self.row.is_some_and(|row| row.start_ns >= before_ns) || lot.is_full() {
            return;
        }
        let Self { segments, row } = self;
        segments.each_before(u64::MAX, |segment, stretch| {
            if let Some(row) = row.as_mut().filter(|row| row.goes_on(segment.state)) {
                row.add(segment);
                return true;
            }
            let wait = (segment.state == State::Blocked).then(|| stretch.map(|(_, off)| off));
            let what = what(segment.state, wait);
            if let Some(row) = row.replace(Row::begin(segment, what)) {
                lot.push(&row, start_unix_ns);
            }
            segment.start_ns < before_ns && !lot.is_full()
        });
        if segments.next_ns().is_none() && !lot.is_full() {
            let last = row.take_if(|row| row.start_ns < before_ns);
            last.inspect(|row| lot.push(row, start_unix_ns));
        }
    }
}

/// All rows: by window, within a window by task, and by time within a task.
struct Walk<'a> {
    recording: Recording<'a>,
    waits: &'a Waits<'a>,
    texts: Texts<'a>,
    trace: u32,
    roles: Vec<u32>,
    tasks: Vec<OfTask<'a>>,
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
        let trace = texts.number(trace);
        let roles = roles.iter().map(|role| texts.number(role)).collect();
        let tasks = model.tasks.iter().map(|task| OfTask {
            segments: task.segments(),
            row: None,
        });
        Self {
            recording,
            waits,
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
        let start_unix_ns = Time::of(self.recording, 0).unix_ns;
        loop {
            let until_ns = self.windows.until_ns()?;
            while let Some(task) = self.tasks.get_mut(self.at) {
                let (at, texts, waits) = (self.at, &mut self.texts, self.waits);
                let of = &self.recording.model.tasks[at];
                let before = lot.len();
                task.add_rows((until_ns, start_unix_ns), &mut lot, |state, stretch| {
                    let wait = stretch.and_then(|stretch| waits.begun(at, stretch));
                    texts.what(of, state, wait.as_ref())
                });
                lot.of_task((of.serial, self.roles[at]), lot.len() - before);
                if lot.is_full() {
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

    fn finished(&mut self, mut lot: Lot) -> Lot {
        lot.trace = self.trace;
        lot.texts = lot.found.all().map(|what| self.texts.of(what)).collect();
        lot.words = self.texts.words.given_out();
        lot
    }
}

/// Rows of a window, in columns, as far as they have to be found one by one.
#[derive(Default)]
struct Lot {
    words: Words,
    trace: u32,
    /// Serials and roles of tasks, and how many rows each has.
    tasks: Vec<(Option<i64>, Option<u32>)>,
    of_tasks: Runs,
    /// What rows are, and how many are so one after the other.
    found: Found,
    whats: Runs,
    /// The texts of what was found, in its order.
    texts: Vec<OfWhat>,
    start_ns: Vec<i64>,
    blocked_ns: Vec<i64>,
    stopped_ns: Seldom,
    runnable_ns: Vec<i64>,
    running_ns: Vec<i64>,
    unknown_ns: Seldom,
}

/// Times that most rows have none of.
#[derive(Default)]
struct Seldom {
    /// The first one is 0.
    all: Vec<Option<i64>>,
    which: Runs,
}

impl Seldom {
    #[inline]
    fn push(&mut self, ns: u64) {
        if self.all.is_empty() {
            self.all.push(Some(0));
        }
        if ns > 0 {
            self.all.push(Some(number(ns)));
        }
        let which = if ns > 0 { self.all.len() - 1 } else { 0 };
        self.which.push(which as u32, 1);
    }
}

impl From<Seldom> for Filled {
    fn from(times: Seldom) -> Self {
        Self::some_numbers(&Arc::new(times.which), times.all)
    }
}

impl Lot {
    fn with_room(rows: usize) -> Self {
        let numbers = || Vec::with_capacity(rows);
        Self {
            start_ns: numbers(),
            blocked_ns: numbers(),
            runnable_ns: numbers(),
            running_ns: numbers(),
            ..Self::default()
        }
    }

    fn len(&self) -> usize {
        self.start_ns.len()
    }

    fn is_full(&self) -> bool {
        self.len() >= ROW_GROUP
    }

    #[inline]
    fn push(&mut self, row: &Row, start_unix_ns: u64) {
        self.whats.push(self.found.number(row.what), 1);
        self.start_ns
            .push(number(start_unix_ns.saturating_add(row.start_ns)));
        self.blocked_ns.push(number(row.blocked_ns));
        self.stopped_ns.push(row.stopped_ns);
        self.runnable_ns.push(number(row.runnable_ns));
        self.running_ns.push(number(row.running_ns));
        self.unknown_ns.push(row.unknown_ns);
    }

    /// The last rows are of this task.
    fn of_task(&mut self, (serial, role): (u32, u32), rows: usize) {
        if rows > 0 {
            self.of_tasks.push(self.tasks.len() as u32, rows as u32);
            self.tasks.push((Some(serial.into()), Some(role)));
        }
    }

    /// In the order of [`COLUMNS`].
    fn rows(self) -> Rows {
        let len = self.len();
        let start = self.start_ns.iter().map(|ns| ns / 1000).collect();
        let mut all = Runs::default();
        all.push(0, len as u32);
        let [all, of_tasks, whats] = [all, self.of_tasks, self.whats].map(Arc::new);
        let (serials, roles) = self.tasks.into_iter().unzip();
        let text = |of: fn(&OfWhat) -> Option<u32>| {
            Filled::some_texts(&whats, self.texts.iter().map(of).collect())
        };
        let waker_task = |what: &OfWhat| what.waker_task.map(i64::from);
        let columns = vec![
            Filled::some_texts(&all, vec![Some(self.trace)]),
            Filled::some_numbers(&of_tasks, serials),
            Filled::some_texts(&of_tasks, roles),
            Filled::numbers(self.start_ns),
            Filled::numbers(start),
            text(|it| Some(it.state)),
            text(|it| it.reason),
            text(|it| it.syscall),
            text(|it| it.object_kind),
            text(|it| it.object),
            text(|it| it.ended),
            text(|it| it.waker_kind),
            text(|it| it.waker),
            Filled::some_numbers(&whats, self.texts.iter().map(waker_task).collect()),
            Filled::numbers(self.blocked_ns),
            self.stopped_ns.into(),
            Filled::numbers(self.runnable_ns),
            Filled::numbers(self.running_ns),
            self.unknown_ns.into(),
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
