//! What figures look like: which names there are, before there is a value.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

/// The shape of a figure, a row or a whole report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Anything: what is wrong with it is found when it is evaluated.
    Any,
    /// A number, or null when it was not measured.
    Number,
    /// True or false.
    Bool,
    /// A text.
    Text,
    /// A list of such.
    List(Arc<Shape>),
    /// Named figures; when it is open, there may be others.
    Object {
        /// By name.
        fields: Arc<BTreeMap<String, Shape>>,
        /// Whether others may be there.
        open: bool,
    },
}

impl Shape {
    /// Named figures and no others.
    pub fn object(fields: impl IntoIterator<Item = (String, Shape)>) -> Self {
        Self::Object {
            fields: Arc::new(fields.into_iter().collect()),
            open: false,
        }
    }

    /// The same with one more figure.
    pub(crate) fn with(self, name: &str, shape: Shape) -> Self {
        match self {
            Self::Object { fields, open } => {
                let mut fields = (*fields).clone();
                fields.insert(name.to_owned(), shape);
                Self::Object {
                    fields: Arc::new(fields),
                    open,
                }
            }
            other => other,
        }
    }

    /// A list.
    pub fn list(of: Shape) -> Self {
        Self::List(Arc::new(of))
    }

    /// The variables that a report has, from its schema.
    pub fn of_report() -> Self {
        let schema = forktrace_core::report::schema();
        Self::of_schema(schema.as_value(), schema.as_value())
    }

    /// The variables that a comparison has, likewise.
    pub fn of_diff() -> Self {
        let schema = forktrace_core::diff::schema();
        Self::of_schema(schema.as_value(), schema.as_value())
    }

    /// The variables that a recording has at a moment while it goes on.
    pub fn of_moment() -> Self {
        let schema = forktrace_core::report::schema_of::<forktrace_core::live::Moment>("moment");
        Self::of_schema(schema.as_value(), schema.as_value())
    }

    /// What a part of the schema says.
    fn of_schema(root: &Value, schema: &Value) -> Self {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.trim_start_matches("#/$defs/");
            return Self::of_schema(root, &root["$defs"][name]);
        }
        // One that can be null.
        if let Some(choices) = schema["anyOf"].as_array() {
            let one = choices.iter().find(|choice| choice["type"] != "null");
            return one.map_or(Self::Any, |one| Self::of_schema(root, one));
        }
        if let Some(fields) = schema["properties"].as_object() {
            return Self::Object {
                fields: Arc::new(
                    fields
                        .iter()
                        .map(|(name, field)| (name.clone(), Self::of_schema(root, field)))
                        .collect(),
                ),
                open: schema["additionalProperties"].as_bool() == Some(true),
            };
        }
        if schema["items"].is_object() {
            return Self::list(Self::of_schema(root, &schema["items"]));
        }
        let is = |name: &str| match &schema["type"] {
            Value::Array(types) => types.iter().any(|t| t == name),
            one => one == name,
        };
        if is("integer") || is("number") {
            Self::Number
        } else if is("boolean") {
            Self::Bool
        } else if is("string") || schema["oneOf"][0]["type"] == "string" {
            Self::Text
        } else {
            Self::Any
        }
    }

    /// The shape of a property: `Err` with all names when there is none such.
    pub(crate) fn field(&self, name: &str) -> Result<Shape, Vec<&str>> {
        match self {
            Self::Any => Ok(Self::Any),
            Self::Object { fields, open } => match fields.get(name) {
                Some(shape) => Ok(shape.clone()),
                None if *open => Ok(Self::Any),
                None => Err(fields.keys().map(String::as_str).collect()),
            },
            _ => Err(Vec::new()),
        }
    }

    /// In words.
    pub(super) fn in_words(&self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Number => "a number",
            Self::Bool => "true or false",
            Self::Text => "a text",
            Self::List(_) => "a list",
            Self::Object { .. } => "a row",
        }
    }

    /// Whether a value of this shape can be true or false.
    pub fn can_be_true(&self) -> bool {
        matches!(self, Self::Any | Self::Bool)
    }
}
