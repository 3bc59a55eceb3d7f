//! The commands of the documents that take root (`$ sudo forktrace …` in a console block): each
//! is run as it is written, in a copy of `docs/samples`. What the others print is compared by
//! the golden tests.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use crate::support::{forktrace, lacks};

/// forktrace failed, or its command line is wrong.
const FAILED: i32 = 125;

fn commands() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = fs::read_dir(root.join("docs")).expect("docs");
    let mut files: Vec<_> = folder.map(|entry| entry.expect("a file").path()).collect();
    files.push(root.join("README.md"));
    files.retain(|path| path.extension().is_some_and(|it| it == "md"));
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a document");
        for block in text.split("```console\n").skip(1) {
            let block = block.split("\n```").next().expect("an end");
            let run = block
                .lines()
                .filter_map(|line| line.strip_prefix("$ sudo "));
            found.extend(run.map(|command| (file.display().to_string(), command.to_owned())));
        }
    }
    found
}

#[test]
fn each_command_that_takes_root_runs() {
    let programs = ["make", "gcc", "python3", "timeout"];
    if lacks("each_command_that_takes_root_runs", &programs) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let everybody = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&folder, everybody).expect("the folder is ours");
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/samples");
    for entry in fs::read_dir(samples).expect("the samples") {
        let path = entry.expect("a file").path();
        if path.extension().is_none_or(|it| it != "ft") {
            let name = path.file_name().expect("a name");
            fs::copy(&path, folder.path().join(name)).expect("copied");
        }
    }
    let build = Command::new("gcc")
        .args(["-O2", "-pthread", "-o", "locks", "locks.c"])
        .current_dir(&folder)
        .status();
    assert!(build.expect("gcc starts").success());
    let commands = commands();
    assert!(commands.len() > 5, "{commands:?}");
    let programs = forktrace();
    let programs = programs.parent().expect("a folder").display();
    let path = std::env::var("PATH").unwrap_or_default();
    for (document, command) in commands {
        // What make has made is made again.
        let clean = "rm -f prog *.o main.c one.c two.c three.c four.c gen.h";
        let output = Command::new("sh")
            .args(["-c", &format!("{clean}; {command}")])
            .current_dir(&folder)
            .env("PATH", format!("{programs}:{path}"))
            .output()
            .expect("sh starts");
        let status = output.status.code();
        assert!(
            status.is_some_and(|status| !(FAILED..=127).contains(&status)),
            "{document}: {command}: {output:?}"
        );
    }
}
