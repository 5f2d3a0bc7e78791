//! Function ranges from the unwind tables (`.eh_frame`; Linux Standard Base, "Exception Frames"): they are there in stripped
//! files too, and they are exact.

use std::collections::HashMap;
use std::ops::Range;

use gimli::{
    BaseAddresses, CieOrFde, CommonInformationEntry, EhFrame, EhFrameOffset, EndianSlice, Pointer,
    RunTimeEndian, UnwindSection,
};
use insn::isa::Order;
use object::elf;

use crate::address::FileAddress;
use crate::elf::Image;

/// One frame description entry (FDE).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The code it describes.
    pub range: Range<FileAddress>,
    /// Where its language-specific data (landing pads) begin.
    pub lsda: Option<FileAddress>,
}

/// Unwinders look one byte before a return address. A signal's handler returns to the very first byte of the code that ends it,
/// so the C library and the vDSO have the FDE begin one byte before that, in padding (glibc,
/// sysdeps/unix/sysv/linux/x86_64/libc_sigaction.c). The code itself is aligned.
const TRAMPOLINE_ALIGN: u64 = 16;

type Slice<'a> = EndianSlice<'a, RunTimeEndian>;

fn endian(image: &Image<'_>) -> RunTimeEndian {
    match image.order() {
        Order::Little => RunTimeEndian::Little,
        Order::Big => RunTimeEndian::Big,
    }
}
type Cie<'a> = CommonInformationEntry<Slice<'a>>;

/// All frames of an image, sorted by address. An entry that cannot be read ends the table: what came before it is kept.
#[must_use]
pub fn frames(image: &Image<'_>) -> Vec<Frame> {
    let Some((address, bytes)) = eh_frame(image) else { return Vec::new() };
    let mut section = EhFrame::new(bytes, endian(image));
    let word = u8::try_from(image.class().word()).unwrap_or(8);
    section.set_address_size(word);
    let bases = bases(image, address);
    let mut headers = CommonHeaders::default();
    let mut found = Vec::new();
    let mut entries = section.entries(&bases);
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else { continue };
        // A broken FDE has a length all the same: go on behind it.
        let Ok(fde) = partial.parse(|section, bases, offset| headers.get(section, bases, offset)) else {
            continue;
        };
        let mut range = FileAddress(fde.initial_address()).span(fde.len());
        if fde.is_signal_trampoline() && (range.start.0 + 1).is_multiple_of(TRAMPOLINE_ALIGN) {
            range.start = range.start + 1;
        }
        if !range.is_empty() && image.is_code(range.start) {
            found.push(Frame { range, lsda: fde.lsda().and_then(direct) });
        }
    }
    found.sort_by_key(|frame| frame.range.start);
    found
}

/// The common information entries (CIEs) read so far: thousands of FDEs share one.
#[derive(Default)]
struct CommonHeaders<'a> {
    known: HashMap<EhFrameOffset, Cie<'a>>,
    broken: usize,
}

impl<'a> CommonHeaders<'a> {
    /// A real table has no broken CIE; reading another one for each FDE could cost the square of the table's length.
    const MOST_BROKEN: usize = 64;

    fn get(
        &mut self,
        section: &EhFrame<Slice<'a>>,
        bases: &BaseAddresses,
        at: EhFrameOffset,
    ) -> gimli::Result<Cie<'a>> {
        if let Some(cie) = self.known.get(&at) {
            return Ok(cie.clone());
        }
        if self.broken == Self::MOST_BROKEN {
            return Err(gimli::Error::NotCieId(at.0 as u64));
        }
        let cie = section.cie_from_offset(bases, at).inspect_err(|_| self.broken += 1)?;
        self.known.insert(at, cie.clone());
        Ok(cie)
    }
}

/// The frame that `address` lies in. `frames` must be sorted, as [`frames`] gives them.
#[must_use]
pub fn frame_of(frames: &[Frame], address: FileAddress) -> Option<&Frame> {
    let index = frames.partition_point(|frame| frame.range.start <= address).checked_sub(1)?;
    frames.get(index).filter(|frame| frame.range.contains(&address))
}

/// `.eh_frame` by section; without sections from where `.eh_frame_hdr` says, to its terminator or the segment's end.
fn eh_frame<'a>(image: &Image<'a>) -> Option<(FileAddress, &'a [u8])> {
    if let Some(section) = image.section(".eh_frame").filter(|(_, bytes)| !bytes.is_empty()) {
        return Some(section);
    }
    let header = image.segment_address(elf::PT_GNU_EH_FRAME)?;
    let word = u8::try_from(image.class().word()).unwrap_or(8);
    let bases = BaseAddresses::default().set_eh_frame_hdr(header.0);
    let parsed = gimli::EhFrameHdr::new(image.tail(header)?, endian(image)).parse(&bases, word).ok()?;
    let start = direct(parsed.eh_frame_ptr())?;
    Some((start, image.tail(start)?))
}

fn bases(image: &Image<'_>, eh_frame: FileAddress) -> BaseAddresses {
    let mut bases = BaseAddresses::default().set_eh_frame(eh_frame.0);
    if let Some((text, _)) = image.section(".text") {
        bases = bases.set_text(text.0);
    }
    if let Some((got, _)) = image.section(".got") {
        bases = bases.set_got(got.0);
    }
    bases
}

/// An indirect pointer would have to be read in the process.
fn direct(pointer: Pointer) -> Option<FileAddress> {
    pointer.direct().ok().map(FileAddress)
}
