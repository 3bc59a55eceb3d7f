//! Stacks of programs as distributions build them: without frame pointers, stripped or not.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    attach::{Target, attach},
    stacks::{Stack, finish, with_option},
    support::{CodeWait, have, run, skip, too_busy, unspoilt},
};

/// Compiles `unwound.c`; `None` where there is no compiler.
fn compiled(folder: &Path, more: &[&str]) -> Option<PathBuf> {
    if !have("gcc") {
        return None;
    }
    let (source, program) = (folder.join("unwound.c"), folder.join("unwound"));
    fs::write(&source, include_str!("unwound.c")).expect("a file");
    let output = Command::new("gcc")
        .args(["-O2", "-pthread"])
        .args(more)
        .arg("-o")
        .args([&program, &source])
        .output()
        .expect("gcc starts");
    assert!(output.status.success(), "{output:?}");
    Some(program)
}

/// The stacks of blocks, of a run of it.
#[track_caller]
fn blocks(program: &Path) -> Vec<Stack> {
    let run = with_option("--stacks=dwarf").args(["--"]).args([program]);
    let stacks = finish(run.start());
    assert!(
        stacks.iter().all(|it| it.frames[0] == "off-cpu"),
        "{stacks:#?}"
    );
    // A block that was over before anybody looked.
    if stacks
        .iter()
        .any(|it| it.has("[no stack]") && it.us > 20_000)
    {
        too_busy("nobody looked while a task slept".to_owned());
    }
    stacks
}

/// The one with these functions, each called by the one before.
#[track_caller]
fn find<'a>(stacks: &'a [Stack], functions: &[&str]) -> &'a Stack {
    let has = |it: &&Stack| it.frames.windows(functions.len()).any(|it| it == functions);
    let found = stacks.iter().find(has);
    found.unwrap_or_else(|| panic!("{functions:?}: {stacks:#?}"))
}

#[test]
fn the_function_that_waits_is_named_though_nothing_has_frame_pointers() {
    const TEST: &str = "the_function_that_waits_is_named_though_nothing_has_frame_pointers";
    unspoilt(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let Some(program) = compiled(folder.path(), &[]) else {
            return skip(TEST, "there is no gcc");
        };
        let stacks = blocks(&program);
        let waits = find(&stacks, &["thr", "update_index", "pthread_mutex_lock"]);
        assert!(!waits.is_cut_off(), "{waits:?}");
        if cfg!(target_env = "gnu") {
            find(&stacks, &["start_thread", "thr"]);
        }
        // Where the time goes: 4 to 1, by who calls. A nap can be longer, but no shorter.
        let slept = |by: &str| {
            let nap = find(&stacks, &["main", by]);
            assert!(!nap.is_cut_off(), "{nap:?}");
            nap.us
        };
        let (save, log_line) = (slept("save"), slept("log_line"));
        assert!(save >= 400_000 && log_line >= 100_000, "{stacks:#?}");
        assert!(save > 2 * log_line, "{stacks:#?}");
        // Through a signal's handler.
        let handler = find(&stacks, &["on_signal"]);
        assert!(
            handler.has("raise_it") && !handler.is_cut_off(),
            "{handler:?}"
        );
        let is_way_back = |it: &String| it == "[signal]" || it.contains("restore_rt");
        assert!(handler.frames.iter().any(is_way_back), "{handler:?}");
    });
}

/// Puts the symbols of a program where they are looked for below this folder.
fn symbols_apart(folder: &Path, program: &Path) {
    let notes = done(Command::new("readelf").arg("-n").arg(program));
    let id = notes
        .lines()
        .find_map(|line| line.trim().strip_prefix("Build ID: "));
    let (first, rest) = id.expect("a build id").split_at(2);
    let symbols = folder.join(".build-id").join(first);
    fs::create_dir_all(&symbols).expect("a folder");
    let symbols = symbols.join(format!("{rest}.debug"));
    only_debug(program, &symbols);
    done(Command::new("strip").arg(program));
}

fn only_debug(program: &Path, symbols: &Path) {
    let mut command = Command::new("objcopy");
    done(command.arg("--only-keep-debug").args([program, symbols]));
}

#[track_caller]
fn done(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const SYMBOLS: &str = "/usr/lib/debug";

/// Is there what it takes to give a program symbols that only it sees?
fn can_have_symbols(test: &str) -> bool {
    let tools = ["readelf", "objcopy", "strip", "unshare", "mount"];
    let can = tools.iter().all(|tool| have(tool)) && Path::new(SYMBOLS).is_dir();
    if !can {
        skip(test, "it takes binutils, unshare, mount and /usr/lib/debug");
    }
    can
}

/// The naps of a script, in a mount namespace of its own.
#[track_caller]
fn naps(script: &str, program: &Path) -> Vec<Vec<String>> {
    let run = with_option("--stacks=dwarf").args(["--", "unshare", "--mount", "sh", "-c"]);
    let run = run.args([script]).args([program]);
    let stacks = finish(run.start());
    let is_nap = |it: &&Stack| it.us > 150_000 && it.has("clock_nanosleep");
    let naps: Vec<_> = stacks.iter().filter(is_nap).collect();
    if naps.is_empty() {
        too_busy(format!("nobody looked while it slept: {stacks:#?}"));
    }
    naps.into_iter().map(|nap| nap.frames.clone()).collect()
}

#[test]
fn a_stripped_program_has_names_if_its_symbols_are_where_distributions_put_them() {
    const TEST: &str =
        "a_stripped_program_has_names_if_its_symbols_are_where_distributions_put_them";
    if !can_have_symbols(TEST) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let Some(program) = compiled(folder.path(), &["-Wl,--build-id"]) else {
        return skip(TEST, "there is no gcc");
    };
    symbols_apart(folder.path(), &program);
    // Only the program has them there.
    let script = format!(
        "mount --bind {} {SYMBOLS} && exec $0",
        folder.path().display()
    );
    unspoilt(|| {
        let naps = naps(&script, &program);
        let named = ["main", "save"];
        assert!(naps[0].windows(2).any(|it| it == named), "{naps:?}");
    });
    // Those of another program tell nothing of this one, though it has functions at the same places.
    let stripped = folder.path().join("stripped");
    fs::rename(&program, &stripped).expect("it has its name");
    let other = compiled(folder.path(), &["-Wl,--build-id", "-Dsave=wrong"]).expect("another");
    let symbols = done(
        Command::new("find")
            .arg(folder.path())
            .args(["-name", "*.debug"]),
    );
    only_debug(&other, Path::new(symbols.trim()));
    fs::rename(&stripped, &program).expect("it has its name");
    unspoilt(|| {
        let naps = naps(&script, &program);
        let is_told = |it: &String| it == "save" || it == "wrong";
        assert!(!naps.iter().flatten().any(is_told), "{naps:?}");
    });
}

/// One file can be in many containers, and its symbols in some of them.
#[test]
fn symbols_are_looked_for_where_each_process_sees_them() {
    const TEST: &str = "symbols_are_looked_for_where_each_process_sees_them";
    if !can_have_symbols(TEST) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let Some(program) = compiled(folder.path(), &["-Wl,--build-id"]) else {
        return skip(TEST, "there is no gcc");
    };
    symbols_apart(folder.path(), &program);
    // First it has none.
    let script = format!(
        "$0; mount --bind {} {SYMBOLS} && exec $0",
        folder.path().display()
    );
    unspoilt(|| {
        let naps = naps(&script, &program);
        let is_named = |frames: &&Vec<String>| frames.iter().any(|it| it == "save");
        let is_place = |frames: &&Vec<String>| frames.iter().any(|it| it.contains("[unwound+0x"));
        if !naps.iter().any(|it| is_place(&it)) {
            too_busy(format!(
                "nobody looked while the first one slept: {naps:#?}"
            ));
        }
        if naps.len() < 2 {
            too_busy(format!(
                "nobody looked while the second one slept: {naps:#?}"
            ));
        }
        assert!(naps.iter().any(|it| is_named(&it)), "{naps:#?}");
    });
}

/// What there is about unwinding is in the file only.
#[test]
fn a_program_without_unwind_tables_in_memory_has_stacks_by_its_debug_information() {
    const TEST: &str =
        "a_program_without_unwind_tables_in_memory_has_stacks_by_its_debug_information";
    let folder = tempfile::tempdir().expect("a folder");
    let without = ["-fno-asynchronous-unwind-tables", "-fno-unwind-tables"];
    let more: [&[&str]; 3] = [&["-g"], &["-g", "-no-pie"], &["-s"]];
    for more in more {
        let Some(program) = compiled(folder.path(), &[&without, more].concat()) else {
            return skip(TEST, "there is no gcc");
        };
        unspoilt(|| {
            let stacks = blocks(&program);
            let long: Vec<_> = stacks.iter().filter(|it| it.us > 20_000).collect();
            assert!(long.len() >= 3, "{stacks:#?}");
            if more == ["-s"] {
                let is_told =
                    |it: &&&Stack| it.is_cut_off() && it.has("[no unwind information in unwound]");
                assert!(long.iter().any(|it| is_told(&it)), "{stacks:#?}");
                return;
            }
            for stack in long {
                assert!(!stack.is_cut_off(), "{more:?}: {stack:?}");
            }
            find(&stacks, &["thr", "update_index", "pthread_mutex_lock"]);
            find(&stacks, &["main", "save"]);
            let handler = find(&stacks, &["on_signal"]);
            assert!(handler.has("raise_it"), "{handler:?}");
        });
    }
}

/// Nothing tells of a function, which can have left the frame pointer alone: then who called it is not told.
#[test]
fn what_was_guessed_by_frame_pointers_is_marked() {
    const TEST: &str = "what_was_guessed_by_frame_pointers_is_marked";
    const GAP: &str = "[functions can be missing here]";
    let folder = tempfile::tempdir().expect("a folder");
    let kept = [
        "-fno-asynchronous-unwind-tables",
        "-fno-unwind-tables",
        "-fno-omit-frame-pointer",
        "-fno-optimize-sibling-calls",
    ];
    let Some(program) = compiled(folder.path(), &kept) else {
        return skip(TEST, "there is no gcc");
    };
    unspoilt(|| {
        let stacks = blocks(&program);
        // All that nothing is told of keeps one.
        let nap = find(&stacks, &["main", "save"]);
        assert!(!nap.is_cut_off() && !nap.has(GAP), "{nap:?}");
    });
    if !have("musl-gcc") {
        return skip(TEST, "there is no musl-gcc");
    }
    let source = folder.path().join("unwound.c");
    let mut compiler = Command::new("musl-gcc");
    let compiler = compiler.args(["-O2", "-static", "-pthread", "-o"]);
    done(compiler.args([&program, &source]));
    unspoilt(|| {
        let stacks = blocks(&program);
        let long: Vec<_> = stacks.iter().filter(|it| it.us > 20_000).collect();
        assert!(!long.is_empty(), "{stacks:#?}");
        for stack in long {
            assert!(stack.is_cut_off() || stack.has(GAP), "{stack:?}");
        }
    });
}

/// A thread waits for a lock that main has for a nap.
const IN_RUST: &str = "\
use std::{sync::Mutex, thread, time::Duration};

#[inline(never)]
fn fetch(lock: &Mutex<u32>) {
    *lock.lock().unwrap() += 1;
}

fn main() {
    let lock = Mutex::new(0);
    let held = lock.lock().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| fetch(&lock));
        thread::sleep(Duration::from_millis(200));
        drop(held);
    });
}
";

/// musl has its tables in the file as well.
#[test]
fn programs_of_rust_that_are_linked_with_musl_have_whole_stacks() {
    const TEST: &str = "programs_of_rust_that_are_linked_with_musl_have_whole_stacks";
    let folder = tempfile::tempdir().expect("a folder");
    let (source, program) = (folder.path().join("a.rs"), folder.path().join("fetches"));
    fs::write(&source, IN_RUST).expect("a file");
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let compiled = Command::new("rustc")
        .args(["--edition=2024", "-O", "--target", &target, "-o"])
        .args([&program, &source])
        .output();
    if !compiled.is_ok_and(|output| output.status.success()) {
        return skip(TEST, "there is no rustc for musl");
    }
    unspoilt(|| {
        let stacks = blocks(&program);
        let long: Vec<_> = stacks.iter().filter(|it| it.us > 100_000).collect();
        assert!(long.len() >= 2, "{stacks:#?}");
        for stack in &long {
            assert!(!stack.is_cut_off(), "{stack:?}");
        }
        let waits = long.iter().find(|it| it.has("a::fetch"));
        let waits = waits.unwrap_or_else(|| panic!("{stacks:#?}"));
        // Nothing is before what begins a thread.
        assert!(waits.frames[2].ends_with("clone"), "{waits:?}");
        assert!(long.iter().any(|it| it.has("a::main")), "{stacks:#?}");
    });
}

#[test]
fn the_function_that_waits_is_told_of_tasks_and_locks_and_in_a_finding() {
    const TEST: &str = "the_function_that_waits_is_told_of_tasks_and_locks_and_in_a_finding";
    unspoilt(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let Some(program) = compiled(folder.path(), &[]) else {
            return skip(TEST, "there is no gcc");
        };
        let run = run().json().args(["--stacks=dwarf", "--"]);
        let finished = run.args([&program]).complete();
        let report = finished.report();
        let slept = report.tasks[0].waited("sleep", "clock_nanosleep");
        let of = |name: &str| slept.code.iter().find(|code| code.name == name);
        let (Some(save), Some(log_line)) = (of("save"), of("log_line")) else {
            // A nap that was over before anybody looked.
            too_busy(format!("{slept:?}"));
        };
        assert!(save.ns > 2 * log_line.ns, "{slept:?}");
        let locks = report.locks.iter().flat_map(|lock| &lock.code);
        let names: Vec<&str> = locks.map(|code| code.name.as_str()).collect();
        assert!(names.contains(&"update_index"), "{:#?}", report.locks);
        let told = report.findings.iter();
        // Sleeps that follow each other are one wait.
        let mut told = told.filter(|it| it.sentence.contains(", mostly in `save`"));
        assert!(told.next().is_some(), "{:#?}", report.findings);
    });
}

/// Long blocks have whole stacks, with names: by symbols, and by the table of Go's runtime.
#[test]
fn stacks_of_go_go_back_to_where_threads_began_stripped_or_not() {
    const TEST: &str = "stacks_of_go_go_back_to_where_threads_began_stripped_or_not";
    if !have("go") {
        return skip(TEST, "there is no go");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("unwound.go");
    fs::write(&source, include_str!("unwound.go")).expect("a file");
    let modes = [
        ["-buildmode=exe", "-ldflags="],
        ["-buildmode=exe", "-ldflags=-s -w"],
        ["-buildmode=pie", "-ldflags=-s -w"],
    ];
    for mode in modes {
        let program = folder.path().join("unwound");
        let output = Command::new("go")
            .env("CGO_ENABLED", "0")
            .env("GO111MODULE", "off")
            .env("GOCACHE", folder.path().join("cache"))
            .arg("build")
            .args(mode)
            .arg("-o")
            .args([&program, &source])
            .output()
            .expect("go starts");
        assert!(output.status.success(), "{output:?}");
        unspoilt(|| {
            let stacks = blocks(&program);
            let long = |it: &&Stack| it.us > 20_000 && !it.has("[no stack]");
            // Where it begins is told by names, which are looked up while the program lives: when
            // it ends, some functions of a stack can have theirs from earlier ones, and others none.
            let has_none = |it: &String| it.starts_with("[unwound+0x") || it == "[process gone]";
            let mut all = stacks.iter().filter(long);
            if all.any(|it| it.frames.iter().any(has_none)) {
                too_busy("its functions were not looked up before it ended".to_owned());
            }
            for stack in stacks.iter().filter(long) {
                assert!(!stack.is_cut_off(), "{mode:?}: {stack:?}");
            }
            find(&stacks, &["main.save", "main.nap"]);
            find(&stacks, &["main.main", "main.nap"]);
        });
    }
}

/// A thread waits for a lock that main has for a nap.
const IN_PYTHON: &str = "\
import threading, time
lock = threading.Lock()

def fetch():
    with lock:
        pass

def save():
    time.sleep(0.2)

lock.acquire()
thread = threading.Thread(target=fetch)
thread.start()
save()
lock.release()
thread.join()
";

#[test]
fn code_of_python_is_told_with_its_line() {
    const TEST: &str = "code_of_python_is_told_with_its_line";
    if !have("python3") {
        return skip(TEST, "there is no python3");
    }
    unspoilt(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let script = folder.path().join("app.py");
        fs::write(&script, IN_PYTHON).expect("a file");
        let run = run().json().args(["--stacks=dwarf", "--", "python3"]);
        let finished = run.args([&script]).complete();
        let report = finished.report();
        let waits = report.tasks.iter().flat_map(|task| &task.waits);
        let long = waits.filter(|wait| wait.longest_ns > 100_000_000);
        let long: Vec<_> = long.collect();
        if long.iter().any(|wait| wait.code.is_empty()) {
            too_busy("nobody looked while a task slept".to_owned());
        }
        let code: Vec<_> = long.iter().flat_map(|wait| &wait.code).collect();
        let ns = |name: &str| {
            let of = code.iter().filter(|code| code.name == name);
            of.map(|code| code.ns).max().unwrap_or(0)
        };
        // The function, not the library's, and not what the interpreter is made of.
        let times = ["fetch (app.py:5)", "save (app.py:9)"].map(ns);
        assert!(times.iter().all(|ns| *ns > 100_000_000), "{code:#?}");
    });
}

#[test]
fn a_stripped_static_program_has_whole_stacks_of_places_in_it() {
    const TEST: &str = "a_stripped_static_program_has_whole_stacks_of_places_in_it";
    // One for a fixed address has tables without an index.
    let whole = |how| {
        let folder = tempfile::tempdir().expect("a folder");
        let Some(program) = compiled(folder.path(), &[how, "-s"]) else {
            return skip(TEST, "there is no gcc");
        };
        let stacks = blocks(&program);
        let long = |it: &&Stack| it.us > 20_000;
        assert!(stacks.iter().filter(long).count() >= 3, "{stacks:#?}");
        for stack in stacks.iter().filter(long) {
            assert!(!stack.is_cut_off(), "{stack:?}");
            let places = &stack.frames[2..];
            let is_place = |it: &String| it.starts_with("[unwound+0x") || it == "[signal]";
            assert!(places.len() > 3 && places.iter().all(is_place), "{stack:?}");
        }
    };
    for how in ["-static-pie", "-static"] {
        unspoilt(|| whole(how));
    }
}

#[test]
fn tasks_that_slept_before_they_were_attached_to_have_stacks() {
    const TEST: &str = "tasks_that_slept_before_they_were_attached_to_have_stacks";
    if !have("python3") {
        return skip(TEST, "there is no python3");
    }
    unspoilt(|| {
        let target = Target::start(&[]);
        let pid = target.pid().to_string();
        let finished = attach(["--stacks=dwarf", "--for", "500ms", "-p", &pid]).finish();
        let report = finished.report();
        let waits = report.tasks.iter().flat_map(|task| &task.waits);
        let waits: Vec<_> = waits.collect();
        if waits.iter().any(|wait| wait.code.is_empty()) {
            too_busy("nobody looked in half a second".to_owned());
        }
        let code: Vec<_> = waits.iter().flat_map(|wait| &wait.code).collect();
        for name in ["wait_for_pipe (attach.py:", "rest (attach.py:"] {
            let is_it = |code: &&&CodeWait| code.name.starts_with(name);
            assert!(code.iter().any(|code| is_it(&code)), "{name}: {code:#?}");
        }
        target.end();
    });
}
