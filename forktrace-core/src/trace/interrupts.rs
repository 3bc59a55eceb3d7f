//! What interrupts are for.

use schemars::JsonSchema;
use serde::Serialize;

/// Kinds of interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InterruptKind {
    /// A timer ran out.
    Timer,
    /// Of a network device.
    Network,
    /// Of a block device.
    Block,
    /// Another.
    Other,
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
