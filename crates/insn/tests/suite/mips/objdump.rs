//! Classes, targets and conditions against binutils' disassembler, as it knows several processors: what is a branch on any of them is
//! carried out as one, or refused.
//!
//! What it prints is carried out here by the manual's words and compared with what the crate does.

use std::path::Path;

use insn::plan::Reason;
use insn::xol::{How, OutOfLine, Then, annuls, emulate, exclusive_sequences, out_of_line};
use insn::{Address, Flow, Isa, inspect};
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::cases::{
    BRANCHES, DSP, ELSEWHERE, EXCLUSIVE, LIKELY, MEMORY, RELEASE6, STRAIGHT, TRAPS, VECTORS, any_word, encode,
};
use super::registers::{extended, random, signed};
use crate::registers::{NoMemory, Registers};
use crate::toolchain;

/// Where the instructions lie; those of 32 bits run over the end of a region of J, those of 64 bits over that of a word.
fn base(isa: Isa) -> u64 {
    if isa.abi().word == 4 { 0x4fff_8000 } else { 0xff_ffff_8000 }
}

/// Instructions of each form, and with each major opcode.
const EACH: usize = 60;

/// `addu $2,$4,$5`: what the delay slots of samples hold.
const HELD: u32 = 0x0085_1021;

fn samples(isa: Isa, rng: &mut TestRng) -> Vec<u32> {
    let mut all = Vec::new();
    let dsp = [DSP];
    let forms = [STRAIGHT, MEMORY, BRANCHES, LIKELY, ELSEWHERE, VECTORS, &dsp, EXCLUSIVE, TRAPS, RELEASE6];
    for form in forms.into_iter().flatten().filter(|form| form.is_on(isa)) {
        all.extend((0..EACH).map(|_| form.random(rng)));
    }
    for opcode in 0..64 {
        all.extend((0..EACH).map(|_| any_word(rng, opcode)));
    }
    all
}

/// One line of its output.
struct Line {
    at: u64,
    word: u32,
    mnemonic: String,
    operands: Vec<String>,
}

/// What it prints for one file; `None`, with a line that says so, where it is not installed.
fn objdump(file: &Path, arguments: &[&str]) -> Option<Vec<Line>> {
    let options = [&["-M", "no-aliases,reg-names=numeric"], arguments].concat();
    let text = toolchain::objdump("mips-linux-gnu", &options, file)?;
    Some(text.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Line> {
    let mut columns = line.split('\t');
    let at = columns.next()?.trim().strip_suffix(':')?;
    let word = columns.next()?.trim();
    let mnemonic = columns.next()?.trim().to_owned();
    // Without the symbol behind an address.
    let operands = columns.next().unwrap_or("").split(' ').next()?;
    Some(Line {
        at: u64::from_str_radix(at, 16).ok()?,
        word: u32::from_str_radix(word, 16).ok()?,
        mnemonic,
        operands: operands.split([',', '(']).map(|part| part.trim_end_matches(')').to_owned()).collect(),
    })
}

/// What a branch does with some registers.
struct Way {
    is_taken: bool,
    to: u64,
    link: Option<usize>,
}

impl Line {
    fn register(&self, operand: usize) -> usize {
        self.operands[operand].strip_prefix('$').unwrap().parse().unwrap()
    }

    fn number(&self, operand: usize) -> u64 {
        let text = self.operands.get(operand).map_or("0", String::as_str);
        let digits = text.strip_prefix("0x").unwrap_or(text);
        u64::from_str_radix(if digits.is_empty() { "0" } else { digits }, 16).unwrap()
    }

    /// A branch's target, the last operand.
    fn target(&self) -> u64 {
        self.number(self.operands.len() - 1)
    }

    /// If it is a branch by general registers, what it does from `before` on.
    fn way(&self, before: &Registers) -> Option<Way> {
        let get = |operand: usize| before.get(self.register(operand));
        let signed = |operand: usize| signed(before, self.register(operand));
        let is_taken = match self.mnemonic.as_str() {
            "beq" | "beql" => get(0) == get(1),
            "bne" | "bnel" => get(0) != get(1),
            "blez" | "blezl" | "blezc" | "blezalc" => signed(0) <= 0,
            "bgtz" | "bgtzl" | "bgtzc" | "bgtzalc" => signed(0) > 0,
            "bltz" | "bltzl" | "bltzal" | "bltzall" | "bltzc" | "bltzalc" => signed(0) < 0,
            "bgez" | "bgezl" | "bgezal" | "bgezall" | "bgezc" | "bgezalc" => signed(0) >= 0,
            "bgec" => signed(0) >= signed(1),
            "bltc" => signed(0) < signed(1),
            "bgeuc" => get(0) >= get(1),
            "bltuc" => get(0) < get(1),
            "nal" => false,
            "bal" | "j" | "jal" | "jr" | "jr.hb" | "jalr" | "jalr.hb" => true,
            _ => return None,
        };
        let to = if self.mnemonic.starts_with('j') && !matches!(self.mnemonic.as_str(), "j" | "jal") {
            get(self.operands.len() - 1)
        } else {
            self.target()
        };
        let link = match self.mnemonic.as_str() {
            "jalr" | "jalr.hb" if self.operands.len() == 2 => Some(self.register(0)),
            "jalr" | "jalr.hb" | "jal" | "bal" | "nal" => Some(31),
            name => (name.contains("al") && name != "bal").then_some(31),
        };
        Some(Way { is_taken, to, link })
    }

    fn is_likely(&self) -> bool {
        ["beql", "bnel", "blezl", "bgtzl", "bltzl", "bgezl", "bltzall", "bgezall"]
            .contains(&self.mnemonic.as_str())
    }

    fn is_compact(&self) -> bool {
        self.mnemonic.starts_with('b') && self.mnemonic.ends_with('c')
    }

    /// Whether it branches by what is not in the register set.
    fn goes_elsewhere(&self) -> bool {
        ["bc1", "bc2", "bz.", "bnz.", "bposge"].iter().any(|begin| self.mnemonic.starts_with(begin))
    }

    /// What makes it impossible: the reason of a refusal contains this.
    fn refusal(&self) -> Option<&'static str> {
        let code = || (self.number(0), self.number(1));
        match self.mnemonic.as_str() {
            "break" if !matches!(code(), (0, 6 | 7) | (6 | 7, 0)) => Some("it is a breakpoint"),
            "sdbbp" => Some("it is a breakpoint"),
            "lle" | "sce" => None,           // the kernel's
            "bposge32c" => Some("reserved"), // of a DSP ASE for Release 6
            name if name.starts_with("ll") => Some("a trap behind it"),
            "sc" | "scd" | "scwp" | "scdp" => Some("a trap in front of it"),
            _ if [0o10, 0o30, 0o35, 0o62, 0o66, 0o72, 0o76].contains(&(self.word >> 26)) => {
                Some("its bytes do not tell")
            }
            "jalr" | "jalr.hb" if self.operands.len() == 2 && self.operands[0] == self.operands[1] => {
                (self.operands[0] != "$0").then_some("unpredictable")
            }
            "jalr" | "jalr.hb" | "bltzal" | "bgezal" | "bltzall" | "bgezall" if self.operands[0] == "$31" => {
                (self.operands.len() == 1 || self.mnemonic.starts_with('b')).then_some("unpredictable")
            }
            _ => None,
        }
    }

    fn is_unknown(&self) -> bool {
        // An operation of a coprocessor, by its number: on another processor it may be a branch of MSA's.
        self.mnemonic.starts_with('.') || ["c0", "c1", "c2", "c3"].contains(&self.mnemonic.as_str())
    }

    fn flow(&self, isa: Isa) -> Flow {
        let nothing = Registers::new(isa);
        match (self.way(&nothing), self.mnemonic.as_str()) {
            (Some(Way { link: Some(1..), .. }), _) => Flow::Call,
            (Some(_), name) if name.starts_with('j') => Flow::Leaves,
            (Some(_), "beq" | "beql") if self.operands[0] == self.operands[1] => Flow::Leaves,
            (Some(_), "blez" | "blezl" | "bgez" | "bgezl") if self.operands[0] == "$0" => Flow::Leaves,
            (Some(_), _) => Flow::Conditional,
            (None, _) if self.goes_elsewhere() => Flow::Conditional,
            (None, "syscall") => Flow::Syscall,
            (None, "break") if self.refusal().is_none() => Flow::Leaves,
            (None, "sigrie") => Flow::Leaves,
            _ => Flow::Next,
        }
    }
}

/// What is compared with what was printed; `held` is what stands behind it.
fn check(isa: Isa, line: &Line, held: Option<u32>, rng: &mut TestRng) {
    let at = Address(line.at);
    let what = format!("{isa:?} {at}: {:08x}: {} {:?}", line.word, line.mnemonic, line.operands);
    let own = encode(isa, line.word);
    let bytes: Vec<u8> = own.into_iter().chain(held.into_iter().flat_map(|held| encode(isa, held))).collect();
    let found = out_of_line(isa, at, &bytes);
    if line.is_unknown() {
        return;
    }
    let is_refused =
        |why: &str| matches!(&found, Err(Reason::NotDisplaceable { why: found, .. }) if found.contains(why));
    if let Some(why) = line.refusal() {
        assert!(is_refused(why), "{what}: {found:?}");
        return;
    }
    if is_refused("its delay slot holds") {
        assert!(held != Some(HELD), "{what}: {found:?}");
        return;
    }
    let summary = inspect(isa, at, &bytes).unwrap();
    assert_eq!((summary.len, summary.flow), (4, line.flow(isa)), "{what}");
    let OutOfLine { len, how } = found.unwrap_or_else(|reason| panic!("{what}: {reason}"));
    assert_eq!(len, 4);
    if line.goes_elsewhere() {
        check_choice(isa, line, &how, &what);
    } else if line.way(&Registers::new(isa)).is_some() {
        (0..4).for_each(|_| check_way(isa, line, &bytes, &how, rng));
        let held = held.filter(|held| *held != 0 && !line.is_compact());
        assert_eq!(
            how.slot().map(|slot| &slot.code[..]),
            held.map(|held| encode(isa, held)).as_ref().map(|code| &code[..])
        );
        assert_eq!(matches!(how, How::Delayed(_)), held.is_some(), "{what}");
    } else {
        check_straight(isa, line, &how, &what);
    }
}

fn check_way(isa: Isa, line: &Line, bytes: &[u8], how: &How, rng: &mut TestRng) {
    let at = Address(line.at);
    let mut registers = random(isa, rng);
    registers.set_pc(line.at);
    let before = registers.clone();
    let way = line.way(&before).unwrap();
    let next = isa.wrap(at + if line.is_compact() { 4 } else { 8 }).0;
    let mut expected = before.clone();
    if let Some(link) = way.link {
        expected.set(link, next);
    }
    expected.set_pc(if way.is_taken { way.to } else { next });
    assert_eq!(annuls(isa, at, bytes, &registers.bytes), line.is_likely() && !way.is_taken);
    emulate(isa, at, bytes, &mut registers.bytes, &mut NoMemory).unwrap();
    assert_eq!(registers, expected, "{} {:?} {how:?}, from {before:?}", line.mnemonic, line.operands);
}

/// The branch chooses between the two lent registers.
fn check_choice(isa: Isa, line: &Line, how: &How, what: &str) {
    let How::Slot(slot) = how else { panic!("{what}: {how:?}") };
    let [(to, target), (_, next)] = slot.lent[..] else { panic!("{what}: {how:?}") };
    assert_eq!((target, next), (line.target(), line.at + 8), "{what}");
    assert_eq!(slot.then, Then::Branch(to), "{what}");
    let is_likely = line.mnemonic.ends_with('l');
    let decides = line.word & 0xffff_0000 | if is_likely { 3 } else { 2 };
    assert_eq!(slot.code[..4], encode(isa, decides), "{what}");
    assert_eq!(slot.code.len(), if is_likely { 20 } else { 16 }, "{what}");
}

/// What does not branch, and what only knows its address.
fn check_straight(isa: Isa, line: &Line, how: &How, what: &str) {
    match (line.mnemonic.as_str(), how) {
        ("lapc" | "addiupc" | "auipc" | "aluipc", How::Emulated) => {
            let mut registers = Registers::new(isa);
            emulate(isa, Address(line.at), &encode(isa, line.word), &mut registers.bytes, &mut NoMemory)
                .unwrap();
            let upper = || line.at.wrapping_add_signed(extended(line.number(1) << 16, 32));
            let expected = match line.mnemonic.as_str() {
                "auipc" => upper(),
                "aluipc" => upper() & !0xffff,
                _ => line.number(1),
            };
            let into = line.register(0);
            let expected = if into == 0 { 0 } else { isa.wrap(Address(expected)).0 };
            assert_eq!((registers.get(into), registers.pc()), (expected, line.at + 4), "{what}");
        }
        ("lwpc" | "lwupc" | "ldpc", How::Slot(slot)) => {
            let [(_, address)] = slot.lent[..] else { panic!("{what}: {how:?}") };
            assert_eq!(address, line.number(1), "{what}");
        }
        (_, How::Emulated) => assert_eq!(line.word, 0, "{what}"),
        (name, How::Slot(slot)) => {
            let code = if name == "syscall" { 0xc } else { line.word };
            assert_eq!(slot.code, encode(isa, code), "{what}");
            assert!(
                slot.lent.is_empty() && slot.left.is_empty() && slot.then == Then::Next,
                "{what}: {slot:?}"
            );
        }
        (_, How::Delayed(_)) => panic!("{what}: {how:?}"),
    }
}

fn compare(isa: Isa, order: &str, machines: &[&str]) {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    let samples = samples(isa, &mut rng);
    let file = tempfile::NamedTempFile::new().unwrap();
    let bytes: Vec<u8> = samples.iter().flat_map(|word| encode(isa, *word)).collect();
    std::fs::write(file.path(), bytes).unwrap();
    let at = format!("--adjust-vma={:#x}", base(isa));
    let mut seen: Vec<String> = Vec::new();
    for machine in machines {
        let Some(lines) = objdump(file.path(), &["-D", "-b", "binary", order, "-m", machine, &at]) else {
            return;
        };
        assert_eq!(lines.len(), samples.len(), "it sees as many instructions");
        for (line, word) in lines.iter().zip(&samples) {
            assert_eq!(line.word, *word);
            check(isa, line, Some(HELD), &mut rng);
        }
        seen.extend(lines.into_iter().map(|line| line.mnemonic));
    }
    for mnemonic in ["jalr.hb", "bgezall", "bc1fl", "bnz.v", "bposge32", "bltuc", "aluipc", "lwpc", "bc1eqz"]
    {
        assert!(seen.iter().any(|name| name == mnemonic), "{mnemonic} is among them");
    }
}

const NARROW: &[&str] = &["mips:isa32r2", "mips:isa32r6"];
const WIDE: &[&str] = &["mips:isa64r2", "mips:isa64r6", "mips:octeon3", "mips:gs464e", "mips:xlr"];

#[test]
fn mips_is_as_objdump_prints_it() {
    compare(Isa::Mips, "-EB", NARROW);
    compare(Isa::MipsLe, "-EL", NARROW);
}

#[test]
fn mips64_is_as_objdump_prints_it() {
    compare(Isa::Mips64, "-EB", WIDE);
    compare(Isa::Mips64Le, "-EL", WIDE);
}

/// Code of the C library: each instruction, and each load-linked with all up to the next store-conditional, for that is how it
/// uses them.
#[test]
fn real_code_is_as_objdump_prints_it() {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    for (isa, file) in [
        (Isa::Mips, "/usr/mips-linux-gnu/lib/ld.so.1"),
        (Isa::Mips64Le, "/usr/mips64el-linux-gnuabi64/lib/ld.so.1"),
    ] {
        if !Path::new(file).exists() {
            println!("skipped: no {file} (Debian: libc6-mips-cross, libc6-mips64el-cross)");
            continue;
        }
        let Some(lines) = objdump(Path::new(file), &["-d"]) else { return };
        assert!(lines.len() > 1000, "{file}");
        for (index, line) in lines.iter().enumerate() {
            let next = lines.get(index + 1).filter(|next| next.at == line.at + 4);
            check(isa, line, Some(next.map_or(0, |next| next.word)), &mut rng);
        }
        let sequences = printed_sequences(&lines);
        assert!(sequences.len() > 3, "{file}");
        assert_eq!(found_sequences(isa, &lines), sequences, "{file}");
    }
}

/// Of each section.
fn found_sequences(isa: Isa, lines: &[Line]) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    for section in lines.chunk_by(|one, next| one.at + 4 == next.at) {
        let code: Vec<u8> = section.iter().flat_map(|line| encode(isa, line.word)).collect();
        let ranges = exclusive_sequences(isa, Address(section[0].at), &code);
        found.extend(ranges.iter().map(|range| (range.start.0, range.end.0)));
    }
    found
}

fn printed_sequences(lines: &[Line]) -> Vec<(u64, u64)> {
    let is = |line: &Line, names: [&str; 2]| names.contains(&line.mnemonic.as_str());
    let loads = lines.iter().enumerate().filter(|(_, line)| is(line, ["ll", "lld"]));
    let store = |load: usize| lines[load..].iter().find(|line| is(line, ["sc", "scd"])).unwrap();
    loads.map(|(index, load)| (load.at + 4, store(index).at + 4)).collect()
}
