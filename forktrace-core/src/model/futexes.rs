//! What the calls that wait for futexes tell beyond which one it is.

/// An owner that was in a lock when a task went to sleep on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnerSeen {
    /// The task that went to sleep.
    pub serial: u32,
    /// In this stretch.
    pub seq: u32,
    /// Tid of the owner, as the lock had it.
    pub tid: u32,
}

/// What is known of futexes from the calls that waited for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Futexes {
    /// By index of the target, a bit for each command of `futex` that waited for it
    /// (`include/uapi/linux/futex.h`).
    commands: Vec<u16>,
    /// In the order of serial and stretch.
    owners: Vec<OwnerSeen>,
}

impl Futexes {
    /// Made of what was collected.
    pub fn new(commands: Vec<u16>, mut owners: Vec<OwnerSeen>) -> Self {
        owners.sort_unstable();
        owners.dedup_by_key(|it| (it.serial, it.seq));
        Self { commands, owners }
    }

    /// The commands of `futex` that waited for this target, a bit each.
    pub fn commands(&self, target: u32) -> u16 {
        self.commands.get(target as usize).copied().unwrap_or(0)
    }

    /// No lock named its owner.
    pub fn has_no_owners(&self) -> bool {
        self.owners.is_empty()
    }

    /// The owners that were seen in a task's locks, in the order of its stretches.
    pub fn owners_of(&self, serial: u32) -> &[OwnerSeen] {
        let from = self.owners.partition_point(|it| it.serial < serial);
        let until = self.owners.partition_point(|it| it.serial <= serial);
        &self.owners[from..until]
    }
}

#[cfg(test)]
mod tests {
    use forktrace_common::layout::futex;

    use super::*;

    #[test]
    fn an_operation_and_an_owner_are_told_apart() {
        let largest = (1 << 22) - 1;
        for (op, owner) in [(0, 0), (0x189, 1), (0x80, 4121), (0x1ff, largest)] {
            let arg1 = futex::arg1(op, owner);
            assert_eq!((futex::op(arg1), futex::owner(arg1)), (op, owner));
        }
        // As a trace has it that does not know of owners.
        assert_eq!((futex::op(0x80), futex::owner(0x80)), (0x80, 0));
        // No tid is that large.
        assert_eq!(futex::owner(futex::arg1(0x80, 1 << 23)), 0);
    }

    #[test]
    fn owners_are_found_by_who_waited() {
        let seen = |serial, seq, tid| OwnerSeen { serial, seq, tid };
        let all = vec![seen(3, 2, 9), seen(1, 5, 8), seen(3, 1, 7), seen(3, 1, 7)];
        let futexes = Futexes::new(vec![0, 1 << 9], all);
        assert_eq!(futexes.owners_of(3), [seen(3, 1, 7), seen(3, 2, 9)]);
        assert_eq!(futexes.owners_of(2), []);
        assert_eq!((futexes.commands(1), futexes.commands(7)), (1 << 9, 0));
    }
}
