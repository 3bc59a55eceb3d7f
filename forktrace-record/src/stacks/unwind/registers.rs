//! The registers that unwinding is about, and where a signal keeps them, by machine.

use framehop::UnwindRegsNative;

/// How a signal's handler goes back: the two instructions that ask for `rt_sigreturn`.
#[cfg(target_arch = "x86_64")]
pub(super) const SIGRETURN: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];
#[cfg(target_arch = "aarch64")]
pub(super) const SIGRETURN: [u8; 8] = [0x68, 0x11, 0x80, 0xd2, 0x01, 0, 0, 0xd4];

/// How a thread of musl begins (src/thread/x86_64/clone.s): no frame pointer, the argument off the stack, and
/// the call. What is on top of the stack then is no return address, whatever the function's table says.
#[cfg(target_arch = "x86_64")]
pub(super) const BEGINS_THREAD: &[u8] = &[0x31, 0xed, 0x5f, 0x41, 0xff, 0xd1];
/// There it returns to itself, which ends the stack.
#[cfg(target_arch = "aarch64")]
pub(super) const BEGINS_THREAD: &[u8] = &[];

/// The call that ends where a return address points to goes there, if it says so itself.
#[cfg(target_arch = "x86_64")]
pub(super) fn called(code: &[u8], returns_to: u64) -> Option<u64> {
    let [.., 0xe8, a, b, c, d] = *code else {
        return None;
    };
    let distance = i32::from_le_bytes([a, b, c, d]);
    returns_to.checked_add_signed(distance.into())
}

/// `push %rbp`, and soon `mov %rsp, %rbp`.
#[cfg(target_arch = "x86_64")]
pub(super) fn keeps_frame_pointer(code: &[u8]) -> bool {
    let code = without_mark(code);
    code.starts_with(&[0x55]) && code.windows(3).any(|it| it == [0x48, 0x89, 0xe5])
}

/// `jmp *…(%rip)`: a library's function is called by this.
#[cfg(target_arch = "x86_64")]
pub(super) fn goes_elsewhere(code: &[u8]) -> bool {
    let code = without_mark(code);
    code.strip_prefix(&[0xf2])
        .unwrap_or(code)
        .starts_with(&[0xff, 0x25])
}

/// `endbr64`.
#[cfg(target_arch = "x86_64")]
fn without_mark(code: &[u8]) -> &[u8] {
    code.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(code)
}

/// Which function was called is not looked for there.
#[cfg(target_arch = "aarch64")]
pub(super) fn keeps_frame_pointer(_: &[u8]) -> bool {
    true
}
#[cfg(target_arch = "aarch64")]
pub(super) fn goes_elsewhere(_: &[u8]) -> bool {
    true
}

/// The return address is in a register, and all else is as it was.
#[cfg(target_arch = "aarch64")]
pub(super) fn called(_: &[u8], _: u64) -> Option<u64> {
    None
}

#[cfg(target_arch = "x86_64")]
pub(super) fn registers(pc: u64, sp: u64, fp: u64, _: u64) -> UnwindRegsNative {
    UnwindRegsNative::new(pc, sp, fp)
}

#[cfg(target_arch = "x86_64")]
pub(super) fn frame_pointer(registers: &UnwindRegsNative) -> u64 {
    registers.bp()
}

#[cfg(target_arch = "aarch64")]
pub(super) fn frame_pointer(registers: &UnwindRegsNative) -> u64 {
    registers.fp()
}

#[cfg(target_arch = "aarch64")]
pub(super) fn registers(_: u64, sp: u64, fp: u64, lr: u64) -> UnwindRegsNative {
    // Programs of the user have addresses of 48 bits; the rest can be a signature.
    let mask = framehop::aarch64::PtrAuthMask::from_max_known_address((1 << 48) - 1);
    UnwindRegsNative::new_with_ptr_auth_mask(mask, lr, sp, fp)
}

/// What a signal interrupted: its registers are on the stack, where the handler's way back
/// finds them (`struct rt_sigframe`; arch/x86/include/asm/sigframe.h and
/// include/uapi/asm/sigcontext.h).
#[cfg(target_arch = "x86_64")]
pub(super) fn interrupted(
    registers: &mut UnwindRegsNative,
    read: &mut impl FnMut(u64) -> Result<u64, ()>,
) -> Option<u64> {
    // The handler has taken its return address, so what follows is on top: `struct ucontext`.
    // Its general registers begin after 40 bytes; the 10th of them is rbp.
    const RBP: u64 = 40 + 8 * 10;
    const RSP: u64 = 40 + 8 * 15;
    const RIP: u64 = 40 + 8 * 16;
    let context = registers.sp();
    let mut word = |at| read(context.wrapping_add(at)).ok();
    let (pc, sp, fp) = (word(RIP)?, word(RSP)?, word(RBP)?);
    *registers = UnwindRegsNative::new(pc, sp, fp);
    Some(pc)
}

/// As above; arch/arm64/kernel/signal.c and include/uapi/asm/sigcontext.h there.
#[cfg(target_arch = "aarch64")]
pub(super) fn interrupted(
    registers: &mut UnwindRegsNative,
    read: &mut impl FnMut(u64) -> Result<u64, ()>,
) -> Option<u64> {
    // After `siginfo` (128 bytes), what `struct ucontext` has before its `mcontext` (176), and
    // the address of a fault (8): x0 to x30, sp, pc.
    const X0: u64 = 128 + 176 + 8;
    let context = registers.sp();
    let mut word = |n: u64| read(context.wrapping_add(X0 + 8 * n)).ok();
    let (fp, lr, sp, pc) = (word(29)?, word(30)?, word(31)?, word(32)?);
    *registers = self::registers(pc, sp, fp, lr);
    Some(pc)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn functions_say_by_their_first_bytes_whether_they_keep_a_frame_pointer() {
        let endbr = [0xf3, 0x0f, 0x1e, 0xfa];
        let push = [0x55, 0x31, 0xf6, 0x48, 0x89, 0xe5];
        assert!(keeps_frame_pointer(&push));
        assert!(keeps_frame_pointer(&[&endbr[..], &push].concat()));
        // sub $0x18, %rsp; push %rbp alone.
        assert!(!keeps_frame_pointer(&[
            0x48, 0x83, 0xec, 0x18, 0x48, 0x89, 0xe5
        ]));
        assert!(!keeps_frame_pointer(&push[..3]));
        assert!(!keeps_frame_pointer(&[]));
        let jump = [0xff, 0x25, 1, 2, 3, 4];
        assert!(goes_elsewhere(&jump) && !keeps_frame_pointer(&jump));
        let marked = [&endbr[..], &[0xf2], &jump].concat();
        assert!(goes_elsewhere(&marked) && !goes_elsewhere(&push));
    }
}
