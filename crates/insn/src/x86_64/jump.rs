//! The 5-byte jump, and the stub addresses whose displacement bytes trap where they must.

use crate::address::Address;

/// `jmp rel32`.
pub(crate) const LEN: usize = 5;

/// Opcodes that raise SIGILL at their own address in 64-bit mode, on every processor of today: invalid since AMD64, and
/// without a use by a later extension (0x62, 0xc4, 0xc5, 0xd5 have become prefixes and are left out).
pub(crate) const TRAPPING: [u8; 19] = [
    0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0x82, 0x9a, 0xce, 0xd4,
    0xd6, 0xea,
];

/// How far it is from each byte up to the next trapping one, over 0xff to 0x06.
const GAP: [u8; 256] = {
    let mut gap = [0; 256];
    let mut next: usize = 256 + TRAPPING[0] as usize;
    let mut byte = 256;
    while byte > 0 {
        byte -= 1;
        let mut i = 0;
        while i < TRAPPING.len() {
            if TRAPPING[i] as usize == byte {
                next = byte;
            }
            i += 1;
        }
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the largest gap is that from 0xeb over 0xff to 0x06"
        )]
        {
            gap[byte] = (next - byte) as u8;
        }
    }
    gap
};

/// The jump at `from` to `to`, or `None` if that is too far.
pub(crate) fn encode(from: Address, to: Address) -> Option<[u8; LEN]> {
    let displacement = i32::try_from(to.offset_from(from + LEN as u64)).ok()?;
    let [a, b, c, d] = displacement.to_le_bytes();
    Some([0xe9, a, b, c, d])
}

/// The lowest address from `least` on to which a jump at `from` has a trapping opcode at every offset of `interior`
/// (offsets in the jump, 1 to 4; others are ignored). `None` if there is none within reach.
pub(crate) fn landing(from: Address, interior: &[u8], least: Address) -> Option<Address> {
    let end = from + LEN as u64;
    let mut displacement = least.offset_from(end).max(i64::from(i32::MIN));
    // The highest byte first: raising it resets those below, and never the other way round, so each round settles one
    // byte more; a carry out of a lower byte costs further rounds, one a byte at most.
    'settle: for _ in 0..32 {
        for offset in interior.iter().rev().filter(|offset| (1..=4).contains(*offset)) {
            let shift = 8 * (u32::from(*offset) - 1);
            let high = displacement >> shift;
            let gap = GAP[usize::from(high.to_le_bytes()[0])];
            if gap != 0 {
                displacement = (high + i64::from(gap)) << shift;
                continue 'settle;
            }
        }
        return (displacement <= i64::from(i32::MAX)).then(|| end.offset(displacement));
    }
    None
}

/// The values of the displacement's highest byte in the order in which a new area should use them. Far above first: what
/// grows (the heap of a non-PIE program, at most 1 GiB above its image) lies near; then nearer; below last, where the
/// kernel places new mappings.
pub(crate) const TOPS: [i8; 19] = [
    0x60, 0x61, 0x3f, 0x37, 0x2f, 0x27, 0x1f, 0x1e, 0x17, 0x16, 0x0e, 0x07, 0x06, -0x2c, -0x2a, -0x16, -0x32,
    -0x66, -0x7e,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, tried one address after the other.
    fn first_by_trying(from: Address, interior: &[u8], least: Address) -> Option<Address> {
        (0..1 << 21).map(|offset| least + offset).find(|at| {
            let bytes = encode(from, *at);
            bytes.is_some_and(|bytes| {
                interior.iter().all(|offset| TRAPPING.contains(&bytes[usize::from(*offset)]))
            })
        })
    }

    #[test]
    fn landings_are_the_lowest_that_trap() {
        let from = Address(0x7f00_1234_5677);
        for interior in [&[][..], &[1], &[2], &[1, 2], &[3], &[1, 3], &[2, 3]] {
            for distance in
                [-0x7fff_0000, -0x100_0001, -1, 0, 0x5f_fff0, 0x00ea_eaeb, 0x6060_6060, 0x7f00_0000]
            {
                let least = from.offset(distance);
                let tried = first_by_trying(from, interior, least);
                assert!(tried.is_some() || interior.contains(&3));
                let found = landing(from, interior, least);
                if tried.is_some() || found.is_none() {
                    assert_eq!(found, tried, "{interior:?} from {distance:#x}");
                }
            }
        }
    }

    #[test]
    fn the_highest_byte_is_signed() {
        let from = Address(0x7f00_0000_0000);
        let end = from + LEN as u64;
        assert_eq!(landing(from, &[4], end.offset(-0x7fff_0000)), Some(end.offset(-0x7e00_0000)));
        assert_eq!(landing(from, &[4], end.offset(-1)), Some(end.offset(0x0600_0000)));
        assert_eq!(landing(from, &[1, 4], end.offset(0x61ff_ffff)), None);
        assert_eq!(landing(from, &[], end.offset(0x8000_0000)), None);
    }

    #[test]
    fn the_preferred_windows_are_all_there_are() {
        let mut tops: Vec<u8> = TOPS.iter().map(|top| top.cast_unsigned()).collect();
        tops.sort_unstable();
        assert_eq!(tops, TRAPPING);
    }
}
