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

/// The plural of a noun.
pub fn plural(noun: &str) -> String {
    let ending = if noun.ends_with(['s', 'x']) || noun.ends_with("ch") {
        "es"
    } else {
        "s"
    };
    format!("{noun}{ending}")
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
