//! What of the running kernel's set-up makes reports weaker, or impossible.

use std::fs;

use super::symbols;

/// Does this kernel have PREEMPT_RT? Then soft interrupts run in threads that can be
/// preempted, and what the programs keep of interrupts is not true.
pub fn is_realtime() -> bool {
    fs::read_to_string("/sys/kernel/realtime").is_ok_and(|text| text.trim() == "1")
}

/// Does `/proc/kallsyms` show us addresses?
pub fn shows_addresses() -> bool {
    symbols::any()
}

/// The sysctl that hides addresses; `None`: it can't be read.
pub fn kptr_restrict() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/kptr_restrict").ok()?;
    Some(text.trim().to_owned())
}

/// The kernel's lockdown mode: `none`, `integrity` or `confidentiality`. `None`: it has
/// none, or securityfs is not mounted.
pub fn lockdown() -> Option<String> {
    chosen(&fs::read_to_string("/sys/kernel/security/lockdown").ok()?)
}

/// The word in brackets of `none [integrity] confidentiality`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    let (mode, _) = rest.split_once(']')?;
    Some(mode.to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_mode_in_brackets_counts() {
        let chosen = |text| super::chosen(text);
        assert_eq!(
            chosen("none [integrity] confidentiality\n").as_deref(),
            Some("integrity")
        );
        assert_eq!(chosen("[none] integrity").as_deref(), Some("none"));
        assert_eq!(chosen("none"), None);
        assert_eq!(chosen(""), None);
    }
}
