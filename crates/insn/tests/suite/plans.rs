//! Planning of sets of sites.
#![allow(clippy::single_range_in_vec_init, reason = "a module with one function is meant")]

use std::collections::HashMap;
use std::ops::Range;

use insn::code::{Code, Outline};
use insn::place::{island_bytes, patch_bytes};
use insn::plan::{Dead, Mechanism, Patch, Plan, Reason};
use insn::set::Analysis;
use insn::{Address, Isa};

const BASE: u64 = 0x40_0000;

fn at(offset: u64) -> Address {
    Address(BASE + offset)
}

fn range(offsets: Range<u64>) -> Range<Address> {
    at(offsets.start)..at(offsets.end)
}

fn outline(functions: &[Range<u64>]) -> Outline<'static> {
    Outline { functions: functions.iter().cloned().map(range).collect(), ..Outline::default() }
}

fn analyze<'a>(code: &'a [u8], outline: &Outline<'_>) -> Analysis<'a> {
    Analysis::new(Isa::X86_64, &[Code { start: at(0), bytes: code }], outline, false, &mut |_| {})
}

/// Free memory for every jump whose boundaries must trap, and for few puns.
fn window() -> [Range<Address>; 1] {
    [at(0x6000_0000)..at(0x6200_0000)]
}

fn plan(code: &[u8], outline: &Outline<'_>, sites: &[u64]) -> Plan {
    let sites: Vec<_> = sites.iter().map(|offset| at(*offset)).collect();
    analyze(code, outline).plan(&sites, &HashMap::new(), &window())
}

fn lens(patch: &Patch) -> Vec<usize> {
    patch.displaced.iter().map(|insn| insn.bytes.len()).collect()
}

/// push %rbp; mov %rsp,%rbp; sub $16,%rsp; leave; ret
const PROLOGUE: [u8; 10] = [0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x10, 0xc9, 0xc3];

/// What would lie behind the last byte there is has no address.
#[test]
fn nothing_is_looked_at_where_the_address_space_ends() {
    let code = [0x90, 0x48, 0xff, 0xc6, 0x89, 0xf8, 0x48, 0xff, 0xc6];
    let start = Address(u64::MAX - code.len() as u64);
    let outline = Outline { functions: vec![start..Address(u64::MAX)], ..Outline::default() };
    let sites: Vec<_> = (0..code.len() as u64).map(|offset| start + offset).collect();
    let analysis = Analysis::new(Isa::X86_64, &[Code { start, bytes: &code }], &outline, false, &mut |_| {});
    let plan = analysis.plan(&sites, &HashMap::new(), &window());
    assert_eq!((plan.patches.len(), plan.refused.len()), (0, sites.len()));
}

#[test]
fn a_jump_covers_whole_instructions() {
    let plan = plan(&PROLOGUE, &outline(&[0..10]), &[0]);
    let [patch] = &plan.patches[..] else { panic!("{plan:?}") };
    assert_eq!((patch.mechanism, patch.start), (Mechanism::Jump, at(0)));
    assert_eq!(lens(patch), [1, 3, 4]);
    assert_eq!(patch.overwritten, &PROLOGUE[..5]);
    assert_eq!(patch.interior(), [1, 4]);
    assert_eq!(patch.resume(), at(8));
    assert!(plan.refused.is_empty() && plan.rejected.is_empty());
}

#[test]
fn sites_in_one_span_share_its_patch() {
    let plan = plan(&PROLOGUE, &outline(&[0..10]), &[4, 0, 1, 0]);
    let [patch] = &plan.patches[..] else { panic!("{plan:?}") };
    assert_eq!(patch.sites().collect::<Vec<_>>(), [at(0), at(1), at(4)]);
}

/// The patch of the only site.
fn patch(code: &[u8], outline: &Outline<'_>, site: u64) -> Patch {
    let plan = plan(code, outline, &[site]);
    let [patch] = &plan.patches[..] else { panic!("{plan:?}") };
    assert_eq!(patch.sites().collect::<Vec<_>>(), [at(site)]);
    patch.clone()
}

#[test]
fn a_site_without_room_is_served_by_an_earlier_jump() {
    // The nearest start from which five bytes are covered.
    let leave = patch(&PROLOGUE, &outline(&[0..10]), 8);
    assert_eq!((leave.mechanism, leave.start, lens(&leave)), (Mechanism::Jump, at(4), vec![4, 1]));
    assert_eq!(leave.interior(), [4]);
    let ret = patch(&PROLOGUE, &outline(&[0..10]), 9);
    assert_eq!((ret.mechanism, ret.start, lens(&ret)), (Mechanism::Jump, at(4), vec![4, 1, 1]));
    // The boundary behind the jump traps as those in it do.
    assert_eq!((ret.overwritten.len(), ret.interior()), (6, vec![4, 5]));
}

#[test]
fn an_earlier_jump_overwrites_at_most_sixteen_bytes() {
    // lea 0x108(%rsp),%rax, as long as an instruction may be; ret.
    let code = |prefixes: usize| {
        let mut code = vec![0x66; prefixes];
        code.extend([0x48, 0x8d, 0x84, 0x24, 8, 1, 0, 0, 0xc3]);
        code
    };
    let longest = patch(&code(7), &outline(&[0..16]), 15);
    assert_eq!((longest.start, longest.overwritten.len(), longest.interior()), (at(0), 16, vec![15]));
    let mut longer = code(7);
    longer.insert(15, 0x90);
    assert_eq!(patch(&longer, &outline(&[0..17]), 16).mechanism, Mechanism::Trap);
}

#[test]
fn nobody_may_arrive_between_an_earlier_start_and_the_site() {
    // 0: add $24,%rsp; 4: pop %rbx; 5: ret; 6: jmp
    let code = |to: u8| [0x48, 0x83, 0xc4, 0x18, 0x5b, 0xc3, 0xeb, to.wrapping_sub(8)];
    let functions = outline(&[0..8]);
    assert_eq!(patch(&code(0), &functions, 5).start, at(0), "but at its start they may");
    for to in [4, 5] {
        let plan = plan(&code(to), &functions, &[5]);
        assert_eq!(plan.patches[0].mechanism, Mechanism::Trap, "{to}");
        assert_eq!(plan.rejected[0].1.reason, Reason::NotStraight { at: at(6) });
    }
    // 0: nop; 1: call 0; 6: nop; 7: ret
    let call = [0x90, 0xe8, 0xfa, 0xff, 0xff, 0xff, 0x90, 0xc3];
    assert_eq!(patch(&call, &functions, 7).mechanism, Mechanism::Trap);
}

#[test]
fn an_earlier_start_is_in_the_straight_run_of_the_same_known_function() {
    // jmp 0; nop; nop; ret: the nops are not behind the jump.
    let code = [0xe9, 0xfb, 0xff, 0xff, 0xff, 0x90, 0x90, 0xc3];
    assert_eq!(patch(&code, &outline(&[0..8]), 7).mechanism, Mechanism::Trap);
    // The run begins in another function, in none, and in one that does not decode.
    assert_eq!(patch(&PROLOGUE, &outline(&[0..9, 9..10]), 9).mechanism, Mechanism::Trap);
    assert_eq!(patch(&PROLOGUE, &outline(&[]), 9).mechanism, Mechanism::Trap);
    let mut bad = PROLOGUE.to_vec();
    bad.push(0x06);
    assert_eq!(patch(&bad, &outline(&[0..11]), 9).mechanism, Mechanism::Trap);
}

#[test]
fn no_jump_begins_at_a_landing_pad_before_its_site() {
    // endbr64; nop; ret
    let code = [0xf3, 0x0f, 0x1e, 0xfa, 0x90, 0xc3];
    assert_eq!(patch(&code, &outline(&[0..6]), 5).mechanism, Mechanism::Trap);
    // push %rax; endbr64; nop; ret: nor is there one inside.
    let code = [0x50, 0xf3, 0x0f, 0x1e, 0xfa, 0x90, 0xc3];
    assert_eq!(patch(&code, &outline(&[0..7]), 6).mechanism, Mechanism::Trap);
}

#[test]
fn sites_with_and_without_room_share_one_earlier_jump() {
    // An entry's own jump would cover the only start from which the others are served.
    for sites in [&[0, 8, 9][..], &[0, 9], &[8, 9]] {
        let plan = plan(&PROLOGUE, &outline(&[0..10]), sites);
        let [patch] = &plan.patches[..] else { panic!("{plan:?}") };
        assert_eq!((patch.mechanism, patch.sites().count()), (Mechanism::Jump, sites.len()));
        assert_eq!(patch.start, if sites[0] == 0 { at(0) } else { at(4) });
    }
}

#[test]
fn padding_behind_the_function_may_be_overwritten_but_not_the_next_function() {
    // ret; int3 x 7; ret
    let code = [0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xc3];
    let padded = plan(&code, &outline(&[0..1, 8..9]), &[0]);
    assert_eq!(padded.patches[0].mechanism, Mechanism::Jump);
    assert_eq!((padded.patches[0].overwritten.len(), padded.patches[0].displaced.len()), (5, 1));
    assert_eq!(padded.patches[0].interior(), []);
    assert_eq!(padded.patches[0].end(), at(5));
    let crowded = plan(&code, &outline(&[0..1, 4..9]), &[0]);
    assert_eq!(crowded.patches[0].mechanism, Mechanism::Trap);
}

#[test]
fn padding_within_a_function_is_displaced_with_what_is_before_it() {
    // 0: ret; 1: nop (of 4 bytes); 5: ret
    let code = [0xc3, 0x0f, 0x1f, 0x40, 0, 0xc3];
    let served = patch(&code, &outline(&[0..6]), 0);
    assert_eq!((served.mechanism, lens(&served), served.interior()), (Mechanism::Jump, vec![1, 4], vec![1]));
    // 0: ret; 1: nop; 2: xor %eax,%eax; 4: ret: code that somebody must reach.
    let code = [0xc3, 0x90, 0x31, 0xc0, 0xc3];
    assert_eq!(plan(&code, &outline(&[0..5]), &[0]).rejected[0].1.reason, Reason::NotStraight { at: at(2) });
    // Breakpoints cannot be displaced, and nobody goes on from there: they are overwritten like padding between functions.
    let code = [0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xc3];
    let served = patch(&code, &outline(&[0..6]), 0);
    assert_eq!((served.mechanism, lens(&served)), (Mechanism::Jump, vec![1]));
    let code = [0xc3, 0xcc, 0xcc, 0x90, 0x31, 0xc0, 0xc3];
    assert_eq!(plan(&code, &outline(&[0..7]), &[0]).rejected[0].1.reason, Reason::NotStraight { at: at(3) });
    // A target is one also in padding.
    let code = [0xc3, 0x90, 0x90, 0x90, 0x90, 0xeb, 0xfa];
    assert_eq!(
        plan(&code, &outline(&[0..7]), &[0]).rejected[0].1.reason,
        Reason::TargetInside { target: at(1) }
    );
}

/// Free memory above, as far as a jump reaches.
fn around() -> [Range<Address>; 1] {
    [at(0x10_0000)..at(0x7fff_0000)]
}

/// The mechanism, and the lengths of what is displaced, overwritten and written.
fn shape(patch: &Patch) -> (Mechanism, usize, usize, usize) {
    (patch.mechanism, patch.displaced.len(), patch.overwritten.len(), patch.written())
}

fn plan_around(code: &[u8], outline: &Outline<'_>, sites: &[u64]) -> Plan {
    let sites: Vec<_> = sites.iter().map(|offset| at(*offset)).collect();
    analyze(code, outline).plan(&sites, &HashMap::new(), &around())
}

#[test]
fn a_jump_may_end_in_what_is_reached() {
    // 0: inc %esi; 2: mov $0x55xx,%eax; 7: jmp 2: the head of a loop behind two bytes.
    let code = [0xff, 0xc6, 0xb8, 0x34, 0x12, 0, 0, 0xeb, 0xf9];
    let whole = outline(&[0..9]);
    let pun = plan_around(&code, &whole, &[0]);
    assert_eq!(shape(&pun.patches[0]), (Mechanism::Pun, 1, 5, 2));
    assert_eq!(pun.patches[0].interior(), Vec::<u8>::new());
    assert_eq!(pun.rejected[0].1.reason, Reason::TargetInside { target: at(2) });
    // What it ends in is a site as well: a breakpoint is left for the first.
    let both = plan_around(&code, &whole, &[0, 2]);
    let shapes: Vec<_> = both.patches.iter().map(shape).collect();
    assert_eq!(shapes, [(Mechanism::Trap, 1, 1, 1), (Mechanism::Jump, 1, 5, 5)]);
    // With no place where those bytes lead, prefixes make others count.
    let mut far = code;
    far[4] = 0x7f; // 0x7f1234b8, and with a prefix 0x7f1234: in the program's own reach
    far[5] = 0x30; // 0x307f1234 with a prefix
    let near = [at(0x3000_0000)..at(0x3100_0000)];
    let prefixed = analyze(&far, &whole).plan(&[at(0)], &HashMap::new(), &near);
    assert_eq!(shape(&prefixed.patches[0]), (Mechanism::Pun, 1, 6, 2));
    let nowhere = analyze(&far, &whole).plan(&[at(0)], &HashMap::new(), &[at(0x5000_0000)..at(0x5100_0000)]);
    assert_eq!(nowhere.patches[0].mechanism, Mechanism::Trap);
    let reasons: Vec<_> = nowhere.rejected.iter().map(|(_, rejected)| rejected.mechanism).collect();
    assert_eq!(reasons, [Mechanism::Jump, Mechanism::Pun]);
}

#[test]
fn a_pun_over_several_instructions_traps_at_their_boundaries() {
    // 0: cmc; 1: inc %esi; 3: push %rbp, to which 8: jmp 3 goes; 4: mov %rsp,%rbp; 7: ret.
    let code = [0xf5, 0xff, 0xc6, 0x55, 0x48, 0x89, 0xe5, 0xc3, 0xeb, 0xf9];
    let whole = outline(&[0..10]);
    let plan = plan_around(&code, &whole, &[0]);
    let patch = &plan.patches[0];
    assert_eq!((shape(patch), patch.interior()), ((Mechanism::Pun, 2, 5, 3), vec![1]));
    // Probed at its second instruction alone, it begins at the first.
    let plan = plan_around(&code, &whole, &[1]);
    assert_eq!((plan.patches[0].start, shape(&plan.patches[0]).2), (at(0), 5));
    // But not where somebody arrives at that.
    let reached = Outline { pointed_at: vec![at(1)], ..whole };
    let plan = plan_around(&code, &reached, &[1]);
    assert_eq!(plan.patches[0].start, at(1));
}

/// 0: inc %esi; 2: nop, where 4: jmp 2 goes; 6..: padding behind the end of the function; 22: another function.
fn with_padding() -> ([u8; 23], Outline<'static>) {
    let mut code = [0xcc; 23];
    code[..6].copy_from_slice(&[0xff, 0xc6, 0x90, 0x90, 0xeb, 0xfc]);
    code[22] = 0xc3;
    (code, outline(&[0..6, 22..23]))
}

#[test]
fn a_short_jump_leads_over_padding() {
    let (code, functions) = with_padding();
    let free = [at(0x1000_0000)..at(0x1100_0000)];
    let plan = analyze(&code, &functions).plan(&[at(0)], &HashMap::new(), &free);
    let patch = &plan.patches[0];
    assert_eq!(shape(patch), (Mechanism::Pun, 1, 2, 2));
    let island = patch.island.as_ref().unwrap();
    assert_eq!((island.at, island.overwritten.as_slice()), (at(6), &[0xcc; 5][..]));
    assert_eq!(patch_bytes(Isa::X86_64, patch, at(0x1080_0000)).unwrap(), [0xeb, 4]);
    let bytes = island_bytes(Isa::X86_64, patch, at(0x1080_0000)).unwrap();
    assert_eq!(bytes, [0xe9, 0xf5, 0xff, 0x7f, 0x10]);
    // Somebody arrives there, what is before goes on into it, or a jump covers it.
    let into = Outline { pointed_at: vec![at(8)], ..functions.clone() };
    let elsewhere = analyze(&code, &into).plan(&[at(0)], &HashMap::new(), &free);
    assert_eq!(elsewhere.patches[0].mechanism, Mechanism::Trap);
    let mut open = code;
    open[4..6].copy_from_slice(&[0x74, 0xfc]); // je 2
    let open = analyze(&open, &functions).plan(&[at(0)], &HashMap::new(), &free);
    assert_eq!(open.patches[0].mechanism, Mechanism::Trap);
    let both = analyze(&code, &functions).plan(
        &[at(0), at(4)],
        &HashMap::new(),
        &[at(0x6000_0000)..at(0x6200_0000)],
    );
    assert_eq!((both.patches[1].mechanism, both.patches[1].overwritten.len()), (Mechanism::Jump, 5));
    assert_eq!(both.patches[0].island.as_ref().map(|island| island.at), Some(at(9)));
}

/// 0: xor %eax,%eax; 2: dec %rcx; 5: jne 2; 7: mov %rbx,%rdi; 10: lea 16(%rip),%rdx; 17: ret. The first is too short for a
/// jump, no pun of it leads to free memory, and there is no padding.
const CROWDED: [u8; 18] =
    [0x31, 0xc0, 0x48, 0xff, 0xc9, 0x75, 0xfb, 0x48, 0x89, 0xdf, 0x48, 0x8d, 0x15, 0x10, 0, 0, 0, 0xc3];

#[test]
fn a_neighbour_is_evicted_for_an_island() {
    let plan = plan(&CROWDED, &outline(&[0..18]), &[0]);
    let [short, evicted] = &plan.patches[..] else { panic!("{plan:?}") };
    assert_eq!((short.start, shape(short)), (at(0), (Mechanism::Pun, 1, 2, 2)));
    let island = short.island.as_ref().unwrap();
    assert_eq!((island.at, island.overwritten.as_slice()), (at(11), &CROWDED[11..16]));
    assert_eq!(patch_bytes(Isa::X86_64, short, at(0x6000_0000)).unwrap(), [0xeb, 9]);
    assert_eq!((evicted.start, shape(evicted)), (at(2), (Mechanism::Jump, 4, 9, 9)));
    assert_eq!((lens(evicted), evicted.interior()), (vec![3, 2, 3, 7], vec![3, 5, 8]));
    assert_eq!(evicted.sites().count(), 0);
    assert!(evicted.makes_room_for(island) && !short.makes_room_for(island));
    // Up to the island every byte is the jump or traps, and the island's are its own.
    let bytes = patch_bytes(Isa::X86_64, evicted, at(0x6006_0000 + 7)).unwrap();
    assert_eq!((bytes[0], &bytes[5..]), (0xe9, &[6; 4][..]));
}

#[test]
fn an_island_may_lie_behind_what_another_jump_overwrites() {
    let sites = |offsets: &[u64]| plan(&CROWDED, &outline(&[0..18]), offsets).patches;
    let [short, jump] = &sites(&[0, 7])[..] else { panic!() };
    assert_eq!((jump.start, shape(jump).2, jump.sites().count()), (at(7), 5, 1));
    let island = short.island.as_ref().unwrap();
    assert_eq!((short.start, island.at), (at(0), at(12)));
    assert!(jump.makes_room_for(island));
    let all = sites(&[0, 2, 5, 7, 10]);
    assert!(all.iter().all(|patch| patch.mechanism != Mechanism::Trap), "{all:?}");
}

#[test]
fn nobody_is_evicted_where_somebody_arrives_or_what_is_probed_is() {
    let first = |outline: &Outline<'_>, sites: &[u64], force: &[u64]| {
        let sites: Vec<_> = sites.iter().map(|offset| at(*offset)).collect();
        let force = force.iter().map(|offset| (at(*offset), Mechanism::Trap)).collect();
        let plan = analyze(&CROWDED, outline).plan(&sites, &force, &window());
        (plan.patches.len(), plan.patches[0].mechanism)
    };
    let function = outline(&[0..18]);
    assert_eq!(first(&function, &[0], &[]), (2, Mechanism::Pun));
    for target in [11, 14, 15] {
        let into = Outline { pointed_at: vec![at(target)], ..function.clone() };
        assert_eq!(first(&into, &[0], &[]), (1, Mechanism::Trap), "{target}");
    }
    assert_eq!(first(&function, &[0, 7], &[7]), (2, Mechanism::Trap));
    let refused = Outline { refused: vec![range(12..14)], ..function.clone() };
    assert_eq!(first(&refused, &[0], &[]), (1, Mechanism::Trap));
    // Where the function does not decode, nobody knows what is evicted.
    let bad = Outline { functions: vec![range(0..19)], ..Outline::default() };
    assert_eq!(first(&bad, &[0], &[]), (1, Mechanism::Trap));
    assert_eq!(first(&Outline::default(), &[0], &[]), (1, Mechanism::Trap));
}

#[test]
fn a_pun_may_not_be_longer_than_the_address_space() {
    let start = Address(u64::MAX - 3);
    let code = [Code { start, bytes: &[0x31, 0xc0, 0xc3] }];
    let functions = vec![start..start + 3];
    let outline = Outline { functions, pointed_at: vec![start + 2], ..Outline::default() };
    let analysis = Analysis::new(Isa::X86_64, &code, &outline, false, &mut |_| {});
    let plan = analysis.plan(&[start], &HashMap::new(), &[Address(0x1000)..Address(0x7fff_ffff_f000)]);
    assert!(plan.patches.iter().all(|patch| patch.mechanism == Mechanism::Trap));
}

#[test]
fn a_known_target_is_never_covered() {
    // 0: push %rbp; 1: mov %rsp,%rbp; 4: nop; 5: jmp 1
    let code = [0x55, 0x48, 0x89, 0xe5, 0x90, 0xeb, 0xfa];
    let plan = plan(&code, &outline(&[0..7]), &[0]);
    assert_eq!(plan.patches[0].mechanism, Mechanism::Trap);
    assert_eq!(plan.patches[0].overwritten, [0x55]);
    assert_eq!(plan.rejected[0].1.reason, Reason::TargetInside { target: at(1) });
}

#[test]
fn addresses_that_data_point_at_are_targets() {
    let mut outline = outline(&[0..10]);
    outline.pointed_at = vec![at(4)];
    let plan = plan(&PROLOGUE, &outline, &[0]);
    assert_eq!(plan.rejected[0].1.reason, Reason::TargetInside { target: at(4) });
}

#[test]
fn a_call_may_only_be_the_last_instruction() {
    // 0: push %rax; 1: call *%rax; 3: nop; 4: nop; 5: push %rax; 6: call 0; 11: ret
    let code = [0x50, 0xff, 0xd0, 0x90, 0x90, 0x50, 0xe8, 0xf5, 0xff, 0xff, 0xff, 0xc3];
    let plan = plan(&code, &outline(&[0..12]), &[0, 5]);
    assert_eq!(plan.patches[0].mechanism, Mechanism::Trap);
    assert_eq!(plan.rejected[0].1.reason, Reason::ReturnAddressInside { target: at(3) });
    assert_eq!((plan.patches[1].mechanism, lens(&plan.patches[1])), (Mechanism::Jump, vec![1, 5]));
}

#[test]
fn with_a_shadow_stack_calls_stay() {
    let code = [0x50, 0xe8, 0xfa, 0xff, 0xff, 0xff, 0xc3];
    let code = [Code { start: at(0), bytes: &code }];
    let analysis = Analysis::new(Isa::X86_64, &code, &outline(&[0..7]), true, &mut |_| {});
    let plan = analysis.plan(&[at(0), at(1)], &HashMap::new(), &window());
    assert_eq!(plan.patches.len(), 1);
    assert_eq!(plan.patches[0].mechanism, Mechanism::Trap);
    assert_eq!(plan.refused[0].address, at(1));
    assert!(matches!(plan.refused[0].reason, Reason::NotDisplaceable { .. }));
}

#[test]
fn a_landing_pad_stays_and_the_next_instruction_serves() {
    // endbr64; sub $0x108,%rsp; ret
    let code = [0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x81, 0xec, 0x08, 1, 0, 0, 0xc3];
    let moved = plan(&code, &outline(&[0..12]), &[0]);
    assert_eq!(moved.moved, [(at(0), at(4))]);
    assert_eq!(moved.patches[0].start, at(4));
    assert_eq!(moved.patches[0].sites().collect::<Vec<_>>(), [at(4)]);
    // Where the program loops to the instruction behind it, hits there would count too.
    let mut looped = outline(&[0..12]);
    looped.pointed_at = vec![at(4)];
    let kept = plan(&code, &looped, &[0]);
    assert_eq!((kept.moved.len(), kept.patches[0].start), (0, at(0)));
    assert_eq!(kept.patches[0].mechanism, Mechanism::Trap);
}

#[test]
fn without_a_function_only_one_long_instruction_is_replaced() {
    let long = [0xb8, 1, 0, 0, 0, 0xc3];
    assert_eq!(plan(&long, &outline(&[]), &[0]).patches[0].mechanism, Mechanism::Jump);
    let short = plan(&PROLOGUE, &outline(&[]), &[0]);
    assert_eq!(short.patches[0].mechanism, Mechanism::Trap);
    assert_eq!(short.rejected[0].1.reason, Reason::UnknownFunction);
}

#[test]
fn a_function_must_decode_completely() {
    // 0x06 is no instruction.
    let mut code = PROLOGUE.to_vec();
    code.push(0x06);
    code.push(0xc3);
    let plan = plan(&code, &outline(&[0..12]), &[0, 11]);
    assert_eq!(plan.patches[0].mechanism, Mechanism::Trap);
    assert_eq!(plan.rejected[0].1.reason, Reason::FunctionUndecodable { at: at(10) });
    assert_eq!(plan.refused[0].reason, Reason::FunctionUndecodable { at: at(10) });
}

#[test]
fn bad_addresses_are_refused_with_their_bytes() {
    let plan = plan(&PROLOGUE, &outline(&[0..10]), &[2, 0x1000]);
    assert!(plan.patches.is_empty());
    assert_eq!(plan.refused[0].reason, Reason::InsideInstruction { start: at(1) });
    assert_eq!(plan.refused[0].bytes, &PROLOGUE[2..]);
    assert_eq!(plan.refused[1].reason, Reason::OutsideCode);
    assert_eq!(
        plan.refused[0].to_string(),
        "0x400002 (89 e5 48 83 ec 10 c9 c3): the address is inside the instruction at 0x400001"
    );
}

#[test]
fn restartable_sequences_are_left_alone() {
    let mut outline = outline(&[0..10]);
    outline.refused = vec![range(4..8)];
    let plan = plan(&PROLOGUE, &outline, &[0, 1, 4, 8]);
    assert_eq!(plan.patches.iter().map(|patch| patch.start).collect::<Vec<_>>(), [at(0), at(8)]);
    assert_eq!(plan.rejected[0].1.reason, Reason::RestartableSequence { start: at(4) });
    // What ends where the sequence begins tells the kernel of it, and must not go on from elsewhere.
    let refused: Vec<_> = plan.refused.iter().map(|refusal| (refusal.address, &refusal.reason)).collect();
    let reason = Reason::RestartableSequence { start: at(4) };
    assert_eq!(refused, [(at(1), &reason), (at(4), &reason)]);
}

/// A jump may be within a transaction; a breakpoint aborts it, so a short instruction that only one fits is refused.
#[test]
fn no_breakpoint_is_set_in_a_function_with_transactions() {
    // xbegin 0x10; mov $1, %eax; 11: inc %ecx; xend; jmp 11; 18: mov $2, %eax; ret
    let code = [
        0xc7, 0xf8, 10, 0, 0, 0, 0xb8, 1, 0, 0, 0, 0xff, 0xc1, 0x0f, 0x01, 0xd5, 0xeb, 0xf9, 0xb8, 2, 0, 0,
        0, 0xc3,
    ];
    let plan = plan(&code, &outline(&[0..24]), &[0, 6, 11, 13, 18]);
    let jumps: Vec<_> = plan.patches.iter().map(|patch| (patch.start, patch.mechanism)).collect();
    assert_eq!(jumps, [(at(6), Mechanism::Jump), (at(18), Mechanism::Jump)]);
    let reasons: Vec<_> = plan.refused.iter().map(|refusal| refusal.to_string()).collect();
    assert_eq!(reasons.len(), 3);
    assert!(
        reasons[0].ends_with("cannot be displaced: it begins or ends a hardware transaction"),
        "{reasons:?}"
    );
    assert!(reasons[1].ends_with("a breakpoint would abort the transactions of the function at 0x400000"));
}

#[test]
fn position_independent_jump_tables_are_targets() {
    // lea 0x100(%rip),%rdx; movslq (%rdx,%rax,4),%rax; add %rdx,%rax; jmp *%rax; 16: nop x 8; ret
    let mut code = vec![0x48, 0x8d, 0x15, 0, 1, 0, 0, 0x48, 0x63, 0x04, 0x82, 0x48, 0x01, 0xd0, 0xff, 0xe0];
    code.extend([0x90; 8]);
    code.push(0xc3);
    let table = 0x107_i32;
    let entries: Vec<u8> =
        [16 - table, 19 - table, 0x7000_0000].iter().flat_map(|entry| entry.to_le_bytes()).collect();
    let mut outline = outline(&[0..25]);
    let unaligned = at(0x107);
    outline.data = vec![Code { start: unaligned, bytes: &entries }];
    // Tables are aligned to their entries: the one above is not, and says nothing.
    assert_eq!(plan(&code, &outline, &[17]).patches[0].mechanism, Mechanism::Jump);
    code[3] = 0xfd - 0xf8;
    let entries: Vec<u8> =
        [16 - 0x10c, 19 - 0x10c, 0x7000_0000_i32].iter().flat_map(|entry| entry.to_le_bytes()).collect();
    outline.data = vec![Code { start: at(0x10c), bytes: &entries }];
    let plan = plan(&code, &outline, &[17]);
    assert_eq!(plan.rejected[0].1.reason, Reason::TargetInside { target: at(19) });
}

/// Text that ends in the middle of an instruction: what is whole is probed, the rest says that it is none.
#[test]
fn half_an_instruction_at_the_end_of_text() {
    let code = [&PROLOGUE[..9], &[0x48, 0xb8, 1, 2]].concat(); // ...; leave; half a movabs
    let plan = plan(&code, &outline(&[0..13]), &[0, 8, 9, 12]);
    assert_eq!(plan.patches.iter().map(|patch| patch.start).collect::<Vec<_>>(), [at(0), at(8)]);
    assert!(plan.patches.iter().all(|patch| patch.mechanism == Mechanism::Trap), "{plan:?}");
    let reasons: Vec<_> = plan.refused.iter().map(|refusal| (refusal.address, &refusal.reason)).collect();
    let undecodable = Reason::FunctionUndecodable { at: at(9) };
    assert_eq!(reasons, [(at(9), &Reason::Undecodable), (at(12), &undecodable)]);
}

/// Two functions that read the same bytes in different ways: the one that begins inside an instruction of the other is not
/// probed there, whatever else is.
#[test]
fn overlapping_code() {
    // From 0: mov $0x90c38948, %eax. From 1: mov %rax, %rbx; nop. Both: nop; ret.
    let code = [0xb8, 0x48, 0x89, 0xc3, 0x90, 0x90, 0xc3];
    for end in [4, 7] {
        let functions = outline(&[0..7, 1..end]);
        let together = plan(&code, &functions, &[0, 1, 4, 5]);
        assert_eq!(together.patches.iter().map(|patch| patch.start).collect::<Vec<_>>(), [at(0), at(5)]);
        for inside in [1, 4] {
            let alone = plan(&code, &functions, &[inside]);
            assert!(alone.patches.is_empty(), "{alone:?}");
            assert_eq!(alone.refused[0].reason, Reason::InsideInstruction { start: at(0) });
        }
        // Nobody is displaced where the other may be entered.
        assert_eq!(plan(&code, &functions, &[5]).patches[0].overwritten.len(), 1);
        assert_eq!(plan(&code, &functions, &[0]).patches[0].overwritten.len(), 1);
    }
}

/// A label on an immediate, for what patches that: behind it both ways of reading go on alike.
#[test]
fn a_label_inside_an_instruction_is_no_function() {
    // 0: mov %edi, %eax; 2: add $0x01000000, %eax, with a label on its last two bytes, from where 5: add %al, (%rcx); 7: ret
    let code = [0x89, 0xf8, 0x05, 0, 0, 0, 1, 0xc3];
    let ret = patch(&code, &outline(&[0..8, 5..8]), 7);
    assert_eq!((ret.mechanism, ret.start, ret.overwritten.len()), (Mechanism::Trap, at(7), 1));
    // What the label has behind the end of the function goes on from there.
    let code = [&code[..], &PROLOGUE].concat();
    let behind = patch(&code, &outline(&[0..8, 5..18]), 8);
    assert_eq!((behind.mechanism, lens(&behind)), (Mechanism::Jump, vec![1, 3, 4]));
}

/// Where the two ways do not meet again at once, nobody knows what is an instruction behind.
#[test]
fn functions_that_go_on_differently_are_refused() {
    // From 0: mov $0x05000000, %eax; ret; nop x 3; ret. From 4: add $0x909090c3, %eax; ret
    let code = [0xb8, 0, 0, 0, 5, 0xc3, 0x90, 0x90, 0x90, 0xc3];
    for inner in [4..10, 4..12] {
        let code = [&code[..], &[0x90, 0xc3]].concat();
        let plan = plan(&code, &outline(&[0..10, inner]), &[5, 6, 9]);
        assert!(plan.patches.is_empty(), "{plan:?}");
        let undecodable = Reason::FunctionUndecodable { at: at(0) };
        assert!(plan.refused.iter().all(|refusal| refusal.reason == undecodable), "{plan:?}");
    }
}

/// Constants in code that instructions name are left alone, also where they decode.
#[test]
fn what_code_reads_as_data_is_not_patched() {
    // 0: mov 9(%rip), %eax; 6: ret; 7: nops; 15: data that decode, of which the first four bytes are read; 20: ret
    let mut code = vec![0x8b, 0x05, 9, 0, 0, 0, 0xc3];
    code.extend([0x90; 8]);
    code.extend([0x99, 0x99, 0x99, 0x99, 0x99, 0xc3]);
    let functions = outline(&[0..7, 15..21]);
    let plan = plan(&code, &functions, &[0, 15, 18, 19]);
    assert_eq!(plan.patches.iter().map(|patch| patch.start).collect::<Vec<_>>(), [at(0), at(19)]);
    let refused: Vec<_> = plan.refused.iter().map(|refusal| (refusal.address, &refusal.reason)).collect();
    let read = |offset| Reason::ReadAsData { at: at(offset) };
    assert_eq!(refused, [(at(15), &read(15)), (at(18), &read(18))]);
    // An address alone may be that of code.
    let code = [&[0x48, 0x8d, 0x05], &code[2..]].concat(); // lea 9(%rip), %rax
    let plan = self::plan(&code, &outline(&[0..8, 16..22]), &[16]);
    assert_eq!(plan.patches[0].mechanism, Mechanism::Jump, "{plan:?}");
    // Nor is an island put there: 0: jmp 0, as short as a jump may be; 2: padding, which the function behind reads.
    let mut code = vec![0xcc; 24];
    code[..2].copy_from_slice(&[0xeb, 0xfe]);
    code.extend([0x8b, 0x05, 0xe5, 0xff, 0xff, 0xff, 0xc3]); // mov -27(%rip), %eax: from 3
    let plan = self::plan(&code, &outline(&[0..2, 24..31]), &[0]);
    assert_eq!(plan.patches[0].mechanism, Mechanism::Trap, "{plan:?}");
}

/// Tables between the instructions of a function, as perlasm has them: what is behind them is a guess, but where the
/// program itself leads.
#[test]
fn data_in_text() {
    // call 11; 5: .long 0x06060606; 9: ret, nop; 11: pop %rax; mov (%rax), %eax; ret
    let code = [0xe8, 6, 0, 0, 0, 6, 6, 6, 6, 0xc3, 0x90, 0x58, 0x8b, 0x00, 0xc3];
    let plan = plan(&code, &outline(&[0..15]), &[0, 9, 11, 12]);
    assert_eq!(plan.patches.iter().map(|patch| patch.start).collect::<Vec<_>>(), [at(0), at(11)], "{plan:?}");
    let refused: Vec<_> = plan.refused.iter().map(|refusal| (refusal.address, &refusal.reason)).collect();
    let undecodable = Reason::FunctionUndecodable { at: at(5) };
    assert_eq!(refused, [(at(9), &undecodable), (at(12), &undecodable)]);
}

#[test]
fn forced_mechanisms_are_kept_or_the_site_is_refused() {
    let outline = outline(&[0..10]);
    let analysis = analyze(&PROLOGUE, &outline);
    let trap = analysis.plan(&[at(0)], &HashMap::from([(at(0), Mechanism::Trap)]), &window());
    assert_eq!(trap.patches[0].mechanism, Mechanism::Trap);
    assert!(trap.rejected.is_empty());
    let jump = |site| analysis.plan(&[at(site)], &HashMap::from([(at(site), Mechanism::Jump)]), &window());
    assert_eq!(jump(9).patches[0].start, at(4));
    let code = [0x5d, 0xc3];
    let short = self::outline(&[0..2]);
    let jump = analyze(&code, &short).plan(&[at(0)], &HashMap::from([(at(0), Mechanism::Jump)]), &window());
    assert!(jump.patches.is_empty());
    assert_eq!(jump.refused[0].reason, Reason::EndOfFunction { end: at(2) });
    // Nor does an earlier jump for the last site swallow one that must trap.
    let ret = analysis.plan(&[at(8), at(9)], &HashMap::from([(at(8), Mechanism::Trap)]), &window());
    assert_eq!(ret.patches.iter().map(|patch| patch.mechanism).collect::<Vec<_>>(), [Mechanism::Trap; 2]);
    // A jump at 0 would swallow the trap at 1.
    let both = analysis.plan(&[at(0), at(1)], &HashMap::from([(at(1), Mechanism::Trap)]), &window());
    assert_eq!(both.patches.iter().map(|patch| patch.mechanism).collect::<Vec<_>>(), [Mechanism::Trap; 2]);
    assert_eq!(both.rejected[0].1.reason, Reason::Overlap);
}

/// The unwinder asks for its shadow stack so: without one rax keeps its 0.
#[test]
fn a_target_that_may_stay_as_it_is_is_alive() {
    let cases: [(&str, &[u8]); 8] = [
        ("rdsspq %rax", &[0xf3, 0x48, 0x0f, 0x1e, 0xc8]),
        ("rdsspd %eax", &[0xf3, 0x0f, 0x1e, 0xc8]),
        ("bsf %rcx,%rax", &[0x48, 0x0f, 0xbc, 0xc1]),
        ("bsr %ecx,%eax", &[0x0f, 0xbd, 0xc1]),
        ("tzcnt %rcx,%rax", &[0xf3, 0x48, 0x0f, 0xbc, 0xc1]),
        ("lzcnt %ecx,%eax", &[0xf3, 0x0f, 0xbd, 0xc1]),
        ("lar %ecx,%eax", &[0x0f, 0x02, 0xc1]),
        ("lsl %ecx,%eax", &[0x0f, 0x03, 0xc1]),
    ];
    for (text, insn) in cases {
        // nopl 0(%rax,%rax); the instruction; ret
        let code = [&[0x0f, 0x1f, 0x44, 0x00, 0x00], insn, &[0xc3]].concat();
        assert!(!dead_at(&code, code.len() as u64, 0).registers.contains(0), "{text}");
    }
    let mov = [0x0f, 0x1f, 0x44, 0x00, 0x00, 0x48, 0x89, 0xc8, 0xc3];
    assert!(dead_at(&mov, 9, 0).registers.contains(0), "mov %rcx,%rax");
}

/// What is dead before the site at `offset`.
fn dead_at(code: &[u8], len: u64, offset: u64) -> Dead {
    let patch = patch(code, &outline(&[0..len]), offset);
    patch.displaced.iter().find(|insn| insn.is_site).unwrap().dead
}

#[test]
fn flags_and_registers_are_dead_where_the_straight_run_overwrites_them() {
    // mov $1,%eax; test %edi,%edi; mov %ax,%cx; je .; ret
    let code = [0xb8, 1, 0, 0, 0, 0x85, 0xff, 0x66, 0x89, 0xc1, 0x74, 0xfe, 0xc3];
    let dead = |offset| dead_at(&code, 13, offset);
    assert!(dead(0).flags && dead(0).registers.contains(0));
    assert!(!dead(0).registers.contains(1), "16 bits leave the rest of rcx");
    assert!(!dead(0).registers.contains(7), "edi is read");
    assert!(dead(5).flags && !dead(5).registers.contains(0));
    assert!(!dead(7).flags && !dead(10).flags);
    // pop %rsp writes all of rsp, which is never dead; shl %cl may leave the flags as they are.
    let code = [0x5c, 0xd3, 0xe0, 0x31, 0xc0, 0xc3];
    let dead = |offset| dead_at(&code, 6, offset);
    assert!(!dead(0).registers.contains(4));
    assert!(dead(0).flags, "xor overwrites them all");
    assert!(!dead(1).registers.contains(0), "shl reads eax");
    let code = [0xd3, 0xe0, 0xc3];
    assert!(!plan(&code, &outline(&[0..3]), &[0]).patches[0].displaced[0].dead.flags);
}

#[test]
fn progress_reaches_the_whole_code() {
    let mut last = 0;
    let code = [Code { start: at(0), bytes: &PROLOGUE }];
    drop(Analysis::new(Isa::X86_64, &code, &outline(&[0..10]), false, &mut |done| last = done));
    assert_eq!(last, 10);
}

/// Where a processor lacks them some instructions fault, and some do nothing; others may fault for what they load, or are the
/// kernel's to emulate, which leaves the upper half of the register alone.
#[test]
fn nothing_is_dead_before_what_may_not_be_carried_out() {
    let behind = [0xb8, 1, 0, 0, 0, 0x31, 0xd2, 0xc3]; // mov $1, %eax; xor %edx, %edx; ret
    let uncertain: [&[u8]; 8] = [
        &[0x0f, 0x0d, 0xf7], // a reserved nop, which AMD's processors do not know with registers
        &[0xf3, 0x48, 0x0f, 0x1e, 0xca], // rdsspq %rdx: a no-op without shadow stacks
        &[0xf3, 0x48, 0x0f, 0xb8, 0xd1], // popcnt %rcx, %rdx
        &[0xc4, 0xe2, 0xf0, 0xf2, 0xd1], // andn %rcx, %rcx, %rdx
        &[0xc4, 0xe1, 0x4c, 0x42, 0xe2], // kandnw %k2, %k6, %k4
        &[0x0f, 0x01, 0xe2], // smsw %edx
        &[0x0f, 0x00, 0xca], // str %edx
        &[0x8e, 0xd9],       // mov %ecx, %ds
    ];
    for insn in uncertain {
        let code = [insn, &behind].concat();
        let len = code.len() as u64;
        assert_eq!(dead_at(&code, len, 0), Dead::default(), "{insn:x?}");
        assert!(dead_at(&code, len, insn.len() as u64).registers.contains(0), "{insn:x?}");
    }
    // The long nop is everywhere.
    let code = [&[0x0f, 0x1f, 0x44, 0, 0][..], &behind].concat();
    assert!(dead_at(&code, 13, 0).registers.contains(0) && dead_at(&code, 13, 0).flags);
}

/// Position-independent i386 code has the address of its global offset table in a register. Any number that is added to a
/// register may be a distance from there, but for those that lead into the middle of an instruction.
#[test]
fn a_distance_from_the_global_offset_table_is_an_address_taken() {
    // push %ebp; mov %esp,%ebp; nop; nop; ret; lea -0xffe(%ebx),%eax; ret
    let code = [0x55, 0x89, 0xe5, 0x90, 0x90, 0xc3, 0x8d, 0x83, 0x02, 0xf0, 0xff, 0xff, 0xc3];
    let reached = Reason::TargetInside { target: at(3) };
    for (got, reason) in [(None, None), (Some(at(0x1001)), Some(reached)), (Some(at(0x1000)), None)] {
        let outline = Outline { got, ..outline(&[0..6, 6..13]) };
        let stretch = [Code { start: at(0), bytes: &code }];
        let analysis = Analysis::new(Isa::I386, &stretch, &outline, false, &mut |_| {});
        let free = [Address(0xc000_0000)..Address(0xe000_0000)];
        let plan = analysis.plan(&[at(0)], &HashMap::new(), &free);
        let [patch] = &plan.patches[..] else { panic!("{plan:?}") };
        let wanted = if reason.is_some() { Mechanism::Trap } else { Mechanism::Jump };
        assert_eq!(patch.mechanism, wanted, "{got:?}");
        assert_eq!(plan.rejected.first().map(|(_, rejected)| rejected.reason.clone()), reason);
    }
}

/// A number that may be an address is none inside an instruction, unless there may be data among these: behind a jump comes
/// what nothing leads to, somebody arrives inside an instruction, or code reads one.
#[test]
fn guesses_are_believed_where_data_may_hide() {
    let reason = |code: &[u8], outline: &Outline<'_>, guess, site| {
        let guesses = Outline { may_point_at: vec![at(guess)], ..outline.clone() };
        let plan = plan(code, &guesses, &[site]);
        let rejected = plan.rejected.first().map(|(_, rejected)| rejected.reason.clone());
        (plan.patches[0].mechanism, rejected)
    };
    let believed = |guess| (Mechanism::Trap, Some(Reason::TargetInside { target: at(guess) }));
    // 0: mov $0xe5894855, %eax; 5: ret
    let plain = [0xb8, 0x55, 0x48, 0x89, 0xe5, 0xc3];
    assert_eq!(reason(&plain, &outline(&[0..6]), 1, 0), (Mechanism::Jump, None));
    // 0: jmp *%rax; 2: what decodes like that
    let hidden = [&[0xff, 0xe0], &plain[..]].concat();
    assert_eq!(reason(&hidden, &outline(&[0..8]), 3, 2), believed(3));
    // 0: jmp *%rax; 2: the same, where another number leads
    let case = Outline { pointed_at: vec![at(2)], ..outline(&[0..8]) };
    assert_eq!(reason(&hidden, &case, 3, 2), (Mechanism::Jump, None));
    // 6: jmp 2, in the middle of the first
    let entered = [&plain[..], &[0xeb, 0xfa]].concat();
    assert_eq!(reason(&entered, &outline(&[0..8]), 1, 0), believed(1));
    // 0: mov $.., %eax; 5: mov -4(%rip), %ecx, which reads itself from 7 on; 11: ret
    let read = [&plain[..5], &[0x8b, 0x0d, 0xfc, 0xff, 0xff, 0xff, 0xc3]].concat();
    assert_eq!(reason(&read, &outline(&[0..12]), 1, 0), believed(1));
}
