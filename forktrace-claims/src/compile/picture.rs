//! The picture that a claim file asks for.

use std::collections::BTreeMap;

use toml::Spanned;

use super::{Compiler, Result, in_order, run_shape, scalar};
use crate::{
    expression::Shape,
    file::{Arm, Evidence, Moment, Of, Param, Plan, RawPicture},
};

/// How many times as long as the moment a picture is, if the file does not say.
const CONTEXT: f64 = 2.0;
/// With more, the moment would be too narrow to be seen.
const MOST_CONTEXT: f64 = 20.0;

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
            let value = scalar(at.get_ref());
            let known = |mode: &Vec<Param>| {
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
        let shape = run_shape(arm);
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
