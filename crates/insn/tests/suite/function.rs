//! What a function (`work.c`) computes does not change when each of its instructions is carried out of line.

use std::collections::HashMap;

use insn::xol::{OutOfLine, branch, out_of_line};
use insn::{Address, Isa};
use remote::Signal;
use remote::client::Action;

use crate::registers::Registers;
use crate::world::World;

/// More instructions than it has, by far.
const LONGEST: usize = 100_000;

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
    // Not all of it is code, and not every instruction begins where one may.
    for offset in (0..code.len()).step_by(world.machine.unit) {
        let at = start + offset as u64;
        let Ok(found) = out_of_line(world.isa, Address(at), &code[offset..]) else { continue };
        let bytes = code[offset..][..found.depends_on(world.isa, Address(at), &code[offset..])].to_vec();
        let slot = slots.len();
        slots.resize(slot + world.machine.cell, 0);
        if let Some(found) = found.how.slot() {
            world.fill_cell(&mut slots[slot..], &found.code);
        }
        sites.insert(at, Site { bytes, found, slot: world.code() + slot as u64 });
    }
    world.emulated.write(world.code(), &slots);
    sites
}

/// The registers that call it.
fn called(world: &World, seed: u64) -> Registers {
    let (function, back) = world.work();
    let mut registers = world.ready.clone();
    registers.set(world.machine.link, world.link_to(back));
    if let Some(own) = world.machine.own {
        registers.set(own, function);
    }
    registers.set(world.isa.abi().syscall.arguments[0], seed);
    branch(world.isa, &mut registers.bytes, function);
    registers
}

/// Its result.
fn returned(world: &World, registers: &Registers) -> u64 {
    assert_eq!(registers.pc(), world.work().1);
    registers.get(world.isa.abi().syscall.result)
}

fn in_place(world: &mut World, seed: u64) -> u64 {
    let (signal, registers) = world.emulated.go(&called(world, seed), Action::Continue);
    assert_eq!(signal, Signal::TRAP);
    returned(world, &registers)
}

/// Its result, and how many instructions were carried out.
fn displaced(world: &mut World, seed: u64, sites: &HashMap<u64, Site>) -> (u64, usize) {
    let mut registers = called(world, seed);
    let mut count = 0;
    while let Some(Site { bytes, found, slot }) = sites.get(&registers.pc()) {
        let outcome = world.carry_out(bytes, found, &registers, *slot);
        assert!(outcome.has_ended, "{:?} at {:#x}", outcome.signal, registers.pc());
        registers = outcome.registers;
        count += 1;
        assert!(count < LONGEST, "it does not end");
    }
    (returned(world, &registers), count)
}

fn compare(isa: Isa) {
    let Some(mut world) = World::new(isa) else { return };
    let sites = sites(&mut world);
    for seed in [1, 2] {
        let expected = in_place(&mut world, seed);
        let (found, count) = displaced(&mut world, seed, &sites);
        println!("{isa:?}: {count} instructions");
        assert_eq!(found, expected, "from {seed}");
        assert!(count > 1000, "{count} instructions");
    }
}

macro_rules! whole_function {
    ($($name:ident: $isa:ident,)*) => {$(
        #[test]
        fn $name() {
            compare(Isa::$isa);
        }
    )*};
}

whole_function! {
    a_whole_function_of_a32_runs_out_of_line: Arm,
    a_whole_function_of_t32_runs_out_of_line: Thumb,
    a_whole_function_of_arm64_runs_out_of_line: Arm64,
    a_whole_function_of_power_of_32_bits_runs_out_of_line: PowerPc,
    a_whole_function_of_power_of_64_bits_runs_out_of_line: PowerPc64,
    a_whole_function_of_little_endian_power_runs_out_of_line: PowerPc64Le,
    a_whole_function_of_rv32_runs_out_of_line: RiscV32,
    a_whole_function_of_rv64_runs_out_of_line: RiscV64,
    a_whole_function_of_sh_runs_out_of_line: Sh,
    a_whole_function_of_alpha_runs_out_of_line: Alpha,
    a_whole_function_of_mips_runs_out_of_line: Mips,
    a_whole_function_of_little_endian_mips_runs_out_of_line: MipsLe,
    a_whole_function_of_mips64_runs_out_of_line: Mips64,
    a_whole_function_of_little_endian_mips64_runs_out_of_line: Mips64Le,
    a_whole_function_of_sparc_of_32_bits_runs_out_of_line: Sparc,
    a_whole_function_of_sparc_of_64_bits_runs_out_of_line: Sparc64,
    a_whole_function_of_s390x_runs_out_of_line: S390x,
}
