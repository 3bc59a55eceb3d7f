//! What is written in `/proc` the same for all who read it: tables and lines are parsed here,
//! and nowhere else.

pub mod maps;
pub mod mounts;
pub mod stat;
pub mod text;

use std::fs;

/// The processes that there are; `None`: `/proc` can't be read.
pub fn pids() -> Option<impl Iterator<Item = u32>> {
    let entries = fs::read_dir("/proc").ok()?.flatten();
    Some(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
}
