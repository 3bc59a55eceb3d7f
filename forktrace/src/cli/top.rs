//! Arguments of `top`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{Color, TargetArgs, values::length, values::ring_size};

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
    /// Keep no more than SIZE in memory of what came before, whatever --keep says: 1M holds some 50,000 blocks.
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = ring_size)]
    pub(crate) memory: u32,
    /// Stop after TIME.
    #[arg(long = "for", value_name = "TIME", value_parser = length)]
    pub(crate) length: Option<Duration>,
    /// Per-CPU ring buffer size, such as 512K or 16M [default: 32M divided among the CPUs, at most 4M each].
    #[arg(long, value_name = "SIZE", value_parser = ring_size)]
    pub(crate) ring_size: Option<u32>,
    /// Maximum number of tasks tracked at once.
    #[arg(long, value_name = "N", default_value_t = 16384, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub(crate) max_tasks: u32,
    /// When to use colour.
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
    /// Write files as root even under sudo.
    #[arg(long)]
    pub(crate) as_root: bool,
}
