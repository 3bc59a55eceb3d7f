//! The whole way from the bytes of a trace to a report.

use std::{
    mem,
    panic::resume_unwind,
    sync::{Arc, mpsc},
    thread,
};

use anyhow::Result;

use crate::{
    analysis::{Options, analyse_with},
    base::{Base, Restating},
    model::{Builder, Model, Shelf},
    report::Report,
    trace::{Arch, Event, Finish, Header, Stretch},
    trace_file::{self, Found, Listener, Source, Told, TraceInfo, Window},
};

/// Makes a report of a trace. `end` replaces the file's own, for a recording
/// whose end could not be written to the file.
///
/// # Errors
/// When the bytes are no trace, or of another version.
pub fn make(data: &[u8], end: Option<Finish>, options: &Options) -> Result<Report> {
    let (info, model) = read(data, end)?;
    Ok(analyse_with(&info, &model, options))
}

/// Reads a trace. `end` as above.
///
/// # Errors
/// When the bytes are no trace, or of another version.
pub fn read(data: &[u8], end: Option<Finish>) -> Result<(TraceInfo, Model)> {
    read_onto(&Arc::default(), Source::Memory(data), end)
}

/// Reads a trace that is not in memory as a whole, and keeps its stretches on this shelf.
/// Where [`Shelf::failure`] tells of one afterwards, nothing that was made of the model is
/// right.
///
/// # Errors
/// When it is no trace, or of another version.
pub fn read_onto(
    shelf: &Arc<Shelf>,
    data: Source<'_>,
    end: Option<Finish>,
) -> Result<(TraceInfo, Model)> {
    let (info, model) = read_with(shelf, data, end, None)?;
    Ok((info, model.0))
}

/// Reasons are looked for so long before what is asked for, ns.
pub const LOOK_BACK_NS: u64 = 5_000_000_000;

/// The same of what happened from some moment on, and of [`LOOK_BACK_NS`] before, as far as that can
/// be read by itself. `from` gives the moment, by the length of the recording, both ns since it
/// began; `None`: everything. What the model lacks [it says](Model::since_ns).
///
/// # Errors
/// As [`read_onto`].
pub fn read_from_moment(
    shelf: &Arc<Shelf>,
    data: Source<'_>,
    end: Option<Finish>,
    from: &dyn Fn(u64) -> Option<u64>,
) -> Result<(TraceInfo, Model)> {
    if let Some(found) = trace_file::find_windows(data)? {
        let length_ns = found.end_ns - found.start_ns;
        let from_ns = from(length_ns).unwrap_or(0);
        let since_ns = from_ns.saturating_sub(LOOK_BACK_NS);
        if since_ns > 0 {
            let at_ns = found.start_ns.saturating_add(since_ns);
            let (info, model) = read_in_window(shelf, data, end.clone(), (&found, at_ns))?;
            // How long it was, is known for sure only now.
            let last = model.tasks.iter().map(|task| task.end_ns).max();
            let from_ns = last.and_then(from);
            if from_ns.is_some_and(|from_ns| from_ns > model.since_ns) {
                return Ok((info, model));
            }
        }
    }
    read_onto(shelf, data, end)
}

/// Reads what happened after this moment, ns since the recording began, and what of all before is
/// still of use then: see [`Model::since_ns`].
///
/// # Errors
/// As [`read_onto`].
pub fn read_since(
    shelf: &Arc<Shelf>,
    data: Source<'_>,
    end: Option<Finish>,
    since_ns: u64,
) -> Result<(TraceInfo, Model)> {
    match trace_file::find_windows(data)? {
        Some(found) => {
            let at_ns = found.start_ns.saturating_add(since_ns);
            read_in_window(shelf, data, end, (&found, at_ns))
        }
        None => read_onto(shelf, data, end),
    }
}

/// The same, from the last window on that is whole by then.
fn read_in_window(
    shelf: &Arc<Shelf>,
    data: Source<'_>,
    end: Option<Finish>,
    (found, at_ns): (&Found, u64),
) -> Result<(TraceInfo, Model)> {
    let windows = found.windows.iter();
    let before = windows.filter(|window| window.open_ns <= at_ns);
    let window = before.max_by_key(|window| window.offset);
    if let Some(window) = window {
        let from = (Some(*window), at_ns);
        let (info, (model, entered)) = read_with(shelf, data, end.clone(), Some(from))?;
        if entered {
            return Ok((info, model));
        }
    }
    let (info, (model, _)) = read_with(shelf, data, end, Some((None, at_ns)))?;
    Ok((info, model))
}

/// Where to begin, and up to when all is taken together.
type Later = (Option<Window>, u64);

/// Reads a trace; false: the window is none, and the model wrong.
fn read_with(
    shelf: &Arc<Shelf>,
    data: Source<'_>,
    end: Option<Finish>,
    later: Option<Later>,
) -> Result<(TraceInfo, (Model, bool))> {
    let mut builder: Option<Builder> = None;
    let mut entered = true;
    let mut collect = |batch: Batch| {
        let (start_ns, arch) = batch.header;
        let builder = builder.get_or_insert_with(|| Builder::on(Arc::clone(shelf), start_ns, arch));
        if let Some(past) = batch.past {
            let mut before = Vec::new();
            Restating::all(&past.base, |event| before.push(event));
            builder.begin_at(past.until_ns, past.base.ended, before);
            entered = past.entered;
        }
        for told in batch.others {
            match told {
                Told::Event(event) => builder.push(event),
                Told::Anew => builder.begin_anew(),
                Told::Again(event) => builder.again(event),
                Told::Complete(window) => builder.end_anew(window.open_ns),
            }
        }
        for stretch in &batch.stretches {
            builder.stretch(stretch);
        }
        let mut over = batch.stretches;
        over.clear();
        over
    };
    let info = thread::scope(|scope| {
        let (sender, batches) = mpsc::sync_channel(BATCHES);
        let (back, over) = mpsc::channel();
        let give = move |batch| {
            // It takes them as long as it lives; if it panicked, that is what is told.
            let _ = sender.send(batch);
            over.try_recv().unwrap_or_default()
        };
        let unpacks = move || unpack(data, later, &mut { give });
        match thread::Builder::new().spawn_scoped(scope, unpacks) {
            Ok(unpacks) => {
                for batch in batches {
                    // Memory that is at hand is not asked for again, but by the last one.
                    let _ = back.send(collect(batch));
                }
                unpacks.join().unwrap_or_else(|panic| resume_unwind(panic))
            }
            // A limit of memory or of processes leaves no room for a thread.
            Err(_) => unpack(data, later, &mut collect),
        }
    });
    let mut info = info?;
    if end.is_some() {
        info.finish = end;
    }
    let end_ns = info.finish.as_ref().map_or(info.last_ns, |f| f.end_ns);
    let model = builder
        .unwrap_or_else(|| Builder::new(info.header.start_ns, info.header.arch))
        .build(end_ns);
    Ok((info, (model, entered)))
}

/// So many stretches go from the thread that unpacks them to the one that collects them at
/// once…
const STRETCHES: usize = 4096;
/// …of many tasks so many, so that there are some of each…
const OF_MANY_TASKS: usize = 1 << 15;
/// …or so many other events.
const OTHERS: usize = 256;
/// So many such lots may lie between the two.
const BATCHES: usize = 4;
/// Of fewer tasks, what the model has is at hand anyway.
const FEW_TASKS: u32 = 24;

/// Events on their way to the model, and when and on what they were recorded.
struct Batch {
    header: (u64, Arch),
    /// Before all others.
    past: Option<Box<Past>>,
    stretches: Vec<Stretch>,
    others: Vec<Told>,
}

/// What happened up to a moment, taken together.
struct Past {
    base: Base,
    until_ns: u64,
    /// What went before the window that was begun with is known.
    entered: bool,
}

impl Past {
    fn new((window, until_ns): Later) -> Self {
        Self {
            base: Base::new(),
            until_ns,
            entered: window.is_none(),
        }
    }

    /// Takes in what is told, up to the first event that came later: that is given back.
    fn take(&mut self, told: Told) -> Option<Told> {
        match told {
            Told::Event(event) if event.at_ns().is_some_and(|at_ns| at_ns > self.until_ns) => {
                return Some(Told::Event(event));
            }
            Told::Event(event) => self.base.fold(event),
            Told::Anew => self.base.begin_to_restore(),
            Told::Again(event) => self.base.restore(event),
            Told::Complete(window) => {
                self.base.restored(window.ended);
                self.entered = true;
            }
        }
        None
    }
}

/// Unpacks a file: on a thread of its own, since that takes about as long as collecting what
/// was in it.
fn unpack(
    data: Source<'_>,
    later: Option<Later>,
    give: &mut dyn FnMut(Batch) -> Vec<Stretch>,
) -> Result<TraceInfo> {
    let window = later.and_then(|(window, _)| window);
    let mut unpacking = Unpacking {
        past: later.map(|later| Box::new(Past::new(later))),
        lot: Lot::new(),
        give,
    };
    let info = trace_file::read_window(data, window.as_ref(), &mut unpacking)?;
    let Unpacking {
        past,
        mut lot,
        give,
    } = unpacking;
    lot.past = lot.past.or(past);
    give(lot.take(&info.header));
    Ok(info)
}

/// A file that is being unpacked.
struct Unpacking<'a> {
    /// While it is not over.
    past: Option<Box<Past>>,
    lot: Lot,
    /// Takes a lot, and gives room for another one.
    give: &'a mut dyn FnMut(Batch) -> Vec<Stretch>,
}

impl Unpacking<'_> {
    fn give_if_full(&mut self, header: &Header) {
        let lot = &mut self.lot;
        if lot.stretches.len() >= lot.most || lot.others.len() >= OTHERS {
            lot.stretches = (self.give)(lot.take(header));
        }
    }
}

impl Listener for Unpacking<'_> {
    #[inline]
    fn stretch(&mut self, header: &Header, stretch: Stretch) {
        if let Some(all) = &mut self.past {
            if all.take(Told::Event(Event::Stretch(stretch))).is_none() {
                return;
            }
            self.lot.past = self.past.take();
        }
        self.lot.stretches.push(stretch);
        self.give_if_full(header);
    }

    fn told(&mut self, header: &Header, told: Told) {
        let told = match &mut self.past {
            None => told,
            Some(all) => match all.take(told) {
                None => return,
                Some(told) => {
                    self.lot.past = self.past.take();
                    told
                }
            },
        };
        self.lot.others.push(told);
        self.give_if_full(header);
    }
}

/// A [`Batch`] that is being filled.
struct Lot {
    past: Option<Box<Past>>,
    /// So many stretches are given at once.
    most: usize,
    stretches: Vec<Stretch>,
    others: Vec<Told>,
    /// Where stretches are sorted.
    keys: Vec<u64>,
    room: Vec<Stretch>,
}

impl Lot {
    fn new() -> Self {
        Self {
            past: None,
            most: STRETCHES,
            stretches: Vec::new(),
            others: Vec::new(),
            keys: Vec::new(),
            room: Vec::new(),
        }
    }

    fn take(&mut self, header: &Header) -> Batch {
        let many = by_task(&mut self.stretches, (&mut self.keys, &mut self.room));
        self.most = if many { OF_MANY_TASKS } else { STRETCHES };
        Batch {
            header: (header.start_ns, header.arch),
            past: self.past.take(),
            stretches: mem::take(&mut self.stretches),
            others: mem::take(&mut self.others),
        }
    }
}

/// Puts the stretches of each task together, in their order: what the model has of a task is
/// then fetched once for all of them.
/// False: they are of few tasks, and stay as they are.
fn by_task(stretches: &mut Vec<Stretch>, (keys, room): (&mut Vec<u64>, &mut Vec<Stretch>)) -> bool {
    let which = |stretch: &Stretch| 1u64 << (stretch.serial % u64::BITS);
    let tasks = stretches.iter().fold(0, |tasks, it| tasks | which(it));
    if tasks.count_ones() < FEW_TASKS {
        return false;
    }
    let serials = stretches.iter().map(|it| it.serial as usize);
    let most = serials.clone().max().unwrap_or(0);
    keys.clear();
    if most < 2 * stretches.len() {
        // How many are of each, and then where its next one goes.
        let mut places = vec![0u32; most + 1];
        serials.clone().for_each(|serial| places[serial] += 1);
        let mut before = 0;
        for place in &mut places {
            before += mem::replace(place, before);
        }
        keys.resize(stretches.len(), 0);
        for (at, serial) in serials.enumerate() {
            let place = &mut places[serial];
            keys[*place as usize] = at as u64;
            *place += 1;
        }
    } else {
        keys.extend((0..).zip(serials).map(|(at, it)| (it as u64) << 32 | at));
        keys.sort_unstable();
    }
    room.clear();
    room.extend(keys.iter().map(|key| stretches[*key as u32 as usize]));
    mem::swap(stretches, room);
    true
}

#[cfg(test)]
mod window_tests;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        drawn,
        trace::{Timeout, Waker, Why},
        trace_file::TraceWriter,
    };

    fn header() -> Header {
        drawn::header(0)
    }

    fn stretch(serial: u32, seq: u32, at_ns: u64) -> Stretch {
        Stretch {
            serial,
            seq,
            out_ns: at_ns,
            wake_ns: at_ns + 1,
            in_ns: at_ns + 2,
            why: Why::Interruptible,
            early_wake: false,
            no_wake: false,
            inferred: false,
            compat: false,
            syscall: 202,
            cpu_out: 0,
            cpu_in: 0,
            arg0: 0x1000 * u64::from(serial % 3),
            arg1: 0,
            waker: Waker::None,
            object: 0,
            timeout: Timeout::None,
        }
    }

    proptest! {
        #[test]
        fn stretches_of_a_task_come_together_in_their_order(
            serials in prop::collection::vec(0u32..200, 0..600),
            (times, far) in (1u32..100_000, prop::bool::ANY),
        ) {
            let times = if far { times } else { 1 };
            let stretches = (0..).zip(&serials).map(|(at, it)| stretch(it * times, 0, at));
            let mut stretches: Vec<Stretch> = stretches.collect();
            let mut expected = stretches.clone();
            let many = by_task(&mut stretches, (&mut Vec::new(), &mut Vec::new()));
            if many {
                expected.sort_by_key(|it| it.serial);
            }
            prop_assert_eq!(stretches, expected);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_file_makes_the_model_that_its_events_make_one_by_one(
            turns in prop::collection::vec((1u32..60, prop::bool::weighted(0.02)), 0..12_000),
        ) {
            let (header, mut bytes) = (header(), Vec::new());
            let mut file = TraceWriter::new(&mut bytes, &header).unwrap();
            let mut builder = Builder::new(header.start_ns, header.arch);
            let mut numbers = [0u32; 60];
            let mut push = |event: Event| {
                file.push(&event);
                builder.push(event);
            };
            for (at_ns, (serial, born)) in (0..).step_by(3).zip(turns) {
                let seq = &mut numbers[serial as usize];
                match born {
                    true => push(Event::Born(drawn::born(serial, at_ns))),
                    false => push(Event::Stretch(stretch(serial, *seq, at_ns))),
                }
                *seq += u32::from(!born);
            }
            let end = Finish { end_ns: 100_000, ..Finish::default() };
            let (finish, error) = file.finish(end);
            prop_assert!(error.is_none());
            let (_, read) = super::read(&bytes, None).unwrap();
            let pushed = builder.build(finish.end_ns);
            prop_assert_eq!(format!("{:?}", read.tasks), format!("{:?}", pushed.tasks));
        }
    }
}
