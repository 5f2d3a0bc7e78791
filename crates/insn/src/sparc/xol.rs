//! Out of line without a stub: branches and `rd %pc` are emulated, but what is done in a delay slot is done in ours; the rest does
//! not know where it is, and runs in a slot.

use crate::address::Address;
use crate::isa::Isa;
use crate::plan::Reason;
use crate::sparc::analyze::{Branch, Kind, LEN, NOP, decode};
use crate::sparc::emulate::{self, carry_out};
use crate::xol::{Fault, How, OutOfLine, Slot, Then};

/// `restore %g0, %g0, %g0`: what `return` does besides jumping.
const RESTORE: u32 = 0x81e8_0000;

/// See [`crate::xol::out_of_line`].
pub(crate) fn out_of_line(isa: Isa, at: Address, bytes: &[u8]) -> Result<OutOfLine, Reason> {
    let kind = decode(isa, at, bytes).ok_or(Reason::Undecodable)?;
    let (own, behind) = bytes.split_at_checked(LEN).ok_or(Reason::Undecodable)?;
    let refused = |why: &str| {
        let instruction = crate::disassemble::text(isa, at, own);
        Reason::NotDisplaceable { instruction, why: why.to_owned() }
    };
    if let Some(why) = kind.refusal(isa) {
        return Err(refused(why));
    }
    let how = match (kind, kind.delayed()) {
        (_, Some(branch)) => {
            let delayed = behind.get(..LEN).ok_or(Reason::Undecodable)?;
            How::Delayed(delay_slot(isa, branch, at + LEN as u64, delayed).map_err(refused)?)
        }
        // What spills or fills windows comes back to the instruction. A call that a signal interrupts is begun again by going back the
        // 4 bytes of the trap (`syscall_restart`, arch/sparc/kernel/signal_64.c): within the slot.
        (Kind::Plain | Kind::Faults | Kind::Syscall, _) => How::Slot(copy(own)),
        _ => How::Emulated,
    };
    Ok(OutOfLine { len: LEN, how })
}

/// See [`crate::xol::emulate`]: nothing that is emulated touches memory.
pub(crate) fn emulate(isa: Isa, at: Address, bytes: &[u8], registers: &mut [u8]) -> Result<(), Fault> {
    let kind = decode(isa, at, bytes).filter(|kind| kind.refusal(isa).is_none()).ok_or(Fault::NotEmulated)?;
    carry_out(isa, kind, at, registers)
}

/// See [`crate::xol::annuls`].
pub(crate) fn annuls(isa: Isa, at: Address, bytes: &[u8], registers: &[u8]) -> bool {
    let branch = decode(isa, at, bytes).and_then(Kind::delayed);
    branch.is_some_and(|branch| emulate::annuls(isa, branch, registers))
}

/// The instruction at `at` in the delay slot of a branch; of `return` the window is restored before it.
fn delay_slot(isa: Isa, branch: Branch, at: Address, bytes: &[u8]) -> Result<Slot, &'static str> {
    let slot = match decode(isa, at, bytes) {
        Some(Kind::Plain | Kind::Nothing | Kind::Faults) => copy(bytes),
        Some(Kind::AddressOf(into)) => {
            let left = into.slot(isa).map(|slot| (slot, at.0));
            Slot { left: left.into_iter().collect(), ..copy(&NOP.to_be_bytes()) }
        }
        // What a branch in a delay slot does is hard to say (V9, 6.3.4.7), and no compiler makes one.
        Some(Kind::Branch(_)) => return Err("its delay slot holds a branch"),
        Some(Kind::Syscall) => return Err("its delay slot holds a system call"),
        Some(Kind::Refused(_)) | None => return Err("its delay slot holds what cannot be displaced"),
    };
    let window = if branch.restores { &RESTORE.to_be_bytes()[..] } else { &[] };
    Ok(Slot { code: [window, &slot.code].concat(), ..slot })
}

fn copy(code: &[u8]) -> Slot {
    Slot { code: code.to_vec(), lent: Vec::new(), left: Vec::new(), then: Then::Next }
}
