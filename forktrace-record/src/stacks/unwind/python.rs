//! What a thread of CPython executes, read from the memory of its process while it sleeps.
//!
//! `_PyRuntime` leads to the interpreters, these to their threads, and a thread to its
//! frames, which only itself changes: as long as it sleeps they hold still. What it comes
//! by on the way there can change meanwhile, so the thread that it finds has to say that it
//! is the one that is wanted. All that is read is bounded, and what makes no sense makes that
//! nothing is said.

mod layout;
mod lines;

use std::{collections::HashMap, fs};

use self::layout::Layout;
use super::{
    super::code::{Whose, is_standard_python},
    Place,
    dynamic::Exports,
    memory::Memory,
};

/// What is read of one thread, units of memory.
pub(super) const MOST_UNITS: usize = 4096;
/// Interpreters of a process, and threads of one, that are looked at.
const MOST_INTERPRETERS: usize = 64;
const MOST_THREADS: usize = 8192;
/// Frames of a stack.
const MOST_FRAMES: usize = 512;
/// A longer name, in characters, is cut.
const MOST_NAME: usize = 256;
/// A longer path is none.
const MOST_PATH: usize = 4096;
/// A longer table of lines is not read, bytes.
const MOST_LINES: u64 = 1 << 18;
/// Frames that are none of a function of Python, from 3.12 on: what the interpreter puts
/// between those and C.
const NOT_OF_PYTHON: u8 = 3;

/// Where `struct pthread` has the tid that the kernel knows the thread by: in the C library of
/// GNU for x86-64 (`_thread_db_pthread_tid` tells) and for arm64, and in musl.
const PTHREAD_TIDS: [u64; 3] = [0x2d0, 0xd0, 0x30];

/// An interpreter in a process.
pub(super) struct Interpreter {
    runtime: u64,
    layout: Layout,
    /// Where each thread was found.
    threads: HashMap<u32, u64>,
}

impl Interpreter {
    /// That of the file that is mapped from `base` on, if it is one.
    pub(super) fn of(memory: &mut Memory<'_>, base: u64, file: &str) -> Option<Self> {
        let exports = Exports::of(memory, base)?;
        let runtime = exports.address(memory, "_PyRuntime")?;
        let minor = |memory: &mut Memory<'_>| {
            let told = exports.address(memory, "Py_Version");
            let told = told.and_then(|at| memory.word(at));
            match told {
                Some(version) => (version >> 24 == 3).then_some((version >> 16) as u32 & 0xff),
                None => minor_of(file),
            }
        };
        Some(Self {
            runtime,
            layout: layout::of(memory, runtime, minor)?,
            threads: HashMap::new(),
        })
    }

    /// What a thread executes, innermost first; `None`: nothing, or that can't be read. `tid`
    /// is what it is called in its own namespace.
    pub(super) fn stack(&mut self, memory: &mut Memory<'_>, tid: u32) -> Option<Vec<Place>> {
        let thread = self.thread(memory, tid)?;
        let layout = self.layout;
        let mut frame = memory.word(thread.checked_add(layout.frame)?)?;
        if let Some(offset) = layout.frame_of_cframe {
            frame = memory.word(frame.checked_add(offset)?)?;
        }
        let mut places = Vec::new();
        for _ in 0..MOST_FRAMES {
            if frame == 0 {
                break;
            }
            let owner = match layout.owner {
                Some(offset) => memory.byte(frame.checked_add(offset)?)?,
                None => 0,
            };
            if owner < NOT_OF_PYTHON {
                places.push(self.place(memory, frame)?);
            }
            frame = memory.word(frame.checked_add(layout.previous)?)?;
        }
        (!places.is_empty()).then_some(places)
    }

    /// The state of a thread.
    fn thread(&mut self, memory: &mut Memory<'_>, tid: u32) -> Option<u64> {
        if let Some(known) = self.threads.get(&tid)
            && self.is_it(memory, *known, tid)
        {
            return Some(*known);
        }
        self.threads.remove(&tid);
        let layout = self.layout;
        let mut interpreter = memory.word(self.runtime.checked_add(layout.interpreters)?)?;
        for _ in 0..MOST_INTERPRETERS {
            if interpreter == 0 {
                break;
            }
            let mut thread = memory.word(interpreter.checked_add(layout.threads)?)?;
            for _ in 0..MOST_THREADS {
                if thread == 0 {
                    break;
                }
                if self.is_it(memory, thread, tid) {
                    self.threads.insert(tid, thread);
                    return Some(thread);
                }
                thread = memory.word(thread.checked_add(layout.next_thread)?)?;
            }
            interpreter = memory.word(interpreter.checked_add(layout.next_interpreter)?)?;
        }
        None
    }

    /// By what the interpreter has noted, or by what the C library has: a child that was
    /// forked can have its parent's in the former.
    fn is_it(&self, memory: &mut Memory<'_>, thread: u64, tid: u32) -> bool {
        let native = self.layout.native_id;
        let native = native.and_then(|offset| memory.word(thread.checked_add(offset)?));
        if native == Some(u64::from(tid)) {
            return true;
        }
        let Some(pthread) = memory.word(thread.wrapping_add(self.layout.thread_id)) else {
            return false;
        };
        let is_it = |offset: &u64| memory.half(pthread.wrapping_add(*offset)) == Some(tid);
        PTHREAD_TIDS.iter().any(is_it)
    }

    fn place(&self, memory: &mut Memory<'_>, frame: u64) -> Option<Place> {
        let layout = &self.layout;
        // In 3.14 the lowest bits say who counts the reference.
        let code = memory.word(frame.checked_add(layout.code)?)? & !3;
        let text_of = |memory: &mut Memory<'_>, offset: u64, most| {
            let text = memory.word(code.checked_add(offset)?)?;
            self.text(memory, text, most)
        };
        let name = text_of(memory, layout.name, MOST_NAME)?;
        let path = text_of(memory, layout.filename, MOST_PATH)?;
        let first = memory.half(code.checked_add(layout.first_line)?)? as i32;
        let line = self.line(memory, frame, code, first);
        let file = path.rsplit('/').next().unwrap_or(&path);
        let file: String = file.chars().take(MOST_NAME).collect();
        let text = match line.filter(|line| *line > 0) {
            Some(line) => format!("{name} ({file}:{line})"),
            None => format!("{name} ({file})"),
        };
        Some(Place {
            text,
            whose: match is_standard_python(&path) {
                true => Whose::Standard,
                false => Whose::Program,
            },
            is_name: true,
        })
    }

    /// The line that a frame is at.
    fn line(&self, memory: &mut Memory<'_>, frame: u64, code: u64, first: i32) -> Option<i32> {
        let layout = &self.layout;
        let at = frame.checked_add(layout.instruction)?;
        let byte = match layout.instructions {
            Some(offset) => {
                let instruction = memory.word(at)?;
                instruction.checked_sub(code.checked_add(offset)?)
            }
            None => {
                let last = u64::try_from(memory.half(at)? as i32).ok();
                last.map(|last| {
                    if layout.counts_instructions {
                        2 * last
                    } else {
                        last
                    }
                })
            }
        };
        // It has not begun.
        let Some(byte) = byte else {
            return Some(first);
        };
        let table = memory.word(code.checked_add(layout.lines)?)?;
        let length = memory.word(table.checked_add(layout.bytes_length)?)?;
        if length > MOST_LINES {
            return None;
        }
        let table = memory.bytes(table.checked_add(layout.bytes)?, length as usize)?;
        lines::line(layout.how, &table, first, byte)
    }

    /// A text of Python; `None`: it is none, or far too long. What is longer than `most`
    /// characters is cut.
    fn text(&self, memory: &mut Memory<'_>, text: u64, most: usize) -> Option<String> {
        let layout = &self.layout;
        let length = memory.word(text.checked_add(layout.text_length)?)?;
        let state = memory.half(text.checked_add(layout.text_state)?)?;
        // How wide a character is, whether the characters follow at once, and whether all of
        // them are ASCII: after two bits, after eight in builds without the interpreter's lock,
        // after 16 in later ones.
        let [kind, is_compact, is_ascii] = [2, 8, 16]
            .map(|shift| state >> shift)
            .map(|bits| [bits & 7, bits >> 3 & 1, bits >> 4 & 1])
            .into_iter()
            .find(|[kind, is_compact, _]| matches!(kind, 1 | 2 | 4) && *is_compact == 1)?;
        if is_compact == 0 || length == 0 || length > MOST_PATH as u64 {
            return None;
        }
        let before = if is_ascii == 1 {
            layout.ascii
        } else {
            layout.others
        };
        let count = (length as usize).min(most);
        let bytes = memory.bytes(text.checked_add(before)?, count * kind as usize)?;
        let number = |bytes: &[u8]| {
            let bytes = bytes.iter().rev();
            bytes.fold(0, |number, byte| number << 8 | u32::from(*byte))
        };
        let chars = bytes.chunks(kind as usize).map(number);
        let chars = chars.map(|number| char::from_u32(number).unwrap_or('\u{fffd}'));
        Some(chars.collect())
    }
}

/// Can the interpreter be in a library with this name? There can be hundreds of modules that are loaded by it
/// (`_socket.cpython-311-x86_64-linux-gnu.so`).
pub(super) fn can_be_in(library: &str) -> bool {
    library.contains("python") && !library.contains(".cpython-")
}

/// The 11 of `libpython3.11.so.1.0` and `python3.11`.
fn minor_of(file: &str) -> Option<u32> {
    let (_, after) = file.split_once("python3.")?;
    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
    after[..digits].parse().ok()
}

/// What a thread is called in each of the namespaces that it is in, the innermost last.
pub(super) fn tids(tid: u32) -> Option<Vec<u32>> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let all = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    all.split_whitespace().map(|tid| tid.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// An interpreter at an address of our own memory, by the layout of 3.11.
    fn interpreter(read: &mut Memory<'_>, memory: &[u64]) -> Interpreter {
        let runtime = memory.as_ptr() as u64;
        let layout = layout::of(read, runtime, |_| Some(11));
        Interpreter {
            runtime,
            layout: layout.expect("it is known"),
            threads: HashMap::new(),
        }
    }

    #[test]
    fn what_makes_no_sense_ends_and_says_nothing() {
        let file = File::open("/proc/self/mem").expect("our memory");
        // Each word leads to the beginning: lists without an end, and a frame that is its own
        // caller with a name that is as long as an address.
        let mut memory = vec![0u64; 64];
        let start = memory.as_ptr() as u64;
        memory.fill(start);
        let mut read = Memory::new(&file, MOST_UNITS);
        let mut circles = interpreter(&mut read, &memory);
        assert!(circles.stack(&mut read, 1).is_none());
        // The same where the thread is found.
        memory[20] = 1;
        let mut read = Memory::new(&file, MOST_UNITS);
        assert!(circles.is_it(&mut read, start, 1));
        assert!(circles.stack(&mut read, 1).is_none());
        // It leads to where nothing is.
        memory.fill(8);
        let mut read = Memory::new(&file, MOST_UNITS);
        let mut nowhere = interpreter(&mut read, &memory);
        assert!(nowhere.stack(&mut read, 1).is_none());
        memory.fill(u64::MAX - 1);
        let mut read = Memory::new(&file, MOST_UNITS);
        assert!(nowhere.stack(&mut read, 1).is_none());
    }

    #[test]
    fn texts_are_read_as_far_as_they_are_texts() {
        let file = File::open("/proc/self/mem").expect("our memory");
        let text = |length: u64, state: u64, bytes: &[u8]| {
            let mut memory = vec![0u64; 40];
            let ascii = state >> 6 & 1 == 1;
            (memory[2], memory[4]) = (length, state);
            let at = if ascii { 6 } else { 9 };
            let (words, _) = bytes.as_chunks();
            for (word, bytes) in memory[at..].iter_mut().zip(words) {
                *word = u64::from_ne_bytes(*bytes);
            }
            let mut read = Memory::new(&file, MOST_UNITS);
            let interpreter = interpreter(&mut read, &memory);
            interpreter.text(&mut read, memory.as_ptr() as u64, 4)
        };
        let compact = |kind: u64| kind << 2 | 1 << 5;
        assert_eq!(
            text(5, compact(1) | 1 << 6, b"fetch   ").as_deref(),
            Some("fetc")
        );
        assert_eq!(text(2, compact(1), b"\xe4b      ").as_deref(), Some("äb"));
        assert_eq!(
            text(2, compact(2), b"\xac\x20b\0    ").as_deref(),
            Some("€b")
        );
        // No character at all.
        let wrong = text(2, compact(4), b"\xff\xff\xff\xffb\0\0\0");
        assert_eq!(wrong.as_deref(), Some("\u{fffd}b"));
        for (length, state) in [
            (0, compact(1)),
            (1 << 40, compact(1)),
            (3, 0),
            (3, u64::MAX),
        ] {
            assert_eq!(text(length, state, b"        "), None);
        }
    }

    #[test]
    fn a_version_is_told_by_the_name_of_a_file() {
        assert_eq!(minor_of("libpython3.9.so.1.0"), Some(9));
        assert_eq!(minor_of("python3.10"), Some(10));
        assert_eq!(minor_of("python3"), None);
        assert_eq!(minor_of("python3.x"), None);
    }
}
