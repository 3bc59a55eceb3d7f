//! Which line an instruction is of.

use super::layout::Lines;

/// The line of the instruction that begins with this byte of the code. `None`: it has none,
/// or the table does not tell.
pub(super) fn line(how: Lines, table: &[u8], first: i32, byte: u64) -> Option<i32> {
    match how {
        Lines::Lnotab => Some(lnotab(table, first, byte)),
        Lines::Linetable => linetable(table, first, byte),
        Lines::Locations => locations(table, first, byte / 2),
    }
}

/// Pairs: so many bytes of code later the line is so many lines further (Objects/lnotab_notes.txt).
fn lnotab(table: &[u8], first: i32, byte: u64) -> i32 {
    let (mut line, mut at) = (first, 0u64);
    for [bytes, lines] in table.as_chunks().0 {
        at += u64::from(*bytes);
        if at > byte {
            break;
        }
        line = line.wrapping_add(i32::from(*lines as i8));
    }
    line
}

/// Pairs: the line is so many lines further for so many bytes of code; -128: there is none.
fn linetable(table: &[u8], first: i32, byte: u64) -> Option<i32> {
    let (mut line, mut end) = (first, 0u64);
    for [bytes, lines] in table.as_chunks().0 {
        let lines = *lines as i8;
        if lines != i8::MIN {
            line = line.wrapping_add(i32::from(lines));
        }
        end += u64::from(*bytes);
        if byte < end {
            return (lines != i8::MIN).then_some(line);
        }
    }
    None
}

/// Entries of which the first byte alone has its highest bit set. It tells the form of the
/// entry, and for how many instructions it is.
fn locations(table: &[u8], first: i32, instruction: u64) -> Option<i32> {
    let (mut line, mut end) = (first, 0u64);
    let mut rest = table;
    while let [head, after @ ..] = rest {
        let form = (head >> 3) & 15;
        let mut numbers = after;
        let lines = match form {
            10..=12 => i64::from(form - 10),
            13 | 14 => signed(&mut numbers)?,
            _ => 0,
        };
        line = i32::try_from(i64::from(line).checked_add(lines)?).ok()?;
        end += u64::from(head & 7) + 1;
        if instruction < end {
            return (form != 15).then_some(line);
        }
        let next = after.iter().position(|byte| byte & 0x80 != 0);
        rest = &after[next.unwrap_or(after.len())..];
    }
    None
}

/// A number in pieces of 6 bits, the lowest first; bit 6 says that there are more. Its lowest
/// bit is the sign.
fn signed(bytes: &mut &[u8]) -> Option<i64> {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x3f).checked_shl(shift)?;
        shift += 6;
        if byte & 0x40 == 0 {
            break;
        }
        if shift > 30 {
            return None;
        }
    }
    let size = (value >> 1) as i64;
    Some(if value & 1 == 1 { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_in_the_tables_of_each_version() {
        // Of functions that begin at line 1.
        let ask = |how, table: &[u8], bytes: &[u64]| {
            let lines = bytes.iter().map(|byte| line(how, table, 1, *byte));
            lines.collect::<Vec<_>>()
        };
        let lnotab = [0, 1, 4, 1, 6, 1, 16, 1];
        assert_eq!(
            ask(Lines::Lnotab, &lnotab, &[0, 4, 9, 10, 26]),
            [2, 3, 3, 4, 5].map(Some)
        );
        let linetable = [4, 1, 8, 1, 10, 1, 4, 0x80, 6, 1];
        assert_eq!(
            ask(Lines::Linetable, &linetable, &[0, 4, 12, 22, 26, 99]),
            [Some(2), Some(3), Some(4), None, Some(5), None]
        );
        // A short form, one line further with columns, a long form back by two lines, one
        // without columns by 33, and one that has no line.
        let locations = [
            0x80,
            0x10,
            0x80 | 11 << 3 | 1,
            4,
            5,
            0x80 | 14 << 3,
            5,
            0,
            1,
            1,
            0x80 | 13 << 3,
            0x42,
            1,
            0x80 | 15 << 3,
        ];
        assert_eq!(
            ask(Lines::Locations, &locations, &[0, 2, 5, 6, 8, 10, 12]),
            [Some(1), Some(2), Some(2), Some(0), Some(33), None, None]
        );
        for how in [Lines::Lnotab, Lines::Linetable, Lines::Locations] {
            for table in [
                &[][..],
                &[0xff; 3],
                &[0xe8, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f],
            ] {
                line(how, table, i32::MAX, u64::MAX);
            }
        }
    }
}
