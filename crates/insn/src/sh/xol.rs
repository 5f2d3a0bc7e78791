//! Out of line without a stub: branches and what is relative to the PC are emulated, but what is done in a delay slot is done
//! in ours; the rest does not know where it is, and runs in a slot.

use crate::address::Address;
use crate::isa::Isa;
use crate::plan::Reason;
use crate::sh::analyze::{Branch, Kind, LEN, decode, halfword};
use crate::sh::emulate::carry_out;
use crate::xol::{Fault, How, Memory, OutOfLine, Slot, Then};

/// See [`crate::xol::out_of_line`].
pub(crate) fn out_of_line(at: Address, bytes: &[u8]) -> Result<OutOfLine, Reason> {
    let kind = decode(at, bytes).ok_or(Reason::Undecodable)?;
    let (own, behind) = bytes.split_at_checked(LEN).ok_or(Reason::Undecodable)?;
    if let Some(why) = kind.refusal() {
        return Err(refused(at, own, why));
    }
    let how = match kind {
        // A call that a signal interrupts is begun again by going back the 2 bytes of `trapa` (`handle_syscall_restart`,
        // arch/sh/kernel/signal_32.c): within the slot. The five `or r0,r0` that libraries and the kernel have behind it, because of
        // an erratum of early SH-4 that they do not name, are not in the slot.
        Kind::Plain | Kind::Faults | Kind::Syscall => How::Slot(copy(own)),
        Kind::Branch(Branch { is_delayed: true, .. }) => {
            let delayed = behind.get(..LEN).ok_or(Reason::Undecodable)?;
            match delay_refusal(at + LEN as u64, delayed) {
                Some(why) => return Err(refused(at, own, why)),
                None => How::Delayed(copy(delayed)),
            }
        }
        _ => How::Emulated,
    };
    Ok(OutOfLine { len: LEN, how })
}

/// See [`crate::xol::emulate`].
pub(crate) fn emulate(
    at: Address,
    bytes: &[u8],
    registers: &mut [u8],
    memory: &mut dyn Memory,
) -> Result<(), Fault> {
    carry_out(decode(at, bytes).ok_or(Fault::NotEmulated)?, at, registers, memory)
}

/// Why an instruction may not be in a delay slot: what changes the PC or is relative to it is illegal there (5.6.3, "Slot illegal
/// instruction exception"), and so are `icbi` and `prefi`; what cannot be displaced cannot be there either.
fn delay_refusal(at: Address, bytes: &[u8]) -> Option<&'static str> {
    match decode(at, bytes)? {
        Kind::Branch(_) | Kind::Syscall => {
            Some("its delay slot holds a branch or a trap, which is illegal there")
        }
        Kind::Load { .. } | Kind::AddressOf(_) => {
            Some("its delay slot holds what is relative to the PC, which is illegal there")
        }
        Kind::Faults => Some("its delay slot holds what no program may run"),
        Kind::Plain if halfword(bytes).is_some_and(|word| matches!(word & 0xf0ff, 0x00d3 | 0x00e3)) => {
            Some("its delay slot holds an operation on instruction caches, which is illegal there")
        }
        kind => kind.refusal().map(|_| "its delay slot holds what cannot be displaced"),
    }
}

fn copy(code: &[u8]) -> Slot {
    Slot { code: code.to_vec(), lent: Vec::new(), left: Vec::new(), then: Then::Next }
}

fn refused(at: Address, bytes: &[u8], why: &str) -> Reason {
    let instruction = crate::disassemble::text(Isa::Sh, at, bytes);
    Reason::NotDisplaceable { instruction, why: why.to_owned() }
}
