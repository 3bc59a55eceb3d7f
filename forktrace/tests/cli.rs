//! The command line of what needs neither root nor a kernel that can be traced: how a
//! report is written, and what the program prints of itself.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Begins every colour of a terminal.
const ESCAPE: &str = "\u{1b}[";

fn trace(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    folder.join(name).with_extension("ft")
}

fn forktrace(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forktrace"));
    command.args(arguments).env_remove("NO_COLOR");
    command
}

fn output(command: &mut Command) -> Output {
    command.output().expect("forktrace starts")
}

/// What it prints, when it succeeds without a word on stderr.
#[track_caller]
fn printed(command: &mut Command) -> String {
    let output = output(command);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && error.is_empty(), "{error}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[track_caller]
fn report(arguments: &[&str], name: &str) -> String {
    printed(forktrace(&["report"]).args(arguments).arg(trace(name)))
}

#[test]
fn colour_is_for_terminals_unless_wanted() {
    let plain = report(&[], "sleepers");
    assert!(!plain.contains(ESCAPE));
    assert_eq!(report(&["--color", "never"], "sleepers"), plain);
    let coloured = report(&["--color", "always"], "sleepers");
    assert!(coloured.contains(ESCAPE));
    // Colour is never alone: without it the words are the same.
    let mut words = String::new();
    for (at, part) in coloured.split(ESCAPE).enumerate() {
        let from = if at == 0 {
            0
        } else {
            part.find('m').expect("an end") + 1
        };
        words.push_str(&part[from..]);
    }
    assert_eq!(words, plain);
}

#[test]
fn who_asks_for_colour_has_it_in_spite_of_no_color() {
    let mut command = forktrace(&["report", "--color", "always"]);
    let coloured = printed(command.arg(trace("sleepers")).env("NO_COLOR", "1"));
    assert!(coloured.contains(ESCAPE));
}

#[test]
fn the_graph_is_one_for_graphviz() {
    let dot = report(&["--format", "dot"], "fork_tree");
    let mut lines = dot.lines();
    assert!(
        lines
            .next()
            .is_some_and(|line| line.starts_with("digraph "))
    );
    assert!(lines.clone().any(|line| line.contains(" -> ")), "{dot}");
    assert_eq!(lines.next_back(), Some("}"));
}

#[test]
fn folded_stacks_need_a_trace_that_has_stacks() {
    let output = output(forktrace(&["report", "--format", "folded"]).arg(trace("sleepers")));
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{error}");
    assert!(error.contains("--stacks"), "{error}");
}

#[test]
fn more_is_said_when_asked_for() {
    let lines = |arguments: &[&str]| report(arguments, "fork_tree").lines().count();
    assert!(lines(&["-v"]) > lines(&[]));
    assert!(lines(&["--episodes", "0"]) < lines(&["--episodes", "1"]));
}

#[test]
fn each_command_has_a_manual_page() {
    let all = printed(&mut forktrace(&["man"]));
    assert!(all.contains(".TH"), "{all}");
    for command in ["run", "report", "claims", "doctor", "workload"] {
        let page = printed(&mut forktrace(&["man", command]));
        assert!(page.contains(&format!("forktrace\\-{command}")), "{page}");
    }
    let output = output(&mut forktrace(&["man", "nothing"]));
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn shells_complete_commands_and_options() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&mut forktrace(&["completions", shell]));
        assert!(script.contains("until-exit"), "{shell}: {script}");
    }
}

/// Closed before all of it is written, as `forktrace report … | head` does.
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = forktrace(&["report", "--format", "json"]);
    let output = command
        .arg(trace("sleepers"))
        .stdout(writer)
        .output()
        .expect("forktrace starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!error.contains("panicked"), "{error}");
    assert!(error.is_empty(), "{error}");
}
