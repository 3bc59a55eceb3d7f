//! Rights that are not needed any more are given up.

use anyhow::{Context as _, Result};
use nix::sys::prctl::set_no_new_privs;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
};

/// What a recorder needs once the programs are attached and the workload has begun: to pass
/// signals on to another user's process, and to become the user who called where a file of
/// that user is to be made or replaced. The files themselves are open by then, and have
/// their owners.
/// The kernel asks for nothing more to read maps through descriptors that are open.
const OF_RECORDER: CapabilitySet = CapabilitySet::KILL
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID);

/// Takes away all capabilities but these, as far as they are there. Gives whether there
/// were others.
///
/// # Errors
/// When the kernel refuses.
pub fn keep_only(kept: CapabilitySet) -> Result<bool> {
    // Kernels without them have nothing to clear.
    let _ = clear_ambient_capability_set();
    let has = capabilities(None).context("capabilities can't be read")?;
    let permitted = has.permitted & kept;
    let sets = CapabilitySets {
        effective: permitted,
        permitted,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).context("capabilities can't be dropped")?;
    Ok(has.permitted != permitted)
}

/// For the recorder, once the workload has begun: that is to have what it would have
/// without us, so that its setuid programs work.
///
/// # Errors
/// When the kernel refuses.
pub fn of_recorder() -> Result<()> {
    set_no_new_privs().context("no_new_privs")?;
    keep_only(OF_RECORDER)?;
    Ok(())
}

/// For a recorder that is attached to what ran already, once it is: it sends nothing.
///
/// # Errors
/// When the kernel refuses.
pub fn of_watcher() -> Result<()> {
    set_no_new_privs().context("no_new_privs")?;
    keep_only(OF_RECORDER.difference(CapabilitySet::KILL))?;
    Ok(())
}

/// For one that only reads what it has opened, and writes what it has opened: gives up
/// everything. Gives whether there was anything.
///
/// # Errors
/// When the kernel refuses.
pub fn drop_all() -> Result<bool> {
    set_no_new_privs().context("no_new_privs")?;
    keep_only(CapabilitySet::empty())
}
