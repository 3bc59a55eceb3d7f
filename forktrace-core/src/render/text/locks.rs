//! Locks: who waited for them, and who had them.

use super::{
    View,
    figures::{clean, count_cell, duration, duration_cell, percent},
    layout::{Ink, Table, paint, wrapped},
    tasks,
};
use crate::report::{Lock, LockHolder, LockKind, Proof};

/// Locks whose holders are shown.
const WITH_HOLDERS: usize = 3;
/// Locks of a summary.
const FEW: usize = 3;
/// Holders of a lock that are shown.
const HOLDERS: usize = 10;

/// All of them.
pub(super) fn section(view: &View<'_>) -> String {
    let locks: Vec<&Lock> = view.report.locks.iter().collect();
    if locks.is_empty() {
        return String::new();
    }
    let mut out = table(view, &locks);
    // Whose end is waited for is in the name.
    let known = |lock: &&&Lock| lock.had_it > 0 && lock.kind != LockKind::Join;
    for lock in locks.iter().filter(known).take(WITH_HOLDERS) {
        out.push('\n');
        out.push_str(&holders(view, lock));
    }
    out
}

/// The first ones, where one of them is a finding.
pub(super) fn summary(view: &View<'_>, most: usize) -> String {
    use crate::report::FindingKind;
    let locks = &view.report.locks;
    let of_finding = view.report.findings.iter().find_map(|finding| {
        let object = finding.object.as_ref()?;
        let lock = locks.iter().find(|lock| lock.id == object.id)?;
        (finding.kind == FindingKind::Lock).then_some(lock)
    });
    let Some(first) = of_finding.filter(|_| most > 0) else {
        return String::new();
    };
    let others = locks.iter().filter(|lock| lock.id != first.id);
    let worth = others.filter(|lock| lock.ns >= first.ns / 20);
    let shown: Vec<&Lock> = [first]
        .into_iter()
        .chain(worth)
        .take(most.min(FEW))
        .collect();
    let told: Vec<String> = first.told().iter().map(|text| clean(text)).collect();
    let mut out = table(view, &shown);
    if !told.is_empty() {
        out.push_str(&wrapped(view.style, "  ", &told.join(" ")));
    }
    out
}

fn table(view: &View<'_>, locks: &[&Lock]) -> String {
    let mut table = Table::default();
    let cells = |cell: &dyn Fn(&Lock) -> String| locks.iter().map(|lock| cell(lock)).collect();
    table.text("LOCK", 32, cells(&|lock| clean(&lock.name)));
    table.text("KIND", 6, cells(&|lock| lock.kind.words().to_owned()));
    if locks.iter().any(|lock| !lock.code.is_empty()) {
        let code = |lock: &Lock| match lock.code.first() {
            Some(first) => tasks::code(&first.name, first.ns, lock.ns),
            None => String::new(),
        };
        table.text("CODE", 12, cells(&code));
    }
    table.number("WAITED", cells(&|lock| duration_cell(lock.ns)));
    table.number("WAITS", cells(&|lock| count_cell(lock.waits)));
    table.number("TASKS", cells(&|lock| count_cell(lock.waiters)));
    table.number("50%", cells(&|lock| duration_cell(lock.p50_ns)));
    table.spare(2);
    table.number("99%", cells(&|lock| duration_cell(lock.p99_ns)));
    table.spare(1);
    table.number("LONGEST", cells(&|lock| duration_cell(lock.longest_ns)));
    table.into_text(view.style)
}

/// Who had a lock, and what there is to say of that.
fn holders(view: &View<'_>, lock: &Lock) -> String {
    let until = match lock.holders_until_ns {
        Some(ns) => format!(" until {}", duration(ns)),
        None => String::new(),
    };
    let title = format!(
        "WHO HAD {}, of {} in which somebody waited for it{until}",
        clean(&lock.name),
        duration(lock.contended_ns)
    );
    let mut out = paint(view.style, Ink::Bold, &wrapped(view.style, "", &title));
    out.push_str(&holder_table(view, lock));
    let told: Vec<String> = lock.told().iter().map(|text| clean(text)).collect();
    if !told.is_empty() {
        out.push_str(&wrapped(view.style, "  ", &told.join(" ")));
    }
    out
}

fn holder_table(view: &View<'_>, lock: &Lock) -> String {
    let shown: Vec<&LockHolder> = lock.holders.iter().take(HOLDERS).collect();
    let who = |it: &LockHolder| match (&it.name, it.tid) {
        (Some(name), Some(tid)) => format!("{} ({tid})", clean(name)),
        _ => "not known".to_owned(),
    };
    let of = |ns: u64| match ns {
        0 => "–".to_owned(),
        ns => percent(ns, lock.contended_ns),
    };
    let proof = |it: &LockHolder| match it.proof {
        Proof::Proved => "proved",
        Proof::Inferred => "at most",
        Proof::Unknown => "",
    };
    let mut rows: Vec<[String; 8]> = shown
        .iter()
        .map(|it| {
            [
                who(it),
                duration_cell(it.ns),
                percent(it.ns, lock.contended_ns),
                proof(it).to_owned(),
                count_cell(it.turns),
                of(it.ran_ns),
                of(it.runnable_ns),
                match &it.blocked_in {
                    Some(reason) => format!("{} {reason}", of(it.blocked_ns)),
                    None => of(it.blocked_ns),
                },
            ]
        })
        .collect();
    if lock.hand_off_ns > 0 {
        rows.push([
            "on its way to the next".to_owned(),
            duration_cell(lock.hand_off_ns),
            percent(lock.hand_off_ns, lock.contended_ns),
            String::new(),
            count_cell(lock.hand_offs),
            String::new(),
            String::new(),
            String::new(),
        ]);
    }
    let others = lock.holders.len().saturating_sub(HOLDERS) as u64 + lock.other_holders;
    if others > 0 {
        let rest = lock.holders.iter().skip(HOLDERS).map(|it| it.ns);
        let mut row: [String; 8] = Default::default();
        row[0] = match lock.other_holders {
            0 => format!("… and {others} more, {}", duration(rest.sum())),
            _ => format!("… and {others} more"),
        };
        rows.push(row);
    }
    let mut table = Table::default();
    let column = |at: usize| rows.iter().map(|row| row[at].clone()).collect::<Vec<_>>();
    table.text("HOLDER", 12, column(0));
    table.number("HAD IT", column(1));
    table.number("SHARE", column(2));
    table.text("", 4, column(3));
    table.number("TURNS", column(4));
    table.number("RAN", column(5));
    table.spare(1);
    table.number("NO CPU", column(6));
    table.spare(1);
    table.text("BLOCKED", 6, column(7));
    table.into_text(view.style)
}
