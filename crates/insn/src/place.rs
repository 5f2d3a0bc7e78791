//! Where the stubs go: placement by construction under the constraints of trapping interiors.

use std::ops::Range;

use crate::address::Address;
use crate::isa::Isa;
use crate::plan::Patch;

/// A stub that wants a place.
#[derive(Clone, Debug)]
pub struct Demand<'a> {
    /// The patch that will jump (or be moved) to it.
    pub patch: &'a Patch,
    /// Its size in bytes.
    pub size: u32,
}

/// Room for stubs, kept over the life of a session: what is mapped already, and what may still be mapped.
#[derive(Clone, Debug)]
pub struct Room {
    /// Free address ranges in which new mappings may be made, sorted.
    pub free: Vec<Range<Address>>,
    /// Mappings of the area made so far, with what is used in them.
    pub areas: Vec<Area>,
}

/// One mapping of the area ([`AREA_LEN`] bytes) and its used parts.
#[derive(Clone, Debug)]
pub struct Area {
    /// First address.
    pub start: Address,
    /// Used ranges, sorted, merged.
    pub used: Vec<Range<Address>>,
    /// Whether it is still to be mapped.
    pub is_new: bool,
}

/// Size of one mapping of the area, bytes: the largest page size of any Linux ABI we know.
pub const AREA_LEN: u64 = 0x1_0000;

impl Room {
    /// Places all demands, marking their room as used and adding areas (`is_new`) where needed.
    ///
    /// One result per demand: the address, or `None` where nothing is free within reach.
    pub fn place(&mut self, _isa: Isa, _demands: &[Demand<'_>]) -> Vec<Option<Address>> {
        Vec::new()
    }

    /// Gives `range` back.
    pub fn release(&mut self, _range: Range<Address>) {}
}
