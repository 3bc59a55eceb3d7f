//! `cargo xtask schema`: writes the JSON schemas in `docs/`, as the types give them.
//!
//! A test in each crate that has such types compares them with what `docs/` shows, so that
//! these are never out of date; told so, it writes them.

use anyhow::Result;

use crate::util::{cargo, run};

/// Writes all of them.
pub(crate) fn write() -> Result<()> {
    run(cargo()?
        .args(["test", "--quiet", "--lib"])
        .args([
            "--package",
            "forktrace-core",
            "--package",
            "forktrace-claims",
        ])
        .arg("docs_show_the_schema_of_the_types")
        .env("UPDATE_GOLDEN", "1"))
}
