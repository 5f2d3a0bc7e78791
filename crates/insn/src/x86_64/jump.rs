//! The 5-byte jump, and the stub addresses whose displacement bytes are what they must be: trapping opcodes on old
//! boundaries, and where the jump is longer than what it displaces (a pun) the bytes that stand there.

use crate::address::Address;

/// `jmp rel32`.
pub(crate) const LEN: usize = 5;
const OPCODE: u8 = 0xe9;
/// `jmp rel8`.
pub(crate) const SHORT_LEN: usize = 2;
const SHORT_OPCODE: u8 = 0xeb;

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

/// The short jump at `from` to `to`, or `None` if that is too far.
pub(crate) fn encode_short(from: Address, to: Address) -> Option<[u8; SHORT_LEN]> {
    let displacement = i8::try_from(to.offset_from(from + SHORT_LEN as u64)).ok()?;
    Some([SHORT_OPCODE, displacement.cast_unsigned()])
}

/// A prefix that means nothing to a near jump in 64-bit mode, and nothing to one anywhere that stays in its segment: the
/// override of CS (Intel SDM vol. 2, 2.1.1). Prefixes move the displacement to bytes further behind.
const PREFIX: u8 = 0x2e;

/// What a byte of a jump's displacement must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Byte {
    /// Anything.
    Any,
    /// A trapping opcode: an old instruction boundary.
    Trapping,
    /// This: it belongs to an instruction that stays.
    Fixed(u8),
}

impl Byte {
    /// How far it is from `value` up to the next value that is allowed, over 0xff to 0.
    fn gap(self, value: u8) -> u8 {
        match self {
            Self::Any => 0,
            Self::Trapping => GAP[usize::from(value)],
            Self::Fixed(fixed) => fixed.wrapping_sub(value),
        }
    }

    /// Whether it may be `value`.
    pub(crate) fn allows(self, value: u8) -> bool {
        self.gap(value) == 0
    }
}

/// A jump that may lead to some addresses only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Jump {
    start: Address,
    prefixes: usize,
    /// What each byte of the displacement must be, the lowest first.
    pub(crate) displacement: [Byte; 4],
}

impl Jump {
    /// The jump that overwrites `len` bytes at `start`, of which `interior` are old boundaries and the last ones, from
    /// `tail.0` on, stay as in `tail.1`. What it is longer than a jump, if it has a tail, are prefixes.
    pub(crate) fn new(
        start: Address,
        len: usize,
        interior: impl Iterator<Item = u64>,
        tail: (usize, &[u8]),
    ) -> Self {
        let prefixes = if tail.1.is_empty() { 0 } else { len.saturating_sub(LEN) };
        let mut displacement = [Byte::Any; 4];
        let mut set = |offset: usize, byte| {
            let place = offset.checked_sub(prefixes + 1).and_then(|place| displacement.get_mut(place));
            place.into_iter().for_each(|place| *place = byte);
        };
        for offset in interior {
            set(usize::try_from(offset).unwrap_or(usize::MAX), Byte::Trapping);
        }
        for (index, byte) in tail.1.iter().enumerate() {
            set(tail.0 + index, Byte::Fixed(*byte));
        }
        Self { start, prefixes, displacement }
    }

    fn end(&self) -> Address {
        self.start + (self.prefixes + LEN) as u64
    }

    /// Its bytes, or `None` if `to` is too far or not allowed.
    pub(crate) fn encode(&self, to: Address) -> Option<Vec<u8>> {
        let displacement = i32::try_from(to.offset_from(self.end())).ok()?.to_le_bytes();
        let is_allowed = self.displacement.iter().zip(displacement).all(|(byte, value)| byte.allows(value));
        let mut bytes = vec![PREFIX; self.prefixes];
        bytes.push(OPCODE);
        bytes.extend(displacement);
        is_allowed.then_some(bytes)
    }

    /// The lowest address from `least` on to which it may lead. `None` if there is none within reach.
    pub(crate) fn landing(&self, least: Address) -> Option<Address> {
        let mut displacement = least.offset_from(self.end()).max(i64::from(i32::MIN));
        // The highest byte first: raising it resets those below, and never the other way round, so each round settles
        // one byte more; a carry out of a lower byte costs further rounds, one a byte at most.
        'settle: for _ in 0..32 {
            for (place, byte) in self.displacement.iter().enumerate().rev() {
                let high = displacement >> (8 * place);
                let gap = byte.gap(high.to_le_bytes()[0]);
                if gap != 0 {
                    displacement = (high + i64::from(gap)) << (8 * place);
                    continue 'settle;
                }
            }
            return (displacement <= i64::from(i32::MAX)).then(|| self.end().offset(displacement));
        }
        None
    }

    /// The same for a jump of which only the two highest bytes are asked for.
    pub(crate) fn high(&self) -> Self {
        let [_, _, third, fourth] = self.displacement;
        Self { displacement: [Byte::Any, Byte::Any, third, fourth], ..*self }
    }

    /// The addresses at which the displacement's highest byte is `top`: [`WINDOW`] bytes from here.
    pub(crate) fn window(&self, top: i8) -> Address {
        self.end().offset(i64::from(top) << 24)
    }

    /// The values of the displacement's highest byte in the order in which a new area should use them.
    pub(crate) fn tops(&self) -> Vec<i8> {
        match self.displacement[3] {
            Byte::Any => Vec::new(),
            Byte::Trapping => TOPS.to_vec(),
            Byte::Fixed(byte) => vec![byte.cast_signed()],
        }
    }
}

/// The values of the displacement's highest byte in the order in which a new area should use them. Far above first: what
/// grows (the heap of a non-PIE program, at most 1 GiB above its image) lies near; then nearer; below last, where the
/// kernel places new mappings.
const TOPS: [i8; 19] = [
    0x60, 0x61, 0x3f, 0x37, 0x2f, 0x27, 0x1f, 0x1e, 0x17, 0x16, 0x0e, 0x07, 0x06, -0x2c, -0x2a, -0x16, -0x32,
    -0x66, -0x7e,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn jump(from: Address, interior: &[u64]) -> Jump {
        Jump::new(from, LEN, interior.iter().copied(), (LEN, &[]))
    }

    /// The definition, tried one address after the other.
    fn first_by_trying(jump: &Jump, least: Address) -> Option<Address> {
        (0..1 << 21).map(|offset| least + offset).find(|at| jump.encode(*at).is_some())
    }

    const DISTANCES: [i64; 8] =
        [-0x7fff_0000, -0x100_0001, -1, 0, 0x5f_fff0, 0x00ea_eaeb, 0x6060_6060, 0x7f00_0000];

    #[test]
    fn landings_are_the_lowest_that_trap() {
        let from = Address(0x7f00_1234_5677);
        for interior in [&[][..], &[1], &[2], &[1, 2], &[3], &[1, 3], &[2, 3]] {
            for distance in DISTANCES {
                let least = from.offset(distance);
                let tried = first_by_trying(&jump(from, interior), least);
                assert!(tried.is_some() || interior.contains(&3));
                let found = jump(from, interior).landing(least);
                if tried.is_some() || found.is_none() {
                    assert_eq!(found, tried, "{interior:?} from {distance:#x}");
                }
            }
        }
    }

    #[test]
    fn fixed_bytes_are_kept() {
        let from = Address(0x7f00_1234_5677);
        for (len, written, tail) in [
            (5, 4, &[0x12][..]),
            (5, 4, &[0xf0]),
            (5, 3, &[0x34, 0xff]),
            (5, 2, &[0, 0, 0x20]),
            (5, 1, &[0xff, 0xff, 0xff, 0x7f]),
            (5, 1, &[0, 0, 0, 0x80]),
            (7, 3, &[1, 2, 3, 4]),
        ] {
            let jump = Jump::new(from, len, std::iter::empty(), (written, tail));
            for distance in DISTANCES {
                let Some(at) = jump.landing(from.offset(distance)) else { continue };
                assert!(at >= from.offset(distance));
                let bytes = jump.encode(at).unwrap();
                assert_eq!((bytes.len(), &bytes[written..]), (len, tail));
                assert_eq!(bytes[..len - LEN], [PREFIX; LEN][..len - LEN]);
            }
            assert!(jump.landing(from.offset(-0x7fff_ffff)).is_some(), "{tail:x?}");
        }
        // The only address there is.
        let only = Jump::new(from, 5, std::iter::empty(), (1, &[0x78, 0x56, 0x34, 0x12]));
        let at = from + (LEN as u64 + 0x1234_5678);
        assert_eq!((only.landing(from), only.landing(at), only.landing(at + 1)), (Some(at), Some(at), None));
    }

    #[test]
    fn the_highest_byte_is_signed() {
        let from = Address(0x7f00_0000_0000);
        let end = from + LEN as u64;
        assert_eq!(jump(from, &[4]).landing(end.offset(-0x7fff_0000)), Some(end.offset(-0x7e00_0000)));
        assert_eq!(jump(from, &[4]).landing(end.offset(-1)), Some(end.offset(0x0600_0000)));
        assert_eq!(jump(from, &[1, 4]).landing(end.offset(0x61ff_ffff)), None);
        assert_eq!(jump(from, &[]).landing(end.offset(0x8000_0000)), None);
    }

    #[test]
    fn the_preferred_windows_are_all_there_are() {
        let mut tops: Vec<u8> = TOPS.iter().map(|top| top.cast_unsigned()).collect();
        tops.sort_unstable();
        assert_eq!(tops, TRAPPING);
    }
}
