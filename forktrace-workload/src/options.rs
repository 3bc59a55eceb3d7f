//! Values of options that several workloads have.

use std::time::Duration;

/// Reads an option's value such as `2` or `0.25`, in seconds.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| format!("'{text}' is not a number of seconds"))?;
    if seconds > A_DAY {
        return Err(format!("{seconds} s is longer than a day"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// No workload needs longer, and sums of such times cannot overflow.
const A_DAY: f64 = 86_400.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_be_fractions_but_not_nonsense() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(seconds("2"), Ok(Duration::from_secs(2)));
        for nonsense in ["", "-1", "NaN", "inf", "1e9", "2s"] {
            assert!(seconds(nonsense).is_err(), "{nonsense}");
        }
    }
}
