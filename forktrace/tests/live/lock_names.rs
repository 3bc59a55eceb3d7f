//! A lock that is a variable of the program or of a library is called what these call it.

use std::{fs, path::Path, process::Command};

use crate::support::{lacks, run, unspoilt};

fn compile(folder: &Path, output: &str, options: &[&str]) {
    let mut compiler = Command::new("gcc");
    let compiler = compiler.args(["-O2", "-pthread", "lock_names.c", "-o", output]);
    let status = compiler.args(options).current_dir(folder).status();
    assert!(status.expect("gcc starts").success(), "{output}");
}

/// What the futex that a program's thread waited for is called.
fn name(folder: &Path, program: &str) -> String {
    let run = run();
    let finished = run
        .json()
        .args(["--"])
        .args([folder.join(program)])
        .complete();
    let tasks = finished.report().tasks.iter();
    let waits = tasks.flat_map(|task| &task.waits);
    let objects = waits.flat_map(|it| &it.objects);
    let names = objects.map(|it| it.name.as_str());
    let names: Vec<&str> = names.collect();
    let own = names.iter().find(|name| name.contains(" (in "));
    own.map_or_else(|| panic!("{program}: {names:?}"), ToString::to_string)
}

#[test]
fn a_lock_is_called_what_the_program_calls_it() {
    if lacks(
        "a_lock_is_called_what_the_program_calls_it",
        &["gcc", "strip"],
    ) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let source = include_str!("lock_names.c");
    fs::write(folder.join("lock_names.c"), source).expect("a file");
    compile(folder, "plain", &[]);
    compile(folder, "fixed", &["-static", "-no-pie"]);
    compile(folder, "stripped", &["-s"]);
    compile(folder, "libqueue.so", &["-DIS_LIBRARY", "-shared", "-fPIC"]);
    let library = ["-DLIBRARY", "-L.", "-lqueue", "-Wl,-rpath,$ORIGIN"];
    compile(folder, "linked", &library);

    unspoilt(|| {
        assert_eq!(name(folder, "plain"), "futex locks+0xc8 (in plain)");
        assert_eq!(name(folder, "fixed"), "futex locks+0xc8 (in fixed)");
        assert_eq!(name(folder, "linked"), "futex locks+0xc8 (in libqueue.so)");
        let stripped = name(folder, "stripped");
        assert!(
            stripped.starts_with("futex stripped+0x") && stripped.ends_with(" (in stripped)"),
            "{stripped}"
        );
    });
}
