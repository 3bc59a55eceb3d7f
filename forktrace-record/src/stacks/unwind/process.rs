//! A process whose stacks are followed: its memory, and what is mapped in it.

use std::{
    collections::HashMap,
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use forktrace_process::procfs::maps::mappings;
use framehop::{
    CacheNative, Error, ExplicitModuleSectionInfo, FrameAddress, MayAllocateDuringUnwind, Module,
    UnwindRegsNative, Unwinder as _, UnwinderNative,
};

use super::{
    super::code::{GAP, Whose, of_file},
    DEEPEST, End, Found, Place, Sleeper, Walk,
    again::Lasts,
    debug_frame::InFile,
    lately::Lately,
    memory::Memory,
    python::{self, Interpreter},
    registers::{
        BEGINS_THREAD, SIGRETURN, called, frame_pointer, goes_elsewhere, interrupted,
        keeps_frame_pointer, registers,
    },
    tables::{Files, Known, Tables, read},
};

/// Libraries can be loaded in place of others: what is mapped is looked at again after so long.
const FRESH: Duration = Duration::from_millis(500);
/// Of a stack no more units of memory are read: a megabyte.
const MOST_UNITS: usize = 1024;
/// Files that are looked at for an interpreter.
const MOST_INTERPRETERS: usize = 16;

/// What a call that says where it goes takes, bytes; and what a function is no longer than that
/// makes a system call, and little else.
const CALL: u64 = 5;
const LONGEST_LEAF: u64 = 256;
/// What a program begins with is no longer: it has the next function called.
const LONGEST_ENTRY: u64 = 64;

/// A function that keeps a frame pointer says so in its first bytes. One that is called and is no longer than that can be
/// the one that an address is in.
const FIRST_INSTRUCTIONS: u64 = 20;
const LONGEST_FUNCTION: u64 = 1 << 16;

/// The C library of GNU, whose first functions of a thread have no names once it is stripped.
const GNU_LIBC: &str = "libc.so.6";

/// Memory that code is in.
struct Area {
    start: u64,
    end: u64,
    /// `None`: it is of no file.
    module: Option<usize>,
}

/// A file that is mapped.
struct Mapped {
    /// File name.
    name: Rc<str>,
    whose: Whose,
    base: u64,
    end: u64,
    file: (u32, u64),
    /// What it tells; `None`: it was not asked yet.
    known: Option<Option<Known>>,
    /// What it tells only in the file itself; `None`: that was not asked for yet.
    in_file: Option<Option<Rc<InFile>>>,
}

impl Mapped {
    fn tables(&self) -> Option<&Tables> {
        self.known.as_ref()?.as_ref()?.tables.as_deref()
    }

    /// By the addresses that the file has for itself.
    fn own_address(&self, address: u64) -> u64 {
        let first = self.known.as_ref().and_then(Option::as_ref);
        let first = first.map_or(0, |known| known.first);
        address.wrapping_sub(self.base).wrapping_add(first)
    }
}

type Bytes = std::sync::Arc<[u8]>;

pub(super) struct Process {
    program: u32,
    memory: Rc<File>,
    read_at: Instant,
    /// Which code was mapped then, in short.
    code: u64,
    areas: Vec<Area>,
    mapped: Vec<Mapped>,
    unwinder: UnwinderNative<Bytes, MayAllocateDuringUnwind>,
    /// The same by what files do not have in memory.
    in_files: UnwinderNative<Bytes, MayAllocateDuringUnwind>,
    cache: CacheNative<MayAllocateDuringUnwind>,
    /// Is the code at an address a signal handler's way back?
    ways_back: HashMap<u64, bool>,
    /// It is in a namespace of its own, which has other numbers for its threads.
    is_inside: bool,
    lasts: Lasts,
    lately: Lately,
    /// What executes Python in it, and in which file; `None`: that was not looked for yet.
    python: Option<Option<(usize, Interpreter)>>,
}

impl Process {
    /// `None`: it is gone.
    pub(super) fn open(sleeper: &Sleeper) -> Option<Self> {
        let tid = sleeper.tid;
        let mut process = Self {
            program: sleeper.process.1,
            memory: Rc::new(File::open(format!("/proc/{tid}/mem")).ok()?),
            read_at: Instant::now(),
            code: 0,
            areas: Vec::new(),
            mapped: Vec::new(),
            unwinder: UnwinderNative::new(),
            in_files: UnwinderNative::new(),
            cache: CacheNative::new_in(),
            ways_back: HashMap::new(),
            is_inside: python::tids(tid)?.len() > 1,
            lasts: Lasts::default(),
            lately: Lately::default(),
            python: None,
        };
        process.read_map(tid)?;
        Some(process)
    }

    /// Is it that program, with the code that it had? The thread that sleeps is asked: another
    /// one can be gone.
    pub(super) fn is_fresh(&mut self, sleeper: &Sleeper) -> bool {
        let is_it = self.program == sleeper.process.1;
        if !is_it || self.read_at.elapsed() < FRESH {
            return is_it;
        }
        self.read_at = Instant::now();
        // An interpreter can have begun since.
        self.python.take_if(|found| found.is_none());
        maps(sleeper.tid).is_some_and(|maps| short(&maps) == self.code)
    }

    /// Its map is to be looked at again.
    #[cfg(test)]
    pub(super) fn read_long_ago(&mut self) {
        self.read_at = self.read_at.checked_sub(FRESH).expect("a time");
    }

    fn read_map(&mut self, tid: u32) -> Option<()> {
        let maps = maps(tid)?;
        self.code = short(&maps);
        let mut bases = HashMap::new();
        let mut modules = HashMap::new();
        for mapping in mappings(&maps) {
            let key = (mapping.file, mapping.path);
            let is_file = mapping.file.1 != 0 || mapping.path == "[vdso]";
            if is_file && mapping.offset == 0 {
                bases.insert(key, mapping.start);
            }
            if !mapping.executable {
                continue;
            }
            let base = bases.get(&key).copied();
            let module = base.map(|base| {
                let known = modules.entry(base);
                *known.or_insert_with(|| self.module(base, mapping.file, mapping.path))
            });
            if let Some(module) = module {
                self.mapped[module].end = mapping.end;
            }
            self.areas.push(Area {
                start: mapping.start,
                end: mapping.end,
                module,
            });
        }
        // A process that is ending has none.
        (!self.areas.is_empty()).then_some(())
    }

    /// Takes in a file; its end is told by what is mapped of it.
    fn module(&mut self, base: u64, file: (u32, u64), path: &str) -> usize {
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        let name = path.rsplit('/').next().unwrap_or(path);
        self.mapped.push(Mapped {
            name: name.into(),
            whose: of_file(name),
            base,
            end: base,
            file,
            known: None,
            in_file: None,
        });
        self.mapped.len() - 1
    }

    /// Follows a stack. `None`: nothing can be read there, or what is mapped is not what
    /// `is_new` tells of.
    pub(super) fn follow(
        &mut self,
        sleeper: &Sleeper,
        files: &mut Files,
        is_new: bool,
    ) -> Option<Found> {
        if let Some(number) = self.lasts.again(&self.memory, sleeper) {
            return Some(Found::Again(number));
        }
        let [pc, sp, fp, lr] = sleeper.registers;
        let mut registers = registers(pc, sp, fp, lr);
        let memory = Rc::clone(&self.memory);
        let mut stack = Memory::new(&memory, MOST_UNITS);
        let mut executed = Memory::new(&memory, python::MOST_UNITS);
        self.lately.fetch(sleeper, &mut stack, &mut executed);
        let mut walk = Walk::default();
        let mut modules = Vec::new();
        let mut address = FrameAddress::from_instruction_pointer(pc);
        // A guess: a function of which nothing is told was taken to keep a frame pointer.
        let (mut told, mut is_guess) = (true, false);
        walk.end = loop {
            let looked_up = address.address_for_lookup();
            let Some(area) = self.area(looked_up) else {
                if !is_new {
                    // A library can have been loaded since.
                    return None;
                }
                let lost = modules.last().map(|module| self.lost(*module, told));
                break End::Cut(lost.unwrap_or_else(|| "it is where no code is mapped".to_owned()));
            };
            let module = self.areas[area].module;
            if let Some(module) = module {
                self.load(module, files)?;
            }
            told = self.is_told(module, looked_up);
            let is_way_back = self.is_way_back(address.address());
            let is_in_file =
                !told && !is_way_back && self.is_told_in_file(sleeper, looked_up, files);
            told |= is_in_file;
            walk.addresses.push(address.address());
            walk.places.push(self.place(module, looked_up, is_way_back));
            modules.push(module);
            if modules.len() >= DEEPEST {
                break End::Cut(format!("it is more than {DEEPEST} functions deep"));
            }
            if is_way_back {
                // What a signal interrupted is no call.
                let mut read = |at| stack.word(at).ok_or(());
                let Some(next) = interrupted(&mut registers, &mut read) else {
                    break End::Cut(why_not(&stack).to_owned());
                };
                address = FrameAddress::from_instruction_pointer(next);
                continue;
            }
            if modules.len() == 1
                && self.is_go(module)
                && let Some(next) = self.leaf(sleeper, &mut registers, &mut stack)
            {
                address = FrameAddress::from_return_address(next).unwrap_or(address);
                continue;
            }
            if is_in_file && modules.len() > 1 && self.begins_thread(address.address()) {
                break End::Start;
            }
            let next = self.caller(is_in_file, address, &mut registers, &mut stack);
            let next = match next {
                Ok(next) => next,
                Err(Error::CouldNotReadStack(_)) if told => {
                    // The first page of the stack is there, or the task has gone.
                    if stack.is_empty() && modules.len() == 1 {
                        return None;
                    }
                    break End::Cut(why_not(&stack).to_owned());
                }
                Err(Error::FramepointerUnwindingMovedBackwards) if self.is_go(module) => {
                    match self.other_stack(&mut registers, &mut stack) {
                        Some(next) => Some(next),
                        None => break End::Cut(self.lost(module, told)),
                    }
                }
                Err(_) if !told && self.is_entry(module, looked_up, &registers) => {
                    break End::Start;
                }
                Err(_) => break End::Cut(self.lost(module, told)),
            };
            is_guess |= self.guess(told, (module, looked_up, next), &mut walk, &mut modules);
            match next.and_then(FrameAddress::from_return_address) {
                Some(next) => address = next,
                None if told && !is_guess => break End::Start,
                None => break End::Unknown,
            }
        };
        if walk.end == End::Start && sleeper.tid != sleeper.process.0 {
            self.name_beginning(&mut walk, &modules);
        }
        self.interpret(sleeper.tid, &mut executed, &mut walk, &modules);
        self.lately.note(sleeper, &stack, &executed);
        self.lasts.keep(sleeper, [&mut stack, &mut executed]);
        Some(Found::Walk(walk))
    }

    /// What was just found of this thread is told by this number.
    pub(super) fn number(&mut self, sleeper: &Sleeper, number: u32) {
        self.lasts.number(sleeper, number);
    }

    /// Puts what an interpreter executes in place of its own functions, if there is one. Where the
    /// stack is cut before it comes to these, at its end.
    fn interpret(
        &mut self,
        tid: u32,
        memory: &mut Memory<'_>,
        walk: &mut Walk,
        modules: &[Option<usize>],
    ) -> Option<()> {
        let is_inside = self.is_inside;
        let (module, interpreter) = self.interpreter()?;
        let is_its = |of: &Option<usize>| *of == Some(module);
        let first = modules.iter().position(is_its);
        let last = modules.iter().rposition(is_its);
        let own = match (first, last) {
            (Some(first), Some(last)) => first..last + 1,
            _ if matches!(walk.end, End::Cut(_)) => modules.len()..modules.len(),
            _ => return None,
        };
        let tid = match is_inside {
            false => tid,
            true => *python::tids(tid)?.last()?,
        };
        let places = interpreter.stack(memory, tid)?;
        let none = std::iter::repeat_n(0, places.len());
        walk.addresses.splice(own.clone(), none);
        walk.places.splice(own, places);
        Some(())
    }

    /// What executes Python in this process, and the file that it is in.
    fn interpreter(&mut self) -> Option<(usize, &mut Interpreter)> {
        if self.python.is_none() {
            let memory = Rc::clone(&self.memory);
            let mut memory = Memory::new(&memory, python::MOST_UNITS);
            // The program itself, whatever it is called, can have it in it.
            let all = self.mapped.iter().enumerate();
            let can = all.filter(|(at, mapped)| *at == 0 || python::can_be_in(&mapped.name));
            let found = can.take(MOST_INTERPRETERS).find_map(|(at, mapped)| {
                Some((at, Interpreter::of(&mut memory, mapped.base, &mapped.name)?))
            });
            self.python = Some(found);
        }
        let (module, interpreter) = self.python.as_mut()?.as_mut()?;
        Some((*module, interpreter))
    }

    fn area(&self, address: u64) -> Option<usize> {
        let after = self.areas.partition_point(|area| area.start <= address);
        let at = after.checked_sub(1)?;
        (address < self.areas[at].end).then_some(at)
    }

    /// Reads what a file tells, once. `None`: the memory is gone.
    fn load(&mut self, module: usize, files: &mut Files) -> Option<()> {
        let mapped = &mut self.mapped[module];
        if mapped.known.is_some() {
            return Some(());
        }
        let known = files.of(&self.memory, mapped.base, mapped.file)?;
        let tables = known.as_ref().and_then(|known| known.tables.as_ref());
        if let Some(tables) = tables {
            let sections = ExplicitModuleSectionInfo {
                base_svma: tables.first,
                eh_frame_svma: Some(tables.frames.addresses.clone()),
                eh_frame: Some(tables.frames.bytes.clone()),
                eh_frame_hdr_svma: Some(tables.index.addresses.clone()),
                eh_frame_hdr: Some(tables.index.bytes.clone()),
                ..ExplicitModuleSectionInfo::default()
            };
            let all = mapped.base..mapped.end;
            let module = Module::new(mapped.name.to_string(), all, mapped.base, sections);
            self.unwinder.add_module(module);
        }
        mapped.known = Some(known);
        Some(())
    }

    /// Do the tables of its file tell how to unwind this function?
    fn is_told(&self, module: Option<usize>, address: u64) -> bool {
        let mapped = module.map(|module| &self.mapped[module]);
        mapped.is_some_and(|mapped| {
            let tables = mapped.tables();
            tables.is_some_and(|tables| tables.tell_of(mapped.own_address(address)))
        })
    }

    /// The same of what is in the file itself, and not in memory.
    fn is_told_in_file(&mut self, sleeper: &Sleeper, address: u64, files: &Files) -> bool {
        let area = self.area(address).map(|area| &self.areas[area]);
        let Some((area, module)) = area.and_then(|area| Some((area, area.module?))) else {
            return false;
        };
        let mapped = &self.mapped[module];
        let own = mapped.own_address(address);
        if let Some(known) = &mapped.in_file {
            return known.as_ref().is_some_and(|known| known.tells_of(own));
        }
        let first = match &mapped.known {
            Some(Some(known)) if !known.is_go => known.first,
            _ => return false,
        };
        let path = format!(
            "/proc/{}/map_files/{:x}-{:x}",
            sleeper.tid, area.start, area.end
        );
        let is_code = |address: u64| {
            let at = mapped.base.wrapping_add(address.wrapping_sub(first));
            let area = self.area(at).map(|area| &self.areas[area]);
            area.is_some_and(|area| area.module == Some(module))
        };
        let found = files.in_file(Path::new(&path), |file| InFile::of(file, first, is_code));
        let is_told = found.as_ref().is_some_and(|found| found.tells_of(own));
        if let Some(found) = &found {
            let sections = ExplicitModuleSectionInfo {
                base_svma: first,
                debug_frame: Some(found.bytes.clone()),
                ..ExplicitModuleSectionInfo::default()
            };
            let all = mapped.base..mapped.end;
            let module = Module::new(mapped.name.to_string(), all, mapped.base, sections);
            self.in_files.add_module(module);
        }
        self.mapped[module].in_file = Some(found);
        is_told
    }

    /// The caller of a function, by what is told of that.
    fn caller(
        &mut self,
        is_in_file: bool,
        address: FrameAddress,
        registers: &mut UnwindRegsNative,
        stack: &mut Memory<'_>,
    ) -> Result<Option<u64>, Error> {
        let unwinder = match is_in_file {
            true => &self.in_files,
            false => &self.unwinder,
        };
        let mut read = |at| stack.word(at).ok_or(());
        unwinder.unwind_frame(address, registers, &mut self.cache, &mut read)
    }

    /// Was the way from this function of a file to its caller guessed? One of which nothing is told can have left the
    /// frame pointer alone, or others that called it: then there is a gap.
    fn guess(
        &self,
        told: bool,
        (module, address, next): (Option<usize>, u64, Option<u64>),
        walk: &mut Walk,
        modules: &mut Vec<Option<usize>>,
    ) -> bool {
        if told || self.is_go(module) {
            return false;
        }
        let is_in_file = module.is_some();
        if next.is_some_and(|next| is_in_file && !self.can_be_frame_of(address, next)) {
            walk.addresses.push(0);
            walk.places.push(Place {
                text: GAP.to_owned(),
                whose: Whose::Unknown,
                is_name: true,
            });
            modules.push(None);
        }
        true
    }

    /// Can the call before `next` have gone to a function that this address is in, and that keeps a frame pointer? Where the
    /// call does not say where it goes, it can.
    fn can_be_frame_of(&self, address: u64, next: u64) -> bool {
        let code = read(&self.memory, next.wrapping_sub(CALL), CALL);
        called(&code, next).is_none_or(|begins| {
            let is_in = begins <= address && address - begins < LONGEST_FUNCTION;
            let code = read(&self.memory, begins, FIRST_INSTRUCTIONS);
            goes_elsewhere(&code) || is_in && keeps_frame_pointer(&code)
        })
    }

    /// Is it where the program begins? The first functions of some C libraries have no table: they say by their frame
    /// pointer that nothing called them.
    fn is_entry(&self, module: Option<usize>, address: u64, registers: &UnwindRegsNative) -> bool {
        let mapped = module.map(|module| &self.mapped[module]);
        let begins = mapped.and_then(|mapped| {
            let known = mapped.known.as_ref()?.as_ref()?;
            mapped.own_address(address).checked_sub(known.entry)
        });
        begins.is_some_and(|begins| begins < LONGEST_ENTRY) && frame_pointer(registers) == 0
    }

    /// Does this address lie behind the call that begins a thread?
    fn begins_thread(&self, address: u64) -> bool {
        let length = BEGINS_THREAD.len() as u64;
        let at = address.wrapping_sub(length);
        length > 0 && read(&self.memory, at, length) == BEGINS_THREAD
    }

    fn is_go(&self, module: Option<usize>) -> bool {
        let known = module.and_then(|module| self.mapped[module].known.as_ref());
        matches!(known, Some(Some(known)) if known.is_go)
    }

    /// What a function of Go that keeps nothing on the stack returns to: such ones make its system
    /// calls, and have no frame pointer of their own.
    fn leaf(
        &self,
        sleeper: &Sleeper,
        registers: &mut UnwindRegsNative,
        stack: &mut Memory<'_>,
    ) -> Option<u64> {
        let [pc, sp, fp, _] = sleeper.registers;
        let next = stack.word(sp)?;
        self.area(next.checked_sub(1)?)?;
        let code = read(&self.memory, next.checked_sub(CALL)?, CALL);
        let from_beginning = pc.checked_sub(called(&code, next)?)?;
        if from_beginning > LONGEST_LEAF {
            return None;
        }
        *registers = self::registers(next, sp.checked_add(8)?, fp, next);
        Some(next)
    }

    /// Go's runtime goes to the stack of the thread and back to that of the goroutine, which can
    /// be anywhere; its frame pointers lead there.
    fn other_stack(&self, registers: &mut UnwindRegsNative, stack: &mut Memory<'_>) -> Option<u64> {
        let frame = frame_pointer(registers);
        let before = stack.word(frame)?;
        let next = stack.word(frame.checked_add(8)?)?;
        self.area(next.checked_sub(1)?)?;
        *registers = self::registers(next, frame.checked_add(16)?, before, next);
        Some(next)
    }

    /// What an address is called that has no name.
    fn place(&self, module: Option<usize>, address: u64, is_way_back: bool) -> Place {
        let mapped = module.map(|module| &self.mapped[module]);
        let text = match mapped {
            _ if is_way_back => "[signal]".to_owned(),
            Some(mapped) => format!("[{}+{:#x}]", mapped.name, mapped.own_address(address)),
            None => format!("[{address:#x}]"),
        };
        Place {
            text,
            whose: mapped.map_or(Whose::Unknown, |mapped| mapped.whose),
            is_name: false,
        }
    }

    /// Why a stack can't be followed out of a function of this file.
    fn lost(&self, module: Option<usize>, told: bool) -> String {
        match module.map(|module| &self.mapped[module].name) {
            Some(name) if told => format!("what called a function of {name} is no code"),
            Some(name) => format!("no unwind information in {name}"),
            None => "no unwind information in code of no file".to_owned(),
        }
    }

    fn is_way_back(&mut self, address: u64) -> bool {
        let memory = &self.memory;
        let is_it = || read(memory, address, SIGRETURN.len() as u64) == SIGRETURN;
        *self.ways_back.entry(address).or_insert_with(is_it)
    }

    /// A thread of the C library of GNU begins with `clone3` (`clone` has a name), which calls
    /// `start_thread`. Nothing else in that library does so: what it runs in a process of its
    /// own, for `posix_spawn`, is no thread.
    fn name_beginning(&self, walk: &mut Walk, modules: &[Option<usize>]) {
        let is_libc = |module: &Option<usize>| {
            module.is_some_and(|module| &*self.mapped[module].name == GNU_LIBC)
        };
        if let [.., second, first] = modules
            && is_libc(second)
            && is_libc(first)
            && let [.., second, first] = &mut *walk.places
        {
            second.text = "start_thread".to_owned();
            first.text = "clone3".to_owned();
        }
    }
}

/// What is mapped, as the kernel tells it.
fn maps(tid: u32) -> Option<String> {
    let maps = fs::read(format!("/proc/{tid}/maps")).ok()?;
    Some(String::from_utf8_lossy(&maps).into_owned())
}

/// Which code is mapped: memory for data comes and goes with each thread.
fn short(maps: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    for code in mappings(maps).filter(|mapping| mapping.executable) {
        (code.start, code.end, code.offset, code.file, code.path).hash(&mut hasher);
    }
    hasher.finish()
}

fn why_not(stack: &Memory<'_>) -> &'static str {
    if stack.is_full() {
        "it takes more than a megabyte"
    } else {
        "the memory of the stack can't be read"
    }
}
