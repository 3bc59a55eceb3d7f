//! How values are written: times, lengths of time, sizes.

#[cfg(feature = "record")]
use std::time::Duration;

/// A time in ns; without a unit it is seconds.
pub(super) fn time(text: &str) -> Result<u64, String> {
    let units = [
        ("ns", 1.0),
        ("us", 1e3),
        ("µs", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
    ];
    let trimmed = text.trim();
    let (number, unit) = units
        .iter()
        .find_map(|(name, unit)| Some((trimmed.strip_suffix(name)?, *unit)))
        .unwrap_or((trimmed, 1e9));
    match number.trim().parse::<f64>() {
        Ok(number) if number >= 0.0 && number.is_finite() => Ok((number * unit).round() as u64),
        _ => Err(format!("{text:?} is no time; write 3.2s, 250ms or 12us")),
    }
}

#[cfg(feature = "record")]
/// Parses `512K`, `16M` or a number of bytes into what a ring can be.
pub(super) fn ring_size(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.to_ascii_uppercase().trim_end_matches('B') {
        t if t.ends_with('K') => (t[..t.len() - 1].to_owned(), 1u64 << 10),
        t if t.ends_with('M') => (t[..t.len() - 1].to_owned(), 1 << 20),
        t => (t.to_owned(), 1),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is no size; write bytes, or a number with K or M"))?;
    let bytes = number.saturating_mul(unit);
    let page = 4096;
    match u32::try_from(bytes) {
        Ok(bytes) if bytes.is_power_of_two() && bytes >= page && bytes <= 1 << 30 => Ok(bytes),
        _ => Err(format!(
            "{bytes} bytes is no size for a ring: the kernel takes powers of two from 4K to 1024M"
        )),
    }
}

#[cfg(feature = "record")]
/// Parses `500ms`, `30s`, `5m`, `1h` or a number of seconds.
pub(super) fn length(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    let number: f64 = digits.parse().unwrap_or(f64::NAN);
    match Duration::try_from_secs_f64(number * seconds) {
        Ok(length) if !length.is_zero() => Ok(length),
        _ => Err(format!(
            "{text:?} is no length of time; write a number with ms, s, m or h, such as 30s"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "record")]
    #[test]
    fn ring_sizes() {
        assert_eq!(ring_size("4096"), Ok(4096));
        assert_eq!(ring_size("4K"), Ok(4096));
        assert_eq!(ring_size("16M"), Ok(16 << 20));
        assert_eq!(ring_size("16mb"), Ok(16 << 20));
        for bad in [
            "",
            "K",
            "3K",
            "2048",
            "2048M",
            "-4K",
            "4.5M",
            "99999999999999999999M",
        ] {
            assert!(ring_size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times() {
        for (text, ns) in [
            ("3.2s", 3_200_000_000),
            ("3.2", 3_200_000_000),
            ("250 ms", 250_000_000),
            ("12us", 12_000),
            ("0s", 0),
            ("7ns", 7),
        ] {
            assert_eq!(time(text), Ok(ns), "{text}");
        }
        for bad in ["", "s", "-1s", "inf", "NaN", "3.2m", "soon"] {
            assert!(time(bad).is_err(), "{bad:?}");
        }
    }

    #[cfg(feature = "record")]
    #[test]
    fn lengths_of_time() {
        for (text, ms) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("2", 2000),
            ("1.5m", 90_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(length(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "s", "-1s", "0", "5 s", "1d", "1e99h", "nans"] {
            assert!(length(bad).is_err(), "{bad:?}");
        }
    }
}
