//! Stopping the world: threads that are stopped already, that cannot answer, that come and go meanwhile.

use insn::Address;

use super::fixture::{
    ADD, CALL, EXITED, HANDLER, LEADER, MAIN, SECOND, SHORT, SITES, TEXT, World, prepare, queued,
};
use crate::TargetError;
use crate::engine::Notice;
use crate::fake::machine::Run;
use crate::seam::{Event, Target, Tid};

const THIRD: Tid = Tid(102);

#[test]
fn a_process_stopped_by_job_control_stays_stopped() {
    let mut world = World::new(2);
    world.fake.machine().stop_group(libc::SIGTSTP);
    world.react();
    world.probe(&SITES).unwrap();
    world.probe(&[ADD, SHORT]).unwrap();
    assert!(world.fake.machine().violations.is_empty(), "{:?}", world.fake.machine().violations);
    for tid in [LEADER, SECOND] {
        assert!(matches!(world.fake.machine().task(tid).run, Run::Listening), "{tid}");
        assert_eq!(world.pc(tid), MAIN);
    }
    world.fake.machine().continue_group();
    world.react();
    world.run_to(LEADER, SHORT);
    world.fake.machine().stop_group(libc::SIGSTOP);
    world.react();
    let left = world.leave();
    assert_eq!(left.left_mapped, 0);
    assert!(matches!(world.fake.machine().task(SECOND).run, Run::Listening));
}

#[test]
fn a_process_that_goes_on_just_as_it_is_stopped_goes_on() {
    let mut world = World::new(2);
    world.probe(&[ADD]).unwrap();
    world.fake.machine().stop_group(libc::SIGTSTP);
    world.react();
    world.fake.machine().continue_group();
    world.probe(&[ADD, SHORT]).unwrap();
    world.run_to(SECOND, SHORT);
    world.leave();
}

#[test]
fn a_thread_that_stood_already_when_it_was_asked_to_stop_runs_on_between_stops() {
    let mut world = World::new(2);
    world.fake.machine().actions.insert(libc::SIGUSR1, [HANDLER, 0, 0, 0]);
    world.fake.machine().pace = 3;
    world.probe(&[ADD]).unwrap();
    world.run_into(SECOND, ADD, 12);
    world.fake.machine().send(SECOND, queued(libc::SIGUSR1, 1));
    assert_eq!(world.leave().left_mapped, 0);
    assert!(TEXT.contains(&world.fake.machine().deliveries[0].pc));
}

#[test]
fn a_thread_that_sleeps_in_the_kernel_outside_every_span_is_no_obstacle() {
    let mut world = World::new(2);
    world.probe(&[ADD]).unwrap();
    world.fake.machine().task(SECOND).run = Run::Uninterruptible;
    world.probe(&[ADD, SHORT]).unwrap();
    // It wakes with the interrupt pending, and goes on.
    world.fake.machine().wake(SECOND);
    world.react();
    world.run_to(SECOND, SHORT);
    world.leave();
}

#[test]
fn a_thread_that_sleeps_in_the_kernel_inside_a_live_patch_is_waited_for() {
    let mut world = World::new(2);
    world.probe(&[ADD]).unwrap();
    world.put(SECOND, ADD + 1);
    world.fake.machine().task(SECOND).run = Run::Uninterruptible;
    let error = world.probe(&[ADD, SHORT]).unwrap_err();
    assert!(matches!(error, TargetError::DidNotStop { tid: SECOND, state: 'D', .. }), "{error}");
    assert_eq!(world.live(SHORT, 4), [0x49, 0xff, 0xc5, 0xc3]);
}

#[test]
fn a_thread_that_sleeps_in_the_kernel_inside_a_span_to_come_is_a_stray_when_it_wakes() {
    let mut world = World::new(2);
    world.run_to(SECOND, ADD + 4);
    world.fake.machine().task(SECOND).run = Run::Uninterruptible;
    world.probe(&[ADD]).unwrap();
    assert_eq!(world.pc(SECOND), ADD + 4);
    world.fake.machine().wake(SECOND);
    world.react();
    world.run_to(SECOND, MAIN);
    assert_eq!(world.engine.statistics.strays, 1);
    world.leave();
}

#[test]
fn a_thread_made_while_the_world_stops_is_stopped_too() {
    for is_seen in [true, false] {
        let mut world = World::new(1);
        {
            let mut machine = world.fake.machine();
            let mut registers = prepare(&mut machine, SECOND);
            registers.set_pc(ADD + 1);
            let sp = registers.sp().offset(-16);
            registers.set_sp(sp);
            machine.space.poke(sp + 8, &(MAIN + 5).0.to_le_bytes());
            if is_seen {
                machine.make_thread(LEADER, SECOND, registers);
                // Not reported yet: the stop for it comes first.
                let event = match machine.task(LEADER).run {
                    Run::Reported(event) => event,
                    other => panic!("{other:?}"),
                };
                machine.task(LEADER).run = Run::Running;
                machine.task(LEADER).script.push_front(event);
            } else {
                machine.start(SECOND, registers, false);
            }
        }
        world.probe(&[ADD]).unwrap();
        assert_eq!(world.engine.target.tasks(), [LEADER, SECOND]);
        world.react();
        assert!(world.engine.in_area(world.pc(SECOND)), "{}", world.pc(SECOND));
        assert_eq!(world.engine.statistics.strays, 0);
        world.leave();
    }
}

/// Whether what counts at `site` locks: what of its stub differs is as for programs of several threads.
fn locks(world: &World, site: Address) -> bool {
    let stub = &world.engine.stubs[&world.engine.patches[&site].entry.stub];
    let bodies: Vec<_> = stub.shared_bodies().collect();
    assert!(!bodies.is_empty());
    bodies.into_iter().all(|(at, shared)| world.live(at, shared.len() as u64) == shared)
}

/// One after the other in the middle of the same addition, and both to their main loop.
fn run_both(world: &mut World) {
    for _ in 0..300 {
        world.step(LEADER);
        world.step(SECOND);
    }
    world.run_to(LEADER, MAIN);
    world.run_to(SECOND, MAIN);
}

#[test]
fn nothing_is_locked_until_there_is_a_second_thread() {
    let mut world = World::new(1);
    world.probe(&[ADD]).unwrap();
    assert!(!locks(&world, ADD));
    world.run_to(LEADER, MAIN);
    world.step(LEADER);
    world.run_to(LEADER, MAIN);
    assert_eq!(world.hits(ADD), world.rounds());

    let registers = prepare(&mut world.fake.machine(), SECOND);
    world.fake.machine().make_thread(LEADER, SECOND, registers);
    world.react();
    assert!(locks(&world, ADD));
    world.probe(&[ADD, SHORT]).unwrap();
    assert!(locks(&world, SHORT));
    run_both(&mut world);
    assert_eq!(world.hits(ADD), world.rounds());
    world.leave();
}

/// The kernel tells of the second thread's first stop before it tells of who made it.
#[test]
fn a_second_thread_runs_no_body_that_is_rewritten_then() {
    let mut world = World::new(1);
    world.probe(&[ADD]).unwrap();
    let registers = prepare(&mut world.fake.machine(), SECOND);
    world.fake.machine().make_thread(LEADER, SECOND, registers);
    assert!(world.engine.target.adopt(SECOND).is_none());
    let now = world.fake.now();
    let first = world.engine.target.wait(SECOND, now).unwrap().expect("its first stop");
    world.engine.react(SECOND, first).unwrap();
    assert!(locks(&world, ADD));
    world.react();
    world.leave();
}

/// Steps a task into what counts at `site`, so many instructions behind its beginning.
fn run_into_body(world: &mut World, tid: Tid, site: Address, instructions: usize) {
    world.run_into(tid, site, 0);
    (0..instructions).for_each(|_| world.step(tid));
}

/// The kernel hides a task made with CLONE_UNTRACED: it runs before we know, and may be in the middle of a body, as its maker.
#[test]
fn a_task_that_nobody_reported_counts_exactly_from_the_next_stop_on() {
    let steps = [(0, 0), (1, 0), (3, 0), (0, 4), (4, 3), (5, 6), (2, 7)];
    for (site, (leader, hidden)) in [ADD, SHORT].into_iter().flat_map(|site| steps.map(|steps| (site, steps)))
    {
        let mut world = World::new(1);
        world.fake.machine().pace = 2;
        world.probe(&[site]).unwrap();
        let registers = prepare(&mut world.fake.machine(), SECOND);
        world.fake.machine().start(SECOND, registers, false);
        run_into_body(&mut world, LEADER, site, leader);
        run_into_body(&mut world, SECOND, site, hidden);
        assert!(!locks(&world, site));
        world.probe(&[site, CALL]).unwrap();
        assert!(locks(&world, site) && locks(&world, CALL), "{site} {leader} {hidden}");
        let warned =
            |notice: &Notice| matches!(notice, Notice::Warning(text) if text.contains("was not told of"));
        assert!(world.engine.notices.iter().any(warned), "{site} {leader} {hidden}");
        world.run_to(LEADER, MAIN);
        world.run_to(SECOND, MAIN);
        let before = world.rounds() - world.hits(site);
        run_both(&mut world);
        assert_eq!(world.rounds() - world.hits(site), before, "{site} {leader} {hidden}");
        world.leave();
    }
}

#[test]
fn a_body_in_which_job_control_has_stopped_a_task_is_rewritten_at_a_later_stop() {
    let mut world = World::new(1);
    world.probe(&[ADD]).unwrap();
    let registers = prepare(&mut world.fake.machine(), SECOND);
    world.fake.machine().start(SECOND, registers, false);
    run_into_body(&mut world, LEADER, ADD, 1);
    world.fake.machine().stop_group(libc::SIGTSTP);
    world.react();
    world.probe(&[ADD, SHORT]).unwrap();
    assert!(!locks(&world, ADD));
    world.fake.machine().continue_group();
    world.react();
    world.run_to(LEADER, MAIN);
    world.probe(&[ADD, SHORT, CALL]).unwrap();
    assert!([ADD, SHORT, CALL].into_iter().all(|site| locks(&world, site)));
    world.leave();
}

#[test]
fn a_vfork_child_ends_it_before_it_runs() {
    let mut world = World::new(1);
    world.probe(&[ADD]).unwrap();
    let registers = prepare(&mut world.fake.machine(), SECOND);
    world.fake.machine().make_thread(LEADER, SECOND, registers);
    {
        let mut machine = world.fake.machine();
        machine.task(SECOND).is_guest = true;
        machine.task(LEADER).run = Run::Reported(Event::Vfork(SECOND));
    }
    let now = world.fake.now();
    let event = world.engine.target.wait(LEADER, now).unwrap().expect("its maker's event");
    world.engine.react(LEADER, event).unwrap();
    assert!(locks(&world, ADD));
    world.react();
    world.leave();
}

#[test]
fn two_threads_lock_from_the_beginning() {
    let mut world = World::new(2);
    world.probe(&[ADD]).unwrap();
    assert!(locks(&world, ADD));
    world.leave();
}

#[test]
fn threads_end_before_during_and_after_a_stop() {
    let mut world = World::new(3);
    world.probe(&[ADD]).unwrap();
    world.fake.machine().end(SECOND, EXITED);
    world.probe(&[ADD, SHORT]).unwrap();
    assert_eq!(world.engine.target.tasks(), [LEADER, THIRD]);
    world.run_into(THIRD, ADD, 12);
    world.fake.machine().actions.insert(libc::SIGUSR1, [HANDLER, 0, 0, 0]);
    world.send(THIRD, libc::SIGUSR1);
    assert!(!world.engine.draining.is_empty());
    // It dies on its way out: nobody waits for it at the exits any more.
    world.fake.machine().end(THIRD, EXITED);
    world.react();
    assert!(world.engine.draining.is_empty());
    let stub = world.engine.patches[&ADD].entry.stub;
    let bytes = world.engine.stubs[&stub].bytes.clone();
    assert_eq!(world.live(stub, bytes.len() as u64), bytes);
    assert_eq!(world.leave().left_mapped, 0);
    world.fake.machine().end(LEADER, EXITED);
}

#[test]
fn a_dead_leader_does_not_hold_up_the_others() {
    let mut world = World::new(2);
    world.fake.machine().task(LEADER).run = Run::Zombie;
    world.probe(&SITES).unwrap();
    world.run_to(SECOND, SHORT);
    let left = world.leave();
    assert_eq!(left.left_mapped, 0);
}

#[test]
fn nothing_is_left_to_do_behind_the_last_thread() {
    let mut world = World::new(2);
    world.probe(&[ADD]).unwrap();
    world.fake.machine().end(SECOND, EXITED);
    world.react();
    assert_eq!(world.engine.target.tasks(), [LEADER]);
    world.fake.machine().end(LEADER, Event::Exited(3));
    world.react();
    assert!(world.engine.target.tasks().is_empty());
    assert!(world.engine.leave().unwrap().verified);
}

#[test]
fn a_new_program_has_no_probes_and_can_get_some() {
    let mut world = World::new(1);
    world.probe(&[ADD]).unwrap();
    world.fake.machine().task(LEADER).script.push_back(Event::Exec(LEADER));
    world.fake.machine().step(LEADER);
    world.react();
    assert!(world.engine.target.tasks().is_empty());
    let born = world.engine.born.pop_front().unwrap();
    assert!(!born.forked && born.engine.is_held(LEADER));
    let fake = born.engine.target.clone();
    let mut new = World { engine: *born.engine, fake, front: World::new(1).front };
    assert!(new.is_text_original());
    new.probe(&SITES).unwrap();
    new.engine.go(LEADER);
    new.run_to(LEADER, SHORT);
    new.leave();
}
