//! Where CPython keeps what, by version.
//!
//! From 3.13 on an interpreter tells that itself, at the beginning of `_PyRuntime`
//! (`_Py_DebugOffsets`: Include/internal/pycore_runtime.h of 3.13, and pycore_debug_offsets.h
//! of 3.14). Before, offsets are those of the structures of each version on machines with
//! 64 bits, as `offsetof` gives them with the headers of 3.8.18, 3.9.18, 3.10.13, 3.11.7 and
//! 3.12.1; they don't change from one patch to the next.

use super::super::memory::Memory;

/// What `_PyRuntime` begins with where it tells of itself.
const COOKIE: &[u8; 8] = b"xdebugpy";

/// How the lines of a function are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lines {
    /// `co_lnotab`, up to 3.9.
    Lnotab,
    /// `co_linetable` of 3.10 (PEP 626).
    Linetable,
    /// `co_linetable` from 3.11 on (Objects/locations.md).
    Locations,
}

/// Offsets in structures, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Of `_PyRuntimeState`: the first interpreter.
    pub(super) interpreters: u64,
    /// Of `PyInterpreterState`: the next one, and its first thread.
    pub(super) next_interpreter: u64,
    pub(super) threads: u64,
    /// Of `PyThreadState`: the next one; what pthread and the kernel call the thread.
    pub(super) next_thread: u64,
    pub(super) thread_id: u64,
    pub(super) native_id: Option<u64>,
    /// What it executes: by a pointer in between in 3.11 and 3.12 (`cframe`).
    pub(super) frame: u64,
    pub(super) frame_of_cframe: Option<u64>,
    /// Of a frame: its code, its caller, and where in its code it is: the number of the
    /// instruction (`f_lasti`), or its address.
    pub(super) code: u64,
    pub(super) previous: u64,
    pub(super) instruction: u64,
    /// Whose the frame is: from 3 on it is none of Python.
    pub(super) owner: Option<u64>,
    /// Of `PyCodeObject`.
    pub(super) filename: u64,
    pub(super) name: u64,
    pub(super) first_line: u64,
    pub(super) lines: u64,
    /// Its instructions.
    pub(super) instructions: Option<u64>,
    pub(super) how: Lines,
    /// `f_lasti` counts instructions, not bytes.
    pub(super) counts_instructions: bool,
    /// Of `PyBytesObject`.
    pub(super) bytes_length: u64,
    pub(super) bytes: u64,
    /// Of a text: its length, what it is, and what texts of ASCII and others begin with.
    pub(super) text_length: u64,
    pub(super) text_state: u64,
    pub(super) ascii: u64,
    pub(super) others: u64,
}

const V3_8: Layout = Layout {
    interpreters: 32,
    next_interpreter: 0,
    threads: 8,
    next_thread: 8,
    thread_id: 176,
    native_id: None,
    frame: 24,
    frame_of_cframe: None,
    code: 32,
    previous: 24,
    instruction: 104,
    owner: None,
    filename: 104,
    name: 112,
    first_line: 40,
    lines: 120,
    instructions: None,
    how: Lines::Lnotab,
    counts_instructions: false,
    bytes_length: 16,
    bytes: 32,
    text_length: 16,
    text_state: 32,
    ascii: 48,
    others: 72,
};

const V3_10: Layout = Layout {
    instruction: 96,
    how: Lines::Linetable,
    counts_instructions: true,
    ..V3_8
};

const V3_11: Layout = Layout {
    interpreters: 40,
    threads: 16,
    thread_id: 152,
    native_id: Some(160),
    frame: 56,
    frame_of_cframe: Some(8),
    previous: 48,
    instruction: 56,
    filename: 112,
    name: 120,
    first_line: 72,
    lines: 136,
    instructions: Some(184),
    how: Lines::Locations,
    ..V3_8
};

const V3_12: Layout = Layout {
    threads: 72,
    thread_id: 136,
    native_id: Some(144),
    frame_of_cframe: Some(0),
    code: 0,
    previous: 8,
    owner: Some(70),
    first_line: 68,
    instructions: Some(192),
    ascii: 40,
    others: 56,
    ..V3_11
};

/// Of an interpreter whose `_PyRuntime` is there; `minor` tells its version where it does not
/// itself. `None`: a version that we don't know.
pub(super) fn of(
    memory: &mut Memory<'_>,
    runtime: u64,
    minor: impl FnOnce(&mut Memory<'_>) -> Option<u32>,
) -> Option<Layout> {
    if memory.bytes(runtime, COOKIE.len())? == COOKIE {
        return told(memory, runtime);
    }
    match minor(memory)? {
        8 | 9 => Some(V3_8),
        10 => Some(V3_10),
        11 => Some(V3_11),
        12 => Some(V3_12),
        _ => None,
    }
}

/// As the interpreter tells.
fn told(memory: &mut Memory<'_>, runtime: u64) -> Option<Layout> {
    let mut word = |n: u64| memory.word(runtime.checked_add(8 * n)?);
    let version = u32::try_from(word(1)?).ok()?;
    let is_later = match version >> 16 {
        0x030d => false,
        0x030e => true,
        _ => return None,
    };
    let more = |n: u64| if is_later { n } else { 0 };
    // Each structure begins with its length. What 3.14 has more of each is at its end.
    let runtime_state = 3;
    let interpreter = runtime_state + 3;
    let thread = interpreter + 13 + more(3);
    let frame = thread + 9;
    let code = frame + 6 + more(2);
    // Objects, types, tuples, lists, sets, dictionaries, numbers.
    let bytes = code + 10 + more(1) + 2 + 4 + 3 + 3 + more(4) + 3 + 2 + 3;
    let text = bytes + 3;
    let mut of = |structure: u64, n: u64| {
        let (length, offset) = (word(structure)?, word(structure + n)?);
        (offset < length && length < 1 << 24).then_some(offset)
    };
    let ascii = {
        // What comes before a text is as long as what it is told of.
        let length = of(text, 3)?;
        (length < 256).then_some(length)?
    };
    Some(Layout {
        interpreters: of(runtime_state, 2)?,
        next_interpreter: of(interpreter, 2)?,
        threads: of(interpreter, 3)?,
        next_thread: of(thread, 2)?,
        thread_id: of(thread, 5)?,
        native_id: Some(of(thread, 6)?),
        frame: of(thread, 4)?,
        frame_of_cframe: None,
        previous: of(frame, 1)?,
        code: of(frame, 2)?,
        instruction: of(frame, 3)?,
        owner: Some(of(frame, 5)?),
        filename: of(code, 1)?,
        name: of(code, 2)?,
        first_line: of(code, 5)?,
        lines: of(code, 4)?,
        instructions: Some(of(code, 9)?),
        bytes_length: of(bytes, 1)?,
        bytes: of(bytes, 2)?,
        text_state: of(text, 1)?,
        text_length: of(text, 2)?,
        ascii,
        others: ascii + 16,
        ..V3_12
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, fs::File};

    use super::*;

    /// What an interpreter tells of itself, in the order of `_Py_DebugOffsets` of 3.14: the members of each
    /// structure behind its length, up to those of texts. `+`: 3.13 does not have it.
    const TOLD: [&str; 16] = [
        "runtime finalizing interpreters_head",
        "interpreter id next threads_head +threads_main gc imports_modules sysdict builtins ceval_gil \
         gil_runtime_state gil_enabled gil_locked gil_holder +code_object_generation +tlbc_generation",
        "thread prev next interp current_frame thread_id native_thread_id datastack_chunk status",
        "frame previous executable instr_ptr localsplus owner +stackpointer +tlbc_index",
        "code filename name qualname linetable firstlineno argcount localsplusnames localspluskinds \
         co_code_adaptive +co_tlbc",
        "object ob_type",
        "type tp_name tp_repr tp_flags",
        "tuple ob_item ob_size",
        "list ob_item ob_size",
        "+set used table mask",
        "dict ma_keys ma_values",
        "float ob_fval",
        "long lv_tag ob_digit",
        "bytes ob_size ob_sval",
        "text state length asciiobject_size",
        "gc collecting",
    ];

    /// What an interpreter of this version tells, and the offset of each member by `structure.member`.
    fn interpreter(version: u64) -> (Vec<u64>, HashMap<String, u64>) {
        let cookie = u64::from_ne_bytes(*COOKIE);
        let (mut words, mut offsets) = (vec![cookie, version << 16, 0], HashMap::new());
        let is_there = |name: &&str| version >= 0x030e || !name.starts_with('+');
        for structure in TOLD.iter().filter(|it| is_there(it)) {
            let mut members = structure.split_whitespace().filter(is_there);
            let name = members.next().expect("a name");
            words.push(4000);
            for member in members {
                // Each another one; a length of the beginning of a text is below 256.
                let offset = words.len() as u64 + 8;
                words.push(offset);
                offsets.insert(format!("{name}.{member}"), offset);
            }
        }
        (words, offsets)
    }

    #[test]
    fn what_an_interpreter_tells_of_itself_is_read_from_where_it_tells_it() {
        let file = File::open("/proc/self/mem").expect("our memory");
        for version in [0x030d, 0x030e] {
            let (words, offsets) = interpreter(version);
            let at = |name: &str| offsets[name];
            let mut memory = Memory::new(&file, 64);
            let layout = of(&mut memory, words.as_ptr() as u64, |_| None);
            let ascii = at("text.asciiobject_size");
            let expected = Layout {
                interpreters: at("runtime.interpreters_head"),
                next_interpreter: at("interpreter.next"),
                threads: at("interpreter.threads_head"),
                next_thread: at("thread.next"),
                thread_id: at("thread.thread_id"),
                native_id: Some(at("thread.native_thread_id")),
                frame: at("thread.current_frame"),
                frame_of_cframe: None,
                code: at("frame.executable"),
                previous: at("frame.previous"),
                instruction: at("frame.instr_ptr"),
                owner: Some(at("frame.owner")),
                filename: at("code.filename"),
                name: at("code.name"),
                first_line: at("code.firstlineno"),
                lines: at("code.linetable"),
                instructions: Some(at("code.co_code_adaptive")),
                how: Lines::Locations,
                counts_instructions: false,
                bytes_length: at("bytes.ob_size"),
                bytes: at("bytes.ob_sval"),
                text_length: at("text.length"),
                text_state: at("text.state"),
                ascii,
                others: ascii + 16,
            };
            assert_eq!(layout, Some(expected), "{version:#x}");
        }
        // A version that nobody knows yet, and lengths that are none.
        let (mut words, _) = interpreter(0x030f);
        let told = |words: &[u64]| {
            let mut memory = Memory::new(&file, 64);
            of(&mut memory, words.as_ptr() as u64, |_| None)
        };
        assert_eq!(told(&words), None);
        words[1] = 0x030e << 16;
        assert!(told(&words).is_some());
        words[3] = 1;
        assert_eq!(told(&words), None);
    }
}
