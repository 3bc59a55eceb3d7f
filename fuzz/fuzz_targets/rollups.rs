//! Roll-ups behind their packing: whatever lines are in one, it is an error that names one of them,
//! or rows that are the same when they are written and read again.
#![no_main]

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use forktrace_export::Rollup;

libfuzzer_sys::fuzz_target!(|lines: &[u8]| {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(lines).expect("a Vec takes it");
    let mut rollup = Rollup::default();
    if let Err(error) = rollup.read(&packed.finish().expect("a Vec takes it")[..]) {
        assert!(!error.to_string().is_empty());
        return;
    }
    let mut once = Vec::new();
    rollup.write(&mut once).expect("a Vec takes it");
    let mut again = Rollup::default();
    again.read(&once[..]).expect("it was written so");
    let mut twice = Vec::new();
    again.write(&mut twice).expect("a Vec takes it");
    assert_eq!(once, twice);
});
