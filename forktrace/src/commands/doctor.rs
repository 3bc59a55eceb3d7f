//! `forktrace doctor`: what works here, and how to mend what does not.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Result;

use super::{Outcome, output::to_stdout, rights::Rights};
use forktrace_core::trace::{Arch, PollWay};
use forktrace_process::limits::Limits;
use forktrace_record::{
    capture::{Existing, LogLevel, PollProbes, Settings, Tracer},
    kernel::{
        btf::Btf,
        environment,
        layout::{OPTIONAL_TRACEPOINTS, resolve},
    },
};

/// Checks kernel, privileges, offsets and programs, and prints what it finds: the
/// verdict first, offsets only if `verbose`.
///
/// # Errors
/// When the result can't be printed. Something that is missing is no error, but
/// the exit status is 1.
pub(crate) fn doctor(verbose: bool) -> Result<Outcome> {
    let mut page = Page {
        verbose,
        ..Page::default()
    };
    kernel(&mut page);
    capabilities(&mut page);
    set_up(&mut page);
    layout(&mut page);
    programs(&mut page);
    to_stdout(format!("{}\n\n{}", page.verdict(), page.text).as_bytes())?;
    Ok(Outcome::Exit(u8::from(page.failed > 0)))
}

#[derive(Default)]
struct Page {
    verbose: bool,
    text: String,
    failed: u32,
    warned: u32,
}

impl Page {
    fn verdict(&self) -> String {
        match (self.failed, self.warned) {
            (0, 0) => "forktrace works here.".to_owned(),
            (0, 1) => "forktrace works here. One thing is limited: see the warning.".to_owned(),
            (0, n) => format!("forktrace works here. {n} things are limited: see the warnings."),
            (1, _) => "forktrace can't run here: fix the problem marked FAIL.".to_owned(),
            (n, _) => format!("forktrace can't run here: fix the {n} problems marked FAIL."),
        }
    }

    fn line(&mut self, mark: &str, what: &str, found: &str) {
        // Writing to a string can't fail.
        let _ = writeln!(self.text, "{mark:<6} {what:<34} {found}");
    }

    fn ok(&mut self, what: &str, found: &str) {
        self.line("ok", what, found);
    }

    /// For those who want to know everything.
    fn detail(&mut self, what: &str, found: &str) {
        if self.verbose {
            self.ok(what, found);
        }
    }

    /// Something that costs a feature.
    fn warn(&mut self, what: &str, found: &str) {
        self.warned += 1;
        self.line("warn", what, found);
    }

    /// Something that forktrace can't do without.
    fn fail(&mut self, what: &str, found: &str) {
        self.failed += 1;
        self.line("FAIL", what, found);
    }
}

fn kernel(page: &mut Page) {
    match nix::sys::utsname::uname() {
        Ok(system) => {
            let release = system.release().to_string_lossy();
            let machine = system.machine().to_string_lossy();
            page.ok("kernel", &format!("{release}, {machine}"));
        }
        Err(error) => page.fail("kernel", &format!("uname: {error}")),
    }
    match Arch::of_this_machine() {
        Ok(Arch::X86_64) => page.ok("architecture", "x86-64"),
        Ok(Arch::Aarch64) => page.ok("architecture", "64-bit ARM"),
        Err(error) => page.fail("architecture", &format!("{error:#}")),
    }
    match fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled") {
        Ok(value) => page.ok(
            "eBPF",
            &format!("built in (unprivileged_bpf_disabled = {})", value.trim()),
        ),
        Err(_) => page.fail(
            "eBPF",
            "not built in: the kernel needs CONFIG_BPF_SYSCALL=y and CONFIG_BPF_EVENTS=y",
        ),
    }
}

fn capabilities(page: &mut Page) {
    let rights = match Rights::ours() {
        Ok(rights) => rights,
        Err(error) => return page.fail("capabilities", &format!("{error:#}")),
    };
    if rights.can_record() {
        page.ok("capabilities", "enough to load and attach eBPF programs");
    } else {
        page.fail(
            "capabilities",
            "neither CAP_SYS_ADMIN nor CAP_BPF and CAP_PERFMON: run forktrace with sudo, or give \
             it the capabilities once: setcap cap_bpf,cap_perfmon+ep $(command -v forktrace)",
        );
    }
    if !rights.is_admin() {
        page.warn(
            "CAP_SYS_ADMIN",
            "absent: where tracefs is not readable, calls of poll and select are not counted",
        );
    }
}

/// What of the kernel's set-up makes reports weaker.
fn set_up(page: &mut Page) {
    if environment::is_realtime() {
        page.warn(
            "PREEMPT_RT",
            "who woke a task can't be told on this kernel: only `forktrace run --plain` records",
        );
    } else {
        page.detail("PREEMPT_RT", "no");
    }
    if environment::shows_addresses() {
        page.detail("addresses of kernel functions", "shown");
    } else {
        let restrict = environment::kptr_restrict();
        page.warn(
            "addresses of kernel functions",
            &format!(
                "hidden (kernel.kptr_restrict = {}): some wakers stay unknown, page faults are \
                 not told from other waits, and stacks lack the kernel's names; {}",
                restrict.as_deref().unwrap_or("unknown"),
                shows_addresses(restrict.as_deref())
            ),
        );
    }
    match environment::lockdown().as_deref() {
        Some("confidentiality") => page.fail(
            "lockdown",
            "confidentiality: eBPF programs may not read the kernel's memory; boot with \
             lockdown=integrity, or without Secure Boot",
        ),
        Some(mode) => page.detail("lockdown", mode),
        None => page.detail("lockdown", "none, or securityfs is not mounted"),
    }
}

/// What makes the kernel show them: with 0 and 1 root sees them, with 2 nobody does.
fn shows_addresses(restrict: Option<&str>) -> &'static str {
    match restrict {
        Some("0" | "1") => "run forktrace as root",
        _ => "`sudo sysctl kernel.kptr_restrict=1`, and run forktrace as root",
    }
}

fn layout(page: &mut Page) {
    let types = match Btf::of_running_kernel() {
        Ok(types) => types,
        Err(error) => return page.fail("kernel types (BTF)", &format!("{error:#}")),
    };
    page.ok("kernel types (BTF)", forktrace_record::kernel::btf::VMLINUX);
    for (name, args, what) in OPTIONAL_TRACEPOINTS {
        let what_is = format!("tracepoint {name}");
        if types.tracepoint_args(name) >= Some(args) {
            page.detail(&what_is, "present");
        } else {
            page.warn(&what_is, &format!("absent: not known is {what}"));
        }
    }
    let Ok(arch) = Arch::of_this_machine() else {
        return;
    };
    let (facts, layout) = resolve(&types, arch);
    for fact in facts {
        match fact.found {
            Some(value) => page.detail(&fact.name, &value.to_string()),
            None => page.detail(&fact.name, "not in this kernel's BTF"),
        }
    }
    match layout {
        Ok(_) => page.ok("offsets in kernel structures", "found (-v lists them)"),
        Err(error) => page.fail("offsets in kernel structures", &format!("{error:#}")),
    }
}

fn programs(page: &mut Page) {
    let settings = |polls, existing| Settings {
        ring_bytes: None,
        max_tasks: 64,
        polls,
        stacks: None,
        plain: environment::is_realtime(),
        log: LogLevel::Off,
        existing,
        lag_min: None,
    };
    let load = |polls, existing| Tracer::attach(&settings(polls, existing));
    let attach = |polls| load(polls, None);
    // As a recording does.
    let needs = Tracer::needs(&settings(PollProbes::Off, None));
    if let Err(error) = needs.and_then(|needs| Limits::raise(&needs)) {
        return page.fail("limits", &format!("{error:#}"));
    }
    match attach(PollProbes::Off) {
        Ok(_) => page.ok("programs", "loaded and attached"),
        Err(error) => return page.fail("programs", &format!("{error:#}")),
    }
    match load(PollProbes::Off, Some(Existing { by_cgroup: true })) {
        Ok(_) => page.ok("attach", "tasks that are there can be taken in"),
        // A recording of a command needs less.
        Err(error) => page.ok("attach", &format!("not possible: {error:#}")),
    }
    match attach(PollProbes::Auto) {
        Ok(tracer) => polls(page, tracer.poll_way()),
        Err(error) => page.fail("calls of select, poll and epoll", &format!("{error:#}")),
    }
    if page.verbose {
        for (way, what) in [
            (PollProbes::Fentry, "--polls fentry"),
            (PollProbes::Tracepoint, "--polls tracepoint"),
            (PollProbes::Raw, "--polls raw"),
        ] {
            match attach(way) {
                Ok(_) => page.ok(what, "possible"),
                Err(error) => page.ok(what, &format!("not possible: {}", error.root_cause())),
            }
        }
    }
    if !Path::new("/sys/kernel/tracing/events").is_dir() {
        page.detail(
            "tracefs",
            "not mounted; forktrace mounts it for itself alone when it needs it",
        );
    }
}

/// How calls of the select/poll family are counted.
fn polls(page: &mut Page, way: &PollWay) {
    let what = "calls of select, poll and epoll";
    match way {
        PollWay::Fentry => page.ok(what, "counted by fentry, which costs other calls nothing"),
        PollWay::Tracepoint => page.ok(
            what,
            "counted by syscall tracepoints once a task waits in one: every syscall of the machine \
             pays up to 75 ns from then on; --polls off avoids that",
        ),
        PollWay::Raw => page.ok(what, "counted by the raw tracepoints of all syscalls"),
        PollWay::None { why } => page.warn(what, &format!("not counted: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_root_alone_mends_asks_for_no_sysctl() {
        assert_eq!(shows_addresses(Some("0")), "run forktrace as root");
        assert_eq!(shows_addresses(Some("1")), "run forktrace as root");
        for restrict in [Some("2"), None] {
            assert!(shows_addresses(restrict).contains("sysctl"));
        }
    }
}
