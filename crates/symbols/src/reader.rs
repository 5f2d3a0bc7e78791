//! A bounded reader over foreign bytes, in either order of bytes: every read may fail, none may panic.

use insn::isa::Order;

/// A read position in a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    order: Order,
}

impl<'a> Reader<'a> {
    /// Over little-endian words.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self::of(Order::Little, bytes)
    }

    /// Over words of that order.
    pub(crate) fn of(order: Order, bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, order }
    }

    /// Starts at `offset`, where that lies inside the bytes or at their end.
    pub(crate) fn starting_at(bytes: &'a [u8], offset: u64) -> Option<Self> {
        let at = usize::try_from(offset).ok().filter(|at| *at <= bytes.len())?;
        Some(Self { at, ..Self::new(bytes) })
    }

    /// The same with words of that order.
    pub(crate) fn in_order(self, order: Order) -> Self {
        Self { order, ..self }
    }

    /// How many bytes were read so far (or skipped by the starting offset).
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn number(&mut self, len: usize) -> Option<u64> {
        self.take(len).map(|bytes| self.order.number(bytes))
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.number(1).and_then(|number| u8::try_from(number).ok())
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.number(2).and_then(|number| u16::try_from(number).ok())
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.number(4).and_then(|number| u32::try_from(number).ok())
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.number(8)
    }

    /// A word of 4 or 8 bytes.
    pub(crate) fn word(&mut self, bytes: usize) -> Option<u64> {
        if bytes == 4 { self.u32().map(u64::from) } else { self.u64() }
    }

    /// DWARF's unsigned LEB128 (DWARF 5, 7.6); bits past the 64th are an error.
    pub(crate) fn uleb128(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let low = u64::from(byte & 0x7f);
            if (low << shift) >> shift != low {
                return None;
            }
            value |= low << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// DWARF's signed LEB128, sign-extended into a `u64`.
    pub(crate) fn sleb128(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let used = shift + 7;
                let negative = byte & 0x40 != 0 && used < 64;
                return Some(if negative { value | (u64::MAX << used) } else { value });
            }
        }
        None
    }
}

/// Longer than any path, library or version name; what a table without NULs costs at most.
const LONGEST_STRING: usize = 64 << 10;

/// The bytes of `table` from `offset` up to the next NUL, as text.
pub(crate) fn string_at(table: &[u8], offset: u64) -> Option<&str> {
    let tail = table.get(usize::try_from(offset).ok()?..)?;
    let len = tail.iter().take(LONGEST_STRING).position(|byte| *byte == 0)?;
    std::str::from_utf8(tail.get(..len)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leb128_reads_the_standards_examples() {
        // DWARF 5, figures 7.1 (unsigned) and 7.2 (signed).
        for (bytes, value) in [(&[2u8][..], 2), (&[127], 127), (&[0x80, 1], 128), (&[0xb9, 0x64], 12857)] {
            assert_eq!(Reader::new(bytes).uleb128(), Some(value));
        }
        for (bytes, value) in [(&[2u8][..], 2i64), (&[0x7e], -2), (&[0xff, 0], 127), (&[0x80, 0x7f], -128)] {
            assert_eq!(Reader::new(bytes).sleb128().map(u64::cast_signed), Some(value));
        }
    }

    #[test]
    fn leb128_refuses_what_does_not_end_or_fit() {
        assert_eq!(Reader::new(&[0x80; 3]).uleb128(), None);
        assert_eq!(Reader::new(&[0xff; 32]).uleb128(), None);
        assert_eq!(Reader::new(&[0xff; 32]).sleb128(), None);
        let widest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Reader::new(&widest).uleb128(), Some(u64::MAX));
    }

    #[test]
    fn strings_need_their_terminator() {
        assert_eq!(string_at(b"\0main\0", 1), Some("main"));
        assert_eq!(string_at(b"\0main", 1), None);
        assert_eq!(string_at(b"\0main\0", u64::MAX), None);
    }
}
