//! The 5-byte jump, and the stub addresses whose displacement bytes are what they must be: trapping opcodes on old
//! boundaries, and where the jump is longer than what it displaces (a pun) the bytes that stand there.

use crate::address::Address;
use crate::isa::{Isa, Trapping};
use crate::x86::mode::Mode;

/// `jmp rel32`.
pub(crate) const LEN: usize = 5;
const OPCODE: u8 = 0xe9;
/// `jmp rel8`.
pub(crate) const SHORT_LEN: usize = 2;
const SHORT_OPCODE: u8 = 0xeb;

/// What the ISA says of the bytes of a jump.
pub(crate) struct Interior {
    /// How far it is from each byte up to the next trapping one, over 0xff to the lowest.
    gap: [u8; 256],
    /// The first of them.
    first: u8,
    /// Trapping values of the displacement's highest byte in the order in which a new area should use them.
    tops: &'static [i8],
}

impl Interior {
    /// For opcodes that are sorted.
    pub(crate) const fn new(trapping: &[Trapping], tops: &'static [i8]) -> Self {
        let mut gap = [0; 256];
        let mut next: usize = 256 + trapping[0].opcode as usize;
        let mut byte = 256;
        while byte > 0 {
            byte -= 1;
            let mut i = 0;
            while i < trapping.len() {
                if trapping[i].opcode as usize == byte {
                    next = byte;
                }
                i += 1;
            }
            #[allow(clippy::cast_possible_truncation, reason = "there is more than one opcode")]
            {
                gap[byte] = (next - byte) as u8;
            }
        }
        Self { gap, first: trapping[0].opcode, tops }
    }

    /// A byte that traps.
    pub(crate) fn any(&self) -> u8 {
        self.first
    }
}

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
    fn gap(self, interior: &Interior, value: u8) -> u8 {
        match self {
            Self::Any => 0,
            Self::Trapping => interior.gap[usize::from(value)],
            Self::Fixed(fixed) => fixed.wrapping_sub(value),
        }
    }
}

/// A jump that may lead to some addresses only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Jump {
    isa: Isa,
    start: Address,
    prefixes: usize,
    /// What each byte of the displacement must be, the lowest first.
    pub(crate) displacement: [Byte; 4],
}

impl Jump {
    /// The jump that overwrites `len` bytes at `start`, of which `interior` are old boundaries and the last ones, from
    /// `tail.0` on, stay as in `tail.1`. What it is longer than a jump, if it has a tail, are prefixes.
    pub(crate) fn new(
        isa: Isa,
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
        Self { isa, start, prefixes, displacement }
    }

    fn end(&self) -> Address {
        self.start + (self.prefixes + LEN) as u64
    }

    /// Its bytes, or `None` if `to` is too far or not allowed.
    pub(crate) fn encode(&self, to: Address) -> Option<Vec<u8>> {
        let mode = Mode::of(self.isa);
        let displacement = mode.displacement(self.end(), to)?;
        let mut bytes_and_values = self.displacement.iter().zip(displacement);
        let is_allowed = bytes_and_values.all(|(byte, value)| byte.gap(&mode.interior, value) == 0);
        let mut bytes = vec![PREFIX; self.prefixes];
        bytes.push(OPCODE);
        bytes.extend(displacement);
        is_allowed.then_some(bytes)
    }

    /// The lowest address from `least` on to which it may lead. `None` if there is none within reach.
    pub(crate) fn landing(&self, least: Address) -> Option<Address> {
        let mode = Mode::of(self.isa);
        let (lowest, highest) = mode.reach();
        let mut displacement = least.offset_from(self.end()).max(lowest);
        // The highest byte first: raising it resets those below, and never the other way round, so each round settles
        // one byte more; a carry out of a lower byte costs further rounds, one a byte at most.
        'settle: for _ in 0..32 {
            for (place, byte) in self.displacement.iter().enumerate().rev() {
                let high = displacement >> (8 * place);
                let gap = byte.gap(&mode.interior, high.to_le_bytes()[0]);
                if gap != 0 {
                    displacement = (high + i64::from(gap)) << (8 * place);
                    continue 'settle;
                }
            }
            let to = self.end().offset(displacement);
            return (displacement <= highest && to == self.isa.wrap(to)).then_some(to);
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
        self.isa.wrap(self.end().offset(i64::from(top) << 24))
    }

    /// The values of the displacement's highest byte in the order in which a new area should use them.
    pub(crate) fn tops(&self) -> Vec<i8> {
        match self.displacement[3] {
            Byte::Any => Vec::new(),
            Byte::Trapping => Mode::of(self.isa).interior.tops.to_vec(),
            Byte::Fixed(byte) => vec![byte.cast_signed()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jump_of(isa: Isa, from: Address, interior: &[u64]) -> Jump {
        Jump::new(isa, from, LEN, interior.iter().copied(), (LEN, &[]))
    }

    fn jump(from: Address, interior: &[u64]) -> Jump {
        jump_of(Isa::X86_64, from, interior)
    }

    /// The definition, tried one address after the other.
    fn first_by_trying(jump: &Jump, least: Address) -> Option<Address> {
        let mode = Mode::of(jump.isa);
        let is_allowed = |at: &Address| {
            let displacement = mode.displacement(jump.end(), *at);
            let allows = |(byte, value): (&Byte, u8)| byte.gap(&mode.interior, value) == 0;
            displacement.is_some_and(|bytes| jump.displacement.iter().zip(bytes).all(allows))
        };
        (0..1 << 21).map(|offset| least + offset).find(is_allowed)
    }

    const DISTANCES: [i64; 8] =
        [-0x7fff_0000, -0x100_0001, -1, 0, 0x5f_fff0, 0x00ea_eaeb, 0x6060_6060, 0x7f00_0000];

    #[test]
    fn landings_are_the_lowest_that_trap() {
        let from = Address(0x7f00_1234_5677);
        let far = DISTANCES.map(|distance| (Isa::X86_64, from, from.offset(distance)));
        let least = [0x1_0000, 0x00ff_ffff, 0x5eea_eaeb, 0xf7c1_2345, 0xf7c1_234a, 0xfa00_0000];
        let wrapped = least.map(|least| (Isa::I386, Address(0xf7c1_2345), Address(least)));
        for (isa, from, least) in far.into_iter().chain(wrapped) {
            for interior in [&[][..], &[1], &[2], &[1, 2], &[3], &[1, 3], &[2, 3]] {
                let jump = jump_of(isa, from, interior);
                let tried = first_by_trying(&jump, least);
                assert!(tried.is_some() || interior.contains(&3), "{isa:?} {interior:?} from {least}");
                let found = jump.landing(least);
                if tried.is_some() || found.is_none() {
                    assert_eq!(found, tried, "{isa:?} {interior:?} from {least}");
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
            let jump = Jump::new(Isa::X86_64, from, len, std::iter::empty(), (written, tail));
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
        let only = Jump::new(Isa::X86_64, from, 5, std::iter::empty(), (1, &[0x78, 0x56, 0x34, 0x12]));
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
    fn jumps_of_32_bits_wrap_at_4_gib() {
        let from = Address(0x0804_8000);
        let encoded = |from, to| jump_of(Isa::I386, from, &[]).encode(to);
        assert_eq!(encoded(from, Address(0xf804_8005)), Some(vec![0xe9, 0, 0, 0, 0xf0]));
        assert_eq!(encoded(Address(0xf804_8000), Address(5)), Some(vec![0xe9, 0, 0x80, 0xfb, 7]));
        assert_eq!(encoded(from, Address(1 << 32)), None);
        // 0xcc is the lowest that traps: 0x0804_8005 + 0xcc00_0000.
        let trapping = jump_of(Isa::I386, from, &[4]);
        assert_eq!(trapping.landing(Address(0x1000_0000)), Some(Address(0xd404_8005)));
        assert_eq!(trapping.landing(Address(0xff00_0000)), None);
        // And 0xf4 to 0xfb over the end.
        let trapping = jump_of(Isa::I386, Address(0xf000_0000), &[4]);
        assert_eq!(trapping.window(-0x34), Address(0xbc00_0005));
        assert_eq!(trapping.landing(Address(0x1000)), Some(Address(0xbc00_0005)));
        // A byte that stays.
        let pun = Jump::new(Isa::I386, from, 5, std::iter::empty(), (4, &[0x05]));
        assert_eq!(pun.landing(Address(0x1000)), Some(Address(0x0d04_8005)));
    }

    #[test]
    fn the_preferred_windows_are_all_there_are() {
        for isa in [Isa::X86_64, Isa::I386] {
            let mut tops: Vec<u8> =
                Mode::of(isa).interior.tops.iter().map(|top| top.cast_unsigned()).collect();
            tops.sort_unstable();
            let trapping: Vec<u8> = isa.abi().trapping.iter().map(|trapping| trapping.opcode).collect();
            assert_eq!(tops, trapping);
        }
    }
}
