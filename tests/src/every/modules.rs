//! The files that are probed: their code, and where a process has it.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use insn::{Address, Isa, disassemble, instruction_len};
use symbols::frames::frames;
use symbols::functions::Outline;
use symbols::symbols::Kind;
use symbols::{Bias, FileAddress, Image, Symbols};

use crate::snapshot::maps;

/// `cpuid`.
const CPUID: [u8; 2] = [0x0f, 0xa2];

/// A program or library, its bytes read once and kept for as long as the test runs.
#[derive(Debug)]
pub(super) struct Module {
    /// Without links.
    pub(super) path: PathBuf,
    pub(super) image: Image<'static>,
}

impl Module {
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let path = path.canonicalize().map_err(|error| wrong(&error))?;
        let bytes = std::fs::read(&path).map_err(|error| wrong(&error))?;
        let image = Image::parse(Vec::leak(bytes)).map_err(|error| wrong(&error))?;
        Ok(Self { path, image })
    }

    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Whether some function's implementation is chosen when the module is loaded.
    pub(super) fn has_ifuncs(&self) -> bool {
        let symbols = Symbols::read(&self.image, &frames(&self.image));
        symbols.functions().any(|symbol| symbol.kind == Kind::Ifunc)
    }

    /// Where its code is in a process, and what is to be added to the file's addresses; `None` if it is not mapped.
    pub(super) fn code_in(&self, pid: u32) -> Option<(Vec<Range<u64>>, Bias)> {
        let path = self.path.to_string_lossy();
        let own = maps(pid).into_iter().filter(|region| region.path == path);
        let code: Vec<_> = own.filter(|region| region.permissions.contains('x')).collect();
        let first = code.first()?;
        let bias = self.image.bias_of(Address(first.range.start), first.offset, true)?;
        Some((code.into_iter().map(|region| region.range).collect(), bias))
    }

    /// The functions that are known.
    pub(super) fn functions(&self) -> Vec<Range<u64>> {
        let frames = frames(&self.image);
        let outline = Outline::read(&self.image, &frames, &Symbols::read(&self.image, &frames));
        outline.functions.iter().map(|function| function.start.0..function.end.0).collect()
    }

    /// Those functions that ask the processor what it is (`cpuid`), and those that only they call.
    pub(super) fn asking_processor(&self, functions: &[Range<u64>]) -> Vec<Range<u64>> {
        let (mut asking, mut called): (Vec<_>, HashMap<u64, bool>) = (Vec::new(), HashMap::new());
        for function in functions {
            let asks = self.bytes_of(function).any(|(_, bytes)| bytes.starts_with(&CPUID));
            if asks {
                asking.push(function.clone());
            }
            for to in self.bytes_of(function).filter_map(|(at, bytes)| call_target(at, bytes)) {
                *called.entry(to).or_insert(true) &= asks;
            }
        }
        // What these alone call does what they found.
        let theirs = |function: &&Range<u64>| called.get(&function.start) == Some(&true);
        asking.extend(functions.iter().filter(theirs).cloned());
        asking
    }

    /// The instructions of a range: where each is, and the bytes from there on.
    fn bytes_of(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, &[u8])> {
        let (mut next, end) = (range.start, range.end);
        std::iter::from_fn(move || {
            let at = next;
            let bytes = self.image.tail(FileAddress(at)).filter(|_| at < end)?;
            next += self.instruction(at)?.0;
            Some((at, bytes))
        })
    }

    /// Whether the instruction at an address is `jmp` to another one.
    pub(super) fn jumps_to(&self, at: u64, to: u64) -> bool {
        let bytes = self.image.tail(FileAddress(at)).unwrap_or_default();
        let near = match bytes {
            [0xeb, distance, ..] => at.wrapping_add(2).wrapping_add_signed(i64::from(distance.cast_signed())),
            [0xe9, a, b, c, d, ..] => {
                at.wrapping_add(5).wrapping_add_signed(i64::from(i32::from_le_bytes([*a, *b, *c, *d])))
            }
            _ => return false,
        };
        near == to
    }

    /// The instruction at an address: its length, and whether it is a repeated string instruction.
    pub(super) fn instruction(&self, at: u64) -> Option<(u64, bool)> {
        let bytes = self.image.tail(FileAddress(at))?;
        let bytes = bytes.get(..15).unwrap_or(bytes);
        let len = instruction_len(Isa::X86_64, Address(at), bytes)?;
        let own = bytes.get(..len)?;
        // The cheap test first: `repz ret`, `pause` and SSE have the prefix too.
        let may_repeat = own.iter().take(4).any(|byte| matches!(byte, 0xf2 | 0xf3));
        let repeats = may_repeat
            && disassemble(Isa::X86_64, Address(at), own)
                .first()
                .is_some_and(|(_, _, text)| is_repeated(text));
        Some((len as u64, repeats))
    }
}

/// Where `call` leads.
fn call_target(at: u64, bytes: &[u8]) -> Option<u64> {
    let [0xe8, a, b, c, d, ..] = bytes else { return None };
    Some(at.wrapping_add(5).wrapping_add_signed(i64::from(i32::from_le_bytes([*a, *b, *c, *d]))))
}

fn is_repeated(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let is_rep = words.next().is_some_and(|word| matches!(word, "rep" | "repe" | "repz" | "repne" | "repnz"));
    let strings = ["movs", "stos", "cmps", "scas", "lods", "ins", "outs"];
    is_rep && words.next().is_some_and(|word| strings.iter().any(|string| word.starts_with(string)))
}

#[cfg(test)]
mod tests {
    use super::is_repeated;

    #[test]
    fn repeated_string_instructions() {
        assert!(is_repeated("rep stos %al,(%rdi)") && is_repeated("repz cmpsb (%rdi),(%rsi)"));
        assert!(!is_repeated("repz ret") && !is_repeated("movsb (%rsi),(%rdi)") && !is_repeated("pause"));
    }
}
