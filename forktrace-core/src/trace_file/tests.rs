//! What is written is read, and nothing else: whatever becomes of the disk or of
//! the file.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    rc::Rc,
};

use anyhow::Result;
use proptest::prelude::*;

use super::{codec::Decoder, *};
use crate::{
    drawn::{self, any_why},
    trace::Arch,
    trace::PollWay,
    trace::{
        Born, Exec, Interrupt, OpenStretch, PollUse, Stretch, TaskRecord, Timeout, Totals,
        Untracked, Waker, Why,
    },
};

const START: u64 = 1_000_000_000;

fn header() -> Header {
    Header {
        forktrace: "0.1.0".to_owned(),
        argv: vec!["python3".to_owned(), "service.py".to_owned()],
        kernel: "6.18".to_owned(),
        arch: Arch::X86_64,
        cpus: 2,
        start_ns: START,
        start_unix_ns: 1_700_000_000_000_000_000,
        polls: PollWay::Tracepoint,
        ring_bytes: 1 << 20,
        max_tasks: 1000,
        interrupts: vec![(36, "virtio1-req.0".to_owned())],
        ..drawn::header(START)
    }
}

fn finish() -> Finish {
    Finish {
        end_ns: START + 10_000_000_000,
        exit_code: Some(3),
        lost_ring_full: 7,
        tracer_cpu_ns: 1234,
        ..Finish::default()
    }
}

// --- Any event ---

/// Up to where the codec keeps a table of tasks, but small enough to be quick.
fn any_serial() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0u32..5, 1 => 60_000u32..70_000]
}

fn any_u32() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0u32..5, 1 => Just(u32::MAX), 1 => any::<u32>()]
}

fn any_u64() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => START..START + 1_000_000,
        1 => 0u64..5,
        1 => Just(u64::MAX),
        1 => Just(i64::MAX as u64),
        1 => Just(1 << 63),
        1 => any::<u64>(),
    ]
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("worker/0:1".to_owned()),
        prop::collection::vec(any::<char>(), 0..16).prop_map(String::from_iter),
    ]
}

fn any_stretch() -> impl Strategy<Value = Stretch> {
    let ids = (any_serial(), any_u32());
    let times = (any_u64(), any_u64(), any_u64());
    let why = (any_why(), any::<[bool; 4]>());
    let rest = (
        any::<i16>(),
        any::<u16>(),
        any::<u16>(),
        any_u64(),
        any_u32(),
    );
    let waits = (any_waker(), any_u32(), any_timeout());
    (ids, times, why, rest, waits).prop_map(|(ids, times, (why, flags), rest, waits)| Stretch {
        serial: ids.0,
        seq: ids.1,
        out_ns: times.0,
        wake_ns: times.1,
        in_ns: times.2,
        why,
        early_wake: flags[0],
        no_wake: flags[1],
        inferred: flags[3],
        compat: flags[2],
        syscall: rest.0,
        cpu_out: rest.1,
        cpu_in: rest.2,
        arg0: rest.3,
        arg1: rest.4,
        waker: waits.0,
        object: waits.1,
        timeout: waits.2,
    })
}

fn any_waker() -> impl Strategy<Value = Waker> {
    prop_oneof![
        Just(Waker::None),
        Just(Waker::Unknown),
        (any_u32(), any::<bool>()).prop_map(|(serial, softirq)| Waker::Task { serial, softirq }),
        (any_u32(), any::<bool>()).prop_map(|(tid, softirq)| Waker::Outsider { tid, softirq }),
        Just(Waker::Interrupt(Interrupt::Timer)),
        Just(Waker::Interrupt(Interrupt::Other)),
        any_u32().prop_map(|number| Waker::Interrupt(Interrupt::Device(number))),
        any::<u8>().prop_map(|vector| Waker::Interrupt(Interrupt::Soft(vector))),
    ]
}

fn any_timeout() -> impl Strategy<Value = Timeout> {
    prop_oneof![
        Just(Timeout::None),
        Just(Timeout::Unknown),
        any_u32().prop_map(Timeout::Us),
    ]
}

fn any_totals() -> impl Strategy<Value = Totals> {
    (
        any_u32(),
        any_u32(),
        any_u32(),
        any_u64(),
        any_u64(),
        any_u64(),
    )
        .prop_map(
            |(serial, seq, lost, blocked_ns, runnable_ns, stopped_ns)| Totals {
                serial,
                seq,
                lost,
                blocked_ns,
                runnable_ns,
                stopped_ns,
            },
        )
}

fn any_born() -> impl Strategy<Value = Born> {
    let ids = (
        any_u32(),
        any_u32(),
        any_u32(),
        any_u32(),
        any_u32(),
        any_u32(),
    );
    (ids, any_u64(), any::<bool>(), any_u64(), any_name()).prop_map(
        |(ids, clone_flags, kernel_worker, at_ns, comm)| Born {
            serial: ids.0,
            parent: ids.1,
            process: ids.2,
            tid: ids.3,
            tgid: ids.4,
            ppid: ids.5,
            clone_flags,
            kernel_worker,
            at_ns,
            comm,
        },
    )
}

fn any_open() -> impl Strategy<Value = OpenStretch> {
    let times = (any_u64(), prop::option::of(any_u64()));
    (
        times,
        any_why(),
        any::<bool>(),
        any::<i16>(),
        any_u64(),
        any_u32(),
        (any_waker(), any_u32(), any_timeout()),
    )
        .prop_map(
            |((out_ns, wake_ns), why, compat, syscall, arg0, arg1, waits)| OpenStretch {
                out_ns,
                wake_ns,
                why,
                compat,
                syscall,
                arg0,
                arg1,
                waker: waits.0,
                object: waits.1,
                timeout: waits.2,
            },
        )
}

fn any_task() -> impl Strategy<Value = TaskRecord> {
    let maybe = || prop::option::of(any_u64());
    let kernel = (maybe(), maybe(), prop::option::of(any_u32()));
    let open = prop::option::of(any_open());
    let counts = (any_u32(), any_u64());
    (any_born(), maybe(), any_totals(), counts, kernel, open).prop_map(
        |(born, end_ns, totals, (missed, switches), kernel, open)| TaskRecord {
            born,
            end_ns,
            totals,
            missed,
            switches,
            kernel_switches: kernel.0,
            kernel_cpu_ns: kernel.1,
            exit_code: kernel.2,
            ended_in: None,
            open,
        },
    )
}

fn any_poll() -> impl Strategy<Value = PollUse> {
    let counts = (
        any_u64(),
        any_u64(),
        any_u64(),
        any_u64(),
        any_u64(),
        any_u64(),
    );
    (
        any_u32(),
        any::<u8>(),
        counts,
        any_u64(),
        any_u32(),
        any_u32(),
    )
        .prop_map(
            |(serial, position, counts, unfinished, max_fds, unknown_fds)| PollUse {
                serial,
                position,
                calls: counts.0,
                ready_at_once: counts.1,
                blocked: counts.2,
                timed_out: counts.3,
                empty_at_once: counts.4,
                failed: counts.5,
                max_fds,
                unknown_fds,
                unfinished,
            },
        )
}

fn any_untracked() -> impl Strategy<Value = Untracked> {
    (any_u32(), any_u32(), any_u32(), any_u64(), any_name()).prop_map(
        |(tid, tgid, ppid, at_ns, comm)| Untracked {
            tid,
            tgid,
            ppid,
            at_ns,
            comm,
        },
    )
}

fn any_event() -> impl Strategy<Value = Event> {
    let exec = (any_u32(), any_u32(), any_u32(), any_u64(), any_name());
    let exec = exec.prop_map(|(serial, old_tid, tid, at_ns, comm)| Exec {
        serial,
        old_tid,
        tid,
        at_ns,
        comm,
    });
    // Boxed: all of them at once take more than a thread's stack holds.
    prop_oneof![
        8 => any_stretch().prop_map(Event::Stretch).boxed(),
        1 => any_totals().prop_map(Event::Totals).boxed(),
        1 => any_born().prop_map(Event::Born).boxed(),
        1 => exec.prop_map(Event::Exec).boxed(),
        1 => any_task().prop_map(Event::Task).boxed(),
        1 => any_poll().prop_map(Event::Poll).boxed(),
        1 => any_untracked().prop_map(Event::Untracked).boxed(),
        1 => any_untracked().prop_map(Event::UntrackedEnd).boxed(),
    ]
}

/// Blocks of events.
fn any_blocks() -> impl Strategy<Value = Vec<Vec<Event>>> {
    prop::collection::vec(prop::collection::vec(any_event(), 0..12), 0..5)
}

// --- The codec ---

fn decode(decoder: &mut Decoder, bytes: &[u8]) -> (Vec<Event>, Skipped) {
    let mut events = Vec::new();
    let skipped = decoder.decode(bytes, 1, &mut |event| {
        events.push(event);
        true
    });
    (events, skipped)
}

fn push(encoder: &mut Encoder, event: &Event) {
    assert!(encoder.push(event), "it is short enough");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn blocks_of_any_events_come_back(blocks in any_blocks(), start_ns in any_u64()) {
        let mut encoder = Encoder::new(start_ns);
        let mut decoder = Decoder::default();
        let mut packed = Vec::new();
        for events in &blocks {
            encoder.start_block();
            for event in events {
                push(&mut encoder, event);
            }
            prop_assert_eq!(encoder.records() as usize, events.len());
            let times = || events.iter().filter_map(Event::at_ns);
            if !events.is_empty() && events[0].at_ns().is_some() {
                prop_assert_eq!(Some(encoder.first_ns()), times().min());
                prop_assert_eq!(Some(encoder.last_ns()), times().max());
            }
            let (decoded, result) = decode(&mut decoder, encoder.bytes());
            prop_assert_eq!(result, Skipped::default());
            prop_assert_eq!(&decoded, events);
            packed.push(encoder.bytes().to_vec());
        }
        // Each block can be read without the others, and after any of them.
        for (bytes, events) in packed.iter().zip(&blocks).rev() {
            prop_assert_eq!(&decode(&mut decoder, bytes).0, events);
            prop_assert_eq!(&decode(&mut Decoder::default(), bytes).0, events);
        }
    }

    #[test]
    fn what_no_encoder_made_is_refused_or_decoded_but_never_panics(
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..4),
    ) {
        let mut decoder = Decoder::default();
        for bytes in blocks {
            let (events, _) = decode(&mut decoder, &bytes);
            // An event takes a byte at least.
            prop_assert!(events.len() <= bytes.len());
        }
    }

    #[test]
    fn random_bytes_are_no_trace(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(read(&bytes, |_, _| ()).is_err());
    }

    /// The blocks are good, what is in them is not: no event, no header, no end.
    #[test]
    fn good_blocks_of_random_bytes_never_panic(
        blocks in prop::collection::vec((0u8..5, prop::collection::vec(any::<u8>(), 0..80)), 0..4),
        with_header in any::<bool>(),
    ) {
        let mut writer = BlockWriter::new(Vec::new(), VERSION).expect("a Vec takes it");
        let info = |kind| BlockInfo { kind, records: 1, first_ns: 0, last_ns: 0 };
        if with_header {
            let bytes = postcard::to_stdvec(&header()).expect("it serialises");
            writer.append(&info(KIND_HEADER), &bytes).expect("a Vec takes it");
        }
        for (kind, bytes) in &blocks {
            writer.append(&info(*kind), bytes).expect("a Vec takes it");
        }
        let _ = read(&writer.into_inner(), |_, _| ());
    }
}

#[test]
fn serials_beyond_all_tables_come_back() {
    let mut encoder = Encoder::new(START);
    let serials = [
        u32::MAX,
        1,
        u32::MAX,
        1 << 24,
        u32::MAX - 1,
        0,
        1 << 24,
        1,
        u32::MAX,
    ];
    let events: Vec<Event> = serials
        .into_iter()
        .enumerate()
        .map(|(seq, serial)| stretch(serial, seq as u32, START + 10 * seq as u64))
        .collect();
    for event in &events {
        push(&mut encoder, event);
    }
    let (decoded, result) = decode(&mut Decoder::default(), encoder.bytes());
    assert_eq!(result, Skipped::default());
    assert_eq!(decoded, events);
}

#[test]
fn a_forged_serial_can_not_take_all_memory() {
    let mut encoder = Encoder::new(START);
    let events: Vec<Event> = [u32::MAX, 1, u32::MAX, u32::MAX - 1, 1 << 24, 1]
        .into_iter()
        .enumerate()
        .map(|(seq, serial)| stretch(serial, seq as u32, START + 10 * seq as u64))
        .collect();
    for event in &events {
        push(&mut encoder, event);
    }
    let before = resident_bytes();
    let mut decoder = Decoder::default();
    let (decoded, result) = decode(&mut decoder, encoder.bytes());
    assert_eq!(result, Skipped::default());
    assert_eq!(decoded, events);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 300 << 20, "{} MiB", grown >> 20);
}

/// Memory of this process, and so of all tests that run at the same time, bytes.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages = statm.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok());
    pages.expect("the second number is the resident size") * 4096
}

#[test]
fn bytes_left_over_after_the_events_are_counted() {
    let mut encoder = Encoder::new(START);
    push(&mut encoder, &stretch(1, 0, START));
    let whole = encoder.bytes();
    for len in 1..whole.len() {
        let (events, result) = decode(&mut Decoder::default(), &whole[..len]);
        assert!(
            result.unreadable == 1 && events.is_empty(),
            "{len} of {} bytes",
            whole.len()
        );
    }
}

#[test]
fn an_ordinary_stretch_takes_few_bytes() {
    let mut encoder = Encoder::new(START);
    for seq in 0..1000 {
        let event = stretch(1 + seq % 4, seq / 4, START + 50_000 * u64::from(seq));
        push(&mut encoder, &event);
    }
    let per_stretch = encoder.len() / 1000;
    assert!(per_stretch <= 24, "{per_stretch} bytes before compression");
}

// --- The file ---

/// An ordinary stretch that ends at a time.
fn stretch(serial: u32, seq: u32, in_ns: u64) -> Event {
    Event::Stretch(Stretch {
        serial,
        seq,
        out_ns: in_ns.wrapping_sub(20_000),
        wake_ns: in_ns.wrapping_sub(3_000),
        in_ns,
        why: Why::Interruptible,
        early_wake: false,
        no_wake: false,
        inferred: false,
        compat: false,
        syscall: 202,
        cpu_out: 0,
        cpu_in: 1,
        arg0: 0x7fff_1234_5678,
        arg1: 128,
        waker: Waker::None,
        object: 0,
        timeout: Timeout::None,
    })
}

fn born(serial: u32, at_ns: u64) -> Born {
    Born {
        clone_flags: 0x10000,
        comm: format!("worker-{serial}"),
        ..drawn::born(serial, at_ns)
    }
}

/// Blocks of a small recording: each event is another, and a block is a second.
fn recording(blocks: u32, per_block: u32) -> Vec<Vec<Event>> {
    let block = |b: u32| {
        let mut at_ns = START + 2_000_000_000 * u64::from(b);
        let mut events = vec![Event::Born(born(b + 1, at_ns))];
        for i in 0..per_block {
            at_ns += 1_000_003 + 17 * u64::from(i * i);
            events.push(stretch(1 + i % 3, b * per_block + i, at_ns));
        }
        if b % 2 == 1 {
            events.push(Event::Totals(Totals {
                serial: 1,
                seq: b,
                ..Totals::default()
            }));
        }
        events
    };
    (0..blocks).map(block).collect()
}

/// Writes each block of events as a block of the file.
fn write<W: Write>(inner: W, blocks: &[Vec<Event>]) -> io::Result<TraceWriter<W>> {
    let mut writer = TraceWriter::new(inner, &header())?;
    for events in blocks {
        for event in events {
            writer.push(event);
        }
        writer.tick(u64::MAX);
    }
    Ok(writer)
}

/// A whole file, and where each of its parts ends: the header, each block of
/// events, the end.
fn file(blocks: &[Vec<Event>]) -> (Vec<u8>, Vec<usize>) {
    let disk = Disk::default();
    let mut ends = Vec::new();
    let mut writer = TraceWriter::new(disk.clone(), &header()).expect("there is room");
    ends.push(disk.len());
    for events in blocks {
        for event in events {
            writer.push(event);
        }
        writer.tick(u64::MAX);
        ends.push(disk.len());
    }
    let (_, error) = writer.finish(finish());
    assert!(error.is_none(), "{error:?}");
    ends.push(disk.len());
    (disk.content(), ends)
}

fn events_of(data: &[u8]) -> Result<(Vec<Event>, TraceInfo)> {
    let mut events = Vec::new();
    let info = read(data, |_, event| events.push(event))?;
    Ok((events, info))
}

/// A disk that can be full: it takes so many bytes, then it fails, and works
/// again after so many failures.
#[derive(Clone, Default)]
struct Disk {
    content: Rc<RefCell<Vec<u8>>>,
    fails_at: Option<usize>,
    failures_left: Rc<Cell<usize>>,
}

impl Disk {
    fn full_after(bytes: usize, failures: usize) -> Self {
        Self {
            fails_at: Some(bytes),
            failures_left: Rc::new(Cell::new(failures)),
            ..Self::default()
        }
    }

    fn len(&self) -> usize {
        self.content.borrow().len()
    }

    fn content(&self) -> Vec<u8> {
        self.content.borrow().clone()
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut content = self.content.borrow_mut();
        let room = match self.fails_at {
            Some(at) if self.failures_left.get() > 0 => at.saturating_sub(content.len()),
            _ => bytes.len(),
        };
        if room == 0 {
            self.failures_left.set(self.failures_left.get() - 1);
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = room.min(bytes.len());
        content.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_file_of_any_events_comes_back(blocks in any_blocks()) {
        let disk = Disk::default();
        let writer = write(disk.clone(), &blocks).expect("there is room");
        let (written, error) = writer.finish(finish());
        prop_assert!(error.is_none());
        let (events, info) = events_of(&disk.content()).expect("it is a trace");
        prop_assert_eq!(events, blocks.concat());
        prop_assert_eq!(info.header, header());
        prop_assert_eq!(info.finish.as_ref(), Some(&written));
        prop_assert_eq!(written, finish());
        prop_assert_eq!(info.damage, vec![]);
    }
}

#[test]
fn the_header_comes_with_each_event() {
    let (data, _) = file(&recording(2, 3));
    let mut count = 0;
    let info = read(&data, |from, _| {
        assert_eq!(*from, header());
        count += 1;
    });
    assert_eq!((count, info.expect("it is a trace").header), (9, header()));
}

#[test]
fn a_command_line_that_is_too_long_for_a_header_is_cut_off() {
    let mut long = header();
    long.argv = vec!["x".repeat(1000); 6000];
    let disk = Disk::default();
    let writer = TraceWriter::new(disk.clone(), &long).expect("there is room");
    let _ = writer.finish(finish());
    let (_, info) = events_of(&disk.content()).expect("it is a trace");
    let argv = info.header.argv;
    assert!(argv.len() > 1000 && argv.len() < 6000, "{}", argv.len());
    let more = format!("… and {} more arguments", 6000 - (argv.len() - 1));
    assert_eq!(argv.last(), Some(&more));
}

#[test]
fn a_trace_without_events_is_a_trace() {
    let (data, _) = file(&[]);
    let (events, info) = events_of(&data).expect("it is a trace");
    assert_eq!((events, info.finish), (vec![], Some(finish())));
    assert_eq!(info.last_ns, finish().end_ns);
}

#[test]
fn a_block_is_written_when_it_is_full_or_a_second_old() {
    let disk = Disk::default();
    let mut writer = TraceWriter::new(disk.clone(), &header()).expect("there is room");
    let empty = disk.len();
    writer.tick(START + 5_000_000_000);
    assert_eq!(disk.len(), empty, "no events, no block");
    writer.push(&stretch(1, 0, START + 10));
    writer.tick(START + 1_000_000_000);
    assert_eq!(disk.len(), empty, "not a second old");
    writer.tick(START + 1_000_000_011);
    let one = disk.len();
    assert!(one > empty);
    for seq in 0..20_000 {
        writer.push(&stretch(1, seq, START + 1_000_000_000 + u64::from(seq)));
    }
    assert!(disk.len() > one, "a full block waits for nobody");
    assert_eq!(writer.bytes_written(), disk.len() as u64);
    let (_, error) = writer.finish(finish());
    assert!(error.is_none());
    assert_eq!(
        events_of(&disk.content()).expect("it is a trace").0.len(),
        20_001
    );
}

/// What must hold however the disk failed: what is read was written, in order, and
/// all that is not read was counted and lies in the time range that is given.
fn check_after_failure(
    disk: &Disk,
    blocks: &[Vec<Event>],
    end: &Finish,
    end_failed: bool,
    at: &str,
) {
    let (events, info) = events_of(&disk.content()).expect("its header was written");
    let mut rest = &events[..];
    let mut lost = Vec::new();
    for block in blocks {
        // A block is written as a whole or not at all.
        match rest.strip_prefix(&block[..]) {
            Some(after) => rest = after,
            None => lost.extend(block),
        }
    }
    assert_eq!(rest, [], "{at}: read, but never written");
    assert_eq!(end.unwritten, lost.len() as u64, "{at}");
    assert_eq!(end.write_error.is_some(), !lost.is_empty(), "{at}");
    let times = || lost.iter().filter_map(|e| e.at_ns());
    assert_eq!(end.unwritten_from_ns, times().min(), "{at}");
    assert_eq!(end.unwritten_until_ns, times().max(), "{at}");
    assert_eq!(info.finish.as_ref(), (!end_failed).then_some(end), "{at}");
    if info.finish.is_some() {
        // The reader sees the same loss as the writer.
        let damaged: u64 = info.damage.iter().filter_map(|d| d.records_lost).sum();
        assert_eq!(damaged, lost.len() as u64, "{at}: {:?}", info.damage);
    }
}

#[test]
fn a_disk_that_is_full_at_any_byte_keeps_what_was_written() {
    let blocks = recording(4, 6);
    let (whole, ends) = file(&blocks);
    for room in 0..whole.len() {
        let disk = Disk::full_after(room, usize::MAX);
        let Ok(writer) = write(disk.clone(), &blocks) else {
            assert!(room < ends[0], "the header was written, {room} bytes");
            continue;
        };
        assert!(room >= ends[0], "no header, {room} bytes");
        let (end, error) = writer.finish(finish());
        assert_eq!(disk.len(), room);
        check_after_failure(
            &disk,
            &blocks,
            &end,
            error.is_some(),
            &format!("{room} bytes"),
        );
        assert!(
            error.is_some(),
            "the end can't have been written in {room} bytes"
        );
    }
}

#[test]
fn a_disk_that_is_full_for_a_while_loses_only_what_came_then() {
    let blocks = recording(4, 6);
    let (whole, ends) = file(&blocks);
    for room in ends[0]..whole.len() {
        for failures in 1..=4 {
            let disk = Disk::full_after(room, failures);
            let writer = write(disk.clone(), &blocks).expect("the header was written");
            let (end, error) = writer.finish(finish());
            let at = format!("{room} bytes, {failures} failures");
            check_after_failure(&disk, &blocks, &end, error.is_some(), &at);
        }
    }
}

#[test]
fn a_file_cut_at_any_byte_gives_the_blocks_before() {
    let blocks = recording(4, 6);
    let (whole, ends) = file(&blocks);
    for len in 0..whole.len() {
        let result = events_of(&whole[..len]);
        if len < ends[0] {
            assert!(result.is_err(), "{len} bytes hold no header");
            continue;
        }
        let (events, info) = result.expect("its header is whole");
        let left = ends[1..].iter().filter(|end| **end <= len).count();
        assert_eq!(events, blocks[..left].concat(), "{len} bytes");
        assert_eq!(info.finish, None, "{len} bytes");
        // A cut between two blocks can't be seen but by the end that is missing.
        assert_eq!(info.damage.is_empty(), ends.contains(&len), "{len} bytes");
        let last = events.iter().filter_map(Event::at_ns).max();
        assert_eq!(info.last_ns, last.unwrap_or(START), "{len} bytes");
    }
}

/// The reader of a file with something wrong in it.
fn check_damaged(data: &[u8], blocks: &[Vec<Event>], at: &str) {
    let Ok((events, info)) = events_of(data) else {
        return;
    };
    let mut rest = &events[..];
    let mut lost = 0;
    for block in blocks {
        match rest.strip_prefix(&block[..]) {
            Some(after) => rest = after,
            None => lost += 1,
        }
    }
    assert_eq!(rest, [], "{at}: never written");
    assert!(lost <= 1, "{at}: a bit costs a block at most, not {lost}");
    assert!(
        lost == 0 || !info.damage.is_empty(),
        "{at}: a loss that is not told"
    );
    assert_eq!(info.header, header(), "{at}");
    if let Some(end) = info.finish {
        assert_eq!(end, finish(), "{at}");
    }
}

#[test]
fn a_flipped_bit_costs_a_block_at_most_and_invents_nothing() {
    let blocks = recording(3, 6);
    let (whole, _) = file(&blocks);
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut data = whole.clone();
            data[at] ^= 1 << bit;
            check_damaged(&data, &blocks, &format!("bit {bit} of byte {at}"));
        }
    }
}

#[test]
fn a_byte_more_or_less_costs_a_block_at_most_and_invents_nothing() {
    let blocks = recording(3, 6);
    let (whole, _) = file(&blocks);
    for at in 0..whole.len() {
        let mut less = whole.clone();
        less.remove(at);
        check_damaged(&less, &blocks, &format!("without byte {at}"));
        let mut more = whole.clone();
        more.insert(at, 0);
        check_damaged(&more, &blocks, &format!("another byte at {at}"));
    }
}

#[test]
fn each_event_is_told_from_all_others() {
    // Else the tests above could take one for another.
    let blocks = recording(4, 6);
    let shown: HashSet<String> = blocks.concat().iter().map(|e| format!("{e:?}")).collect();
    assert_eq!(shown.len(), blocks.concat().len());
}

/// A file of these blocks, between a header and an end.
fn file_of_blocks(version: u32, blocks: &[(u8, u32, &[u8])]) -> Vec<u8> {
    let mut writer = BlockWriter::new(Vec::new(), version).expect("a Vec takes it");
    let header = postcard::to_stdvec(&header()).expect("it serialises");
    let finish = postcard::to_stdvec(&finish()).expect("it serialises");
    let header = [(KIND_HEADER, 1, &header[..])];
    let finish = [(KIND_FINISH, 1, &finish[..])];
    for (kind, records, payload) in header.iter().chain(blocks).chain(&finish) {
        let info = BlockInfo {
            kind: *kind,
            records: *records,
            first_ns: START,
            last_ns: START,
        };
        writer.append(&info, payload).expect("a Vec takes it");
    }
    writer.into_inner()
}

/// A record, as the format has it.
fn record(kind: u32, bytes: &[u8]) -> Vec<u8> {
    let prefix = (bytes.len() as u32) << 1 | kind;
    [
        postcard::to_stdvec(&prefix).expect("it serialises"),
        bytes.to_vec(),
    ]
    .concat()
}

#[test]
fn a_block_of_an_unknown_kind_is_passed_over_and_counted() {
    let data = file_of_blocks(VERSION, &[(77, 5, b"what"), (78, 0, b"")]);
    let (events, info) = events_of(&data).expect("it is a trace");
    assert_eq!((events, info.finish), (vec![], Some(finish())));
    assert_eq!(info.skipped.unknown_kind, 6);
    assert_eq!(info.skipped.unreadable, 0);
}

#[test]
fn records_of_an_unknown_kind_are_passed_over_and_counted() {
    let born = Event::Born(born(1, START));
    let known = postcard::to_stdvec(&born).expect("it serialises");
    // Event has fewer than 100 kinds.
    let unknown = record(1, &[100, 1, 2, 3]);
    let block = [
        unknown.clone(),
        record(1, &known),
        unknown.clone(),
        record(1, &known),
        record(1, &[]),
        record(1, &[0xff, 0xff, 0x7f]),
    ]
    .concat();
    let (events, info) =
        events_of(&file_of_blocks(VERSION, &[(KIND_EVENTS, 6, &block)])).expect("it is a trace");
    assert_eq!(events, [born.clone(), born]);
    assert_eq!(info.finish, Some(finish()));
    assert_eq!(info.damage, []);
    assert_eq!(info.skipped.unknown_kind, 3);
    // The one without any byte.
    assert_eq!(info.skipped.unreadable, 1);
}

#[test]
fn a_known_record_with_an_unknown_value_is_counted_as_unreadable() {
    let mut encoder = Encoder::new(START);
    let Event::Stretch(whole) = stretch(1, 0, START) else {
        unreachable!()
    };
    let waker = |waker| Event::Stretch(Stretch { waker, ..whole });
    push(&mut encoder, &waker(Waker::Unknown));
    let known = encoder.bytes().to_vec();
    // `Waker::Unknown` is a 4, the third byte from the end; nobody is a 9.
    let mut unknown = known.clone();
    let at = unknown.len() - 3;
    assert_eq!(unknown[at], 4);
    unknown[at] = 9;
    let block = [unknown, known].concat();
    let (events, info) =
        events_of(&file_of_blocks(VERSION, &[(KIND_EVENTS, 2, &block)])).expect("it is a trace");
    assert_eq!(events, [waker(Waker::Unknown)]);
    assert_eq!(info.skipped.unreadable, 1);
}

#[test]
fn fields_added_at_the_end_of_a_record_are_passed_over_and_missing_ones_are_zero() {
    let poll = PollUse {
        serial: 7,
        position: 1,
        calls: 3,
        ready_at_once: 0,
        blocked: 0,
        timed_out: 0,
        empty_at_once: 0,
        failed: 0,
        max_fds: 0,
        unknown_fds: 0,
        unfinished: 0,
    };
    let whole = postcard::to_stdvec(&Event::Poll(poll)).expect("it serialises");
    let longer = [&whole[..], b"more fields"].concat();
    let shorter = &whole[..whole.len() - 4];
    let block = [record(1, &longer), record(1, shorter)].concat();
    let (events, info) =
        events_of(&file_of_blocks(VERSION, &[(KIND_EVENTS, 2, &block)])).expect("it is a trace");
    assert_eq!(events, [Event::Poll(poll), Event::Poll(poll)]);
    assert_eq!(info.skipped, Skipped::default());
}

#[test]
fn a_record_that_goes_beyond_its_block_counts_all_that_follow() {
    let known = postcard::to_stdvec(&Event::Born(born(1, START))).expect("it serialises");
    let mut block = [record(1, &known), record(1, &known)].concat();
    block.pop();
    let (events, info) =
        events_of(&file_of_blocks(VERSION, &[(KIND_EVENTS, 10, &block)])).expect("it is a trace");
    assert_eq!(events.len(), 1);
    assert_eq!(info.skipped.unreadable, 9);
}

#[test]
fn a_record_that_is_too_long_is_not_written_but_counted() {
    let disk = Disk::default();
    let mut writer = TraceWriter::new(disk.clone(), &header()).expect("there is room");
    let mark = |len| {
        Event::Mark(crate::trace::Mark {
            at_ns: None,
            since_ns: None,
            name: "a".repeat(len),
            fields: String::new(),
        })
    };
    writer.push(&mark(MAX_RECORD_LEN));
    writer.push(&mark(MAX_RECORD_LEN - 100));
    let (end, error) = writer.finish(finish());
    assert!(error.is_none());
    assert_eq!((end.unwritten, end.unwritten_from_ns), (1, None));
    let (events, info) = events_of(&disk.content()).expect("it is a trace");
    assert_eq!(events, [mark(MAX_RECORD_LEN - 100)]);
    assert_eq!(info.finish, Some(end));
}

/// Records of version 2 have no length: nothing can be added to those kinds that it had.
#[test]
fn a_stack_is_stored_as_in_version_2() {
    let frames = |waits_in| {
        Event::Frames(crate::trace::Frames {
            number: 7,
            frames: vec!["main".to_owned()],
            cut_off: true,
            waits_in,
        })
    };
    let bytes = postcard::to_stdvec(&frames(Some(0))).expect("it serialises");
    assert_eq!(bytes, b"\x10\x07\x01\x04main\x01");
    assert_eq!(postcard::from_bytes(&bytes), Ok(frames(None)));
}

// --- Files that unpack to more than they should ---

#[test]
fn a_small_file_can_not_take_much_memory() {
    let empty = postcard::to_stdvec(&Event::Frames(crate::trace::Frames {
        number: 0,
        frames: vec![String::new(); 16 << 20],
        cut_off: false,
        waits_in: None,
    }))
    .expect("it serialises");
    let few = postcard::to_stdvec(&Event::Frames(crate::trace::Frames {
        number: 0,
        frames: vec![String::new(); 1000],
        cut_off: false,
        waits_in: None,
    }))
    .expect("it serialises");
    let mut encoder = Encoder::new(START);
    for seq in 0..100_000 {
        push(&mut encoder, &stretch(1, seq, START));
    }
    let equal = encoder.bytes().to_vec();
    let born = postcard::to_stdvec(&Event::Born(born(1, START))).expect("it serialises");
    let v2 = |events: &[u8]| [&[1], events].concat();
    let bombs = [
        (2, [&[1, 16], &empty[1..]].concat()),
        (2, v2(&few).repeat(16_000)),
        (2, v2(&born).repeat(400_000)),
        (3, record(1, &empty[..16 << 20])),
        (3, record(1, &few).repeat(16_000)),
        (3, record(1, &born).repeat(400_000)),
        (3, record(1, &[100]).repeat(5 << 20)),
        (3, vec![1; 16 << 20]),
        (3, equal.repeat(9)),
    ];
    for (version, payload) in bombs {
        let payload = &payload[..payload.len().min(container::MAX_PAYLOAD_LEN)];
        let data = file_of_blocks(version, &[(KIND_EVENTS, 1_000_000, payload); 20]);
        assert!(data.len() < 200_000, "{} bytes", data.len());
        let mut memory = 0;
        let info = read(&data, |_, event| memory += budget::memory_of(&event));
        let info = info.expect("it is a trace");
        let budget = (64 << 20) + 1024 * data.len() as u64;
        assert!(memory <= budget, "{memory} of {budget}");
        let skipped = info.skipped;
        assert!(
            skipped.too_large_from.is_some() || skipped.unreadable > 0,
            "{skipped:?}"
        );
        assert!(skipped.too_large_from.is_none() || info.finish.is_none());
    }
}

/// Attached to, and asleep from then on: their records are much alike.
#[test]
fn tens_of_thousands_of_tasks_that_sleep_are_not_too_many() {
    const TASKS: u32 = 50_000;
    let at_ns = |serial: u32| START + 700 * u64::from(serial);
    let first: Vec<Event> = (1..=TASKS)
        .flat_map(|serial| {
            let born = born(serial, at_ns(serial));
            let attached = crate::trace::Attached {
                serial,
                at_ns: at_ns(serial),
                asleep_for_ns: Some(u64::from(serial)),
            };
            [Event::Born(born), Event::Attached(attached)]
        })
        .collect();
    let last: Vec<Event> = (1..=TASKS)
        .map(|serial| {
            let born = born(serial, at_ns(serial));
            Event::Task(drawn::record(born, None))
        })
        .collect();
    let (data, _) = file(&[first, last]);
    let (events, info) = events_of(&data).expect("it is a trace");
    assert_eq!(info.skipped.too_large_from, None, "{} bytes", data.len());
    assert_eq!(events.len(), 3 * TASKS as usize);
}

#[test]
fn a_file_of_another_version_is_refused() {
    let writer = BlockWriter::new(Vec::new(), VERSION + 1).expect("a Vec takes it");
    let error = events_of(&writer.into_inner()).expect_err("another version");
    assert!(error.to_string().contains("newer"), "{error}");
}

#[test]
fn a_file_whose_header_is_lost_is_an_error_that_says_so() {
    let (mut data, ends) = file(&recording(2, 3));
    data[ends[0] - 1] ^= 1;
    let error = events_of(&data).expect_err("its header is lost");
    assert!(error.to_string().contains("first block"), "{error}");
}

#[test]
fn a_command_line_of_empty_arguments_is_shortened_and_says_so() {
    let long = Header {
        argv: vec![String::new(); 200_000],
        ..header()
    };
    let disk = Disk::default();
    let writer = TraceWriter::new(disk.clone(), &long).expect("there is room");
    let _ = writer.finish(finish());
    let (_, info) = events_of(&disk.content()).expect("it is a trace");
    assert_eq!(info.header.argv.len(), 100_001);
    let last = info.header.argv.last().expect("the note");
    assert_eq!(last, "… and 100000 more arguments");
}
