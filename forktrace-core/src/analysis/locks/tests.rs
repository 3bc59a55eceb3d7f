//! The ledger on waits that are known, and against mutexes that are played step by step.

use proptest::prelude::*;

use super::ledger::{By, Seen, Turn, Wait, ledger};

fn wait(task: u32, start_ns: u64, end_ns: u64, in_ns: u64, by: u32) -> Wait {
    Wait {
        task,
        start_ns,
        end_ns,
        in_ns,
        by: By::Task(by),
    }
}

fn turn(task: u32, start_ns: u64, end_ns: u64, proved: bool) -> Turn {
    Turn {
        start_ns,
        end_ns,
        task,
        proved,
    }
}

fn seen(at_ns: u64, holder: u32, wait: usize) -> Seen {
    Seen {
        at_ns,
        holder,
        wait,
    }
}

#[test]
fn an_owner_that_the_lock_names_has_it_until_it_wakes_somebody() {
    let waits = [wait(1, 10, 50, 55, 0), wait(2, 20, 80, 80, 1)];
    let found = ledger(&waits, &[seen(10, 0, 0), seen(20, 0, 1)]);
    // The second of them had it from when it came back.
    assert_eq!(found.turns, [turn(0, 10, 50, true), turn(1, 55, 80, false)]);
    assert_eq!(found.hand_offs, [(50, 55), (80, 80)]);
}

#[test]
fn a_turn_that_was_not_seen_unproves_what_is_around_it() {
    // Task 3 wakes one, so it had the lock after the words were read.
    let waits = [wait(1, 10, 90, 90, 0), wait(2, 20, 60, 95, 3)];
    let found = ledger(&waits, &[seen(10, 0, 0), seen(20, 0, 1)]);
    assert!(found.turns.iter().all(|it| !it.proved), "{found:?}");
    assert!(found.turns.iter().all(|it| it.end_ns <= 60), "{found:?}");
}

#[test]
fn who_waits_again_came_in_vain() {
    let waits = [
        wait(1, 10, 50, 55, 0),
        wait(2, 20, 90, 90, 3),
        wait(1, 56, 120, 120, 2),
    ];
    let found = ledger(&waits, &[seen(10, 0, 0), seen(20, 0, 1), seen(56, 3, 2)]);
    assert!(found.turns.contains(&turn(0, 10, 50, true)));
    assert!(found.turns.contains(&turn(3, 56, 90, true)));
    assert!(!found.turns.iter().any(|it| it.task == 1), "{found:?}");
}

#[test]
fn an_owner_whose_waiters_were_cut_short_had_it_all_the_time() {
    let mut waits = [wait(1, 10, 1000, u64::MAX, 0)];
    waits[0].by = By::Nobody;
    let found = ledger(&waits, &[seen(10, 0, 0)]);
    assert_eq!(found.turns, [turn(0, 10, 1000, true)]);
}

/// All arrive, and the last one lets the others go.
#[test]
fn a_barrier_has_no_holder() {
    let mut waits = Vec::new();
    for round in 0..20_u64 {
        let last = (round % 4) as u32;
        for task in (0..4).filter(|task| *task != last) {
            let start = round * 100 + u64::from(task);
            waits.push(wait(task, start, round * 100 + 60, round * 100 + 62, last));
        }
    }
    assert_eq!(ledger(&waits, &[]).turns, []);
}

/// One gives notice to many, each of which goes on by itself.
#[test]
fn a_notice_has_no_holder() {
    let mut waits = Vec::new();
    for round in 0..20_u64 {
        for task in 1..4 {
            let start = round * 100 + 30 * u64::from(task) % 70;
            waits.push(wait(task, start, round * 100 + 80, round * 100 + 81, 0));
        }
    }
    waits.sort_by_key(|wait| wait.start_ns);
    assert_eq!(ledger(&waits, &[]).turns, []);
}

/// How a lock is played.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Play {
    /// Whoever comes first has it, as with the C library's mutex.
    Barging,
    /// In the order of arrival: all who sleep are woken, and all but one sleep again.
    Ticket,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Doing {
    Thinks(u64),
    Asks,
    Sleeps,
    /// It was woken, and has no CPU until then.
    Comes(u64),
    Holds(u64),
    /// It let the lock go, and will wake those who sleep.
    Wakes(u64),
}

struct Played {
    waits: Vec<Wait>,
    seen: Vec<Seen>,
    /// Who had the lock in each step; `None`: nobody.
    holder: Vec<Option<u32>>,
}

/// Plays a lock with so many threads, with these lengths one after the other.
fn play(kind: Play, threads: u32, steps: u64, lengths: &[u64], named: bool) -> Played {
    let mut next = lengths.iter().copied().cycle();
    let mut length = move || next.next().unwrap_or(1);
    let mut doing: Vec<Doing> = (0..threads).map(|_| Doing::Thinks(length())).collect();
    let mut asleep_since = vec![0; threads as usize];
    let (mut holder, mut contended) = (None, false);
    let (mut queue, mut tickets): (Vec<u32>, Vec<u32>) = Default::default();
    let mut words: Vec<(u64, u32, u32)> = Vec::new();
    let mut played = Played {
        waits: Vec::new(),
        seen: Vec::new(),
        holder: Vec::new(),
    };
    for now in 0..steps {
        for task in 0..threads {
            let at = task as usize;
            doing[at] = match doing[at] {
                Doing::Thinks(0) => {
                    if kind == Play::Ticket {
                        tickets.push(task);
                    }
                    Doing::Asks
                }
                Doing::Thinks(left) => Doing::Thinks(left - 1),
                Doing::Comes(until) if now < until => Doing::Comes(until),
                Doing::Comes(_) | Doing::Asks => {
                    let first = kind == Play::Barging || tickets.first() == Some(&task);
                    // Who was woken does not know whether others sleep.
                    let was_woken = matches!(doing[at], Doing::Comes(_));
                    if holder.is_none() && first {
                        holder = Some(task);
                        contended |= was_woken;
                        Doing::Holds(length())
                    } else {
                        contended = true;
                        asleep_since[at] = now;
                        queue.push(task);
                        if let Some(owner) = holder.filter(|_| named) {
                            words.push((now, task, owner));
                        }
                        Doing::Sleeps
                    }
                }
                Doing::Sleeps => Doing::Sleeps,
                Doing::Holds(0) => {
                    holder = None;
                    tickets.retain(|it| *it != task);
                    match std::mem::take(&mut contended) {
                        true => Doing::Wakes(length() % 3),
                        false => Doing::Thinks(length()),
                    }
                }
                Doing::Holds(left) => Doing::Holds(left - 1),
                Doing::Wakes(0) => {
                    let count = match kind {
                        Play::Barging => 1.min(queue.len()),
                        Play::Ticket => queue.len(),
                    };
                    for woken in queue.drain(..count) {
                        let in_ns = now + 1 + length() % 5;
                        doing[woken as usize] = Doing::Comes(in_ns);
                        let since_ns = asleep_since[woken as usize];
                        played.waits.push(wait(woken, since_ns, now, in_ns, task));
                    }
                    Doing::Thinks(length())
                }
                Doing::Wakes(left) => Doing::Wakes(left - 1),
            };
        }
        played.holder.push(holder);
    }
    for task in queue {
        let since_ns = asleep_since[task as usize];
        let mut open = wait(task, since_ns, steps, u64::MAX, 0);
        open.by = By::Nobody;
        played.waits.push(open);
    }
    played.waits.sort_by_key(|it| (it.start_ns, it.task));
    for (at_ns, task, owner) in words {
        let is_it = |it: &Wait| (it.start_ns, it.task) == (at_ns, task);
        let wait = played.waits.iter().position(is_it).expect("it waited");
        played.seen.push(seen(at_ns, owner, wait));
    }
    played
}

fn lengths() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0_u64..12, 5..60)
}

fn any_play() -> impl Strategy<Value = Play> {
    prop::sample::select(vec![Play::Barging, Play::Ticket])
}

proptest! {
    /// Who is proved to have a lock has it, all the time and nobody else.
    #[test]
    fn what_is_proved_is_so(kind in any_play(), threads in 2_u32..6, lengths in lengths()) {
        let played = play(kind, threads, 400, &lengths, true);
        for turn in ledger(&played.waits, &played.seen).turns.iter().filter(|it| it.proved) {
            for now in turn.start_ns..turn.end_ns {
                // It lets the lock go a moment before it wakes the next one: here up to 3 steps.
                let holder = played.holder[now as usize];
                let on_its_way = turn.end_ns - now <= 3;
                prop_assert!(holder == Some(turn.task) || on_its_way, "{:?} at {}: {:?}", turn, now, holder);
            }
        }
    }

    /// Without owners, turns are of tasks that had the lock within them.
    #[test]
    fn who_is_inferred_had_it_at_some_time_in_its_turn(
        kind in any_play(), threads in 2_u32..6, lengths in lengths(),
    ) {
        let played = play(kind, threads, 400, &lengths, false);
        for turn in ledger(&played.waits, &[]).turns {
            let mut within = turn.start_ns..=turn.end_ns.min(399);
            let had_it = within.any(|now| played.holder[now as usize] == Some(turn.task));
            prop_assert!(had_it, "{:?}", turn);
        }
    }

    #[test]
    fn turns_follow_each_other(threads in 2_u32..6, lengths in lengths(), named: bool) {
        let played = play(Play::Barging, threads, 400, &lengths, named);
        let found = ledger(&played.waits, &played.seen);
        prop_assert!(found.turns.windows(2).all(|pair| pair[0].end_ns <= pair[1].start_ns));
    }
}

#[test]
fn most_of_a_mutex_with_owners_is_proved() {
    let lengths: Vec<u64> = (0..97).map(|n| (n * 37 + 11) % 12).collect();
    let played = play(Play::Barging, 4, 5000, &lengths, true);
    let turns = ledger(&played.waits, &played.seen).turns;
    let ns = |proved: bool| -> u64 {
        let turns = turns.iter().filter(|it| it.proved == proved);
        turns.map(|it| it.end_ns - it.start_ns).sum()
    };
    let held = played.holder.iter().flatten().count() as u64;
    assert!(
        ns(true) * 2 > held,
        "{} of {held}, {} inferred",
        ns(true),
        ns(false)
    );
}
