//! `cargo xtask test`: all tests of the workspace, with a closing line that
//! counts them.
//!
//! Live tests trace the real kernel: they need root, and each would see the
//! load of the others. They are the test binaries whose name starts with
//! `live`. Cargo is told to start every test binary through
//! `xtask run-test-binary`, which gives those root and one thread.
//!
//! They also share the machine with whatever else runs there, and a test that took
//! something for granted about that fails once in a hundred runs. So one that failed
//! runs again, [`REPEATS`] times, and has to pass each time. Then it is listed as
//! unsteady instead of failed: what it printed is there, to be looked into.

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

use crate::{
    own_root,
    util::{WHOLE, cargo, find_program, is_root, show},
};

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
        .arg("test")
        .args(WHOLE)
        .args(["--no-fail-fast", "--config", &runner()?])
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
    if status.success() {
        let passed = counts.repeats <= MOST_REPEATS;
        return Ok((counts, passed));
    }
    if counts.failed == 0 {
        // For instance a documentation test that does not build.
        eprintln!("error: cargo test failed: {status}");
        counts.failed = 1;
    } else if counts.all_failures_are_named()
        && counts.failed <= UNSTEADY
        && pass_again(&counts.failures)?
    {
        counts.failures_were_unsteady();
    }
    let passed = counts.failed == 0 && counts.repeats <= MOST_REPEATS;
    Ok((counts, passed))
}

/// The tests of the real kernel and of real programs: what these do in their own time can't
/// all be constructed. The others are deterministic, and are never run again.
const REAL: [&str; 2] = ["live*", "tools"];

/// How often a test of [`REAL`] that failed has to pass after that.
const REPEATS: usize = 2;

/// So many runs of live tests may be made again, over the whole suite, because the machine
/// spoilt them. A fault of forktrace that shows in one run of three would hide there.
const MOST_REPEATS: usize = 60;

/// More failures than this in one run are not worth repeating.
const UNSTEADY: usize = 3;

/// Characters of what a test says when it panics that are repeated at the end.
const PANIC_CHARS: usize = 400;

/// Runs these tests again, as ones of [`REAL`], and gives whether all of them are such tests
/// that pass each time, and the documentation's tests build and pass: those can fail
/// without a name.
fn pass_again(tests: &[String]) -> Result<bool> {
    for _ in 0..REPEATS {
        println!("== once more: {}", tests.join(", "));
        let output = cargo()?
            .arg("test")
            .args(WHOLE)
            .arg("--config")
            .arg(runner()?)
            .args(REAL.iter().flat_map(|target| ["--test", target]))
            .args(["--", "--show-output", "--exact"])
            .args(tests)
            .stderr(Stdio::inherit())
            .output()
            .context("could not start cargo test")?;
        let text = String::from_utf8_lossy(&output.stdout);
        println!("{text}");
        let mut counts = Counts::default();
        for line in text.lines() {
            counts.add_line(line);
        }
        counts.end_of_output();
        if !output.status.success() || counts.passed != tests.len() {
            return Ok(false);
        }
    }
    let status = cargo()?
        .arg("test")
        .args(WHOLE)
        .arg("--doc")
        .status()
        .context("could not start cargo test")?;
    Ok(status.success())
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
        let own = env::current_exe().context("could not find the path of xtask itself")?;
        let mut sudo = Command::new("sudo");
        sudo.arg(own).arg("run-test-binary").arg(binary);
        sudo
    } else {
        Command::new(binary)
    };
    if live && is_root() {
        own_root::enter()?;
        command = Command::new("env");
        // Whoever started us in the background may have had these ignored, and so would the
        // workloads; what sudo says of its caller, those tests say that are about it.
        command.arg("--default-signal=HUP,INT,QUIT");
        for variable in ["SUDO_UID", "SUDO_GID", "SUDO_USER", "SUDO_COMMAND"] {
            command.args(["-u", variable]);
        }
        command.arg(binary).env(THREADS, "1");
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
    /// The names of tests that failed.
    failures: Vec<String>,
    /// Tests that failed and passed when they were repeated: they are among the passed.
    unsteady: Vec<String>,
    /// Whether a list of the tests that failed is being read.
    in_failures: bool,
    /// Tests that panicked, where, and what they said first.
    panics: Vec<(String, String)>,
    /// Whether the next line is what a test says that panicked.
    in_panic: bool,
    /// Runs that the machine spoilt and that were made again.
    pub(crate) repeats: usize,
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
        if self.in_panic
            && let Some((_, said)) = self.panics.last_mut()
        {
            said.extend(line.chars().take(PANIC_CHARS));
        }
        self.in_panic = false;
        if let Some(panic) = line.strip_prefix("thread '")
            && let Some((test, place)) = panic.split_once("' ")
            && let Some((_, place)) = place.split_once("panicked at ")
        {
            self.panics.push((test.to_owned(), format!("{place} ")));
            self.in_panic = true;
        }
        if self.in_failures
            && let Some(test) = line.strip_prefix("    ")
        {
            return self.failures.push(test.to_owned());
        }
        self.in_failures = line == "failures:";
        if line.starts_with("AGAIN: ") {
            self.repeats += 1;
        }
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

    /// Whether the names of all tests that failed are known, which they are not when a
    /// binary died.
    fn all_failures_are_named(&self) -> bool {
        self.failures.len() == self.failed
    }

    fn failures_were_unsteady(&mut self) {
        self.unsteady = std::mem::take(&mut self.failures);
        self.passed += self.failed;
        self.failed = 0;
    }

    /// What a test said when it panicked last.
    fn panic_of(&self, test: &str) -> &str {
        let panics = self.panics.iter().rev();
        let mut of_test = panics.filter(|(panicked, _)| panicked == test);
        of_test.next().map_or("see above", |(_, said)| said)
    }

    /// Just the counts, as the closing line has them.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// What was skipped, unsteady or failed, a line each, and the closing line.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for test in &self.unsteady {
            let why = self.panic_of(test);
            writeln!(f, "UNSTEADY {test}: passed {REPEATS} times after {why}")?;
        }
        for test in &self.failures {
            writeln!(f, "FAILED {test}: {}", self.panic_of(test))?;
        }
        if self.failed > UNSTEADY {
            writeln!(
                f,
                "NOT REPEATED: {} tests failed, and not more than {UNSTEADY} are tried again",
                self.failed
            )?;
        }
        for skip in &self.skips {
            writeln!(f, "{skip}")?;
        }
        if self.repeats > 0 {
            let verdict = if self.repeats > MOST_REPEATS {
                ": too many, so this run does not pass"
            } else {
                ""
            };
            writeln!(
                f,
                "SPOILT: {} runs were made again, of {MOST_REPEATS} at most{verdict}",
                self.repeats
            )?;
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
    fn runs_that_were_made_again_are_counted_and_too_many_are_said() {
        let again = "AGAIN: the machine spoilt it, see above\n";
        assert_eq!(count(again).repeats, 1);
        assert!(count(again).to_string().starts_with("SPOILT: 1 runs"));
        let many = count(&again.repeat(MOST_REPEATS + 1)).to_string();
        assert!(
            many.contains("too many, so this run does not pass"),
            "{many}"
        );
        assert!(!count("").to_string().contains("SPOILT"));
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
    fn failures_have_names() {
        let mut counts = count(
            "running 2 tests\ntest a::one ... FAILED\ntest two ... ok\n\nfailures:\n\n\
             ---- a::one stdout ----\n    indented by the test\n\n\
             thread 'a::one' (7) panicked at a.rs:1:2:\nno more\n  left: 1\n\nfailures:\n    a::one\n\n\
             test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(counts.failures, ["a::one"]);
        assert!(counts.all_failures_are_named());
        let all = counts.to_string();
        assert!(
            all.starts_with("FAILED a::one: a.rs:1:2: no more\n"),
            "{all}"
        );
        counts.failures_were_unsteady();
        assert_eq!(
            counts.to_string(),
            "UNSTEADY a::one: passed 2 times after a.rs:1:2: no more\n\
             2 passed, 0 failed, 0 skipped\n"
        );
    }

    #[test]
    fn many_failures_say_that_none_was_tried_again() {
        let failed = |tests: usize| {
            let result = format!("test result: FAILED. 0 passed; {tests} failed; 0 ignored;\n");
            count(&result).to_string()
        };
        assert!(!failed(UNSTEADY).contains("NOT REPEATED"));
        assert_eq!(
            failed(UNSTEADY + 1),
            "NOT REPEATED: 4 tests failed, and not more than 3 are tried again\n\
             0 passed, 4 failed, 0 skipped\n"
        );
    }

    #[test]
    fn a_binary_that_dies_names_no_failure() {
        assert!(!count("running 2 tests\ntest one ... ok\n").all_failures_are_named());
    }

    #[test]
    fn other_lines_count_for_nothing() {
        let counts = count("SKIP\nSKIP no reason\nrunning late\ntest of a rope\n     Running x\n");
        assert_eq!(counts, Counts::default());
    }
}
