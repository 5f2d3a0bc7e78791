//! Where the instructions of a file begin: every function decoded from its start.

use std::ops::Range;

use insn::{Address, Isa, instruction_len};

use crate::address::FileAddress;
use crate::elf::Image;

/// Functions that overlap are decoded separately; a hostile file must not make that quadratic.
const MAX_OVERLAP: u64 = 4;
/// How many functions that begin before an address are asked whether they contain it: nesting is shallow.
const MAX_NESTING: usize = 64;

/// The instructions of `functions` (sorted by start, then end), each of the innermost function that contains it, up to
/// the first place of a function that does not decode. Sorted, each once.
#[must_use]
pub fn instructions(image: &Image<'_>, functions: &[Range<FileAddress>]) -> Vec<FileAddress> {
    let Ok(isa) = image.isa() else { return Vec::new() };
    let code = image.code();
    let mut budget =
        code.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>().saturating_mul(MAX_OVERLAP);
    let mut found = Vec::new();
    for (index, function) in functions.iter().enumerate() {
        let Some(rest) = budget.checked_sub(function.end - function.start) else { break };
        budget = rest;
        let bytes = bytes_of(&code, function);
        let own =
            boundaries(isa, function.start, bytes).filter(|at| !is_deeper(&functions[index + 1..], *at));
        found.extend(own);
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn bytes_of<'a>(code: &[(FileAddress, &'a [u8])], function: &Range<FileAddress>) -> &'a [u8] {
    let part = code.iter().find_map(|(start, bytes)| {
        let from = usize::try_from(function.start.0.checked_sub(start.0)?).ok()?;
        let to = usize::try_from(function.end.0.checked_sub(start.0)?).ok()?;
        bytes.get(from..to)
    });
    part.unwrap_or_default()
}

fn boundaries(isa: Isa, start: FileAddress, bytes: &[u8]) -> impl Iterator<Item = FileAddress> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let at = start + offset as u64;
        let rest = bytes.get(offset..).filter(|rest| !rest.is_empty())?;
        offset += instruction_len(isa, Address(at.0), rest).filter(|len| *len <= rest.len())?;
        Some(at)
    })
}

/// Whether one of the functions behind another contains what lies in that.
fn is_deeper(behind: &[Range<FileAddress>], at: FileAddress) -> bool {
    let begun = behind.partition_point(|function| function.start <= at);
    behind[..begun].iter().rev().take(MAX_NESTING).any(|function| at < function.end)
}
