//! Stacks in the form that flame-graph tools read: a line a stack, frames from the outermost
//! on with `;` between, and microseconds.

use std::io::{self, Write};

use crate::{
    Export, Source,
    stacks::{StackKind, fold},
};

/// See the module.
pub(crate) struct Folded {
    pub(crate) kind: Option<StackKind>,
}

impl Export for Folded {
    fn write(&self, source: &Source<'_>, out: &mut dyn Write) -> io::Result<()> {
        for stack in fold(source, self.kind) {
            // A frame must not be parted, and the number is what comes after the last space.
            let frames: Vec<String> = stack
                .frames
                .iter()
                .map(|frame| frame.replace(';', ":"))
                .collect();
            writeln!(out, "{} {}", frames.join(";"), stack.ns / 1000)?;
        }
        Ok(())
    }
}
