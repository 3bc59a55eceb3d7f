//! The files that `forktrace run` writes: whose they are, and what of those that are
//! there already.

use std::{
    fs::{self, File},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink},
        process::ExitStatusExt as _,
    },
    path::Path,
    thread::sleep,
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        stat::{Mode, SFlag, makedev, mknod},
    },
    unistd::Pid,
};

use crate::{
    signals::kill_and_forget,
    support::{Finished, Forktrace, run, skip},
};

/// Nobody, whom each machine has.
const USER: u32 = 65534;
/// Somebody else.
const OTHER: u32 = 4242;

/// A run for a user who called sudo, in a folder that belongs to root and in which
/// everybody may write.
fn under_sudo() -> Option<Forktrace> {
    let nobody = nix::unistd::User::from_uid(USER.into()).ok().flatten()?;
    let mut run = run();
    let folder = run.folder().to_owned();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("root may");
    run.command()
        .env("SUDO_UID", USER.to_string())
        .env("SUDO_GID", nobody.gid.to_string())
        .env("SUDO_USER", nobody.name)
        .current_dir(folder);
    Some(run)
}

fn write_as(path: &Path, text: &str, owner: u32, mode: u32) {
    fs::write(path, text).expect("written");
    lchown(path, Some(owner), Some(owner)).expect("root may");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("root may");
}

#[track_caller]
fn check_refused(finished: &Finished, words: &str) {
    assert_eq!(finished.status.code(), Some(125), "{}", finished.stderr);
    assert!(finished.stderr.contains(words), "{}", finished.stderr);
    assert_eq!(finished.stdout, "", "it began");
}

#[test]
fn what_is_there_keeps_its_owner_and_must_be_the_users_to_write() {
    let name = "what_is_there_keeps_its_owner_and_must_be_the_users_to_write";
    let Some(run) = under_sudo() else {
        return skip(name, "no user has the id 65534");
    };
    let null = run.file("null");
    let everybody = Mode::from_bits_truncate(0o666);
    mknod(&null, SFlag::S_IFCHR, everybody, makedev(1, 3)).expect("a device");
    fs::set_permissions(&null, fs::Permissions::from_mode(0o666)).expect("root may");
    let finished = run.args(["-o", "null", "--", "echo", "ran"]).finish();
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_eq!(fs::metadata(finished.file("null")).expect("it").uid(), 0);

    for option in ["-o", "--save"] {
        let run = under_sudo().expect("as above");
        let precious = run.file("precious");
        write_as(&precious, "precious", 0, 0o600);
        let finished = run.args([option, "precious", "--force", "--", "echo", "ran"]);
        let finished = finished.finish();
        check_refused(&finished, "--as-root");
        let precious = finished.file("precious");
        assert_eq!(fs::read_to_string(&precious).expect("it"), "precious");
        assert_eq!(fs::metadata(&precious).expect("it").uid(), 0);
    }
}

#[test]
fn a_link_of_somebody_elses_is_not_followed() {
    for option in ["-o", "--save"] {
        let Some(run) = under_sudo() else {
            return skip(
                "a_link_of_somebody_elses_is_not_followed",
                "no user has the id 65534",
            );
        };
        // The user's own, so that the kernel has nothing against it.
        write_as(&run.file("precious"), "precious", USER, 0o600);
        symlink("precious", run.file("link")).expect("a link");
        lchown(run.file("link"), Some(OTHER), Some(OTHER)).expect("root may");
        let run = run.args([option, "link", "--force", "--", "echo", "ran"]);
        let finished = run.finish();
        check_refused(&finished, "is a link that belongs to");
        let text = fs::read_to_string(finished.file("precious")).expect("it");
        assert_eq!(text, "precious");
    }
}

#[test]
fn a_new_trace_is_for_its_owner_only() {
    let finished = run().args(["-q", "--save"]);
    let trace = finished.file("trace");
    let finished = finished.args([&trace]).args(["--", "true"]).finish();
    assert!(finished.status.success(), "{}", finished.stderr);
    let mode = fs::metadata(trace).expect("a trace").mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_trace_stays_until_there_is_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("trace");
    let save = |command: &[&str]| {
        let run = run().args(["-q", "--save"]).args([&trace]);
        run.args(["--"]).args(command).finish()
    };
    assert!(save(&["true"]).status.success());
    let first = fs::read(&trace).expect("a trace");
    assert_eq!(save(&["/no/such/command"]).status.code(), Some(127));
    assert_eq!(fs::read(&trace).expect("a trace"), first);
    assert!(save(&["true"]).status.success());
    assert_ne!(fs::read(&trace).expect("a trace"), first);
    // Nothing else is left of all that.
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

#[test]
fn a_trace_that_replaces_another_is_reported_on() {
    let run = run();
    let (trace, report) = (run.file("trace"), run.file("report"));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sleepers.ft");
    fs::copy(golden, &trace).expect("a trace");
    let run = run.args(["--save"]).args([&trace]).args(["-o"]);
    let finished = run
        .args([&report])
        .args(["--", "sh", "-c", "exit 7"])
        .finish();
    assert_eq!(finished.status.code(), Some(7), "{}", finished.stderr);
    let report = fs::read_to_string(report).expect("a report");
    assert!(report.contains("exit status 7"), "{report}");
}

#[test]
fn a_report_is_not_written_over_the_trace_that_is_under_way() {
    let run = run();
    let (trace, partial) = (run.file("trace"), run.file("trace.partial"));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sleepers.ft");
    fs::copy(golden, &trace).expect("a trace");
    let run = run.args(["--save"]).args([&trace]).args(["-o"]);
    let finished = run.args([&partial]).args(["--", "echo", "ran"]).finish();
    check_refused(&finished, "would overwrite the trace");
}

#[test]
fn a_descriptor_that_the_caller_did_not_open_is_no_file() {
    for number in 3..16 {
        let run = run().args(["-o", &format!("/dev/fd/{number}")]);
        let finished = run.args(["--", "echo", "ran"]).finish();
        check_refused(&finished, "Bad file descriptor");
    }
}

#[test]
fn a_killed_recording_that_was_to_replace_a_trace_leaves_both() {
    let run = run();
    let (trace, partial) = (run.file("trace"), run.file("trace.partial"));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sleepers.ft");
    fs::copy(golden, &trace).expect("a trace");
    let before = fs::read(&trace).expect("a trace");
    let mut running = run
        .args(["--save"])
        .args([&trace])
        .shell("echo $$; exec $FORKTRACE workload ping-pong --pin --seconds 100")
        .start();
    let pid = running.line(1).parse().expect("a pid");
    while fs::metadata(&partial).map_or(0, |data| data.len()) < 150_000 {
        assert!(!running.has_ended(), "{}", running.stderr());
        sleep(Duration::from_millis(10));
    }
    let forktrace = i32::try_from(running.pid()).expect("a pid");
    kill(Pid::from_raw(forktrace), Signal::SIGKILL).expect("it is there");
    let finished = running.finish();
    assert_eq!(finished.status.signal(), Some(9));
    kill_and_forget(pid);
    assert_eq!(fs::read(&trace).expect("a trace"), before);
    let read = Forktrace::new("report").json().args([&partial]).finish();
    assert!(read.status.success(), "{}", read.stderr);
    assert_eq!(read.report().weakness("end_missing").count, 1);
}

#[test]
fn only_traces_are_replaced_by_traces() {
    let folder = tempfile::tempdir().expect("a folder");
    let notes = folder.path().join("notes");
    fs::write(&notes, "my notes").expect("written");
    let save = |options: &[&str]| {
        let run = run().args(["-q", "--save"]).args([&notes]).args(options);
        run.args(["--", "true"]).finish()
    };
    let finished = save(&[]);
    assert_eq!(finished.status.code(), Some(125));
    assert!(finished.stderr.contains("--force"), "{}", finished.stderr);
    assert_eq!(fs::read_to_string(&notes).expect("it"), "my notes");
    assert!(save(&["--force"]).status.success());
    assert_ne!(fs::read(&notes).expect("it"), b"my notes");
}

#[test]
fn a_report_and_a_trace_can_not_be_one_file() {
    let run = run();
    let both = run.file("both");
    let finished = run
        .args(["-o"])
        .args([&both])
        .args(["--save"])
        .args([&both]);
    let finished = finished.args(["--", "echo", "ran"]).finish();
    check_refused(&finished, "would overwrite the trace");
    assert!(!both.exists());
}

#[test]
fn a_pipe_that_nobody_reads_is_an_error() {
    let run = run();
    let pipe = run.file("pipe");
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).expect("a pipe");
    let finished = run.args(["-o"]).args([&pipe]);
    let finished = finished.args(["--", "echo", "ran"]).finish();
    check_refused(&finished, "nobody reads");
}

#[test]
fn a_pipe_whose_reader_has_gone_is_an_error() {
    let run = run();
    let pipe = run.file("pipe");
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).expect("a pipe");
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        // Opened, which waits for the writer, and closed at once.
        move || drop(File::open(pipe).expect("a pipe"))
    });
    // Started when there is a reader, who waits for it.
    let waits = || {
        let flags = nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_NONBLOCK;
        nix::fcntl::open(&pipe, flags, Mode::empty())
    };
    let opened = loop {
        if let Ok(opened) = waits() {
            break opened;
        }
    };
    reader.join().expect("it read");
    // Through us it has no reader now, but it was opened before, as a descriptor.
    let mut run = run.args(["-o", "/dev/stdout", "--", "true"]);
    run.command().stdout(opened);
    let finished = run.finish_with_own_stdout();
    assert_eq!(finished.code(), Some(125));
}

#[test]
fn a_dash_is_no_name_of_a_trace() {
    let finished = run().args(["--save", "-", "--", "echo", "ran"]).finish();
    check_refused(&finished, "./-");
}

#[test]
fn one_run_is_written_in_several_forms_that_belong_to_the_user() {
    let name = "one_run_is_written_in_several_forms_that_belong_to_the_user";
    let Some(run) = under_sudo() else {
        return skip(name, "no user has the id 65534");
    };
    let forms = ["a.json", "a.pftrace", "a.html", "a.folded", "a.pb.gz"];
    let options = forms.iter().flat_map(|form| ["-o", form]);
    let options: Vec<&str> = options.collect();
    let finished = run.args(options).args(["--", "sleep", "0.01"]).finish();
    assert!(finished.status.success(), "{}", finished.stderr);
    for form in forms {
        let written = fs::metadata(finished.file(form)).expect("it was written");
        assert_eq!(written.uid(), USER, "{form}");
        assert!(written.len() > 0, "{form}");
    }
    let folder = finished.file("a.json").parent().map(fs::read_dir);
    let mut left = folder.expect("a folder").expect("a folder").flatten();
    let partial = left.find(|it| it.file_name().to_string_lossy().contains(".partial"));
    assert!(partial.is_none(), "{partial:?}");
    let folded = fs::read_to_string(finished.file("a.folded")).expect("text");
    assert!(folded.starts_with("off-cpu;"), "{folded}");
}
