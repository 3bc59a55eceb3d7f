//! The picture of a claim: what some tasks did around the moment that decides it,
//! or, where no moment does, the figures that are compared.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    file::{Arm, Of, Placed, Plan},
    words::{in_words, sentence},
};
use crate::expression::{Expression, Figures};
use forktrace_core::{
    analysis::timeline,
    model::Model,
    report::{Interval, Timeline},
};

/// What decides a claim, to be looked at. Either `timeline` or `bars` has something, unless
/// `missing` says why not.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Picture {
    /// What is to be seen.
    pub shows: String,
    /// The run that it is of; `None`: of all.
    pub run: Option<String>,
    /// Time lines of tasks around a moment of the run.
    pub timeline: Option<Timeline>,
    /// Figures that are compared.
    pub bars: Vec<Bar>,
    /// Why there is nothing to be seen.
    pub missing: Option<String>,
}

/// A figure, as a bar.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Bar {
    /// What it is of.
    pub label: String,
    /// The figure.
    pub value: f64,
    /// Lower end of its interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// The same in words, with the unit.
    pub text: String,
}

impl Plan {
    /// Whether a picture is to be made of a run of this arm with these parameters.
    pub(super) fn is_of(&self, arm: &Arm, params: &Map<String, Value>) -> bool {
        match &self.of {
            Of::Moment(moment) => {
                let given = &moment.params;
                moment.arm == arm.name && given.iter().all(|(name, v)| params.get(name) == Some(v))
            }
            Of::Bars(_) => false,
        }
    }

    /// The picture of a run, whose name is `run`, from its report's variables.
    pub(super) fn of_run(
        &self,
        run: String,
        variables: &Map<String, Value>,
        model: &Model,
    ) -> Option<Picture> {
        let Of::Moment(plan) = &self.of else {
            return None;
        };
        let missing = |why: &str| Picture {
            missing: Some(format!("{run} {why}")),
            ..Picture::default()
        };
        let figures = Figures::new(variables);
        let value = |placed: &Placed| placed.expression.evaluate(&figures).ok();
        let moment = value(&plan.moment).filter(|moment| !moment.is_null());
        let Some((moment, interval)) = moment.and_then(|m| Some((interval(&m)?, m))) else {
            return Some(missing("shows no such moment"));
        };
        let tasks = value(&plan.tasks);
        let serials: Vec<u32> = tasks
            .iter()
            .filter_map(Value::as_array)
            .flatten()
            .filter_map(|task| whole(task).or(whole(&task["serial"]))?.try_into().ok())
            .collect();
        let timeline = timeline(model, &serials, moment, plan.context);
        let Some(timeline) = timeline.filter(|timeline| !timeline.rows.is_empty()) else {
            return Some(missing("shows none of these tasks then"));
        };
        let mut with_moment = variables.clone();
        with_moment.insert("moment".to_owned(), interval);
        Some(Picture {
            shows: sentence(&self.shows.fill(&Figures::new(&with_moment))),
            run: Some(run),
            timeline: Some(timeline),
            ..Picture::default()
        })
    }

    /// The picture of figures.
    pub(super) fn of_figures(&self, figures: &Figures) -> Option<Picture> {
        let Of::Bars(bars) = &self.of else {
            return None;
        };
        // An arm that was left out has no bar.
        let bars: Vec<Bar> = bars
            .iter()
            .filter_map(|(label, placed)| bar(label, &placed.expression, figures))
            .collect();
        Some(Picture {
            missing: bars.is_empty().then(|| "no figure has a value".to_owned()),
            shows: sentence(&self.shows.fill(figures)),
            bars,
            ..Picture::default()
        })
    }
}

fn bar(label: &str, expression: &Expression, figures: &Figures) -> Option<Bar> {
    let found = expression.evaluate(figures).ok()?;
    let value = found.as_f64().or_else(|| found["value"].as_f64())?;
    Some(Bar {
        label: label.to_owned(),
        value,
        low: found["low"].as_f64().unwrap_or(value),
        high: found["high"].as_f64().unwrap_or(value),
        text: in_words(expression.source(), &found),
    })
}

fn interval(moment: &Value) -> Option<Interval> {
    Some(Interval {
        start_ns: whole(&moment["start_ns"])?,
        end_ns: whole(&moment["end_ns"])?,
    })
}

/// All numbers of expressions are floating.
fn whole(value: &Value) -> Option<u64> {
    value.as_f64().filter(|x| *x >= 0.0).map(|x| x as u64)
}
