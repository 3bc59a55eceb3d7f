//! Tables for engines that read many traces at once (DuckDB, Spark, ClickHouse), in Parquet.
//!
//! A trace becomes the same tables whatever is in it, each cut by the day (UTC) that its rows
//! begin in: [`Table`] lists them. Types are those that all three engines have: numbers of 64
//! bits, text, truth values, and times both as nanoseconds since 1970 and as a timestamp of
//! microseconds, since Spark knows no finer one.
//!
//! Nothing here opens a file: the caller gives each part of a table a place to go to.

mod column;
mod delta;
mod dictionary;
mod minutes;
mod pages;
mod rows;
mod stretches;

use std::{
    borrow::Borrow,
    collections::BTreeMap,
    io::{self, Write},
    panic::resume_unwind,
    sync::{Mutex, PoisonError},
    thread,
};

use forktrace_core::{analysis::roles, report::Report, utc};

use crate::{Recording, Source, trace_id};

use self::column::{Column, Rows, Writer};

/// Version of the tables; it changes when a column changes its meaning or goes away.
pub const VERSION: i64 = 1;

/// So many rows are kept in memory at most, and are what an engine skips or reads at once.
const ROW_GROUP: usize = 1 << 18;

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// A row a task: what it did in all.
    Tasks,
    /// A row a stretch: from a task's leaving the CPU to its leaving it again.
    Stretches,
    /// What the tasks of each role did in each minute, by state and reason.
    Minutes,
    /// A row a stall: the longest ones in which all tasks of a group were blocked.
    Stalls,
    /// All stalls, by what they are put down to.
    Causes,
    /// Where the time of each group of tasks went.
    Groups,
    /// What is worth telling.
    Findings,
    /// What was waited for, over all tasks.
    Objects,
    /// Locks, and what else tasks of one memory wait for: who had them meanwhile.
    Locks,
    /// Calls of the select/poll family.
    Polls,
    /// What the workload said about itself.
    Marks,
    /// One row: where and how it was recorded, and how far it can be trusted. It is written
    /// last: a trace whose row is here has all its other tables.
    Audit,
}

impl Table {
    /// All of them: the last one is the last that is written.
    pub const ALL: [Self; 12] = [
        Self::Tasks,
        Self::Stretches,
        Self::Minutes,
        Self::Stalls,
        Self::Causes,
        Self::Groups,
        Self::Findings,
        Self::Objects,
        Self::Locks,
        Self::Polls,
        Self::Marks,
        Self::Audit,
    ];

    /// Its name, and that of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::Stretches => "stretches",
            Self::Minutes => "minutes",
            Self::Stalls => "stalls",
            Self::Causes => "causes",
            Self::Groups => "groups",
            Self::Findings => "findings",
            Self::Objects => "objects",
            Self::Locks => "locks",
            Self::Polls => "polls",
            Self::Marks => "marks",
            Self::Audit => "audit",
        }
    }
}

/// The rows of a table that begin on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The table.
    pub table: Table,
    /// The day, `2026-01-31`.
    pub day: String,
}

/// Opens the file that a part of a table goes to.
pub type Open<'a> = &'a mut dyn FnMut(&Part) -> io::Result<Box<dyn Write + Send>>;

/// How many rows were written, by table.
pub type Written = BTreeMap<Table, u64>;

/// Writes all tables of a trace.
///
/// # Errors
/// Those of `open` and of what it opens.
pub fn write(source: &Source<'_>, open: Open<'_>) -> io::Result<Written> {
    let written = write_beside(source.recording(), || source.report, open);
    written.map(|(_, written)| written)
}

/// The same while the report is made, on a thread of its own: what takes long to write needs
/// nothing of it. Returns the report as well.
///
/// # Errors
/// Those of `open` and of what it opens.
pub fn write_beside<R: Borrow<Report> + Send>(
    recording: Recording<'_>,
    report: impl FnOnce() -> R + Send,
    open: Open<'_>,
) -> io::Result<(R, Written)> {
    let ends = recording.model.tasks.iter().map(|task| task.end_ns);
    let days = ends.max().unwrap_or(0) / DAY_NS;
    if days > MOST_DAYS {
        let why = format!("its times span {days} days: no recording takes so long");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let mut written = Written::new();
    let trace = &trace_id(recording.info);
    let roles = &roles(recording.model);
    let report = beside(report, || {
        let rows = stretches::write(recording, trace, roles, open)?;
        written.insert(Table::Stretches, rows);
        let rows = minutes::write(recording, trace, roles, open)?;
        written.insert(Table::Minutes, rows);
        Ok(())
    })?;
    let source = Source {
        info: recording.info,
        model: recording.model,
        report: report.borrow(),
    };
    for table in Table::ALL {
        if !matches!(table, Table::Stretches | Table::Minutes) {
            written.insert(table, write_rows(&source, trace, table, open)?);
        }
    }
    Ok((report, written))
}

/// Makes something on a thread of its own, and does something else meanwhile.
fn beside<T: Send>(
    make: impl FnOnce() -> T + Send,
    meanwhile: impl FnOnce() -> io::Result<()>,
) -> io::Result<T> {
    let make = Mutex::new(Some(make));
    let take = || make.lock().unwrap_or_else(PoisonError::into_inner).take();
    thread::scope(|scope| {
        let made = thread::Builder::new().spawn_scoped(scope, || take().map(|make| make()));
        meanwhile()?;
        let made = match made {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // A limit of memory or of processes leaves no room for a thread.
            Err(_) => take().map(|make| make()),
        };
        made.ok_or_else(|| io::Error::other("what is made once is made"))
    })
}

/// Writes a table whose rows all fit in memory, since the report has them there.
fn write_rows(source: &Source<'_>, trace: &str, table: Table, open: Open<'_>) -> io::Result<u64> {
    let columns = rows::columns(table);
    let mut days: BTreeMap<u64, Rows> = BTreeMap::new();
    // Who asks a table that has no rows gets none, and no error.
    days.insert(Time::of(source.recording(), 0).day(), Rows::new(&columns));
    rows::each(source, trace, table, &mut |at_ns, row| {
        let at = Time::of(source.recording(), at_ns);
        let day = days.entry(at.day()).or_insert_with(|| Rows::new(&columns));
        day.push(row);
    });
    let mut written = 0;
    for (day, rows) in days {
        let part = Part {
            table,
            day: utc::day(day),
        };
        let mut writer = Writer::new(open(&part)?, &columns)?;
        written += rows.len() as u64;
        writer.append(rows.encode(&columns)?)?;
        writer.finish()?;
    }
    Ok(written)
}

/// A point in time, as tables have it.
#[derive(Clone, Copy, Debug)]
struct Time {
    unix_ns: u64,
}

impl Time {
    /// Of one that is given since the trace began.
    fn of(recording: Recording<'_>, at_ns: u64) -> Self {
        let start = recording.info.header.start_unix_ns;
        Self {
            unix_ns: start.saturating_add(at_ns),
        }
    }

    /// Days since 1970.
    fn day(self) -> u64 {
        self.unix_ns / DAY_NS
    }

    /// Nanoseconds since 1970, and the timestamp.
    fn values(self) -> (i64, i64) {
        (
            column::number(self.unix_ns),
            column::number(self.unix_ns / 1000),
        )
    }
}

const DAY_NS: u64 = 86_400_000_000_000;
/// A trace of more days was forged: each would be a file in each table.
const MOST_DAYS: u64 = 1000;

/// The two columns of a point in time.
const fn time(ns: &'static str, timestamp: &'static str) -> [Column; 2] {
    [Column::number(ns), Column::timestamp(timestamp)]
}
