//! Random encodings of every instruction that iced-x86 knows in 64-bit mode.
//!
//! What fixes the instruction (prefixes, map, opcode, the fields of VEX and EVEX) comes from its description; ModRM, SIB,
//! displacement, immediate and the free fields are random, and so are further prefixes. Whether the result decodes, and
//! as what, is the decoder's to say.

use iced_x86::{Code, EncodingKind, MandatoryPrefix, OpCodeInfo, OpCodeTableKind};

use crate::random::Random;

/// Longest instruction (Intel SDM vol. 2, 2.3.11).
pub const MAX_LEN: usize = 15;

/// Prefixes that may stand before most instructions, whether they mean anything there or not.
const PREFIXES: [u8; 11] = [0x66, 0x67, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65, 0xf0];

/// The same where an operand-size, lock or repeat prefix is never right: before VEX, XOP and EVEX.
const ADDRESS_PREFIXES: [u8; 7] = [0x67, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65];

/// The codes that 64-bit mode has without options of the decoder.
#[must_use]
pub fn codes() -> Vec<Code> {
    let is_ours = |code: &Code| {
        let info = code.op_code();
        // The 16-bit near branches are AMD's reading of a prefix that Intel ignores there: bytes that both decode, as
        // different instructions.
        let is_common = info.intel_decoder64() || !info.amd_decoder64();
        info.is_instruction() && info.mode64() && info.decoder_option() == 0 && !info.fwait() && is_common
    };
    Code::values().filter(is_ours).collect()
}

/// Bytes meant to decode as `code`, and random ones behind them; more than [`MAX_LEN`] together.
#[must_use]
pub fn encode(code: Code, random: &mut Random) -> Vec<u8> {
    let info = code.op_code();
    let mut bytes = Vec::with_capacity(40);
    match info.encoding() {
        EncodingKind::Legacy | EncodingKind::D3NOW => legacy(info, random, &mut bytes),
        EncodingKind::VEX => vex(info, random, &mut bytes),
        EncodingKind::XOP => three_byte(0x8f, info, random, &mut bytes),
        _ => evex(info, random, &mut bytes),
    }
    opcode(info, &mut bytes);
    operands(info, random, &mut bytes);
    bytes
}

fn legacy(info: &OpCodeInfo, random: &mut Random, bytes: &mut Vec<u8>) {
    if random.percent(25) {
        bytes.extend((0..=random.below(3)).map(|_| random.choose(&PREFIXES)));
    }
    if info.operand_size() == 16 {
        bytes.push(0x66);
    }
    if info.address_size() == 32 {
        bytes.push(0x67);
    }
    match info.mandatory_prefix() {
        MandatoryPrefix::P66 => bytes.push(0x66),
        MandatoryPrefix::PF3 => bytes.push(0xf3),
        MandatoryPrefix::PF2 => bytes.push(0xf2),
        _ => {}
    }
    let is_wide = info.operand_size() == 64 && !info.default_op_size64() && !info.force_op_size64();
    let wide = if is_wide || info.w() == 1 || random.percent(5) { 8 } else { 0 };
    let extended = if random.percent(50) { random.byte() & 7 } else { 0 };
    if wide | extended != 0 {
        bytes.push(0x40 | wide | extended);
    }
    match info.table() {
        OpCodeTableKind::T0F => bytes.push(0x0f),
        OpCodeTableKind::T0F38 => bytes.extend([0x0f, 0x38]),
        OpCodeTableKind::T0F3A => bytes.extend([0x0f, 0x3a]),
        _ => {}
    }
}

/// The map's number in VEX, XOP and EVEX.
fn map(info: &OpCodeInfo) -> u8 {
    match info.table() {
        OpCodeTableKind::T0F => 1,
        OpCodeTableKind::T0F38 => 2,
        OpCodeTableKind::T0F3A => 3,
        OpCodeTableKind::MAP5 => 5,
        OpCodeTableKind::MAP6 => 6,
        OpCodeTableKind::MAP8 => 8,
        OpCodeTableKind::MAP9 => 9,
        OpCodeTableKind::MAP10 => 10,
        _ => 0,
    }
}

/// The mandatory prefix in VEX, XOP and EVEX.
fn pp(info: &OpCodeInfo) -> u8 {
    match info.mandatory_prefix() {
        MandatoryPrefix::P66 => 1,
        MandatoryPrefix::PF3 => 2,
        MandatoryPrefix::PF2 => 3,
        _ => 0,
    }
}

fn low_byte(number: u32) -> u8 {
    number.to_le_bytes()[0]
}

/// W, or anything where it is ignored.
fn w(info: &OpCodeInfo, random: &mut Random) -> u8 {
    if info.is_wig() { random.byte() & 1 } else { low_byte(info.w()) & 1 }
}

/// The vector length, or anything where it is ignored.
fn length(info: &OpCodeInfo, random: &mut Random) -> u8 {
    if info.is_lig() { random.byte() } else { low_byte(info.l()) }
}

/// The register of VEX.vvvv, stored inverted; all ones means none, which many instructions demand.
fn vvvv(random: &mut Random) -> u8 {
    if random.percent(50) { 0xf } else { random.byte() & 0xf }
}

fn vex(info: &OpCodeInfo, random: &mut Random, bytes: &mut Vec<u8>) {
    let w = w(info, random);
    if info.table() != OpCodeTableKind::T0F || w == 1 || random.percent(50) {
        return three_byte(0xc4, info, random, bytes);
    }
    address_prefix(random, bytes);
    let high = random.byte() & 0x80 | vvvv(random) << 3;
    bytes.extend([0xc5, high | (length(info, random) & 1) << 2 | pp(info)]);
}

fn three_byte(first: u8, info: &OpCodeInfo, random: &mut Random, bytes: &mut Vec<u8>) {
    address_prefix(random, bytes);
    let fields = w(info, random) << 7 | vvvv(random) << 3 | (length(info, random) & 1) << 2 | pp(info);
    bytes.extend([first, random.byte() & 0xe0 | map(info), fields]);
}

fn evex(info: &OpCodeInfo, random: &mut Random, bytes: &mut Vec<u8>) {
    address_prefix(random, bytes);
    let second = w(info, random) << 7 | vvvv(random) << 3 | 4 | pp(info);
    let mask = if info.require_op_mask_register() || random.percent(40) { random.byte() & 7 } else { 0 };
    let z = if mask != 0 && random.percent(40) { 0x80 } else { 0 };
    let b = if random.percent(30) { 0x10 } else { 0 };
    let v = if random.percent(70) { 8 } else { 0 };
    // Stored inverted too; mask registers have no upper ones.
    let registers = if random.percent(40) { 0xf0 } else { random.byte() & 0xf0 };
    bytes.extend([0x62, registers | map(info), second, z | (length(info, random) & 3) << 5 | b | v | mask]);
}

fn address_prefix(random: &mut Random, bytes: &mut Vec<u8>) {
    if random.percent(15) {
        bytes.push(random.choose(&ADDRESS_PREFIXES));
    }
}

fn opcode(info: &OpCodeInfo, bytes: &mut Vec<u8>) {
    if info.encoding() == EncodingKind::D3NOW {
        return bytes.push(0x0f);
    }
    let [.., second, last] = info.op_code().to_be_bytes();
    if info.op_code_len() == 2 {
        bytes.push(second);
    }
    bytes.push(last);
}

fn operands(info: &OpCodeInfo, random: &mut Random, bytes: &mut Vec<u8>) {
    let mut modrm = random.byte();
    if random.percent(20) {
        modrm = modrm & !7 | 4; // a SIB byte, which the gathers need
    } else if random.percent(20) {
        modrm = modrm & 0x38 | 5; // relative to the program counter
    }
    if let Ok(reg) = u8::try_from(info.group_index()) {
        modrm = modrm & !0x38 | reg << 3;
    }
    if let Ok(rm) = u8::try_from(info.rm_group_index()) {
        modrm = modrm & !7 | rm;
    }
    // An opcode of two bytes has its ModRM in it.
    if info.op_code_len() == 1 {
        bytes.push(modrm);
    }
    let mut rest = [0; 2 * MAX_LEN];
    random.fill(&mut rest);
    if info.encoding() == EncodingKind::D3NOW {
        rest[memory_len(modrm, rest[0])] = low_byte(info.op_code());
    }
    bytes.extend(rest);
}

/// Bytes of SIB and displacement (Intel SDM vol. 2, tables 2-2 and 2-3).
fn memory_len(modrm: u8, sib: u8) -> usize {
    let (form, rm) = (modrm >> 6, modrm & 7);
    if form == 3 {
        return 0;
    }
    let has_sib = usize::from(rm == 4);
    let base = if rm == 4 { sib & 7 } else { rm };
    has_sib
        + match form {
            0 if base == 5 => 4,
            0 => 0,
            1 => 1,
            _ => 4,
        }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use iced_x86::{Code, Decoder, DecoderOptions};

    use super::{codes, encode};
    use crate::random::Random;

    /// Every code is reached; those that are not are named here.
    #[test]
    fn every_code_is_generated() {
        let mut random = Random::new(1, 0);
        let mut missing = Vec::new();
        for code in codes() {
            let reached = (0..4000).any(|_| {
                let bytes = encode(code, &mut random);
                Decoder::with_ip(64, &bytes[..15], 0x1000, DecoderOptions::NONE).decode().code() == code
            });
            if !reached {
                missing.push(code);
            }
        }
        // The decoder reads its bytes as the form with 32-bit addresses.
        assert_eq!(missing, [Code::Montmul_64]);
        let distinct: HashSet<_> = codes().into_iter().collect();
        assert!(distinct.len() > 3000, "{}", distinct.len());
    }
}
