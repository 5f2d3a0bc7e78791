//! Fields of instruction words.

/// So many bits of `word` from bit `low` on, where bit 0 is the least significant. (Power's manual counts from the other end.)
pub(crate) fn field(word: u32, low: u32, bits: u32) -> u32 {
    word >> low & ((1 << bits) - 1)
}

/// The low `bits` of `value` as a signed number.
pub(crate) fn signed(value: u64, bits: u32) -> i64 {
    (value << (64 - bits)).cast_signed() >> (64 - bits)
}
