//! Code that a process makes as it runs: it says itself, in `/tmp/perf-PID.map`, where
//! which function is. Interpreters and just-in-time compilers write such a file.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The file grows with each function: it is not read more often.
const READ_AGAIN: Duration = Duration::from_millis(200);

/// What a process has said so far.
pub(super) struct PerfMap {
    process: PathBuf,
    /// `None`: the process was gone at once.
    file: Option<PathBuf>,
    /// Size and time of the file when it was read, and when that was.
    seen: Option<((u64, i64, i64), Instant)>,
    functions: Vec<Function>,
}

struct Function {
    start: u64,
    bytes: u64,
    name: String,
}

impl PerfMap {
    pub(super) fn of(pid: u32) -> Self {
        let process = PathBuf::from(format!("/proc/{pid}"));
        Self {
            file: file_of(&process),
            process,
            seen: None,
            functions: Vec::new(),
        }
    }

    /// Reads the file if there is more in it than there was. Gives whether it did.
    pub(super) fn read(&mut self) -> bool {
        let Some(file) = &self.file else {
            return false;
        };
        let Some(now) = state(file) else {
            return false;
        };
        let unchanged = |(state, at): &(_, Instant)| *state == now || at.elapsed() < READ_AGAIN;
        if self.seen.as_ref().is_some_and(unchanged) {
            return false;
        }
        let Ok(text) = fs::read(file) else {
            return false;
        };
        // The state of before it was read: what came meanwhile is read the next time.
        self.seen = Some((now, Instant::now()));
        let text = String::from_utf8_lossy(&text);
        self.functions = text.lines().filter_map(function).collect();
        true
    }

    /// The function at this address. A place can be used again: the last one counts.
    pub(super) fn name(&self, address: u64) -> Option<&str> {
        let is_it = |f: &&Function| address.checked_sub(f.start).is_some_and(|at| at < f.bytes);
        let found = self.functions.iter().rev().find(is_it);
        found.map(|function| function.name.as_str())
    }

    /// Can there be more?
    pub(super) fn lives(&self) -> bool {
        self.file.is_some() && self.process.exists()
    }
}

/// In the file system and by the number that the process itself knows.
fn file_of(process: &Path) -> Option<PathBuf> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let mut lines = status.lines();
    let pids = lines.find_map(|line| line.strip_prefix("NSpid:"))?;
    let own = pids.split_whitespace().last()?;
    Some(process.join(format!("root/tmp/perf-{own}.map")))
}

fn state(file: &Path) -> Option<(u64, i64, i64)> {
    let data = fs::metadata(file).ok()?;
    data.is_file()
        .then(|| (data.len(), data.mtime(), data.mtime_nsec()))
}

/// `START SIZE NAME`, the numbers hexadecimal, with `0x` (Java) or without.
fn function(line: &str) -> Option<Function> {
    let mut parts = line.splitn(3, ' ');
    let mut number = || {
        let digits = parts.next()?;
        u64::from_str_radix(digits.trim_start_matches("0x"), 16).ok()
    };
    let (start, bytes) = (number()?, number()?);
    let name = parts.next()?.to_owned();
    Some(Function { start, bytes, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_lines(lines: &[&str]) -> PerfMap {
        PerfMap {
            process: PathBuf::new(),
            file: None,
            seen: None,
            functions: lines.iter().copied().filter_map(function).collect(),
        }
    }

    #[test]
    fn both_ways_to_write_a_number_are_read_and_nonsense_is_not() {
        let map = of_lines(&[
            "7f00 10 py::f:/a b.py",
            "0x8f00 0x20 void J.f(int, int)",
            "nonsense",
            "9f00 zz x",
            "9f00 10",
        ]);
        assert_eq!(map.functions.len(), 2);
        assert_eq!(map.name(0x7f00), Some("py::f:/a b.py"));
        assert_eq!(map.name(0x7f0f), Some("py::f:/a b.py"));
        assert_eq!(map.name(0x7f10), None);
        assert_eq!(map.name(0x8f1f), Some("void J.f(int, int)"));
        assert_eq!(map.name(0), None);
    }

    #[test]
    fn a_place_that_is_used_again_is_what_was_last_there() {
        let map = of_lines(&["100 80 old", "140 10 new", "ffffffffffffff00 fff end"]);
        assert_eq!(map.name(0x144), Some("new"));
        assert_eq!(map.name(0x150), Some("old"));
        assert_eq!(map.name(u64::MAX), Some("end"));
    }
}
