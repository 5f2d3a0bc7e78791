//! Where instructions begin, and which of them a breakpoint would spoil.

use insn::xol::exclusive_sequences;
use insn::{Address, Isa};

use super::cases::encode;

const AT: Address = Address(0x1_0000);

const TBEGIN: u64 = 0xe560_0000_ff08;
const TEND: u64 = 0xb2f8_0000_0000;
const AGR: u64 = 0xb908_0023_0000;
const LR: u64 = 0x1812_0000_0000;
const RETURN: u64 = 0x07fe_0000_0000;
const SVC: u64 = 0x0a00_0000_0000;

/// `jne`, so far.
fn jne(distance: u64) -> u64 {
    0xa774_0000_0000 | (distance / 2) << 16
}

/// `exrl %r1,` so far.
fn exrl(distance: i32) -> u64 {
    0xc610_0000_0000 | u64::from((distance / 2).cast_unsigned())
}

/// Offsets at which what is found begins and ends.
fn found(code: &[u64]) -> Vec<(u64, u64)> {
    let code: Vec<u8> = code.iter().flat_map(|word| encode(*word)).collect();
    let ranges = exclusive_sequences(Isa::S390x, AT, &code);
    ranges.iter().map(|range| (range.start - AT, range.end - AT)).collect()
}

#[test]
fn a_transaction_is_found() {
    assert_eq!(found(&[LR, TBEGIN, AGR, LR, TEND, RETURN]), [(8, 18)]);
    // TBEGINC.
    assert_eq!(found(&[TBEGIN | 1 << 32, AGR, TEND]), [(6, 14)]);
}

/// What an aborted one leads to is no part.
#[test]
fn a_way_out_is_none_of_it() {
    assert_eq!(found(&[TBEGIN, jne(12), AGR, TEND, AGR]), [(6, 18)]);
    assert_eq!(found(&[TBEGIN, jne(6), RETURN, AGR, TEND]), [(6, 10), (12, 20)]);
}

#[test]
fn a_begin_alone_is_no_transaction() {
    assert_eq!(found(&[TBEGIN, AGR, RETURN]), []);
    assert_eq!(found(&[TBEGIN, SVC, TEND]), []);
    assert_eq!(found(&[TEND, AGR, TBEGIN]), []);
}

/// A breakpoint over it would be executed by `exrl`.
#[test]
fn what_is_executed_from_elsewhere_is_found() {
    assert_eq!(found(&[exrl(8), RETURN, AGR, LR]), [(8, 12)]);
    assert_eq!(found(&[LR, exrl(-2), RETURN]), [(0, 2)]);
    // Out of reach, and cut short.
    assert_eq!(found(&[exrl(-2), exrl(20), RETURN]), []);
}

#[test]
fn data_in_between_hides_nothing_behind_it() {
    assert_eq!(found(&[0xffff_ffff_ffff, TBEGIN, TEND]), [(12, 16)]);
}

mod of_any_bytes {
    use insn::plan::Reason;
    use insn::xol::{How, Then, exclusive_sequences, out_of_line};
    use insn::{Address, Isa, inspect};
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sequences_are_apart_and_inside(words in vec(prop_oneof![
            Just(super::TBEGIN), Just(super::TEND), Just(super::AGR), Just(super::exrl(-6)), any::<u64>(),
        ], 0..40)) {
            let code: Vec<u8> = words.iter().flat_map(|word| super::encode(*word)).collect();
            let found = exclusive_sequences(Isa::S390x, super::AT, &code);
            let mut last = None;
            for range in &found {
                prop_assert!(range.start < range.end && last.is_none_or(|last| last < range.start));
                prop_assert!(range.start >= super::AT && range.end <= super::AT + code.len() as u64);
                last = Some(range.end);
            }
        }

        /// A slot has the instruction as it was, or with a lent base register.
        #[test]
        fn what_is_run_is_the_instruction(code in vec(any::<u8>(), 0..8), at in any::<u64>()) {
            let at = Address(at & !1);
            match (out_of_line(Isa::S390x, at, &code), inspect(Isa::S390x, at, &code)) {
                (Ok(found), Some(insn)) => {
                    prop_assert_eq!(found.len, insn.len);
                    if let How::Slot(slot) = found.how {
                        prop_assert_eq!(slot.code.len(), insn.len);
                        prop_assert!(slot.lent.len() == 1 || slot.code == code[..insn.len]);
                        prop_assert!(slot.left.is_empty() && slot.then == Then::Next);
                    }
                }
                (found, None) => prop_assert_eq!(found, Err(Reason::Undecodable)),
                (Err(reason), Some(_)) => {
                    prop_assert!(matches!(reason, Reason::NotDisplaceable { .. }), "{}", reason);
                }
            }
        }
    }
}
