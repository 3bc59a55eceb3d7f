//! What the eBPF programs and the user-space program of forktrace both need to
//! know: the records that go through the rings, the state of a traced task, and
//! the layout of kernel structures.
//!
//! Everything here is plain data: integers and byte arrays only, `repr(C)`,
//! without padding, so that a record can be checked and then read from bytes
//! (`bytemuck` proves both at compile time), and so that neither side depends
//! on the architecture of the other.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod event;
pub mod layout;
pub mod limits;
