//! What a function computes does not change when each of its instructions is carried out of line.

use std::collections::HashMap;

use insn::xol::{How, Slot, Then, branch, emulate, out_of_line};
use insn::{Address, Isa};

use super::registers::{NoMemory, Registers};
use super::world::{CELL, SIGTRAP, World, cell};
use crate::qemu::Emulated;

/// More instructions than it has, by far.
const LONGEST: usize = 100_000;

/// An instruction of the function.
struct Site {
    bytes: Vec<u8>,
    how: How,
    slot: u64,
}

/// All of them by address, their slots written. Literals among them are not run.
fn sites(world: &mut World) -> HashMap<u64, Site> {
    let (start, end) = world.probed();
    let code = world.emulated.read(start, usize::try_from(end - start).unwrap());
    let mut sites = HashMap::new();
    let mut slots = vec![0; code.len() / 4 * CELL];
    for (index, bytes) in code.chunks(4).enumerate() {
        let at = start + 4 * index as u64;
        let Ok(found) = out_of_line(Isa::Arm64, Address(at), bytes) else { continue };
        if let How::Slot(slot) = &found.how {
            cell(&mut slots[index * CELL..], &slot.code);
        }
        let slot = world.code() + (index * CELL) as u64;
        sites.insert(at, Site { bytes: bytes.to_vec(), how: found.how, slot });
    }
    world.emulated.write(world.code(), &slots);
    sites
}

/// The registers that call it.
fn called(world: &World, seed: u64) -> Registers {
    let (function, back) = world.work();
    let mut registers = world.ready.clone();
    registers.set(30, back);
    registers.set(0, seed);
    registers.set_pc(function);
    registers
}

fn in_place(world: &mut World, seed: u64) -> u64 {
    let registers = called(world, seed);
    assert_eq!(world.go(&registers, Emulated::run), SIGTRAP);
    let registers = world.registers();
    assert_eq!(registers.pc(), world.work().1);
    registers.get(0)
}

/// The registers behind a slot, from those in front of it.
fn through(world: &mut World, registers: Registers, at: u64, slot: u64, found: &Slot) -> Registers {
    let abi = Isa::Arm64.abi();
    let mut moved = registers.clone();
    found.lent.iter().for_each(|(register, value)| abi.set(&mut moved.0, *register, *value));
    moved.set_pc(slot);
    assert_eq!(world.go(&moved, Emulated::run), SIGTRAP);
    let mut after = world.registers();
    assert_eq!(after.pc(), slot + 4);
    found
        .lent
        .iter()
        .for_each(|(register, _)| abi.set(&mut after.0, *register, abi.get(&registers.0, *register)));
    match found.then {
        Then::Next => after.set_pc(at + 4),
        Then::Branch(register) => {
            let to = abi.get(&after.0, register);
            abi.set(&mut after.0, register, abi.get(&registers.0, register));
            branch(Isa::Arm64, &mut after.0, to);
        }
    }
    found.left.iter().for_each(|(register, value)| abi.set(&mut after.0, *register, *value));
    after
}

/// Its result, and how many instructions were carried out.
fn displaced(world: &mut World, seed: u64, sites: &HashMap<u64, Site>) -> (u64, usize) {
    let mut registers = called(world, seed);
    let mut count = 0;
    while let Some(Site { bytes, how, slot }) = sites.get(&registers.pc()) {
        let at = registers.pc();
        match how {
            How::Delayed(_) => panic!("there are no delay slots: {how:?}"),
            How::Emulated => {
                emulate(Isa::Arm64, Address(at), bytes, &mut registers.0, &mut NoMemory).unwrap();
            }
            How::Slot(found) => registers = through(world, registers, at, *slot, found),
        }
        count += 1;
        assert!(count < LONGEST, "it does not end");
    }
    assert_eq!(registers.pc(), world.work().1);
    (registers.get(0), count)
}

#[test]
fn a_whole_function_runs_out_of_line() {
    let Some(mut world) = World::new() else { return };
    let sites = sites(&mut world);
    for seed in [1, 2] {
        let expected = in_place(&mut world, seed);
        let (found, count) = displaced(&mut world, seed, &sites);
        assert_eq!(found, expected, "from {seed}");
        assert!(count > 1000, "{count} instructions");
    }
}
