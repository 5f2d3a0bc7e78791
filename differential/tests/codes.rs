//! Every code that iced-x86 knows in 64-bit mode is displaced or refused with a reason; the refused ones are a golden list.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use differential::encode::{MAX_LEN, codes, encode};
use differential::random::Random;
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Register};
use insn::plan::Reason;
use insn::relocate::{Moved, relocate};
use insn::{Address, Isa};

const ORIGINAL: Address = Address(0x5555_5555_4321);
/// Encodings tried for each code.
const ATTEMPTS: usize = 400;

fn decode(at: Address, bytes: &[u8]) -> Instruction {
    Decoder::with_ip(64, bytes, at.0, DecoderOptions::NONE).decode()
}

/// Operands relative to the program counter keep their address wherever the copy is, and nothing else changes. This needs no
/// processor that has the instruction.
fn check_operand(insn: &Instruction, bytes: &[u8], at: Address, moved: &Moved) {
    let calls = moved.points.iter().any(|point| point.sp_shift != 0);
    if !insn.is_ip_rel_memory_operand() || calls {
        return;
    }
    let copy = decode(at, &moved.bytes);
    assert_eq!(copy.ip_rel_memory_address(), insn.ip_rel_memory_address(), "{insn} {bytes:02x?}");
    let differing = bytes.iter().zip(&moved.bytes).filter(|(one, other)| one != other).count();
    assert!(moved.bytes.len() == bytes.len() && differing <= 4, "{insn} {bytes:02x?}");
    assert_eq!((copy.code(), copy.op_count()), (insn.code(), insn.op_count()), "{insn}");
}

/// A place for the copy from which what the instruction refers to is within reach: on the way there.
fn place_for(insn: &Instruction) -> Address {
    let reference = match insn.memory_base() {
        Register::RIP => insn.ip_rel_memory_address(),
        _ if insn.near_branch_target() != 0 => insn.near_branch_target(),
        _ => return ORIGINAL.offset(-0x5234_5678),
    };
    ORIGINAL.offset(Address(reference).offset_from(ORIGINAL) / 2)
}

/// What became of some encodings of each code: how often it was displaced, and why not.
#[derive(Default)]
struct Fate {
    displaced: usize,
    refused: BTreeSet<String>,
}

fn fates() -> BTreeMap<u16, (Code, Fate)> {
    let mut random = Random::new(1, 0);
    let mut fates: BTreeMap<u16, (Code, Fate)> = BTreeMap::new();
    for wanted in codes() {
        // Few displacements lead a call's operand to where its return address goes.
        let attempts = if wanted == Code::Call_rm64 { 100 * ATTEMPTS } else { ATTEMPTS };
        for _ in 0..attempts {
            let mut bytes = encode(wanted, &mut random);
            bytes.truncate(MAX_LEN);
            let insn = decode(ORIGINAL, &bytes);
            if insn.is_invalid() {
                continue;
            }
            bytes.truncate(insn.len());
            let fate = &mut fates.entry(insn.code() as u16).or_insert((insn.code(), Fate::default())).1;
            let at = place_for(&insn);
            match relocate(Isa::X86_64, ORIGINAL, &bytes, at) {
                Ok(moved) => {
                    fate.displaced += 1;
                    check_operand(&insn, &bytes, at, &moved);
                }
                Err(Reason::NotDisplaceable { why, .. }) => {
                    assert!(!why.contains("out of reach"), "{insn} at {at}: {why}");
                    fate.refused.insert(why);
                }
                Err(reason) => panic!("{insn} {bytes:02x?}: {reason}"),
            }
        }
    }
    fates
}

/// By reason: the codes that it refuses in every encoding, and in some.
fn listing(fates: &BTreeMap<u16, (Code, Fate)>) -> String {
    let mut reasons: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for (code, fate) in fates.values() {
        let when = if fate.displaced == 0 { "always" } else { "in some encodings" };
        for why in &fate.refused {
            reasons.entry((why, when)).or_default().push(format!("{code:?}"));
        }
    }
    let mut text = String::from(
        "; Codes of iced-x86 in 64-bit mode that are not displaced, and why. All others are, in every encoding.\n\
         ; Written by `cargo xtask bless`.\n",
    );
    for ((why, when), codes) in reasons {
        text.push_str(&format!("\n{why}; {when}:\n"));
        codes.iter().for_each(|code| text.push_str(&format!("    {code}\n")));
    }
    text
}

#[test]
fn every_code_is_displaced_or_refused_with_a_reason() {
    let fates = fates();
    let unseen: Vec<_> = codes().into_iter().filter(|code| !fates.contains_key(&(*code as u16))).collect();
    assert_eq!(unseen, [Code::Montmul_64]);
    let listing = listing(&fates);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/x86_64/refused.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, &listing).unwrap();
    }
    let recorded = std::fs::read_to_string(&file).unwrap();
    assert!(recorded == listing, "{} differs; it is now:\n{listing}", file.display());
}
