//! What each tool costs a workload: rounds in which every tool has its turn.
//!
//! The machine's own pace drifts by more than some tools cost. So each figure
//! is compared with the bare run of its own round, and what is shown is the
//! median of those comparisons, with the least and the greatest.

use anyhow::{Context as _, Result, bail};

use super::{
    Bench,
    page::{Goal, Section, Spread, Table},
    process::settle,
    tools::Tool,
    workloads,
};

/// When two bare runs of a round are this far apart, nothing follows from a
/// tool's being no farther.
pub(super) const TOO_NOISY: f64 = 0.1;

/// A workload and how its figures read.
struct Workload {
    title: &'static str,
    text: String,
    unit: &'static str,
    decimals: usize,
    measure: fn(&Bench, Tool) -> Result<f64>,
}

pub(super) fn ping_pong(bench: &Bench) -> Result<Section> {
    let workload = Workload {
        title: "Ping-pong",
        text: format!(
            "Two processes on one CPU pass a byte to and fro through pipes, {} times (strace: {}): \
             a round trip is two context switches, two wakeups and little else, the worst case.",
            bench.size.ping_pong_rounds,
            bench.size.ping_pong_rounds / Tool::Strace.share()
        ),
        unit: "µs a round trip",
        decimals: 3,
        measure: workloads::ping_pong,
    };
    let runs = Runs::of(bench, &workload)?;
    let mut section = runs.section(bench, workload);
    for (tool, limit) in [
        (Tool::Traced, 2.6),
        (Tool::TracedNoPolls, 2.6),
        (Tool::Untraced, 1.1),
        (Tool::UntracedNoPolls, 1.1),
    ] {
        section.goals.push(runs.floor_goal(tool, limit));
    }
    let details = runs.times_goal(Tool::TracedNoPolls, Tool::TracedPlain, 1.25);
    section.goals.push(details);
    Ok(section)
}

pub(super) fn messaging(bench: &Bench) -> Result<Section> {
    let loops = bench.size.messaging_loops;
    let workload = Workload {
        title: "Messaging",
        text: format!(
            "`perf bench sched messaging -g 1 -l {loops}` (strace: -l {}): 20 processes send to \
             20 others over sockets, on all CPUs. Its own time, by the number of messages.",
            loops / Tool::Strace.share()
        ),
        unit: "µs a message",
        decimals: 3,
        measure: workloads::messaging,
    };
    let runs = Runs::of(bench, &workload)?;
    Ok(runs.section(bench, workload))
}

pub(super) fn redis(bench: &Bench) -> Result<Section> {
    let workload = Workload {
        title: "Redis",
        text: format!(
            "A redis-server on one CPU with the tool, and `redis-benchmark -t get -c 20 -n {}` \
             (strace: {}) on another CPU without.",
            bench.size.redis_requests,
            bench.size.redis_requests / Tool::Strace.share()
        ),
        unit: "requests/s",
        decimals: 0,
        measure: workloads::redis,
    };
    let runs = Runs::of(bench, &workload)?;
    let mut section = runs.section(bench, workload);
    for tool in [Tool::Traced, Tool::TracedNoPolls] {
        section.goals.push(runs.nothing_goal(tool));
    }
    Ok(section)
}

/// One figure, with nothing left of the run before the next.
fn alone(bench: &Bench, workload: &Workload, tool: Tool) -> Result<f64> {
    let figure = (workload.measure)(bench, tool);
    let settled = settle();
    let figure = figure?;
    settled.map(|()| figure)
}

/// The figures of every tool, by round.
struct Runs {
    bare: Vec<f64>,
    /// The other tools in their order; of one that failed, how.
    others: Vec<(Tool, Result<Vec<f64>, String>)>,
}

impl Runs {
    fn of(bench: &Bench, workload: &Workload) -> Result<Self> {
        let mut runs = Runs {
            bare: Vec::new(),
            others: Tool::ALL
                .into_iter()
                .filter(|tool| *tool != Tool::Bare)
                .map(|tool| (tool, Ok(Vec::new())))
                .collect(),
        };
        // The first round shows which tools work here, and warms up.
        for round in 0..=bench.size.rounds {
            eprintln!("{}: round {round} of {}", workload.title, bench.size.rounds);
            let bare = alone(bench, workload, Tool::Bare)
                .with_context(|| format!("{} does not run by itself", workload.title))?;
            if !(bare > 0.0 && bare.is_finite()) {
                bail!("{} gave {bare} {}", workload.title, workload.unit);
            }
            runs.bare.push(bare);
            for (tool, figures) in &mut runs.others {
                let Ok(so_far) = figures else { continue };
                match alone(bench, workload, *tool) {
                    Ok(figure) => so_far.push(figure),
                    Err(error) => {
                        eprintln!("{}: {}: {error:#}", workload.title, tool.label());
                        *figures = Err(format!("{error:#}"));
                    }
                }
            }
        }
        runs.bare.remove(0);
        for (_, figures) in &mut runs.others {
            if let Ok(figures) = figures {
                figures.remove(0);
            }
        }
        Ok(runs)
    }

    /// A tool's figures, each compared with the bare one of its round.
    fn compared(&self, tool: Tool, how: impl Fn(f64, f64) -> f64) -> Option<Spread> {
        let (_, figures) = self.others.iter().find(|(found, _)| *found == tool)?;
        let figures = figures.as_ref().ok()?;
        Spread::of(
            figures
                .iter()
                .zip(&self.bare)
                .map(|(figure, bare)| how(*figure, *bare)),
        )
    }

    fn ratio(&self, tool: Tool) -> Option<Spread> {
        self.compared(tool, |figure, bare| figure / bare)
    }

    fn cost(&self, tool: Tool) -> Option<Spread> {
        self.compared(tool, |figure, bare| figure - bare)
    }

    /// A tool's cost in units of the no-op probes' cost. `None` when that does
    /// not stand out from how far two bare runs are apart.
    fn by_floor(&self, tool: Tool) -> Option<f64> {
        let floor = self.cost(Tool::Noop)?.median;
        let noise = self.cost(Tool::BareAgain)?.median.abs();
        (floor > noise).then(|| Some(self.cost(tool)?.median / floor))?
    }

    fn section(&self, bench: &Bench, workload: Workload) -> Section {
        let is_rate = workload.unit.ends_with("/s");
        let mut heading = vec!["tool", workload.unit, "× bare"];
        if !is_rate {
            heading.extend(["over bare", "× no-op"]);
        }
        let mut table = Table::new(&heading);
        let bare = Spread::of(self.bare.iter().copied());
        let bare = bare.map(|figures| figures.show(workload.decimals));
        table.row(vec![
            Tool::Bare.label().to_owned(),
            bare.unwrap_or_default(),
        ]);
        for (tool, figures) in &self.others {
            let mut row = vec![tool.label().to_owned()];
            if let Err(error) = figures {
                row.push(format!("failed: {error}"));
                table.row(row);
                continue;
            }
            let show = |spread: Option<Spread>, decimals| {
                spread.map_or_else(String::new, |spread| spread.show(decimals))
            };
            row.push(show(
                self.compared(*tool, |figure, _| figure),
                workload.decimals,
            ));
            row.push(show(self.ratio(*tool), 3));
            if !is_rate {
                row.push(show(self.cost(*tool), workload.decimals));
                if *tool != Tool::BareAgain {
                    let by_floor = self.by_floor(*tool).map(|times| format!("{times:.2}"));
                    row.push(by_floor.unwrap_or_else(|| "?".to_owned()));
                }
            }
            table.row(row);
        }
        Section {
            title: workload.title,
            text: format!(
                "{} {} rounds, in each of which every tool has its turn: median (least to \
                 greatest); compared with the bare run of the same round.",
                workload.text, bench.size.rounds
            ),
            table: Some(table),
            goals: Vec::new(),
        }
    }

    /// Costs at most so many times what the no-op probes cost.
    fn floor_goal(&self, tool: Tool, limit: f64) -> Goal {
        let times = self.by_floor(tool);
        Goal {
            what: format!("cost of: {}", tool.label()),
            measured: times.map_or_else(
                || "no figure".to_owned(),
                |times| format!("{times:.2} × the no-op probes' cost"),
            ),
            goal: format!("≤ {limit} ×"),
            met: times.map(|times| times <= limit),
        }
    }

    /// Costs at most so many times what another tool costs.
    fn times_goal(&self, tool: Tool, than: Tool, limit: f64) -> Goal {
        let noise = self.cost(Tool::BareAgain).map(|cost| cost.median.abs());
        let cost = |tool| self.cost(tool).map(|cost| cost.median);
        let times = match (cost(tool), cost(than), noise) {
            (Some(cost), Some(base), Some(noise)) if base > noise => Some(cost / base),
            _ => None,
        };
        Goal {
            what: format!("cost of: {}", tool.label()),
            measured: times.map_or_else(
                || "no figure".to_owned(),
                |times| format!("{times:.2} × the cost of: {}", than.label()),
            ),
            goal: format!("≤ {limit} ×"),
            met: times.map(|times| times <= limit),
        }
    }

    /// Is no farther from bare than bare runs are from each other.
    fn nothing_goal(&self, tool: Tool) -> Goal {
        let change = self.ratio(tool).map(|ratio| ratio.median - 1.0);
        let noise = self
            .ratio(Tool::BareAgain)
            .map(|ratio| (ratio.min - 1.0).abs().max((ratio.max - 1.0).abs()));
        Goal {
            what: format!("{}: change of the rate", tool.label()),
            measured: change.map_or_else(
                || "no figure".to_owned(),
                |change| format!("{:+.1} %", 100.0 * change),
            ),
            goal: noise.map_or_else(
                || "within bare against bare".to_owned(),
                |noise| format!("within bare against bare: ±{:.1} %", 100.0 * noise),
            ),
            met: change
                .zip(noise)
                .and_then(|(change, noise)| match change.abs() <= noise {
                    true if noise > TOO_NOISY => None,
                    within => Some(within),
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(noop: &[f64], traced: Result<Vec<f64>, String>, again: &[f64]) -> Runs {
        Runs {
            bare: vec![2.0, 4.0, 2.0],
            others: vec![
                (Tool::Noop, Ok(noop.to_vec())),
                (Tool::Traced, traced),
                (Tool::BareAgain, Ok(again.to_vec())),
            ],
        }
    }

    #[test]
    fn each_figure_is_compared_within_its_round() {
        let runs = runs(&[2.1, 4.1, 2.1], Ok(vec![2.2, 4.2, 2.2]), &[2.0, 4.0, 2.0]);
        assert_eq!(
            runs.ratio(Tool::Traced).unwrap().show(2),
            "1.10 (1.05 to 1.10)"
        );
        let goal = runs.floor_goal(Tool::Traced, 2.6);
        assert_eq!(
            (goal.measured.as_str(), goal.met),
            ("2.00 × the no-op probes' cost", Some(true))
        );
        assert_eq!(runs.floor_goal(Tool::Traced, 1.9).met, Some(false));
    }

    #[test]
    fn a_tool_is_compared_with_another() {
        let runs = runs(&[2.1, 4.1, 2.1], Ok(vec![2.2, 4.2, 2.2]), &[2.0, 4.0, 2.0]);
        let met = |limit| runs.times_goal(Tool::Traced, Tool::Noop, limit).met;
        assert_eq!((met(2.1), met(1.9)), (Some(true), Some(false)));
        assert_eq!(runs.times_goal(Tool::Noop, Tool::BareAgain, 9.0).met, None);
    }

    #[test]
    fn a_floor_within_the_noise_is_no_measure() {
        let runs = runs(&[2.1, 4.1, 2.1], Ok(vec![2.2, 4.2, 2.2]), &[1.8, 3.8, 2.2]);
        assert_eq!(runs.floor_goal(Tool::Traced, 2.6).met, None);
    }

    #[test]
    fn a_change_counts_beyond_that_of_bare_runs() {
        let change = |traced: Vec<f64>, again: &[f64]| {
            runs(&[], Ok(traced), again).nothing_goal(Tool::Traced).met
        };
        assert_eq!(change(vec![1.9, 3.8, 1.9], &[2.16, 4.0, 2.0]), Some(true));
        assert_eq!(change(vec![1.9, 3.8, 1.9], &[2.02, 4.0, 2.0]), Some(false));
        assert_eq!(change(vec![1.9, 3.8, 1.9], &[3.0, 4.0, 2.0]), None);
        assert_eq!(change(Vec::new(), &[2.02, 4.0, 2.0]), None);
    }

    #[test]
    fn a_tool_that_fails_has_no_figure() {
        let runs = runs(
            &[2.1, 4.1, 2.1],
            Err("no such tool".to_owned()),
            &[2.0, 4.0, 2.0],
        );
        assert_eq!(runs.ratio(Tool::Traced), None);
        assert_eq!(runs.floor_goal(Tool::Traced, 2.6).met, None);
    }
}
