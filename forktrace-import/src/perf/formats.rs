//! The layout of tracepoints, as the file's tracing data has it: what the kernel had in
//! `/sys/kernel/tracing/events/sched/*/format`.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};

use super::bytes::Numbers;

/// Where a field is in a tracepoint's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Field {
    offset: usize,
    size: usize,
    /// It says where the text is, not the text.
    elsewhere: bool,
}

impl Field {
    /// A number, without its sign where it is shorter than 64 bits.
    pub(super) fn number(self, data: &[u8]) -> Option<u64> {
        let bytes = data.get(self.offset..self.offset.checked_add(self.size)?)?;
        Some(match *bytes {
            [a] => a.into(),
            [a, b] => u16::from_ne_bytes([a, b]).into(),
            [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]).into(),
            _ => u64::from_ne_bytes(bytes.try_into().ok()?),
        })
    }

    /// A text.
    pub(super) fn text(self, data: &[u8]) -> Option<&[u8]> {
        if !self.elsewhere {
            return data.get(self.offset..self.offset.checked_add(self.size)?);
        }
        // `__data_loc`: the place in the lower half, the length in the upper one.
        let place = self.number(data)?;
        let (at, len) = ((place & 0xffff) as usize, (place >> 16 & 0xffff) as usize);
        data.get(at..at.checked_add(len)?)
    }
}

/// What a tracepoint tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    Switch {
        prev: Field,
        prev_comm: Field,
        state: Field,
        next: Field,
        next_comm: Field,
    },
    Waking {
        pid: Field,
        comm: Field,
        /// It is told when the task is put into a queue.
        queued: bool,
    },
    Fork {
        parent: Field,
        child: Field,
        comm: Field,
    },
    Exec {
        pid: Field,
        old_pid: Field,
    },
}

/// See the module.
#[derive(Default)]
pub(super) struct Formats {
    points: HashMap<u16, Point>,
    /// `common_flags` and `common_pid`, which are at the same place in all.
    pub(super) flags: Field,
    pub(super) pid: Field,
}

impl Formats {
    /// # Errors
    /// When it makes no sense, or there is none of the scheduler's.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let mut formats = Self::default();
        let mut numbers = Numbers(bytes);
        if formats.read_all(&mut numbers).is_none() {
            bail!(
                "it makes no sense at byte {} of {}",
                bytes.len() - numbers.0.len(),
                bytes.len()
            );
        }
        let switches = |point: &Point| matches!(point, Point::Switch { .. });
        if !formats.points.values().any(switches) {
            bail!("it has no sched_switch; `perf sched record` records it");
        }
        Ok(formats)
    }

    /// The tracepoint of this number.
    pub(super) fn point(&self, data: &[u8]) -> Option<Point> {
        let number = u16::from_ne_bytes(data.get(..2)?.try_into().ok()?);
        self.points.get(&number).copied()
    }

    fn read_all(&mut self, numbers: &mut Numbers<'_>) -> Option<()> {
        (numbers.take(10)? == b"\x17\x08\x44tracing").then_some(())?;
        numbers.text()?;
        // Byte order, the size of a long, the size of a page.
        numbers.take(1 + 1 + 4)?;
        for name in ["header_page", "header_event"] {
            (numbers.text()? == name.as_bytes()).then_some(())?;
            let len = usize::try_from(numbers.u64()?).ok()?;
            numbers.take(len)?;
        }
        for _ in 0..numbers.u32()? {
            let len = usize::try_from(numbers.u64()?).ok()?;
            numbers.take(len)?;
        }
        for _ in 0..numbers.u32()? {
            let sched = numbers.text()? == b"sched";
            for _ in 0..numbers.u32()? {
                let len = usize::try_from(numbers.u64()?).ok()?;
                let format = numbers.take(len)?;
                if sched {
                    self.add(&String::from_utf8_lossy(format));
                }
            }
        }
        Some(())
    }

    /// Adds a tracepoint, if it is one of those that are looked at and has all that is needed.
    fn add(&mut self, format: &str) {
        let Ok((number, fields)) = fields(format) else {
            return;
        };
        let of = |name: &str| fields.get(name).copied();
        let point = || {
            Some(match format.lines().next()?.strip_prefix("name: ")? {
                "sched_switch" => Point::Switch {
                    prev: of("prev_pid")?,
                    prev_comm: of("prev_comm")?,
                    state: of("prev_state")?,
                    next: of("next_pid")?,
                    next_comm: of("next_comm")?,
                },
                name @ ("sched_waking" | "sched_wakeup" | "sched_wakeup_new") => Point::Waking {
                    pid: of("pid")?,
                    comm: of("comm")?,
                    queued: name != "sched_waking",
                },
                "sched_process_fork" => Point::Fork {
                    parent: of("parent_pid")?,
                    child: of("child_pid")?,
                    comm: of("child_comm")?,
                },
                "sched_process_exec" => Point::Exec {
                    pid: of("pid")?,
                    old_pid: of("old_pid")?,
                },
                _ => return None,
            })
        };
        if let Some(point) = point() {
            self.flags = of("common_flags").unwrap_or_default();
            self.pid = of("common_pid").unwrap_or_default();
            self.points.insert(number, point);
        }
    }
}

/// The number of a tracepoint, and its fields: lines such as
/// `field:pid_t prev_pid; offset:24; size:4; signed:1;`.
fn fields(format: &str) -> Result<(u16, HashMap<&str, Field>)> {
    let mut number = None;
    let mut fields = HashMap::new();
    for line in format.lines() {
        if let Some(id) = line.strip_prefix("ID: ") {
            number = Some(id.trim().parse()?);
        }
        let Some(field) = line.trim().strip_prefix("field:") else {
            continue;
        };
        let mut parts = field.split(';').map(str::trim);
        let declared = parts.next().unwrap_or_default();
        let mut value = |name: &str| -> Result<usize> {
            let part = parts.next().and_then(|part| part.strip_prefix(name));
            Ok(part.context("it is not there")?.parse()?)
        };
        let (offset, size) = (value("offset:")?, value("size:")?);
        let name = declared.rsplit(' ').next().unwrap_or_default();
        let name = name.split('[').next().unwrap_or_default();
        fields.insert(
            name,
            Field {
                offset,
                size,
                elsewhere: declared.starts_with("__data_loc"),
            },
        );
    }
    Ok((number.context("it has no number")?, fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_in_place_or_elsewhere() {
        let format = "name: sched_process_fork\nID: 366\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
            \tfield:__data_loc char[] child_comm;\toffset:8;\tsize:4;\tsigned:0;\n\
            \tfield:char old_comm[4];\toffset:12;\tsize:4;\tsigned:0;\n";
        let (number, fields) = fields(format).expect("it is one");
        assert_eq!(number, 366);
        let mut data = [0u8; 20];
        data[8..12].copy_from_slice(&(16u32 | 3 << 16).to_ne_bytes());
        data[12..16].copy_from_slice(b"old\0");
        data[16..19].copy_from_slice(b"abc");
        assert_eq!(fields["child_comm"].text(&data), Some(&b"abc"[..]));
        assert_eq!(fields["old_comm"].text(&data), Some(&b"old\0"[..]));
        data[8..12].copy_from_slice(&(19u32 | 3 << 16).to_ne_bytes());
        assert_eq!(fields["child_comm"].text(&data), None);
    }
}
