//! Lengths, classes, targets and the code of slots against binutils' disassembler.

use std::collections::HashMap;

use insn::plan::{Reason, hex};
use insn::xol::{How, Slot, Then, emulate, out_of_line};
use insn::{Address, Flow, Isa, inspect};
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::cases::{any, forms};
use super::registers::{CPSR, PC, random};
use crate::registers::NoMemory;
use crate::toolchain;

const BASE: u64 = 0x10_0000;

/// Instructions of each form.
const EACH: usize = 150;
/// Of any bits.
const ANY: usize = 6_000;

/// Room for an instruction of T32 and for what an IT block has behind its first.
const CELL: usize = 12;
const NOP: [u8; 2] = [0x00, 0xbf];

/// One line of its output.
#[derive(Clone, Debug)]
struct Line {
    at: u64,
    len: usize,
    mnemonic: String,
    operands: String,
    remark: String,
}

/// The first instruction of each cell; `None`, with a line that says so, where the program is not installed.
fn disassembled(isa: Isa, codes: &[Vec<u8>]) -> Option<Vec<Line>> {
    let size = if isa == Isa::Thumb { CELL } else { 4 };
    let mut bytes = Vec::new();
    for code in codes {
        let end = bytes.len() + size;
        bytes.extend(code);
        while bytes.len() < end {
            bytes.extend(NOP);
        }
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let names = if isa == Isa::Thumb { "force-thumb,reg-names-std" } else { "reg-names-std" };
    let options = ["-D", "-b", "binary", "-m", "armv8-a", "-M", names, &format!("--adjust-vma={BASE:#x}")];
    let output = toolchain::objdump("arm-linux-gnueabihf", &options, file.path())?;
    let lines: HashMap<u64, Line> = output.lines().filter_map(parse).map(|line| (line.at, line)).collect();
    Some((0..codes.len()).map(|index| lines[&(BASE + (index * size) as u64)].clone()).collect())
}

fn parse(line: &str) -> Option<Line> {
    let (at, rest) = line.trim().split_once(":\t")?;
    let (digits, text) = rest.split_once('\t')?;
    let (text, remark) = text.split_once('@').unwrap_or((text, ""));
    let (mnemonic, operands) = text.trim().split_once('\t').unwrap_or((text.trim(), ""));
    Some(Line {
        at: u64::from_str_radix(at, 16).ok()?,
        len: digits.chars().filter(char::is_ascii_hexdigit).count() / 2,
        mnemonic: mnemonic.trim_end_matches(".n").trim_end_matches(".w").to_owned(),
        operands: operands.trim().to_owned(),
        remark: remark.trim().to_owned(),
    })
}

impl Line {
    /// No instruction, or one of the M-profile.
    fn is_strange(&self) -> bool {
        const OTHERS: [&str; 18] = [
            "clrm", "vscclrm", "bf", "bfx", "bfl", "bflx", "bfcsel", "dls", "wls", "le", "dlstp", "wlstp",
            "letp", "lctp", "sg", "tt", "blxns", "bxns",
        ];
        OTHERS.contains(&self.mnemonic.as_str())
            || self.starts(&["tt"])
            || self.mnemonic.contains("??")
            // Advanced SIMD has this space now.
            || self.starts(&["ldc2", "stc2"])
                && ["8,", "9,", "12,", "13,"].iter().any(|number| self.operands.starts_with(number))
            // Of banked registers: it takes more for one than there are.
            || self.starts(&["msr", "mrs"]) && self.operands.contains(['_', ':'])
            || self.remark.contains("illegal")
            || self.remark.contains("UNDEFINED")
            || self.remark.contains("UNPREDICTABLE")
    }

    fn names_pc(&self) -> bool {
        self.operands.split(|c: char| !c.is_alphanumeric()).any(|word| word == "pc")
    }

    fn starts(&self, prefixes: &[&str]) -> bool {
        prefixes.iter().any(|prefix| self.mnemonic.starts_with(prefix))
    }

    /// The name without its condition, if it is one of those that branch.
    fn branch(&self) -> Option<(&'static str, &str)> {
        let rest = |name: &'static str| {
            let condition = self.mnemonic.strip_prefix(name)?;
            (condition.is_empty() || CONDITIONS.contains(&condition)).then_some((name, condition))
        };
        ["b", "bl", "bx", "blx", "bxj", "cbz", "cbnz", "tbb", "tbh"].into_iter().find_map(rest)
    }

    /// The address that ends the operands.
    fn target(&self) -> Option<u64> {
        let digits = self.operands.rsplit(", ").next()?.strip_prefix("0x")?;
        u64::from_str_radix(digits, 16).ok()
    }

    /// The address in the remark.
    fn literal(&self) -> Option<u64> {
        let digits = self.remark.split("0x").nth(1)?;
        let digits: String = digits.chars().take_while(char::is_ascii_hexdigit).collect();
        u64::from_str_radix(&digits, 16).ok()
    }
}

const CONDITIONS: [&str; 14] =
    ["eq", "ne", "cs", "cc", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le"];

fn is_met(condition: &str, cpsr: u64) -> bool {
    let [n, z, c, v] = [31, 30, 29, 28].map(|bit| cpsr & 1 << bit != 0);
    match condition {
        "" => true,
        "eq" => z,
        "ne" => !z,
        "cs" => c,
        "cc" => !c,
        "mi" => n,
        "pl" => !n,
        "vs" => v,
        "vc" => !v,
        "hi" => c && !z,
        "ls" => !c || z,
        "ge" => n == v,
        "lt" => n != v,
        "gt" => !z && n == v,
        "le" => z || n != v,
        other => panic!("{other}"),
    }
}

/// Branches to an address that is printed.
fn check_branch(isa: Isa, line: &Line, bytes: &[u8], rng: &mut TestRng) {
    let Some(((name, condition), target)) = line.branch().zip(line.target()) else { return };
    for _ in 0..4 {
        let before = random(isa, rng);
        let mut after = before.clone();
        emulate(isa, Address(line.at), bytes, &mut after.bytes, &mut NoMemory).unwrap();
        let is_zero =
            name.starts_with('c').then(|| before.get(usize::from(line.operands.as_bytes()[1] - b'0')) == 0);
        let is_taken = is_met(condition, before.get(CPSR)) && is_zero.is_none_or(|is| is == (name == "cbz"));
        let expected = if is_taken { target } else { line.at + line.len as u64 };
        assert_eq!(after.get(PC), expected, "{line:?}");
        let is_thumb = (isa == Isa::Thumb) != (is_taken && name == "blx");
        assert_eq!(after.get(CPSR) >> 5 & 1 == 1, is_thumb, "{line:?}");
        let thumb = u64::from(isa == Isa::Thumb);
        let link = if is_taken && name.starts_with("bl") {
            (line.at + line.len as u64) | thumb
        } else {
            before.get(14)
        };
        assert_eq!(after.get(14), link, "{line:?}");
    }
}

/// What is done on a condition may go on behind itself.
fn check_flow(isa: Isa, line: &Line, flow: Flow, bytes: &[u8]) {
    let Some((name, condition)) = line.branch() else {
        let is_call = line.starts(&["svc"]);
        assert_eq!(flow == Flow::Syscall, is_call, "{line:?}");
        assert!(flow != Flow::Call, "{line:?}");
        assert!(flow != Flow::Conditional || isa == Isa::Arm && bytes[3] >> 4 != 0xe, "{line:?}");
        return;
    };
    let expected = match (name, condition) {
        ("bl" | "blx", _) => Flow::Call,
        ("cbz" | "cbnz", _) => Flow::Conditional,
        (_, "") => Flow::Leaves,
        _ => Flow::Conditional,
    };
    assert_eq!(flow, expected, "{line:?}");
}

fn check_refusal(isa: Isa, line: &Line, bytes: &[u8], why: &str) {
    // Coprocessors that are no more have other names for the registers.
    let is_coprocessor = bytes[if isa == Isa::Thumb { 1 } else { 3 }] & 0xc == 0xc;
    let is_exclusive = |load: bool| line.starts(if load { &["ldrex", "ldaex"] } else { &["strex", "stlex"] });
    let is_right = match why {
        _ if why.starts_with("its exclusive") => is_exclusive(true),
        _ if why.starts_with("a breakpoint's") => is_exclusive(false),
        _ if why.starts_with("what it does with r15") => line.names_pc() || is_coprocessor,
        _ if why.starts_with("it is a breakpoint") => line.starts(&["bkpt", "udf"]),
        _ if why.starts_with("it halts") => line.starts(&["hlt", "tst"]),
        _ if why.starts_with("it returns") => {
            line.starts(&["rfe", "srs", "eret", "subs"]) || line.operands.starts_with("pc")
        }
        _ if why.starts_with("it is for privileged") => line.operands.ends_with('^'),
        _ => line.starts(&["bx", "blx", "bxj", "msr", "teq", "tb"]),
    };
    assert!(is_right, "{line:?}: {why}");
}

/// What the slot's code is to be printed as: r15 is replaced.
fn expected(isa: Isa, line: &Line, slot: &Slot) -> Option<String> {
    let name = |register: usize| match register {
        0..=12 => format!("r{register}"),
        other => panic!("r{other} is lent"),
    };
    if slot.lent.is_empty() {
        return Some(line.operands.clone());
    }
    let mut operands = line.operands.clone();
    let mut lent = slot.lent.clone();
    if let Then::Branch(register) = slot.then {
        let (last, value) = lent.pop().unwrap();
        assert_eq!((last, value), (register, (line.at + line.len as u64) | u64::from(isa == Isa::Thumb)));
        operands = operands.replacen("pc", &name(register.0 / 4), 1);
    }
    if let Some((register, value)) = lent.first() {
        if isa == Isa::Thumb && line.starts(&["ldr", "pl"]) && !line.starts(&["ldrd"]) {
            assert_eq!(Some(*value), line.literal(), "{line:?}");
            return None;
        }
        let base = if isa == Isa::Thumb { (line.at + 4) & !3 } else { line.at + 8 };
        assert_eq!(*value, base, "{line:?}");
        operands = operands.replace("pc", &name(register.0 / 4));
    }
    Some(operands)
}

fn compare(isa: Isa) -> HashMap<String, usize> {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    let mut samples: Vec<Vec<u8>> = Vec::new();
    for form in forms(isa) {
        samples.extend((0..EACH).map(|_| {
            let word = form.random(isa, &mut rng);
            form.bytes(isa, word)
        }));
    }
    samples.extend((0..ANY).map(|_| any(isa, &mut rng)));
    let mut seen = HashMap::new();
    let Some(lines) = disassembled(isa, &samples) else { return seen };
    let mut slots = Vec::new();
    for (line, bytes) in lines.iter().zip(&samples) {
        let at = Address(line.at);
        let insn = inspect(isa, at, bytes).unwrap();
        assert_eq!(insn.len, line.len, "{line:?}");
        // The space of comparisons that set no flags, and of stores to literals, holds other things or nothing.
        let compares = isa == Isa::Arm && line.starts(&["tst", "teq", "cmp", "cmn"]) && bytes[2] & 0x10 == 0;
        let stores = isa == Isa::Thumb && line.starts(&["str"]) && line.operands.contains("[pc");
        // Memory hints that are none yet.
        let hints = isa == Isa::Thumb && line.starts(&["ldrh", "ldrsh"]) && line.operands.starts_with("pc");
        if line.is_strange() || compares || stores || hints {
            continue;
        }
        *seen.entry(line.mnemonic.clone()).or_default() += 1;
        match out_of_line(isa, at, bytes) {
            Err(Reason::NotDisplaceable { why, .. }) => {
                check_refusal(isa, line, bytes, &why);
                continue;
            }
            Err(reason) => panic!("{line:?}: {reason}"),
            Ok(found) => {
                assert!(!line.starts(&["ldrex", "ldaex", "strex", "stlex", "bkpt", "rfe"]), "{line:?}");
                check_flow(isa, line, insn.flow, bytes);
                match found.how {
                    How::Slot(slot) => {
                        assert!(line.branch().is_none(), "{line:?}");
                        slots.push((line, slot));
                    }
                    How::Delayed(_) => panic!("there are no delay slots: {found:?}"),
                    How::Emulated => check_branch(isa, line, bytes, &mut rng),
                }
            }
        }
    }
    let codes: Vec<_> = slots.iter().map(|(_, slot)| slot.code.clone()).collect();
    for (found, (line, slot)) in disassembled(isa, &codes).unwrap().iter().zip(&slots) {
        let what = format!("{line:?}: {}: {found:?}", hex(&slot.code));
        assert_eq!(found.mnemonic, line.mnemonic, "{what}");
        assert!(!found.names_pc(), "{what}");
        if let Some(expected) = expected(isa, line, slot) {
            assert_eq!(found.operands, expected, "{what}");
        }
    }
    seen
}

fn require(seen: &HashMap<String, usize>, mnemonics: &[&str]) {
    for mnemonic in mnemonics.iter().filter(|_| !seen.is_empty()) {
        assert!(seen.contains_key(*mnemonic), "{mnemonic} is among them");
    }
}

#[test]
fn a32_is_as_objdump_prints_it() {
    let seen = compare(Isa::Arm);
    require(
        &seen,
        &["b", "bl", "blx", "bx", "add", "ldr", "str", "ldrd", "strd", "ldm", "vldr", "pld", "movne"],
    );
}

#[test]
fn t32_is_as_objdump_prints_it() {
    let seen = compare(Isa::Thumb);
    require(
        &seen,
        &["b", "beq", "bl", "blx", "bx", "cbz", "tbb", "tbh", "ldr", "ldrd", "pop", "vldr", "pld"],
    );
}
