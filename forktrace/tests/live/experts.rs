//! What is said of programs with a known stall, against what an expert of the program
//! would say. The cases are in `docs/case-studies/programs`, and `cargo xtask programs`
//! runs all of them, also with programs that `cargo xtask setup` does not install.

use std::{path::Path, process::Command};

use crate::support::{forktrace, lacks};

/// Runs one case; what was expected and what was said is in its output.
#[track_caller]
fn check(case: &str, needed: &[&str]) {
    let test = std::thread::current().name().unwrap_or(case).to_owned();
    if lacks(&test, &["python3"]) || lacks(&test, needed) {
        return;
    }
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/case-studies/programs");
    let output = Command::new("python3")
        .arg(scripts.join("programs.py"))
        .arg("--forktrace")
        .arg(forktrace())
        .arg(case)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("python3 starts");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn redis_sleeps_in_a_command() {
    check(
        "redis-sleep",
        &["redis-server", "redis-cli", "redis-benchmark"],
    );
}

#[test]
fn a_log_that_nobody_reads_blocks_nginx() {
    check("nginx-log", &["nginx"]);
}

#[test]
fn a_coroutine_that_sleeps_blocks_the_loop_of_asyncio() {
    check("asyncio-sleep", &[]);
}

#[test]
fn a_backend_of_postgres_waits_for_the_one_that_has_the_row() {
    check("postgres-row", &["initdb", "postgres", "psql"]);
}

#[test]
fn threads_of_a_jvm_wait_for_one_monitor() {
    check("jvm-8", &["java", "javac"]);
}

#[test]
fn sqlite_waits_for_the_disk() {
    check("sqlite-sync", &[]);
}

#[test]
fn threads_of_openmp_wait_for_the_slowest() {
    check("openmp-straggler", &["gcc"]);
}

#[test]
fn memcached_has_nothing_to_do() {
    check("memcached-idle", &["memcached"]);
}
