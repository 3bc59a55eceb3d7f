//! Finds out where things are in the running kernel.

use anyhow::{Context as _, Result, bail};
use forktrace_common::layout::{Layout, own_code, poll};
use forktrace_core::trace::Arch;

use super::btf::Btf;

/// The tracepoints that we attach to, and the arguments that we use of each.
pub const TRACEPOINTS: [(&str, usize); 10] = [
    ("sched_switch", 4),
    ("sched_waking", 1),
    ("sched_wakeup_new", 1),
    ("sched_process_exec", 2),
    ("irq_handler_entry", 1),
    ("irq_handler_exit", 1),
    ("hrtimer_expire_entry", 1),
    ("hrtimer_expire_exit", 1),
    ("softirq_entry", 1),
    ("softirq_exit", 1),
];

/// Tracepoints that not every kernel and architecture has, and what is not known
/// without each.
pub const OPTIONAL_TRACEPOINTS: [(&str, usize, &str); 3] = [
    (
        "netif_rx_entry",
        1,
        "who sent what wakes a task over the loopback interface",
    ),
    ("page_fault_user", 1, "the addresses of page faults"),
    ("signal_generate", 4, "who stopped a task"),
];

/// One thing that we need to know of the kernel and what came of looking it up.
#[derive(Debug)]
pub struct Fact {
    /// `task_struct.pid`, `tracepoint sched_switch`, …
    pub name: String,
    /// What was found, or `None`.
    pub found: Option<u32>,
}

/// Looks up all offsets, for programs on `arch`. Sizes and the wake mask are
/// left 0 for the caller. The facts are for showing; those that are missing and
/// needed make the layout an error.
pub fn resolve(btf: &Btf, arch: Arch) -> (Vec<Fact>, Result<Layout>) {
    let mut facts = Vec::new();
    for (name, _) in TRACEPOINTS {
        facts.push(Fact {
            name: format!("tracepoint {name}, arguments"),
            found: btf.tracepoint_args(name).map(|n| n as u32),
        });
    }
    let mut offset = |structure: &str, path: &str| {
        let found = btf.offset_of(structure, path);
        facts.push(Fact {
            name: format!("{structure}.{path}"),
            found,
        });
        found
    };
    let mut task = |path: &str| offset("task_struct", path);
    let (pid, tgid, comm, state, flags) = (
        task("pid"),
        task("tgid"),
        task("comm"),
        task("__state"),
        task("flags"),
    );
    let (jobctl, nvcsw, nivcsw) = (task("jobctl"), task("nvcsw"), task("nivcsw"));
    let cpu_time = task("se.sum_exec_runtime");
    let cpu_time_before = task("se.prev_sum_exec_runtime");
    let (real_parent, exit_code) = (task("real_parent"), task("exit_code"));
    let (stack, files, start_time) = (task("stack"), task("files"), task("start_time"));
    let pi_lock = task("pi_lock");
    let (mm, fs, sighand) = (task("mm"), task("fs"), task("sighand"));
    let vfork_done = task("vfork_done");
    let (compat_status, args, syscall) = match arch {
        Arch::X86_64 => (
            task("thread_info.status"),
            ["di", "si", "dx", "r10", "r8", "r9"].map(|r| offset("pt_regs", r)),
            offset("pt_regs", "orig_ax"),
        ),
        // x0 is overwritten by the result: the kernel keeps the argument apart.
        Arch::Aarch64 => {
            let regs = offset("pt_regs", "regs");
            let reg = |n: u32| regs.map(|at| at + 8 * n);
            (
                None,
                [
                    offset("pt_regs", "orig_x0"),
                    reg(1),
                    reg(2),
                    reg(3),
                    reg(4),
                    reg(5),
                ],
                offset("pt_regs", "syscallno"),
            )
        }
    };
    let (fdt, fd_array) = (
        offset("files_struct", "fdt"),
        offset("files_struct", "fd_array"),
    );
    let (max_fds, fd) = (offset("fdtable", "max_fds"), offset("fdtable", "fd"));
    let (file_inode, file_operations) = (offset("file", "f_inode"), offset("file", "f_op"));
    let mut inode = |path: &str| offset("inode", path);
    let (number, mode, super_block) = (inode("i_ino"), inode("i_mode"), inode("i_sb"));
    let device = offset("super_block", "s_dev");

    let layout = (|| {
        for (name, used) in TRACEPOINTS {
            let args = btf.tracepoint_args(name).with_context(|| {
                format!("this kernel has no tracepoint {name}, which forktrace needs")
            })?;
            if args < used {
                bail!(
                    "the tracepoint {name} has {args} arguments on this kernel and forktrace \
                     needs {used}; Linux 6.1 is the oldest kernel that is known to work"
                );
            }
        }
        let need = |found: Option<u32>, name: &str| {
            found.with_context(|| {
                format!(
                    "the kernel's BTF has no {name}; Linux 6.1 is the oldest kernel that is \
                     known to work (`forktrace doctor` lists all that is looked up)"
                )
            })
        };
        let mut regs_args = [0; 6];
        for (to, from) in regs_args.iter_mut().zip(args) {
            *to = need(from, "pt_regs argument")?;
        }
        Ok(Layout {
            task_pid: need(pid, "task_struct.pid")?,
            task_tgid: need(tgid, "task_struct.tgid")?,
            task_comm: need(comm, "task_struct.comm")?,
            task_state: need(state, "task_struct.__state")?,
            task_flags: need(flags, "task_struct.flags")?,
            task_jobctl: need(jobctl, "task_struct.jobctl")?,
            task_nvcsw: need(nvcsw, "task_struct.nvcsw")?,
            task_nivcsw: need(nivcsw, "task_struct.nivcsw")?,
            task_cpu_time: need(cpu_time, "task_struct.se.sum_exec_runtime")?,
            task_cpu_time_before: need(cpu_time_before, "task_struct.se.prev_sum_exec_runtime")?,
            task_real_parent: need(real_parent, "task_struct.real_parent")?,
            task_exit_code: need(exit_code, "task_struct.exit_code")?,
            task_compat_status: compat_status.unwrap_or(0),
            has_compat_status: u32::from(compat_status.is_some()),
            regs_syscall: need(syscall, "pt_regs syscall number")?,
            regs_args,
            poll_syscalls: poll::NAMES.map(|name| arch.syscall_number(name).unwrap_or(-1)),
            restart_syscall: arch.syscall_number("restart_syscall").unwrap_or(-1),
            task_stack: need(stack, "task_struct.stack")?,
            task_start_time: need(start_time, "task_struct.start_time")?,
            task_pi_lock: need(pi_lock, "task_struct.pi_lock")?,
            task_mm: need(mm, "task_struct.mm")?,
            task_fs: need(fs, "task_struct.fs")?,
            task_sighand: need(sighand, "task_struct.sighand")?,
            task_vfork_done: need(vfork_done, "task_struct.vfork_done")?,
            task_files: need(files, "task_struct.files")?,
            files_fdt: need(fdt, "files_struct.fdt")?,
            files_fd_array: need(fd_array, "files_struct.fd_array")?,
            fdt_max_fds: need(max_fds, "fdtable.max_fds")?,
            fdt_fd: need(fd, "fdtable.fd")?,
            file_inode: need(file_inode, "file.f_inode")?,
            file_operations: need(file_operations, "file.f_op")?,
            inode_number: need(number, "inode.i_ino")?,
            inode_mode: need(mode, "inode.i_mode")?,
            inode_super_block: need(super_block, "inode.i_sb")?,
            super_block_device: need(device, "super_block.s_dev")?,
            own_code: [[0; 2]; own_code::COUNT],
            wake_mask: 0,
            max_tasks: 0,
            object_mask: 0,
            stacks: 0,
            plain: 0,
        })
    })();
    (facts, layout)
}
