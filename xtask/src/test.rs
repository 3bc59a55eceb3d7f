//! `cargo xtask test`: all tests of the workspace, with a closing line that
//! counts them.
//!
//! Live tests trace the real kernel: they need root, and each would see the
//! load of the others. They are the test binaries whose name starts with
//! `live`. Cargo is told to start every test binary through
//! `xtask run-test-binary`, which gives those root and one thread.

use std::{
    env,
    ffi::OsString,
    fmt,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::util::{cargo, find_program, is_root, show};

/// Runs the tests and prints their counts last. Gives whether all passed.
///
/// What follows a `--` among the arguments is for the test binaries.
pub(crate) fn run(arguments: &[OsString]) -> Result<bool> {
    let (counts, passed) = run_all(arguments)?;
    print!("{counts}");
    Ok(passed)
}

/// Runs the tests, and gives their counts and whether all passed. Fails when
/// no test ran.
pub(crate) fn run_all(arguments: &[OsString]) -> Result<(Counts, bool)> {
    let mut command = cargo()?;
    command
        .args([
            "test",
            "--workspace",
            "--no-fail-fast",
            "--config",
            &runner()?,
        ])
        .args(arguments);
    let has = |word| arguments.iter().any(|argument| argument == word);
    if !has("--") {
        command.arg("--");
    }
    // A test that skips itself passes, and libtest would keep what it printed.
    if !has("--show-output") {
        command.arg("--show-output");
    }

    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start `{}`", show(&command)))?;
    let mut counts = Counts::default();
    let output = child.stdout.take().context("cargo has no output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("could not read the output of cargo test")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        counts.add_line(&line);
    }
    counts.end_of_output();
    let status = child.wait().context("could not wait for cargo test")?;
    if counts == Counts::default() {
        bail!("cargo test ran no test: {status}");
    }
    let passed = status.success() && counts.failed == 0;
    if !passed && counts.failed == 0 {
        // For instance a documentation test that does not build.
        eprintln!("error: cargo test failed: {status}");
        counts.failed = 1;
    }
    Ok((counts, passed))
}

/// The setting that makes cargo start test binaries through us.
fn runner() -> Result<String> {
    let own = env::current_exe().context("could not find the path of xtask itself")?;
    let own = own.to_str().context("the path of xtask is not UTF-8")?;
    // JSON writes strings as TOML does.
    let words = serde_json::to_string(&[own, "run-test-binary"])?;
    Ok(format!("target.'cfg(all())'.runner={words}"))
}

/// Runs one test binary, a live one on one thread and as root. Returns only if
/// it could not be started, or had to be skipped.
pub(crate) fn run_binary(binary: &Path, arguments: &[OsString]) -> Result<bool> {
    const THREADS: &str = "RUST_TEST_THREADS";
    let name = binary.file_name().unwrap_or_default().to_string_lossy();
    let live = name.starts_with("live");
    let mut command = if live && !is_root() {
        if find_program("sudo").is_none() {
            // Cargo put a hash behind the name.
            let test = name.rsplit_once('-').map_or(&*name, |(test, _)| test);
            println!("SKIP {test}: needs root, and there is no sudo");
            return Ok(true);
        }
        // sudo clears the environment.
        let mut sudo = Command::new("sudo");
        sudo.args(["env", &format!("{THREADS}=1")]).arg(binary);
        sudo
    } else {
        Command::new(binary)
    };
    if live {
        command.env(THREADS, "1");
    }
    let error = command.args(arguments).exec();
    Err(error).with_context(|| format!("could not start {}", binary.display()))
}

/// The results of tests, read from what they print.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    /// What was skipped and why, each as it was printed.
    pub(crate) skips: Vec<String>,
    /// The tests that libtest calls passed, in the binary being read.
    passed_here: Vec<String>,
    /// The tests that say they skipped themselves, in the binary being read.
    skipped_here: Vec<String>,
    /// Whether a binary has announced its tests and not yet their result.
    running: bool,
}

impl Counts {
    /// Takes in one line of the output of a test binary. Lines of other forms
    /// are passed over.
    pub(crate) fn add_line(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(skip) = line.strip_prefix("SKIP ") {
            if let Some((test, _)) = skip.split_once(": ")
                && !self.skips.iter().any(|seen| seen == line)
            {
                self.skipped += 1;
                self.skips.push(line.to_owned());
                self.skipped_here.push(test.to_owned());
            }
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.add_result(result);
        } else if let Some(test) = line.strip_prefix("test ") {
            match test.split_once(" ... ") {
                Some((test, "ok")) => self.passed_here.push(test.to_owned()),
                // With `--nocapture`; its `ok` follows on a line of its own.
                Some((test, skip)) if skip.starts_with("SKIP ") => {
                    self.passed_here.push(test.to_owned());
                    self.add_line(skip);
                }
                _ => {}
            }
        } else if line.starts_with("running ") && line.trim_end_matches('s').ends_with(" test") {
            self.end_of_output();
            self.running = true;
        }
    }

    /// Takes in that nothing more comes. A binary that announced its tests and
    /// then died before their result counts as one failure.
    pub(crate) fn end_of_output(&mut self) {
        if self.running {
            self.failed += 1;
        }
        self.running = false;
        self.passed_here.clear();
        self.skipped_here.clear();
    }

    /// `ok. 3 passed; 0 failed; 1 ignored; 0 measured; …`
    fn add_result(&mut self, result: &str) {
        let number = |of: &str| {
            result
                .split([';', '.'])
                .find_map(|part| {
                    part.trim()
                        .strip_suffix(of)?
                        .trim_end()
                        .parse::<usize>()
                        .ok()
                })
                .unwrap_or(0)
        };
        self.passed += number("passed");
        self.failed += number("failed");
        self.skipped += number("ignored");
        // libtest has counted as passed what skipped itself.
        for skip in &self.skipped_here {
            let same = |test: &String| test.rsplit("::").next() == Some(skip) || test == skip;
            if let Some(at) = self.passed_here.iter().position(same) {
                self.passed_here.swap_remove(at);
                self.passed -= 1;
            }
        }
        self.running = false;
        self.end_of_output();
    }

    /// Just the counts, as the closing line has them.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// What was skipped, a line each, and the closing line.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for skip in &self.skips {
            writeln!(f, "{skip}")?;
        }
        writeln!(f, "{}", self.line())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(output: &str) -> Counts {
        let mut counts = Counts::default();
        for line in output.lines() {
            counts.add_line(line);
        }
        counts.end_of_output();
        counts
    }

    #[test]
    fn results_add_up_and_ignored_is_skipped() {
        let counts = count(
            "running 3 tests\ntest a::b ... ok\ntest c ... ignored\ntest d ... FAILED\n\
             test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; \
             finished in 0.01s\n\n\
             running 1 test\ntest e ... ok\n\
             test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out\n",
        );
        assert_eq!(counts.line(), "2 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn a_test_that_skips_itself_has_not_passed() {
        let counts = count(
            "running 2 tests\ntest one ... ok\ntest deep::two ... ok\n\n\
             ---- deep::two stdout ----\nSKIP two: no redis-server here\n\
             test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(
            counts.to_string(),
            "SKIP two: no redis-server here\n1 passed, 0 failed, 1 skipped\n"
        );
    }

    #[test]
    fn a_skip_is_seen_without_capture() {
        let counts = count(
            "running 1 test\ntest two ... SKIP two: no redis-server here\nok\n\n\
             test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(counts.line(), "0 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn a_part_of_a_test_is_skipped_beside_it() {
        let counts = count(
            "running 1 test\ntest one ... ok\nSKIP one/fentry: refused here\n\
             SKIP one/fentry: refused here\n\
             test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(counts.line(), "1 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn a_binary_that_dies_has_failed() {
        let died = "running 2 tests\ntest one ... ok\n";
        assert_eq!(count(died).line(), "0 passed, 1 failed, 0 skipped");
        let then = "running 0 tests\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured\n";
        assert_eq!(count(&format!("{died}{then}")).failed, 1);
    }

    #[test]
    fn other_lines_count_for_nothing() {
        let counts = count("SKIP\nSKIP no reason\nrunning late\ntest of a rope\n     Running x\n");
        assert_eq!(counts, Counts::default());
    }
}
