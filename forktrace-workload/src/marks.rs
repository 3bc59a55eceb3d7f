//! Marks: figures that no scheduler trace holds, such as requests per second.
//!
//! Who starts a workload may give it a descriptor and name it in the environment
//! variable [`VARIABLE`]. The workload writes a line of JSON there for each mark:
//! `t` (CLOCK_MONOTONIC in nanoseconds), `name`, `value`, and whatever else tells
//! marks of one name apart. Without the variable nothing is written, so a workload
//! marks without asking who listens.

use std::env;
use std::fs::File;
use std::io::Write;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::sys::{inherited, now_ns};
/// As `forktrace run` sets it.
const VARIABLE: &str = "FORKTRACE_MARKS_FD";

/// A pipe takes a write up to this length in one piece, whoever else writes to it.
const PIECE_BYTES: usize = 4096;

/// Where the marks go.
pub(super) struct Marks(Option<File>);

/// One mark.
pub(super) struct Mark {
    t_ns: u64,
    name: &'static str,
    value: Value,
    more: Map<String, Value>,
}

impl Mark {
    /// A mark of this instant.
    pub(super) fn new(name: &'static str, value: impl Into<Value>) -> Self {
        Self {
            t_ns: now_ns(),
            name,
            value: value.into(),
            more: Map::new(),
        }
    }

    /// The same mark of another instant.
    pub(super) fn at(mut self, t_ns: u64) -> Self {
        self.t_ns = t_ns;
        self
    }

    /// The same mark with one key more, such as `since`: when what it tells of began.
    pub(super) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.more.insert(key.to_owned(), value.into());
        self
    }

    fn line(self) -> Vec<u8> {
        let mut line = self.more;
        line.insert("t".to_owned(), self.t_ns.into());
        line.insert("name".to_owned(), self.name.into());
        line.insert("value".to_owned(), self.value);
        let mut line = Value::from(line).to_string().into_bytes();
        line.push(b'\n');
        line
    }
}

impl Marks {
    /// The descriptor that the environment names, if it names one.
    pub(super) fn open() -> Result<Self> {
        let Some(number) = env::var_os(VARIABLE) else {
            return Ok(Self(None));
        };
        let file = number
            .to_str()
            .and_then(|number| number.parse().ok())
            .context("not a descriptor's number")
            .and_then(inherited)
            .with_context(|| format!("cannot write marks to {VARIABLE}={}", number.display()))?;
        Ok(Self(Some(File::from(file))))
    }

    /// Writes one mark at once.
    pub(super) fn write(&self, mark: Mark) -> Result<()> {
        self.write_all([mark])
    }

    /// Writes many marks; blocks when nobody reads them, so best at a workload's end.
    pub(super) fn write_all(&self, marks: impl IntoIterator<Item = Mark>) -> Result<()> {
        let Some(file) = &self.0 else {
            return Ok(());
        };
        pieces(marks.into_iter().map(Mark::line), |piece| {
            let mut file = file;
            file.write_all(piece).context("cannot write marks")
        })
    }
}

/// Puts whole lines together, as many as a piece holds.
fn pieces(
    lines: impl Iterator<Item = Vec<u8>>,
    mut write: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    for line in lines {
        if piece.len() + line.len() > PIECE_BYTES && !piece.is_empty() {
            write(&piece)?;
            piece.clear();
        }
        piece.extend_from_slice(&line);
    }
    if piece.is_empty() {
        return Ok(());
    }
    write(&piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_one_line_of_json() {
        let mark = Mark::new("sent", 7).at(123).with("design", "e\npoll");
        let line = String::from_utf8(mark.line()).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.ends_with('\n'));
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"t": 123, "name": "sent", "value": 7, "design": "e\npoll"})
        );
    }

    #[test]
    fn pieces_hold_whole_lines_and_no_more_than_a_pipe_takes_at_once() {
        let lines: Vec<Vec<u8>> = (0..1000_usize)
            .map(|i| [vec![b'x'; i % 300], vec![b'\n']].concat())
            .collect();
        let mut written = Vec::new();
        let mut count = 0;
        pieces(lines.iter().cloned(), |piece| {
            assert!(piece.len() <= PIECE_BYTES && piece.ends_with(b"\n"));
            written.extend_from_slice(piece);
            count += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(written, lines.concat());
        assert!(count < lines.len() / 10, "{count} writes");
    }

    #[test]
    fn a_line_longer_than_a_piece_is_written_whole() {
        let lines = [vec![1; 10], vec![2; 2 * PIECE_BYTES], vec![3; 10]];
        let mut written = Vec::new();
        pieces(lines.into_iter(), |piece| {
            written.push(piece.len());
            Ok(())
        })
        .unwrap();
        assert_eq!(written, [10, 2 * PIECE_BYTES, 10]);
    }
}
