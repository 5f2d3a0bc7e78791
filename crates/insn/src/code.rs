//! The code that a plan is made for: executable bytes, functions, and known jump targets.

use std::ops::Range;

use crate::address::Address;

/// An executable stretch of a module at its run-time addresses.
#[derive(Clone, Copy, Debug)]
pub struct Code<'a> {
    /// Address of the first byte.
    pub start: Address,
    /// The bytes, as in the file.
    pub bytes: &'a [u8],
}

impl<'a> Code<'a> {
    /// The bytes from `at` on, if there are any.
    pub(crate) fn from(&self, at: Address) -> Option<&'a [u8]> {
        let offset = at.0.checked_sub(self.start.0)?;
        self.bytes.get(usize::try_from(offset).ok()?..).filter(|bytes| !bytes.is_empty())
    }
}

/// What is known of a module before any instruction is decoded.
#[derive(Clone, Debug, Default)]
pub struct Outline<'a> {
    /// Function ranges (symbols, FDEs), sorted by start, no duplicates; they may nest or overlap.
    pub functions: Vec<Range<Address>>,
    /// Addresses that data point at: relocations into text, landing pads, exported symbols. Sorted.
    pub pointed_at: Vec<Address>,
    /// Numbers in data that may be addresses of code: believed where an instruction begins, or where that is not known.
    pub may_point_at: Vec<Address>,
    /// Read-only data at their run-time addresses: where compilers put the tables of position-independent `switch`es.
    pub data: Vec<Code<'a>>,
    /// From where position-independent i386 code counts: the global offset table, whose address it keeps in a register.
    pub got: Option<Address>,
    /// Code that must stay as it is: restartable sequences (rseq(2)) with their abort signatures.
    pub refused: Vec<Range<Address>>,
}
