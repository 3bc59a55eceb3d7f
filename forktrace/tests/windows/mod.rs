//! The golden traces, cut into windows: what is said of a part is the same, however they are cut.

use std::{fs, sync::Arc};

use forktrace_core::{
    analysis::{Options, analyse_part},
    model::{Part, Shelf},
    pipeline, render,
    trace::Finish,
    trace_file::{self, Source, TraceWriter},
};

use super::{TRACES, trace_file as golden};

/// The trace again, of windows that are so long, bytes. `sorted`: the events are put in the order of
/// time. The rings of short recordings are emptied once, CPU after CPU.
fn cut(data: &[u8], lengths: (usize, u64), sorted: bool) -> Vec<u8> {
    let mut events = Vec::new();
    let mut last_ns = 0;
    let info = trace_file::read(data, |_, event| {
        // What tells of another event comes after it.
        last_ns = last_ns.max(event.at_ns().unwrap_or(0));
        events.push((event.at_ns().unwrap_or(last_ns), event));
    });
    let info = info.expect("a trace");
    if sorted {
        events.sort_by_key(|(at_ns, _)| *at_ns);
    }
    let mut bytes = Vec::new();
    let writer = TraceWriter::with_windows(&mut bytes, &info.header, lengths);
    let mut writer = writer.expect("memory takes it");
    events.iter().for_each(|(_, event)| writer.push(event));
    let (_, error) = writer.finish(info.finish.unwrap_or_else(Finish::default));
    assert!(error.is_none());
    bytes
}

fn report(data: &[u8], since_ns: u64, part: &Part) -> String {
    let shelf = Arc::<Shelf>::default();
    let read = pipeline::read_since(&shelf, Source::Memory(data), None, since_ns);
    let (info, model) = read.expect("a trace");
    let (report, _) = analyse_part(&info, &model, &Options::default(), part, &[]);
    render::render(&report, render::Format::Json, &render::Style::PLAIN)
}

#[test]
fn windows_change_no_report() {
    let mut begun = 0;
    for trace in &TRACES {
        let data = fs::read(golden(trace.name)).expect("a trace");
        let (info, model) = pipeline::read(&data, None).expect("a trace");
        let whole = cut(&data, (128 << 10, u64::MAX), false);
        for lengths in [(1, 1), (300, 900)] {
            let windows = cut(&data, lengths, false);
            let found = trace_file::find_windows(Source::Memory(&windows));
            let found = found.expect("a trace").expect("a header").windows;
            for share in [31, 80] {
                let from_ns = model.end_ns * share / 100;
                for (before_ns, to_ns) in [(1, u64::MAX), (5_000_000, from_ns + 20_000_000)] {
                    let since_ns = from_ns.saturating_sub(before_ns);
                    let part = Part {
                        from_ns,
                        to_ns,
                        tasks: None,
                    };
                    let at_ns = info.header.start_ns + since_ns;
                    begun += usize::from(found.iter().any(|it| it.open_ns <= at_ns));
                    assert!(
                        report(&windows, since_ns, &part) == report(&whole, since_ns, &part),
                        "{}, {lengths:?}, from {share} %",
                        trace.name
                    );
                }
            }
        }
    }
    assert!(begun > 40, "{begun}");
}

/// Times of a part are those that the whole has, if nothing before it was read.
#[test]
fn a_part_that_is_read_by_itself_has_the_times_of_the_whole() {
    for trace in &TRACES {
        let data = fs::read(golden(trace.name)).expect("a trace");
        let (info, whole) = pipeline::read(&data, None).expect("a trace");
        let windows = cut(&data, (200, 400), true);
        let last = whole.tasks.iter().map(|task| task.end_ns).max();
        let length_ns = last.expect("a task");
        for share in [31, 80] {
            let part = Part {
                from_ns: length_ns * share / 100,
                to_ns: u64::MAX,
                tasks: None,
            };
            let shelf = Arc::<Shelf>::default();
            let read =
                pipeline::read_since(&shelf, Source::Memory(&windows), None, part.from_ns - 1);
            let (later, model) = read.expect("a trace");
            let of = |info, model| {
                let (report, _) = analyse_part(info, model, &Options::default(), &part, &[]);
                let tasks = report.tasks.iter().map(|task| {
                    let who = (task.serial, task.name.clone(), task.start_ns, task.end_ns);
                    let times = (task.running_ns, task.runnable_ns, task.blocked_ns);
                    // The ids of objects are places in a list of what is known.
                    let waits = task.waits.iter().map(|wait| {
                        let names = wait.objects.iter().map(|it| (&it.object.name, it.ns));
                        let names: Vec<_> = names.collect();
                        format!("{} {} {} {names:?}", wait.reason, wait.ns, wait.count)
                    });
                    let waits: Vec<String> = waits.collect();
                    format!("{who:?} {times:?} {} {waits:?}", task.unknown_ns)
                });
                let mut tasks: Vec<String> = tasks.collect();
                tasks.sort();
                let groups = report.groups.iter();
                let walls = groups.map(|group| format!("{:?} {:?}", group.id, group.wall));
                (tasks, walls.collect::<Vec<_>>(), report.part)
            };
            assert_eq!(
                of(&later, &model),
                of(&info, &whole),
                "{}, {share} %",
                trace.name
            );
        }
    }
}
