//! Figures as words, the same in sentences and in tables.

/// A duration or a point in time with three significant digits.
pub fn duration(ns: u64) -> String {
    if ns == 0 {
        return "0 s".to_owned();
    }
    if ns < 1000 {
        return format!("{ns} ns");
    }
    // Rounding comes before the choice of unit and places: 999.6 µs is 1.00 ms.
    let rounded = |unit: u64, parts: u64| {
        (u128::from(ns) * u128::from(parts) + u128::from(unit / 2)) / u128::from(unit)
    };
    for (unit, name) in [(1_000, "µs"), (1_000_000, "ms"), (1_000_000_000, "s")] {
        let hundredths = rounded(unit, 100);
        if hundredths < 1000 {
            return format!("{}.{:02} {name}", hundredths / 100, hundredths % 100);
        }
        let tenths = rounded(unit, 10);
        if tenths < 1000 {
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
        if rounded(unit, 1) < 1000 {
            return format!("{} {name}", rounded(unit, 1));
        }
    }
    format!("{} s", thousands(rounded(1_000_000_000, 1)))
}

/// A duration of hours or days, too, in the two units that a reader would take; under two
/// minutes that of [`duration`].
pub fn long_duration(ns: u64) -> String {
    let minutes = ns / 60_000_000_000;
    match (minutes / 1_440, minutes / 60 % 24, minutes % 60) {
        (0, 0, 0..2) => duration(ns),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{} {hours} h", quantity(days, "day")),
    }
}

/// A share with one decimal. Only nothing is 0 % and only the whole is 100 %.
pub fn percent(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return "0 %".to_owned();
    }
    if part == whole {
        return "100 %".to_owned();
    }
    let whole_wide = u128::from(whole);
    match (u128::from(part) * 1000 + whole_wide / 2) / whole_wide {
        0 => "<0.1 %".to_owned(),
        1000.. if part < whole => ">99.9 %".to_owned(),
        tenths => format!("{}.{} %", tenths / 10, tenths % 10),
    }
}

/// A size in memory or on disk, in decimal units.
pub fn bytes(n: u64) -> String {
    match n {
        0..1_000 => quantity(n, "byte"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}

/// A number with its thousands apart.
pub fn count(n: u64) -> String {
    thousands(u128::from(n))
}

/// A number and its noun: `1 task`, `2 tasks`, `2 processes`, `2 switches`.
pub fn quantity(n: u64, noun: &str) -> String {
    match n {
        1 => format!("1 {noun}"),
        _ => format!("{} {}", count(n), plural(noun)),
    }
}

/// `once`, `3 times`.
pub fn times(n: u64) -> String {
    match n {
        1 => "once".to_owned(),
        n => format!("{} times", count(n)),
    }
}

/// How often, for how long in all, and the longest, where they differ: `once, for 1.50 s`,
/// `3 times, for 2.00 s in all, the longest 1.20 s`. `all` is the sum in words.
pub(crate) fn spells(n: u64, all: &str, longest_ns: u64) -> String {
    match n {
        1 => format!("once, for {all}"),
        n => format!(
            "{}, for {all} in all, the longest {}",
            times(n),
            duration(longest_ns)
        ),
    }
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn listed(names: &[String]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    }
}

/// The same of the first so many, and how many more there are: `a, b and 3 more`.
pub(crate) fn first_listed(names: impl ExactSizeIterator<Item = String>, most: usize) -> String {
    let more = names.len().saturating_sub(most);
    let more = (more > 0).then(|| format!("{} more", count(more as u64)));
    listed(&names.take(most).chain(more).collect::<Vec<_>>())
}

/// The share of a change: what grew tenfold or more is told by its factor.
pub fn growth(base: u64, new: u64) -> String {
    if base > 0 && new / base >= 10 {
        return format!("×{}", count(new / base));
    }
    percent(new.abs_diff(base), base)
}

/// The text of an error of the operating system without its number, which the words before it
/// say: `No such file or directory`.
pub fn without_error_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(" (os error ") {
        out.push_str(before);
        let number = after.split_once(')');
        match number.filter(|(n, _)| n.bytes().all(|byte| byte.is_ascii_digit())) {
            Some((_, after)) => rest = after,
            None => {
                out.push_str(" (os error ");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// The plural of a noun.
pub fn plural(noun: &str) -> String {
    let ending = if noun.ends_with(['s', 'x']) || noun.ends_with("ch") {
        "es"
    } else {
        "s"
    };
    format!("{noun}{ending}")
}

/// The text with its first letter in the other case.
pub(crate) fn recased(text: &str, case: fn(&char) -> char) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| case(&first));
    first.into_iter().chain(chars).collect()
}

fn thousands(n: u128) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_often_is_told_in_words() {
        assert_eq!(spells(1, "1.50 s", 1_500_000_000), "once, for 1.50 s");
        assert_eq!(
            spells(2, "1.50 s", 1_000_000_000),
            "2 times, for 1.50 s in all, the longest 1.00 s"
        );
    }

    #[test]
    fn long_times_are_told_in_hours_and_days() {
        assert_eq!(long_duration(119_400_000_000), "119 s");
        assert_eq!(long_duration(120_000_000_000), "2 min");
        assert_eq!(long_duration(7_260_000_000_000), "2 h 1 min");
        assert_eq!(long_duration(90_000_000_000_000), "1 day 1 h");
    }

    #[test]
    fn what_grew_much_is_told_by_its_factor() {
        assert_eq!(growth(1_000, 300_781), "×300");
        assert_eq!(growth(1_000, 9_999), "899.9 %");
        assert_eq!(growth(1_000, 0), "100 %");
        assert_eq!(growth(1_000, 10), "99.0 %");
    }

    #[test]
    fn errors_have_no_numbers() {
        let told =
            without_error_numbers("x: No such file (os error 2); y (os error z) (os error 13)");
        assert_eq!(told, "x: No such file; y (os error z)");
    }
}
