//! Out of line without a stub: branches and addresses are emulated; the rest does not know where it is, and runs in a slot.

use crate::address::Address;
use crate::isa::Isa;
use crate::plan::Reason;
use crate::riscv::analyze::{Kind, decode};
use crate::riscv::emulate::carry_out;
use crate::xol::{Fault, How, OutOfLine, Slot, Then};

/// See [`crate::xol::out_of_line`].
pub(crate) fn out_of_line(isa: Isa, at: Address, bytes: &[u8]) -> Result<OutOfLine, Reason> {
    let decoded = decode(isa, at, bytes).ok_or(Reason::Undecodable)?;
    let bytes = bytes.get(..decoded.len).ok_or(Reason::Undecodable)?;
    if let Some(why) = decoded.kind.refusal() {
        let instruction = crate::disassemble::text(isa, at, bytes);
        return Err(Reason::NotDisplaceable { instruction, why: why.to_owned() });
    }
    let how = match decoded.kind {
        // The kernel leaves nothing of the PC in a register, and a call that a signal interrupts is begun again by going
        // back the 4 bytes of `ecall` (`arch_do_signal_or_restart`, arch/riscv/kernel/signal.c): within the slot.
        Kind::Plain | Kind::Faults | Kind::Syscall => {
            How::Slot(Slot { code: bytes.to_vec(), lent: Vec::new(), left: Vec::new(), then: Then::Next })
        }
        _ => How::Emulated,
    };
    Ok(OutOfLine { len: decoded.len, how })
}

/// See [`crate::xol::emulate`]: nothing that is emulated touches memory.
pub(crate) fn emulate(isa: Isa, at: Address, bytes: &[u8], registers: &mut [u8]) -> Result<(), Fault> {
    let decoded = decode(isa, at, bytes).ok_or(Fault::NotEmulated)?;
    carry_out(isa, decoded.kind, isa.wrap(at + decoded.len as u64), registers)
}
