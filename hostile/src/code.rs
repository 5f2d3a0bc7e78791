//! Bytes taken for code.

use std::collections::HashMap;
use std::ops::Range;

use insn::code::{Code, Outline};
use insn::plan::{Mechanism, Patch};
use insn::relocate::{Point, Thread, branch_target, relocate};
use insn::set::Analysis;
use insn::{Address, Isa, disassemble, instruction_len};

use crate::Numbers;

/// More of it takes longer and shows nothing new.
const LONGEST: usize = 4096;

/// Planning, in both modes: a module whose functions, targets, data and refused ranges are what the bytes say, each instruction a site.
pub fn analysis(bytes: &[u8]) {
    [Isa::X86_64, Isa::I386].into_iter().for_each(|isa| analysis_of(isa, bytes));
}

fn analysis_of(isa: Isa, bytes: &[u8]) {
    let mut numbers = Numbers(bytes);
    let flags = numbers.byte();
    let start = match flags & 3 {
        0 => Address(0x40_1000),
        1 => Address(0x5555_5555_4000),
        2 => Address(u64::MAX - 100),
        _ => Address(numbers.word()),
    };
    let mut range = || {
        let from = start.offset(i64::from(numbers.byte()) - 16);
        from..from.offset(i64::from(numbers.byte().cast_signed()))
    };
    let functions = (0..flags >> 5).map(|_| range()).collect();
    let refused = (0..(flags >> 3 & 1)).map(|_| range()).collect();
    let pointed_at: Vec<Address> = (0..(flags >> 3 & 3)).map(|_| range().start).collect();
    let text = numbers.rest();
    let text = text.get(..LONGEST).unwrap_or(text);
    let outline = Outline {
        functions,
        may_point_at: pointed_at.iter().map(|at| at.offset(1)).collect(),
        pointed_at,
        data: vec![Code { start: start + 64, bytes: text }],
        refused,
        got: Some(start),
    };
    let code = [Code { start, bytes: text }];
    let analysis = Analysis::new(isa, &code, &outline, flags & 4 != 0, &mut |_| {});
    let sites: Vec<Address> = (0..text.len().min(256) as u64 + 2).map(|offset| start + offset).collect();
    let free = [Address(0x1000)..Address(0x7fff_ffff_f000)];
    for force in [HashMap::new(), sites.iter().step_by(3).map(|site| (*site, Mechanism::Trap)).collect()] {
        let plan = analysis.plan(&sites, &force, &free);
        let islands = || plan.patches.iter().filter_map(|patch| patch.island.as_ref());
        let mut changed: Vec<Range<Address>> = islands().map(|island| island.at..island.end()).collect();
        for pair in plan.patches.windows(2) {
            assert!(pair[0].end() <= pair[1].start, "patches overlap: {pair:?}");
        }
        changed.extend(
            plan.patches.iter().map(|patch| patch.start..patch.start + patch.overwritten.len() as u64),
        );
        changed.sort_by_key(|range| range.start);
        assert!(
            changed.windows(2).all(|pair| pair[0].end <= pair[1].start),
            "an island overlaps: {changed:?}"
        );
        for island in islands() {
            let is_apart = |patch: &Patch| patch.end() <= island.at || island.end() <= patch.start;
            let has_room = |patch: &Patch| {
                let last = patch.displaced.last().map_or(patch.start, |last| last.address);
                patch.makes_room_for(island) && last < island.at && island.end() <= patch.resume()
            };
            let fits = plan.patches.iter().all(|patch| is_apart(patch) || has_room(patch));
            assert!(fits, "a patch covers the island at {}", island.at);
        }
        for refusal in &plan.refused {
            assert!(!refusal.to_string().is_empty() && !refusal.reason.kind().is_empty());
        }
    }
    drop(analysis.survey(&free));
}

/// One instruction after the other, in both modes, displaced to where the bytes say.
pub fn relocation(bytes: &[u8]) {
    [Isa::X86_64, Isa::I386].into_iter().for_each(|isa| relocation_of(isa, bytes));
}

fn relocation_of(isa: Isa, bytes: &[u8]) {
    let mut numbers = Numbers(bytes);
    let distance = numbers.word().cast_signed() >> (numbers.byte() & 63);
    let text = numbers.rest();
    let text = text.get(..LONGEST).unwrap_or(text);
    let start = if isa == Isa::I386 { Address(0x5655_5000) } else { Address(0x5555_5555_4000) };
    let shown: usize = disassemble(isa, start, text).iter().map(|line| line.1.len()).sum();
    assert_eq!(shown, text.len());
    for offset in 0..text.len().min(256) {
        let (at, rest) = (start + offset as u64, &text[offset..]);
        let _ = branch_target(
            isa,
            at,
            rest,
            &Thread { registers: text, thread_pointer: Some(at) },
            &mut |_, _| true,
        );
        let Some(len) = instruction_len(isa, at, rest) else { continue };
        let to = at.offset(distance);
        let Ok(moved) = relocate(isa, at, &rest[..len], to) else { continue };
        let end = u32::try_from(moved.bytes.len()).expect("a form is short");
        // Only behind a system call that nothing follows is a place that is no instruction's.
        let is_end = |point: &Point| point.offset == end && point.behind_syscall && moved.falls_through;
        assert!(moved.points.iter().all(|point| point.offset < end || is_end(point)));
        for exit in &moved.exits {
            let branch = &moved.bytes[exit.offset as usize..];
            assert!(instruction_len(isa, to + u64::from(exit.offset), branch).is_some());
        }
    }
}

/// What [`analysis`] and [`relocation`] begin with: a head of numbers, then a function.
pub(crate) fn functions() -> Vec<Vec<u8>> {
    let text = [
        &[0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x10][..],
        &[0x48, 0x8b, 0x05, 0x10, 0, 0, 0, 0xe8, 0, 1, 0, 0, 0x74, 0x05, 0xff, 0x15, 8, 0, 0, 0],
        &[0x0f, 0x05, 0xe2, 0xf0, 0xc4, 0xe2, 0x79, 0x18, 0x05, 4, 0, 0, 0, 0xff, 0x64, 0x24, 8],
        &[0x67, 0xe3, 2, 0x62, 0xf1, 0x7c, 0x48, 0x10, 0x05, 1, 0, 0, 0, 0xc9, 0xc3, 0xcc, 0x90],
    ]
    .concat();
    let heads: [&[u8]; 3] = [&[0x20, 16, 60], &[0x41, 16, 30, 46, 20], &[0x6c, 16, 66, 20, 4, 1, 1, 9, 9, 9]];
    heads.iter().map(|head| [head, &text[..]].concat()).collect()
}
