//! Where a futex is that other processes may share, and which variable one is that they don't.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{process::Folder, variables::Variables};
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
    /// Of shared ones, and of a file's first page.
    path: String,
    /// Memory that has no file and no name.
    nameless: bool,
}

/// A program or library in the memory of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Module<'a> {
    /// Where the first page of its file is.
    base: u64,
    file: (u32, u64),
    path: &'a str,
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

/// Mappings that one file has in a row, at most, that are looked at.
const MOST_OF_FILE: usize = 64;
/// Variables that are remembered, and files.
const MOST_VARIABLES: usize = 1 << 18;
const MOST_FILES: usize = 1 << 8;

/// A file as it was at some time: device and inode, and when it was written last. What is
/// written over in its place is another program under the same inode.
type Version = ((u32, u64), (i64, i64));

/// What programs and libraries call their variables, `None` for those that can't be read.
#[derive(Default)]
pub(super) struct Files(HashMap<Version, Option<Variables>>);

impl Files {
    fn of(&mut self, folder: &Folder, module: Module<'_>) -> Option<&Variables> {
        let known: usize = self.0.values().flatten().map(Variables::len).sum();
        if known > MOST_VARIABLES || self.0.len() >= MOST_FILES {
            self.0.clear();
        }
        let file = folder.mapped_file(module.path, module.file)?;
        let read = || Variables::read(&file.open()?);
        let version = (module.file, file.written);
        self.0.entry(version).or_insert_with(read).as_ref()
    }
}

impl Memories {
    /// The variable that the memory at this address is, and the file name of the program or
    /// library. `None`: it is none, or not to be found out.
    pub(super) fn variable(
        &mut self,
        process: (u32, u32),
        folder: &Folder,
        address: u64,
        round: u64,
        files: &mut Files,
    ) -> Option<(String, String)> {
        self.place(process, folder, address, round)?;
        let module = self.0.get(&process)?.module(address)?;
        let file_name = module.path.rsplit('/').next()?.to_owned();
        let variables = files.of(folder, module)?;
        let name = variables.name(&file_name, module.base, address)?;
        Some((name, file_name))
    }
}

impl Memory {
    /// Whose data the memory at this address is, as far as the mappings tell: what a file
    /// does not fill of its data follows it, without a name.
    fn module(&self, address: u64) -> Option<Module<'_>> {
        let after = self.mappings.partition_point(|m| m.start <= address);
        let mut at = after.checked_sub(1)?;
        let here = self
            .mappings
            .get(at)
            .filter(|m| address < m.end && !m.shared)?;
        if here.file.1 == 0 {
            let before = self.mappings.get(at.checked_sub(1)?)?;
            if !here.nameless || before.end != here.start {
                return None;
            }
            at -= 1;
        }
        let file = self.mappings[at].file;
        let of_file = self.mappings[..=at].iter().rev().take(MOST_OF_FILE);
        let mut of_file = of_file.take_while(|m| m.file == file && file.1 != 0);
        let first = of_file.find(|m| m.offset == 0)?;
        Some(Module {
            base: first.start,
            file,
            path: &first.path,
        })
    }

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
        path: match mapping.shared || mapping.offset == 0 && mapping.file.1 != 0 {
            true => unescape(mapping.path),
            false => String::new(),
        },
        nameless: mapping.path.is_empty(),
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
    fn data_of_a_file_and_what_follows_it_are_its_modules() {
        let maps = "\
55d000000000-55d000001000 r--p 00000000 fe:00 7                     /opt/a\\012b (deleted)
55d000001000-55d000002000 r-xp 00001000 fe:00 7                     /opt/a\\012b (deleted)
55d000002000-55d000003000 rw-p 00001000 fe:00 7                     /opt/a\\012b (deleted)
55d000003000-55d000004000 rw-p 00000000 00:00 0 
55d000005000-55d000006000 rw-p 00000000 00:00 0                     [heap]
7f0000000000-7f0000001000 rw-p 00000000 00:00 0 
7f0000002000-7f0000003000 rw-p 00003000 fe:00 9                     /opt/data
";
        let mappings = parse(maps);
        let memory = Memory { mappings, round: 1 };
        let module = Some(Module {
            base: 0x55d0_0000_0000,
            file: (0xfe << 20, 7),
            path: "/opt/a\nb (deleted)",
        });
        for (address, expected) in [
            (0x55d0_0000_2010, module),
            (0x55d0_0000_3ff8, module),
            (0x55d0_0000_5000, None),
            (0x7f00_0000_0000, None),
            (0x7f00_0000_2000, None),
            (0x55d0_0000_4000, None),
        ] {
            assert_eq!(memory.module(address), expected, "{address:#x}");
        }
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
