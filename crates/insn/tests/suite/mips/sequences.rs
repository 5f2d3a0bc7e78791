//! What lies between a load-linked and its store-conditional, and in whose delay slot an instruction is.

use insn::xol::{delay_slot_of, exclusive_sequences};
use insn::{Address, Isa};

use super::cases::encode;

const AT: Address = Address(0x40_0000);

const LL: u32 = 0xc082_0000; // ll v0,0(a0)
const SC: u32 = 0xe083_0000; // sc v1,0(a0)
const ADD: u32 = 0x0045_1821; // addu v1,v0,a1
const NOP: u32 = 0;
const RET: u32 = 0x03e0_0008;
const SYSCALL: u32 = 0x0c;

/// `beqz v1,` so many words from behind it.
fn beqz(words: i16) -> u32 {
    0x1060_0000 | u32::from(words.cast_unsigned())
}

/// `beqzl v1,`
fn beqzl(words: i16) -> u32 {
    beqz(words) | 0x4000_0000
}

/// `b`
fn always(words: i16) -> u32 {
    0x1000_0000 | u32::from(words.cast_unsigned())
}

/// Words at which what is found begins and ends.
fn found(words: &[u32]) -> Vec<(u64, u64)> {
    let isa = Isa::Mips;
    let code: Vec<u8> = words.iter().flat_map(|word| encode(isa, *word)).collect();
    let ranges = exclusive_sequences(isa, AT, &code);
    ranges.iter().map(|range| ((range.start - AT) / 4, (range.end - AT) / 4)).collect()
}

#[test]
fn a_loop_is_found() {
    assert_eq!(found(&[ADD, LL, ADD, SC, beqz(-4), NOP, ADD]), [(2, 4)]);
    assert_eq!(found(&[LL, SC]), [(1, 2)]);
    assert_eq!(found(&[LL, ADD, RET, NOP]), []);
    assert_eq!(found(&[SC, ADD, LL]), []);
    assert_eq!(found(&[]), []);
}

/// The comparison of a compare-and-swap leads out; what is in its delay slot is done on both ways.
#[test]
fn a_way_out_is_none_of_it() {
    assert_eq!(found(&[LL, beqz(4), ADD, SC, beqz(-5), NOP, RET, NOP]), [(1, 4)]);
}

/// Control comes to the store through the delay slot alone.
#[test]
fn a_delay_slot_belongs_to_its_branch() {
    assert_eq!(found(&[LL, always(3), ADD, RET, NOP, SC, ADD]), [(1, 3), (5, 6)]);
    assert_eq!(found(&[LL, always(2), SC, RET, NOP]), [(1, 3)]);
    assert_eq!(found(&[LL, beqz(3), NOP, RET, NOP, SC]), [(1, 3), (5, 6)]);
}

/// A likely branch leaves it out where it is not taken.
#[test]
fn a_likely_branch_has_two_ways() {
    assert_eq!(found(&[LL, beqzl(3), ADD, RET, NOP, SC]), [(1, 3), (5, 6)]);
    assert_eq!(found(&[LL, beqzl(3), ADD, SC, NOP, RET]), [(1, 2), (3, 4)]);
}

/// What is called, asked of the kernel or raises a signal is not known.
#[test]
fn calls_are_not_followed() {
    const BAL: u32 = 0x0411_0004;
    const TRAP: u32 = 0x0007_000d;
    for call in [BAL, SYSCALL, TRAP, RET] {
        assert_eq!(found(&[LL, call, NOP, SC]), [], "{call:#x}");
    }
}

#[test]
fn those_of_release_6_are_found() {
    let (ll, sc) = (0x7c82_0036, 0x7c83_0026);
    let bltzc = |words: u32| 0x5c63_0000 | words;
    assert_eq!(found(&[ll, ADD, sc]), [(1, 3)]);
    assert_eq!(found(&[ll, bltzc(2), RET, NOP, sc]), [(1, 2), (4, 5)]);
}

#[test]
fn delay_slots_are_told() {
    let isa = Isa::Mips64Le;
    let of = |words: &[u32]| {
        let before: Vec<u8> = words.iter().flat_map(|word| encode(isa, *word)).collect();
        let at = AT + before.len() as u64;
        delay_slot_of(isa, at, &before).map(|branch| (at - branch) / 4)
    };
    assert_eq!(of(&[]), None);
    assert_eq!(of(&[ADD, ADD]), None);
    assert_eq!(of(&[ADD, RET]), Some(1));
    assert_eq!(of(&[RET, ADD]), None);
    assert_eq!(of(&[beqzl(4)]), Some(1));
    assert_eq!(of(&[0x4501_0004]), Some(1), "bc1t");
    assert_eq!(of(&[0x5c63_0004]), None, "bltzc has none");
    assert_eq!(of(&[0xc882_0000]), Some(1), "Octeon's bbit0 has one");
    assert_eq!(of(&[SYSCALL]), None);
    assert_eq!(delay_slot_of(isa, Address(2), &encode(isa, RET)), None);
}

/// Whatever the bytes.
mod of_any_bytes {
    use insn::plan::Reason;
    use insn::xol::{How, delay_slot_of, exclusive_sequences, out_of_line};
    use insn::{Address, Isa, inspect};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn isa() -> impl Strategy<Value = Isa> {
        prop::sample::select(vec![Isa::Mips, Isa::MipsLe, Isa::Mips64, Isa::Mips64Le])
    }

    fn code() -> impl Strategy<Value = Vec<u32>> {
        let common = vec![
            super::LL,
            super::SC,
            super::ADD,
            super::RET,
            super::NOP,
            super::beqzl(2),
            super::always(-3),
        ];
        vec(prop_oneof![4 => prop::sample::select(common), 1 => any::<u32>()], 0..40)
    }

    proptest! {
        #[test]
        fn sequences_are_apart_and_inside(isa in isa(), words in code(), at in any::<u32>()) {
            let at = Address(u64::from(at) << 2);
            let code: Vec<u8> = words.iter().flat_map(|word| super::encode(isa, *word)).collect();
            let mut last = None;
            for range in &exclusive_sequences(isa, at, &code) {
                prop_assert!(range.start < range.end && last.is_none_or(|last| last < range.start));
                prop_assert!(range.start >= at && range.end <= at + code.len() as u64);
                last = Some(range.end);
            }
        }

        /// What runs in a slot is the instruction, or what is in its delay slot, alone or behind what only touches lent registers;
        /// it depends on as much as it is said to.
        #[test]
        fn slots_end_in_an_instruction_of_the_program(isa in isa(), code in vec(any::<u8>(), 0..12), at in any::<u64>()) {
            let at = isa.wrap(Address(at & !3));
            match (out_of_line(isa, at, &code), inspect(isa, at, &code)) {
                (Ok(found), Some(insn)) => {
                    prop_assert_eq!((found.len, insn.len), (4, 4));
                    let depends_on = found.depends_on(isa, at, &code);
                    prop_assert!(depends_on <= code.len());
                    let delays = delay_slot_of(isa, at + 4, &code[..4]) == Some(at);
                    prop_assert_eq!(delays, depends_on == 8);
                    if let (Some(slot), false) = (found.how.slot(), insn.flow == insn::Flow::Syscall) {
                        let last = &slot.code[slot.code.len() - 4..];
                        prop_assert!(!slot.lent.is_empty() || slot.code.len() == 4);
                        prop_assert!(last == &code[depends_on - 4..depends_on] || slot.lent.len() == 1);
                    }
                    prop_assert!(!matches!(found.how, How::Delayed(_)) || delays);
                    prop_assert_eq!(out_of_line(isa, at, &code[..depends_on]), Ok(found));
                }
                (found, None) => prop_assert_eq!(found, Err(Reason::Undecodable)),
                (Err(reason), Some(_)) => {
                    prop_assert!(matches!(reason, Reason::NotDisplaceable { .. }), "{}", reason);
                }
            }
        }
    }
}
