//! What the event routines of x86-64 and i386 share: the ways out of line, and numbers that both keep in one register.

use crate::layout::{MAX_SIZING, RECORD_LEN, slot};
use crate::x86::asm::{Assembler, Label};

/// Attempts to move a ring's head are counted in the six bits from here on of the register that holds the probe's number
/// below: after 64 the record is given up, as so many threads must have won.
pub(crate) const ATTEMPTS_SHIFT: u8 = 26;
pub(crate) const PROBE_MASK: u32 = (1 << ATTEMPTS_SHIFT) - 1;
const _: () = assert!(MAX_SIZING.probes - 1 <= PROBE_MASK, "no room for the attempts");

/// How far ahead of a record the ring is fetched for writing. The reader has had each line since it was written last, and
/// asking its processor for it takes longer than all the rest of an event.
pub(crate) const AHEAD: usize = 8 * RECORD_LEN;

/// One event in the word [`slot::DEPTH`].
pub(crate) const DEPTH_STEP: u32 = 1 << slot::DEPTH_SHIFT;

/// Ways that are rarely gone, out of line.
pub(crate) struct Ways {
    /// The slot at the thread pointer's home is another's.
    pub(crate) elsewhere: Label,
    /// The slot is found.
    pub(crate) found: Label,
    /// Another thread took the record.
    pub(crate) contended: Label,
    /// Tries to take the next one.
    pub(crate) again: Label,
    pub(crate) full: Label,
    /// The same for a program of one thread.
    pub(crate) lone_full: Label,
    pub(crate) nested: Label,
    pub(crate) no_slot: Label,
}

impl Ways {
    pub(crate) fn new(asm: &mut Assembler) -> Self {
        Self {
            elsewhere: asm.label(),
            found: asm.label(),
            contended: asm.label(),
            again: asm.label(),
            full: asm.label(),
            lone_full: asm.label(),
            nested: asm.label(),
            no_slot: asm.label(),
        }
    }
}

/// A length of the layout as an immediate operand.
pub(crate) fn number(len: usize) -> u32 {
    u32::try_from(len).expect("the layout is smaller than 1 GiB")
}

/// The shift that multiplies by a length, a power of two.
pub(crate) fn log2(len: usize) -> u8 {
    u8::try_from(len.trailing_zeros()).unwrap_or(0)
}
