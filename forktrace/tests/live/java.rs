//! Java machines are asked for the names of what they have compiled.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    stacks::{PerfMap, finish, with_option},
    support::{lacks, unspoilt},
};

/// Much longer than it takes.
const SOON: Duration = Duration::from_secs(100);

#[test]
fn a_java_machine_is_asked_for_the_names_of_its_methods() {
    const TEST: &str = "a_java_machine_is_asked_for_the_names_of_its_methods";
    if lacks(TEST, &["java", "javac"]) {
        return;
    }
    unspoilt(|| {
        let mut run = with_option("--stacks=fp");
        let folder = run.folder().to_owned();
        fs::write(folder.join("Stacks.java"), include_str!("Stacks.java")).expect("a file");
        let compiled = Command::new("javac")
            .args(["-d", "."])
            .arg("Stacks.java")
            .current_dir(&folder)
            .output();
        let compiled = compiled.expect("javac starts");
        assert!(compiled.status.success(), "{compiled:?}");

        let (input, mut output) = std::io::pipe().expect("a pipe");
        run.command().stdin(Stdio::from(input)).current_dir(&folder);
        let script = "echo $$; exec java -XX:+PreserveFramePointer -Xcomp \
                      -XX:CompileCommand=quiet -XX:CompileCommand=compileonly,Stacks::* Stacks";
        let run = run.args(["--java", "--", "sh", "-c", script]);
        let mut running = run.start();
        let pid = running.line(1);
        let _map = PerfMap::of(&pid);
        let path = format!("/tmp/perf-{pid}.map");
        let begun = Instant::now();
        // Nobody but forktrace asks for it, again and again.
        while !fs::read_to_string(&path).is_ok_and(|map| map.contains("passOn")) {
            assert!(begun.elapsed() < SOON, "it was not asked");
            output.write_all(b"x").expect("it reads");
            sleep(Duration::from_millis(20));
        }
        output.write_all(b"x").expect("it reads");
        drop(output);
        let stacks = finish(running);
        let is_it = |name: &String| name.contains("Stacks.") && name.contains("passOn");
        let mut named = stacks.iter().filter(|it| it.has("anon_pipe_read_[k]"));
        let is_named = named.any(|it| it.frames.iter().any(is_it));
        assert!(is_named, "{stacks:#?}");
        let left = format!("/tmp/.attach_pid{pid}");
        assert!(fs::metadata(left).is_err(), "what asked it is taken away");
    });
}
