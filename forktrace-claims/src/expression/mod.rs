//! Expressions over the figures of a report, in the Common Expression Language
//! (<https://cel.dev>), as the crate `cel` has it.
//!
//! Two things differ from plain CEL, so that expressions stay short. All numbers
//! are of one kind (double): `ns / 2` and `count > 3` mean what they say. And a
//! name that the figures don't have is found before anything is evaluated: see
//! [`Shape`].

mod check;
mod functions;
mod number;
mod shape;
#[cfg(test)]
mod tests;
mod text;
mod used;

use std::fmt;

use cel::{Context, Program, Value, common::ast::IdedExpr};
use serde_json::Map;

pub use self::shape::Shape;

/// Where in an expression something is wrong, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Line in the expression, from 1.
    pub line: usize,
    /// Column, from 1; `None`: the line as a whole.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
}

impl std::error::Error for Invalid {}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (1, Some(column)) => write!(f, "column {column}: {}", self.message),
            (line, Some(column)) => write!(f, "line {line}, column {column}: {}", self.message),
            (_, None) => write!(f, "{}", self.message),
        }
    }
}

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Expression {
    source: String,
    root: IdedExpr,
    shape: Shape,
}

impl Expression {
    /// Compiles an expression over figures of this shape.
    ///
    /// # Errors
    /// When it is no expression, or names a figure or a function that is not
    /// there.
    pub fn compile(source: &str, figures: &Shape) -> Result<Self, Invalid> {
        let program = Program::compile(source).map_err(|errors| {
            let first = errors.errors.first();
            let (line, column) = first.map_or((1, 1), |error| error.pos);
            Invalid {
                line: line.max(1) as usize,
                column: Some(column.max(1) as usize),
                message: first.map_or_else(
                    || "this is no expression".to_owned(),
                    |error| error.msg.clone(),
                ),
            }
        })?;
        let shape = check::check(program.expression(), figures).map_err(|wrong| {
            let offset = program.source_info().offset_for(wrong.id);
            invalid_at(
                source,
                offset.map(|(start, _)| start as usize),
                wrong.message,
            )
        })?;
        let mut root = program.expression().clone();
        number::one_kind(&mut root);
        Ok(Self {
            source: source.to_owned(),
            root,
            shape,
        })
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What its value looks like.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Its value.
    ///
    /// # Errors
    /// When it can't be computed: a list is shorter than the index, a figure was
    /// not measured (null) and is computed with.
    pub fn evaluate(&self, figures: &Figures) -> Result<serde_json::Value, Failure> {
        match Value::resolve(&self.root, &figures.0) {
            Ok(value) => Ok(functions::to_json(&value)),
            Err(error) => Err(Failure {
                message: shortened(&error.to_string()),
                used: used::used(&self.root, &figures.0),
            }),
        }
    }

    /// Whether it is true.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate), and when it is neither true nor false.
    pub fn holds(&self, figures: &Figures) -> Result<bool, Failure> {
        match self.evaluate(figures)? {
            serde_json::Value::Bool(holds) => Ok(holds),
            other => Err(Failure {
                message: format!("it is {other}, neither true nor false"),
                used: Vec::new(),
            }),
        }
    }

    /// The figures that its value comes from, as `name = value`.
    pub fn used(&self, figures: &Figures) -> Vec<String> {
        used::used(&self.root, &figures.0)
    }

    /// Whether it calls this function.
    pub fn calls(&self, function: &str) -> bool {
        self.root.references().has_function(function)
    }

    /// Whether it names this variable.
    pub fn names(&self, variable: &str) -> bool {
        self.root.references().has_variable(variable)
    }
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub message: String,
    /// The figures that could be had, as `name = value`.
    pub used: Vec<String>,
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if !self.used.is_empty() {
            write!(f, " ({})", self.used.join(", "))?;
        }
        Ok(())
    }
}

/// Figures, by the names of variables.
pub struct Figures(Context<'static, 'static>);

impl Figures {
    /// From JSON: each property is a variable.
    pub fn new(variables: &Map<String, serde_json::Value>) -> Self {
        let mut context = functions::context();
        for (name, value) in variables {
            context.add_variable_from_value(name.as_str(), functions::from_json(value));
        }
        Self(context)
    }

    /// Gives a variable another value. Whoever looks often keeps the figures and sets what has
    /// changed: the functions that come with them take longer to make than most expressions to
    /// evaluate.
    pub fn set(&mut self, name: &str, value: &serde_json::Value) {
        let value = functions::from_json(value);
        self.0.add_variable_from_value(name, value);
    }
}

/// Places an error in the source.
fn invalid_at(source: &str, offset: Option<usize>, message: String) -> Invalid {
    let Some(offset) = offset else {
        return Invalid {
            line: 1,
            column: None,
            message,
        };
    };
    let before: String = source.chars().take(offset).collect();
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Invalid {
        line: before.matches('\n').count() + 1,
        column: Some(before[line_start..].chars().count() + 1),
        message,
    }
}

/// The crate's messages can hold whole reports.
fn shortened(message: &str) -> String {
    const LONGEST: usize = 200;
    match message.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &message[..at]),
        None => message.to_owned(),
    }
}

/// The quantile of a sorted list that is not empty: linear between the two
/// nearest values (definition 7 of Hyndman and Fan, "Sample quantiles in
/// statistical packages", 1996, which spreadsheets and numpy use).
pub fn quantile_of(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// A number as JSON: without a point when it is whole.
pub fn json_number(x: f64) -> serde_json::Value {
    const EXACT: f64 = (1u64 << 53) as f64;
    if x.fract() == 0.0 && x.abs() <= EXACT {
        (x as i64).into()
    } else {
        x.into()
    }
}
