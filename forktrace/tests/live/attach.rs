//! Attaching to what runs already: each way in, and every task accounted for.

use std::{
    fs,
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use aya::{maps::loaded_maps, programs::loaded_programs};
use forktrace_core::{pipeline, trace::cgroups};
use serde_json::Value;

use crate::support::{
    Finished, Forktrace, Report, Running, Task, check_recorded, id, lacks, skip, trace, unspoilt,
};

/// The program in `attach.py`, ended on drop.
pub(crate) struct Target {
    child: Child,
    /// `None`: closed.
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    /// What it said of itself when all its threads were where they shall be.
    begun: Value,
}

impl Target {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::by(Command::new("python3"), arguments)
    }

    fn by(command: Command, arguments: &[&str]) -> Self {
        Self::of("attach.py", command, arguments)
    }

    /// Another script than that.
    pub(crate) fn of(script: &str, mut command: Command, arguments: &[&str]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live");
        let script = folder.join(script);
        let mut child = command
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let to = child.stdin.take();
        let mut from = BufReader::new(child.stdout.take().expect("it has one"));
        let begun = read(&mut from);
        Self {
            child,
            to,
            from,
            begun,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    #[cfg(feature = "top")]
    pub(crate) fn begun(&self) -> &Value {
        &self.begun
    }

    fn tid(&self, thread: &str) -> u32 {
        id(&self.begun[thread])
    }

    fn tell(&mut self, word: &str) {
        let to = self.to.as_mut().expect("it is open");
        writeln!(to, "{word}").expect("it reads");
    }

    /// Has it do something, and waits until that is done.
    pub(crate) fn have(&mut self, word: &str) {
        self.tell(word);
        assert_eq!(read(&mut self.from)["done"], word);
    }

    pub(crate) fn end(mut self) {
        self.have("end");
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(from: &mut impl BufRead) -> Value {
    let mut line = String::new();
    from.read_line(&mut line).expect("it writes");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
}

pub(crate) fn attach<S: AsRef<std::ffi::OsStr>>(
    arguments: impl IntoIterator<Item = S>,
) -> Forktrace {
    Forktrace::new("attach").json().args(arguments)
}

/// Starts it and waits until it is attached.
pub(crate) fn attached(forktrace: Forktrace) -> Running {
    let mut running = forktrace.start();
    while !running.stderr().contains("attached to") {
        assert!(!running.has_ended(), "{}", running.stderr());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    running
}

/// Ends it by a signal.
pub(crate) fn interrupt(running: Running) -> Finished {
    kill(running.pid(), "TERM");
    running.finish()
}

fn kill(pid: u32, signal: &str) {
    let arguments = ["-s", signal, &pid.to_string()];
    let sent = Command::new("kill").args(arguments).status();
    assert!(sent.expect("kill runs").success());
}

/// The report of a recording in which every task is accounted for.
#[track_caller]
pub(crate) fn whole(finished: &Finished) -> &Report {
    assert!(finished.status.success(), "{}", finished.stderr);
    let report = finished.report();
    // Who is born while it detaches is alive, and not compared.
    check_recorded(report, &["cut_short"]);
    for task in &report.tasks {
        if let Some(kernel) = task.switches.kernel {
            assert_eq!(task.switches.traced, kernel, "{task:?}");
        }
    }
    report
}

#[test]
fn a_process_is_taken_in_with_its_threads_and_what_it_creates() {
    if lacks(
        "a_process_is_taken_in_with_its_threads_and_what_it_creates",
        &["python3"],
    ) {
        return;
    }
    unspoilt(|| {
        let mut target = Target::start(&["spin"]);
        let pid = target.pid();
        let running = attached(attach(["-p", &pid.to_string()]));
        target.have("threads");
        target.have("processes");
        target.have("write");
        let (reader, spinner) = (target.tid("reader"), target.tid("spinner"));
        let sleeper = target.tid("sleeper");
        target.end();
        let finished = running.finish();
        let report = whole(&finished);

        let attached = report.tasks.iter().filter(|task| task.attached);
        assert_eq!(attached.count(), 4, "{:?}", report.ids());
        assert_eq!(report.of_process(pid).len(), 4 + 100);
        assert_eq!(report.tasks.len(), 4 + 100 + 50);
        assert!(report.tasks.iter().all(|task| task.fate == "ended"));
        // What they were doing before.
        let of = |tid: u32| {
            let mut tasks = report.tasks.iter();
            tasks.find(|task| task.tid == tid).expect("it was there")
        };
        assert_eq!(of(reader).waited("read", "read").count, 1);
        let object = &of(reader).waited("read", "read").objects[0];
        assert!(object.name.contains("pipe"), "{object:?}");
        assert!(of(reader).asleep_before_ns.is_some_and(|ns| ns > 0));
        assert!(of(spinner).running_ns + of(spinner).runnable_ns > 0);
        assert_eq!(
            of(spinner)
                .waits
                .iter()
                .filter(|w| w.reason == "sleep")
                .count(),
            0
        );
        assert_eq!(of(sleeper).waited("sleep", "clock_nanosleep").count, 1);
        // Of what came later, all is known from its birth on.
        let later = report.tasks.iter().filter(|task| !task.attached);
        assert!(later.clone().all(|task| task.switches.kernel.is_some()));
        assert!(later.clone().all(|task| task.asleep_before_ns.is_none()));
    });
}

#[test]
fn the_waits_that_began_before_count_from_then_on() {
    if lacks(
        "the_waits_that_began_before_count_from_then_on",
        &["python3"],
    ) {
        return;
    }
    unspoilt(|| {
        let target = Target::start(&[]);
        let running = attached(attach(["-p", &target.pid().to_string()]));
        let report = interrupt(running);
        let report = whole(&report);
        assert_eq!(report.tasks.len(), 3);
        for task in &report.tasks {
            assert_eq!(task.fate, "alive");
            assert_eq!(task.blocked_ns, task.lifetime_ns(), "{task:?}");
            assert_eq!(task.switches.kernel, Some(task.switches.traced), "{task:?}");
        }
        let all = report.tree().all_blocked.lower_ns;
        assert!(all > 0 && all <= report.workload.duration_ns);
        // Nothing was sent to it, and it goes on.
        target.end();
    });
}

#[test]
fn a_thread_that_executes_a_program_is_the_same_task() {
    if lacks(
        "a_thread_that_executes_a_program_is_the_same_task",
        &["python3"],
    ) {
        return;
    }
    unspoilt(|| {
        for by in ["-p", "--tid"] {
            let mut target = Target::start(&[]);
            let pid = target.pid();
            // The first thread, by whose order another one does it.
            let running = attached(attach([by, &pid.to_string()]));
            target.tell("exec");
            // Its other threads end, and cat answers.
            let name = || fs::read_to_string(format!("/proc/{pid}/comm")).expect("it lives");
            while name() != "cat\n" {
                std::thread::yield_now();
            }
            target.tell("{\"done\": 1}");
            assert_eq!(read(&mut target.from)["done"], 1);
            // Of that it ends, and all that is traced with it.
            target.to = None;
            let finished = running.finish();
            let report = whole(&finished);
            let cat: Vec<_> = report.tasks.iter().filter(|it| it.name == "cat").collect();
            assert_eq!(cat.len(), 1, "{:?}", report.ids());
            assert_eq!((cat[0].tid, cat[0].pid), (pid, pid));
            assert!(!cat[0].attached && cat[0].fate == "ended");
            let before = report.tasks.iter().filter(|task| task.attached);
            assert!(before.clone().all(|task| task.fate == "ended"));
            assert_eq!(before.count(), if by == "-p" { 3 } else { 1 });
        }
    });
}

/// While threads and processes come and go by the hundred in a second.
#[test]
fn tasks_that_end_in_the_moment_of_the_attach_are_accounted_for() {
    if lacks(
        "tasks_that_end_in_the_moment_of_the_attach_are_accounted_for",
        &["python3"],
    ) {
        return;
    }
    unspoilt(|| {
        let mut target = Target::start(&[]);
        target.have("churn");
        let pid = target.pid().to_string();
        for _ in 0..3 {
            let report = interrupt(attached(attach(["-p", &pid])));
            let report = whole(&report);
            let alive = report.tasks.iter().filter(|it| it.fate == "alive").count();
            // Its own four, and no more at once than it makes.
            assert!(
                (4..=4 + 4 + 1).contains(&alive),
                "{alive} of {:?}",
                report.ids()
            );
            assert!(report.tasks.iter().all(|task| task.fate != "unknown"));
        }
        target.end();
    });
}

#[test]
fn one_thread_alone_is_taken_in_with_what_it_creates() {
    if lacks(
        "one_thread_alone_is_taken_in_with_what_it_creates",
        &["python3"],
    ) {
        return;
    }
    unspoilt(|| {
        let mut target = Target::start(&[]);
        let reader = target.tid("reader").to_string();
        let running = attached(attach(["--tid", &reader]));
        target.have("threads");
        target.have("write");
        let finished = running.finish();
        let report = whole(&finished);
        assert_eq!(report.tasks.len(), 1, "{:?}", report.ids());
        assert_eq!(report.tasks[0].fate, "ended");

        // The first thread makes the others.
        let pid = target.pid().to_string();
        let running = attached(attach(["--tid", &pid]));
        target.have("threads");
        target.end();
        let finished = running.finish();
        assert_eq!(whole(&finished).tasks.len(), 1 + 100);
    });
}

#[test]
fn processes_are_found_by_what_they_are_called() {
    if lacks("processes_are_found_by_what_they_are_called", &["python3"]) {
        return;
    }
    unspoilt(|| {
        let name = format!("forktrace-target-{}", std::process::id());
        let target = Target::start(&[&name]);
        let finished = interrupt(attached(attach(["-n", &format!("*{name}")])));
        let report = whole(&finished);
        assert_eq!(report.of_process(target.pid()).len(), report.tasks.len());
        assert_eq!(report.tasks.len(), 3);
        let words = report.workload.attached.as_ref().expect("it was attached");
        assert_eq!(*words, [format!("python3 (pid {})", target.pid())]);
        let none = attach(["-n", &name]).finish();
        assert_eq!(none.status.code(), Some(125));
        assert!(none.stderr.contains("is called"), "{}", none.stderr);
    });
}

#[test]
fn all_processes_are_all_but_forktrace() {
    if lacks("all_processes_are_all_but_forktrace", &["python3"]) {
        return;
    }
    unspoilt(|| {
        let target = Target::start(&[]);
        let finished = interrupt(attached(attach(["--all", "--max-tasks", "60000"])));
        assert!(finished.status.success(), "{}", finished.stderr);
        let report = finished.report();
        assert_eq!(report.of_process(target.pid()).len(), 3);
        let ours = finished.pid;
        let is_ours = |task: &&Task| task.pid == ours || task.ppid == ours;
        assert_eq!(report.tasks.iter().filter(is_ours).count(), 0);
        target.end();
    });
}

/// A cgroup of the unified hierarchy, removed on drop.
struct Cgroup(PathBuf);

impl Cgroup {
    /// `None`: this machine has no such hierarchy, or we may not.
    fn new(name: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
        let root = mounts.lines().find_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let is_unified = after.starts_with("cgroup2 ");
            is_unified.then(|| before.split(' ').nth(4).map(PathBuf::from))?
        })?;
        let folder = root.join(name);
        fs::create_dir(&folder).ok()?;
        Some(Self(folder))
    }

    fn take(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("it comes");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// A cgroup is one of a unit or a container by its name alone.
#[test]
fn a_cgroup_is_taken_in_with_what_comes_to_it() {
    if lacks("a_cgroup_is_taken_in_with_what_comes_to_it", &["python3"]) {
        return;
    }
    unspoilt(|| {
        let own = std::process::id();
        let name = format!("forktrace-test-{own}");
        let digits = format!("{own:08x}{}", "0".repeat(56));
        for (folder, way, by) in [
            (name.clone(), "--cgroup", name.clone()),
            (format!("{name}.service"), "--unit", name.clone()),
            (
                format!("docker-{digits}.scope"),
                "--container",
                digits[..12].to_owned(),
            ),
        ] {
            let Some(cgroup) = Cgroup::new(&folder) else {
                skip(
                    "a_cgroup_is_taken_in_with_what_comes_to_it",
                    "no cgroup of the unified hierarchy can be made",
                );
                return;
            };
            let below = cgroup.0.join("below");
            fs::create_dir(&below).expect("a folder");
            let below = Cgroup(below);
            let (first, mut later) = (Target::start(&[]), Target::start(&[]));
            below.take(first.pid());
            let running = attached(attach([way, &by]));
            cgroup.take(later.pid());
            // The first thread is taken in as it comes; the others a moment later.
            later.have("threads");
            later.have("write");
            let finished = interrupt(running);
            let report = whole(&finished);
            assert_eq!(
                report.of_process(first.pid()).len(),
                3,
                "{way}: {:?}",
                report.ids()
            );
            let came = report.of_process(later.pid());
            assert!(came.len() > 100, "{way}: {:?}", report.ids());
            first.end();
            later.end();
        }
    });
}

#[test]
fn a_trace_tells_the_cgroup_of_each_process() {
    const TEST: &str = "a_trace_tells_the_cgroup_of_each_process";
    if lacks(TEST, &["python3"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let saved = folder.path().join("saved.ft");
    let name = format!("forktrace-where-{}.service", std::process::id());
    let Some(cgroup) = Cgroup::new(&name) else {
        skip(TEST, "no cgroup of the unified hierarchy can be made");
        return;
    };
    let targets = [Target::start(&[]), Target::start(&[])];
    cgroup.take(targets[0].pid());
    let pids = targets.each_ref().map(|it| it.pid().to_string());
    let paths = pids.each_ref().map(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
        cgroups::path(&text).to_owned()
    });
    assert!(paths[0].ends_with(&name), "{paths:?}");
    let saved = saved.to_str().expect("a name");
    let running = attached(attach(["-p", &pids[0], "-p", &pids[1], "--save", saved]));
    let finished = interrupt(running);
    let trace = fs::read(saved).unwrap_or_else(|error| panic!("{error}: {}", finished.stderr));
    let (info, model) = pipeline::read(&trace, None).expect("a trace");
    let found = model.cgroups_of_tasks(&info.header);
    for (target, path) in targets.iter().zip(&paths) {
        let of_it = model.tasks.iter().zip(&found);
        let of_it = of_it.filter(|(task, _)| task.pid == target.pid());
        let of_it: Vec<_> = of_it.map(|(_, cgroup)| *cgroup).collect();
        assert_eq!(of_it, [Some(path.as_str()); 3]);
    }
    for target in targets {
        target.end();
    }
}

#[test]
fn several_can_be_attached_at_once_beside_a_run() {
    if lacks("several_can_be_attached_at_once_beside_a_run", &["python3"]) {
        return;
    }
    unspoilt(|| {
        let mut target = Target::start(&[]);
        let pid = target.pid().to_string();
        let first = attached(attach(["-p", &pid]));
        let second = attached(attach(["-p", &pid]));
        let beside = trace("jobs --by threads --jobs 20 --job-us 20 --workers 2");
        drop(beside);
        target.have("threads");
        target.end();
        for running in [first, second] {
            let finished = running.finish();
            assert_eq!(whole(&finished).tasks.len(), 3 + 100);
        }
    });
}

/// The numbers of the BPF programs and maps that a process has open.
fn loaded_by(pid: u32) -> (Vec<u32>, Vec<u32>) {
    let folder = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("it runs");
    let infos = folder.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    let infos: Vec<String> = infos.collect();
    let numbers = |field: &str| {
        let lines = infos.iter().flat_map(|info| info.lines());
        let values = lines.filter_map(|line| line.strip_prefix(field));
        values
            .map(|it| it.trim().parse().expect("a number"))
            .collect()
    };
    (numbers("prog_id:"), numbers("map_id:"))
}

#[test]
fn its_target_does_not_notice_that_forktrace_is_killed() {
    if lacks(
        "its_target_does_not_notice_that_forktrace_is_killed",
        &["python3"],
    ) {
        return;
    }
    let mut target = Target::start(&[]);
    let running = attached(attach(["-p", &target.pid().to_string()]));
    let (programs, maps) = loaded_by(running.pid());
    assert!(!programs.is_empty() && !maps.is_empty());
    kill(running.pid(), "KILL");
    let finished = running.finish();
    assert!(!finished.status.success());
    // The kernel takes them away in its own time, and gives no number to another one.
    let begun = Instant::now();
    let stays = || {
        let mut loaded = loaded_programs().filter_map(Result::ok);
        let program = loaded.any(|it| programs.contains(&it.id()));
        let mut loaded = loaded_maps().filter_map(Result::ok);
        program || loaded.any(|it| maps.contains(&it.id()))
    };
    while stays() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "programs are left"
        );
        std::thread::yield_now();
    }
    target.have("threads");
    target.have("write");
    target.end();
}

#[test]
fn what_finds_no_room_is_counted() {
    if lacks("what_finds_no_room_is_counted", &["python3"]) {
        return;
    }
    unspoilt(|| {
        let target = Target::start(&[]);
        let arguments = ["--max-tasks", "2", "-p", &target.pid().to_string()].map(str::to_owned);
        let finished = interrupt(attached(attach(arguments)));
        assert!(finished.status.success(), "{}", finished.stderr);
        let report = finished.report();
        assert_eq!(report.audit.tasks_not_followed, 1);
        assert_eq!(report.tasks.len(), 3);
        target.end();
    });
}

#[test]
fn it_ends_by_itself_after_the_time_that_was_given() {
    if lacks(
        "it_ends_by_itself_after_the_time_that_was_given",
        &["python3"],
    ) {
        return;
    }
    unspoilt(|| {
        let target = Target::start(&[]);
        let pid = target.pid().to_string();
        let finished = attach(["--for", "50ms", "-p", &pid]).finish();
        let report = whole(&finished);
        assert!(report.workload.duration_ns >= 50_000_000);
        target.end();
    });
}

#[test]
fn what_is_not_there_is_said_with_what_to_do() {
    if lacks("what_is_not_there_is_said_with_what_to_do", &["python3"]) {
        return;
    }
    let target = Target::start(&[]);
    let mut ended = Command::new("true").spawn().expect("true starts");
    let zombie = ended.id();
    // It has ended when its standard output, which is ours, tells nothing; the kernel does.
    while !fs::read_to_string(format!("/proc/{zombie}/stat"))
        .expect("it is there")
        .contains(") Z ")
    {
        std::thread::yield_now();
    }
    let reader = target.tid("reader");
    for (arguments, said) in [
        (
            vec!["-p".to_owned(), zombie.to_string()],
            "has ended already",
        ),
        (
            vec!["-p".to_owned(), "4194303".to_owned()],
            "there is no process 4194303",
        ),
        (vec!["-p".to_owned(), reader.to_string()], "--tid"),
        (vec!["-p".to_owned(), "2".to_owned()], "kernel"),
        (
            vec!["--tid".to_owned(), "4194303".to_owned()],
            "there is no thread",
        ),
        (
            vec!["no such program".to_owned()],
            "no process but forktrace itself",
        ),
        (vec!["--cgroup".to_owned(), "/no/such".to_owned()], "cgroup"),
        (
            vec!["--unit".to_owned(), "no-such".to_owned()],
            "no-such.service",
        ),
        (
            vec!["--container".to_owned(), "no-such".to_owned()],
            "no container",
        ),
        (
            vec!["--for".to_owned(), "soon".to_owned(), "-a".to_owned()],
            "length of time",
        ),
        (vec!["--for".to_owned(), "1s".to_owned()], "required"),
    ] {
        // In a container the kernel's threads are not there either.
        if said == "kernel" && !Path::new("/proc/2").exists() {
            continue;
        }
        if said == "cgroup" && Cgroup::new("forktrace-none").is_none() {
            continue;
        }
        let finished = attach(&arguments).finish();
        assert_eq!(finished.status.code(), Some(125), "{arguments:?}");
        assert!(
            finished.stderr.contains(said),
            "{arguments:?}: {}",
            finished.stderr
        );
    }
    ended.wait().expect("it has ended");
    target.end();
}

#[test]
fn a_report_on_what_ran_already_says_so() {
    if lacks("a_report_on_what_ran_already_says_so", &["python3"]) {
        return;
    }
    unspoilt(|| {
        let target = Target::start(&[]);
        let pid = target.pid();
        let running = Forktrace::new("attach").args(["-p", &pid.to_string()]);
        let finished = interrupt(attached(running));
        assert!(finished.status.success(), "{}", finished.stderr);
        // Not what is said when it begins, which is on a line of its own.
        let first = format!("\nattached to python3 (pid {pid})   ");
        assert!(finished.stderr.contains(&first), "{}", finished.stderr);
        // The longest block in its table is no longer than the recording.
        for words in ["3 threads slept throughout", " before the recording."] {
            assert!(finished.stderr.contains(words), "{}", finished.stderr);
        }
        assert!(
            !finished.stderr.contains("still running"),
            "{}",
            finished.stderr
        );
        target.end();
    });
}
