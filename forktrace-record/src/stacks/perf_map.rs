//! Code that a process makes as it runs: it says itself, in `/tmp/perf-PID.map`, where
//! which function is. Interpreters and just-in-time compilers write such a file.
//!
//! Anybody can write to `/tmp`, and nobody takes these files away: only one of the
//! process's user (or of root) is read, and of it what came after the program began.

use std::{
    cell::Cell,
    fs::{self, File, Metadata, OpenOptions},
    hash::{DefaultHasher, Hasher as _},
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use nix::{
    sys::time::TimeValLike as _,
    time::{ClockId, clock_gettime},
};

use crate::{
    clock,
    procfs::text::{self, field},
};

/// The file grows with each function: it is not read more often.
const READ_AGAIN: Duration = Duration::from_millis(200);
/// No more of it is read: one function has about a hundred.
const MOST_BYTES: u64 = 32 << 20;
/// No more functions of one file are kept.
const MOST_FUNCTIONS: usize = 1 << 19;
/// What all processes have said may take so much memory, bytes: what is beyond is not
/// kept.
const MOST_KEPT: usize = 256 << 20;
/// Generations of processes whose code one still knows.
const MOST_INHERITED: usize = 32;
/// The time of a file can be so much too early, ns: the kernel takes that of its last
/// tick.
const TICK_NS: i64 = 20_000_000;

/// What a process has said so far.
pub(super) struct PerfMap {
    process: PathBuf,
    /// `None`: the process was gone at once.
    file: Option<PathBuf>,
    /// Whose the file may be.
    users: Vec<u32>,
    /// What was in the file before, of an earlier program with this number: how many bytes,
    /// and what they come to.
    before: (usize, u64),
    /// Size and time of the file when it was read, and when that was.
    seen: Option<((u64, i64, i64), Instant)>,
    functions: Rc<Functions>,
    /// Those of the processes that it was forked from, at that time, the last one first:
    /// their code is still there, and it may be in the middle of it.
    inherited: Vec<Rc<Functions>>,
    budget: Budget,
}

/// What the functions of all processes take, bytes.
#[derive(Clone, Default)]
pub(super) struct Budget(Rc<Cell<usize>>);

/// What a file says, kept close: processes that are forked share it.
#[derive(Default)]
struct Functions {
    names: String,
    functions: Vec<Function>,
    budget: Budget,
}

struct Function {
    start: u64,
    bytes: u64,
    /// Where the name begins and ends.
    name: (u32, u32),
}

impl Functions {
    /// The last line can be one that is still being written.
    fn of(text: &[u8], budget: &Budget) -> Self {
        let whole = text.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        let text = String::from_utf8_lossy(&text[..whole]);
        let mut all = Self {
            names: String::new(),
            functions: Vec::new(),
            budget: budget.clone(),
        };
        let lines = text.lines().filter_map(function).take(MOST_FUNCTIONS);
        for (start, bytes, name) in lines {
            let from = all.names.len() as u32;
            all.names.push_str(name);
            let name = (from, all.names.len() as u32);
            all.functions.push(Function { start, bytes, name });
        }
        all.names.shrink_to_fit();
        all.functions.shrink_to_fit();
        let taken = budget.0.get() + all.bytes();
        if taken > MOST_KEPT {
            all.names = String::new();
            all.functions = Vec::new();
            return all;
        }
        budget.0.set(taken);
        all
    }

    fn bytes(&self) -> usize {
        self.names.capacity() + self.functions.capacity() * size_of::<Function>()
    }

    /// A place can be used again: the last one counts.
    fn name(&self, address: u64) -> Option<&str> {
        let is_it = |f: &&Function| address.checked_sub(f.start).is_some_and(|at| at < f.bytes);
        let (from, until) = self.functions.iter().rev().find(is_it)?.name;
        self.names.get(from as usize..until as usize)
    }
}

impl Drop for Functions {
    fn drop(&mut self) {
        let taken = self.budget.0.get();
        self.budget.0.set(taken.saturating_sub(self.bytes()));
    }
}

impl PerfMap {
    /// Of a process that is there already.
    pub(super) fn of(pid: u32, budget: &Budget) -> Self {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let status = text::read(process.join("status")).ok();
        let status = status.as_deref();
        Self {
            file: status.and_then(|status| file_of(&process, status)),
            users: status.map_or(Vec::new(), users),
            process,
            before: (0, 0),
            seen: None,
            functions: Rc::default(),
            inherited: Vec::new(),
            budget: budget.clone(),
        }
    }

    /// Of this process, but in this file.
    #[cfg(test)]
    pub(super) fn in_file(file: PathBuf) -> Self {
        Self {
            file: Some(file),
            ..Self::of(std::process::id(), &Budget::default())
        }
    }

    /// Of a process that began, or executed a program, at this time of the monotonic
    /// clock, ns.
    pub(super) fn since(pid: u32, at_ns: u64, budget: &Budget) -> Self {
        let mut map = Self::of(pid, budget);
        let before = map.open().filter(|(_, data)| is_before(data, at_ns));
        map.before = before.map_or((0, 0), |(file, _)| sum(&read(file)));
        map
    }

    /// Of a process that `parent` has just forked.
    pub(super) fn forked(pid: u32, at_ns: u64, parent: Option<&mut Self>, budget: &Budget) -> Self {
        let mut map = Self::since(pid, at_ns, budget);
        if let Some(parent) = parent {
            parent.read(true);
            let has_said = !parent.functions.functions.is_empty();
            let said = has_said.then(|| parent.functions.clone()).into_iter();
            let inherited = parent.inherited.iter().cloned();
            map.inherited = said.chain(inherited).take(MOST_INHERITED).collect();
        }
        map
    }

    /// Reads the file if there is more in it than there was: not `at_once` if it was
    /// read just before. Gives whether it did.
    pub(super) fn read(&mut self, at_once: bool) -> bool {
        let Some((file, data)) = self.open() else {
            return false;
        };
        let now = (data.len(), data.mtime(), data.mtime_nsec());
        if let Some((state, at)) = &self.seen
            && (*state == now || !at_once && self.inherited.is_empty() && at.elapsed() < READ_AGAIN)
        {
            return false;
        }
        // The state of before it was read: what came meanwhile is read the next time.
        self.seen = Some((now, Instant::now()));
        let text = read(file);
        let (before, since) = text.split_at_checked(self.before.0).unwrap_or_default();
        let is_appended = sum(before) == self.before;
        let text = if is_appended { since } else { &text };
        // The old ones first: both can be more than there is room for.
        self.functions = Rc::default();
        self.functions = Rc::new(Functions::of(text, &self.budget));
        true
    }

    /// The function at this address.
    pub(super) fn name(&self, address: u64) -> Option<&str> {
        let mut all = std::iter::once(&self.functions).chain(&self.inherited);
        all.find_map(|functions| functions.name(address))
    }

    /// Can there be more? Not of one that has ended and that nobody has waited for.
    pub(super) fn lives(&self) -> bool {
        self.file.is_some() && self.process.join("root").exists()
    }

    /// The file, if there is one and it may be believed.
    fn open(&mut self) -> Option<(File, Metadata)> {
        let mut options = OpenOptions::new();
        let options = options.read(true);
        // A link could lead anywhere, a pipe would not let us go on.
        let options = options.custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
        let file = options.open(self.file.as_ref()?).ok()?;
        let data = file.metadata().ok()?;
        if data.uid() != 0 && !self.users.contains(&data.uid()) {
            // It can have become another user's process.
            let status = text::read(self.process.join("status")).ok()?;
            self.users = users(&status);
        }
        let is_theirs = data.uid() == 0 || self.users.contains(&data.uid());
        (data.is_file() && is_theirs).then_some((file, data))
    }
}

/// In the file system and by the number that the process itself knows. Where its `/tmp`
/// is ours, as we see it: there it can be read when the process has ended.
fn file_of(process: &Path, status: &str) -> Option<PathBuf> {
    let own = field(status, "NStgid")?.split_whitespace().last()?;
    let (theirs, ours) = (process.join("root/tmp"), PathBuf::from("/tmp"));
    let identity = |path: &Path| fs::metadata(path).ok().map(|data| (data.dev(), data.ino()));
    let is_ours = identity(&theirs)? == identity(&ours)?;
    let folder = if is_ours { ours } else { theirs };
    Some(folder.join(format!("perf-{own}.map")))
}

/// All that the process is known as: real, effective and so on.
fn users(status: &str) -> Vec<u32> {
    let users = field(status, "Uid").unwrap_or_default();
    let users = users.split_whitespace();
    users.filter_map(|user| user.parse().ok()).collect()
}

/// Was the file last written before this time of the monotonic clock?
fn is_before(data: &Metadata, at_ns: u64) -> bool {
    let (Ok(monotonic), Ok(real)) = (clock::now_ns(), clock_gettime(ClockId::CLOCK_REALTIME))
    else {
        return false;
    };
    let at = real.num_nanoseconds() - (monotonic as i64 - at_ns as i64);
    let written = data.mtime().saturating_mul(1_000_000_000) + data.mtime_nsec();
    written < at - TICK_NS
}

fn read(file: File) -> Vec<u8> {
    let mut text = Vec::new();
    // What could be read counts.
    let _ = file.take(MOST_BYTES).read_to_end(&mut text);
    text
}

/// How many bytes, and what they come to.
fn sum(text: &[u8]) -> (usize, u64) {
    let mut hasher = DefaultHasher::new();
    hasher.write(text);
    (
        text.len(),
        if text.is_empty() { 0 } else { hasher.finish() },
    )
}

/// `START SIZE NAME`, the numbers hexadecimal, with `0x` (Java) or without.
fn function(line: &str) -> Option<(u64, u64, &str)> {
    let mut parts = line.splitn(3, ' ');
    let mut number = || {
        let digits = parts.next()?;
        u64::from_str_radix(digits.trim_start_matches("0x"), 16).ok()
    };
    let (start, bytes) = (number()?, number()?);
    Some((start, bytes, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_text(text: &str) -> PerfMap {
        PerfMap {
            functions: Rc::new(Functions::of(text.as_bytes(), &Budget::default())),
            ..PerfMap::in_file(PathBuf::new())
        }
    }

    #[test]
    fn what_all_maps_take_is_bounded_and_given_back() {
        let budget = Budget::default();
        let text = "7f00 10 f\n8f00 20 g\n";
        let held = Functions::of(text.as_bytes(), &budget);
        assert_eq!((held.functions.len(), budget.0.get()), (2, held.bytes()));
        budget.0.set(MOST_KEPT);
        let refused = Functions::of(text.as_bytes(), &budget);
        assert_eq!((refused.functions.len(), budget.0.get()), (0, MOST_KEPT));
        drop(refused);
        budget.0.set(held.bytes());
        drop(held);
        assert_eq!(budget.0.get(), 0);
        let long = "7f00 10 f\n".repeat(MOST_FUNCTIONS + 2);
        assert_eq!(
            Functions::of(long.as_bytes(), &budget).functions.len(),
            MOST_FUNCTIONS
        );
    }

    proptest::proptest! {
        /// Whatever a process writes there.
        #[test]
        fn odd_maps_are_read_as_far_as_they_go(
            lines in proptest::collection::vec("(0x)?[0-9a-f]{0,17} [0-9a-f]{0,17} ?\\PC{0,9}\n?", 0..20),
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
            at: u64,
        ) {
            let text = [lines.concat().as_bytes(), &bytes].concat();
            let budget = Budget::default();
            let functions = Functions::of(&text, &budget);
            let _ = functions.name(at);
            for function in &functions.functions {
                let found = functions.name(function.start);
                assert!(found.is_some() || function.bytes == 0, "{text:?}");
            }
            assert_eq!(budget.0.get(), functions.bytes());
        }
    }

    #[test]
    fn both_ways_to_write_a_number_are_read_and_nonsense_is_not() {
        let map = of_text(
            "7f00 10 py::f:/a b.py\n0x8f00 0x20 void J.f(int, int)\nnonsense\n\
             9f00 zz x\n9f00 10\n",
        );
        assert_eq!(map.functions.functions.len(), 2);
        assert_eq!(map.name(0x7f00), Some("py::f:/a b.py"));
        assert_eq!(map.name(0x7f0f), Some("py::f:/a b.py"));
        assert_eq!(map.name(0x7f10), None);
        assert_eq!(map.name(0x8f1f), Some("void J.f(int, int)"));
        assert_eq!(map.name(0), None);
    }

    #[test]
    fn names_of_python_are_taken_as_they_are() {
        let map = of_text(
            "7f0d50f6f000 b py::<module>:<frozen importlib._bootstrap>\n\
             7f0d50f6f010 b py::Door.enter.<locals>.<lambda>:/home/a user/shop.py\n\
             7f0d50f6f020 b py::größe:<string>\n",
        );
        let names = [0x7f0d_50f6_f00a, 0x7f0d_50f6_f016, 0x7f0d_50f6_f02a].map(|it| map.name(it));
        let expected = [
            "py::<module>:<frozen importlib._bootstrap>",
            "py::Door.enter.<locals>.<lambda>:/home/a user/shop.py",
            "py::größe:<string>",
        ];
        assert_eq!(names, expected.map(Some));
    }

    #[test]
    fn a_line_that_is_still_being_written_does_not_count() {
        let map = of_text("100 10 whole\n200 10 ha");
        assert_eq!(map.name(0x100), Some("whole"));
        assert_eq!(map.name(0x200), None);
        assert_eq!(of_text("100 10 ha").name(0x100), None);
    }

    #[test]
    fn a_place_that_is_used_again_is_what_was_last_there() {
        let map = of_text("100 80 old\n140 10 new\nffffffffffffff00 fff end\n");
        assert_eq!(map.name(0x144), Some("new"));
        assert_eq!(map.name(0x150), Some("old"));
        assert_eq!(map.name(u64::MAX), Some("end"));
    }

    #[test]
    fn code_of_the_parent_has_its_names_but_what_was_made_since_counts_first() {
        let mut map = of_text("100 10 own\n");
        map.inherited = ["100 80 parent's\n", "100 f0 its parent's\n"]
            .map(|text| Rc::new(Functions::of(text.as_bytes(), &Budget::default())))
            .to_vec();
        assert_eq!(map.name(0x100), Some("own"));
        assert_eq!(map.name(0x170), Some("parent's"));
        assert_eq!(map.name(0x190), Some("its parent's"));
        assert_eq!(map.name(0x200), None);
    }

    #[test]
    fn what_an_earlier_program_with_this_number_wrote_does_not_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("map");
        fs::write(&path, "100 10 old\n").expect("a file");
        let mut map = PerfMap::in_file(path.clone());
        map.before = sum(&read(map.open().expect("it is ours").0));
        fs::write(&path, "100 10 old\n200 10 new\n").expect("a file");
        assert!(map.read(true));
        assert_eq!((map.name(0x100), map.name(0x200)), (None, Some("new")));
        // One that does not append but begins anew.
        fs::write(&path, "100 10 new too, and longer than the old one\n").expect("a file");
        assert!(map.read(true));
        assert_eq!(
            map.name(0x100),
            Some("new too, and longer than the old one")
        );
    }

    #[test]
    fn a_file_is_older_than_what_begins_after_it_and_not_than_what_began_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("map");
        fs::write(&path, "").expect("a file");
        let data = fs::metadata(&path).expect("it is there");
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
        let now_ns = now.num_nanoseconds() as u64;
        assert!(is_before(&data, now_ns + 1_000_000_000));
        assert!(!is_before(&data, now_ns));
        assert!(!is_before(&data, 0));
    }

    #[test]
    fn only_a_plain_file_of_the_process_s_user_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, link) = (folder.path().join("map"), folder.path().join("link"));
        fs::write(&path, "100 10 f\n").expect("a file");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        assert!(PerfMap::in_file(path.clone()).read(true));
        assert!(!PerfMap::in_file(link).read(true));
        assert!(!PerfMap::in_file(folder.path().to_owned()).read(true));
        let owner = fs::metadata(&path).expect("it is there").uid();
        let users = [(owner, true), (owner + 1, owner == 0)];
        for (user, is_read) in users {
            let mut map = PerfMap {
                process: PathBuf::new(),
                users: vec![user],
                ..PerfMap::in_file(path.clone())
            };
            assert_eq!(map.read(true), is_read, "{user}");
        }
    }

    #[test]
    fn the_file_has_the_number_of_the_process_not_of_one_of_its_threads() {
        let status = "Tgid:\t7\nUid:\t0\t5\t0\t5\nNStgid:\t7\t1\nNSpid:\t8\t2\n";
        let process = PathBuf::from(format!("/proc/{}", std::process::id()));
        let file = file_of(&process, status);
        assert_eq!(file.as_deref(), Some(Path::new("/tmp/perf-1.map")));
        assert_eq!(users(status), [0, 5, 0, 5]);
    }
}
