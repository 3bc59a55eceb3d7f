//! Traces whose blocks hold what no recorder wrote, with right checksums: whatever can be read of
//! one is exported and rolled up, and adds up. The fuzz target `trace_blocks` does the same for
//! longer.
#![cfg(feature = "parquet")]

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use forktrace_core::{
    analysis::analyse,
    pipeline,
    random::SplitMix,
    trace_file::{
        OLDEST_VERSION, VERSION,
        container::{BlockInfo, BlockWriter, blocks},
    },
};
use forktrace_export::{
    Rollup, Source,
    tables::{self, Part, Table},
};
use parquet::{
    file::reader::{FileReader as _, SerializedFileReader},
    record::Field,
};

const TRACES: [&str; 5] = [
    "sleepers",
    "select_and_compute",
    "fork_tree",
    "ping_pong_loss",
    "polls",
];

/// The blocks of a saved trace, and its version.
struct Blocks {
    version: u32,
    blocks: Vec<(BlockInfo, Vec<u8>)>,
}

fn blocks_of(name: &str) -> Blocks {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../forktrace/tests/golden");
    let data = std::fs::read(folder.join(name).with_extension("ft")).expect("a saved trace");
    let mut read = blocks(&data, OLDEST_VERSION..=VERSION).expect("a trace");
    let (mut found, mut payload) = (Vec::new(), Vec::new());
    while let Some(block) = read.read_next(&mut payload) {
        found.push((block.expect("it is whole").info, payload.clone()));
    }
    Blocks {
        version: read.version(),
        blocks: found,
    }
}

/// A file of them, each of which a few bytes may have changed in.
fn damaged(of: &Blocks, random: &mut SplitMix) -> Vec<u8> {
    let mut writer = BlockWriter::new(Vec::new(), of.version).expect("a Vec takes it");
    for (at, (info, payload)) in of.blocks.iter().enumerate() {
        let mut payload = payload.clone();
        // Without its header it is no trace.
        if at > 0 && !payload.is_empty() {
            for _ in 0..random.below(4) {
                let place = random.below(payload.len() as u64) as usize;
                payload[place] ^= 1 << random.below(8);
            }
        }
        writer.append(info, &payload).expect("a Vec takes it");
    }
    writer.into_inner()
}

/// A file in memory.
#[derive(Clone, Default)]
struct File(Arc<Mutex<Vec<u8>>>);

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panicked").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const LONGEST_NS: u64 = 3_600_000_000_000;

/// By role and state, ns.
type Sums = BTreeMap<(String, String), u64>;

/// Sums of a column over the rows of a table, by role and the state that it is of.
fn sums(file: &[u8], states: &[(&str, &str)], of_row: bool) -> Sums {
    let reader = SerializedFileReader::new(Bytes::copy_from_slice(file)).expect("it is Parquet");
    let mut sums = Sums::new();
    for row in reader.get_row_iter(None).expect("it has rows") {
        let row = row.expect("it can be read");
        let text = |name: &str| {
            let field = row.get_column_iter().find(|(column, _)| *column == name);
            match field.expect("a column").1 {
                Field::Str(text) => text.clone(),
                Field::Long(number) => number.to_string(),
                other => panic!("{name} is {other:?}"),
            }
        };
        for (column, state) in states {
            let state = if of_row {
                text("state")
            } else {
                (*state).to_owned()
            };
            let ns: u64 = text(column).parse().expect("ns");
            if ns > 0 {
                *sums.entry((text("role"), state)).or_default() += ns;
            }
        }
    }
    sums
}

const STATES: [(&str, &str); 5] = [
    ("running_ns", "running"),
    ("runnable_ns", "runnable"),
    ("blocked_ns", "blocked"),
    ("stopped_ns", "stopped"),
    ("unknown_ns", "unknown"),
];

fn export(file: &[u8]) -> bool {
    let Ok((info, model)) = pipeline::read(file, None) else {
        return false;
    };
    // One that seems to last for years is taken, too, and takes long.
    let ends = model.tasks.iter().map(|task| task.end_ns);
    if ends.max().unwrap_or(0) > LONGEST_NS {
        return false;
    }
    let report = analyse(&info, &model);
    let source = Source {
        info: &info,
        model: &model,
        report: &report,
    };
    let mut files: BTreeMap<Table, Vec<File>> = BTreeMap::new();
    let written = tables::write(&source, &mut |part: &Part| {
        let file = File::default();
        files.entry(part.table).or_default().push(file.clone());
        Ok(Box::new(file))
    });
    match written {
        Ok(_) => {
            let of = |table: Table, states: &[(&str, &str)], of_row| {
                let mut all = Sums::new();
                for file in &files[&table] {
                    let file = file.0.lock().expect("nobody panicked");
                    for (key, ns) in sums(&file, states, of_row) {
                        *all.entry(key).or_default() += ns;
                    }
                }
                all
            };
            let stretches = of(Table::Stretches, &STATES, false);
            let minutes = of(Table::Minutes, &[("ns", "")], true);
            assert_eq!(minutes, stretches);
        }
        // Times that no recording has.
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}"),
    }
    let mut rollup = Rollup::default();
    if rollup.add(&source, "host").is_ok() {
        let mut packed = Vec::new();
        rollup.write(&mut packed).expect("memory takes it");
        let mut again = Rollup::default();
        again.read(&packed[..]).expect("it was written so");
        assert_eq!(again.rows(), rollup.rows());
    }
    true
}

#[test]
fn what_no_recorder_wrote_is_exported_and_adds_up() {
    let mut random = SplitMix(15);
    let mut exported = 0;
    for name in TRACES {
        let blocks = blocks_of(name);
        for _ in 0..12 {
            exported += u32::from(export(&damaged(&blocks, &mut random)));
        }
    }
    assert!(exported > 15, "only {exported} could be read");
}
