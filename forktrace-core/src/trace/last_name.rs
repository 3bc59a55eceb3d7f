//! What is left of the path of a file that was closed before it could be looked at.

use forktrace_common::event::LAST_NAME_BYTES;

/// With this begins a path of which only the last name is known.
pub const FOLDERS_UNKNOWN: &str = "…/";

/// The last name of a path as the kernel program saw it: bytes up to the first 0, cut off
/// where it is longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastName(pub [u8; LAST_NAME_BYTES]);

impl LastName {
    /// A path of which the folders are not known; `None`: its end isn't, either.
    pub fn path(&self) -> Option<String> {
        let Self(bytes) = self;
        let end = bytes.iter().position(|byte| *byte == 0);
        let end = end.unwrap_or(bytes.len());
        if end == 0 {
            return None;
        }
        let name = String::from_utf8_lossy(&bytes[..end]);
        // The kernel's copy ends with a 0 in any case.
        if end + 1 < bytes.len() {
            return Some(format!("{FOLDERS_UNKNOWN}{name}"));
        }
        let whole_letters = name.trim_end_matches(char::REPLACEMENT_CHARACTER);
        Some(format!("{FOLDERS_UNKNOWN}{whole_letters}…"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &[u8]) -> Option<String> {
        let mut bytes = [0; LAST_NAME_BYTES];
        bytes[..name.len()].copy_from_slice(name);
        LastName(bytes).path()
    }

    #[test]
    fn names_are_the_end_of_a_path() {
        assert_eq!(path(b""), None);
        assert_eq!(path(b"a.db").as_deref(), Some("…/a.db"));
        assert_eq!(path(b"a\xff").as_deref(), Some("…/a\u{fffd}"));
        assert_eq!(path(&[b'a'; 30]), Some(format!("…/{}", "a".repeat(30))));
        // Perhaps it is that long, perhaps longer.
        assert_eq!(path(&[b'a'; 31]), Some(format!("…/{}…", "a".repeat(31))));
        let cut_in_a_letter = "ä".repeat(16);
        assert_eq!(
            path(&cut_in_a_letter.as_bytes()[..31]),
            Some(format!("…/{}…", "ä".repeat(15)))
        );
    }
}
