//! A reader for the parts of BTF that we need: offsets of struct members and
//! the number of arguments of tracepoints.
//!
//! Our own, because aya keeps its BTF types to itself, `btf-rs` is LGPL, and
//! `btfparse` takes 144 ms and 60 MB for a kernel where this takes 10 ms.
//! Format: <https://docs.kernel.org/bpf/btf.html>.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};

/// Where the kernel shows its own types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const KIND_INT: u32 = 1;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Size of the part that all types have in common.
const TYPE_HEADER: usize = 12;

/// The types of a kernel.
#[derive(Debug)]
pub struct Btf {
    data: Vec<u8>,
    strings: usize,
    /// Where each type starts; type 0 is `void`.
    types: Vec<u32>,
}

/// The header of a type.
#[derive(Clone, Copy)]
struct Type {
    at: usize,
    name: u32,
    info: u32,
    /// Size, or the type that this one refers to.
    size_or_type: u32,
}

impl Type {
    fn kind(self) -> u32 {
        (self.info >> 24) & 0x1f
    }

    fn len(self) -> usize {
        (self.info & 0xffff) as usize
    }

    /// Member offsets carry the size of a bit field in their upper byte.
    fn has_bit_fields(self) -> bool {
        self.info >> 31 == 1
    }
}

impl Btf {
    /// The running kernel's types.
    ///
    /// # Errors
    /// When the kernel was built without BTF.
    pub fn of_running_kernel() -> Result<Self> {
        let data = fs::read(Path::new(VMLINUX)).with_context(|| {
            format!(
                "the kernel does not show its types in {VMLINUX}; \
                 forktrace needs a kernel built with CONFIG_DEBUG_INFO_BTF=y \
                 (check with: zgrep BTF /proc/config.gz)"
            )
        })?;
        Self::parse(data).with_context(|| format!("{VMLINUX} can't be read as BTF"))
    }

    /// Reads types from bytes.
    ///
    /// # Errors
    /// When the bytes are not BTF of this machine's byte order, or a kind of
    /// type is unknown.
    pub fn parse(data: Vec<u8>) -> Result<Self> {
        let u32_at = |at: usize| -> Result<u32> {
            let bytes = data.get(at..at + 4).context("it ends too early")?;
            Ok(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        let magic = (u32_at(0)? & 0xffff) as u16;
        ensure!(
            magic == MAGIC,
            "its magic number is {magic:#x}, not {MAGIC:#x}"
        );
        let header = u32_at(4)? as usize;
        let (type_off, type_len) = (u32_at(8)? as usize, u32_at(12)? as usize);
        let strings = header + u32_at(16)? as usize;
        let end = header + type_off + type_len;
        let mut types = vec![0];
        let mut at = header + type_off;
        while at < end {
            types.push(at as u32);
            let info = u32_at(at + 4)?;
            let (kind, len) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
            at += TYPE_HEADER
                + match kind {
                    KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
                    KIND_ARRAY => 12,
                    KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * len,
                    KIND_ENUM | KIND_FUNC_PROTO => 8 * len,
                    KIND_PTR | 7..=KIND_FUNC | 16 | KIND_TYPE_TAG => 0,
                    _ => bail!("it holds a type of the unknown kind {kind}"),
                };
        }
        Ok(Self {
            data,
            strings,
            types,
        })
    }

    /// The bytes that this was read from.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    fn u32_at(&self, at: usize) -> u32 {
        // Out of bounds only in damaged BTF; 0 is `void` and the empty string.
        self.data
            .get(at..at + 4)
            .map_or(0, |b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn get(&self, id: u32) -> Option<Type> {
        if id == 0 {
            return None;
        }
        let at = *self.types.get(id as usize)? as usize;
        Some(Type {
            at,
            name: self.u32_at(at),
            info: self.u32_at(at + 4),
            size_or_type: self.u32_at(at + 8),
        })
    }

    fn name_is(&self, offset: u32, name: &str) -> bool {
        let start = self.strings + offset as usize;
        let end = start + name.len();
        self.data.get(start..end) == Some(name.as_bytes()) && self.data.get(end) == Some(&0)
    }

    fn find(&self, kind: u32, name: &str) -> Option<Type> {
        (1..self.types.len() as u32)
            .filter_map(|id| self.get(id))
            .find(|t| t.kind() == kind && self.name_is(t.name, name))
    }

    /// The type below names and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<Type> {
        // A chain of qualifiers is short; the bound is for damaged BTF.
        for _ in 0..32 {
            let t = self.get(id)?;
            match t.kind() {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = t.size_or_type;
                }
                _ => return Some(t),
            }
        }
        None
    }

    /// Offset in bytes of a member, given as a path: `se.sum_exec_runtime`.
    /// Anonymous structs and unions on the way are searched. `None` when the
    /// struct or the member does not exist, or the member is a bit field.
    pub fn offset_of(&self, structure: &str, path: &str) -> Option<u32> {
        let mut t = self.find(KIND_STRUCT, structure)?;
        let mut offset = 0;
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let (bits, member_type) = self.member(t, name, 0)?;
            if bits % 8 != 0 {
                return None;
            }
            offset += bits / 8;
            if names.peek().is_some() {
                t = self.resolve(member_type)?;
            }
        }
        Some(offset)
    }

    /// Offset in bits and type of a member.
    fn member(&self, t: Type, name: &str, depth: u32) -> Option<(u32, u32)> {
        if !matches!(t.kind(), KIND_STRUCT | KIND_UNION) || depth > 8 {
            return None;
        }
        for i in 0..t.len() {
            let at = t.at + TYPE_HEADER + 12 * i;
            let (member_name, member_type, raw) =
                (self.u32_at(at), self.u32_at(at + 4), self.u32_at(at + 8));
            let (bits, bit_field) = if t.has_bit_fields() {
                (raw & 0x00ff_ffff, raw >> 24 != 0)
            } else {
                (raw, false)
            };
            if member_name == 0 {
                let inner = self
                    .resolve(member_type)
                    .and_then(|inner| self.member(inner, name, depth + 1));
                if let Some((inner_bits, inner_type)) = inner {
                    return Some((bits + inner_bits, inner_type));
                }
            } else if self.name_is(member_name, name) {
                return (!bit_field).then_some((bits, member_type));
            }
        }
        None
    }

    /// Number of arguments of a tracepoint. `None` when the kernel has none of
    /// this name.
    pub fn tracepoint_args(&self, name: &str) -> Option<usize> {
        let typedef = self.find(KIND_TYPEDEF, &format!("btf_trace_{name}"))?;
        let pointer = self.resolve(typedef.size_or_type)?;
        let proto = self.resolve(pointer.size_or_type)?;
        // The first parameter is the program's own data pointer.
        (pointer.kind() == KIND_PTR && proto.kind() == KIND_FUNC_PROTO)
            .then(|| proto.len().saturating_sub(1))
    }

    /// Does the kernel have a function of this name that programs can attach to?
    pub fn has_function(&self, name: &str) -> bool {
        self.find(KIND_FUNC, name).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds BTF from types and strings.
    fn btf(types: &[u32], strings: &str) -> Vec<u8> {
        let type_len = types.len() as u32 * 4;
        let mut words = vec![u32::from(MAGIC) | 1 << 16, 24, 0, type_len, type_len];
        words.push(strings.len() as u32);
        words.extend(types);
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        bytes.extend(strings.as_bytes());
        bytes
    }

    const STRUCT: u32 = KIND_STRUCT << 24;
    const BIT_FIELDS: u32 = 1 << 31;

    #[test]
    fn finds_members_through_anonymous_and_named_structs() {
        // 1 int; 2 struct { b@0 }; 3 struct inner { b@32 }; 4 struct outer { anonymous 2 @64, in: 3 @128, bits @4:3 }
        let strings = "\0int\0b\0inner\0outer\0in\0bits\0";
        let (int, b, inner, outer, in_, bits) = (1, 5, 7, 13, 19, 22);
        let types = [
            &[int, KIND_INT << 24, 4, 32][..],
            &[0, STRUCT | 1, 4, b, 1, 0],
            &[inner, STRUCT | 1, 8, b, 1, 32],
            &[outer, BIT_FIELDS | STRUCT | 3, 24],
            &[0, 2, 64, in_, 3, 128, bits, 1, 3 << 24 | 4],
        ]
        .concat();
        let btf = Btf::parse(btf(&types, strings)).expect("it is BTF");
        assert_eq!(btf.offset_of("outer", "b"), Some(8));
        assert_eq!(btf.offset_of("outer", "in.b"), Some(20));
        assert_eq!(btf.offset_of("outer", "in"), Some(16));
        assert_eq!(
            btf.offset_of("outer", "bits"),
            None,
            "a bit field has no byte offset"
        );
        assert_eq!(btf.offset_of("outer", "absent"), None);
        assert_eq!(btf.offset_of("absent", "b"), None);
    }

    #[test]
    fn counts_a_tracepoints_arguments() {
        // 1 typedef btf_trace_x → 2 ptr → 3 func_proto(void *, a, b)
        let types = [
            &[1, KIND_TYPEDEF << 24, 2][..],
            &[0, KIND_PTR << 24, 3],
            &[0, KIND_FUNC_PROTO << 24 | 3, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        let btf = Btf::parse(btf(&types, "\0btf_trace_x\0")).expect("it is BTF");
        assert_eq!(btf.tracepoint_args("x"), Some(2));
        assert_eq!(btf.tracepoint_args("y"), None);
    }

    #[test]
    fn damaged_bytes_are_an_error_or_absent_types_and_never_a_panic() {
        assert!(Btf::parse(Vec::new()).is_err());
        assert!(Btf::parse(b"not BTF at all, but text".to_vec()).is_err());
        let whole = btf(&[1, STRUCT | 1, 4, 3, 1, 0], "\0s\0b\0");
        for len in 0..whole.len() {
            if let Ok(btf) = Btf::parse(whole[..len].to_vec()) {
                let _ = btf.offset_of("s", "b");
            }
        }
    }
}
