//! A virtual machine, and what came of booting it.

use std::{
    fmt, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::test::Counts;

const MEMORY_MB: &str = "2048";
const CPUS: &str = "2";
/// How long a guest may say nothing. A test that takes this long has been killed.
const LONGEST_SILENCE: Duration = Duration::from_secs(1200);

/// Software, since most machines that run this are virtual and can't nest. In one
/// thread: with a thread for each CPU, qemu before 8.1 goes on executing code that
/// another CPU has just patched. Attaching programs patches the kernel all the time,
/// and guests died of it ("Oops: int3").
const ACCELERATOR: &str = "tcg,thread=single";
/// What makes emulation slow and matters to no test: a fifth level of page tables,
/// what guards against other users of the CPU, and a clock that is read from a
/// device because the emulated CPU's own looks bad beside it.
const CPU: &str = "max,la57=off";
const KERNEL_OPTIONS: &str = "console=ttyS0 quiet panic=-1 oops=panic mitigations=off tsc=reliable";

/// A virtual machine.
pub(super) struct Guest<'a> {
    pub(super) qemu: &'a Path,
    pub(super) kernel: &'a Path,
    pub(super) initramfs: &'a Path,
    /// A folder for its console and for what the tests print.
    pub(super) logs: PathBuf,
}

impl Guest<'_> {
    /// Boots it and waits for its end; prints each live test as it goes. Fails only
    /// if qemu can't be started: what goes wrong inside is a result.
    pub(super) fn boot(&self) -> Result<Boot> {
        fs::create_dir_all(&self.logs)
            .with_context(|| format!("could not make {}", self.logs.display()))?;
        let [console, tests, errors] = ["console", "tests", "qemu"].map(|log| self.logs.join(log));
        for log in [&console, &tests] {
            fs::write(log, "").with_context(|| format!("could not write {}", log.display()))?;
        }
        let start = Instant::now();
        let mut qemu = Command::new(self.qemu)
            .args(["-machine", "q35", "-cpu", CPU])
            .args(["-accel", ACCELERATOR])
            .args(["-smp", CPUS, "-m", MEMORY_MB])
            .args(["-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-display", "none", "-monitor", "none"])
            .args(["-serial", &format!("file:{}", console.display())])
            .args(["-serial", &format!("file:{}", tests.display())])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initramfs)
            .args(["-append", KERNEL_OPTIONS])
            .stdin(Stdio::null())
            .stderr(fs::File::create(&errors)?)
            .spawn()
            .with_context(|| format!("could not start {}", self.qemu.display()))?;

        let log = || format!("could not read {}", tests.display());
        let mut reader = BufReader::new(fs::File::open(&tests).with_context(log)?);
        let mut boot = Boot::default();
        let mut line = Vec::new();
        let mut last_word = Instant::now();
        let exit = loop {
            // Before the log is read: what it then holds is all.
            let exit = qemu.try_wait().context("could not wait for qemu")?;
            // The last line can be half there.
            while reader.read_until(b'\n', &mut line).with_context(log)? > 0 {
                last_word = Instant::now();
                if line.ends_with(b"\n") {
                    print!("{}", boot.add_line(&String::from_utf8_lossy(&line)));
                    std::io::stdout().flush().context("could not print")?;
                    line.clear();
                }
            }
            if exit.is_some() {
                break exit;
            }
            if last_word.elapsed() > LONGEST_SILENCE {
                qemu.kill().context("could not stop qemu")?;
                qemu.wait().context("could not wait for qemu")?;
                break None;
            }
            thread::sleep(Duration::from_millis(50));
        };
        print!("{}", boot.end());
        boot.elapsed = start.elapsed();
        // A guest that panics makes qemu exit with 0 all the same; an exit
        // with something else is qemu's own failure, and worth its words.
        boot.trouble = match exit {
            None => Some(format!(
                "stopped after {} s without a word",
                LONGEST_SILENCE.as_secs()
            )),
            Some(status) if !status.success() => {
                let words = fs::read_to_string(&errors).unwrap_or_default();
                Some(format!("qemu: {status}: {}", words.trim()))
            }
            Some(_) => None,
        };
        Ok(boot)
    }
}

/// What came of booting a guest.
#[derive(Default)]
pub(super) struct Boot {
    /// Its kernel's release; none if it never spoke.
    pub(super) kernel: Option<String>,
    /// What test.sh returned; none if it did not get that far.
    exit: Option<i32>,
    pub(super) counts: Counts,
    /// The tests that failed, each with how it ended.
    pub(super) failures: Vec<String>,
    /// How many tests live.sh will run, and how many it has begun.
    tests: usize,
    begun: usize,
    /// The test that runs, and the counts before it.
    test: Option<(String, [usize; 2])>,
    /// What is known if it did not end by itself.
    trouble: Option<String>,
    elapsed: Duration,
}

impl Boot {
    /// Takes in a line that the guest printed on its second serial line. Gives what
    /// there is to print: the name of a test that begins, how one ended.
    fn add_line(&mut self, line: &str) -> String {
        let line = line.trim_end();
        let Some((word, rest)) = line
            .strip_prefix("GUEST-")
            .and_then(|line| line.split_once(' '))
        else {
            self.counts.add_line(line);
            return String::new();
        };
        match word {
            "KERNEL" => self.kernel = Some(rest.to_owned()),
            "EXIT" => self.exit = rest.parse().ok(),
            "TESTS" => self.tests = rest.parse().unwrap_or(0),
            "TEST" => {
                self.begun += 1;
                self.test = Some((rest.to_owned(), self.failed_and_skipped()));
                return format!("  {}/{} {rest} … ", self.begun, self.tests);
            }
            "RESULT" => {
                let (status, seconds) = rest.split_once(' ').unwrap_or((rest, "?"));
                return self.end_test(&format!("exit status {status}, {seconds} s"));
            }
            _ => {}
        }
        String::new()
    }

    fn failed_and_skipped(&self) -> [usize; 2] {
        [self.counts.failed, self.counts.skipped]
    }

    /// Takes in that the test that runs has ended, if one does.
    fn end_test(&mut self, how: &str) -> String {
        self.counts.end_of_output();
        let Some((test, before)) = self.test.take() else {
            return String::new();
        };
        let [failed, skipped] = self.failed_and_skipped();
        let word = if failed > before[0] {
            self.failures.push(format!("FAILED {test}: {how}"));
            "FAILED"
        } else if skipped > before[1] {
            "skipped, or a part of it"
        } else {
            "ok"
        };
        format!("{word} ({how})\n")
    }

    /// Takes in that the guest is gone.
    fn end(&mut self) -> String {
        self.end_test("the guest ended before it did")
    }

    /// Whether test.sh ran to a good end, with at least so many tests passed.
    pub(super) fn passed(&self, least: usize) -> bool {
        self.exit == Some(0) && self.counts.failed == 0 && self.counts.passed >= least
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernel = self.kernel.as_deref().unwrap_or("kernel unknown");
        let seconds = self.elapsed.as_secs_f64();
        write!(f, "{}, {kernel}, {seconds:.1} s", self.counts.line())?;
        match (&self.trouble, self.exit) {
            (Some(trouble), _) => write!(f, ", {trouble}"),
            (None, None) => write!(f, ", ended before its tests did"),
            (None, Some(0)) => Ok(()),
            (None, Some(exit)) => write!(f, ", exit status {exit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(log: &str) -> Boot {
        let mut boot = Boot::default();
        for line in log.lines() {
            boot.add_line(line);
        }
        boot.end();
        boot
    }

    #[test]
    fn a_boot_passes_only_with_tests_and_a_clean_end() {
        let tests = "GUEST-KERNEL 6.12.43\r\nrunning 2 tests\r\ntest a ... ok\r\ntest b ... ok\r\n\
                     test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured\r\n";
        let boot = read(&format!("{tests}GUEST-EXIT 0\r\n"));
        assert!(boot.passed(1));
        assert_eq!(
            boot.to_string(),
            "2 passed, 0 failed, 0 skipped, 6.12.43, 0.0 s"
        );

        assert!(!read(tests).passed(1));
        assert!(!read(&format!("{tests}GUEST-EXIT 101\n")).passed(1));
        let silent = read("GUEST-KERNEL 6.12.43\nGUEST-EXIT 0\n");
        assert!(silent.passed(0) && !silent.passed(1));
        assert!(read("").kernel.is_none());
    }

    /// What a test prints that runs in a process of its own.
    fn one(test: &str, result: &str, output: &str, counts: &str) -> String {
        format!(
            "GUEST-TEST {test}\r\n\r\nrunning 1 test\r\ntest {test} ... {result}\r\n{output}\
             test result: ok. {counts}; 0 ignored; 0 measured; 159 filtered out\r\n\r\n"
        )
    }

    #[test]
    fn each_test_is_named_and_one_that_is_killed_has_failed() {
        let good = one("a::good", "ok", "", "1 passed; 0 failed");
        let skip = one(
            "a::b",
            "ok",
            "SKIP b: there is no perf\r\n",
            "1 passed; 0 failed",
        );
        let bad = one("c::bad", "FAILED", "", "0 passed; 1 failed");
        let killed = "GUEST-TEST stuck\r\n\r\nrunning 1 test\r\ntest stuck ... Killed\r\n\r\n";
        let log = format!(
            "GUEST-KERNEL 6.1\r\nGUEST-TESTS 5\r\n{good}GUEST-RESULT 0 3\r\n{skip}GUEST-RESULT 0 1\r\n\
             {bad}GUEST-RESULT 101 4\r\n{killed}GUEST-RESULT 137 900\r\nGUEST-TEST last\r\n\
             running 1 test\r\ntest last ... "
        );
        let boot = read(&log);
        assert_eq!(boot.counts.line(), "1 passed, 3 failed, 1 skipped");
        assert_eq!(
            boot.failures,
            [
                "FAILED c::bad: exit status 101, 4 s",
                "FAILED stuck: exit status 137, 900 s",
                "FAILED last: the guest ended before it did",
            ]
        );
        assert!(!boot.passed(1));
    }

    #[test]
    fn progress_is_a_line_a_test() {
        let mut boot = Boot::default();
        let log = format!(
            "GUEST-TESTS 160\n{}GUEST-RESULT 0 3\n",
            one("a::good", "ok", "", "1 passed; 0 failed")
        );
        let printed: String = log.lines().map(|line| boot.add_line(line)).collect();
        assert_eq!(printed, "  1/160 a::good … ok (exit status 0, 3 s)\n");
    }
}
