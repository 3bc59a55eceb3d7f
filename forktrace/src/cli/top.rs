//! Arguments of `top`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{Color, KeptArgs, TargetArgs, values::length};

/// Arguments of `top`.
#[derive(Args, Debug)]
#[command(after_help = "\
Keys: ? shows them all. / shows only tasks with a text, o changes their order, g groups by process, Enter \
shows one task, w who waits for whom, p pauses the picture, s saves the last --keep in DIR as \
forktrace-TIME.ft, with the report as .txt and .json. q or Ctrl-C quits.

End: when a target that is given by pid has ended, the last picture stays until q. One that is given by \
name, unit, cgroup or container may end and come again.

The view is in builds with --features top (docs/top.md).

Exit status: 0; 125 when forktrace fails.

Examples:
  sudo forktrace top -p 4121
  sudo forktrace top redis-server
  sudo forktrace top --unit nginx --save-dir /tmp")]
pub(crate) struct TopArgs {
    /// What is shown.
    #[command(flatten)]
    pub(crate) what: TargetArgs,
    /// Keep so much of what came before, for the key s.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = length)]
    pub(crate) keep: Duration,
    /// Save in the folder DIR.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) save_dir: PathBuf,
    /// How much is kept, and for how long it goes on.
    #[command(flatten)]
    pub(crate) kept: KeptArgs,
    /// When to use colour.
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
    /// Write files as root even under sudo.
    #[arg(long)]
    pub(crate) as_root: bool,
}
