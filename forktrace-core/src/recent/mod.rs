//! The last seconds of a recording that goes on for weeks: events in chunks, of which the oldest
//! are forgotten, and a state that says what those led to. A trace made of the two is what
//! attaching at the first kept moment would have recorded, so no reader has to know of it.
//!
//! Memory: the chunks, which are packed as in a file and bounded in bytes; what is known of each
//! living task; and bounded tables of files that were waited for.

mod cut;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io::{self, Write},
};

use self::cut::Cut;
use crate::{
    base::Base,
    trace::{Event, Finish, Header, PollWay, SavedWhen, TaskRecord},
    trace_file::{
        TraceWriter,
        codec::{Decoder, Encoder},
    },
};

/// A chunk is closed when it has so many bytes…
const CHUNK_BYTES: usize = 64 << 10;
/// …or is of more than this time, ns.
const CHUNK_NS: u64 = 1_000_000_000;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// At least so much time, ns…
    pub ns: u64,
    /// …but no more than so many bytes, packed.
    pub bytes: usize,
}

/// What a recording has counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records that found a ring full.
    pub ring_full: u64,
    /// Records on a CPU without a ring.
    pub no_ring: u64,
    /// Other records that were dropped.
    pub other: u64,
    /// Tasks that are not followed: the task table was full.
    pub not_followed: u64,
    /// Records that are not understood.
    pub undecodable: u64,
    /// CPU time of forktrace, ns.
    pub cpu_ns: u64,
}

/// A part of the events.
struct Chunk {
    bytes: Box<[u8]>,
    records: u32,
    last_ns: u64,
    counters: Counters,
}

/// The last seconds of a recording.
pub struct Recent {
    header: Header,
    keep: Keep,
    encoder: Encoder,
    decoder: Decoder,
    chunks: VecDeque<Chunk>,
    /// Of all chunks.
    bytes: usize,
    base: Base,
    /// At the end of what the base holds.
    before: Counters,
    too_long: u64,
}

/// How a recording is when its last seconds are written.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    /// When.
    pub at_ns: u64,
    /// The tasks that live.
    pub living: Vec<TaskRecord>,
    /// What has been counted.
    pub counters: Counters,
    /// Why the recorder could not be a real-time task.
    pub not_real_time: Option<String>,
    /// Why they are written.
    pub saved: Option<SavedWhen>,
}

/// A moment from which on a trace is to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// When, as the events have it, ns.
    pub ns: u64,
    /// The same on the wall clock, ns since 1970.
    pub unix_ns: u64,
    /// What had been counted until then.
    pub counters: Counters,
}

impl Recent {
    /// Of a recording that begins now. Calls of select, poll and epoll are not counted.
    pub fn new(header: Header, keep: Keep) -> Self {
        Self {
            encoder: Encoder::new(header.start_ns),
            header: Header {
                polls: PollWay::None {
                    why: "forktrace watch does not count them".to_owned(),
                },
                ..header
            },
            keep,
            decoder: Decoder::default(),
            chunks: VecDeque::new(),
            bytes: 0,
            base: Base::of_chunks(),
            before: Counters::default(),
            too_long: 0,
        }
    }

    /// Adds an event.
    pub fn push(&mut self, event: &Event) {
        if matches!(event, Event::Poll(_)) {
            return;
        }
        if !self.encoder.push(event) {
            self.too_long += 1;
        }
    }

    /// Forgets what is too old. To be called now and then, also when nothing happens.
    pub fn tick(&mut self, now_ns: u64, counters: &Counters) {
        let age_ns = now_ns.saturating_sub(self.encoder.first_ns());
        let is_full = self.encoder.len() >= CHUNK_BYTES;
        if self.encoder.records() > 0 && (is_full || age_ns > CHUNK_NS) {
            let chunk = Chunk {
                bytes: self.encoder.bytes().into(),
                records: self.encoder.records(),
                last_ns: self.encoder.last_ns(),
                counters: *counters,
            };
            self.encoder.start_block();
            self.bytes += chunk.bytes.len();
            self.chunks.push_back(chunk);
        }
        let oldest_ns = now_ns.saturating_sub(self.keep.ns);
        while let Some(chunk) = self.chunks.front() {
            if chunk.last_ns >= oldest_ns && self.bytes <= self.keep.bytes {
                break;
            }
            self.forget();
        }
    }

    fn forget(&mut self) {
        let Some(chunk) = self.chunks.pop_front() else {
            return;
        };
        self.bytes -= chunk.bytes.len();
        let base = &mut self.base;
        self.decoder
            .decode(&chunk.bytes, chunk.records, &mut |event| {
                base.fold(event);
                true
            });
        base.end_chunk();
        base.cut_ns = base.cut_ns.max(Some(chunk.last_ns));
        self.before = chunk.counters;
    }

    /// When the recording began.
    pub fn began(&self) -> Since {
        Since {
            ns: self.header.start_ns,
            unix_ns: self.header.start_unix_ns,
            counters: Counters::default(),
        }
    }

    /// Since when all is kept.
    pub fn since_ns(&self) -> u64 {
        self.base.cut_ns.unwrap_or(self.header.start_ns)
    }

    /// Memory that the chunks take, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes + self.encoder.len()
    }

    /// Memory that the chunks with what came after this time take, bytes.
    pub fn bytes_after(&self, ns: u64) -> usize {
        let after = self.chunks.iter().rev().take_while(|it| it.last_ns > ns);
        after.map(|it| it.bytes.len()).sum::<usize>() + self.encoder.len()
    }

    /// Writes the last seconds as a trace. Returns how it ended.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, out: impl Write, moment: Moment) -> io::Result<Finish> {
        self.write_from(&self.all(), out, moment)
    }

    /// All that is kept.
    fn all(&self) -> Since {
        let later_ns = self.since_ns().saturating_sub(self.header.start_ns);
        Since {
            ns: self.since_ns(),
            unix_ns: self.header.start_unix_ns.saturating_add(later_ns),
            counters: self.before,
        }
    }

    /// Where what is to be written from there begins: later, if less is kept.
    pub fn begins(&self, from: &Since) -> Since {
        let all = self.all();
        match all.ns.checked_sub(from.ns) {
            None | Some(0) => *from,
            Some(later_ns) => Since {
                unix_ns: from.unix_ns.saturating_add(later_ns),
                ..all
            },
        }
    }

    /// The same of what came after a moment, as far as it is kept.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_from(
        &self,
        from: &Since,
        out: impl Write,
        mut moment: Moment,
    ) -> io::Result<Finish> {
        let from = self.begins(from);
        // The tasks were looked at a while after the moment.
        let until_ns = moment.at_ns;
        moment.living.retain(|task| task.born.at_ns <= until_ns);
        let header = Header {
            start_ns: from.ns,
            start_unix_ns: from.unix_ns,
            ..self.header.clone()
        };
        let mut writer = TraceWriter::new(out, &header)?;
        let until = self.until(&moment);
        if self.base.cut_ns.is_some() || from.ns > self.header.start_ns {
            self.write_cut(&mut writer, (from.ns, &until), moment.living);
        } else {
            // Nothing is left out.
            self.each(&until, |event| writer.push(&event));
            for task in moment.living {
                writer.push(&Event::Task(task));
            }
        }
        let (now, before) = (moment.counters, from.counters);
        let since = |now: u64, before: u64| now.saturating_sub(before);
        let finish = Finish {
            end_ns: moment.at_ns,
            cut_short: true,
            lost_ring_full: since(now.ring_full, before.ring_full),
            lost_no_ring: since(now.no_ring, before.no_ring),
            lost_other: since(now.other, before.other),
            not_followed: since(now.not_followed, before.not_followed),
            undecodable: since(now.undecodable, before.undecodable),
            tracer_cpu_ns: since(now.cpu_ns, before.cpu_ns),
            not_real_time: moment.not_real_time,
            saved: moment.saved,
            ..Finish::default()
        };
        let (finish, error) = writer.finish(finish);
        match (error, &finish.write_error) {
            (Some(error), _) => Err(error),
            (None, Some(error)) => Err(io::Error::other(error.clone())),
            (None, None) => Ok(finish),
        }
    }

    fn write_cut<W: Write>(
        &self,
        writer: &mut TraceWriter<W>,
        (at_ns, until): (u64, &Until),
        living: Vec<TaskRecord>,
    ) {
        let mut cut = Cut::new(self.base.clone(), at_ns);
        // A task's stretch can come before it does: it was on another CPU.
        let begins = |event: &Event| matches!(event, Event::Born(_) | Event::Attached(_));
        for of_tasks in [true, false] {
            self.each(until, |event| {
                if begins(&event) == of_tasks {
                    cut.foresee(event);
                }
            });
        }
        living.iter().for_each(|task| cut.foresee_living(task));
        cut.begin(|event| writer.push(&event));
        self.each(until, |event| {
            if let Some(event) = cut.after(event) {
                writer.push(&event);
            }
        });
        for task in living {
            writer.push(&Event::Task(cut.task(task)));
        }
    }

    /// What the tasks that live at the moment had behind them then.
    fn until(&self, moment: &Moment) -> Until {
        let living = moment.living.iter();
        let mut until = Until {
            at_ns: moment.at_ns,
            living: living
                .map(|task| (task.born.serial, task.totals.seq))
                .collect(),
            later: HashSet::new(),
        };
        let mut later = HashSet::new();
        self.each(&until, |event| {
            if let Event::Born(born) = event
                && born.at_ns > until.at_ns
                && !until.living.contains_key(&born.serial)
            {
                later.insert(born.serial);
            }
        });
        until.later = later;
        until
    }

    /// Unpacks all events that are kept and went before the moment.
    fn each(&self, until: &Until, mut sink: impl FnMut(Event)) {
        let until_ns = until.at_ns;
        let mut sink = |event| sink(alive_at(event, until_ns));
        let mut decoder = Decoder::default();
        let chunks = self.chunks.iter().map(|it| (&it.bytes[..], it.records));
        let last = (self.encoder.bytes(), self.encoder.records());
        for (bytes, records) in chunks.chain([last]) {
            decoder.decode(bytes, records, &mut |event| {
                if until.is_before(&event) {
                    sink(event);
                }
                true
            });
        }
    }
}

/// Who ended after the moment lived then.
fn alive_at(event: Event, until_ns: u64) -> Event {
    match event {
        Event::Task(task) if task.end_ns.is_some_and(|end| end > until_ns) => {
            Event::Task(TaskRecord {
                end_ns: None,
                kernel_cpu_ns: None,
                exit_code: None,
                ended_in: None,
                ..task
            })
        }
        other => other,
    }
}

/// The moment at which the last seconds end: the tasks were looked at then, and events have
/// come since.
struct Until {
    at_ns: u64,
    /// Tasks that lived, with the number of the stretch that they were in or came to next.
    living: HashMap<u32, u32>,
    /// Those who came after that.
    later: HashSet<u32>,
}

impl Until {
    fn is_before(&self, event: &Event) -> bool {
        let of = |serial| self.living.get(&serial).copied().unwrap_or(u32::MAX);
        match event {
            Event::Stretch(s) => s.seq < of(s.serial) && !self.later.contains(&s.serial),
            Event::Totals(t) => t.seq <= of(t.serial) && !self.later.contains(&t.serial),
            Event::Stacks(s) => s.seq <= of(s.serial) && !self.later.contains(&s.serial),
            Event::Providers(p) => p.seq <= of(p.serial) && !self.later.contains(&p.serial),
            Event::Given(g) => g.seq <= of(g.serial) && !self.later.contains(&g.serial),
            Event::Born(born) => !self.later.contains(&born.serial),
            Event::Exec(exec) => exec.at_ns <= self.at_ns,
            Event::Task(task) => {
                let serial = task.born.serial;
                !self.living.contains_key(&serial) && !self.later.contains(&serial)
            }
            Event::Signal(signal) => signal.at_ns <= self.at_ns,
            Event::Lag(lag) => lag.looked_ns <= self.at_ns,
            _ => true,
        }
    }
}
