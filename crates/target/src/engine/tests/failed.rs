//! A change that fails gives its room away: whoever planned it puts other code there.

use insn::plan::Mechanism;

use super::fixture::{ACROSS, ADD, CALL, CROWDED, ISLE, LEADER, MAIN, PUN, SECOND, SHORT, Wanted, World};
use crate::engine::Change;
use crate::error::TargetError;
use crate::fake::Fault;
use crate::seam::Target;

const TRAP: Option<Mechanism> = Some(Mechanism::Trap);

/// A world with an area that has room, and a change that fails in it because the program changed its own bytes.
fn world_with_failed_change(wanted: &[Wanted]) -> World {
    let mut world = World::new(1);
    world.probe_by(&[(SHORT, TRAP)]).unwrap();
    let front = world.front.clone();
    let (at, _) = wanted[wanted.len() - 1];
    let own = world.live(at, 1);
    world.fake.machine().space.poke(at, &[0xcc]);
    let all: Vec<Wanted> = [(SHORT, TRAP)].into_iter().chain(wanted.iter().copied()).collect();
    let error = world.probe_by(&all).unwrap_err();
    assert!(matches!(error, TargetError::Changed { .. }), "{error}");
    world.fake.machine().space.poke(at, &own);
    world.front = front;
    world
}

#[test]
fn code_of_a_failed_change_is_forgotten() {
    let mut world = world_with_failed_change(&[(ADD, TRAP), (ACROSS, TRAP), (CALL, TRAP)]);
    let before: Vec<_> = world.engine.stubs.keys().copied().collect();
    assert_eq!(before, [world.engine.patches[&SHORT].entry.stub]);
    // Others in the same room, of other lengths.
    world.probe_by(&[(SHORT, TRAP), (PUN, TRAP), (CROWDED, TRAP), (ISLE, TRAP)]).unwrap();
    for site in [PUN, CROWDED, ISLE] {
        let stub = world.engine.patches[&site].entry.stub;
        let len = world.engine.stubs[&stub].bytes.len() as u64;
        assert!((0..len).all(|offset| world.engine.stub_at(stub + offset).unwrap().0.at == stub), "{site}");
        // A signal at each place of the stub waits at its own exits.
        let code = world.live(stub, len);
        for offset in 0..len {
            world.run_into(LEADER, site, 0);
            while world.pc(LEADER) < stub + offset && (stub..stub + len).contains(&world.pc(LEADER)) {
                world.step(LEADER);
            }
            world.send(LEADER, libc::SIGWINCH);
            world.run_to(LEADER, MAIN);
            assert_eq!(world.live(stub, len), code, "{site}, offset {offset}");
        }
    }
    world.leave();
}

#[test]
fn code_is_not_written_over_code_of_ours() {
    let mut world = World::new(1);
    world.probe_by(&[(ADD, TRAP)]).unwrap();
    let stub = world.engine.patches[&ADD].entry.stub;
    let mut over = world.engine.stubs[&stub].clone();
    over.at = stub + 1;
    let error = world.engine.change(Change { stubs: vec![over], ..Change::default() }).unwrap_err();
    assert!(matches!(error, TargetError::Taken { .. }), "{error}");
    world.leave();
}

/// Whoever was moved into a stub, by a change that then failed at any operation, is not there any more when other code comes.
#[test]
fn nobody_stays_in_the_code_of_a_failed_change() {
    let mut failed = 0;
    for number in 0.. {
        let mut world = World::new(2);
        world.probe(&[ADD]).unwrap();
        world.probe(&[]).unwrap();
        world.run_to(LEADER, ADD + 1);
        let front = world.front.clone();
        let first = world.fake.machine().operations;
        world.fake.machine().fault = Some((first + number, Fault::Fails));
        let outcome = world.probe(&[ADD]);
        if world.fake.machine().fault.take().is_some() {
            break; // there are no more operations
        }
        if outcome.is_err() {
            failed += 1;
            world.front = front;
        }
        world.react();
        for tid in world.engine.target.tasks() {
            let pc = world.pc(tid);
            assert_eq!(
                world.engine.in_area(pc),
                world.engine.stub_at(pc).is_some(),
                "operation {number}: {pc}"
            );
        }
        // In the same room, with more in it.
        let again = world.probe(&[ADD, ADD + 4]);
        let is_refused = matches!(again, Err(TargetError::Taken { .. } | TargetError::Gone { .. }));
        assert!(again.is_ok() || is_refused, "operation {number}: {again:?}");
        for _ in 0..300 {
            for tid in [LEADER, SECOND] {
                if world.fake.machine().tasks.contains_key(&tid) {
                    world.step(tid);
                }
            }
        }
        assert!(world.fake.machine().deliveries.is_empty(), "operation {number}");
        world.leave();
    }
    assert!(failed > 10);
}
