//! Which helper does what.

use std::rc::Rc;

use anyhow::Result;

use crate::{
    capture::StackWays,
    deadlock,
    helper::{Kind, Nursery, say_why_not, serve},
    launch::Account,
    procfs, providers,
    resolve::Looker,
    stacks::{Lookout, Symbols, ask_java},
};

/// Starts the helpers for a workload that runs as `account`. This process must have one
/// thread.
///
/// # Errors
/// When no process can be made.
pub(crate) fn helpers(account: Option<&Account>, stacks: Option<StackWays>) -> Result<Rc<Nursery>> {
    let begin = || {
        // The kernel's names, which take a while, while the programs are attached.
        let lines = stacks.is_some_and(|ways| ways.lines);
        let symbols = stacks.map(|_| Symbols::new(lines));
        let missing = procfs::missing();
        move |kind, socket, files| {
            if let Some(why) = &missing {
                return Ok(say_why_not(socket, why)?);
            }
            match kind {
                Kind::Names => {
                    let mut looker = Looker::new();
                    serve(socket, |question| looker.answer(&question))?;
                }
                Kind::Deadlocks => serve(socket, |scene| deadlock::examine(&scene))?,
                Kind::Providers => serve(socket, |scene| providers::examine(&scene))?,
                Kind::Symbols => {
                    let mut symbols = symbols.unwrap_or_else(|| Symbols::new(lines));
                    serve(socket, |question| symbols.answer(question))?;
                }
                Kind::Java => serve(socket, ask_java)?,
                Kind::Stacks => match Lookout::new(files) {
                    Ok(mut lookout) => serve(socket, |ask| lookout.answer(&ask))?,
                    Err(error) => say_why_not(socket, &format!("{error:#}"))?,
                },
            }
            Ok(())
        }
    };
    Ok(Rc::new(Nursery::start(account, begin)?))
}
