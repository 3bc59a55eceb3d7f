//! A writer for the archive format that Linux takes as an initramfs ("newc").
//!
//! <https://docs.kernel.org/driver-api/early-userspace/buffer-format.html>

use std::{collections::BTreeSet, path::Path};

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive that is being written. Paths have no leading slash; missing
/// parent folders are added.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    pub(crate) fn directory(&mut self, path: &str) {
        if !path.is_empty() && self.directories.insert(path.to_owned()) {
            self.parents(path);
            self.entry(path, DIRECTORY, (0, 0), &[]);
        }
    }

    /// `permissions` are the lower nine bits of the mode.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.parents(path);
        self.entry(path, REGULAR | permissions, (0, 0), content);
    }

    /// `device` is its major and minor number.
    pub(crate) fn character_device(&mut self, path: &str, device: (u32, u32)) {
        self.parents(path);
        self.entry(path, CHARACTER_DEVICE, device, &[]);
    }

    /// The finished archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn parents(&mut self, path: &str) {
        if let Some(parent) = Path::new(path).parent().and_then(Path::to_str) {
            self.directory(parent);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.inode += 1;
        let size = u32::try_from(content.len()).expect("an initramfs file is below 4 GiB");
        let name_size = u32::try_from(path.len() + 1).expect("a path is below 4 GiB");
        // inode, mode, uid, gid, links, mtime, size, device (2), rdev (2),
        // length of the name, checksum (unused)
        let fields = [
            self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(path.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    /// Header with name, and content, each end on a multiple of four bytes.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_once() {
        let mut archive = Archive::default();
        archive.file("a/b/one", 0o755, b"12345");
        archive.file("a/b/two", 0o644, b"");
        archive.character_device("dev/console", (5, 1));
        assert_eq!(
            names(&archive.finish()),
            [
                "a",
                "a/b",
                "a/b/one",
                "a/b/two",
                "dev",
                "dev/console",
                "TRAILER!!!"
            ]
        );
    }

    /// The names in an archive, found by walking its headers.
    fn names(bytes: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let field = |i: usize| {
                let start = at + 6 + 8 * i;
                let digits = std::str::from_utf8(&bytes[start..start + 8]).unwrap();
                usize::from_str_radix(digits, 16).unwrap()
            };
            let (size, name_size) = (field(6), field(11));
            let name = at + 110;
            names.push(String::from_utf8(bytes[name..name + name_size - 1].to_vec()).unwrap());
            at = (name + name_size).next_multiple_of(4) + size.next_multiple_of(4);
        }
        names
    }
}
