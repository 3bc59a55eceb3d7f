//! The schema of the JSON report, made of the types of the report and their comments.

use schemars::{
    JsonSchema, Schema,
    generate::SchemaSettings,
    transform::{Transform, transform_subschemas},
};
use serde_json::Value;

use super::Report;

/// The JSON Schema of a report, which `docs/report.schema.json` shows.
pub fn schema() -> Schema {
    schema_of::<Report>("forktrace report")
}

/// The JSON Schema (draft 2020-12) of what a type is written as. Comments are the
/// descriptions.
pub fn schema_of<T: JsonSchema>(title: &str) -> Schema {
    let settings = SchemaSettings::draft2020_12()
        .for_serialize()
        .with_transform(ForReaders);
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), title.into());
    schema
}

/// Makes descriptions of comments that were written for Rust.
#[derive(Clone)]
struct ForReaders;

impl Transform for ForReaders {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(description) = schema.get("description").and_then(Value::as_str) {
            let description = for_readers(description);
            schema.insert("description".to_owned(), description.into());
        }
        transform_subschemas(self, schema);
    }
}

/// A comment without line breaks within paragraphs. The names of types and fields are those
/// of the schema: [`super::Wait::reason`] is `Wait.reason`, and `None` is `null`.
fn for_readers(comment: &str) -> String {
    let paragraphs = comment.split("\n\n").map(|p| p.replace('\n', " "));
    let text = paragraphs.collect::<Vec<_>>().join("\n\n");
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, link)) = rest.split_once("[`")
        && let Some((path, after)) = link.split_once("`]")
    {
        let name = path.trim_start_matches("super::").replace("::", ".");
        out += &format!("{before}`{name}`");
        rest = after;
    }
    (out + rest).replace("`None`", "`null`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::schema_check;

    #[test]
    fn comments_become_descriptions() {
        for (comment, description) in [
            ("As in\n[`super::Wait::reason`].", "As in `Wait.reason`."),
            ("One.\n\n`None`: see [`Task`]", "One.\n\n`null`: see `Task`"),
            ("A [`torn link", "A [`torn link"),
        ] {
            assert_eq!(for_readers(comment), description);
        }
    }

    #[test]
    fn docs_show_the_schema_of_the_types() {
        schema_check::is_shown(&schema(), "report.schema.json");
    }

    #[test]
    fn the_schema_requires_and_describes_every_property() {
        schema_check::requires_and_describes_every_property(schema().as_value());
    }
}
