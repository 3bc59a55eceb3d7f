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
    // What the terminal of whoever runs the tests is like has no part in it.
    command.args(arguments).env_remove("NO_COLOR");
    command.env_remove("COLUMNS").env("LC_ALL", "C.UTF-8");
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
fn the_page_is_as_wide_as_the_environment_says_and_has_its_characters() {
    for columns in [72, 80, 120] {
        let mut command = forktrace(&["report"]);
        let command = command.arg(trace("select_and_compute"));
        let text = printed(command.env("COLUMNS", columns.to_string()));
        let widest = text.lines().map(|line| line.chars().count()).max();
        let widest = widest.expect("a line");
        assert!(
            (columns - 12..=columns).contains(&widest),
            "{columns}: {text}"
        );
    }
    let mut command = forktrace(&["report"]);
    let command = command.arg(trace("select_and_compute"));
    let ascii = printed(command.env("LC_ALL", "C"));
    assert!(ascii.is_ascii(), "{ascii}");
}

#[test]
fn a_view_is_shown_in_place_of_the_summary_and_a_wrong_one_names_all() {
    let text = report(&["--show", "tasks,audit"], "fork_tree");
    let heads = ["\nTASKS\n", "\nAUDIT\n"];
    assert!(heads.iter().all(|head| text.contains(head)), "{text}");
    assert!(!text.contains("WHERE THE TIME WENT"), "{text}");
    let mut command = forktrace(&["report", "--show", "nothing"]);
    let refused = output(command.arg(trace("sleepers")));
    let error = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(125), "{error}");
    assert!(error.contains("findings, stalls, episodes"), "{error}");
}

#[test]
fn what_tasks_are_grouped_by_shows_in_the_text() {
    assert!(!report(&[], "sleepers").contains("ALL BLOCKED"));
    for (by, heading) in [("name", "NAME "), ("role", "ROLE "), ("cgroup", "CGROUP ")] {
        let text = report(&["--group-by", by], "sleepers");
        let mut lines = text.lines().map(str::trim_start);
        let table = lines.find(|line| line.starts_with(heading));
        assert!(table.is_some_and(|it| it.contains("ALL BLOCKED")), "{text}");
    }
    let stalls = report(
        &["--group-by", "role", "--show", "stalls"],
        "ping_pong_loss",
    );
    assert!(stalls.contains("the role "), "{stalls}");
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
fn without_recorded_stacks_folded_lines_say_the_call_and_what_it_waited_for() {
    let folded = report(&["--format", "folded"], "sleepers");
    assert!(
        folded.contains("off-cpu;forktrace;clock_nanosleep "),
        "{folded}"
    );
    let objects = report(&["--format", "folded", "--folded", "object"], "fork_tree");
    assert!(objects.starts_with("object;"), "{objects}");
}

/// What went wrong, of a command that has to fail.
#[track_caller]
fn failure(command: &mut Command) -> String {
    let output = output(command);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(125), "{error}");
    error
}

#[test]
fn a_suffix_tells_the_form_and_several_files_are_written_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let names = [
        "a.txt",
        "a.json",
        "a.html",
        "a.pftrace",
        "a.fx.json",
        "a.pb.gz",
        "a.folded",
        "a.svg",
        "a.dot",
        "a.ndjson",
    ];
    let mut command = forktrace(&["report"]);
    for name in names {
        command.arg("-o").arg(file(name));
    }
    let silent = printed(command.arg(trace("fork_tree")));
    assert_eq!(silent, "");
    let begins: [&[u8]; 10] = [
        b"",
        b"{\n",
        b"<!DOCTYPE",
        b"\n",
        b"{\"meta\"",
        b"\x1f\x8b",
        b"off-cpu;",
        b"<?xml",
        b"digraph",
        b"{\"argv\"",
    ];
    for (name, begin) in names.iter().zip(begins) {
        let written = std::fs::read(file(name)).expect("it is there");
        assert!(written.starts_with(begin) && !written.is_empty(), "{name}");
    }
    let left = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, names.len(), "nothing else");
}

#[test]
fn an_odd_suffix_is_refused_with_the_list_of_all_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.pdf");
    let mut command = forktrace(&["report", "-o"]);
    let error = failure(command.arg(&path).arg(trace("fork_tree")));
    assert!(error.contains(".pdf stands for no form"), "{error}");
    let mut command = forktrace(&["report", "-o", "a.ft"]);
    let of_trace = failure(command.arg(trace("fork_tree")));
    assert!(of_trace.contains("kept by --save a.ft"), "{of_trace}");
    assert!(
        error.contains(".pftrace") && error.contains("--format"),
        "{error}"
    );
    assert!(!path.exists());
    // Unless its form is said.
    let mut command = forktrace(&["report", "--format", "json", "-o"]);
    printed(command.arg(&path).arg(trace("fork_tree")));
    let written = std::fs::read_to_string(&path).expect("it is there");
    assert!(written.starts_with('{'), "{written}");
}

#[test]
fn a_format_that_no_file_has_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = forktrace(&["report", "--format", "json", "-o"]);
    let path = folder.path().join("a.txt");
    let error = failure(command.arg(path).arg(trace("fork_tree")));
    assert!(
        error.contains("--format json contradicts the name of"),
        "{error}"
    );
}

#[test]
fn one_file_for_two_reports_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.txt");
    let mut command = forktrace(&["report", "-o"]);
    command.arg(&path).arg("-o").arg(&path);
    let error = failure(command.arg(trace("fork_tree")));
    assert!(error.contains("given twice"), "{error}");
}

#[test]
fn a_full_disk_leaves_no_part_of_a_file_under_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.json");
    for before in [None, Some("what was there")] {
        if let Some(before) = before {
            std::fs::write(&path, before).expect("a file");
        }
        let program = env!("CARGO_BIN_EXE_forktrace");
        let script = format!("ulimit -f 8; exec {program} report -o \"$0\" \"$1\"");
        let mut command = Command::new("bash");
        command.args(["-c", &format!("trap '' XFSZ; {script}")]);
        let error = failure(command.arg(&path).arg(trace("fork_tree")));
        assert!(
            error.contains("a.json") && error.contains("File too large"),
            "{error}"
        );
        assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), before);
        let left = std::fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(left, usize::from(before.is_some()));
    }
}

#[test]
fn a_page_is_shown_by_the_browser_of_ones_choice() {
    let folder = tempfile::tempdir().expect("a folder");
    let browser = folder.path().join("browser");
    std::fs::write(&browser, "#!/bin/sh\ncat \"$1\" >\"$0.pipe\"\n").expect("a file");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&browser, executable).expect("ours");
    let pipe = folder.path().join("browser.pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let mut command = forktrace(&["report", "--open"]);
    command
        .env("BROWSER", &browser)
        .env("TMPDIR", folder.path());
    command.env_remove("SUDO_UID").arg(trace("fork_tree"));
    let output = output(&mut command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(output.stdout.is_empty(), "the page is the report");
    assert!(
        said.contains("forktrace-") && said.contains(".html"),
        "{said}"
    );
    // What the browser, which goes on by itself, reads.
    let page = std::fs::read_to_string(pipe).expect("the page");
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    let mut command = forktrace(&["report", "--open"]);
    let error = failure(command.env("SUDO_UID", "1000").arg(trace("fork_tree")));
    assert!(error.contains("as root"), "{error}");
}

#[test]
fn schemas_are_printed() {
    for of in ["json", "ndjson"] {
        let schema = printed(&mut forktrace(&["schema", of]));
        let schema: serde_json::Value = serde_json::from_str(&schema).expect("JSON");
        assert!(schema["$schema"].is_string(), "{of}");
    }
}

#[test]
fn more_is_said_when_asked_for() {
    let lines = |arguments: &[&str]| report(arguments, "fork_tree").lines().count();
    assert!(lines(&["-v"]) > lines(&[]));
    assert_eq!(
        report(&["-v"], "fork_tree"),
        report(&["--show", "all"], "fork_tree")
    );
    let listed = |n| lines(&["--show", "episodes", "--episodes", n]);
    assert!(listed("0") < listed("1"));
}

#[test]
fn a_question_is_answered_in_ten_lines_and_a_bad_one_with_what_there_is() {
    let explain = |question: &[&str]| {
        let mut command = forktrace(&["explain"]);
        output(command.arg(trace("fork_tree")).args(question))
    };
    for (question, answer) in [
        (["--at", "9ms"], "At 9.00 ms, of 7 tasks that lived: "),
        (["--task", "4982"], "4982 forktrace: a task of process 4982"),
        (["--stall", "1"], "Stall 1 of "),
    ] {
        let output = explain(&question);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.starts_with(answer),
            "{output:?}"
        );
        assert!(text.lines().count() <= 12, "{text}");
    }
    for (question, there_is) in [
        (&["--at", "9s"][..], "the recording goes from"),
        (&["--at", "soon"], "write 3.2s, 250ms"),
        (&["--task", "1"], "its 7 tasks: 4982 (forktrace)"),
        (&["--stall", "0"], "--stall 1"),
        (&["--stall", "99"], "--stall 1"),
        (&[], "--at <TIME>|--task <TID>|--stall <N>"),
        (&["--task", "1", "--stall", "1"], "cannot be used with"),
    ] {
        let output = explain(question);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{error}");
        assert!(error.contains(there_is), "{question:?}: {error}");
    }
}

#[test]
fn each_command_has_a_manual_page() {
    let all = printed(&mut forktrace(&["man"]));
    assert!(all.contains(".TH"), "{all}");
    for command in ["run", "report", "explain", "claims", "doctor", "workload"] {
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

#[test]
fn the_long_version_names_the_commit_and_the_object() {
    let short = printed(&mut forktrace(&["-V"]));
    assert_eq!(
        short,
        concat!("forktrace ", env!("CARGO_PKG_VERSION"), "\n")
    );
    let long = printed(&mut forktrace(&["--version"]));
    let lines: Vec<_> = long.lines().collect();
    let [version, commit, object] = lines[..] else {
        panic!("{long}")
    };
    assert_eq!(version, short.trim_end());
    assert!(commit.starts_with("commit: "), "{long}");
    let sha256 = object.strip_prefix("BPF object: ").expect("its hash");
    assert!(
        sha256.len() == 64 && sha256.chars().all(|c| c.is_ascii_hexdigit()),
        "{long}"
    );
}

#[test]
fn a_page_of_the_manual_keeps_exit_status_and_examples_apart() {
    let page = printed(&mut forktrace(&["man", "claims", "run"]));
    assert!(page.contains("\n.TH forktrace-claims-run 1"), "{page}");
    let (_, rest) = page.split_once(".SH \"EXIT STATUS\"\n").expect("a section");
    let (status, examples) = rest.split_once(".SH EXAMPLES\n.nf\n").expect("another");
    assert!(status.contains("when one is inconclusive"), "{status}");
    let example = "  sudo forktrace claims run \\-\\-quick\n";
    assert!(examples.contains(example), "{examples}");
    assert!(!page.contains("EXTRA"), "{page}");
}

#[test]
fn all_pages_of_the_manual_can_be_written_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let inside = folder.path().join("man1");
    assert_eq!(printed(forktrace(&["man", "--all"]).arg(&inside)), "");
    let names: Vec<_> = std::fs::read_dir(&inside)
        .expect("the folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    for (page, of) in [
        ("forktrace.1", &[][..]),
        ("forktrace-run.1", &["run"]),
        ("forktrace-claims-run.1", &["claims", "run"]),
        ("forktrace-workload-sleepers.1", &["workload", "sleepers"]),
    ] {
        let written = std::fs::read_to_string(inside.join(page)).expect("a page");
        assert_eq!(written, printed(forktrace(&["man"]).args(of)), "{page}");
        // What a page refers to is there.
        for line in written.lines().filter(|line| line.ends_with("(1)")) {
            let name = line.replace("(1)", ".1").replace('\\', "");
            assert!(names.contains(&name), "{page} refers to {name}: {names:?}");
        }
    }
}

#[test]
fn a_page_of_no_subcommand_is_refused() {
    let refused = output(&mut forktrace(&["man", "claims", "walk"]));
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(
        error.contains("there is no subcommand claims walk"),
        "{error}"
    );
    assert!(!refused.status.success());
}

#[test]
fn a_report_never_replaces_the_trace_that_it_is_made_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a.ft");
    std::fs::copy(trace("sleepers"), &file).expect("copied");
    let before = std::fs::read(&file).expect("a trace");
    for options in [&["--force"][..], &[]] {
        let mut command = forktrace(&["report"]);
        command.arg(&file).arg("-o").arg(&file).args(options);
        let output = output(&mut command);
        assert_eq!(output.status.code(), Some(125));
        assert_eq!(std::fs::read(&file).expect("a trace"), before);
    }
    // By way of standard output, too.
    let opened = std::fs::File::options().append(true).open(&file);
    let mut command = forktrace(&["report"]);
    command.arg(&file).stdout(opened.expect("it"));
    assert_eq!(output(&mut command).status.code(), Some(125));
    assert_eq!(std::fs::read(&file).expect("a trace"), before);
}

#[test]
fn a_report_replaces_another_trace_only_when_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a");
    std::fs::copy(trace("fork_tree"), &file).expect("copied");
    let before = std::fs::read(&file).expect("a trace");
    let mut command = forktrace(&["report", "-o"]);
    let refused = output(command.arg(&file).arg(trace("sleepers")));
    assert_eq!(refused.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--force"));
    assert_eq!(std::fs::read(&file).expect("a trace"), before);
    let mut command = forktrace(&["report", "--force", "-o"]);
    printed(command.arg(&file).arg(trace("sleepers")));
    let text = std::fs::read_to_string(&file).expect("a report");
    assert_eq!(text, report(&[], "sleepers"));
    // A report is replaced by the next as it is.
    let mut command = forktrace(&["report", "-o"]);
    printed(command.arg(&file).arg(trace("fork_tree")));
    let text = std::fs::read_to_string(&file).expect("a report");
    assert_eq!(text, report(&[], "fork_tree"));
    assert_eq!(std::fs::read_dir(folder.path()).expect("it").count(), 1);
}

#[test]
fn a_dash_is_standard_input() {
    let file = std::fs::File::open(trace("sleepers")).expect("a trace");
    let mut command = forktrace(&["report", "-"]);
    let (text, other) = (printed(command.stdin(file)), report(&[], "sleepers"));
    // The last line says how to ask for more, of the file by its name.
    let without_last = |text: &str| {
        text.trim_end()
            .rsplit_once('\n')
            .map(|(text, _)| text.to_owned())
    };
    assert_eq!(without_last(&text), without_last(&other));
    assert!(
        text.ends_with("Next: forktrace report - --show waits (or all).\n"),
        "{text}"
    );
}

#[test]
fn a_part_that_is_not_there_is_told_with_what_there_is() {
    let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/sleepers.ft");
    for (options, told) in [
        (&["--only", "nobody"][..], "There are the names"),
        (&["--from", "1h"], "no time"),
        (&["--from", "3000s"], "the recording is"),
        (&["--to", "-3000s"], "the recording is"),
        (&["--from", "60%", "--to", "40%"], "nothing is between"),
        (&["--from", "101%"], "from 0% to 100%"),
        (&["--group-by", "colour"], "role"),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_forktrace"))
            .arg("report")
            .args(options)
            .arg(trace)
            .output()
            .expect("forktrace was built");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{options:?}");
        assert!(errors.contains(told), "{options:?}: {errors}");
    }
}

#[test]
fn every_form_is_written_of_a_part() {
    let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/fork_tree.ft");
    let folder = tempfile::tempdir().expect("a folder");
    let names = [
        "a.txt",
        "a.json",
        "a.html",
        "a.pftrace",
        "a.folded",
        "a.svg",
        "a.dot",
        "a.pb.gz",
        "a.fx.json",
        "a.ndjson",
    ];
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_forktrace"));
    command.args([
        "report", "--from", "20%", "--to", "80%", "--only", "*", trace,
    ]);
    for name in names {
        command.arg("-o").arg(folder.path().join(name));
    }
    let output = command.output().expect("forktrace was built");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    for name in names {
        let written = std::fs::metadata(folder.path().join(name)).expect(name);
        assert!(written.len() > 20, "{name}");
    }
}

/// A view needs a terminal; what needs none is named in its place.
#[test]
fn top_without_a_terminal_names_what_takes_its_place() {
    let output = output(&mut forktrace(&["top", "1"]));
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{error}");
    let words = if cfg!(feature = "top") {
        [
            "standard output is no terminal",
            "`forktrace attach`",
            "`forktrace watch`",
        ]
    } else {
        ["no terminal view", "--features top", "cargo install"]
    };
    for word in words {
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn errors_say_what_is_wrong_and_no_number_of_it() {
    let output = output(&mut forktrace(&["report", "/no/such/trace.ft"]));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("No such file or directory"), "{error}");
    assert!(!error.contains("os error"), "{error}");
}

#[test]
fn who_wants_to_attach_is_told_how() {
    for (arguments, tip) in [
        (["run", "-p", "123"], "`forktrace attach -p …`"),
        (["run", "--unit", "nginx"], "`forktrace attach --unit …`"),
        (["report", "--pid", "123"], "`--only` takes a pid"),
    ] {
        let output = output(&mut forktrace(&arguments));
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125));
        assert!(error.contains(tip), "{error}");
    }
}

/// The end of the file is gone, and with it the middle of the recording.
#[test]
fn of_a_trace_that_breaks_off_each_answer_says_so() {
    let whole = std::fs::read(trace("sleepers")).expect("a trace");
    let folder = tempfile::tempdir().expect("a folder");
    let cut = folder.path().join("cut.ft");
    std::fs::write(&cut, &whole[..whole.len() / 2]).expect("a file");
    let cut = cut.to_str().expect("UTF-8");
    let text = printed(&mut forktrace(&["report", cut]));
    let first = text.lines().nth(2).unwrap_or_default();
    assert!(first.starts_with("  The trace breaks off at "), "{text}");
    for view in ["--show=audit", "--show=tasks"] {
        let text = printed(&mut forktrace(&["report", view, cut]));
        assert!(!text.contains("No record was lost"), "{text}");
    }
    let explained = output(&mut forktrace(&["explain", cut, "--at", "1ns"]));
    let said = String::from_utf8_lossy(&explained.stdout).into_owned()
        + &String::from_utf8_lossy(&explained.stderr);
    assert!(
        said.contains("The record has gaps") || !explained.status.success(),
        "{said}"
    );
    let whole = trace("sleepers");
    let text = printed(forktrace(&["diff"]).arg(&whole).arg(cut));
    let said = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.starts_with("How long B took is not known"), "{text}");
    assert!(said.contains("1 trace of B without an end"), "{text}");
    assert!(!said.contains("did not end with exit status 0"), "{text}");
}

#[test]
fn what_others_recorded_is_imported_and_reported_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| {
        let path = folder.path().join(name);
        path.to_str().expect("UTF-8").to_owned()
    };
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../forktrace-import/tests");
    let (pftrace, to) = (path("run.pftrace"), path("trace.ft"));
    printed(forktrace(&["report", "-o", &pftrace]).arg(trace("sleepers")));
    for (file, from) in [
        (pftrace.clone(), "Perfetto"),
        (format!("{samples}/sample.perf.data"), "perf sched record"),
        (format!("{samples}/sample.wprof.json"), "wprof"),
    ] {
        let imported = output(&mut forktrace(&["import", &file, "-o", &to]));
        assert!(imported.status.success(), "{imported:?}");
        let text = printed(&mut forktrace(&["report", "--show", "audit", &to]));
        assert!(text.contains(&format!("what {from} recorded")), "{text}");
        assert!(!text.contains("Audit: complete"), "{text}");
    }
    // What the user has is not lost, and an error says what is wrong with which file.
    let before = std::fs::read(&to).expect("the trace");
    let odd = path("odd.data");
    std::fs::write(&odd, b"PERFILE2\x68\0\0\0\0\0\0\0").expect("a file");
    let error = failure(&mut forktrace(&["import", &odd, "-o", &to]));
    assert!(
        error.contains("odd.data") && error.contains("byte 16"),
        "{error}"
    );
    assert_eq!(std::fs::read(&to).expect("the trace"), before);
    let error = failure(&mut forktrace(&["import", &to, "-o", &to]));
    assert!(error.contains("overwritten"), "{error}");
    let error = failure(&mut forktrace(&["import", &pftrace, "-o", &pftrace]));
    assert!(error.contains("is no trace"), "{error}");
    let error = failure(&mut forktrace(&["import", &odd, "-o", &path("new.ft")]));
    assert!(!folder.path().join("new.ft").exists(), "{error}");
}

#[test]
fn a_roll_up_grows_where_it_is_and_takes_no_trace_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("month.ndjson.gz");
    let path = path.to_str().expect("UTF-8");
    let sleepers = trace("sleepers");
    let first = output(forktrace(&["rollup", "-o", path]).arg(&sleepers));
    assert!(first.status.success(), "{first:?}");
    let said = String::from_utf8_lossy(&first.stderr).into_owned();
    assert!(said.contains("of 1 trace"), "{said}");
    let grown = output(forktrace(&["rollup", "-o", path, path]).arg(trace("fork_tree")));
    let said = String::from_utf8_lossy(&grown.stderr).into_owned();
    assert!(said.contains("of 2 traces"), "{said}");
    let before = std::fs::read(path).expect("a file");
    let error = failure(forktrace(&["rollup", "-o", path, path]).arg(&sleepers));
    assert!(
        error.contains("already") && error.contains("sleepers"),
        "{error}"
    );
    assert_eq!(std::fs::read(path).expect("a file"), before);
    // A trace is not overwritten by chance.
    let copy = folder.path().join("copy.ft");
    std::fs::copy(&sleepers, &copy).expect("a copy");
    let error = failure(forktrace(&["rollup", path, "-o"]).arg(&copy));
    assert!(error.contains("is a trace"), "{error}");
}
