//! What was measured, as docs/fleet.md shows it, and what follows from it for a larger fleet.

use std::{collections::BTreeSet, fmt::Write as _, fs, thread};

use super::{Asked, Measured, ROLLED_HOURS};

/// Hosts of the plan.
const HOSTS: f64 = 10_000.0;
/// Stretches that a host has in a second, on average over a day.
const RATES: [f64; 3] = [100.0, 1_000.0, 10_000.0];
const DAY_S: f64 = 86_400.0;
/// Days that stretches are kept.
const KEPT_DAYS: f64 = 7.0;
/// What an object store takes for a GB and month, and a cloud for a CPU and hour, in dollars: list
/// prices of 2026, rounded. Put your own.
const GB_MONTH: f64 = 0.023;
const CPU_HOUR: f64 = 0.04;
/// The question that reads all stretches, whose time is that of a look at all of them.
const SCAN: &str = "runnable_p99_by_host";

pub(super) fn text(measured: &Measured<'_>) -> String {
    let mut text = String::new();
    // A String takes everything.
    let _ = write(measured, &mut text);
    text
}

fn write(measured: &Measured<'_>, out: &mut String) -> std::fmt::Result {
    let options = measured.options;
    let engines: Vec<String> = measured
        .engines
        .iter()
        .map(|it| format!("{} {}", it.title, measured.versions[it.name]))
        .collect();
    writeln!(
        out,
        "Measured with `cargo xtask fleet --hosts {} --days {} --rows {}` on {}, {} CPUs, with {}, \
         two threads each. {} hosts × {} days have {} stretches here.\n",
        options.hosts,
        options.days,
        options.rows,
        processor(),
        thread::available_parallelism().map_or(1, usize::from),
        engines.join(", "),
        options.hosts,
        options.days,
        count(measured.stretches),
    )?;
    answers(measured, out)?;
    tables(measured, out)?;
    plan(measured, out)
}

fn answers(measured: &Measured<'_>, out: &mut String) -> std::fmt::Result {
    let titles: Vec<&str> = measured.engines.iter().map(|it| it.title).collect();
    writeln!(
        out,
        "Time to the answer, and bytes of files that were read for it:\n"
    )?;
    writeln!(out, "| question | {} |", titles.join(" | "))?;
    writeln!(out, "|---|{}", "---:|".repeat(titles.len()))?;
    let questions: BTreeSet<&String> = measured.asked.keys().map(|(it, _)| it).collect();
    for question in questions {
        write!(out, "| `{question}` |")?;
        for engine in &measured.engines {
            match measured.asked.get(&(question.clone(), engine.name)) {
                Some(took) => write!(out, " {:.1} s, {} |", took.seconds, bytes(took.read_bytes))?,
                None => write!(out, " |")?,
            }
        }
        writeln!(out)?;
    }
    let most = |engine: &str| {
        let of = measured.asked.iter().filter(|((_, it), _)| *it == engine);
        of.map(|(_, took): (_, &Asked)| took.memory_bytes)
            .max()
            .unwrap_or(0)
    };
    let memory = measured.engines.iter();
    let memory: Vec<String> = memory
        .map(|it| format!("{} {}", it.title, bytes(most(it.name))))
        .collect();
    writeln!(out, "\nMemory at most: {}.\n", memory.join(", "))
}

fn tables(measured: &Measured<'_>, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "| table | files | bytes | bytes a stretch |\n|---|---:|---:|---:|"
    )?;
    let mut row = |name: &str, (files, size): (u64, u64)| {
        let each = size as f64 / measured.stretches.max(1) as f64;
        writeln!(
            out,
            "| {name} | {} | {} | {each:.2} |",
            count(files),
            bytes(size)
        )
    };
    let mut all = (0, 0);
    for (table, size) in &measured.tables {
        row(&format!("`{table}`"), *size)?;
        all = (all.0 + size.0, all.1 + size.1);
    }
    row("all", all)?;
    let (export, rolled) = (&measured.export, &measured.rolled);
    let a_second = |amount: u64, seconds: f64| amount as f64 / seconds / 1e6;
    writeln!(
        out,
        "\n`forktrace export` of the {} stretches that it is made of took {:.2} s, {:.2} s of them on \
         CPUs: {:.1} million a second.\n",
        count(export.stretches),
        export.seconds,
        export.cpu_seconds,
        a_second(export.stretches, export.seconds),
    )?;
    writeln!(
        out,
        "{ROLLED_HOURS} hours of one host, in every minute of which these recordings happen once ({} stretches), are {} \
         rows in {} when they are rolled up, {:.1} million stretches a second: {} a month.\n",
        count(rolled.stretches),
        count(rolled.rows),
        bytes(rolled.bytes),
        a_second(rolled.stretches, rolled.seconds),
        bytes(a_month(measured) as u64),
    )
}

/// Bytes of a host's month, rolled up.
fn a_month(measured: &Measured<'_>) -> f64 {
    measured.rolled.bytes as f64 / ROLLED_HOURS as f64 * 24.0 * 30.0
}

fn plan(measured: &Measured<'_>, out: &mut String) -> std::fmt::Result {
    let stretches = measured.stretches.max(1) as f64;
    let all: u64 = measured.tables.values().map(|(_, bytes)| bytes).sum();
    let each = all as f64 / stretches;
    let export = measured.export.cpu_seconds / measured.export.stretches.max(1) as f64;
    let month = a_month(measured);
    let mut row = |what: &str, show: &dyn Fn(f64) -> String| {
        let cells: Vec<String> = RATES.iter().map(|rate| show(*rate)).collect();
        writeln!(out, "| {what} | {} |", cells.join(" | "))
    };
    let a_day = |rate: f64| rate * DAY_S;
    let stored = |rate: f64| a_day(rate) * each * KEPT_DAYS / 1e9 * GB_MONTH / 30.0;
    let on_cpu = |rate: f64| a_day(rate) * export / 3600.0 * CPU_HOUR;
    let rolled = month / 1e9 * GB_MONTH / 30.0;
    row("stretches a host and second, on average", &|rate| {
        count(rate as u64)
    })?;
    row("---", &|_| "---:".to_owned())?;
    row("tables of a host and day", &|rate| {
        bytes((a_day(rate) * each) as u64)
    })?;
    row("CPU of a host that exports them, of one", &|rate| {
        format!("{:.3} %", 100.0 * rate * export)
    })?;
    row("tables of 10,000 hosts and 7 days", &|rate| {
        bytes((a_day(rate) * each * KEPT_DAYS * HOSTS) as u64)
    })?;
    row("a month of 10,000 hosts, rolled up", &|_| {
        bytes((month * HOSTS) as u64)
    })?;
    for engine in &measured.engines {
        if let Some(took) = measured.asked.get(&(SCAN.to_owned(), engine.name)) {
            let what = format!("CPU hours of {} for all stretches of a day", engine.title);
            row(&what, &|rate| {
                let of_all = a_day(rate) * HOSTS / stretches;
                format!("{:.1}", 2.0 * took.seconds * of_all / 3600.0)
            })?;
        }
    }
    row("dollars a host and day: 7 days of tables", &|rate| {
        format!("{:.5}", stored(rate))
    })?;
    row("… a month of roll-ups", &|_| format!("{rolled:.5}"))?;
    row("… CPU of the export", &|rate| {
        format!("{:.5}", on_cpu(rate))
    })?;
    row("… in all", &|rate| {
        format!("{:.4}", stored(rate) + rolled + on_cpu(rate))
    })
}

fn processor() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model
        .map_or("an unknown processor", |(_, model)| model)
        .to_owned()
}

/// `1,234,567`.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn bytes(number: u64) -> String {
    let number = number as f64;
    match number {
        _ if number < 1e6 => format!("{:.0} KB", number / 1e3),
        _ if number < 1e9 => format!("{:.1} MB", number / 1e6),
        _ if number < 1e12 => format!("{:.1} GB", number / 1e9),
        _ if number < 1e15 => format!("{:.1} TB", number / 1e12),
        _ => format!("{:.1} PB", number / 1e15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(count(100), "100");
        assert_eq!(count(12_345_678), "12,345,678");
        assert_eq!(bytes(1_500), "2 KB");
        assert_eq!(bytes(27_000_000_000_000), "27.0 TB");
    }
}
