//! The program's signals: held back while their thread is in a stub, and never changed by our traps.

use insn::Address;
use insn::plan::Mechanism;

use super::fixture::{
    ADD, ADD_RET, CALL, HANDLER, LEADER, MAIN, SECOND, SHORT, SITES, SYSCALL, World, queued,
};
use crate::engine::dispositions::bit;
use crate::fake::cpu::slot;
use crate::seam::Tid;

const SIG_IGN: u64 = 1;

/// A world whose program handles (or ignores) a signal.
fn world_with(signal: i32, handler: u64, flags: u64) -> World {
    let world = World::new(2);
    world.fake.machine().actions.insert(signal, [handler, flags, 0x77, 0x88]);
    world
}

fn action(world: &World, signal: i32) -> [u64; 4] {
    world.fake.machine().actions.get(&signal).copied().unwrap_or_default()
}

/// The only signal that the program got: its value and the PC in its frame.
fn delivered(world: &World) -> (Tid, i32, u64, Address) {
    let machine = world.fake.machine();
    let [one] = machine.deliveries[..] else { panic!("{:?}", machine.deliveries) };
    (one.tid, one.info.signal(), one.info.address(), one.pc)
}

#[test]
fn a_trap_costs_no_blocked_signal_its_handler() {
    for (mechanism, signal) in [(Mechanism::Trap, libc::SIGTRAP), (Mechanism::Jump, libc::SIGILL)] {
        let mut world = world_with(signal, HANDLER, 0x1400_0000);
        world.fake.machine().task(LEADER).mask = bit(signal) | bit(libc::SIGUSR1);
        world.probe_by(&[(ADD, Some(mechanism))]).unwrap();
        let before = action(&world, signal);
        match mechanism {
            Mechanism::Trap => world.run_to(LEADER, ADD),
            _ => world.put(LEADER, ADD + 4),
        }
        world.step(LEADER);
        assert!(world.engine.in_area(world.pc(LEADER)));
        assert_eq!(action(&world, signal), before);
        assert_eq!(world.fake.machine().task(LEADER).mask, bit(signal) | bit(libc::SIGUSR1));
        assert!(world.fake.machine().deliveries.is_empty());
    }
}

#[test]
fn a_trap_costs_no_signal_that_is_ignored_or_only_blocked() {
    for (handler, mask) in [(SIG_IGN, 0), (SIG_IGN, bit(libc::SIGTRAP)), (0, bit(libc::SIGTRAP))] {
        let mut world = world_with(libc::SIGTRAP, handler, 0);
        world.fake.machine().task(LEADER).mask = mask;
        world.probe_by(&[(ADD, Some(Mechanism::Trap))]).unwrap();
        world.run_to(LEADER, ADD);
        world.step(LEADER);
        assert_eq!(action(&world, libc::SIGTRAP)[0], handler);
        assert_eq!(world.fake.machine().task(LEADER).mask, mask);
    }
}

#[test]
fn two_threads_meet_a_trap_while_the_handler_is_lost() {
    let mut world = world_with(libc::SIGTRAP, HANDLER, 0);
    for tid in [LEADER, SECOND] {
        world.fake.machine().task(tid).mask = bit(libc::SIGTRAP);
    }
    world.probe_by(&[(ADD, Some(Mechanism::Trap))]).unwrap();
    for tid in [LEADER, SECOND] {
        world.run_to(tid, ADD);
    }
    // Both trap before the tracer looks at either.
    for tid in [LEADER, SECOND] {
        world.fake.machine().step(tid);
    }
    world.react();
    assert_eq!(action(&world, libc::SIGTRAP)[0], HANDLER);
    for tid in [LEADER, SECOND] {
        assert_eq!(world.fake.machine().task(tid).mask, bit(libc::SIGTRAP), "{tid}");
    }
}

#[test]
fn the_programs_own_illegal_instruction_signal_is_queued_again() {
    let mut world = world_with(libc::SIGILL, HANDLER, 0);
    world.probe(&[ADD]).unwrap();
    world.fake.machine().task(LEADER).mask = bit(libc::SIGILL);
    world.probe(&[ADD, SHORT]).unwrap(); // a stop that sees the mask
    world.fake.machine().send(LEADER, queued(libc::SIGILL, 0xbeef));
    world.put(LEADER, ADD + 1);
    // The fault is dropped, since the signal is pending already: its siginfo is the queued one.
    world.step(LEADER);
    assert!(world.engine.in_area(world.pc(LEADER)));
    assert_eq!(action(&world, libc::SIGILL)[0], HANDLER);
    let mut machine = world.fake.machine();
    assert_eq!(machine.task(LEADER).mask, bit(libc::SIGILL));
    let pending = machine.task(LEADER).pending.clone();
    assert_eq!(pending.iter().map(|info| (info.signal(), info.address())).collect::<Vec<_>>(), [(4, 0xbeef)]);
    assert!(machine.deliveries.is_empty());
}

#[test]
fn a_signal_in_a_stub_is_delivered_behind_it_with_the_programs_pc() {
    for site in SITES {
        for offset in 0..60 {
            let mut world = world_with(libc::SIGUSR1, HANDLER, 0);
            world.probe(&SITES).unwrap();
            let stub = world.engine.patches[&site].entry.stub;
            if offset >= world.engine.stubs[&stub].bytes.len() as u64 - 5 {
                continue;
            }
            world.run_into(LEADER, site, offset);
            let mask = bit(libc::SIGWINCH);
            world.fake.machine().task(LEADER).mask = mask;
            world.send(LEADER, libc::SIGUSR1);
            for _ in 0..100 {
                world.step(LEADER);
            }
            let (tid, signal, value, pc) = delivered(&world);
            assert_eq!((tid, signal, value), (LEADER, libc::SIGUSR1, 0x1234));
            assert!(super::fixture::TEXT.contains(&pc), "{site}+{offset}: {pc}");
            assert_eq!(world.fake.machine().deliveries[0].mask, mask, "{site}+{offset}");
            assert_eq!(world.fake.machine().task(LEADER).mask, mask, "{site}+{offset}");
            world.fake.machine().pace = 1;
            assert_eq!(world.leave().left_mapped, 0);
            let native = world.fake.machine().native.get(&site).copied().unwrap_or(0);
            assert_eq!(world.hits(site) + native, world.rounds(), "{site}+{offset}");
        }
    }
}

/// Put back to its breakpoint, a thread with signals enough would trap for ever.
#[test]
fn a_signal_behind_a_breakpoint_does_not_bring_its_thread_back_there() {
    let mut world = world_with(libc::SIGUSR1, HANDLER, 0);
    world.probe_by(&[(SHORT, Some(Mechanism::Trap))]).unwrap();
    world.run_to(LEADER, SHORT);
    world.step(LEADER);
    assert!(world.engine.in_area(world.pc(LEADER)), "at the entry of the stub");
    world.send(LEADER, libc::SIGUSR1);
    assert!(world.fake.machine().deliveries.is_empty());
    for _ in 0..100 {
        world.step(LEADER);
    }
    let (.., pc) = delivered(&world);
    assert!(super::fixture::TEXT.contains(&pc) && pc != SHORT, "{pc}");
    world.fake.machine().pace = 1;
    assert_eq!(world.leave().left_mapped, 0);
}

/// A process may send SIGSEGV too, which is let through on the way out: it comes behind the first, and neither is lost.
#[test]
fn a_second_signal_on_the_way_out_waits_with_the_first() {
    let mut world = world_with(libc::SIGUSR1, HANDLER, 0);
    world.fake.machine().actions.insert(libc::SIGSEGV, [HANDLER, 0, 0x77, 0x88]);
    let mask = bit(libc::SIGWINCH);
    world.probe(&[ADD]).unwrap();
    world.run_into(LEADER, ADD, 12);
    world.fake.machine().task(LEADER).mask = mask;
    world.send(LEADER, libc::SIGUSR1);
    world.send(LEADER, libc::SIGSEGV);
    assert!(world.fake.machine().deliveries.is_empty());
    for _ in 0..100 {
        world.step(LEADER);
    }
    let machine = world.fake.machine();
    let signals: Vec<i32> = machine.deliveries.iter().map(|one| one.info.signal()).collect();
    assert_eq!(signals.len(), 2, "{signals:?}");
    assert!(signals.contains(&libc::SIGUSR1) && signals.contains(&libc::SIGSEGV), "{signals:?}");
    assert!(machine.deliveries.iter().all(|one| super::fixture::TEXT.contains(&one.pc)));
    drop(machine);
    assert_eq!(world.fake.machine().task(LEADER).mask, mask);
}

#[test]
fn a_signal_held_back_arrives_although_the_probes_go() {
    for offset in 1..40 {
        let mut world = world_with(libc::SIGUSR1, HANDLER, 0);
        world.probe(&[ADD]).unwrap();
        world.run_into(LEADER, ADD, offset);
        // Reported, but not seen by the tracer before it leaves.
        world.fake.machine().send(LEADER, queued(libc::SIGUSR1, 0x1234));
        world.fake.machine().pace = 1;
        assert_eq!(world.leave().left_mapped, 0, "{offset}");
        let (tid, signal, value, pc) = delivered(&world);
        assert_eq!((tid, signal, value), (LEADER, libc::SIGUSR1, 0x1234));
        assert!(super::fixture::TEXT.contains(&pc), "{offset}: {pc}");
    }
}

#[test]
fn a_signal_held_back_moves_with_its_thread_into_another_stub() {
    let mut world = world_with(libc::SIGUSR1, HANDLER, 0);
    world.probe(&[ADD]).unwrap();
    world.run_into(LEADER, ADD, 12);
    world.send(LEADER, libc::SIGUSR1);
    let stub = world.engine.patches[&ADD].entry.stub;
    let entry = world.engine.entry_in(stub, ADD + 1).unwrap();
    world.run_to(LEADER, entry);
    // Another probe in the span: a new stub, to which the thread is moved.
    world.probe(&[ADD, ADD + 4]).unwrap();
    world.react();
    world.run_to(LEADER, MAIN);
    assert_eq!(delivered(&world).1, libc::SIGUSR1);
    assert_eq!(world.fake.machine().task(LEADER).mask, 0);
    assert_eq!(world.leave().left_mapped, 0);
}

#[test]
fn a_thread_that_passes_the_armed_exits_of_another_goes_on() {
    let mut world = world_with(libc::SIGUSR1, HANDLER, 0);
    world.probe(&[ADD]).unwrap();
    world.run_into(LEADER, ADD, 12);
    world.send(LEADER, libc::SIGUSR1);
    world.run_to(SECOND, ADD);
    world.run_to(SECOND, MAIN);
    assert!(world.fake.machine().deliveries.is_empty());
    world.run_to(LEADER, MAIN);
    assert_eq!(delivered(&world).0, LEADER);
    assert_eq!(world.leave().left_mapped, 0);
}

#[test]
fn the_mask_a_thread_has_on_its_way_out_is_not_taken_for_its_own() {
    let mut world = world_with(libc::SIGUSR1, HANDLER, 0);
    world.fake.machine().task(LEADER).mask = bit(libc::SIGTRAP);
    world.probe_by(&[(ADD, None), (SHORT, Some(Mechanism::Trap))]).unwrap();
    world.run_into(LEADER, ADD, 12);
    world.send(LEADER, libc::SIGUSR1);
    // A stop of the world while the signal is held back.
    world.engine.stop_world().unwrap();
    world.engine.snapshot_dispositions().unwrap();
    world.engine.resume_world();
    world.run_to(LEADER, SHORT);
    world.step(LEADER);
    assert_eq!(world.fake.machine().task(LEADER).mask, bit(libc::SIGTRAP));
}

#[test]
fn a_signal_in_a_displaced_system_call_is_delivered_at_once() {
    const SA_RESTART: u64 = 0x1000_0000;
    for mechanism in [Mechanism::Trap, Mechanism::Jump] {
        for (flags, pc, rax) in [(0, SYSCALL + 2, -4_i64), (SA_RESTART, SYSCALL, 39)] {
            let mut world = world_with(libc::SIGUSR1, HANDLER, flags);
            world.probe_by(&[(SYSCALL, Some(mechanism))]).unwrap();
            world.run_to(LEADER, CALL);
            world.fake.machine().calls_sleep = true;
            for _ in 0..60 {
                world.step(LEADER);
            }
            assert!(world.engine.in_area(world.pc(LEADER)));
            world.fake.machine().task(LEADER).registers.set(slot(iced_x86::Register::RDX), 5);
            world.send(LEADER, libc::SIGUSR1);
            assert_eq!(delivered(&world), (LEADER, libc::SIGUSR1, 0x1234, pc));
            let registers = world.fake.machine().task(LEADER).registers.clone();
            assert_eq!(registers.get(slot(iced_x86::Register::RAX)).cast_signed(), rax);
            assert_eq!(registers.get(slot(iced_x86::Register::RCX)), (SYSCALL + 2).0);
            assert_eq!(registers.get(slot(iced_x86::Register::RDX)), 5);
            world.fake.machine().pace = 1;
            assert_eq!(world.leave().left_mapped, 0);
        }
    }
}

#[test]
fn a_thread_asleep_in_a_displaced_system_call_is_put_back_on_leaving() {
    for mechanism in [Mechanism::Trap, Mechanism::Jump] {
        let mut world = World::new(1);
        world.probe_by(&[(SYSCALL, Some(mechanism))]).unwrap();
        world.run_to(LEADER, CALL);
        world.fake.machine().calls_sleep = true;
        (0..60).for_each(|_| world.step(LEADER));
        assert!(world.engine.in_area(world.pc(LEADER)));
        // Restarted after each stop, it is soon asleep again.
        world.fake.machine().pace = 1;
        let left = world.engine.leave().unwrap();
        assert!(left.verified && left.left_mapped == 0, "{left:?}");
        // It is asleep in the same call, at its own place.
        world.fake.machine().step(LEADER);
        assert_eq!(world.pc(LEADER), SYSCALL + 2);
        world.check_program();
    }
}

#[test]
fn a_fault_of_the_displaced_instruction_is_the_programs_own() {
    let mut world = world_with(libc::SIGSEGV, HANDLER, 0);
    world.probe(&[ADD]).unwrap();
    world.run_to(LEADER, ADD);
    world.step(LEADER);
    let stub = world.engine.patches[&ADD].entry.stub;
    let push = world.engine.stubs[&stub].points[0].offset;
    world.run_into(LEADER, ADD, u64::from(push));
    world.fake.machine().task(LEADER).registers.set_sp(Address(0x10));
    world.step(LEADER);
    let machine = world.fake.machine();
    assert_eq!((machine.deliveries[0].pc, machine.deliveries[0].sp), (ADD, Address(0x10)));
    assert_eq!(machine.deliveries[0].info.address(), 8);
}

#[test]
fn a_fault_before_the_site_of_an_earlier_jump_does_not_count_it() {
    let mut world = world_with(libc::SIGSEGV, HANDLER, 0);
    world.probe(&[ADD_RET]).unwrap();
    world.run_to(LEADER, ADD + 4);
    let stub = world.engine.patches[&(ADD + 4)].entry.stub;
    let pop = world.engine.entry_in(stub, ADD + 8).unwrap();
    world.run_to(LEADER, pop);
    world.fake.machine().task(LEADER).registers.set_sp(Address(0x10));
    world.step(LEADER);
    let machine = world.fake.machine();
    assert_eq!((machine.deliveries[0].pc, machine.deliveries[0].sp), (ADD + 8, Address(0x10)));
    drop(machine);
    assert_eq!(world.hits(ADD_RET), 0);
}

#[test]
fn a_signal_between_an_earlier_start_and_the_site_counts_it_once() {
    for offset in 0..40 {
        let mut world = world_with(libc::SIGUSR1, HANDLER, 0);
        world.probe(&[ADD_RET]).unwrap();
        world.run_into(LEADER, ADD + 4, offset);
        world.send(LEADER, libc::SIGUSR1);
        (0..100).for_each(|_| world.step(LEADER));
        let (.., pc) = delivered(&world);
        // Put back to the start, or on to where the `ret` goes.
        assert!([ADD + 4, MAIN + 5].contains(&pc), "{pc}");
        world.run_to(LEADER, MAIN);
        assert_eq!(world.hits(ADD_RET), world.rounds(), "{pc}");
    }
}
