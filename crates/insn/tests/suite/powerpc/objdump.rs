//! Lengths, classes, targets and conditions against binutils' disassembler.
//!
//! It is asked for a sample of every primary opcode, of every extended opcode of 19 and 31, and of every kind of prefix. What it
//! prints is carried out here by the manual's words (Book I, 2.4) and compared with what the crate does.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use insn::plan::{Reason, hex};
use insn::xol::{How, OutOfLine, Slot, Then, emulate, exclusive_sequences, out_of_line};
use insn::{Address, Flow, Isa, inspect};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::cases::{BRANCHES, encode};
use super::registers::random;
use crate::registers::{NoMemory, Registers};
use crate::toolchain;

/// Where the instructions lie; those of 32 bits are near the end of the address space.
fn base(isa: Isa) -> u64 {
    if isa == Isa::PowerPc { 0xfff0_0000 } else { 0x7fff_abcd_0000 }
}

/// Room for one of them.
const CELL: usize = 8;

/// Words: one, or a prefix and its suffix.
fn samples(rng: &mut TestRng) -> Vec<Vec<u32>> {
    let mut all = Vec::new();
    for opcode in (0..64).filter(|opcode| *opcode != 1) {
        all.extend((0..200).map(|_| vec![rng.next_u32() >> 6 | opcode << 26]));
    }
    for extended in 0..1024 {
        for opcode in [19_u32, 31] {
            let any = |rng: &mut TestRng| rng.next_u32() & 0x03ff_f801 | opcode << 26 | extended << 1;
            all.extend((0..3).map(|_| vec![any(rng)]));
            // Most fields of few instructions are reserved.
            all.push(vec![opcode << 26 | extended << 1]);
            all.push(vec![opcode << 26 | extended << 1 | 1]);
        }
    }
    // copy, paste., scv 0, scv 1, sc
    all.extend([0x7c23_260c, 0x7c23_270d, 0x4400_0001, 0x4400_0021, 0x4400_0002].map(|word| vec![word]));
    // pmdmxvf32ger, xxsplti32dx
    all.extend([[0x0790_0034, 0xec02_18de], [0x0500_0000, 0x8062_0007]].map(Vec::from));
    for form in BRANCHES {
        all.extend((0..300).map(|_| form.words(rng)));
    }
    for suffix in 0..64 {
        for kind in 0..4 {
            let prefix = |rng: &mut TestRng| 0x0400_0000 | kind << 24 | rng.next_u32() & 0x00ff_ffff;
            let word = |rng: &mut TestRng| rng.next_u32() >> 6 | suffix << 26;
            all.extend((0..6).map(|_| vec![prefix(rng), word(rng)]));
            // Without reserved bits, and without a register.
            all.extend((0..12).map(|_| {
                vec![prefix(rng) & 0x0713_ffff, word(rng) & !(u32::from(rng.random::<bool>()) * 0x001f_0000)]
            }));
        }
    }
    all
}

/// One line of its output: address, bytes, mnemonic, operands.
struct Line {
    at: u64,
    len: usize,
    bytes: Vec<u8>,
    word: u32,
    mnemonic: String,
    operands: Vec<String>,
}

/// What it prints, by address; `None`, with a line that says so, where it is not installed.
fn objdump(isa: Isa, file: &Path, arguments: &[&str]) -> Option<BTreeMap<u64, Line>> {
    let options = [&["-M", "power10,raw"], arguments].concat();
    let text = toolchain::objdump("powerpc64-linux-gnu", &options, file)?;
    let mut lines: BTreeMap<u64, Line> = BTreeMap::new();
    let mut last = 0;
    for line in text.lines() {
        let mut columns = line.split('\t');
        let Some(Ok(at)) = columns.next().map(|at| u64::from_str_radix(at.trim().trim_end_matches(':'), 16))
        else {
            continue;
        };
        let Some(bytes) = columns.next() else { continue };
        let bytes = bytes.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap());
        let bytes: Vec<u8> = bytes.collect();
        // The second word of an instruction has no text of its own.
        let Some(text) = columns.next() else {
            let line = lines.get_mut(&last).unwrap();
            line.len += bytes.len();
            line.bytes.extend(bytes);
            continue;
        };
        let mut parts = text.split_whitespace();
        let mnemonic = parts.next().unwrap().trim_end_matches(['+', '-']).to_owned();
        let operands = parts.next().unwrap_or("").split(',').map(str::to_owned).collect();
        let word = u32::try_from(isa.abi().order.number(&bytes)).unwrap();
        lines.insert(at, Line { at, len: bytes.len(), bytes, word, mnemonic, operands });
        last = at;
    }
    Some(lines)
}

/// A number in decimal or, with its prefix, hexadecimal digits.
fn number(text: &str) -> u64 {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
        None => text.parse::<i64>().unwrap_or_else(|_| panic!("{text}")).cast_unsigned(),
    }
}

/// The number of a bit of CR: `4*cr1+eq`, `eq`.
fn bit(text: &str) -> u64 {
    let (field, name) = text.strip_prefix("4*cr").map_or((0, text), |text| {
        let (field, name) = text.split_once('+').unwrap_or((text, "lt"));
        (field.parse().unwrap(), name)
    });
    4 * field + ["lt", "gt", "eq", "so"].iter().position(|found| *found == name).unwrap() as u64
}

impl Line {
    fn number(&self, operand: usize) -> u64 {
        number(&self.operands[operand])
    }

    /// A branch's target, hexadecimal with a prefix where there are no symbols; of absolute ones it prints the low 32 bits.
    fn target(&self, operand: usize) -> u64 {
        let printed = u64::from_str_radix(self.operands[operand].trim_start_matches("0x"), 16).unwrap();
        if self.mnemonic.ends_with('a') {
            (printed << 32).cast_signed().wrapping_shr(32).cast_unsigned()
        } else {
            printed
        }
    }

    fn is_known(&self) -> bool {
        !self.mnemonic.starts_with('.')
    }

    /// The mnemonic of a branch without what says that it links and that its target is absolute; whether it links.
    fn branch(&self) -> Option<(&str, bool)> {
        let name = self.mnemonic.trim_end_matches('a');
        match name {
            "b" | "bc" | "bclr" | "bcctr" | "bctar" => Some((name, false)),
            "bl" | "bcl" | "bclrl" | "bcctrl" | "bctarl" => Some((&name[..name.len() - 1], true)),
            _ => None,
        }
    }

    /// Whether the prefix says that it is relative to itself.
    fn is_relative(&self) -> bool {
        self.len == 8 && self.word >> 24 & 1 == 0 && self.operands.last().unwrap() == "1"
    }

    /// What the manual has the instruction do, if it is one of those that the tracer carries out.
    fn carried_out(&self, before: &Registers) -> Option<Registers> {
        let mut after = before.clone();
        let next = self.at + self.len as u64;
        if let Some((name, links)) = self.branch() {
            let to = match name {
                "b" => self.target(0),
                "bc" => self.target(2),
                "bclr" => before.get("lr") & !3,
                "bcctr" => before.get("ctr") & !3,
                _ => return None,
            };
            let (bo, bi) = if name == "b" { (0b10100, 0) } else { (self.number(0), bit(&self.operands[1])) };
            let mut is_taken = true;
            if bo & 4 == 0 {
                after.set("ctr", before.get("ctr").wrapping_sub(1));
                is_taken = if bo & 2 == 0 { after.get("ctr") != 0 } else { after.get("ctr") == 0 };
            }
            if bo & 16 == 0 {
                is_taken &= (before.get("cr") << bi & 1 << 31 != 0) == (bo & 8 != 0);
            }
            after.set("pc", if is_taken { to } else { next });
            if links {
                after.set("lr", next);
            }
            return Some(after);
        }
        after.set("pc", next);
        match self.mnemonic.as_str() {
            "addpcis" => after.set(self.operands[0].as_str(), next.wrapping_add(self.number(1) << 16)),
            "paddi" if self.is_relative() => {
                after.set(self.operands[0].as_str(), self.at.wrapping_add(self.number(2)))
            }
            "ori" if self.word == 0x6000_0000 => {}
            _ => return None,
        }
        Some(after)
    }

    /// Whether a trap is taken whatever is compared: its outcomes are less or greater, with signs and without, and equal.
    fn is_always_taken(&self) -> bool {
        let to = self.number(0);
        let is_one = !self.mnemonic.ends_with('i') && self.operands[1] == self.operands[2];
        let outcomes = [16, 8].into_iter().flat_map(|signed| [signed | 2, signed | 1]).filter(|_| !is_one);
        outcomes.chain([4]).all(|outcome| to & outcome != 0)
    }

    /// What becomes of it otherwise: the reason of a refusal has this.
    fn refusal(&self) -> Option<&'static str> {
        Some(match self.mnemonic.as_str() {
            "tw" | "twi" | "td" | "tdi" if self.is_always_taken() => "it is a breakpoint",
            "lbarx" | "lharx" | "lwarx" | "ldarx" | "lqarx" | "copy" => "its store would fail each time",
            "stbcx." | "sthcx." | "stwcx." | "stdcx." | "stqcx." | "paste." => "in front of it",
            "tbegin." | "tend." | "tabort." | "tabortwc." | "tabortdc." | "tabortwci." | "tabortdci."
            | "tsr." => "makes a transaction fail",
            "rfebb" => "where the event was",
            "bctar" | "bctarl" if self.number(0) & 0b10100 != 0b10100 => "where TAR says",
            "bcctr" | "bcctrl" if self.number(0) & 0b100 == 0 => "an invalid form",
            "scv" if self.number(0) != 0 => "no such system call",
            _ => return None,
        })
    }

    fn flow(&self) -> Flow {
        if let Some((name, links)) = self.branch() {
            let is_always = name == "b" || self.number(0) & 0b10100 == 0b10100;
            return match (links, is_always) {
                (true, _) => Flow::Call,
                (false, true) => Flow::Leaves,
                (false, false) => Flow::Conditional,
            };
        }
        match self.mnemonic.as_str() {
            "sc" => Flow::Syscall,
            "scv" if self.number(0) == 0 => Flow::Syscall,
            "tw" | "twi" | "td" | "tdi" if self.is_always_taken() => Flow::Leaves,
            "rfebb" | "rfid" | "hrfid" | "rfscv" | "urfid" | "rfi" | "rfci" | "stop" | "attn" | "rfgi" => {
                Flow::Leaves
            }
            _ => Flow::Next,
        }
    }

    fn check(&self, isa: Isa, bytes: &[u8], rng: &mut TestRng) {
        let at = Address(self.at);
        let what = format!("{isa:?} {at}: {}: {} {:?}", hex(bytes), self.mnemonic, self.operands);
        let summary = inspect(isa, at, bytes).unwrap();
        assert_eq!((summary.len, summary.flow), (self.len, self.flow()), "{what}");
        let is_emulated = self.carried_out(&Registers::new(isa)).is_some();
        for _ in 0..if is_emulated && self.refusal().is_none() { 4 } else { 0 } {
            let mut registers = random(isa, rng);
            registers.set("pc", self.at);
            let before = registers.clone();
            let expected = self.carried_out(&before).unwrap();
            emulate(isa, at, bytes, &mut registers.bytes, &mut NoMemory).unwrap();
            assert_eq!(registers, expected, "{what}, from {before:x?}");
        }
        match (out_of_line(isa, at, bytes), self.refusal()) {
            (Err(Reason::NotDisplaceable { why, .. }), Some(part)) => {
                assert!(why.contains(part), "{what}: {why}")
            }
            (Ok(OutOfLine { how: How::Emulated, .. }), None) => assert!(is_emulated, "{what}"),
            (Ok(OutOfLine { how: How::Slot(slot), .. }), None) => {
                assert!(!is_emulated, "{what}");
                self.check_slot(isa, &slot, bytes, &what);
            }
            (found, expected) => panic!("{what}: {found:?}, expected {expected:?}"),
        }
    }

    fn check_slot(&self, isa: Isa, slot: &Slot, bytes: &[u8], what: &str) {
        let then = |is: bool| assert!(is, "{what}: {slot:?}");
        let next = self.at + self.len as u64;
        let left = |name: &str| {
            let slot = isa.abi().registers.iter().find(|register| register.0 == name).unwrap().1;
            vec![(slot, next)]
        };
        match self.mnemonic.as_str() {
            "scv" => then(slot.code == bytes && slot.lent.is_empty() && slot.left == left("lr")),
            "bctar" => then(slot.left.is_empty() && slot.then == Then::Branch(slot.lent[0].0)),
            "bctarl" => then(slot.left == left("lr") && slot.then == Then::Branch(slot.lent[0].0)),
            _ if self.is_relative() && !(self.mnemonic == "plq" && self.operands[0] == "r0") => {
                then(slot.left.is_empty() && slot.then == Then::Next);
                let [(lent, value)] = slot.lent[..] else { panic!("{what}: {slot:?}") };
                let number = isa.abi().registers.iter().position(|register| register.1 == lent).unwrap();
                let number = u32::try_from(number).unwrap();
                let word = |bytes: &[u8]| isa.abi().order.number(bytes);
                let changed = |half: usize| word(&bytes[half..half + 4]) ^ word(&slot.code[half..half + 4]);
                then((changed(0), changed(4), value) == (1 << 20, u64::from(number) << 16, self.at));
                let data = &self.operands[0];
                let second =
                    format!("r{}", data.trim_start_matches(['r', 'v', 's', 'f']).parse::<u32>().unwrap() + 1);
                let is_pair = matches!(self.mnemonic.as_str(), "plq" | "pstq");
                let name = format!("r{number}");
                then(number != 0 && name != *data && !(is_pair && name == second));
            }
            _ => {
                then(
                    slot.code == bytes
                        && slot.lent.is_empty()
                        && slot.left.is_empty()
                        && slot.then == Then::Next,
                );
            }
        }
    }
}

fn compare(isa: Isa) {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    let samples = samples(&mut rng);
    let mut bytes = Vec::new();
    for words in &samples {
        let mut cell: Vec<u8> = words.iter().flat_map(|word| encode(isa, *word)).collect();
        cell.resize(CELL, 0);
        bytes.extend(cell);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    let order = if isa == Isa::PowerPc64Le { "-EL" } else { "-EB" };
    let at = format!("--adjust-vma={:#x}", base(isa));
    let arguments = ["-D", "-b", "binary", "-m", "powerpc:common64", order, &at];
    let Some(lines) = objdump(isa, file.path(), &arguments) else { return };
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (index, words) in samples.iter().enumerate() {
        let at = base(isa) + (index * CELL) as u64;
        let line = &lines[&at];
        if line.is_known() {
            let from = index * CELL;
            line.check(isa, &bytes[from..from + 4 * words.len()], &mut rng);
            *seen.entry(&line.mnemonic).or_default() += 1;
        }
    }
    for mnemonic in [
        "b",
        "bla",
        "bc",
        "bcla",
        "bclr",
        "bclrl",
        "bcctr",
        "bctarl",
        "addpcis",
        "paddi",
        "pld",
        "pstq",
        "plxvp",
        "lqarx",
        "stbcx.",
        "copy",
        "paste.",
        "scv",
        "sc",
        "rfebb",
        "tw",
        "tdi",
        "pmdmxvf32ger",
        "xxsplti32dx",
    ] {
        assert!(seen.contains_key(mnemonic), "{mnemonic} is among them");
    }
    assert!(seen.len() > 600, "{} mnemonics", seen.len());
}

#[test]
fn power_of_32_bits_is_as_objdump_prints_it() {
    compare(Isa::PowerPc);
}

#[test]
fn power_of_64_bits_is_as_objdump_prints_it() {
    compare(Isa::PowerPc64);
}

#[test]
fn little_endian_power_is_as_objdump_prints_it() {
    compare(Isa::PowerPc64Le);
}

/// Code of compilers and of the C library: each instruction, and each load and reserve with all up to the next conditional store,
/// for that is how they use them.
fn compare_real(isa: Isa, target: &str, loader: &str) {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    for name in ["libatomic.so.1", loader] {
        let file = Path::new("/usr").join(target).join("lib").join(name);
        if !file.exists() {
            println!(
                "skipped: no {} (Debian: libatomic1 and libc6 of its architecture, -cross)",
                file.display()
            );
            continue;
        }
        let Some(lines) = objdump(isa, &file, &["-d"]) else { return };
        assert!(lines.len() > 1000, "{name}");
        let (mut code, mut at) = (Vec::new(), 0);
        let mut found = Vec::new();
        let mut section = |at: u64, code: &[u8]| {
            let ranges = exclusive_sequences(isa, Address(at - code.len() as u64), code);
            found.extend(ranges.iter().map(|range| (range.start.0, range.end.0)));
        };
        for line in lines.values() {
            if line.at != at {
                section(at, &code);
                code.clear();
            }
            code.extend(&line.bytes);
            at = line.at + line.len as u64;
            // Tables between functions are words that are no instructions.
            if line.is_known() {
                line.check(isa, &line.bytes, &mut rng);
            }
        }
        section(at, &code);
        assert_eq!(found, printed_sequences(&lines), "{name}");
        assert!(found.len() > 3, "{name}");
    }
}

fn printed_sequences(lines: &BTreeMap<u64, Line>) -> Vec<(u64, u64)> {
    let is = |line: &Line, reason: &str| line.refusal().is_some_and(|found| found == reason);
    let loads = lines.values().filter(|line| is(line, "its store would fail each time"));
    let store = |at: u64| lines.range(at..).find(|(_, line)| is(line, "in front of it")).unwrap().1;
    loads.map(|load| (load.at + 4, store(load.at).at + 4)).collect()
}

#[test]
fn real_code_of_32_bits_is_as_objdump_prints_it() {
    compare_real(Isa::PowerPc, "powerpc-linux-gnu", "ld.so.1");
}

#[test]
fn real_code_of_64_bits_is_as_objdump_prints_it() {
    compare_real(Isa::PowerPc64, "powerpc64-linux-gnu", "ld64.so.1");
}

#[test]
fn real_little_endian_code_is_as_objdump_prints_it() {
    compare_real(Isa::PowerPc64Le, "powerpc64le-linux-gnu", "ld64.so.2");
}
