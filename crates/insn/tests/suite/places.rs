//! Placement of stubs.

use std::ops::Range;

use insn::place::{AREA_LEN, Demand, Room, patch_bytes};
use insn::plan::{Dead, Displaced, Mechanism, Patch, Reason};
use insn::{Address, Isa};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const NO_ROOM: Result<Address, Reason> = Err(Reason::NoRoom);

/// A jump over nops of the given lengths.
fn patch(start: u64, lens: &[usize]) -> Patch {
    let nops: [&[u8]; 5] =
        [&[0x90], &[0x66, 0x90], &[0x0f, 0x1f, 0], &[0x0f, 0x1f, 0x40, 0], &[0x0f, 0x1f, 0x44, 0, 0]];
    let mut address = Address(start);
    let displaced: Vec<Displaced> = lens
        .iter()
        .map(|len| {
            let insn =
                Displaced { address, bytes: nops[len - 1].to_vec(), dead: Dead::default(), is_site: false };
            address += *len as u64;
            insn
        })
        .collect();
    Patch {
        start: Address(start),
        mechanism: Mechanism::Jump,
        overwritten: vec![0x90; 5],
        displaced,
        island: None,
    }
}

fn demands(patches: &[Patch], size: u32) -> Vec<Demand<'_>> {
    patches.iter().map(|patch| Demand { patch, size }).collect()
}

/// Shapes as frequent as they are in real code.
fn many(base: u64, count: u64) -> Vec<Patch> {
    let shapes: [&[usize]; 10] =
        [&[5], &[3, 2], &[4, 1], &[1, 3, 4], &[2, 3], &[5], &[3, 3], &[4, 4], &[2, 2, 4], &[1, 2, 1, 1]];
    (0..count).map(|n| patch(base + n * 137, shapes[usize::try_from(n % 10).unwrap()])).collect()
}

fn pages(room: &Room) -> usize {
    let mut pages: Vec<u64> = room
        .areas
        .iter()
        .flat_map(|area| &area.used)
        .flat_map(|used| used.start.0 / 4096..=(used.end.0 - 1) / 4096)
        .collect();
    pages.sort_unstable();
    pages.dedup();
    pages.len()
}

fn check(room: &Room, patches: &[Patch], places: &[Result<Address, Reason>], size: u64) {
    let mut taken: Vec<_> = places.iter().flatten().copied().collect();
    taken.sort_unstable();
    assert!(taken.windows(2).all(|pair| pair[1] - pair[0] >= size), "stubs overlap");
    for (patch, place) in patches.iter().zip(places) {
        let Ok(at) = place else { continue };
        assert!(patch_bytes(Isa::X86_64, patch, *at).is_some(), "{patch:?} at {at}");
        let inside = room.areas.iter().any(|area| area.start <= *at && *at + size <= area.start + area.len);
        assert!(inside, "{at} is in no area");
    }
    for area in &room.areas {
        let end = area.start + area.len;
        let guarded =
            room.free.iter().any(|free| free.start + AREA_LEN <= area.start && end + AREA_LEN <= free.end);
        assert!(guarded && area.start.0.is_multiple_of(AREA_LEN));
    }
}

#[test]
fn a_thousand_sites_of_a_library_take_few_pages() {
    let base = 0x7f12_3456_7000;
    let patches = many(base, 1000);
    let free =
        vec![Address(base - 2 * GIB)..Address(base - MIB), Address(base + MIB)..Address(base + 4 * GIB)];
    let mut room = Room { free, areas: Vec::new(), mappings: usize::MAX };
    let places = room.place(Isa::X86_64, &demands(&patches, 64));
    assert!(places.iter().all(Result::is_ok));
    check(&room, &patches, &places, 64);
    assert!(pages(&room) <= 25, "{} pages", pages(&room));
    assert!(room.areas.iter().all(|area| area.is_new));
}

#[test]
fn a_low_executable_is_served_above_its_heap() {
    let patches = many(0x40_1000, 1000);
    let mut room = Room {
        free: vec![Address(0x40_0000 + GIB + 64 * MIB)..Address(0x7000_0000_0000)],
        areas: Vec::new(),
        mappings: usize::MAX,
    };
    let places = room.place(Isa::X86_64, &demands(&patches, 64));
    assert!(places.iter().all(Result::is_ok));
    check(&room, &patches, &places, 64);
    assert!(pages(&room) <= 25, "{} pages", pages(&room));
}

#[test]
fn open_areas_are_filled_first_and_room_comes_back() {
    let base = 0x7f00_0000_0000;
    let patches = many(base, 20);
    let mut room = Room {
        free: vec![Address(base + MIB)..Address(base + 4 * GIB)],
        areas: Vec::new(),
        mappings: usize::MAX,
    };
    let first = room.place(Isa::X86_64, &demands(&patches, 64));
    let areas = room.areas.len();
    let more = many(base + 20 * 137, 20);
    let second = room.place(Isa::X86_64, &demands(&more, 64));
    assert_eq!(room.areas.len(), areas);
    assert!(second.iter().all(|place| place.is_ok() && !first.contains(place)));
    for at in first.iter().chain(&second).flatten() {
        room.release(at.span(64));
    }
    assert!(room.areas.iter().all(|area| area.used.is_empty()));
    assert_eq!(room.place(Isa::X86_64, &demands(&patches, 64)), first);
}

#[test]
fn nothing_free_gives_none() {
    let patches = many(0x40_0000, 3);
    let mut nowhere = Room { free: Vec::new(), areas: Vec::new(), mappings: usize::MAX };
    assert_eq!(nowhere.place(Isa::X86_64, &demands(&patches, 64)), [NO_ROOM; 3]);
    let mut far = Room {
        free: vec![Address(0x1000_0000_0000)..Address(0x1001_0000_0000)],
        areas: Vec::new(),
        mappings: usize::MAX,
    };
    assert_eq!(far.place(Isa::X86_64, &demands(&patches, 64)), [NO_ROOM; 3]);
    let mut small =
        Room { free: vec![Address(0x50_0000)..Address(0x52_0000)], areas: Vec::new(), mappings: usize::MAX };
    assert_eq!(small.place(Isa::X86_64, &demands(&patches, 64)), [NO_ROOM; 3]);
    assert_eq!(nowhere.place(Isa::X86_64, &[]), []);
}

#[test]
fn an_unconstrained_stub_lies_near_and_aligned() {
    let patches = [patch(0x7f00_0000_0000, &[5])];
    let free = vec![
        Address(0x7eff_0000_0000)..Address(0x7eff_fff0_0000),
        Address(0x7f00_4000_0000)..Address(0x7f01_0000_0000),
    ];
    let mut room = Room { free, areas: Vec::new(), mappings: usize::MAX };
    let place = room.place(Isa::X86_64, &demands(&patches, 100)).remove(0).unwrap();
    assert!(Address(0x7f00_0000_0000) - place < 4 * MIB);
    assert!(place.0.is_multiple_of(16));
}

/// What a module with a probe at each of its instructions asks for: more than the nearest stretch has.
#[test]
fn stubs_of_many_megabytes_go_on_behind_the_nearest_stretch() {
    let base = 0x7f00_0000_0000;
    let patches: Vec<Patch> = (0..700).map(|n| patch(base + n * 16, &[5])).collect();
    let above = Address(base + MIB)..Address(base + GIB);
    let below = Address(base - 20 * MIB)..Address(base - MIB);
    let mut room = Room { free: vec![below, above], areas: Vec::new(), mappings: usize::MAX };
    let size = u32::try_from(AREA_LEN).unwrap();
    let places = room.place(Isa::X86_64, &demands(&patches, size));
    assert_eq!(places.iter().flatten().count(), patches.len());
    check(&room, &patches, &places, AREA_LEN);
    let furthest = places.iter().flatten().map(|at| at.0.abs_diff(base)).max().unwrap();
    assert!(furthest < 40 * MIB, "{furthest:#x}: near ones first");
}

#[test]
fn stubs_reach_what_their_instructions_refer_to() {
    // lea 0x70000000(%rip),%rax: a stub 1.5 GiB below could not refer to it.
    let mut far = patch(0x7f00_0000_0000, &[5]);
    far.displaced[0].bytes = vec![0x48, 0x8d, 0x05, 0, 0, 0, 0x70];
    let below = vec![Address(0x7eff_8000_0000)..Address(0x7eff_c000_0000)];
    let mut room = Room { free: below.clone(), areas: Vec::new(), mappings: usize::MAX };
    assert_eq!(room.place(Isa::X86_64, &demands(&[far], 64)), [NO_ROOM]);
    let mut room = Room { free: below, areas: Vec::new(), mappings: usize::MAX };
    assert!(room.place(Isa::X86_64, &demands(&[patch(0x7f00_0000_0000, &[5])], 64))[0].is_ok());
}

#[test]
fn a_boundary_that_would_not_trap_has_no_patch() {
    let patch = patch(0x40_0000, &[4, 1]);
    assert_eq!(patch.interior(), [4]);
    assert!(patch_bytes(Isa::X86_64, &patch, Address(0x40_0005 + 0x6000_0000)).is_some());
    assert_eq!(patch_bytes(Isa::X86_64, &patch, Address(0x40_0005 + 0x5f00_0000)), None);
    assert_eq!(patch_bytes(Isa::X86_64, &patch, Address(0x40_0005 + 0x8000_0000)), None);
}

/// A pun whose stub lies at one distance only, but for what the lowest byte of the displacement gives.
fn pun(start: u64, third: u8, second: u8) -> Patch {
    let mut pun = patch(start, &[2]);
    pun.mechanism = Mechanism::Pun;
    pun.overwritten = vec![0x66, 0x90, second, third, 0x10];
    pun
}

fn breakpoint(start: u64) -> Patch {
    let mut breakpoint = patch(start, &[1]);
    breakpoint.mechanism = Mechanism::Trap;
    breakpoint.overwritten = vec![0x90];
    breakpoint
}

fn around(base: u64) -> Range<Address> {
    Address(base + MIB)..Address(base + GIB)
}

/// Two modules that are no neighbours: what the puns of one take is of no use to the other.
#[test]
fn puns_leave_mappings_to_those_that_share_them() {
    const MAPPINGS: usize = 8;
    let (far, base) = (0x7000_0000_0000, 0x7f00_0000_0000);
    let puns = (0..40).map(|n| pun(far + 64 * n, u8::try_from(n).unwrap(), 0x20));
    let shared =
        (0..600).map(|n| if n % 2 == 0 { breakpoint(base + n * 16) } else { patch(base + n * 16, &[5]) });
    let patches: Vec<Patch> = puns.chain(shared).collect();
    let mut room = Room { free: vec![around(far), around(base)], areas: Vec::new(), mappings: MAPPINGS };
    let places = room.place(Isa::X86_64, &demands(&patches, 400));
    check(&room, &patches, &places, 400);
    assert!(room.areas.len() + room.mappings == MAPPINGS, "{} areas", room.areas.len());
    let (puns, shared) = places.split_at(40);
    assert!(shared.iter().all(Result::is_ok), "{} refused", shared.iter().filter(|at| at.is_err()).count());
    assert!(puns.iter().any(Result::is_ok));
    let refused: Vec<_> = puns.iter().filter(|at| at.is_err()).collect();
    assert!(!refused.is_empty() && refused.iter().all(|at| **at == Err(Reason::Mappings)), "{refused:?}");
    // And something for what is loaded later.
    let later = 0x7e00_0000_0000;
    room.free.insert(1, around(later));
    assert!(room.place(Isa::X86_64, &demands(&[breakpoint(later)], 64))[0].is_ok());
}

#[test]
fn where_mappings_are_few_they_are_longer() {
    let base = 0x7f00_0000_0000;
    let patches: Vec<Patch> = (0..9000).map(|n| breakpoint(base + n * 4)).collect();
    let mut room = Room { free: vec![around(base)], areas: Vec::new(), mappings: 12 };
    let mut places = Vec::new();
    for part in patches.chunks(1500) {
        places.extend(room.place(Isa::X86_64, &demands(part, 200)));
    }
    assert!(places.iter().all(Result::is_ok));
    check(&room, &patches, &places, 200);
    assert!(room.areas.len() < 12 && room.areas.iter().any(|area| area.len > AREA_LEN));
    let mut plenty = Room { free: vec![around(base)], areas: Vec::new(), mappings: 1200 };
    assert!(plenty.place(Isa::X86_64, &demands(&patches, 200)).iter().all(Result::is_ok));
    assert!(plenty.areas.iter().all(|area| area.len == AREA_LEN));
}

/// Says so of each without a search for each.
#[test]
fn what_is_beyond_the_mappings_is_told_from_what_has_no_room() {
    let base = 0x7f00_0000_0000;
    let mut patches = many(base, 30_000);
    patches.push(patch(0x40_0000, &[5]));
    let mut room = Room { free: vec![around(base)], areas: Vec::new(), mappings: 1 };
    let places = room.place(Isa::X86_64, &demands(&patches, 100));
    check(&room, &patches, &places, 100);
    let (last, others) = places.split_last().unwrap();
    assert_eq!((last, room.mappings, room.areas.len()), (&NO_ROOM, 0, 1));
    let mut refused = others.iter().filter_map(|at| at.as_ref().err());
    assert!(refused.all(|reason| *reason == Reason::Mappings));
    assert!(others.iter().flatten().count() > 1000);
}
