//! Tasks that are not followed.

use super::*;

/// The drawings of all tasks.
fn draw_all(events: impl IntoIterator<Item = Event>, end_ns: u64) -> Vec<String> {
    build(events, end_ns).tasks.iter().map(draw).collect()
}

#[test]
fn a_task_that_is_not_followed_is_unknown_all_along() {
    let events = [
        Event::Untracked(untracked(200, 200, 3)),
        Event::UntrackedEnd(untracked(200, 200, 8)),
        Event::Untracked(untracked(200, 200, 9)),
    ];
    let model = build(events.clone(), 12);
    assert!(model.tasks.iter().all(|t| !t.followed && t.tid == 200));
    // The second one has the first one's tid.
    assert_eq!(draw_all(events, 12), ["   ?????$", "         ???~"]);
}

/// The end was on another CPU than the creation, whose ring was emptied first.
#[test]
fn the_creation_and_the_end_of_a_task_that_is_not_followed_come_in_any_order() {
    let events = vec![
        Event::Untracked(untracked(200, 200, 3)),
        Event::UntrackedEnd(untracked(200, 200, 8)),
        Event::Untracked(untracked(200, 200, 9)),
        Event::Untracked(untracked(201, 201, 10)),
        Event::UntrackedEnd(untracked(201, 201, 10)),
    ];
    for events in orders(events) {
        let seen = draw_all(events, 12);
        assert_eq!(seen, ["   ?????$", "         ???~", "          $"]);
    }
}

#[test]
fn a_task_that_is_not_followed_and_whose_creation_is_lost_was_there() {
    let model = build([Event::UntrackedEnd(untracked(200, 200, 8))], 12);
    assert_eq!((model.tasks.len(), model.tasks[0].end_ns), (1, 8));
}

#[test]
fn a_task_that_is_not_followed_belongs_to_the_process_with_its_tgid() {
    let first = record(born(1, 0), Some(5));
    // Another process with the same pid, later.
    let mut second = record(born(2, 6), Some(12));
    second.born.tgid = first.born.tgid;
    let events = [
        Event::Task(first),
        Event::Task(second),
        Event::Untracked(untracked(201, 101, 2)),
        Event::UntrackedEnd(untracked(201, 101, 4)),
        Event::Untracked(untracked(202, 101, 8)),
        Event::Untracked(untracked(203, 300, 8)),
    ];
    let model = build(events, 20);
    let process_of = |tid| model.tasks.iter().find(|t| t.tid == tid).map(|t| t.process);
    assert_eq!(process_of(201), Some(1));
    assert_eq!(process_of(202), Some(2));
    let own = model
        .tasks
        .iter()
        .find(|t| t.tid == 203)
        .expect("it is there");
    assert_eq!(own.process, own.serial, "nobody else is of its process");
}

#[test]
fn a_task_that_is_not_followed_ends_no_later_than_its_process() {
    let thread = |serial, start, end| {
        let mut record = record(born(serial, start), end);
        record.born.process = 1;
        record.born.tgid = 101;
        Event::Task(record)
    };
    let lost_end = Event::Untracked(untracked(200, 101, 3));
    // All of its process ended: it can't have lived longer.
    assert_eq!(
        draw_all(
            [
                thread(1, 0, Some(5)),
                thread(2, 1, Some(8)),
                lost_end.clone()
            ],
            12
        )[2],
        "   ?????~"
    );
    // One of its process lives.
    assert_eq!(
        draw_all([thread(1, 0, Some(5)), thread(2, 1, None), lost_end], 12)[2],
        "   ?????????~"
    );
}

#[test]
fn nothing_makes_an_empty_model() {
    let model = build([], 5);
    assert!(model.tasks.is_empty());
    assert_eq!(model.end_ns, 5);
}
