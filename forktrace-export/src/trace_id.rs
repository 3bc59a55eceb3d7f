//! What tells a trace from all others.

use forktrace_core::trace_file::TraceInfo;

/// What tells a trace from all others: the same whenever it is exported, of a copy too.
pub fn trace_id(info: &TraceInfo) -> String {
    let header = &info.header;
    let machine = header.machine.as_ref();
    let of = |text: Option<&str>| fnv(text.unwrap_or_default().as_bytes());
    let parts = [
        u64::from(info.file_id),
        header.start_unix_ns,
        header.start_ns,
        of(machine.map(|it| it.id.as_str())),
        of(machine.map(|it| it.boot_id.as_str())),
    ];
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_le_bytes()).collect();
    format!("{:016x}", fnv(&bytes))
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo; RFC 9923).
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
