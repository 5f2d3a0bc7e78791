//! Out of line without a stub: branches and addresses are emulated; the rest runs in a slot, loads of literals and what is
//! authenticated with an address through a lent register.

use crate::address::Address;
use crate::arm64::abi;
use crate::arm64::analyze::{Kind, LEN, Register, Via, decode};
use crate::arm64::emulate::carry_out;
use crate::isa::Isa;
use crate::plan::Reason;
use crate::xol::{Fault, How, OutOfLine, Slot, Then};

/// Registers that can be lent: any would do but the one that is loaded or authenticated.
const LENT: [Register; 2] = [Register(16), Register(17)];

/// See [`crate::xol::out_of_line`].
pub(crate) fn out_of_line(at: Address, bytes: &[u8]) -> Result<OutOfLine, Reason> {
    let kind = decode(at, bytes).ok_or(Reason::Undecodable)?;
    let bytes = bytes.get(..LEN).ok_or(Reason::Undecodable)?;
    if let Some(why) = kind.refusal() {
        let instruction = crate::disassemble::text(Isa::Arm64, at, bytes);
        return Err(Reason::NotDisplaceable { instruction, why: why.to_owned() });
    }
    let how = match kind {
        Kind::Literal { load, into, address } => {
            let lent = LENT.into_iter().find(|lent| into != Some(*lent)).unwrap_or(LENT[0]);
            How::Slot(through(load, lent, address))
        }
        Kind::AuthenticatesLink { authenticates, lent } => How::Slot(through(authenticates, LENT[0], lent)),
        Kind::Authenticated { authenticates, register, lent, via } => {
            let slot = match lent {
                Some(lent) => through(authenticates, LENT[0], lent),
                None => copy(&authenticates.to_le_bytes()),
            };
            let next = Address(at.0.wrapping_add(LEN as u64));
            let left =
                (via == Via::Call).then(|| abi::slot(Register::LINK.0 as usize)).map(|link| (link, next.0));
            let then = Then::Branch(abi::slot(register.0 as usize));
            How::Slot(Slot { left: left.into_iter().collect(), then, ..slot })
        }
        // A call that a signal interrupts is begun again by going back the 4 bytes of `svc` (`do_signal`,
        // arch/arm64/kernel/signal.c): within the slot.
        Kind::Plain | Kind::Faults | Kind::Syscall | Kind::SignsNext => How::Slot(copy(bytes)),
        _ => How::Emulated,
    };
    Ok(OutOfLine { len: LEN, how })
}

fn copy(bytes: &[u8]) -> Slot {
    Slot { code: bytes.to_vec(), lent: Vec::new(), left: Vec::new(), then: Then::Next }
}

/// The instruction with the lent register, which holds an address, in its field Rn.
fn through(word: u32, lent: Register, address: Address) -> Slot {
    let code = word | lent.0 << 5;
    Slot { lent: vec![(abi::slot(lent.0 as usize), address.0)], ..copy(&code.to_le_bytes()) }
}

/// See [`crate::xol::emulate`]: nothing that is emulated touches memory.
pub(crate) fn emulate(at: Address, bytes: &[u8], registers: &mut [u8]) -> Result<(), Fault> {
    carry_out(decode(at, bytes).ok_or(Fault::NotEmulated)?, at, registers)
}
