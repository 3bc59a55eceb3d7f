//! The functions that expressions have beside CEL's own, and the way of figures
//! from JSON and back.

use std::{collections::HashMap, sync::Arc};

use cel::{
    Context, ExecutionError, FunctionContext, Value,
    extractors::Arguments,
    objects::{Key, Map},
};

use wildmatch::WildMatch;

use super::{number, shape::Shape};

type Result<T> = std::result::Result<T, ExecutionError>;

/// A function, for the check before anything is evaluated.
pub(super) struct Known {
    pub(super) name: &'static str,
    /// Fewest and most arguments, the target of a method counted.
    pub(super) arguments: (usize, usize),
    pub(super) result: Returns,
}

/// What a function returns.
pub(super) enum Returns {
    Number,
    Bool,
    Text,
    Any,
    /// One of the tasks.
    Task,
}

const fn known(name: &'static str, fewest: usize, most: usize, result: Returns) -> Known {
    Known {
        name,
        arguments: (fewest, most),
        result,
    }
}

/// All functions that an expression may call.
pub(super) const KNOWN: &[Known] = &[
    known("sum", 1, 1, Returns::Number),
    known("mean", 1, 1, Returns::Number),
    known("median", 1, 1, Returns::Number),
    known("quantile", 2, 2, Returns::Number),
    known("min", 1, 64, Returns::Number),
    known("max", 1, 64, Returns::Number),
    known("abs", 1, 1, Returns::Number),
    known("at_least", 2, 2, Returns::Number),
    known("mark", 1, 1, Returns::Any),
    known("task", 1, 1, Returns::Task),
    known("blocked", 1, 1, Returns::Number),
    known("size", 1, 1, Returns::Number),
    known("int", 1, 1, Returns::Any),
    known("double", 1, 1, Returns::Number),
    known("string", 1, 1, Returns::Text),
    known("contains", 2, 2, Returns::Bool),
    known("startsWith", 2, 2, Returns::Bool),
    known("endsWith", 2, 2, Returns::Bool),
];

/// Variables that are always there: units of time, in nanoseconds.
pub(super) const UNITS: [(&str, f64); 3] = [("us", 1e3), ("ms", 1e6), ("s", 1e9)];

/// The shape of the units' variables.
pub(super) fn unit_shape(name: &str) -> Option<Shape> {
    UNITS
        .iter()
        .any(|(unit, _)| *unit == name)
        .then_some(Shape::Number)
}

pub(super) fn context() -> Context<'static, 'static> {
    let mut context = Context::default();
    for (unit, ns) in UNITS {
        context.add_variable_from_value(unit, ns);
    }
    let mut add = |name: &str, function: fn(&[Value]) -> Result<Value>| {
        let added = context.add_function(name, move |Arguments(args): Arguments| function(&args));
        // Fails for a name that the standard library has: a test calls them all.
        debug_assert!(added.is_ok(), "{name}: {added:?}");
    };
    add("sum", |args| Ok(numbers(args)?.iter().sum::<f64>().into()));
    add("mean", |args| {
        let list = some_numbers("mean", args)?;
        Ok((list.iter().sum::<f64>() / list.len() as f64).into())
    });
    add("median", |args| quantile("median", args, 0.5));
    add("quantile", |args| match args {
        [list, Value::Float(q)] if (0.0..=1.0).contains(q) => {
            quantile("quantile", std::slice::from_ref(list), *q)
        }
        _ => Err(wrong(
            "quantile",
            "it takes a list and a number from 0 to 1",
        )),
    });
    add("min", |args| extreme("min", args, f64::min));
    add("max", |args| extreme("max", args, f64::max));
    add("abs", |args| match args {
        [Value::Float(x)] => Ok(x.abs().into()),
        _ => Err(wrong("abs", "it takes a number")),
    });
    add("at_least", at_least);
    add(number::SIZE, size);
    add(number::INDEX, |args| match args {
        [Value::Float(x)] if x.fract() == 0.0 => Ok(Value::Int(*x as i64)),
        [Value::Float(_)] => Err(wrong("[]", "a list's index is a whole number")),
        [other] => Ok(other.clone()),
        _ => Err(wrong("[]", "one index is needed")),
    });
    add(number::REMAINDER, |args| match args {
        [Value::Float(a), Value::Float(b)] => Ok(a.rem_euclid(*b).into()),
        _ => Err(wrong("%", "it takes two numbers")),
    });
    // These look among the variables; there are such for a run's report only,
    // which the check has seen to.
    let found = context.add_function("mark", |f: &FunctionContext, name: Arc<String>| {
        only(f, "marks", &name).and_then(|mark| field(f, &mark, "value"))
    });
    debug_assert!(found.is_ok());
    let found = context.add_function("task", |f: &FunctionContext, name: Arc<String>| {
        only(f, "tasks", &name)
    });
    debug_assert!(found.is_ok());
    let found = context.add_function("blocked", blocked);
    debug_assert!(found.is_ok());
    context
}

/// How many of the tasks whose name is like this are blocked.
fn blocked(f: &FunctionContext, glob: Arc<String>) -> Result<Value> {
    let tasks = f.ptx.get_variable("tasks");
    let Some(Ok(Value::List(tasks))) = tasks.map(|it| Value::try_from(it.as_ref())) else {
        return Err(f.error("there are no tasks here"));
    };
    let pattern = WildMatch::new(&glob);
    let is = |task: &Value, field_name: &str, wanted: &dyn Fn(&str) -> bool| matches!(field(f, task, field_name), Ok(Value::String(it)) if wanted(&it));
    let blocked = tasks.iter().filter(|task| {
        is(task, "state", &|state| state == "blocked")
            && is(task, "name", &|it| pattern.matches(it))
    });
    Ok((blocked.count() as f64).into())
}

fn wrong(function: &str, message: impl ToString) -> ExecutionError {
    ExecutionError::function_error(function, message)
}

/// The only row of a list with this name.
fn only(f: &FunctionContext, list: &str, name: &str) -> Result<Value> {
    let variable = f.ptx.get_variable(list);
    let rows = match variable.map(|value| Value::try_from(value.as_ref())) {
        Some(Ok(Value::List(rows))) => rows,
        _ => return Err(f.error(format!("there are no {list} here"))),
    };
    let mut with_name = rows
        .iter()
        .filter(|row| matches!(field(f, row, "name"), Ok(Value::String(n)) if *n == name));
    match (with_name.next(), with_name.count()) {
        (Some(row), 0) => Ok(row.clone()),
        (None, _) => Err(f.error(format!("none of the {list} is named {name:?}"))),
        (Some(_), more) => Err(f.error(format!(
            "{} of the {list} are named {name:?}; choose with {list}.filter(x, …)",
            more + 1
        ))),
    }
}

fn field(f: &FunctionContext, row: &Value, name: &str) -> Result<Value> {
    match row {
        Value::Map(map) => map
            .map
            .get(&Key::from(name))
            .cloned()
            .ok_or_else(|| f.error(format!("it has no {name}"))),
        _ => Err(f.error("it is no row")),
    }
}

/// A list's numbers, or the arguments themselves.
fn numbers(args: &[Value]) -> Result<Vec<f64>> {
    let items: &[Value] = match args {
        [Value::List(list)] => list,
        _ => args,
    };
    items
        .iter()
        .map(|item| match item {
            Value::Float(x) => Ok(*x),
            Value::Int(x) => Ok(*x as f64),
            Value::UInt(x) => Ok(*x as f64),
            other => Err(wrong("numbers", format!("{other:?} is no number"))),
        })
        .collect()
}

fn some_numbers(function: &str, args: &[Value]) -> Result<Vec<f64>> {
    let list = numbers(args)?;
    if list.is_empty() {
        return Err(wrong(function, "the list is empty"));
    }
    Ok(list)
}

fn extreme(function: &str, args: &[Value], pick: fn(f64, f64) -> f64) -> Result<Value> {
    let list = some_numbers(function, args)?;
    Ok(list.into_iter().reduce(pick).unwrap_or(f64::NAN).into())
}

fn quantile(function: &str, args: &[Value], q: f64) -> Result<Value> {
    let mut list = some_numbers(function, args)?;
    list.sort_by(f64::total_cmp);
    Ok(super::quantile_of(&list, q).into())
}

/// Time during which at least so many tasks were in a state, out of a profile
/// (`blocked_at_once`, `running_at_once`).
fn at_least(args: &[Value]) -> Result<Value> {
    let [Value::List(rows), Value::Float(least)] = args else {
        return Err(wrong(
            "at_least",
            "it takes a profile and a number of tasks",
        ));
    };
    let mut sum = 0.0;
    for row in rows.iter() {
        let get = |name| match row {
            Value::Map(map) => match map.map.get(&Key::from(name)) {
                Some(Value::Float(x)) => Some(*x),
                _ => None,
            },
            _ => None,
        };
        let (Some(count), Some(ns)) = (get("count"), get("ns")) else {
            return Err(wrong("at_least", "its first argument is no profile"));
        };
        if count >= *least {
            sum += ns;
        }
    }
    Ok(sum.into())
}

fn size(args: &[Value]) -> Result<Value> {
    let size = match args {
        [Value::List(list)] => list.len(),
        [Value::Map(map)] => map.map.len(),
        [Value::String(text)] => text.chars().count(),
        _ => return Err(wrong("size", "it takes a list, an object or a text")),
    };
    Ok((size as f64).into())
}

/// JSON as CEL has it, all numbers doubles.
pub(super) fn from_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(b) => Value::Bool(*b),
        serde_json::Value::Number(n) => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(s) => Value::from(s.as_str()),
        serde_json::Value::Array(list) => {
            Value::List(Arc::new(list.iter().map(from_json).collect()))
        }
        serde_json::Value::Object(map) => {
            let map: HashMap<Key, Value> = map
                .iter()
                .map(|(name, value)| (Key::from(name.as_str()), from_json(value)))
                .collect();
            Value::Map(Map { map: Arc::new(map) })
        }
    }
}

/// A value as JSON; what JSON has no word for becomes null.
pub(super) fn to_json(value: &Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        Value::List(list) => Json::Array(list.iter().map(to_json).collect()),
        Value::Map(map) => Json::Object(
            map.map
                .iter()
                .map(|(key, value)| (key.to_string(), to_json(value)))
                .collect(),
        ),
        Value::Int(i) => (*i).into(),
        Value::UInt(i) => (*i).into(),
        Value::Float(x) => super::json_number(*x),
        Value::String(s) => Json::String(s.to_string()),
        Value::Bool(b) => Json::Bool(*b),
        _ => Json::Null,
    }
}
