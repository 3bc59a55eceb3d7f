//! `/proc/PID/mountinfo`.

use std::path::PathBuf;

use super::text::{self, parse_device, unescape};

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// Its number, of which there is one at a time.
    pub number: u64,
    /// As the kernel has it: `major << 20 | minor`.
    pub device: u32,
    /// What of the file system is mounted.
    pub root: String,
    /// Where.
    pub place: String,
    /// The type of the file system.
    pub kind: &'a str,
    /// Options of the file system, between commas.
    pub options: &'a str,
}

/// All mounts, in the order of the table.
pub fn mounts(mountinfo: &str) -> impl Iterator<Item = Mount<'_>> {
    mountinfo.lines().filter_map(parse)
}

/// Where the first file system of a type is mounted, as this process sees it.
pub fn place_of(kind: &str) -> Option<PathBuf> {
    let table = text::read("/proc/self/mountinfo").ok()?;
    let found = mounts(&table).find(|mount| mount.kind == kind)?;
    Some(PathBuf::from(found.place))
}

/// `36 35 98:0 /root /mnt rw,noatime shared:1 - ext3 /dev/root rw`
fn parse(line: &str) -> Option<Mount<'_>> {
    let (before, after) = line.split_once(" - ")?;
    let mut words = before.split(' ');
    let number = words.next()?.parse().ok()?;
    let device = parse_device(words.nth(1)?, 10)?;
    let root = unescape(words.next()?);
    let place = unescape(words.next()?);
    let mut words = after.split(' ');
    Some(Mount {
        number,
        device,
        root,
        place,
        kind: words.next()?,
        options: words.nth(1).unwrap_or(""),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_or_skipped() {
        let table = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
99 27 0:44 /a /mnt/with\\040blank rw shared:1 master:2 - overlay overlay rw,x
odd
";
        let found: Vec<_> = mounts(table).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].number, found[0].device), (27, 254 << 20));
        let second = Mount {
            number: 99,
            device: 44,
            root: "/a".to_owned(),
            place: "/mnt/with blank".to_owned(),
            kind: "overlay",
            options: "rw,x",
        };
        assert_eq!(found[1], second);
    }
}
