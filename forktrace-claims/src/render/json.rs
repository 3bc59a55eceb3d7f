//! Claims for programs.

use serde::Serialize;
use serde_json::{Map, Value, json};

use forktrace_core::render::escaped;

use crate::{
    Claim,
    file::{Evidence, Of, Placed, Plan, Rule},
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

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use forktrace_core::report::{Interval, Slice, Timeline, TimelineRow, schema_of};

    use crate::{
        Machine, Mode, Settled,
        file::Origin,
        measured::{Measured, RunAudit},
        picture::Picture,
        render::{
            Outcome,
            schema_check::{check, is_shown, requires_and_describes_every_property},
        },
        verdict::decide,
    };

    const CLAIM: &str = r#"id = "a-claim"
statement = "Something is so."
said_by = ["somebody"]
method = "Look."
holds = "workload.exit_code == 0"
[arms.native]
command = ["{forktrace}", "workload", "sleepers"]
[arms.python]
command = ["{python}", "x.py"]
optional = true
[measures]
blocked_ns = "tasks[0].blocked_ns"
[figures]
twice_ns = "native.blocked_ns.value * 2"
[control]
when = "native.blocked_ns.n > 0"
because = "it was measured"
[supported]
when = "twice_ns.value > 100"
because = "twice is {twice_ns}"
[refuted]
when = "twice_ns.value < 50"
because = "twice is {twice_ns}"
[picture]
shows = "twice"
bars = { "twice" = "twice_ns" }
"#;

    fn schema() -> schemars::Schema {
        schema_of::<Outcome<'_>>("forktrace claims")
    }

    fn settled() -> Vec<Settled> {
        let origin = |name: &str| Origin {
            name: name.to_owned(),
            folder: None,
        };
        let claim = Claim::parse(CLAIM, origin("a.toml")).unwrap_or_else(|e| panic!("{e}"));
        let machine = Machine {
            python: None,
            ..Machine::this()
        };
        let run = |blocked_ns: Value, picture| Measured {
            arm: 0,
            params: Map::new(),
            measures: [("blocked_ns".to_owned(), blocked_ns)]
                .into_iter()
                .collect(),
            audit: RunAudit {
                repeated: vec!["a wakeup was lost".to_owned()],
                ..RunAudit::default()
            },
            trace: Some("a.ft".into()),
            picture,
        };
        let interval = Interval {
            start_ns: 1,
            end_ns: 2,
        };
        let moment = Picture {
            run: Some("run 1".to_owned()),
            timeline: Some(Timeline {
                window: interval,
                moment: interval,
                moment_slices: [0, 1],
                rows: vec![TimelineRow {
                    serial: 1,
                    tid: 2,
                    name: "x".to_owned(),
                    slices: vec![Slice::Running, Slice::NotAlive],
                }],
                more_tasks: 0,
            }),
            ..Picture::default()
        };
        let missing = Picture {
            missing: Some("nothing there".to_owned()),
            ..Picture::default()
        };
        let broken = Claim::parse("id = 1", origin("b.toml")).expect_err("a mistake");
        vec![
            decide(&claim, &[run(json!(60), None)], &machine),
            decide(&claim, &[run(json!(60), Some(moment))], &machine),
            decide(&claim, &[run(json!(60), Some(missing))], &machine),
            // Its figures can't be computed.
            decide(&claim, &[run(Value::Null, None)], &machine),
            Settled::unreadable(broken),
        ]
    }

    fn errors_of(json: &str) -> Vec<String> {
        check(
            schema().as_value(),
            &serde_json::from_str(json).expect("JSON"),
        )
    }

    fn shown() -> String {
        let machine = Machine::this();
        pretty(&Outcome {
            schema_version: 1,
            machine: &machine,
            mode: Mode::Quick,
            claims: &settled(),
        })
    }

    #[test]
    fn claims_are_as_their_schema_says() {
        let json = shown();
        assert_eq!(errors_of(&json), Vec::<String>::new());
        // What could not be run has no verdict, and is said to have none.
        assert_eq!(json.matches("\"verdict\": \"error\"").count(), 2, "{json}");
        // What there is to check is there.
        for words in [
            "\"slices\": \"r \"",
            "\"bars\": [\n",
            "\"because\": \"there is no",
        ] {
            assert!(json.contains(words), "{words}: {json}");
        }
    }

    #[test]
    fn the_check_finds_what_is_wrong() {
        let json = shown();
        for (from, to, error) in [
            ("\"slices\"", "\"states\"", "/claims/1/picture"),
            (
                "\"more_tasks\": 0",
                "\"more_tasks\": -1",
                "/claims/1/picture",
            ),
            ("\"inconclusive\"", "\"unknown\"", "/claims/0/verdict: "),
            ("\"quick\"", "\"fast\"", "/mode: "),
        ] {
            assert!(json.contains(from), "{from}");
            let errors = errors_of(&json.replace(from, to));
            assert!(
                errors.iter().any(|found| found.starts_with(error)),
                "{errors:?}"
            );
        }
    }

    #[test]
    fn docs_show_the_schema_of_the_types() {
        is_shown(&schema(), "claims.schema.json");
    }

    #[test]
    fn the_schema_requires_and_describes_every_property() {
        requires_and_describes_every_property(schema().as_value());
    }
}
