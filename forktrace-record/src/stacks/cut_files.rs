//! Files that are cut short while they are mapped.
//!
//! A symbol table is a file of the workload, and may be written anew at any time. A page of
//! it that is gone when it is read raises SIGBUS. It is taken for zeros then, and what was
//! looked up at that time for nothing: that costs the names of one stack, not the process
//! that looks them up.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use nix::{
    libc,
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    unistd::{SysconfVar, sysconf},
};

/// Pages that were gone.
static GONE: AtomicU64 = AtomicU64::new(0);
static PAGE: AtomicUsize = AtomicUsize::new(4096);
/// Each gets a mapping of its own, of which there can't be many more.
const MOST_GONE: u64 = 1 << 14;
/// include/uapi/asm-generic/siginfo.h: the file ends before this page.
const BUS_ADRERR: libc::c_int = 2;

/// From now on a page that is gone is zeros to this process.
pub(super) fn survive() {
    if let Ok(Some(page)) = sysconf(SysconfVar::PAGE_SIZE) {
        PAGE.store(page as usize, Relaxed);
    }
    let handler = SigHandler::SigAction(on_sigbus);
    let action = SigAction::new(handler, SaFlags::SA_NODEFER, SigSet::empty());
    // SAFETY: the handler makes system calls and uses atomics only.
    #[expect(unsafe_code, reason = "a handler can be unsafe")]
    // Without it the process ends, and another one begins.
    let _ = unsafe { sigaction(Signal::SIGBUS, &action) };
}

/// How many pages were gone so far.
pub(super) fn pages_gone() -> u64 {
    GONE.load(Relaxed)
}

extern "C" fn on_sigbus(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let gone = GONE.fetch_add(1, Relaxed);
    let page = PAGE.load(Relaxed);
    // SAFETY: the kernel passes the signal's information, which for SIGBUS has an address.
    #[expect(unsafe_code, reason = "a pointer from the kernel")]
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    let at = address & !(page - 1);
    // SAFETY: with this code the page is one of a mapped file, and is not there. Nothing
    // but its content changes.
    #[expect(unsafe_code, reason = "a page is put in place of another")]
    let mapped = code == BUS_ADRERR
        && gone < MOST_GONE
        && unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            let at = at as *mut libc::c_void;
            libc::mmap(at, page, libc::PROT_READ, flags, -1, 0) == at
        };
    if !mapped {
        // The same access raises it again, and ends us.
        // SAFETY: the default action has no handler.
        #[expect(unsafe_code, reason = "nix can't know that there is no handler")]
        unsafe {
            libc::signal(libc::SIGBUS, libc::SIG_DFL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use memmap2::Mmap;

    use super::*;

    #[test]
    fn a_page_that_is_gone_is_zeros() {
        survive();
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&vec![7; 3 * 65536]).expect("written");
        // SAFETY: what happens when it is cut is what is tested.
        #[expect(unsafe_code, reason = "a file can change under its mapping")]
        let map = unsafe { Mmap::map(&file) }.expect("mapped");
        let before = pages_gone();
        assert_eq!(map[2 * 65536], 7);
        file.set_len(65536).expect("it is ours");
        assert_eq!((map[0], map[2 * 65536], map[3 * 65536 - 1]), (7, 0, 0));
        assert!(pages_gone() > before);
    }
}
