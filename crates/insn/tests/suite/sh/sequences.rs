//! Atomic sequences, delay slots, and data between instructions.

use insn::xol::{data, delay_slot_of, exclusive_sequences};
use insn::{Address, Isa};
use proptest::collection::vec;
use proptest::prelude::*;

const AT: Address = Address(0x1_0000);

const MOVLI: u16 = 0x0463; // movli.l @r4,r0
const MOVCO: u16 = 0x0473; // movco.l r0,@r4
const ADD: u16 = 0x7001; // add #1,r0
const NOP: u16 = 0x0009;
const RTS: u16 = 0x000b;
const SAVE: u16 = 0x61f3; // mov r15,r1
const RESTORE: u16 = 0x6f13; // mov r1,r15
const MARK: u16 = 0xeff8; // mov #-8,r15

fn bytes(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn offsets(ranges: &[std::ops::Range<Address>]) -> Vec<(u64, u64)> {
    ranges.iter().map(|range| (range.start - AT, range.end - AT)).collect()
}

/// Offsets at which what is found begins and ends.
fn found(words: &[u16]) -> Vec<(u64, u64)> {
    offsets(&exclusive_sequences(Isa::Sh, AT, &bytes(words)))
}

#[test]
fn a_loop_is_found() {
    let back = 0x8bfb; // bf .-6
    assert_eq!(found(&[NOP, MOVLI, ADD, MOVCO, back, RTS, NOP]), [(4, 8)]);
}

/// As GCC compares and swaps: the instruction in a delay slot is done on either way.
#[test]
fn a_way_out_takes_its_delay_slot_along() {
    let compare = 0x8801; // cmp/eq #1,r0
    let out = 0x8f03; // bf/s .+10
    assert_eq!(found(&[MOVLI, compare, out, 0x6103, 0xe002, MOVCO, 0x8bf8, RTS, NOP]), [(2, 12)]);
}

#[test]
fn a_delay_slot_may_hold_the_store() {
    let back = 0xaffd; // bra .-2
    assert_eq!(found(&[MOVLI, ADD, back, MOVCO, RTS]), [(2, 8)]);
}

#[test]
fn a_load_alone_is_no_sequence() {
    assert_eq!(found(&[MOVLI, RTS, NOP, MOVCO]), []);
    assert_eq!(found(&[MOVLI, 0xc313, MOVCO]), []);
    assert_eq!(found(&[]), []);
}

#[test]
fn what_is_marked_is_found() {
    assert_eq!(found(&[SAVE, MARK, NOP, NOP, NOP, NOP, RESTORE, RTS]), [(4, 12)]);
    // With one of the two moves elsewhere.
    assert_eq!(found(&[SAVE, NOP, MARK, NOP, NOP, NOP, NOP, RESTORE, RTS]), [(6, 14)]);
    assert_eq!(found(&[SAVE, MARK, NOP, NOP, NOP, NOP, NOP, RESTORE]), [(4, 12)]);
    // Cut off.
    assert_eq!(found(&[SAVE, MARK, NOP, NOP]), [(4, 8)]);
}

#[test]
fn a_constant_marks_nothing() {
    assert_eq!(found(&[NOP, MARK, NOP, NOP, NOP, NOP, NOP, RTS]), []);
}

fn branch_before(words: &[u16]) -> Option<u64> {
    let code = bytes(words);
    delay_slot_of(Isa::Sh, AT + code.len() as u64, &code).map(|branch| branch - AT)
}

#[test]
fn delay_slots_belong_to_their_branches() {
    for branch in [RTS, 0xa003, 0xb003, 0x0123, 0x0103, 0x402b, 0x410b, 0x8d05, 0x8f05] {
        assert_eq!(branch_before(&[NOP, branch]), Some(2), "{branch:#x}");
    }
    for other in [NOP, 0x8905, 0x8b05, 0x002b, 0xc310] {
        assert_eq!(branch_before(&[NOP, other]), None, "{other:#x}");
    }
    assert_eq!(branch_before(&[]), None);
}

/// Constants may look like branches.
#[test]
fn a_constant_is_no_branch() {
    let load = 0xd100; // mov.l .+4,r1
    assert_eq!(branch_before(&[load, NOP, 0x1234, 0xa003]), None);
    assert_eq!(branch_before(&[NOP, NOP, 0x1234, 0xa003]), Some(6));
}

fn data_of(words: &[u16]) -> Vec<(u64, u64)> {
    offsets(&data(Isa::Sh, AT, &bytes(words)))
}

#[test]
fn constants_are_data() {
    // mov.w .+8,r2; mov.l .+8,r1: a half-word, and a word at the next multiple of 4.
    assert_eq!(data_of(&[0x9202, 0xd101, RTS, NOP, 0x1234, NOP, 0x6103, NOP]), [(8, 12)]);
    // They may look like loads.
    assert_eq!(data_of(&[0xd101, RTS, NOP, NOP, 0xd100, 0xd100, NOP, NOP]), [(8, 12)]);
}

#[test]
fn the_address_of_the_end_of_a_sequence_is_code() {
    // mova .+16,r0
    assert_eq!(data_of(&[0xc703, NOP, SAVE, MARK, NOP, NOP, NOP, NOP, RESTORE, RTS]), []);
}

/// As GCC has a `switch`: the table ends where its lowest entry leads, or where a comparison says.
#[test]
fn tables_of_branches_are_data() {
    // mova .+12,r0; add r1,r1; mov.w @(r0,r1),r1; braf r1; nop; nop; entries from .+8 (the PC that `braf` sees) on
    let table = [0xc702, 0x311c, 0x011d, 0x0123, NOP, NOP, 0x0008, 0x000a, 0x000c, NOP, NOP, NOP, RTS, NOP];
    assert_eq!(data_of(&table), [(12, 18)]);
    // mov #1,r3; cmp/hi r3,r1
    let bounded = [&[0xe301, 0x3136][..], &table[..8], &[0xffff, NOP, NOP, RTS, NOP]].concat();
    assert_eq!(data_of(&bounded), [(16, 20)]);
}

proptest! {
    #[test]
    fn ranges_are_apart_and_inside(code in vec(any::<u8>(), 0..200), at in any::<u32>()) {
        let at = Address(u64::from(at) & !1);
        let sequences = exclusive_sequences(Isa::Sh, at, &code);
        let end = at + code.len() as u64;
        for found in [sequences, data(Isa::Sh, at, &code)] {
            prop_assert!(found.array_windows().all(|[one, next]| one.end < next.start));
            prop_assert!(found.iter().all(|range| at < range.start && range.start < range.end && range.end <= end));
        }
        let _ = delay_slot_of(Isa::Sh, end, &code);
    }
}
