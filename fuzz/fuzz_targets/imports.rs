//! Files of other recorders: whatever is in one, it is an error that says why, or a trace that
//! can be read, and that never calls itself complete.
#![no_main]

use forktrace_core::trace_file::Source;
use forktrace_fuzz::report;
use forktrace_import::{About, import};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut trace = Vec::new();
    match import(Source::Memory(data), &About::default(), &mut trace) {
        Ok(_) => report(&trace),
        Err(error) => assert!(!format!("{error:#}").is_empty()),
    }
});
