//! The machine's CPUs.

use std::fs;

use anyhow::{Context as _, Result};
use forktrace_common::limits::MAX_CPUS;

/// Where the kernel lists them.
const ONLINE: &str = "/sys/devices/system/cpu/online";
const PRESENT: &str = "/sys/devices/system/cpu/present";

/// Those that get rings, and how many of them are at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cpus {
    /// By number. One that is there and switched off can be switched on while we record.
    pub(super) present: Vec<u32>,
    /// So many are switched on.
    pub(super) online: u32,
}

impl Cpus {
    /// # Errors
    /// When the kernel does not tell, or there are more than we have rings for.
    pub(super) fn of_this_machine() -> Result<Self> {
        let read = |path| fs::read_to_string(path).with_context(|| format!("{path} can't be read"));
        let online = read(ONLINE)?;
        let present = read(PRESENT).unwrap_or_default();
        Self::of(&online, &present)
    }

    /// The numbers that they have, and those between, are below this.
    pub(super) fn numbers(&self) -> u32 {
        self.present.iter().max().map_or(1, |last| last + 1)
    }

    fn of(online: &str, present: &str) -> Result<Self> {
        let online = numbers(online).with_context(|| format!("{ONLINE} is {online:?}"))?;
        if let Some(cpu) = online.iter().find(|&&cpu| cpu as usize >= MAX_CPUS) {
            anyhow::bail!(
                "this machine has a CPU {cpu}, and forktrace has rings for {MAX_CPUS} CPUs"
            );
        }
        let mut all = numbers(present).unwrap_or_default();
        all.retain(|&cpu| (cpu as usize) < MAX_CPUS);
        all.extend(&online);
        all.sort_unstable();
        all.dedup();
        Ok(Self {
            present: all,
            online: online.len() as u32,
        })
    }
}

/// The numbers of a list like `0-3,8`.
fn numbers(list: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        // No machine has so many.
        if last.checked_sub(first)? > 1 << 16 {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_switched_off_gets_a_ring_too() {
        let cpus = Cpus::of("0,2\n", "0-3\n").expect("two lists");
        assert_eq!((cpus.present, cpus.online), (vec![0, 1, 2, 3], 2));
        // A kernel that lists none has those that are at work.
        let cpus = Cpus::of("0-1", "").expect("a list");
        assert_eq!((cpus.present, cpus.online), (vec![0, 1], 2));
        let many = format!("0-{}", MAX_CPUS + 5);
        let cpus = Cpus::of("0", &many).expect("two lists");
        assert_eq!(cpus.present.len(), MAX_CPUS);
        assert!(Cpus::of(&many, &many).is_err());
        for wrong in ["", "x", "3-1", "0-4294967295"] {
            assert!(Cpus::of(wrong, "0").is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn this_machine_has_some() {
        let cpus = Cpus::of_this_machine().expect("a machine");
        assert!(cpus.online >= 1 && cpus.present.len() >= cpus.online as usize);
    }
}
