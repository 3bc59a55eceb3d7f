//! What is told of a stack, once the names of its functions are looked up: which there are,
//! which of them waited, and whether and why it was cut off.

use std::borrow::Cow;

use super::{
    code::{Function, Whose, waits_in},
    unwind::{End, Walk},
};
use crate::trace::Frames;

/// The kernel takes no deeper stacks (`PERF_MAX_STACK_DEPTH`).
const DEEPEST: usize = 127;

/// Functions that a thread begins with, or `main`, below which there is only what calls
/// it. A stack that does not go back to one of them was cut off.
const BEGINNINGS: [&str; 12] = [
    "_start",
    "_dl_start_user",
    "__libc_start_call_main",
    "__libc_start_main",
    "main",
    "clone",
    "clone3",
    "__clone",
    "__clone3",
    "start_thread",
    "thread_start",
    "runtime.goexit",
];

/// Functions of Go that a stack begins with: below them there is the stack of another, which
/// may run by now, or what the thread's creator left in the register.
const GO_BEGINNINGS: [&str; 5] = [
    "runtime.goexit",
    "runtime.mcall",
    "runtime.morestack",
    "runtime.mstart",
    "runtime.rt0_go",
];

/// What the kernel calls on the way to our programs, by how its name begins. How much of
/// it is on top of a stack depends on who else uses the tracepoint.
const TRACEPOINT: [&str; 4] = ["__traceiter_", "__bpf_trace_", "bpf_trace_run", "bpf_prog_"];

/// Why a stack is cut off that was followed by frame pointers.
const TOO_DEEP: &str = "the kernel follows no more functions";
const NO_FRAME_POINTERS: &str = "frame pointers end here";

/// In place of a stack of which no function can be named any more.
pub(super) const GONE: &str = "[process gone]";

/// What is known of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Is(Named),
    /// It has none, so far.
    None,
    /// There is no code: whoever called did not keep a frame pointer, and from here on
    /// it is not a stack.
    NoCode,
}

/// What an address in a function is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) text: String,
    pub(super) whose: Whose,
    /// `app.go:41`, if that was asked for and is known.
    pub(super) line: Option<String>,
}

impl Named {
    pub(super) fn new(text: String, whose: Whose) -> Self {
        Self {
            text,
            whose,
            line: None,
        }
    }
}

/// A function that is shown.
struct Shown<'a> {
    text: Cow<'a, str>,
    line: Option<&'a str>,
    whose: Whose,
    is_named: bool,
}

impl<'a> Shown<'a> {
    fn new(text: &'a str, line: Option<&'a String>, whose: Whose) -> Self {
        Self {
            text: text.into(),
            line: line.map(String::as_str),
            whose,
            is_named: true,
        }
    }
}

/// The functions of a stack, and how many have no name. `name` tells what is known of an
/// address.
pub(super) fn frames<'a>(
    name: impl Fn(u64) -> Option<&'a Name>,
    is_kernel: bool,
    number: u32,
    walk: &'a Walk,
) -> (Frames, usize) {
    let addresses = &*walk.addresses;
    let mut shown: Vec<Shown<'_>> = Vec::with_capacity(addresses.len());
    let mut missing = 0;
    let mut is_whole = addresses.len() < DEEPEST || !walk.places.is_empty();
    for (i, address) in addresses.iter().enumerate() {
        let place = walk.places.get(i);
        let of_file = place.map_or(Whose::Unknown, |place| place.whose);
        match (name(*address), place) {
            (_, Some(place)) if place.is_name => shown.push(Shown::new(&place.text, None, of_file)),
            (Some(Name::NoCode), None) => {
                is_whole = false;
                break;
            }
            (Some(Name::Is(named)), _) => {
                let whose = match of_file {
                    Whose::Unknown => named.whose,
                    known => known,
                };
                shown.push(Shown::new(&named.text, named.line.as_ref(), whose));
            }
            (Some(Name::None | Name::NoCode) | None, place) => {
                missing += 1;
                let text = match place {
                    Some(place) => Cow::Borrowed(&*place.text),
                    None => Cow::Owned(format!("[{address:#x}]")),
                };
                shown.push(Shown {
                    text,
                    line: None,
                    whose: of_file,
                    is_named: false,
                });
            }
        }
    }
    if is_kernel {
        return (of_kernel(number, &shown, !is_whole), missing);
    }
    let is_go = |it: &Shown<'_>| {
        let name = it.text.strip_suffix(".abi0").unwrap_or(&it.text);
        GO_BEGINNINGS.contains(&name)
    };
    let go = shown.iter().position(is_go);
    shown.truncate(go.map_or(usize::MAX, |at| at + 1));
    let cut_off = match &walk.end {
        _ if go.is_some() => false,
        End::Start => false,
        End::Unknown => !is_whole || !begins(&shown),
        End::Cut(_) => true,
    };
    // Where a task is there is code: if not, it has executed another program since. With its
    // places it was followed while it lived.
    let is_gone = match addresses.first().map(|address| name(*address)) {
        None | Some(None) => addresses.iter().all(|address| name(*address).is_none()),
        Some(Some(name)) => *name == Name::NoCode,
    };
    if is_gone && walk.places.is_empty() {
        let frames = Frames {
            number,
            frames: vec![GONE.to_owned()],
            cut_off,
            waits_in: None,
        };
        return (frames, missing);
    }
    let functions = shown.iter().map(|it| Function {
        name: &it.text,
        whose: it.whose,
        is_named: it.is_named,
    });
    let waits_in = waits_in(functions).map(|at| at as u32);
    let mut frames: Vec<String> = shown.iter().map(text).collect();
    if cut_off {
        let why = match &walk.end {
            End::Cut(why) => why,
            _ if addresses.len() >= DEEPEST && walk.places.is_empty() => TOO_DEEP,
            _ => NO_FRAME_POINTERS,
        };
        frames.push(format!("[{why}]"));
    }
    let frames = Frames {
        number,
        frames,
        cut_off,
        waits_in,
    };
    (frames, missing)
}

/// A stack of the kernel, without what it called on the way to our programs.
fn of_kernel(number: u32, shown: &[Shown<'_>], cut_off: bool) -> Frames {
    let ours = |it: &&Shown<'_>| TRACEPOINT.iter().any(|name| it.text.starts_with(name));
    let rest = shown.iter().skip_while(ours);
    Frames {
        number,
        frames: rest.map(text).collect(),
        cut_off,
        waits_in: None,
    }
}

fn text(shown: &Shown<'_>) -> String {
    match shown.line {
        Some(line) => format!("{} ({line})", shown.text),
        None => shown.text.clone().into_owned(),
    }
}

/// Does a stack, innermost function first, go back to where a thread begins?
fn begins(shown: &[Shown<'_>]) -> bool {
    // Below the first function there can be a piece of the loader.
    let last = shown.iter().rev().take(2);
    last.into_iter().any(|it| BEGINNINGS.contains(&&*it.text))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{
        super::{code::of_file, unwind::Place},
        *,
    };

    type Names = HashMap<u64, Name>;

    fn of_program(names: &Names, walk: &Walk) -> (Frames, usize) {
        frames(|address| names.get(&address), false, 0, walk)
    }

    #[test]
    fn a_stack_says_where_its_nameless_functions_are_and_why_it_is_cut() {
        let mut names = HashMap::new();
        names.insert(1, named("read"));
        names.insert(2, Name::None);
        let mut walk = walk(&[1, 2]);
        walk.places = vec![place("libc.so.6", 1), place("a", 2)];
        walk.end = End::Start;
        let (frames, missing) = of_program(&names, &walk);
        assert_eq!(frames.frames, ["read", "[a+0x2]"]);
        assert!(!frames.cut_off && missing == 1);

        walk.end = End::Unknown;
        assert!(of_program(&names, &walk).0.cut_off);
        let mcall = named("runtime.mcall.abi0");
        let none = names.insert(1, mcall);
        let (frames, _) = of_program(&names, &walk);
        assert_eq!(
            frames.frames,
            ["runtime.mcall.abi0"],
            "the rest is of another"
        );
        assert!(!frames.cut_off);
        names.extend(none.map(|name| (1, name)));

        walk.end = End::Cut("no unwind information in a".to_owned());
        let (frames, _) = of_program(&names, &walk);
        let why = "[no unwind information in a]";
        assert_eq!(frames.frames, ["read", "[a+0x2]", why]);
        assert!(frames.cut_off);
    }

    #[test]
    fn what_was_followed_in_a_program_before_another_one_was_executed_has_its_places() {
        let names = HashMap::from([(1, Name::NoCode), (2, Name::NoCode)]);
        let mut walk = walk(&[1, 2]);
        walk.end = End::Start;
        walk.places = vec![place("libc.so.6", 1), place("sh", 2)];
        let (frames, missing) = of_program(&names, &walk);
        assert_eq!(frames.frames, ["[libc.so.6+0x1]", "[sh+0x2]"]);
        assert!(!frames.cut_off && missing == 2);
        // By frame pointers nobody knows.
        walk.places.clear();
        walk.end = End::Unknown;
        assert_eq!(of_program(&names, &walk).0.frames, [GONE]);
    }

    #[test]
    fn the_waiting_code_is_told_by_files_and_by_what_an_interpreter_executes() {
        let mut names = HashMap::new();
        names.insert(1, named("read"));
        names.insert(3, named("main"));
        let mut walk = walk(&[1, 2, 3]);
        let waits_in = |names: &Names, walk: &Walk| of_program(names, walk).0.waits_in;
        walk.places = vec![place("libc.so.6", 1), place("a", 2), place("a", 3)];
        assert_eq!(waits_in(&names, &walk), Some(1));
        walk.places[1] = place("libuv.so.1", 2);
        assert_eq!(waits_in(&names, &walk), Some(2));
        // What an interpreter executes has no address, whatever else is at that number.
        names.insert(0, Name::NoCode);
        walk.addresses[1] = 0;
        walk.places[1] = Place {
            text: "fetch (app.py:41)".to_owned(),
            whose: Whose::Program,
            is_name: true,
        };
        let (frames, missing) = of_program(&names, &walk);
        assert_eq!(frames.frames, ["read", "fetch (app.py:41)", "main"]);
        assert_eq!((frames.waits_in, missing), (Some(1), 0));
    }

    #[test]
    fn a_function_has_its_line_where_that_is_known() {
        let named = Named {
            line: Some("app.go:7".to_owned()),
            ..Named::new("main.run".to_owned(), Whose::Program)
        };
        let names = HashMap::from([(1, Name::Is(named))]);
        let walk = Walk {
            end: End::Start,
            ..walk(&[1])
        };
        let (frames, missing) = of_program(&names, &walk);
        assert_eq!(frames.frames, ["main.run (app.go:7)"]);
        assert_eq!((frames.waits_in, missing), (Some(0), 0));
    }

    fn named(name: &str) -> Name {
        Name::Is(Named::new(name.to_owned(), Whose::Unknown))
    }

    fn place(file: &str, at: u64) -> Place {
        Place {
            text: format!("[{file}+{at:#x}]"),
            whose: of_file(file),
            is_name: false,
        }
    }

    fn walk(addresses: &[u64]) -> Walk {
        Walk {
            addresses: addresses.to_vec(),
            ..Walk::default()
        }
    }
}
