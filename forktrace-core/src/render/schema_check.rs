//! Checks JSON against its schema, and a schema against our rules for schemas.

use serde_json::Value;

/// The part of JSON Schema that ours uses, and one thing more: a property that
/// the schema does not name is an error, since it should be described.
pub(super) fn check(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
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
                for (name, value) in value.as_object().into_iter().flatten() {
                    match rule.get(name) {
                        Some(rule) => {
                            errors.extend(check(root, rule, value, &format!("{at}.{name}")));
                        }
                        None if schema["additionalProperties"] == true => {}
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
            "$schema" | "$defs" | "title" | "description" | "additionalProperties" => true,
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
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("this test does not know the type {other}"),
    }
}

/// Every property is always there (an absent one could mean anything), and says
/// what it is.
pub(super) fn requires_and_describes_every_property(schema: &Value) {
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
    walk(schema, "the whole");
    for (name, rule) in schema["$defs"].as_object().unwrap() {
        assert!(rule["description"].is_string(), "{name}");
        walk(rule, name);
    }
}
