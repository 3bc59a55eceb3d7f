//! From the figures of the runs to their changes.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    Change, DIFF_SCHEMA_VERSION, Diff, Digest, FindingChange, PathChange, RoleChange, Side,
    StallChange, WaitChange, answer,
    digest::{FindingKey, RoleSums, STATES, with_common_names, with_common_programs},
    interval::{CONFIDENCE, half_width},
    shares::{mean, means},
};

/// Waits that are listed.
const WAITS: usize = 200;

/// Compares the runs before with those after. Neither may be empty.
pub fn compare(base: &[Digest], new: &[Digest]) -> Diff {
    let (mut base, mut new) = (base.to_vec(), new.to_vec());
    let renamed = new.first().map(|run| run.program.clone());
    with_common_programs(&base, &mut new);
    let renamed = renamed.filter(|it| new.first().is_some_and(|run| run.program != *it));
    with_common_names(&mut base, &mut new);
    let (base, new) = (&base[..], &new[..]);
    let runs = Runs { base, new };
    let have_paths = base.iter().chain(new).all(|run| run.has_path);
    let mut path = Vec::new();
    let mut stalls = Vec::new();
    if have_paths {
        for ((role, state, reason, object), change) in runs.adding(|run| &run.path) {
            path.push(PathChange {
                role,
                state: STATES[usize::from(state)],
                reason,
                object,
                change,
            });
        }
        for ((verdict, name, reason, object), change) in runs.adding(|run| &run.stalls) {
            stalls.push(StallChange {
                verdict,
                name,
                reason,
                object,
                change,
            });
        }
    }
    let mut waits = Vec::new();
    for ((role, reason, object), change) in runs.each(|run| &run.waits, |ns| *ns) {
        waits.push(WaitChange {
            role,
            reason,
            object,
            change,
        });
    }
    path.sort_by_key(|row| order(&row.change));
    stalls.sort_by_key(|row| order(&row.change));
    waits.sort_by_key(|row| order(&row.change));
    waits.truncate(WAITS);
    let uncertain = |runs: &[Digest]| {
        let all: Vec<u64> = runs.iter().map(|run| run.uncertain_ns).collect();
        mean(&all)
    };
    let mut diff = Diff {
        schema_version: DIFF_SCHEMA_VERSION,
        sentence: String::new(),
        more: Vec::new(),
        notes: Vec::new(),
        base: side(base),
        new: side(new),
        wall: runs.change(|run| run.wall_ns),
        stalled: runs.change(|run| run.stalled_ns),
        path,
        stalls,
        waits,
        roles: roles(&runs),
        findings: findings(&runs),
        uncertain_ns: uncertain(base).saturating_add(uncertain(new)),
        confidence: CONFIDENCE,
    };
    diff.notes = answer::notes(&diff, base, new, renamed.as_deref());
    (diff.sentence, diff.more) = answer::answer(&diff);
    diff
}

/// The largest change first; what stayed the same by its size.
fn order(change: &Change) -> (Reverse<u64>, Reverse<u64>) {
    (
        Reverse(change.delta_ns.unsigned_abs()),
        Reverse(change.new_ns),
    )
}

struct Runs<'a> {
    base: &'a [Digest],
    new: &'a [Digest],
}

impl Runs<'_> {
    fn change(&self, figure: impl Fn(&Digest) -> u64) -> Change {
        let base: Vec<u64> = self.base.iter().map(&figure).collect();
        let new: Vec<u64> = self.new.iter().map(&figure).collect();
        change(&base, mean(&base), &new, mean(&new))
    }

    /// Figures by key, each by run: before and after.
    fn by_key<K: Ord + Clone, V>(
        &self,
        map: impl Fn(&Digest) -> &BTreeMap<K, V>,
        figure: impl Fn(&V) -> u64,
    ) -> BTreeMap<K, [Vec<u64>; 2]> {
        let lengths = [self.base.len(), self.new.len()];
        let mut all: BTreeMap<K, [Vec<u64>; 2]> = BTreeMap::new();
        for (side, runs) in [self.base, self.new].into_iter().enumerate() {
            for (at, run) in runs.iter().enumerate() {
                for (key, value) in map(run) {
                    let row = match all.get_mut(key) {
                        Some(row) => row,
                        None => {
                            let none = lengths.map(|length| vec![0; length]);
                            all.entry(key.clone()).or_insert(none)
                        }
                    };
                    row[side][at] = figure(value);
                }
            }
        }
        all
    }

    /// How each changed.
    fn each<K: Ord + Clone, V>(
        &self,
        map: impl Fn(&Digest) -> &BTreeMap<K, V>,
        figure: impl Fn(&V) -> u64,
    ) -> Vec<(K, Change)> {
        let all = self.by_key(map, figure).into_iter();
        all.map(|(key, [base, new])| (key, change(&base, mean(&base), &new, mean(&new))))
            .collect()
    }

    /// The same of parts that add up, so that their means do.
    fn adding<K: Ord + Clone>(
        &self,
        map: impl Fn(&Digest) -> &BTreeMap<K, u64>,
    ) -> Vec<(K, Change)> {
        let all = self.by_key(map, |ns| *ns);
        let [before, after] = [0, 1].map(|side| {
            let parts: Vec<&[u64]> = all.values().map(|row| &row[side][..]).collect();
            means(&parts)
        });
        let rows = all.into_iter().zip(before.into_iter().zip(after));
        rows.map(|((key, [base, new]), (before, after))| (key, change(&base, before, &new, after)))
            .collect()
    }
}

fn change(base: &[u64], base_ns: u64, new: &[u64], new_ns: u64) -> Change {
    let delta = i128::from(new_ns) - i128::from(base_ns);
    let delta_ns = delta.clamp(i128::from(i64::MIN + 1), i128::from(i64::MAX)) as i64;
    let half = half_width(base, new).map(|half| i64::try_from(half).unwrap_or(i64::MAX));
    let low_ns = half.map(|half| delta_ns.saturating_sub(half));
    let high_ns = half.map(|half| delta_ns.saturating_add(half));
    Change {
        base_ns,
        new_ns,
        delta_ns,
        share: (base_ns > 0).then(|| delta as f64 / base_ns as f64),
        low_ns,
        high_ns,
        significant: low_ns.zip(high_ns).map(|(low, high)| low > 0 || high < 0),
    }
}

fn side(runs: &[Digest]) -> Side {
    let first = runs.first();
    Side {
        traces: runs.iter().map(|run| run.trace.clone()).collect(),
        argv: first.map(|run| run.argv.clone()).unwrap_or_default(),
        wall_ns: runs.iter().map(|run| run.wall_ns).collect(),
        stalled_ns: runs.iter().map(|run| run.stalled_ns).collect(),
        incomplete: runs.iter().filter(|run| !run.complete).count() as u64,
        without_end: runs.iter().filter(|run| run.no_end).count() as u64,
    }
}

fn roles(runs: &Runs<'_>) -> Vec<RoleChange> {
    let of = |figure: fn(&RoleSums) -> u64| runs.each(|run| &run.roles, figure);
    let tasks = runs.by_key(|run| &run.roles, |role| role.tasks);
    let average = |values: &[u64]| values.iter().sum::<u64>() as f64 / values.len() as f64;
    // All in the order of the names.
    let figures = of(|role| role.path_ns)
        .into_iter()
        .zip(of(|role| role.running_ns))
        .zip(of(|role| role.runnable_ns))
        .zip(of(|role| role.blocked_ns));
    let mut rows: Vec<RoleChange> = tasks
        .into_iter()
        .zip(figures)
        .map(|((name, [base, new]), figures)| {
            let ((((_, path), (_, running)), (_, runnable)), (_, blocked)) = figures;
            RoleChange {
                name,
                base_tasks: average(&base),
                new_tasks: average(&new),
                path,
                running,
                runnable,
                blocked,
            }
        })
        .collect();
    rows.sort_by_key(|row| order(&row.path));
    rows
}

fn findings(runs: &Runs<'_>) -> Vec<FindingChange> {
    let said = |side: &[Digest], key: &FindingKey| {
        let mut of_runs = side.iter().filter_map(|run| run.findings.get(key));
        of_runs.next().map(|(_, sentence)| sentence.clone())
    };
    let rows = runs.each(|run| &run.findings, |(ns, _)| *ns).into_iter();
    let mut rows: Vec<FindingChange> = rows
        .map(|(key, change)| FindingChange {
            base_sentence: said(runs.base, &key),
            new_sentence: said(runs.new, &key),
            kind: key.0,
            role: key.1,
            object: key.2,
            change,
        })
        .collect();
    rows.sort_by_key(|row| order(&row.change));
    rows
}
