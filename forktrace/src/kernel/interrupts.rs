//! The interrupts of devices.

use crate::report::InterruptKind;

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

/// What kind of device an interrupt is of, by the name that its driver gave it.
pub fn kind(name: &str) -> InterruptKind {
    const NETWORK: [&str; 15] = [
        "eth", "enp", "eno", "ens", "wlan", "wlp", "mlx", "iwlwifi", "ena-", "bnx", "ixgbe", "igb",
        "i40e", "gve", "vif",
    ];
    const BLOCK: [&str; 12] = [
        "nvme", "ahci", "ata_", "mmc", "megasas", "mpt", "hpsa", "qla2", "lpfc", "pvscsi",
        "smartpqi", "blkif",
    ];
    let begins = |names: &[&str]| names.iter().any(|known| name.starts_with(known));
    // The queues of a virtio device are named after what they carry.
    let virtio = name.strip_prefix("virtio").and_then(|n| n.split_once('-'));
    let queue = virtio.map_or("", |(_, queue)| queue);
    if begins(&NETWORK) || queue.starts_with("input") || queue.starts_with("output") {
        InterruptKind::Network
    } else if begins(&BLOCK) || queue.starts_with("req") {
        InterruptKind::Block
    } else {
        InterruptKind::Other
    }
}

/// What a soft interrupt is for, by its vector (include/linux/interrupt.h: HI, TIMER,
/// NET_TX, NET_RX, BLOCK, IRQ_POLL, TASKLET, SCHED, HRTIMER, RCU).
pub fn kind_of_vector(vector: u8) -> InterruptKind {
    match vector {
        1 | 8 => InterruptKind::Timer,
        2 | 3 => InterruptKind::Network,
        4 | 5 => InterruptKind::Block,
        _ => InterruptKind::Other,
    }
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

    #[test]
    fn kinds() {
        use super::{InterruptKind, kind};
        for (name, expected) in [
            ("virtio0-req.0", InterruptKind::Block),
            ("nvme0q1", InterruptKind::Block),
            ("virtio1-input.0", InterruptKind::Network),
            ("eth0-TxRx-0", InterruptKind::Network),
            ("virtio0-config", InterruptKind::Other),
            ("i8042", InterruptKind::Other),
            ("", InterruptKind::Other),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
    }
}
