//! What became of the processes that look things up, in words: what is known of each, and
//! no more.

use crate::trace::{HelperEnd, HelperLost, HelperOf, How, signals};

/// Signals whose reason can be told.
const ABRT: i32 = 6;
const BUS: i32 = 7;
const KILL: i32 = 9;

/// How often something went wrong.
pub(super) fn times(lost: &HelperLost) -> u64 {
    let cut = lost.ends.iter().filter(|end| end.how == How::FileCut);
    let cut = cut.fold(0, |sum: u64, end| sum.saturating_add(end.times));
    lost.stuck.saturating_add(lost.died).saturating_add(cut)
}

/// All of it, and what came of it.
pub(super) fn lost(lost: &HelperLost) -> String {
    let mut parts = Vec::new();
    if lost.stuck > 0 {
        parts.push(format!(
            "{} did not answer in time, as on a file system that no longer answers",
            processes(lost.stuck, "names")
        ));
    }
    let (not_begun, ended): (Vec<_>, Vec<_>) = lost
        .ends
        .iter()
        .partition(|end| matches!(end.how, How::NotBegun(_)));
    parts.extend(ended.into_iter().map(of_one));
    parts.extend(of_those_that_could_not_begin(&not_begun));
    let seen = lost.ends.iter().filter(|end| end.how != How::FileCut);
    let seen = seen.fold(0, |sum: u64, end| sum.saturating_add(end.times));
    let unseen = lost.died.saturating_sub(seen);
    if unseen > 0 {
        parts.push(format!(
            "{} died, and nobody saw of what",
            processes(unseen, "names")
        ));
    }
    let plural = if lost.unanswered == 1 { "" } else { "s" };
    format!(
        "{}: {} question{plural} for files, functions or deadlocks got no answer",
        parts.join("; "),
        lost.unanswered
    )
}

/// What lacks for one lacks for the others, mostly: each reason is told once.
fn of_those_that_could_not_begin(ends: &[&HelperEnd]) -> Vec<String> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for end in ends {
        let How::NotBegun(why) = &end.how else {
            continue;
        };
        match reasons.iter_mut().find(|(known, _)| known == why) {
            Some((_, whats)) => whats.push(what(end.of)),
            None => reasons.push((why, vec![what(end.of)])),
        }
    }
    let sentence = |(why, whats): (&str, Vec<&str>)| {
        let whats = match whats.as_slice() {
            [rest @ .., last] if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
            whats => whats.concat(),
        };
        format!("looking up {whats} could not begin: {why}")
    };
    reasons.into_iter().map(sentence).collect()
}

fn what(of: HelperOf) -> &'static str {
    match of {
        HelperOf::Names => "names",
        HelperOf::Deadlocks => "deadlocks",
        HelperOf::Providers => "who could end waits",
        HelperOf::Symbols => "functions",
        HelperOf::Stacks => "stacks",
        HelperOf::Java => "names of Java methods",
    }
}

fn of_one(end: &HelperEnd) -> String {
    let who = processes(end.times, what(end.of));
    let was = if end.times == 1 { "was" } else { "were" };
    match &end.how {
        How::Signal(number) => {
            let why = match *number {
                BUS => ": a file was cut short or could not be read while it was mapped".to_owned(),
                ABRT if end.memory_bytes > 0 => format!(
                    ": it needed more than the {} MiB of memory that it may take, or has a fault",
                    end.memory_bytes >> 20
                ),
                KILL => ": somebody killed it, or the kernel for lack of memory".to_owned(),
                _ => String::new(),
            };
            format!("{who} {was} ended by {}{why}", signals::name(*number))
        }
        How::Exit(status) => format!("{who} ended with status {status}, a fault of forktrace"),
        How::NotBegun(why) => format!("{who} could not begin: {why}"),
        How::FileCut => {
            let plural = if end.times == 1 { "" } else { "s" };
            format!(
                "a file was cut short while its functions were looked up, {} time{plural}",
                end.times
            )
        }
        How::Senseless => format!("{who} gave an answer that is none, and {was} ended"),
    }
}

fn processes(count: u64, of: &str) -> String {
    match count {
        1 => format!("1 process that looks up {of}"),
        _ => format!("{count} processes that look up {of}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_each_is_told_and_no_more() {
        let end = |of, how, times| HelperEnd {
            of,
            how,
            times,
            memory_bytes: 256 << 20,
        };
        let all = HelperLost {
            stuck: 1,
            died: 7,
            unanswered: 1,
            ends: vec![
                end(HelperOf::Symbols, How::Signal(BUS), 3),
                end(HelperOf::Names, How::Signal(ABRT), 1),
                end(HelperOf::Names, How::NotBegun("no /proc".to_owned()), 1),
                end(HelperOf::Providers, How::NotBegun("no /proc".to_owned()), 1),
            ],
        };
        assert_eq!(
            lost(&all),
            "1 process that looks up names did not answer in time, as on a file system that no \
             longer answers; 3 processes that look up functions were ended by SIGBUS: a file was \
             cut short or could not be read while it was mapped; 1 process that looks up names \
             was ended by SIGABRT: it needed more than the 256 MiB of memory that it may take, or \
             has a fault; looking up names and who could end waits could not begin: no /proc; \
             1 process that looks up names died, and nobody saw of what: 1 question for files, \
             functions or deadlocks got no answer"
        );
        let old = HelperLost {
            died: 2,
            unanswered: 2,
            ..HelperLost::default()
        };
        assert!(lost(&old).starts_with("2 processes that look up names died, and nobody saw"));
    }
}
