//! Whatever happens in whatever order, the program computes what it would have, and every execution of a site's instruction
//! is counted once: by its counter, or by the fake's processor where the instruction is the program's own.

use std::collections::BTreeSet;

use insn::Address;
use insn::plan::Mechanism;
use proptest::prelude::*;

use super::fixture::{
    ACROSS, ACROSS_RET, ADD, ADD_RET, BEHIND_PUN, CALL, CROWDED, EVICTED, EVICTED_MOV, EXITED, HANDLER, ISLE,
    LEADER, MAIN, PUN, SHORT, SYSCALL, TEXT, Wanted, World, prepare,
};
use crate::engine::tests::fixture::queued;
use crate::fake::machine::Run;
use crate::seam::{Target, Tid};

/// Covered by a jump at ADD.
const INNER: Address = Address(ADD.0 + 4);
/// Sites that may be asked for together: each with a counter of its own. One has room for a pun only, one for a short jump to an
/// island, and of those behind it only one has room for a jump of its own. One needs a neighbour that makes room, which is
/// the two at the end.
const CHOICES: [Address; 14] = [
    ADD,
    CALL,
    SHORT,
    ACROSS,
    PUN,
    ISLE,
    INNER,
    SYSCALL,
    ADD_RET,
    ACROSS_RET,
    BEHIND_PUN,
    CROWDED,
    EVICTED,
    EVICTED_MOV,
];

#[derive(Clone, Debug)]
enum Step {
    /// A task runs some instructions.
    Run(u8, u8),
    /// These sites are probed, those of the second set by breakpoints.
    Change(u16, u16),
    /// A signal for a task.
    Signal(u8),
    /// A task makes another one.
    Clone(u8),
    /// A task ends where it stands.
    Exit(u8),
    /// The process is stopped by job control, and goes on later.
    Stop,
    /// Tasks run on for so long in the next stops before they notice.
    Lag(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<u8>(), 1..60_u8).prop_map(|(task, count)| Step::Run(task, count)),
        3 => any::<(u16, u16)>().prop_map(|(sites, traps)| Step::Change(sites, traps)),
        2 => any::<u8>().prop_map(Step::Signal),
        1 => any::<u8>().prop_map(Step::Clone),
        1 => any::<u8>().prop_map(Step::Exit),
        1 => Just(Step::Stop),
        3 => (0..30_u8).prop_map(Step::Lag),
    ]
}

/// The tasks that live.
fn living(world: &World) -> Vec<Tid> {
    world.engine.target.tasks()
}

/// Takes a step. `unwatched` gets the sites that run in another's stub without being probed themselves: nobody counts
/// them there.
fn take(world: &mut World, step: &Step, next: &mut i32, ended: &mut u64, unwatched: &mut BTreeSet<Address>) {
    let tasks = living(world);
    assert!(!tasks.is_empty(), "{:?}", world.fake.machine().deliveries.last());
    let of = |number: u8| tasks[usize::from(number) % tasks.len()];
    match step {
        Step::Run(number, count) => (0..*count).for_each(|_| world.step(of(*number))),
        Step::Change(sites, traps) => {
            let chosen = (0..CHOICES.len()).filter(|bit| sites >> bit & 1 == 1);
            let force = |bit: usize| (traps >> bit & 1 == 1).then_some(Mechanism::Trap);
            let wanted: Vec<Wanted> = chosen.map(|bit| (CHOICES[bit], force(bit))).collect();
            world.probe_by(&wanted).unwrap();
            unwatched.extend(world.front.displaced().filter(|at| !wanted.iter().any(|(site, _)| site == at)));
        }
        Step::Signal(number) => world.fake.machine().send(of(*number), queued(libc::SIGUSR1, 0x1234)),
        // Nobody is within a body of ours while it makes a system call.
        Step::Clone(number) if tasks.len() < 6 && TEXT.contains(&world.pc(of(*number))) => {
            let (maker, child) = (of(*number), Tid(*next));
            *next += 1;
            let registers = prepare(&mut world.fake.machine(), child);
            world.fake.machine().make_thread(maker, child, registers);
        }
        Step::Exit(number) if tasks.len() > 1 && of(*number) != LEADER => {
            let tid = of(*number);
            if matches!(world.fake.machine().task(tid).run, Run::Running) && world.pc(tid) == MAIN {
                *ended += world.rounds_of(tid);
                world.fake.machine().end(tid, EXITED);
            }
        }
        Step::Stop => {
            world.fake.machine().stop_group(libc::SIGTSTP);
            world.react();
            world.fake.machine().continue_group();
        }
        Step::Lag(count) => world.fake.machine().lag.push_back((*count).into()),
        Step::Clone(_) | Step::Exit(_) => {}
    }
}

fn check(world: &World, ended: u64, unwatched: &BTreeSet<Address>) {
    let machine = world.fake.machine();
    let native = machine.native.clone();
    for delivery in &machine.deliveries {
        assert!(TEXT.contains(&delivery.pc), "a signal frame at {}", delivery.pc);
        assert_eq!((delivery.mask, delivery.info.signal()), (0, libc::SIGUSR1));
    }
    drop(machine);
    for site in CHOICES.into_iter().filter(|site| !unwatched.contains(site)) {
        let counted = world.hits(site) + native.get(&site).copied().unwrap_or(0);
        assert_eq!(counted, world.rounds() + ended, "{site}: {} by the counter", world.hits(site));
    }
}

fn take_all(tasks: i32, steps: &[Step]) {
    let mut world = World::new(tasks);
    world.fake.machine().actions.insert(libc::SIGUSR1, [HANDLER, 0, 0, 0]);
    world.fake.machine().pace = 3;
    let (mut next, mut ended, mut unwatched) = (200, 0, BTreeSet::new());
    for step in steps {
        take(&mut world, step, &mut next, &mut ended, &mut unwatched);
    }
    let left = world.leave();
    assert_eq!((left.changed.len(), left.unmapped, left.left_mapped), (0, 0, 0));
    check(&world, ended, &unwatched);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_program_is_the_same_whatever_happens(tasks in 1..3, steps in prop::collection::vec(step(), 1..40)) {
        take_all(tasks, &steps);
    }
}

/// A thread on its way out has met the breakpoint over an exit, right in front of another stub: it does not stand at that one's
/// entry.
#[test]
fn an_exit_in_front_of_another_stub() {
    use Step::{Change, Lag, Run, Signal};
    let first = [Run(0, 44), Lag(17), Signal(0), Run(0, 41), Change(53326, 27160)];
    let then = [Lag(10), Lag(7), Lag(2), Change(58689, 4746), Signal(0)];
    take_all(1, &[first, then].concat());
}
