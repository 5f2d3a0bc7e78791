//! Where an unconditional branch goes, from the registers of a stopped thread.

use iced_x86::{Instruction, OpKind, Register};

use crate::address::Address;
use crate::isa::{Isa, Order};
use crate::relocate::Thread;
use crate::x86::analyze::{Kind, decode, kind};
use crate::x86::mode::Mode;

/// Fetches memory of the target, or says that it cannot.
type Read<'a> = &'a mut dyn FnMut(Address, &mut [u8]) -> bool;

pub(crate) fn branch_target(
    isa: Isa,
    at: Address,
    bytes: &[u8],
    thread: &Thread<'_>,
    read: Read<'_>,
) -> Option<(Address, Address)> {
    let insn = decode(isa, at, bytes)?;
    let thread = View { isa, mode: Mode::of(isa), thread };
    let sp = Address(thread.word(isa.abi().sp.0)?);
    match kind(&insn) {
        Kind::Jump(to) => Some((to, sp)),
        Kind::Return => {
            // `ret imm16` pops that many bytes more; without an operand the immediate reads as 0.
            let more = if insn.op_count() == 1 { u64::from(insn.immediate16()) } else { 0 };
            Some((thread.fetch(sp, read)?, sp + u64::from(thread.mode.word) + more))
        }
        Kind::IndirectJump => Some((thread.target(&insn, read)?, sp)),
        _ => None,
    }
}

/// Where the indirect branch `insn` goes.
pub(crate) fn operand_target(
    isa: Isa,
    insn: &Instruction,
    thread: &Thread<'_>,
    read: Read<'_>,
) -> Option<Address> {
    View { isa, mode: Mode::of(isa), thread }.target(insn, read)
}

/// A stopped thread, as its ISA has it.
struct View<'a> {
    isa: Isa,
    mode: &'static Mode,
    thread: &'a Thread<'a>,
}

impl View<'_> {
    fn word(&self, offset: usize) -> Option<u64> {
        self.thread
            .registers
            .get(offset..offset.checked_add(usize::from(self.mode.word))?)
            .map(|bytes| Order::Little.number(bytes))
    }

    /// A general register, as wide as addresses are or its lower half.
    fn general(&self, register: Register) -> Option<u64> {
        let value = self.word(*self.mode.general.get(register.number())?)?;
        match register {
            _ if register.is_gpr64() => Some(value),
            _ if register.is_gpr32() => Some(value & u64::from(u32::MAX)),
            _ => None,
        }
    }

    fn target(&self, insn: &Instruction, read: Read<'_>) -> Option<Address> {
        match insn.op0_kind() {
            OpKind::Register => self.general(insn.op0_register()).map(Address),
            _ => self.fetch(self.operand(insn)?, read),
        }
    }

    fn fetch(&self, from: Address, read: Read<'_>) -> Option<Address> {
        let mut bytes = [0; 8];
        let bytes = bytes.get_mut(..usize::from(self.mode.word))?;
        read(from, bytes).then(|| Address(Order::Little.number(bytes)))
    }

    /// Where the segment of the memory operand begins. Of `fs` and `gs` one is the thread pointer's (`call *%gs:0x10` is how
    /// programs of i386 call the kernel), and no compiler uses the other.
    fn segment(&self, insn: &Instruction) -> Option<u64> {
        let thread_segment = match self.isa {
            Isa::I386 => Register::GS,
            _ => Register::FS,
        };
        match insn.memory_segment() {
            segment if segment == thread_segment => self.thread.thread_pointer.map(|base| base.0),
            Register::FS | Register::GS => None,
            _ => Some(0),
        }
    }

    /// The address of the memory operand.
    fn operand(&self, insn: &Instruction) -> Option<Address> {
        let segment = self.segment(insn)?;
        if insn.is_ip_rel_memory_operand() {
            return Some(Address(segment.wrapping_add(insn.ip_rel_memory_address())));
        }
        let part = |register| match register {
            Register::None => Some(0),
            register => self.general(register),
        };
        let index = part(insn.memory_index())?.wrapping_mul(u64::from(insn.memory_index_scale()));
        let base = part(insn.memory_base())?;
        let address = base.wrapping_add(index).wrapping_add(insn.memory_displacement64());
        // An address-size prefix truncates the sum (Intel SDM vol. 1, 3.7.5.1).
        let is_narrow = insn.memory_base().is_gpr32() || insn.memory_index().is_gpr32();
        let offset = if is_narrow { address & u64::from(u32::MAX) } else { address };
        Some(self.isa.wrap(Address(segment.wrapping_add(offset))))
    }
}
