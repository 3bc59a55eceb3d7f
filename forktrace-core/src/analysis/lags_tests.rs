//! Data that waited, on drawn time lines, and against an oracle that counts each nanosecond.

use proptest::prelude::*;

use super::{
    analyse,
    why_tests::{self, info, model},
};
use crate::{
    model::{Model, State, Task},
    report::{FindingKind, Lag, LagSide, Lags, Report},
    trace,
};

/// Blocks in read, of nothing that is known.
const READ: i16 = 0;

fn task(serial: u32, line: &str) -> Task {
    let blocks = line.matches('b').count();
    let blocks = vec![(READ, 0, trace::Waker::None); blocks];
    why_tests::task(serial, serial, line, &blocks)
}

fn lag(serial: u32, ready_ns: u64, looked_ns: u64, ports: (u16, u16)) -> trace::Lag {
    trace::Lag {
        serial,
        ready_ns,
        looked_ns,
        local_port: ports.0,
        remote_port: ports.1,
    }
}

fn reported(model: &Model) -> Report {
    let mut info = info();
    info.header.lag_min_ns = Some(1);
    // Of a trace without an end the first sentence says that before all else.
    info.finish = Some(trace::Finish::default());
    analyse(&info, model)
}

fn lags(tasks: Vec<Task>, lags: &[trace::Lag]) -> Lags {
    let mut model = model(tasks);
    model.lags = lags.to_vec();
    reported(&model).lags.expect("it was asked for")
}

fn only(found: &Lags) -> &Lag {
    match &found.rows[..] {
        [only] => only,
        rows => panic!("{rows:#?}"),
    }
}

#[test]
fn what_the_task_did_meanwhile_adds_up() {
    let found = lags(vec![task(1, "rrbbbwwrrr$")], &[lag(1, 1, 8, (80, 40_000))]);
    let row = only(&found);
    assert_eq!((row.side, row.port), (LagSide::Serves, 80));
    assert_eq!((row.ns, row.waited.longest_ns), (7, 7));
    for did in [&row.did, &row.longest.did] {
        assert_eq!((did.running_ns, did.blocked_ns, did.runnable_ns), (2, 3, 2));
        let [wait] = &did.waits[..] else {
            panic!("{did:#?}");
        };
        assert_eq!((wait.reason.as_str(), wait.ns), ("read", 3));
    }
}

#[test]
fn times_of_several_sockets_add_up_and_the_longest_stands_by_itself() {
    let two = [lag(1, 2, 6, (80, 40_000)), lag(1, 3, 8, (80, 40_001))];
    let found = lags(vec![task(1, "rrbbbwwrrr$")], &two);
    let row = only(&found);
    assert_eq!((row.ns, row.waited.count), (9, 2));
    let did = &row.did;
    assert_eq!((did.blocked_ns, did.runnable_ns, did.running_ns), (5, 3, 1));
    assert_eq!((row.longest.start_ns, row.longest.ns), (3, 5));
    assert_eq!(row.longest.did.blocked_ns, 2);
}

#[test]
fn the_port_that_many_are_connected_to_is_that_of_who_serves() {
    let high = 50_051;
    let clients = [(high, 40_001), (high, 40_002)];
    let asked = clients.map(|(server, client)| lag(2, 1, 2, (client, server)));
    let served = clients.map(|ports| lag(1, 1, 2, ports));
    let both = [task(1, "rrr$"), task(2, "rrr$")];
    let found = lags(both.to_vec(), &[&served[..], &asked[..]].concat());
    let mut sides: Vec<_> = found.rows.iter().map(|row| (row.side, row.port)).collect();
    sides.sort();
    assert_eq!(sides, [(LagSide::Serves, high), (LagSide::Asks, high)]);
}

#[test]
fn nothing_is_said_where_nobody_asked() {
    let mut model = model(vec![task(1, "rrr$")]);
    model.lags.push(lag(1, 1, 2, (80, 40_000)));
    assert_eq!(analyse(&info(), &model).lags, None);
}

#[test]
fn requests_that_waited_long_are_a_finding_with_what_held_them_up() {
    const MS: u64 = 1_000_000;
    let mut task = task(1, "rrbbbwwrrr$");
    task.start_ns *= 10 * MS;
    task.end_ns *= 10 * MS;
    task.stretches.edit(|offs| {
        for off in offs {
            (off.out_ns, off.wake_ns) = (off.out_ns * 10 * MS, off.wake_ns * 10 * MS);
            off.in_ns *= 10 * MS;
        }
    });
    let mut model = model(vec![task]);
    model.lags.push(lag(1, 20 * MS, 75 * MS, (80, 40_000)));
    let report = reported(&model);
    let found = report.findings.iter().find(|f| f.kind == FindingKind::Lag);
    let found = found.expect("a finding");
    assert_eq!(
        found.sentence,
        "Requests on TCP port 80 waited for up to 55.0 ms until `t1` (101) read them (once for \
         1 ns or longer): in the longest time it waited in read for 30.0 ms."
    );
    assert_eq!((found.ns, &found.tasks[..]), (55 * MS, &[1][..]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn sums_are_those_of_each_nanosecond(
        lines in prop::collection::vec("w{0,2}r(r|b{1,4}w{1,3}r|w{1,2}r){0,12}", 1..4),
        drawn in prop::collection::vec((0..3usize, 0..60u64, 0..30u64, 0..3u16), 0..12),
    ) {
        let tasks = lines.iter().enumerate();
        let tasks: Vec<Task> = tasks.map(|(at, line)| task(at as u32 + 1, &format!("{line}$"))).collect();
        let drawn = drawn.into_iter().map(|(of, from, length, port)| {
            let task = &tasks[of % tasks.len()];
            let from = from.min(task.end_ns);
            let to = (from + length).min(task.end_ns);
            lag(task.serial, from, to, (80 + port, 40_000))
        });
        let drawn: Vec<trace::Lag> = drawn.collect();
        let mut model = model(tasks);
        model.lags = drawn.clone();
        let found = reported(&model).lags.expect("it was asked for");
        let mut sums = [0u64; 4];
        for lag in &drawn {
            let task = &model.tasks[lag.serial as usize - 1];
            for ns in lag.ready_ns..lag.looked_ns {
                let at = task.segments().find(|s| s.start_ns <= ns && ns < s.end_ns);
                match at.map(|segment| segment.state) {
                    Some(State::Running) => sums[0] += 1,
                    Some(State::Runnable) => sums[1] += 1,
                    Some(State::Blocked) => sums[2] += 1,
                    _ => sums[3] += 1,
                }
            }
        }
        let total = |figure: fn(&Lag) -> u64| found.rows.iter().map(figure).sum::<u64>();
        prop_assert_eq!(total(|row| row.did.running_ns), sums[0]);
        prop_assert_eq!(total(|row| row.did.runnable_ns), sums[1]);
        prop_assert_eq!(total(|row| row.did.blocked_ns), sums[2]);
        prop_assert_eq!(total(|row| row.did.unknown_ns), sums[3]);
        prop_assert_eq!(total(|row| row.ns), sums.iter().sum::<u64>());
        prop_assert_eq!(total(|row| row.waited.count), drawn.len() as u64);
        for row in &found.rows {
            let did = &row.longest.did;
            let sum = did.running_ns + did.runnable_ns + did.blocked_ns + did.unknown_ns;
            prop_assert_eq!(sum, row.longest.ns);
        }
    }
}
