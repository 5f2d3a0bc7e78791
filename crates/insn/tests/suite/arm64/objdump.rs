//! Classes, targets and conditions against binutils' disassembler.
//!
//! What it prints of a sample of instructions is carried out here by the manual's words (C6.2) and compared with what the crate
//! does; the code of slots is disassembled in its turn.

use insn::isa::RegisterSlot;
use insn::plan::{Reason, hex};
use insn::xol::{How, OutOfLine, Slot, Then, emulate, out_of_line};
use insn::{Address, Flow, Isa, inspect};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::cases::{
    AUTHENTICATED, BRANCHES, EXCLUSIVE, Form, LITERAL, MEMORY, OTHERS, STRAIGHT, VECTOR, any_word,
};
use super::registers::{BTYPE, PSTATE, random};
use crate::registers::{NoMemory, Registers};
use crate::toolchain;

const BASE: u64 = 0x55_5555_4000;

/// Instructions of each form, and of each space.
const EACH: usize = 300;

fn samples(rng: &mut TestRng) -> Vec<u32> {
    let forms =
        [STRAIGHT, VECTOR, MEMORY, LITERAL, BRANCHES, AUTHENTICATED, EXCLUSIVE, OTHERS].into_iter().flatten();
    let mut all: Vec<u32> =
        forms.flat_map(|form| (0..EACH).map(|_| Form::random(form, rng)).collect::<Vec<_>>()).collect();
    for space in 0..16 {
        all.extend((0..EACH).map(|_| any_word(rng, space)));
    }
    all
}

/// One line of its output.
struct Line {
    at: u64,
    word: u32,
    mnemonic: String,
    /// Those that commas separate.
    operands: Vec<String>,
}

/// `None`, with a line that says so, where it is not installed.
fn disassembled(words: &[u32]) -> Option<Vec<Line>> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    std::fs::write(file.path(), bytes).unwrap();
    let options = ["-D", "-b", "binary", "-m", "aarch64", &format!("--adjust-vma={BASE:#x}")];
    let output = toolchain::objdump("aarch64-linux-gnu", &options, file.path())?;
    Some(output.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Line> {
    let mut columns = line.split('\t');
    let at = columns.next()?.trim().strip_suffix(':')?;
    let word = columns.next()?.trim();
    let mnemonic = columns.next()?.trim().to_owned();
    let operands = columns.next().unwrap_or("").split(" //").next()?;
    Some(Line {
        at: u64::from_str_radix(at, 16).ok()?,
        word: u32::from_str_radix(word, 16).ok()?,
        mnemonic,
        operands: operands
            .split(',')
            .map(|part| part.trim().to_owned())
            .filter(|part| !part.is_empty())
            .collect(),
    })
}

/// By its name; `None` for the zero register.
fn number(name: &str) -> Option<usize> {
    match name.trim_start_matches(['w', 'x']) {
        "zr" => None,
        digits => Some(digits.parse().unwrap_or_else(|_| panic!("{name}"))),
    }
}

fn value(registers: &Registers, name: &str) -> u64 {
    let value = number(name).map_or(0, |number| registers.get(number));
    if name.starts_with('w') { value & u64::from(u32::MAX) } else { value }
}

fn set(registers: &mut Registers, name: &str, value: u64) {
    if let Some(number) = number(name) {
        registers.set(number, value);
    }
}

/// C1.2.4, by the names that are printed.
fn is_met(condition: &str, pstate: u64) -> bool {
    let [n, z, c, v] = [31, 30, 29, 28].map(|bit| pstate & 1 << bit != 0);
    match condition {
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
        "al" | "nv" => true,
        other => panic!("{other}"),
    }
}

impl Line {
    /// The address that is printed in that place.
    fn address(&self, operand: usize) -> u64 {
        let digits = self.operands[operand].strip_prefix("0x");
        digits
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .unwrap_or_else(|| panic!("{:?}", self.operands))
    }

    fn is_literal(&self) -> bool {
        self.operands.get(1).is_some_and(|operand| operand.starts_with("0x"))
            && matches!(self.mnemonic.as_str(), "ldr" | "ldrsw" | "prfm")
    }

    fn is_undefined(&self) -> bool {
        self.mnemonic == ".inst"
    }

    /// What the manual has the instruction do, if it is one of those that are emulated.
    fn carried_out(&self, before: &Registers) -> Option<Registers> {
        let mut after = before.clone();
        after.set(PSTATE, before.get(PSTATE) & !BTYPE);
        let next = self.at + 4;
        let value = |operand: usize| value(before, &self.operands[operand]);
        let to = match self.mnemonic.as_str() {
            "b" => self.address(0),
            "bl" => {
                after.set(30, next);
                self.address(0)
            }
            "cbz" if value(0) == 0 => self.address(1),
            "cbnz" if value(0) != 0 => self.address(1),
            "tbz" | "tbnz" => {
                let bit: u32 = self.operands[1].strip_prefix('#').unwrap().parse().unwrap();
                let is_set =
                    number(&self.operands[0]).is_some_and(|number| before.get(number) >> bit & 1 == 1);
                if is_set == (self.mnemonic == "tbnz") { self.address(2) } else { next }
            }
            "br" => {
                after.set(PSTATE, after.get(PSTATE) | 1 << 10);
                branch_address(value(0))
            }
            "blr" => {
                after.set(PSTATE, after.get(PSTATE) | 2 << 10);
                after.set(30, next);
                branch_address(value(0))
            }
            "ret" if self.operands.is_empty() => branch_address(before.get(30)),
            "ret" => branch_address(value(0)),
            // SVE has one of vectors.
            "adr" | "adrp" if self.operands[0].starts_with('x') => {
                set(&mut after, &self.operands[0], self.address(1));
                next
            }
            "cbz" | "cbnz" | "nop" | "bti" => next,
            other => match other.strip_prefix("b.").or(other.strip_prefix("bc.")) {
                Some(condition) if is_met(condition, before.get(PSTATE)) => self.address(0),
                Some(_) => next,
                None => return None,
            },
        };
        after.set_pc(to);
        Some(after)
    }

    /// What becomes of it otherwise: the reason of a refusal begins so.
    fn refusal(&self) -> Option<&'static str> {
        let name = self.mnemonic.as_str();
        let part = ["cpyf", "cpy", "setg", "set"].iter().find_map(|start| name.strip_prefix(start));
        match name {
            "brk" => Some("it is a breakpoint"),
            "hlt" => Some("it halts"),
            "tstart" | "tcommit" | "tcancel" => Some("it begins or ends a hardware transaction"),
            _ if name.starts_with("ldx") || name.starts_with("ldax") => Some("its exclusive access"),
            _ if name.starts_with("stx") || name.starts_with("stlx") => Some("a breakpoint's exception"),
            _ if self.is_authenticated() && self.operands.first().is_some_and(|operand| operand == "xzr") => {
                Some("it authenticates the zero register")
            }
            _ if part.is_some_and(|part| part.starts_with(['m', 'e'])) => Some("where it must begin anew"),
            _ => None,
        }
    }

    fn is_authenticated(&self) -> bool {
        ["bra", "blra", "reta"].iter().any(|start| self.mnemonic.starts_with(start))
    }

    /// The text of a slot's code that authenticates a branch's target, and the register.
    fn authenticates(&self) -> (String, usize) {
        let key = if self.mnemonic.trim_end_matches('z').ends_with('a') { 'a' } else { 'b' };
        match self.operands.as_slice() {
            [] => (format!("auti{key} x30, sp"), 30),
            [to] => (format!("autiz{key} {to}"), number(to).unwrap()),
            [to, modifier, ..] => (format!("auti{key} {to}, {modifier}"), number(to).unwrap()),
        }
    }

    fn flow(&self) -> Flow {
        match self.mnemonic.as_str() {
            "cbz" | "cbnz" | "tbz" | "tbnz" => Flow::Conditional,
            "bl" | "blr" => Flow::Call,
            "b" | "br" | "ret" | "udf" | "hvc" | "smc" | "eret" | "eretaa" | "eretab" | "drps" | "dcps1"
            | "dcps2" | "dcps3" => Flow::Leaves,
            "svc" => Flow::Syscall,
            name if name.starts_with("blra") => Flow::Call,
            _ if self.is_authenticated() => Flow::Leaves,
            name if name.starts_with("b.") || name.starts_with("bc.") => Flow::Conditional,
            _ => Flow::Next,
        }
    }
}

/// `AArch64.BranchAddr`, where tags of addresses in the lower half are ignored.
fn branch_address(to: u64) -> u64 {
    if to >> 55 & 1 == 1 { to } else { to & !(0xff << 56) }
}

/// A slot whose code must be disassembled as this.
struct Expected {
    what: String,
    code: u32,
    text: String,
}

/// What is compared with what was printed; the rest is for a second look.
fn check(line: &Line, rng: &mut TestRng) -> Option<Expected> {
    let (at, bytes) = (Address(line.at), line.word.to_le_bytes());
    let what = format!("{at}: {}: {} {:?}", hex(&bytes), line.mnemonic, line.operands);
    let found = out_of_line(Isa::Arm64, at, &bytes);
    let Some(summary) = inspect(Isa::Arm64, at, &bytes) else {
        assert_eq!(found, Err(Reason::Undecodable), "{what}");
        assert!(line.is_undefined(), "{what}");
        return None;
    };
    assert_eq!(summary.len, 4, "{what}");
    if line.is_undefined() {
        return None;
    }
    assert_eq!(summary.flow, line.flow(), "{what}");
    let is_return = line.mnemonic == "ret" || line.mnemonic == "retaa" || line.mnemonic == "retab";
    assert_eq!(summary.is_return, is_return, "{what}");
    let is_pad = matches!(line.mnemonic.as_str(), "bti" | "paciasp" | "pacibsp");
    assert_eq!(summary.is_landing_pad, is_pad, "{what}");
    let is_emulated = line.carried_out(&random(rng)).is_some();
    for _ in 0..if is_emulated { 4 } else { 0 } {
        let mut registers = random(rng);
        registers.set_pc(line.at);
        registers.set(PSTATE, registers.get(PSTATE) | BTYPE & u64::from(rng.next_u32()));
        let before = registers.clone();
        emulate(Isa::Arm64, at, &bytes, &mut registers.bytes, &mut NoMemory).unwrap();
        assert_eq!(Some(registers), line.carried_out(&before), "{what}, from {before:?}");
    }
    match (found, line.refusal()) {
        (Err(Reason::NotDisplaceable { why, .. }), Some(begins)) => {
            assert!(why.starts_with(begins), "{what}: {why}");
            None
        }
        (Ok(OutOfLine { how: How::Emulated, .. }), None) => {
            assert!(is_emulated, "{what}");
            None
        }
        (Ok(OutOfLine { how: How::Slot(slot), len: 4 }), None) => {
            assert!(!is_emulated, "{what}");
            slot_text(line, &slot, &what).map(|text| Expected {
                what,
                code: u32::from_le_bytes(slot.code.try_into().unwrap()),
                text,
            })
        }
        (found, _) => panic!("{what}: {found:?}"),
    }
}

/// The text of the slot's code, where it is not the instruction itself.
fn slot_text(line: &Line, slot: &Slot, what: &str) -> Option<String> {
    if line.is_literal() {
        let [(RegisterSlot(lent), address)] = slot.lent.as_slice() else { panic!("{what}: {slot:?}") };
        assert_eq!(
            (*address, slot.then, slot.left.is_empty()),
            (line.address(1), Then::Next, true),
            "{what}"
        );
        let lent = lent / 8;
        let is_general = line.mnemonic != "prfm" && line.operands[0].starts_with(['w', 'x']);
        assert!(lent < 31 && !(is_general && number(&line.operands[0]) == Some(lent)), "{what}: x{lent}");
        return Some(format!("{} {}, [x{lent}]", line.mnemonic, line.operands[0]));
    }
    if line.is_authenticated() {
        let (text, register) = line.authenticates();
        let left: &[_] = if line.flow() == Flow::Call { &[(RegisterSlot(8 * 30), line.at + 4)] } else { &[] };
        assert_eq!((slot.left.as_slice(), slot.lent.is_empty()), (left, true), "{what}");
        assert_eq!(slot.then, Then::Branch(RegisterSlot(8 * register)), "{what}");
        return Some(text);
    }
    let copy = Slot { code: line.word.to_le_bytes().to_vec(), lent: vec![], left: vec![], then: Then::Next };
    assert_eq!(*slot, copy, "{what}");
    None
}

#[test]
fn instructions_are_as_objdump_prints_them() {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    let samples = samples(&mut rng);
    let Some(lines) = disassembled(&samples) else { return };
    assert!(lines.iter().map(|line| line.word).eq(samples), "it sees the same instructions");
    let expected: Vec<_> = lines.iter().filter_map(|line| check(line, &mut rng)).collect();
    let codes: Vec<u32> = expected.iter().map(|expected| expected.code).collect();
    for (line, expected) in disassembled(&codes).unwrap().iter().zip(&expected) {
        let text = format!("{} {}", line.mnemonic, line.operands.join(", "));
        assert_eq!(text, expected.text, "{}", expected.what);
    }
    let seen = |mnemonic: &str| lines.iter().any(|line| line.mnemonic.starts_with(mnemonic));
    for mnemonic in [
        "b.vs", "cbnz", "tbz", "blr", "ret", "adrp", "ldrsw", "prfm", "ldaxp", "stlxr", "casp", "svc",
        "braaz", "blrab", "retab", "cpyfm", "setge", "bti", "paciasp", "mrs", "eret", "fmla", "st4",
    ] {
        assert!(seen(mnemonic), "{mnemonic} is among them");
    }
}
