//! Who ended a task that did not end by itself.

use super::Blocks;

impl Blocks<'_> {
    /// The task that ended this one, and when: by a signal that it sent, or by ending the
    /// process of both. `None`: it ended by itself, nobody of the workload did it, or the
    /// records don't tell.
    pub(in crate::analysis) fn ended_by(&self, task: usize) -> Option<(u32, u64)> {
        let it = &self.model.tasks[task];
        let record = it.record.as_ref()?;
        let ended_in = record.ended_in?;
        if self.exits.contains(&Some(ended_in)) {
            return None;
        }
        let (by, at_ns) = match record.exit_code? & 0x7f {
            0 => self.left_by(task)?,
            number => self.killed_by(task, number)?,
        };
        let lived = &self.model.tasks[by];
        let alive = lived.start_ns < at_ns && at_ns <= lived.end_ns;
        (by != task && alive && at_ns > it.start_ns).then_some((by as u32, at_ns))
    }

    /// The thread of its process that made all of them end, and when that one ended.
    fn left_by(&self, task: usize) -> Option<(usize, u64)> {
        let it = &self.model.tasks[task];
        let by = *self.left.get(&it.process)? as usize;
        Some((by, self.model.tasks[by].end_ns.min(it.end_ns)))
    }

    /// Who sent the signal that killed it, and when.
    fn killed_by(&self, task: usize, number: u32) -> Option<(usize, u64)> {
        let it = &self.model.tasks[task];
        let sent = self.signals.get(&it.process)?;
        let until = sent.partition_point(|signal| signal.at_ns <= it.end_ns);
        let mut before = sent[..until].iter().rev();
        let signal = before.find(|signal| {
            u32::from(signal.number) == number && signal.to.is_none_or(|to| to == it.serial)
        })?;
        Some((self.wakers.task(signal.sender)?, signal.at_ns))
    }
}
