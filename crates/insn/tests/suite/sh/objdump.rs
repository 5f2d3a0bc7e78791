//! Classes, targets and refusals against binutils' disassembler: of every encoding there is.
//!
//! What it prints is carried out here by the manual's words (chapter 10) and compared with what the crate does. Its disassemblers of
//! the other SuperH processors say what must be refused for their sake.

use std::collections::BTreeMap;
use std::path::Path;

use insn::plan::{Reason, hex};
use insn::xol::{
    Fault, How, Memory, OutOfLine, Slot, Then, data, delay_slot_of, emulate, exclusive_sequences, out_of_line,
};
use insn::{Address, Flow, Isa, inspect};
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::registers::random;
use crate::registers::Registers;
use crate::toolchain;

/// Where the encodings lie.
const BASE: u64 = 0x41_0000;
const NOP: [u8; 2] = [0x09, 0x00];

/// One line of its output.
struct Line {
    at: u64,
    bytes: Vec<u8>,
    mnemonic: String,
    operands: String,
}

fn objdump(file: &Path, arguments: &[&str]) -> Option<Vec<Line>> {
    let text = toolchain::objdump("sh4-linux-gnu", arguments, file)?;
    Some(text.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Line> {
    let mut columns = line.split('\t');
    let at = columns.next()?.trim().strip_suffix(':')?;
    let bytes = columns.next()?.trim().split(' ').map(|byte| u8::from_str_radix(byte, 16));
    let mnemonic = columns.next()?.split(' ').next()?.to_owned();
    Some(Line {
        at: u64::from_str_radix(at, 16).ok()?,
        bytes: bytes.collect::<Result<_, _>>().ok()?,
        mnemonic,
        operands: columns.next().unwrap_or("").to_owned(),
    })
}

/// Memory in which each byte tells its address.
struct Telling;

fn told(at: u64) -> u8 {
    (at ^ at >> 7).to_le_bytes()[0]
}

impl Memory for Telling {
    fn read(&mut self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        into.iter_mut().zip(at.0..).for_each(|(byte, at)| *byte = told(at));
        Ok(())
    }

    fn write(&mut self, at: Address, _: &[u8]) -> Result<(), Fault> {
        panic!("writes {at}")
    }
}

impl Line {
    /// A register that is an operand, the last one.
    fn register(&self) -> usize {
        let (_, number) = self.operands.rsplit_once('r').unwrap();
        number.parse().unwrap()
    }

    /// The address that is its first operand: without symbols it is a hexadecimal number.
    fn address(&self) -> u64 {
        let text = self.operands.split([',', ' ']).next().unwrap();
        u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
    }

    fn number(&self) -> i64 {
        self.operands.trim_start_matches('#').split(',').next().unwrap().parse().unwrap()
    }

    fn is_delayed(&self) -> bool {
        matches!(
            self.mnemonic.as_str(),
            "bra" | "bsr" | "braf" | "bsrf" | "jmp" | "jsr" | "rts" | "bt.s" | "bf.s"
        )
    }

    /// What the manual has the instruction do, if it is one of those that use the PC.
    fn carried_out(&self, before: &Registers) -> Option<Registers> {
        let mut after = before.clone();
        let next = self.at + 2;
        let behind_slot = self.at + 4;
        let t = before.get("sr") & 1 == 1;
        let mut load = |bytes: [u8; 4], len: usize| {
            let value = if len == 2 {
                u64::from(i32::from(i16::from_le_bytes([bytes[0], bytes[1]])).cast_unsigned())
            } else {
                u64::from(u32::from_le_bytes(bytes))
            };
            after.set(self.register(), value);
            after.set_pc(next);
        };
        let from = |at: u64| [0, 1, 2, 3].map(|offset| told(at + offset));
        match (self.mnemonic.as_str(), self.operands.starts_with(['@', 'r'])) {
            ("bt", _) => after.set_pc(if t { self.address() } else { next }),
            ("bf", _) => after.set_pc(if t { next } else { self.address() }),
            ("bt.s", _) => after.set_pc(if t { self.address() } else { behind_slot }),
            ("bf.s", _) => after.set_pc(if t { behind_slot } else { self.address() }),
            ("bra", _) => after.set_pc(self.address()),
            ("braf", _) => after.set_pc(self.at + 4 + before.get(self.register())),
            ("jmp", _) => after.set_pc(before.get(self.register())),
            ("rts", _) => after.set_pc(before.get("pr")),
            ("bsr", _) => {
                after.set("pr", behind_slot);
                after.set_pc(self.address());
            }
            ("bsrf", _) => {
                after.set("pr", behind_slot);
                after.set_pc(self.at + 4 + before.get(self.register()));
            }
            ("jsr", _) => {
                after.set("pr", behind_slot);
                after.set_pc(before.get(self.register()));
            }
            ("mov.w", false) => load(from(self.address()), 2),
            ("mov.l", false) => load(from(self.address()), 4),
            ("mova", _) => {
                after.set("r0", self.address());
                after.set_pc(next);
            }
            _ => return None,
        }
        Some(after)
    }

    fn flow(&self) -> Flow {
        match self.mnemonic.as_str() {
            "bt" | "bf" | "bt.s" | "bf.s" => Flow::Conditional,
            "bsr" | "bsrf" | "jsr" => Flow::Call,
            "bra" | "braf" | "jmp" | "rts" | "rte" | "sleep" => Flow::Leaves,
            ".word" if self.bytes == [0xfd, 0xff] => Flow::Leaves,
            "trapa" if self.number() < 0x20 => Flow::Syscall,
            _ => Flow::Next,
        }
    }

    /// The beginning of the reason for which it is refused.
    fn refusal(&self) -> Option<&'static str> {
        match self.mnemonic.as_str() {
            "movli.l" => Some("an exception behind it"),
            "movco.l" => Some("an exception in front of it"),
            "trapa" if self.number() >= 0x20 => Some("it is a breakpoint"),
            "mov" if self.operands.starts_with("#-") && self.operands.ends_with(",r15") => {
                Some("it begins an atomic sequence")
            }
            _ => None,
        }
    }

    /// Whether it uses the PC, is longer than others, or sets up what does: a breakpoint may not take its place.
    fn is_bound(&self) -> bool {
        let is_branch = ["rts/n", "rtv/n", "jsr/n"].contains(&self.mnemonic.as_str());
        is_branch
            || self.bytes.len() > 2
            || ["ldrs", "ldre", "ldrc", "setrc"].contains(&self.mnemonic.as_str())
    }
}

/// Encodings from [`BASE`] on, each followed by `behind`, without what that is printed as.
fn all(machine: &str, behind: &[u8]) -> Option<Vec<Line>> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let code: Vec<u8> = (0..=u16::MAX).flat_map(|word| [&word.to_le_bytes()[..], behind].concat()).collect();
    std::fs::write(file.path(), code).unwrap();
    let at = format!("--adjust-vma={BASE:#x}");
    let lines = objdump(file.path(), &["-D", "-b", "binary", "-m", machine, "-EL", &at])?;
    let size = 2 + behind.len() as u64;
    Some(lines.into_iter().filter(|line| (line.at - BASE).is_multiple_of(size)).collect())
}

fn check(line: &Line, rng: &mut TestRng) {
    let at = Address(line.at);
    let what = format!("{at}: {}: {} {}", hex(&line.bytes), line.mnemonic, line.operands);
    let code = [&line.bytes[..], &NOP].concat();
    let summary = inspect(Isa::Sh, at, &code).unwrap();
    assert_eq!((summary.len, summary.flow), (2, line.flow()), "{what}");
    assert_eq!(summary.is_return, line.mnemonic == "rts", "{what}");
    let plain = |code: &[u8]| Slot { code: code.to_vec(), lent: vec![], left: vec![], then: Then::Next };
    let is_emulated = line.carried_out(&random(rng)).is_some();
    match (out_of_line(Isa::Sh, at, &code), line.refusal()) {
        (Err(Reason::NotDisplaceable { why, .. }), Some(begins)) => {
            assert!(why.starts_with(begins), "{what}: {why}")
        }
        (Err(_), None) if line.mnemonic == ".word" => {}
        (Ok(OutOfLine { how, len: 2 }), None) => match how {
            How::Emulated => assert!(is_emulated && !line.is_delayed(), "{what}"),
            How::Delayed(slot) => {
                assert!(is_emulated && line.is_delayed(), "{what}");
                assert_eq!(slot, plain(&NOP), "{what}");
            }
            How::Slot(slot) => {
                assert!(!is_emulated, "{what}");
                assert_eq!(slot, plain(&line.bytes), "{what}");
            }
        },
        (found, _) => panic!("{what}: {found:?}"),
    }
    for _ in 0..if is_emulated { 2 } else { 0 } {
        let before = random(rng);
        let mut after = before.clone();
        let mut expected = line.carried_out(&before).unwrap();
        expected.set_pc(expected.pc() & 0xffff_ffff);
        emulate(Isa::Sh, at, &code, &mut after.bytes, &mut Telling).unwrap();
        assert_eq!(after, expected, "{what}, from {before:?}");
    }
    let branch = delay_slot_of(Isa::Sh, at + 2, &line.bytes);
    assert_eq!(branch, line.is_delayed().then_some(at), "{what}");
}

#[test]
fn every_encoding_is_as_objdump_prints_it() {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    let Some(lines) = all("sh4a", &[]) else { return };
    assert_eq!(lines.len(), 1 << 16);
    lines.iter().for_each(|line| check(line, &mut rng));
    assert!(lines.iter().filter(|line| line.is_delayed()).count() > 8000);
}

/// What may not be in a delay slot, behind a branch.
#[test]
fn delay_slots_hold_what_they_may() {
    let Some(lines) = all("sh4a", &[]) else { return };
    // A prime number of encodings apart, for time's sake.
    for line in lines.iter().step_by(7) {
        let code = [&[0x0b, 0x00][..], &line.bytes].concat();
        let may_not = matches!(
            line.mnemonic.as_str(),
            "bt" | "bf" | "rte" | "sleep" | "trapa" | "mova" | "icbi" | "prefi"
        ) || line.is_delayed()
            || line.refusal().is_some()
            || line.carried_out(&Registers::new(Isa::Sh)).is_some();
        let found = out_of_line(Isa::Sh, Address(line.at), &code);
        let is_unknown = line.mnemonic == ".word";
        assert!(is_unknown || found.is_err() == may_not, "{} {}: {found:?}", line.mnemonic, line.operands);
    }
}

/// What other processors have in the places of what SH-4A has not.
#[test]
fn what_is_another_processors_is_refused() {
    for machine in ["sh2a", "sh-dsp", "sh4al-dsp"] {
        let Some(lines) = all(machine, &NOP) else { return };
        assert_eq!(lines.len(), 1 << 16);
        let known: BTreeMap<Vec<u8>, String> =
            all("sh4a", &[]).unwrap().into_iter().map(|line| (line.bytes, line.mnemonic)).collect();
        let only_there = lines.iter().filter(|line| known[&line.bytes[..2]] == ".word" && line.is_bound());
        let mut count = 0;
        for line in only_there {
            // Parallel operations have the place of floating point.
            if line.bytes[1] >> 4 != 0xf {
                let found = out_of_line(Isa::Sh, Address(line.at), &line.bytes);
                assert!(found.is_err(), "{machine} {}: {found:?}", line.mnemonic);
                count += 1;
            }
        }
        assert!(count > 500, "{machine}: {count}");
    }
}

/// Code of compilers and of the C library: between instructions lie constants, which instructions name, and what is marked for
/// the kernel.
#[test]
fn real_code_is_as_objdump_prints_it() {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    for name in ["libatomic.so.1", "libc.so.6"] {
        let file = Path::new("/usr/sh4-linux-gnu/lib").join(name);
        if !file.exists() {
            println!("skipped: no {name} of sh4 (Debian: libatomic1-sh4-cross, libc6-sh4-cross)");
            continue;
        }
        let Some(lines) = objdump(&file, &["-d"]) else { return };
        assert!(lines.len() > 1000, "{name}");
        let (mut marked, mut branches, mut into_data) = (0, 0, 0);
        for section in lines.chunk_by(|one, next| one.at + 2 == next.at) {
            let code: Vec<u8> = section.iter().flat_map(|line| line.bytes.clone()).collect();
            let start = Address(section[0].at);
            let data = data(Isa::Sh, start, &code);
            let is_data = |at: u64| {
                let behind = data.partition_point(|range| range.end.0 <= at);
                data.get(behind).is_some_and(|range| range.contains(&Address(at)))
            };
            let code_lines = || section.iter().filter(|line| !is_data(line.at));
            code_lines().step_by(16).for_each(|line| check(line, &mut rng));
            for line in code_lines() {
                match line.mnemonic.as_str() {
                    "bt" | "bf" | "bt.s" | "bf.s" | "bra" | "bsr" => {
                        branches += 1;
                        into_data += usize::from(is_data(line.address()));
                    }
                    "mov.w" | "mov.l" if !line.operands.starts_with(['@', 'r']) => {
                        assert!(is_data(line.address()), "{name}: no data for {:#x}", line.at);
                    }
                    _ => {}
                }
            }
            for range in exclusive_sequences(Isa::Sh, start, &code) {
                let text = |at: u64| {
                    let line = &section[usize::try_from((at - start.0) / 2).unwrap()];
                    format!("{} {}", line.mnemonic, line.operands)
                };
                assert!(text(range.start.0 - 2).starts_with("mov #-"), "{name}: {range:?}");
                assert_eq!(text(range.end.0), "mov r1,r15", "{name}: {range:?}");
                marked += 1;
            }
        }
        println!("{name}: {marked} sequences, {into_data} of {branches} branches go to data");
        // Some tables' lengths no comparison nearby tells; they are taken for longer then, which refuses more.
        assert!(into_data * 500 < branches, "{name}: {into_data} of {branches} branches go to data");
        assert!(marked > 3, "{name}: {marked}");
    }
}
