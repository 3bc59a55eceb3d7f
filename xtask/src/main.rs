//! The project's own commands, run as `cargo xtask <command>`.
//!
//! What needs more than stable Rust and `cargo build` lives here: preparing a
//! machine, rebuilding the BPF object, running the tests that need root, the
//! checks of the continuous integration, and the tests on other kernels.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool without a library: printing is its interface"
)]

mod bench;
mod ci;
mod claims;
mod cpio;
mod ebpf;
mod fleet;
mod fuzz;
#[cfg(test)]
mod licences;
mod matrix;
mod own_root;
mod package;
mod programs;
mod roots;
mod schema;
mod setup;
mod structure;
mod test;
mod util;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use ebpf::Checked;

/// The project's own commands.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is needed to run every test; with options, what else needs
    Setup(setup::Options),
    /// Rebuild the committed BPF object from its sources
    Ebpf {
        /// Change nothing: fail unless the committed object is what its
        /// sources give, rebuilt in another folder
        #[arg(long)]
        check: bool,
    },
    /// Run all tests: unit, golden and, as root, live
    Test {
        /// Arguments for `cargo test`, after `--`
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Everything that a change has to pass
    Ci,
    /// Check that the source folders show the data flow: no circles, no long functions
    Structure {
        /// Print which file uses which instead
        #[arg(long)]
        graph: bool,
    },
    /// Write the JSON schemas in docs/ from the types of what is written as JSON
    Schema,
    /// Make a Debian package of forktrace, in target/debian
    Deb,
    /// Build a forktrace that needs no library of the machine it runs on
    Static,
    /// Pack the crates as for the registry and test them from what was packed
    Package,
    /// Run the live tests on other kernels, under emulation
    Matrix {
        /// Kernel series such as 6.12, or `newest`
        #[arg(default_values = matrix::DEFAULT_KERNELS)]
        kernels: Vec<String>,
        /// Run only the live tests with FILTER in their name; may be given again
        #[arg(long, value_name = "FILTER")]
        tests: Vec<String>,
        /// Run DIR/test.sh in the guest instead of the live tests; the folder
        /// is /t there and holds static binaries only
        #[arg(long, value_name = "DIR", conflicts_with = "tests")]
        payload: Option<PathBuf>,
    },
    /// Run README's two commands in bare systems of Debian and Ubuntu, as root
    Roots(roots::Options),
    /// Run the fuzz targets of `fuzz/`, each for a bounded time
    Fuzz(fuzz::Options),
    /// Measure what tracing costs, beside other tracers and the goals
    Bench(bench::Options),
    /// Ask the questions of docs/sql of a large fleet's tables, in each engine, and measure it
    Fleet(fleet::Options),
    /// Settle all claims, as root, and write the verdicts into docs/claims.md
    Claims(claims::Options),
    /// Run programs with a known stall, as root, and compare the reports with what experts say
    Programs(programs::Options),
    /// How `bench` starts what it takes the time and memory of (see bench/own.rs)
    #[command(hide = true)]
    RunMeasured {
        /// The command and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// How `cargo test` starts each test binary (see test.rs)
    #[command(hide = true)]
    RunTestBinary {
        /// The binary
        binary: PathBuf,
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    // Each command gives `false` when it ran as it should and what it checked
    // did not pass; it has then said so itself, in its last line.
    let passed = match Cli::parse().command {
        Command::Setup(options) => setup::run(&options).map(|()| true),
        Command::Ebpf { check: false } => ebpf::run().map(|()| true),
        Command::Ebpf { check: true } => ebpf::check().and_then(|checked| match checked {
            Checked::Rebuilt => Ok(true),
            Checked::OtherToolchain(why) => {
                println!("{why}");
                Ok(true)
            }
            Checked::NoToolchain(missing) => Err(missing),
        }),
        Command::Test { args } => test::run(&args),
        Command::Ci => Ok(ci::run()),
        Command::Structure { graph: false } => structure::check().map(|()| true),
        Command::Structure { graph: true } => structure::print_graph().map(|()| true),
        Command::Schema => schema::write().map(|()| true),
        Command::Deb => package::deb().map(|()| true),
        Command::Static => package::static_program().map(|()| true),
        Command::Package => package::package().map(|()| true),
        Command::Matrix {
            kernels,
            tests,
            payload,
        } => matrix::run(&kernels, &tests, payload.as_deref()),
        Command::Claims(options) => claims::run(&options).map(|()| true),
        Command::Programs(options) => programs::run(&options),
        Command::Roots(options) => roots::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Fleet(options) => fleet::run(&options).map(|()| true),
        Command::Bench(options) => bench::run(&options),
        Command::RunMeasured { command } => bench::run_measured(&command).map(|()| true),
        Command::RunTestBinary { binary, args } => test::run_binary(&binary, &args),
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
