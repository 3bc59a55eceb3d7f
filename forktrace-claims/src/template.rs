//! Sentences with figures in them: `{expression}`.

use serde_json::Value;

use super::words::in_words;
use crate::expression::{Expression, Failure, Figures, Invalid, Shape};

/// A sentence.
#[derive(Clone, Debug)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Figure(Expression),
}

impl Template {
    /// Compiles a sentence; `{{` and `}}` are braces.
    pub(super) fn compile(source: &str, figures: &Shape) -> Result<Self, Invalid> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = source;
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            let line = source[..source.len() - rest.len()].matches('\n').count();
            if rest.starts_with(brace) {
                text.push_str(brace);
                rest = &rest[1..];
                continue;
            }
            let end = match brace {
                "{" => rest.find('}'),
                _ => None,
            };
            let Some(end) = end else {
                return Err(Invalid {
                    line: line + 1,
                    column: None,
                    message: format!(
                        "a {brace} without its counterpart; write it twice for itself"
                    ),
                });
            };
            parts.push(Part::Text(std::mem::take(&mut text)));
            let expression = &rest[..end];
            let compiled = Expression::compile(expression, figures).map_err(|invalid| Invalid {
                line: line + invalid.line,
                column: None,
                message: format!("{{{expression}}}: {}", invalid.message),
            })?;
            parts.push(Part::Figure(compiled));
            rest = &rest[end + 1..];
        }
        text.push_str(rest);
        parts.push(Part::Text(text));
        Ok(Self { parts })
    }

    /// The sentence. A figure that is not there is shown as such: a sentence is
    /// no reason to fail.
    pub fn fill(&self, figures: &Figures) -> String {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Figure(expression) => shown(expression, &expression.evaluate(figures)),
            })
            .collect::<String>()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }
}

fn shown(expression: &Expression, value: &Result<Value, Failure>) -> String {
    match value {
        Ok(value) => in_words(expression.source(), value),
        Err(_) => format!("({}: not known)", expression.source().trim()),
    }
}

impl std::fmt::Display for Template {
    /// As it was written.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => write!(f, "{text}")?,
                Part::Figure(expression) => write!(f, "{{{}}}", expression.source())?,
            }
        }
        Ok(())
    }
}
