//! Names that the same thing has in each run.
//!
//! Process ids, inode numbers and ports of clients are others in each run. An address of a
//! lock is moved by whole pages (the kernel's address space layout randomisation,
//! Documentation/admin-guide/sysctl/kernel.rst, `randomize_va_space`), so its last three
//! hexadecimal digits stay. They can be the same for two locks, which are then one row.

use super::Thing;
use crate::report::Object;

/// Digits of an address that are of a place in its page.
const IN_PAGE: usize = 3;

/// Ports from here on are given to clients (the default of `ip_local_port_range`).
const CLIENTS: u32 = 32768;

/// What the thing is called in each run.
pub(super) fn thing(object: &Object) -> Thing {
    let name = match object.kind.as_str() {
        "file" | "directory" | "fifo" | "terminal" | "device" if object.name.starts_with('/') => {
            path(&object.name)
        }
        "page" => "a page".to_owned(),
        // It can be known in one run and not in another.
        "futex" => {
            let name = without_numbers(&object.name, false);
            name.trim_end_matches(" (private)").to_owned()
        }
        // Its members come and go.
        "epoll" => {
            let name = object
                .name
                .split_once(": ")
                .map_or(&*object.name, |it| it.0);
            without_numbers(name, false)
        }
        kind => without_numbers(&object.name, kind == "unix socket"),
    };
    Thing {
        kind: object.kind.clone(),
        name,
    }
}

/// `/proc/4123/stat` is `/proc/N/stat`.
fn path(name: &str) -> String {
    let Some(rest) = name.strip_prefix("/proc/") else {
        return name.to_owned();
    };
    let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    match number {
        0 => name.to_owned(),
        number => format!("/proc/N{}", &rest[number..]),
    }
}

/// `both`: the other end has a number too, and no address.
fn without_numbers(name: &str, both: bool) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        if let Some(address) = rest.strip_prefix("0x") {
            let digits = leading(address, |c| c.is_ascii_hexdigit());
            match digits {
                // An offset in a module, not an address.
                0..=4 => out.push_str(&rest[..2 + digits]),
                _ => {
                    out.push('…');
                    out.push_str(&address[digits - IN_PAGE..digits]);
                }
            }
            rest = &address[digits..];
            continue;
        }
        let digits = leading(rest, |c| c.is_ascii_digit());
        if digits > 0 {
            let number = &rest[..digits];
            let port = out.ends_with(':') && number.parse().is_ok_and(|port: u32| port >= CLIENTS);
            out.push_str(
                match (port, is_of_a_run(&out) || both && out.ends_with("↔ ")) {
                    (true, _) => "*",
                    (false, true) => "N",
                    (false, false) => number,
                },
            );
            rest = &rest[digits..];
            continue;
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

fn leading(text: &str, is: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is(c)).unwrap_or(text.len())
}

/// Is a number that follows this another one in each run?
fn is_of_a_run(before: &str) -> bool {
    const WORDS: [&str; 8] = [
        "pipe ", "socket ", "child ", "thread ", "process ", "group ", "inode ", " of ",
    ];
    WORDS.iter().any(|word| before.ends_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_left_out() {
        for (kind, name, same) in [
            ("futex", "futex 0x55cd56e6f148 (private)", "futex …148"),
            ("futex", "locks+0xc8", "locks+0xc8"),
            ("pipe", "pipe 1368548", "pipe N"),
            ("child", "child 4123", "child N"),
            ("child", "any child", "any child"),
            ("thread", "thread 4123", "thread N"),
            ("unix socket", "unix socket 17 ↔ 18", "unix socket N ↔ N"),
            (
                "tcp",
                "tcp 127.0.0.1:6379 ↔ 127.0.0.1:50412",
                "tcp 127.0.0.1:6379 ↔ 127.0.0.1:*",
            ),
            ("epoll", "epoll (fd 3) of 12 fds", "epoll (fd 3) of N fds"),
            (
                "epoll",
                "epoll (fd 3) of 2 fds: pipe 17, …",
                "epoll (fd 3) of N fds",
            ),
            ("file", "/proc/4123/stat", "/proc/N/stat"),
            ("file", "/data/2024/part 7", "/data/2024/part 7"),
            ("page", "page 0x7f0000001000", "a page"),
            ("other", "日本 0x", "日本 0x"),
        ] {
            let object = Object {
                kind: kind.to_owned(),
                id: String::new(),
                name: name.to_owned(),
            };
            assert_eq!(thing(&object).name, same, "{name}");
        }
    }
}
