//! Out of line without a stub: branches on integer registers and jumps are emulated; those on floating-point registers, which no
//! `NT_PRSTATUS` set has, are asked in a slot; the rest does not know where it is, and runs in a slot.

use crate::address::Address;
use crate::alpha::abi;
use crate::alpha::analyze::{Kind, WORD, decode, word};
use crate::alpha::emulate::carry_out;
use crate::isa::Isa;
use crate::plan::Reason;
use crate::xol::{Fault, How, OutOfLine, Slot, Then};

/// See [`crate::xol::out_of_line`].
pub(crate) fn out_of_line(at: Address, bytes: &[u8]) -> Result<OutOfLine, Reason> {
    let kind = decode(at, bytes).ok_or(Reason::Undecodable)?;
    let word = word(bytes).ok_or(Reason::Undecodable)?;
    if let Some(why) = kind.refusal() {
        let instruction = crate::disassemble::text(Isa::Alpha, at, bytes);
        return Err(Reason::NotDisplaceable { instruction, why: why.to_owned() });
    }
    let how = match kind {
        // PALcode leaves nothing of the PC in a register of the program's, and a call that a signal interrupts is begun again
        // by going back 4 bytes (`syscall_restart`, arch/alpha/kernel/signal.c): within the slot.
        Kind::Plain | Kind::Syscall => How::Slot(Slot {
            code: word.to_le_bytes().to_vec(),
            lent: Vec::new(),
            left: Vec::new(),
            then: Then::Next,
        }),
        Kind::FloatingBranch { to } => How::Slot(chosen(word, to, at + WORD as u64)),
        _ => How::Emulated,
    };
    Ok(OutOfLine { len: WORD, how })
}

/// A floating-point branch over one instruction that makes the other address of the one in t12. That changes a lent register
/// only, so whoever is stopped in front of it may as well begin again.
fn chosen(word: u32, to: Address, next: Address) -> Slot {
    const DISPLACEMENT: u32 = 0x1f_ffff;
    const MOVE: u32 = 0x47fc_041b; // bis zero,at,t12
    let (target, other) = (abi::slot(27), abi::slot(28));
    let code = [word & !DISPLACEMENT | 1, MOVE];
    Slot {
        code: code.into_iter().flat_map(u32::to_le_bytes).collect(),
        lent: vec![(target, to.0), (other, next.0)],
        left: Vec::new(),
        then: Then::Branch(target),
    }
}

/// See [`crate::xol::emulate`]: nothing that is emulated touches memory.
pub(crate) fn emulate(at: Address, bytes: &[u8], registers: &mut [u8]) -> Result<(), Fault> {
    carry_out(decode(at, bytes).ok_or(Fault::NotEmulated)?, at + WORD as u64, registers)
}
