//! Checks JSON against its schema, and a schema against our rules for schemas.

use std::{fs, path::Path};

use serde::Serialize;
use serde_json::Value;

/// What is wrong with JSON by its schema. A property that the schema does not name is wrong
/// too, since it should be described.
pub(crate) fn check(schema: &Value, value: &Value) -> Vec<String> {
    let mut schema = schema.clone();
    refuse_other_properties(&mut schema);
    let validator = jsonschema::draft202012::new(&schema).expect("the schema is one");
    let errors = validator.iter_errors(value);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

fn refuse_other_properties(schema: &mut Value) {
    match schema {
        Value::Object(rules) => {
            for rule in rules.values_mut() {
                refuse_other_properties(rule);
            }
            if rules.get("properties").is_some_and(Value::is_object)
                && rules.get("type").is_some_and(|t| t == "object")
            {
                rules.entry("additionalProperties").or_insert(false.into());
            }
        }
        Value::Array(rules) => rules.iter_mut().for_each(refuse_other_properties),
        _ => {}
    }
}

/// Fails if the file of this crate that shows a schema shows another one. With
/// `UPDATE_GOLDEN` in the environment it is written instead.
pub(crate) fn is_shown(schema: &impl Serialize, file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = serde_json::to_string_pretty(schema).expect("JSON") + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).expect("the schema can be written");
        return;
    }
    let shown = fs::read_to_string(&path).expect("the schema is there");
    assert!(
        shown == text,
        "{file} is not what the types say: `cargo xtask schema` writes it"
    );
}

/// Every property is always there (an absent one could mean anything), and says what it is.
pub(crate) fn requires_and_describes_every_property(schema: &Value) {
    fn walk(schema: &Value, at: &str) {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return;
        };
        let required = schema["required"].as_array().expect("a list");
        for (name, rule) in properties {
            assert!(required.contains(&name.as_str().into()), "{at}.{name}");
            assert!(rule["description"].is_string(), "{at}.{name}");
        }
    }
    walk(schema, "the whole");
    for (name, rule) in schema["$defs"].as_object().expect("definitions") {
        assert!(rule["description"].is_string(), "{name}");
        walk(rule, name);
    }
}
