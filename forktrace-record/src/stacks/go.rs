//! Functions of Go by the table that its runtime has of them (`.gopclntab`): it is there also
//! in a program that was stripped. Its forms are those of Go 1.2, 1.16 and 1.18, as
//! `debug/gosym/pclntab.go` of Go reads them; that of 1.20 differs from the latter in its mark
//! only.

use std::fs::File;

use blazesym::symbolize::{
    FindSymOpts, Reason, ResolvedSym, SrcLang, Symbolize, TranslateFileOffset,
};
use object::{
    LittleEndian as LE,
    elf::{PT_LOAD, ProgramHeader64, Rela64, SHT_PROGBITS, SHT_SYMTAB},
    pod::slice_from_all_bytes,
};

use super::{
    lines::at_line,
    sections::{MOST_HEADERS, Sections, read},
};

/// A longer table is not read, bytes.
const MOST_BYTES: u64 = 96 << 20;
/// Longer relocations are not read, bytes.
const MOST_RELOCATIONS: u64 = 32 << 20;
/// A longer name is none, bytes.
const MOST_NAME: usize = 4096;
/// Steps of a table of lines that are taken.
const MOST_STEPS: usize = 1 << 16;

/// What the sections are called, in a program that is loaded anywhere too.
const SECTIONS: [&[u8]; 2] = [b".gopclntab", b".data.rel.ro.gopclntab"];

/// Which form a table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Go2,
    Go16,
    Go18,
}

/// The functions of a program.
pub(super) struct GoTable {
    table: Table,
    /// Where parts of the file are in memory: offset, length, address.
    segments: Vec<(u64, u64, u64)>,
}

struct Table {
    bytes: Vec<u8>,
    form: Form,
    functions: u64,
    /// Added to the addresses in the table.
    text: u64,
    /// Parts of the table by where they begin.
    names: u64,
    units: u64,
    files: u64,
    steps: u64,
    data: u64,
    index: u64,
    /// Instructions are so long at least, bytes.
    quantum: u64,
}

/// Where a function is, and what is told of it.
struct Function {
    begins: u64,
    ends: u64,
    /// Where the table tells more of it.
    at: u64,
}

impl std::fmt::Debug for GoTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let functions = self.table.functions;
        f.debug_struct("GoTable")
            .field("functions", &functions)
            .finish()
    }
}

impl GoTable {
    /// That of a file; `None`: it has none, or symbols of code of other languages besides.
    pub(super) fn of(file: &File) -> Option<Self> {
        let sections = Sections::of(file)?;
        let found = |name: &[u8]| sections.find(name);
        // Only compilers of other languages leave the latter.
        let mut all = sections.all().iter();
        let has_symbols = all.any(|it| it.sh_type.get(LE) == SHT_SYMTAB);
        if has_symbols && found(b".eh_frame").is_some() {
            return None;
        }
        let section = SECTIONS.into_iter().find_map(found)?;
        let length = section.sh_size.get(LE);
        if section.sh_type.get(LE) != SHT_PROGBITS || length > MOST_BYTES {
            return None;
        }
        let bytes = read(file, section.sh_offset.get(LE), length)?;
        let mut table = Table::of(bytes)?;
        if table.form == Form::Go18 && table.text == 0 {
            // The loader puts it there.
            let at = section.sh_addr.get(LE).checked_add(8 + 2 * 8)?;
            let told = found(b".rela.dyn").or_else(|| found(b".rela"));
            let told = told.and_then(|rela| {
                let length = rela.sh_size.get(LE).min(MOST_RELOCATIONS);
                relocated(&read(file, rela.sh_offset.get(LE), length)?, at)
            });
            let begins = || found(b".text").map(|text| text.sh_addr.get(LE));
            table.text = told.or_else(begins)?;
        }
        let head = &sections.head;
        let count = u64::from(head.e_phnum.get(LE)).min(MOST_HEADERS);
        let segments = read(file, head.e_phoff.get(LE), count * 56)?;
        let segments = slice_from_all_bytes::<ProgramHeader64<LE>>(&segments).ok()?;
        let loaded = segments.iter().filter(|it| it.p_type.get(LE) == PT_LOAD);
        let segments = loaded.map(|it| {
            let (offset, address) = (it.p_offset.get(LE), it.p_vaddr.get(LE));
            (offset, it.p_filesz.get(LE), address)
        });
        Some(Self {
            segments: segments.collect(),
            table,
        })
    }
}

impl Symbolize for GoTable {
    fn find_sym(
        &self,
        address: u64,
        options: &FindSymOpts,
    ) -> blazesym::Result<Result<ResolvedSym<'_>, Reason>> {
        let function = self.table.function(address);
        let named = function.and_then(|it| Some((self.table.name(&it)?, it)));
        let Some((name, function)) = named else {
            return Ok(Err(Reason::UnknownAddr));
        };
        let lines = !matches!(options, FindSymOpts::Basic);
        let line = lines.then(|| self.table.line(&function, address));
        let code_info = line.flatten().map(|(file, line)| at_line(file, line));
        Ok(Ok(ResolvedSym {
            name,
            module: None,
            addr: function.begins,
            size: usize::try_from(function.ends - function.begins).ok(),
            lang: SrcLang::Unknown,
            code_info,
            inlined: Box::default(),
            _non_exhaustive: (),
        }))
    }
}

impl TranslateFileOffset for GoTable {
    fn file_offset_to_virt_offset(&self, offset: u64) -> blazesym::Result<Option<u64>> {
        let mut all = self.segments.iter();
        Ok(all.find_map(|(from, length, address)| {
            let at = offset.checked_sub(*from).filter(|at| at < length)?;
            address.checked_add(at)
        }))
    }
}

impl Table {
    fn of(bytes: Vec<u8>) -> Option<Self> {
        let [a, b, c, d, 0, 0, quantum @ (1 | 2 | 4), 8] = *bytes.first_chunk::<8>()? else {
            return None;
        };
        let form = match u32::from_le_bytes([a, b, c, d]) {
            0xffff_fff0 | 0xffff_fff1 => Form::Go18,
            0xffff_fffa => Form::Go16,
            0xffff_fffb => Form::Go2,
            _ => return None,
        };
        let mut table = Self {
            bytes,
            form,
            functions: 0,
            text: 0,
            names: 0,
            units: 0,
            files: 0,
            steps: 0,
            data: 0,
            index: 16,
            quantum: quantum.into(),
        };
        let word = |n: u64| table.word(8 + 8 * n);
        let functions = word(0)?;
        let parts = match form {
            Form::Go18 => Some([2, 3, 4, 5, 6, 7].map(word)),
            Form::Go16 => Some([Some(0), word(2), word(3), word(4), word(5), word(6)]),
            Form::Go2 => None,
        };
        table.functions = functions;
        if let Some(parts) = parts {
            let [text, names, units, files, steps, data] = parts;
            (table.text, table.names, table.units) = (text?, names?, units?);
            (table.files, table.steps, table.data) = (files?, steps?, data?);
            table.index = table.data;
        } else {
            let entries = functions.checked_mul(16)?.checked_add(16 + 8)?;
            table.files = table.half(entries)?.into();
        }
        Some(table)
    }

    fn get<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        self.bytes
            .get(usize::try_from(at).ok()?..)?
            .first_chunk()
            .copied()
    }

    fn word(&self, at: u64) -> Option<u64> {
        self.get(at).map(u64::from_le_bytes)
    }

    fn half(&self, at: u64) -> Option<u32> {
        self.get(at).map(u32::from_le_bytes)
    }

    fn text(&self, at: u64) -> Option<&str> {
        let rest = self.bytes.get(usize::try_from(at).ok()?..)?;
        let rest = &rest[..rest.len().min(MOST_NAME)];
        let end = rest.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&rest[..end])
            .ok()
            .filter(|it| !it.is_empty())
    }

    /// Address, and where its data is, of the `n`th function; the last one ends all.
    fn entry(&self, n: u64) -> Option<(u64, u64)> {
        if self.form == Form::Go18 {
            let at = self.index.checked_add(n.checked_mul(8)?)?;
            let address = self.text.checked_add(self.half(at)?.into())?;
            return Some((address, self.half(at + 4).unwrap_or(0).into()));
        }
        let at = self.index.checked_add(n.checked_mul(16)?)?;
        Some((self.word(at)?, self.word(at + 8).unwrap_or(0)))
    }

    /// The function that an address is in.
    fn function(&self, address: u64) -> Option<Function> {
        let (mut low, mut high) = (0, self.functions);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry(middle)?.0 <= address {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let n = low.checked_sub(1)?;
        let ((begins, at), (ends, _)) = (self.entry(n)?, self.entry(n + 1)?);
        let at = self.data.checked_add(at)?;
        (address < ends).then_some(Function { begins, ends, at })
    }

    /// The `n`th of the numbers that are told of a function after its address.
    fn told(&self, function: &Function, n: u64) -> Option<u32> {
        let address = if self.form == Form::Go18 { 4 } else { 8 };
        self.half(function.at.checked_add(address + 4 * n)?)
    }

    fn name(&self, function: &Function) -> Option<&str> {
        let at = self.told(function, 0)?;
        self.text(self.names.checked_add(at.into())?)
    }

    /// File and line of an instruction of a function.
    fn line(&self, function: &Function, address: u64) -> Option<(&str, u32)> {
        let [files, lines] = [4, 5].map(|n| self.value(self.told(function, n)?, function, address));
        let (file, line) = (u64::try_from(files?).ok()?, u32::try_from(lines?).ok()?);
        let at = if self.form == Form::Go2 {
            self.half(self.files.checked_add(file.checked_mul(4)?)?)?
        } else {
            let unit = u64::from(self.told(function, 7)?);
            let at = unit.checked_add(file)?.checked_mul(4)?;
            self.half(self.units.checked_add(at)?)?
        };
        let base = if self.form == Form::Go2 {
            0
        } else {
            self.files
        };
        Some((self.text(base.checked_add(at.into())?)?, line))
    }

    /// What a table of steps says of an address: pairs of how much more the value is, and for
    /// how many instructions.
    fn value(&self, steps: u32, function: &Function, address: u64) -> Option<i64> {
        let mut at = self.steps.checked_add(steps.into())?;
        let (mut value, mut until) = (-1_i64, function.begins);
        for n in 0..MOST_STEPS {
            let more = self.number(&mut at)?;
            if more == 0 && n > 0 {
                return None;
            }
            let more = (more >> 1) as i64 ^ -((more & 1) as i64);
            value = value.checked_add(more)?;
            let length = self.number(&mut at)?.checked_mul(self.quantum)?;
            until = until.checked_add(length)?;
            if address < until {
                return Some(value);
            }
        }
        None
    }

    /// A number of seven bits a byte, and the highest bit says that there are more.
    fn number(&self, at: &mut u64) -> Option<u64> {
        let mut number = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.get(*at)?;
            *at += 1;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

/// What the loader writes at an address, before it adds where the file is.
fn relocated(relocations: &[u8], address: u64) -> Option<u64> {
    let all = slice_from_all_bytes::<Rela64<LE>>(relocations).ok()?;
    let found = all.iter().find(|it| it.r_offset.get(LE) == address)?;
    u64::try_from(found.r_addend.get(LE)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of the form of 1.18 with two functions, `main.a` from 0x1000 and `main.b` from
    /// 0x1020 to 0x1040, whose lines are 10 and, from the 8th byte on, 12.
    fn table() -> Vec<u8> {
        let mut parts: [Vec<u8>; 5] = Default::default();
        let [names, units, files, steps, data] = &mut parts;
        names.extend(b"\0main.a\0main.b\0");
        units.extend(0_u32.to_le_bytes());
        files.extend(b"/src/a.go\0");
        // Nothing at 0. The file is always the first one; the lines: 11 more than -1, then 2.
        steps.extend([0, 2, 32, 0, 22, 8, 4, 24, 0]);
        let function = |entry: u32, name: u32| {
            let told = [entry, name, 0, 0, 0, 1, 4, 0, 0];
            told.map(u32::to_le_bytes).concat()
        };
        let index = [0_u32, 20, 0x20, 20 + 36, 0x40];
        data.extend(index.map(u32::to_le_bytes).concat());
        data.extend(function(0, 1));
        data.extend(function(0x20, 8));
        let mut at = 8 + 8 * 8;
        let mut offsets = Vec::new();
        for part in &parts {
            offsets.push(at);
            at += part.len() as u64;
        }
        let mut bytes = vec![0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8];
        let words = [2, 1, 0x1000].into_iter().chain(offsets);
        bytes.extend(words.flat_map(u64::to_le_bytes));
        bytes.extend(parts.concat());
        bytes
    }

    #[test]
    fn a_function_is_found_by_an_address_in_it_with_its_line() {
        let table = Table::of(table()).expect("a table");
        let found = |address| {
            let function = table.function(address)?;
            let line = table.line(&function, address);
            Some((table.name(&function)?, line.expect("a line").1))
        };
        assert_eq!(found(0xfff), None);
        assert_eq!(found(0x1000), Some(("main.a", 10)));
        assert_eq!(found(0x1007), Some(("main.a", 10)));
        assert_eq!(found(0x1008), Some(("main.a", 12)));
        assert_eq!(found(0x103f), Some(("main.b", 12)));
        assert_eq!(found(0x1040), None);
        let function = table.function(0x1000).expect("main.a");
        assert_eq!(table.line(&function, 0x1000), Some(("/src/a.go", 10)));
    }

    #[test]
    fn where_code_begins_is_told_by_the_loader_s_table() {
        let entries = [[8, 8, 5], [0x20, 8, 0x1000]].concat();
        let bytes: Vec<u8> = entries.into_iter().flat_map(u64::to_le_bytes).collect();
        assert_eq!(relocated(&bytes, 0x20), Some(0x1000));
        assert_eq!(relocated(&bytes, 0x28), None);
    }

    proptest::proptest! {
        /// Whatever a file has there.
        #[test]
        fn odd_tables_say_what_they_can(
            changes in proptest::collection::vec((0..400_usize, proptest::prelude::any::<u8>()), 1..8),
            length in 0..400_usize,
            address: u64,
        ) {
            let mut bytes = table();
            for (at, byte) in changes {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            bytes.truncate(length.max(8));
            let Some(table) = Table::of(bytes) else { return Ok(()) };
            for address in [address, 0x1000, 0x1010, 0x1030] {
                if let Some(function) = table.function(address) {
                    let _ = (table.name(&function), table.line(&function, address));
                }
            }
        }
    }
}
