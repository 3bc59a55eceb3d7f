//! What an epoll instance watches.

use super::{fds::Identity, process::Folder};
use crate::trace::WaitFd;

/// Most descriptors that are noted.
pub(super) const MOST: usize = 64;

/// Reads the interest list of a task's descriptor; the second is how many there
/// are. `None`: it can't be read, or is no epoll instance.
pub(super) fn read(folder: &Folder, fd: i32) -> Option<(Vec<(WaitFd, Identity)>, usize)> {
    let info = folder.read(&format!("fdinfo/{fd}")).ok()?;
    Some(parse(&info))
}

/// Lines such as `tfd:       11 events:       1d data: b pos:0 ino:4b9d sdev:9`.
fn parse(info: &str) -> (Vec<(WaitFd, Identity)>, usize) {
    let lines = || info.lines().filter_map(|line| line.strip_prefix("tfd:"));
    let fds = lines().filter_map(watched).take(MOST).collect();
    (fds, lines().count())
}

fn watched(line: &str) -> Option<(WaitFd, Identity)> {
    let value = |key: &str| {
        let (_, after) = line.split_once(key)?;
        after.split_ascii_whitespace().next()
    };
    let hex = |key| u64::from_str_radix(value(key)?, 16).ok();
    Some((
        WaitFd {
            fd: line.split_ascii_whitespace().next()?.parse().ok()?,
            // The upper half says how to wait, not for what (`EPOLLET` and so on).
            events: hex("events:")? as u16,
        },
        Identity {
            inode: hex("ino:")?,
            device: hex("sdev:")? as u32,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interest_list_is_read() {
        let info = "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t18\n\
            tfd:        5 events:       19 data:                5  pos:0 ino:154e3d sdev:9\n\
            tfd:      112 events: 80002019 data: ffffffffffffffff  pos:4096 ino:1a sdev:fe00000\n\
            tfd: nonsense\n";
        let (fds, count) = parse(info);
        assert_eq!(count, 3);
        let of = |fd, events, inode, device| {
            let identity = Identity { inode, device };
            (WaitFd { fd, events }, identity)
        };
        assert_eq!(
            fds,
            [of(5, 0x19, 0x15_4e3d, 9), of(112, 0x2019, 26, 254 << 20)]
        );
    }

    #[test]
    fn a_long_list_is_cut_off_and_counted() {
        let line = "tfd:        5 events:       19 data:                5  pos:0 ino:1 sdev:9\n";
        let (fds, count) = parse(&line.repeat(100));
        assert_eq!((fds.len(), count), (MOST, 100));
        assert_eq!(parse("pos:\t0\n"), (Vec::new(), 0));
    }
}
