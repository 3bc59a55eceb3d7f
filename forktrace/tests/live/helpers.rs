//! What the workload does to whoever looks things up stops no recording.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, mkfifo},
};

use crate::support::{
    Finished, Report, Wait, check_complete, forktrace, id, lacks, run, skip, too_busy, unspoilt,
};

/// Shorter than any wait for a helper, and much longer than anything else takes.
const SOON: Duration = Duration::from_secs(30);

fn compiled(folder: &Path, source: &str, options: &[&str], name: &str) -> PathBuf {
    let (text, program) = (folder.join(format!("{name}.cpp")), folder.join(name));
    fs::write(&text, source).expect("a file");
    let mut compiler = Command::new("g++");
    let compiler = compiler.args(options).arg("-o").args([&program, &text]);
    let output = compiler.args(["-pthread", "-ldl"]).output();
    let output = output.expect("g++ starts");
    assert!(output.status.success(), "{output:?}");
    program
}

fn program(folder: &Path) -> PathBuf {
    // Others than root are to reach it.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).expect("it is ours");
    let options = ["-O1", "-fno-omit-frame-pointer", "-static-libstdc++"];
    compiled(folder, include_str!("helpers.cpp"), &options, "helpers")
}

fn weakness(report: &Report, kind: &str) -> u64 {
    let found = report.audit.weaknesses.iter().find(|it| it.kind == kind);
    found.map_or(0, |it| it.count)
}

/// Nothing but names may be missing.
#[track_caller]
fn whole(finished: &Finished) {
    assert!(finished.status.success(), "{}", finished.stderr);
    let audit = &finished.report().audit;
    assert_eq!(audit.lost_records, 0, "{audit:?}");
}

/// Traces a file system that does not answer; `None` where there can be none.
#[track_caller]
fn stuck(test: &str, workload: &str) -> Option<Finished> {
    if !Path::new("/dev/fuse").exists() {
        skip(test, "there is no /dev/fuse");
        return None;
    }
    Some(run().workload(workload).finish())
}

#[test]
fn a_file_system_that_does_not_answer_is_no_obstacle() {
    unspoilt(|| {
        let test = "a_file_system_that_does_not_answer_is_no_obstacle";
        let Some(finished) = stuck(test, "stuck-file --on read --seconds 2") else {
            return;
        };
        assert!(finished.status.success(), "{}", finished.stderr);
        check_complete(finished.report());
        // What a descriptor is can be told without the server.
        let task = finished
            .report()
            .task(finished.truth()["tid"].as_u64().unwrap_or(0) as u32);
        let named = task
            .waits
            .iter()
            .any(|wait| format!("{wait:?}").contains("/file"));
        assert!(named, "{:?}", task.waits);
    });
}

/// Nor does one in which a file is being opened, so that there is no descriptor yet.
#[test]
fn a_file_that_can_not_be_opened_for_good_is_no_obstacle() {
    unspoilt(|| {
        let test = "a_file_that_can_not_be_opened_for_good_is_no_obstacle";
        let Some(finished) = stuck(test, "stuck-file --on open --seconds 2") else {
            return;
        };
        assert!(finished.status.success(), "{}", finished.stderr);
        check_complete(finished.report());
        let tid = id(&finished.truth()["tid"]);
        // It slept before the two seconds began, until they were over.
        let waits = &finished.report().task(tid).waits;
        let in_open = |wait: &&Wait| wait.syscall.as_deref() == Some("openat");
        let waited = waits.iter().find(in_open);
        assert!(
            waited.is_some_and(|it| it.longest_ns >= 2_000_000_000),
            "{waits:?}"
        );
    });
}

#[test]
fn a_page_that_never_comes_costs_the_look_for_deadlocks_only() {
    unspoilt(|| {
        let test = "a_page_that_never_comes_costs_the_look_for_deadlocks_only";
        let Some(finished) = stuck(test, "stuck-file --on lock --seconds 10") else {
            return;
        };
        whole(&finished);
        let lost = weakness(finished.report(), "look_ups_lost");
        assert!((1..=3).contains(&lost), "{:?}", finished.report().audit);
        assert!(finished.report().deadlocks.is_empty());
    });
}

#[test]
fn who_ends_a_recording_does_not_wait_for_a_page_that_never_comes() {
    if !Path::new("/dev/fuse").exists() {
        let test = "who_ends_a_recording_does_not_wait_for_a_page_that_never_comes";
        return skip(test, "there is no /dev/fuse");
    }
    // It stays when it is told to end, and ends by itself: its own file system could not be
    // given up by a process that is killed.
    let script = "trap '' TERM; exec \"$FORKTRACE\" workload stuck-file --on lock --seconds 25";
    let mut running = run().shell(script).start();
    // The look has begun when it hangs: the helper is in the kernel for good.
    let pid = running.pid().to_string();
    let hangs = || {
        let helpers = children(&pid).into_iter().flat_map(|it| children(&it));
        let wchan = |it: String| fs::read_to_string(format!("/proc/{it}/wchan"));
        let mut wchans = helpers.filter(|it| is_ours(it)).flat_map(wchan);
        wchans.any(|it| {
            ["fuse", "folio", "filemap"]
                .iter()
                .any(|word| it.contains(word))
        })
    };
    let begun = Instant::now();
    while !hangs() {
        assert!(begun.elapsed() < SOON, "{}", running.stderr());
        std::thread::sleep(Duration::from_millis(20));
    }
    let begun = Instant::now();
    // Two that are not answered yet are one.
    while !running.has_ended() {
        kill(Pid::from_raw(running.pid() as i32), Signal::SIGTERM).expect("it runs");
        std::thread::sleep(Duration::from_millis(300));
    }
    let finished = running.finish();
    assert!(begun.elapsed() < SOON / 3, "{:?}", begun.elapsed());
    let audit = &finished.report().audit;
    assert_eq!(audit.lost_records, 0, "{audit:?}");
}

#[test]
fn a_library_that_is_cut_short_ends_no_recording() {
    unspoilt(|| {
        if lacks("a_library_that_is_cut_short_ends_no_recording", &["g++"]) {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let program = program(folder.path());
        let options = ["-g", "-O1", "-shared", "-fPIC", "-fno-omit-frame-pointer"];
        let source = include_str!("helpers_library.cpp");
        let library = compiled(folder.path(), source, &options, "big.so");
        let words = [Path::new("cut"), &library, folder.path(), Path::new("150")];
        let run = run().json().args(["--stacks", "--"]);
        let finished = run.args([&program]).args(words).finish();
        whole(&finished);
        // Whoever read it lives: it costs the names of some stacks.
        let weaknesses = &finished.report().audit.weaknesses;
        let lost = weaknesses.iter().find(|it| it.kind == "look_ups_lost");
        if let Some(lost) = lost {
            assert!(!lost.text.contains("SIGBUS"), "{}", lost.text);
        }
    });
}

/// The section that says where to find the rest of a program's symbols.
#[test]
fn nothing_is_opened_because_a_program_says_so() {
    unspoilt(|| {
        if lacks(
            "nothing_is_opened_because_a_program_says_so",
            &["g++", "objcopy"],
        ) {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let program = program(folder.path());
        let fifo = folder.path().join("fifo");
        mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).expect("a FIFO");
        let mut link = fifo.to_str().expect("UTF-8").as_bytes().to_vec();
        link.push(0);
        link.resize(link.len().next_multiple_of(4), 0);
        link.extend([1, 0, 0, 0]);
        let section = folder.path().join("link");
        fs::write(&section, link).expect("a file");
        let linked = folder.path().join("linked");
        add_sections(&program, &linked, &[".gnu_debuglink"], &section);
        let begun = Instant::now();
        let run = run().json().args(["--stacks", "--"]);
        whole(&run.args([linked]).finish());
        assert!(begun.elapsed() < SOON);
    });
}

fn add_sections(from: &Path, to: &Path, names: &[&str], content: &Path) {
    let mut objcopy = Command::new("objcopy");
    for name in names {
        objcopy.args(["--remove-section", name, "--add-section"]);
        objcopy.arg(format!("{name}={}", content.display()));
    }
    let status = objcopy.args([from, to]).status().expect("objcopy starts");
    assert!(status.success());
}

/// A section that says that it is a petabyte when it is unpacked.
#[test]
fn nothing_is_unpacked_because_a_program_says_so() {
    unspoilt(|| {
        if lacks(
            "nothing_is_unpacked_because_a_program_says_so",
            &["g++", "objcopy"],
        ) {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let program = program(folder.path());
        // struct Elf64_Chdr: zlib, reserved, size, alignment.
        let mut packed = [1_u32, 0].map(u32::to_ne_bytes).concat();
        packed.extend([1_u64 << 50, 1].map(u64::to_ne_bytes).concat());
        packed.extend([0x78, 0x9c, 3, 0, 0, 0, 0, 1]);
        let section = folder.path().join("packed");
        fs::write(&section, packed).expect("a file");
        let names = [".debug_info", ".debug_abbrev", ".debug_line", ".debug_str"];
        let forged = folder.path().join("forged");
        add_sections(&program, &forged, &names, &section);
        set_compressed(&forged);
        let run = run().json().args(["--stacks", "--"]);
        whole(&run.args([forged]).finish());
    });
}

/// Sets `SHF_COMPRESSED` in the header of each section for debugging.
fn set_compressed(program: &Path) {
    let mut elf = fs::read(program).expect("it is there");
    let number = |elf: &[u8], at: usize, bytes: usize| {
        let bytes = elf[at..at + bytes].iter().rev();
        bytes.fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    let (table, size, count) = (
        number(&elf, 40, 8),
        number(&elf, 58, 2),
        number(&elf, 60, 2),
    );
    let names = number(&elf, table + number(&elf, 62, 2) * size + 24, 8);
    for section in (0..count).map(|i| table + i * size) {
        let name = names + number(&elf, section, 4);
        if elf[name..].starts_with(b".debug_") {
            // Bit 11 of the flags.
            elf[section + 9] |= 8;
        }
    }
    fs::write(program, elf).expect("it is ours");
}

#[test]
fn threads_that_wait_for_one_mutex_cost_no_record() {
    unspoilt(|| {
        if lacks("threads_that_wait_for_one_mutex_cost_no_record", &["g++"]) {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let program = program(folder.path());
        let script = format!(
            "{} wait 500 4000 & \"$FORKTRACE\" workload ping-pong --seconds 4 >/dev/null; wait",
            program.display()
        );
        let finished = run().args(["--polls", "off"]).shell(&script).finish();
        let audit = &finished.report().audit;
        if audit.lost_records > 0 && audit.lost_records < 10_000 {
            too_busy(format!("{} records were lost", audit.lost_records));
        }
        assert_eq!(audit.lost_records, 0);
    });
}

/// A helper has no rights that it does not need, and none of the caller's files.
#[test]
fn helpers_hold_nothing_of_the_caller_s() {
    let running = run()
        .shell("echo ready; read line </dev/null; sleep 1")
        .start();
    let pid = running.pid().to_string();
    let begun = Instant::now();
    let helpers = loop {
        let nursery = children(&pid);
        let helpers: Vec<String> = nursery.iter().flat_map(|it| children(it)).collect();
        let helpers: Vec<String> = helpers.into_iter().filter(|it| is_ours(it)).collect();
        if helpers.len() >= 3 && helpers.iter().all(|it| status(it, "Seccomp") == "2") {
            break helpers;
        }
        assert!(begun.elapsed() < SOON, "{nursery:?} {helpers:?}");
    };
    for helper in &helpers {
        assert_eq!(status(helper, "NoNewPrivs"), "1");
        let capabilities = u64::from_str_radix(&status(helper, "CapPrm"), 16).expect("hex");
        // DAC_READ_SEARCH, SYS_PTRACE, SYS_ADMIN, SYSLOG.
        assert_eq!(capabilities & !(1 << 2 | 1 << 19 | 1 << 21 | 1 << 34), 0);
        let open = fs::read_dir(format!("/proc/{helper}/fd")).expect("it lives");
        let links = open
            .flatten()
            .filter_map(|it| fs::read_link(it.path()).ok());
        let links: Vec<String> = links.map(|it| it.display().to_string()).collect();
        // Folders of the workload's tasks may be open.
        let expected = |it: &String| {
            it == "/dev/null" || it.starts_with("socket:[") || it.starts_with("/proc/")
        };
        assert!(links.iter().all(expected), "{links:?}");
        let folder = fs::read_link(format!("/proc/{helper}/cwd")).expect("it lives");
        assert_eq!(folder, Path::new("/"));
    }
    assert!(running.finish().status.success());
}

pub(crate) fn children(pid: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = all.filter_map(|it| it.file_name().into_string().ok());
    let numbers = pids.filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
    numbers.filter(|it| status(it, "PPid") == pid).collect()
}

pub(crate) fn is_ours(pid: &str) -> bool {
    let program = fs::read_link(format!("/proc/{pid}/exe"));
    program.is_ok_and(|it| it == forktrace())
}

pub(crate) fn status(pid: &str, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let lines = status.lines();
    let value = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.map(str::trim).next().unwrap_or_default().to_owned()
}
