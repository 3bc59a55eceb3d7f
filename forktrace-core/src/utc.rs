//! Times of the wall clock, in UTC.

/// `20260131T235907Z`.
pub fn compact(unix: u64) -> String {
    let (year, month, day) = date(unix / DAY);
    let (h, m, s) = clock(unix);
    format!("{year:04}{month:02}{day:02}T{h:02}{m:02}{s:02}Z")
}

/// Is it a time as [`compact`] writes it?
pub fn is_compact(text: &str) -> bool {
    let digits = |part: &str| part.bytes().all(|it| it.is_ascii_digit());
    let halves = text.strip_suffix('Z').and_then(|it| it.split_once('T'));
    halves
        .is_some_and(|(day, time)| day.len() == 8 && time.len() == 6 && digits(day) && digits(time))
}

/// `2026-01-31`, of a day since 1970.
pub fn day(days: u64) -> String {
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `23:59:07 UTC`.
pub fn time_of_day(unix: u64) -> String {
    let (h, m, s) = clock(unix);
    format!("{h:02}:{m:02}:{s:02} UTC")
}

const DAY: u64 = 86_400;

fn clock(unix: u64) -> (u64, u64, u64) {
    let second = unix % DAY;
    (second / 3600, second / 60 % 60, second % 60)
}

/// Year, month and day of a day since 1970 (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`).
fn date(days: u64) -> (u64, u64, u64) {
    // Years begin in March, so that the day that is not in all of them is the last.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_date_1() {
        for (unix, expected) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_767_225_599, "20251231T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(compact(unix), expected);
        }
        assert_eq!(time_of_day(951_782_399), "23:59:59 UTC");
        assert_eq!(day(951_782_400 / DAY), "2000-02-29");
    }
}
