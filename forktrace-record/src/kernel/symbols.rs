//! Addresses of the running kernel's functions and tables.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    ops::ControlFlow,
};

use forktrace_common::layout::own_code;

const PATH: &str = "/proc/kallsyms";

/// The addresses of the symbols that `wanted` accepts, with their names, in the
/// order of the kernel's list. Empty where the kernel shows no addresses
/// (`kernel.kptr_restrict`, or no `CAP_SYSLOG`).
pub fn addresses(wanted: impl Fn(&str) -> bool) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    each(|address, name| {
        if wanted(name) {
            found.push((address, name.to_owned()));
        }
        ControlFlow::Continue(())
    });
    found
}

/// Does the kernel show any address?
pub fn any() -> bool {
    let mut any = false;
    each(|_, _| {
        any = true;
        ControlFlow::Break(())
    });
    any
}

/// Calls for each symbol that has an address, until told to stop.
fn each(mut symbol: impl FnMut(u64, &str) -> ControlFlow<()>) {
    let Ok(file) = File::open(PATH) else {
        return;
    };
    let mut file = BufReader::with_capacity(1 << 16, file);
    let mut line = String::new();
    while file.read_line(&mut line).is_ok_and(|length| length > 0) {
        // `ffffffff81000000 T name [module]`
        let mut parts = line.split_ascii_whitespace();
        if let (Some(address), Some(_), Some(name)) = (parts.next(), parts.next(), parts.next())
            && let Ok(address) = u64::from_str_radix(address, 16)
            && address != 0
            && symbol(address, name).is_break()
        {
            break;
        }
        line.clear();
    }
}

/// Where the code of [`own_code`](mod@own_code) is on x86: nothing where it is not known.
pub fn own_code() -> [[u64; 2]; own_code::COUNT] {
    let mut names = [""; own_code::COUNT];
    names[own_code::PAGE_FAULT] = "asm_exc_page_fault";
    names[own_code::SIGNAL] = "arch_do_signal_or_restart";
    names[own_code::TASK_WORK] = "task_work_run";
    ranges(names)
}

/// From the beginning of each function to that of the next symbol.
fn ranges<const N: usize>(names: [&str; N]) -> [[u64; 2]; N] {
    let mut found = [[0; 2]; N];
    let mut open: Option<usize> = None;
    // The list of the kernel itself is in the order of addresses.
    each(|address, name| {
        if let Some(i) = open
            && found[i][0] < address
        {
            found[i][1] = address;
            open = None;
        }
        if let Some(i) = names.iter().position(|wanted| *wanted == name)
            && found[i][0] == 0
        {
            found[i][0] = address;
            open = Some(i);
        }
        // The list is long.
        if found.iter().all(|range| range[1] != 0) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    found
}
