//! Where instructions begin, and what lies between a load-reserved and its store-conditional.

use std::collections::HashMap;

use insn::code::{Code, Outline};
use insn::plan::{Mechanism, Reason};
use insn::set::Analysis;
use insn::xol::exclusive_sequences;
use insn::{Address, Isa};

use super::cases::encode;

const AT: Address = Address(0x1_0000);

const LR: u32 = 0x1005_a52f; // lr.w a0,(a1)
const SC: u32 = 0x18c5_a62f; // sc.w a2,a2,(a1)
const ADD: u32 = 0x00b5_0533; // add a0,a0,a1
const C_ADD: u32 = 0x952e; // c.add a0,a1
const RET: u32 = 0x8082;
const ECALL: u32 = 0x73;

/// `bne a0,a3,` so far.
fn bne(distance: u32) -> u32 {
    assert!(distance < 32);
    0x00d5_1063 | distance << 7
}

/// Offsets at which what is found begins and ends.
fn found(words: &[u32]) -> Vec<(u64, u64)> {
    let code: Vec<u8> = words.iter().flat_map(|word| encode(*word)).collect();
    let ranges = exclusive_sequences(Isa::RiscV64, AT, &code);
    ranges.iter().map(|range| (range.start - AT, range.end - AT)).collect()
}

#[test]
fn a_loop_is_found() {
    let back = 0xfe06_1ae3; // bne a2,zero,.-12
    assert_eq!(found(&[C_ADD, LR, ADD, SC, back, C_ADD]), [(6, 14)]);
}

/// The comparison of a compare-and-swap leads out, and what it leads to is no part.
#[test]
fn a_way_out_is_none_of_it() {
    assert_eq!(found(&[LR, bne(12), SC, 0xfe06_1ce3, RET]), [(4, 12)]);
    // Between the two lies what only leads out.
    assert_eq!(found(&[LR, bne(6), RET, C_ADD, SC]), [(4, 8), (10, 16)]);
    assert_eq!(found(&[LR, bne(6), RET, SC, ADD]), [(4, 8), (10, 14)]);
}

/// Two stores for one load.
#[test]
fn each_way_is_found() {
    assert_eq!(found(&[LR, bne(10), SC, RET, ADD, SC, RET]), [(4, 12), (14, 22)]);
}

#[test]
fn a_load_alone_is_no_sequence() {
    assert_eq!(found(&[LR, ADD, RET]), []);
    assert_eq!(found(&[LR, ECALL, SC]), []);
    assert_eq!(found(&[SC, ADD, LR]), []);
    assert_eq!(found(&[]), []);
}

/// The second load has the reservation; the first is not asked for.
#[test]
fn a_second_load_begins_anew() {
    assert_eq!(found(&[LR, ADD, LR, C_ADD, SC]), [(12, 18)]);
    assert_eq!(found(&[LR, bne(12), ADD, SC, LR, ADD, SC]), [(4, 16), (20, 28)]);
}

/// One sequence lies between two parts of another.
#[test]
fn sequences_may_lie_within_each_other() {
    assert_eq!(found(&[LR, bne(18), LR, ADD, SC, RET, ADD, SC, RET]), [(4, 8), (12, 20), (22, 30)]);
}

#[test]
fn ways_may_lead_back() {
    let forth = 0xa019; // c.j .+6
    let back = 0xfed5_1ee3; // bne a0,a3,.-4
    assert_eq!(found(&[LR, forth, SC, back, RET]), [(4, 14)]);
    assert_eq!(found(&[LR, forth, ADD, back, SC]), [(4, 18)]);
    assert_eq!(found(&[LR, forth, ADD, RET, back]), []);
}

#[test]
fn data_in_between_hides_nothing_behind_it() {
    assert_eq!(found(&[0xffff_ffff, LR, SC]), [(8, 12)]);
}

/// A constrained loop has 16 instructions (8.3).
#[test]
fn the_longest_constrained_loop_is_found() {
    let mut code = vec![LR];
    code.extend([ADD; 13]);
    code.extend([SC, 0xfc06_14e3]);
    assert_eq!(found(&code), [(4, 60)]);
}

/// Lengths tell where instructions begin, whether they are known or not.
#[test]
fn a_place_inside_an_instruction_is_told() {
    let bytes: Vec<u8> = [C_ADD, ADD, 0x57, 0, C_ADD].iter().flat_map(|word| encode(*word)).collect();
    let code = [Code { start: AT, bytes: &bytes }];
    let outline = Outline { functions: vec![AT..AT + bytes.len() as u64], ..Outline::default() };
    let analysis = Analysis::new(Isa::RiscV64, &code, &outline, false, &mut |_| {});
    let reason = |offset| {
        let forced = HashMap::from([(AT + offset, Mechanism::Trap)]);
        let plan = analysis.plan(&[AT + offset], &forced, &[AT.span(1 << 20)]);
        plan.refused.first().map(|refusal| refusal.reason.clone())
    };
    for start in [0, 2, 6, 10, 12] {
        assert_eq!(reason(start), Some(Reason::NoStubs), "at {start}");
    }
    for (inside, start) in [(4, 2), (8, 6)] {
        assert_eq!(reason(inside), Some(Reason::InsideInstruction { start: AT + start }), "at {inside}");
    }
}

/// Whatever the bytes: in order, apart, inside, and at the end a whole store or nothing.
mod of_any_bytes {
    use insn::plan::Reason;
    use insn::xol::{How, Then, exclusive_sequences, out_of_line};
    use insn::{Address, Isa, inspect};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn code() -> impl Strategy<Value = Vec<u8>> {
        let common = prop::sample::select(vec![
            super::LR,
            super::SC,
            super::ADD,
            super::C_ADD,
            super::RET,
            super::ECALL,
            0x00d5_1463,
            0xa019,
        ]);
        let words = vec(prop_oneof![4 => common, 1 => any::<u32>()], 0..40);
        words.prop_map(|words| words.iter().flat_map(|word| super::encode(*word)).collect())
    }

    fn isa() -> impl Strategy<Value = Isa> {
        prop::sample::select(vec![Isa::RiscV32, Isa::RiscV64])
    }

    proptest! {
        #[test]
        fn sequences_are_apart_and_inside(isa in isa(), code in code(), at in any::<u32>()) {
            let at = Address(u64::from(at) << 1);
            let found = exclusive_sequences(isa, at, &code);
            let mut last = None;
            for range in &found {
                prop_assert!(range.start < range.end && last.is_none_or(|last| last < range.start));
                prop_assert!(range.start > at && range.end <= at + code.len() as u64);
                last = Some(range.end);
            }
        }

        /// A slot has the instruction as it was, nothing is lent, and control falls off its end.
        #[test]
        fn what_is_run_is_the_instruction(isa in isa(), code in vec(any::<u8>(), 0..8), at in any::<u64>()) {
            let at = isa.wrap(Address(at & !1));
            match (out_of_line(isa, at, &code), inspect(isa, at, &code)) {
                (Ok(found), Some(insn)) => {
                    prop_assert_eq!(found.len, insn.len);
                    if let How::Slot(slot) = found.how {
                        prop_assert_eq!(&slot.code, &code[..insn.len]);
                        prop_assert!(slot.lent.is_empty() && slot.left.is_empty() && slot.then == Then::Next);
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
