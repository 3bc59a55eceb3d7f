//! `.debug_frame`: how functions are unwound of which nothing is told in memory, as with
//! `-fno-asynchronous-unwind-tables -g` and in the musl that Rust links. It is in the file only, and is gone
//! from one that was stripped.

use std::{fs::File, ops::Range, sync::Arc};

use gimli::{BaseAddresses, CieOrFde, DebugFrame, LittleEndian, UnwindSection as _};
use object::{LittleEndian as LE, elf::SHF_COMPRESSED};

use super::super::sections::{Sections, read};

/// A longer one is not read, bytes.
const MOST_BYTES: u64 = 8 << 20;
/// Before the address of a function there are its length and what it has in common with others.
const BEFORE_ADDRESS: usize = 8;

/// What a file tells in its `.debug_frame`.
pub(super) struct InFile {
    /// The section. What tells of no code is told of the file's first byte.
    pub(super) bytes: Arc<[u8]>,
    /// Functions by the addresses that the file has for itself, in order.
    functions: Vec<Range<u64>>,
}

impl InFile {
    /// Of a file that has code at these of its addresses, and begins at `first`; `None`: it has none.
    pub(super) fn of(file: &File, first: u64, is_code: impl Fn(u64) -> bool) -> Option<Self> {
        let sections = Sections::of(file)?;
        let section = sections.find(b".debug_frame")?;
        let length = section.sh_size.get(LE);
        let is_compressed = section.sh_flags.get(LE) & u64::from(SHF_COMPRESSED) != 0;
        if is_compressed || length > MOST_BYTES {
            return None;
        }
        let bytes = read(file, section.sh_offset.get(LE), length)?;
        Self::in_section(bytes, first, is_code)
    }

    /// Linkers leave functions in it that they have thrown away, at addresses before the program.
    fn in_section(mut bytes: Vec<u8>, first: u64, is_code: impl Fn(u64) -> bool) -> Option<Self> {
        let (mut functions, mut thrown_away) = (Vec::new(), Vec::new());
        let mut section = DebugFrame::new(&bytes, LittleEndian);
        section.set_address_size(size_of::<u64>() as u8);
        let bases = BaseAddresses::default();
        let mut entries = section.entries(&bases);
        while let Some(entry) = entries.next().ok()? {
            let CieOrFde::Fde(function) = entry else {
                continue;
            };
            let common = |_: &_, bases: &_, offset| section.cie_from_offset(bases, offset);
            let function = function.parse(common).ok()?;
            let begins = function.initial_address();
            let ends = begins.checked_add(function.len())?;
            if ends > begins && is_code(begins) && is_code(ends - 1) {
                functions.push(begins..ends);
            } else {
                let at = function.offset().checked_add(BEFORE_ADDRESS)?;
                // A form with longer lengths has it elsewhere: then this is no such table.
                (word(&bytes, at)? == begins).then(|| thrown_away.push(at))?;
            }
        }
        for at in thrown_away {
            bytes[at..at + size_of::<u64>()].copy_from_slice(&first.to_le_bytes());
        }
        functions.sort_unstable_by_key(|it| it.start);
        let bytes = bytes.into();
        (!functions.is_empty()).then_some(Self { bytes, functions })
    }

    /// Is this address in a function that it tells of?
    pub(super) fn tells_of(&self, address: u64) -> bool {
        let after = self.functions.partition_point(|it| it.start <= address);
        let function = after.checked_sub(1).map(|at| &self.functions[at]);
        function.is_some_and(|it| it.contains(&address))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u64 = 0x40_0000;
    const CODE: Range<u64> = 0x40_1000..0x40_2000;

    /// A section of functions with these addresses and lengths.
    fn section(functions: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = 0x14_u32.to_le_bytes().to_vec();
        bytes.extend([
            0xff, 0xff, 0xff, 0xff, 1, 0, 1, 0x78, 16, 0x0c, 7, 8, 0x90, 1,
        ]);
        bytes.resize(0x18, 0);
        for (begins, length) in functions {
            bytes.extend(0x14_u32.to_le_bytes());
            bytes.extend(0_u32.to_le_bytes());
            bytes.extend(begins.to_le_bytes());
            bytes.extend(length.to_le_bytes());
        }
        bytes
    }

    fn in_section(bytes: Vec<u8>) -> Option<InFile> {
        InFile::in_section(bytes, FIRST, |address| CODE.contains(&address))
    }

    #[test]
    fn functions_that_were_thrown_away_are_none() {
        let bytes = section(&[(0x40_1100, 0x20), (0, 0x40), (0x40_1000, 0x10), (1, 0)]);
        let told = in_section(bytes).expect("it tells of two");
        for (address, is_told) in [
            (0, false),
            (8, false),
            (FIRST, false),
            (0x40_0fff, false),
            (0x40_1000, true),
            (0x40_100f, true),
            (0x40_1010, false),
            (0x40_111f, true),
            (0x40_1120, false),
        ] {
            assert_eq!(told.tells_of(address), is_told, "{address:#x}");
        }
        // None of them is before the program's first byte, which whoever unwinds by it asks for.
        let kept = section(&[
            (0x40_1100, 0x20),
            (FIRST, 0x40),
            (0x40_1000, 0x10),
            (FIRST, 0),
        ]);
        assert_eq!(*told.bytes, *kept);
    }

    #[test]
    fn what_makes_no_sense_tells_nothing() {
        assert!(in_section(Vec::new()).is_none());
        assert!(in_section(section(&[])).is_none());
        assert!(in_section(section(&[(0, 0x10)])).is_none());
        assert!(in_section(section(&[(0x40_1000, u64::MAX)])).is_none());
        let whole = section(&[(0x40_1000, 0x10)]);
        for length in 0..whole.len() {
            assert!(in_section(whole[..length].to_vec()).is_none(), "{length}");
        }
    }
}
