//! Tables of unwinding without an index: programs that are linked statically for a fixed address
//! have `.eh_frame` in memory, but nothing that is loaded says where. It is looked for: it begins with
//! what its functions have in common, leads from one entry to the next up to its end mark, and all its
//! functions are where the program's code is. Nothing else does all that.

use std::{ops::Range, sync::Arc};

use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, UnwindSection as _};

/// A part of a file, by the addresses that the file has for itself.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) addresses: Range<u64>,
    pub(super) bytes: Arc<[u8]>,
}

/// So an entry goes on that tells what functions have in common, after its length: the mark of such
/// ones, its version, and what says that more is told of each.
const COMMON: [u8; 6] = [0, 0, 0, 0, 1, b'z'];
/// Places that look like the beginning of a table.
const MOST_TRIED: usize = 16;
/// Lengths of 64 bits are said to be so.
const IS_LONG: u32 = u32::MAX;

/// The index that is not there, and the table, if this part of a file has one of functions in that
/// code. The index is as a linker would have made it, at an address behind the table.
pub(super) fn find(part: &Part, code: &[Range<u64>]) -> Option<(Part, Part)> {
    let places = part.bytes.windows(COMMON.len()).enumerate();
    let places = places.filter(|(_, bytes)| *bytes == COMMON);
    let starts = places.filter_map(|(at, _)| at.checked_sub(4));
    starts
        .take(MOST_TRIED)
        .find_map(|start| table(part, start, code))
}

fn table(part: &Part, start: usize, code: &[Range<u64>]) -> Option<(Part, Part)> {
    let length = length(&part.bytes[start..])?;
    let begins = part.addresses.start.checked_add(start as u64)?;
    let ends = begins.checked_add(length as u64)?;
    let frames = Part {
        addresses: begins..ends,
        bytes: part.bytes[start..start + length].into(),
    };
    let functions = functions(&frames, code)?;
    // Its own addresses are 32 bits from where it is.
    let from = |address: u64| i32::try_from(address.wrapping_sub(ends) as i64).ok();
    let mut index = vec![1, 0x1b, 0x03, 0x3b];
    let table = from(begins)?.checked_sub(4)?;
    index.extend(table.to_le_bytes());
    index.extend(u32::try_from(functions.len()).ok()?.to_le_bytes());
    for (begins, told) in functions {
        index.extend(from(begins)?.to_le_bytes());
        index.extend(from(told)?.to_le_bytes());
    }
    let index = Part {
        addresses: ends..ends.checked_add(index.len() as u64)?,
        bytes: index.into(),
    };
    Some((index, frames))
}

/// Up to its end mark; `None`: it does not come to one.
fn length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let length = u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
        match length {
            0 => return Some(at),
            IS_LONG => return None,
            _ => at = at.checked_add(4)?.checked_add(length as usize)?,
        }
    }
}

/// Where each function begins and is told of, by address; `None`: that is no table, or none of
/// functions in this code.
fn functions(frames: &Part, code: &[Range<u64>]) -> Option<Vec<(u64, u64)>> {
    let begins = frames.addresses.start;
    let bases = BaseAddresses::default().set_eh_frame(begins);
    let section = EhFrame::new(&frames.bytes, LittleEndian);
    let mut entries = section.entries(&bases);
    let mut functions = Vec::new();
    while let Some(entry) = entries.next().ok()? {
        let CieOrFde::Fde(function) = entry else {
            continue;
        };
        let common = |_: &_, bases: &_, offset| section.cie_from_offset(bases, offset);
        let function = function.parse(common).ok()?;
        let first = function.initial_address();
        if function.len() == 0 {
            continue;
        }
        let last = first.checked_add(function.len() - 1)?;
        if !code
            .iter()
            .any(|it| it.contains(&first) && it.contains(&last))
        {
            return None;
        }
        functions.push((first, begins + function.offset() as u64));
    }
    functions.sort_unstable();
    (!functions.is_empty()).then_some(functions)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGINS: u64 = 0x48_d000;
    const CODE: Range<u64> = 0x40_1000..0x40_2000;
    /// Without the second function.
    const LESS: Range<u64> = 0x40_1000..0x40_1100;

    /// A table of two functions, at this address.
    fn table_at(at: u64) -> Vec<u8> {
        let mut bytes = vec![
            0x14, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1b,
        ];
        bytes.resize(0x18, 0);
        for (begins, length) in [(0x40_1100_u64, 0x20_u32), (0x40_1000, 0x100)] {
            let own = bytes.len() as u32;
            bytes.extend(0x14_u32.to_le_bytes());
            bytes.extend((own + 4).to_le_bytes());
            let from = begins.wrapping_sub(at + u64::from(own) + 8) as i32;
            bytes.extend(from.to_le_bytes());
            bytes.extend(length.to_le_bytes());
            bytes.resize(own as usize + 0x18, 0);
        }
        bytes.extend([0; 4]);
        bytes
    }

    fn part(bytes: Vec<u8>) -> Part {
        Part {
            addresses: BEGINS..BEGINS + bytes.len() as u64,
            bytes: bytes.into(),
        }
    }

    #[test]
    fn a_table_is_found_among_other_data_and_its_functions_are_put_in_order() {
        // What looks like its beginning, and leads nowhere.
        let mut bytes = vec![0x14, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 0xff, 0xff];
        bytes.resize(0x40, 0xff);
        bytes.extend(table_at(BEGINS + 0x40));
        bytes.extend([7; 30]);
        let (index, frames) = find(&part(bytes), &[CODE]).expect("it is there");
        let begins = BEGINS + 0x40;
        assert_eq!(frames.addresses, begins..begins + 0x48);
        let word = |n: usize| {
            let word = index.bytes[4 * n..4 * n + 4].first_chunk();
            i64::from(i32::from_le_bytes(*word.expect("four bytes")))
        };
        let address = |n| index.addresses.start.checked_add_signed(word(n));
        assert_eq!(address(1).map(|it| it + 4), Some(begins));
        assert_eq!(word(2), 2);
        let told: Vec<_> = (3..7).map(|n| address(n).expect("an address")).collect();
        assert_eq!(told, [0x40_1000, begins + 0x30, 0x40_1100, begins + 0x18]);
        assert_eq!(index.bytes.len(), 4 * 7);
    }

    #[test]
    fn what_is_no_table_of_this_code_is_none() {
        let whole = table_at(BEGINS);
        assert!(find(&part(whole.clone()), &[CODE]).is_some());
        assert!(find(&part(whole.clone()), &[LESS]).is_none());
        assert!(find(&part(whole.clone()), &[]).is_none());
        for length in 0..whole.len() - 1 {
            assert!(find(&part(whole[..length].to_vec()), &[CODE]).is_none());
        }
    }
}
