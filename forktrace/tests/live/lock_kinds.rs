//! What kind of lock it is, as the functions say that wait for it.

use std::{fs, path::Path, process::Command};

use crate::support::{lacks, run, too_busy, unspoilt};

fn compile(folder: &Path, output: &str, options: &[&str]) {
    let mut compiler = Command::new("gcc");
    let compiler = compiler.args(["-O2", "-pthread", "lock_kinds.c", "-o", output]);
    let status = compiler.args(options).current_dir(folder).status();
    assert!(status.expect("gcc starts").success(), "{output}");
}

/// The kinds of what `wait_for_it` waited for.
fn kinds(program: &Path, kind: &str) -> Vec<String> {
    let run = run().json().args(["--stacks=dwarf", "--"]);
    let finished = run.args([program]).args([kind]).complete();
    let locks = finished.report().locks.iter();
    let found = locks.filter(|lock| lock.code.iter().any(|code| code.name == "wait_for_it"));
    let kinds: Vec<String> = found.map(|lock| lock.kind.clone()).collect();
    if kinds.is_empty() {
        too_busy("nobody looked while a task slept".to_owned());
    }
    kinds
}

#[test]
fn locks_say_their_kind_by_the_functions_that_wait_for_them() {
    const TEST: &str = "locks_say_their_kind_by_the_functions_that_wait_for_them";
    if lacks(TEST, &["gcc"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let source = include_str!("lock_kinds.c");
    fs::write(folder.join("lock_kinds.c"), source).expect("a file");
    compile(folder, "plain", &[]);
    compile(folder, "fixed", &["-static"]);
    let kinds_of = |program: &str, kind: &str, expected: &str| {
        unspoilt(|| {
            let kinds = kinds(&folder.join(program), kind);
            let all = kinds.iter().all(|found| found == expected);
            assert!(all, "{program} {kind}: {kinds:?}");
        });
    };
    for program in ["plain", "fixed"] {
        kinds_of(program, "rwlock", "rw_lock");
        kinds_of(program, "condition", "condition");
        kinds_of(program, "barrier", "barrier");
    }
    // The function that waits at one has no name in a library that was stripped.
    kinds_of("fixed", "semaphore", "semaphore");
}
