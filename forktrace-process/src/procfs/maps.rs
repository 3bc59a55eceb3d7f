//! `/proc/PID/maps`.

use super::text::parse_device;

/// A mapping of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping<'a> {
    /// The first address.
    pub start: u64,
    /// The one after the last.
    pub end: u64,
    /// Code can run there.
    pub executable: bool,
    /// Other processes can have it too.
    pub shared: bool,
    /// Where in the file it begins, bytes.
    pub offset: u64,
    /// The device of the file, as the kernel has it, and its inode.
    pub file: (u32, u64),
    /// With escapes; empty for memory without a name.
    pub path: &'a str,
}

impl Mapping<'_> {
    /// Is this address in it?
    pub fn contains(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }
}

/// All mappings, by address.
pub fn mappings(maps: &str) -> impl Iterator<Item = Mapping<'_>> {
    maps.lines().filter_map(parse)
}

/// `7f1c2c000000-7f1c2c021000 rw-s 00001000 00:01 2057   /dev/zero (deleted)`
fn parse(line: &str) -> Option<Mapping<'_>> {
    let mut parts = line.splitn(6, ' ');
    let (start, end) = parts.next()?.split_once('-')?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let rights = parts.next()?;
    let offset = hex(parts.next()?)?;
    let device = parse_device(parts.next()?, 16)?;
    let inode = parts.next()?.parse().ok()?;
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        executable: rights.contains('x'),
        shared: rights.ends_with('s'),
        offset,
        file: (device, inode),
        path: parts.next().unwrap_or("").trim_start(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_or_skipped() {
        let text = "\
55d0c0a00000-55d0c0a21000 r--p 00000000 fe:00 393301                     /usr/bin/python3.11
7f1c2c000000-7f1c2c021000 rw-p 00000000 00:00 0 
7f1c30002000-7f1c30004000 rw-s 00003000 00:1b 9                          /dev/shm/a b\\012c
";
        let found: Vec<_> = mappings(text).collect();
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].path, "/usr/bin/python3.11");
        assert_eq!((found[1].path, found[1].shared), ("", false));
        assert!(found[1].contains(0x7f1c_2c02_0fff) && !found[1].contains(0x7f1c_2c02_1000));
        let shared = Mapping {
            start: 0x7f1c_3000_2000,
            end: 0x7f1c_3000_4000,
            executable: false,
            shared: true,
            offset: 0x3000,
            file: (27, 9),
            path: "/dev/shm/a b\\012c",
        };
        assert_eq!(found[2], shared);
        for odd in [
            "",
            "-",
            "1-2",
            "x-y rw-s 0 00:01 1 /a",
            "1-2 rw-s 0 0001 1 /a",
        ] {
            assert_eq!(mappings(odd).count(), 0, "{odd}");
        }
    }
}
