//! Sentences, and figures in them: with a unit, which their name tells, and their spread.

use serde_json::Value;

/// A text as a sentence: a capital at its start, a full stop at its end.
pub(super) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let mut sentence: String = chars
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .collect();
    sentence.push_str(chars.as_str());
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

/// The value of an expression as part of a sentence. The unit comes from the
/// name of the figure: `_ns`, `_bytes`, `_share`, `_ratio`, `_per_s`.
pub(crate) fn in_words(source: &str, value: &Value) -> String {
    let unit = Unit::of(source);
    match value {
        Value::Number(n) => unit.words(n.as_f64().unwrap_or(f64::NAN)),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Null => "not known".to_owned(),
        // What an arm that was left out would have measured.
        Value::Array(list) if list.is_empty() => "not measured".to_owned(),
        Value::Array(list) => {
            let items: Vec<_> = list.iter().map(|item| in_words(source, item)).collect();
            items.join(", ")
        }
        Value::Object(fields) => {
            let Some(middle) = fields.get("value") else {
                return value.to_string();
            };
            let text = in_words(source, middle);
            let number = |name| fields.get(name).and_then(Value::as_f64);
            match (number("low"), number("high")) {
                (Some(low), Some(high)) if low < high => {
                    format!("{text} ({} to {})", unit.words(low), unit.words(high))
                }
                _ => text,
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Unit {
    Ns,
    Bytes,
    Share,
    Ratio,
    PerSecond,
    None,
}

impl Unit {
    /// By the last name of an expression like `arm.measure_ns.value`.
    fn of(source: &str) -> Self {
        let part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let names: Vec<&str> = source.split(|c| !part_of_name(c)).collect();
        for name in names.into_iter().rev() {
            return match name {
                "" | "value" | "low" | "high" | "min" | "max" | "values" => continue,
                name if name.ends_with("_ns") || name == "ns" => Self::Ns,
                name if name.ends_with("_bytes") => Self::Bytes,
                name if name.ends_with("_share") => Self::Share,
                name if name.ends_with("_ratio") => Self::Ratio,
                name if name.ends_with("_per_s") => Self::PerSecond,
                _ => Self::None,
            };
        }
        Self::None
    }

    fn words(self, x: f64) -> String {
        let (x, unit) = match self {
            Self::Ns => scaled(x, 1000.0, &["ns", "µs", "ms", "s"]),
            Self::Bytes => scaled(x, 1024.0, &["bytes", "KiB", "MiB", "GiB"]),
            Self::Share => (x * 100.0, " %"),
            Self::Ratio => (x, " times"),
            Self::PerSecond => (x, " a second"),
            Self::None => (x, ""),
        };
        let space = if unit.is_empty() || unit.starts_with(' ') {
            ""
        } else {
            " "
        };
        format!("{}{space}{unit}", rounded(x))
    }
}

fn scaled(mut x: f64, step: f64, units: &[&'static str]) -> (f64, &'static str) {
    let mut unit = 0;
    while x.abs() >= step && unit + 1 < units.len() {
        x /= step;
        unit += 1;
    }
    (x, units[unit])
}

/// Three digits that count, whole numbers whole.
fn rounded(x: f64) -> String {
    if !x.is_finite() {
        return "not a number".to_owned();
    }
    if x.fract() == 0.0 && x.abs() < 1e15 || x.abs() >= 100.0 {
        return grouped(x.round());
    }
    let digits = 2 - x.abs().log10().floor().max(-3.0) as i32;
    let text = format!("{x:.*}", digits.max(0) as usize);
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A whole number with commas.
fn grouped(x: f64) -> String {
    let digits = format!("{:.0}", x.abs());
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if x < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_have_the_unit_that_their_name_tells() {
        for (source, value, words) in [
            ("arm.longest_ns", json!(61_234_567), "61.2 ms"),
            ("arm.longest_ns.value", json!(999), "999 ns"),
            ("arm.together_share", json!(0.9876), "98.8 %"),
            ("arm.idle_share.high", json!(0), "0 %"),
            ("arm.heap_bytes", json!(1_572_864), "1.5 MiB"),
            ("slower_ratio", json!(10.42), "10.4 times"),
            ("a.requests_per_s", json!(12345.6), "12,346 a second"),
            ("a.count", json!(16), "16"),
            ("a.count", json!(0.000_123_4), "0.00012"),
            (
                "a.x",
                json!({"value": 2.0, "low": 1.5, "high": 2.5}),
                "2 (1.5 to 2.5)",
            ),
            (
                "a.wait_ns",
                json!({"value": 2e6, "low": 2e6, "high": 2e6}),
                "2 ms",
            ),
            ("a.who", json!({"value": "tid 7"}), "tid 7"),
            ("a.held", json!(true), "yes"),
            ("a.held", json!(null), "not known"),
            (
                "a.points.map(p, p.x_ns.value)",
                json!([1, 2000]),
                "1 ns, 2 µs",
            ),
            ("a.points.map(p, p.x_ns.value)", json!([]), "not measured"),
        ] {
            assert_eq!(in_words(source, &value), words, "{source}");
        }
    }
}
