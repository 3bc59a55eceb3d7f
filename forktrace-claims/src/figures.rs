//! What the runs of the arms measured, summed up: medians with their spread,
//! and figures over all arms.

mod spread;

use serde_json::{Map, Value, json};

use forktrace_core::random::SplitMix;

use super::{
    file::{Arm, Claim, ClaimError},
    machine::Machine,
    measured::Measured,
};
use crate::expression::{Figures, Shape};

pub use self::spread::Spread;

/// Resamplings for the interval of a figure.
const RESAMPLINGS: usize = 500;

/// The runs of one arm with one set of parameters.
#[derive(Clone, Debug, Default)]
pub struct Point {
    /// The parameters.
    pub params: Map<String, Value>,
    /// What each run measured, by the measure's name.
    pub runs: Vec<Map<String, Value>>,
}

/// The runs of all arms, in the order of the claim's arms.
pub type Arms = Vec<Vec<Point>>;

/// Sorts runs by arm and parameters, in the order in which these came.
pub fn arms_of(claim: &Claim, measured: &[Measured]) -> Arms {
    let mut arms: Arms = vec![Vec::new(); claim.arms.len()];
    for run in measured {
        let points = &mut arms[run.arm];
        let point = match points.iter_mut().find(|point| point.params == run.params) {
            Some(point) => point,
            None => {
                points.push(Point {
                    params: run.params.clone(),
                    runs: Vec::new(),
                });
                points
                    .last_mut()
                    .unwrap_or_else(|| unreachable!("just pushed"))
            }
        };
        point.runs.push(run.measures.clone());
    }
    arms
}

/// The variables of a claim's predicates.
///
/// # Errors
/// When a figure has no value.
pub fn variables(
    claim: &Claim,
    arms: &Arms,
    machine: &Machine,
) -> Result<Map<String, Value>, ClaimError> {
    let mut variables = Map::new();
    // Plain strings, numbers and maps: this can't fail.
    let machine = serde_json::to_value(machine).unwrap_or(Value::Null);
    variables.insert("machine".to_owned(), machine);
    for (arm, points) in claim.arms.iter().zip(arms) {
        variables.insert(arm.name.clone(), arm_value(arm, points));
    }
    if claim.figures.is_empty() {
        return Ok(variables);
    }
    let values = evaluate(claim, &mut variables.clone())?;
    let spreads = intervals(claim, arms, &variables, &values);
    for (((name, _), value), interval) in claim.figures.iter().zip(values).zip(spreads) {
        let mut figure = json!({ "value": value });
        if let Some((low, high)) = interval {
            figure["low"] = crate::expression::json_number(low);
            figure["high"] = crate::expression::json_number(high);
        }
        variables.insert(name.clone(), figure);
    }
    Ok(variables)
}

/// All figures, each with those before it among the variables.
fn evaluate(claim: &Claim, variables: &mut Map<String, Value>) -> Result<Vec<Value>, ClaimError> {
    let mut values = Vec::new();
    for (name, placed) in &claim.figures {
        let value = placed
            .expression
            .evaluate(&Figures::new(variables))
            .map_err(|failure| placed.error(&claim.origin, &format!("figures.{name}"), &failure))?;
        let figure = json!({ "value": value, "low": value, "high": value });
        variables.insert(name.clone(), figure);
        values.push(value);
    }
    Ok(values)
}

/// An interval for each figure that is a number: the percentile bootstrap
/// (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).
/// Each arm's runs are drawn anew with replacement, medians and figures computed
/// from these, and the middle 95 % of the results taken.
fn intervals(
    claim: &Claim,
    arms: &Arms,
    variables: &Map<String, Value>,
    values: &[Value],
) -> Vec<Option<(f64, f64)>> {
    let mut samples: Vec<Vec<f64>> = vec![Vec::new(); values.len()];
    let repeated = arms.iter().flatten().any(|point| point.runs.len() > 1);
    // The same runs always give the same interval.
    let mut random = SplitMix(0);
    for _ in 0..if repeated { RESAMPLINGS } else { 0 } {
        let mut drawn = variables.clone();
        for (arm, points) in claim.arms.iter().zip(arms) {
            let points: Vec<_> = points
                .iter()
                .map(|point| resample(point, &mut random))
                .collect();
            drawn.insert(arm.name.clone(), arm_value(arm, &points));
        }
        // Drawn runs can lack what a figure needs; the others tell the spread.
        if let Ok(figures) = evaluate(claim, &mut drawn) {
            for (samples, figure) in samples.iter_mut().zip(figures) {
                samples.extend(figure.as_f64());
            }
        }
    }
    values
        .iter()
        .zip(samples)
        .map(|(value, mut sample)| {
            let value = value.as_f64()?;
            sample.push(value);
            sample.sort_by(f64::total_cmp);
            let at = |q| crate::expression::quantile_of(&sample, q);
            Some((at(0.025).min(value), at(0.975).max(value)))
        })
        .collect()
}

/// As many runs of a point, drawn from them with replacement.
fn resample(point: &Point, random: &mut SplitMix) -> Point {
    let count = point.runs.len();
    let runs = (0..count).map(|_| point.runs[random.below(count as u64) as usize].clone());
    Point {
        params: point.params.clone(),
        runs: runs.collect(),
    }
}

/// An arm as a variable: its points and, when there is just one, that point's
/// measures themselves.
fn arm_value(arm: &Arm, points: &[Point]) -> Value {
    let points: Vec<Value> = points
        .iter()
        .map(|point| {
            let mut fields = point.params.clone();
            for (measure, _) in &arm.measures {
                let values = point.runs.iter().filter_map(|run| run.get(measure));
                fields.insert(measure.clone(), Spread::of(values).to_json());
            }
            Value::Object(fields)
        })
        .collect();
    let mut fields = match points.as_slice() {
        [Value::Object(only)] if !arm.optional => only.clone(),
        _ => Map::new(),
    };
    fields.insert("points".to_owned(), Value::Array(points));
    Value::Object(fields)
}

/// What an arm looks like in the predicates.
pub(super) fn arm_shape(arm: &Arm) -> Shape {
    let several = |mode: usize| arm.params[mode].iter().any(|param| param.values.len() > 1);
    let fields: Vec<(String, Shape)> = arm.params[0]
        .iter()
        .map(|param| (param.name.clone(), Shape::Any))
        .chain(
            arm.measures
                .iter()
                .map(|(name, placed)| (name.clone(), spread_shape(placed.expression.shape()))),
        )
        .collect();
    let points = Shape::list(Shape::object(fields.clone()));
    let mut all = vec![("points".to_owned(), points)];
    // An arm that may be left out has no points then.
    if !several(0) && !several(1) && !arm.optional {
        all.extend(fields);
    }
    Shape::object(all)
}

/// A measure over several runs.
fn spread_shape(of: &Shape) -> Shape {
    let mut fields = vec![
        ("value".to_owned(), of.clone()),
        ("values".to_owned(), Shape::list(of.clone())),
        ("n".to_owned(), Shape::Number),
    ];
    if matches!(of, Shape::Number | Shape::Any) {
        for name in ["low", "high", "min", "max"] {
            fields.push((name.to_owned(), Shape::Number));
        }
    }
    Shape::object(fields)
}

/// A figure over all arms.
pub(super) fn figure_shape(of: &Shape) -> Shape {
    let mut fields = vec![("value".to_owned(), of.clone())];
    if matches!(of, Shape::Number | Shape::Any) {
        for name in ["low", "high"] {
            fields.push((name.to_owned(), Shape::Number));
        }
    }
    Shape::object(fields)
}

/// Of a report's variables, those that are the workload's own words.
pub(super) fn marks_only(report: Shape) -> Shape {
    match report {
        Shape::Object { fields, .. } => Shape::object(
            fields
                .iter()
                .filter(|(name, _)| MARKS_ONLY.contains(&name.as_str()))
                .map(|(name, shape)| (name.clone(), shape.clone())),
        ),
        other => other,
    }
}

/// See [`marks_only`].
pub(super) const MARKS_ONLY: [&str; 2] = ["marks", "workload"];
