//! Every operation on the target fails once: whatever happens, the text is original, or the area's description says how to
//! make it so (invariants 4 and 6).

use insn::Address;

use super::fixture::{ACROSS, ADD, CALL, CROWDED, EVICTED_MOV, SHORT, SITES, World, engine_on, machine};
use crate::engine::Left;
use crate::error::TargetError;
use crate::fake::{Fault, Kind};
use crate::seam::Target;

/// A world before the change that is to fail, and the change.
struct Case {
    name: &'static str,
    before: &'static [Address],
    what: fn(&mut World) -> Outcome,
}

type Outcome = Result<Option<Left>, TargetError>;

const CASES: [Case; 4] = [
    Case { name: "first change", before: &[], what: |world| world.probe(&SITES).map(|_| None) },
    Case { name: "replacing", before: &[ADD, ACROSS, CROWDED], what: |world| replace(world) },
    Case { name: "removing", before: &SITES, what: |world| world.probe(&[CALL]).map(|_| None) },
    Case { name: "leave", before: &SITES, what: |world| world.engine.leave().map(Some) },
];

/// New patches for sites that are patched already, with one that is gone and one that is new; what makes room for an island
/// is probed itself.
fn replace(world: &mut World) -> Outcome {
    world.probe(&[ADD, ADD + 4, ACROSS, ACROSS + 4, SHORT, CROWDED, EVICTED_MOV]).map(|_| None)
}

fn world_before(case: &Case, write_running: bool) -> World {
    let mut machine = machine(3);
    machine.write_running = write_running;
    machine.pace = 1;
    let mut world = World::of(machine);
    if !case.before.is_empty() {
        world.probe(case.before).unwrap();
    }
    // One at rest, one inside a span, one in a stub or about to be.
    world.run_to(super::fixture::SECOND, ADD);
    (0..3).for_each(|_| world.step(super::fixture::SECOND));
    if !case.before.is_empty() {
        world.run_into(super::fixture::LEADER, case.before[case.before.len() - 1], 3);
    }
    world
}

/// The operations that the case takes when nothing fails: the number of the first, and their kinds.
fn operations(case: &Case, write_running: bool) -> (u64, Vec<Kind>) {
    let mut world = world_before(case, write_running);
    let first = std::mem::take(&mut world.fake.machine().kinds).len() as u64;
    (case.what)(&mut world).unwrap();
    let kinds = world.fake.machine().kinds.clone();
    (first, kinds)
}

/// Whether the description accounts for every byte of the text that is not the program's: a xol that knows nothing else
/// takes everything out.
fn check_recovery(world: World, what: &str) {
    world.fake.machine().lose_tracer();
    let mut later = World { engine: engine_on(&world.fake), ..world };
    while later.engine.target.seize_new().unwrap() > 0 {}
    later.engine.adopt_leftovers().unwrap_or_else(|error| panic!("{what}: {error}"));
    later.engine.leave().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(later.is_text_original(), "{what}: not restored");
}

/// Each operation of the kinds at which it may happen goes wrong, once.
fn sweep(fault: Fault, then: fn(World, Outcome, &str)) {
    let matters = |kind: Kind| match fault {
        Fault::Answers(_) => kind == Kind::Call,
        Fault::Silent => kind == Kind::Stop,
        _ => true,
    };
    for case in CASES {
        // Without writes to a running target only the order of the first steps differs.
        let modes = if case.before.is_empty() { &[true, false][..] } else { &[true] };
        for write_running in modes.iter().copied() {
            let (first, kinds) = operations(&case, write_running);
            for number in (0..kinds.len()).filter(|number| matters(kinds[*number])) {
                let what = format!("{}, {fault:?} at operation {number} of {}", case.name, kinds.len());
                let mut world = world_before(&case, write_running);
                world.fake.machine().fault = Some((first + number as u64, fault));
                let outcome = (case.what)(&mut world);
                then(world, outcome, &what);
            }
        }
    }
}

/// Leaving succeeds, if it has not yet, and names what it leaves.
fn check_leaving(mut world: World, outcome: Outcome, what: &str) {
    let left = outcome.ok().flatten().unwrap_or_else(|| {
        world.react();
        world.engine.leave().unwrap_or_else(|error| panic!("{what}: {error}"))
    });
    assert!(left.verified && left.changed.is_empty() && left.undone.is_empty(), "{what}: {left:?}");
    assert!(world.is_text_original(), "{what}");
    assert_eq!(left.left_mapped, world.areas(), "{what}");
    assert!(world.fake.machine().violations.is_empty(), "{what}");
}

#[test]
fn the_tracer_dies_at_every_operation() {
    sweep(Fault::TracerDies, |world, _, what| check_recovery(world, what));
}

#[test]
fn an_operation_fails_and_then_the_tracer_dies() {
    sweep(Fault::Fails, |world, _, what| check_recovery(world, what));
}

#[test]
fn an_operation_fails_and_leaving_succeeds() {
    sweep(Fault::Fails, check_leaving);
}

#[test]
fn an_injected_call_is_refused_and_leaving_succeeds() {
    for number in [libc::ENOMEM, libc::EEXIST] {
        sweep(Fault::Answers(number), check_leaving);
    }
}

#[test]
fn the_target_is_killed_at_every_operation() {
    sweep(Fault::Killed, |mut world, outcome, what| {
        let left = outcome
            .ok()
            .flatten()
            .unwrap_or_else(|| world.engine.leave().unwrap_or_else(|error| panic!("{what}: {error}")));
        assert!(left.verified, "{what}: {left:?}");
        world.react();
        assert!(world.engine.target.tasks().is_empty(), "{what}");
    });
}

/// Text that goes while its probes are taken out needs no restoring, whenever it goes.
#[test]
fn the_text_is_unmapped_at_every_operation_of_leaving() {
    let [.., leave] = &CASES;
    let (first, kinds) = operations(leave, true);
    let mut gone = 0;
    for number in 0..kinds.len() as u64 {
        let mut world = world_before(leave, true);
        world.fake.machine().fault = Some((first + number, Fault::Unmaps));
        let left = (leave.what)(&mut world).unwrap_or_else(|error| panic!("operation {number}: {error}"));
        let left = left.expect("it left");
        assert!(
            left.verified && left.changed.is_empty() && left.undone.is_empty(),
            "operation {number}: {left:?}"
        );
        gone += u32::from(!world.fake.machine().has_text());
    }
    assert!(gone > 0);
}

#[test]
fn a_thread_stops_answering_at_every_operation() {
    sweep(Fault::Silent, |world, outcome, what| {
        if let Err(error) = &outcome {
            assert!(matches!(error, TargetError::DidNotStop { .. }), "{what}: {error}");
        }
        for task in world.fake.machine().tasks.values_mut() {
            task.is_deaf = false;
        }
        check_leaving(world, outcome, what);
    });
}
