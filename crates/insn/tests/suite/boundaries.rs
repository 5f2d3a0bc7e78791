//! Whoever arrives at an old boundary finds the old instruction, the way to its stub, or a trap; whatever is probed, and
//! whatever symbols say.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use insn::code::{Code, Outline};
use insn::place::{Demand, Room, island_bytes, patch_bytes};
use insn::plan::{Mechanism, Patch, Plan};
use insn::set::Analysis;
use insn::{Address, Isa, instruction_len};
use proptest::collection::vec;
use proptest::prelude::*;

/// So many bytes before a page: patches and islands do not lie across its start.
fn base(isa: Isa) -> Address {
    match isa {
        Isa::I386 => Address(0x5655_5f00),
        _ => Address(0x5555_5555_4f00),
    }
}

const COMMON: [&[u8]; 27] = [
    &[0x55],
    &[0xf8],
    &[0x31, 0xc0],
    &[0x89, 0xe5],
    &[0x83, 0xec, 0x10],
    &[0xb8, 1, 0, 0, 0],
    &[0x5d],
    &[0xc9],
    &[0xff, 0xd0],
    &[0xe8, 0, 1, 0, 0],
    &[0x85, 0xc0],
    &[0x0f, 0xb6, 0xc0],
    &[0x8b, 0x04, 0x24],
    &[0xc7, 0x04, 0x24, 1, 2, 3, 4],
    &[0x81, 0xc4, 8, 1, 0, 0],
    &[0x8d, 0x84, 0x24, 8, 1, 0, 0],
    &[0xf3, 0xa4],
    &[0x90],
    &[0x66, 0x90],
    &[0x0f, 0x1f, 0x40, 0],
    &[0x0f, 0x0b],
    &[0xc3],
    &[0xff, 0xe0],
    &[0xcc],
    &[0xc7, 0x84, 0x24, 8, 1, 0, 0, 1, 2, 3, 4],
    &[0xf0, 0x0f, 0xb1, 0x0b],
    &[0xcd, 0x80],
];

const LONG_MODE: [&[u8]; 8] = [
    &[0x48, 0x89, 0xe5],
    &[0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8],
    &[0x48, 0x8d, 0x05, 9, 0, 0, 0],
    &[0xf3, 0x0f, 0x1e, 0xfa],
    &[0x0f, 5],
    &[0x48, 0x8d, 0x3d, 0x20, 0, 0, 0],
    &[0xff, 0x15, 0, 2, 0, 0],
    &[0x41, 0xff, 0xd3],
];

fn instruction(isa: Isa) -> impl Strategy<Value = Vec<u8>> {
    let all = if isa == Isa::I386 { COMMON.to_vec() } else { [&COMMON[..], &LONG_MODE].concat() };
    prop_oneof![
        8 => prop::sample::select(all).prop_map(<[u8]>::to_vec),
        3 => (any::<i8>(), 0x70_u8..0x80).prop_map(|(to, op)| vec![op, (to / 2).cast_unsigned()]),
        1 => any::<i8>().prop_map(|to| vec![0xeb, (to / 2).cast_unsigned()]),
        1 => (-60_i32..60).prop_map(|to| [&[0x0f, 0x84][..], &to.to_le_bytes()].concat()),
        1 => any::<i8>().prop_map(|to| vec![0xe2, (to / 4).cast_unsigned()]),
    ]
}

/// Functions one behind the other, with padding between them.
#[derive(Clone, Debug)]
struct Module {
    isa: Isa,
    bytes: Vec<u8>,
    functions: Vec<Range<usize>>,
    /// A symbol without sense, over whatever is there.
    stray: Option<Range<usize>>,
}

const ENDS: [&[u8]; 6] = [&[0xc3], &[0xff, 0xe0], &[0x0f, 0x0b], &[0xe8, 0, 0, 0, 0], &[0xeb, 0xf0], &[]];

fn module(isa: Isa) -> impl Strategy<Value = Module> {
    let function = (vec(instruction(isa), 1..40), prop::sample::select(&ENDS[..]));
    let padding = (0..24_usize, prop::sample::select(vec![0x90_u8, 0xcc]));
    let stray = proptest::option::of((any::<usize>(), 1..60_usize));
    (vec((function, padding), 1..12), stray).prop_map(move |(all, stray)| {
        let mut module = Module { isa, bytes: Vec::new(), functions: Vec::new(), stray: None };
        for ((body, end), (len, with)) in all {
            let start = module.bytes.len();
            module.bytes.extend(body.concat());
            module.bytes.extend(end);
            module.functions.push(start..module.bytes.len());
            module.bytes.extend(std::iter::repeat_n(with, len));
        }
        let all = module.bytes.len();
        module.stray = stray.map(|(at, len)| at % all..(at % all + len).min(all));
        module
    })
}

impl Module {
    fn at(&self, offset: usize) -> Address {
        base(self.isa) + offset as u64
    }

    fn offset(&self, at: Address) -> usize {
        usize::try_from(at - base(self.isa)).unwrap()
    }

    fn outline(&self) -> Outline<'static> {
        let all = self.functions.iter().chain(&self.stray);
        let mut functions: Vec<_> = all.map(|range| self.at(range.start)..self.at(range.end)).collect();
        functions.sort_by_key(|range| (range.start, range.end));
        Outline { functions, ..Outline::default() }
    }

    /// The instructions that the functions were made of.
    fn instructions(&self) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        for function in &self.functions {
            let mut at = function.start;
            while let Some(len) = instruction_len(self.isa, self.at(at), &self.bytes[at..function.end]) {
                found.push(at..at + len);
                at += len;
            }
        }
        found
    }

    fn is_old(&self, text: &[u8], range: &Range<usize>) -> bool {
        text[range.clone()] == self.bytes[range.clone()]
    }
}

/// Little and much room for stubs.
fn free(isa: Isa, is_wide: bool) -> Vec<Range<Address>> {
    let base = base(isa);
    match (isa, is_wide) {
        (Isa::I386, false) => vec![Address(0x2000_0000)..Address(0x2600_0000)],
        (Isa::I386, true) => {
            vec![Address(0x10000)..Address(0x5600_0000), Address(0x5700_0000)..Address(0xf700_0000)]
        }
        (_, false) => vec![base.offset(0x6000_0000)..base.offset(0x6200_0000)],
        (_, true) => vec![
            base.offset(-0x7fff_0000)..base.offset(-0x10_0000),
            base.offset(0x10_0000)..base.offset(0x7fff_0000),
        ],
    }
}

/// The text while the patches that have a place are in it.
struct Patched<'p> {
    text: Vec<u8>,
    patches: Vec<&'p Patch>,
}

impl<'p> Patched<'p> {
    /// Writes all of them, each byte once, and none of those that stay.
    fn new(module: &Module, plan: &'p Plan, free: &[Range<Address>]) -> Self {
        let mut room = Room { free: free.to_vec(), areas: Vec::new(), mappings: usize::MAX };
        let demands: Vec<Demand<'_>> = plan.patches.iter().map(|patch| Demand { patch, size: 64 }).collect();
        let mut places: HashMap<Address, Address> = HashMap::new();
        for (patch, place) in plan.patches.iter().zip(room.place(module.isa, &demands)) {
            places.extend(place.ok().map(|at| (patch.start, at)));
        }
        let mut patched = Self { text: module.bytes.clone(), patches: Vec::new() };
        let mut is_taken = vec![false; module.bytes.len()];
        let mut kept = Vec::new();
        for patch in &plan.patches {
            let Some(at) = places.get(&patch.start).copied() else { continue };
            // What has lost its host is planned anew.
            if plan.host_of(patch).is_some_and(|host| !places.contains_key(&host.start)) {
                continue;
            }
            let written = (patch.start, patch_bytes(module.isa, patch, at).unwrap(), patch.written());
            let island = patch.island.as_ref();
            let island = island.map(|island| (island.at, island_bytes(module.isa, patch, at).unwrap(), 5));
            for (start, bytes, count) in [written].into_iter().chain(island) {
                let start = module.offset(start);
                for (offset, byte) in bytes[..count].iter().enumerate() {
                    assert!(!is_taken[start + offset], "+{:#x} is changed twice: {plan:#?}", start + offset);
                    is_taken[start + offset] = true;
                    patched.text[start + offset] = *byte;
                }
                kept.extend((start + count..start + bytes.len()).zip(bytes[count..].iter().copied()));
            }
            patched.patches.push(patch);
        }
        for (offset, byte) in kept {
            assert!(!is_taken[offset], "+{offset:#x} was to stay: {plan:#?}");
            assert_eq!(byte, module.bytes[offset], "+{offset:#x} was to stay: {plan:#?}");
        }
        patched
    }

    /// Whether somebody at `range`, which was an instruction, is found, or nobody ever is there.
    fn finds(&self, module: &Module, range: &Range<usize>) -> bool {
        let at = module.at(range.start);
        let traps = || {
            let abi = module.isa.abi();
            let mut trapping = abi.trapping.iter().map(|trapping| trapping.opcode);
            trapping.any(|opcode| opcode == self.text[range.start])
        };
        let is_inside =
            |patch: &&Patch| patch.interior().iter().any(|offset| patch.start + u64::from(*offset) == at);
        module.is_old(&self.text, range)
            || module.bytes[range.start] == 0xcc
            || self.patches.iter().any(|patch| patch.start == at)
            || self.patches.iter().any(is_inside) && traps()
    }
}

fn check(module: &Module, picks: &[u16], traps: &[u16], is_wide: bool) {
    let instructions = module.instructions();
    if instructions.is_empty() {
        return;
    }
    let code = [Code { start: base(module.isa), bytes: &module.bytes }];
    let analysis = Analysis::new(module.isa, &code, &module.outline(), false, &mut |_| {});
    let site = |pick: &u16| module.at(instructions[usize::from(*pick) % instructions.len()].start);
    let sites: BTreeSet<Address> = picks.iter().map(site).collect();
    let force = traps.iter().map(site).map(|at| (at, Mechanism::Trap)).collect();
    let free = free(module.isa, is_wide);
    let plan = analysis.plan(&sites.iter().copied().collect::<Vec<_>>(), &force, &free);
    let patched = Patched::new(module, &plan, &free);
    for range in &instructions {
        assert!(patched.finds(module, range), "+{:#x} is lost: {plan:#?} {module:02x?}", range.start);
    }
    for site in &sites {
        let at = plan.moved.iter().find(|moved| moved.0 == *site).map_or(*site, |moved| moved.1);
        let served = plan.patches.iter().flat_map(Patch::sites).filter(|served| *served == at).count();
        let refused = plan.refused.iter().filter(|refusal| refusal.address == *site).count();
        // What is refused for its own sake may serve the landing pad before it, which is known to be reached.
        assert!(served <= 1 && refused <= 1 && served + refused > 0, "{site}: {plan:#?} {module:02x?}");
    }
}

fn sites() -> impl Strategy<Value = (Vec<u16>, Vec<u16>, bool)> {
    (vec(any::<u16>(), 1..40), vec(any::<u16>(), 0..3), any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 3000, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn nobody_is_lost_at_an_old_boundary(module in module(Isa::X86_64), sites in sites()) {
        check(&module, &sites.0, &sites.1, sites.2);
    }

    #[test]
    fn nor_is_anybody_in_a_32_bit_process(module in module(Isa::I386), sites in sites()) {
        check(&module, &sites.0, &sites.1, sites.2);
    }
}
