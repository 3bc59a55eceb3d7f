//! Claim files: whatever is in one, it is a claim or an error that names a line of it.
#![no_main]

use forktrace_claims::{Claim, file::Origin};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let origin = Origin {
        name: "claim.toml".to_owned(),
        folder: None,
    };
    if let Err(error) = Claim::parse(text, origin) {
        assert!(error.line <= text.lines().count() + 1, "{error:?}");
    }
});
