//! What a socket is: from the tables of its network namespace, each read once in
//! a while for all sockets, and for Unix sockets from `sock_diag(7)`, which alone
//! tells the other end.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    io::IoSliceMut,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvmsg, send,
            setsockopt, socket, sockopt::ReceiveTimeout,
        },
        stat::{fstat, stat},
        time::{TimeVal, TimeValLike as _},
    },
};

use super::process::Folder;
use crate::trace::FileKind;

/// A line of a table of internet sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Inet {
    local: String,
    remote: String,
    listening: bool,
}

/// A Unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Unix {
    path: Option<String>,
    peer: Option<u64>,
    listening: bool,
}

/// By inode.
type Table<T> = HashMap<u64, T>;

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
    fn with<'a, K: Eq + Hash>(
        tables: &'a mut HashMap<K, Self>,
        key: K,
        inode: u64,
        round: u64,
        read: impl FnOnce() -> Table<T>,
    ) -> &'a Table<T> {
        let of_now = |kept: &Self| {
            let has_it = kept.table.contains_key(&inode) && kept.read.elapsed() < BELIEVED;
            has_it || kept.round == round
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
    round: u64,
}

impl Sockets {
    pub(super) fn new() -> Self {
        Self {
            own_namespace: stat("/proc/thread-self/ns/net").ok().map(|s| s.st_ino),
            inet: HashMap::new(),
            unix: HashMap::new(),
            round: 0,
        }
    }

    /// A new round of look-ups begins: in each, a table is read once at most.
    pub(super) fn next_round(&mut self) {
        self.round += 1;
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
        FileKind::OtherSocket(protocol.to_ascii_lowercase())
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
    let namespace = folder.open_file("ns/net").ok()?;
    // A namespace is a thread's: this one goes there and does not come back.
    thread::scope(|scope| {
        let ask = || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).ok()?;
            ask_for_unix_sockets().ok()
        };
        scope.spawn(ask).join().ok().flatten()
    })
}

const HEADER_BYTES: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// The Unix sockets of our own network namespace: see `sock_diag(7)`.
fn ask_for_unix_sockets() -> nix::Result<Table<Unix>> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const NLM_F_DUMP: u16 = 0x300;
    const REQUEST_BYTES: u32 = 24;
    const UDIAG_SHOW_NAME: u32 = 1;
    const UDIAG_SHOW_PEER: u32 = 4;

    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    // Never wait for ever: the kernel answers at once, if it does.
    setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(1))?;
    let mut request = Vec::with_capacity(HEADER_BYTES + REQUEST_BYTES as usize);
    // struct nlmsghdr
    request.extend((HEADER_BYTES as u32 + REQUEST_BYTES).to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request.extend([0; 8]);
    // struct unix_diag_req: family, protocol, states, inode, what to show, cookie
    request.extend([AddressFamily::Unix as u8, 0, 0, 0]);
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(0_u32.to_ne_bytes());
    request.extend((UDIAG_SHOW_NAME | UDIAG_SHOW_PEER).to_ne_bytes());
    request.extend([0xff; 8]);
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;

    let mut table = Table::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let received =
            recvmsg::<NetlinkAddr>(socket.as_raw_fd(), &mut parts, None, MsgFlags::empty())?;
        let bytes = received.bytes;
        if bytes == 0 || received.flags.contains(MsgFlags::MSG_TRUNC) {
            return Err(nix::errno::Errno::EBADMSG);
        }
        if parse_answer(&buffer[..bytes], &mut table)? {
            return Ok(table);
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Netlink messages; true: it was the last of them.
fn parse_answer(mut bytes: &[u8], table: &mut Table<Unix>) -> nix::Result<bool> {
    while let (Some(len), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
        let len = len as usize;
        let Some(message) = bytes.get(HEADER_BYTES..len) else {
            break;
        };
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => return Err(nix::errno::Errno::EOPNOTSUPP),
            _ => table.extend(parse_unix_diag(message)),
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// `struct unix_diag_msg`: family, type, state, a blank, inode, cookie; then
/// attributes.
fn parse_unix_diag(message: &[u8]) -> Option<(u64, Unix)> {
    const TCP_LISTEN: u8 = 10;
    const UNIX_DIAG_NAME: u16 = 0;
    const UNIX_DIAG_PEER: u16 = 2;
    let inode = u32_at(message, 4)?;
    let mut socket = Unix {
        listening: message[2] == TCP_LISTEN,
        ..Unix::default()
    };
    let mut rest = message.get(16..)?;
    while let (Some(len), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let len = usize::from(len);
        let Some(value) = rest.get(4..len) else {
            break;
        };
        match kind {
            UNIX_DIAG_NAME => socket.path = Some(unix_name(value)),
            UNIX_DIAG_PEER => socket.peer = u32_at(value, 0).map(u64::from),
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Some((u64::from(inode), socket))
}

/// A path ends with a NUL; an abstract name begins with one, shown as `@`, and
/// ends where it ends.
fn unix_name(bytes: &[u8]) -> String {
    let name: Vec<u8> = match bytes.first() {
        Some(0) => bytes
            .iter()
            .map(|b| if *b == 0 { b'@' } else { *b })
            .collect(),
        _ => bytes.split(|b| *b == 0).next().unwrap_or_default().to_vec(),
    };
    String::from_utf8_lossy(&name).into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};

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

    fn inode(socket: &impl std::os::fd::AsFd) -> u64 {
        fstat(socket).expect("a socket has a status").st_ino
    }

    #[test]
    fn the_kernel_tells_names_and_peers_of_unix_sockets() {
        let Ok(before) = ask_for_unix_sockets() else {
            // A kernel without unix_diag: then there are no peers.
            return;
        };
        let (a, b) = UnixStream::pair().expect("a pair");
        let name = format!("forktrace test\n{}", std::process::id());
        let address = UnixAddress::from_abstract_name(&name).expect("a name");
        let listener = UnixListener::bind_addr(&address).expect("bound");
        let client = UnixStream::connect_addr(&address).expect("connected");
        let (accepted, _) = listener.accept().expect("accepted");
        let table = ask_for_unix_sockets().expect("an answer");
        assert!(!before.contains_key(&inode(&a)));
        let of = |socket: &dyn Fn() -> u64| &table[&socket()];
        assert_eq!(of(&|| inode(&a)).peer, Some(inode(&b)));
        assert_eq!(of(&|| inode(&b)).peer, Some(inode(&a)));
        assert_eq!(of(&|| inode(&a)).path, None);
        let name = format!("@{name}");
        assert_eq!(of(&|| inode(&listener)).path.as_deref(), Some(&*name));
        assert!(of(&|| inode(&listener)).listening);
        assert_eq!(of(&|| inode(&accepted)).path.as_deref(), Some(&*name));
        assert_eq!(of(&|| inode(&client)).peer, Some(inode(&accepted)));
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

    #[test]
    fn odd_answers_are_refused_or_skipped() {
        let mut table = Table::new();
        for len in 0..40 {
            assert_eq!(parse_answer(&vec![0; len], &mut table), Ok(false));
        }
        let mut message = vec![255; 64];
        message[..4].copy_from_slice(&64_u32.to_ne_bytes());
        assert_eq!(parse_answer(&message, &mut table), Ok(false));
        message[4..6].copy_from_slice(&NLMSG_DONE.to_ne_bytes());
        assert_eq!(parse_answer(&message, &mut table), Ok(true));
        message[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        assert!(parse_answer(&message, &mut table).is_err());
    }

    #[test]
    fn names_of_unix_sockets_end_where_they_end() {
        assert_eq!(unix_name(b"/run/x\0"), "/run/x");
        assert_eq!(unix_name(b"/run/a b\nc"), "/run/a b\nc");
        assert_eq!(unix_name(b"\0abstract\0name"), "@abstract@name");
        assert_eq!(unix_name(b""), "");
    }
}
