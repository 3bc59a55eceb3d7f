//! The documents: each command that they show is run, and what it prints is what they say.
//!
//! A block that begins with ```` ```console ```` is a session: after `$ ` a command, and below it
//! what it prints, where a line `…` stands for any number of lines. Commands are run
//! in `docs/samples`. What takes root (`sudo`) is run by the live tests; what it
//! printed is then that of a command in a comment above the block, `<!-- of: COMMAND -->`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Stands for lines that are not shown.
const LEFT_OUT: &str = "…";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All documents for users.
fn documents() -> Vec<PathBuf> {
    let folder = fs::read_dir(root().join("docs")).expect("docs");
    let files = folder.map(|entry| entry.expect("a file").path());
    let mut files: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|it| it == "md"))
        .collect();
    files.push(root().join("README.md"));
    files.sort();
    files
}

/// What a command prints, in the folder of the samples.
fn printed(command: &str) -> String {
    let programs = Path::new(env!("CARGO_BIN_EXE_forktrace"));
    let programs = programs.parent().expect("a folder").display();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1; {command}")])
        .current_dir(root().join("docs/samples"))
        .env("PATH", format!("{programs}:{path}"))
        .env("LC_ALL", "C.UTF-8")
        .env_remove("COLUMNS")
        .output()
        .expect("a shell");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A command of a document, and where what it prints stands: lines from and to.
struct Shown {
    command: String,
    /// The command whose output it is, if it is another.
    of: Option<String>,
    lines: (usize, usize),
}

fn shown(lines: &[&str]) -> Vec<Shown> {
    let mut found = Vec::new();
    let (mut of, mut inside) = (None, false);
    for (at, line) in lines.iter().enumerate() {
        match (inside, *line) {
            (false, "```console") => inside = true,
            (true, "```") => (inside, of) = (false, None),
            (false, line) => {
                let comment = line.strip_prefix("<!-- of: ");
                if let Some(command) = comment.and_then(|it| it.strip_suffix(" -->")) {
                    of = Some(command.to_owned());
                }
            }
            (true, line) => {
                if let Some(command) = line.strip_prefix("$ ") {
                    let end = |line: &&str| *line == "```" || line.starts_with("$ ");
                    let length = lines[at + 1..].iter().position(end).expect("an end");
                    found.push(Shown {
                        command: command.to_owned(),
                        of: of.clone(),
                        lines: (at + 1, at + 1 + length),
                    });
                }
            }
        }
    }
    found
}

/// What a command prints as the document shows it: lines that it leaves out stay so.
fn as_shown(shown: &[&str], printed: &str) -> Vec<String> {
    let printed: Vec<&str> = printed.lines().collect();
    let Some(left_out) = shown.iter().position(|line| line.trim() == LEFT_OUT) else {
        return printed.iter().map(|line| (*line).to_owned()).collect();
    };
    let begin = printed.iter().take(left_out);
    let end = (shown.len() - left_out - 1).min(printed.len());
    let end = &printed[printed.len() - end..];
    let lines = begin.chain([&shown[left_out]]).chain(end);
    lines.map(|line| (*line).to_owned()).collect()
}

#[test]
fn what_documents_show_is_what_commands_print() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut commands = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a document");
        let lines: Vec<&str> = text.lines().collect();
        let mut out: Vec<String> = Vec::new();
        let mut next = 0;
        for Shown {
            command,
            of,
            lines: (from, to),
        } in shown(&lines)
        {
            let run = of.as_deref().unwrap_or(&command);
            if run.starts_with("sudo ") {
                continue;
            }
            commands += 1;
            let printed = printed(run);
            let printed = match &of {
                // Where to look next depends on where the trace is.
                Some(_) => printed.split("Next: ").next().unwrap_or_default(),
                None => &printed,
            };
            out.extend(lines[next..from].iter().map(|line| (*line).to_owned()));
            let expected = as_shown(&lines[from..to], printed);
            assert!(
                update || expected == lines[from..to],
                "{}: `{command}` prints another thing; UPDATE_GOLDEN=1 takes it over:\n{printed}",
                document.display()
            );
            out.extend(expected);
            next = to;
        }
        if update && next > 0 {
            out.extend(lines[next..].iter().map(|line| (*line).to_owned()));
            fs::write(&document, out.join("\n") + "\n").expect("a document");
        }
    }
    assert!(commands > 10, "only {commands} commands were found");
}

#[test]
fn links_in_documents_lead_somewhere() {
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a document");
        let folder = document.parent().expect("a folder");
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().expect("an end");
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            if file.contains("://") {
                continue;
            }
            let target = match file {
                "" => document.clone(),
                file => folder.join(file),
            };
            assert!(target.exists(), "{}: {link}", document.display());
            if heading.is_empty() {
                continue;
            }
            let text = fs::read_to_string(&target).expect("a document");
            let anchors = text
                .lines()
                .filter(|line| line.starts_with('#'))
                .map(|line| {
                    let words = line.trim_start_matches('#').trim().to_lowercase();
                    let kept = words
                        .chars()
                        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
                    kept.collect::<String>().replace(' ', "-")
                });
            assert!(
                anchors.into_iter().any(|it| it == heading),
                "{}: {link}",
                document.display()
            );
        }
    }
}
