//! Perfetto's compact form, which it records by default: columns of numbers and a table of names.
//! The bytes are made by the published definition of the form
//! (`protos/perfetto/trace/ftrace/ftrace_event_bundle.proto`).

use super::*;

/// When the recording begins, ns since boot.
const BASE: u64 = 5_000_000_000;
const UNIX: u64 = 1_767_268_800_000_000_000;
/// `TRACE_FLAG_HARDIRQ`.
const HARD: u64 = 0x08;

fn varint(mut number: u64, to: &mut Vec<u8>) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn number(field: u64, number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(field << 3, &mut bytes);
    varint(number, &mut bytes);
    bytes
}

fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(field << 3 | 2, &mut bytes);
    varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

fn packed(field: u64, numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut content = Vec::new();
    numbers.into_iter().for_each(|it| varint(it, &mut content));
    bytes(field, &content)
}

/// The first is absolute, each other one is since the one before.
fn times<'a, T>(events: &'a [T], at: impl Fn(&T) -> u64 + 'a) -> impl Iterator<Item = u64> + 'a {
    let mut before = 0;
    events.iter().map(move |event| {
        let now = BASE + at(event);
        now - std::mem::replace(&mut before, now)
    })
}

/// When, the state of who leaves, who comes, and its name among the names.
type Switch = (u64, u64, u64, u64);
/// When, who, its name, and the flags.
type Waking = (u64, u64, u64, u64);

/// A packet with what happened on a CPU.
fn bundle(cpu: u64, names: &[&str], switches: &[Switch], wakings: &[Waking]) -> Vec<u8> {
    let compact = [
        packed(1, times(switches, |it| it.0)),
        packed(2, switches.iter().map(|it| it.1)),
        packed(3, switches.iter().map(|it| it.2)),
        packed(4, switches.iter().map(|_| 120)),
        names
            .iter()
            .flat_map(|name| bytes(5, name.as_bytes()))
            .collect(),
        packed(6, switches.iter().map(|it| it.3)),
        packed(7, times(wakings, |it| it.0)),
        packed(8, wakings.iter().map(|it| it.1)),
        packed(9, wakings.iter().map(|_| cpu)),
        packed(10, wakings.iter().map(|_| 120)),
        packed(11, wakings.iter().map(|it| it.2)),
        packed(12, wakings.iter().map(|it| it.3)),
    ]
    .concat();
    let bundle = [number(1, cpu), bytes(4, &compact)].concat();
    bytes(1, &bytes(1, &bundle))
}

fn thread(tid: u64, name: &str, tgid: u64) -> Vec<u8> {
    let thread = [number(1, tid), bytes(2, name.as_bytes()), number(3, tgid)].concat();
    bytes(2, &thread)
}

fn trace() -> Vec<u8> {
    let clock = |id, at| bytes(1, &[number(1, id), number(2, at)].concat());
    let clocks = [clock(1, UNIX), clock(3, BASE - 9), clock(6, BASE)].concat();
    let process = [
        number(1, 100),
        number(2, 1),
        bytes(3, b"/usr/bin/main"),
        bytes(3, b"-x"),
    ];
    let tree = [
        bytes(1, &process.concat()),
        thread(100, "main", 100),
        thread(101, "worker", 100),
    ];
    [
        bytes(1, &bytes(6, &clocks)),
        bytes(1, &bytes(2, &tree.concat())),
        // CPUs come one after the other, so time goes back.
        bundle(
            1,
            &["worker", "swapper/1"],
            &[
                (400_000, 0, 101, 0),
                (1_000_000, 1, 0, 1),
                (6_000_000, 0, 101, 0),
                (8_000_000, 2, 0, 1),
                (8_700_000, 0, 101, 0),
            ],
            &[(8_500_000, 101, 0, HARD)],
        ),
        bundle(
            0,
            &["main", "swapper/0", "worker"],
            &[(500_000, 0, 100, 0), (9_000_000, 1, 0, 1)],
            &[(5_000_000, 101, 2, 0)],
        ),
    ]
    .concat()
}

#[test]
fn the_compact_form_tells_who_slept_and_who_woke() {
    let (info, model) = read(&trace());
    assert_eq!(info.header.start_ns, BASE + 400_000);
    assert_eq!(info.header.start_unix_ns, UNIX + 400_000);
    let worker = model.tasks.iter().position(|it| it.name == "worker");
    let worker = worker.expect("it is there");
    let task = &model.tasks[worker];
    assert_eq!((task.tid, task.pid), (101, 100));
    let mut expected = [0; 5];
    expected[State::Blocked as usize] = 4_000_000 + 500_000;
    expected[State::Runnable as usize] = 1_000_000 + 200_000;
    expected[State::Running as usize] = 600_000 + 2_000_000 + 300_000;
    assert_eq!(super::times(&model, worker), expected);
    let main = model.tasks.iter().find(|it| it.name == "main");
    let main = main.expect("it is there");
    assert_eq!(main.argv, ["/usr/bin/main", "-x"]);
    let wakers: Vec<Waker> = task
        .stretches
        .iter()
        .filter(|off| off.state() == State::Blocked)
        .map(|off| off.waker)
        .collect();
    // The form does not say who woke: that is who had the CPU, unless an interrupt did it.
    assert_eq!(
        wakers,
        [
            Waker::Task {
                serial: main.serial,
                softirq: false
            },
            Waker::Interrupt(Interrupt::Other)
        ]
    );
}

#[test]
fn columns_of_different_lengths_and_names_that_are_not_there_do_no_harm() {
    let whole = trace();
    let few = bundle(
        0,
        &[],
        &[(10_000_000, 0, 100, 77)],
        &[(11_000_000, 101, 5, 0)],
    );
    read(&[whole.clone(), few].concat());
    // A column with more rows than the others.
    let long = packed(1, [BASE; 1000]);
    let compact = [long, packed(3, [100])].concat();
    let odd = bytes(1, &bytes(1, &bytes(4, &compact)));
    read(&[whole, odd].concat());
}
