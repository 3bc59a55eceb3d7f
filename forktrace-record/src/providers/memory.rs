//! Memory that processes share.

/// A mapping that other processes can have too.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shared {
    from: u64,
    until: u64,
    /// Device and inode, as `maps` has them.
    file: String,
}

/// The mappings of a process, as far as they are of use here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Maps {
    shared: Vec<Shared>,
    /// The GNU C library is there.
    pub(super) has_glibc: bool,
}

impl Maps {
    /// The file that an address is in, if it is one that others can map; that of
    /// anonymous shared memory is one too.
    pub(super) fn shared_file(&self, address: u64) -> Option<&str> {
        let here = |map: &&Shared| (map.from..map.until).contains(&address);
        Some(&self.shared.iter().find(here)?.file)
    }

    /// Does the process share this file?
    pub(super) fn shares(&self, file: &str) -> bool {
        self.shared.iter().any(|map| map.file == file)
    }
}

/// Reads `/proc/PID/maps`.
pub(super) fn mappings(text: &str) -> Maps {
    let mut maps = Maps::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let range = words.next().and_then(|range| range.split_once('-'));
        let (Some((from, until)), Some(flags), Some(_), Some(device), Some(inode)) = (
            range,
            words.next(),
            words.next(),
            words.next(),
            words.next(),
        ) else {
            continue;
        };
        let number = |text| u64::from_str_radix(text, 16).unwrap_or(0);
        if flags.ends_with('s') {
            maps.shared.push(Shared {
                from: number(from),
                until: number(until),
                file: format!("{device} {inode}"),
            });
        }
        let file = line.rsplit_once('/').map_or("", |(_, name)| name);
        maps.has_glibc |= file.starts_with("libc.so.6") || file.starts_with("libc-2.");
    }
    maps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_memory_is_told_by_its_file() {
        let maps = mappings(
            "7f00-7f40 rw-p 00000000 00:00 0 \n\
             7f40-7f80 rw-s 00000000 00:01 12                /memfd:x\n\
             7fa0-7fb0 r-xp 00000000 fe:00 99                /usr/lib/libc.so.6\n\
             odd\n",
        );
        assert_eq!(maps.shared_file(0x7f40), Some("00:01 12"));
        assert_eq!(maps.shared_file(0x7f00), None);
        assert_eq!(maps.shared_file(0x7f80), None);
        assert!(maps.shares("00:01 12") && !maps.shares("fe:00 99"));
        assert!(maps.has_glibc);
        assert!(!mappings("7f00-7f40 rw-p 00000000 00:00 0 /x/libc.so.6/y\n").has_glibc);
    }
}
