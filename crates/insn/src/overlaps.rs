//! Functions that begin inside an instruction of another.
//!
//! A symbol may stand on an immediate, for what patches the code itself, or say nothing true at all. Taken for a function it
//! would have the bytes around it decoded in a way of its own, and what is written at such a boundary cuts an instruction that
//! the other function runs.

use std::collections::HashMap;
use std::ops::Range;

use crate::address::Address;
use crate::code::Code;
use crate::decode;
use crate::isa::Isa;
use crate::sweep::{Function, MAX_NESTING, bytes_from};

/// No instruction is longer.
const LONGEST: u64 = 15;

/// `functions` (sorted by start, then end) without those that begin inside an instruction of the innermost function around
/// them, but for what they have behind its end. The mark of their start stays: nobody is to be displaced there. Where the two
/// do not agree again at the end of that instruction, nothing behind it is known to be one.
pub(crate) fn settle(isa: Isa, code: &[Code<'_>], functions: Vec<Function>) -> Vec<Function> {
    let (mut kept, mut rests): (Vec<Function>, Vec<Function>) = (Vec::new(), Vec::new());
    let mut furthest: Vec<Address> = Vec::new();
    // The last boundary known of each that has others inside: they come in order.
    let mut known = HashMap::new();
    for function in functions {
        let start = function.range.start;
        let nearest = (0..kept.len()).rev().take(MAX_NESTING).take_while(|index| furthest[*index] > start);
        let outer = nearest.into_iter().find(|index| {
            let around = &kept[*index].range;
            around.start < start && start < around.end
        });
        let cut = outer.and_then(|outer| {
            let from = known.entry(outer).or_insert(kept[outer].range.start);
            instruction_around(isa, code, &kept[outer], from, start).map(|insn| (outer, insn))
        });
        let Some((outer, insn)) = cut else {
            let end = furthest.last().map_or(function.range.end, |last| function.range.end.max(*last));
            furthest.push(end);
            kept.push(function);
            continue;
        };
        let outer = &mut kept[outer];
        let agrees = begins_at(isa, code, start, insn.end);
        if !agrees {
            outer.first_bad = Some(insn.start);
        }
        outer.has_transaction |= function.has_transaction;
        let end = outer.range.end;
        if function.range.end > end {
            let first_bad = if agrees { function.first_bad.map(|bad| bad.max(end)) } else { Some(end) };
            rests.push(Function { range: end..function.range.end, first_bad, ..function });
        }
    }
    kept.append(&mut rests);
    kept.sort_by_key(|function| (function.range.start, function.range.end));
    kept
}

/// The instruction of `function` that begins before `at` and ends behind it, decoded on from the boundary `known`.
fn instruction_around(
    isa: Isa,
    code: &[Code<'_>],
    function: &Function,
    known: &mut Address,
    at: Address,
) -> Option<Range<Address>> {
    if function.first_bad.is_some_and(|bad| bad <= at) {
        return None;
    }
    let bytes = bytes_from(code, *known)?;
    let near = Address(at.0.saturating_sub(LONGEST));
    let last = decode::boundaries(isa, *known, bytes, near, at)?.last().copied()?;
    *known = last;
    let len = decode::instruction_len(isa, last, bytes_from(code, last)?)?;
    (last < at).then(|| last..last + len as u64)
}

/// Whether an instruction begins at `to` for who begins at `from`.
fn begins_at(isa: Isa, code: &[Code<'_>], from: Address, to: Address) -> bool {
    let starts = bytes_from(code, from).and_then(|bytes| decode::boundaries(isa, from, bytes, to, to));
    starts.is_some_and(|starts| starts == [to])
}
