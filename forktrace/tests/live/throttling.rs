//! A limit on the CPU time of a cgroup is neither blocking nor hidden.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::support::{n, run, skip, unspoilt};

/// A cgroup with a fifth of a CPU, removed on drop.
struct Limited(PathBuf);

impl Limited {
    fn new() -> io::Result<Self> {
        let name = format!("forktrace-test-{}", std::process::id());
        let v1 = Path::new("/sys/fs/cgroup/cpu");
        let is_v1 = v1.join("cpu.cfs_quota_us").exists() || v1.join("tasks").exists();
        let root = if is_v1 {
            v1
        } else {
            Path::new("/sys/fs/cgroup")
        };
        if !is_v1 {
            fs::write(root.join("cgroup.subtree_control"), "+cpu")?;
        }
        let limited = Self(root.join(name));
        fs::create_dir(&limited.0)?;
        if is_v1 {
            fs::write(limited.0.join("cpu.cfs_quota_us"), "20000")?;
        } else {
            fs::write(limited.0.join("cpu.max"), "20000 100000")?;
        }
        Ok(limited)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_cgroup_over_its_cpu_limit_is_named() {
    unspoilt(|| {
        let limited = match Limited::new() {
            Ok(limited) => limited,
            Err(error) => {
                skip(
                    "a_cgroup_over_its_cpu_limit_is_named",
                    &format!("no cgroup with the CPU controller can be made: {error}"),
                );
                return;
            }
        };
        let procs = limited.0.join("cgroup.procs");
        let script = format!(
            "echo $$ > {}; exec \"$FORKTRACE\" workload spinners --count 2 --seconds 1",
            procs.display()
        );
        let traced = run().shell(&script).complete();
        let report = traced.report();
        let [throttled] = &report.throttled[..] else {
            panic!("one cgroup was throttled: {:?}", report.throttled);
        };
        let name = limited.0.file_name().expect("a name").to_string_lossy();
        assert!(throttled.cgroup.ends_with(&*name), "{throttled:?}");
        assert_eq!(
            (throttled.quota_us, throttled.period_us),
            (Some(20_000), Some(100_000))
        );
        let stat = fs::read_to_string(limited.0.join("cpu.stat")).expect("cpu.stat");
        let counted = |key: &str| {
            let mut values = stat.lines().filter_map(|line| line.strip_prefix(key));
            values
                .next()
                .map(|value| value.trim().parse::<u64>().expect("a number"))
        };
        let kernel_ns = counted("throttled_time ")
            .or(counted("throttled_usec ").map(|us| us * 1000))
            .expect("throttled time");
        assert!(throttled.periods > 0, "{throttled:?}");
        assert!(throttled.periods <= counted("nr_throttled ").expect("periods"));
        assert!(
            throttled.ns > 0 && throttled.ns <= kernel_ns,
            "{stat} {throttled:?}"
        );
        // Who is held off a CPU wants it: nobody is said to sleep.
        let truth = traced.truth();
        for task in report.of_process(n(&truth["pid"]) as u32) {
            assert!(task.blocked_ns <= task.runnable_ns, "{task:?}");
        }
    });
}

#[test]
fn without_a_limit_nothing_is_said() {
    unspoilt(|| {
        let traced = run().workload("sleepers --seconds 0.05").complete();
        assert!(traced.report().throttled.is_empty());
    });
}
