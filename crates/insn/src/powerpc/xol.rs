//! Out of line without a stub: branches and addresses are emulated; what is relative to itself otherwise goes through a lent
//! register; the rest does not know where it is, and runs in a slot.

use crate::address::Address;
use crate::isa::{Isa, Order};
use crate::plan::Reason;
use crate::powerpc::analyze::{Decoded, Kind, To, WORD, decode, word};
use crate::powerpc::emulate::{LINK, carry_out, general};
use crate::xol::{Fault, How, OutOfLine, Slot, Then};

/// Registers that can be lent: volatile in all three ABIs, and more than a pair has.
const LENT: [u32; 3] = [12, 11, 10];

/// See [`crate::xol::out_of_line`].
pub(crate) fn out_of_line(isa: Isa, at: Address, bytes: &[u8]) -> Result<OutOfLine, Reason> {
    let decoded = decode(isa, at, bytes).ok_or(Reason::Undecodable)?;
    let bytes = bytes.get(..decoded.len).ok_or(Reason::Undecodable)?;
    if let Some(why) = decoded.kind.refusal() {
        let instruction = crate::disassemble::text(isa, at, bytes);
        return Err(Reason::NotDisplaceable { instruction, why: why.to_owned() });
    }
    let next = behind(isa, at, &decoded);
    let how = match decoded.kind {
        // A call that a signal interrupts is begun again by going back 4 bytes (`check_syscall_restart`,
        // arch/powerpc/kernel/signal.c): within the slot.
        Kind::Plain | Kind::Faults | Kind::Syscall => How::Slot(copy(bytes)),
        Kind::SyscallVectored => How::Slot(Slot { left: vec![(LINK.slot(isa), next.0)], ..copy(bytes) }),
        Kind::Relative { data, count, .. } => How::Slot(through_register(isa, at, bytes, data, count)?),
        Kind::Branch { to: To::Tar, links, .. } => How::Slot(to_tar(isa, links.then_some(next))),
        _ => How::Emulated,
    };
    Ok(OutOfLine { len: decoded.len, how })
}

/// See [`crate::xol::emulate`]: nothing that is emulated touches memory.
pub(crate) fn emulate(isa: Isa, at: Address, bytes: &[u8], registers: &mut [u8]) -> Result<(), Fault> {
    let decoded = decode(isa, at, bytes).filter(|found| found.kind.refusal().is_none());
    let decoded = decoded.ok_or(Fault::NotEmulated)?;
    carry_out(isa, decoded.kind, behind(isa, at, &decoded), registers)
}

fn behind(isa: Isa, at: Address, decoded: &Decoded) -> Address {
    isa.wrap(at + decoded.len as u64)
}

fn copy(code: &[u8]) -> Slot {
    Slot { code: code.to_vec(), lent: Vec::new(), left: Vec::new(), then: Then::Next }
}

/// A prefixed load or store with R = 0 and, in the field RA, a register that holds its own address.
fn through_register(isa: Isa, at: Address, bytes: &[u8], data: u32, count: u32) -> Result<Slot, Reason> {
    let is_free = |register: &u32| !(data..data + count).contains(register);
    let lent = LENT.into_iter().find(is_free).ok_or(Reason::Undecodable)?;
    let prefix = word(isa, bytes).ok_or(Reason::Undecodable)? & !(1 << 20);
    let suffix = word(isa, &bytes[WORD..]).ok_or(Reason::Undecodable)? | lent << 16;
    let code = [encode(isa, prefix), encode(isa, suffix)].concat();
    Ok(Slot { lent: vec![(general(isa, lent), at.0)], ..copy(&code) })
}

/// `bctar` without a condition: the slot fetches the target, `mfspr 12,815`. With LK the address behind it is left in LR.
fn to_tar(isa: Isa, link: Option<Address>) -> Slot {
    const FETCH: u32 = 0x7d8f_caa6;
    let lent = general(isa, 12);
    Slot {
        lent: vec![(lent, 0)],
        left: link.map(|next| (LINK.slot(isa), next.0)).into_iter().collect(),
        then: Then::Branch(lent),
        ..copy(&encode(isa, FETCH))
    }
}

fn encode(isa: Isa, word: u32) -> [u8; WORD] {
    match isa.abi().order {
        Order::Little => word.to_le_bytes(),
        Order::Big => word.to_be_bytes(),
    }
}

/// See [`crate::xol::branch`]: the low two bits of a target do not count (2.4).
pub(crate) fn branch(isa: Isa, registers: &mut [u8], to: u64) {
    isa.abi().set(registers, isa.abi().pc, isa.wrap(Address(to & !3)).0);
}
