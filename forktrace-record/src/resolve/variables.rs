//! The variables of a program or a library, from the symbol table of its file: so a lock that
//! is one of them has a name.

use std::{fs::File, os::unix::fs::FileExt as _};

use object::{
    NativeEndian,
    elf::{self, FileHeader64, ProgramHeader64, SectionHeader64, Sym64},
    pod::{self, Pod},
};

/// A table is not read if it is longer.
const MOST_TABLE_BYTES: u64 = 32 << 20;
/// Sections, segments and variables that are looked at, at most.
const MOST_HEADERS: usize = 1 << 12;
const MOST_VARIABLES: usize = 1 << 17;
/// Characters of a name, at most.
const LONGEST_NAME: usize = 512;

/// What can be written, as the file has it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Variables {
    /// The address of the file's first page.
    first: u64,
    /// Segments that can be written: beginning and end.
    segments: Vec<(u64, u64)>,
    /// By address.
    variables: Vec<Variable>,
}

#[derive(Debug, PartialEq, Eq)]
struct Variable {
    start: u64,
    end: u64,
    name: String,
}

impl Variables {
    /// `None`: it is no 64-bit ELF file of this machine, or not to be read.
    pub(super) fn read(file: &File) -> Option<Self> {
        let header: FileHeader64<NativeEndian> = *one(file, 0)?;
        let e = NativeEndian;
        let is_ours = header.e_ident.magic == elf::ELFMAG
            && header.e_ident.class == elf::ELFCLASS64
            && header.e_ident.data == native_data();
        if !is_ours {
            return None;
        }
        let segments: Vec<ProgramHeader64<NativeEndian>> =
            table(file, header.e_phoff.get(e), header.e_phnum.get(e).into())?;
        let loaded = segments
            .iter()
            .filter(|it| it.p_type.get(e) == elf::PT_LOAD);
        let first = loaded.clone().find(|it| it.p_offset.get(e) < PAGE)?;
        let writable = loaded.filter(|it| it.p_flags.get(e) & elf::PF_W != 0);
        let segments = writable.map(|it| {
            let start = it.p_vaddr.get(e);
            (start, start.saturating_add(it.p_memsz.get(e)))
        });
        let sections = table(file, header.e_shoff.get(e), header.e_shnum.get(e).into());
        Some(Self {
            first: first.p_vaddr.get(e) & !(PAGE - 1),
            segments: segments.collect(),
            variables: sections
                .and_then(|sections| variables(file, &sections))
                .unwrap_or_default(),
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.variables.len()
    }

    /// What is at this address, of a file whose first page is mapped at `base`: a variable
    /// and where in it, or where in the module. `None`: it is none of the file's.
    pub(super) fn name(&self, module: &str, base: u64, address: u64) -> Option<String> {
        let address = address.checked_sub(base)?.checked_add(self.first)?;
        let is_here = |(start, end): &(u64, u64)| (*start..*end).contains(&address);
        if !self.segments.iter().any(is_here) {
            return None;
        }
        let after = self.variables.partition_point(|it| it.start <= address);
        let before = after.checked_sub(1).and_then(|at| self.variables.get(at));
        match before.filter(|it| address < it.end) {
            Some(it) if it.start == address => Some(it.name.clone()),
            Some(it) => Some(format!("{}+{:#x}", it.name, address - it.start)),
            None => Some(format!("{module}+{address:#x}")),
        }
    }
}

/// The least size of a page on all architectures that we know, bytes.
const PAGE: u64 = 4096;

const fn native_data() -> u8 {
    match cfg!(target_endian = "little") {
        true => elf::ELFDATA2LSB,
        false => elf::ELFDATA2MSB,
    }
}

fn bytes(file: &File, offset: u64, len: u64) -> Option<Vec<u64>> {
    if len > MOST_TABLE_BYTES {
        return None;
    }
    // Aligned as the structures are.
    let mut words = vec![0_u64; usize::try_from(len).ok()?.div_ceil(8)];
    let into = pod::bytes_of_slice_mut(&mut words).get_mut(..len as usize)?;
    file.read_exact_at(into, offset).ok()?;
    Some(words)
}

fn one<T: Pod + Copy>(file: &File, offset: u64) -> Option<Box<T>> {
    table(file, offset, 1)?.pop().map(Box::new)
}

fn table<T: Pod + Copy>(file: &File, offset: u64, count: usize) -> Option<Vec<T>> {
    if count > MOST_HEADERS {
        return None;
    }
    let words = bytes(file, offset, (count * size_of::<T>()) as u64)?;
    let (found, _) = pod::slice_from_bytes(pod::bytes_of_slice(&words), count).ok()?;
    Some(found.to_vec())
}

/// The variables of the fullest symbol table that there is.
fn variables(file: &File, sections: &[SectionHeader64<NativeEndian>]) -> Option<Vec<Variable>> {
    let e = NativeEndian;
    let of_type = |wanted| sections.iter().find(|it| it.sh_type.get(e) == wanted);
    let symbols = of_type(elf::SHT_SYMTAB).or_else(|| of_type(elf::SHT_DYNSYM))?;
    let names = sections.get(symbols.sh_link.get(e) as usize)?;
    let read =
        |it: &SectionHeader64<NativeEndian>| bytes(file, it.sh_offset.get(e), it.sh_size.get(e));
    let (symbol_words, name_words) = (read(symbols)?, read(names)?);
    let count = symbols.sh_size.get(e) as usize / size_of::<Sym64<NativeEndian>>();
    let symbol_bytes = pod::bytes_of_slice(&symbol_words);
    let (symbols, _) = pod::slice_from_bytes::<Sym64<NativeEndian>>(symbol_bytes, count).ok()?;
    let names = pod::bytes_of_slice(&name_words);
    let is_writable = |section: u16| {
        let section = sections.get(usize::from(section));
        section.is_some_and(|it| it.sh_flags.get(e) & u64::from(elf::SHF_WRITE) != 0)
    };
    let found = symbols.iter().filter_map(|it| {
        let (start, size) = (it.st_value.get(e), it.st_size.get(e));
        if it.st_type() != elf::STT_OBJECT || size == 0 || !is_writable(it.st_shndx.get(e)) {
            return None;
        }
        Some(Variable {
            start,
            end: start.checked_add(size)?,
            name: name(names.get(it.st_name.get(e) as usize..)?)?,
        })
    });
    let mut found: Vec<_> = found.take(MOST_VARIABLES).collect();
    found.sort_unstable_by(|a, b| (a.start, &a.name).cmp(&(b.start, &b.name)));
    found.dedup_by_key(|it| it.start);
    Some(found)
}

/// The text up to the first zero, as the program's source has it.
fn name(text: &[u8]) -> Option<String> {
    let text = text.get(..LONGEST_NAME.min(text.len()))?;
    let end = text.iter().position(|byte| *byte == 0)?;
    let text = String::from_utf8_lossy(&text[..end]);
    if text.is_empty() {
        return None;
    }
    if let Ok(rust) = rustc_demangle::try_demangle(&text) {
        return Some(format!("{rust:#}"));
    }
    // A name of C can be the code of a type: `m` is `unsigned long`.
    let is_cpp = text.starts_with("_Z");
    // Long types can be abbreviated beyond measure.
    let cpp = cpp_demangle::Symbol::new(text.as_bytes()).ok();
    let cpp = cpp.filter(|_| is_cpp);
    let cpp = cpp.and_then(|symbol| symbol.demangle().ok());
    Some(
        cpp.filter(|it| it.len() <= LONGEST_NAME)
            .unwrap_or_else(|| text.into_owned()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In this test's own file.
    static LOCKS: [std::sync::atomic::AtomicU64; 4] =
        [const { std::sync::atomic::AtomicU64::new(0) }; 4];

    /// Where the first page of this program is, from its own map.
    fn base() -> u64 {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux has it");
        let own = std::env::current_exe().expect("a path");
        let own = own.to_str().expect("a name");
        let mapping = maps
            .lines()
            .find(|line| line.ends_with(own))
            .expect("it is mapped");
        u64::from_str_radix(mapping.split('-').next().expect("a start"), 16).expect("a number")
    }

    #[test]
    fn a_variable_of_this_program_has_its_name() {
        LOCKS[3].store(1, std::sync::atomic::Ordering::Relaxed);
        let own = File::open("/proc/self/exe").expect("it runs");
        let variables = Variables::read(&own).expect("it is an ELF file");
        let address = (&raw const LOCKS[3]).addr() as u64;
        let name = variables
            .name("test", base(), address)
            .expect("it is a variable");
        assert!(name.ends_with("::LOCKS+0x18"), "{name}");
        let code = (base as fn() -> u64 as usize) as u64;
        assert_eq!(variables.name("test", base(), code), None);
        let stack = 0_u64;
        assert_eq!(
            variables.name("test", base(), (&raw const stack).addr() as u64),
            None
        );
    }

    #[test]
    fn what_has_no_symbol_is_named_by_its_place() {
        let variables = Variables {
            first: 0x40_0000,
            segments: vec![(0x40_4000, 0x40_5000)],
            variables: vec![Variable {
                start: 0x40_4100,
                end: 0x40_4128,
                name: "table".to_owned(),
            }],
        };
        let at = |address: u64| 0x7f00_0000_0000 + address;
        let name = |address| variables.name("libx.so", at(0), at(address));
        assert_eq!(name(0x4100).as_deref(), Some("table"));
        assert_eq!(name(0x4127).as_deref(), Some("table+0x27"));
        assert_eq!(name(0x4128).as_deref(), Some("libx.so+0x404128"));
        assert_eq!(name(0x5000), None);
        assert_eq!(name(0x3fff), None);
    }

    #[test]
    fn what_is_no_elf_file_has_no_variables() {
        let mut file = tempfile::tempfile().expect("a file");
        assert_eq!(Variables::read(&file), None);
        std::io::Write::write_all(&mut file, &[0x7f; 4096]).expect("it is written");
        assert_eq!(Variables::read(&file), None);
    }

    #[test]
    fn names_are_as_the_source_has_them() {
        let of = |text: &[u8]| name(text);
        assert_eq!(of(b"locks\0more\0").as_deref(), Some("locks"));
        assert_eq!(of(b"_ZN3app5queueE\0").as_deref(), Some("app::queue"));
        // Not the type that the letter stands for.
        assert_eq!(of(b"m\0").as_deref(), Some("m"));
        assert_eq!(of(b"_RNvC3app4LOCK\0").as_deref(), Some("app::LOCK"));
        assert_eq!(of(b"\0"), None);
        assert_eq!(of(b"no end"), None);
        assert_eq!(of(b""), None);
    }

    proptest::proptest! {
        #[test]
        fn a_damaged_file_is_read_or_not(at in 0_usize..4096, byte: u8, cut in 0_u64..1 << 20) {
            let mut own = std::fs::read("/proc/self/exe").expect("it runs");
            own.truncate(1 << 20);
            own[at] ^= byte;
            let file = tempfile::tempfile().expect("a file");
            file.write_all_at(&own[..cut as usize], 0).expect("it is written");
            if let Some(variables) = Variables::read(&file) {
                variables.name("test", 0, u64::from(byte) << 12);
            }
        }
    }
}
