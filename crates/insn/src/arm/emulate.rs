//! What the tracer carries out on the registers: branches, what has r15 in a list, `it`, and addresses of T32.
//!
//! Each tests its condition: A32 has it in the encoding, T32 in ITSTATE, which moves on with every instruction (E1.2.4,
//! `ITAdvance`). Where the condition fails nothing happens but that.

use crate::address::Address;
use crate::arm::abi::{self, ARM, CPSR};
use crate::arm::analyze::{ALWAYS, Condition, Decoded, Kind, LINK, Multiple, PC, Register, low, offset};
use crate::isa::{Isa, Order};
use crate::xol::{Fault, Memory};

/// CPSR.T: T32.
const T: u64 = 1 << 5;
/// CPSR.E: data is big-endian.
const E: u64 = 1 << 9;
/// Both fields of ITSTATE in CPSR.
const IT: u64 = 0b11 << 25 | 0b11_1111 << 10;

/// Bits 7:2 are in 15:10, bits 1:0 in 26:25.
fn it_state(cpsr: u64) -> u8 {
    ((cpsr >> 10 << 2 & 0xfc | cpsr >> 25 & 3) & 0xff) as u8
}

fn with_it_state(cpsr: u64, state: u8) -> u64 {
    let state = u64::from(state);
    cpsr & !IT | state >> 2 << 10 | (state & 3) << 25
}

/// `ITAdvance`.
fn advanced(state: u8) -> u8 {
    if state & 0b111 == 0 { 0 } else { state & 0xe0 | state << 1 & 0x1f }
}

/// Brings a thread to the target of a branch that chooses the encoding by bit 0 (`BXWritePC`).
pub(crate) fn interwork(registers: &mut [u8], to: u64) {
    let isa = if to & 1 == 1 { Isa::Thumb } else { Isa::Arm };
    go(registers, Address(to & !1), isa);
}

fn go(registers: &mut [u8], to: Address, isa: Isa) {
    let cpsr = ARM.get(registers, CPSR);
    ARM.set(registers, CPSR, if isa == Isa::Thumb { cpsr | T } else { cpsr & !T });
    ARM.set(registers, abi::PC, to.0);
}

/// A stopped thread at an instruction, which is at `at`.
pub(crate) fn carry_out(
    isa: Isa,
    at: Address,
    insn: Decoded,
    registers: &mut [u8],
    memory: &mut dyn Memory,
) -> Result<(), Fault> {
    let mut thread = Stopped { isa, at, registers, memory };
    let cpsr = ARM.get(thread.registers, CPSR);
    let state = it_state(cpsr);
    let condition = match isa {
        Isa::Thumb if state != 0 => state >> 4,
        Isa::Thumb => ALWAYS,
        _ => insn.condition,
    };
    let next = isa.wrap(at + insn.len as u64);
    let to = if holds(condition, cpsr) { thread.execute(insn.kind, next)? } else { To::Stays(next) };
    if isa == Isa::Thumb {
        let state = if let Kind::If(state) = insn.kind { state } else { advanced(state) };
        ARM.set(thread.registers, CPSR, with_it_state(cpsr, state));
    }
    match to {
        To::Stays(to) => go(thread.registers, to, isa),
        To::Encoding(to, isa) => go(thread.registers, to, isa),
        To::Interworks(to) => interwork(thread.registers, u64::from(to)),
    }
    Ok(())
}

/// Where control goes on.
enum To {
    /// In the same encoding.
    Stays(Address),
    /// In that one.
    Encoding(Address, Isa),
    /// As bit 0 says.
    Interworks(u32),
}

struct Stopped<'a> {
    isa: Isa,
    at: Address,
    registers: &'a mut [u8],
    memory: &'a mut dyn Memory,
}

impl Stopped<'_> {
    /// r15 reads as two instructions further.
    fn get(&self, register: Register) -> u32 {
        match register {
            PC => low(offset(self.at, if self.isa == Isa::Thumb { 4 } else { 8 })),
            _ => low(Address(ARM.get(self.registers, abi::slot(usize::from(register))))),
        }
    }

    fn set(&mut self, register: Register, value: u32) {
        ARM.set(self.registers, abi::slot(usize::from(register)), u64::from(value));
    }

    /// The return address tells the encoding.
    fn link(&mut self, next: Address) {
        let thumb = u32::from(self.isa == Isa::Thumb);
        self.set(LINK, low(next) | thumb);
    }

    /// The order of words in memory.
    fn order(&self) -> Order {
        if ARM.get(self.registers, CPSR) & E == 0 { Order::Little } else { Order::Big }
    }

    fn execute(&mut self, kind: Kind, next: Address) -> Result<To, Fault> {
        match kind {
            Kind::Nothing | Kind::If(_) => {}
            Kind::Branch { condition, to, isa, links } => {
                if self.is_met(condition) {
                    if links {
                        self.link(next);
                    }
                    return Ok(To::Encoding(to, isa));
                }
            }
            Kind::BranchRegister { register, links } => {
                // The target is read before the link is written: they may be one register.
                let to = self.get(register);
                if links {
                    self.link(next);
                }
                return Ok(To::Interworks(to));
            }
            Kind::Sum { into, of: (left, right) } => {
                let left = left.map_or(0, |left| self.get(left));
                let sum = left.wrapping_add(self.get(right));
                if into == PC {
                    return Ok(To::Stays(Address(u64::from(sum & !1))));
                }
                self.set(into, sum);
            }
            Kind::AddressOf { into, address } => self.set(into, low(address)),
            Kind::Multiple(multiple) => return self.multiple(multiple, next),
            Kind::Table { base, index, is_halfwords } => {
                let shift = u32::from(is_halfwords);
                let from = self.get(base).wrapping_add(self.get(index) << shift);
                let mut entry = [0; 2];
                let entry = &mut entry[..1 << shift];
                self.memory.read(Address(u64::from(from)), entry)?;
                let distance = 2 * low(Address(self.order().number(entry)));
                return Ok(To::Stays(Address(u64::from(self.get(PC).wrapping_add(distance)))));
            }
            _ => return Err(Fault::NotEmulated),
        }
        Ok(To::Stays(next))
    }

    fn is_met(&self, condition: Condition) -> bool {
        match condition {
            Condition::Flags(code) => holds(code, ARM.get(self.registers, CPSR)),
            Condition::Zero(register, is_zero) => (self.get(register) == 0) == is_zero,
        }
    }

    /// Registers lie in memory in the order of their numbers.
    fn multiple(&mut self, multiple: Multiple, next: Address) -> Result<To, Fault> {
        let Multiple { loads, base, list, is_upward, is_before, writes_back } = multiple;
        let (order, start) = (self.order(), self.get(base));
        let size = 4 * list.count_ones();
        let end = if is_upward { start.wrapping_add(size) } else { start.wrapping_sub(size) };
        let lowest = if is_upward { start } else { end };
        let from = Address(u64::from(lowest.wrapping_add(4 * u32::from(is_before == is_upward))));
        let registers = || (0..16).filter(|register| list >> register & 1 == 1);
        // What becomes of a misaligned one is the kernel's to say (Documentation/arch/arm/mem_alignment.rst).
        if !from.0.is_multiple_of(4) {
            return Err(Fault::Memory(from));
        }
        let mut words = [0; 64];
        let words = &mut words[..size as usize];
        if !loads {
            for (register, word) in registers().zip(words.chunks_exact_mut(4)) {
                order.write(u64::from(self.get(register)), word);
            }
            self.memory.write(from, words)?;
        } else {
            self.memory.read(from, words)?;
        }
        if writes_back {
            self.set(base, end);
        }
        let mut to = To::Stays(next);
        for (register, word) in registers().zip(words.chunks_exact(4)).filter(|_| loads) {
            let value = low(Address(order.number(word)));
            match register {
                PC => to = To::Interworks(value),
                _ => self.set(register, value),
            }
        }
        Ok(to)
    }
}

/// `ConditionHolds` (F1.3.1): 1111 always holds, too.
fn holds(code: u8, cpsr: u64) -> bool {
    let [n, z, c, v] = [31, 30, 29, 28].map(|bit| cpsr >> bit & 1 == 1);
    let result = match code >> 1 {
        0b000 => z,
        0b001 => c,
        0b010 => n,
        0b011 => v,
        0b100 => c && !z,
        0b101 => n == v,
        0b110 => n == v && !z,
        _ => return true,
    };
    result != (code & 1 == 1)
}
