//! Finds out where things are in the running kernel.

use anyhow::{Result, anyhow};
use forktrace_common::layout::{ATTACH_FIELDS, BlockerLayout, FIELDS, Layout, TurnLayout, poll};
use forktrace_core::trace::Arch;

use super::btf::Btf;

/// The tracepoints that we attach to, and the arguments that we use of each. The end of
/// an interrupt before its beginning: the programs keep them on a stack, which is to be
/// empty when all are attached.
pub const TRACEPOINTS: [(&str, usize); 10] = [
    ("sched_switch", 4),
    ("sched_waking", 1),
    ("sched_wakeup_new", 1),
    ("sched_process_exec", 2),
    ("irq_handler_exit", 1),
    ("irq_handler_entry", 1),
    ("hrtimer_expire_exit", 1),
    ("hrtimer_expire_entry", 1),
    ("softirq_exit", 1),
    ("softirq_entry", 1),
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

/// Looks up all offsets, for programs on `arch`. What is no offset and no syscall number is
/// left 0 for the caller. The facts are for showing; those that are missing and
/// needed make the layout an error.
pub fn resolve(btf: &Btf, arch: Arch) -> (Vec<Fact>, Result<Layout>) {
    let mut layout = Layout {
        poll_syscalls: poll::NAMES.map(|name| arch.syscall_number(name).unwrap_or(-1)),
        restart_syscall: arch.syscall_number("restart_syscall").unwrap_or(-1),
        ..Layout::default()
    };
    let mut look = Look {
        btf,
        facts: Vec::new(),
        missing: None,
    };
    for (name, used) in TRACEPOINTS {
        look.tracepoint(name, used);
    }
    for field in FIELDS {
        if let Some(offset) = look.need(field.structure, field.path) {
            (field.set)(&mut layout, offset);
        }
    }
    look.registers(arch, &mut layout);
    look.optional(&mut layout);
    let result = match look.missing {
        Some(missing) => Err(missing),
        None => Ok(layout),
    };
    (look.facts, result)
}

/// Looks up what taking in tasks that are there already needs on top.
///
/// # Errors
/// When this kernel lacks some of it.
pub fn resolve_existing(btf: &Btf, layout: &mut Layout) -> Result<()> {
    let lacks = |what: &str| {
        anyhow!(
            "this kernel has no {what}, which `forktrace attach` needs to find the tasks that are \
             there; Linux 6.1 is the oldest kernel that is known to work, and `forktrace run` \
             needs less"
        )
    };
    if !btf.has_function("bpf_iter_task") {
        return Err(lacks("iterator over tasks (bpf_iter_task)"));
    }
    for field in ATTACH_FIELDS {
        match btf.offset_of(field.structure, field.path) {
            Some(offset) => (field.set)(layout, offset),
            // Without it there is no telling how long a wait has lasted already, and no more.
            None if field.path == "sched_info.last_arrival" => {}
            None => return Err(lacks(&format!("{}.{}", field.structure, field.path))),
        }
    }
    let delayed = btf.offset_of("task_struct", "se.sched_delayed");
    layout.has_sched_delayed = u32::from(delayed.is_some());
    layout.task_sched_delayed = delayed.unwrap_or(0);
    Ok(())
}

/// What was looked up so far.
struct Look<'a> {
    btf: &'a Btf,
    facts: Vec<Fact>,
    /// The first of those that are needed and absent.
    missing: Option<anyhow::Error>,
}

impl Look<'_> {
    fn tracepoint(&mut self, name: &str, used: usize) {
        let args = self.btf.tracepoint_args(name);
        self.facts.push(Fact {
            name: format!("tracepoint {name}, arguments"),
            found: args.map(|n| n as u32),
        });
        match args {
            None => self.lack(format!(
                "this kernel has no tracepoint {name}, which forktrace needs"
            )),
            Some(args) if args < used => self.lack(format!(
                "the tracepoint {name} has {args} arguments on this kernel and forktrace \
                 needs {used}; Linux 6.1 is the oldest kernel that is known to work"
            )),
            Some(_) => {}
        }
    }

    fn offset(&mut self, structure: &str, path: &str) -> Option<u32> {
        let found = self.btf.offset_of(structure, path);
        self.facts.push(Fact {
            name: format!("{structure}.{path}"),
            found,
        });
        found
    }

    fn need(&mut self, structure: &str, path: &str) -> Option<u32> {
        let found = self.offset(structure, path);
        if found.is_none() {
            self.lack(format!(
                "the kernel's BTF has no {structure}.{path}; Linux 6.1 is the oldest kernel that \
                 is known to work (`forktrace doctor -v` lists all that is looked up)"
            ));
        }
        found
    }

    fn lack(&mut self, what: String) {
        self.missing.get_or_insert(anyhow!(what));
    }

    /// What not every kernel has, and is absent from reports then.
    fn optional(&mut self, layout: &mut Layout) {
        let mut all = |fields: &[(&str, &str)]| -> Option<Vec<u32>> {
            let offsets: Vec<_> = fields
                .iter()
                .map(|(s, path)| self.offset(s, path))
                .collect();
            offsets.into_iter().collect()
        };
        let turn = all(&[
            ("task_struct", "sched_info.last_arrival"),
            ("task_struct", "se.cfs_rq"),
            ("cfs_rq", "rq"),
            ("rq", "clock"),
            ("rq", "cfs_tasks"),
            ("task_struct", "se.group_node"),
            ("task_struct", "group_leader"),
        ]);
        if let Some(&[last_arrival, cfs_rq, rq, clock, tasks, node, leader]) = turn.as_deref() {
            layout.turn = TurnLayout {
                known: 1,
                last_arrival,
                cfs_rq,
                rq,
                clock,
                tasks,
                node,
                leader,
            };
        }
        let blocker = all(&[
            ("task_struct", "blocker"),
            ("mutex", "owner"),
            ("rw_semaphore", "owner"),
            ("semaphore", "last_holder"),
        ]);
        if let Some(&[blocker, mutex_owner, rwsem_owner, semaphore_holder]) = blocker.as_deref() {
            layout.blocker = BlockerLayout {
                blocker,
                mutex_owner,
                rwsem_owner,
                semaphore_holder,
            };
        }
    }

    /// Where the number and the arguments of a syscall are, and whether it is one of a
    /// 32-bit program.
    fn registers(&mut self, arch: Arch, layout: &mut Layout) {
        let mut need = |path| self.need("pt_regs", path).unwrap_or(0);
        match arch {
            Arch::X86_64 => {
                layout.regs_args = ["di", "si", "dx", "r10", "r8", "r9"].map(&mut need);
                layout.regs_syscall = need("orig_ax");
                layout.regs_of_stack = ["ip", "sp", "bp", "ip"].map(&mut need);
                let status = self.offset("task_struct", "thread_info.status");
                layout.has_compat_status = u32::from(status.is_some());
                layout.task_compat_status = status.unwrap_or(0);
            }
            Arch::Aarch64 => {
                let first = need("regs");
                layout.regs_args = [0, 1, 2, 3, 4, 5].map(|n| first + 8 * n);
                // x0 is overwritten by the result: the kernel keeps the argument apart.
                layout.regs_args[0] = need("orig_x0");
                layout.regs_syscall = need("syscallno");
                let (pc, sp) = (need("pc"), need("sp"));
                layout.regs_of_stack = [pc, sp, first + 8 * 29, first + 8 * 30];
            }
        }
    }
}
