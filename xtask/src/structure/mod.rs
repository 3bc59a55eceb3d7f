//! `cargo xtask structure`: whether the source folders still show the data flow.
//!
//! It reads the modules of each crate, without their tests, finds out which file uses
//! which, and fails on a circle: between files, or between the folders and files that
//! lie in one folder. It fails too on a function that is too long to read at once and
//! does not say why.
//!
//! A name counts for the file that defines it, not for those that pass it on. A module
//! and its own children are in no circle by using each other.

mod allowed;
mod graph;
mod resolve;
mod sources;

use anyhow::{Result, bail};

use crate::util::root;
use graph::{Circle, Edge};
use sources::Function;

/// Lines from the signature to the closing brace that need no reason.
const FUNCTION_LINES: usize = 100;

/// How a comment begins, in a function or above it, that says why it is long.
const REASON: &str = "// Long: ";

/// Prints all that is wrong, and fails if anything is.
pub(crate) fn check() -> Result<()> {
    let found = examine()?;
    for line in &found.wrong {
        println!("{line}");
    }
    if !found.wrong.is_empty() {
        bail!(
            "the structure of the sources has {} faults",
            found.wrong.len()
        );
    }
    println!(
        "{} files of {} libraries and programs, {} uses between them: no circle but by {} uses that are allowed \
         for now, no function over {FUNCTION_LINES} lines without a reason but {} allowed for now",
        found.files,
        found.crates,
        found.uses,
        allowed::USES.len(),
        allowed::FUNCTIONS.len(),
    );
    Ok(())
}

/// Prints each use of one file by another: `user → used`.
pub(crate) fn print_graph() -> Result<()> {
    for package in sources::crates(&root()?)? {
        for edge in graph::edges(&package) {
            println!("{}: {edge}", package.name);
        }
    }
    Ok(())
}

/// What the sources are like.
struct Found {
    crates: usize,
    files: usize,
    uses: usize,
    /// A sentence for each fault.
    wrong: Vec<String>,
}

fn examine() -> Result<Found> {
    let packages = sources::crates(&root()?)?;
    let mut found = Found {
        crates: packages.len(),
        files: 0,
        uses: 0,
        wrong: Vec::new(),
    };
    let mut needed = vec![false; allowed::USES.len()];
    let mut long = Vec::new();
    for package in &packages {
        let edges = graph::edges(package);
        found.files += package.files.len();
        found.uses += edges.len();
        note_needed(&edges, &mut needed);
        let kept: Vec<_> = edges.into_iter().filter(|edge| !is_allowed(edge)).collect();
        for circle in graph::circles(&kept) {
            found.wrong.push(sentence(&package.name, &circle));
        }
        long.extend(package.functions.iter().filter(|f| is_too_long(f)));
    }
    for ((user, used), needed) in allowed::USES.iter().zip(needed) {
        if !needed {
            found.wrong.push(format!(
                "{user} → {used} closes no circle any more: take it from xtask/src/structure/allowed.rs"
            ));
        }
    }
    let listed = |function: &Function| allowed::FUNCTIONS.contains(&&*function.name);
    for function in long.iter().filter(|function| !listed(function)) {
        found.wrong.push(format!(
            "{}:{}: {} has {} lines: make it shorter, or say why in a comment that begins with `{REASON}`",
            function.file.display(),
            function.line,
            function.name,
            function.lines,
        ));
    }
    for name in allowed::FUNCTIONS {
        if !long.iter().any(|function| function.name == *name) {
            found.wrong.push(format!(
                "{name} is not too long any more: take it from xtask/src/structure/allowed.rs"
            ));
        }
    }
    Ok(found)
}

fn is_too_long(function: &Function) -> bool {
    function.lines > FUNCTION_LINES && !function.has_reason
}

fn is_allowed(edge: &Edge) -> bool {
    allowed::USES.contains(&(edge.user.as_str(), edge.used.as_str()))
}

/// Marks the exceptions without which these edges would have a circle more.
fn note_needed(edges: &[Edge], needed: &mut [bool]) {
    for circle in graph::circles(edges) {
        for edge in &circle.edges {
            let pair = (edge.user.as_str(), edge.used.as_str());
            if let Some(at) = allowed::USES.iter().position(|allowed| *allowed == pair) {
                needed[at] = true;
            }
        }
    }
}

fn sentence(package: &str, circle: &Circle) -> String {
    let mut text = format!(
        "{package}: {} use each other in a circle, by",
        circle.members.join(", ")
    );
    for edge in &circle.edges {
        text += &format!("\n    {edge}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_circles_and_no_long_functions() {
        let found = examine().expect("the sources can be read");
        assert!(found.wrong.is_empty(), "{}", found.wrong.join("\n"));
    }

    #[test]
    fn reading_traces_takes_no_ebpf() {
        let depends_on = |package: &str, features: &[&str]| {
            let output = crate::util::cargo()
                .expect("a cargo")
                .args(["tree", "--locked", "--offline", "--edges", "normal"])
                .args(["--prefix", "none", "--format", "{p}", "--package", package])
                .args(features)
                .output()
                .expect("cargo runs");
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).expect("names of packages")
        };
        let reader = depends_on("forktrace", &["--no-default-features"]);
        let core = depends_on("forktrace-core", &[]);
        for (what, packages) in [("forktrace", reader), ("forktrace-core", core)] {
            let ebpf = packages.lines().find(|line| {
                ["aya", "blazesym", "forktrace-record"]
                    .iter()
                    .any(|name| line.starts_with(name))
            });
            assert_eq!(ebpf, None, "{what} without the feature `record`");
        }
        assert!(
            depends_on("forktrace", &[]).contains("\naya v"),
            "the test sees aya where it is"
        );
    }
}
