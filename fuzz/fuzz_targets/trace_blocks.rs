//! The reader of traces behind its checksums, and what is made of what it reads: the first
//! byte says which version, then come blocks, each with a kind and a length.
#![no_main]

use forktrace_fuzz::{file_of, header, report};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((version, mut data)) = data.split_first() else {
        return;
    };
    let mut blocks = vec![(1, header())];
    while let [kind, low, high, rest @ ..] = data {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        blocks.push((1 + kind % 4, rest[..len].to_vec()));
        data = &rest[len..];
    }
    report(&file_of(2 + u32::from(version % 2), &blocks));
});
