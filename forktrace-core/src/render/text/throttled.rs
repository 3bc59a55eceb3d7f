//! Limits on CPU time that the workload ran into.

use super::{
    View,
    figures::{clean, duration, quantity},
    layout::wrapped,
};

/// A sentence for each cgroup that was held off the CPUs.
pub(super) fn section(view: &View<'_>) -> String {
    let sentence = |t: &crate::report::Throttled| {
        let limit = match (t.quota_us, t.period_us) {
            (Some(quota), Some(period)) if period > 0 => {
                let hundredths = quota.saturating_mul(100) / period;
                format!(
                    "its CPU limit is {}.{:02} CPUs",
                    hundredths / 100,
                    hundredths % 100
                )
            }
            _ => "it has a CPU limit".to_owned(),
        };
        let text = format!(
            "The kernel held the workload's cgroup {} off the CPUs for {} (the sum over the CPUs) \
             in {}: {limit}. Its tasks were waiting for a CPU then, not blocked.",
            clean(&t.cgroup),
            duration(t.ns),
            quantity(t.periods, "period"),
        );
        wrapped(view.style, "  ", &text)
    };
    view.report.throttled.iter().map(sentence).collect()
}
