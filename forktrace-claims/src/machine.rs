//! What is known of the machine that claims are tested on.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use forktrace_process::procfs::mounts;
use serde::{Deserialize, Serialize};

use crate::expression::Shape;

/// The machine, as `machine` in expressions and in the JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Machine {
    /// CPUs that this process may run on.
    pub cpus: u64,
    /// CPU model; `None`: not known.
    pub cpu_model: Option<String>,
    /// Kernel release.
    pub kernel: String,
    /// Architecture.
    pub arch: String,
    /// Memory, bytes; `None`: not known.
    pub memory_bytes: Option<u64>,
    /// Whether we are root.
    pub root: bool,
    /// Where a cgroup v2 hierarchy is mounted; `None`: nowhere.
    pub cgroup2: Option<PathBuf>,
    /// The Python interpreter; `None`: there is none.
    pub python: Option<Python>,
    /// Version of forktrace.
    pub forktrace: String,
}

/// A Python interpreter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Python {
    /// The interpreter itself: what `python3` in PATH may only start.
    pub path: PathBuf,
    /// For example `3.11.7`.
    pub version: String,
    /// The same as a number, for comparisons: 311.
    pub version_number: u64,
    /// `cpython`, `pypy`, …
    pub implementation: String,
    /// Whether it runs with a global interpreter lock.
    pub gil: bool,
}

/// What [`Machine`] looks like in expressions.
pub(super) fn shape() -> Shape {
    let object = |fields: &[(&str, Shape)]| {
        Shape::object(
            fields
                .iter()
                .map(|(name, shape)| ((*name).to_owned(), shape.clone())),
        )
    };
    object(&[
        ("cpus", Shape::Number),
        ("cpu_model", Shape::Text),
        ("kernel", Shape::Text),
        ("arch", Shape::Text),
        ("memory_bytes", Shape::Number),
        ("root", Shape::Bool),
        ("cgroup2", Shape::Text),
        (
            "python",
            object(&[
                ("path", Shape::Text),
                ("version", Shape::Text),
                ("version_number", Shape::Number),
                ("implementation", Shape::Text),
                ("gil", Shape::Bool),
            ]),
        ),
        ("forktrace", Shape::Text),
    ])
}

impl Machine {
    /// Looks at this machine.
    pub fn this() -> Self {
        let system = nix::sys::utsname::uname();
        let of = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
        let (kernel, arch) = system.map_or_else(
            |_| ("?".to_owned(), "?".to_owned()),
            |system| (of(system.release()), of(system.machine())),
        );
        Self {
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            cpu_model: line_value("/proc/cpuinfo", "model name"),
            kernel,
            arch,
            memory_bytes: line_value("/proc/meminfo", "MemTotal")
                .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok())
                .map(|kib| kib * 1024),
            root: nix::unistd::Uid::effective().is_root(),
            cgroup2: mounts::place_of("cgroup2"),
            python: python(),
            forktrace: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// The value of the first line `name : value` of a file.
fn line_value(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(found, _)| found.trim() == name)?;
    Some(value.trim().to_owned())
}

/// The interpreter behind `python3`, which may be a script that starts it.
fn python() -> Option<Python> {
    const ASK: &str = "import json, sys\n\
        gil = getattr(sys, '_is_gil_enabled', lambda: True)()\n\
        v = sys.version_info\n\
        print(json.dumps({'path': sys.executable, 'version': '%d.%d.%d' % v[:3], \
        'version_number': v[0] * 100 + v[1], \
        'implementation': sys.implementation.name, 'gil': gil}))";
    let output = Command::new("python3")
        .args(["-c", ASK])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    serde_json::from_slice(&output.stdout).ok()
}
