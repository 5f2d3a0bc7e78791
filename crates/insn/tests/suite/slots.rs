//! Golden files `goldens/ISA/*.xol`: instructions in, how a tracer carries them out of line. Format and regeneration are those
//! of [`crate::goldens`].

use std::fmt::Write;

use insn::isa::RegisterSlot;
use insn::plan::hex;
use insn::xol::{How, Slot, Then, out_of_line};
use insn::{Address, Isa, disassemble, inspect};

use crate::goldens::{check_files, parse, render};

/// Where the slot is said to be: only the text of what refers to its own address shows it.
const SLOT: Address = Address(0x4000_0000);

fn describe(isa: Isa, out: &mut String, at: Address, bytes: &[u8]) {
    let text = disassemble(isa, at, bytes).first().map_or("(none)".to_owned(), |line| line.2.clone());
    writeln!(out, "> {text}").unwrap();
    if let Some(insn) = inspect(isa, at, bytes) {
        writeln!(out, "> flow: {:?}", insn.flow).unwrap();
    }
    match out_of_line(isa, at, bytes) {
        Err(reason) => writeln!(out, "> refused: {reason}").unwrap(),
        Ok(found) => {
            assert!(found.len <= bytes.len(), "longer than the line");
            match found.how {
                How::Emulated => writeln!(out, "> emulated, {} bytes", found.len).unwrap(),
                How::Slot(slot) => describe_slot(isa, out, &slot),
                How::Delayed(slot) => {
                    writeln!(out, "> a branch, emulated; its delay slot:").unwrap();
                    describe_slot(isa, out, &slot);
                }
            }
        }
    }
}

fn describe_slot(isa: Isa, out: &mut String, slot: &Slot) {
    for (_, bytes, text) in disassemble(isa, SLOT, &slot.code) {
        writeln!(out, ">   {:<30} {text}", hex(&bytes)).unwrap();
    }
    for (register, value) in &slot.lent {
        writeln!(out, "> lent: {} = {value:#x}", name(isa, *register)).unwrap();
    }
    for (register, value) in &slot.left {
        writeln!(out, "> left: {} = {value:#x}", name(isa, *register)).unwrap();
    }
    if let Then::Branch(register) = slot.then {
        writeln!(out, "> then to {}", name(isa, register)).unwrap();
    }
}

fn name(isa: Isa, slot: RegisterSlot) -> &'static str {
    isa.abi().registers.iter().find(|register| register.1 == slot).expect("a register of the set").0
}

#[test]
fn slots_are_as_recorded() {
    for isa in Isa::ALL {
        let answer = |out: &mut String, line: &str| {
            let (at, bytes) = parse(line)?;
            describe(isa, out, at, &bytes);
            Some(())
        };
        check_files(isa, "xol", |text| render(text, answer));
    }
}
