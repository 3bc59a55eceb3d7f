//! `forktrace explain`: one question about a saved trace, answered in ten lines.

use std::{
    io::{self, IsTerminal as _, Read as _},
    os::fd::AsFd as _,
};

use anyhow::{Context as _, Result, anyhow};

use super::{Outcome, output::to_stdout, page, report::open};
use crate::cli::ExplainArgs;
use forktrace_core::{
    analysis::{self, Options},
    pipeline,
    render::text::explain,
};
use forktrace_process::privileges::drop_all;

/// Answers the question.
///
/// # Errors
/// When the file can't be read or is no trace, or there is nothing at that moment, no such
/// task, no such stall.
pub(crate) fn explain(args: &ExplainArgs) -> Result<Outcome> {
    let mut trace = open(&args.trace)?;
    let mut data = Vec::new();
    let name = args.trace.display();
    trace
        .read_to_end(&mut data)
        .with_context(|| format!("{name} can't be read"))?;
    // A trace can be a stranger's.
    drop_all()?;
    let (info, model) = pipeline::read(&data, None).with_context(|| format!("{name}"))?;
    let options = Options {
        // So that a stall has its number whatever it is, and a moment its stall.
        episodes: args.question.stall.unwrap_or(STALLS).max(STALLS),
        ..Options::default()
    };
    let report = analysis::analyse_with(&info, &model, &options);
    let stdout = io::stdout();
    let terminal = Some(stdout.as_fd()).filter(|fd| fd.is_terminal());
    let style = page::style_of(args.color, terminal);
    let question = &args.question;
    let answer = match (question.at, question.task, question.stall) {
        (Some(at), ..) => {
            let moment = analysis::moment(&info, &model, at);
            explain::at(&report, &moment, &style)
        }
        (_, Some(tid), _) => explain::task(&report, tid, &style),
        (.., stall) => explain::stall(&report, stall.unwrap_or(1), &style),
    };
    let answer = answer.map_err(|what| anyhow!("{name}: {what}"))?;
    to_stdout(answer.as_bytes())?;
    Ok(Outcome::Exit(0))
}

/// Stalls among which one is looked for that a moment is in.
const STALLS: usize = 1000;
