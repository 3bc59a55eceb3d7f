//! Stacks of blocks and of wakers, by name, in programs of several languages.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use crate::support::{
    Forktrace, OWN_TMPFS, Running, again, have, own_mounts, run, skip, too_busy, unspoilt,
};

/// A line of the folded stacks.
#[derive(Debug)]
pub(super) struct Stack {
    /// From the outermost on.
    pub(super) frames: Vec<String>,
    pub(super) us: u64,
}

impl Stack {
    pub(super) fn has(&self, frame: &str) -> bool {
        self.frames.iter().any(|it| it == frame)
    }

    pub(super) fn is_cut_off(&self) -> bool {
        self.has("[cut off]")
    }

    /// Is it of a block (or a wakeup) of this task?
    pub(super) fn is_of(&self, kind: &str, task: &str) -> bool {
        self.frames[0] == kind && self.frames[1] == task
    }

    /// The innermost function of the program.
    fn user(&self) -> impl Iterator<Item = &str> {
        let frames = self.frames[2..].iter().map(String::as_str);
        frames.filter(|it| !it.ends_with("_[k]") && !it.starts_with("wakes "))
    }
}

/// As flame-graph tools read it: `a;b;c 123`, nothing else.
#[track_caller]
fn parse(folded: &str) -> Vec<Stack> {
    let parse = |line: &str| {
        let (frames, us) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        let frames: Vec<String> = frames.split(';').map(str::to_owned).collect();
        assert!(frames.len() > 2, "{line:?}");
        assert!(frames.iter().all(|it| !it.trim().is_empty()), "{line:?}");
        assert!(["off-cpu", "wakeup"].contains(&&*frames[0]), "{line:?}");
        let us = us.parse().unwrap_or_else(|e| panic!("{e}: {line:?}"));
        Stack { frames, us }
    };
    folded.lines().map(parse).collect()
}

/// As the kernel follows them, all alike: by frame pointers.
fn with_stacks() -> Forktrace {
    with_option("--stacks=fp")
}

pub(super) fn with_option(option: &str) -> Forktrace {
    let run = run();
    let file = run.file("folded");
    run.args([option, "--format", "folded", "-o"]).args([file])
}

#[track_caller]
pub(super) fn finish(running: Running) -> Vec<Stack> {
    let finished = running.finish();
    assert!(finished.status.success(), "{}", finished.stderr);
    parse(&fs::read_to_string(finished.file("folded")).expect("folded stacks"))
}

#[track_caller]
fn stacks_of(program: &Path, argument: Option<&Path>) -> Vec<Stack> {
    let run = with_stacks().args(["--"]).args([program]);
    finish(run.args(argument).start())
}

/// The first such stack. On a busy machine a program is gone before anybody looked.
#[track_caller]
fn find(stacks: &[Stack], is_it: impl Fn(&Stack) -> bool) -> &Stack {
    if let Some(found) = stacks.iter().find(|it| is_it(it)) {
        return found;
    }
    let nameless = |it: &str| it == "[process gone]" || it.starts_with("[0x");
    if stacks.iter().any(|it| it.user().any(nameless)) {
        too_busy("the program was gone before its functions were named".to_owned());
    }
    panic!("{stacks:#?}");
}

/// Compiles `stacks.cpp`; `None` where there is no compiler.
fn compiled(folder: &Path, options: &[&str]) -> Option<PathBuf> {
    if !have("g++") {
        return None;
    }
    let (source, program) = (folder.join("stacks.cpp"), folder.join("shop"));
    fs::write(&source, include_str!("stacks.cpp")).expect("a file");
    let output = Command::new("g++")
        .args(options)
        .args(["-std=c++17", "-pthread", "-o"])
        .args([&program, &source])
        .output()
        .expect("g++ starts");
    assert!(output.status.success(), "{output:?}");
    Some(program)
}

/// What a timer of the kernel calls to wake a task.
const TIMER: &str = "hrtimer_wakeup_[k]";

const KEPT: [&str; 2] = ["-O1", "-fno-omit-frame-pointer"];

/// The one stack of the main thread's naps in `rest`.
#[track_caller]
fn nap(stacks: &[Stack]) -> &Stack {
    let is_it = |it: &Stack| it.is_of("off-cpu", "shop") && it.has("shop::rest(int)");
    let nap = find(stacks, is_it);
    let lines = stacks.iter().filter(|it| is_it(it)).count();
    assert_eq!(lines, 1, "the same in two lines: {stacks:#?}");
    nap
}

#[test]
fn functions_of_cpp_are_named_down_to_main() {
    unspoilt(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let Some(program) = compiled(folder.path(), &KEPT) else {
            return skip("functions_of_cpp_are_named_down_to_main", "there is no g++");
        };
        let stacks = stacks_of(&program, None);
        let nap = nap(&stacks);
        assert!(!nap.is_cut_off() && nap.has("main"), "{nap:?}");
        assert!(nap.us >= 5 * 30_000, "{nap:?}");
        // Not what takes the stack.
        let innermost = nap.frames.last().expect("frames");
        assert!(innermost.contains("schedule"), "{nap:?}");
        assert!(nap.has("hrtimer_nanosleep_[k]"), "{nap:?}");

        find(&stacks, |it| {
            it.is_of("off-cpu", "waiter") && it.has("shop::enter(shop::Door&)")
        });
        let woken = find(&stacks, |it| {
            it.has("wakes waiter") && it.has("shop::unlock(shop::Door&)")
        });
        assert!(woken.is_of("wakeup", "shop"), "{woken:?}");
        assert!(woken.has("main") && !woken.is_cut_off(), "{woken:?}");
        assert!(woken.has("try_to_wake_up_[k]"), "{woken:?}");

        // A timer: not what it interrupted.
        let timer = find(&stacks, |it| {
            it.is_of("wakeup", "[interrupt]") && it.has("wakes shop") && it.has(TIMER)
        });
        if cfg!(target_arch = "x86_64") {
            assert!(timer.frames[2].starts_with("asm_sysvec_"), "{timer:?}");
        }
    });
}

#[test]
fn a_stack_without_frame_pointers_is_cut_off() {
    unspoilt(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let options = ["-O2", "-fomit-frame-pointer"];
        let Some(program) = compiled(folder.path(), &options) else {
            return skip(
                "a_stack_without_frame_pointers_is_cut_off",
                "there is no g++",
            );
        };
        let stacks = finish(with_stacks().args(["--"]).args([program]).start());
        let naps = stacks.iter().filter(|it| it.is_of("off-cpu", "shop"));
        let naps = naps.filter(|it| it.has("hrtimer_nanosleep_[k]"));
        assert!(naps.clone().count() > 0, "{stacks:#?}");
        // Where the C library keeps them, as Ubuntu's does, they lead past functions that don't.
        for nap in naps {
            assert!(nap.is_cut_off() != nap.has("main"), "{nap:?}");
        }
    });
}

#[test]
fn a_program_that_is_deleted_while_it_runs_keeps_its_names() {
    unspoilt(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let Some(program) = compiled(folder.path(), &KEPT) else {
            return skip(
                "a_program_that_is_deleted_while_it_runs_keeps_its_names",
                "there is no g++",
            );
        };
        let stacks = stacks_of(&program, Some(&program));
        assert!(!program.exists(), "it deletes itself");
        assert!(nap(&stacks).has("main"), "{stacks:#?}");
    });
}

#[test]
fn a_program_in_a_mount_namespace_of_its_own_has_names() {
    const TEST: &str = "a_program_in_a_mount_namespace_of_its_own_has_names";
    unspoilt(|| {
        if !have("unshare") || !have("mount") {
            return skip(TEST, "there is no unshare or mount");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let Some(program) = compiled(folder.path(), &KEPT) else {
            return skip(TEST, "there is no g++");
        };
        // Only there the program is at this place, and nothing outside is.
        let script = "cp $0 $FOLDER/shop && exec $FOLDER/shop";
        let script = format!("{OWN_TMPFS} && {script}");
        let run = with_stacks().args(["--", "unshare"]).args(own_mounts(&[]));
        let stacks = finish(run.args(["sh", "-c", &script]).args([&program]).start());
        assert!(nap(&stacks).has("main"), "{stacks:#?}");
    });
}

/// What a program said about the code that it made; taken away in the end.
pub(super) struct PerfMap(String);

impl PerfMap {
    /// `pid` as the program wrote it.
    pub(super) fn of(pid: &str) -> Self {
        Self(format!("/tmp/perf-{pid}.map"))
    }
}

impl Drop for PerfMap {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Stacks of `shop` in code that it makes as it runs; `None` where it can't be built.
#[track_caller]
fn stacks_of_made_code(test: &str, how: &str) -> Option<Vec<Stack>> {
    let folder = tempfile::tempdir().expect("a folder");
    let program = compiled(folder.path(), &KEPT);
    let Some(program) = program.filter(|_| cfg!(target_arch = "x86_64")) else {
        skip(test, "there is no g++ for x86-64");
        return None;
    };
    let mut running = with_stacks()
        .args(["--"])
        .args([program])
        .args([how])
        .start();
    let _map = PerfMap::of(&running.line(1));
    Some(finish(running))
}

const MADE: &str = "made:as it ran";

#[test]
fn code_that_is_made_and_named_later_has_its_name() {
    const TEST: &str = "code_that_is_made_and_named_later_has_its_name";
    unspoilt(|| {
        let Some(stacks) = stacks_of_made_code(TEST, "made") else {
            return;
        };
        // The first nap of each was before the program said what is there.
        let of = |function: &str| {
            let made = stacks.iter().filter(|it| it.has("nap_in_made_code()"));
            let made: Vec<_> = made.filter(|it| it.has(function)).collect();
            if made.is_empty() || stacks.iter().any(|it| it.has("[process gone]")) {
                again(format!("not all looked up while it lived: {stacks:#?}"));
            }
            let [stack] = made[..] else {
                panic!("the same in several lines: {made:#?}");
            };
            assert!(stack.has(MADE), "{stack:?}");
            assert!(stack.has("main") && !stack.is_cut_off(), "{stack:?}");
            stack
        };
        let often = of("nap_in_rest()");
        assert!(often.us >= 30_000, "{often:?}");
        // In the same made function, but never again after that had a name.
        let once = of("nap_alone()");
        assert!(once.us >= 30_000, "{once:?}");
    });
}

#[test]
fn what_a_program_says_at_its_end_is_read() {
    const TEST: &str = "what_a_program_says_at_its_end_is_read";
    unspoilt(|| {
        let Some(stacks) = stacks_of_made_code(TEST, "late") else {
            return;
        };
        let nap = find(&stacks, |it| {
            it.has("say_it_late()") && it.has("nap_in_rest()")
        });
        assert!(nap.has(MADE) && nap.has("main"), "{nap:?}");
        assert!(!nap.has("made:something else"), "{nap:?}");
    });
}

#[test]
fn a_child_is_in_code_that_its_parent_made() {
    const TEST: &str = "a_child_is_in_code_that_its_parent_made";
    unspoilt(|| {
        let Some(stacks) = stacks_of_made_code(TEST, "forked") else {
            return;
        };
        // The parent does not rest before that.
        let child = find(&stacks, |it| {
            it.has("nap_in_child()") && it.has("shop::rest(int)")
        });
        assert!(child.has(MADE) && child.has("main"), "{child:?}");
        assert!(child.us >= 60 * 30_000, "{child:?}");
    });
}

#[test]
fn functions_of_rust_are_named() {
    unspoilt(|| {
        if !have("rustc") {
            return skip("functions_of_rust_are_named", "there is no rustc");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let (source, program) = (folder.path().join("a.rs"), folder.path().join("shop"));
        fs::write(&source, include_str!("stacks_rust.rs")).expect("a file");
        let compiled = Command::new("rustc")
            .args(["--edition", "2024", "-O", "-C", "force-frame-pointers=yes"])
            .arg("-o")
            .args([&program, &source])
            .output();
        let compiled = compiled.expect("rustc starts");
        assert!(compiled.status.success(), "{compiled:?}");
        let stacks = stacks_of(&program, None);
        let nap = find(&stacks, |it| {
            it.is_of("off-cpu", "shop") && it.has("a::shop::rest")
        });
        assert!(nap.has("main") && !nap.is_cut_off(), "{nap:?}");
        assert!(nap.us >= 5 * 30_000, "{nap:?}");
    });
}

#[test]
fn the_stacks_add_up_to_the_time_that_tasks_were_blocked() {
    unspoilt(|| {
        let run = run();
        let trace = run.file("trace");
        let traced = run.args(["--stacks", "--save"]).args([&trace]);
        let traced = traced
            .workload("hand-off --threads 3 --rounds 300")
            .complete();
        let report = Forktrace::new("report").args(["--format", "folded", "-o"]);
        let file = report.file("folded");
        let folded = report.args([&file, &trace]).finish();
        assert!(folded.status.success(), "{}", folded.stderr);
        let folded = parse(&fs::read_to_string(folded.file("folded")).expect("stacks"));

        let mut weaknesses = traced.report().audit.weaknesses.iter();
        if weaknesses.any(|it| it.kind == "stacks_lost") {
            again("stacks were lost".to_owned());
        }
        let blocked_ns: u64 = traced.report().tasks.iter().map(|it| it.blocked_ns).sum();
        for kind in ["off-cpu", "wakeup"] {
            let lines: Vec<_> = folded.iter().filter(|it| it.frames[0] == kind).collect();
            let sum_us: u64 = lines.iter().map(|it| it.us).sum();
            // Of each line less than a microsecond is cut.
            let most_ns = (sum_us + lines.len() as u64) * 1000;
            assert!(
                (sum_us * 1000..=most_ns).contains(&blocked_ns),
                "{kind}: {sum_us} µs in {} lines, and tasks were blocked for {blocked_ns} ns",
                lines.len()
            );
        }
    });
}

/// A Python with support for perf, and whether its own functions have frame pointers.
fn python() -> Option<(PathBuf, bool)> {
    let ask = "import os, sys, sysconfig
flags = ' '.join(str(sysconfig.get_config_var(it)) for it in ('CFLAGS', 'PY_CORE_CFLAGS'))
print(sys.executable, '-fno-omit-frame-pointer' in flags)
assert sys._is_gil_enabled() if hasattr(sys, '_is_gil_enabled') else True
sys.activate_stack_trampoline('perf')
path = f'/tmp/perf-{os.getpid()}.map'
os.path.exists(path) and os.remove(path)";
    let names = ["python3", "python3.14", "python3.13", "python3.12"];
    let found = names.iter().filter_map(|name| {
        let output = Command::new(name).args(["-c", ask]).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let (path, kept) = text.trim().split_once(' ')?;
        output
            .status
            .success()
            .then(|| (path.into(), kept == "True"))
    });
    let mut found: Vec<(PathBuf, bool)> = found.collect();
    found.sort_by_key(|(_, kept)| !kept);
    found.into_iter().next()
}

#[test]
fn functions_of_python_are_named_or_their_stack_is_cut_off() {
    const TEST: &str = "functions_of_python_are_named_or_their_stack_is_cut_off";
    unspoilt(|| {
        let Some((python, kept)) = python() else {
            return skip(TEST, "there is no Python from 3.12 on");
        };
        let script = "import os, threading, time
print(os.getpid(), flush=True)
def wait_for_input(): os.read(pipe[0], 1)
def feed():
    for _ in range(10):
        time.sleep(0.05)
        os.write(pipe[1], b'x')
pipe = os.pipe()
threading.Thread(target=feed).start()
for _ in range(10): wait_for_input()";
        let run = with_stacks().args(["--"]).args([python]);
        let mut running = run.args(["-X", "perf", "-c", script]).start();
        let _map = PerfMap::of(&running.line(1));
        let stacks = finish(running);
        let reads = |it: &&Stack| it.frames[0] == "off-cpu" && it.has("anon_pipe_read_[k]");
        let reads: Vec<_> = stacks.iter().filter(reads).collect();
        if reads.is_empty() || reads.iter().any(|it| it.has("[process gone]")) {
            again(format!("nobody waited, or was gone too soon: {stacks:#?}"));
        }
        if !kept {
            // The interpreter's own functions are in between.
            assert!(reads.iter().all(|it| it.is_cut_off()), "{reads:#?}");
            return skip(TEST, "this Python was built without frame pointers");
        }
        let is_it = |name: &str| name.starts_with("py::wait_for_input:");
        assert!(reads.iter().any(|it| it.user().any(is_it)), "{reads:#?}");
    });
}

#[test]
fn methods_of_java_are_named_once_the_map_is_written() {
    const TEST: &str = "methods_of_java_are_named_once_the_map_is_written";
    unspoilt(|| {
        for program in ["java", "javac", "jcmd"] {
            if !have(program) {
                return skip(TEST, &format!("there is no {program}"));
            }
        }
        let mut run = with_stacks();
        let folder = run.folder().to_owned();
        fs::write(folder.join("Stacks.java"), include_str!("Stacks.java")).expect("a file");
        let compiled = Command::new("javac")
            .args(["-d", "."])
            .arg("Stacks.java")
            .current_dir(&folder)
            .output();
        let compiled = compiled.expect("javac starts");
        assert!(compiled.status.success(), "{compiled:?}");

        let (input, mut output) = std::io::pipe().expect("a pipe");
        run.command().stdin(Stdio::from(input)).current_dir(&folder);
        let script = "echo $$; exec java -XX:+PreserveFramePointer -Xcomp -XX:CompileCommand=quiet \
                      -XX:CompileCommand=compileonly,Stacks::* Stacks";
        let mut running = run.args(["--", "sh", "-c", script]).start();
        let pid = running.line(1);
        let _map = PerfMap::of(&pid);
        let mut feed = |times: u32| {
            for _ in 0..times {
                output.write_all(b"x").expect("it reads");
                sleep(Duration::from_millis(20));
            }
        };
        feed(10);
        // A virtual machine that is just starting does not answer yet.
        let mut tries = 0..100;
        while !Command::new("jcmd")
            .args([&*pid, "Compiler.perfmap"])
            .output()
            .is_ok_and(|it| it.status.success())
        {
            assert!(tries.next().is_some(), "jcmd never got an answer");
            sleep(Duration::from_millis(100));
        }
        feed(30);
        drop(output);
        let stacks = finish(running);
        let is_it = |name: &str| name.contains("Stacks.") && name.contains("passOn");
        let named = stacks.iter().filter(|it| it.frames[0] == "off-cpu");
        let named = named.filter(|it| it.has("anon_pipe_read_[k]"));
        let mut named = named.filter(|it| it.user().any(is_it));
        assert!(named.next().is_some(), "{stacks:#?}");
    });
}
