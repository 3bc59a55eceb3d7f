//! Symbols that a file exports, found in the memory of a process that has it mapped: by the
//! table that the loader uses (`DT_GNU_HASH`). No file is opened.

use object::{
    Endianness,
    elf::{FileHeader64, PT_DYNAMIC, PT_LOAD},
    read::elf::{FileHeader as _, ProgramHeader as _},
};

use super::memory::Memory;

/// The header and what it tells of segments are in so many bytes.
const HEAD: usize = 4096;
/// Entries of a dynamic section that are looked at.
const MOST_ENTRIES: u64 = 256;
/// Symbols that have the same place in the table are no more.
const MOST_IN_BUCKET: u32 = 1024;
/// What a symbol takes (`Elf64_Sym`), bytes.
const SYMBOL: u64 = 24;

// Tags of the dynamic section (System V ABI).
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_GNU_HASH: u64 = 0x6fff_fef5;

/// Where the tables of a file are.
pub(super) struct Exports {
    /// What is added to the addresses that the file has for itself.
    bias: u64,
    hash: u64,
    symbols: u64,
    texts: u64,
}

impl Exports {
    /// Of the file that is mapped from `base` on.
    pub(super) fn of(memory: &mut Memory<'_>, base: u64) -> Option<Self> {
        let head = memory.bytes(base, HEAD)?;
        let header = FileHeader64::<Endianness>::parse(&*head).ok()?;
        let endian = header.endian().ok()?;
        let segments = header.program_headers(endian, &*head).ok()?;
        let first = segments
            .iter()
            .find(|it| it.p_type(endian) == PT_LOAD && it.p_offset(endian) == 0)?;
        let bias = base.wrapping_sub(first.p_vaddr(endian));
        let dynamic = segments.iter().find(|it| it.p_type(endian) == PT_DYNAMIC)?;
        let at = bias.wrapping_add(dynamic.p_vaddr(endian));
        let (mut hash, mut symbols, mut texts) = (None, None, None);
        for n in 0..(dynamic.p_memsz(endian) / 16).min(MOST_ENTRIES) {
            let tag = memory.word(at.checked_add(16 * n)?)?;
            let value = memory.word(at.checked_add(16 * n + 8)?)?;
            // The loader of GNU adds the bias in place, others don't.
            let value = match value < base {
                true => bias.wrapping_add(value),
                false => value,
            };
            match tag {
                0 => break,
                DT_STRTAB => texts = Some(value),
                DT_SYMTAB => symbols = Some(value),
                DT_GNU_HASH => hash = Some(value),
                _ => {}
            }
        }
        Some(Self {
            bias,
            hash: hash?,
            symbols: symbols?,
            texts: texts?,
        })
    }

    /// Where a symbol is in memory.
    pub(super) fn address(&self, memory: &mut Memory<'_>, name: &str) -> Option<u64> {
        let wanted = hash_of(name);
        let buckets = memory.half(self.hash)?;
        let first = memory.half(self.hash + 4)?;
        let filter = u64::from(memory.half(self.hash + 8)?);
        if buckets == 0 {
            return None;
        }
        let buckets_at = self.hash.checked_add(16 + 8 * filter)?;
        let bucket = buckets_at.checked_add(4 * u64::from(wanted % buckets))?;
        let begin = memory.half(bucket)?;
        let chain = buckets_at.checked_add(4 * u64::from(buckets))?;
        for symbol in begin..begin.saturating_add(MOST_IN_BUCKET) {
            let at = u64::from(symbol.checked_sub(first)?);
            let found = memory.half(chain.checked_add(4 * at)?)?;
            // The lowest bit marks the last one.
            if found | 1 == wanted | 1 && self.is_called(memory, symbol, name)? {
                let value = memory.word(self.symbol(symbol)? + 8)?;
                return Some(self.bias.wrapping_add(value));
            }
            if found & 1 == 1 {
                return None;
            }
        }
        None
    }

    fn symbol(&self, number: u32) -> Option<u64> {
        self.symbols.checked_add(SYMBOL * u64::from(number))
    }

    fn is_called(&self, memory: &mut Memory<'_>, symbol: u32, name: &str) -> Option<bool> {
        let text = u64::from(memory.half(self.symbol(symbol)?)?);
        let text = memory.bytes(self.texts.checked_add(text)?, name.len() + 1)?;
        Some(text.split_last() == Some((&0, name.as_bytes())))
    }
}

fn hash_of(name: &str) -> u32 {
    let add = |hash: u32, byte| hash.wrapping_mul(33).wrapping_add(u32::from(byte));
    name.bytes().fold(5381, add)
}
