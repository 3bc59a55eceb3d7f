//! The sections of a program's file, as far as they are read by us: by `pread`, with bounds.

use std::{
    fs::File,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use object::{
    LittleEndian as LE,
    elf::{ELFCLASS64, ELFDATA2LSB, FileHeader64, SectionHeader64},
    pod::{from_bytes, slice_from_all_bytes},
};

/// A longer file is not read: no program's symbols are that many.
const MOST_ELF_BYTES: u64 = 4 << 30;
/// Sections and segments of a file that are looked at.
pub(super) const MOST_HEADERS: u64 = 4096;
/// Names of sections together are no longer, bytes.
const MOST_TEXTS: u64 = 1 << 20;

/// What a file says of its sections.
pub(super) struct Sections {
    pub(super) head: FileHeader64<LE>,
    headers: Vec<SectionHeader64<LE>>,
    texts: Vec<u8>,
}

impl Sections {
    /// Those of a file; `None`: it has none, or is of another kind of machine.
    pub(super) fn of(file: &File) -> Option<Self> {
        let head = read(file, 0, 64)?;
        let (head, _) = from_bytes::<FileHeader64<LE>>(&head).ok()?;
        let ident = &head.e_ident;
        if (ident.magic, ident.class, ident.data) != (object::elf::ELFMAG, ELFCLASS64, ELFDATA2LSB)
        {
            return None;
        }
        let count = u64::from(head.e_shnum.get(LE)).min(MOST_HEADERS);
        let headers = read(file, head.e_shoff.get(LE), count * 64)?;
        let headers = slice_from_all_bytes::<SectionHeader64<LE>>(&headers).ok()?;
        let texts = headers.get(usize::from(head.e_shstrndx.get(LE)))?;
        let length = texts.sh_size.get(LE).min(MOST_TEXTS);
        Some(Self {
            head: *head,
            texts: read(file, texts.sh_offset.get(LE), length)?,
            headers: headers.to_vec(),
        })
    }

    pub(super) fn all(&self) -> &[SectionHeader64<LE>] {
        &self.headers
    }

    /// The one with this name.
    pub(super) fn find(&self, name: &[u8]) -> Option<&SectionHeader64<LE>> {
        let is_it = |it: &&SectionHeader64<LE>| {
            let text = self.texts.get(it.sh_name.get(LE) as usize..);
            text.is_some_and(|text| text.starts_with(name) && text.get(name.len()) == Some(&0))
        };
        self.headers.iter().find(is_it)
    }
}

/// Opens a file of a process if it is a file, and not too long: nothing that acts when it is opened, or waits.
/// `None`: it is not to be read.
pub(super) fn open(path: &Path) -> Option<File> {
    let mut options = File::options();
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let file = options.read(true).custom_flags(flags);
    let is_plain = |file: &File| {
        let data = file.metadata();
        data.is_ok_and(|data| data.is_file() && data.len() <= MOST_ELF_BYTES)
    };
    let opened = path_is_plain(path).then(|| file.open(path));
    opened.and_then(Result::ok).filter(is_plain)
}

/// Nothing is opened yet.
fn path_is_plain(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|data| data.is_file())
}

/// All of it, or nothing.
pub(super) fn read(file: &File, at: u64, length: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    file.read_exact_at(&mut bytes, at).ok()?;
    Some(bytes)
}
