//! Reads a file block by block, from its beginning or from a window on.

use std::{sync::mpsc, thread};

use anyhow::{Context as _, Result, anyhow};

use super::{
    budget::{self, Budget},
    bytes::Source,
    codec::{Decoder, Sink, read_fields},
    container::{self, Block, Blocks},
    damage::{Damage, Skipped},
    format::{KIND_EVENTS, KIND_FINISH, KIND_HEADER, MAX_HEADER_LEN, OLDEST_VERSION, VERSION},
    windows::{KIND_INDEX, KIND_KEYFRAME, KIND_KEYFRAME_MORE, KIND_TAIL, KIND_WINDOW, Window},
};
use crate::trace::{Event, Finish, Header, Stretch};

/// What a file holds besides its events.
#[derive(Clone, Debug)]
pub struct TraceInfo {
    /// Drawn when the file was begun: the same in each copy of it.
    pub file_id: u32,
    /// The header.
    pub header: Header,
    /// The end; `None`: the file was cut off.
    pub finish: Option<Finish>,
    /// Parts that can't be read.
    pub damage: Vec<Damage>,
    /// What was passed over.
    pub skipped: Skipped,
    /// Last time that any block covers.
    pub last_ns: u64,
}

/// Reads a file and hands its events to `sink`, with the header, in the order of
/// the file.
///
/// # Errors
/// When it is not a trace of a version that can be read or its header is lost. Damage after
/// the header is no error: it is part of the result.
pub fn read(data: &[u8], sink: impl FnMut(&Header, Event)) -> Result<TraceInfo> {
    read_from(Source::Memory(data), sink)
}

/// The same, of a file that is not in memory as a whole.
///
/// # Errors
/// As above.
pub fn read_from(data: Source<'_>, sink: impl FnMut(&Header, Event)) -> Result<TraceInfo> {
    read_window(data, None, &mut Events(sink))
}

/// Who is told what is in a file.
pub trait Listener {
    /// This happened: most events are of this kind, which takes less room than any.
    fn stretch(&mut self, header: &Header, stretch: Stretch);
    /// Everything else.
    fn told(&mut self, header: &Header, told: Told);
}

/// Wants to hear of events only.
struct Events<F>(F);

impl<F: FnMut(&Header, Event)> Listener for Events<F> {
    fn stretch(&mut self, header: &Header, stretch: Stretch) {
        self.0(header, Event::Stretch(stretch));
    }

    fn told(&mut self, header: &Header, told: Told) {
        if let Told::Event(event) = told {
            self.0(header, event);
        }
    }
}

/// What is told of a file, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// This happened.
    Event(Event),
    /// Some of what happened before was not told, for it is lost or not to be read. From here on it
    /// is told what that led to, among what happens meanwhile.
    Anew,
    /// A part of that: it happened before, and may have been told of already.
    Again(Event),
    /// That was all: what the window is opened by.
    Complete(Window),
}

/// The same as [`read_from`] from a window on; `None`: all of it. What went before is told, if it is
/// known, wherever it may lack.
///
/// # Errors
/// As [`read`].
pub fn read_window(
    data: Source<'_>,
    from: Option<&Window>,
    listener: &mut impl Listener,
) -> Result<TraceInfo> {
    let mut blocks = container::blocks_of(data, OLDEST_VERSION..=VERSION)?;
    let file_id = blocks.file_id();
    let mut reading = Reading::new(blocks.version(), data.length());
    let mut payload = Vec::new();
    let mut goes_on = true;
    // What the header says is known before anything else is looked for.
    while goes_on && reading.header.is_none() {
        goes_on = match blocks.read_next(&mut payload) {
            Some(block) => reading.next(block, &payload, listener)?,
            None => false,
        };
    }
    if let Some(window) = from.filter(|_| goes_on) {
        skip_to(&mut blocks, window, &mut reading);
    }
    if goes_on {
        read_rest(blocks, &mut reading, listener)?;
    }
    let Some(header) = reading.header else {
        return Err(no_header(data.length()));
    };
    Ok(TraceInfo {
        file_id,
        last_ns: reading.last_ns.max(header.start_ns),
        header,
        finish: reading.finish,
        damage: reading.damage,
        skipped: reading.skipped,
    })
}

/// Reads all that is left: blocks on a thread of its own, since that takes about as long as what is
/// in them. That one is a block ahead, and no more: they can be large.
fn read_rest(
    mut blocks: Blocks<'_>,
    reading: &mut Reading,
    listener: &mut impl Listener,
) -> Result<()> {
    let blocks = &mut blocks;
    let is_done = thread::scope(|scope| {
        let (sender, read) = mpsc::sync_channel(0);
        let (back, over) = mpsc::channel::<Vec<u8>>();
        let reads = {
            let blocks = &mut *blocks;
            move || {
                loop {
                    // Memory that is at hand is not asked for again.
                    let mut payload = over.try_recv().unwrap_or_default();
                    let block = blocks.read_next(&mut payload);
                    let Some(block) = block else { return };
                    if sender.send((block, payload)).is_err() {
                        return;
                    }
                }
            }
        };
        if thread::Builder::new().spawn_scoped(scope, reads).is_err() {
            // A limit of memory or of processes leaves no room for a thread.
            return Ok(false);
        }
        for (block, payload) in read {
            if !reading.next(block, &payload, listener)? {
                break;
            }
            let _ = back.send(payload);
        }
        Ok::<_, anyhow::Error>(true)
    })?;
    let mut payload = Vec::new();
    while !is_done
        && let Some(block) = blocks.read_next(&mut payload)
        && reading.next(block, &payload, listener)?
    {}
    Ok(())
}

fn skip_to(blocks: &mut Blocks<'_>, window: &Window, reading: &mut Reading) {
    if blocks.go_to(window.offset) {
        reading.lacks = Lacks::Some;
    }
}

/// What of the past was not told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lacks {
    /// All was.
    Nothing,
    /// Some was not.
    Some,
    /// It is being told.
    Less,
}

/// A file that is being read.
struct Reading {
    version: u32,
    len: usize,
    header: Option<Header>,
    finish: Option<Finish>,
    damage: Vec<Damage>,
    last_ns: u64,
    decoder: Decoder,
    skipped: Skipped,
    budget: Budget,
    lacks: Lacks,
}

impl Reading {
    fn new(version: u32, len: usize) -> Self {
        Self {
            version,
            len,
            header: None,
            finish: None,
            damage: Vec::new(),
            last_ns: 0,
            decoder: Decoder::default(),
            skipped: Skipped::default(),
            budget: Budget::of_file(len),
            lacks: Lacks::Nothing,
        }
    }

    /// Tells what is in a block, or notes that it is damaged; false: nothing more is read.
    fn next(
        &mut self,
        block: Result<Block, Damage>,
        payload: &[u8],
        listener: &mut impl Listener,
    ) -> Result<bool> {
        let block = match block {
            Ok(block) => block,
            Err(found) => {
                self.damage.push(found);
                self.lacks = Lacks::Some;
                return Ok(true);
            }
        };
        let fits = self.take(&block, payload, listener)?;
        if !fits {
            self.skipped.too_large_from = Some(block.offset);
        }
        Ok(fits)
    }

    /// Tells what is in a block; false: it takes too much memory.
    fn take(
        &mut self,
        block: &Block,
        payload: &[u8],
        listener: &mut impl Listener,
    ) -> Result<bool> {
        self.last_ns = self.last_ns.max(block.info.last_ns);
        if !self.budget.take(payload.len() as u64) {
            return Ok(false);
        }
        let is_short = payload.len() <= MAX_HEADER_LEN;
        match block.info.kind {
            KIND_HEADER if self.header.is_none() && is_short => {
                let mut found = read_fields(payload).context("its header is no header")?;
                limit_arguments(&mut found);
                self.header = Some(found);
            }
            KIND_EVENTS => return self.events(block, payload, listener),
            KIND_FINISH if self.finish.is_none() && is_short => {
                self.finish = Some(read_fields(payload).context("its end is no end")?);
            }
            KIND_HEADER | KIND_FINISH => self.skipped.unreadable += 1,
            KIND_KEYFRAME if self.lacks != Lacks::Nothing => {
                self.lacks = Lacks::Less;
                listener.told(self.header()?, Told::Anew);
                return self.again(payload, listener);
            }
            KIND_KEYFRAME_MORE if self.lacks == Lacks::Less => {
                return self.again(payload, listener);
            }
            KIND_WINDOW if self.lacks == Lacks::Less => {
                if let Ok(window) = read_fields(payload) {
                    self.lacks = Lacks::Nothing;
                    listener.told(self.header()?, Told::Complete(window));
                }
            }
            // Of use to those only who have not read what was before.
            KIND_KEYFRAME | KIND_KEYFRAME_MORE | KIND_WINDOW | KIND_INDEX | KIND_TAIL => {}
            _ => self.skipped.unknown_kind += u64::from(block.info.records.max(1)),
        }
        Ok(true)
    }

    fn header(&self) -> Result<&Header> {
        self.header.as_ref().ok_or_else(|| no_header(self.len))
    }

    fn events(
        &mut self,
        block: &Block,
        payload: &[u8],
        listener: &mut impl Listener,
    ) -> Result<bool> {
        let Some(header) = &self.header else {
            return Err(no_header(self.len));
        };
        let mut within = Within {
            budget: &mut self.budget,
            fits: true,
            header,
            listener,
        };
        let records = block.info.records;
        let passed = match self.version {
            2 => self.decoder.decode_v2(payload, records, &mut within),
            _ => self.decoder.decode_into(payload, records, &mut within),
        };
        self.skipped.unknown_kind += passed.unknown_kind;
        self.skipped.unreadable += passed.unreadable;
        Ok(within.fits)
    }

    /// What is told again lacks nothing that was not counted where it happened.
    fn again(&mut self, payload: &[u8], listener: &mut impl Listener) -> Result<bool> {
        let Some(header) = &self.header else {
            return Err(no_header(self.len));
        };
        let (budget, mut fits) = (&mut self.budget, true);
        self.decoder.decode(payload, 0, &mut |event: Event| {
            fits = budget.take(budget::memory_of(&event));
            if fits {
                listener.told(header, Told::Again(event));
            }
            fits
        });
        Ok(fits)
    }
}

/// Tells of events as long as they take no more memory than they may.
struct Within<'a, L> {
    budget: &'a mut Budget,
    fits: bool,
    header: &'a Header,
    listener: &'a mut L,
}

impl<L: Listener> Sink for Within<'_, L> {
    #[inline]
    fn stretch(&mut self, stretch: Stretch) -> bool {
        self.fits = self.budget.take(budget::STRETCH);
        if self.fits {
            self.listener.stretch(self.header, stretch);
        }
        self.fits
    }

    fn event(&mut self, event: Event) -> bool {
        self.fits = self.budget.take(budget::memory_of(&event));
        if self.fits {
            self.listener.told(self.header, Told::Event(event));
        }
        self.fits
    }
}

/// A command line of empty arguments takes many times what it takes in the file: of so many
/// the first are kept, and the last one says how many are left out.
fn limit_arguments(header: &mut Header) {
    const MOST: usize = 100_000;
    let count = header.argv.len();
    if count > MOST {
        header.argv.truncate(MOST);
        header.argv.shrink_to_fit();
        header
            .argv
            .push(format!("… and {} more arguments", count - MOST));
    }
    if let Some(attached) = &mut header.attached {
        attached.targets.truncate(MOST);
    }
    if let Some(imported) = &mut header.imported {
        imported.lacks.truncate(MOST);
        imported.faults.truncate(MOST);
    }
}

fn no_header(len: usize) -> anyhow::Error {
    anyhow!(
        "its first block, which says what was recorded, is lost; the {} bytes of the file can't \
         be read without",
        len
    )
}
