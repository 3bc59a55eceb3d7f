//! Sockets, of which tracepoints tell.

use super::layout;

/// A `sock` of the kernel that a tracepoint names.
#[derive(Clone, Copy)]
pub struct Sock(*const u8);

// include/linux/socket.h, include/uapi/linux/in.h, include/net/tcp_states.h; ABI.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;
const TCP_LISTEN: u8 = 10;

impl Sock {
    /// The one that a tracepoint names.
    #[inline(always)]
    pub fn from_arg(sock: *const u8) -> Self {
        Self(sock)
    }

    /// Its address: its identity until it is closed.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    fn read<T: Copy>(self, offset: u32) -> T {
        // SAFETY: see the text of `kernel`.
        unsafe { *self.0.add(offset as usize).cast::<T>() }
    }

    /// Is it one of TCP over which data comes?
    #[inline(always)]
    pub fn is_tcp_stream(self) -> bool {
        let family: u16 = self.read(layout!(socket.family));
        let protocol: u16 = self.read(layout!(socket.protocol));
        let state: u8 = self.read(layout!(socket.state));
        matches!(family, AF_INET | AF_INET6) && protocol == IPPROTO_TCP && state != TCP_LISTEN
    }

    /// The port of this side.
    #[inline(always)]
    pub fn local_port(self) -> u16 {
        self.read(layout!(socket.local_port))
    }

    /// The port of the other side.
    #[inline(always)]
    pub fn remote_port(self) -> u16 {
        u16::from_be(self.read(layout!(socket.remote_port)))
    }
}
