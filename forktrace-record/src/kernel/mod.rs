//! What the running kernel is like: its types, and what they mean for the
//! eBPF programs.

pub mod btf;
pub mod environment;
pub mod interrupts;
pub mod layout;
pub mod own_process;
pub mod symbols;
