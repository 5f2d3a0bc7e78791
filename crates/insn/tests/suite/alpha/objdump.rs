//! Classes, targets and texts against binutils' disassembler.
//!
//! What it prints is carried out here by the handbook's words (4.3) and compared with what the crate does.

use std::path::Path;

use insn::isa::RegisterSlot;
use insn::plan::{Reason, hex};
use insn::xol::{How, OutOfLine, Slot, Then, emulate, exclusive_sequences, out_of_line};
use insn::{Address, Flow, Isa, disassemble, inspect};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::cases::CLASSES;
use crate::registers::{NoMemory, Registers, value};
use crate::toolchain;

const TARGET: &str = "alpha-linux-gnu";
const BASE: u64 = 0x1_2000_0000;

/// `call_pal urti`, whose name it does not know.
const URTI: u32 = 0x92;

/// Instructions of each class, and with each opcode.
const EACH: usize = 400;

fn samples(rng: &mut TestRng) -> Vec<u32> {
    let mut all: Vec<u32> = (0..0x100).collect(); // PALcode's functions
    for class in CLASSES {
        all.extend((0..EACH).map(|_| class.random(rng)));
    }
    for opcode in 0..64 {
        all.extend((0..EACH).map(|_| opcode << 26 | rng.next_u32() >> 6));
    }
    // Every function of MISC, and jumps with small hints.
    all.extend((0..64).map(|function| 0x6000_0000 | rng.next_u32() & 0x03ff_0000 | function << 10));
    all.extend((0..EACH).map(|_| 0x6800_0000 | rng.next_u32() & 0x03ff_c001));
    all
}

/// One line of its output: address, word, mnemonic, operands.
struct Line {
    at: u64,
    word: u32,
    mnemonic: String,
    operands: Vec<String>,
}

fn parse(line: &str) -> Option<Line> {
    let mut columns = line.split('\t');
    let at = columns.next()?.trim().strip_suffix(':')?;
    let bytes = columns.next()?.trim().split(' ').rev();
    let word = bytes
        .map(|byte| u32::from_str_radix(byte, 16))
        .try_fold(0, |word, byte| Some(word << 8 | byte.ok()?))?;
    let mnemonic = columns.next()?.trim().to_owned();
    // Without `<symbol>` behind an address.
    let operands = columns.next().unwrap_or("").split(' ').next()?;
    let operands = operands.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    Some(Line { at: u64::from_str_radix(at, 16).ok()?, word, mnemonic, operands })
}

/// A register by its name.
fn known(name: &str) -> Option<RegisterSlot> {
    let found = Isa::Alpha.abi().registers.iter().find(|(known, _)| *known == name);
    found.map(|(_, slot)| *slot)
}

/// The same; `None` for zero only.
fn register(name: &str) -> Option<RegisterSlot> {
    assert!(known(name).is_some() || name == "zero", "a register {name}");
    known(name)
}

impl Line {
    fn target(&self) -> u64 {
        let last = self.operands.last().unwrap();
        u64::from_str_radix(last.strip_prefix("0x").unwrap_or(last), 16).unwrap()
    }

    /// The first operand, where it is no target and no base: `br` and `jmp` leave zero out.
    fn link(&self) -> Option<RegisterSlot> {
        self.operands.first().and_then(|name| known(name))
    }

    /// What is in parentheses; `ret` alone means ra.
    fn base(&self) -> Option<RegisterSlot> {
        let inner = |operand: &String| operand.strip_prefix('(')?.strip_suffix(')').map(str::to_owned);
        let found = self.operands.iter().find_map(inner);
        register(found.as_deref().unwrap_or("ra"))
    }

    /// What the handbook has the instruction do, if it is one of those that use the PC and are no floating-point branches.
    fn carried_out(&self, before: &Registers) -> Option<Registers> {
        let mut after = before.clone();
        let next = self.at + 4;
        let get = |slot: Option<RegisterSlot>| slot.map_or(0, |slot| before.get(slot));
        let value = || get(self.link());
        let mut branch = |is_taken: bool| after.set_pc(if is_taken { self.target() } else { next });
        let (mut jumps, mut links) = (false, false);
        match self.mnemonic.as_str() {
            "beq" => branch(value() == 0),
            "bne" => branch(value() != 0),
            "blt" => branch(value().cast_signed() < 0),
            "ble" => branch(value().cast_signed() <= 0),
            "bgt" => branch(value().cast_signed() > 0),
            "bge" => branch(value().cast_signed() >= 0),
            "blbc" => branch(value() % 2 == 0),
            "blbs" => branch(value() % 2 == 1),
            "br" | "bsr" => {
                branch(true);
                links = true;
            }
            "jmp" | "jsr" | "ret" | "jsr_coroutine" | "jcr" => (jumps, links) = (true, true),
            _ => return None,
        }
        if jumps {
            after.set_pc(get(self.base()) & !3);
        }
        if let Some(link) = self.link().filter(|_| links) {
            after.set(link, next);
        }
        Some(after)
    }

    fn is_floating_branch(&self) -> bool {
        matches!(self.mnemonic.as_str(), "fbeq" | "fbne" | "fblt" | "fble" | "fbgt" | "fbge")
    }

    /// What becomes of it otherwise: the reason of a refusal begins so.
    fn refusal(&self) -> Option<&'static str> {
        match self.mnemonic.as_str() {
            "bpt" => Some("it is a breakpoint"),
            "call_pal" if self.word == URTI => Some("it goes where a frame"),
            "ldl_l" | "ldq_l" => Some("a trap behind it"),
            "stl_c" | "stq_c" => Some("a trap in front of it"),
            "rs" | "rc" => Some("a trap clears"),
            _ => None,
        }
    }

    fn flow(&self) -> Flow {
        match self.mnemonic.as_str() {
            "beq" | "bne" | "blt" | "ble" | "bgt" | "bge" | "blbc" | "blbs" => Flow::Conditional,
            _ if self.is_floating_branch() => Flow::Conditional,
            "br" | "bsr" | "jmp" | "jsr" | "ret" | "jsr_coroutine" | "jcr" if self.link().is_some() => {
                Flow::Call
            }
            "br" | "bsr" | "jmp" | "jsr" | "ret" | "jsr_coroutine" | "jcr" => Flow::Leaves,
            "callsys" => Flow::Syscall,
            "call_pal" if self.word == URTI => Flow::Leaves,
            _ => Flow::Next,
        }
    }

    /// The text, where it has the same name for it as the handbook; `None` where it has none or another one. PALcode's functions
    /// have one in each operating system.
    fn text(&self) -> Option<String> {
        let is_alias = ALIASES.contains(&self.mnemonic.as_str())
            || self.mnemonic.starts_with("neg")
            || self.mnemonic.starts_with("fneg");
        let is_shown = !is_alias && !self.mnemonic.starts_with('.') && self.word >> 26 != 0;
        is_shown.then(|| format!("{} {}", self.mnemonic, self.operands.join(",")).trim_end().to_owned())
    }
}

/// Other names of some operands.
const ALIASES: &[&str] =
    &["or", "mov", "clr", "not", "ornot", "andnot", "sextl", "fmov", "fclr", "fabs", "jcr", "lda", "unop"];

fn check(line: &Line, rng: &mut TestRng) {
    let isa = Isa::Alpha;
    let (at, bytes) = (Address(line.at), line.word.to_le_bytes());
    let what = format!("{at}: {}: {} {:?}", hex(&bytes), line.mnemonic, line.operands);
    let found = out_of_line(isa, at, &bytes);
    if (1..8).contains(&(line.word >> 26)) {
        assert!(line.mnemonic.starts_with('.') || line.mnemonic.starts_with("opc0"), "{what}");
        return assert_eq!(found, Err(Reason::Undecodable), "{what}");
    }
    let summary = inspect(isa, at, &bytes).unwrap();
    assert_eq!((summary.len, summary.flow), (4, line.flow()), "{what}");
    let is_return = line.mnemonic == "ret" && line.link().is_none();
    assert_eq!(summary.is_return, is_return, "{what}");
    let is_emulated = line.carried_out(&Registers::new(isa)).is_some();
    for _ in 0..if is_emulated { 4 } else { 0 } {
        let mut registers = Registers::new(isa);
        for number in 0..31_usize {
            registers.set(number, value(&[0, 1, 2, u64::MAX, 1 << 63], rng, TestRng::next_u64));
        }
        registers.set_pc(line.at);
        let expected = line.carried_out(&registers).unwrap();
        emulate(isa, at, &bytes, &mut registers.bytes, &mut NoMemory).unwrap();
        assert_eq!(registers, expected, "{what}");
    }
    match (found, line.refusal()) {
        (Err(Reason::NotDisplaceable { why, .. }), Some(begins)) => {
            assert!(why.starts_with(begins), "{what}: {why}");
        }
        (Ok(OutOfLine { how: How::Emulated, .. }), None) => assert!(is_emulated, "{what}"),
        (Ok(OutOfLine { how: How::Slot(slot), .. }), None) if line.is_floating_branch() => {
            check_floating_branch(line, &slot);
        }
        (Ok(OutOfLine { how: How::Slot(slot), len }), None) => {
            assert!(!is_emulated, "{what}");
            assert_eq!((slot.code.as_slice(), len), (&bytes[..], 4), "{what}");
        }
        (found, _) => panic!("{what}: {found:?}"),
    }
    let text = disassemble(isa, at, &bytes)[0].2.clone();
    if let Some(printed) = line.text().filter(|_| !text.starts_with(".long")) {
        assert!(is_same_text(&text, &printed), "{what}: {text}");
    }
}

/// The same but for operands that it leaves out: a first or second one that is zero, and hints.
fn is_same_text(ours: &str, printed: &str) -> bool {
    let [(our_name, our_operands), (name, operands)] =
        [ours, printed].map(|text| text.split_once(' ').unwrap_or((text, "")));
    let mut rest = our_operands.split(',');
    let is_jump = matches!(name, "jmp" | "jsr" | "ret" | "jsr_coroutine");
    our_name == name
        && (is_jump
            || operands
                .split(',')
                .all(|operand| operand.is_empty() || rest.any(|ours| bare(ours) == bare(operand))))
}

/// Without a prefix, which is not everywhere where symbols are, and without zero, to which it adds nothing.
fn bare(operand: &str) -> &str {
    operand.trim_start_matches("0x").trim_end_matches("(zero)")
}

/// Over one instruction to the other address.
fn check_floating_branch(line: &Line, slot: &Slot) {
    let [first, second] = slot.code.as_chunks::<4>().0 else { panic!("{slot:?}") };
    let code = [first, second].map(|word| u32::from_le_bytes(*word));
    assert_eq!(code, [line.word & 0xffe0_0000 | 1, 0x47fc_041b]); // and bis zero,at,t12
    let [target, other] = ["t12", "at"].map(|name| register(name).unwrap());
    assert_eq!(slot.lent, [(target, line.target()), (other, line.at + 4)]);
    assert_eq!((slot.then, slot.left.len()), (Then::Branch(target), 0));
}

fn lines(arguments: &[&str], file: &Path) -> Option<Vec<Line>> {
    Some(toolchain::objdump(TARGET, arguments, file)?.lines().filter_map(parse).collect())
}

#[test]
fn any_word_is_as_objdump_prints_it() {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    let samples = samples(&mut rng);
    let file = tempfile::NamedTempFile::new().unwrap();
    let bytes: Vec<u8> = samples.iter().flat_map(|word| word.to_le_bytes()).collect();
    std::fs::write(file.path(), bytes).unwrap();
    let at = format!("--adjust-vma={BASE:#x}");
    let Some(lines) = lines(&["-D", "-b", "binary", "-m", "alpha:ev6", &at], file.path()) else { return };
    assert_eq!(lines.iter().map(|line| line.word).collect::<Vec<_>>(), samples);
    lines.iter().for_each(|line| check(line, &mut rng));
    for mnemonic in ["fbge", "jcr", "stq_c", "rc", "callsys", "addt/su", "umulh"] {
        assert!(lines.iter().any(|line| line.mnemonic == mnemonic), "{mnemonic} is among them");
    }
}

/// The C library: each instruction (one of 16, but for `XOL_LONG=1`), and each load-locked with all up to the next store-conditional.
#[test]
fn real_code_is_as_objdump_prints_it() {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    for name in ["libc.so.6.1", "ld-linux.so.2"] {
        let file = Path::new("/usr/alpha-linux-gnu/lib").join(name);
        if !file.exists() {
            println!("skipped: no {name} of alpha (Debian: libc6.1-alpha-cross)");
            continue;
        }
        let Some(lines) = lines(&["-d"], &file) else { return };
        assert!(lines.len() > 1000, "{name}");
        let step = if std::env::var_os("XOL_LONG").is_some() { 1 } else { 16 };
        lines.iter().step_by(step).for_each(|line| check(line, &mut rng));
        let sequences = printed_sequences(&lines);
        println!("{name}: {} instructions, {} sequences", lines.len(), sequences.len());
        assert!(sequences.len() > 3, "{name}");
        assert_eq!(found_sequences(&lines), sequences, "{name}");
    }
}

/// Of each section.
fn found_sequences(lines: &[Line]) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    for section in lines.chunk_by(|one, next| one.at + 4 == next.at) {
        let code: Vec<u8> = section.iter().flat_map(|line| line.word.to_le_bytes()).collect();
        let ranges = exclusive_sequences(Isa::Alpha, Address(section[0].at), &code);
        found.extend(ranges.iter().map(|range| (range.start.0, range.end.0)));
    }
    found
}

fn printed_sequences(lines: &[Line]) -> Vec<(u64, u64)> {
    let loads = lines.iter().enumerate().filter(|(_, line)| matches!(&*line.mnemonic, "ldl_l" | "ldq_l"));
    let is_store = |line: &&Line| matches!(&*line.mnemonic, "stl_c" | "stq_c");
    let store = |load: usize| lines[load..].iter().find(is_store).unwrap();
    loads.map(|(index, load)| (load.at + 4, store(index).at + 4)).collect()
}
