//! A CPU that comes while a recording is under way. Everybody on the machine notices, so this
//! is run only when asked for: `cargo test --test live -- --ignored hotplug`.

use std::{fs, io::Write as _, path::Path};

use crate::support::{check_complete, run, skip, unspoilt};

const ONLINE: &str = "/sys/devices/system/cpu/cpu1/online";

/// A CPU that is offline, and comes back on drop.
struct Away;

impl Away {
    fn new() -> std::io::Result<Self> {
        fs::write(ONLINE, "0").map(|()| Self)
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        let _ = fs::write(ONLINE, "1");
    }
}

#[test]
#[ignore = "takes a CPU of the machine away for a second"]
fn hotplug_of_a_cpu_loses_nothing() {
    let name = "hotplug_of_a_cpu_loses_nothing";
    if !Path::new(ONLINE).exists() {
        return skip(name, "there is no second CPU that can go");
    }
    unspoilt(|| {
        let Ok(away) = Away::new() else {
            return skip(name, "the second CPU can't be taken away");
        };
        let (input, mut go) = std::io::pipe().expect("a pipe");
        let mut run = run();
        run.command().stdin(input);
        // Pairs on both CPUs, so that the one that came has much to tell.
        let play = "exec $FORKTRACE workload ping-pong --pin --pairs 2 --seconds 1";
        let mut running = run.shell(&format!("echo ready; read line; {play}")).start();
        running.line(1);
        drop(away);
        go.write_all(b"\n").expect("it waits");
        let finished = running.finish();
        assert!(finished.status.success(), "{}", finished.stderr);
        check_complete(finished.report());
        for task in &finished.report().tasks {
            assert_eq!(Some(task.switches.traced), task.switches.kernel, "{task:?}");
        }
    });
}
