//! Where tasks blocked, and where they were woken: the stacks that took the most time.

use super::{
    View,
    figures::{clean, count, duration, elided, plain, quantity},
    layout::wrapped,
};
use crate::report::{StackKind, StackUse};

/// Stacks that are shown of each kind.
const MOST: usize = 5;
/// Frames of a stack that are shown: what is outside of them is mostly the start of the thread.
const FRAMES: usize = 12;

/// The longest of each kind, frames indented below, the innermost last.
pub(super) fn section(view: &View<'_>) -> String {
    let all = view.report.stacks.as_deref().unwrap_or_default();
    let mut out = String::new();
    for kind in [StackKind::OffCpu, StackKind::Wakeup] {
        let of_kind: Vec<&StackUse> = all.iter().filter(|it| it.kind == kind).collect();
        for stack in of_kind.iter().take(MOST) {
            out.push_str(&of(view, stack));
        }
        let rest = of_kind.iter().skip(MOST);
        let rest_ns = rest.clone().map(|it| it.ns).fold(0, u64::saturating_add);
        if rest.len() > 0 {
            let text = format!(
                "… and {}, {} in all (-o blocked.svg shows all)",
                quantity(rest.len() as u64, "other stack"),
                duration(rest_ns)
            );
            out.push_str(&wrapped(view.style, "  ", &text));
        }
    }
    out
}

fn of(view: &View<'_>, stack: &StackUse) -> String {
    let name = clean(&stack.name);
    let who = match (stack.kind, &stack.wakee) {
        (StackKind::OffCpu, _) => format!("{name} was blocked"),
        (StackKind::Wakeup, Some(wakee)) => format!("{} waited until {name} woke it", clean(wakee)),
        (StackKind::Wakeup, None) => format!("{name} woke another"),
    };
    let blocks = quantity(stack.count, "block");
    let head = format!("{}, {blocks}: {who} in", duration(stack.ns));
    let mut out = wrapped(view.style, "  ", &head);
    let mut line = |text: &str| {
        let room = view.style.columns.saturating_sub(6);
        out.push_str(&format!("      {}\n", elided(view.style, text, room)));
    };
    let hidden = stack.frames.len().saturating_sub(FRAMES);
    if hidden > 0 {
        let text = format!("… {} further out", count(hidden as u64));
        line(&plain(view.style, &text));
    }
    for frame in &stack.frames[hidden..] {
        line(&clean(frame));
    }
    out
}
