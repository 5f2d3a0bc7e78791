//! Classes, targets and conditions against binutils' disassembler.
//!
//! It is asked for a sample of every op2 and op3, and of every trap. What it prints is carried out here by the manuals' words and
//! compared with what the crate does.

use std::collections::HashMap;
use std::path::Path;

use insn::plan::{Reason, hex};
use insn::xol::{
    Fault, How, OutOfLine, Slot, Then, annuls, delay_slot_of, emulate, exclusive_sequences, out_of_line,
};
use insn::{Address, Flow, Isa, inspect};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::registers::random;
use crate::registers::{NoMemory, Registers};
use crate::toolchain;

const NOP: [u8; 4] = [0x01, 0, 0, 0];
const RESTORE: [u8; 4] = [0x81, 0xe8, 0, 0];

/// Where the instructions lie.
fn base(isa: Isa) -> u64 {
    if isa == Isa::Sparc { 0x7000_0000 } else { 0xffff_f801_0000_0000 }
}

fn samples(rng: &mut TestRng) -> Vec<u32> {
    let mut all = Vec::new();
    for op2 in 0..8 {
        // It takes no notice of half of a field of BPcc's that names the condition codes.
        let reserved = if op2 == 1 { 1 << 20 } else { 0 };
        all.extend((0..500).map(|_| rng.next_u32() & 0x3e3f_ffff & !reserved | op2 << 22));
    }
    all.extend((0..300).map(|_| rng.next_u32() & 0x3fff_ffff | 1 << 30));
    for op3 in 0..64 {
        for op in [2, 3_u32] {
            let any = |rng: &mut TestRng| rng.next_u32() & 0x3e07_ffff | op << 30 | op3 << 19;
            all.extend((0..50).map(|_| any(rng)));
            // Bits that most instructions have as 0.
            all.extend((0..30).map(|_| any(rng) & !0x1fe0));
        }
        all.extend((0..200).filter(|_| [0x38, 0x39].contains(&op3)).map(|_| {
            // Jumps by a number.
            rng.next_u32() & 0x3e07_ffff | 2 << 30 | op3 << 19 | 1 << 13
        }));
    }
    for number in 0..128 {
        // ta, tne, tn
        all.extend([0x91d0_2000, 0x93d0_3000, 0x81d0_2000].map(|word| word | number));
    }
    // rd %pc; ret, retl, done, retry; nop
    all.extend((0..32).map(|rd| 0x8141_4000 | rd << 25));
    all.extend([0x81c7_e008, 0x81c3_e008, 0x81c7_e00c, 0x81cf_e008, 0x81f0_0000, 0x83f0_0000, 0x0100_0000]);
    all
}

/// One line of its output.
struct Line {
    at: u64,
    bytes: Vec<u8>,
    /// Without what is annulled and predicted.
    mnemonic: String,
    suffix: String,
    operands: Vec<String>,
}

fn objdump(file: &Path, arguments: &[&str]) -> Option<Vec<Line>> {
    let text = toolchain::objdump("sparc64-linux-gnu", arguments, file)?;
    Some(text.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Line> {
    let mut columns = line.split('\t');
    let at = columns.next()?.trim().strip_suffix(':')?;
    let bytes = columns.next()?.trim().split(' ').map(|byte| u8::from_str_radix(byte, 16));
    let text = columns.next()?.split('!').next()?;
    let (name, operands) = text.split_once("  ").unwrap_or((text.trim(), ""));
    let (mnemonic, suffix) = name.split_once(',').unwrap_or((name, ""));
    Some(Line {
        at: u64::from_str_radix(at, 16).ok()?,
        bytes: bytes.collect::<Result<_, _>>().ok()?,
        mnemonic: mnemonic.trim().to_owned(),
        suffix: suffix.trim().to_owned(),
        operands: operands.split(',').map(|operand| operand.trim().to_owned()).collect(),
    })
}

/// A number in decimal or, with its prefix, hexadecimal digits.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse::<i64>().ok().map(i64::cast_unsigned),
    }
}

/// A register's number by its name.
fn register(text: &str) -> Option<usize> {
    let (kind, digit) = match text {
        "%sp" => ('o', 6),
        "%fp" => ('i', 6),
        _ => {
            let mut characters = text.strip_prefix('%')?.chars();
            let kind = characters.next()?;
            let digit = characters.as_str().parse::<usize>().ok()?;
            (kind, digit)
        }
    };
    Some(8 * "goli".find(kind)? + digit)
}

fn operand(registers: &Registers, text: &str) -> u64 {
    number(text).or_else(|| Some(registers.get(register(text)?))).unwrap_or_else(|| panic!("{text}"))
}

fn sum(registers: &Registers, text: &str) -> u64 {
    text.split(" + ").fold(0, |sum, term| sum.wrapping_add(operand(registers, term.trim())))
}

/// Whether a condition by its name holds of n, z, v, c.
fn integers(name: &str, [n, z, v, c]: [bool; 4]) -> Option<bool> {
    Some(match name {
        "" => true,
        "n" => false,
        "e" => z,
        "ne" => !z,
        "l" => n != v,
        "ge" => n == v,
        "le" => z || n != v,
        "g" => !z && n == v,
        "cs" => c,
        "cc" => !c,
        "leu" => c || z,
        "gu" => !c && !z,
        "neg" => n,
        "pos" => !n,
        "vs" => v,
        "vc" => !v,
        _ => return None,
    })
}

/// Whether a condition by its name holds of a relation: one of `e`, `l`, `g`, `u`.
fn floats(name: &str, relation: char) -> Option<bool> {
    Some(match name {
        "" => true,
        "n" => false,
        "ne" => relation != 'e',
        "o" => relation != 'u',
        "u" | "g" | "ug" | "l" | "ul" | "lg" | "e" | "ue" | "ge" | "uge" | "le" | "ule" => {
            name.contains(relation)
        }
        _ => return None,
    })
}

/// Whether a comparison's condition holds.
fn compared(name: &str, bits: u32, left: u64, right: u64) -> Option<bool> {
    let unsigned = |value: u64| if bits == 64 { value } else { value & 0xffff_ffff };
    let signed = |value: u64| {
        let unused = 64 - bits;
        i128::from((value << unused).cast_signed() >> unused)
    };
    let difference = signed(left) - signed(right);
    let wrapped = signed(left.wrapping_sub(right));
    let codes = [
        wrapped < 0,
        unsigned(left) == unsigned(right),
        wrapped != difference,
        unsigned(left) < unsigned(right),
    ];
    integers(name, codes)
}

/// What becomes of a branch: whether it is taken, its target, and whether its delay slot is done.
struct Outcome {
    is_taken: bool,
    to: u64,
    is_delayed: bool,
    is_done: bool,
}

impl Line {
    fn is_known(&self) -> bool {
        self.mnemonic != "unknown"
    }

    fn target(&self) -> u64 {
        // With symbols it names the function that the target is in.
        let text = self.operands.last().unwrap().split(' ').next().unwrap();
        u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_else(|_| panic!("{text}"))
    }

    /// Whether it depends on what the registers of 32 bits do not have.
    fn needs_more(&self) -> bool {
        let more = ["%xcc", "%fcc1", "%fcc2", "%fcc3"].contains(&self.operands[0].as_str());
        let name = self.mnemonic.as_str();
        let is_conditional = !matches!(name, "b" | "bn" | "fb" | "fbn");
        name.starts_with("br") || name.starts_with("cxb") || self.is_branch() && more && is_conditional
    }

    /// Of those on conditions.
    fn is_branch(&self) -> bool {
        let name = self.mnemonic.as_str();
        let is_compared = name.starts_with("cwb") || name.starts_with("cxb");
        is_compared
            || name.starts_with("br")
            || name.strip_prefix("fb").is_some_and(|name| floats(name, 'e').is_some())
            || name.strip_prefix('b').is_some_and(|name| integers(name, [false; 4]).is_some())
    }

    /// By the flags of `before`.
    fn branched(&self, before: &Registers) -> Option<Outcome> {
        if !self.is_branch() {
            return None;
        }
        let name = self.mnemonic.as_str();
        let is_taken = if let Some(name) = name.strip_prefix("br") {
            let value = before.get(register(&self.operands[0]).unwrap()).cast_signed();
            match name {
                "z" => value == 0,
                "lez" => value <= 0,
                "lz" => value < 0,
                "nz" => value != 0,
                "gz" => value > 0,
                "gez" => value >= 0,
                other => panic!("br{other}"),
            }
        } else if name.starts_with('c') {
            let left = operand(before, &self.operands[0]);
            // A number of 5 bits has a sign, which is not printed.
            let right = match number(&self.operands[1]) {
                Some(number) => ((number << 59).cast_signed() >> 59).cast_unsigned(),
                None => operand(before, &self.operands[1]),
            };
            compared(&name[3..], if name.starts_with("cw") { 32 } else { 64 }, left, right)?
        } else if let Some(name) = name.strip_prefix("fb") {
            let low = match self.operands[0].as_str() {
                "%fcc1" => 32,
                "%fcc2" => 34,
                "%fcc3" => 36,
                _ => 10,
            };
            let relation = ['e', 'l', 'g', 'u'][(before.get("fsr") >> low & 3) as usize];
            floats(name, relation)?
        } else {
            let codes = match (before.isa, self.operands[0].as_str()) {
                (Isa::Sparc, _) => before.get("psr") >> 20,
                (_, "%xcc") => before.get("state") >> 36,
                _ => before.get("state") >> 32,
            };
            integers(&name[1..], [3, 2, 1, 0].map(|bit| codes >> bit & 1 == 1))?
        };
        // An annul bit leaves the delay slot out where the branch is not taken, or always where the branch is unconditional.
        let annuls = self.suffix.split(',').any(|suffix| suffix == "a");
        let is_always = matches!(name, "b" | "fb");
        let is_never = matches!(name, "bn" | "fbn");
        let is_compared = name.starts_with('c');
        Some(Outcome {
            is_taken,
            to: self.target(),
            is_delayed: !(is_compared || is_never || annuls && is_always),
            is_done: !is_compared && !(annuls && (is_always || !is_taken)),
        })
    }

    /// The registers behind it and its delay slot, if it is one of those that use the PC; an address that cannot be jumped to.
    fn carried_out(&self, before: &Registers) -> Option<Result<Registers, u64>> {
        let mut after = before.clone();
        let (to, link) = match self.mnemonic.as_str() {
            "call" if !self.operands[0].contains('%') => (self.target(), 15),
            "call" => (sum(before, &self.operands[0]), 15),
            "jmp" | "return" => (sum(before, &self.operands[0]), 0),
            "jmpl" => (sum(before, &self.operands[0]), register(&self.operands[1]).unwrap()),
            "ret" => (before.get("i7").wrapping_add(8), 0),
            "retl" => (before.get("o7").wrapping_add(8), 0),
            "rd" if self.operands[0] == "%pc" => (self.at + 4, register(&self.operands[1]).unwrap()),
            // The latter is `bn` with a use.
            "nop" | "iprefetch" => (self.at + 4, 0),
            _ => {
                let outcome = self.branched(before)?;
                let behind = match (self.mnemonic.as_str(), self.suffix.starts_with('a')) {
                    ("bn" | "fbn", false) => self.at + 4,
                    (name, _) if name.starts_with('c') => self.at + 4,
                    _ => self.at + 8,
                };
                (if outcome.is_taken { outcome.to } else { behind }, 0)
            }
        };
        let to = if before.isa == Isa::Sparc { to & 0xffff_ffff } else { to };
        if to % 4 != 0 {
            return Some(Err(to));
        }
        after.set(link, self.at);
        after.set_pc(to);
        Some(Ok(after))
    }

    fn is_delayed(&self) -> bool {
        matches!(self.mnemonic.as_str(), "call" | "jmp" | "jmpl" | "return" | "ret" | "retl")
            || self.branched(&Registers::new(Isa::Sparc64)).is_some_and(|outcome| outcome.is_delayed)
    }

    /// A trap's condition and its number, which is `None` where registers tell it.
    fn trap(&self) -> Option<(&str, Option<u64>)> {
        let condition = self.mnemonic.strip_prefix('t')?;
        let condition = if condition == "a" { "" } else { condition };
        integers(condition, [false; 4])?;
        Some((condition, number(self.operands.last().unwrap()).map(|number| number & 0x7f)))
    }

    fn calls(&self, isa: Isa) -> bool {
        self.trap() == Some(("", Some(if isa == Isa::Sparc { 0x10 } else { 0x6d })))
    }

    /// A part of the reason for which it is refused.
    fn refusal(&self, isa: Isa) -> Option<&'static str> {
        if let Some((condition, number)) = self.trap() {
            return Some(match number {
                _ if condition == "n" || self.calls(isa) => return None,
                None => "in registers",
                Some(1 | 0x70..=0x74 | 0x7d) => "it is a breakpoint",
                Some(0x6e | 0x6f) => "saves or sets the address",
                Some(0x12..=0x1f) => "may have a handler",
                Some(0x10 | 0x11 | 0x6d) => "calls the kernel",
                _ => return None,
            });
        }
        match self.mnemonic.as_str() {
            name if name.starts_with("cb") => Some("of a coprocessor"),
            _ if isa == Isa::Sparc && self.needs_more() => Some("more than the 32 bits"),
            _ => None,
        }
    }

    fn flow(&self, isa: Isa) -> Flow {
        let name = self.mnemonic.as_str();
        match name {
            "call" => Flow::Call,
            "jmpl" if self.operands[1] != "%g0" => Flow::Call,
            "jmp" | "jmpl" | "return" | "ret" | "retl" | "illtrap" | "b" | "fb" => Flow::Leaves,
            "done" | "retry" if isa == Isa::Sparc64 => Flow::Leaves,
            "bn" | "fbn" if self.suffix.starts_with('a') => Flow::Leaves,
            "bn" | "fbn" => Flow::Next,
            _ if self.calls(isa) => Flow::Syscall,
            _ if self.is_branch() => Flow::Conditional,
            _ => Flow::Next,
        }
    }

    fn is_return(&self) -> bool {
        let base = ["%i7 + 8", "%i7 + 0xc", "%o7 + 8", "%o7 + 0xc"];
        matches!(self.mnemonic.as_str(), "ret" | "retl")
            || matches!(self.mnemonic.as_str(), "jmp" | "return") && base.contains(&self.operands[0].as_str())
    }

    /// `code` is its bytes and those behind it, of which `next` is known.
    fn check(&self, isa: Isa, code: &[u8], next: Option<&Self>, rng: &mut TestRng) {
        let at = Address(self.at);
        let what =
            format!("{isa:?} {at}: {}: {} {} {:?}", hex(code), self.mnemonic, self.suffix, self.operands);
        let summary = inspect(isa, at, code).unwrap();
        assert_eq!((summary.len, summary.flow), (4, self.flow(isa)), "{what}");
        assert_eq!(summary.is_return, self.is_return(), "{what}");
        let branch = delay_slot_of(isa, at + 4, &code[..4]);
        assert_eq!(branch, self.is_delayed().then_some(at), "{what}");
        let is_emulated = self.carried_out(&random(isa, rng)).is_some();
        for _ in 0..if is_emulated && self.refusal(isa).is_none() { 3 } else { 0 } {
            let before = random(isa, rng);
            let mut after = before.clone();
            let done = emulate(isa, at, code, &mut after.bytes, &mut NoMemory);
            match self.carried_out(&before).unwrap() {
                Ok(expected) => {
                    assert!(done.is_ok() && after == expected, "{what}: {after:?} from {before:?}")
                }
                Err(to) => assert_eq!(done, Err(Fault::Memory(Address(to))), "{what}, from {before:?}"),
            }
            let is_left_out =
                self.is_delayed() && self.branched(&before).is_some_and(|outcome| !outcome.is_done);
            assert_eq!(annuls(isa, at, code, &before.bytes), is_left_out, "{what}, from {before:?}");
        }
        // What is in the delay slot.
        let delayed = next.filter(|_| self.is_delayed());
        let refusal = self.refusal(isa).or_else(|| match delayed {
            Some(next) if next.calls(isa) => Some("a system call"),
            Some(next) if next.refusal(isa).is_some() && !next.is_branch() => Some("cannot be displaced"),
            Some(next) if next.is_delayed() || next.is_branch() && next.flow(isa) != Flow::Next => {
                Some("holds a branch")
            }
            _ => None,
        });
        match (out_of_line(isa, at, code), refusal) {
            (Err(Reason::NotDisplaceable { why, .. }), Some(part)) => {
                assert!(why.contains(part), "{what}: {why}")
            }
            (Ok(OutOfLine { how: How::Emulated, .. }), None) => {
                assert!(is_emulated && !self.is_delayed(), "{what}");
            }
            (Ok(OutOfLine { how: How::Delayed(slot), .. }), None) => {
                assert!(is_emulated && self.is_delayed(), "{what}");
                let reads_pc = delayed.is_some_and(|next| next.mnemonic == "rd" && next.operands[0] == "%pc");
                let own = if reads_pc { &NOP } else { &code[4..8] };
                let window = if self.mnemonic == "return" { &RESTORE[..] } else { &[] };
                assert_eq!(slot.code, [window, own].concat(), "{what}");
                assert!(slot.left.is_empty() != reads_pc && slot.lent.is_empty(), "{what}");
            }
            (Ok(OutOfLine { how: How::Slot(slot), .. }), None) => {
                assert!(!is_emulated, "{what}");
                let plain = Slot { code: code[..4].to_vec(), lent: vec![], left: vec![], then: Then::Next };
                assert_eq!(slot, plain, "{what}");
            }
            (found, expected) => panic!("{what}: {found:?}, expected {expected:?}"),
        }
        assert!(exclusive_sequences(isa, at, code).is_empty(), "{what}");
    }
}

fn compare(isa: Isa) {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    let bytes: Vec<u8> = samples(&mut rng).iter().flat_map(|word| word.to_be_bytes()).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    let at = format!("--adjust-vma={:#x}", base(isa));
    let arguments = ["-D", "-b", "binary", "-m", "sparc:v9m8", "-EB", &at];
    let Some(lines) = objdump(file.path(), &arguments) else { return };
    assert_eq!(lines.len(), bytes.len() / 4);
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for line in lines.iter().filter(|line| line.is_known()) {
        line.check(isa, &[&line.bytes[..], &NOP].concat(), None, &mut rng);
        *seen.entry(&line.mnemonic).or_default() += 1;
    }
    for mnemonic in [
        "b", "bn", "bgu", "fb", "fbuge", "brlez", "cwbcc", "cxbvs", "cb0", "call", "jmp", "jmpl", "return",
        "ret", "retl", "rd", "ta", "tne", "tn", "save", "restore", "casxa", "flush", "done", "addccc",
        "illtrap",
    ] {
        assert!(seen.contains_key(mnemonic), "{mnemonic} is among them");
    }
    assert!(seen.len() > 300, "{} mnemonics", seen.len());
}

#[test]
fn sparc_of_32_bits_is_as_objdump_prints_it() {
    compare(Isa::Sparc);
}

#[test]
fn sparc_of_64_bits_is_as_objdump_prints_it() {
    compare(Isa::Sparc64);
}

/// Code of compilers and of the C library, with what is in its delay slots.
#[test]
fn real_code_is_as_objdump_prints_it() {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    for name in ["lib/libatomic.so.1", "lib64/ld-linux.so.2"] {
        let file = Path::new("/usr/sparc64-linux-gnu").join(name);
        if !file.exists() {
            println!("skipped: no {name} of sparc64 (Debian: libatomic1-sparc64-cross, libc6-sparc64-cross)");
            continue;
        }
        let Some(lines) = objdump(&file, &["-d"]) else { return };
        assert!(lines.len() > 1000, "{name}");
        let mut delayed = 0;
        for pair in lines.windows(2).filter(|pair| pair[0].at + 4 == pair[1].at && pair[0].is_known()) {
            let code = [&pair[0].bytes[..], &pair[1].bytes].concat();
            pair[0].check(Isa::Sparc64, &code, Some(&pair[1]), &mut rng);
            delayed += usize::from(pair[0].is_delayed());
        }
        println!("{name}: {} instructions, {delayed} with delay slots", lines.len());
        assert!(delayed > 100, "{name}");
    }
}
