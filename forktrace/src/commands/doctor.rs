//! `forktrace doctor`: what works here, and how to mend what does not.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};

use super::{Outcome, output::to_stdout};
use forktrace_core::trace::{Arch, PollWay};
use forktrace_record::{
    capture::{PollProbes, Settings, Tracer},
    kernel::{btf::Btf, layout::resolve},
    launch::Descriptors,
};

/// Checks kernel, privileges, offsets and programs, and prints what it finds.
///
/// # Errors
/// When the result can't be printed. Something that is missing is no error, but
/// the exit status is 1.
pub(crate) fn doctor() -> Result<Outcome> {
    let mut page = Page::default();
    kernel(&mut page);
    capabilities(&mut page);
    layout(&mut page);
    programs(&mut page);
    let verdict = if page.failed == 0 {
        "forktrace works here.".to_owned()
    } else {
        format!(
            "forktrace does not work here: {} of the above must be mended.",
            page.failed
        )
    };
    to_stdout(format!("{}\n{verdict}\n", page.text).as_bytes())?;
    Ok(Outcome::Exit(u8::from(page.failed > 0)))
}

#[derive(Default)]
struct Page {
    text: String,
    failed: u32,
}

impl Page {
    fn line(&mut self, mark: &str, what: &str, found: &str) {
        // Writing to a string can't fail.
        let _ = writeln!(self.text, "{mark:<6} {what:<34} {found}");
    }

    fn ok(&mut self, what: &str, found: &str) {
        self.line("ok", what, found);
    }

    /// Something that costs a feature.
    fn warn(&mut self, what: &str, found: &str) {
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
        Ok(arch) => page.ok("architecture", &format!("{arch:?}")),
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

/// The capabilities that count, by number (include/uapi/linux/capability.h).
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

fn capabilities(page: &mut Page) {
    let effective = match effective_capabilities() {
        Ok(effective) => effective,
        Err(error) => return page.fail("capabilities", &format!("{error:#}")),
    };
    let has = |number: u32| effective >> number & 1 == 1;
    if has(CAP_SYS_ADMIN) || has(CAP_BPF) && has(CAP_PERFMON) {
        page.ok("capabilities", "enough to load and attach eBPF programs");
    } else {
        page.fail(
            "capabilities",
            "neither CAP_SYS_ADMIN nor CAP_BPF and CAP_PERFMON: run forktrace with sudo, or give \
             it the capabilities once: setcap cap_bpf,cap_perfmon+ep $(command -v forktrace)",
        );
    }
    if !has(CAP_SYS_ADMIN) {
        page.warn(
            "CAP_SYS_ADMIN",
            "absent: where tracefs is not readable, calls of poll and select are not counted",
        );
    }
}

fn effective_capabilities() -> Result<u64> {
    let status =
        fs::read_to_string("/proc/self/status").context("/proc/self/status can't be read")?;
    let hex = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .context("/proc/self/status has no line CapEff")?;
    u64::from_str_radix(hex.trim(), 16).with_context(|| format!("CapEff is {hex:?}"))
}

fn layout(page: &mut Page) {
    let types = match Btf::of_running_kernel() {
        Ok(types) => types,
        Err(error) => return page.fail("kernel types (BTF)", &format!("{error:#}")),
    };
    page.ok("kernel types (BTF)", forktrace_record::kernel::btf::VMLINUX);
    let Ok(arch) = Arch::of_this_machine() else {
        return;
    };
    let (facts, layout) = resolve(&types, arch);
    for fact in facts {
        match fact.found {
            Some(value) => page.ok(&fact.name, &value.to_string()),
            None => page.warn(&fact.name, "not in this kernel's BTF"),
        }
    }
    if let Err(error) = layout {
        page.fail("offsets", &format!("{error:#}"));
    }
}

fn programs(page: &mut Page) {
    // As a recording does.
    Descriptors::raise();
    let attach = |polls| {
        Tracer::attach(&Settings {
            ring_bytes: None,
            max_tasks: 64,
            polls,
            stacks: false,
            plain: false,
        })
    };
    match attach(PollProbes::Off) {
        Ok(_) => page.ok("programs", "loaded and attached"),
        Err(error) => return page.fail("programs", &format!("{error:#}")),
    }
    for (ways, what) in [
        (PollProbes::Fentry, "select/poll by fentry"),
        (PollProbes::Tracepoint, "select/poll by tracepoints"),
        (PollProbes::Raw, "select/poll by raw tracepoints"),
    ] {
        match attach(ways) {
            Ok(_) => page.ok(what, "possible"),
            Err(error) => page.warn(what, &format!("{error:#}")),
        }
    }
    match attach(PollProbes::Auto) {
        Ok(tracer) => match tracer.poll_way() {
            PollWay::None { why } => page.warn("select/poll calls", why),
            way => page.ok("select/poll calls", &format!("counted by {way:?}")),
        },
        Err(error) => page.fail("select/poll calls", &format!("{error:#}")),
    }
    if !Path::new("/sys/kernel/tracing/events").is_dir() {
        page.ok(
            "tracefs",
            "not mounted; forktrace mounts it for itself alone when it needs it",
        );
    }
}
