//! The report for programs: its structure as serde writes it.

use std::fmt::Write as _;

use super::text::figures::is_plain;
use crate::report::Report;

pub(super) fn render(report: &Report) -> String {
    let json = serde_json::to_string_pretty(report)
        .expect("a report holds no map, so serde_json has no key to refuse");
    let mut out = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        // serde_json escapes the ASCII control characters only. The others, and
        // the marks that reverse the direction of text, would reach a terminal.
        // Outside strings JSON is ASCII, so each of these is inside one.
        if is_plain(c) || c == '\n' {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String can't fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::render::samples;

    fn schema() -> Value {
        serde_json::from_str(include_str!("../../../docs/report.schema.json")).unwrap()
    }

    /// The part of JSON Schema that ours uses, and one thing more: a property that
    /// the schema does not name is an error, since it should be described.
    fn check(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
        let mut errors = Vec::new();
        for (keyword, rule) in schema.as_object().unwrap() {
            let good = match keyword.as_str() {
                "$ref" => {
                    let name = rule.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                    let target = &root["$defs"][name];
                    assert!(target.is_object(), "no definition of {name}");
                    errors.extend(check(root, target, value, at));
                    true
                }
                "type" => match rule {
                    Value::Array(types) => types.iter().any(|rule| is_type(rule, value)),
                    _ => is_type(rule, value),
                },
                "const" => rule == value,
                "enum" => rule.as_array().unwrap().contains(value),
                "minimum" => value.as_i64().is_none_or(|n| n >= rule.as_i64().unwrap()),
                "required" | "properties" if value.is_null() => true,
                "required" => rule.as_array().unwrap().iter().all(|name| {
                    let present = value.get(name.as_str().unwrap()).is_some();
                    if !present {
                        errors.push(format!("{at}: no {name}"));
                    }
                    present
                }),
                "properties" => {
                    for (name, value) in value.as_object().unwrap() {
                        match rule.get(name) {
                            Some(rule) => {
                                errors.extend(check(root, rule, value, &format!("{at}.{name}")));
                            }
                            None => errors.push(format!("{at}: {name} is not described")),
                        }
                    }
                    true
                }
                "items" => {
                    for value in value.as_array().into_iter().flatten() {
                        errors.extend(check(root, rule, value, &format!("{at}[]")));
                    }
                    true
                }
                "$schema" | "$defs" | "title" | "description" => true,
                other => panic!("this test does not know the keyword {other}"),
            };
            if !good {
                errors.push(format!("{at}: {keyword} {rule} does not hold for {value}"));
            }
        }
        errors
    }

    fn is_type(rule: &Value, value: &Value) -> bool {
        match rule.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_u64() || value.is_i64(),
            "null" => value.is_null(),
            other => panic!("this test does not know the type {other}"),
        }
    }

    fn errors_of(json: &str) -> Vec<String> {
        let schema = schema();
        check(
            &schema,
            &schema,
            &serde_json::from_str(json).unwrap(),
            "report",
        )
    }

    #[test]
    fn reports_are_as_their_schema_says() {
        for report in samples::all() {
            let json = render(&report);
            assert_eq!(errors_of(&json), Vec::<String>::new());
            assert!(json.ends_with("}\n"));
        }
    }

    #[test]
    fn the_check_finds_what_is_wrong() {
        let json = render(&samples::sleeper());
        for (from, to, error) in [
            (
                "\"complete\": true",
                "\"complete\": 1",
                "report.audit.complete: type",
            ),
            ("\"tree\"", "\"forest\"", "report.groups[].kind: enum"),
            (
                "\"tid\": 4121",
                "\"tid\": -1",
                "report.tasks[].tid: minimum",
            ),
            ("\"ppid\"", "\"parent\"", "report.tasks[]: no \"ppid\""),
            (
                "\"ppid\"",
                "\"parent\"",
                "report.tasks[]: parent is not described",
            ),
            (
                "\"schema_version\": 1",
                "\"schema_version\": 2",
                "report.schema_version: const",
            ),
        ] {
            assert!(json.contains(from));
            let errors = errors_of(&json.replace(from, to));
            assert!(
                errors.iter().any(|found| found.starts_with(error)),
                "{errors:?}"
            );
        }
    }

    /// Every property is always there (an absent one could mean anything), and
    /// says what it is.
    #[test]
    fn the_schema_requires_and_describes_every_property() {
        fn walk(schema: &Value, at: &str) {
            let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
                return;
            };
            let mut required: Vec<&str> = schema["required"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(Value::as_str)
                .collect();
            required.sort_unstable();
            let mut names: Vec<&str> = properties.keys().map(String::as_str).collect();
            names.sort_unstable();
            assert_eq!(required, names, "{at}");
            for (name, rule) in properties {
                let described = rule["description"].is_string() || rule["$ref"].is_string();
                assert!(described, "{at}.{name}");
            }
        }
        let schema = schema();
        walk(&schema, "report");
        for (name, rule) in schema["$defs"].as_object().unwrap() {
            assert!(rule["description"].is_string(), "{name}");
            walk(rule, name);
        }
    }
}
