//! The code that tasks wait in: of each block the innermost function of its stack that is
//! the program's own, as far as stacks were taken.

use std::collections::HashMap;

use super::{primitives, sum_by_key::SumByKey};
use crate::{
    model::Model,
    report::{CodeWait, LockKind},
    trace::{Frames, Waker},
};

/// Functions that are listed of one wait.
const MOST: usize = 5;

/// The waiting code of blocks.
#[derive(Default)]
pub(super) struct Code {
    /// Serial, stretch, and index of the name, in the order of the first two.
    blocks: Vec<(u32, u32, u32)>,
    /// Each with the kind of lock that it waits for, if what it calls tells that.
    names: Vec<(String, Option<LockKind>)>,
}

/// Blocks by their waiting code.
#[derive(Clone, Debug, Default)]
pub(super) struct CodeSum(
    /// By name: time, and blocks. Mostly there are no stacks.
    Option<Box<SumByKey<u32, (u64, u64)>>>,
);

impl Code {
    pub(super) fn new(model: &Model) -> Self {
        let mut code = Self::default();
        let mut known: HashMap<(&str, Option<LockKind>), u32> = HashMap::new();
        // By number of the stack.
        let mut of_stack: HashMap<u32, Option<u32>> = HashMap::new();
        for stacks in model.stacks.iter().filter(|it| it.waker == Waker::None) {
            let name = stacks.user.and_then(|number| {
                *of_stack.entry(number).or_insert_with(|| {
                    let (name, calls) = waits_in(model.frames.get(&number)?)?;
                    let kind = primitives::of(calls);
                    Some(*known.entry((name, kind)).or_insert_with(|| {
                        code.names.push((short(name).to_owned(), kind));
                        code.names.len() as u32 - 1
                    }))
                })
            });
            // A later stack of the same block counts, also where it does not tell.
            let name = name.unwrap_or(u32::MAX);
            code.blocks.push((stacks.serial, stacks.seq, name));
        }
        code.blocks.sort_by_key(|(serial, seq, _)| (*serial, *seq));
        code.blocks.reverse();
        code.blocks.dedup_by_key(|(serial, seq, _)| (*serial, *seq));
        code.blocks.reverse();
        code.blocks.retain(|(.., name)| *name != u32::MAX);
        code
    }

    fn find(&self, serial: u32, seq: u32) -> Option<u32> {
        if self.blocks.is_empty() {
            return None;
        }
        let key = |it: &(u32, u32, u32)| (it.0, it.1);
        let at = self.blocks.binary_search_by_key(&(serial, seq), key).ok()?;
        Some(self.blocks[at].2)
    }

    /// That of a block, by its task's serial and its stretch.
    pub(super) fn of(&self, serial: u32, seq: u32) -> Option<&str> {
        let name = self.find(serial, seq)?;
        self.names.get(name as usize).map(|(name, _)| &**name)
    }

    /// The kind of lock that all of these wait for who say one.
    pub(super) fn kind(&self, sum: &CodeSum) -> Option<LockKind> {
        let all = sum.0.iter().flat_map(|sums| sums.rows());
        let mut kinds = all.filter_map(|(name, _)| self.names[*name as usize].1);
        let first = kinds.next()?;
        kinds.all(|kind| kind == first).then_some(first)
    }

    /// Adds a block.
    pub(super) fn add(&self, sum: &mut CodeSum, serial: u32, seq: u32, ns: u64) {
        if let Some(name) = self.find(serial, seq) {
            sum.add(name, ns, 1);
        }
    }

    /// The functions, most time first; only the first few.
    pub(super) fn rows(&self, sum: CodeSum) -> Vec<CodeWait> {
        // The same name can be of several functions.
        let mut rows: Vec<CodeWait> = Vec::new();
        for (name, (ns, count)) in sum.into_rows() {
            let (name, _) = &self.names[name as usize];
            match rows.iter_mut().find(|row| row.name == *name) {
                Some(row) => {
                    row.ns = row.ns.saturating_add(ns);
                    row.count += count;
                }
                None => rows.push(CodeWait {
                    name: name.clone(),
                    ns,
                    count,
                }),
            }
        }
        rows.sort_by(|a, b| b.ns.cmp(&a.ns).then_with(|| a.name.cmp(&b.name)));
        rows.truncate(MOST);
        rows
    }
}

impl CodeSum {
    fn add(&mut self, name: u32, ns: u64, count: u64) {
        let (sum, blocks) = self.0.get_or_insert_default().of(name);
        *sum = sum.saturating_add(ns);
        *blocks += count;
    }

    /// Adds those of another.
    pub(super) fn merge(&mut self, other: Self) {
        for (name, (ns, count)) in other.into_rows() {
            self.add(name, ns, count);
        }
    }

    fn into_rows(self) -> Vec<(u32, (u64, u64))> {
        self.0.map(|sums| sums.into_rows()).unwrap_or_default()
    }
}

/// The function, and those that it is in of what it called, innermost first.
fn waits_in(frames: &Frames) -> Option<(&str, &[String])> {
    let at = frames.waits_in? as usize;
    Some((frames.frames.get(at)?, &frames.frames[..at]))
}

/// A function's name without its parameters, and a place without its brackets.
fn short(name: &str) -> &str {
    if let Some(place) = name.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        return place;
    }
    let mut depth = 0usize;
    for (at, c) in name.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            '(' if depth == 0 => {
                let before = &name[..at];
                let is_list = |c: char| !matches!(c, ' ' | ':' | '.' | '*' | '&');
                let is_operator = before.ends_with("operator");
                if !is_operator && before.chars().next_back().is_some_and(is_list) {
                    return before;
                }
            }
            _ => {}
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn a_name_is_told_without_its_parameters() {
        for (name, expected) in [
            ("update_index", "update_index"),
            ("[nginx+0x41f3c]", "nginx+0x41f3c"),
            ("fetch (app.py:41)", "fetch (app.py:41)"),
            ("app::wait(std::mutex&)", "app::wait"),
            (
                "void app::wait<void (*)(int)>(int) const",
                "void app::wait<void (*)(int)>",
            ),
            (
                "shop::(anonymous namespace)::rest(int)",
                "shop::(anonymous namespace)::rest",
            ),
            ("app::Job::operator()(int)", "app::Job::operator()"),
            ("main.(*Server).Run", "main.(*Server).Run"),
            (
                "<app::Client as std::io::Read>::read",
                "<app::Client as std::io::Read>::read",
            ),
        ] {
            assert_eq!(short(name), expected);
        }
    }
}
