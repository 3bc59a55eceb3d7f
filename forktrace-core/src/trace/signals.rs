//! Names of signals, the same on x86-64 and arm64 (signal(7)): a trace may be read on
//! another system than the one it was recorded on.

/// Signals 1 to 31, by number.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// The first real-time signal that the C library leaves to programs: it keeps 32 and 33
/// for itself.
const RTMIN: i32 = 34;
/// The last one.
const RTMAX: i32 = 64;

/// `SIGTERM`, `SIGRTMIN+2`, or `signal 200` for what is none.
pub fn name(number: i32) -> String {
    let known = usize::try_from(number)
        .ok()
        .and_then(|number| number.checked_sub(1))
        .and_then(|at| NAMES.get(at));
    match (known, number) {
        (Some(name), _) => format!("SIG{name}"),
        (None, RTMIN) => "SIGRTMIN".to_owned(),
        (None, RTMIN..=RTMAX) => format!("SIGRTMIN+{}", number - RTMIN),
        (None, _) => format!("signal {number}"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_kind_of_number() {
        for (number, expected) in [
            (1, "SIGHUP"),
            (9, "SIGKILL"),
            (15, "SIGTERM"),
            (31, "SIGSYS"),
            (32, "signal 32"),
            (34, "SIGRTMIN"),
            (36, "SIGRTMIN+2"),
            (64, "SIGRTMIN+30"),
            (65, "signal 65"),
            (0, "signal 0"),
            (-1, "signal -1"),
            (i32::MIN, "signal -2147483648"),
        ] {
            assert_eq!(super::name(number), expected);
        }
    }
}
