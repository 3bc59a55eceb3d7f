//! Memory that tasks share, protect or fault in.

use std::fs::File;
use std::io::{self, Read};
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::null_mut;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result, ensure};
use nix::libc;

use super::checked;

/// A page's size on this machine.
pub(crate) fn page_size() -> Result<usize> {
    use nix::unistd::{SysconfVar, sysconf};
    let size = sysconf(SysconfVar::PAGE_SIZE).context("sysconf failed")?;
    size.and_then(|size| usize::try_from(size).ok())
        .context("the system does not tell its page size")
}

/// Anonymous memory of our own, unmapped on drop.
pub(super) struct Mapping {
    pub(super) start: *mut u8,
    bytes: usize,
}

// SAFETY: it owns its memory, which no other value refers to, so it may change
// threads like a `Box`.
unsafe impl Send for Mapping {}
// SAFETY: it hands out references to atomics only, and raw addresses.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(super) fn new(bytes: usize, visibility: libc::c_int) -> Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                visibility | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error())
                .with_context(|| format!("cannot map {bytes} bytes"));
        }
        Ok(Self {
            start: start.cast(),
            bytes,
        })
    }
}

/// A word at the beginning of a file, in a private mapping of its first page.
pub(crate) struct FileWord(Mapping);

impl FileWord {
    pub(crate) fn new(file: &File) -> Result<Self> {
        let bytes = page_size()?;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("the file can't be mapped");
        }
        let start = start.cast();
        Ok(Self(Mapping { start, bytes }))
    }

    /// Reads the word, which the file system has to give.
    pub(crate) fn read(&self) -> u32 {
        // SAFETY: the word is at the beginning of the mapping, on a page, and nobody writes.
        unsafe { self.0.start.cast::<u32>().read_volatile() }
    }

    /// Waits for a wakeup, without timeout, if this is the word.
    pub(crate) fn wait(&self, word: u32) -> Result<()> {
        self.futex(libc::FUTEX_WAIT, word)
    }

    /// Wakes whoever waits.
    pub(crate) fn wake(&self) -> Result<()> {
        self.futex(libc::FUTEX_WAKE, 1)
    }

    fn futex(&self, operation: libc::c_int, value: u32) -> Result<()> {
        let (operation, no_timeout) = (operation | libc::FUTEX_PRIVATE_FLAG, 0_usize);
        // SAFETY: the address is of our own mapping, which only the kernel reads; no other
        // pointer is passed.
        let done = unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.0.start,
                operation,
                value,
                no_timeout,
                no_timeout,
                0,
            )
        };
        if done < 0 {
            return Err(io::Error::last_os_error()).context("futex failed");
        }
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and what borrowed it is gone.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

/// Words that a process shares with the children it forks; all 0 at first.
pub(crate) struct Shared {
    mapping: Mapping,
    words: usize,
}

impl Shared {
    pub(crate) fn new(words: usize) -> Result<Self> {
        let bytes = words.max(1) * size_of::<AtomicU64>();
        let mapping = Mapping::new(bytes, libc::MAP_SHARED)?;
        Ok(Self { mapping, words })
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has that many words, is page-aligned and zeroed, lives
        // as long as `self`, and is accessed as atomics only.
        unsafe { std::slice::from_raw_parts(self.mapping.start.cast(), self.words) }
    }
}

/// Private memory without huge pages, none of it touched yet.
pub(crate) struct Pages {
    mapping: Mapping,
    page: usize,
}

impl Pages {
    pub(crate) fn new(count: usize) -> Result<Self> {
        let page = page_size()?;
        let bytes = count
            .checked_mul(page)
            .with_context(|| format!("{count} pages do not fit in memory"))?;
        let mapping = Mapping::new(bytes.max(page), libc::MAP_PRIVATE)?;
        // SAFETY: advice on memory of our own. Kernels without huge pages refuse it,
        // and need it not.
        unsafe { libc::madvise(mapping.start.cast(), mapping.bytes, libc::MADV_NOHUGEPAGE) };
        Ok(Self { mapping, page })
    }

    pub(crate) fn count(&self) -> usize {
        self.mapping.bytes / self.page
    }

    /// Writes to a page.
    pub(crate) fn touch(&self, number: usize) {
        assert!(number < self.count());
        // SAFETY: within the mapping, of which nobody holds a reference.
        unsafe { self.mapping.start.add(number * self.page).write_volatile(1) };
    }

    /// Makes all of it read-only, and writable again.
    pub(crate) fn protect_and_unprotect(&mut self) -> Result<()> {
        for protection in [libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE] {
            // SAFETY: the mapping is ours alone, and nobody touches it meanwhile.
            let result = unsafe {
                libc::mprotect(self.mapping.start.cast(), self.mapping.bytes, protection)
            };
            if result != 0 {
                return Err(io::Error::last_os_error()).context("cannot change a protection");
            }
        }
        Ok(())
    }
}

/// Maps memory with a huge page in it, where the kernel gives us one, touches that and
/// unmaps it all.
pub(crate) fn touch_a_huge_page() -> Result<()> {
    const HUGE: usize = 2 << 20;
    let mapping = Mapping::new(2 * HUGE, libc::MAP_PRIVATE)?;
    // SAFETY: advice on memory of our own. Where it is refused, the page is small.
    unsafe { libc::madvise(mapping.start.cast(), mapping.bytes, libc::MADV_HUGEPAGE) };
    let to_boundary = mapping.start.align_offset(HUGE);
    ensure!(to_boundary < mapping.bytes, "memory can't be aligned");
    // SAFETY: within the mapping, of which nobody holds a reference.
    unsafe { mapping.start.add(to_boundary).write_volatile(1) };
    Ok(())
}

// ---- userfaultfd ----

const UFFD_API: u64 = 0xAA;
const UFFD_USER_MODE_ONLY: libc::c_int = 1;
const UFFD_EVENT_PAGEFAULT: u8 = 0x12;
const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;

#[repr(C)]
struct UffdioApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct UffdioRegister {
    start: u64,
    bytes: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct UffdioCopy {
    to: u64,
    from: u64,
    bytes: u64,
    mode: u64,
    copied: i64,
}

mod uffd_ioctl {
    use super::{UffdioApi, UffdioCopy, UffdioRegister};
    nix::ioctl_readwrite!(api, 0xAA, 0x3F, UffdioApi);
    nix::ioctl_readwrite!(register, 0xAA, 0x00, UffdioRegister);
    nix::ioctl_readwrite!(copy, 0xAA, 0x03, UffdioCopy);
}

/// Whoever touches one of the pages it watches blocks until [`UserFaults::resolve`],
/// or until this is dropped.
pub(crate) struct UserFaults(File);

impl UserFaults {
    pub(crate) fn watch(pages: &Pages) -> Result<Self> {
        let open = |flags: libc::c_int| -> io::Result<OwnedFd> {
            // SAFETY: makes a new descriptor from integers.
            let fd = checked(unsafe { libc::syscall(libc::SYS_userfaultfd, flags) })?;
            // SAFETY: the kernel has just given it to us, and to nobody else.
            Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
        };
        // Unprivileged users may handle faults from user mode, which ours are; kernels
        // before 5.11 do not know the flag.
        let fd = open(libc::O_CLOEXEC | UFFD_USER_MODE_ONLY)
            .or_else(|_| open(libc::O_CLOEXEC))
            .context("userfaultfd was refused")?;
        let mut api = UffdioApi {
            api: UFFD_API,
            features: 0,
            ioctls: 0,
        };
        // SAFETY: the struct is the one that this ioctl reads and writes.
        unsafe { uffd_ioctl::api(fd.as_raw_fd(), &raw mut api) }.context("UFFDIO_API failed")?;
        let mut register = UffdioRegister {
            start: pages.mapping.start as u64,
            bytes: pages.mapping.bytes as u64,
            mode: UFFDIO_REGISTER_MODE_MISSING,
            ioctls: 0,
        };
        // SAFETY: as above, and the range is a mapping of our own.
        unsafe { uffd_ioctl::register(fd.as_raw_fd(), &raw mut register) }
            .context("UFFDIO_REGISTER failed")?;
        Ok(Self(File::from(fd)))
    }

    /// Blocks until someone touches a missing page; returns its address.
    pub(crate) fn next(&self) -> Result<u64> {
        // struct uffd_msg: the event in byte 0, for a fault the address in bytes 16–23.
        let mut message = [0_u8; 32];
        (&self.0)
            .read_exact(&mut message)
            .context("cannot read from the userfaultfd")?;
        ensure!(
            message[0] == UFFD_EVENT_PAGEFAULT,
            "the userfaultfd reports event {:#x}, not a page fault",
            message[0]
        );
        let mut address = [0_u8; 8];
        address.copy_from_slice(&message[16..24]);
        Ok(u64::from_ne_bytes(address))
    }

    /// Fills the missing page at an address that [`UserFaults::next`] returned, and
    /// wakes who waits for it.
    pub(crate) fn resolve(&self, address: u64) -> Result<()> {
        let size = page_size()?;
        let content = vec![1_u8; size];
        let mut copy = UffdioCopy {
            to: address & !(size as u64 - 1),
            from: content.as_ptr() as u64,
            bytes: size as u64,
            mode: 0,
            copied: 0,
        };
        // SAFETY: the source has a page's length; the kernel checks that the
        // destination is a missing page of a range registered with this descriptor.
        unsafe { uffd_ioctl::copy(self.0.as_raw_fd(), &raw mut copy) }
            .context("UFFDIO_COPY failed")?;
        Ok(())
    }
}
