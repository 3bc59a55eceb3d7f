//! What `forktrace --version` says: enough to tell one build from another in a bug report.

use std::sync::LazyLock;

/// The version, the commit it was built from, and the BPF object in it.
pub(crate) static LONG: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{}\ncommit: {}\nBPF object: {}",
        env!("CARGO_PKG_VERSION"),
        option_env!("FORKTRACE_COMMIT").unwrap_or("not known"),
        object(),
    )
});

#[cfg(feature = "record")]
fn object() -> &'static str {
    forktrace_record::capture::object_sha256()
}

#[cfg(not(feature = "record"))]
fn object() -> &'static str {
    "none: this build reads traces and records none"
}
