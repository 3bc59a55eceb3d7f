//! Whether older kernels (6.1 is one, 6.12 none) take the object's loops. Their verifier begins with a
//! depth-first walk in which a loop has to be closed by a jump: where an instruction that is
//! none just falls into the head of its loop, it refuses the program with `back-edge from
//! insn A to B` (`check_cfg` in kernel/bpf/verifier.c of Linux 6.1). Which way round the
//! compiler lays a loop out changes with its neighbours.

use anyhow::{Context as _, Result, ensure};
use object::{
    Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind,
    read::elf::ElfFile64,
};

const INSTRUCTION: usize = 8;

/// Classes and operations of instructions (include/uapi/linux/bpf_common.h and bpf.h).
const CLASS: u8 = 0x07;
const JUMP: u8 = 0x05;
const JUMP_32: u8 = 0x06;
const OPERATION: u8 = 0xf0;
const ALWAYS: u8 = 0x00;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;

/// Fails if a function of the object has a loop that those kernels refuse.
pub(super) fn check(object: &[u8]) -> Result<()> {
    let file = ElfFile64::<Endianness>::parse(object).context("the object is no ELF file")?;
    let mut functions = 0;
    for symbol in file.symbols().filter(|s| s.kind() == SymbolKind::Text) {
        let Some(index) = symbol.section_index() else {
            continue;
        };
        let section = file.section_by_index(index)?;
        let from = symbol.address() as usize;
        let to = from + symbol.size() as usize;
        let name = symbol.name()?;
        let code = section.data()?.get(from..to);
        let code = code.with_context(|| format!("{name} is not whole in the object"))?;
        functions += usize::from(!code.is_empty());
        if let Some((at, head)) = falls_into_loop(code) {
            anyhow::bail!(
                "older kernels refuse {name}: its instruction {at} falls into {head}, the head \
                 of a loop that it is in; write the loop so that a jump closes it"
            );
        }
    }
    ensure!(functions > 0, "the object has no functions");
    Ok(())
}

/// An instruction that is no jump, and the head of a loop that it falls into.
fn falls_into_loop(code: &[u8]) -> Option<(usize, usize)> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        /// On the way that the walk took to where it is; so many of its edges were taken.
        OnTheWay(usize),
        Done,
    }
    let count = code.len() / INSTRUCTION;
    let mut states = vec![State::New; count];
    let mut way: Vec<usize> = Vec::new();
    if count > 0 {
        (states[0], way) = (State::OnTheWay(0), vec![0]);
    }
    while let Some(&at) = way.last() {
        let (edges, is_jump) = edges(code, at);
        let State::OnTheWay(taken) = states[at] else {
            break;
        };
        let Some(Some(next)) = edges.get(taken) else {
            states[at] = State::Done;
            way.pop();
            continue;
        };
        states[at] = State::OnTheWay(taken + 1);
        match states.get(*next) {
            Some(State::New) => {
                states[*next] = State::OnTheWay(0);
                way.push(*next);
            }
            Some(State::OnTheWay(_)) if !is_jump => return Some((at, *next)),
            // Out of the function: nothing that this is about.
            _ => {}
        }
    }
    None
}

/// Where control goes from an instruction, in the order in which the walk goes there, and
/// whether it may close a loop.
fn edges(code: &[u8], at: usize) -> ([Option<usize>; 2], bool) {
    let instruction = &code[at * INSTRUCTION..][..INSTRUCTION];
    let operation = instruction[0] & OPERATION;
    let offset = i16::from_le_bytes([instruction[2], instruction[3]]);
    let target = || (at + 1).checked_add_signed(offset.into());
    match instruction[0] & CLASS {
        JUMP if operation == EXIT => ([None, None], true),
        JUMP if operation == ALWAYS => ([target(), None], true),
        JUMP | JUMP_32 if operation != CALL => ([Some(at + 1), target()], true),
        _ => ([Some(at + 1), None], false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(instructions: &[(u8, i16)]) -> Vec<u8> {
        let encode = |(operation, offset): &(u8, i16)| {
            let [low, high] = offset.to_le_bytes();
            [*operation, 0, low, high, 0, 0, 0, 0]
        };
        instructions.iter().flat_map(encode).collect()
    }

    const ADD: (u8, i16) = (0x07, 0);
    const RETURN: (u8, i16) = (0x95, 0);
    const IF_EQUAL: u8 = 0x15;

    #[test]
    fn a_loop_is_closed_by_a_jump() {
        // do { a } while (…)
        let good = code(&[ADD, ADD, (IF_EQUAL, -2), RETURN]);
        assert_eq!(falls_into_loop(&good), None);
        // goto head; step: a; head: b; if … goto step
        let bad = code(&[(0x05, 1), ADD, ADD, (IF_EQUAL, -3), RETURN]);
        assert_eq!(falls_into_loop(&bad), Some((1, 2)));
        assert_eq!(falls_into_loop(&[]), None);
    }

    #[test]
    fn a_call_does_not_close_one() {
        let bad = code(&[(0x05, 1), (0x85, 0), ADD, (IF_EQUAL, -3), RETURN]);
        assert_eq!(falls_into_loop(&bad), Some((1, 2)));
    }

    #[test]
    fn the_committed_object_has_no_such_loop() {
        let object = crate::util::root()
            .expect("the tree")
            .join(crate::ebpf::OBJECT);
        check(&std::fs::read(object).expect("the object")).expect("loops of old kernels");
    }
}
