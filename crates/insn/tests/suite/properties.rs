//! What holds for any bytes.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, FlowControl};
use insn::code::{Code, Outline};
use insn::place::{Demand, Room, patch_bytes};
use insn::plan::{Mechanism, Plan};
use insn::relocate::{Destination, Moved, Thread, branch_target, relocate};
use insn::set::Analysis;
use insn::survey::Tally;
use insn::{Address, Isa, disassemble, instruction_len};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::goldens::code_len;

const BASE: Address = Address(0x5555_5555_4000);

/// Bytes that decode more often than random ones: opcodes of common code between them.
fn code(len: usize) -> impl Strategy<Value = Vec<u8>> {
    let common = prop::sample::select(vec![
        0x55, 0x48, 0x89, 0xe5, 0x83, 0xec, 0xc3, 0xe8, 0xe9, 0xeb, 0x74, 0x75, 0xff, 0x25, 0xd0, 0xe0, 0x8b,
        0x05, 0x0f, 0x1f, 0x44, 0x00, 0x90, 0xcc, 0x66, 0xf3, 0x41, 0xe2, 0xe3, 0x31, 0xc0, 0x85, 0x5d, 0x8d,
        0x24, 0x04, 0xfa, 0x1e,
    ]);
    vec(prop_oneof![3 => common, 1 => any::<u8>()], 1..len)
}

/// The first instruction of `bytes` and its displaced form near by.
fn moved(bytes: &[u8], at: Address) -> Option<(Vec<u8>, Moved)> {
    let len = instruction_len(Isa::X86_64, BASE, bytes)?;
    let insn = bytes[..len].to_vec();
    let moved = relocate(Isa::X86_64, BASE, &insn, at).ok()?;
    Some((insn, moved))
}

/// The moved code up to its last control transfer or its end, as offsets and instructions.
fn instructions(moved: &Moved, at: Address) -> Vec<(u32, iced_x86::Instruction)> {
    let code = &moved.bytes[..code_len(Isa::X86_64, moved, at)];
    let mut decoder = Decoder::with_ip(64, code, at.0, DecoderOptions::NONE);
    let all = decoder.iter();
    all.map(|insn| (u32::try_from(insn.ip() - at.0).unwrap(), insn)).collect()
}

proptest! {
    #[test]
    fn a_length_does_not_depend_on_the_place(bytes in code(16), near in -0x3000_0000_i64..0x3000_0000) {
        let one = moved(&bytes, BASE.offset(0x1000));
        let other = moved(&bytes, BASE.offset(near));
        if let (Some((_, one)), Some((_, other))) = (one, other) {
            prop_assert_eq!(one.bytes.len(), other.bytes.len());
            prop_assert_eq!(one.points, other.points);
            prop_assert_eq!(one.exits, other.exits);
            prop_assert_eq!(one.falls_through, other.falls_through);
        }
    }

    #[test]
    fn every_way_out_is_an_unconditional_branch_and_every_instruction_has_its_state(bytes in code(16)) {
        let at = BASE.offset(0x1234_5000);
        let Some((_, moved)) = moved(&bytes, at) else { return Ok(()) };
        let exits: HashMap<u32, &Destination> = moved.exits.iter().map(|exit| (exit.offset, &exit.to)).collect();
        let inside = at.0..=at.0 + moved.bytes.len() as u64;
        for (offset, insn) in instructions(&moved, at) {
            prop_assert!(!insn.is_invalid());
            prop_assert!(moved.points.iter().any(|point| point.offset == offset), "no state at +{offset}");
            let leaves = match insn.flow_control() {
                FlowControl::Next | FlowControl::Exception | FlowControl::Interrupt => false,
                FlowControl::Call => { prop_assert_eq!(insn.code(), iced_x86::Code::Syscall); false }
                FlowControl::ConditionalBranch => {
                    prop_assert!(inside.contains(&insn.near_branch_target()));
                    false
                }
                FlowControl::UnconditionalBranch => !insn.is_jmp_short(),
                _ => true,
            };
            prop_assert_eq!(leaves, exits.contains_key(&offset));
            if let Some(Destination::Fixed(to)) = exits.get(&offset) {
                prop_assert_eq!(insn.near_branch_target(), to.0);
            }
        }
    }

    /// It is read with the program's alignment check, if that is on.
    #[test]
    fn return_addresses_are_aligned(bytes in code(16), near in 0_u64..64) {
        let at = BASE + near;
        let Some((insn, moved)) = moved(&bytes, at) else { return Ok(()) };
        let code = code_len(Isa::X86_64, &moved, at);
        if code < moved.bytes.len() {
            let literal = (code..code + 8).find(|offset| (at + *offset as u64).0.is_multiple_of(8)).unwrap();
            let next = BASE + insn.len() as u64;
            prop_assert_eq!(&moved.bytes[literal..literal + 8], &next.0.to_le_bytes()[..]);
            let push = &instructions(&moved, at)[0].1;
            prop_assert_eq!(push.ip_rel_memory_address(), at.0 + literal as u64);
        }
    }

    #[test]
    fn operands_keep_their_addresses(bytes in code(16)) {
        let at = BASE.offset(-0x2345_6000);
        let Some((insn, moved)) = moved(&bytes, at) else { return Ok(()) };
        let original = Decoder::with_ip(64, &insn, BASE.0, DecoderOptions::NONE).decode();
        if original.is_ip_rel_memory_operand() {
            let all = instructions(&moved, at);
            let address = all.last().map(|(_, copy)| copy.ip_rel_memory_address());
            prop_assert_eq!(address, Some(original.ip_rel_memory_address()));
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..40), at in any::<u64>(), to in any::<u64>()) {
        let (at, to) = (Address(at), Address(to));
        let shown: usize = disassemble(Isa::X86_64, at, &bytes).iter().map(|line| line.1.len()).sum();
        prop_assert_eq!(shown, bytes.len());
        for len in 0..bytes.len().min(16) {
            let _ = relocate(Isa::X86_64, at, &bytes[..len], to);
        }
        let thread = Thread { registers: &bytes, thread_pointer: Some(at) };
        for isa in [Isa::X86_64, Isa::I386] {
            let _ = branch_target(isa, at, &bytes, &thread, &mut |_, _| true);
        }
        let code = [Code { start: at, bytes: &bytes }];
        let outline = Outline { functions: vec![at..to, to..at], pointed_at: vec![to], ..Outline::default() };
        let analysis = Analysis::new(Isa::X86_64, &code, &outline, false, &mut |_| {});
        let sites: Vec<Address> = (0..bytes.len() as u64 + 2).map(|offset| at + offset).collect();
        let plan = analysis.plan(&sites, &HashMap::new(), &around());
        prop_assert!(plan.refused.len() <= sites.len());
    }
}

/// Free memory on both sides of the code, as around a library.
fn around() -> Vec<Range<Address>> {
    vec![BASE.offset(-0x4000_0000)..BASE.offset(-0x1_0000), BASE.offset(0x1_0000)..BASE.offset(0x7fff_0000)]
}

/// A plan for some code, with its sites.
fn planned(code: &[u8], functions: &[(u16, u16)], sites: &[u16]) -> (Vec<Address>, Plan) {
    let len = code.len() as u64;
    let place = |offset: u16| BASE + u64::from(offset) % len;
    let outline = Outline {
        functions: functions
            .iter()
            .map(|(start, len)| place(*start)..place(*start) + u64::from(*len % 64))
            .collect(),
        ..Outline::default()
    };
    let stretch = [Code { start: BASE, bytes: code }];
    let analysis = Analysis::new(Isa::X86_64, &stretch, &outline, false, &mut |_| {});
    let sites: Vec<Address> = sites.iter().map(|site| place(*site)).collect();
    let plan = analysis.plan(&sites, &HashMap::new(), &around());
    let mut reversed = sites.clone();
    reversed.reverse();
    assert_eq!(plan, analysis.plan(&reversed, &HashMap::new(), &around()), "the order of sites matters");
    (sites, plan)
}

/// A function as compilers make them: short instructions, longer ones, branches within, calls, an end.
fn function() -> impl Strategy<Value = Vec<u8>> {
    let one = prop_oneof![
        6 => prop::sample::select(vec![
            &[0x55][..], &[0xf8], &[0x31, 0xc0], &[0x48, 0x89, 0xe5], &[0x48, 0x83, 0xec, 0x10],
            &[0xb8, 1, 0, 0, 0], &[0x48, 0x81, 0xc4, 8, 1, 0, 0], &[0x48, 0x8d, 0x84, 0x24, 8, 1, 0, 0],
            &[0x5d, 0xc3], &[0xff, 0xd0], &[0xe8, 0, 1, 0, 0],
        ]).prop_map(<[u8]>::to_vec),
        1 => (-20_i8..20).prop_map(|to| vec![0x74, to.cast_unsigned()]),
    ];
    vec(one, 1..16).prop_map(|insns| [insns.concat(), vec![0xc3]].concat())
}

fn jumps(plan: &Plan) -> Vec<Address> {
    let jumps = plan.patches.iter().filter(|patch| patch.mechanism == Mechanism::Jump);
    jumps.flat_map(|patch| patch.sites()).collect()
}

/// The sites that jumps at the sites themselves serve: each at its own, unless one before covers it.
fn served_by_own_jumps(analysis: &Analysis<'_>, sites: &[Address], free: &[Range<Address>]) -> usize {
    let mut end = Address(0);
    let mut served = 0;
    for site in sites {
        let alone = analysis.plan(&[*site], &HashMap::new(), free);
        match alone.serving(*site) {
            _ if *site < end => served += 1,
            Some(patch) if patch.mechanism == Mechanism::Jump && patch.start == *site => {
                (served, end) = (served + 1, patch.end());
            }
            _ => {}
        }
    }
    served
}

proptest! {
    #[test]
    fn no_choice_of_jumps_is_regretted(code in function(), sites in vec(any::<u16>(), 1..20)) {
        let stretch = [Code { start: BASE, bytes: &code }];
        let whole = Outline { functions: vec![BASE..BASE + code.len() as u64], ..Outline::default() };
        let analysis = Analysis::new(Isa::X86_64, &stretch, &whole, false, &mut |_| {});
        let offset = |site: &u16| u64::from(*site) % code.len() as u64;
        let mut sites: Vec<Address> = sites.iter().map(|site| BASE + offset(site)).collect();
        sites.sort_unstable();
        sites.dedup();
        // No pun leads into this window of the stubs.
        let window = [BASE.offset(0x6000_0000)..BASE.offset(0x6200_0000)];
        let plan = |sites: &[Address]| analysis.plan(sites, &HashMap::new(), &window);
        sites.retain(|site| plan(&[*site]).refused.is_empty() && plan(&[*site]).moved.is_empty());
        let together = jumps(&plan(&sites)).len();
        prop_assert!(together >= served_by_own_jumps(&analysis, &sites, &window), "earlier starts have cost jumps");
        // No site loses the jump that it has alone. (With instructions above eight bytes the jumps of three or more
        // might have to become one that is too long; then as many as possible are served.)
        let alone = sites.iter().filter(|site| !jumps(&plan(&[**site])).is_empty()).count();
        prop_assert_eq!(together, alone);
        // Puns may take a jump's place, but only where that leaves fewer sites without either.
        let punned = analysis.plan(&sites, &HashMap::new(), &around());
        let traps = punned.patches.iter().filter(|patch| patch.mechanism == Mechanism::Trap);
        prop_assert!(traps.flat_map(|patch| patch.sites()).count() + alone <= sites.len());
    }

    /// The survey's rules are the plan's.
    #[test]
    fn a_survey_is_the_sum_of_plans_for_one_site(
        functions in vec((function(), 0..3_usize), 1..4),
        rest in vec(prop::sample::select(vec![0x06, 0x55, 0x58, 0x90, 0xcc, 0xc3]), 1..40),
    ) {
        let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
        for (function, padding) in functions.iter().chain([&(rest, 0)]) {
            let start = BASE + bytes.len() as u64;
            bytes.extend(function);
            ranges.push(start..BASE + bytes.len() as u64);
            bytes.extend(std::iter::repeat_n(0xcc, *padding));
        }
        let stretch = [Code { start: BASE, bytes: &bytes }];
        let outline = Outline { functions: ranges.clone(), ..Outline::default() };
        let analysis = Analysis::new(Isa::X86_64, &stretch, &outline, false, &mut |_| {});
        let survey = analysis.survey(&around());
        let mut sum = Tally::default();
        let mut has_left = false;
        for Range { start, end } in ranges {
            let mut at = start;
            while at < end {
                let offset = usize::try_from(at - BASE).unwrap();
                let last = usize::try_from(end - BASE).unwrap();
                let Some(len) = instruction_len(Isa::X86_64, at, &bytes[offset..last]) else {
                    if at == start {
                        break;
                    }
                    at += 1;
                    continue;
                };
                // Padding behind what never goes on is not looked at.
                let one = &bytes[offset..offset + len];
                let is_padding = matches!(disassemble(Isa::X86_64, at, one)[0].2.split([' ', 'w']).next(), Some("nop" | "int3"));
                let insn = Decoder::with_ip(64, one, at.0, DecoderOptions::NONE).decode();
                has_left = has_left && at != start && is_padding
                    || matches!(insn.flow_control(), FlowControl::Return | FlowControl::UnconditionalBranch | FlowControl::IndirectBranch | FlowControl::Exception);
                if has_left && is_padding {
                    at += len as u64;
                    continue;
                }
                let plan = analysis.plan(&[at], &HashMap::new(), &around());
                let served = plan.moved.first().map_or(at, |(_, served)| *served);
                match plan.serving(served) {
                    Some(patch) if patch.mechanism == Mechanism::Jump => {
                        sum.jump += 1;
                        sum.earlier += u64::from(patch.start < served);
                    }
                    Some(patch) if patch.mechanism == Mechanism::Pun => sum.pun += 1,
                    Some(_) => sum.trap += 1,
                    None => sum.refused += 1,
                }
                at += len as u64;
            }
        }
        prop_assert_eq!(survey.all, sum);
        prop_assert_eq!(survey.no_jump.values().sum::<u64>(), sum.trap);
        prop_assert_eq!(survey.refused.values().sum::<u64>(), sum.refused);
        // Where there is no room for a stub there is no probe.
        let nowhere = analysis.survey(&[]);
        prop_assert_eq!((nowhere.all.refused, nowhere.all.total()), (sum.total(), sum.total()));
    }

    #[test]
    fn plans_hold_their_invariants(
        code in code(400),
        functions in vec(any::<(u16, u16)>(), 0..6),
        sites in vec(any::<u16>(), 0..60),
    ) {
        let (sites, plan) = planned(&code, &functions, &sites);
        for pair in plan.patches.windows(2) {
            prop_assert!(pair[0].end() <= pair[1].start);
        }
        let moved: HashMap<Address, Address> = plan.moved.iter().copied().collect();
        let served: Vec<Address> = plan.patches.iter().flat_map(|patch| patch.sites()).collect();
        let refused: HashSet<Address> = plan.refused.iter().map(|refusal| refusal.address).collect();
        for site in sites {
            let at = moved.get(&site).unwrap_or(&site);
            let times = served.iter().filter(|served| *served == at).count();
            prop_assert_eq!(times, usize::from(!refused.contains(&site)), "{}", site);
        }
        for patch in &plan.patches {
            let start = usize::try_from(patch.start - BASE).unwrap();
            prop_assert_eq!(&patch.overwritten[..], &code[start..start + patch.overwritten.len()]);
            let mut next = patch.start;
            for insn in &patch.displaced {
                prop_assert_eq!(insn.address, next);
                prop_assert!(insn.address < patch.start + patch.overwritten.len() as u64);
                prop_assert!(relocate(Isa::X86_64, insn.address, &insn.bytes, insn.address).is_ok());
                next += insn.bytes.len() as u64;
            }
        }
    }

    /// Batch after batch into few mappings: nothing overlaps, nothing lies outside, and no more are made.
    #[test]
    fn batches_share_few_mappings(
        code in code(2000),
        functions in vec(any::<(u16, u16)>(), 0..40),
        sites in vec(any::<u16>(), 1..200),
        sizes in vec(1_u32..5000, 1..6),
        mappings in 0_usize..12,
    ) {
        let mut room = Room { free: around(), areas: Vec::new(), mappings };
        let mut taken: Vec<Range<Address>> = Vec::new();
        let (_, plan) = planned(&code, &functions, &sites);
        for (part, size) in plan.patches.chunks(sites.len() / sizes.len() + 1).zip(&sizes) {
            let demands: Vec<Demand<'_>> = part.iter().map(|patch| Demand { patch, size: *size }).collect();
            for (demand, place) in demands.iter().zip(room.place(Isa::X86_64, &demands)) {
                let Ok(at) = place else { continue };
                prop_assert!(patch_bytes(Isa::X86_64, demand.patch, at).is_some());
                taken.push(at..at + u64::from(*size));
            }
        }
        taken.sort_by_key(|range| range.start);
        prop_assert!(taken.windows(2).all(|pair| pair[0].end <= pair[1].start));
        let holds = |range: &Range<Address>| room.areas.iter().any(|area| {
            area.start <= range.start && range.end <= area.start + area.len
        });
        prop_assert!(taken.iter().all(holds));
        prop_assert_eq!(room.areas.len() + room.mappings, mappings);
        let mut areas: Vec<_> = room.areas.iter().map(|area| area.start..area.start + area.len).collect();
        areas.sort_by_key(|area| area.start);
        prop_assert!(areas.windows(2).all(|pair| pair[0].end <= pair[1].start));
    }

    #[test]
    fn every_placed_jump_traps_at_its_boundaries(
        code in code(2000),
        functions in vec(any::<(u16, u16)>(), 0..40),
        sites in vec(any::<u16>(), 0..200),
        size in 1_u32..300,
    ) {
        let (_, plan) = planned(&code, &functions, &sites);
        let demands: Vec<Demand<'_>> = plan.patches.iter().map(|patch| Demand { patch, size }).collect();
        let mut room = Room { free: around(), areas: Vec::new(), mappings: usize::MAX };
        let places = room.place(Isa::X86_64, &demands);
        prop_assert_eq!(places.len(), demands.len());
        let mut ranges = Vec::new();
        for (demand, place) in demands.iter().zip(places) {
            let Ok(at) = place else { continue };
            prop_assert!(patch_bytes(Isa::X86_64, demand.patch, at).is_some());
            for insn in &demand.patch.displaced {
                prop_assert!(relocate(Isa::X86_64, insn.address, &insn.bytes, at).is_ok());
            }
            ranges.push(at..at + u64::from(size));
        }
        ranges.sort_by_key(|range| range.start);
        prop_assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
        let traps = plan.patches.iter().filter(|patch| patch.mechanism == Mechanism::Trap).count();
        prop_assert!(ranges.len() >= traps.min(1), "a trap's stub fits anywhere");
    }
}
