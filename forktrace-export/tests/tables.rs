//! Tables are read back and compared with the report.
#![cfg(feature = "parquet")]

mod hostile;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use forktrace_export::{
    Source,
    tables::{self, Part, Table},
    trace_id,
};
use parquet::{
    file::reader::{FileReader as _, SerializedFileReader},
    record::{Field, Row},
};

const TRACES: [&str; 5] = [
    "sleepers",
    "select_and_compute",
    "fork_tree",
    "exec_non_leader",
    "version_3",
];

/// Files in memory.
#[derive(Clone, Default)]
struct Files(Arc<Mutex<Content>>);

/// By table and day.
type Content = BTreeMap<(Table, String), Vec<u8>>;

struct File {
    files: Files,
    part: (Table, String),
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut files = self.files.0.lock().expect("nobody panicked");
        let file = files.entry(self.part.clone()).or_default();
        file.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn written(source: &Source<'_>) -> Content {
    let files = Files::default();
    let mut open = |part: &Part| -> io::Result<Box<dyn Write + Send>> {
        let part = (part.table, part.day.clone());
        assert!(
            !files.0.lock().expect("it").contains_key(&part),
            "{part:?} comes twice"
        );
        Ok(Box::new(File {
            files: files.clone(),
            part,
        }))
    };
    tables::write(source, &mut open).expect("memory takes all");
    files.0.lock().expect("nobody panicked").clone()
}

fn rows(file: &[u8]) -> Vec<Row> {
    let reader = SerializedFileReader::new(Bytes::copy_from_slice(file)).expect("it is Parquet");
    let rows = reader.get_row_iter(None).expect("it has rows");
    rows.collect::<Result<_, _>>().expect("all can be read")
}

fn field<'a>(row: &'a Row, name: &str) -> &'a Field {
    let mut columns = row.get_column_iter();
    let found = columns.find(|(column, _)| *column == name);
    found.unwrap_or_else(|| panic!("no column {name}")).1
}

fn number(row: &Row, name: &str) -> u64 {
    match field(row, name) {
        Field::Long(number) => *number as u64,
        other => panic!("{name} is {other:?}"),
    }
}

fn text<'a>(row: &'a Row, name: &str) -> &'a str {
    match field(row, name) {
        Field::Str(text) => text,
        Field::Null => "",
        other => panic!("{name} is {other:?}"),
    }
}

fn read(trace: &str, start_unix_ns: u64) -> hostile::Read {
    let mut read = hostile::read(trace);
    read.info.header.start_unix_ns = start_unix_ns;
    read
}

fn source(read: &hostile::Read) -> Source<'_> {
    Source {
        info: &read.info,
        model: &read.model,
        report: &read.report,
    }
}

const NOON: u64 = 1_767_268_800_000_000_000;

#[test]
fn stretches_add_up_to_what_the_report_says() {
    for trace in TRACES {
        let read = read(trace, NOON);
        let files = written(&source(&read));
        let day = "2026-01-01".to_owned();
        assert_eq!(files.len(), Table::ALL.len(), "{trace}: a file a table");
        let stretches = rows(&files[&(Table::Stretches, day)]);
        for task in &read.report.tasks {
            let of_task = || {
                let serial = u64::from(task.serial);
                stretches
                    .iter()
                    .filter(move |row| number(row, "task") == serial)
            };
            let sum = |column: &str| of_task().map(|row| number(row, column)).sum::<u64>();
            let found = [
                "running_ns",
                "runnable_ns",
                "blocked_ns",
                "stopped_ns",
                "unknown_ns",
            ];
            let expected = [
                task.running_ns,
                task.runnable_ns,
                task.blocked_ns,
                task.stopped_ns,
                task.unknown_ns,
            ];
            assert_eq!(found.map(sum), expected, "{trace}: {}", task.name);
            let mut at = NOON + task.start_ns;
            for row in of_task() {
                assert_eq!(
                    number(row, "start_ns"),
                    at,
                    "one begins where the last one ended"
                );
                at += found.iter().map(|column| number(row, column)).sum::<u64>();
            }
            assert_eq!(at, NOON + task.end_ns, "{trace}: {}", task.name);
            for wait in &task.waits {
                let of_reason = of_task().filter(|row| {
                    text(row, "reason") == wait.reason
                        && text(row, "syscall") == wait.syscall.as_deref().unwrap_or_default()
                });
                let ns: u64 = of_reason.map(|row| number(row, "blocked_ns")).sum();
                assert_eq!(ns, wait.ns, "{trace}: {} in {}", task.name, wait.reason);
            }
        }
    }
}

#[test]
fn rows_are_in_the_day_that_they_begin_in() {
    let length = read("sleepers", NOON).report.workload.duration_ns;
    // Half of it is on the next day.
    let read = read("sleepers", 86_400_000_000_000 * 20_000 - length / 2);
    let files = written(&source(&read));
    let of = |day: &str| rows(&files[&(Table::Stretches, day.to_owned())]);
    let (before, after) = (of("2024-10-03"), of("2024-10-04"));
    let midnight = 86_400_000_000_000 * 20_000;
    assert!(!before.is_empty() && !after.is_empty());
    assert!(before.iter().all(|row| number(row, "start_ns") < midnight));
    assert!(after.iter().all(|row| number(row, "start_ns") >= midnight));
    let all: Vec<_> = before.iter().chain(&after).collect();
    for task in &read.report.tasks {
        let of_task = all
            .iter()
            .filter(|row| number(row, "task") == u64::from(task.serial));
        let blocked: u64 = of_task.map(|row| number(row, "blocked_ns")).sum();
        assert_eq!(blocked, task.blocked_ns, "{}", task.name);
    }
}

#[test]
fn forged_times_end_and_are_refused_where_no_recording_takes_so_long() {
    // The wall clock's last moments.
    let read_late = read("sleepers", u64::MAX);
    assert!(!written(&source(&read_late)).is_empty());
    let mut read = read("sleepers", NOON);
    read.model.tasks[0].end_ns = u64::MAX;
    let refused = tables::write(&source(&read), &mut |_| Ok(Box::new(io::sink())));
    let error = refused.expect_err("580 years");
    assert!(error.to_string().contains("213503 days"), "{error}");
}

#[test]
fn a_trace_is_known_by_the_same_id_and_others_by_others() {
    let id = |read: &hostile::Read| trace_id(source(read).info);
    let one = read("sleepers", NOON);
    assert_eq!(id(&one), id(&read("sleepers", NOON)));
    assert_ne!(id(&one), id(&read("fork_tree", NOON)));
    assert_ne!(id(&one), id(&read("sleepers", NOON + 1)));
}

#[test]
fn the_same_trace_makes_the_same_bytes() {
    let read = read("fork_tree", NOON);
    assert!(written(&source(&read)) == written(&source(&read)));
}

#[test]
fn names_of_a_hostile_workload_stay_as_they_are() {
    let read = hostile::hostile();
    let files = written(&source(&read));
    let tasks = files.iter().find(|((table, _), _)| *table == Table::Tasks);
    // An engine shows nothing by itself; who shows it escapes it.
    for task in rows(tasks.expect("there are tasks").1) {
        assert_eq!(text(&task, "name"), hostile::EVIL);
    }
}

/// A disk that is full after so many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len())
            .ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_said() {
    let read = hostile::read("sleepers");
    for room in [0, 100, 3000] {
        let full = tables::write(&source(&read), &mut |_| Ok(Box::new(Full(room))));
        let error = full.expect_err("there is no room");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    }
}
