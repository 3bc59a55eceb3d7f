//! `cargo xtask fuzz`: runs each fuzz target of `fuzz/` for a bounded time.
//!
//! What it finds is in `fuzz/artifacts/`: make a test of it, then mend it.

use anyhow::{Result, ensure};
use clap::Args;

use crate::util::{cargo, find_program, root, show};

/// Options of the command.
#[derive(Args)]
pub(crate) struct Options {
    /// Time for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Only these targets
    targets: Vec<String>,
}

const TARGETS: [&str; 6] = [
    "trace_blocks",
    "events",
    "stacks",
    "claim_file",
    "imports",
    "rollups",
];

/// Gives whether no target found anything.
pub(crate) fn run(options: &Options) -> Result<bool> {
    ensure!(
        find_program("cargo-fuzz").is_some(),
        "cargo-fuzz is not installed: `cargo install --locked cargo-fuzz`"
    );
    let known = |name: &&String| !TARGETS.contains(&name.as_str());
    if let Some(unknown) = options.targets.iter().find(known) {
        anyhow::bail!("no target {unknown}: there are {}", TARGETS.join(", "));
    }
    let chosen =
        |name: &&str| options.targets.is_empty() || options.targets.iter().any(|t| t == name);
    let mut found = Vec::new();
    for target in TARGETS.into_iter().filter(|name| chosen(name)) {
        let mut command = cargo()?;
        command
            .current_dir(root()?)
            // Instrumentation takes flags that stable Rust hides.
            .env("RUSTC_BOOTSTRAP", "1")
            // No unsafe code is in what is fuzzed: overflows and panics are looked for.
            .args(["fuzz", "run", "--sanitizer", "none", target, "--"])
            .args(["-timeout=10", "-rss_limit_mb=512", "-max_len=65536"])
            .arg(format!("-max_total_time={}", options.seconds));
        println!("== {}", show(&command));
        if !command.status()?.success() {
            found.push(target);
        }
    }
    match found[..] {
        [] => println!("fuzz: nothing found"),
        _ => println!("fuzz: found something: {}", found.join(", ")),
    }
    Ok(found.is_empty())
}
