//! The picture of a claim: what some tasks did around the moment that decides it,
//! or, where no moment does, the figures that are compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use toml::Spanned;

use super::{
    compile::{Compiler, Result, in_order},
    figures::in_words,
    file::{Arm, Evidence, Placed},
    template::Template,
    verdict::sentence,
};
use crate::expression::{Expression, Figures, Shape};
use forktrace_core::{
    analysis::timeline,
    model::Model,
    report::{Interval, Timeline},
};

/// How many times as long as the moment a picture is, if the file does not say.
const CONTEXT: f64 = 2.0;
/// With more, the moment would be too narrow to be seen.
const MOST_CONTEXT: f64 = 20.0;

/// What a claim file says of its picture.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is to be seen, in a sentence.
    pub shows: Template,
    /// What is drawn.
    pub of: Of,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub enum Of {
    /// Time lines of tasks.
    Moment(Box<Moment>),
    /// Figures, each with a label.
    Bars(Vec<(String, Placed)>),
}

/// A moment of a run.
#[derive(Clone, Debug)]
pub struct Moment {
    /// Name of the arm.
    pub arm: String,
    /// Its parameters, those of them that have several values.
    pub params: BTreeMap<String, Value>,
    /// Something with a start and an end.
    pub moment: Placed,
    /// A list of tasks.
    pub tasks: Placed,
    /// How many times as long as the moment the picture is.
    pub context: f64,
}

/// The picture as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPicture {
    shows: Spanned<String>,
    arm: Option<Spanned<String>>,
    #[serde(default)]
    params: BTreeMap<String, Spanned<toml::Value>>,
    moment: Option<Spanned<String>>,
    tasks: Option<Spanned<String>>,
    context: Option<Spanned<f64>>,
    #[serde(default)]
    bars: BTreeMap<String, Spanned<String>>,
}

/// A picture.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Picture {
    /// What is to be seen.
    pub shows: String,
    /// The run that it is of; `None`: of all.
    pub run: Option<String>,
    /// Time lines of tasks.
    pub timeline: Option<Timeline>,
    /// Figures that are compared.
    pub bars: Vec<Bar>,
    /// Why there is neither.
    pub missing: Option<String>,
}

/// A figure, as a bar.
#[derive(Clone, Debug, PartialEq, Serialize)]
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

impl Compiler<'_> {
    /// `scope`: the variables of the predicates.
    pub(super) fn picture(&self, raw: &RawPicture, arms: &[Arm], scope: &Shape) -> Result<Plan> {
        let of_run = (&raw.arm, &raw.moment, &raw.tasks);
        match of_run {
            (Some(arm), Some(moment), Some(tasks)) if raw.bars.is_empty() => {
                self.moment(raw, arms, arm, moment, tasks)
            }
            (None, None, None) if !raw.bars.is_empty() => {
                let mut bars = Vec::new();
                for (label, bar) in in_order(&raw.bars) {
                    bars.push((label.clone(), self.placed(bar, "picture.bars", scope)?));
                }
                Ok(Plan {
                    shows: self.template(&raw.shows, "picture.shows", scope)?,
                    of: Of::Bars(bars),
                })
            }
            _ => Err(self.error(
                &raw.shows,
                "picture: it takes arm, moment and tasks, or else bars",
            )),
        }
    }

    fn moment(
        &self,
        raw: &RawPicture,
        arms: &[Arm],
        named: &Spanned<String>,
        moment: &Spanned<String>,
        tasks: &Spanned<String>,
    ) -> Result<Plan> {
        let name = named.get_ref();
        let Some(arm) = arms.iter().find(|arm| arm.name == *name) else {
            return Err(self.error(named, format!("picture.arm: there is no arm {name}")));
        };
        if arm.evidence == Evidence::Marks {
            let message = "picture.arm: a picture needs a trace, and this arm's evidence is marks";
            return Err(self.error(named, message));
        }
        let mut params = BTreeMap::new();
        for (param, at) in &raw.params {
            let value = super::compile::scalar(at.get_ref());
            let known = |mode: &Vec<super::file::Param>| {
                let values = mode.iter().find(|p| p.name == *param).map(|p| &p.values);
                values.is_some_and(|values| value.as_ref().is_some_and(|v| values.contains(v)))
            };
            match &value {
                Some(value) if arm.params.iter().all(known) => {
                    params.insert(param.clone(), value.clone());
                }
                _ => {
                    let message = format!("picture.params.{param}: {name} is not run with this");
                    return Err(self.error(at, message));
                }
            }
        }
        let shape = super::compile::run_shape(arm);
        let moment_of = self.placed(moment, "picture.moment", &shape)?;
        let shape_of = moment_of.expression.shape().clone();
        for field in ["start_ns", "end_ns"] {
            if shape_of.field(field).is_err() {
                let message = format!("picture.moment: it has no {field}");
                return Err(self.error(moment, message));
            }
        }
        let tasks_of = self.placed(tasks, "picture.tasks", &shape)?;
        if let Shape::List(of) = tasks_of.expression.shape()
            && **of != Shape::Number
            && of.field("serial").is_err()
        {
            return Err(self.error(tasks, "picture.tasks: it is no list of tasks"));
        }
        let context = raw.context.as_ref().map_or(CONTEXT, |at| *at.get_ref());
        if let Some(at) = &raw.context
            && !(1.0..=MOST_CONTEXT).contains(&context)
        {
            let message = format!("picture.context = {context}: use 1 to {MOST_CONTEXT}");
            return Err(self.error(at, message));
        }
        let with_moment = shape.with("moment", shape_of);
        Ok(Plan {
            shows: self.template(&raw.shows, "picture.shows", &with_moment)?,
            of: Of::Moment(Box::new(Moment {
                arm: name.clone(),
                params,
                moment: moment_of,
                tasks: tasks_of,
                context,
            })),
        })
    }
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
