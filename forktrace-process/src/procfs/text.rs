//! What the readers of `/proc` share.

use std::{fs, io, path::Path};

/// The text of a file of `/proc`.
///
/// Names of tasks and files in it are bytes of anybody's
/// choice, and the kernel cuts a task's name at 15 of them, be it amid a character: what is no
/// UTF-8 costs itself only, and not the file.
///
/// # Errors
/// When it can't be read.
pub fn read(path: impl AsRef<Path>) -> io::Result<String> {
    fs::read(path).map(lossy)
}

/// The same of what has been read.
pub fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Some tables of `/proc` write a blank, a tab, a line feed or a backslash as
/// three octal digits: `\040`.
pub fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let Some((&first, rest)) = bytes.split_first() {
        let digits = rest.get(..3).filter(|_| first == b'\\');
        let code = digits
            .filter(|d| d.iter().all(|d| (b'0'..=b'7').contains(d)) && d[0] < b'4')
            .map(|d| d.iter().fold(0, |sum, d| sum << 3 | (d - b'0')));
        match code {
            Some(code) => {
                out.push(code);
                bytes = &rest[3..];
            }
            None => {
                out.push(first);
                bytes = rest;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The value of the first line `key:\tvalue`.
pub fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    fields(text, key).next()
}

/// The values of all lines `key:\tvalue`.
pub fn fields<'a>(text: &'a str, key: &str) -> impl Iterator<Item = &'a str> {
    let value = move |line: &'a str| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim());
    text.lines().filter_map(value)
}

/// A device as the kernel encodes it.
pub fn device(major: u64, minor: u64) -> u32 {
    (major << 20 | minor) as u32
}

/// A device written as `major:minor`, in numbers of this radix.
pub fn parse_device(text: &str, radix: u32) -> Option<u32> {
    let (major, minor) = text.split_once(':')?;
    let number = |text| u64::from_str_radix(text, radix).ok();
    Some(device(number(major)?, number(minor)?))
}

/// A name on one line, without a character that acts on a terminal. The escapes are those of
/// `$'…'` in bash, as in reports.
pub fn on_one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_escapes_become_what_they_stand_for() {
        assert_eq!(unescape(r"/a\040b\012c\134d"), "/a b\nc\\d");
        assert_eq!(unescape(r"/caf\303\251"), "/café");
        for same in [r"/a\", r"/a\04", r"/a\0499", r"/a\777", "/é"] {
            assert_eq!(unescape(same), same);
        }
    }

    #[test]
    fn a_field_is_found_by_its_whole_key() {
        let text = "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t18\n";
        assert_eq!(field(text, "ino"), Some("18"));
        assert_eq!(field(text, "mnt_id"), Some("17"));
        assert_eq!(field(text, "no"), None);
    }

    #[test]
    fn devices_are_encoded_as_the_kernel_does() {
        assert_eq!(parse_device("254:0", 10), Some(254 << 20));
        assert_eq!(parse_device("fe:01", 16), Some(254 << 20 | 1));
        // More than 8 bits of minor number.
        assert_eq!(parse_device("0:300", 10), Some(300));
        assert_eq!(parse_device("254", 10), None);
    }
}
