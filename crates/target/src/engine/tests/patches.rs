//! Patches come, are hit, and go.

use insn::plan::Mechanism;

use super::fixture::{
    ACROSS, ACROSS_RET, ADD, ADD_RET, BEHIND_PUN, CALL, CROWDED, EVICTED, EVICTED_MOV, HANDLER, ISLAND, ISLE,
    LEADER, MAIN, PUN, SECOND, SHORT, SITES, SYSCALL, TEXT, World, queued, text_mapping,
};
use crate::TargetError;
use crate::engine::{Change, Left};
use crate::fake::machine::Run;
use crate::seam::Target;

#[test]
fn jumps_count_and_go_without_a_trace() {
    let mut world = World::new(2);
    world.probe(&SITES).unwrap();
    assert!(!world.is_text_original());
    for _ in 0..500 {
        world.step(LEADER);
        world.step(SECOND);
    }
    world.fake.machine().pace = 1;
    let left = world.leave();
    assert_eq!(
        (left.restored, left.left_mapped),
        (SITES.len() + 3, 0),
        "sites, two islands, what is evicted"
    );
    let native = world.fake.machine().native.clone();
    for site in SITES {
        let counted = world.hits(site) + native.get(&site).copied().unwrap_or(0);
        assert_eq!(counted, world.rounds(), "{site}");
    }
    assert_eq!(world.engine.statistics.traps + world.engine.statistics.strays, 0);
}

#[test]
fn an_earlier_jump_counts_its_site_alone() {
    let mut world = World::new(2);
    world.probe(&[ADD_RET, SYSCALL, ACROSS_RET]).unwrap();
    assert_eq!(world.engine.patches.keys().copied().collect::<Vec<_>>(), [ADD + 4, CALL, ACROSS]);
    let calls = [(ADD + 4, ADD_RET, MAIN + 5), (CALL, SYSCALL, MAIN + 10), (ACROSS, ACROSS_RET, MAIN + 20)];
    for round in 1..4 {
        for (start, site, behind) in calls {
            world.run_to(LEADER, start);
            assert_eq!(world.hits(site), round - 1);
            world.run_to(LEADER, behind);
            assert_eq!(world.hits(site), round);
        }
    }
    assert_eq!(world.engine.statistics.traps + world.engine.statistics.strays, 0);
    world.leave();
}

#[test]
fn a_thread_between_an_earlier_start_and_the_site_is_moved_and_counted_once() {
    // add $7, %r12 (4 bytes); pop %rbp; ret: the last boundary lies behind the jump's own bytes.
    for at in [ADD + 4, ADD + 8, ADD_RET] {
        let mut world = World::new(1);
        world.run_to(LEADER, at);
        world.probe(&[ADD_RET]).unwrap();
        assert_eq!(world.engine.in_area(world.pc(LEADER)), at != ADD + 4, "{at}");
        world.run_to(LEADER, MAIN + 5);
        assert_eq!(world.hits(ADD_RET), 1, "{at}");
        assert_eq!(world.engine.statistics.strays, 0);
        world.leave();
    }
}

#[test]
fn a_stray_between_an_earlier_start_and_the_site_is_counted_once() {
    for at in [ADD + 8, ADD_RET] {
        let mut world = World::new(1);
        // As from a signal frame that nobody sees.
        world.run_to(LEADER, at);
        world.put(LEADER, MAIN);
        world.probe(&[ADD_RET]).unwrap();
        world.put(LEADER, at);
        world.step(LEADER);
        assert_eq!(world.engine.statistics.strays, 1, "{at}");
        world.run_to(LEADER, MAIN + 5);
        assert_eq!(world.hits(ADD_RET), 1, "{at}");
        world.leave();
    }
}

#[test]
fn sites_come_and_go_in_a_span_that_is_hit() {
    let sets: [&[_]; 6] = [&[ADD_RET], &[ADD, ADD_RET], &[ADD], &[ADD + 1, ADD_RET], &[ADD + 8], &[ADD_RET]];
    for offset in 0..80 {
        let mut world = World::new(1);
        world.fake.machine().pace = 0;
        world.probe(&[ADD_RET]).unwrap();
        for (number, set) in sets.iter().enumerate() {
            world.run_to(LEADER, MAIN);
            (0..=offset).for_each(|_| world.step(LEADER));
            world.probe(set).unwrap_or_else(|error| panic!("{number}: {error}"));
        }
        world.run_to(LEADER, MAIN);
        world.fake.machine().pace = 1;
        world.leave();
        // Whoever was underway ran the original, the old stub or the new one, and only probed copies count.
        assert!(world.hits(ADD_RET) <= world.rounds(), "{offset}");
        assert!(world.hits(ADD_RET) > 0, "{offset}");
    }
}

#[test]
fn a_breakpoint_leads_to_the_same_stub() {
    let mut world = World::new(1);
    world.probe_by(&[(ADD, Some(Mechanism::Trap)), (SHORT, Some(Mechanism::Trap))]).unwrap();
    assert_eq!(world.live(ADD, 1), [0xcc]);
    for _ in 0..3 {
        world.run_to(LEADER, ADD);
        world.run_to(LEADER, MAIN);
    }
    assert_eq!((world.hits(ADD), world.hits(SHORT)), (3, 3));
    assert_eq!(world.engine.statistics.traps, 6);
    assert_eq!(world.leave().left_mapped, 0);
}

#[test]
fn a_pun_leaves_what_its_jump_ends_in() {
    let mut world = World::new(2);
    // Somebody stands in the bytes that stay.
    world.run_to(SECOND, BEHIND_PUN);
    world.probe(&[PUN]).unwrap();
    let live = world.live(PUN, 9);
    assert_eq!((live[0], &live[3..]), (0xe9, &[0x55, 0x48, 0x89, 0xe5, 0x5d, 0xc3][..]));
    assert_eq!(world.pc(SECOND), BEHIND_PUN);
    for tid in [LEADER, SECOND] {
        world.run_to(tid, MAIN);
        world.run_to(tid, BEHIND_PUN);
        world.run_to(tid, MAIN);
    }
    assert_eq!(world.hits(PUN), 2);
    // Probed as well, what it ended in is a jump of its own, and nothing but a short jump fits before it.
    world.probe(&[PUN, BEHIND_PUN]).unwrap();
    let live = world.live(PUN, 9);
    assert_eq!((live[0], live[2], live[3]), (0xeb, 0xc6, 0xe9));
    world.run_to(LEADER, BEHIND_PUN + 5);
    world.run_to(LEADER, MAIN);
    assert_eq!((world.hits(PUN), world.hits(BEHIND_PUN)), (3, 1));
    world.probe(&[PUN]).unwrap();
    assert_eq!(world.live(PUN, 4)[3], 0x55);
    world.run_to(LEADER, BEHIND_PUN);
    assert_eq!(world.leave().left_mapped, 0);
}

#[test]
fn an_island_leads_on_and_whoever_is_there_goes_back() {
    for removes in [true, false] {
        let mut world = World::new(2);
        let padding = world.live(ISLAND, 8);
        world.probe(&[ISLE]).unwrap();
        assert_eq!(world.live(ISLE, 5), [0xeb, 0x86, 0x41, 0x5c, 0xc3]);
        assert_eq!((world.live(ISLAND, 8)[0], &world.live(ISLAND, 8)[5..]), (0xe9, &padding[5..]));
        world.run_to(SECOND, ISLAND);
        // A handler that begins there is told of the site.
        world.fake.machine().actions.insert(libc::SIGUSR1, [HANDLER, 0, 0, 0]);
        world.fake.machine().send(SECOND, queued(libc::SIGUSR1, 7));
        world.react();
        assert_eq!(world.fake.machine().deliveries.last().map(|delivery| delivery.pc), Some(ISLE));
        world.run_to(SECOND, ISLAND);
        if removes {
            world.probe(&[ADD]).unwrap();
            assert_eq!((world.live(ISLAND, 8), world.pc(SECOND)), (padding, ISLE));
            world.run_to(SECOND, MAIN);
        } else {
            // It goes on to the end of its round.
            assert_eq!(world.leave().left_mapped, 0);
        }
        let native = world.fake.machine().native.clone();
        assert_eq!((world.hits(ISLE), native.get(&ISLE)), (0, Some(&1)), "removes: {removes}");
    }
}

/// The short jump, the neighbour's jump, the island, and what is left.
fn check_evicted(world: &World) {
    let live = world.live(CROWDED, 17);
    assert_eq!((&live[..3], live[7]), (&[0xeb, 5, 0xe9][..], 0xe9));
    assert_eq!(live[12..], [0x55, 0x66, 0x77, 0x88, 0xc3]);
}

#[test]
fn whoever_stands_in_what_is_evicted_is_moved() {
    // Both ends of what is overwritten stay where they are.
    let places = [(0, false), (2, false), (6, true), (16, false)];
    for (offset, moves) in places {
        let mut world = World::new(2);
        let at = CROWDED + offset;
        world.run_to(SECOND, at);
        world.probe(&[CROWDED]).unwrap();
        check_evicted(&world);
        assert_eq!(world.engine.in_area(world.pc(SECOND)), moves, "+{offset}: {}", world.pc(SECOND));
        for tid in [LEADER, SECOND] {
            world.run_to(tid, MAIN);
            world.run_to(tid, CROWDED);
            world.run_to(tid, MAIN);
        }
        let from_there = u64::from(offset == 0);
        assert_eq!(world.hits(CROWDED), 2 + from_there, "+{offset}");
        assert_eq!(world.engine.statistics.traps + world.engine.statistics.strays, 0);
        world.check_program();
        // Somebody is on the way through the copy when it goes: at its last instruction at the latest.
        world.run_into(SECOND, EVICTED, offset.min(14));
        world.probe(&[ADD]).unwrap();
        assert_eq!(world.live(CROWDED, 3), [0x31, 0xc0, 0x49]);
        world.run_to(SECOND, MAIN);
        world.fake.machine().pace = 1;
        assert_eq!(world.leave().left_mapped, 0);
    }
}

#[test]
fn a_stray_in_what_is_evicted_goes_on_at_its_copy() {
    let mut world = World::new(1);
    // As from a signal frame that nobody sees.
    world.run_to(LEADER, EVICTED_MOV);
    world.put(LEADER, MAIN);
    world.probe(&[CROWDED, ADD]).unwrap();
    world.put(LEADER, EVICTED_MOV);
    world.step(LEADER);
    assert_eq!(world.engine.statistics.strays, 1);
    assert!(world.engine.in_area(world.pc(LEADER)));
    world.run_to(LEADER, MAIN);
    assert_eq!(world.leave().left_mapped, 0);
}

#[test]
fn whoever_is_at_an_island_among_evicted_instructions_is_at_its_site() {
    let mut world = World::new(2);
    world.probe(&[CROWDED]).unwrap();
    let island = CROWDED + 7;
    for keeps_host in [true, false] {
        world.run_to(SECOND, MAIN);
        world.run_to(SECOND, island);
        let native = world.fake.machine().native.get(&CROWDED).copied();
        // Without the site the neighbour is no more evicted, but it may be a site itself.
        world.probe(if keeps_host { &[EVICTED, EVICTED_MOV] } else { &[ADD] }).unwrap();
        assert_eq!(world.pc(SECOND), CROWDED);
        assert_eq!(world.live(CROWDED, 2), [0x31, 0xc0]);
        world.run_to(SECOND, MAIN);
        assert_eq!((world.hits(EVICTED), world.hits(EVICTED_MOV)), (1, 1), "in the first round");
        assert_eq!(world.fake.machine().native.get(&CROWDED).copied(), Some(native.unwrap_or(0) + 1));
        world.probe(&[CROWDED]).unwrap();
    }
    assert_eq!(world.hits(CROWDED), 0);
    world.leave();
}

#[test]
fn what_is_evicted_may_be_probed_before_and_after() {
    let sets: [&[_]; 6] = [
        &[CROWDED],
        &[CROWDED, EVICTED],
        &[CROWDED, EVICTED_MOV],
        &[EVICTED_MOV],
        &[CROWDED, EVICTED, EVICTED_MOV],
        &[CROWDED],
    ];
    for offset in 0..60 {
        let mut world = World::new(1);
        world.fake.machine().pace = 0;
        for (number, set) in sets.iter().enumerate() {
            world.run_to(LEADER, CROWDED);
            (0..=offset).for_each(|_| world.step(LEADER));
            world.probe(set).unwrap_or_else(|error| panic!("{offset}, {number}: {error}"));
            assert!(set.iter().all(|site| world.live(*site, 1) != [0xcc]), "{offset}, {number}");
        }
        world.run_to(LEADER, MAIN);
        let native = world.fake.machine().native.get(&CROWDED).copied().unwrap_or(0);
        assert!(world.hits(CROWDED) + native <= world.rounds(), "{offset}");
        assert!(world.hits(CROWDED) > 0, "{offset}");
        world.fake.machine().pace = 1;
        assert_eq!(world.leave().left_mapped, 0);
    }
}

#[test]
fn a_stray_goes_on_at_its_copy_and_after_the_restoration_at_the_original() {
    let mut world = World::new(2);
    world.run_to(LEADER, ADD + 1);
    // Nobody sees where a signal frame leads back to: the thread arrives inside the jump later.
    world.put(LEADER, MAIN);
    world.probe(&[ADD]).unwrap();
    world.put(LEADER, ADD + 1);
    world.step(LEADER);
    assert_eq!(world.engine.statistics.strays, 1);
    assert!(world.engine.in_area(world.pc(LEADER)));
    assert_eq!(world.hits(ADD), 0);
    world.run_to(LEADER, MAIN);

    // The fault is pending when the world is stopped for the removal.
    world.put(SECOND, ADD);
    world.fake.machine().task(SECOND).registers.set_pc(ADD + 4);
    world.fake.machine().lag.extend([0, 1]);
    world.engine.stop_world().unwrap();
    assert_eq!(world.fake.machine().task(SECOND).pending.len(), 1);
    world.engine.resume_world();
    // It runs into the boundary in the first stop of leaving and is told of it behind the restoration.
    world.react();
    assert_eq!(world.engine.statistics.strays, 2);
    world.fake.machine().task(SECOND).registers.set_pc(ADD + 4);
    world.fake.machine().lag.extend([0, 1]);
    let rsp = world.fake.machine().task(SECOND).registers.sp();
    world.fake.machine().task(SECOND).registers.set_sp(rsp.offset(-16));
    world.engine.leave().unwrap();
    assert!(world.is_text_original());
    assert_eq!(world.engine.statistics.strays, 3);
    assert_eq!(world.pc(SECOND), ADD + 4);
    assert!(world.fake.machine().deliveries.is_empty());
    assert_eq!(world.areas(), 0);
}

#[test]
fn a_thread_inside_the_bytes_is_moved_to_its_copy() {
    let mut world = World::new(1);
    world.run_to(LEADER, ADD + 4);
    world.probe(&[ADD]).unwrap();
    assert!(world.engine.in_area(world.pc(LEADER)));
    assert_eq!(world.leave().left_mapped, 0);
}

#[test]
fn a_thread_in_a_stub_that_goes_is_let_out_before_the_area_is_unmapped() {
    let mut world = World::new(1);
    world.probe(&SITES).unwrap();
    world.run_into(LEADER, ADD, 10);
    world.fake.machine().pace = 5;
    assert_eq!(world.leave().left_mapped, 0);
    let native = world.fake.machine().native.get(&ADD).copied().unwrap_or(0);
    assert_eq!(world.hits(ADD) + native, world.rounds());
}

#[test]
fn an_area_stays_while_a_thread_cannot_leave_it() {
    let mut world = World::new(1);
    world.probe(&[ADD]).unwrap();
    world.run_into(LEADER, ADD, 10);
    let left = world.leave();
    assert!(left.left_mapped > 0);
}

#[test]
fn an_area_stays_while_a_stack_word_points_there() {
    let mut world = World::new(2);
    world.probe(&[ADD]).unwrap();
    let stub = world.engine.patches[&ADD].entry.stub;
    let sp = world.fake.machine().task(SECOND).registers.sp();
    world.fake.machine().space.poke(sp + 64, &(stub + 3).0.to_le_bytes());
    let left = world.leave();
    assert!(left.left_mapped > 0);

    // A later xol finds the area, and nothing in its way any more.
    world.fake.machine().space.poke(sp + 64, &[0; 8]);
    let mut later = World { engine: super::fixture::engine_on(&world.fake), ..world };
    assert_eq!(later.engine.target.seize_new().unwrap(), 2);
    assert_eq!(later.engine.adopt_leftovers().unwrap(), 0);
    assert_eq!(later.leave().left_mapped, 0);
}

#[test]
fn an_area_that_stayed_goes_with_a_later_session() {
    let mut world = World::new(2);
    world.probe(&[ADD]).unwrap();
    let stub = world.engine.patches[&ADD].entry.stub;
    let word = world.fake.machine().task(SECOND).registers.sp() + 64;
    world.fake.machine().space.poke(word, &(stub + 3).0.to_le_bytes());
    let left = world.leave().left_mapped;
    assert!(left > 0);
    // Nothing is probed by the next: the areas of all would be at the same place here.
    for (still_there, expected) in [(true, left), (false, 0)] {
        if !still_there {
            world.fake.machine().space.poke(word, &[0; 8]);
        }
        world = World { engine: super::fixture::engine_on(&world.fake), ..world };
        assert_eq!(world.engine.target.seize_new().unwrap(), 2);
        world.engine.inherit().unwrap();
        assert_eq!(world.leave().left_mapped, expected);
        assert_eq!(world.areas(), expected);
    }
}

#[test]
fn a_trap_that_is_pending_keeps_the_area() {
    let mut world = World::new(1);
    world.probe_by(&[(ADD, Some(Mechanism::Trap))]).unwrap();
    world.run_to(LEADER, ADD);
    world.fake.machine().lag.extend([1]);
    world.fake.machine().pace = 1;
    let left = world.leave();
    assert_eq!(left.left_mapped, 0);
    assert_eq!(world.engine.statistics.traps, 1);
    assert!(world.fake.machine().deliveries.is_empty());
}

#[test]
fn what_the_program_changed_is_reported_and_not_touched() {
    let mut world = World::new(1);
    world.probe(&[ADD, CALL]).unwrap();
    world.fake.machine().space.poke(ADD, &[0xc3]);
    let left = world.engine.leave().unwrap();
    assert_eq!(left.changed, [ADD]);
    assert_eq!((left.restored, left.unmapped), (1, 0));
    assert!(left.undone.is_empty());
    assert_eq!(world.live(ADD, 1), [0xc3]);
    assert_eq!(world.live(CALL, 5), [0xb8, 39, 0, 0, 0]);
}

#[test]
fn a_change_of_changed_bytes_is_refused() {
    let mut world = World::new(1);
    world.fake.machine().space.poke(ADD, &[0xc3]);
    world.probe(&[ADD, CALL]).unwrap_err();
    assert_eq!(world.live(CALL, 5), [0xb8, 39, 0, 0, 0]);
    assert_eq!(world.live(ADD, 1), [0xc3]);
    world.engine.leave().unwrap();
    assert_eq!(world.areas(), 0);
}

/// The program put its own bytes back: nothing is to be restored, but hits were missed.
#[test]
fn what_was_put_back_by_the_program_is_reported() {
    let mut world = World::new(1);
    world.probe(&[ADD, CALL]).unwrap();
    let pristine = world.fake.machine().pristine.clone();
    world.fake.machine().space.poke(TEXT.start, &pristine);
    let wanted = Left { undone: vec![ADD, CALL], verified: true, membarrier: true, ..Left::default() };
    assert_eq!(world.leave(), wanted);
}

#[test]
fn other_text_at_the_same_place_is_not_touched() {
    for maps_again in [true, false] {
        let mut world = World::new(1);
        world.probe(&[ADD]).unwrap();
        {
            let mut machine = world.fake.machine();
            let bytes = machine.space.bytes(&TEXT);
            machine.space.unmap(&TEXT);
            // The same bytes, but another file's: none of our business.
            let mut mapping = text_mapping();
            mapping.inode = 43;
            if maps_again {
                machine.space.map(mapping, bytes);
            }
            machine.task(LEADER).run = Run::Uninterruptible;
        }
        let left = world.engine.leave().unwrap();
        assert_eq!((left.unmapped, left.restored, left.changed.len()), (1, 0, 0));
        if maps_again {
            assert_eq!(world.live(ADD, 1), [0xe9]);
        }
    }
}

#[test]
fn a_forked_child_is_let_go_clean() {
    let mut world = World::new(1);
    world.probe(&SITES).unwrap();
    world.run_to(LEADER, SHORT);
    let child = world.fake.machine().fork(LEADER, crate::seam::Tid(500));
    world.react();
    let mut child = child.borrow_mut();
    assert_eq!(child.space.bytes(&TEXT), child.pristine);
    assert!(!child.space.mappings().iter().any(crate::area::is_ours));
    assert!((0..100).all(|_| child.step(crate::seam::Tid(500))));
    drop(child);
    world.leave();
}
#[test]
fn a_breakpoint_becomes_a_jump_while_its_trap_is_pending() {
    let mut world = World::new(1);
    world.probe_by(&[(ADD, Some(Mechanism::Trap))]).unwrap();
    world.run_to(LEADER, ADD);
    // The thread stands behind the breakpoint, which is also a boundary inside the jump.
    let change = world.front.change(&[(ADD, Some(Mechanism::Jump))], &world.fake.mappings().unwrap());
    if !change.map.is_empty() {
        world.fake.machine().lag.push_back(0);
    }
    world.fake.machine().lag.push_back(1);
    world.engine.change(change).unwrap();
    assert!(world.fake.machine().lag.is_empty());
    world.react();
    assert!(world.fake.machine().deliveries.is_empty(), "{:?}", world.fake.machine().deliveries);
    world.run_to(LEADER, MAIN);
    assert_eq!(world.hits(ADD), 1);
    world.leave();
}

#[test]
fn more_patches_than_can_be_described_are_refused_until_there_is_room() {
    let mut world = World::new(1);
    let mappings = world.fake.mappings().unwrap();
    let mut change = world.front.change(&[(ADD, None), (CALL, None)], &mappings);
    let (at, _) = change.description.unwrap();
    let small = area_of(1);
    change.description = Some((at, small));
    let maps = change.map.clone();
    world.engine.change(change.clone()).unwrap_err();
    assert!(world.is_text_original());

    // The same again with a larger description: the state and the areas are there.
    change.state = None;
    change.map.retain(|place| !maps.contains(place));
    change.description = Some((at + 0x10_0000, area_of(2)));
    world.engine.change(change).unwrap();
    let found = world.engine.leftovers().unwrap();
    let entries: Vec<usize> = found.iter().map(|(_, description)| description.entries.len()).collect();
    assert_eq!(entries, [2], "the small one is not to be found any more");
    assert_eq!(world.leave().left_mapped, 0);
}

/// The length of a description that holds so many entries and no more.
fn area_of(entries: u64) -> u64 {
    let capacity = |len: &u64| crate::area::Description::capacity(*len) as u64;
    (0..).step_by(8).find(|len| capacity(len) == entries).expect("a length")
}

#[test]
fn an_area_of_our_own_in_the_way_stays() {
    let mut world = World::new(1);
    world.probe(&[ADD]).unwrap();
    let (areas, map) = (world.areas(), world.engine.mapped.clone());
    let again = Change { map: map.into_iter().collect(), ..Change::default() };
    let error = world.engine.change(again).unwrap_err();
    assert!(matches!(error, TargetError::Taken { .. }), "{error}");
    assert_eq!(world.areas(), areas);
    world.run_to(LEADER, ADD);
    world.run_to(LEADER, MAIN);
    assert_eq!(world.hits(ADD), 1);
    assert_eq!(world.leave().left_mapped, 0);
}
