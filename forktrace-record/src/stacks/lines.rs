//! Source lines of programs that were built with debug information: of that only
//! `.debug_line`, which is enough to tell file and line of an instruction. What is
//! compressed, or in a file of its own, is not read.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    path::Path,
    rc::Rc,
};

use blazesym::{
    helper::ElfResolver,
    symbolize::{CodeInfo, FindSymOpts, Reason, ResolvedSym, Symbolize, TranslateFileOffset},
};
use gimli::{
    AttributeValue, DebugLine, DebugLineOffset, DebugLineStr, EndianSlice, IncompleteLineProgram,
    LittleEndian,
};
use object::{
    LittleEndian as LE,
    elf::{SHF_COMPRESSED, SHT_PROGBITS},
};

use super::{
    known::Known,
    sections::{Sections, read},
};

/// A longer table, or longer names of files, are not read, bytes.
const MOST_BYTES: u64 = 64 << 20;
/// Addresses in tables are so long where these don't say it.
const ADDRESS_BYTES: u8 = 8;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// The lines of a program.
struct Table {
    /// `.debug_line` and `.debug_line_str`.
    bytes: Vec<u8>,
    texts: Vec<u8>,
    /// By where they begin.
    sequences: Vec<Sequence>,
}

/// Instructions that follow each other.
struct Sequence {
    begins: u64,
    ends: u64,
    /// Where in the table the program is that makes its lines.
    program: usize,
}

impl Table {
    fn of(file: &File) -> Option<Self> {
        let sections = Sections::of(file)?;
        let bytes = |name: &[u8]| {
            let it = sections.find(name)?;
            let is_plain = it.sh_type.get(LE) == SHT_PROGBITS
                && it.sh_flags.get(LE) & u64::from(SHF_COMPRESSED) == 0
                && it.sh_size.get(LE) <= MOST_BYTES;
            is_plain.then(|| read(file, it.sh_offset.get(LE), it.sh_size.get(LE)))?
        };
        let texts = bytes(b".debug_line_str").unwrap_or_default();
        Self::new(bytes(b".debug_line")?, texts)
    }

    /// `None`: there are no lines.
    fn new(bytes: Vec<u8>, texts: Vec<u8>) -> Option<Self> {
        let mut sequences = Vec::new();
        let mut at = 0;
        while let Some(program) = program(&bytes, at) {
            let header = program.header();
            let length = usize::from(header.format().initial_length_size());
            let next = at.checked_add(length)?.checked_add(header.unit_length())?;
            // One that makes no sense has none, and the next one can be read.
            let all = program.sequences().map(|(_, all)| all).unwrap_or_default();
            // What the linker left out begins at 0.
            let all = all.iter().filter(|it| it.start != 0 && it.start < it.end);
            sequences.extend(all.map(|it| Sequence {
                begins: it.start,
                ends: it.end,
                program: at,
            }));
            at = next;
        }
        sequences.sort_unstable_by_key(|it| it.begins);
        let table = Self {
            bytes,
            texts,
            sequences,
        };
        (!table.sequences.is_empty()).then_some(table)
    }

    /// The name of the file, and the line, of the instruction at an address that the program's
    /// file has for it.
    fn line(&self, address: u64) -> Option<(&str, u32)> {
        let after = self.sequences.partition_point(|it| it.begins <= address);
        let sequence = self.sequences.get(after.checked_sub(1)?)?;
        if address >= sequence.ends {
            return None;
        }
        let mut rows = program(&self.bytes, sequence.program)?.rows();
        // File and line of the row before, and where it begins.
        let mut before: Option<(u64, u64, u32)> = None;
        let (file, line) = loop {
            let (_, row) = rows.next_row().ok()??;
            if let Some((begins, file, line)) = before
                && (begins..row.address()).contains(&address)
            {
                break (file, line);
            }
            let line = row.line().map_or(0, |line| line.get());
            let here = (row.address(), row.file_index(), u32::try_from(line).ok()?);
            before = (!row.end_sequence()).then_some(here);
        };
        let name = match rows.header().file(file)?.path_name() {
            AttributeValue::String(name) => name.slice(),
            AttributeValue::DebugLineStrRef(at) => {
                let texts = DebugLineStr::new(&self.texts, LittleEndian);
                texts.get_str(at).ok()?.slice()
            }
            _ => return None,
        };
        // 0: the instruction is of no line.
        (line > 0).then_some((std::str::from_utf8(name).ok()?, line))
    }
}

/// The program that begins there; `None`: there is none, or one of a form that is not known.
fn program(bytes: &[u8], at: usize) -> Option<IncompleteLineProgram<Slice<'_>>> {
    let table = DebugLine::new(bytes, LittleEndian);
    let at = Some(at).filter(|at| *at < bytes.len())?;
    let program = table.program(DebugLineOffset(at), ADDRESS_BYTES, None, None);
    program.ok()
}

/// A program with symbols and lines.
struct Program {
    symbols: ElfResolver,
    lines: Table,
    /// What the file is called.
    path: OsString,
}

/// The same, which is in several processes.
pub(super) struct WithLines(Rc<Program>);

/// The programs that lines are known of; nothing of those that have none.
#[derive(Default)]
pub(super) struct Lines(Known<Program>);

impl Lines {
    /// Of this file, which can be opened by that path as well; `None`: it has none.
    pub(super) fn of(&self, file: &File, path: &Path, name: &OsStr) -> Option<WithLines> {
        let program = self.0.of(file, None, || {
            let lines = Table::of(file)?;
            let symbols = ElfResolver::open(path).ok()?;
            Some(Program {
                symbols,
                lines,
                path: name.to_owned(),
            })
        });
        program.map(WithLines)
    }
}

impl std::fmt::Debug for WithLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WithLines").field(&self.0.path).finish()
    }
}

impl Symbolize for WithLines {
    fn find_sym(
        &self,
        address: u64,
        options: &FindSymOpts,
    ) -> blazesym::Result<Result<ResolvedSym<'_>, Reason>> {
        let Program {
            symbols,
            lines,
            path,
        } = &*self.0;
        let found = symbols.find_sym(address, options)?;
        Ok(found.map(|mut symbol| {
            symbol.module = Some(path.as_os_str());
            let line = lines.line(address);
            symbol.code_info = line.map(|(file, line)| at_line(file, line));
            symbol
        }))
    }
}

/// A line of a source file, as blazesym tells it.
pub(super) fn at_line(file: &str, line: u32) -> Box<CodeInfo<'_>> {
    Box::new(CodeInfo {
        dir: None,
        file: OsStr::new(file).into(),
        line: Some(line),
        column: None,
        _non_exhaustive: (),
    })
}

impl TranslateFileOffset for WithLines {
    fn file_offset_to_virt_offset(&self, offset: u64) -> blazesym::Result<Option<u64>> {
        self.0.symbols.file_offset_to_virt_offset(offset)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const SOURCE: &str = "\
int twice(int n)
{
    return n
        + n;
}

int main(void) { return twice(0); }
";

    /// Compiles the source with lines of this version; `None`: there is no compiler.
    fn compiled(folder: &Path, version: &str) -> Option<File> {
        let (source, program) = (folder.join("twice.c"), folder.join("twice"));
        std::fs::write(&source, SOURCE).expect("a file");
        let mut gcc = Command::new("gcc");
        gcc.args(["-O1", "-fno-inline", version, "-o"])
            .args([&program, &source]);
        match gcc.output() {
            Ok(output) => assert!(output.status.success(), "{output:?}"),
            Err(_) => return None,
        }
        Some(File::open(program).expect("it was compiled"))
    }

    #[test]
    fn an_instruction_has_its_line_in_tables_of_either_form() {
        let folder = tempfile::tempdir().expect("a folder");
        for version in ["-gdwarf-4", "-gdwarf-5"] {
            let Some(file) = compiled(folder.path(), version) else {
                return;
            };
            let path = folder.path().join("twice");
            let known = Lines::default();
            let lines = known.of(&file, &path, OsStr::new("/a/twice"));
            let lines = lines.expect("it has lines");
            let table = &lines.0.lines;
            let all = table.sequences.iter().flat_map(|it| it.begins..it.ends);
            let all: Vec<_> = all.filter_map(|at| table.line(at)).collect();
            for line in [4, 5, 7] {
                assert!(all.contains(&("twice.c", line)), "{version}: {all:?}");
            }
            assert!(all.iter().all(|(_, line)| (1..=7).contains(line)));
            let begins = table.sequences[0].begins;
            let symbol = lines.find_sym(begins, &FindSymOpts::CodeInfo);
            let symbol = symbol.expect("it is read").expect("it has a name");
            assert!(["main", "twice"].contains(&symbol.name), "{symbol:?}");
            assert_eq!(symbol.module, Some(OsStr::new("/a/twice")));
            assert!(symbol.code_info.is_some());
            assert_eq!(table.line(table.sequences[0].ends), None);
            assert_eq!(table.line(0), None);
        }
        let Some(file) = compiled(folder.path(), "-g0") else {
            return;
        };
        let path = folder.path().join("twice");
        assert!(Lines::default().of(&file, &path, OsStr::new("")).is_none());
    }

    #[test]
    fn odd_tables_say_what_they_can() {
        let folder = tempfile::tempdir().expect("a folder");
        let Some(file) = compiled(folder.path(), "-gdwarf-5") else {
            return;
        };
        let whole = Table::of(&file).expect("it has lines");
        let changes: [fn(u8) -> u8; 3] = [|_| 0, |_| 0xff, |byte| byte ^ 1];
        for at in 0..whole.bytes.len() {
            for change in changes {
                let mut bytes = whole.bytes.clone();
                bytes[at] = change(bytes[at]);
                let table = Table::new(bytes, Vec::new());
                for sequence in &whole.sequences {
                    let _ = table.as_ref().map(|it| it.line(sequence.begins).is_some());
                }
            }
            let mut bytes = whole.bytes.clone();
            bytes.truncate(at);
            let _ = Table::new(bytes, whole.texts.clone());
        }
    }
}
