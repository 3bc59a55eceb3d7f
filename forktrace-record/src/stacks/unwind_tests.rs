use std::{
    io::Read as _,
    process::{Child, Command, Stdio},
};

use super::*;

#[path = "unwind/python_tests.rs"]
mod python_tests;

/// What `/proc/PID/syscall` tells of one that sleeps.
struct Kept {
    sp: u64,
    pc: u64,
    bp: u64,
}

/// A process that is killed when it is not wanted any more.
struct Running(Child);

impl Running {
    fn kill(&mut self) {
        // It can have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A shell that waits for input.
fn sleeper() -> (Running, Kept) {
    let child = Command::new("sh")
        .args(["-c", "echo; read it"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = Running(child.expect("a shell"));
    let mut byte = [0];
    let output = child.0.stdout.as_mut().expect("a pipe");
    output.read_exact(&mut byte).expect("it lives");
    let kept = kept(child.0.id(), |_| true);
    (child, kept)
}

/// What is kept of a thread once it sleeps in a call that is the one that is meant.
fn kept(tid: u32, is_it: impl Fn(&[&str]) -> bool) -> Kept {
    loop {
        let path = format!("/proc/{tid}/syscall");
        let text = std::fs::read_to_string(path).expect("/proc");
        let words: Vec<&str> = text.split_whitespace().collect();
        // The last two, while it sleeps.
        if let [.., sp, pc] = &*words
            && words.len() == 9
            && is_it(&words)
        {
            let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16);
            let (sp, pc) = (hex(sp).expect("sp"), hex(pc).expect("pc"));
            let bp = frame_pointer(tid);
            return Kept { pc, sp, bp };
        }
        std::thread::yield_now();
    }
}

/// The one register that `/proc` does not tell: programs of Ubuntu's have their frame by it. Read
/// as a debugger does; the call goes on where it was.
#[cfg(target_arch = "x86_64")]
fn frame_pointer(tid: u32) -> u64 {
    use nix::{
        sys::{
            ptrace,
            wait::{WaitPidFlag, waitpid},
        },
        unistd::Pid,
    };
    let pid = Pid::from_raw(tid as i32);
    ptrace::seize(pid, ptrace::Options::empty()).expect("it is ours");
    ptrace::interrupt(pid).expect("it lives");
    waitpid(pid, Some(WaitPidFlag::__WALL)).expect("it stops");
    let registers = ptrace::getregs(pid).expect("it has stopped");
    ptrace::detach(pid, None).expect("it has stopped");
    registers.rbp
}

/// The programs there keep what unwinding takes in other registers.
#[cfg(not(target_arch = "x86_64"))]
fn frame_pointer(_: u32) -> u64 {
    0
}

fn question(pid: u32, kept: &Kept) -> Sleeper {
    Sleeper {
        process: (pid, 1),
        tid: pid,
        registers: [kept.pc, kept.sp, kept.bp, 0],
    }
}

/// The stack, whether or not it was told before.
fn walk(unwinder: &mut Unwinder, sleeper: Sleeper) -> Walk {
    match unwinder.stack(&sleeper) {
        Followed::New(_, walk) => walk,
        Followed::Known(number) => {
            let mut told = unwinder.told.iter();
            let known = told.find(|(_, it)| **it == number).expect("it was told");
            (**known.0).clone()
        }
    }
}

/// One that was not told before.
#[track_caller]
fn new(followed: Followed) -> Walk {
    match followed {
        Followed::New(_, walk) => walk,
        known @ Followed::Known(_) => panic!("{known:?}"),
    }
}

#[test]
fn a_stack_is_followed_to_its_beginning_as_often_as_it_is_asked_for() {
    let (child, kept) = sleeper();
    let question = question(child.0.id(), &kept);
    let mut unwinder = Unwinder::default();
    let [first, second] = [0, 1].map(|_| unwinder.stack(&question));
    let walk = &new(first);
    assert_eq!(second, Followed::Known(0));
    assert_eq!(walk.end, End::Start, "{walk:?}");
    assert_eq!(walk.addresses.len(), walk.places.len());
    assert!(walk.addresses.len() > 3, "{walk:?}");
    assert_eq!(walk.addresses[0], kept.pc);
    let outermost = walk.places.last().expect("a place");
    assert!(!outermost.text.starts_with("[libc"), "{walk:?}");
}

#[test]
fn what_can_t_be_followed_says_why() {
    let (mut child, kept) = sleeper();
    let sleeper = question(child.0.id(), &kept);
    let mut unwinder = Unwinder::default();
    let mut cut = |change: &dyn Fn(&mut Sleeper)| {
        let mut sleeper = sleeper;
        change(&mut sleeper);
        let walk = walk(&mut unwinder, sleeper);
        match walk.end {
            End::Cut(why) => (walk.addresses.len(), why),
            _ => panic!("{walk:?}"),
        }
    };
    let nowhere = cut(&|it| it.registers[1] = 8);
    assert_eq!(nowhere.1, "the memory of the process can't be read");
    let (found, why) = cut(&|it| it.registers[0] = 8);
    assert_eq!((found, &*why), (0, "it is where no code is mapped"));
    child.kill();
    let (_, why) = cut(&|_| {});
    assert_eq!(why, "the memory of the process can't be read");
}

/// A stack is told once, and followed anew when it has changed.
#[test]
fn a_stack_that_has_changed_is_told_and_one_that_comes_back_is_known() {
    let (child, kept) = sleeper();
    let mut sleeper = question(child.0.id(), &kept);
    let mut unwinder = Unwinder::default();
    let mut answer = |sleeper: &Sleeper| unwinder.stack(sleeper);
    let first = new(answer(&sleeper));
    assert_eq!(answer(&sleeper), Followed::Known(0));
    // As if it had returned from the call.
    sleeper.registers[0] = first.addresses[1];
    let other = new(answer(&sleeper));
    assert_eq!(other.addresses[0], first.addresses[1]);
    assert_eq!(answer(&sleeper), Followed::Known(1));
    sleeper.registers[0] = kept.pc;
    assert_eq!(answer(&sleeper), Followed::Known(0));
}

#[test]
fn a_stack_that_was_told_long_ago_is_told_again() {
    let (child, kept) = sleeper();
    let sleeper = question(child.0.id(), &kept);
    let mut unwinder = Unwinder::default();
    let answer = |unwinder: &mut Unwinder| unwinder.stack(&sleeper);
    let first = new(answer(&mut unwinder));
    unwinder.numbers += MOST_WALKS + 1;
    assert_eq!(new(answer(&mut unwinder)), first);
}

/// A server that begins a thread for each request: what was learnt of the process stays.
#[test]
fn what_is_known_of_a_process_outlasts_the_thread_that_it_was_first_asked_of() {
    let tid = || nix::unistd::gettid().as_raw() as u32;
    let of = |tid| Sleeper {
        process: (std::process::id(), 1),
        tid,
        registers: [0; 4],
    };
    let mut process = std::thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            tell.send(tid()).expect("it is wanted");
            // Until the other end is gone.
            let _ = ends.recv();
        });
        let process = Process::open(&of(told.recv().expect("it is told"))).expect("it lives");
        drop(end);
        process
    });
    // Memory for data.
    let _more = vec![0_u8; 64 << 20];
    process.read_long_ago();
    assert!(process.is_fresh(&of(tid())));
    let another = Sleeper {
        process: (std::process::id(), 2),
        ..of(tid())
    };
    assert!(!process.is_fresh(&another));
}
