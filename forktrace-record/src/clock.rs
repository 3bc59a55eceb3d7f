//! The clock of the records: `CLOCK_MONOTONIC` of the machine.
//!
//! In a time namespace (time_namespaces(7)) this clock shows another time to us than to
//! the kernel programs. The difference is fixed when the namespace gets its first
//! process, so it is read once.

use std::{fs, sync::OnceLock, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::time::TimeValLike as _,
    time::{ClockId, clock_gettime},
};

/// The time of the records, ns.
///
/// # Errors
/// When the kernel refuses.
pub fn now_ns() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).context("clock_gettime")?;
    Ok(of_records_ns(now.num_nanoseconds()))
}

/// CPU time of this thread: what work takes, however long others have the CPU meanwhile.
pub(crate) fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.map_or(Duration::ZERO, |time| {
        Duration::from_nanos(time.num_nanoseconds() as u64)
    })
}

/// What the records have for this time of our `CLOCK_MONOTONIC`, ns.
pub fn of_records_ns(ours_ns: i64) -> u64 {
    static AHEAD_NS: OnceLock<i64> = OnceLock::new();
    let ahead_ns = AHEAD_NS.get_or_init(|| {
        let offsets = fs::read_to_string("/proc/self/timens_offsets");
        // A kernel without time namespaces has no such file.
        offsets.map_or(0, |offsets| ahead_ns(&offsets))
    });
    u64::try_from(ours_ns.saturating_sub(*ahead_ns)).unwrap_or(0)
}

/// How far our clock is ahead of the machine's, from a `timens_offsets`.
fn ahead_ns(offsets: &str) -> i64 {
    let mut lines = offsets.lines().map(str::split_ascii_whitespace);
    let found = lines.find_map(|mut fields| {
        // The kernel has taken numbers for names, too, and always prints names.
        (fields.next() == Some("monotonic")).then_some(fields)
    });
    let mut numbers = found
        .into_iter()
        .flatten()
        .map(|field| field.parse::<i64>());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(seconds)), Some(Ok(ns))) => {
            seconds.saturating_mul(1_000_000_000).saturating_add(ns)
        }
        _ => 0,
    }
}

/// Fails where the offsets that the kernel tells are those of our children only.
///
/// # Errors
/// With what to do.
pub fn check() -> Result<()> {
    let of = |file| fs::read_link(format!("/proc/self/ns/{file}"));
    if let (Ok(ours), Ok(childrens)) = (of("time"), of("time_for_children")) {
        ensure!(
            ours == childrens,
            "forktrace is in another time namespace than its children will be, so that the times \
             of the two can't be compared; start it inside, as `unshare --time --fork` does"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_without_a_cpu_is_no_cpu_time() {
        let (begun, cpu) = (std::time::Instant::now(), own_cpu());
        std::thread::sleep(Duration::from_millis(200));
        assert!(own_cpu() - cpu < begun.elapsed() / 2);
    }

    #[test]
    fn offsets_are_read() {
        let text = "monotonic       -1000         500\nboottime            7         0\n";
        assert_eq!(ahead_ns(text), -1_000_000_000_000 + 500);
        assert_eq!(ahead_ns("monotonic           0         0\n"), 0);
        assert_eq!(ahead_ns(""), 0);
    }
}
