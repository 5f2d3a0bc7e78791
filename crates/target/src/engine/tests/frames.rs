//! PCs saved in signal frames: moved with the text, and back again wherever they are by then.

use std::collections::BTreeMap;

use insn::{Address, Isa};
use program::layout::header;

use super::fixture::{ADD, LEADER, MAIN, SECOND, World, engine_on, mapping, stack};
use crate::engine::{Engine, Notice};
use crate::fake::Fake;
use crate::fake::machine::Machine;
use crate::seam::{Target, Tid};

const CHILD: Tid = Tid(500);
/// The second instruction of [`ADD`], inside the span of its jump.
const INSIDE: Address = Address(ADD.0 + 1);

/// Puts a signal frame on top of a task's stack, whose handler is to return to `pc`. Gives the word that says so.
fn enter_handler(world: &World, tid: Tid, pc: Address) -> Address {
    let frame_of = &Isa::X86_64.abi().signal_frames[0];
    let mut machine = world.fake.machine();
    let task = machine.task(tid);
    let frame = Address(task.registers.sp().0 & !0xf) + 8;
    task.registers.set_sp(frame);
    task.mask = 1;
    let restorer = stack(tid).start + 0x3f40;
    let vector_state = frame + frame_of.len as u64;
    let mut poke = |at: Address, word: u64| machine.space.poke(at, &word.to_le_bytes());
    poke(frame, restorer.0);
    poke(frame + 184, 0x202);
    poke(frame + 192, 0x33);
    poke(frame + frame_of.vector_state as u64, vector_state.0);
    let (offset, magic) = frame_of.vector_magic;
    poke(vector_state + offset, magic.into());
    let at = frame + frame_of.pc as u64;
    poke(at, pc.0);
    machine.space.poke(restorer, frame_of.restorers[0]);
    at
}

fn word(machine: &Machine, at: Address) -> Address {
    let bytes = machine.space.bytes(&at.span(8));
    Address(u64::from_le_bytes(bytes.try_into().unwrap()))
}

fn areas(machine: &Machine) -> usize {
    machine.space.mappings().iter().filter(|mapping| crate::area::is_ours(mapping)).count()
}

fn entry(world: &World) -> Address {
    let stub = world.engine.patches[&ADD].entry.stub;
    world.engine.entry_in(stub, INSIDE).unwrap()
}

/// A world of two threads, one of which is in a handler that began in what is a span now; where its frame says so.
fn world_in_handler() -> (World, Address) {
    let mut world = World::new(2);
    let at = enter_handler(&world, SECOND, INSIDE);
    world.probe(&[ADD]).unwrap();
    assert_eq!(word(&world.fake.machine(), at), entry(&world));
    (world, at)
}

fn warnings<T: Target>(engine: &Engine<T>) -> Vec<String> {
    let text = |notice: &Notice| match notice {
        Notice::Warning(text) => Some(text.clone()),
        Notice::Library(_) => None,
    };
    engine.notices.iter().filter_map(text).collect()
}

#[test]
fn a_pc_in_a_frame_goes_with_the_text_and_comes_back() {
    let (mut world, at) = world_in_handler();
    assert_eq!(world.engine.leave().unwrap().left_mapped, 0);
    assert_eq!(word(&world.fake.machine(), at), INSIDE);
    assert_eq!(world.engine.statistics.frames, 2);
}

/// A handler that unblocks its signal is a handler still, and one whose thread is on another stack by now will come back.
#[test]
fn a_frame_that_no_search_would_find_comes_back() {
    for is_elsewhere in [false, true] {
        let (mut world, at) = world_in_handler();
        {
            let mut machine = world.fake.machine();
            machine.task(SECOND).mask = 0;
            if is_elsewhere {
                let other = Address(0x7e00_0000_0000).span(0x4000);
                machine.space.map(mapping(other.clone(), "rw", None), vec![0; 0x4000]);
                machine.task(SECOND).registers.set_sp(other.start + 0x3000);
            }
        }
        assert_eq!(world.engine.leave().unwrap().left_mapped, 0);
        assert_eq!(word(&world.fake.machine(), at), INSIDE);
        assert_eq!(world.areas(), 0);
    }
}

/// What the program put into the word since is its own.
#[test]
fn a_word_that_is_no_frame_any_more_is_left_alone() {
    let (mut world, at) = world_in_handler();
    let value = entry(&world) + 1;
    world.fake.machine().space.poke(at, &value.0.to_le_bytes());
    world.fake.machine().task(SECOND).registers.set_sp(stack(SECOND).start + 0x3e00);
    world.engine.leave().unwrap();
    assert_eq!(word(&world.fake.machine(), at), value);
}

/// A frame whose patch is replaced goes on to the next stub, whatever stack its thread is on.
#[test]
fn a_frame_goes_from_stub_to_stub() {
    let (mut world, at) = world_in_handler();
    let first = entry(&world);
    world.fake.machine().task(SECOND).registers.set_sp(stack(LEADER).start + 0x3000);
    world.probe(&[ADD, ADD + 4]).unwrap();
    assert_ne!(entry(&world), first);
    assert_eq!(word(&world.fake.machine(), at), entry(&world));
    assert_eq!(world.engine.moved_frames, BTreeMap::from([(at, entry(&world))]));
    world.probe(&[]).unwrap();
    assert_eq!(word(&world.fake.machine(), at), INSIDE);
    assert!(world.engine.moved_frames.is_empty());
}

/// The child has copies of all stacks, its own and those of threads that it does not have.
#[test]
fn a_child_gets_its_frames_back() {
    for maker in [LEADER, SECOND] {
        let (mut world, at) = world_in_handler();
        let child = world.fake.machine().fork(maker, CHILD);
        world.react();
        let child = child.borrow();
        assert_eq!(word(&child, at), INSIDE, "made by {maker}");
        assert_eq!(child.space.bytes(&child.text), child.pristine);
        assert_eq!(areas(&child), 0);
        assert_eq!(word(&world.fake.machine(), at), entry(&world), "the parent's own stays");
        assert_eq!(warnings(&world.engine), Vec::<String>::new());
        assert_eq!(world.engine.leave().unwrap().left_mapped, 0);
    }
}

#[test]
fn a_child_that_is_followed_gets_its_frames_back_later() {
    let (mut world, at) = world_in_handler();
    world.engine.follow = true;
    let child = world.fake.machine().fork(SECOND, CHILD);
    world.react();
    assert_eq!(word(&child.borrow(), at), entry(&world));
    child.borrow_mut().task(CHILD).registers.set_sp(stack(LEADER).start + 0x3000);
    let mut born = world.engine.born.pop_front().expect("a child");
    assert_eq!(born.engine.leave().unwrap().left_mapped, 0);
    assert_eq!(word(&child.borrow(), at), INSIDE);
    assert_eq!(word(&world.fake.machine(), at), entry(&world));
}

/// A handler may have copied its context, and go back through the copy: the child may come into a stub. What it counts there
/// is not its parent's, and nobody is there to answer it.
#[test]
fn a_child_keeps_what_a_copy_of_its_context_leads_to() {
    let (mut world, at) = world_in_handler();
    let copy = world.fake.machine().task(SECOND).registers.sp() + 0x400;
    world.fake.machine().space.poke(copy, &entry(&world).0.to_le_bytes());
    let child = world.fake.machine().fork(SECOND, CHILD);
    world.react();
    let warning = warnings(&world.engine).join("; ");
    assert!(warning.contains("stay in the child process 500"), "{warning}");
    let mut machine = child.borrow_mut();
    assert_eq!(machine.space.bytes(&machine.text), machine.pristine);
    assert_eq!(word(&machine, at), INSIDE);
    assert_eq!(areas(&machine), world.areas());
    let closed = world.engine.state_at.unwrap().0 + header::CLOSED as u64;
    assert_eq!(word(&machine, closed), Address(1));
    // It goes through the whole stub, as the original would have jumped there.
    let stub = world.engine.patches[&ADD].entry.stub;
    let registers = &mut machine.task(CHILD).registers;
    registers.set_pc(stub);
    registers.set_sp(stack(SECOND).start + 0x2ff8);
    machine.space.poke(stack(SECOND).start + 0x2ff8, &MAIN.0.to_le_bytes());
    for _ in 0..100 {
        if machine.task(CHILD).registers.pc() == MAIN {
            break;
        }
        assert!(machine.step(CHILD));
    }
    assert_eq!(machine.task(CHILD).registers.pc(), MAIN);
    drop(machine);
    assert_eq!(world.hits(ADD), 0);

    // A later xol takes the area out once nothing leads there.
    child.borrow_mut().space.poke(copy, &[0; 8]);
    let mut later = engine_on(&Fake { machine: child });
    assert_eq!(later.target.seize_new().unwrap(), 1);
    assert_eq!(later.adopt_leftovers().unwrap(), 0);
    assert_eq!(later.leave().unwrap().left_mapped, 0);
}

/// Nobody knows how deep a handler has gone since a killed xol moved its frame.
#[test]
fn what_a_killed_xol_left_stays_while_a_frame_deep_in_a_stack_leads_there() {
    let mut world = World::new(2);
    world.probe(&[ADD]).unwrap();
    {
        let deep = Address(0x7e00_0000_0000).span(0x10_0000);
        let mut machine = world.fake.machine();
        machine.space.map(mapping(deep.clone(), "rw", None), vec![0; 0x10_0000]);
        machine.task(SECOND).registers.set_sp(deep.start + 0x1000);
        machine.space.poke(deep.start + 0x8_0000, &entry(&world).0.to_le_bytes());
        machine.lose_tracer();
    }
    let mut later = World { engine: engine_on(&world.fake), ..world };
    assert_eq!(later.engine.target.seize_new().unwrap(), 2);
    assert_eq!(later.engine.adopt_leftovers().unwrap(), 1);
    assert!(later.engine.leave().unwrap().left_mapped > 0);
}
