//! How long data waited in TCP sockets until a task of the workload looked at it.
//!
//! Of a socket it is noted when the first data came that nobody has looked at, whoever will:
//! who serves it is known only when somebody reads. These programs run for each packet and
//! each read of the machine, and are loaded only where the answer is wanted.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use forktrace_common::event::{Lag, kind};

use crate::{
    cpu::{Cpu, count},
    emit, filter,
    kernel::{self, Task, layout, sock::Sock},
    maps::DATA_SINCE,
    shared::at,
};

/// include/uapi/linux/bpf.h: an entry that is there stays.
const BPF_NOEXIST: u64 = 1;
/// include/uapi/asm-generic/errno-base.h.
const EEXIST: i32 = -17;
/// include/net/tcp_states.h; ABI.
const TCP_CLOSE: i32 = 7;

/// Data came to a socket.
#[btf_tracepoint(function = "sk_data_ready")]
pub fn sk_data_ready(ctx: BtfTracePointContext) -> i32 {
    let sock = Sock::from_arg(ctx.arg(0));
    if !sock.is_tcp_stream() {
        return 0;
    }
    match DATA_SINCE.insert(&sock.address(), &kernel::now(), BPF_NOEXIST) {
        Ok(()) | Err(EEXIST) => {}
        Err(_) => {
            if let Some(cpu) = Cpu::this() {
                count!(cpu, lags_not_noted);
            }
        }
    }
    0
}

/// Somebody read from a socket: `arg(1)` is what came of it.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn sock_recv_length(ctx: BtfTracePointContext) -> i32 {
    let sock = Sock::from_arg(ctx.arg(0));
    let result: i32 = ctx.arg(1);
    if result < 0 {
        return 0;
    }
    let address = sock.address();
    // SAFETY: the value is copied at once; a socket is read by one task at a time.
    let Some(ready_ns) = (unsafe { DATA_SINCE.get(&address) }).copied() else {
        return 0;
    };
    // Only another reader of the same socket can have been faster.
    if DATA_SINCE.remove(&address).is_err() {
        return 0;
    }
    let (Some(traced), Some(cpu)) = (filter::resolve(Task::current()), Cpu::this()) else {
        return 0;
    };
    count!(cpu, lags);
    let looked_ns = kernel::now();
    if looked_ns.saturating_sub(ready_ns) < 1000 * u64::from(layout!(lag_min_us)) {
        return 0;
    }
    let state = traced.state;
    let serial = at!(state.serial).load();
    let (local_port, remote_port) = (sock.local_port(), sock.remote_port());
    emit::other(cpu, || Lag {
        kind: kind::LAG,
        zero: [0; 3],
        serial,
        ready_ns,
        looked_ns,
        local_port,
        remote_port,
        zero2: 0,
    });
    0
}

/// A socket is closed: its address may be another's soon.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let state: i32 = ctx.arg(2);
    if state == TCP_CLOSE {
        let _ = DATA_SINCE.remove(&Sock::from_arg(ctx.arg(0)).address());
    }
    0
}
