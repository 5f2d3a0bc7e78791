//! What a function computes does not change when each of its instructions is carried out of line.

use std::collections::HashMap;

use insn::xol::{How, OutOfLine, emulate, out_of_line};
use insn::{Address, Isa};

use super::registers::{NoMemory, Registers};
use super::world::{CELL, SIGTRAP, World, cell};
use crate::qemu::Emulated;

/// An instruction of the function.
struct Site {
    bytes: Vec<u8>,
    found: OutOfLine,
    slot: u64,
}

/// All of them by address, their slots written.
fn sites(world: &mut World) -> HashMap<u64, Site> {
    let (start, end) = world.probed();
    let code = world.emulated.read(start, usize::try_from(end - start).unwrap());
    let mut sites = HashMap::new();
    let mut slots = Vec::new();
    let mut offset = 0;
    while let Some(rest) = code.get(offset..).filter(|rest| !rest.is_empty()) {
        let at = start + offset as u64;
        let found = out_of_line(world.isa, Address(at), rest).unwrap();
        let slot = world.code() + slots.len() as u64;
        slots.resize(slots.len() + CELL, 0);
        if let How::Slot(slot) = &found.how {
            let from = slots.len() - CELL;
            cell(world.isa, &mut slots[from..], &slot.code);
        }
        offset += found.len;
        sites.insert(at, Site { bytes: rest[..found.len].to_vec(), found, slot });
    }
    world.emulated.write(world.code(), &slots);
    sites
}

/// The registers that call it.
fn called(world: &World, seed: u64) -> Registers {
    let (function, back) = world.work();
    let mut registers = world.ready.clone();
    registers.set(1, back);
    registers.set(10, seed);
    registers.set_pc(function);
    registers
}

fn in_place(world: &mut World, seed: u64) -> u64 {
    let registers = called(world, seed);
    assert_eq!(world.go(&registers, Emulated::run), SIGTRAP);
    let registers = world.registers();
    assert_eq!(registers.pc(), world.work().1);
    registers.get(10)
}

/// Its result, and how many instructions were carried out.
fn displaced(world: &mut World, seed: u64, sites: &HashMap<u64, Site>) -> (u64, usize) {
    let mut registers = called(world, seed);
    let mut count = 0;
    while let Some(Site { bytes, found, slot }) = sites.get(&registers.pc()) {
        let at = registers.pc();
        if found.how == How::Emulated {
            emulate(world.isa, Address(at), bytes, &mut registers.bytes, &mut NoMemory).unwrap();
        } else {
            registers.set_pc(*slot);
            assert_eq!(world.go(&registers, Emulated::run), SIGTRAP);
            registers = world.registers();
            assert_eq!(registers.pc(), slot + found.len as u64);
            registers.set_pc(at + found.len as u64);
        }
        count += 1;
    }
    assert_eq!(registers.pc(), world.work().1);
    (registers.get(10), count)
}

fn compare(isa: Isa) {
    let Some(mut world) = World::new(isa) else { return };
    let sites = sites(&mut world);
    for seed in [1, 2] {
        let expected = in_place(&mut world, seed);
        let (found, count) = displaced(&mut world, seed, &sites);
        assert_eq!(found, expected, "from {seed}");
        assert!(count > 1000, "{count} instructions");
    }
}

#[test]
fn a_whole_function_of_rv64_runs_out_of_line() {
    compare(Isa::RiscV64);
}

#[test]
fn a_whole_function_of_rv32_runs_out_of_line() {
    compare(Isa::RiscV32);
}
