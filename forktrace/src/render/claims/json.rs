//! Claims for programs.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    claims::{
        Claim,
        file::{Evidence, Placed, Rule},
        picture::{Of, Plan},
    },
    render::json::escaped,
};

pub(super) fn pretty(value: &impl Serialize) -> String {
    let json = serde_json::to_string_pretty(value)
        .expect("no map with keys that are no text, so serde_json has nothing to refuse");
    escaped(&json)
}

pub(super) fn list(claims: &[Claim]) -> String {
    let claims: Vec<Value> = claims
        .iter()
        .map(|claim| json!({ "id": claim.id, "statement": claim.statement }))
        .collect();
    pretty(&json!({ "claims": claims }))
}

fn picture(plan: &Plan) -> Value {
    let source = |placed: &Placed| placed.expression.source().trim().to_owned();
    let shows = plan.shows.to_string();
    match &plan.of {
        Of::Moment(of) => json!({
            "shows": shows,
            "arm": of.arm,
            "params": of.params,
            "moment": source(&of.moment),
            "tasks": source(&of.tasks),
            "context": of.context,
        }),
        Of::Bars(bars) => {
            let bars = bars
                .iter()
                .map(|(label, bar)| (label.clone(), source(bar).into()));
            json!({ "shows": shows, "bars": bars.collect::<Map<String, Value>>() })
        }
    }
}

pub(super) fn show(claim: &Claim) -> String {
    let source = |placed: &Placed| placed.expression.source().trim().to_owned();
    let named = |list: &[(String, Placed)]| -> Value {
        list.iter()
            .map(|(name, placed)| (name.clone(), source(placed)))
            .collect()
    };
    let rule =
        |rule: &Rule| json!({ "when": source(&rule.when), "because": rule.because.to_string() });
    let arms: Vec<Value> = claim
        .arms
        .iter()
        .map(|arm| {
            let params = |mode: usize| -> Value {
                let params = arm.params[mode].iter();
                params.map(|p| (p.name.clone(), Value::from(p.values.clone()))).collect()
            };
            json!({
                "name": arm.name,
                "command": arm.command,
                "params": { "quick": params(0), "full": params(1) },
                "runs": { "quick": arm.runs[0], "full": arm.runs[1] },
                "limit_s": arm.limit_s,
                "optional": arm.optional,
                "evidence": match arm.evidence { Evidence::Trace => "trace", Evidence::Marks => "marks" },
                "holds": arm.holds.iter().map(source).collect::<Vec<_>>(),
                "measures": named(&arm.measures),
            })
        })
        .collect();
    pretty(&json!({
        "id": claim.id,
        "statement": claim.statement,
        "said_by": claim.said_by,
        "denied_by": claim.denied_by,
        "method": claim.method,
        "needs": claim.needs.iter().map(|need| source(&need.that)).collect::<Vec<_>>(),
        "arms": arms,
        "figures": named(&claim.figures),
        "control": rule(&claim.control),
        "supported": rule(&claim.supported),
        "refuted": rule(&claim.refuted),
        "not_testable": claim.not_testable.as_ref().map(rule),
        "picture": claim.picture.as_ref().map(picture),
    }))
}
