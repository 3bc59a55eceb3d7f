//! Whatever a file holds: an error that says why, or a trace that can be read and reported on, of
//! no more memory than the file is worth. The fuzz target `imports` does the same for longer.

use forktrace_core::random::SplitMix;

use super::*;

/// A trace is no longer than so many bytes for each of the file's, and this.
const PER_BYTE: usize = 64;
const AT_LEAST: usize = 64 << 10;

fn try_import(file: &[u8]) {
    match made(file) {
        Ok((_, trace)) => {
            let most = AT_LEAST + PER_BYTE * file.len();
            assert!(trace.len() <= most, "{} of {}", trace.len(), file.len());
            let (info, model) = pipeline::read(&trace, None).expect("it is a trace");
            let report = analyse_with(&info, &model, &Options::default());
            assert!(!report.audit.complete);
        }
        Err(error) => assert!(!format!("{error:#}").is_empty()),
    }
}

fn samples() -> Vec<Vec<u8>> {
    let golden = include_bytes!("../../tests/golden/select_and_compute.ft");
    let (info, model) = pipeline::read(golden, None).expect("it is a trace");
    vec![PERF.to_vec(), WPROF.to_vec(), pftrace(&info, &model)]
}

#[test]
fn bytes_of_any_kind_are_no_trace_or_one() {
    let mut random = SplitMix(1);
    let begins: [&[u8]; 5] = [
        b"PERFILE2",
        b"\x0a",
        b"{\"version\":\"3.1\",\"dur\":1}\n{\"ts\":",
        b"{\"v",
        b"",
    ];
    for _ in 0..600 {
        let mut file = begins[random.below(5) as usize].to_vec();
        for _ in 0..random.below(400) {
            file.push(random.below(256) as u8);
        }
        try_import(&file);
    }
}

#[test]
fn files_with_parts_that_are_others_do_no_harm() {
    let mut random = SplitMix(2);
    for file in samples() {
        for _ in 0..120 {
            let mut other = file.clone();
            for _ in 0..=random.below(8) {
                let at = random.below(other.len() as u64) as usize;
                let len = (random.below(16) as usize).min(other.len() - at);
                match random.below(4) {
                    // Other bytes, all bits set, a part that comes again, one that is not there.
                    0 => other[at..at + len].fill_with(|| random.below(256) as u8),
                    1 => other[at..at + len].fill(0xff),
                    2 => {
                        let part = other[at..at + len].to_vec();
                        other.splice(at..at, part);
                    }
                    _ => drop(other.drain(at..at + len)),
                }
                if other.is_empty() {
                    break;
                }
            }
            try_import(&other);
        }
    }
}
