//! What a socket is: from the tables of its network namespace, each read once in
//! a while for all sockets, and for Unix sockets from `sock_diag(7)`, which alone
//! tells the other end.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs::File,
    hash::Hash,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::stat::{fstat, stat},
};

use super::{
    process::Folder,
    unix_diag::{Table, Unix, ask_for_unix_sockets},
};
use crate::trace::FileKind;

/// A line of a table of internet sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Inet {
    local: String,
    remote: String,
    listening: bool,
}

/// A table as of some moment.
struct Kept<T> {
    table: Table<T>,
    round: u64,
    read: Instant,
}

/// How long what a table says of a socket is believed. One that it does not have
/// is looked for in a new one, but reading one can take milliseconds.
const BELIEVED: Duration = Duration::from_secs(1);

impl<T> Kept<T> {
    /// The table, read again unless it has this socket or is of this round.
    fn with<K: Eq + Hash>(
        tables: &mut HashMap<K, Self>,
        key: K,
        inode: u64,
        round: u64,
        read: impl FnOnce() -> Table<T>,
    ) -> &Table<T> {
        let of_now = |kept: &Self| {
            let has_it = kept.table.contains_key(&inode) && kept.read.elapsed() < BELIEVED;
            has_it || kept.round >= round
        };
        let new = || Self {
            table: read(),
            round,
            read: Instant::now(),
        };
        match tables.entry(key) {
            Entry::Occupied(entry) if of_now(entry.get()) => &entry.into_mut().table,
            Entry::Occupied(mut entry) => {
                entry.insert(new());
                &entry.into_mut().table
            }
            Entry::Vacant(entry) => &entry.insert(new()).table,
        }
    }
}

/// The tables that were read, by namespace and file.
pub(super) struct Sockets {
    own_namespace: Option<u64>,
    inet: HashMap<(u64, &'static str), Kept<Inet>>,
    unix: HashMap<u64, Kept<Unix>>,
    netlink: HashMap<u64, Kept<u32>>,
    round: u64,
}

impl Sockets {
    pub(super) fn new() -> Self {
        Self {
            own_namespace: stat("/proc/thread-self/ns/net").ok().map(|s| s.st_ino),
            inet: HashMap::new(),
            unix: HashMap::new(),
            netlink: HashMap::new(),
            round: 0,
        }
    }

    /// What is asked about now was there in this round: a table that was read in it, or
    /// later, has it if there is anything to have.
    pub(super) fn of_round(&mut self, round: u64) {
        self.round = round;
    }

    /// Names a socket that a task of this folder has open.
    pub(super) fn name(&mut self, folder: &Folder, handle: &OwnedFd, inode: u64) -> FileKind {
        let protocol = protocol(handle);
        if let Some((name, table)) = inet_table(&protocol) {
            let inet = self.inet_table(folder, table, inode).get(&inode).cloned();
            // One that is bound to nothing is in no table.
            let inet = inet.unwrap_or_else(|| Inet {
                local: String::new(),
                remote: String::new(),
                listening: false,
            });
            return FileKind::InetSocket {
                protocol: name.to_owned(),
                local: inet.local,
                remote: inet.remote,
                listening: inet.listening,
            };
        }
        if protocol.starts_with("UNIX") {
            let table = self.unix_table(folder, inode);
            let socket = table.get(&inode).cloned().unwrap_or_default();
            let path_of = |peer: u64| table.get(&peer)?.path.clone();
            return FileKind::UnixSocket {
                path: socket.path.or_else(|| path_of(socket.peer?)),
                peer: socket.peer,
                listening: socket.listening,
            };
        }
        if protocol == "NETLINK" {
            let family = self.netlink_table(folder, inode).get(&inode).copied();
            let family = family.map(netlink_family);
            return FileKind::OtherSocket(match family {
                Some(Some(name)) => format!("netlink {name}"),
                Some(None) | None => "netlink".to_owned(),
            });
        }
        FileKind::OtherSocket(protocol.to_ascii_lowercase())
    }

    fn netlink_table(&mut self, folder: &Folder, inode: u64) -> &Table<u32> {
        let namespace = namespace(folder).unwrap_or(0);
        Kept::with(&mut self.netlink, namespace, inode, self.round, || {
            let text = folder.read("net/netlink").unwrap_or_default();
            text.lines().skip(1).filter_map(parse_netlink).collect()
        })
    }

    fn inet_table(&mut self, folder: &Folder, file: &'static str, inode: u64) -> &Table<Inet> {
        let namespace = namespace(folder).unwrap_or(0);
        Kept::with(&mut self.inet, (namespace, file), inode, self.round, || {
            let text = folder.read(&format!("net/{file}")).unwrap_or_default();
            text.lines().skip(1).filter_map(parse_inet).collect()
        })
    }

    fn unix_table(&mut self, folder: &Folder, inode: u64) -> &Table<Unix> {
        let namespace = namespace(folder);
        let own = namespace.is_some() && namespace == self.own_namespace;
        let key = namespace.unwrap_or(0);
        Kept::with(&mut self.unix, key, inode, self.round, || {
            let table = if own {
                ask_for_unix_sockets().ok()
            } else {
                ask_elsewhere(folder)
            };
            // Where the kernel can't be asked there are no peers.
            table.unwrap_or_else(|| {
                let text = folder.read("net/unix").unwrap_or_default();
                text.lines().skip(1).filter_map(parse_unix).collect()
            })
        })
    }
}

fn namespace(folder: &Folder) -> Option<u64> {
    let handle = folder.follow("ns/net").ok()?;
    fstat(&handle).ok().map(|status| status.st_ino)
}

/// The kernel's name of a socket's protocol: `TCP`, `UNIX-STREAM`; empty: not known.
fn protocol(handle: &OwnedFd) -> String {
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let mut name = [0; 64];
    match rustix::fs::getxattr(path, "system.sockprotoname", &mut name[..]) {
        Ok(len) => String::from_utf8_lossy(&name[..len])
            .trim_end_matches('\0')
            .to_owned(),
        Err(_) => String::new(),
    }
}

/// Our name for a protocol, and its file in `/proc/PID/net`.
fn inet_table(protocol: &str) -> Option<(&'static str, &'static str)> {
    Some(match protocol {
        "TCP" => ("tcp", "tcp"),
        "TCPv6" => ("tcp", "tcp6"),
        "UDP" => ("udp", "udp"),
        "UDPv6" => ("udp", "udp6"),
        "UDP-Lite" => ("udplite", "udplite"),
        "UDPLITEv6" => ("udplite", "udplite6"),
        "RAW" => ("raw", "raw"),
        "RAWv6" => ("raw", "raw6"),
        "PING" => ("icmp", "icmp"),
        "PINGv6" => ("icmp", "icmp6"),
        _ => return None,
    })
}

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`
fn parse_inet(line: &str) -> Option<(u64, Inet)> {
    const TCP_LISTEN: &str = "0A";
    let parts: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
    let [_, local, remote, state, .., inode] = parts[..] else {
        return None;
    };
    let inode = inode.parse().ok().filter(|_| parts.len() == 10)?;
    let remote = parse_address(remote)?;
    let connected = remote.port() != 0 || !remote.ip().is_unspecified();
    Some((
        inode,
        Inet {
            local: parse_address(local)?.to_string(),
            remote: if connected {
                remote.to_string()
            } else {
                String::new()
            },
            listening: state == TCP_LISTEN,
        },
    ))
}

/// `sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode` (net/netlink/af_netlink.c): inode and
/// family.
fn parse_netlink(line: &str) -> Option<(u64, u32)> {
    let parts: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
    let [_, family, .., inode] = parts[..] else {
        return None;
    };
    let inode = inode.parse().ok().filter(|_| parts.len() == 10)?;
    Some((inode, family.parse().ok()?))
}

/// include/uapi/linux/netlink.h
fn netlink_family(number: u32) -> Option<&'static str> {
    Some(match number {
        0 => "route",
        4 => "sock_diag",
        6 => "xfrm",
        7 => "selinux",
        9 => "audit",
        11 => "connector",
        12 => "netfilter",
        15 => "kobject_uevent",
        16 => "generic",
        20 => "rdma",
        21 => "crypto",
        _ => return None,
    })
}

/// Inode, and both ends of a line of a table, in whatever form the socket has them.
pub(crate) fn inet_ends(line: &str) -> Option<(u64, (SocketAddr, SocketAddr))> {
    let parts: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
    let [_, local, remote, .., inode] = parts[..] else {
        return None;
    };
    let inode = inode.parse().ok().filter(|_| parts.len() == 10)?;
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let end = |text| parse_address(text).map(plain);
    Some((inode, (end(local)?, end(remote)?)))
}

/// `0100007F:1F90`: words of the address as the machine reads them.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |i: usize| {
        let digits = address.get(i * 8..i * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match address.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            IpAddr::from(<[u8; 16]>::try_from(words.concat()).ok()?)
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// `Num RefCount Protocol Flags Type St Inode Path`; a path can hold blanks.
fn parse_unix(line: &str) -> Option<(u64, Unix)> {
    const ACCEPTING: u32 = 0x10000;
    let mut rest = line;
    let mut part = || {
        let (part, after) = rest
            .trim_start()
            .split_once(' ')
            .unwrap_or((rest.trim(), ""));
        rest = after;
        part
    };
    let [_, _, _, flags, _, _, inode] = [(); 7].map(|()| part());
    let inode = inode.parse().ok()?;
    Some((
        inode,
        Unix {
            path: Some(rest.to_owned()).filter(|path| !path.is_empty()),
            peer: None,
            listening: u32::from_str_radix(flags, 16).ok()? & ACCEPTING != 0,
        },
    ))
}

/// The Unix sockets of the namespace that a task is in.
fn ask_elsewhere(folder: &Folder) -> Option<Table<Unix>> {
    let there = folder.open_file("ns/net").ok()?;
    let here = File::open("/proc/self/ns/net").ok()?;
    setns(&there, CloneFlags::CLONE_NEWNET).ok()?;
    let table = ask_for_unix_sockets().ok();
    if setns(&here, CloneFlags::CLONE_NEWNET).is_err() {
        // What is asked of it from here on would be of another namespace.
        std::process::exit(1);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inet(local: &str, remote: &str, listening: bool) -> Inet {
        Inet {
            local: local.to_owned(),
            remote: remote.to_owned(),
            listening,
        }
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_netlink_socket_has_its_family_in_the_second_column() {
        let line = "00000000c86df6f1 15  0          00000001 0        0        0     2        0        5123";
        assert_eq!(parse_netlink(line), Some((5123, 15)));
        assert_eq!(netlink_family(15), Some("kobject_uevent"));
        assert_eq!(parse_netlink("sk Eth Pid"), None);
    }

    #[test]
    fn internet_sockets_are_read_from_the_kernels_tables() {
        for (line, inode, expected) in [
            (
                "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20155 1 ffff8880 100 0 0 10 0",
                20155,
                inet("127.0.0.1:8080", "", true),
            ),
            (
                "  12: 0F02000A:9C40 08080808:0035 01 00000000:00000000 02:000A7B9C 00000000  1000        0 4026 2 ffff8880 20 4 30 10 -1",
                4026,
                inet("10.0.2.15:40000", "8.8.8.8:53", false),
            ),
            // No inode: in TIME_WAIT, it belongs to nobody.
            (
                "   3: 0100007F:1F90 0100007F:B1C2 06 00000000:00000000 03:00000F6A 00000000     0        0 0 3 ffff8880",
                0,
                inet("127.0.0.1:8080", "127.0.0.1:45506", false),
            ),
            (
                "   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1 ffff 100 0 0 10 0",
                77,
                inet("[::1]:80", "", true),
            ),
            (
                "   2: 0000000000000000FFFF00000100007F:0050 0000000000000000FFFF00000100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 78 1 ffff 20 4 30 10 -1",
                78,
                inet("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:50000", false),
            ),
            (
                " 3371: 00000000:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 9321 2 ffff8880 0",
                9321,
                inet("0.0.0.0:68", "", false),
            ),
        ] {
            assert_eq!(parse_inet(line), Some((inode, expected)), "{line}");
        }
        for odd in [
            "",
            "1: 2 3",
            "0: 0100007F 0:0 0A 0 0 0 0 0 1",
            "é: é é é é é é é é é",
        ] {
            assert_eq!(parse_inet(odd), None, "{odd}");
        }
    }

    #[test]
    fn unix_sockets_are_read_from_the_kernels_table() {
        let of = |path: Option<&str>, listening| Unix {
            path: path.map(str::to_owned),
            peer: None,
            listening,
        };
        for (line, inode, expected) in [
            (
                "0000000000000000: 00000002 00000000 00010000 0001 01 20003 /run/a b.sock",
                20003,
                of(Some("/run/a b.sock"), true),
            ),
            (
                "ffff888004a80000: 00000003 00000000 00000000 0001 03 123456 @/tmp/.X11-unix/X0",
                123_456,
                of(Some("@/tmp/.X11-unix/X0"), false),
            ),
            (
                "0000000000000000: 00000003 00000000 00000000 0001 03   187",
                187,
                of(None, false),
            ),
        ] {
            assert_eq!(parse_unix(line), Some((inode, expected)), "{line}");
        }
        assert_eq!(parse_unix("0000: 2"), None);
        assert_eq!(parse_unix(""), None);
    }

    #[test]
    fn a_table_is_read_again_only_for_what_it_lacks_and_once_a_round() {
        let mut tables = HashMap::new();
        let reads = std::cell::Cell::new(0_u64);
        let mut look = |inode, round| {
            let read = || {
                reads.set(reads.get() + 1);
                Table::from([(7, reads.get())])
            };
            Kept::with(&mut tables, "tcp", inode, round, read)
                .get(&inode)
                .copied()
        };
        assert_eq!(look(7, 1), Some(1));
        assert_eq!(look(8, 1), None);
        assert_eq!(look(7, 2), Some(1), "what is known is not read again");
        assert_eq!(look(8, 2), None);
        assert_eq!(reads.get(), 2, "once more for what was not known");
    }
}
