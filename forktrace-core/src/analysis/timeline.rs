//! Pictures of a part of a trace.

use crate::{
    model::{Model, State, Task},
    report::{Interval, Slice, Timeline, TimelineRow},
};

/// Slices of a picture.
pub(super) const SLICES: u64 = 72;
/// Tasks that find room in a picture.
pub(super) const ROWS: usize = 8;

const STATES: [Slice; 6] = [
    Slice::Running,
    Slice::Runnable,
    Slice::Blocked,
    Slice::Stopped,
    Slice::Unknown,
    Slice::NotAlive,
];

/// What the tasks with these serials did around a moment: the picture is `context`
/// times as long as it, as far as the trace goes. `None`: the moment is not in the
/// trace, or has no length.
pub fn timeline(
    model: &Model,
    serials: &[u32],
    moment: Interval,
    context: f64,
) -> Option<Timeline> {
    let begin_ns = model.tasks.iter().map(|t| t.start_ns).min()?;
    let moment = Interval {
        start_ns: moment.start_ns.max(begin_ns),
        end_ns: moment.end_ns.min(model.end_ns),
    };
    if moment.ns() == 0 {
        return None;
    }
    let around_ns = (moment.ns() as f64 * (context - 1.0).max(0.0) / 2.0) as u64;
    let start_ns = moment.start_ns.saturating_sub(around_ns).max(begin_ns);
    let end_ns = moment.end_ns.saturating_add(around_ns).min(model.end_ns);
    let window = Interval {
        start_ns,
        // A slice is at least a nanosecond.
        end_ns: end_ns.max(start_ns + SLICES),
    };
    let tasks: Vec<&Task> = serials
        .iter()
        .filter_map(|&serial| model.tasks.iter().find(|task| task.serial == serial))
        .collect();
    Some(Timeline {
        window,
        moment,
        moment_slices: [moment.start_ns, moment.end_ns - 1].map(|ns| slice_of(ns, window)),
        rows: tasks
            .iter()
            .take(ROWS)
            .map(|task| row(task, window))
            .collect(),
        more_tasks: tasks.len().saturating_sub(ROWS) as u64,
    })
}

fn row(task: &Task, window: Interval) -> TimelineRow {
    let mut sums = [[0u64; STATES.len()]; SLICES as usize];
    let mut add = |start_ns: u64, end_ns: u64, state: Slice| {
        let (mut at_ns, end_ns) = (start_ns.max(window.start_ns), end_ns.min(window.end_ns));
        while at_ns < end_ns {
            let slice = slice_of(at_ns, window);
            let until_ns = border(slice + 1, window).min(end_ns);
            sums[slice as usize][state as usize] += until_ns - at_ns;
            at_ns = until_ns;
        }
    };
    add(window.start_ns, task.start_ns, Slice::NotAlive);
    add(task.end_ns, window.end_ns, Slice::NotAlive);
    for segment in task.segments_from(window.start_ns) {
        if segment.start_ns >= window.end_ns {
            break;
        }
        add(segment.start_ns, segment.end_ns, of(segment.state));
    }
    TimelineRow {
        serial: task.serial,
        tid: task.tid,
        name: task.name.clone(),
        slices: sums.iter().map(most).collect(),
    }
}

/// Where a slice begins.
fn border(slice: u64, window: Interval) -> u64 {
    let part = u128::from(window.ns()) * u128::from(slice) / u128::from(SLICES);
    window.start_ns + part as u64
}

/// The slice that a time within the window is in.
fn slice_of(at_ns: u64, window: Interval) -> u64 {
    let part = u128::from(at_ns - window.start_ns) * u128::from(SLICES) / u128::from(window.ns());
    let slice = part as u64;
    // Borders are rounded down, so it can be the next one's first moment already.
    slice + u64::from(border(slice + 1, window) <= at_ns)
}

/// The state with the most time; of two with the same, the first of [`STATES`].
fn most(sums: &[u64; STATES.len()]) -> Slice {
    let mut most = 0;
    for (state, &ns) in sums.iter().enumerate() {
        if ns > sums[most] {
            most = state;
        }
    }
    STATES[most]
}

fn of(state: State) -> Slice {
    match state {
        State::Running => Slice::Running,
        State::Runnable => Slice::Runnable,
        State::Blocked => Slice::Blocked,
        State::Stopped => Slice::Stopped,
        State::Unknown => Slice::Unknown,
    }
}
