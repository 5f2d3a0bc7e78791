//! From a plan to a change: stubs assembled and placed, bytes checked against the live ones.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::sync::LazyLock;

use insn::place::{Demand, island_bytes, patch_bytes};
use insn::plan::{Patch, hex};
use insn::{Address, Isa};
use program::layout::{Layout, Sizing};
use program::stub::{Action as Body, Environment, Routines, ShardBy, Stub, ThreadBy};
use symbols::elf::Image;
use target::area::Entry;
use target::engine::{Backing, Patched};

use super::modules::View;
use super::rows::Standing;
use super::types;

/// What is in the text at a place, and what it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installed {
    pub(super) patch: Patch,
    /// The bodies of each served address, in order.
    pub(super) bodies: Vec<(Address, Vec<Body>)>,
    pub(super) notify: bool,
    /// What was changed in the text: at the site, and its island.
    pub(super) entries: Vec<Entry>,
    pub(super) stub: Address,
    pub(super) stub_len: u64,
}

/// A patch still to be placed.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) patch: Patch,
    /// The addresses it was made for.
    pub(super) sites: Vec<Address>,
    pub(super) bodies: Vec<(Address, Vec<Body>)>,
    pub(super) notify: bool,
    pub(super) size: u32,
}

impl Draft {
    /// Whether this is what is installed already.
    pub(super) fn is(&self, installed: &Installed) -> bool {
        self.patch == installed.patch && self.bodies == installed.bodies && self.notify == installed.notify
    }

    /// Whether its island was to lie in what one of `failed` was to displace.
    pub(super) fn lacks_room(&self, failed: &[&Patch]) -> bool {
        self.patch.island.as_ref().is_some_and(|island| failed.iter().any(|host| host.makes_room_for(island)))
    }

    /// Its stub, for an address.
    pub(super) fn assemble(
        &self,
        environment: &Environment,
        routines: &Routines,
        at: Address,
    ) -> Result<Stub, insn::plan::Reason> {
        let bodies = |address: Address| {
            let of = self.bodies.iter().find(|(site, _)| *site == address);
            of.map(|(_, bodies)| bodies.clone()).unwrap_or_default()
        };
        Stub::assemble(environment, routines, &self.patch, &bodies, at)
    }

    /// What the placement is asked for.
    pub(super) fn demand(&self) -> Demand<'_> {
        Demand { patch: &self.patch, size: self.size }
    }

    /// The changes of the text that lead to `stub`: at the site, and its island. `None` if it cannot be reached from here.
    pub(super) fn patched(&self, stub: Address, view: &View) -> Option<Vec<Patched>> {
        let (isa, patch) = (view.system.isa(), &self.patch);
        let patched = |start, original: &[u8], bytes, interior, tail| {
            let entry = Entry { start, original: original.to_vec(), patched: bytes, stub };
            let backing = Backing::at(&view.mappings, start)?;
            Some(Patched { entry, interior, tail, backing, notify: self.notify })
        };
        let bytes = patch_bytes(isa, patch, stub)?;
        let tail = patch.overwritten.len() - patch.written();
        let mut all = vec![patched(patch.start, &patch.overwritten, bytes, patch.interior(), tail)?];
        if let Some(island) = &patch.island {
            let bytes = island_bytes(isa, patch, stub)?;
            all.push(patched(island.at, &island.overwritten, bytes, Vec::new(), 0)?);
        }
        Some(all)
    }
}

/// Why the text at an address may not be patched, by what is mapped there.
pub(crate) fn unfit_mapping(view: &View, address: Address) -> Option<String> {
    let Some(mapping) = view.mapping(address) else { return Some("nothing is mapped there".to_owned()) };
    let name = mapping.path.as_deref().unwrap_or("anonymous memory");
    let why = if view.is_huge(mapping) {
        "is in huge pages (hugetlb), of which the program may have none left for a changed copy"
    } else if !mapping.executable {
        "is not executable"
    } else if mapping.shared {
        "is mapped shared: a patch would change the file for everybody"
    } else if mapping.writable {
        "is writable: the program may change its code at any time"
    } else if mapping.special().is_some() {
        "belongs to the kernel"
    } else if !mapping.is_file() {
        "is no file's: what stands there cannot be checked"
    } else {
        return None;
    };
    Some(format!("the mapping ({name}) {why}"))
}

/// Where the live bytes of a patch differ from what the file (and our own patches) say: why it must not be touched.
pub(crate) fn differs(
    view: &View,
    patch: &Patch,
    installed: &BTreeMap<Address, Installed>,
) -> Option<String> {
    let end = patch.resume().max(patch.end());
    let len = usize::try_from(end - patch.start).unwrap_or(0);
    let mut expected = patch.overwritten.clone();
    expected.truncate(len);
    for insn in &patch.displaced {
        let offset = usize::try_from(insn.address - patch.start).unwrap_or(0);
        expected.resize(expected.len().max(offset), 0);
        let tail = (expected.len() - offset).min(insn.bytes.len());
        expected.extend(insn.bytes.get(tail..).unwrap_or_default());
    }
    let island = patch.island.iter().map(|island| (island.at, island.overwritten.clone()));
    [(patch.start, expected)]
        .into_iter()
        .chain(island)
        .find_map(|(at, expected)| differ(view, at, &expected, installed))
}

/// The same of the bytes at an address.
fn differ(
    view: &View,
    at: Address,
    expected: &[u8],
    installed: &BTreeMap<Address, Installed>,
) -> Option<String> {
    /// How far a patch's bytes lie from its start, and an island from its site.
    const NEAR: u64 = 160;
    let mut live = vec![0; expected.len()];
    if !view.read(at, &mut live) {
        return Some(format!("{at}: the memory cannot be read"));
    }
    let near = Address(at.0.saturating_sub(NEAR))..at + NEAR;
    for ours in installed.range(near).flat_map(|(_, installed)| &installed.entries) {
        for (index, (byte, original)) in ours.patched.iter().zip(&ours.original).enumerate() {
            let offset = (ours.start + index as u64).0.checked_sub(at.0);
            let slot = offset.and_then(|offset| live.get_mut(usize::try_from(offset).ok()?));
            slot.filter(|live| **live == *byte).into_iter().for_each(|live| *live = *original);
        }
    }
    (live != expected).then(|| {
        format!(
            "{at}: live bytes differ from the file: {} instead of {} (another tracer, or the program patched itself)",
            hex(&live),
            hex(expected)
        )
    })
}

/// What a row's standing is called in results, and why.
pub(super) fn shown(standing: &Standing) -> (types::Mechanism, Option<String>) {
    match standing {
        Standing::Armed(mechanism, why) => (types::Mechanism::of(*mechanism), why.clone()),
        Standing::Refused(reason) => (types::Mechanism::Refused, Some(reason.clone())),
        Standing::Waiting(reason) => (types::Mechanism::Waiting, Some(reason.clone())),
        Standing::Mapped => (types::Mechanism::Waiting, None),
    }
}

/// How big the shared state is to be.
pub(super) fn sizing(rows: usize, action: types::Action) -> Sizing {
    let cpus = std::thread::available_parallelism().map_or(1, |count| count.get());
    let cpus = u32::try_from(cpus.next_power_of_two()).unwrap_or(1);
    let probes = u32::try_from((2 * rows).next_power_of_two()).unwrap_or(u32::MAX).max(1024);
    let traces = action == types::Action::Trace;
    Sizing {
        probes,
        shards: (2 * cpus).clamp(2, 64),
        threads: 4096,
        rings: if traces { cpus.clamp(1, 32) } else { 0 },
        records: if traces { 1 << 15 } else { 0 },
    }
}

/// How stubs find shard and slot in this kind of program, and what of its stack they leave alone.
pub(super) fn environment(
    isa: Isa,
    layout: Layout,
    state: Address,
    executable: Option<&Image<'_>>,
) -> Environment {
    /// Go's code keeps no more there (it saves the frame pointer before it calls `duffcopy`), and has the smallest stacks: a
    /// chain of functions that do not look whether there is room may come within a few bytes of another one's.
    const GO: u8 = 16;
    let flags = cpu_flags();
    let is_static_go = executable.is_some_and(Image::is_static_go);
    let shard_by = match (is_static_go, flags.contains("rdpid")) {
        (false, _) => ShardBy::ThreadPointer,
        (true, true) => ShardBy::Cpu,
        (true, false) => ShardBy::Shared,
    };
    let thread_by = match isa {
        Isa::X86_64 if is_static_go => ThreadBy::Base,
        _ => ThreadBy::ThreadPointer,
    };
    // AMD's name for it (arch/x86/include/asm/cpufeatures.h, `3DNOWPREFETCH`).
    let prefetchw = flags.contains("3dnowprefetch");
    let of_abi = u8::try_from(isa.abi().red_zone).unwrap_or(u8::MAX);
    let red_zone = if executable.is_some_and(Image::is_pure_go) { of_abi.min(GO) } else { of_abi };
    Environment { isa, layout, state, shard_by, thread_by, red_zone, prefetchw }
}

/// The features of the CPU, as the kernel names them. They are read once: the file has a paragraph for each CPU, and every
/// program that is followed asks.
pub(super) fn cpu_flags() -> &'static HashSet<String> {
    static FLAGS: LazyLock<HashSet<String>> = LazyLock::new(|| {
        let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        text.lines()
            .find_map(|line| line.strip_prefix("flags")?.split_once(':'))
            .map(|(_, flags)| flags.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default()
    });
    &FLAGS
}
