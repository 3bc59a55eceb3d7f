//! Marks: what a workload says about itself while it is traced.
//!
//! The workload gets a descriptor, named by `FORKTRACE_MARKS_FD`, and may write
//! lines of JSON to it. It is a file in memory, opened for appending, and not a
//! pipe: writing never waits for us, wakes nobody in the middle of what is being
//! measured, and goes on working when we are gone. The recording loop reads what
//! is new from time to time and gives the memory back.
//!
//! The workload can do with the file what it likes: make it 2^62 bytes long, write far out,
//! fill it without end. What is read of it is bounded, at a time and in all; the rest is
//! counted.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::FileExt as _,
    },
};

use nix::{
    fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
    unistd::{Whence, lseek},
};
use serde_json::{Map, Value};

use crate::clock;
use crate::trace::{
    Event, Mark, MarksRefused,
    marks::{LONGEST_LINE, MOST, MOST_BYTES},
};

/// So many bytes are read at a time: what the rings wait for.
const AT_A_TIME: u64 = 4 << 20;

/// The reading end.
#[derive(Debug)]
pub struct Marks {
    file: File,
    /// The same, with a position of its own; `None`: there is no `/proc`.
    seeker: Option<File>,
    /// The same file, for the workload.
    writer: Option<File>,
    /// Up to here it has been read, or given up, bytes.
    read: u64,
    /// Bytes that may still be read.
    left: u64,
    /// Bytes that are not read.
    unread: u64,
    /// A line whose end has not come yet; of one that is too long, the start.
    line: Vec<u8>,
    too_long: bool,
    taken: u64,
    refused: MarksRefused,
}

impl Marks {
    /// Makes the file, and takes the lowest free descriptors for it: many shells can't
    /// redirect to one with two digits.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new() -> io::Result<Self> {
        let file = File::from(memfd_create("forktrace-marks", MFdFlags::MFD_CLOEXEC)?);
        fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
        let writer = Some(file.try_clone()?);
        let seeker = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).ok();
        Ok(Self {
            writer,
            seeker,
            file,
            read: 0,
            left: MOST_BYTES,
            unread: 0,
            line: Vec::new(),
            too_long: false,
            taken: 0,
            refused: MarksRefused::default(),
        })
    }

    /// The same file, for the workload: the low descriptor at first.
    ///
    /// # Errors
    /// When there are too many descriptors.
    pub fn writer(&mut self) -> io::Result<File> {
        self.writer.take().map_or_else(|| self.file.try_clone(), Ok)
    }

    /// Hands over what has been written since the last time, or a part of it when it is much.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn drain(&mut self, sink: impl FnMut(Event)) -> io::Result<()> {
        self.read_up_to(AT_A_TIME, sink)
    }

    fn read_up_to(&mut self, most: u64, mut sink: impl FnMut(Event)) -> io::Result<()> {
        // What is written from now on is for the next time: a quick writer can't
        // keep us here.
        let end = self.file.metadata()?.len();
        // It was made shorter, and may have been written anew, be it further than it was
        // read. What was read is zeros now.
        let anew = if end < self.read {
            Some(0)
        } else {
            self.written_anew(end)
        };
        if let Some(at) = anew {
            self.refused.cuts += 1;
            self.read = at;
            self.line.clear();
            self.too_long = false;
        }
        let begin = self.read;
        let until = end.min(begin.saturating_add(most.min(self.left)));
        let mut buffer = [0; 64 << 10];
        while self.read < until {
            let most = buffer.len().min((until - self.read) as usize);
            let got = self.file.read_at(&mut buffer[..most], self.read)?;
            if got == 0 {
                // Somebody made it shorter just now.
                break;
            }
            self.read += got as u64;
            self.left -= got as u64;
            for part in buffer[..got].split_inclusive(|&byte| byte == b'\n') {
                match part.strip_suffix(b"\n") {
                    Some(rest) => {
                        self.add(rest);
                        self.end_line(&mut sink);
                    }
                    None => self.add(part),
                }
            }
        }
        if self.left == 0 && self.read < end {
            self.unread = self.unread.saturating_add(end - self.read);
            self.read = end;
        }
        if self.read > begin {
            let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            // Without, the memory goes back at the end. A file's length fits.
            let _ = fallocate(
                self.file.as_fd(),
                hole,
                begin as i64,
                (self.read - begin) as i64,
            );
        }
        Ok(())
    }

    /// Where something stands that was not there when it was read: what has been read is
    /// given back, and zeros since.
    fn written_anew(&self, end: u64) -> Option<u64> {
        let until = end.min(self.read);
        let seeker = self.seeker.as_ref()?;
        let begin = lseek(seeker, 0, Whence::SeekData).ok()?;
        let begin = u64::try_from(begin).ok()?;
        let mut at = begin;
        let mut buffer = [0; 64 << 10];
        while at < until.min(begin.saturating_add(AT_A_TIME)) {
            let most = buffer.len().min((until - at) as usize);
            let got = seeker.read_at(&mut buffer[..most], at).ok()?;
            if got == 0 {
                return None;
            }
            if buffer[..got].iter().any(|byte| *byte != 0) {
                return Some(begin);
            }
            at += got as u64;
        }
        None
    }

    /// Hands over the rest: nothing more will be read.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn finish(mut self, mut sink: impl FnMut(Event)) -> io::Result<()> {
        let read = self.read_up_to(MOST_BYTES, &mut sink);
        self.end_line(&mut sink);
        if self.refused.count() > 0 {
            sink(Event::MarksRefused(self.refused));
        }
        if self.unread > 0 {
            sink(Event::MarksUnread(self.unread));
        }
        read
    }

    fn add(&mut self, mut part: &[u8]) {
        // A hole, or what was given back.
        while self.line.is_empty()
            && let Some(rest) = part.strip_prefix(b"\0")
        {
            part = rest;
        }
        let room = LONGEST_LINE - self.line.len();
        if part.len() > room {
            self.too_long = true;
        }
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn end_line(&mut self, sink: &mut impl FnMut(Event)) {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.too_long) {
            self.refused.too_long += 1;
        } else if line.iter().all(u8::is_ascii_whitespace) {
            // An empty line says nothing.
        } else if let Some(mark) = parse(&line) {
            if self.taken < MOST {
                self.taken += 1;
                sink(Event::Mark(mark));
            } else {
                self.refused.too_many += 1;
            }
        } else {
            self.refused.not_understood += 1;
            if self.refused.example.is_empty() {
                const SHOWN: usize = 80;
                let text = String::from_utf8_lossy(&line);
                self.refused.example = text.chars().take(SHOWN).collect();
            }
        }
    }
}

/// A line that is a JSON object with a name, and with a time that is one if it
/// has any.
fn parse(line: &[u8]) -> Option<Mark> {
    let mut fields: Map<String, Value> = serde_json::from_slice(line).ok()?;
    let time = |value: Option<Value>| match value {
        None => Some(None),
        Some(value) => {
            let ours = value.as_u64().and_then(|ns| i64::try_from(ns).ok())?;
            Some(Some(clock::of_records_ns(ours)))
        }
    };
    let at_ns = time(fields.remove("t"))?;
    let since_ns = time(fields.remove("since"))?;
    let Some(Value::String(name)) = fields.remove("name") else {
        return None;
    };
    Some(Mark {
        at_ns,
        since_ns,
        name,
        fields: serde_json::to_string(&fields).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn mark(at_ns: Option<u64>, name: &str, fields: &str) -> Event {
        Event::Mark(Mark {
            at_ns,
            since_ns: None,
            name: name.to_owned(),
            fields: fields.to_owned(),
        })
    }

    fn all(text: &[u8]) -> Vec<Event> {
        let mut marks = Marks::new().expect("a file in memory");
        marks
            .writer()
            .expect("it")
            .write_all(text)
            .expect("written");
        let mut events = Vec::new();
        marks.finish(|event| events.push(event)).expect("read");
        events
    }

    #[test]
    fn marks_are_lines_of_json_with_a_name() {
        let text = b"{\"t\": 5, \"name\": \"a\", \"value\": 1.5}\n\n{\"name\": \"b\"}";
        assert_eq!(
            all(text),
            [mark(Some(5), "a", "{\"value\":1.5}"), mark(None, "b", "{}")],
            "the last line needs no end"
        );
    }

    #[test]
    fn what_is_no_mark_is_counted() {
        let mut text =
            b"nonsense\n[1]\n{\"value\": 1}\n{\"name\": 3}\n{\"name\": \"x\", \"t\": -1}\n"
                .to_vec();
        text.extend(vec![b'x'; LONGEST_LINE + 1]);
        text.extend(b"\n{\"name\": \"good\"}\n\xff\n");
        assert_eq!(
            all(&text),
            [
                mark(None, "good", "{}"),
                Event::MarksRefused(MarksRefused {
                    not_understood: 6,
                    too_long: 1,
                    example: "nonsense".to_owned(),
                    ..MarksRefused::default()
                }),
            ]
        );
    }

    fn drained(marks: Marks) -> Vec<Event> {
        let mut events = Vec::new();
        marks.finish(|event| events.push(event)).expect("read");
        events
    }

    #[test]
    fn a_file_that_is_made_endless_is_given_up() {
        let mut marks = Marks::new().expect("a file in memory");
        let mut writer = marks.writer().expect("it");
        writer.write_all(b"{\"name\": \"a\"}\n").expect("written");
        let mut events = Vec::new();
        marks.drain(|event| events.push(event)).expect("read");
        assert_eq!(events, [mark(None, "a", "{}")]);
        writer.set_len(1 << 62).expect("it is a hole");
        marks.drain(|event| events.push(event)).expect("read");
        assert_eq!(marks.left, MOST_BYTES - 14 - AT_A_TIME, "a part at a time");
        let end = drained(marks);
        assert_eq!(end, [Event::MarksUnread((1 << 62) - MOST_BYTES)]);
    }

    #[test]
    fn a_write_far_out_is_read_up_to_the_bound_and_counted() {
        let mut marks = Marks::new().expect("a file in memory");
        let writer = marks.writer().expect("it");
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).expect("anybody may");
        let far = b"\n{\"name\": \"far\"}\n";
        writer.write_all_at(far, 1 << 20).expect("written");
        writer.write_all_at(far, 1 << 40).expect("written");
        let events = drained(marks);
        assert_eq!(events[0], mark(None, "far", "{}"));
        let unread = (1 << 40) + far.len() as u64 - MOST_BYTES;
        assert_eq!(events.last(), Some(&Event::MarksUnread(unread)));
    }

    #[test]
    fn more_than_the_bound_is_counted_and_given_back() {
        let mut marks = Marks::new().expect("a file in memory");
        let writer = marks.writer().expect("it");
        let line = format!("{{\"name\": \"{}\"}}\n", "x".repeat(4000));
        let count = MOST_BYTES as usize / line.len() + 10;
        (&writer)
            .write_all(line.repeat(count).as_bytes())
            .expect("written");
        let events = drained(marks);
        let bytes = (count * line.len()) as u64;
        assert_eq!(events.last(), Some(&Event::MarksUnread(bytes - MOST_BYTES)));
        assert_eq!(writer.metadata().expect("its length").len(), bytes);
        let blocks = std::os::unix::fs::MetadataExt::blocks(&writer.metadata().expect("it"));
        assert!(blocks < 100, "{blocks} blocks are still there");
    }

    #[test]
    fn a_file_that_is_made_shorter_and_written_anew_is_read() {
        let mut marks = Marks::new().expect("a file in memory");
        let mut writer = marks.writer().expect("it");
        writer
            .write_all(b"{\"name\": \"a\"}\n{\"na")
            .expect("written");
        let mut events = Vec::new();
        marks.drain(|event| events.push(event)).expect("read");
        writer.set_len(0).expect("it is ours");
        writer.write_all(b"{\"name\": \"b\"}\n").expect("written");
        events.extend(drained(marks));
        assert_eq!(
            events,
            [mark(None, "a", "{}"), mark(None, "b", "{}"), cut(1)]
        );
    }

    fn cut(cuts: u64) -> Event {
        Event::MarksRefused(MarksRefused {
            cuts,
            ..MarksRefused::default()
        })
    }

    /// A cut that is not seen in the length.
    #[test]
    fn a_file_that_is_written_anew_beyond_what_was_read_loses_nothing_unsaid() {
        for lines in [2, 5_000] {
            let mut marks = Marks::new().expect("a file in memory");
            let mut writer = marks.writer().expect("it");
            let line = |name: char| format!("{{\"name\": \"{name}\"}}\n").repeat(lines);
            writer.write_all(line('a').as_bytes()).expect("written");
            let mut events = Vec::new();
            marks.drain(|event| events.push(event)).expect("read");
            writer.set_len(0).expect("it is ours");
            writer.write_all(line('b').as_bytes()).expect("written");
            writer.write_all(line('c').as_bytes()).expect("written");
            marks.drain(|event| events.push(event)).expect("read");
            // Nothing new: no cut, and nothing twice.
            marks.drain(|event| events.push(event)).expect("read");
            events.extend(drained(marks));
            let names = ["a", "b", "c"].iter();
            let mut expected: Vec<Event> = names
                .flat_map(|name| vec![mark(None, name, "{}"); lines])
                .collect();
            expected.push(cut(1));
            assert!(events == expected, "{lines}: {}", events.len());
        }
    }

    proptest! {
        /// In whatever pieces it is written and read, the same marks come out,
        /// each once.
        #[test]
        fn pieces_do_not_matter(sizes in prop::collection::vec(1usize..40, 1..40)) {
            let mut text = Vec::new();
            for i in 0..20 {
                text.extend(format!("{{\"name\": \"m{i}\", \"t\": {i}}}\n").bytes());
            }
            let mut marks = Marks::new().expect("a file in memory");
            let mut writer = marks.writer().expect("it");
            let mut events = Vec::new();
            let mut rest = &text[..];
            for size in sizes {
                let (piece, after) = rest.split_at(size.min(rest.len()));
                writer.write_all(piece).expect("written");
                marks.drain(|event| events.push(event)).expect("read");
                rest = after;
            }
            writer.write_all(rest).expect("written");
            marks.finish(|event| events.push(event)).expect("read");
            prop_assert_eq!(events, all(&text));
        }
    }
}
