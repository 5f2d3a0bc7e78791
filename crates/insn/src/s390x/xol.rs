//! Out of line without a stub: branches and addresses are emulated; loads, stores and comparisons that are relative to themselves go
//! through a lent base register; the rest does not know where it is, and runs in a slot.
//!
//! Most faults leave the PSW behind the instruction (chapter 6, "Types of Instruction Ending": suppression, completion and
//! termination): in a slot, at its end. There the thread belongs behind the original, which is where it would be.

use crate::address::Address;
use crate::isa::Isa;
use crate::plan::Reason;
use crate::s390x::abi::general;
use crate::s390x::analyze::{Kind, Register, decode};
use crate::s390x::emulate::carry_out;
use crate::xol::{Fault, How, Memory, OutOfLine, Slot, Then};

/// Registers that can be lent as a base: 0 would stand for none.
const LENT: [Register; 2] = [1, 2];

/// See [`crate::xol::out_of_line`].
pub(crate) fn out_of_line(at: Address, bytes: &[u8]) -> Result<OutOfLine, Reason> {
    let decoded = decode(at, bytes).ok_or(Reason::Undecodable)?;
    let bytes = bytes.get(..decoded.len).ok_or(Reason::Undecodable)?;
    if let Some(why) = decoded.kind.refusal() {
        let instruction = crate::disassemble::text(Isa::S390x, at, bytes);
        return Err(Reason::NotDisplaceable { instruction, why: why.to_owned() });
    }
    let how = match decoded.kind {
        // A call that a signal interrupts is begun again by going back the 2 bytes of `svc` (`arch_do_signal_or_restart`,
        // arch/s390/kernel/signal.c), or by the vDSO, which comes back behind it: within the slot.
        Kind::Plain | Kind::Faults | Kind::Syscall => How::Slot(copy(bytes.to_vec())),
        Kind::Relative { address, data, code, .. } => How::Slot(through_register(address, data, code)),
        _ => How::Emulated,
    };
    Ok(OutOfLine { len: decoded.len, how })
}

/// See [`crate::xol::emulate`].
pub(crate) fn emulate(
    at: Address,
    bytes: &[u8],
    registers: &mut [u8],
    memory: &mut dyn Memory,
) -> Result<(), Fault> {
    let decoded = decode(at, bytes).filter(|found| found.kind.refusal().is_none());
    let decoded = decoded.ok_or(Fault::NotEmulated)?;
    carry_out(decoded.kind, at + decoded.len as u64, registers, memory)
}

fn copy(code: Vec<u8>) -> Slot {
    Slot { code, lent: Vec::new(), left: Vec::new(), then: Then::Next }
}

/// The instruction of format RXY with that operation code, on a base register that holds the address.
fn through_register(address: Address, data: Register, code: u8) -> Slot {
    let base = if data == LENT[0] { LENT[1] } else { LENT[0] };
    Slot {
        lent: vec![(general(base.into()), address.0)],
        ..copy(vec![0xe3, data << 4, base << 4, 0, 0, code])
    }
}
