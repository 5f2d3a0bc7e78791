//! Where an unconditional branch goes, from the registers of a stopped thread.

use iced_x86::{Instruction, OpKind, Register};

use crate::address::Address;
use crate::x86_64::ABI;
use crate::x86_64::abi::GENERAL;
use crate::x86_64::analyze::{Kind, decode, kind};

pub(crate) fn branch_target(
    at: Address,
    bytes: &[u8],
    registers: &[u8],
    read: &mut dyn FnMut(Address, &mut [u8]) -> bool,
) -> Option<(Address, Address)> {
    let insn = decode(at, bytes)?;
    let sp = Address(word(registers, ABI.sp.0)?);
    match kind(&insn) {
        Kind::Jump(to) => Some((to, sp)),
        Kind::Return => {
            // `ret imm16` pops that many bytes more; without an operand the immediate reads as 0.
            let more = if insn.op_count() == 1 { u64::from(insn.immediate16()) } else { 0 };
            Some((fetch(sp, read)?, sp + 8 + more))
        }
        Kind::IndirectJump if insn.op0_kind() == OpKind::Register => {
            Some((Address(general(registers, insn.op0_register())?), sp))
        }
        Kind::IndirectJump => Some((fetch(operand(&insn, registers)?, read)?, sp)),
        _ => None,
    }
}

fn word(registers: &[u8], offset: usize) -> Option<u64> {
    let bytes = registers.get(offset..offset.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// A general register, 64 bits wide or its lower half.
fn general(registers: &[u8], register: Register) -> Option<u64> {
    let value = word(registers, *GENERAL.get(register.number())?)?;
    match register {
        _ if register.is_gpr64() => Some(value),
        _ if register.is_gpr32() => Some(value & u64::from(u32::MAX)),
        _ => None,
    }
}

fn fetch(from: Address, read: &mut dyn FnMut(Address, &mut [u8]) -> bool) -> Option<Address> {
    let mut bytes = [0; 8];
    read(from, &mut bytes).then(|| Address(u64::from_le_bytes(bytes)))
}

/// The address of the memory operand. `fs` and `gs` have bases of their own, which no compiler jumps through.
fn operand(insn: &Instruction, registers: &[u8]) -> Option<Address> {
    if matches!(insn.memory_segment(), Register::FS | Register::GS) {
        return None;
    }
    if insn.is_ip_rel_memory_operand() {
        return Some(Address(insn.ip_rel_memory_address()));
    }
    let part = |register| match register {
        Register::None => Some(0),
        register => general(registers, register),
    };
    let index = part(insn.memory_index())?.wrapping_mul(u64::from(insn.memory_index_scale()));
    let address = part(insn.memory_base())?.wrapping_add(index).wrapping_add(insn.memory_displacement64());
    // An address-size prefix truncates the sum (Intel SDM vol. 1, 3.7.5.1).
    let is_narrow = insn.memory_base().is_gpr32() || insn.memory_index().is_gpr32();
    Some(Address(if is_narrow { address & u64::from(u32::MAX) } else { address }))
}
