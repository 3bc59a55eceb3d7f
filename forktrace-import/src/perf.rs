//! `perf.data`, as `perf sched record` writes it.
//!
//! A header says where the parts are: the events that were recorded (`attrs`), the records
//! (`data`), and what is known of the machine and of the layout of tracepoints (features, of
//! which the tracing data is one). See `tools/perf/Documentation/perf.data-file-format.txt` and
//! `include/uapi/linux/perf_event.h` of Linux.

mod bytes;
mod formats;
mod samples;

use anyhow::{Context as _, Result, bail, ensure};
use forktrace_core::{
    trace::{Arch, Imported},
    trace_file::Source,
};

use self::{
    bytes::Reader,
    formats::Formats,
    samples::{Attributes, Samples},
};
use crate::{sink::Sink, text};

/// Features, `tools/perf/util/header.h`.
mod feature {
    pub(super) const TRACING_DATA: u32 = 1;
    pub(super) const HOSTNAME: u32 = 3;
    pub(super) const RELEASE: u32 = 4;
    pub(super) const ARCH: u32 = 6;
    pub(super) const CPUS: u32 = 7;
    pub(super) const COMPRESSED: u32 = 27;
    pub(super) const CLOCK: u32 = 29;
}

const FEATURES: u32 = 256;
/// The longest text of a feature that is read.
const LONGEST_TEXT: usize = 4096;
/// The tracing data of a kernel is some MB where all events are recorded.
const LONGEST_TRACING_DATA: usize = 64 << 20;

#[derive(Clone, Copy, Debug)]
struct Section {
    offset: u64,
    size: u64,
}

impl Section {
    fn read(reader: &mut Reader<'_>, what: &str) -> Result<Self> {
        let section = Self {
            offset: reader.u64()?,
            size: reader.u64()?,
        };
        let end = section.offset.checked_add(section.size);
        ensure!(
            end.is_some_and(|end| end <= reader.length()),
            "{what} should be {} bytes from byte {} on, and the file has {}",
            section.size,
            section.offset,
            reader.length(),
        );
        Ok(section)
    }
}

pub(crate) fn read(source: Source<'_>, sink: &mut Sink) -> Result<()> {
    sink.found.imported = Imported {
        from: "perf sched record".to_owned(),
        lacks: [
            "in which calls tasks were",
            "what for they waited",
            "what they did before their first event",
            "of tasks that never had a CPU meanwhile",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..Imported::default()
    };
    let mut reader = Reader::new(source);
    reader.seek(8);
    let header_size = reader.u64()?;
    ensure!(
        header_size != 16,
        "it was written to a pipe, without what is needed to read it in one go; record with \
         `perf sched record -o FILE`"
    );
    ensure!(
        header_size >= 104,
        "its header should be 104 bytes, and says at byte 8 that it is {header_size}"
    );
    let attr_size = reader.u64()?;
    let attrs = Section::read(&mut reader, "the list of events")?;
    let data_at = reader.at();
    let data = Section::read(&mut reader, "the records")?;
    ensure!(
        data.size > 0,
        "it says at byte {} that it has no records: perf was killed before it wrote how many there are",
        data_at + 8,
    );
    let _event_types = (reader.u64()?, reader.u64()?);
    let mut bits = [0u64; FEATURES as usize / 64];
    for word in &mut bits {
        *word = reader.u64()?;
    }
    let attributes = Attributes::read(&mut reader, (attrs.offset, attrs.size), attr_size)?;
    let formats = features(&mut reader, data, &bits, sink)?;
    if !attributes.by_monotonic_clock {
        sink.found
            .imported
            .lacks
            .push("its times on CLOCK_MONOTONIC (perf's option -k does)".to_owned());
    }
    let mut samples = Samples::new(&attributes, &formats, sink);
    samples.all(&mut reader, (data.offset, data.offset + data.size))
}

/// Reads what is after the records, in the order of the features' numbers.
fn features(
    reader: &mut Reader<'_>,
    data: Section,
    bits: &[u64],
    sink: &mut Sink,
) -> Result<Formats> {
    let mut formats = None;
    reader.seek(data.offset.saturating_add(data.size));
    let there = (0..FEATURES).filter(|it| bits[*it as usize / 64] >> (it % 64) & 1 != 0);
    for number in there {
        let section = Section::read(reader, "what is after the records");
        let section = section.with_context(|| format!("feature {number}"))?;
        let next = reader.at();
        reader.seek(section.offset);
        match number {
            feature::TRACING_DATA => {
                let len = section.size as usize;
                ensure!(
                    len <= LONGEST_TRACING_DATA,
                    "its tracing data, at byte {}, is {len} bytes long: up to {LONGEST_TRACING_DATA} \
                     are read",
                    section.offset
                );
                let bytes = reader.bytes(len)?;
                let read = Formats::read(&bytes);
                formats = Some(read.with_context(|| {
                    format!("its tracing data, from byte {} on", section.offset)
                })?);
            }
            feature::HOSTNAME => sink.found.host = text_of(reader, section)?,
            feature::RELEASE => sink.found.kernel = text_of(reader, section)?,
            feature::ARCH => {
                sink.found.arch = match &*text_of(reader, section)? {
                    "x86_64" => Some(Arch::X86_64),
                    "aarch64" => Some(Arch::Aarch64),
                    _ => None,
                }
            }
            feature::CPUS if section.size >= 8 => {
                reader.u32()?;
                // A number that is too large would be a wrong figure only.
                sink.found.cpus = reader.u32()?.min(u16::MAX.into());
            }
            feature::COMPRESSED => bail!("it is compressed; record without -z"),
            feature::CLOCK if section.size >= 24 => {
                reader.u64()?;
                let unix_ns = reader.u64()?;
                sink.found.unix = Some((reader.u64()?, unix_ns));
            }
            _ => {}
        }
        reader.seek(next);
    }
    formats.context(
        "it holds no descriptions of tracepoints, and so none were recorded; `perf sched record` \
         does",
    )
}

fn text_of(reader: &mut Reader<'_>, section: Section) -> Result<String> {
    let len = (reader.u32()? as usize).min(LONGEST_TEXT);
    let len = len.min((section.size as usize).saturating_sub(4));
    Ok(text::name(&reader.bytes(len)?))
}
