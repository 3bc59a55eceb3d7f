//! `cargo xtask ci`: everything that a change has to pass, in the order of
//! what fails soonest.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::{
    ebpf::{self, Checked},
    test::{self, Counts},
    util::{WHOLE, cargo, run as run_command},
};

/// Runs the steps up to the first that fails. The last line printed has the
/// counts of the tests, if they ran. Gives whether all passed.
pub(crate) fn run() -> bool {
    let mut counts = None;
    let result = steps(&mut counts);
    if let Err(error) = &result {
        eprintln!("error: {error:#}");
    }
    if let Some(counts) = counts {
        print!("{counts}");
    }
    result.is_ok()
}

fn steps(counts: &mut Option<Counts>) -> Result<()> {
    step("format", || {
        // forktrace-ebpf is a workspace of its own.
        for manifest in ["Cargo.toml", "forktrace-ebpf/Cargo.toml"] {
            let arguments = ["fmt", "--all", "--check", "--manifest-path", manifest];
            run_command(cargo()?.args(arguments))
                .with_context(|| format!("run `cargo fmt --all --manifest-path {manifest}`"))?;
        }
        Ok(())
    })?;
    step("clippy", || {
        run_command(
            cargo()?
                .arg("clippy")
                .args(WHOLE)
                .args(["--all-targets", "--locked"])
                .args(["--", "-D", "warnings"]),
        )?;
        // What reads traces and records none.
        run_command(
            cargo()?
                .args(["clippy", "--package", "forktrace", "--no-default-features"])
                .args(["--locked", "--", "-D", "warnings"]),
        )
    })?;
    let mut skip = None;
    step("BPF object", || {
        skip = match ebpf::check()? {
            Checked::Rebuilt => None,
            Checked::OtherToolchain(why) => Some(why),
            Checked::NoToolchain(missing) => Some(format!("{missing:#}")),
        };
        Ok(())
    })?;
    step("tests", || {
        let (mut found, passed) = test::run_all(&["--locked".into()])?;
        if let Some(why) = &skip {
            found.add_line(&format!(
                "SKIP the_object_is_built_again: {}",
                why.replace('\n', " ")
            ));
        }
        let line = found.line();
        *counts = Some(found);
        if !passed {
            bail!("{line}");
        }
        Ok(())
    })?;
    step("documentation", || {
        run_command(
            cargo()?
                .arg("doc")
                .args(WHOLE)
                .args(["--no-deps", "--locked"])
                .env("RUSTDOCFLAGS", "-D warnings"),
        )
    })
}

/// Runs one step and prints its name before and how long it took after.
fn step(name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("== {name}");
    let start = Instant::now();
    let result = run();
    let outcome = if result.is_ok() { "passed" } else { "FAILED" };
    println!(
        "== {name}: {outcome} in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    result.map_err(|error| error.context(format!("{name} failed")))
}
