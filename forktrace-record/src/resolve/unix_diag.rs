//! Unix sockets with their other ends, from `sock_diag(7)`.

use std::{collections::HashMap, io::IoSliceMut, os::fd::AsRawFd as _};

use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvmsg, send,
        setsockopt, socket, sockopt::ReceiveTimeout,
    },
    time::{TimeVal, TimeValLike as _},
};

/// A Unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unix {
    pub(super) path: Option<String>,
    pub(crate) peer: Option<u64>,
    pub(super) listening: bool,
}

/// By inode.
pub(crate) type Table<T> = HashMap<u64, T>;

const HEADER_BYTES: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// The Unix sockets of our own network namespace: see `sock_diag(7)`.
pub(crate) fn ask_for_unix_sockets() -> nix::Result<Table<Unix>> {
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

    use nix::sys::stat::fstat;

    use super::*;

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
