//! The eBPF programs from outside: loads and attaches them, reads their rings
//! and tables. The only place that knows aya. What comes out is bytes and
//! counters; `decode` gives them a meaning.

mod asleep;
mod cpus;
mod existing;
mod lag;
mod later;
mod log;
mod mapped;
mod needs;
mod polls;
mod rings;
mod threads;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    mem::offset_of,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{Arc, atomic::Ordering::Release},
    thread,
    time::Duration,
};

use forktrace_core::trace::{Arch, PollWay, waits};

use crate::kernel::{
    btf, environment,
    layout::{OPTIONAL_TRACEPOINTS, TRACEPOINTS, resolve, resolve_existing},
    own_process::{OwnProcess, in_first_pid_namespace},
    symbols,
};
use crate::limits::Needs;
use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Btf, Ebpf, EbpfLoader, Endianness, VerifierLogLevel,
    maps::{Array, HashMap as HashMapOf, Map, MapData, Stack, StackTraceMap},
    programs::{BtfTracePoint, Program, ProgramError, tp_btf::BtfTracePointLinkId},
};
use bytemuck::Pod;
use forktrace_common::{
    event::{Control, CpuStats, Entry, PollState, TaskState, flag},
    layout::{
        Layout,
        stacks::{KEEP_REGISTERS, WALK},
    },
    limits::{MAX_CPUS, MAX_TID, TIDS_PER_ELEMENT},
};

pub(crate) use asleep::{Asleep, Block, Sleepers};
use cpus::Cpus;
pub use existing::{Counted, Existing, Wanted};
pub use later::Later;
use later::Polls;
pub use log::LogLevel;
pub use mapped::Mapped;
pub use polls::PollProbes;
use polls::Wished;
use rings::{Rings, Sizes};
use threads::{Work, spawn};

/// The eBPF object, built by `cargo xtask ebpf` from `forktrace-ebpf`.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/forktrace.bpf.o");

/// The SHA-256 of [`OBJECT`] in hexadecimal digits, from the record that is made with it;
/// a test of `xtask` compares the two.
pub fn object_sha256() -> &'static str {
    include_str!("../../bpf/forktrace.bpf.toml")
        .lines()
        .find_map(|line| line.strip_prefix("object_sha256 = \"")?.strip_suffix('"'))
        .unwrap_or("not known")
}

/// Files that each CPU's part of the object cache holds. A power of two.
const OBJECTS_PER_CPU: u32 = 256;
/// Stacks that can be told apart, when stacks are wanted: 16 MB.
const STACKS: u32 = 16384;

/// How stacks are taken: in one of these ways, or in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackWays {
    /// The kernel follows the frame pointers of each block and wakeup at once.
    pub walk: bool,
    /// The registers of a program that goes to sleep are kept, and if it sleeps for so long its
    /// stack is followed by what its files tell of unwinding.
    pub look_after: Option<Duration>,
    /// Java machines are asked for the names of what they compiled.
    pub ask_java: bool,
    /// Functions are named with their lines in the source, where that takes no more than their
    /// names.
    pub lines: bool,
}

/// What a recording can be told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Size of each CPU's ring, bytes; a power of two and a multiple of the page
    /// size. `None`: by the number of CPUs.
    pub ring_bytes: Option<u32>,
    /// Most tasks that can be followed at the same time.
    pub max_tasks: u32,
    /// How to watch the select/poll family.
    pub polls: PollProbes,
    /// Take the stacks of blocks and wakers, and how; `None`: take none.
    pub stacks: Option<StackWays>,
    /// Leave out who woke each task, and what it waited for beyond the syscall.
    pub plain: bool,
    /// What the programs say of the paths that they seldom take.
    pub log: LogLevel,
    /// Take in tasks that are there already; `None`: only new ones are traced.
    pub existing: Option<Existing>,
    /// Tell of data that waited in a TCP socket for so long or longer until a task looked;
    /// `None`: of none.
    pub lag_min: Option<Duration>,
}

impl Settings {
    fn walks_stacks(&self) -> bool {
        self.stacks.is_some_and(|ways| ways.walk)
    }

    fn keeps_registers(&self) -> bool {
        self.stacks.is_some_and(|ways| ways.look_after.is_some())
    }
}

/// Records that were dropped and tasks that are not followed, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Stretches that found their ring full.
    pub ring_full: u64,
    /// Stretches on a CPU without a ring.
    pub no_ring: u64,
    /// Other records that were dropped. The kernel says no more than that there is no
    /// record, and since Linux 6.15 that could be for want of the ring buffer's lock
    /// (`raw_res_spin_lock_irqsave` in kernel/bpf/ringbuf.c). Here it is not: nobody else ever
    /// wants that lock. Each CPU has a ring buffer of its own, whose reader takes no lock, the
    /// programs stay on their CPU, interrupts are off while it is held, and none of them runs
    /// in an NMI. (Slots of the task table are from a stack that all CPUs share: what the
    /// kernel refuses there is counted in `slots` and `refused`.)
    pub other: u64,
    /// Tasks that are not followed: the task table was full.
    pub table_full: u64,
    /// Tasks whose last record was dropped, so far.
    pub unreported: u64,
    /// Stacks that were dropped: their map was full.
    pub stacks: u64,
    /// Slots of the task table that could not be given back.
    pub slots: u64,
    /// Other changes of the tables of tasks that the kernel refused.
    pub refused: u64,
}

impl Losses {
    /// Records of whatever kind that are lost.
    pub fn records(&self) -> u64 {
        self.ring_full + self.no_ring + self.other
    }
}

/// A task read from the task table, with its select/poll counters.
pub struct TableEntry {
    /// Its state.
    pub state: TaskState,
    /// Its counters, if it made such calls.
    pub polls: Option<PollState>,
    /// Of one that lives: its switches, if they were counted ([`Tracer::count_switches`]).
    pub counted: Option<Counted>,
}

type PollBytes = [u8; size_of::<PollState>()];

/// The attached programs.
pub struct Tracer {
    /// Holds the programs; dropping it detaches them.
    ebpf: Ebpf,
    /// What attaches the programs of [`TRACEPOINTS`] and [`OPTIONAL_TRACEPOINTS`].
    links: Vec<(&'static str, BtfTracePointLinkId)>,
    rings: Rings,
    /// CPUs that were switched on at the start.
    online: u32,
    log: Option<log::Reader>,
    control: Arc<Mapped<Control>>,
    cpus: Mapped<CpuStats>,
    tasks: Mapped<TaskState>,
    entries: Mapped<Entry>,
    sleepers: Vec<OwnedFd>,
    counts_lags: bool,
    wanted: HashMapOf<MapData, [u64; 2], u32>,
    /// What is in it.
    asked: BTreeSet<Wanted>,
    /// There may be tasks that were taken in.
    attaches: bool,
    poll_states: Array<MapData, PollBytes>,
    free_slots: Stack<MapData, u32>,
    stacks: StackTraceMap<MapData>,
    max_tasks: u32,
    poll_way: PollWay,
    later: Option<Later>,
    own: OwnProcess,
}

impl Tracer {
    /// What a tracer with these settings takes here.
    ///
    /// # Errors
    /// When the CPUs can't be found out.
    pub fn needs(settings: &Settings) -> Result<Needs> {
        let cpus = Cpus::of_this_machine()?;
        Ok(needs::needs(settings, cpus.present.len()))
    }

    /// Loads the programs into the kernel and attaches them. Nothing is traced
    /// until [`Self::arm`].
    ///
    /// # Errors
    /// When the kernel lacks something that we need or refuses a program, and
    /// without the capabilities that it takes.
    pub fn attach(settings: &Settings) -> Result<Self> {
        if environment::is_realtime() && !settings.plain {
            bail!(
                "this kernel has PREEMPT_RT: interrupts run in threads there, and forktrace would \
                 name wrong wakers; `forktrace run --plain` records without wakers"
            );
        }
        let (kernel_types, types, own_code, mut loader) = read_kernel()?;
        let (_, layout) = resolve(&kernel_types, Arch::of_this_machine()?);
        let cpus = Cpus::of_this_machine()?;
        let (walks, keeps_registers) = (settings.walks_stacks(), settings.keeps_registers());
        let ring_sizes = Sizes::new(settings.ring_bytes, cpus.present.len(), walks);
        let mut layout = Layout {
            own_code,
            object_mask: OBJECTS_PER_CPU - 1,
            stacks: u32::from(walks) * WALK + u32::from(keeps_registers) * KEEP_REGISTERS,
            plain: u32::from(settings.plain),
            wake_bytes: ring_sizes.others / 4,
            ring_slots: ring_sizes.slots(),
            // Of other architectures nothing is taken for granted.
            ordered_stores: u32::from(cfg!(target_arch = "x86_64")),
            max_tasks: settings.max_tasks,
            attach: u32::from(settings.existing.is_some()),
            by_cgroup: u32::from(settings.existing.is_some_and(|it| it.by_cgroup)),
            ..layout?
        };
        if settings.existing.is_some() {
            resolve_existing(&kernel_types, &mut layout)?;
        }
        lag::resolve(&kernel_types, settings.lag_min, &mut layout)?;
        let slots = settings.max_tasks + 1;
        sizes(&mut loader, settings, &cpus, ring_sizes);
        let waits = waits(Arch::of_this_machine()?);
        let log_level = [settings.log.number()];
        let mut ebpf = loader
            .btf(Some(&types))
            // Only a program that the kernel has refused is loaded with a log, again. With none
            // at all older kernels would refuse that for the log's sake, and not say why.
            .verifier_log_level(VerifierLogLevel::STATS)
            .override_global("LAYOUT", bytemuck::bytes_of(&layout), true)
            .override_global("WAIT_KINDS", &waits[..], true)
            .override_global(aya_log::LEVEL, &log_level[..], true)
            .load(OBJECT)
            .map_err(permission_hint)?;
        // Threads that load programs reserve address space, which tables would lack then.
        let rings = Rings::new(&mut ebpf, &cpus, ring_sizes)?;
        let control = Arc::new(mapped(&ebpf, "CONTROL", 1)?);
        let of_cpus = mapped(&ebpf, "CPUS", MAX_CPUS as u32)?;
        let tasks = mapped(&ebpf, "TASKS", slots)?;
        let entries = mapped(&ebpf, "ENTRIES", settings.existing.map_or(1, |_| slots))?;
        let sleepers = tables_of_sleepers(&ebpf, keeps_registers)?;
        let (tracepoints, wished) =
            load_programs(&mut ebpf, settings, &kernel_types, &types, &layout)?;
        if settings.existing.is_some() {
            existing::load(&mut ebpf, &types)?;
        }
        // Some 20 MB, which what is forked now would hold on to.
        drop(loader);
        drop((types, kernel_types));
        let polls = Polls::ready(wished, &mut ebpf.programs_mut().collect(), &layout);
        // Programs that are loaded hold their maps, which are taken from here on: whoever
        // takes one and lets go of it closes it.
        let log = match settings.log {
            LogLevel::Off => None,
            _ => Some(log::Reader::new(&mut ebpf)?),
        };
        let mut programs: Programs<'_> = ebpf.programs_mut().collect();
        let mut links = Vec::new();
        for name in tracepoints {
            let program: &mut BtfTracePoint = program(&mut programs, name)?;
            let link = program
                .attach()
                .with_context(|| format!("the program for {name} can't be attached"))?;
            links.push((name, link));
        }
        Ok(Self {
            rings,
            online: cpus.online,
            log,
            control,
            cpus: of_cpus,
            tasks,
            entries,
            sleepers,
            counts_lags: settings.lag_min.is_some(),
            wanted: HashMapOf::try_from(take_map(&mut ebpf, "WANTED")?)?,
            asked: BTreeSet::new(),
            attaches: settings.existing.is_some(),
            poll_states: Array::try_from(take_map(&mut ebpf, "POLLS")?)?,
            free_slots: Stack::try_from(take_map(&mut ebpf, "FREE_SLOTS")?)?,
            stacks: StackTraceMap::try_from(take_map(&mut ebpf, "STACKS")?)?,
            max_tasks: settings.max_tasks,
            poll_way: polls.way,
            later: polls.later,
            own: OwnProcess::open()?,
            ebpf,
            links,
        })
    }

    /// From now on a child of the calling thread is the root of a workload.
    ///
    /// What is returned ends that, and is for that child to call before it does
    /// anything else: one store into memory that it shares with us.
    ///
    /// # Errors
    /// When our pid namespace can't be found out.
    pub fn arm(&self) -> Result<impl FnMut() -> io::Result<()> + Send + Sync + use<>> {
        let (device, inode) = self.own.pid_namespace()?;
        let device = nix::sys::stat::major(device) << 20 | nix::sys::stat::minor(device);
        let launcher = nix::unistd::gettid().as_raw() as u64;
        let set = |offset, value| self.control.word(0, offset).store(value, Release);
        set(offset_of!(Control, namespace_device), device);
        set(offset_of!(Control, namespace_inode), inode);
        // The last, since it decides.
        set(offset_of!(Control, launcher), launcher);

        let control = Arc::clone(&self.control);
        Ok(move || {
            let launcher = control.word(0, offset_of!(Control, launcher));
            launcher.store(0, Release);
            Ok(())
        })
    }

    fn control(&self) -> Control {
        self.control.load(0)
    }

    /// How the select/poll family is watched.
    pub fn poll_way(&self) -> &PollWay {
        &self.poll_way
    }

    /// What attaches the programs for that, if they are not from the start.
    pub fn polls_later(&mut self) -> Option<&mut Later> {
        self.later.as_mut()
    }

    /// Lets go of that: calls are counted no more.
    pub fn end_polls_later(&mut self) {
        self.later = None;
    }

    /// CPUs online when the tracer was attached.
    pub fn cpus(&self) -> u32 {
        self.online
    }

    /// Size of each CPU's ring, bytes.
    pub fn ring_bytes(&self) -> u32 {
        self.rings.bytes()
    }

    /// Descriptors that become readable (edge-triggered) when a ring has filled
    /// to a quarter or the last task has ended.
    pub fn ring_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.rings.fds()
    }

    /// Hands each record that is in the rings to `sink`, with its CPU. Within a
    /// CPU they come in the order of time.
    ///
    /// Of each ring it reads no more than it holds, which is all that was there at
    /// the start: a workload that writes as fast as we read can't keep us here. True:
    /// there may be more.
    pub fn drain(&mut self, sink: impl FnMut(u16, &[u8])) -> bool {
        self.rings.drain(&self.cpus, sink)
    }

    /// What the programs said since the last time, a line each.
    pub fn read_log(&mut self, sink: impl FnMut(String)) {
        if let Some(log) = &mut self.log {
            log.read(sink);
        }
    }

    /// Tasks of the workload that live: followed, and not followed.
    pub fn live(&self) -> (u64, u64) {
        let control = self.control();
        (control.live, control.live_untracked)
    }

    /// What was lost since the start.
    pub fn losses(&self) -> Losses {
        let mut losses = Losses::default();
        for cpu in self.rings.cpus() {
            losses.add(&self.cpus.load(cpu));
        }
        losses
    }

    /// The same, with the CPUs that have no ring: for the end of a recording.
    pub fn losses_of_all_cpus(&self) -> Losses {
        let mut losses = Losses::default();
        for cpu in self.cpus.entries() {
            losses.add(&self.cpus.load(cpu));
        }
        losses
    }

    /// Times that the kernel left out a program that tells of a creation, an exec or a
    /// signal, of any task: it had just preempted the same program on that CPU. Newer
    /// kernels do that where interrupts are on, which is at an exec.
    ///
    /// # Errors
    /// When the kernel's count can't be read.
    pub fn left_out(&self) -> Result<u64> {
        let names = ["sched_wakeup_new", "sched_process_exec", "signal_generate"];
        self.recursion_misses(|name| names.contains(&name))
    }

    /// The same of the programs that watch the select/poll family: fentry's and fexit's
    /// can be preempted on any kernel.
    ///
    /// # Errors
    /// As above.
    pub fn polls_left_out(&self) -> Result<u64> {
        self.recursion_misses(polls::is_program)
    }

    /// Instructions that the verifier processed for each program that is loaded, by name:
    /// what it costs to start, and how far a program is from the limit (a million).
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn verified(&self) -> Result<BTreeMap<String, u32>> {
        let mut verified = BTreeMap::new();
        for (name, program) in self.ebpf.programs() {
            // Not every kernel has all, and plain recordings do without some.
            let Ok(info) = program.info() else {
                continue;
            };
            let count = info.verified_instruction_count();
            let count = count.with_context(|| format!("the kernel tells none for {name}"))?;
            verified.insert(name.to_owned(), count);
        }
        Ok(verified)
    }

    fn recursion_misses(&self, of: impl Fn(&str) -> bool) -> Result<u64> {
        let mut misses = 0;
        for (_, program) in self.ebpf.programs().filter(|(name, _)| of(name)) {
            // Not every kernel has all, and plain recordings do without some.
            let Ok(fd) = program.fd() else {
                continue;
            };
            let info = self.own.about(fd.as_fd());
            let info =
                info.context("the kernel's count of programs that it left out can't be read")?;
            let count = info
                .lines()
                .find_map(|line| line.strip_prefix("recursion_misses:"))
                .with_context(|| format!("no count of programs left out in {info:?}"))?;
            let count: u64 = count.trim().parse().with_context(|| format!("{count:?}"))?;
            misses += count;
        }
        Ok(misses)
    }

    /// Takes the dead tasks whose last record was dropped out of the task
    /// table, so that their slots can be used again.
    ///
    /// # Errors
    /// When a map can't be read or written.
    pub fn take_unreported(&mut self, mut sink: impl FnMut(TableEntry)) -> Result<()> {
        for slot in self.used_slots() {
            let state = self.tasks.load(slot as usize);
            if state.task != 0 || state.flags & flag::UNREPORTED == 0 {
                continue;
            }
            let polls = self.polls_of(slot, &state)?;
            let counted = None;
            sink(TableEntry {
                state,
                polls,
                counted,
            });
            self.tasks.clear(slot as usize);
            if state.polled != 0 {
                self.poll_states.set(slot, [0; size_of::<PollState>()], 0)?;
            }
            self.free_slots.push(slot, 0)?;
        }
        Ok(())
    }

    /// Detaches the programs that follow tasks and waits until none of them runs
    /// any more. What is in the rings and tables then is final.
    ///
    /// The programs that watch the select/poll family stay until the tracer is
    /// dropped: the kernel takes up to 70 ms for each syscall tracepoint.
    ///
    /// # Errors
    /// When a program can't be detached, or the ring of a CPU not be replaced,
    /// which is how we wait.
    pub fn detach(&mut self) -> Result<()> {
        for (name, link) in self.links.drain(..) {
            let program = self.ebpf.program_mut(name).context("it was there")?;
            let program: &mut BtfTracePoint = program.try_into()?;
            program.detach(link)?;
        }
        self.rings.wait_for_programs()
    }

    /// All tasks that are in the table: those that live, and those whose last
    /// record was dropped. Call after [`Self::detach`].
    ///
    /// # Errors
    /// When a map can't be read.
    pub fn remaining(&self, mut sink: impl FnMut(TableEntry)) -> Result<()> {
        for slot in self.used_slots() {
            let state = self.state(slot);
            if state.task != 0 || state.flags & flag::UNREPORTED != 0 {
                let polls = self.polls_of(slot, &state)?;
                let counted = self.counted(slot, &state);
                sink(TableEntry {
                    state,
                    polls,
                    counted,
                });
            }
        }
        Ok(())
    }

    /// The addresses of a stack, innermost first; empty when it is not there.
    pub fn stack(&self, id: u32) -> Vec<u64> {
        let stack = self.stacks.get(&id, 0);
        stack.map_or_else(
            |_| Vec::new(),
            |s| s.frames().iter().map(|f| f.ip).collect(),
        )
    }

    /// The tasks that live, as of now: they go on meanwhile, so what is read of one
    /// is of another moment than what is read of the next.
    pub fn living(&self, mut sink: impl FnMut(TaskState)) {
        for slot in self.used_slots() {
            let state = self.state(slot);
            if state.task != 0 && state.end_ns == 0 {
                sink(state);
            }
        }
    }

    /// What [`Sleepers`] is made of; nothing, if no registers are kept. Given out once.
    pub(crate) fn sleepers(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.sleepers)
    }

    fn used_slots(&self) -> std::ops::RangeInclusive<u32> {
        1..=self.control().slots.min(u64::from(self.max_tasks)) as u32
    }

    fn polls_of(&self, slot: u32, state: &TaskState) -> Result<Option<PollState>> {
        if state.polled == 0 {
            return Ok(None);
        }
        let bytes = self
            .poll_states
            .get(&slot, 0)
            .context("the poll table can't be read")?;
        Ok(Some(bytemuck::pod_read_unaligned(&bytes)))
    }
}

impl Losses {
    fn add(&mut self, cpu: &CpuStats) {
        self.ring_full += cpu.lost_ring_full;
        self.no_ring += cpu.lost_no_ring;
        self.other += cpu.lost_other;
        self.table_full += cpu.untracked_table_full;
        self.unreported += cpu.unreported;
        self.stacks += cpu.lost_stacks;
        self.slots += cpu.lost_slots;
        self.refused += cpu.refused;
    }
}

/// Tids that the kernel gives: those below `kernel.pid_max`. All that it ever could
/// where that can't be read, and in a pid namespace, which has a limit of its own.
fn tids() -> u32 {
    let limit = std::fs::read_to_string("/proc/sys/kernel/pid_max").ok();
    let limit = limit.and_then(|text| text.trim().parse::<u32>().ok());
    match limit {
        Some(limit) if in_first_pid_namespace() == Some(true) => limit.min(MAX_TID),
        _ => MAX_TID,
    }
}

/// The tracepoints to attach to, in this order: the words that tell interrupts
/// from tasks before the wakeups that need them.
fn tracepoints(btf: &btf::Btf, settings: &Settings) -> Vec<&'static str> {
    let follows = |name: &&str| name.starts_with("sched_") || name.starts_with("task_");
    let needed = TRACEPOINTS.into_iter().map(|(name, _)| name);
    let (mut following, interrupts): (Vec<_>, Vec<_>) = needed.partition(follows);
    if settings.existing.is_some_and(|it| it.by_cgroup) {
        following.push(existing::CGROUP_TRACEPOINT);
    }
    if settings.lag_min.is_some() {
        following.extend(lag::tracepoints());
    }
    if settings.plain {
        return following;
    }
    let optional = OPTIONAL_TRACEPOINTS.into_iter();
    let present = optional.filter(|(name, args, _)| btf.tracepoint_args(name) >= Some(*args));
    let present = present.map(|(name, ..)| name);
    interrupts
        .into_iter()
        .chain(present)
        .chain(following)
        .collect()
}

/// Entries of a table; one that is not used has one: none is not allowed.
fn if_used(used: bool, entries: u32) -> u32 {
    if used { entries } else { 1 }
}

/// Sets the sizes of the tables.
fn sizes(loader: &mut EbpfLoader<'_>, settings: &Settings, cpus: &Cpus, rings: Sizes) {
    let slots = settings.max_tasks + 1;
    let cpus = cpus.numbers();
    let polls = settings.polls != PollProbes::Off;
    let attaches = settings.existing.is_some();
    lag::size(loader, settings.lag_min.is_some());
    loader
        .map_max_entries("ENTRIES", if_used(attaches, slots))
        .map_max_entries("WANTED", if_used(attaches, existing::MOST_WANTED))
        .map_max_entries("PROCESSES", if_used(attaches, slots))
        .map_max_entries("OBJECTS", cpus * OBJECTS_PER_CPU)
        .map_max_entries("SCRATCH", cpus)
        .map_max_entries("STRETCHES", cpus * rings.slots())
        .map_max_entries("STACKS", if_used(settings.walks_stacks(), STACKS))
        .map_max_entries("REGISTERS", if_used(settings.keeps_registers(), slots))
        .map_max_entries("TIDS", tids().div_ceil(TIDS_PER_ELEMENT))
        .map_max_entries("TASKS", slots)
        .map_max_entries("POLLS", if_used(polls, slots))
        .map_max_entries("BY_TASK", slots)
        .map_max_entries("FREE_SLOTS", slots);
}

/// A table in our memory. The map stays where it is, and open.
fn mapped<T: Pod>(ebpf: &Ebpf, name: &str, entries: u32) -> Result<Mapped<T>> {
    match ebpf.map(name) {
        Some(Map::Array(map)) => Mapped::new(map, entries).context(name.to_owned()),
        Some(_) => bail!("{name} is no array"),
        None => Err(no_map(name)),
    }
}

/// What a helper sees of the tasks that sleep, if that is wanted.
fn tables_of_sleepers(ebpf: &Ebpf, wanted: bool) -> Result<Vec<OwnedFd>> {
    let names = ["CONTROL", "TASKS", "REGISTERS"].into_iter();
    let tables = names.filter(|_| wanted).map(|name| table(ebpf, name));
    tables.collect()
}

/// A descriptor of a table of its own.
fn table(ebpf: &Ebpf, name: &str) -> Result<OwnedFd> {
    match ebpf.map(name) {
        Some(Map::Array(map)) => {
            let fd = map.fd().as_fd().try_clone_to_owned();
            fd.with_context(|| format!("no descriptor for {name}"))
        }
        Some(_) => bail!("{name} is no array"),
        None => Err(no_map(name)),
    }
}

fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).ok_or_else(|| no_map(name))
}

fn no_map(name: &str) -> anyhow::Error {
    anyhow!("the eBPF object has no map {name}")
}

/// The kernel's types, for us and for aya, the places of its own code, and the loader.
type Read = (
    btf::Btf,
    Btf,
    [[u64; 2]; forktrace_common::layout::own_code::COUNT],
    EbpfLoader<'static>,
);

/// What is read before anything is loaded: the kernel's types, for us and for aya, where its
/// own code lies, and the loader, which reads the types too, asked or not. Each takes a part
/// of the time until the workload starts.
fn read_kernel() -> Result<Read> {
    thread::scope(|scope| {
        let own_code = spawn(scope, symbols::own_code);
        let loader = spawn(scope, EbpfLoader::new);
        let kernel_types = btf::Btf::of_running_kernel()?;
        let types = Btf::parse(kernel_types.bytes(), Endianness::default())
            .context("aya can't read the kernel's BTF")?;
        Ok((kernel_types, types, own_code.join(), loader.join()))
    })
}

/// Lets the kernel check the programs that the settings take, which is half of the time that
/// a start takes, and attaches those that count polls, if that is to be from the start. Gives
/// the tracepoints that the others are for.
fn load_programs(
    ebpf: &mut Ebpf,
    settings: &Settings,
    kernel_types: &btf::Btf,
    types: &Btf,
    layout: &Layout,
) -> Result<(Vec<&'static str>, Wished)> {
    let tracepoints = tracepoints(kernel_types, settings);
    let mut programs: Programs<'_> = ebpf.programs_mut().collect();
    let mut of_polls = programs
        .extract_if(|name, _| polls::is_program(name))
        .collect();
    programs.retain(|name, _| tracepoints.contains(name));
    let wished = thread::scope(|scope| {
        let loads = programs.iter_mut().map(|(name, program)| {
            let load = || load(name, program, types);
            spawn(scope, load)
        });
        let loads: Vec<_> = loads.collect();
        let wished = polls::attach(&mut of_polls, settings.polls, kernel_types, types, layout);
        loads.into_iter().try_for_each(Work::join)?;
        wished
    })?;
    Ok((tracepoints, wished))
}

/// Programs of the object, by name.
type Programs<'a> = HashMap<&'a str, &'a mut Program>;

fn program<'a, P>(programs: &'a mut Programs<'_>, name: &str) -> Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = programs
        .get_mut(name)
        .with_context(|| format!("the eBPF object has no program {name}"))?;
    Ok((&mut **program).try_into()?)
}

/// Loads the program of a tracepoint, which has its name.
fn load(tracepoint: &str, program: &mut Program, types: &Btf) -> Result<()> {
    let program: &mut BtfTracePoint = program.try_into()?;
    program
        .load(tracepoint, types)
        .with_context(|| format!("the kernel refuses the program for {tracepoint}"))
}

/// Says what is missing when the kernel refuses to load anything.
fn permission_hint(error: aya::EbpfError) -> anyhow::Error {
    let error = anyhow!(error);
    if in_user_namespace() {
        return error.context(
            "forktrace is in a user namespace, whose root has no rights over the machine's kernel; \
             run it outside of it",
        );
    }
    if nix::unistd::geteuid().is_root() {
        return error.context("the kernel refuses forktrace's eBPF programs");
    }
    let says = "loading eBPF programs takes root or CAP_BPF and CAP_PERFMON; run it with sudo";
    let denied = error.chain().any(|cause| {
        let error = cause.downcast_ref::<std::io::Error>();
        error.is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    });
    // Which table it was that was refused first helps nobody.
    match denied {
        true => anyhow!(says),
        false => error.context(says),
    }
}

/// Are our user ids not the kernel's (user_namespaces(7))?
fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map");
    let all = ["0", "0", "4294967295"];
    map.is_ok_and(|map| !map.split_ascii_whitespace().eq(all))
}
