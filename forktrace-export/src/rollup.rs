//! What tasks did, minute by minute: a row for each role, state and reason, so that weeks of a
//! host find room in one small file. Rows of several traces and of other such files add up.
//!
//! The file is NDJSON, packed by gzip, which all engines read as it is. The rows of a role add
//! up to the lives of its tasks, to the nanosecond. A row whose state is `trace` says how much
//! of its minute a trace recorded; its reason tells the trace from others, so that none is
//! added twice.

pub(crate) mod by_minute;

use std::{
    collections::{HashMap, HashSet},
    io::{self, BufRead, BufReader, Read, Write},
};

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use forktrace_core::{analysis::Names, utc};
use serde::{Deserialize, Serialize};

use self::by_minute::{ByMinute, Sum};
use crate::{Source, trace_id};

/// Rows that are kept, of some 60 bytes each: a month of a host with a hundred of them in each
/// minute.
const MOST_ROWS: usize = 1 << 22;
/// A longer line is none of ours, bytes.
const MOST_LINE: u64 = 1 << 16;
/// Bytes of all names together: a file that is small when packed can hold many long ones.
const MOST_NAMES: usize = 64 << 20;
/// The state of the rows that tell of traces.
const TRACE: &str = "trace";

/// A row as it is written.
#[derive(Serialize, Deserialize)]
struct Row<'a> {
    /// When the minute begins, seconds since 1970.
    minute: u64,
    /// The same for people and engines.
    #[serde(default)]
    start: String,
    #[serde(borrow)]
    host: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    role: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    state: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    reason: Option<std::borrow::Cow<'a, str>>,
    ns: u64,
    count: u64,
    longest_ns: u64,
}

/// What a row is of, by the numbers of the words.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    /// Since 1970.
    minute: u32,
    host: u32,
    role: u32,
    state: u32,
    /// [`u32::MAX`]: it has none.
    reason: u32,
}

/// What tasks did, minute by minute.
#[derive(Default)]
pub struct Rollup {
    words: Vec<String>,
    /// Bytes of all of them.
    named: usize,
    numbers: HashMap<String, u32>,
    rows: HashMap<Key, Sum>,
    /// Traces that are in it.
    traces: HashSet<String>,
}

/// Do bytes that begin so look like a file of rows, and not like a trace?
pub fn is_packed(begin: &[u8]) -> bool {
    begin.starts_with(&[0x1f, 0x8b])
}

impl Rollup {
    /// Adds what the tasks of a trace did, on a host of this name.
    ///
    /// # Errors
    /// When the trace is in it already, or spans so much time that there would be too many rows.
    pub fn add(&mut self, source: &Source<'_>, host: &str) -> io::Result<()> {
        let id = trace_id(source.info);
        if !self.traces.insert(id.clone()) {
            return Err(twice(&id));
        }
        let host = self.number(host)?;
        let of_report = source.report.tasks.iter();
        let of_report: HashMap<u32, &str> = of_report.map(|t| (t.serial, &*t.role)).collect();
        let mut roles = Vec::with_capacity(source.model.tasks.len());
        for task in &source.model.tasks {
            let role = of_report.get(&task.serial).copied().unwrap_or_default();
            roles.push(self.number(role)?);
        }
        let names = Names::new(source.info, source.model);
        let mut by_minute = ByMinute::new(source.recording(), &names);
        // State and reason of each kind.
        let mut numbers: Vec<(u32, u32)> = Vec::new();
        by_minute.until(u64::MAX, &mut |kinds, (task, minute, kind, sum)| {
            for new in &kinds[numbers.len()..] {
                let state = self.number(new.state)?;
                let reason = new.reason.as_deref().map(|it| self.number(it));
                numbers.push((state, reason.transpose()?.unwrap_or(u32::MAX)));
            }
            let (state, reason) = numbers[kind];
            let key = Key {
                minute: u32::try_from(minute).unwrap_or(u32::MAX),
                host,
                role: roles[task],
                state,
                reason,
            };
            self.add_sum(key, sum)
        })?;
        let of_trace = Key {
            minute: 0,
            host,
            role: self.number("")?,
            state: self.number(TRACE)?,
            reason: self.number(&id)?,
        };
        let lived = by_minute.lived().unwrap_or_default();
        by_minute::pieces(lived, &mut |minute, sum| {
            let minute = u32::try_from(minute).unwrap_or(u32::MAX);
            self.add_sum(Key { minute, ..of_trace }, sum)
        })
    }

    fn add_sum(&mut self, key: Key, more: Sum) -> io::Result<()> {
        let room = self.rows.len() < MOST_ROWS || self.rows.contains_key(&key);
        if !room {
            let text = format!(
                "more than {MOST_ROWS} rows: take fewer files at a time, such as those of a week"
            );
            return Err(io::Error::other(text));
        }
        self.rows.entry(key).or_default().add(more);
        Ok(())
    }

    /// The number of a word.
    fn number(&mut self, word: &str) -> io::Result<u32> {
        if let Some(number) = self.numbers.get(word) {
            return Ok(*number);
        }
        self.named += word.len();
        if self.named > MOST_NAMES {
            let text = format!("names take more than {} MB", MOST_NAMES >> 20);
            return Err(io::Error::other(text));
        }
        // All but one have a byte or more.
        let number = self.words.len() as u32;
        self.words.push(word.to_owned());
        self.numbers.insert(word.to_owned(), number);
        Ok(number)
    }

    /// Adds the rows of a file that [`Self::write`] wrote.
    ///
    /// # Errors
    /// When it can't be read or is no such file, with the line; and when a trace is in it that is
    /// in this already.
    pub fn read(&mut self, file: impl Read) -> io::Result<()> {
        let mut lines = BufReader::new(MultiGzDecoder::new(file));
        let mut here: HashSet<String> = HashSet::new();
        let mut line = Vec::new();
        for number in 1u64.. {
            line.clear();
            let read = (&mut lines).take(MOST_LINE).read_until(b'\n', &mut line)?;
            if read == 0 {
                break;
            }
            let bad = |why: &dyn std::fmt::Display| {
                let text = format!("line {number} is no row of a roll-up: {why}");
                io::Error::new(io::ErrorKind::InvalidData, text)
            };
            if line.pop() != Some(b'\n') {
                return Err(bad(&"it is cut off"));
            }
            let row: Row<'_> = serde_json::from_slice(&line).map_err(|error| bad(&error))?;
            if row.state == TRACE {
                let id = row.reason.as_deref().unwrap_or_default();
                if self.traces.contains(id) {
                    return Err(twice(id));
                }
            }
            let key = Key {
                minute: u32::try_from(row.minute / 60).map_err(|_| bad(&"its minute"))?,
                host: self.number(&row.host)?,
                role: self.number(&row.role)?,
                state: self.number(&row.state)?,
                reason: match &row.reason {
                    Some(reason) => self.number(reason)?,
                    None => u32::MAX,
                },
            };
            // Its name is known by now, so these are no more than those.
            if row.state == TRACE {
                here.insert(row.reason.unwrap_or_default().into_owned());
            }
            let sum = Sum {
                ns: row.ns,
                count: row.count,
                longest_ns: row.longest_ns,
            };
            self.add_sum(key, sum)?;
        }
        self.traces.extend(here);
        Ok(())
    }

    /// Writes all rows, in the order of time.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let word = |number: u32| self.words.get(number as usize).map_or("", String::as_str);
        // Words are compared once, and not for each row.
        let mut in_order: Vec<u32> = (0..self.words.len() as u32).collect();
        in_order.sort_unstable_by_key(|number| word(*number));
        let mut ranks = vec![0; in_order.len()];
        for (rank, number) in (1u32..).zip(in_order) {
            ranks[number as usize] = rank;
        }
        let rank = |number: u32| ranks.get(number as usize).copied().unwrap_or(0);
        let mut keys: Vec<&Key> = self.rows.keys().collect();
        keys.sort_unstable_by_key(|key| {
            let words = [key.host, key.role, key.state, key.reason].map(rank);
            (key.minute, words)
        });
        let mut packed = GzEncoder::new(out, Compression::default());
        for key in keys {
            let sum = self.rows[key];
            let minute = u64::from(key.minute) * 60;
            let row = Row {
                minute,
                start: format!(
                    "{} {}",
                    utc::day(minute / 86_400),
                    utc::time_of_day(minute).trim_end_matches(" UTC")
                ),
                host: word(key.host).into(),
                role: word(key.role).into(),
                state: word(key.state).into(),
                reason: (key.reason != u32::MAX).then(|| word(key.reason).into()),
                ns: sum.ns,
                count: sum.count,
                longest_ns: sum.longest_ns,
            };
            serde_json::to_writer(&mut packed, &row)?;
            packed.write_all(b"\n")?;
        }
        packed.finish()?.flush()
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Of how many traces.
    pub fn traces(&self) -> usize {
        self.traces.len()
    }
}

fn twice(trace: &str) -> io::Error {
    let text = format!("the trace {trace} is in the roll-up already: leave out one of the two");
    io::Error::other(text)
}
