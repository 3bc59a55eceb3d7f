//! What only we know, on tracks: waits under each thread, stalls, and how one led to another.

use std::{collections::HashMap, io};

use forktrace_core::{
    analysis::{Names, Wait},
    model::{State, Task},
    report::{Episode, Link, Verdict},
};

use super::{Packets, field};
use crate::{
    Source,
    proto::Message,
    text::{self, clean},
};

/// All our packets are of one sequence, which texts that are sent once belong to.
const SEQUENCE: u64 = 1;
/// `SEQ_INCREMENTAL_STATE_CLEARED` and `SEQ_NEEDS_INCREMENTAL_STATE`.
const CLEARED: u64 = 1;
const NEEDS_STATE: u64 = 2;

/// Tracks of tasks come after these, by index in the model.
const STALLS: u64 = 1;
const FIRST_TASK: u64 = 16;

/// `TrackEvent.Type`.
const BEGIN: u64 = 1;
const END: u64 = 2;
const INSTANT: u64 = 3;

/// Where texts that are sent once go, in `InternedData`.
const EVENT_NAMES: u32 = 2;
const ANNOTATION_NAMES: u32 = 3;
const STRING_VALUES: u32 = 29;

pub(super) fn write(
    source: &Source<'_>,
    names: &Names<'_>,
    tids: &[u32],
    packets: &mut Packets<'_>,
) -> io::Result<()> {
    let mut tracks = Tracks {
        source,
        names,
        packets,
        texts: HashMap::new(),
        fresh: Message::default(),
        flows: 0,
    };
    tracks.begin()?;
    tracks.track(STALLS, |track| {
        track.text(2, "Stalls: all tasks blocked");
    })?;
    for episode in &source.report.episodes {
        tracks.stall(episode)?;
    }
    let waits = names.waits();
    for (at, task) in source.model.tasks.iter().enumerate() {
        tracks.track(FIRST_TASK + at as u64, |track| {
            track.message(4, |thread| {
                thread.number(1, task.pid.into());
                thread.number(2, tids[at].into());
                thread.text(5, &clean(&task.name));
            });
        })?;
        for wait in waits.of(at).filter(|wait| wait.end_ns > wait.start_ns) {
            tracks.wait(at, task, &wait)?;
        }
        let unknown = task.segments().filter(|it| it.state == State::Unknown);
        for gap in unknown {
            let track = FIRST_TASK + at as u64;
            tracks.slice(track, (gap.start_ns, gap.end_ns), "records missing", &[])?;
        }
    }
    let chains = source.report.episodes.iter().map(|episode| &episode.chain);
    let tasks = source.report.tasks.iter();
    let longest = tasks.flat_map(|task| &task.longest_blocks);
    for chain in chains.chain(longest.map(|block| &block.chain)) {
        tracks.chain(chain)?;
    }
    Ok(())
}

struct Tracks<'a, 'b> {
    source: &'a Source<'a>,
    names: &'a Names<'a>,
    packets: &'a mut Packets<'b>,
    /// Numbers of the texts that were sent, by where.
    texts: HashMap<(u32, String), u64>,
    /// Texts that go out with the next packet.
    fresh: Message,
    flows: u64,
}

impl Tracks<'_, '_> {
    fn begin(&mut self) -> io::Result<()> {
        self.packets.packet(|packet| {
            packet.number(field::SEQUENCE, SEQUENCE);
            packet.number(field::SEQUENCE_FLAGS, CLEARED);
        })
    }

    fn track(&mut self, uuid: u64, fill: impl FnOnce(&mut Message)) -> io::Result<()> {
        self.packets.packet(|packet| {
            packet.number(field::SEQUENCE, SEQUENCE);
            packet.message(field::TRACK_DESCRIPTOR, |track| {
                track.number(1, uuid);
                fill(track);
            });
        })
    }

    /// The number of a text.
    fn interned(&mut self, kind: u32, text: &str) -> u64 {
        let next = self.texts.len() as u64 + 1;
        // Its own key only if it is new.
        if let Some(number) = self.texts.get(&(kind, text.to_owned())) {
            return *number;
        }
        self.texts.insert((kind, text.to_owned()), next);
        self.fresh.message(kind, |entry| {
            entry.number(1, next).text(2, text);
        });
        next
    }

    fn event(&mut self, at_ns: u64, fill: impl FnOnce(&mut Message)) -> io::Result<()> {
        let at_ns = self.packets.at(at_ns);
        let fresh = std::mem::take(&mut self.fresh);
        self.packets.packet(|packet| {
            packet.number(field::TIMESTAMP, at_ns);
            packet.number(field::SEQUENCE, SEQUENCE);
            packet.number(field::SEQUENCE_FLAGS, NEEDS_STATE);
            if fresh.len() > 0 {
                packet.message(field::INTERNED_DATA, |it| {
                    it.append(&fresh);
                });
            }
            packet.message(field::TRACK_EVENT, fill);
        })
    }

    fn slice(
        &mut self,
        track: u64,
        (start_ns, end_ns): (u64, u64),
        name: &str,
        notes: &[(&str, String)],
    ) -> io::Result<()> {
        let name = self.interned(EVENT_NAMES, name);
        let notes: Vec<(u64, u64)> = notes
            .iter()
            .map(|(name, value)| {
                let name = self.interned(ANNOTATION_NAMES, name);
                (name, self.interned(STRING_VALUES, value))
            })
            .collect();
        self.event(start_ns, |event| {
            event.number(9, BEGIN).number(11, track).number(10, name);
            for (name, value) in notes {
                event.message(4, |note| {
                    note.number(1, name).number(17, value);
                });
            }
        })?;
        self.event(end_ns, |event| {
            event.number(9, END).number(11, track);
        })
    }

    fn wait(&mut self, at: usize, task: &Task, wait: &Wait) -> io::Result<()> {
        let (reason, syscall) = self.names.reason(task, wait);
        let object = self.names.object(wait);
        let mut notes = Vec::new();
        if let Some(syscall) = syscall {
            notes.push(("syscall", syscall));
        }
        if let Some(object) = &object {
            notes.push(("object", clean(&object.name)));
        }
        if wait.woken {
            let by = self.names.waker(wait.waker, wait.end_ns);
            notes.push(("woken_by", text::waker(&by)));
        }
        notes.push(("ended", text::ended(wait.ended).to_owned()));
        let name = text::wait(&reason, object.as_ref());
        let track = FIRST_TASK + at as u64;
        self.slice(track, (wait.start_ns, wait.end_ns), &name, &notes)
    }

    fn stall(&mut self, episode: &Episode) -> io::Result<()> {
        // Those of the tree are on the first level, those of one process below them.
        let mut notes = vec![
            ("verdict", verdict(episode.verdict).to_owned()),
            ("tasks", episode.tasks.to_string()),
            ("group", episode.group.to_string()),
        ];
        let name = match &episode.ended_by {
            Some(by) => {
                notes.push((
                    "ended_by",
                    format!("{} (tid {})", clean(&by.task.name), by.task.tid),
                ));
                let wait = text::wait(&by.reason, by.object.as_ref());
                format!("stall: {} in {wait}", clean(&by.task.name))
            }
            None => "stall".to_owned(),
        };
        // Of other groups they can overlap, which one track can't show.
        let track = if episode.group == 0 {
            STALLS
        } else {
            self.stalls_of(episode.group)?
        };
        self.slice(track, (episode.start_ns, episode.end_ns), &name, &notes)
    }

    /// The track of a process's stalls.
    fn stalls_of(&mut self, group: u32) -> io::Result<u64> {
        let track = (1 << 32) + u64::from(group);
        let group = self.source.report.groups.iter().find(|g| g.id == group);
        let name = group.map_or_else(String::new, |g| {
            format!("Stalls of {} (pid {})", clean(&g.name), g.pid)
        });
        self.track(track, |it| {
            it.text(2, &name);
        })?;
        Ok(track)
    }

    /// Arrows along a chain, from the root to the first: who woke whom.
    fn chain(&mut self, chain: &[Link]) -> io::Result<()> {
        for link in chain {
            let Some(end_ns) = link.end_ns else { continue };
            let waker = link
                .woken_by
                .serial
                .and_then(|serial| self.names.index(serial));
            let wakee = self.names.index(link.task.serial);
            let (Some(waker), Some(wakee)) = (waker, wakee) else {
                continue;
            };
            self.flows += 1;
            let flow = self.flows;
            for (at, ends, what, whom) in [
                (waker, false, "wakes", wakee),
                (wakee, true, "woken by", waker),
            ] {
                let whom = clean(&self.source.model.tasks[whom].name);
                let name = self.interned(EVENT_NAMES, &format!("{what} {whom}"));
                self.event(end_ns, |event| {
                    event.number(9, INSTANT).number(10, name);
                    event.number(11, FIRST_TASK + at as u64);
                    event.fixed(if ends { 48 } else { 47 }, flow);
                })?;
            }
        }
        Ok(())
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Caused => "caused",
        Verdict::CommonCause => "common_cause",
        Verdict::Coincidence => "coincidence",
        Verdict::Idle => "idle",
        Verdict::Stuck => "stuck",
        Verdict::Unknown => "unknown",
    }
}
