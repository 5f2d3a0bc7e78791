//! Out of line without a stub: branches and addresses are emulated, and what is in a delay slot runs in a slot; branches whose
//! condition is not among the registers choose between two of them in the slot; the rest does not know where it is.

use crate::address::Address;
use crate::isa::{Isa, Order, RegisterSlot};
use crate::mips::analyze::{Branch, Condition, Delay, Kind, Register, To, WORD, decode, word};
use crate::mips::emulate::{behind, carry_out, is_taken};
use crate::plan::Reason;
use crate::xol::{Fault, How, OutOfLine, Slot, Then};

/// Registers that can be lent: not those of the kernel, of the stack and of the thread's return.
const LENT: [Register; 8] = [
    Register(8),
    Register(9),
    Register(10),
    Register(11),
    Register(12),
    Register(13),
    Register(14),
    Register(15),
];

/// `beq $0, $0`.
const ALWAYS: u32 = 0x1000_0000;

/// See [`crate::xol::out_of_line`].
pub(crate) fn out_of_line(isa: Isa, at: Address, bytes: &[u8]) -> Result<OutOfLine, Reason> {
    let kind = decode(isa, at, bytes).ok_or(Reason::Undecodable)?;
    let refused = |why: String| {
        let instruction = crate::disassemble::text(isa, at, bytes.get(..WORD).unwrap_or(bytes));
        Reason::NotDisplaceable { instruction, why }
    };
    if let Some(why) = kind.refusal() {
        return Err(refused(why.to_owned()));
    }
    let how = match kind {
        Kind::Plain | Kind::Faults => How::Slot(copy(bytes.get(..WORD).unwrap_or(bytes))),
        // The kernel reads no code out of it, and begins a call that a signal interrupts again by going back its 4 bytes
        // (`handle_signal`, arch/mips/kernel/signal.c): within the slot.
        Kind::Syscall => How::Slot(copy(isa.abi().syscall.instruction)),
        Kind::Relative { into, address, load } => How::Slot(through_register(isa, into, address, load)),
        Kind::Branch(branch) if branch.delay != Delay::None => {
            let behind_it = bytes.get(WORD..).unwrap_or_default();
            delayed(isa, at, branch, word(isa, bytes), behind_it).map_err(refused)?
        }
        _ => How::Emulated,
    };
    Ok(OutOfLine { len: WORD, how })
}

/// A branch with a delay slot: what is behind it, if it may run elsewhere alone.
fn delayed(isa: Isa, at: Address, branch: Branch, own: Option<u32>, behind_it: &[u8]) -> Result<How, String> {
    let here = behind(isa, at, 1);
    let kind = decode(isa, here, behind_it).ok_or("what its delay slot holds is not known")?;
    let held = word(isa, behind_it).filter(|_| kind.is_movable());
    let Some((own, held)) = own.zip(held) else {
        let text = crate::disassemble::text(isa, here, behind_it);
        return Err(format!("its delay slot holds `{text}`, which cannot run elsewhere alone"));
    };
    Ok(match branch.condition {
        Condition::Elsewhere => How::Slot(choice(isa, at, branch, own, held)?),
        Condition::Of { .. } if kind == Kind::Nothing => How::Emulated,
        Condition::Of { .. } => How::Delayed(copy(&encode(isa, held))),
    })
}

/// The branch itself decides which of two addresses a lent register holds, before what is in its delay slot runs, and, of a likely
/// branch, whether that runs:
///
/// ```text
///     branch  1f                          branch  1f      ; likely
///      nop                                 nop
///     or      $to, $next, $0              b       2f
/// 1:  (delay slot)                         or     $to, $next, $0
///                                     1:  (delay slot)
///                                     2:
/// ```
///
/// Up to the last instruction nothing has happened but to what is lent, and that one is in no delay slot.
fn choice(isa: Isa, at: Address, branch: Branch, own: u32, held: u32) -> Result<Slot, String> {
    let To::Address(target) = branch.to else { return Err("it goes where a register says".to_owned()) };
    let is_named = |register: u8| (6..26).step_by(5).any(|low| held >> low & 0x1f == u32::from(register));
    let mut free = LENT.into_iter().filter(|register| !is_named(register.0));
    let lent = free.next().zip(free.next());
    let (to, next) = lent.ok_or("its delay slot leaves no register free")?;
    let choose = u32::from(next.0) << 21 | u32::from(to.0) << 11 | 0x25;
    let decide = |words: u32| own & 0xffff_0000 | words;
    let code = match branch.delay {
        Delay::IfTaken => vec![decide(3), 0, ALWAYS | 2, choose, held],
        _ => vec![decide(2), 0, choose, held],
    };
    let slot = |register: Register| slot_of(isa, register);
    Ok(Slot {
        lent: vec![(slot(to), target.0), (slot(next), behind(isa, at, 2).0)],
        then: Then::Branch(slot(to)),
        ..copy(&code.iter().flat_map(|word| encode(isa, *word)).collect::<Vec<u8>>())
    })
}

/// A load relative to itself, with a lent register that holds the address: another than it loads.
fn through_register(isa: Isa, into: Register, address: Address, load: u32) -> Slot {
    let lent = if into == LENT[0] { LENT[1] } else { LENT[0] };
    let code = load | u32::from(lent.0) << 21 | u32::from(into.0) << 16;
    Slot { lent: vec![(slot_of(isa, lent), address.0)], ..copy(&encode(isa, code)) }
}

fn slot_of(isa: Isa, register: Register) -> RegisterSlot {
    crate::mips::abi::general(isa.abi().word, usize::from(register.0))
}

fn copy(code: &[u8]) -> Slot {
    Slot { code: code.to_vec(), lent: Vec::new(), left: Vec::new(), then: Then::Next }
}

fn encode(isa: Isa, word: u32) -> [u8; WORD] {
    match isa.abi().order {
        Order::Little => word.to_le_bytes(),
        Order::Big => word.to_be_bytes(),
    }
}

/// See [`crate::xol::emulate`]: nothing that is emulated touches memory.
pub(crate) fn emulate(isa: Isa, at: Address, bytes: &[u8], registers: &mut [u8]) -> Result<(), Fault> {
    let kind = decode(isa, at, bytes).filter(|kind| kind.refusal().is_none());
    carry_out(isa, at, kind.ok_or(Fault::NotEmulated)?, registers)
}

/// See [`crate::xol::annuls`].
pub(crate) fn annuls(isa: Isa, at: Address, bytes: &[u8], registers: &[u8]) -> bool {
    match decode(isa, at, bytes) {
        Some(Kind::Branch(branch)) => {
            branch.delay == Delay::IfTaken && is_taken(isa, branch.condition, registers) == Ok(false)
        }
        _ => false,
    }
}

/// See [`crate::xol::delay_slot_of`].
pub(crate) fn delay_slot_of(isa: Isa, at: Address, before: &[u8]) -> Option<Address> {
    let from = before.len().checked_sub(WORD)?;
    let branch = Address(at.0.checked_sub(WORD as u64)?);
    decode(isa, branch, before.get(from..)?).filter(|kind| kind.may_delay()).map(|_| branch)
}
