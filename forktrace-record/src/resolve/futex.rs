//! Where a futex is that other processes may share.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::process::Folder;
use crate::procfs::{maps::mappings, text::unescape};

/// A mapping of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    shared: bool,
    offset: u64,
    /// Its device and inode.
    file: (u32, u64),
    path: String,
}

/// Where an address is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    /// In the process's own memory.
    Private,
    /// In a file, or in memory that is shared like one.
    Shared {
        device: u32,
        inode: u64,
        offset: u64,
        path: String,
    },
}

struct Memory {
    mappings: Vec<Mapping>,
    /// The round of look-ups in which it was read.
    round: u64,
}

/// Mappings that are remembered, of all processes.
const MOST_MAPPINGS: usize = 1 << 18;

/// The memory maps of processes, by serial and program: read again where an address is
/// in none of the mappings, but once a round at most.
#[derive(Default)]
pub(super) struct Memories(HashMap<(u32, u32), Memory>);

impl Memories {
    /// `None`: there is no such address any more.
    pub(super) fn place(
        &mut self,
        process: (u32, u32),
        folder: &Folder,
        address: u64,
        round: u64,
    ) -> Option<Place> {
        let known = self.0.get(&process);
        if let Some(place) = known.and_then(|memory| memory.place(address)) {
            return Some(place);
        }
        if known.is_some_and(|memory| memory.round >= round) {
            return None;
        }
        let mappings = parse(&folder.read("maps").ok()?);
        let memory = Memory { mappings, round };
        let place = memory.place(address);
        let known: usize = self.0.values().map(|memory| memory.mappings.len()).sum();
        if known + memory.mappings.len() > MOST_MAPPINGS {
            self.0.clear();
        }
        self.0.insert(process, memory);
        place
    }
}

impl Memory {
    fn place(&self, address: u64) -> Option<Place> {
        let after = self.mappings.partition_point(|m| m.start <= address);
        let mapping = &self.mappings[after.checked_sub(1)?];
        if address >= mapping.end {
            return None;
        }
        if !mapping.shared {
            return Some(Place::Private);
        }
        Some(Place::Shared {
            device: mapping.file.0,
            inode: mapping.file.1,
            offset: mapping.offset + (address - mapping.start),
            path: mapping.path.clone(),
        })
    }
}

fn parse(maps: &str) -> Vec<Mapping> {
    let mappings = mappings(maps).map(|mapping| Mapping {
        start: mapping.start,
        end: mapping.end,
        shared: mapping.shared,
        offset: mapping.offset,
        file: mapping.file,
        path: match mapping.shared {
            true => unescape(mapping.path),
            false => String::new(),
        },
    });
    let mut mappings: Vec<_> = mappings.collect();
    mappings.sort_unstable_by_key(|m| m.start);
    mappings
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d0c0a00000-55d0c0a21000 r--p 00000000 fe:00 393301                     /usr/bin/python3.11
7f1c2c000000-7f1c2c021000 rw-p 00000000 00:00 0 
7f1c30000000-7f1c30001000 rw-s 00000000 00:01 2057                       /dev/zero (deleted)
7f1c30002000-7f1c30004000 rw-s 00003000 00:1b 9                          /dev/shm/a b\\012c
7ffd1a2b3000-7ffd1a2d4000 rw-p 00000000 00:00 0                          [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
";

    fn memory() -> Memory {
        let mappings = parse(MAPS);
        assert_eq!(mappings.len(), 6);
        Memory { mappings, round: 1 }
    }

    #[test]
    fn an_address_is_private_or_in_a_file() {
        let memory = memory();
        let shared = |device, inode, offset, path: &str| {
            Some(Place::Shared {
                device,
                inode,
                offset,
                path: path.to_owned(),
            })
        };
        for (address, expected) in [
            (0x7f1c_2c00_0910, Some(Place::Private)),
            (0x55d0_c0a0_0000, Some(Place::Private)),
            (
                0x7f1c_3000_0040,
                shared(1, 2057, 0x40, "/dev/zero (deleted)"),
            ),
            (
                0x7f1c_3000_0fff,
                shared(1, 2057, 0xfff, "/dev/zero (deleted)"),
            ),
            (0x7f1c_3000_3004, shared(27, 9, 0x4004, "/dev/shm/a b\nc")),
            (0x7f1c_3000_1000, None),
            (0, None),
            (u64::MAX, None),
        ] {
            assert_eq!(memory.place(address), expected, "{address:#x}");
        }
    }
}
