//! The eBPF programs as the kernel has them: how their tables lie in memory, and what they
//! cost the verifier.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use aya::{
    EbpfLoader,
    maps::{Array, Map},
};
use bytemuck::Pod;
use forktrace_common::event::{Control, CpuStats, Stretch, TaskState};
use forktrace_record::capture::{
    Existing, LogLevel, Mapped, OBJECT, PollProbes, Settings, StackWays, Tracer,
};

use super::support::{run, skip};

const ENTRIES: u32 = 64;

/// What the kernel writes to an entry is read at that entry of the mapping, whose
/// beginning is that of a page: so entries are on cache lines of their own in the kernel
/// too.
fn check_mapped<T: Pod, const BYTES: usize>(map: Map, entries: u32) {
    assert_eq!(BYTES, size_of::<T>());
    let Map::Array(data) = &map else {
        panic!("it is no array");
    };
    let mapped = Mapped::<T>::new(data, entries).expect("it can be mapped");
    let mut by_call: Array<_, [u8; BYTES]> = Array::try_from(map).expect("an array");
    let first = mapped.word(0, 0).as_ptr() as usize;
    assert_eq!(first % 4096, 0, "the first entry is {first:#x}");
    for entry in mapped.entries() {
        let at = mapped.word(entry, 0).as_ptr() as usize;
        assert_eq!(at % 64, 0, "entry {entry} is {at:#x}");
        assert_eq!(at, first + entry * BYTES);
        let mut bytes = [0; BYTES];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = (entry * 7 + i * 3 + 1) as u8;
        }
        by_call
            .set(entry as u32, bytes, 0)
            .expect("the kernel writes it");
        assert_eq!(bytemuck::bytes_of(&mapped.load(entry)), bytes, "{entry}");
        mapped.clear(entry);
        assert_eq!(by_call.get(&(entry as u32), 0).ok(), Some([0; BYTES]));
    }
}

#[test]
fn tables_are_mapped_and_their_entries_lie_on_cache_lines_of_their_own() {
    let mut ebpf = EbpfLoader::new()
        .map_max_entries("TASKS", ENTRIES)
        .map_max_entries("STRETCHES", ENTRIES)
        .load(OBJECT)
        .unwrap();
    let mut take = |name| ebpf.take_map(name).unwrap();
    check_mapped::<TaskState, { size_of::<TaskState>() }>(take("TASKS"), ENTRIES);
    check_mapped::<CpuStats, { size_of::<CpuStats>() }>(take("CPUS"), ENTRIES);
    check_mapped::<Stretch, { size_of::<Stretch>() }>(take("STRETCHES"), ENTRIES);
    check_mapped::<Control, { size_of::<Control>() }>(take("CONTROL"), 1);
}

/// `release set-up program instructions` a line.
const TABLE: &str = include_str!("../../../forktrace-record/bpf/verified.txt");
const TABLE_PATH: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../forktrace-record/bpf/verified.txt"
);

/// How recordings can be set up, as far as it makes other programs of them.
fn set_ups() -> [(&'static str, Settings); 6] {
    let default = Settings {
        ring_bytes: None,
        max_tasks: 64,
        polls: PollProbes::Off,
        stacks: None,
        plain: false,
        log: LogLevel::Off,
        existing: None,
        lag_min: None,
    };
    let plain = Settings {
        plain: true,
        ..default.clone()
    };
    let stacks = Settings {
        stacks: Some(StackWays {
            walk: true,
            look_after: Some(Duration::from_millis(1)),
            ask_java: false,
            lines: false,
        }),
        ..default.clone()
    };
    let raw = Settings {
        polls: PollProbes::Raw,
        ..default.clone()
    };
    let attach = Settings {
        existing: Some(Existing { by_cgroup: true }),
        ..default.clone()
    };
    let lag = Settings {
        lag_min: Some(Duration::from_millis(1)),
        ..default.clone()
    };
    [
        ("attach", attach),
        ("default", default),
        ("plain", plain),
        ("lag", lag),
        ("stacks", stacks),
        ("raw-polls", raw),
    ]
}

/// `6.18` of `6.18.44-something`: other releases have other verifiers.
fn release() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    let release = release.expect("the kernel has a name");
    let mut parts = release.trim().split('.');
    let mut part = || parts.next().expect("two numbers");
    format!("{}.{}", part(), part())
}

#[test]
fn the_verifier_has_no_more_to_do_than_is_recorded() {
    let release = release();
    let mut here = BTreeMap::new();
    for (set_up, settings) in set_ups() {
        let tracer = match Tracer::attach(&settings) {
            Err(error) if set_up == "lag" && error.to_string().contains("Linux 6.3") => continue,
            tracer => tracer.unwrap(),
        };
        for (program, count) in tracer.verified().unwrap() {
            here.insert(format!("{release} {set_up} {program}"), count);
        }
    }
    assert!(here.contains_key(&format!("{release} default sched_switch")));
    let parse = |line: &str| {
        let (key, count) = line.rsplit_once(' ').unwrap();
        (key.to_owned(), count.parse::<u32>().unwrap())
    };
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    let recorded: BTreeMap<String, u32> = lines.map(parse).collect();

    if std::env::var_os("UPDATE_VERIFIED").is_some() {
        let comments = TABLE.lines().filter(|line| line.starts_with('#'));
        let mut text: String = comments.flat_map(|line| [line, "\n"]).collect();
        let of_others = recorded
            .into_iter()
            .filter(|(key, _)| !key.starts_with(&format!("{release} ")));
        for (key, count) in of_others.chain(here).collect::<BTreeMap<_, _>>() {
            writeln!(text, "{key} {count}").unwrap();
        }
        std::fs::write(TABLE_PATH, text).unwrap();
        return;
    }
    if !recorded
        .keys()
        .any(|key| key.starts_with(&format!("{release} ")))
    {
        let reason = format!("forktrace-record/bpf/verified.txt has no figures of Linux {release}");
        return skip("the_verifier_has_no_more_to_do_than_is_recorded", &reason);
    }
    let dearer = here.iter().filter(|(key, count)| {
        let before = recorded.get(*key).copied().unwrap_or(0);
        u64::from(**count) * 5 > u64::from(before) * 6
    });
    let dearer: Vec<_> = dearer
        .map(|(key, count)| format!("{key}: {count}, recorded {:?}", recorded.get(key)))
        .collect();
    assert!(
        dearer.is_empty(),
        "the verifier has more than a fifth more to do; if that can't be helped, record it with \
         UPDATE_VERIFIED=1: {dearer:#?}"
    );
}

#[test]
fn the_programs_say_which_tasks_find_no_room_if_that_is_wanted() {
    let script = "sleep 0.1 & sleep 0.1 & sleep 0.1 & wait";
    let stderr = |level: &[&str]| {
        let run = run().args(["--max-tasks", "2"]).args(level);
        run.shell(script).finish().stderr
    };
    let line = "is not followed: there is no room for it";
    let told = stderr(&["--log-bpf", "warn"]);
    assert_eq!(told.matches(line).count(), 2, "{told}");
    assert!(told.contains("forktrace: eBPF: warn: tid "), "{told}");
    let untold = stderr(&[]);
    assert!(!untold.contains(line), "{untold}");
}
