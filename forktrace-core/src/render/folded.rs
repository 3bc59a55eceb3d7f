//! Stacks in the form that flame-graph tools read: a line a stack, functions from
//! the outermost on with `;` between, and microseconds.

use std::fmt::Write as _;

use super::text::figures::clean as escaped;
use crate::report::{Report, StackKind, StackUse};

/// Where a stack begins of which the outermost functions are missing.
const CUT_OFF: &str = "[cut off]";

/// All stacks. Blocks stand under `off-cpu`, wakeups under `wakeup`, each with the
/// time that was spent blocked.
pub(super) fn folded(report: &Report) -> String {
    let mut out = String::new();
    for stack in report.stacks.iter().flatten() {
        let mut frames = vec![
            match stack.kind {
                StackKind::OffCpu => "off-cpu".to_owned(),
                StackKind::Wakeup => "wakeup".to_owned(),
            },
            clean(&stack.name),
        ];
        if stack.cut_off {
            frames.push(CUT_OFF.to_owned());
        }
        frames.extend(stack.frames.iter().map(|name| clean(name)));
        frames.extend(wakee(stack));
        // A `String` takes everything.
        let _ = writeln!(out, "{} {}", frames.join(";"), stack.ns / 1000);
    }
    out
}

/// On top of the stack of a wakeup: who was woken.
fn wakee(stack: &StackUse) -> Option<String> {
    stack
        .wakee
        .as_ref()
        .map(|name| format!("wakes {}", clean(name)))
}

/// A name on one line, without a character that acts on a terminal or parts functions.
fn clean(name: &str) -> String {
    escaped(name).replace(';', ":")
}
