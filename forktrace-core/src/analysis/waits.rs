//! The waits of a task, one by one and by name: for whoever shows the whole time line and not
//! only sums of it.

use super::{
    blocks::{Block, Blocks},
    objects,
    syscall_families::wait_reason,
    wakers::Wakers,
};
use crate::{
    model::{InSyscall, Model, Off, Task},
    report::{Ended, Object, WokenBy},
    trace::{Arch, Timeout, Waker},
    trace_file::TraceInfo,
};

/// Gives names to what is in a trace.
pub struct Names<'a> {
    model: &'a Model,
    arch: Arch,
    wakers: Wakers<'a>,
}

impl<'a> Names<'a> {
    /// For the tasks of this trace.
    pub fn new(info: &'a TraceInfo, model: &'a Model) -> Self {
        Self {
            model,
            arch: info.header.arch,
            wakers: Wakers::new(model, &info.header),
        }
    }

    /// The waits of the tasks.
    pub fn waits(&'a self) -> Waits<'a> {
        Waits {
            blocks: Blocks::new(self.model, &self.wakers, self.arch),
        }
    }

    /// What a task waits in: the reason, as in [`crate::report::Wait::reason`], and the
    /// syscall's name.
    pub fn reason(&self, task: &Task, wait: &Wait) -> (String, Option<String>) {
        let call = InSyscall {
            number: wait.syscall,
            compat: wait.compat,
        };
        self.reason_in(task, call)
    }

    /// The same of a task that is blocked in this call.
    pub fn reason_in(&self, task: &Task, call: InSyscall) -> (String, Option<String>) {
        wait_reason(self.arch, call.number, call.compat, task.kernel_worker)
    }

    /// What it waits for; `None`: not known.
    pub fn object(&self, wait: &Wait) -> Option<Object> {
        self.object_at(wait.target)
    }

    /// The same by [`Wait::target`].
    pub fn object_at(&self, target: u32) -> Option<Object> {
        objects::describe(self.model, target)
    }

    /// Who a waker was at this time, ns since the trace began.
    pub fn waker(&self, waker: Waker, at_ns: u64) -> WokenBy {
        self.wakers.describe(waker, at_ns)
    }

    /// Where in [`Model::tasks`] the task with this serial is.
    pub fn index(&self, serial: u32) -> Option<usize> {
        self.wakers.index(serial)
    }
}

/// All waits of a trace. Made once: it looks at each task.
pub struct Waits<'a> {
    blocks: Blocks<'a>,
}

/// One wait: from going to sleep to the wakeup. Times are ns since the trace began.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// When it began.
    pub start_ns: u64,
    /// When it ended, or the task's life or the recording did.
    pub end_ns: u64,
    /// Its task was woken.
    pub woken: bool,
    /// The syscall, as [`crate::model::Off::syscall`].
    pub syscall: i16,
    /// The number is of the 32-bit table.
    pub compat: bool,
    /// What it waited for: index in [`Model::targets`].
    pub target: u32,
    /// How long its call waits at most.
    pub timeout: Timeout,
    /// Who woke it; [`Waker::None`] where none is known.
    pub waker: Waker,
    /// How it ended.
    pub ended: Ended,
    /// Its number among the task's stretches.
    pub seq: u32,
}

impl Waits<'_> {
    /// Those of a task, by its index in [`Model::tasks`], in order. The sum of their lengths is
    /// the task's time blocked, as far as no records are lost.
    pub fn of(&self, task: usize) -> impl Iterator<Item = Wait> + '_ {
        let at = &self.blocks.model.tasks[task];
        let stretches = at.stretches.iter().filter_map(Block::of);
        let blocks = stretches.chain(Block::open(at));
        blocks.map(move |block| self.wait(task, &block))
    }

    /// The one that a task, by its index, begins with this stretch; `None`: with the one that is
    /// open at the end.
    #[inline]
    pub fn begun(&self, task: usize, stretch: Option<&Off>) -> Option<Wait> {
        let block = match stretch {
            Some(off) => Block::of(*off),
            None => Block::open(&self.blocks.model.tasks[task]),
        };
        Some(self.wait(task, &block?))
    }

    #[inline]
    fn wait(&self, task: usize, block: &Block) -> Wait {
        Wait {
            start_ns: block.start_ns,
            end_ns: block.end_ns(&self.blocks.model.tasks[task]),
            woken: block.wake_ns.is_some(),
            syscall: block.syscall,
            compat: block.compat,
            target: block.target,
            timeout: block.timeout,
            waker: block.waker,
            ended: self.blocks.how(task, block),
            seq: block.seq,
        }
    }
}
