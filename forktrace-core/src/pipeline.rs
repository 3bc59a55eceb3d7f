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
    model::{Builder, Model, Shelf},
    report::Report,
    trace::{Arch, Event, Finish, Header, Stretch},
    trace_file::{self, Source, TraceInfo},
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
    let mut builder: Option<Builder> = None;
    let mut collect = |batch: Batch| {
        let (start_ns, arch) = batch.header;
        let builder = builder.get_or_insert_with(|| Builder::on(Arc::clone(shelf), start_ns, arch));
        for event in batch.others {
            builder.push(event);
        }
        for stretch in &batch.stretches {
            builder.stretch(stretch);
        }
    };
    let info = thread::scope(|scope| {
        let (sender, batches) = mpsc::sync_channel(BATCHES);
        let give = move |batch| {
            // It takes them as long as it lives; if it panicked, that is what is told.
            let _ = sender.send(batch);
        };
        let unpacks = move || unpack(data, &mut { give });
        match thread::Builder::new().spawn_scoped(scope, unpacks) {
            Ok(unpacks) => {
                batches.into_iter().for_each(&mut collect);
                unpacks.join().unwrap_or_else(|panic| resume_unwind(panic))
            }
            // A limit of memory or of processes leaves no room for a thread.
            Err(_) => unpack(data, &mut collect),
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
    Ok((info, model))
}

/// So many stretches go from the thread that unpacks them to the one that collects them at
/// once…
const STRETCHES: usize = 4096;
/// …or so many other events.
const OTHERS: usize = 256;
/// So many such lots may lie between the two.
const BATCHES: usize = 4;
/// Of fewer tasks, what the model has is at hand anyway.
const FEW_TASKS: u32 = 24;

/// Events on their way to the model, and when and on what they were recorded.
struct Batch {
    header: (u64, Arch),
    stretches: Vec<Stretch>,
    others: Vec<Event>,
}

/// Unpacks a file: on a thread of its own, since that takes about as long as collecting what
/// was in it.
fn unpack(data: Source<'_>, give: &mut dyn FnMut(Batch)) -> Result<TraceInfo> {
    let mut stretches = Vec::with_capacity(STRETCHES);
    let mut others = Vec::new();
    let mut keys = Vec::new();
    let mut give = |header: &Header, stretches: &mut Vec<Stretch>, others: &mut Vec<Event>| {
        by_task(stretches, &mut keys);
        give(Batch {
            header: (header.start_ns, header.arch),
            stretches: mem::replace(stretches, Vec::with_capacity(STRETCHES)),
            others: mem::take(others),
        });
    };
    let info = trace_file::read_from(data, |header, event| {
        match event {
            Event::Stretch(stretch) => stretches.push(stretch),
            other => others.push(other),
        }
        if stretches.len() == STRETCHES || others.len() == OTHERS {
            give(header, &mut stretches, &mut others);
        }
    })?;
    give(&info.header, &mut stretches, &mut others);
    Ok(info)
}

/// Puts the stretches of each task together, in their order: what the model has of a task is
/// then fetched once for all of them.
fn by_task(stretches: &mut Vec<Stretch>, keys: &mut Vec<u64>) {
    let which = |stretch: &Stretch| 1u64 << (stretch.serial % u64::BITS);
    let tasks = stretches.iter().fold(0, |tasks, it| tasks | which(it));
    if tasks.count_ones() < FEW_TASKS {
        return;
    }
    keys.clear();
    let stretches_in = stretches.iter().enumerate();
    keys.extend(stretches_in.map(|(at, it)| u64::from(it.serial) << 32 | at as u64));
    keys.sort_unstable();
    let sorted = keys.iter().map(|key| stretches[*key as u32 as usize]);
    *stretches = sorted.collect();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        drawn,
        trace::{PollWay, Timeout, Waker, Why},
        trace_file::TraceWriter,
    };

    fn header() -> Header {
        Header {
            forktrace: "0".to_owned(),
            argv: Vec::new(),
            kernel: String::new(),
            arch: Arch::X86_64,
            cpus: 2,
            start_ns: 0,
            start_unix_ns: 0,
            polls: PollWay::Fentry,
            ring_bytes: 4096,
            max_tasks: 100,
            plain: false,
            interrupts: Vec::new(),
            attached: None,
            machine: None,
            cgroup: String::new(),
            lag_min_ns: None,
            imported: None,
        }
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
