//! Addresses of the running kernel's functions and tables.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    ops::Range,
};

const PATH: &str = "/proc/kallsyms";

/// The addresses of the symbols that `wanted` accepts, with their names, in the
/// order of the kernel's list. Empty where the kernel shows no addresses
/// (`kernel.kptr_restrict`, or no `CAP_SYSLOG`).
pub fn addresses(wanted: impl Fn(&str) -> bool) -> Vec<(u64, String)> {
    let Ok(file) = File::open(PATH) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for line in BufReader::with_capacity(1 << 16, file).lines() {
        let Ok(line) = line else { break };
        // `ffffffff81000000 T name [module]`
        let mut parts = line.split_ascii_whitespace();
        let (Some(address), Some(_), Some(name)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if wanted(name)
            && let Ok(address) = u64::from_str_radix(address, 16)
            && address != 0
        {
            found.push((address, name.to_owned()));
        }
    }
    found
}

/// The entry code for page faults on x86: an empty range where it is not known.
pub fn page_fault_entry() -> Range<u64> {
    // The kernel's entry points stand one after the other.
    let entries = addresses(|name| name.starts_with("asm_"));
    let start = entries
        .iter()
        .find(|(_, name)| name == "asm_exc_page_fault");
    let Some(&(start, _)) = start else {
        return 0..0;
    };
    let end = entries
        .iter()
        .map(|(at, _)| *at)
        .filter(|at| *at > start)
        .min();
    start..end.unwrap_or(start)
}
