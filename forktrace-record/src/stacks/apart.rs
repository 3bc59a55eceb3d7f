//! Symbols of programs that were stripped, in files of their own, as distributions have them (Debian's
//! `-dbgsym` and `libc6-dbg`): by build id, among the files that the process itself sees.

use std::{
    ffi::{OsStr, OsString},
    fmt::Write as _,
    fs::File,
    path::{Path, PathBuf},
    rc::Rc,
};

use blazesym::{
    helper::ElfResolver,
    symbolize::{FindSymOpts, Reason, ResolvedSym, Symbolize, TranslateFileOffset},
};
use object::LittleEndian as LE;

use super::{
    known::Known,
    sections::{Sections, open, read},
};

/// Where they are (GDB's manual, "Separate Debug Files").
const FOLDER: &str = "usr/lib/debug/.build-id";
/// A longer build id is none, bytes.
const LONGEST_ID: usize = 64;
/// The note's kind (`NT_GNU_BUILD_ID`).
const BUILD_ID: u32 = 3;

/// A program, and its symbols.
struct Program {
    own: ElfResolver,
    symbols: ElfResolver,
    /// What the program is called.
    path: OsString,
}

/// The same, which is in several processes.
pub(super) struct Apart(Rc<Program>);

/// The programs of which the symbols are apart.
#[derive(Default)]
pub(super) struct Stripped(Known<Program>);

impl Stripped {
    /// Of this file of a process, which can be opened by that path as well
    /// (`/proc/PID/map_files/…`); `None`: it has its symbols, or there are none.
    pub(super) fn of(&self, file: &File, path: &Path, name: &OsStr) -> Option<Apart> {
        // Of the file of a process: `/proc/PID/map_files/…`.
        let process = path.parent()?.parent()?;
        let folder = process.join("root").join(FOLDER);
        let program = self.0.of(file, Some(&folder), || {
            let of_program = Sections::of(file)?;
            if of_program.find(b".symtab").is_some() {
                return None;
            }
            let id = build_id(file, &of_program)?;
            let apart = folder.join(place(&id)?);
            // One that is there by that name, and is of another program, tells of that one.
            let there = open(&apart)?;
            if build_id(&there, &Sections::of(&there)?)? != id {
                return None;
            }
            Some(Program {
                own: ElfResolver::open(path).ok()?,
                symbols: ElfResolver::open(&apart).ok()?,
                path: name.to_owned(),
            })
        });
        program.map(Apart)
    }
}

/// `93/ac61….debug`, in the folder that they are in.
fn place(id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = id.split_first()?;
    let mut name = format!("{first:02x}/");
    for byte in rest {
        // Writing to a string does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    Some(PathBuf::from(name + ".debug"))
}

/// A note has the length of its name and of the id, its kind, its name, and the id.
fn build_id(file: &File, sections: &Sections) -> Option<Vec<u8>> {
    let note = sections.find(b".note.gnu.build-id")?;
    let length = note.sh_size.get(LE).min(16 + LONGEST_ID as u64);
    let note = read(file, note.sh_offset.get(LE), length)?;
    let word = |at: usize| Some(u32::from_le_bytes(*note.get(at..)?.first_chunk()?));
    let is_it = (word(0)?, word(8)?, note.get(12..16)?) == (4, BUILD_ID, b"GNU\0");
    let id = note.get(16..)?.get(..word(4)? as usize)?;
    (is_it && id.len() > 1).then(|| id.to_vec())
}

impl std::fmt::Debug for Apart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Apart").field(&self.0.path).finish()
    }
}

impl Symbolize for Apart {
    /// By the names that the program exports, where it does: of several that a function has
    /// these are those that it is called by.
    fn find_sym(
        &self,
        address: u64,
        options: &FindSymOpts,
    ) -> blazesym::Result<Result<ResolvedSym<'_>, Reason>> {
        let Program { own, symbols, path } = &*self.0;
        let found = match own.find_sym(address, options) {
            Ok(Ok(exported)) => Ok(exported),
            _ => symbols.find_sym(address, options)?,
        };
        Ok(found.map(|mut symbol| {
            symbol.module = Some(path.as_os_str());
            symbol
        }))
    }
}

impl TranslateFileOffset for Apart {
    fn file_offset_to_virt_offset(&self, offset: u64) -> blazesym::Result<Option<u64>> {
        self.0.own.file_offset_to_virt_offset(offset)
    }
}
