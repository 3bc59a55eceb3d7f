//! Memory that processes share.

use std::ops::Range;

use crate::procfs::maps;

/// A file that is mapped: its device and inode.
pub(super) type FileId = (u32, u64);

/// The mappings of a process, as far as they are of use here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Maps {
    /// Those that other processes can have too.
    shared: Vec<(Range<u64>, FileId)>,
    /// The GNU C library is there.
    pub(super) has_glibc: bool,
}

impl Maps {
    /// The file that an address is in, if it is one that others can map; that of
    /// anonymous shared memory is one too.
    pub(super) fn shared_file(&self, address: u64) -> Option<FileId> {
        let here = |(range, _): &&(Range<u64>, FileId)| range.contains(&address);
        Some(self.shared.iter().find(here)?.1)
    }

    /// Does the process share this file?
    pub(super) fn shares(&self, file: FileId) -> bool {
        self.shared.iter().any(|(_, mapped)| *mapped == file)
    }
}

/// Reads `/proc/PID/maps`.
pub(super) fn mappings(text: &str) -> Maps {
    let mut maps = Maps::default();
    for mapping in maps::mappings(text) {
        if mapping.shared {
            let range = mapping.start..mapping.end;
            maps.shared.push((range, mapping.file));
        }
        let name = mapping.path.rsplit_once('/').map_or("", |(_, name)| name);
        maps.has_glibc |= name.starts_with("libc.so.6") || name.starts_with("libc-2.");
    }
    maps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_memory_is_told_by_its_file() {
        let maps = mappings(
            "7f00-7f40 rw-p 00000000 00:00 0 \n\
             7f40-7f80 rw-s 00000000 00:01 12                /memfd:x\n\
             7fa0-7fb0 r-xp 00000000 fe:00 99                /usr/lib/libc.so.6\n\
             odd\n",
        );
        assert_eq!(maps.shared_file(0x7f40), Some((1, 12)));
        assert_eq!(maps.shared_file(0x7f00), None);
        assert_eq!(maps.shared_file(0x7f80), None);
        assert!(maps.shares((1, 12)) && !maps.shares((254 << 20, 99)));
        assert!(maps.has_glibc);
        assert!(!mappings("7f00-7f40 rw-p 00000000 00:00 0 /x/libc.so.6/y\n").has_glibc);
    }
}
