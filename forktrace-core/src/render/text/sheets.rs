//! A comparison for people: tables of words, which each form lays out in its own way.

use crate::{
    diff::{
        Change, Diff, Side,
        phrases::{doing, give_or_take, put_down_to, signed, waiting},
    },
    report::FindingKind,
    words::{duration, growth, quantity},
};

use super::figures::{clean, command_line};

/// Rows of a table in a short form.
pub const SHORT: usize = 8;

/// A table: what changed in each of its rows, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Sheet {
    /// What it is about.
    pub title: &'static str,
    /// A sentence that says how to read it; empty: none is needed.
    pub about: &'static str,
    /// The rows whose change is worth telling, the largest first.
    pub rows: Vec<Row>,
    /// Those whose change is little or may be chance.
    pub others: Vec<Row>,
    /// Rows that are left out, and the sum of their changes, ns.
    pub rest: (usize, i64),
}

/// A row. All texts are fit for a terminal.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What changed.
    pub what: String,
    /// How.
    pub change: Change,
}

impl Row {
    /// Before, after, the change, its interval if there is one.
    pub fn cells(&self) -> [String; 4] {
        let Change {
            base_ns,
            new_ns,
            delta_ns,
            ..
        } = self.change;
        let of = |ns| match ns {
            0 => "–".to_owned(),
            ns => duration(ns),
        };
        [
            of(base_ns),
            of(new_ns),
            signed(delta_ns),
            give_or_take(&self.change).unwrap_or_default(),
        ]
    }
}

/// Heads of the columns: those of [`Row::cells`].
pub const HEADS: [&str; 4] = ["A", "B", "CHANGE", "95 %"];

/// The answer, and what explains it; each fit for a terminal.
pub fn sentences(diff: &Diff) -> (String, Vec<String>) {
    let more = diff.more.iter().map(|text| clean(text)).collect();
    (clean(&diff.sentence), more)
}

/// What makes the comparison weaker.
pub fn notes(diff: &Diff) -> Vec<String> {
    diff.notes.iter().map(|text| clean(text)).collect()
}

/// What A or B is: `before.ft, 3 runs of 1.20 s ± 20 ms each: make -j2`.
pub fn side(side: &Side) -> String {
    let names: Vec<String> = side.traces.iter().map(|name| clean(name)).collect();
    let names = match names.as_slice() {
        [first, _, _, .., last] => format!("{first} … {last}"),
        names => names.join(", "),
    };
    let runs = side.wall_ns.len() as u64;
    let mean_ns = crate::diff::mean(&side.wall_ns);
    let took = match crate::diff::deviation(&side.wall_ns) {
        None => duration(mean_ns),
        Some(sd) => format!(
            "{} of {} ± {}",
            quantity(runs, "run"),
            duration(mean_ns),
            duration(sd)
        ),
    };
    match side.argv.as_slice() {
        [] => format!("{names}: {took}"),
        argv => format!("{names}: {took}, {}", command_line(argv)),
    }
}

/// All tables: of at most so many rows each for a summary, or whole to look things up.
pub fn sheets(diff: &Diff, most: Option<usize>) -> Vec<Sheet> {
    let row = |what: String, change: &Change| Row {
        what: clean(&what),
        change: *change,
    };
    let sheet = |title, about, rows| sheet(diff, title, about, rows, most);
    let whole = |what: &str, change: &Change| match change.significant {
        Some(false) if change.delta_ns != 0 => row(format!("{what} (may be chance)"), change),
        _ => row(what.to_owned(), change),
    };
    let mut sheets = vec![Sheet {
        title: "WHOLE RUN",
        about: "",
        rows: vec![
            whole("wall time", &diff.wall),
            whole("all tasks blocked at once", &diff.stalled),
        ],
        others: Vec::new(),
        rest: (0, 0),
    }];
    let rows = diff.path.iter().map(|it| row(doing(it), &it.change));
    sheets.push(sheet(
        "CRITICAL PATH",
        "These changes add up to that of the wall time.",
        rows.collect(),
    ));
    let rows = diff
        .stalls
        .iter()
        .map(|it| row(put_down_to(it), &it.change));
    sheets.push(sheet(
        "STALLS, PUT DOWN TO",
        "These changes add up to that of the time all tasks were blocked.",
        rows.collect(),
    ));
    let rows = diff.waits.iter().map(|it| {
        let what = waiting(&it.reason, it.object.as_ref());
        row(format!("`{}` {what}", it.role), &it.change)
    });
    sheets.push(sheet("WAITS, OVER ALL TASKS", "", rows.collect()));
    sheets.push(sheet("ROLES, OVER ALL TASKS", "", roles(diff)));
    let findings = diff.findings.iter();
    // A summary says nothing twice.
    let is_told = |said: &str| most.is_some() && diff.more.iter().any(|it| it.ends_with(said));
    let rows = findings.filter(|it| it.kind != FindingKind::Idle);
    let rows = rows.filter_map(|it| {
        let (word, sentence) = match (&it.base_sentence, &it.new_sentence) {
            (Some(_), Some(new)) => ("", new),
            (None, Some(new)) => ("new: ", new),
            (Some(old), None) => ("gone: ", old),
            (None, None) => return None,
        };
        let told = is_told(sentence);
        (!told).then(|| row(format!("{word}{sentence}"), &it.change))
    });
    sheets.push(sheet("FINDINGS", "", rows.collect()));
    sheets.retain(|sheet| !(sheet.rows.is_empty() && sheet.others.is_empty()));
    sheets
}

fn roles(diff: &Diff) -> Vec<Row> {
    let mut rows = Vec::new();
    for role in &diff.roles {
        let name = match role.base_tasks == role.new_tasks {
            true => format!("`{}`", role.name),
            false => format!(
                "`{}` ({} {}, then {})",
                role.name,
                tasks(role.base_tasks),
                if role.base_tasks == 1.0 {
                    "task"
                } else {
                    "tasks"
                },
                tasks(role.new_tasks)
            ),
        };
        for (did, change) in [
            ("running", &role.running),
            ("waiting for a CPU", &role.runnable),
            ("blocked", &role.blocked),
        ] {
            rows.push(Row {
                what: clean(&format!("{name} {did}")),
                change: *change,
            });
        }
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.change.delta_ns.unsigned_abs()));
    rows
}

/// A mean number of tasks.
fn tasks(n: f64) -> String {
    let rounded = (n * 10.0).round() / 10.0;
    format!("{rounded}")
}

/// Rows that did not change are left out. So are, of a short one, those that are not worth telling
/// and all but the first; their number and sum are told where rows add up to something.
fn sheet(
    diff: &Diff,
    title: &'static str,
    about: &'static str,
    mut rows: Vec<Row>,
    most: Option<usize>,
) -> Sheet {
    rows.retain(|row| row.change.delta_ns != 0);
    let (mut rows, mut others): (Vec<Row>, Vec<Row>) =
        rows.into_iter().partition(|row| diff.tells(&row.change));
    let mut rest = Vec::new();
    if let Some(most) = most {
        rest = rows.split_off(rows.len().min(most));
        match about {
            "" => others.clear(),
            _ => rest.append(&mut others),
        }
    }
    let sum = rest.iter().map(|row| row.change.delta_ns);
    Sheet {
        title,
        about,
        rest: (rest.len(), sum.fold(0, i64::saturating_add)),
        rows,
        others,
    }
}

/// Is it known how much runs scatter?
fn may_be_chance(diff: &Diff) -> bool {
    diff.wall.significant.is_some()
}

/// A heading for the rows whose change is not worth telling.
pub fn others(diff: &Diff) -> &'static str {
    match may_be_chance(diff) {
        true => "May be chance, or little:",
        false => "Less than 1 % of the run:",
    }
}

/// What tables of at most so many rows leave out.
pub fn left_out(diff: &Diff, most: usize) -> Option<&'static str> {
    let whole = sheets(diff, None);
    if whole.iter().any(|sheet| !sheet.others.is_empty()) {
        return Some(match may_be_chance(diff) {
            true => "Changes that may be chance, and little ones, are left out",
            false => "Changes of less than 1 % of the run are left out",
        });
    }
    let is_cut = whole.iter().any(|sheet| sheet.rows.len() > most);
    is_cut.then_some("Smaller changes are left out")
}

/// `… and 12 others, +3.00 ms in all`.
pub fn rest(sheet: &Sheet) -> Option<String> {
    match sheet.rest {
        (0, _) => None,
        (1, ns) => Some(format!("… and another, {}", signed(ns))),
        (n, ns) => Some(format!("… and {n} others, {} in all", signed(ns))),
    }
}

/// The change as a part of what was before.
pub fn share(change: &Change) -> String {
    match change.base_ns {
        0 => "–".to_owned(),
        base => {
            let sign = if change.delta_ns < 0 { "-" } else { "+" };
            match change.delta_ns {
                0 => "0 %".to_owned(),
                _ => match growth(base, change.new_ns) {
                    little if little.starts_with(['<', '×']) => little,
                    share => format!("{sign}{share}"),
                },
            }
        }
    }
}
