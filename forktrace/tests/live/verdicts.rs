//! Why all were blocked at once: verdict, chain and root, compared with what the
//! workload knows.

use std::process::Command;

use serde_json::Value;

use crate::support::{
    Episode, Finished, Forktrace, Link, Report, Timelines, all_announced, forktrace, have, id,
    list, n, skip, span, timelines, timelines_of, unspoilt,
};

/// Lists all episodes.
fn all_episodes(workload: &str) -> impl Fn(Forktrace) -> Forktrace {
    move |run| run.args(["--episodes", "100000"]).workload(workload)
}

/// The tree's episodes from one time of a truth line to another one.
#[track_caller]
fn between<'a>(
    report: &'a Report,
    lines: &Timelines,
    (begin, end): (&Value, &Value),
) -> Vec<&'a Episode> {
    let (begin, end) = (lines.since(begin), lines.since(end));
    let within = |e: &&Episode| e.group == 0 && begin <= e.start_ns && e.end_ns <= end;
    let found: Vec<_> = report.episodes.iter().filter(within).collect();
    // Where the kernel did not announce a wakeup, nothing is known of its waker.
    let known = |e: &Episode| all_announced(report) || e.verdict != "unknown";
    found.into_iter().filter(|e| known(e)).collect()
}

/// A run in which no name is missing, if there is one in a few: names are found out
/// while a process lives, when forktrace gets a CPU.
#[track_caller]
fn with_names(run: impl Fn() -> (Finished, Timelines)) -> (Finished, Timelines) {
    const TRIES: u32 = 5;
    let mut tries = 1;
    loop {
        let traced = run();
        let mut weaknesses = traced.0.report().audit.weaknesses.iter();
        if tries == TRIES || weaknesses.all(|w| w.kind != "names_missing") {
            return traced;
        }
        tries += 1;
    }
}

fn total(episodes: &[&Episode]) -> u64 {
    episodes.iter().map(|e| e.ns).sum()
}

fn tids(links: &[Link]) -> Vec<u32> {
    links.iter().map(|link| link.tid).collect()
}

/// All waiters of a truth line, the last to get the lock first, then the holder.
fn behind(holder: u32, waiters: &Value) -> Vec<u32> {
    let waiters = list(waiters).iter().rev();
    let mut expected: Vec<u32> = waiters.map(|waiter| id(&waiter["tid"])).collect();
    expected.push(holder);
    expected
}

/// One was behind another, up to the last of these, which waited in this.
#[track_caller]
fn check_caused<'a>(episode: &'a Episode, chain: &[u32], reason: &str) -> &'a Link {
    assert_eq!(episode.verdict, "caused", "{episode:#?}");
    assert_eq!(tids(&episode.chain), chain, "{episode:#?}");
    assert_eq!(episode.chain_in_group as usize, chain.len());
    let root = episode.chain.last().expect("it has a root");
    assert_eq!(root.reason, reason, "{episode:#?}");
    root
}

/// The causes' time of which this task's wait is the root.
fn behind_ns(report: &Report, tid: u32, reason: &str) -> u64 {
    let is_it = |root: &Link| root.reason == reason;
    let causes = report.causes.iter().filter(|c| c.group == 0);
    let causes = causes.filter(|c| c.verdict == "caused" && c.root.as_ref().is_some_and(is_it));
    let tasks = causes.flat_map(|c| &c.by).filter(|by| by.tid == tid);
    tasks.map(|by| by.ns).sum()
}

/// The text of a report, without its line breaks.
#[track_caller]
fn text(traced: &Finished) -> String {
    let output = Command::new(forktrace())
        .args(["report", "-v", "--episodes", "100000"])
        .arg(traced.file("trace.ft"))
        .output()
        .expect("forktrace starts");
    assert!(output.status.success(), "{output:?}");
    // It goes where the report of a run goes.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("a report is UTF-8");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn all_wait_behind_the_holder_of_a_mutex_who_naps() {
    unspoilt(|| {
        let (traced, lines) = timelines_of(all_episodes("shared-mutex --threads 5 --millis 100"));
        let (report, truth) = (traced.report(), traced.truth());
        let holder = id(&truth["holder_tid"]);
        let nap = &truth["nap"];
        let expected = behind(holder, &truth["waiters"]);
        assert_eq!(expected.len(), 5);
        let episodes = between(report, &lines, (&nap["begin_ns"], &nap["end_ns"]));
        for episode in &episodes {
            check_caused(episode, &expected, "sleep");
            assert_eq!((episode.tasks, episode.held), (5, 4), "{episode:#?}");
            // All but the holder wait for one futex.
            let [shared] = &episode.shared[..] else {
                panic!("{episode:#?}");
            };
            assert_eq!((&*shared.object.kind, shared.tasks.len()), ("futex", 4));
            let holder = report.task(holder).serial;
            assert!(!shared.tasks.contains(&holder), "{episode:#?}");
        }
        // All but what somebody was awake.
        let awake: u64 = report.tasks.iter().map(|task| task.awake_ns()).sum();
        let at_least = 100_000_000_u64.saturating_sub(awake);
        let found = total(&episodes);
        assert!(found <= span(nap), "{found} ns of {nap}");
        if all_announced(report) {
            assert!(found >= at_least, "{found} ns of {nap}, awake {awake}");
            assert!(behind_ns(report, holder, "sleep") >= found);
        }
    });
}

#[test]
fn a_pipeline_is_behind_the_read_of_its_first() {
    unspoilt(|| {
        let workload = "pipeline --stages 3 --items 20 --millis 10";
        let (traced, lines) = with_names(|| timelines_of(all_episodes(workload)));
        let (report, truth) = (traced.report(), traced.truth());
        let stages = list(&truth["stages"]);
        let pids: Vec<u32> = stages.iter().rev().map(|stage| id(&stage["pid"])).collect();
        let (first, last) = (&stages[0]["sent_ns"], &stages[2]["sent_ns"]);
        // All have begun, none has ended.
        let begun = (&last[0], &first[19]);
        let episodes = between(report, &lines, begun);
        assert!(!episodes.is_empty(), "{truth}");
        for episode in &episodes {
            let root = check_caused(episode, &pids, "read");
            let timer = root.object.as_ref().expect("it is known");
            assert_eq!(timer.kind, "timerfd", "{episode:#?}");
            assert_eq!(root.woken_by.interrupt.as_deref(), Some("timer"));
            // Two stages and their parent.
            assert_eq!((episode.tasks, episode.held), (4, 3), "{episode:#?}");
            for link in &episode.chain[..2] {
                let pipe = link.object.as_ref().expect("it is known");
                assert_eq!((&*link.reason, &*pipe.kind), ("read", "pipe"));
            }
        }
        assert!(behind_ns(report, pids[2], "read") >= total(&episodes));
    });
}

#[test]
fn naps_in_rhythms_of_their_own_are_idle() {
    unspoilt(|| {
        const TEST: &str = "naps_in_rhythms_of_their_own_are_idle";
        // Others who compete for the CPUs would make them wait for each other.
        let alone = Command::new("chrt").args(["-f", "1", "true"]).output();
        if !alone.is_ok_and(|output| output.status.success()) {
            return skip(TEST, "nothing may run before all others here");
        }
        let script = "exec chrt -f 1 $FORKTRACE workload rhythms --threads 3 --seconds 2";
        // Some kernels announce fewer switches of such tasks: no check of that here.
        let run = crate::support::run();
        let file = run.file("trace.ft");
        let run = run.args(["--episodes", "100000", "--save"]).args([&file]);
        let traced = run.shell(script).finish();
        assert!(traced.status.success(), "{}", traced.stderr);
        let lines = Timelines::read(&file);
        let (report, truth) = (traced.report(), traced.truth());
        let threads = list(&truth["threads"]);
        let begun = threads.iter().max_by_key(|t| n(&t["begin_ns"]));
        let ended = threads.iter().min_by_key(|t| n(&t["end_ns"]));
        let time =
            |thread: Option<&'_ Value>, key: &str| thread.expect("three threads")[key].clone();
        let (begin, end) = (time(begun, "begin_ns"), time(ended, "end_ns"));
        let episodes = between(report, &lines, (&begin, &end));
        assert!(!episodes.is_empty(), "{truth}");
        for episode in &episodes {
            assert_eq!(episode.verdict, "idle", "{episode:#?}");
            assert!(episode.shared.is_empty() && episode.held == 0);
            assert!(episode.blocked.iter().all(|link| link.reason == "sleep"));
        }
        assert_eq!(report.pairs.len(), 3, "{:?}", report.pairs);
        let significant = report.pairs.iter().filter(|pair| {
            let lift = pair.lift.expect("both were blocked");
            assert!((0.8..1.25).contains(&lift), "{:?}", report.pairs);
            ["together", "apart"].contains(&&*pair.verdict)
        });
        assert!(significant.count() <= 1, "{:?}", report.pairs);
    });
}

#[test]
fn all_in_poll_on_sockets_that_stay_silent_are_idle() {
    unspoilt(|| {
        let (traced, lines) = with_names(|| timelines_of(all_episodes("silent-sockets")));
        let (report, truth) = (traced.report(), traced.truth());
        let all_blocked = &truth["all_blocked"];
        let times = (&all_blocked["begin_ns"], &all_blocked["end_ns"]);
        let episodes = between(report, &lines, times);
        // One that is still on its way to sleep when the last of them begins.
        assert!(!episodes.is_empty(), "{:#?}", report.episodes);
        for episode in &episodes {
            assert_eq!(episode.verdict, "idle", "{episode:#?}");
            assert_eq!((episode.held, episode.not_woken), (0, 0), "{episode:#?}");
            assert!(episode.shared.is_empty(), "{episode:#?}");
            for thread in list(&truth["threads"]) {
                let mut blocked = episode.blocked.iter();
                let link = blocked.find(|link| link.tid == id(&thread["tid"]));
                let link = link.expect("it was blocked as well");
                assert_eq!((&*link.reason, &*link.ended), ("poll", "timed_out"));
                let sockets = link.object.as_ref().expect("it is known");
                for inode in list(&thread["inodes"]) {
                    let name = format!("unix socket {}", n(inode));
                    assert!(sockets.name.contains(&name), "{name}: {link:?}");
                }
            }
        }
        let awake: u64 = report.tasks.iter().map(|task| task.awake_ns()).sum();
        let found = total(&episodes);
        assert!(found <= span(all_blocked) && found + awake >= span(all_blocked));
    });
}

#[test]
fn who_waits_for_a_lock_is_behind_the_sync_of_a_file_under_it() {
    unspoilt(|| {
        const TEST: &str = "who_waits_for_a_lock_is_behind_the_sync_of_a_file_under_it";
        let (traced, lines) = with_names(|| {
            timelines_of(|run| {
                let folder = run.folder().display().to_string();
                let workload = format!("fsync-under-lock --rounds 1000 --folder {folder}");
                all_episodes(&workload)(run)
            })
        });
        let (report, truth) = (traced.report(), traced.truth());
        let holder = id(&truth["holder_tid"]);
        let path = truth["file"]["path"].as_str().expect("a path");
        let rounds = || list(&truth["rounds"]).iter();
        if rounds().all(|round| n(&round["fsync"]["switches"]) == 0) {
            return skip(TEST, "no sync takes time here");
        }
        let mut found = 0;
        for round in rounds() {
            let fsync = &round["fsync"];
            let expected = behind(holder, &round["waiters"]);
            let episodes = between(report, &lines, (&fsync["begin_ns"], &fsync["end_ns"]));
            for episode in &episodes {
                let root = check_caused(episode, &expected, "fsync");
                let file = root.object.as_ref().expect("it is known");
                assert_eq!((&*file.kind, &*file.name), ("file", path));
                // The disk, or a kernel thread.
                assert_ne!(root.woken_by.tid, Some(holder), "{episode:#?}");
                assert_eq!((episode.tasks, episode.held), (4, 3), "{episode:#?}");
                let [shared] = &episode.shared[..] else {
                    panic!("{episode:#?}");
                };
                assert_eq!((&*shared.object.kind, shared.tasks.len()), ("futex", 3));
            }
            found += total(&episodes);
        }
        assert!(found > 0, "nobody waited meanwhile: {truth}");
        assert!(behind_ns(report, holder, "fsync") >= found);
        let name = &report.task(holder).name;
        let story = format!("behind fsync on {path} by tid {holder} ({name})");
        let text = text(&traced);
        assert!(text.contains(&story), "{text}");
    });
}

#[test]
fn a_turn_that_is_handed_on_is_owned_by_nobody() {
    unspoilt(|| {
        let (traced, _) = timelines("hand-off --threads 3 --rounds 2000");
        let (report, truth) = (traced.report(), traced.truth());
        let mut handed_on = 0;
        for thread in list(&truth["threads"]) {
            let task = report.task(id(&thread["tid"]));
            let waker = report.task(id(&thread["waker_tid"])).serial;
            let mut edges = report.waits_for.iter().filter(|e| e.from == task.serial);
            handed_on += edges
                .find(|edge| edge.to.serial == Some(waker))
                .map_or(0, |edge| edge.count);
        }
        assert!(handed_on > 0, "nobody ever waited for a turn: {truth}");
        assert!(report.deadlocks.is_empty(), "{:?}", report.deadlocks);
        let text = text(&traced).to_lowercase();
        assert!(text.contains("until woken by"), "{text}");
        let ownership = [
            "held by",
            "owned",
            "owner",
            "holds",
            "deadlock:",
            "deadlocked",
        ];
        for word in ownership {
            assert!(!text.contains(word), "{word}: {text}");
        }
    });
}

#[test]
fn a_client_and_a_server_wait_for_each_other_over_loopback() {
    unspoilt(|| {
        let (traced, _) = timelines("loopback --rounds 2000");
        let (report, truth) = (traced.report(), traced.truth());
        let [client, server] = ["client_pid", "server_pid"].map(|key| id(&truth[key]));
        for (tid, other) in [(client, server), (server, client)] {
            let wakers = &report.task(tid).wakers;
            let by_other = wakers
                .iter()
                .filter(|w| w.by.kind == "task_softirq" && w.by.tid == Some(other));
            let by_other: u64 = by_other.map(|w| w.count).sum();
            // When soft interrupts come too fast, a kernel thread takes over.
            let all: u64 = wakers.iter().map(|w| w.count).sum();
            assert!(by_other * 10 >= all * 9 && all > 0, "{wakers:?}");
            let longest = &report.task(tid).longest_blocks;
            assert!(longest.iter().all(|block| !block.chain.is_empty()));
        }
        let serial = |tid| report.task(tid).serial;
        let edge = |from, to| {
            let mut edges = report.waits_for.iter();
            edges.find(|e| e.from == serial(from) && e.to.serial == Some(serial(to)))
        };
        assert!(edge(client, server).is_some() && edge(server, client).is_some());
        let text = text(&traced);
        assert!(
            text.contains("That is message passing, not a deadlock."),
            "{text}"
        );
        assert!(report.deadlocks.is_empty(), "{:?}", report.deadlocks);
        // Their parent waited for the one that it looks after first.
        let parent = report.task(n(&truth["pid"]) as u32);
        let chain = &parent.longest_blocks[0].chain;
        assert_eq!(chain[0].woken_by.tid, Some(client), "{chain:#?}");
        let child = chain[0].object.as_ref().expect("it is known");
        assert_eq!(child.name, format!("child {client}"), "{chain:#?}");
    });
}

/// Three threads wait for one pipe, two of them by epoll instances of their own.
const WATCHERS: &str = r#"
import json, os, select, threading, time
r, w = os.pipe()
others = os.pipe() + os.pipe()
tids, epolls = [], []
def watch(fds):
    epoll = select.epoll()
    epolls.append(epoll)
    for fd in fds:
        epoll.register(fd, select.EPOLLIN)
    tids.append(threading.get_native_id())
    epoll.poll(20)
def read():
    tids.append(threading.get_native_id())
    os.read(r, 1)
works = [(watch, ([r, others[0]],)), (watch, ([others[2], r],)), (read, ())]
threads = [threading.Thread(target=work, args=args) for work, args in works]
for thread in threads: thread.start()
time.sleep(0.7)
os.write(w, b"xyz")
for thread in threads: thread.join()
time.sleep(0.5)
print(json.dumps({"tids": tids, "inode": os.fstat(r).st_ino}))
"#;

#[test]
fn what_epoll_instances_watch_is_shared_with_who_reads_it() {
    unspoilt(|| {
        const TEST: &str = "what_epoll_instances_watch_is_shared_with_who_reads_it";
        if !have("python3") {
            return skip(TEST, "there is no python3");
        }
        let python = |run: Forktrace| {
            let run = run.args(["--episodes", "100000"]).json();
            run.args(["--", "python3", "-c", WATCHERS])
        };
        let (traced, _) = timelines_of(python);
        let (report, truth) = (traced.report(), traced.truth());
        let tids = list(&truth["tids"]).iter().map(id);
        let mut waiting: Vec<u32> = tids.map(|tid| report.task(tid).serial).collect();
        waiting.sort_unstable();
        let pipe = format!("pipe {}", n(&truth["inode"]));
        let shared = report.episodes.iter().flat_map(|e| &e.shared);
        let mut of_pipe = shared.filter(|shared| shared.object.name == pipe);
        assert!(
            of_pipe.any(|shared| shared.tasks == waiting),
            "{pipe} {waiting:?} {:#?}",
            report.episodes
        );
    });
}

/// Polls one descriptor number, which is one pipe for a while, then another one.
const REOPENS: &str = r#"
import json, os, select, time
def poll(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        poll = select.poll()
        poll.register(50, select.POLLIN)
        poll.register(51, select.POLLIN)
        poll.poll(20)
stays = os.pipe()
os.dup2(stays[0], 51)
inodes = []
for seconds in (1.5, 3.5):
    r, w = os.pipe()
    os.dup2(r, 50)
    inodes.append(os.fstat(50).st_ino)
    poll(seconds)
print(json.dumps({"inodes": inodes, "stays": os.fstat(51).st_ino}))
"#;

#[test]
fn a_number_that_was_two_files_is_named_as_neither() {
    unspoilt(|| {
        const TEST: &str = "a_number_that_was_two_files_is_named_as_neither";
        if !have("python3") {
            return skip(TEST, "there is no python3");
        }
        let run = crate::support::run().json();
        let traced = run.args(["--", "python3", "-c", REOPENS]).complete();
        let truth = traced.truth();
        let waits = traced.report().tasks.iter().flat_map(|task| &task.waits);
        let objects = waits.flat_map(|wait| &wait.objects);
        let sets: Vec<&str> = objects
            .filter(|object| object.kind == "fds")
            .map(|object| object.name.as_str())
            .collect();
        let name = format!("2 fds: fd 50 (several files), pipe {}", n(&truth["stays"]));
        assert!(sets.contains(&name.as_str()), "{name}: {sets:?} {truth}");
    });
}
