//! What lies between a load-exclusive and its store, breakpoints, and IT blocks on the registers.

use std::ops::Range;

use insn::xol::{Fault, How, Memory, branch, emulate, exclusive_sequences, out_of_line};
use insn::{Address, Isa};

use super::registers::{CPSR, PC, T, set_it};
use crate::registers::Registers;

const AT: Address = Address(0x1_0000);

const LDREX: u32 = 0xe191_0f9f; // ldrex r0, [r1]
const STREX: u32 = 0xe181_2f90; // strex r2, r0, [r1]
const STREXEQ: u32 = 0x0181_2f90;
const ADD: u32 = 0xe280_0001;
const CMP: u32 = 0xe352_0000; // cmp r2, #0
const BX: u32 = 0xe12f_ff1e;

/// `bne` to so many instructions further.
fn bne(distance: i32) -> u32 {
    0x1a00_0000 | (distance - 2) as u32 & 0xff_ffff
}

/// What is found in A32, counted in instructions.
fn a32(words: &[u32]) -> Vec<Range<u64>> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let ranges = exclusive_sequences(Isa::Arm, AT, &bytes);
    ranges.iter().map(|range| (range.start - AT) / 4..(range.end - AT) / 4).collect()
}

/// In T32, in halfwords.
fn t32(halves: &[u16]) -> Vec<Range<u64>> {
    let bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
    let ranges = exclusive_sequences(Isa::Thumb, AT, &bytes);
    ranges.iter().map(|range| (range.start - AT) / 2..(range.end - AT) / 2).collect()
}

#[test]
fn a_loop_is_found() {
    assert_eq!(a32(&[ADD, LDREX, ADD, STREX, CMP, bne(-4), ADD]), [2..4]);
    // ldrex r0, [r1]; adds r0, #1; strex r2, r0, [r1]; cmp r2, #0; bne
    assert_eq!(t32(&[0xe851, 0x0f00, 0x3001, 0xe841, 0x0200, 0x2a00, 0xd1f8]), [2..5]);
}

/// The comparison of a compare-and-swap leads out, and what it leads to is no part.
#[test]
fn a_way_out_is_none_of_it() {
    assert_eq!(a32(&[LDREX, CMP, bne(3), STREX, CMP, BX]), [1..4]);
    assert_eq!(a32(&[LDREX, BX, STREX]), [] as [Range<u64>; 0]);
    assert_eq!(a32(&[LDREX, 0xf57f_f01f, STREX]), [] as [Range<u64>; 0], "clrex ends it");
}

/// What is done on a condition may not be done: the store, and the return in front of it.
#[test]
fn conditions_are_not_taken_for_granted() {
    assert_eq!(a32(&[LDREX, CMP, STREXEQ, ADD]), [1..3]);
    assert_eq!(a32(&[LDREX, 0x012f_ff1e, STREX]), [1..3], "bxeq lr");
    // ldrex; it eq; bxeq lr; strex
    assert_eq!(t32(&[0xe851, 0x0f00, 0xbf08, 0x4770, 0xe841, 0x0200]), [2..6]);
    assert_eq!(t32(&[0xe851, 0x0f00, 0x4770, 0xe841, 0x0200]), [] as [Range<u64>; 0]);
}

#[test]
fn any_bytes_have_sequences_or_none() {
    let bytes: Vec<u8> = (0..4096_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for isa in [Isa::Arm, Isa::Thumb] {
        for len in [0, 1, 3, 4095, 4096] {
            let _ = exclusive_sequences(isa, AT, &bytes[..len]);
            let _ = exclusive_sequences(isa, AT + 1, &bytes[..len]);
        }
    }
}

/// Processors may take a list of r15 alone for undefined in T32 (LDM, T2; LDMDB, T1).
#[test]
fn a_list_of_r15_alone_is_not_displaced_in_t32() {
    let how = |isa, word: u32| {
        let bytes = if isa == Isa::Thumb { word.rotate_left(16) } else { word }.to_le_bytes();
        out_of_line(isa, AT, &bytes).ok().map(|found| found.how)
    };
    // ldm r5, {pc}; ldmdb r5, {pc}; ldm r5, {r0, pc}
    assert_eq!([0xe895_8000, 0xe915_8000].map(|word| how(Isa::Thumb, word)), [None, None]);
    assert_eq!(how(Isa::Thumb, 0xe895_8001), Some(How::Emulated));
    assert_eq!(how(Isa::Arm, 0xe895_8000), Some(How::Emulated));
}

#[test]
fn a_branch_chooses_the_encoding() {
    let mut registers = Registers::new(Isa::Arm);
    branch(Isa::Arm, &mut registers.bytes, 0x2_0001);
    assert_eq!((registers.get(PC), registers.get(CPSR)), (0x2_0000, T));
    branch(Isa::Thumb, &mut registers.bytes, 0x3_0000);
    assert_eq!((registers.get(PC), registers.get(CPSR)), (0x3_0000, 0));
}

/// A breakpoint of T32 is as long as what it stands for.
#[test]
fn breakpoints_have_the_length_of_the_instruction() {
    assert_eq!(Isa::Arm.breakpoint(4), [0xf0, 0x01, 0xf0, 0xe7]);
    assert_eq!(Isa::Thumb.breakpoint(2), [0x01, 0xde]);
    assert_eq!(Isa::Thumb.breakpoint(4), [0xf0, 0xf7, 0x00, 0xa0]);
}

/// Memory of one list of words.
struct Words(u32, Vec<u32>);

impl Memory for Words {
    fn read(&mut self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        let bytes: Vec<u8> = self.1.iter().flat_map(|word| word.to_le_bytes()).collect();
        let from = at.0.checked_sub(u64::from(self.0)).ok_or(Fault::Memory(at))? as usize;
        into.copy_from_slice(bytes.get(from..from + into.len()).ok_or(Fault::Memory(at))?);
        Ok(())
    }

    fn write(&mut self, at: Address, _: &[u8]) -> Result<(), Fault> {
        Err(Fault::Memory(at))
    }
}

/// `longjmp` of A32: the stack pointer, what was saved, and the way back into T32.
#[test]
fn longjmp_is_carried_out() {
    let mut registers = Registers::new(Isa::Arm);
    registers.set(0, 0x4000);
    let mut memory = Words(0x4000, vec![4, 5, 0x7000, 0x2_0003]);
    // ldm r0, {r4, r5, sp, pc}
    emulate(Isa::Arm, AT, &0xe890_a030_u32.to_le_bytes(), &mut registers.bytes, &mut memory).unwrap();
    let got = [4, 5, 13, PC, CPSR, 0].map(|number| registers.get(number));
    assert_eq!(got, [4, 5, 0x7000, 0x2_0002, T, 0x4000]);
}

/// Where memory fails nothing has changed.
#[test]
fn a_fault_changes_nothing() {
    let mut registers = Registers::new(Isa::Arm);
    registers.set(0, 0x4000);
    registers.set(CPSR, T);
    set_it(&mut registers, 0b1110_1000);
    let before = registers.clone();
    for bytes in [[0xb0, 0xe8, 0x10, 0x80], [0xd0, 0xe8, 0x11, 0xf0]] {
        let fault = emulate(Isa::Thumb, AT, &bytes, &mut registers.bytes, &mut Words(0, vec![]));
        assert!(matches!(fault, Err(Fault::Memory(_))), "{fault:?}");
        assert_eq!(registers, before);
    }
}

/// CPSR.E: data is big-endian, code is not.
#[test]
fn words_are_in_the_order_of_data() {
    let mut registers = Registers::new(Isa::Arm);
    registers.set(CPSR, 1 << 9);
    registers.set(13, 0x4000);
    let mut memory = Words(0x4000, vec![0x2_0001_u32.swap_bytes(), 0]);
    // ldm sp!, {pc}
    emulate(Isa::Arm, AT, &0xe8bd_8000_u32.to_le_bytes(), &mut registers.bytes, &mut memory).unwrap();
    assert_eq!((registers.get(PC), registers.get(13)), (0x2_0000, 0x4004));
}
