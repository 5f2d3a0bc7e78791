//! Which of the untyped labels in code are functions.
//!
//! Assembly often gives its functions no type, and its constants neither: perlasm puts the latter between functions. A label is
//! taken for a function only where something says so: it is in a function, a pointer leads to it, or code of a function branches
//! to it or goes on into it.

use std::collections::HashSet;
use std::ops::Range;

use insn::{Address, Flow, Isa, inspect, reference};

use crate::address::FileAddress;
use crate::elf::Image;
use crate::functions::{pointers, unmarked_pointers};
use crate::headers::Class;

/// Functions that overlap are decoded separately; a hostile file must not make that quadratic.
const MAX_OVERLAP: u64 = 4;

/// A direct branch ends in its distance: of a byte, or of four.
const NEAR: usize = 1;
const FAR: usize = 4;

/// Whether nobody can tell here: code of such a machine is not decoded for its branches.
pub(crate) fn are_all_functions(image: &Image<'_>) -> bool {
    !image.isa().is_ok_and(Isa::has_stubs)
}

/// Those of `labels` (sorted) that the loader, or a pointer in data, leads to.
pub(crate) fn pointed_at(image: &Image<'_>, labels: &[FileAddress]) -> HashSet<FileAddress> {
    let is_label = |at: &FileAddress| labels.binary_search(at).is_ok();
    pointers(image).into_iter().chain(unmarked_pointers(image)).filter(is_label).collect()
}

/// Those of `labels` (sorted, with what belongs to each) to which code leads, directly or by others of them, beginning with
/// the code of `functions`.
pub(crate) fn reached(
    image: &Image<'_>,
    functions: Vec<Range<FileAddress>>,
    labels: &[Range<FileAddress>],
) -> HashSet<FileAddress> {
    let Ok(isa) = image.isa() else { return HashSet::new() };
    let code = image.code();
    let mut ends: Vec<(FileAddress, FileAddress)> = Vec::new();
    for (start, bytes) in &code {
        maybe_branches(image.class(), *start, bytes, labels, &mut ends);
    }
    ends.extend(labels.iter().map(|label| (label.start, label.start)));
    ends.sort_unstable();
    ends.dedup();
    let mut budget: u64 = code.iter().map(|(_, bytes)| bytes.len() as u64 * MAX_OVERLAP).sum();
    let mut waiting = functions;
    let mut found = HashSet::new();
    while let Some(function) = waiting.pop() {
        let first = ends.partition_point(|(end, _)| *end <= function.start);
        let behind = ends.partition_point(|(end, _)| *end <= function.end);
        let here = ends.get(first..behind).unwrap_or(&[]);
        if here.is_empty() {
            continue;
        }
        let Some(rest) = budget.checked_sub(function.end - function.start) else { continue };
        budget = rest;
        if here.iter().all(|(_, label)| found.contains(label)) {
            continue;
        }
        for label in leads_to(isa, image, &function, here) {
            if found.insert(label) {
                let at = labels.partition_point(|other| other.start < label);
                waiting.extend(labels.get(at).cloned());
            }
        }
    }
    found
}

/// Where bytes that look like direct branches to `labels` end, and to which label each goes.
fn maybe_branches(
    class: Class,
    start: FileAddress,
    bytes: &[u8],
    labels: &[Range<FileAddress>],
    found: &mut Vec<(FileAddress, FileAddress)>,
) {
    let mut previous = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        let len = match byte {
            0xeb | 0x70..=0x7f | 0xe0..=0xe3 => NEAR,
            0xe8 | 0xe9 => FAR,
            0x80..=0x8f if previous == 0x0f => FAR,
            _ => 0,
        };
        previous = byte;
        let distance = match bytes.get(index + 1..index + 1 + len) {
            Some(&[near]) => i64::from(near.cast_signed()),
            Some(&[a, b, c, d]) => i64::from(i32::from_le_bytes([a, b, c, d])),
            _ => continue,
        };
        let end = start + (index + 1 + len) as u64;
        let to = end.0.wrapping_add_signed(distance);
        let to = FileAddress(if class == Class::Elf32 { to & u64::from(u32::MAX) } else { to });
        if labels.binary_search_by_key(&to, |label| label.start).is_ok() {
            found.push((end, to));
        }
    }
}

/// The labels to which a function's instructions lead that end at one of `ends` (sorted): by a branch, or by going on there.
fn leads_to(
    isa: Isa,
    image: &Image<'_>,
    function: &Range<FileAddress>,
    ends: &[(FileAddress, FileAddress)],
) -> Vec<FileAddress> {
    let mut found = Vec::new();
    let mut rest = image.read(function.start, function.end - function.start).unwrap_or_default();
    let mut at = function.start;
    let mut has_left = false;
    let mut ends = ends.iter().peekable();
    while ends.peek().is_some() {
        let Some(insn) = inspect(isa, Address(at.0), rest) else { break };
        let Some((one, behind)) = rest.split_at_checked(insn.len) else { break };
        let end = at + insn.len as u64;
        // Nobody goes on through the padding behind a function.
        has_left = insn.flow == Flow::Leaves || has_left && insn.is_padding;
        while ends.next_if(|(wanted, _)| *wanted < end).is_some() {}
        while let Some((_, label)) = ends.next_if(|(wanted, _)| *wanted == end) {
            let goes_on = *label == end && !has_left && matches!(insn.flow, Flow::Next | Flow::Conditional);
            let is_branch = matches!(insn.flow, Flow::Conditional | Flow::Call | Flow::Leaves);
            let to = || reference(isa, Address(at.0), one);
            if goes_on || is_branch && to() == Some(Address(label.0)) {
                found.push(*label);
            }
        }
        (at, rest) = (end, behind);
    }
    found
}
