//! What lies between a load-exclusive and its store, and where instructions begin; FEAT_CMPBR, which disassemblers do not know
//! yet.

use std::collections::HashMap;

use insn::code::{Code, Outline};
use insn::plan::{Mechanism, Reason};
use insn::set::Analysis;
use insn::xol::{branch, emulate, exclusive_sequences};
use insn::{Address, Isa};

use crate::registers::{NoMemory, Registers};

const AT: Address = Address(0x1_0000);

const LDXR: u32 = 0x885f_7c20; // ldxr w0, [x1]
const STXR: u32 = 0x8802_7c20; // stxr w2, w0, [x1]
const ADD: u32 = 0x1100_0400; // add w0, w0, #1
const RET: u32 = 0xd65f_03c0;
const SVC: u32 = 0xd400_0001;
const PACM: u32 = 0xd503_24ff;
const PACIASP: u32 = 0xd503_233f;

/// `cbnz w2` to so many instructions further.
fn cbnz(distance: i32) -> u32 {
    0x3500_0002 | (distance.cast_unsigned() & 0x7_ffff) << 5
}

/// `b` to so many instructions further.
fn b(distance: i32) -> u32 {
    0x1400_0000 | distance.cast_unsigned() & 0x3ff_ffff
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Where what is found begins and ends, counted in instructions.
fn found(words: &[u32]) -> Vec<(u64, u64)> {
    let ranges = exclusive_sequences(Isa::Arm64, AT, &bytes(words));
    ranges.iter().map(|range| ((range.start - AT) / 4, (range.end - AT) / 4)).collect()
}

#[test]
fn a_loop_is_found() {
    assert_eq!(found(&[ADD, LDXR, ADD, STXR, cbnz(-3), ADD]), [(2, 4)]);
}

/// The comparison of a compare-and-swap leads out, and what it leads to is no part.
#[test]
fn a_way_out_is_none_of_it() {
    assert_eq!(found(&[LDXR, cbnz(3), STXR, cbnz(-3), RET]), [(1, 3)]);
    assert_eq!(found(&[LDXR, cbnz(2), RET, ADD, STXR]), [(1, 2), (3, 5)]);
}

/// Compilers move a rare way out of line, and back.
#[test]
fn each_way_is_found() {
    assert_eq!(found(&[LDXR, cbnz(4), ADD, STXR, RET, ADD, b(-3)]), [(1, 4), (5, 7)]);
    assert_eq!(found(&[STXR, RET, ADD, LDXR, b(-4)]), [(0, 1), (4, 5)]);
}

#[test]
fn a_load_alone_is_no_sequence() {
    for words in [&[LDXR, ADD, RET][..], &[LDXR, SVC, STXR], &[STXR, ADD, LDXR], &[LDXR, 0, STXR], &[]] {
        assert_eq!(found(words), [], "{words:x?}");
    }
}

/// The second load has the monitor.
#[test]
fn a_second_load_begins_anew() {
    assert_eq!(found(&[LDXR, ADD, LDXR, ADD, STXR]), [(3, 5)]);
}

/// Both ways are followed side by side.
#[test]
fn a_long_way_out_hides_no_store() {
    let mut words = vec![LDXR, cbnz(5), ADD, ADD, STXR, RET];
    words.extend([ADD; 200]);
    assert_eq!(found(&words), [(1, 5)]);
}

/// Code without optimisation spills in between.
#[test]
fn a_long_sequence_is_found() {
    let mut words = vec![LDXR];
    words.extend([ADD; 60]);
    words.push(STXR);
    assert_eq!(found(&words), [(1, 62)]);
}

/// It would be signed with the address of its slot.
#[test]
fn what_a_pacm_has_sign_with_the_pc_is_found() {
    assert_eq!(found(&[PACM, PACIASP, ADD]), [(1, 2)]);
    assert_eq!(found(&[PACM]), []);
}

#[test]
fn a_place_inside_an_instruction_is_told() {
    let bytes = bytes(&[ADD, 0x0001_0000, ADD]);
    let code = [Code { start: AT, bytes: &bytes }];
    let outline = Outline { functions: vec![AT..AT + bytes.len() as u64], ..Outline::default() };
    let analysis = Analysis::new(Isa::Arm64, &code, &outline, false, &mut |_| {});
    let reason = |offset| {
        let forced = HashMap::from([(AT + offset, Mechanism::Trap)]);
        let plan = analysis.plan(&[AT + offset], &forced, &[AT.span(1 << 20)]);
        plan.refused.first().map(|refusal| refusal.reason.clone())
    };
    assert_eq!([0, 4, 8].map(reason), [Reason::NoStubs, Reason::Undecodable, Reason::NoStubs].map(Some));
    for (inside, start) in [(1, 0), (6, 4), (11, 8)] {
        assert_eq!(reason(inside), Some(Reason::InsideInstruction { start: AT + start }), "at {inside}");
    }
}

#[test]
fn a_branch_drops_the_tag_of_its_target() {
    let mut registers = vec![0; Isa::Arm64.abi().regset_len];
    for (to, pc) in [(0x5a00_0000_1234_5678, 0x1234_5678), (0x5a80_0000_0000_0004, 0x5a80_0000_0000_0004)] {
        branch(Isa::Arm64, &mut registers, to);
        assert_eq!(Isa::Arm64.abi().get(&registers, Isa::Arm64.abi().pc), pc);
    }
}

/// Whether `word`, a branch by 16 bytes, is taken with x0 and x1 like that.
fn is_taken(word: u32, x0: u64, x1: u64) -> bool {
    let mut registers = Registers::new(Isa::Arm64);
    registers.set(0, x0);
    registers.set(1, x1);
    emulate(Isa::Arm64, AT, &word.to_le_bytes(), &mut registers.bytes, &mut NoMemory).unwrap();
    match registers.pc() - AT.0 {
        16 => true,
        4 => false,
        other => panic!("{other}"),
    }
}

/// The encodings are those of the tests of LLVM's assembler.
#[test]
fn compared_and_branched() {
    let minus = u64::MAX;
    for (word, name, x0, x1, taken) in [
        (0xf401_0080, "cbgt x0, x1", 1, minus, true),
        (0xf401_0080, "cbgt x0, x1", 1, 1, false),
        (0x7401_0080, "cbgt w0, w1", 1 << 32, 1, false),
        (0x7421_0080, "cbge w0, w1", 1 << 31, 0, false),
        (0xf441_0080, "cbhi x0, x1", minus, 1, true),
        (0xf461_0080, "cbhs x0, x1", 1, 1, true),
        (0x74c1_0080, "cbeq w0, w1", 1 << 32, 0, true),
        (0xf4e1_0080, "cbne x0, x1", 1 << 32, 0, true),
        (0x7401_8080, "cbbgt w0, w1", 0x1ff, 0, false),
        (0x7461_8080, "cbbhs w0, w1", 0xff, 0x1fe, true),
        (0x7421_c080, "cbhge w0, w1", 0x8000, 0, false),
        (0x74c1_c080, "cbheq w0, w1", 0xf_8000, 0x8000, true),
        (0x7522_8080, "cblt w0, #5", 1 << 31, 0, true),
        (0xf562_8080, "cblo x0, #5", minus, 0, false),
        (0xf51f_8080, "cbgt x0, #63", 64, 0, true),
        (0x75c2_8080, "cbeq w0, #5", 5, 0, true),
    ] {
        assert_eq!(is_taken(word, x0, x1), taken, "{name} of {x0:#x} and {x1:#x}");
    }
}

mod of_any_word {
    use insn::plan::Reason;
    use insn::xol::{How, Slot, Then, exclusive_sequences, out_of_line};
    use insn::{Address, Isa, inspect};
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// What is run in a slot does not know where it is: it would be run elsewhere as it is.
        #[test]
        fn a_slot_names_no_pc(word in any::<u32>(), at in any::<u64>(), elsewhere in any::<u64>()) {
            let bytes = word.to_le_bytes();
            match (out_of_line(Isa::Arm64, Address(at & !3), &bytes), inspect(Isa::Arm64, Address(at & !3), &bytes)) {
                (Ok(found), Some(_)) => {
                    prop_assert_eq!(found.len, 4);
                    if let How::Slot(slot) = found.how {
                        let again = out_of_line(Isa::Arm64, Address(elsewhere & !3), &slot.code).unwrap();
                        let copy = Slot { code: slot.code, lent: vec![], left: vec![], then: Then::Next };
                        prop_assert_eq!(again.how, How::Slot(copy));
                    }
                }
                (found, None) => prop_assert_eq!(found, Err(Reason::Undecodable)),
                (Err(reason), Some(_)) => {
                    prop_assert!(matches!(reason, Reason::NotDisplaceable { .. }), "{}", reason);
                }
            }
        }

        #[test]
        fn nothing_begins_at_an_odd_address(bytes in vec(any::<u8>(), 0..8), at in any::<u64>()) {
            if !at.is_multiple_of(4) || bytes.len() < 4 {
                prop_assert_eq!(out_of_line(Isa::Arm64, Address(at), &bytes), Err(Reason::Undecodable));
            }
        }

        /// In order, apart, and inside.
        #[test]
        fn sequences_are_apart_and_inside(
            words in vec(prop_oneof![
                2 => prop::sample::select(vec![super::LDXR, super::STXR, super::ADD, super::RET, 0x3500_0062, 0x17ff_fffd]),
                1 => any::<u32>(),
            ], 0..40),
            at in any::<u64>(),
        ) {
            let at = at & !3;
            let found = exclusive_sequences(Isa::Arm64, Address(at), &super::bytes(&words));
            let offsets: Vec<_> = found.iter().map(|range| [range.start, range.end].map(|end| end.0.wrapping_sub(at))).collect();
            let mut last = None;
            for [start, end] in offsets {
                prop_assert!(start < end && last.is_none_or(|last| last < start) && end <= 4 * words.len() as u64);
                last = Some(end);
            }
        }
    }
}
