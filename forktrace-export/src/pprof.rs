//! pprof's format, `profile.proto` in <https://github.com/google/pprof>: time off the CPU with
//! labels, for `go tool pprof`.
//!
//! A sample is all waits of one task in one place that ended alike, with the time blocked, the
//! time that it then waited for a CPU, and how many they were.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use flate2::{Compression, write::GzEncoder};
use forktrace_core::{
    analysis::{Names, Wait},
    model::Task,
};

use crate::{
    Export, Source,
    proto::Message,
    stacks::{Frames, Paths},
    text::{self, clean},
};

/// See the module.
pub(crate) struct Pprof;

/// What samples are put together by.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    /// Task, by index in the model.
    task: usize,
    /// Numbers of locations, innermost first.
    path: Vec<u32>,
    /// Numbers of texts.
    waits_on: u32,
    woken_by: u32,
    verdict: u32,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    blocked_ns: u64,
    runnable_ns: u64,
    count: u64,
}

/// A profile that is put together. A function's number is that of its name, as is that of
/// its location: nothing else is known of it.
struct Profile<'a> {
    paths: Paths<'a>,
    texts: Frames,
    /// Texts that are names of functions, by number.
    functions: Vec<bool>,
    sums: HashMap<Key, Sum>,
}

impl Export for Pprof {
    fn write(&self, source: &Source<'_>, out: &mut dyn Write) -> io::Result<()> {
        let names = Names::new(source.info, source.model);
        let mut profile = Profile {
            paths: Paths::new(source, &names),
            texts: Frames::default(),
            functions: Vec::new(),
            sums: HashMap::new(),
        };
        // Number 0 is the empty text, by the format.
        profile.texts.number("");
        let waits = names.waits();
        for (at, task) in source.model.tasks.iter().enumerate() {
            profile.task(at, task, waits.of(at));
        }
        let mut gzip = GzEncoder::new(out, Compression::default());
        profile.write(source, &mut gzip)?;
        gzip.finish()?;
        Ok(())
    }
}

impl Profile<'_> {
    fn task(&mut self, at: usize, task: &Task, waits: impl Iterator<Item = Wait>) {
        let by_seq: HashMap<u32, Wait> = waits.map(|wait| (wait.seq, wait)).collect();
        let open = task.stretches_expected.unwrap_or(u32::MAX);
        let mut add = |wait: Option<&Wait>, sum: Sum| {
            let (path, waits_on, woken_by, verdict) = match wait {
                Some(wait) => (
                    self.paths.functions(task, wait),
                    self.paths.what(task, wait),
                    self.paths.waker(wait),
                    text::ended(wait.ended),
                ),
                None => (
                    vec!["wants a CPU".to_owned()],
                    "a CPU".to_owned(),
                    String::new(),
                    "",
                ),
            };
            let path = path.iter().rev().map(|frame| {
                let number = self.texts.number(frame);
                self.functions.resize(self.texts.texts.len(), false);
                self.functions[number as usize] = true;
                number
            });
            let key = Key {
                task: at,
                path: path.collect(),
                waits_on: self.texts.number(&waits_on),
                woken_by: self.texts.number(&woken_by),
                verdict: self.texts.number(verdict),
            };
            let all = self.sums.entry(key).or_default();
            all.blocked_ns = all.blocked_ns.saturating_add(sum.blocked_ns);
            all.runnable_ns = all.runnable_ns.saturating_add(sum.runnable_ns);
            all.count += sum.count;
        };
        for off in &task.stretches {
            let wait = by_seq.get(&off.seq);
            let (away_ns, runnable_ns) = (off.wake_ns - off.out_ns, off.in_ns - off.wake_ns);
            let sum = match (wait, off.state()) {
                (Some(_), _) => Sum {
                    blocked_ns: away_ns,
                    runnable_ns,
                    count: 1,
                },
                (None, forktrace_core::model::State::Runnable) => Sum {
                    blocked_ns: 0,
                    runnable_ns: away_ns.saturating_add(runnable_ns),
                    count: 1,
                },
                // Stopped: that was no wait of its own.
                (None, _) => Sum {
                    blocked_ns: 0,
                    runnable_ns,
                    count: 1,
                },
            };
            add(wait, sum);
        }
        if let Some(wait) = by_seq.get(&open).filter(|_| task.open.is_some()) {
            let sum = Sum {
                blocked_ns: wait.end_ns - wait.start_ns,
                runnable_ns: task.end_ns - wait.end_ns,
                count: 1,
            };
            add(Some(wait), sum);
        }
    }

    fn write(mut self, source: &Source<'_>, out: &mut dyn Write) -> io::Result<()> {
        let mut number = |text: &str| u64::from(self.texts.number(text));
        let nanoseconds = number("nanoseconds");
        let types = [
            (number("off-cpu"), nanoseconds),
            (number("runnable"), nanoseconds),
            (number("waits"), number("count")),
        ];
        let labels = ["thread", "tid", "role", "waits_on", "woken_by", "verdict"].map(&mut number);
        let comment = number(&format!(
            "forktrace: {}",
            source
                .report
                .workload
                .argv
                .iter()
                .map(|arg| clean(arg))
                .collect::<Vec<_>>()
                .join(" ")
        ));
        let tasks: Vec<(u64, u64)> = source
            .report
            .tasks
            .iter()
            .map(|task| (number(&clean(&task.name)), number(&clean(&task.role))))
            .collect();
        let mut message = Message::default();
        for (name, unit) in types {
            message.message(1, |it| {
                it.number(1, name).number(2, unit);
            });
        }
        let mut sums: Vec<(Key, Sum)> = self.sums.into_iter().collect();
        sums.sort_by(|(a, a_sum), (b, b_sum)| {
            let key = |key: &Key, sum: &Sum| (std::cmp::Reverse(sum.blocked_ns), key.task);
            key(a, a_sum)
                .cmp(&key(b, b_sum))
                .then_with(|| a.path.cmp(&b.path))
        });
        for (key, sum) in sums {
            let model = &source.model.tasks[key.task];
            let (name, role) = tasks.get(key.task).copied().unwrap_or_default();
            message.message(2, |sample| {
                sample.numbers(1, key.path.iter().map(|at| u64::from(*at) + 1));
                sample.numbers(2, [sum.blocked_ns, sum.runnable_ns, sum.count]);
                let [thread, tid, role_label, waits_on, woken_by, verdict] = labels;
                for (label, text) in [
                    (thread, name),
                    (role_label, role),
                    (waits_on, key.waits_on.into()),
                    (woken_by, key.woken_by.into()),
                    (verdict, key.verdict.into()),
                ] {
                    if text != 0 {
                        sample.message(3, |it| {
                            it.number(1, label).number(2, text);
                        });
                    }
                }
                sample.message(3, |it| {
                    it.number(1, tid).number(3, model.tid.into());
                });
            });
            if message.len() > 1 << 16 {
                out.write_all(message.bytes())?;
                message.clear();
            }
        }
        let functions = self.functions.iter().enumerate();
        for (at, _) in functions.filter(|(_, is)| **is) {
            let number = at as u64 + 1;
            message.message(4, |location| {
                location.number(1, number);
                location.message(4, |line| {
                    line.number(1, number);
                });
            });
            message.message(5, |function| {
                function
                    .number(1, number)
                    .number(2, at as u64)
                    .number(3, at as u64);
            });
        }
        for text in &self.texts.texts {
            message.text(6, text);
        }
        message.number(9, source.info.header.start_unix_ns);
        message.number(10, source.report.workload.duration_ns);
        message.number(13, comment);
        message.number(14, types[0].0);
        out.write_all(message.bytes())
    }
}
