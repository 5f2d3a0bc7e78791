//! Restartable sequences: code that the kernel aborts when the thread is preempted inside it.
//!
//! A jump out to a stub would lose that promise silently (the kernel only looks at the program counter), and the word before an
//! abort handler is a signature that the kernel checks. Both are refused. Layout: `struct rseq_cs` in linux/rseq.h.

use std::collections::HashMap;
use std::ops::Range;

use crate::address::FileAddress;
use crate::elf::Image;
use crate::relocations::relocations;

/// Where programs keep their descriptors (librseq, tcmalloc); each is 32 bytes, 32-aligned.
const DESCRIPTORS: [&str; 2] = ["__rseq_cs", "__rseq_table"];
/// Where they keep pointers to descriptors.
const POINTERS: [&str; 1] = ["__rseq_cs_ptr_array"];
const DESCRIPTOR_LEN: u64 = 32;
/// Far more than any program has.
const MOST: u64 = 1 << 16;

/// The ranges that must not be probed, sorted.
pub(crate) fn refused(image: &Image<'_>) -> Vec<Range<FileAddress>> {
    let places = descriptors(image);
    if places.is_empty() && pointer_places(image).is_empty() {
        return Vec::new();
    }
    let relocated: HashMap<u64, u64> = relocations(image).map(|r| (r.address.0, r.addend)).collect();
    // In a position-independent file the pointers are addends of relocations, and the words may be 0.
    let word = |at: FileAddress| relocated.get(&at.0).copied().or_else(|| image.word(at));
    // The fields of a descriptor have 64 bits in either class; addresses of 32 bits fill the lower half.
    let pointed = pointer_places(image).into_iter().filter_map(word).map(FileAddress);
    let mut ranges: Vec<_> =
        places.into_iter().chain(pointed).flat_map(|place| critical_section(place, word)).collect();
    ranges.retain(|range: &Range<FileAddress>| !range.is_empty() && image.is_code(range.start));
    ranges.sort_by_key(|range| (range.start, range.end));
    ranges.dedup();
    ranges
}

fn places(image: &Image<'_>, sections: &[&str], size: u64) -> Vec<FileAddress> {
    let present = sections.iter().filter_map(|name| image.section(name));
    let inside = |(start, bytes): (FileAddress, &[u8])| {
        (0..(bytes.len() as u64 / size).min(MOST)).map(move |index| start + index * size)
    };
    present.flat_map(inside).collect()
}

fn descriptors(image: &Image<'_>) -> Vec<FileAddress> {
    places(image, &DESCRIPTORS, DESCRIPTOR_LEN)
}

fn pointer_places(image: &Image<'_>) -> Vec<FileAddress> {
    places(image, &POINTERS, image.class().word() as u64)
}

/// The critical section and the bytes around its abort handler's first one.
fn critical_section(
    descriptor: FileAddress,
    word: impl Fn(FileAddress) -> Option<u64>,
) -> Vec<Range<FileAddress>> {
    let field = |offset| word(descriptor + offset);
    let (Some(start), Some(len), Some(abort)) = (field(8), field(16), field(24)) else { return Vec::new() };
    let signature = FileAddress(abort.saturating_sub(4))..FileAddress(abort.saturating_add(1));
    vec![FileAddress(start).span(len), signature]
}
