//! Where instructions begin, and what lies between a load and reserve and its conditional store.

use std::collections::HashMap;

use insn::code::{Code, Outline};
use insn::plan::{Mechanism, Reason};
use insn::set::Analysis;
use insn::xol::{branch, exclusive_sequences};
use insn::{Address, Isa};

use super::cases::encode;
use crate::registers::Registers;

const AT: Address = Address(0x1_0000);

const LOAD: u32 = 0x7c60_2028; // lwarx 3,0,4
const STORE: u32 = 0x7ca0_212d; // stwcx. 5,0,4
const ADD: u32 = 0x7ca3_2a14;
const BLR: u32 = 0x4e80_0020;
const SC: u32 = 0x4400_0002;
const PREFIX: u32 = 0x0600_0000;
const LI: u32 = 0x3860_0007;

/// `bne`, so far.
fn bne(distance: i16) -> u32 {
    0x4082_0000 | u32::from(distance.cast_unsigned() & 0xfffc)
}

fn code(isa: Isa, words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| encode(isa, *word)).collect()
}

/// Offsets at which what is found begins and ends.
fn found(words: &[u32]) -> Vec<(u64, u64)> {
    let of = |isa| {
        let ranges = exclusive_sequences(isa, AT, &code(isa, words));
        ranges.iter().map(|range| (range.start - AT, range.end - AT)).collect::<Vec<_>>()
    };
    let all = [Isa::PowerPc, Isa::PowerPc64, Isa::PowerPc64Le].map(of);
    assert!(all[0] == all[1] && all[1] == all[2]);
    all[0].clone()
}

#[test]
fn a_loop_is_found() {
    assert_eq!(found(&[ADD, LOAD, ADD, STORE, bne(-12), ADD]), [(8, 16)]);
}

/// The comparison of a compare-and-swap leads out, and what it leads to is no part.
#[test]
fn a_way_out_is_none_of_it() {
    assert_eq!(found(&[LOAD, bne(12), STORE, bne(-12), BLR]), [(4, 12)]);
    // Between the two lies what only leads out.
    assert_eq!(found(&[LOAD, bne(8), BLR, STORE]), [(4, 8), (12, 16)]);
}

/// Two stores for one load; ways back.
#[test]
fn each_way_is_found() {
    assert_eq!(found(&[LOAD, bne(12), STORE, BLR, ADD, STORE, BLR]), [(4, 12), (16, 24)]);
    assert_eq!(found(&[STORE, bne(12), LOAD, bne(-12), BLR]), [(0, 4), (12, 16)]);
}

#[test]
fn a_load_alone_is_no_sequence() {
    assert_eq!(found(&[LOAD, ADD, BLR]), []);
    assert_eq!(found(&[LOAD, SC, STORE]), []);
    assert_eq!(found(&[LOAD, 0x4800_0011, STORE]), []); // bl
    assert_eq!(found(&[STORE, ADD, LOAD]), []);
    assert_eq!(found(&[]), []);
}

/// The second load has the reservation.
#[test]
fn a_second_load_begins_anew() {
    assert_eq!(found(&[LOAD, ADD, LOAD, ADD, STORE]), [(12, 20)]);
}

#[test]
fn copies_are_pasted() {
    assert_eq!(found(&[0x7c23_260c, ADD, 0x7c23_270d, ADD]), [(4, 12)]);
}

/// Prefixed instructions are within it as a whole; words that are no instruction hide nothing.
#[test]
fn lengths_are_known() {
    assert_eq!(found(&[LOAD, PREFIX, LOAD, STORE]), [(4, 16)]);
    assert_eq!(found(&[PREFIX, LOAD, ADD, STORE]), []);
    assert_eq!(found(&[0x0000_0001, LOAD, STORE]), [(8, 12)]);
}

/// A suffix is told by the word before it, but for the last word of 64 bytes, which is no prefix.
#[test]
fn a_place_inside_an_instruction_is_told() {
    let mut words = vec![ADD, PREFIX, LI, ADD];
    words.extend([ADD; 11]);
    words.extend([PREFIX, LI, ADD]);
    for isa in [Isa::PowerPc, Isa::PowerPc64, Isa::PowerPc64Le] {
        let bytes = code(isa, &words);
        let code = [Code { start: AT, bytes: &bytes }];
        let outline = Outline { functions: vec![AT..AT + bytes.len() as u64], ..Outline::default() };
        let analysis = Analysis::new(isa, &code, &outline, false, &mut |_| {});
        let reason = |offset| {
            let forced = HashMap::from([(AT + offset, Mechanism::Trap)]);
            let plan = analysis.plan(&[AT + offset], &forced, &[AT.span(1 << 20)]);
            plan.refused.first().map(|refusal| refusal.reason.clone())
        };
        for start in [0, 4, 12, 60, 64] {
            assert_eq!(reason(start), Some(Reason::NoStubs), "at {start}");
        }
        assert_eq!(reason(8), Some(Reason::InsideInstruction { start: AT + 4 }));
    }
}

/// The low bits of a register's target do not count, and addresses of 32 bits are that long.
#[test]
fn a_target_is_a_word() {
    for (isa, to) in [(Isa::PowerPc, 0x9abc_def0), (Isa::PowerPc64, 0x1234_5678_9abc_def0)] {
        let mut registers = Registers::new(isa);
        branch(isa, &mut registers.bytes, 0x1234_5678_9abc_def3);
        assert_eq!(registers.get("pc"), to);
    }
}

/// Whatever the bytes.
mod of_any_bytes {
    use insn::plan::Reason;
    use insn::xol::{How, OutOfLine, Slot, Then, exclusive_sequences, out_of_line};
    use insn::{Address, Isa, inspect};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn word() -> impl Strategy<Value = u32> {
        let common = prop::sample::select(vec![
            super::LOAD,
            super::STORE,
            super::ADD,
            super::BLR,
            super::PREFIX,
            super::bne(8),
        ]);
        // Prefixed loads and stores that are relative to themselves are few among all words.
        let prefix = any::<u32>().prop_map(|word| word & 0x0013_ffff | 0x0400_0000 | (word >> 31) << 25);
        let suffix = any::<u32>().prop_map(|word| word & !0x001f_0000);
        prop_oneof![2 => common, 1 => prefix, 1 => suffix, 2 => any::<u32>()]
    }

    fn code() -> impl Strategy<Value = (Isa, Vec<u8>)> {
        let isa = prop::sample::select(vec![Isa::PowerPc, Isa::PowerPc64, Isa::PowerPc64Le]);
        (isa, vec(word(), 0..40)).prop_map(|(isa, words)| (isa, super::code(isa, &words)))
    }

    proptest! {
        #[test]
        fn sequences_are_apart_and_inside((isa, code) in code(), at in 0..1_u64 << 30) {
            let at = Address(at << 2);
            let mut last = None;
            for range in &exclusive_sequences(isa, at, &code) {
                prop_assert!(range.start < range.end && last.is_none_or(|last| last < range.start));
                prop_assert!(range.start >= at && range.end <= at + code.len() as u64);
                last = Some(range.end);
            }
        }

        /// What a slot has may lie anywhere: out of line from there it is itself again.
        #[test]
        fn a_slot_knows_no_address((isa, code) in code(), at in any::<u64>(), slot in any::<u64>()) {
            let (at, slot) = (isa.wrap(Address(at & !3)), isa.wrap(Address(slot & !7)));
            match (out_of_line(isa, at, &code), inspect(isa, at, &code)) {
                (Ok(OutOfLine { len, how: How::Slot(found) }), Some(insn)) => {
                    prop_assert_eq!(len, insn.len);
                    if found.left.is_empty() {
                        let again = Slot { code: found.code.clone(), lent: vec![], left: vec![], then: Then::Next };
                        let expected = OutOfLine { len: found.code.len(), how: How::Slot(again) };
                        prop_assert_eq!(out_of_line(isa, slot, &found.code), Ok(expected));
                    }
                    for (lent, value) in &found.lent {
                        prop_assert!(*value == at.0 || found.then == Then::Branch(*lent));
                    }
                }
                (Ok(found), Some(insn)) => prop_assert_eq!(found.len, insn.len),
                (found, None) => prop_assert_eq!(found, Err(Reason::Undecodable)),
                (Err(reason), Some(_)) => {
                    prop_assert!(matches!(reason, Reason::NotDisplaceable { .. }), "{}", reason);
                }
            }
        }
    }
}
