//! Why a command can't be found, and what to write instead.

use std::{fs::OpenOptions, io::Read as _, os::unix::fs::OpenOptionsExt as _};

use crate::procfs::text::on_one_line;

/// What a shell does itself, and no program does (those of POSIX that have none).
const BUILTINS: [&str; 17] = [
    "cd", "source", ".", "export", "set", "unset", "alias", "eval", "exec", "exit", "return",
    "shift", "trap", "ulimit", "umask", "type", "function",
];

/// A sentence for people on a command that the kernel did not find.
pub(super) fn why(command: &str) -> String {
    // No sentence of ours has a line's end, or acts on a terminal: what does is of the name.
    on_one_line(&why_said(command))
}

fn why_said(command: &str) -> String {
    if BUILTINS.contains(&command) {
        return format!(
            "{command} is a part of the shell and no command: sh -c '{command} …' runs it"
        );
    }
    let has_blank = command.trim().contains(char::is_whitespace);
    let is_for_a_shell = command.contains(['|', '&', ';', '<', '>', '$', '*', '`']);
    if (has_blank || is_for_a_shell) && std::fs::symlink_metadata(command).is_err() {
        return match is_for_a_shell {
            true => format!(
                "{command}: no such command; this looks like a line for a shell: sh -c '{}'",
                command.replace('\'', "'\\\\''")
            ),
            false => format!(
                "{command}: no such command; this looks like a whole command line in quotes: \
                 leave them out"
            ),
        };
    }
    if !command.contains('/') {
        return format!(
            "{command}: no such command in PATH; under sudo PATH may be another than yours: \
             give the whole path, as `command -v {command}` prints it"
        );
    }
    if std::fs::metadata(command).is_err() {
        return format!("{command}: there is no such file");
    }
    match interpreter(command) {
        Some(interpreter) if interpreter.ends_with('\r') => format!(
            "{command}: its first line ends in a carriage return, so its interpreter {interpreter} \
             is not found; sed -i 's/\\r$//' {command} takes them away"
        ),
        Some(interpreter) => format!(
            "{command}: it is there, but its interpreter {interpreter} (in its first line) is not"
        ),
        None => format!(
            "{command}: it is there, but the loader that it needs is not; `file {command}` names it"
        ),
    }
}

/// What the first line of a script names.
fn interpreter(script: &str) -> Option<String> {
    let file = OpenOptions::new()
        .read(true)
        // A named pipe is no script, and would keep us.
        .custom_flags(libc::O_NONBLOCK)
        .open(script)
        .ok()
        .filter(|file| file.metadata().is_ok_and(|it| it.is_file()))?;
    let mut begin = Vec::new();
    // What the kernel reads: BINPRM_BUF_SIZE, include/uapi/linux/binfmts.h.
    file.take(256).read_to_end(&mut begin).ok()?;
    let line = begin.strip_prefix(b"#!")?.split(|&c| c == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let line = line.trim_matches([' ', '\t']);
    let end = line.find([' ', '\t']).unwrap_or(line.len());
    Some(line[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_command_is_told_apart() {
        for (command, says) in [
            ("cd", "a part of the shell"),
            ("sleep 0.1", "leave them out"),
            ("ls|wc", "sh -c 'ls|wc'"),
            ("echo $HOME", "sh -c 'echo $HOME'"),
            ("nosuch", "no such command in PATH"),
            ("./nosuch", "there is no such file"),
            ("./nosuch\x1b", "./nosuch\\x1b: there is no such file"),
            ("no\nsuch", "no\\nsuch: no such command"),
        ] {
            let why = why(command);
            assert!(why.contains(says), "{why}");
        }
    }

    #[test]
    fn the_interpreter_of_a_script_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let script = folder.path().join("script");
        let of = |text: &str| {
            std::fs::write(&script, text).expect("a file");
            why(script.to_str().expect("UTF-8"))
        };
        assert!(
            of("#! /no/such -x\n").contains("its interpreter /no/such (in"),
            "{}",
            of("#! /no/such -x\n")
        );
        assert!(of("#!/bin/sh\r\n").contains("carriage return"));
        assert!(of("\x7fELF").contains("the loader that it needs"));
    }
}
