//! Lengths, classes, targets and conditions against binutils' disassembler.
//!
//! It is asked for a sample of every operation code, and what it prints is carried out here by the manual's words (chapter 7) and
//! compared with what the crate does.

use std::collections::HashMap;
use std::path::Path;

use insn::plan::{Reason, hex};
use insn::xol::{How, OutOfLine, emulate, exclusive_sequences, out_of_line};
use insn::{Address, Flow, Isa, inspect};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::cases::{BRANCHES, encode};
use super::registers::{condition, random};
use crate::registers::{NoMemory, Registers};
use crate::toolchain;

const BASE: u64 = 0x3ff_8000_0000;
/// Room for one of them, and for what it prints of the rest of one that it does not know.
const CELL: usize = 16;

/// Of every first byte, of every second byte and low half of it, of every sixth byte.
fn samples(rng: &mut TestRng) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for code in 0..256_u64 {
        let mut add = |fixed: u64, free: u64, times: usize| {
            all.extend((0..times).map(|_| encode(fixed | rng.next_u64() & free)));
        };
        add(code << 40, 0x00ff_ffff_ffff, 8);
        for first in [0x01, 0xb2, 0xb3, 0xb9, 0xe5] {
            add(first << 40 | code << 32, 0x00ff_0000, 3);
            add(first << 40 | code << 32, 0, 1);
        }
        for first in [0xa5, 0xa7, 0xaa, 0xc0, 0xc2, 0xc4, 0xc6, 0xc8, 0xcc] {
            add(first << 40 | code << 32, 0xffff_ffff, 2);
        }
        for first in [0xe3, 0xe6, 0xe7, 0xeb, 0xec, 0xed] {
            add(first << 40 | code, 0x00ff_ffff_ff00, 4);
            // Most fields of some are reserved.
            add(first << 40 | code, 0x00ff_ffff_0000, 4);
            add(first << 40 | code, 0x00f0_0000_0000, 1);
            add(first << 40 | code, 0, 1);
        }
    }
    for form in BRANCHES {
        all.extend((0..300).map(|_| form.bytes(rng)));
    }
    all
}

/// One line of its output.
struct Line {
    at: u64,
    bytes: Vec<u8>,
    mnemonic: String,
    operands: Vec<String>,
}

/// What it prints for one file; `None`, with a line that says so, where it is not installed.
fn objdump(file: &Path, arguments: &[&str]) -> Option<Vec<Line>> {
    let text = toolchain::objdump("s390x-linux-gnu", arguments, file)?;
    Some(text.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Line> {
    let mut columns = line.split('\t');
    let at = u64::from_str_radix(columns.next()?.trim().strip_suffix(':')?, 16).ok()?;
    let bytes = columns.next()?.split_whitespace().map(|byte| u8::from_str_radix(byte, 16));
    let bytes = bytes.collect::<Result<_, _>>().ok()?;
    let mnemonic = columns.next()?.trim().to_owned();
    let operands = columns.next().unwrap_or("").split(' ').next()?;
    Some(Line { at, bytes, mnemonic, operands: split(operands) })
}

/// At commas outside of parentheses.
fn split(operands: &str) -> Vec<String> {
    let mut depth = 0;
    let parts = operands.split(|letter| {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        letter == ',' && depth == 0
    });
    parts.map(str::to_owned).collect()
}

/// Conditions by their names, as masks.
const CONDITIONS: [(&str, u64); 16] = [
    ("nop", 0),
    ("o", 1),
    ("h", 2),
    ("nle", 3),
    ("l", 4),
    ("nhe", 5),
    ("lh", 6),
    ("ne", 7),
    ("e", 8),
    ("nlh", 9),
    ("he", 10),
    ("nl", 11),
    ("le", 12),
    ("nh", 13),
    ("no", 14),
    ("", 15),
];

fn mask(name: &str) -> Option<u64> {
    CONDITIONS.iter().find(|known| known.0 == name).map(|known| known.1)
}

/// What a comparison and branch says by its name: signed, 64 bits, with a register, relative, the rest.
fn comparison(mnemonic: &str) -> Option<(bool, bool, bool, bool, &str)> {
    let rest = mnemonic.strip_prefix('c')?;
    let (rest, is_signed) = rest.strip_prefix('l').map_or((rest, true), |rest| (rest, false));
    let (rest, is_wide) = rest.strip_prefix('g').map_or((rest, false), |rest| (rest, true));
    let (rest, has_register) = match rest.strip_prefix('r') {
        Some(rest) => (rest, true),
        None => (rest.strip_prefix('i')?, false),
    };
    let is_relative = rest.starts_with('j');
    let rest = rest.strip_prefix(['j', 'b'])?;
    Some((is_signed, is_wide, has_register, is_relative, rest))
}

impl Line {
    fn is_known(&self) -> bool {
        !self.mnemonic.starts_with('.')
    }

    fn next(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }

    fn register(&self, operand: usize) -> &str {
        self.operands[operand].strip_prefix('%').unwrap()
    }

    fn number(&self, operand: usize) -> u64 {
        self.operands[operand].parse::<i64>().unwrap().cast_unsigned()
    }

    /// Hexadecimal, with a prefix where there are no symbols.
    fn target(&self, operand: usize) -> u64 {
        u64::from_str_radix(self.operands[operand].trim_start_matches("0x"), 16).unwrap()
    }

    /// Of a register, none where it is r0; of a number and registers in parentheses.
    fn address(&self, operand: usize, before: &Registers) -> u64 {
        let text = &self.operands[operand];
        let (number, registers) = text.split_once('(').unwrap_or((text, ""));
        let registers = registers.trim_end_matches(')').split(',');
        let values = registers.filter_map(|name| name.strip_prefix('%')).filter(|name| *name != "r0");
        let sum = values.fold(0_u64, |sum, name| sum.wrapping_add(before.get(name)));
        sum.wrapping_add_signed(number.parse::<i64>().unwrap())
    }

    /// What the manual has the instruction do, if it is one of those that the tracer carries out on the registers alone.
    fn carried_out(&self, before: &Registers) -> Option<Registers> {
        let mut after = before.clone();
        after.set_pc(self.next());
        let name = self.mnemonic.as_str();
        if let Some((is_signed, is_wide, has_register, is_relative, rest)) = comparison(name) {
            let left = before.get(self.register(0));
            let right = if has_register { before.get(self.register(1)) } else { self.number(1) };
            let shift = if is_wide { 0 } else { 32 };
            let (left, right) = (left << shift, right << shift);
            let order =
                if is_signed { left.cast_signed().cmp(&right.cast_signed()) } else { left.cmp(&right) };
            let mask = if rest.is_empty() { self.number(2) } else { mask(rest).unwrap() };
            let last = self.operands.len() - 1;
            if mask >> (if order.is_eq() { 3 } else { 1 + u32::from(order.is_lt()) }) & 1 == 1 {
                after.set_pc(if is_relative { self.target(last) } else { self.address(last, before) });
            }
            return Some(after);
        }
        let by_register = |operand: usize| {
            let register = self.register(operand);
            (register != "r0").then(|| before.get(register))
        };
        match name {
            "larl" => after.set(self.register(0), self.target(1)),
            "pfdrl" | "bpp" | "bprp" | "nopr" | "nop" | "jnop" | "jgnop" => {}
            "bras" | "brasl" | "bas" | "bal" | "basr" | "balr" => {
                let to = match name {
                    "bras" | "brasl" => Some(self.target(1)),
                    "bas" | "bal" => Some(self.address(1, before)),
                    _ => by_register(1),
                };
                after.set(self.register(0), self.next());
                after.set_pc(to.unwrap_or(self.next()));
            }
            "bct" | "bctr" | "bctg" | "bctgr" | "brct" | "brctg" | "brcth" => {
                let to = match name {
                    "bctr" | "bctgr" => by_register(1),
                    "bct" | "bctg" => Some(self.address(1, before)),
                    _ => Some(self.target(1)),
                };
                let count = before.get(self.register(0));
                let less = if name == "brcth" { count.wrapping_sub(1 << 32) } else { count.wrapping_sub(1) };
                let part: u64 = match name {
                    "brcth" => 0xffff_ffff_0000_0000,
                    "bctg" | "bctgr" | "brctg" => u64::MAX,
                    _ => 0xffff_ffff,
                };
                after.set(self.register(0), count & !part | less & part);
                if less & part != 0 {
                    after.set_pc(to.unwrap_or(self.next()));
                }
            }
            "bxh" | "bxle" | "brxh" | "brxle" | "bxhg" | "bxleg" | "brxhg" | "brxlg" => {
                let is_relative = name.starts_with("br");
                let to = if is_relative { self.target(2) } else { self.address(2, before) };
                let is_wide = name.ends_with('g');
                let width = |value: u64| {
                    if is_wide { value.cast_signed() } else { (value << 32).cast_signed() >> 32 }
                };
                let third: u32 = self.register(1)[1..].parse().unwrap();
                let limit = width(before.get(format!("r{}", third | 1).as_str()));
                let count = before.get(self.register(0));
                let sum = count.wrapping_add(before.get(self.register(1)));
                after
                    .set(self.register(0), if is_wide { sum } else { count >> 32 << 32 | sum & 0xffff_ffff });
                if (width(sum) > limit) == name.contains('h') {
                    after.set_pc(to);
                }
            }
            _ => {
                let (to, condition_name) = if let Some(rest) = name.strip_prefix("jg") {
                    (self.target(0), rest)
                } else if let Some(rest) = name.strip_prefix('j') {
                    (self.target(0), rest)
                } else {
                    let rest = name.strip_prefix('b')?;
                    match rest.strip_suffix('r').filter(|rest| mask(rest).is_some()) {
                        // To r0 is nowhere, and nothing that is carried out on registers.
                        Some(rest) => (by_register(0)?, rest),
                        None => (self.operands.first().map(|_| 0)?, rest),
                    }
                };
                let mask = mask(condition_name)?;
                let is_based = name.starts_with('b') && !self.operands[0].starts_with('%');
                let to = if is_based { self.address(0, before) } else { to };
                if mask << condition(before) & 8 != 0 {
                    after.set_pc(to);
                }
            }
        }
        Some(after)
    }

    /// Part of the reason for which it is refused.
    fn refusal(&self) -> Option<&'static str> {
        Some(match self.mnemonic.as_str() {
            "ex" | "exrl" => "may be a branch",
            "bsm" | "bassm" | "sam24" | "sam31" => "addressing mode",
            "pr" | "pc" | "pt" | "pti" | "bakr" | "bsg" | "bsa" | "rp" | "trap2" | "trap4" => "tables",
            "lgg" | "llgfsg" => "guarded storage",
            "tbegin" | "tbeginc" => "behind its slot",
            "tend" | "tabort" => "aborts its transaction",
            _ if self.is_misaligned() => "not aligned",
            _ => return None,
        })
    }

    /// How what is relative to itself is aligned: `None` for all else.
    fn alignment(&self) -> Option<u64> {
        Some(match self.mnemonic.as_str() {
            "llhrl" | "lghrl" | "lhrl" | "llghrl" | "sthrl" | "cghrl" | "chrl" => 2,
            "lgfrl" | "lrl" | "llgfrl" | "strl" | "cgfrl" | "crl" | "clgfrl" | "clrl" => 4,
            "lgrl" | "stgrl" | "cgrl" | "clgrl" => 8,
            _ => return None,
        })
    }

    fn is_misaligned(&self) -> bool {
        self.alignment().is_some_and(|align| !self.target(1).is_multiple_of(align))
    }

    /// What reads memory when it is carried out.
    fn reads(&self) -> bool {
        let name = self.mnemonic.as_str();
        matches!(name, "clhrl" | "clghrl")
            || name.strip_prefix("bi").is_some_and(|rest| rest == "c" || mask(rest).is_some())
    }

    fn flow(&self) -> Flow {
        let name = self.mnemonic.as_str();
        match name {
            "svc" => Flow::Syscall,
            "bras" | "brasl" | "bas" | "bal" => Flow::Call,
            "basr" | "balr" if self.operands[1] != "%r0" => Flow::Call,
            "basr" | "balr" => Flow::Next,
            "bctr" | "bctgr" if self.operands[1] == "%r0" => Flow::Next,
            "j" | "jg" | "b" | "bi" | "lpsw" | "lpswe" | "lpswey" => Flow::Leaves,
            "br" if self.operands[0] != "%r0" => Flow::Leaves,
            "nop" | "nopr" | "jnop" | "jgnop" | "larl" | "pfdrl" | "bpp" | "bprp" => Flow::Next,
            "bic" => Flow::Next, // on no condition: others have names
            _ if self.reads() && name.starts_with("bi") => Flow::Conditional,
            _ => match self.refusal() {
                Some("addressing mode" | "tables") => Flow::Leaves,
                Some("aborts its transaction") if name == "tabort" => Flow::Leaves,
                None if self.carried_out(&Registers::new(Isa::S390x)).is_some() => Flow::Conditional,
                _ => Flow::Next,
            },
        }
    }

    fn check(&self, rng: &mut TestRng) {
        let (at, bytes) = (Address(self.at), self.bytes.as_slice());
        let what = format!("{} `{} {}`", hex(bytes), self.mnemonic, self.operands.join(","));
        let summary = inspect(Isa::S390x, at, bytes).unwrap_or_else(|| panic!("{what} does not decode"));
        assert_eq!((summary.len, summary.flow), (bytes.len(), self.flow()), "{what}");
        let is_emulated = self.carried_out(&Registers::new(Isa::S390x)).is_some();
        for _ in 0..if is_emulated { 4 } else { 0 } {
            let mut registers = random(0, rng);
            registers.set_pc(self.at);
            let expected = self.carried_out(&registers).unwrap();
            let before = registers.clone();
            emulate(Isa::S390x, at, bytes, &mut registers.bytes, &mut NoMemory).unwrap();
            assert_eq!(registers, expected, "{what}, from {before:x?}");
        }
        match (out_of_line(Isa::S390x, at, bytes), self.refusal()) {
            (Err(Reason::NotDisplaceable { why, .. }), Some(part)) => {
                assert!(why.contains(part), "{what}: {why}")
            }
            (Ok(OutOfLine { how: How::Emulated, .. }), None) => {
                assert!(is_emulated || self.reads() || self.mnemonic == "bic", "{what}")
            }
            (Ok(OutOfLine { how: How::Slot(slot), .. }), None) => {
                assert!(!is_emulated && !self.reads(), "{what}");
                if self.alignment().is_some() {
                    let [(lent, value)] = slot.lent[..] else { panic!("{what}: {slot:?}") };
                    let data: u8 = self.register(0)[1..].parse().unwrap();
                    let number = u8::try_from(lent.0 / 8 - 2).unwrap();
                    assert!(value == self.target(1) && number != 0 && number != data, "{what}: {slot:?}");
                    let fields = (slot.code[1], slot.code[2], slot.code[3], slot.code[4]);
                    assert_eq!(fields, (data << 4, number << 4, 0, 0), "{what}");
                } else {
                    assert!(slot.code == bytes && slot.lent.is_empty(), "{what}: {slot:?}");
                }
            }
            (found, expected) => panic!("{what}: {found:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn every_operation_code_is_as_objdump_prints_it() {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    let samples = samples(&mut rng);
    let mut bytes = Vec::new();
    for sample in &samples {
        let mut cell = sample.clone();
        while cell.len() < CELL {
            cell.extend([0x07, 0x07]);
        }
        bytes.extend(cell);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    let at = format!("--adjust-vma={BASE:#x}");
    let arguments = ["-D", "-b", "binary", "-m", "s390:64-bit", "-EB", &at];
    let Some(lines) = objdump(file.path(), &arguments) else { return };
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut known = HashMap::new();
    for line in lines.iter().filter(|line| line.at.is_multiple_of(CELL as u64)) {
        known.insert(line.at, line.is_known());
        if line.is_known() {
            line.check(&mut rng);
            *seen.entry(&line.mnemonic).or_default() += 1;
        }
    }
    // What it does not know is refused, but for what the kernel's list has and what is newer than it.
    let is_slotted = |index: usize| {
        let at = BASE + (index * CELL) as u64;
        !known[&at] && out_of_line(Isa::S390x, Address(at), &samples[index]).is_ok()
    };
    for index in (0..samples.len()).filter(|index| is_slotted(*index)) {
        let sample = &samples[index];
        let code = (sample[0], sample.get(1).copied().unwrap_or(0), sample.get(5).copied().unwrap_or(0));
        let is_meant = match code {
            // None of these branches, or is known to the kernel.
            (0x00 | 0xb3 | 0xc2 | 0xc8 | 0xe5 | 0xe6 | 0xe7 | 0xed, ..) => true,
            (0xb2, second, _) => [0x20, 0x56, 0x5f, 0xad, 0xae, 0xaf, 0xf0].contains(&second),
            (0xb9, second, _) => {
                [0x68, 0x69, 0x6c, 0x6d, 0x9c, 0xa0, 0xa4, 0xab, 0xd0, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6]
                    .contains(&second)
            }
            (0xe3, _, last) => matches!(last, 0x60..=0x69 | 0xd0 | 0xd4),
            (0xeb, _, last) => matches!(last, 0x16 | 0x60..=0x62 | 0x8a | 0xd0 | 0xd1 | 0xd4),
            _ => false,
        };
        assert!(is_meant || seen_otherwise(&lines, sample), "{} is not refused", hex(sample));
    }
    for mnemonic in
        ["bic", "bctgr", "brcth", "clgibnh", "jgnlh", "exrl", "tbegin", "bakr", "clghrl", "lgg", "svc"]
    {
        assert!(seen.contains_key(mnemonic), "{mnemonic} is among them");
    }
    assert!(seen.len() > 900, "{} mnemonics", seen.len());
}

/// Whether it knows another instruction with the same operation code: fields of this one are not as they should be.
fn seen_otherwise(lines: &[Line], sample: &[u8]) -> bool {
    lines.iter().any(|line| {
        let same = |index: usize| line.bytes.get(index) == sample.get(index);
        let two = matches!(sample[0], 0x01 | 0xb2 | 0xb9);
        line.is_known() && same(0) && (!two || same(1)) && (sample.len() < 6 || sample[0] < 0xe3 || same(5))
    })
}

/// Code of compilers and of the C library.
#[test]
fn real_code_is_as_objdump_prints_it() {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    for name in ["libc.so.6", "ld64.so.1"] {
        let file = Path::new("/usr/s390x-linux-gnu/lib").join(name);
        if !file.exists() {
            println!("skipped: no {name} of s390x (Debian: libc6-s390x-cross)");
            continue;
        }
        let Some(lines) = objdump(&file, &["-d"]) else { return };
        assert!(lines.len() > 10_000, "{name}");
        let mut executed = Vec::new();
        for section in lines.chunk_by(|one, next| one.next() == next.at) {
            let code: Vec<u8> = section.iter().flat_map(|line| line.bytes.clone()).collect();
            executed.extend(exclusive_sequences(Isa::S390x, Address(section[0].at), &code));
        }
        for (index, line) in lines.iter().enumerate() {
            // Behind what never goes on there are zeros.
            if line.is_known() && index % (lines.len() / 20_000).max(1) == 0 {
                line.check(&mut rng);
            }
            if line.mnemonic == "exrl" {
                let target = Address(line.target(1));
                assert!(executed.iter().any(|range| range.contains(&target)), "{target}");
            }
        }
    }
}
