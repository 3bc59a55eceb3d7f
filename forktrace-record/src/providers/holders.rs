//! Who has what open, in the whole system: an end of a pipe can be with a process that is
//! not traced.

use std::{collections::HashMap, fs};

use crate::procfs::{
    pids,
    text::{self, fields},
};

/// No more descriptors are looked at: then it is not known who has what.
const MOST: usize = 1 << 18;

/// A descriptor of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) pid: u32,
    pub(super) fd: u32,
}

/// By what the links in `/proc/PID/fd` say.
#[derive(Debug, Default)]
pub(super) struct Holders {
    by_link: HashMap<Box<str>, Vec<Held>>,
    /// Nobody was left out for their number.
    pub(super) complete: bool,
}

impl Holders {
    /// Looks at all of them. Links are read, and nothing that they lead to.
    pub(super) fn look() -> Self {
        let mut holders = Self {
            complete: true,
            ..Self::default()
        };
        let mut count = 0;
        for pid in pids().into_iter().flatten() {
            let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else {
                continue;
            };
            for entry in fds.flatten() {
                let fd = entry.file_name().to_str().and_then(|fd| fd.parse().ok());
                let (Some(fd), Ok(link)) = (fd, fs::read_link(entry.path())) else {
                    continue;
                };
                let link = link.to_string_lossy().into();
                let held = holders.by_link.entry(link).or_default();
                held.push(Held { pid, fd });
                count += 1;
            }
            if count > MOST {
                holders.complete = false;
                break;
            }
        }
        holders
    }

    /// The descriptors with this link.
    pub(super) fn of(&self, link: &str) -> &[Held] {
        self.by_link.get(link).map_or(&[], Vec::as_slice)
    }

    /// Those with a link that ends so, and whether that is all of it: where the root is not that
    /// of the machine, as in a chroot, links begin with the path to it.
    pub(super) fn below(&self, end: &str) -> impl Iterator<Item = (Held, bool)> {
        let links = self
            .by_link
            .iter()
            .filter(move |(link, _)| link.ends_with(end));
        links.flat_map(move |(link, held)| held.iter().map(move |held| (*held, &**link == end)))
    }
}

/// What the kernel says of a descriptor.
pub(super) struct FdInfo(String);

impl FdInfo {
    pub(super) fn of(pid: u32, fd: u32) -> Option<Self> {
        let info = text::read(format!("/proc/{pid}/fdinfo/{fd}"));
        info.ok().map(Self)
    }

    /// The lines that begin so, without that.
    pub(super) fn fields<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        fields(&self.0, name)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.fields(name).next()?.parse().ok()
    }

    /// May the file be read by this descriptor, and may it be written?
    pub(super) fn access(&self) -> Option<(bool, bool)> {
        let flags = u32::from_str_radix(self.fields("flags").next()?, 8).ok()?;
        // O_RDONLY, O_WRONLY, O_RDWR
        match flags & 3 {
            0 => Some((true, false)),
            1 => Some((false, true)),
            _ => Some((true, true)),
        }
    }
}

/// What a descriptor is, by its link.
pub(super) fn link(tgid: u32, fd: u32) -> Option<String> {
    let link = fs::read_link(format!("/proc/{tgid}/fd/{fd}")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_from_within_a_chroot() {
        let held = |fd| Held { pid: 7, fd };
        let by_link = HashMap::from([
            ("/dev/fuse".into(), vec![held(3)]),
            ("/srv/root/dev/fuse".into(), vec![held(4)]),
            ("/dev/fuse.conf".into(), vec![held(5)]),
        ]);
        let holders = Holders {
            by_link,
            complete: true,
        };
        let mut found: Vec<_> = holders.below("/dev/fuse").collect();
        found.sort_by_key(|(held, _)| held.fd);
        assert_eq!(found, [(held(3), true), (held(4), false)]);
    }

    #[test]
    fn access_is_read_from_the_flags() {
        let of = |flags| FdInfo(format!("pos:\t0\nflags:\t{flags}\nmnt_id:\t15\n")).access();
        assert_eq!(of("02100000"), Some((true, false)));
        assert_eq!(of("02100001"), Some((false, true)));
        assert_eq!(of("0100002"), Some((true, true)));
        assert_eq!(of("x"), None);
    }
}
