//! What the two modes of the instruction set differ in.

use iced_x86::{Decoder, DecoderOptions, Encoder};

use crate::address::Address;
use crate::isa::Isa;
use crate::x86::jump::Interior;
use crate::x86::{i386, x86_64};

/// A mode of the processor, and what follows from it.
pub(crate) struct Mode {
    /// How wide addresses are: what the decoder is told.
    bits: u32,
    /// Bytes of a pushed address.
    pub(crate) word: u8,
    /// Register slots by encoding number.
    pub(crate) general: &'static [usize],
    /// What the boundaries inside a jump may hold.
    pub(crate) interior: Interior,
}

static LONG: Mode = Mode {
    bits: 64,
    word: 8,
    general: &x86_64::GENERAL,
    interior: Interior::new(x86_64::ABI.trapping, &x86_64::TOPS),
};

static PROTECTED: Mode = Mode {
    bits: 32,
    word: 4,
    general: &i386::GENERAL,
    interior: Interior::new(i386::ABI.trapping, &i386::TOPS),
};

impl Mode {
    pub(crate) fn of(isa: Isa) -> &'static Self {
        match isa {
            Isa::I386 => &PROTECTED,
            _ => &LONG,
        }
    }

    pub(crate) fn decoder<'a>(&self, at: Address, bytes: &'a [u8]) -> Decoder<'a> {
        Decoder::with_ip(self.bits, bytes, at.0, DecoderOptions::NONE)
    }

    pub(crate) fn encoder(&self) -> Encoder {
        Encoder::new(self.bits)
    }

    /// The 32-bit displacement from `end`, the end of an instruction; `None` out of reach. In 32-bit mode the sum wraps, and
    /// everything is within reach.
    pub(crate) fn displacement(&self, end: Address, to: Address) -> Option<[u8; 4]> {
        let distance = to.offset_from(end);
        match self.bits {
            64 => i32::try_from(distance).ok().map(i32::to_le_bytes),
            _ => {
                let [a, b, c, d, ..] = distance.to_le_bytes();
                let is_address = |at: Address| at.0 <= u64::from(u32::MAX);
                (is_address(end) && is_address(to)).then_some([a, b, c, d])
            }
        }
    }

    /// The lowest and the highest distance from the end of an instruction that [`Self::displacement`] has bytes for, wherever
    /// the instruction is.
    pub(crate) fn reach(&self) -> (i64, i64) {
        match self.bits {
            64 => (i64::from(i32::MIN), i64::from(i32::MAX)),
            _ => (-i64::from(u32::MAX), i64::from(u32::MAX)),
        }
    }
}
