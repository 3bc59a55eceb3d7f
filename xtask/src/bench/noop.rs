//! The floor: programs on the two busiest tracepoints of the scheduler that do
//! nothing. No eBPF tracer of the scheduler can cost less than having them.

use anyhow::{Context as _, Result};
use aya::{Btf, Ebpf, programs::BtfTracePoint};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
    write::{Object, Symbol, SymbolSection},
};

const TRACEPOINTS: [&str; 2] = ["sched_switch", "sched_waking"];

/// `r0 = 0; exit`: what any compiler makes of a program that returns 0. All
/// fields but the operation are 0, so the order of bytes is of no matter.
const RETURN_0: [u8; 16] = {
    let mut code = [0; 16];
    code[0] = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
    code[8] = 0x95; // BPF_JMP | BPF_EXIT
    code
};

/// Attaches the programs; dropping what it gives detaches them.
pub(super) fn attach() -> Result<Ebpf> {
    let types = Btf::from_sys_fs().context("could not read the kernel's BTF")?;
    let mut ebpf = Ebpf::load(&object()?).context("could not load the no-op object")?;
    for name in TRACEPOINTS {
        let program: &mut BtfTracePoint = ebpf
            .program_mut(name)
            .with_context(|| format!("the no-op object has no program {name}"))?
            .try_into()?;
        program
            .load(name, &types)
            .with_context(|| format!("the kernel refuses a no-op program for {name}"))?;
        program
            .attach()
            .with_context(|| format!("could not attach a no-op program to {name}"))?;
    }
    Ok(ebpf)
}

/// The object file with the programs, in the form that libbpf and aya read.
fn object() -> Result<Vec<u8>> {
    let endianness = if cfg!(target_endian = "big") {
        Endianness::Big
    } else {
        Endianness::Little
    };
    let mut file = Object::new(BinaryFormat::Elf, Architecture::Bpf, endianness);
    for name in TRACEPOINTS {
        let section = format!("tp_btf/{name}");
        let section = file.add_section(Vec::new(), section.into_bytes(), SectionKind::Text);
        let value = file.append_section_data(section, &RETURN_0, 8);
        file.add_symbol(Symbol {
            name: name.into(),
            value,
            size: RETURN_0.len() as u64,
            kind: SymbolKind::Text,
            scope: SymbolScope::Dynamic,
            weak: false,
            section: SymbolSection::Section(section),
            flags: SymbolFlags::None,
        });
    }
    let license = file.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
    file.append_section_data(license, b"Dual MIT/GPL\0", 1);
    file.write().context("could not make the no-op object")
}
