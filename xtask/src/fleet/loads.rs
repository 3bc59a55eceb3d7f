//! What the fleet's services are copies of: three programs that run here, each for a few seconds.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::util::{is_root, run as run_command};

/// A server and its clients.
const CACHE: &str = "#!/bin/sh
cd \"$1\" || exit 1
redis-server --port 0 --unixsocket socket --save '' --appendonly no >/dev/null &
until redis-cli -s socket ping >/dev/null 2>&1; do sleep 0.05; done
redis-benchmark -s socket -n 15000 -c 8 -t set,get -q >/dev/null
redis-cli -s socket shutdown nosave
wait
";

/// Many processes that live a moment.
const BUILD: &str = "#!/bin/sh
cd \"$1\" || exit 1
for file in $(seq 24); do echo \"int f$file(int x) { return x * $file; }\" >\"$file.c\"; done
seq 24 | xargs -P 3 -I N gcc -O2 -c N.c -o N.o
gcc -shared -o all.so *.o
";

/// Threads that take jobs from a queue, wait, and share a lock.
const WORKERS: &str = "#!/usr/bin/python3
import queue, random, threading, time

jobs, lock, done = queue.Queue(8), threading.Lock(), 0
random.seed(1)


def work():
    global done
    while (wait := jobs.get()) is not None:
        time.sleep(wait)
        with lock:
            done += sum(range(int(wait * 2_000_000)))


threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for _ in range(6000):
    jobs.put(random.expovariate(2000))
for _ in threads:
    jobs.put(None)
";

const LOADS: [(&str, &str); 3] = [("cache", CACHE), ("build", BUILD), ("workers", WORKERS)];

/// Records them, each once: what is there is taken.
pub(super) fn record(forktrace: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut traces = Vec::new();
    for (name, text) in LOADS {
        let trace = folder.join(name).with_extension("ft");
        if !trace.exists() {
            ensure!(
                is_root(),
                "the kernel is traced as root: `sudo -E cargo xtask fleet`, or give --trace FILE"
            );
            let place = folder.join(format!("{name}-files"));
            fs::create_dir_all(&place).with_context(|| format!("{}", place.display()))?;
            let script = folder.join(name);
            fs::write(&script, text).with_context(|| format!("{}", script.display()))?;
            fs::set_permissions(&script, Permissions::from_mode(0o755))?;
            let mut run = Command::new(forktrace);
            run.arg("run").arg("--save").arg(&trace).arg("--");
            run.arg(&script).arg(&place).stdout(Stdio::null());
            run_command(&mut run)?;
        }
        traces.push(trace);
    }
    Ok(traces)
}
