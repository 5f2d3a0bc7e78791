//! Lengths, classes, targets and conditions against binutils' disassembler.
//!
//! It is asked for every instruction of 16 bits and for a sample of those of 32, and what it prints is carried out here by the
//! manual's words (chapter 2) and compared with what the crate does.

use std::path::Path;

use insn::plan::{Reason, hex};
use insn::xol::{How, OutOfLine, emulate, exclusive_sequences, out_of_line};
use insn::{Address, Flow, Isa, inspect};
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::cases::{
    BRANCHES, EXCLUSIVE, Form, MEMORY, STRAIGHT, TRAPS, any_word, compressed, encode, opcodes,
};
use super::registers::{random, signed};
use crate::registers::{NoMemory, Registers};
use crate::toolchain;

/// Where the instructions lie; those of RV32 run over the end of the address space.
fn base(isa: Isa) -> u64 {
    if isa == Isa::RiscV32 { 0xffff_0000 } else { 0x2a_aaaa_0000 }
}

/// Instructions of each form, and with each major opcode.
const EACH: usize = 200;

fn samples(isa: Isa, rng: &mut TestRng) -> Vec<Vec<u8>> {
    let mut all: Vec<_> = compressed().map(encode).collect();
    for form in [STRAIGHT, MEMORY, BRANCHES, EXCLUSIVE, TRAPS].into_iter().flatten() {
        all.extend((0..EACH).filter(|_| form.is_on(isa)).map(|_| Form::random(form, rng)));
    }
    for opcode in opcodes() {
        all.extend((0..EACH).map(|_| encode(any_word(rng, opcode))));
    }
    all
}

/// One line of its output: address, bytes, mnemonic, operands.
struct Line {
    at: u64,
    bytes: Vec<u8>,
    mnemonic: String,
    operands: Vec<String>,
}

/// What it prints for one file; `None`, with a line that says so, where it is not installed.
fn objdump(file: &Path, arguments: &[&str]) -> Option<Vec<Line>> {
    let options = [&["-M", "no-aliases,numeric"], arguments].concat();
    let text = toolchain::objdump("riscv64-linux-gnu", &options, file)?;
    Some(text.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Line> {
    let mut columns = line.split('\t');
    let at = columns.next()?.trim().strip_suffix(':')?;
    let word = columns.next()?.trim();
    let mnemonic = columns.next()?.to_owned();
    // Without remarks: `# address`, and `<symbol>` behind an address.
    let operands = columns.next().unwrap_or("").split(" ").next()?;
    let bytes = (0..word.len()).step_by(2).rev().map(|from| u8::from_str_radix(&word[from..from + 2], 16));
    Some(Line {
        at: u64::from_str_radix(at, 16).ok()?,
        bytes: bytes.collect::<Result<_, _>>().ok()?,
        mnemonic,
        operands: operands.split([',', '(']).map(|part| part.trim_end_matches(')').to_owned()).collect(),
    })
}

impl Line {
    fn register(&self, operand: usize) -> usize {
        self.operands[operand].strip_prefix('x').unwrap().parse().unwrap()
    }

    fn number(&self, operand: usize) -> u64 {
        let text = &self.operands[operand];
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
            None => text.parse::<i64>().unwrap().cast_unsigned(),
        }
    }

    /// A branch's target: hexadecimal, with a prefix where there are no symbols.
    fn target(&self, operand: usize) -> u64 {
        u64::from_str_radix(self.operands[operand].trim_start_matches("0x"), 16).unwrap()
    }

    fn end(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }

    /// What the manual has the instruction do, if it is one of those that use the PC.
    fn carried_out(&self, before: &Registers) -> Option<Registers> {
        let mut after = before.clone();
        let next = self.end();
        let get = |operand: usize| before.get(self.register(operand));
        let signed = |operand: usize| signed(before, self.register(operand));
        let mut branch = |is_taken: bool, operand: usize| {
            after.set_pc(if is_taken { self.target(operand) } else { next });
        };
        match self.mnemonic.as_str() {
            "beq" => branch(get(0) == get(1), 2),
            "bne" => branch(get(0) != get(1), 2),
            "blt" => branch(signed(0) < signed(1), 2),
            "bge" => branch(signed(0) >= signed(1), 2),
            "bltu" => branch(get(0) < get(1), 2),
            "bgeu" => branch(get(0) >= get(1), 2),
            "c.beqz" => branch(get(0) == 0, 1),
            "c.bnez" => branch(get(0) != 0, 1),
            "c.j" => branch(true, 0),
            "c.jal" => {
                branch(true, 0);
                after.set(1, next);
            }
            "jal" => {
                branch(true, 1);
                after.set(self.register(0), next);
            }
            "jalr" => {
                after.set_pc(get(2).wrapping_add(self.number(1)) & !1);
                after.set(self.register(0), next);
            }
            "c.jr" => after.set_pc(get(0) & !1),
            "c.jalr" => {
                after.set_pc(get(0) & !1);
                after.set(1, next);
            }
            "auipc" if self.register(0) != 0 => {
                let upper = (self.number(1) << 44).cast_signed() >> 32;
                after.set(self.register(0), self.at.wrapping_add_signed(upper));
                after.set_pc(next);
            }
            _ => return None,
        }
        Some(after)
    }

    /// What becomes of it otherwise: the reason of a refusal begins so.
    fn refusal(&self) -> Option<&'static str> {
        match self.mnemonic.split_once('.').map_or(self.mnemonic.as_str(), |parts| parts.0) {
            "auipc" if self.register(0) == 0 => Some("it is a landing pad"),
            "ebreak" => Some("it is a breakpoint"),
            "lr" => Some("a trap behind it"),
            "sc" => Some("a trap in front of it"),
            "c" if self.mnemonic == "c.ebreak" => Some("it is a breakpoint"),
            _ => None,
        }
    }

    fn is_unknown(&self) -> bool {
        self.mnemonic.starts_with(".")
    }

    fn flow(&self) -> Flow {
        match self.mnemonic.as_str() {
            "c.beqz" | "c.bnez" | "beq" | "bne" | "blt" | "bge" | "bltu" | "bgeu" => Flow::Conditional,
            "c.jal" | "c.jalr" => Flow::Call,
            "jal" | "jalr" if self.register(0) != 0 => Flow::Call,
            "c.j" | "c.jr" | "jal" | "jalr" | "c.unimp" | "unimp" => Flow::Leaves,
            "ecall" => Flow::Syscall,
            _ => Flow::Next,
        }
    }
}

/// What is compared with what was printed.
fn check(isa: Isa, line: &Line, rng: &mut TestRng) {
    let at = Address(line.at);
    let what = format!("{isa:?} {at}: {}: {} {:?}", hex(&line.bytes), line.mnemonic, line.operands);
    let found = out_of_line(isa, at, &line.bytes);
    let summary = inspect(isa, at, &line.bytes).unwrap();
    assert_eq!(summary.len, line.bytes.len(), "{what}");
    assert_eq!(summary.flow, line.flow(), "{what}");
    let is_emulated = line.carried_out(&Registers::new(isa)).is_some();
    for _ in 0..if is_emulated { 4 } else { 0 } {
        let mut registers = random(isa, rng);
        registers.set_pc(line.at);
        let before = registers.clone();
        let mut expected = line.carried_out(&before).unwrap();
        expected.set_pc(isa.wrap(Address(expected.pc())).0);
        emulate(isa, at, &line.bytes, &mut registers.bytes, &mut NoMemory).unwrap();
        assert_eq!(registers, expected, "{what}, from {before:x?}");
    }
    match (found, line.refusal()) {
        (Err(Reason::NotDisplaceable { why, .. }), Some(begins)) => {
            assert!(why.starts_with(begins), "{what}: {why}");
        }
        (Err(_), None) if line.is_unknown() => {}
        (Err(_), None) if isa == Isa::RiscV32 && line.mnemonic == "c.fsdsp" => {}
        (Ok(OutOfLine { how: How::Emulated, .. }), None) => assert!(is_emulated, "{what}"),
        (Ok(OutOfLine { how: How::Slot(slot), len }), None) => {
            assert!(!is_emulated, "{what}");
            assert_eq!((&slot.code, len), (&line.bytes, line.bytes.len()), "{what}");
        }
        (found, _) => panic!("{what}: {found:?}"),
    }
}

fn compare(isa: Isa) {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    let samples = samples(isa, &mut rng);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), samples.concat()).unwrap();
    let machine = if isa == Isa::RiscV32 { "riscv:rv32" } else { "riscv:rv64" };
    let at = format!("--adjust-vma={:#x}", base(isa));
    let Some(lines) = objdump(file.path(), &["-D", "-z", "-b", "binary", "-m", machine, &at]) else { return };
    assert_eq!(lines.len(), samples.len(), "it sees as many instructions");
    for (line, bytes) in lines.iter().zip(&samples) {
        assert_eq!(line.bytes, *bytes, "lengths agree");
        check(isa, line, &mut rng);
    }
    let seen = |mnemonic: &str| lines.iter().any(|line| line.mnemonic.starts_with(mnemonic));
    for mnemonic in
        ["c.beqz", "c.jr", "c.jalr", "jalr", "bgeu", "auipc", "lr.w.aqrl", "sc.w", "amoadd", "ecall"]
    {
        assert!(seen(mnemonic), "{mnemonic} is among them");
    }
}

#[test]
fn rv64_is_as_objdump_prints_it() {
    compare(Isa::RiscV64);
}

#[test]
fn rv32_is_as_objdump_prints_it() {
    compare(Isa::RiscV32);
}

/// Code of compilers and of the C library: each instruction, and each load-reserved with all up to the next
/// store-conditional, for that is how they use them.
#[test]
fn real_code_is_as_objdump_prints_it() {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    for name in ["libatomic.so.1", "ld-linux-riscv64-lp64d.so.1"] {
        let file = Path::new("/usr/riscv64-linux-gnu/lib").join(name);
        if !file.exists() {
            println!("skipped: no {name} of RISC-V (Debian: libatomic1-riscv64-cross, libc6-riscv64-cross)");
            continue;
        }
        let Some(lines) = objdump(&file, &["-d", "-z"]) else { return };
        assert!(lines.len() > 1000, "{name}");
        lines.iter().for_each(|line| check(Isa::RiscV64, line, &mut rng));
        let sequences = printed_sequences(&lines);
        assert!(sequences.len() > 3, "{name}");
        assert_eq!(found_sequences(&lines), sequences, "{name}");
    }
}

/// Of each section.
fn found_sequences(lines: &[Line]) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    for section in lines.chunk_by(|one, next| one.end() == next.at) {
        let code: Vec<u8> = section.iter().flat_map(|line| line.bytes.clone()).collect();
        let ranges = exclusive_sequences(Isa::RiscV64, Address(section[0].at), &code);
        found.extend(ranges.iter().map(|range| (range.start.0, range.end.0)));
    }
    found
}

fn printed_sequences(lines: &[Line]) -> Vec<(u64, u64)> {
    let loads = lines.iter().enumerate().filter(|(_, line)| line.mnemonic.starts_with("lr."));
    let store = |load: usize| lines[load..].iter().find(|line| line.mnemonic.starts_with("sc.")).unwrap();
    loads.map(|(index, load)| (load.end(), store(index).end())).collect()
}
