//! `/proc/PID/stat`.

use super::text;

/// include/linux/sched.h
const PF_KTHREAD: u64 = 0x0020_0000;

/// What it tells of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The name, which can hold anything.
    pub comm: String,
    /// `R`, `S`, `D`, `Z` and so on: proc_pid_stat(5).
    pub state: char,
    /// The parent.
    pub ppid: u32,
    flags: u64,
    /// Threads that have not been taken note of.
    pub threads: u64,
    /// When the process began, in ticks: with its pid, which process it is.
    pub began: u64,
}

impl Stat {
    /// Of a process, or a thread; `None`: there is none.
    pub fn of(pid: u32) -> Option<Self> {
        Self::parse(&text::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// `None`: there is no such process, or it has ended, or is the kernel's.
    pub fn of_process(pid: u32) -> Option<Self> {
        let stat = Self::of(pid)?;
        let is_one = !stat.is_kernels() && !stat.has_ended();
        is_one.then_some(stat)
    }

    /// A thread of the kernel.
    pub fn is_kernels(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    /// A process whose first thread has ended lives as long as another one does.
    pub fn has_ended(&self) -> bool {
        match self.state {
            'Z' => self.threads <= 1,
            'X' => true,
            _ => false,
        }
    }

    /// The name, on one line.
    pub fn name(&self) -> String {
        super::text::on_one_line(&self.comm)
    }

    /// `1 (a name) S 0 1 1 0 -1 4194560 …`
    fn parse(text: &str) -> Option<Self> {
        let (before, after) = text.rsplit_once(") ")?;
        let (_, comm) = before.split_once(" (")?;
        let mut fields = after.split_ascii_whitespace();
        Some(Self {
            comm: comm.to_owned(),
            state: fields.next()?.chars().next()?,
            ppid: fields.next()?.parse().ok()?,
            flags: fields.nth(4)?.parse().ok()?,
            threads: fields.nth(10)?.parse().ok()?,
            began: fields.nth(1)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_hold_anything() {
        let text = "12 (a) S (b) R 7 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 10";
        let stat = Stat::parse(text).expect("it is one");
        assert_eq!((stat.threads, stat.began), (1, 4711));
        assert_eq!((&*stat.comm, stat.state, stat.ppid), ("a) S (b", 'R', 7));
        assert_eq!(stat.flags, 4_194_560);
        assert!(Stat::parse("12 (a) S").is_none() && Stat::parse("").is_none());
    }
}
