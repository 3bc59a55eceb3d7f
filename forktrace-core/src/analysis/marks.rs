//! What the workload said about itself.

use serde_json::{Map, Value};

use crate::{model::Model, report::Mark};

pub(super) fn marks(model: &Model) -> Vec<Mark> {
    let mut marks: Vec<Mark> = model
        .marks
        .iter()
        .map(|mark| {
            // Was an object when it was recorded; a forged file's need not be.
            let mut fields: Map<String, Value> =
                serde_json::from_str(&mark.fields).unwrap_or_default();
            for taken in ["name", "time_ns", "since_ns"] {
                fields.remove(taken);
            }
            Mark {
                name: mark.name.clone(),
                time_ns: mark.at_ns,
                since_ns: mark.since_ns,
                value: fields.remove("value").unwrap_or(Value::Null),
                fields,
            }
        })
        .collect();
    // Marks of several threads come in any order. Those without a time stay
    // where they were written.
    let mut last = 0;
    let mut keyed: Vec<(u64, Mark)> = marks
        .drain(..)
        .map(|mark| {
            last = mark.time_ns.unwrap_or(last);
            (last, mark)
        })
        .collect();
    keyed.sort_by_key(|(at, _)| *at);
    keyed.into_iter().map(|(_, mark)| mark).collect()
}
