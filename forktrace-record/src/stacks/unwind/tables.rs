//! What a file tells of unwinding, read from the memory of a process that has it mapped: the
//! tables are loaded with the code, and the file's header says where.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    fs::File,
    hash::{Hash as _, Hasher as _},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::Path,
    rc::Rc,
    sync::Arc,
};

use object::{
    Endianness,
    elf::{FileHeader64, PF_W, PF_X, PT_GNU_EH_FRAME, PT_LOAD},
    read::elf::{FileHeader as _, ProgramHeader as _},
};

use super::{
    super::{known::Known as KnownFiles, sections::open},
    debug_frame::InFile,
    unindexed::{self, Part},
};

/// A longer table is read so far only.
const MOST_BYTES: u64 = 64 << 20;
/// A table without an index is looked for in so many bytes.
const MOST_SEARCHED: u64 = 16 << 20;
/// All tables together may take so much, bytes.
const MOST_IN_ALL: usize = 192 << 20;
/// The header and what it tells of segments are in the first page.
const HEAD: usize = 4096;

/// Encodings of pointers (Linux Standard Base, "DWARF Extensions"): 32 bits with sign, from
/// where the pointer is; the same from where the index begins; 32 bits without sign.
const FROM_HERE: u8 = 0x1b;
const FROM_INDEX: u8 = 0x3b;
const COUNT: u8 = 0x03;
/// The index's entries come after its header, its pointer to the table and their number.
const ENTRIES: usize = 12;

/// The tables of a file.
pub(super) struct Tables {
    /// The address that the file's first byte has for it.
    pub(super) first: u64,
    /// Functions by address (`.eh_frame_hdr`).
    pub(super) index: Part,
    /// How each one is unwound (`.eh_frame`).
    pub(super) frames: Part,
}

/// What is known of a file.
#[derive(Clone)]
pub(super) struct Known {
    /// The address that its first byte has for it.
    pub(super) first: u64,
    /// Where the program begins, by the same addresses.
    pub(super) entry: u64,
    /// `None`: it has none.
    pub(super) tables: Option<Arc<Tables>>,
    /// It was linked by Go.
    pub(super) is_go: bool,
}

/// Files by device and inode, and by what they begin with: their build id, as a rule.
#[derive(Default)]
pub(super) struct Files {
    known: HashMap<(u32, u64, u64), Known>,
    bytes: usize,
    /// What is in the files themselves only.
    in_files: KnownFiles<InFile>,
}

impl Files {
    /// What is known of a file that this memory has from `base` on: nothing, if it is no
    /// program, or one of another machine. `None`: nothing can be read there.
    pub(super) fn of(
        &mut self,
        memory: &File,
        base: u64,
        file: (u32, u64),
    ) -> Option<Option<Known>> {
        let head = read(memory, base, HEAD as u64);
        if head.is_empty() {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        head.hash(&mut hasher);
        let key = (file.0, file.1, hasher.finish());
        if let Some(known) = self.known.get(&key) {
            return Some(Some(known.clone()));
        }
        let Some(known) = known(memory, base, &head) else {
            return Some(None);
        };
        if let Some(tables) = &known.tables {
            self.bytes += tables.index.bytes.len() + tables.frames.bytes.len();
        }
        if self.bytes > MOST_IN_ALL {
            self.bytes = 0;
            self.known.clear();
        }
        self.known.insert(key, known.clone());
        Some(Some(known))
    }

    /// What is told in this file, and not in memory, or is found there now.
    pub(super) fn in_file(
        &self,
        path: &Path,
        find: impl FnOnce(&File) -> Option<InFile>,
    ) -> Option<Rc<InFile>> {
        let file = open(path)?;
        self.in_files.of(&file, None, || find(&file))
    }
}

/// As much as can be read from there.
pub(super) fn read(memory: &File, address: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length.min(MOST_BYTES) as usize];
    let mut there = 0;
    while there < bytes.len() {
        match memory.read_at(&mut bytes[there..], address.saturating_add(there as u64)) {
            Ok(0) => break,
            Ok(more) => there += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    bytes.truncate(there);
    bytes
}

fn known(memory: &File, base: u64, head: &[u8]) -> Option<Known> {
    let header = FileHeader64::<Endianness>::parse(head).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, head).ok()?;
    let loaded = segments.iter().filter(|it| it.p_type(endian) == PT_LOAD);
    let first = loaded.clone().find(|it| it.p_offset(endian) == 0)?;
    let first = first.p_vaddr(endian);
    let is_go = has_go_note(head);
    let index = segments
        .iter()
        .find(|it| it.p_type(endian) == PT_GNU_EH_FRAME);
    let indexed = index.and_then(|index| {
        let index = part(memory, base, first, {
            let start = index.p_vaddr(endian);
            start..start.checked_add(index.p_memsz(endian))?
        })?;
        let start = table_of(&index)?;
        // Its length is nowhere said: it goes on to its end mark, or to the segment's.
        let ends = loaded.clone().map(|it| {
            let start = it.p_vaddr(endian);
            start..start.saturating_add(it.p_memsz(endian))
        });
        let end = ends.into_iter().find(|it| it.contains(&start))?.end;
        Some((index, part(memory, base, first, start..end)?))
    });
    let loaded = loaded.map(|it| {
        let start = it.p_vaddr(endian);
        let addresses = start..start.saturating_add(it.p_memsz(endian));
        (addresses, it.p_flags(endian))
    });
    let tables = match indexed {
        None if index.is_none() && !is_go => {
            unindexed(memory, base, first, &loaded.collect::<Vec<_>>())
        }
        indexed => indexed,
    };
    let tables = tables.map(|(index, frames)| {
        Arc::new(Tables {
            first,
            index,
            frames,
        })
    });
    Some(Known {
        first,
        entry: header.e_entry(endian),
        tables,
        is_go,
    })
}

/// An index and a table where the file has no index, by what of it is loaded, with its rights.
fn unindexed(
    memory: &File,
    base: u64,
    first: u64,
    loaded: &[(Range<u64>, u32)],
) -> Option<(Part, Part)> {
    let of = |wanted: u32| {
        let found = loaded.iter();
        let found = found.filter(move |(_, rights)| rights & (PF_X | PF_W) == wanted);
        found.map(|(addresses, _)| addresses.clone())
    };
    let code: Vec<_> = of(PF_X).collect();
    // With older linkers it is where the code is.
    let mut places = of(0).chain(of(PF_X));
    places.find_map(|addresses| {
        let is_short = addresses.end - addresses.start <= MOST_SEARCHED;
        let part = is_short.then(|| part(memory, base, first, addresses))??;
        unindexed::find(&part, &code)
    })
}

/// Go's linker leaves a note with its build id, which begins with the lengths of its name and
/// of the id, its kind, and its name. Notes are at the beginning of a file.
fn has_go_note(head: &[u8]) -> bool {
    let (words, _) = head.as_chunks::<4>();
    let mut notes = words.windows(4);
    notes.any(|note| {
        let [name, _, kind, text] = note else {
            return false;
        };
        (*name, *kind, text) == ([4, 0, 0, 0], [4, 0, 0, 0], b"Go\0\0")
    })
}

fn part(memory: &File, base: u64, first: u64, addresses: Range<u64>) -> Option<Part> {
    let length = addresses.end.checked_sub(addresses.start)?;
    let at = base.wrapping_add(addresses.start.wrapping_sub(first));
    let bytes: Arc<[u8]> = read(memory, at, length).into();
    (!bytes.is_empty()).then_some(Part { addresses, bytes })
}

/// Where the table begins that this is the index of.
fn table_of(index: &Part) -> Option<u64> {
    match (*index.bytes).first_chunk::<8>()? {
        [1, FROM_HERE, _, _, pointer @ ..] => {
            let from = i64::from(i32::from_le_bytes(*pointer));
            index
                .addresses
                .start
                .checked_add(4)?
                .checked_add_signed(from)
        }
        _ => None,
    }
}

impl Tables {
    /// Is this address in a function that they tell of? Where the index is of a form that we
    /// don't read, it is taken for one.
    pub(super) fn tell_of(&self, address: u64) -> bool {
        let Some([1, FROM_HERE, COUNT, FROM_INDEX]) = self.index.bytes.first_chunk() else {
            return true;
        };
        let from_index = |bytes: &[u8], at: usize| {
            let word = bytes.get(at..at + 4)?.first_chunk()?;
            let from = i64::from(i32::from_le_bytes(*word));
            self.index.addresses.start.checked_add_signed(from)
        };
        let entries = self.index.bytes.get(ENTRIES..).unwrap_or_default();
        let (entries, _) = entries.as_chunks::<8>();
        let after = entries
            .partition_point(|entry| from_index(entry, 0).is_some_and(|begins| begins <= address));
        let Some(entry) = after.checked_sub(1).and_then(|at| entries.get(at)) else {
            return false;
        };
        let length = from_index(entry, 0).zip(from_index(entry, 4));
        let length = length.and_then(|(begins, told)| Some((begins, self.length(begins, told)?)));
        length.is_none_or(|(begins, length)| address - begins < u64::from(length))
    }

    /// How long the function is that begins there; `None`: that is written in another way.
    fn length(&self, begins: u64, told_at: u64) -> Option<u32> {
        let at = told_at.checked_sub(self.frames.addresses.start)? as usize;
        // Its own length, the distance to what it has in common with others, the function's
        // beginning and length.
        let word = |n: usize| {
            let bytes = self.frames.bytes.get(at.checked_add(4 * n)?..)?;
            bytes.first_chunk().copied()
        };
        let from = i64::from(i32::from_le_bytes(word(2)?));
        let is_it = told_at.checked_add(8)?.checked_add_signed(from)? == begins;
        is_it.then_some(u32::from_le_bytes(word(3)?))
    }
}
