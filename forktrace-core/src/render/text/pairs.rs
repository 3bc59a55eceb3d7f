//! Pairs that were blocked together, or apart, more than chance explains.

use super::{
    View,
    figures::{duration, duration_cell, quantity},
    layout::{Table, wrapped},
};
use crate::report::{Pair, PairVerdict};

/// A row for each pair, and a sentence on how many are more than chance.
pub(super) fn section(view: &View<'_>) -> String {
    let (pairs, tests) = (&view.report.pairs, &view.report.pair_tests);
    let of = |verdict| {
        pairs
            .iter()
            .filter(move |pair| pair.verdict == verdict)
            .count() as u64
    };
    if pairs.iter().all(|pair| pair.p.is_none()) {
        return String::new();
    }
    let mut sentence = if tests.possible > tests.tested {
        format!(
            "Of {} those {} that wake each other, wait for the same things or are blocked longest:",
            quantity(tests.possible, "pair"),
            tests.tested
        )
    } else {
        format!("Of {}:", quantity(tests.tested, "pair"))
    };
    let counts = [
        (
            PairVerdict::Together,
            "blocked together more than by chance",
        ),
        (PairVerdict::Apart, "blocked together less than by chance"),
        (
            PairVerdict::StartTogether,
            "nearly always blocked, beginning at the same moments more than by chance",
        ),
        (PairVerdict::Chance, "as chance would have it"),
        (
            PairVerdict::Uninformative,
            "nearly always or never blocked, which tells nothing",
        ),
        (PairVerdict::TooFew, "with too few blocks to tell"),
    ];
    let counts: Vec<String> = counts
        .into_iter()
        .filter(|(verdict, _)| of(*verdict) > 0)
        .map(|(verdict, text)| format!("{} {text}", of(verdict)))
        .collect();
    sentence.push_str(&format!(" {}.", counts.join("; ")));
    let longest = pairs.iter().map(|p| p.common_ns + p.unknown_ns).max();
    if longest.is_some_and(|ns| ns < view.report.workload.duration_ns / 2)
        && tests.looked_at_ns < view.report.workload.duration_ns / 2
    {
        let looked_at = duration(tests.looked_at_ns);
        sentence.push_str(&format!(
            " There are very many blocks: {looked_at} of the time was looked at, evenly spread."
        ));
    }
    if pairs.iter().any(|pair| pair.unknown_ns > 0) {
        sentence.push_str(" Time in which one of two is unknown is left out.");
    }

    let mut rows: Vec<&Pair> = pairs.iter().collect();
    rows.sort_by(|a, b| {
        let key = |pair: &Pair| (!is_found(pair), pair.q.unwrap_or(2.0));
        let ((x, p), (y, q)) = (key(a), key(b));
        x.cmp(&y)
            .then(p.total_cmp(&q))
            .then(b.overlap_ns.cmp(&a.overlap_ns))
    });
    let mut out = String::new();
    if !rows.is_empty() {
        out.push_str(&table(view, &rows));
        sentence.push_str(
            " Lift: the ratio of the two times. P: how probable that is by chance, given the number \
             of pairs; a small one says that they go together, not that one is the cause.",
        );
    }
    out.push_str(&wrapped(view.style, "  ", &sentence));
    out
}

/// More than chance.
fn is_found(pair: &Pair) -> bool {
    matches!(
        pair.verdict,
        PairVerdict::Together | PairVerdict::Apart | PairVerdict::StartTogether
    )
}

fn table(view: &View<'_>, rows: &[&Pair]) -> String {
    let mut table = Table::default();
    let name = |serial: fn(&Pair) -> u32| rows.iter().map(|pair| view.task(serial(pair))).collect();
    table.text("PAIR", 10, name(|pair| pair.a));
    table.text("", 10, name(|pair| pair.b));
    let mut column = |head, cell: fn(&Pair) -> String| {
        table.number(head, rows.iter().map(|pair| cell(pair)).collect());
    };
    column("BOTH BLOCKED", |pair| duration_cell(pair.overlap_ns));
    column("BY CHANCE", |pair| duration_cell(pair.expected_ns));
    column("LIFT", |pair| {
        pair.lift
            .map_or("–".to_owned(), |lift| format!("{lift:.2}"))
    });
    column("P", |pair| pair.q.map_or("–".to_owned(), probability));
    let verdicts = rows.iter().map(|pair| verdict(pair).to_owned());
    table.text("", 8, verdicts.collect());
    table.into_text(view.style)
}

fn probability(p: f64) -> String {
    if p < 0.001 {
        "<0.001".to_owned()
    } else {
        format!("{p:.3}")
    }
}

fn verdict(pair: &Pair) -> &'static str {
    match pair.verdict {
        PairVerdict::Chance => "chance",
        PairVerdict::Together => "together",
        PairVerdict::Apart => "apart",
        PairVerdict::StartTogether => "start together",
        PairVerdict::Uninformative => "uninformative",
        PairVerdict::TooFew => "too few",
    }
}
