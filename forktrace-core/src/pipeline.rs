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
    trace::{Arch, Event, Finish, Header},
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
    let mut collect = |Batch { header, events }: Batch| {
        let (start_ns, arch) = header;
        let builder = builder.get_or_insert_with(|| Builder::on(Arc::clone(shelf), start_ns, arch));
        for event in events {
            builder.push(event);
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

/// So many events go from the thread that unpacks them to the one that collects them at once:
/// less than what an allocator asks the kernel for and gives back each time.
const BATCH: usize = 512;
/// So many such lots may lie between the two.
const BATCHES: usize = 8;

/// Events on their way to the model, and when and on what they were recorded.
struct Batch {
    header: (u64, Arch),
    events: Vec<Event>,
}

/// Unpacks a file: on a thread of its own, since that takes about as long as collecting what
/// was in it.
fn unpack(data: Source<'_>, give: &mut dyn FnMut(Batch)) -> Result<TraceInfo> {
    let mut events = Vec::with_capacity(BATCH);
    let mut give = |header: &Header, events: Vec<Event>| {
        let header = (header.start_ns, header.arch);
        give(Batch { header, events });
    };
    let info = trace_file::read_from(data, |header, event| {
        events.push(event);
        if events.len() == BATCH {
            give(header, mem::replace(&mut events, Vec::with_capacity(BATCH)));
        }
    })?;
    give(&info.header, events);
    Ok(info)
}
