//! What lies between a load-locked and its store-conditional.

use insn::xol::exclusive_sequences;
use insn::{Address, Isa};

const AT: Address = Address(0x1_2000_0000);

const LDL_L: u32 = 0xa830_0000; // ldl_l t0,0(a0)
const STL_C: u32 = 0xb830_0000; // stl_c t0,0(a0)
const ADD: u32 = 0x4022_0403; // addq t0,t1,t2
const RET: u32 = 0x6bfa_8001;
const CALL: u32 = 0x83; // callsys
const BACK: u32 = 0xe43f_fffc; // beq t0,.-12
const RS: u32 = 0x6020_f000;
const RC: u32 = 0x6020_e000;
const RESERVED: u32 = 0x0400_0000;

/// `beq t0,` so many words on from the next.
fn beq(words: u32) -> u32 {
    0xe420_0000 | words
}

/// Words at which what is found begins and ends.
fn found(words: &[u32]) -> Vec<(u64, u64)> {
    let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let ranges = exclusive_sequences(Isa::Alpha, AT, &code);
    ranges.iter().map(|range| ((range.start - AT) / 4, (range.end - AT) / 4)).collect()
}

#[test]
fn a_loop_is_found() {
    assert_eq!(found(&[ADD, LDL_L, ADD, STL_C, BACK, ADD]), [(2, 4)]);
    assert_eq!(found(&[LDL_L, STL_C]), [(1, 2)]);
}

/// The comparison of a compare-and-swap leads out; floating-point branches do as well.
#[test]
fn a_way_out_is_none_of_it() {
    assert_eq!(found(&[LDL_L, beq(2), ADD, STL_C, RET]), [(1, 4)]);
    assert_eq!(found(&[LDL_L, beq(1), RET, STL_C]), [(1, 2), (3, 4)]);
    let fbeq = 0xc420_0001;
    assert_eq!(found(&[LDL_L, fbeq, RET, STL_C]), [(1, 2), (3, 4)]);
    let br = 0xc3e0_0001;
    assert_eq!(found(&[LDL_L, br, RET, STL_C]), [(1, 2), (3, 4)]);
}

#[test]
fn a_load_alone_is_no_sequence() {
    for words in [&[LDL_L, ADD, RET][..], &[LDL_L, CALL, STL_C], &[STL_C, ADD, LDL_L], &[]] {
        assert_eq!(found(words), [], "{words:x?}");
    }
    let bsr = 0xd340_0000;
    assert_eq!(found(&[LDL_L, bsr, STL_C]), []);
    assert_eq!(found(&[LDL_L, RESERVED, STL_C]), []);
}

#[test]
fn a_flag_of_the_program_s_own_is_one_too() {
    assert_eq!(found(&[RS, ADD, RC, ADD]), [(1, 3)]);
}
