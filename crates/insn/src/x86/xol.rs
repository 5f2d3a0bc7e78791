//! Out of line without a stub: branches are emulated; the rest runs in a slot, RIP-relative operands through a lent register.

use iced_x86::{ConditionCode, Instruction, InstructionInfoFactory, Mnemonic, Register};

use crate::address::Address;
use crate::isa::{Isa, RegisterSlot};
use crate::plan::Reason;
use crate::relocate::Thread;
use crate::x86::analyze::{Kind, decode, displaceable, kind, refused};
use crate::x86::emulate::{branch_target, operand_target};
use crate::x86::mode::Mode;
use crate::x86::x86_64;
use crate::xol::{Fault, How, Memory, OutOfLine, Slot, Then};

/// Registers that can be lent: encoded without a REX prefix, and no instruction's implicit operand but the string
/// instructions', which have no RIP-relative one (the kernel's choice too: `riprel_analyze`, arch/x86/kernel/uprobes.c).
const LENT: [Register; 3] = [Register::RSI, Register::RDI, Register::RBX];

/// See [`crate::xol::out_of_line`].
pub(crate) fn out_of_line(isa: Isa, at: Address, bytes: &[u8]) -> Result<OutOfLine, Reason> {
    let insn = decode(isa, at, bytes).ok_or(Reason::Undecodable)?;
    let bytes = bytes.get(..insn.len()).ok_or(Reason::Undecodable)?;
    let how = match displaceable(&insn, bytes)? {
        Kind::IndirectCall | Kind::IndirectJump
            if isa == Isa::I386 && insn.memory_segment() == Register::GS =>
        {
            return Err(refused(&insn, "where its segment begins the register set does not tell"));
        }
        Kind::Counted(_) if counter_bits(&insn) == 16 => return Err(refused(&insn, "it counts in 16 bits")),
        Kind::Plain | Kind::Faults if insn.is_ip_rel_memory_operand() => How::Slot(through_register(&insn)?),
        Kind::Plain | Kind::Faults => How::Slot(copy(bytes)),
        Kind::Syscall => {
            let next = isa.wrap(at + bytes.len() as u64);
            let leaves = isa.abi().syscall.leaves_pc.filter(|_| insn.mnemonic() == Mnemonic::Syscall);
            let left = leaves.map(|slot| (slot, next.0));
            How::Slot(Slot { left: left.into_iter().collect(), ..copy(bytes) })
        }
        _ => How::Emulated,
    };
    Ok(OutOfLine { len: bytes.len(), how })
}

fn copy(bytes: &[u8]) -> Slot {
    Slot { code: bytes.to_vec(), lent: Vec::new(), left: Vec::new(), then: Then::Next }
}

/// The instruction with a register in the place of RIP, which holds the operand's address.
fn through_register(insn: &Instruction) -> Result<Slot, Reason> {
    let mut factory = InstructionInfoFactory::new();
    let used = factory.info(insn).used_registers();
    let is_free = |register: &Register| used.iter().all(|used| used.register().full_register() != *register);
    let lent =
        LENT.into_iter().find(is_free).ok_or_else(|| refused(insn, "no register can be lent to it"))?;
    let mut moved = *insn;
    moved.set_memory_base(lent);
    moved.set_memory_displacement64(0);
    moved.set_memory_displ_size(0);
    let mut encoder = Mode::of(Isa::X86_64).encoder();
    encoder.encode(&moved, 0).map_err(|_| refused(insn, "it cannot be encoded with a lent register"))?;
    let slot = RegisterSlot(x86_64::GENERAL[lent.number()]);
    Ok(Slot { lent: vec![(slot, insn.ip_rel_memory_address())], ..copy(&encoder.take_buffer()) })
}

/// See [`crate::xol::emulate`]: branches.
pub(crate) fn emulate(
    isa: Isa,
    at: Address,
    bytes: &[u8],
    registers: &mut [u8],
    memory: &mut dyn Memory,
) -> Result<(), Fault> {
    let insn = decode(isa, at, bytes).ok_or(Fault::NotEmulated)?;
    let bytes = bytes.get(..insn.len()).ok_or(Fault::NotEmulated)?;
    let next = isa.wrap(at + bytes.len() as u64);
    let mut thread = Stopped { isa, registers, memory };
    match kind(&insn) {
        Kind::Conditional(to) => {
            let to = if is_met(insn.condition_code(), thread.flags()) { to } else { next };
            thread.go(to);
        }
        Kind::Counted(to) => thread.count(&insn, to, next)?,
        Kind::Call(to) => thread.call(next, to)?,
        Kind::IndirectCall => {
            let to = thread.asked(|view, read| operand_target(isa, &insn, view, read))?;
            thread.call(next, to)?;
        }
        Kind::Jump(_) | Kind::IndirectJump | Kind::Return => {
            let (to, sp) = thread.asked(|view, read| branch_target(isa, at, bytes, view, read))?;
            thread.go(to);
            thread.set(isa.abi().sp, sp.0);
        }
        _ => return Err(Fault::NotEmulated),
    }
    Ok(())
}

/// A stopped thread.
struct Stopped<'a> {
    isa: Isa,
    registers: &'a mut [u8],
    memory: &'a mut dyn Memory,
}

impl Stopped<'_> {
    fn get(&self, slot: RegisterSlot) -> u64 {
        self.isa.abi().get(self.registers, slot)
    }

    fn set(&mut self, slot: RegisterSlot, value: u64) {
        self.isa.abi().set(self.registers, slot, value);
    }

    fn flags(&self) -> u64 {
        self.isa.abi().flags.map_or(0, |slot| self.get(slot))
    }

    fn go(&mut self, to: Address) {
        self.set(self.isa.abi().pc, to.0);
    }

    /// What `question` finds, with the fault of the read that failed where it finds nothing.
    fn asked<T>(
        &mut self,
        question: impl FnOnce(&Thread<'_>, &mut dyn FnMut(Address, &mut [u8]) -> bool) -> Option<T>,
    ) -> Result<T, Fault> {
        let base = self.isa.abi().thread_base.map(|slot| Address(self.get(slot)));
        let thread = Thread { registers: self.registers, thread_pointer: base };
        let mut fault = Fault::NotEmulated;
        let memory = &mut *self.memory;
        let mut read =
            |from: Address, into: &mut [u8]| memory.read(from, into).map_err(|met| fault = met).is_ok();
        question(&thread, &mut read).ok_or(fault)
    }

    /// Pushes the return address and goes.
    fn call(&mut self, back: Address, to: Address) -> Result<(), Fault> {
        let abi = self.isa.abi();
        let sp = self.isa.wrap(Address(self.get(abi.sp).wrapping_sub(abi.word as u64)));
        self.memory.write(sp, &back.0.to_le_bytes()[..abi.word])?;
        self.set(abi.sp, sp.0);
        self.go(to);
        Ok(())
    }

    /// `loop` and its like.
    fn count(&mut self, insn: &Instruction, to: Address, next: Address) -> Result<(), Fault> {
        let counter = RegisterSlot(*Mode::of(self.isa).general.get(1).ok_or(Fault::NotEmulated)?);
        let mask = match counter_bits(insn) {
            16 => return Err(Fault::NotEmulated),
            32 => u64::from(u32::MAX),
            _ => u64::MAX,
        };
        let before = self.get(counter);
        let is_zero = self.flags() & ZF != 0;
        let taken = match insn.mnemonic() {
            Mnemonic::Jrcxz | Mnemonic::Jecxz => before & mask == 0,
            loops => {
                let left = before.wrapping_sub(1) & mask;
                self.set(counter, left);
                left != 0
                    && match loops {
                        Mnemonic::Loope => is_zero,
                        Mnemonic::Loopne => !is_zero,
                        _ => true,
                    }
            }
        };
        self.go(if taken { to } else { next });
        Ok(())
    }
}

/// The count register of `loop` and its like is as wide as addresses are, or half that with a prefix (Intel SDM vol. 2A, LOOP
/// and Jcc).
fn counter_bits(insn: &Instruction) -> u32 {
    match insn.mnemonic() {
        Mnemonic::Jrcxz => 64,
        Mnemonic::Jecxz => 32,
        Mnemonic::Jcxz => 16,
        _ => insn.op_code().address_size(),
    }
}

const CF: u64 = 1;
const PF: u64 = 1 << 2;
const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const OF: u64 = 1 << 11;

/// Whether `flags` meet the condition (Intel SDM vol. 1, appendix B).
fn is_met(condition: ConditionCode, flags: u64) -> bool {
    let is = |flag: u64| flags & flag != 0;
    match condition {
        ConditionCode::o => is(OF),
        ConditionCode::no => !is(OF),
        ConditionCode::b => is(CF),
        ConditionCode::ae => !is(CF),
        ConditionCode::e => is(ZF),
        ConditionCode::ne => !is(ZF),
        ConditionCode::be => is(CF | ZF),
        ConditionCode::a => !is(CF | ZF),
        ConditionCode::s => is(SF),
        ConditionCode::ns => !is(SF),
        ConditionCode::p => is(PF),
        ConditionCode::np => !is(PF),
        ConditionCode::l => is(SF) != is(OF),
        ConditionCode::ge => is(SF) == is(OF),
        ConditionCode::le => is(ZF) || is(SF) != is(OF),
        ConditionCode::g => !is(ZF) && is(SF) == is(OF),
        ConditionCode::None => true,
    }
}
