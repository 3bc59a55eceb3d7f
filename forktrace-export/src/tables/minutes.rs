//! The table of minutes: what the tasks of a role did in each, so that who asks for sums need not
//! read stretches, and can keep them for longer.

use std::{collections::BTreeMap, io};

use forktrace_core::{analysis::Names, utc};

use super::{
    Open, Part, ROW_GROUP, Table, Time,
    column::{Column, Rows, Writer},
};
use crate::{
    Recording,
    rollup::by_minute::{ByMinute, MINUTE_NS, Sum},
};

const COLUMNS: [Column; 9] = [
    Column::text("trace"),
    Column::number("start_ns"),
    Column::timestamp("start"),
    Column::text("role"),
    Column::text("state"),
    Column::text("reason").or_none(),
    Column::number("ns").that_differs(),
    Column::number("count"),
    Column::number("longest_ns").that_differs(),
];

/// So many minutes of all tasks are in memory. A day has a whole number of them.
const AT_ONCE: u64 = 60;
/// More rows come of a forged trace only, whose few tasks sleep for years.
const MOST_ROWS: u64 = 1 << 30;

/// Writes the table. Returns how many rows it has.
pub(super) fn write(
    recording: Recording<'_>,
    trace: &str,
    roles: &[String],
    open: Open<'_>,
) -> io::Result<u64> {
    let names = Names::new(recording.info, recording.model);
    let mut by_minute = ByMinute::new(recording, &names);
    let roles = Roles::new(roles);
    let begin = Time::of(recording, 0);
    let (_, to) = by_minute.lived().unwrap_or_default();
    let mut file = File {
        open,
        trace,
        rows: Rows::new(&COLUMNS),
        day: begin.day(),
        writer: None,
        written: 0,
    };
    let length = AT_ONCE * MINUTE_NS;
    let mut from = begin.unix_ns / length * length;
    loop {
        let until = from.saturating_add(length);
        let mut sums: BTreeMap<(u64, u32, usize), Sum> = BTreeMap::new();
        by_minute.until(until, &mut |_, (task, minute, kind, sum)| {
            let key = (minute, roles.of_task[task], kind);
            sums.entry(key).or_default().add(sum);
            Ok(())
        })?;
        file.in_day(from)?;
        for ((minute, role, kind), sum) in sums {
            let kind = &by_minute.kinds()[kind];
            let role = roles.names[role as usize];
            file.push(minute, (role, kind.state, kind.reason.as_deref()), &sum)?;
        }
        if until >= to {
            return file.finish();
        }
        from = until;
    }
}

/// The roles of a trace, in the order of their names.
struct Roles<'a> {
    names: Vec<&'a str>,
    /// By index in the model: which of the names.
    of_task: Vec<u32>,
}

impl<'a> Roles<'a> {
    fn new(of_tasks: &'a [String]) -> Self {
        let of_task: Vec<&str> = of_tasks.iter().map(String::as_str).collect();
        let mut names = of_task.clone();
        names.sort_unstable();
        names.dedup();
        let number = |name: &&str| names.binary_search(name).unwrap_or(0) as u32;
        let of_task = of_task.iter().map(number).collect();
        Self { names, of_task }
    }
}

/// The file of a day.
struct File<'a> {
    open: Open<'a>,
    trace: &'a str,
    rows: Rows,
    /// Since 1970.
    day: u64,
    writer: Option<Writer>,
    written: u64,
}

impl File<'_> {
    /// What comes next is of the day of this time, ns since 1970.
    fn in_day(&mut self, unix_ns: u64) -> io::Result<()> {
        let day = Time { unix_ns }.day();
        if day != self.day && self.written > 0 {
            self.end_day()?;
        }
        self.day = day;
        Ok(())
    }

    fn push(
        &mut self,
        minute: u64,
        (role, state, reason): (&str, &str, Option<&str>),
        sum: &Sum,
    ) -> io::Result<()> {
        self.written += 1;
        if self.written > MOST_ROWS {
            let why = format!("its table of minutes would have more than {MOST_ROWS} rows");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let at = Time {
            unix_ns: minute.saturating_mul(MINUTE_NS),
        };
        let (start_ns, start) = at.values();
        self.rows.push(&[
            self.trace.into(),
            start_ns.into(),
            start.into(),
            role.into(),
            state.into(),
            reason.into(),
            sum.ns.into(),
            sum.count.into(),
            sum.longest_ns.into(),
        ]);
        if self.rows.len() >= ROW_GROUP {
            self.append()?;
        }
        Ok(())
    }

    fn append(&mut self) -> io::Result<()> {
        let rows = std::mem::replace(&mut self.rows, Rows::new(&COLUMNS));
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let part = Part {
                    table: Table::Minutes,
                    day: utc::day(self.day),
                };
                none.insert(Writer::new((self.open)(&part)?, &COLUMNS)?)
            }
        };
        writer.append(rows.encode(&COLUMNS)?)
    }

    fn end_day(&mut self) -> io::Result<()> {
        if self.rows.len() > 0 || self.writer.is_none() {
            self.append()?;
        }
        match self.writer.take() {
            Some(writer) => writer.finish(),
            None => Ok(()),
        }
    }

    fn finish(mut self) -> io::Result<u64> {
        self.end_day()?;
        Ok(self.written)
    }
}
