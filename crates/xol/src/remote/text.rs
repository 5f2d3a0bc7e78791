//! Where in a file's code a tracer's breakpoint may stand. What takes the whole of a function to know is found once for all
//! places in it, which come in the order of their addresses.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::ops::Range;

use insn::plan::Reason;
use insn::{Address, Isa, disassemble, instruction_len};
use symbols::{FileAddress, Image, Symbols};

/// A place that can be probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Code {
    /// The ISA of the code there.
    pub(crate) isa: Isa,
    /// The file's bytes.
    pub(crate) bytes: Vec<u8>,
    /// The branch in whose delay slot it is, on which the breakpoint stands, and the file's bytes there.
    pub(crate) branch: Option<(FileAddress, Vec<u8>)>,
}

/// The code of a file.
pub(crate) struct Text<'a> {
    image: &'a Image<'a>,
    symbols: &'a Symbols<'a>,
    /// The function that was looked at last.
    function: Option<Function>,
}

/// What is known of a function.
struct Function {
    start: FileAddress,
    isa: Isa,
    /// Where its instructions begin, and where the last one ends, as far as they have lengths.
    boundaries: Vec<Address>,
    /// See [`insn::xol::exclusive_sequences`].
    exclusive: Vec<Range<Address>>,
    /// See [`insn::xol::data`].
    data: Vec<Range<Address>>,
    /// What its instructions refer to, once that was asked for.
    targets: OnceCell<HashSet<Address>>,
}

impl<'a> Text<'a> {
    pub(crate) fn of(image: &'a Image<'a>, symbols: &'a Symbols<'a>) -> Self {
        Self { image, symbols, function: None }
    }

    /// The ISA of the code at a place, or of the file.
    pub(crate) fn isa_at(&self, at: FileAddress) -> Option<Isa> {
        self.symbols.isa_at(self.image, at).or(self.image.isa().ok())
    }

    /// The file's bytes at a place: as many as the longest instruction has, or fewer at the end.
    pub(crate) fn bytes_at(&self, at: FileAddress) -> Vec<u8> {
        bytes_at(self.image, at)
    }

    /// The code there, if an instruction begins there that can be probed.
    pub(crate) fn at(&mut self, at: FileAddress) -> Result<Code, Reason> {
        if let Some(what) = self.symbols.other_code_at(at) {
            return Err(Reason::OtherCode { what: what.to_owned() });
        }
        let isa = self.symbols.isa_at(self.image, at).ok_or(Reason::OutsideCode)?;
        let here = Address(at.0);
        if !here.0.is_multiple_of(alignment(isa)) {
            return Err(Reason::InsideInstruction { start: Address(here.0 & !(alignment(isa) - 1)) });
        }
        let bytes = self.bytes_at(at);
        let image = self.image;
        let Some(function) = self.function_of(isa, at) else {
            // What branches there is not known.
            let before = self.bytes_before(at);
            return match insn::xol::delay_slot_of(isa, here, before) {
                Some(branch) => Err(Reason::DelaySlot { branch }),
                None => Ok(Code { isa, bytes, branch: None }),
            };
        };
        if let Some(start) = function.inside(here) {
            return Err(Reason::InsideInstruction { start });
        }
        if function.data.iter().any(|range| range.contains(&here)) {
            return Err(Reason::OutsideCode);
        }
        if function.exclusive.iter().any(|range| range.contains(&here)) {
            return Err(Reason::NotDisplaceable {
                instruction: first_text(isa, here, &bytes),
                why: why_exclusive(isa).to_owned(),
            });
        }
        let branch = function.branch_before(image, here)?;
        Ok(Code { isa, bytes, branch: branch.map(|branch| (branch, bytes_at(image, branch))) })
    }

    /// As many bytes in front of a place as the longest instruction has, or fewer.
    fn bytes_before(&self, at: FileAddress) -> &'a [u8] {
        let before = |len: &u64| self.image.read(FileAddress(at.0.checked_sub(*len)?), *len);
        (1..=LONGEST).rev().find_map(|len| before(&len)).unwrap_or_default()
    }

    fn function_of(&mut self, isa: Isa, at: FileAddress) -> Option<&Function> {
        let symbol = self.symbols.function_of(at)?;
        let is_known = |known: &Function| (known.start, known.isa) == (symbol.address, isa);
        if !self.function.as_ref().is_some_and(is_known) {
            let bytes = function_bytes(self.image, symbol.address, symbol.size);
            self.function = Some(Function::read(isa, symbol.address, bytes));
        }
        self.function.as_ref()
    }
}

impl Function {
    fn read(isa: Isa, start: FileAddress, bytes: &[u8]) -> Self {
        let first = Address(start.0);
        Self {
            start,
            isa,
            boundaries: boundaries(isa, first, bytes),
            exclusive: insn::xol::exclusive_sequences(isa, first, bytes),
            data: insn::xol::data(isa, first, bytes),
            targets: OnceCell::new(),
        }
    }

    /// The branch in whose delay slot `at` is. Where the function also branches to `at` itself, a breakpoint on the branch would
    /// miss that; and none may stand in an exclusive sequence.
    fn branch_before(&self, image: &Image<'_>, at: Address) -> Result<Option<FileAddress>, Reason> {
        let before = function_bytes(image, self.start, at.0.saturating_sub(self.start.0));
        let Some(branch) = insn::xol::delay_slot_of(self.isa, at, before) else { return Ok(None) };
        let is_inside = self.exclusive.iter().any(|range| range.contains(&branch));
        if is_inside || self.targets.get_or_init(|| self.targets(image)).contains(&at) {
            return Err(Reason::DelaySlot { branch });
        }
        Ok(Some(FileAddress(branch.0)))
    }

    fn targets(&self, image: &Image<'_>) -> HashSet<Address> {
        let target = |here: &Address| insn::reference(self.isa, *here, &bytes_at(image, FileAddress(here.0)));
        self.boundaries.iter().filter_map(target).collect()
    }

    /// The start of the instruction that `at` lies inside of.
    fn inside(&self, at: Address) -> Option<Address> {
        let behind = self.boundaries.binary_search(&at).err()?;
        self.boundaries.get(behind)?;
        self.boundaries.get(behind.checked_sub(1)?).copied()
    }
}

fn function_bytes<'a>(image: &Image<'a>, start: FileAddress, size: u64) -> &'a [u8] {
    image.read(start, size).unwrap_or_default()
}

fn boundaries(isa: Isa, start: Address, bytes: &[u8]) -> Vec<Address> {
    let mut boundaries = vec![start];
    let mut rest = bytes;
    let mut here = start;
    while let Some(len) = instruction_len(isa, here, rest).filter(|len| *len > 0) {
        here += len as u64;
        rest = rest.get(len..).unwrap_or_default();
        boundaries.push(here);
    }
    boundaries
}

/// Why a breakpoint may not stand in an [exclusive sequence](insn::xol::exclusive_sequences).
fn why_exclusive(isa: Isa) -> &'static str {
    match isa {
        Isa::S390x => {
            "a breakpoint in a transaction aborts it each time, and `exrl` takes what it executes for an instruction"
        }
        _ => "a breakpoint between a load-exclusive and its store makes that fail, each time anew",
    }
}

/// What instructions begin at multiples of.
fn alignment(isa: Isa) -> u64 {
    match isa {
        Isa::X86_64 | Isa::I386 => 1,
        Isa::Thumb | Isa::RiscV32 | Isa::RiscV64 | Isa::Sh | Isa::S390x => 2,
        _ => 4,
    }
}

/// The text of the instruction that bytes begin with.
fn first_text(isa: Isa, at: Address, bytes: &[u8]) -> String {
    disassemble(isa, at, bytes).into_iter().next().map_or_else(String::new, |line| line.2)
}

/// Bytes of the longest instruction.
const LONGEST: u64 = 16;

/// See [`Text::bytes_at`].
pub(super) fn bytes_at(image: &Image<'_>, at: FileAddress) -> Vec<u8> {
    (1..=LONGEST).rev().find_map(|len| image.read(at, len)).unwrap_or_default().to_vec()
}

/// A place for a message: where it is, its first instruction's bytes, and what is wrong there.
pub(super) fn described(isa: Isa, at: Address, bytes: &[u8], reason: &str) -> String {
    let len = instruction_len(isa, at, bytes).unwrap_or(bytes.len().min(4));
    let hex: Vec<String> = bytes.iter().take(len).map(|byte| format!("{byte:02x}")).collect();
    format!("at {at} ({}): {reason}", hex.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `mov rax, rsp; nop`, and an encoding that is none.
    #[test]
    fn places_inside_instructions_are_told_from_their_starts() {
        let code = [0x48, 0x89, 0xe0, 0x90, 0x06];
        let function = Function::read(Isa::X86_64, FileAddress(0x100), &code);
        let inside = |at| function.inside(Address(at)).map(|start| start.0);
        assert_eq!([0x100, 0x101, 0x102, 0x103].map(inside), [None, Some(0x100), Some(0x100), None]);
        // Behind what has no length nothing is known, and nothing before the function.
        assert_eq!([0x104, 0x105, 0xff].map(inside), [None; 3]);
    }
}
