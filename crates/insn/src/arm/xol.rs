//! Out of line without a stub: branches and what has r15 in a list are emulated; the rest runs in a slot, with lent registers in
//! the place of r15. A slot's instruction keeps its condition: CPSR, with ITSTATE, is the thread's own there.

use crate::address::Address;
use crate::arm::abi;
use crate::arm::analyze::{Kind, decode};
use crate::arm::emulate::carry_out;
use crate::isa::Isa;
use crate::plan::Reason;
use crate::xol::{Fault, How, Memory, OutOfLine, Slot, Then};

/// See [`crate::xol::out_of_line`].
pub(crate) fn out_of_line(isa: Isa, at: Address, bytes: &[u8]) -> Result<OutOfLine, Reason> {
    let insn = decode(isa, at, bytes).ok_or(Reason::Undecodable)?;
    let bytes = bytes.get(..insn.len).ok_or(Reason::Undecodable)?;
    if let Some(why) = insn.kind.refusal() {
        let instruction = crate::disassemble::text(isa, at, bytes);
        return Err(Reason::NotDisplaceable { instruction, why: why.to_owned() });
    }
    let how = match insn.kind {
        // A call that a signal interrupts is begun again by going back the bytes of `svc` (`do_signal`,
        // arch/arm/kernel/signal.c): within the slot.
        Kind::Plain | Kind::Faults | Kind::Syscall | Kind::ClearExclusive => How::Slot(copy(bytes.to_vec())),
        Kind::Through { code, reads, writes } => {
            let slot = |register| abi::slot(usize::from(register));
            // Where the condition fails nothing is written, and the thread goes on behind the instruction.
            let thumb = u64::from(isa == Isa::Thumb);
            let next = isa.wrap(at + bytes.len() as u64).0 | thumb;
            let read = reads.map(|(register, value)| (slot(register), value.0));
            let written = writes.map(|register| (slot(register), next));
            How::Slot(Slot {
                lent: read.into_iter().chain(written).collect(),
                then: written.map_or(Then::Next, |(register, _)| Then::Branch(register)),
                ..copy(encode(isa, code, bytes.len()))
            })
        }
        _ => How::Emulated,
    };
    Ok(OutOfLine { len: bytes.len(), how })
}

fn copy(code: Vec<u8>) -> Slot {
    Slot { code, lent: Vec::new(), left: Vec::new(), then: Then::Next }
}

/// T32 has the upper halfword first.
fn encode(isa: Isa, word: u32, len: usize) -> Vec<u8> {
    match (isa, len) {
        (Isa::Thumb, 4) => word.rotate_left(16).to_le_bytes().to_vec(),
        _ => word.to_le_bytes()[..len].to_vec(),
    }
}

/// See [`crate::xol::emulate`].
pub(crate) fn emulate(
    isa: Isa,
    at: Address,
    bytes: &[u8],
    registers: &mut [u8],
    memory: &mut dyn Memory,
) -> Result<(), Fault> {
    carry_out(isa, at, decode(isa, at, bytes).ok_or(Fault::NotEmulated)?, registers, memory)
}
