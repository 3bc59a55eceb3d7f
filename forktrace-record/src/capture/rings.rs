//! The rings of each CPU from the reader's side: one of stretches, in mapped memory, and the
//! kernel's ring buffer for all other records. `forktrace_common::event` says which is for what.

use std::{
    mem::offset_of,
    os::fd::{AsFd as _, BorrowedFd},
    sync::atomic::Ordering::{Acquire, Release},
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Map, MapData, RingBuf, of_maps::ArrayOfMaps},
};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_RINGBUF;
use forktrace_common::event::{CpuStats, PLACE_BYTES, Stretch};

use super::{cpus::Cpus, mapped, mapped::Mapped, take_map};

/// The rings of stretches of all CPUs together take no more than this by default, bytes.
const BUDGET: u32 = 32 << 20;

/// Where the programs find the ring buffers.
type Outer = ArrayOfMaps<MapData, RingBuf<MapData>>;

/// Sizes of each CPU's rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Of the ring of stretches, bytes; a power of two.
    pub(super) stretches: u32,
    /// Of the ring buffer, bytes; a power of two and a multiple of the page size.
    pub(super) others: u32,
}

impl Sizes {
    /// For so many CPUs; `wanted`: the size that the user wants, `stacks`: there are two
    /// records of stacks for each stretch.
    ///
    /// 4 MiB hold 65,536 stretches: 65 ms of the fastest ping-pong that a CPU can do. The
    /// kernel maps a ring buffer twice, so it counts twice in our memory.
    pub(super) fn new(wanted: Option<u32>, cpus: usize, stacks: bool) -> Self {
        let stretches = wanted.unwrap_or_else(|| {
            let share = BUDGET / cpus.max(1) as u32;
            // The power of two that is not above.
            let power = 1 << (31 - share.max(1).leading_zeros());
            power.clamp(256 << 10, 4 << 20)
        });
        // A page has up to 64 KiB.
        let others = match stretches {
            _ if stacks => stretches,
            ..=0x1_ffff => stretches,
            _ => stretches / 2,
        };
        Self { stretches, others }
    }

    /// Stretches that a ring of them holds.
    pub(super) fn slots(self) -> u32 {
        self.stretches / size_of::<Stretch>() as u32
    }

    /// What they take of our address space, bytes.
    pub(super) fn mapped(self) -> u64 {
        u64::from(self.stretches) + 2 * u64::from(self.others)
    }
}

/// The rings of all CPUs.
pub(super) struct Rings {
    of_cpus: Vec<OfCpu>,
    stretches: Mapped<Stretch>,
    outer: Outer,
    sizes: Sizes,
}

/// The rings of one.
struct OfCpu {
    cpu: u16,
    /// So many stretches were read.
    read: u64,
    /// `None`: it is no CPU that is there, its number is between two that are.
    others: Option<RingBuf<MapData>>,
}

impl Rings {
    pub(super) fn new(ebpf: &mut Ebpf, cpus: &Cpus, sizes: Sizes) -> Result<Self> {
        let mut outer = Outer::try_from(take_map(ebpf, "RINGS")?)?;
        let slots = cpus.numbers() * sizes.slots();
        let stretches = mapped(ebpf, "STRETCHES", slots)?;
        let of_cpu = |cpu| {
            let mut others = None;
            if cpus.present.contains(&cpu) {
                let bytes = sizes.others;
                let ring = new_ring(bytes);
                let ring = ring.with_context(|| format!("no ring of {bytes} bytes for CPU {cpu}"));
                let ring = ring?;
                outer.set(cpu, &ring, 0)?;
                others = Some(ring);
            }
            Ok(OfCpu {
                cpu: cpu as u16,
                read: 0,
                others,
            })
        };
        let of_cpus = (0..cpus.numbers()).map(of_cpu).collect::<Result<_>>()?;
        Ok(Self {
            of_cpus,
            stretches,
            outer,
            sizes,
        })
    }

    /// Size of each CPU's ring of stretches, bytes.
    pub(super) fn bytes(&self) -> u32 {
        self.sizes.stretches
    }

    /// The numbers of the CPUs that have rings.
    pub(super) fn cpus(&self) -> impl Iterator<Item = usize> {
        self.of_cpus.iter().map(|it| usize::from(it.cpu))
    }

    /// See [`super::Tracer::ring_fds`].
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let buffers = self.of_cpus.iter().filter_map(|it| it.others.as_ref());
        buffers.map(|ring| ring.as_fd())
    }

    /// See [`super::Tracer::drain`].
    pub(super) fn drain(
        &mut self,
        cpus: &Mapped<CpuStats>,
        mut sink: impl FnMut(u16, &[u8]),
    ) -> bool {
        let mut more = false;
        for of_cpu in &mut self.of_cpus {
            let mut from = Source {
                of_cpu,
                stretches: &self.stretches,
                slots: self.sizes.slots(),
                cpus,
            };
            more |= from.drain(self.sizes.others, &mut sink);
        }
        more
    }

    /// Waits until none of the programs that are detached runs any more.
    pub(super) fn wait_for_programs(&mut self) -> Result<()> {
        // An update of a map of maps returns when all programs that could see
        // the old map have ended (`maybe_wait_bpf_programs` in the kernel).
        let mut there = self.of_cpus.iter();
        let first = there.find_map(|it| Some((it.cpu, it.others.as_ref()?)));
        if let Some((cpu, ring)) = first {
            let set = self.outer.set(u32::from(cpu), ring, 0);
            set.context("the ring map can't be written")?;
        }
        Ok(())
    }
}

/// The rings of a CPU that is read.
struct Source<'a> {
    of_cpu: &'a mut OfCpu,
    stretches: &'a Mapped<Stretch>,
    slots: u32,
    cpus: &'a Mapped<CpuStats>,
}

impl Source<'_> {
    /// Hands out what was there at the start, in the order in which it came.
    fn drain(&mut self, others_bytes: u32, sink: &mut impl FnMut(u16, &[u8])) -> bool {
        // Before the ring buffer is read: what is in it then came after these, or is seen.
        let written = self.written();
        let first = self.of_cpu.read;
        let mut others = self.of_cpu.others.take();
        let (mut bytes, mut more) = (0, false);
        while let Some(placed) = others.as_mut().and_then(|ring| ring.next()) {
            if let Some((after, record)) = placed.split_first_chunk::<PLACE_BYTES>() {
                self.stretches(u64::from_ne_bytes(*after), sink);
                sink(self.of_cpu.cpu, record);
            }
            // With its header (kernel/bpf/ringbuf.c).
            bytes += 8 + placed.len().next_multiple_of(8);
            if bytes >= others_bytes as usize {
                more = true;
                break;
            }
        }
        self.of_cpu.others = others;
        if !more {
            self.stretches(written, sink);
        }
        more || self.of_cpu.read - first >= u64::from(self.slots)
    }

    /// Stretches that the CPU has written since the start.
    fn written(&self) -> u64 {
        let of_cpu = usize::from(self.of_cpu.cpu);
        let word = self.cpus.word(of_cpu, offset_of!(CpuStats, written));
        word.load(Acquire)
    }

    /// Hands out the stretches before this one, and gives their places back.
    fn stretches(&mut self, until: u64, sink: &mut impl FnMut(u16, &[u8])) {
        let cpu = self.of_cpu.cpu;
        if self.of_cpu.read >= until {
            return;
        }
        let until = until.min(self.written());
        let first = usize::from(cpu) * self.slots as usize;
        while self.of_cpu.read < until {
            let place = (self.of_cpu.read % u64::from(self.slots)) as usize;
            let stretch = self.stretches.load(first + place);
            sink(cpu, bytemuck::bytes_of(&stretch));
            self.of_cpu.read += 1;
        }
        let read = self.cpus.word(cpu.into(), offset_of!(CpuStats, read));
        read.store(self.of_cpu.read, Release);
    }
}

fn new_ring(bytes: u32) -> Result<RingBuf<MapData>> {
    let definition = aya_obj::Map::new_from_params(BPF_MAP_TYPE_RINGBUF as u32, 0, 0, bytes, 0);
    let map = MapData::create(definition, "forktrace_ring", None)?;
    Ok(RingBuf::try_from(Map::from_map_data(map)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_share_a_budget_and_are_powers_of_two() {
        for (cpus, bytes) in [
            (1, 4 << 20),
            (2, 4 << 20),
            (8, 4 << 20),
            (9, 2 << 20),
            (64, 512 << 10),
            (1024, 256 << 10),
        ] {
            let sizes = Sizes::new(None, cpus, false);
            assert_eq!(sizes.stretches, bytes, "{cpus} CPUs");
            assert_eq!(sizes.others, bytes / 2, "{cpus} CPUs");
            assert_eq!(Sizes::new(None, cpus, true).others, bytes, "{cpus} CPUs");
        }
        let least = Sizes::new(Some(4096), 2, false);
        assert_eq!((least.others, least.slots()), (4096, 64));
    }
}
