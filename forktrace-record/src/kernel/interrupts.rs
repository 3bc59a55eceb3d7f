//! The interrupts of devices.

/// Number and names of each, from `/proc/interrupts`; empty when that can't be
/// read.
pub fn of_devices() -> Vec<(u32, String)> {
    let text = std::fs::read_to_string("/proc/interrupts").unwrap_or_default();
    parse(&text)
}

fn parse(text: &str) -> Vec<(u32, String)> {
    text.lines().skip(1).filter_map(line).collect()
}

/// `  24:    7    0   PCI-MSIX-0000:00:01.0   0-edge   virtio0-config`
fn line(line: &str) -> Option<(u32, String)> {
    let (number, rest) = line.split_once(':')?;
    let number = number.trim().parse().ok()?;
    // After the counts: the controller, the trigger, the names.
    let words = rest.split_ascii_whitespace();
    let words: Vec<_> = words
        .skip_while(|word| word.parse::<u64>().is_ok())
        .collect();
    Some((number, words.last().copied().unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_and_names() {
        let text = "           CPU0       CPU1\n  \
                    1:          9          0   IO-APIC   1-edge      i8042\n \
                    24:          0        512   PCI-MSIX-0000:00:01.0   1-edge      virtio0-req.0\n\
                    LOC:     123456     654321   Local timer interrupts\n";
        let expected = [(1, "i8042".to_owned()), (24, "virtio0-req.0".to_owned())];
        assert_eq!(super::parse(text), expected);
    }
}
