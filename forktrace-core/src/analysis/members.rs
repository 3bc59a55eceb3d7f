//! The tasks of a group, by position in it and in the model.

/// A group's tasks.
pub(super) struct Members<'a> {
    /// [`crate::report::Group::id`].
    pub(super) group: u32,
    /// Indices in the model, ascending.
    pub(super) tasks: Vec<u32>,
    /// The position in `tasks` of a task of the model, if it is one of its own
    /// group.
    pub(super) positions: &'a [u32],
}

impl Members<'_> {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// The position of a task of the model.
    #[inline]
    pub(super) fn position(&self, task: u32) -> Option<u32> {
        let position = *self.positions.get(task as usize)?;
        (self.tasks.get(position as usize) == Some(&task)).then_some(position)
    }
}
