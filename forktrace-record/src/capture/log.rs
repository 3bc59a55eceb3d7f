//! What the programs say of the paths that they seldom take, when somebody wants to hear it
//! (aya-log). The level is a constant for the verifier: what is below it is not loaded, so
//! without it the programs are what they would be without a log.

use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya_log::{EbpfLogger, Level};
use log::{Log, Metadata, Record};

/// How much the programs say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogLevel {
    /// Nothing.
    #[default]
    Off,
    /// What the report says too, when it happens: records and tasks without room.
    Warn,
    /// And what was inferred: switches that the kernel did not announce.
    Info,
    /// And what no figure depends on.
    Debug,
}

impl LogLevel {
    /// As the programs compare it.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::Warn => Level::Warn as u8,
            Self::Info => Level::Info as u8,
            Self::Debug => Level::Debug as u8,
        }
    }
}

/// Reads what they say.
pub(super) struct Reader {
    logger: EbpfLogger<Lines>,
    lines: Receiver<String>,
}

impl Reader {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self> {
        let (sender, lines) = channel();
        let logger = EbpfLogger::init_with_logger(ebpf, Lines(sender));
        Ok(Self {
            logger: logger.context("the programs' log can't be read")?,
            lines,
        })
    }

    pub(super) fn read(&mut self, sink: impl FnMut(String)) {
        self.logger.flush();
        self.lines.try_iter().for_each(sink);
    }
}

/// Takes each message as a line.
struct Lines(Sender<String>);

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = format!(
            "{}: {}",
            record.level().as_str().to_lowercase(),
            record.args()
        );
        // The other end is beside us.
        let _ = self.0.send(line);
    }

    fn flush(&self) {}
}
