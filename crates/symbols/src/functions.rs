//! What the planner must know of a module before it decodes an instruction: where functions are, what data point at, and
//! what must not be touched.

use std::ops::Range;

use insn::Address;

use crate::address::{Bias, FileAddress};
use crate::elf::{Image, Linkage};
use crate::frames::Frame;
use crate::headers::Format;
use crate::lsda::landing_pads;
use crate::symbols::{Binding, Symbols};
use crate::{relocations, rseq};

/// The outline of a module, in the file's addresses. Each list is sorted and free of duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Function ranges from symbols (in a stripped Go program: its function table) and unwind tables; they may nest or
    /// overlap.
    pub functions: Vec<Range<FileAddress>>,
    /// Code addresses that data refer to: relocations, landing pads, exported symbols, entry points; also where something has
    /// a name that may be data.
    pub pointed_at: Vec<FileAddress>,
    /// Numbers in data that may be addresses of code, where the file does not tell which are.
    pub may_point_at: Vec<FileAddress>,
    /// From where position-independent i386 code counts.
    pub got: Option<FileAddress>,
    /// Restartable sequences and the signatures of their abort handlers.
    pub refused: Vec<Range<FileAddress>>,
}

impl Outline {
    /// Reads the outline; `frames` and `symbols` are the image's own.
    #[must_use]
    pub fn read(image: &Image<'_>, frames: &[Frame], symbols: &Symbols<'_>) -> Self {
        Self {
            functions: functions(image, frames, symbols),
            pointed_at: pointed_at(image, frames, symbols),
            may_point_at: may_point_at(image),
            got: image.got(),
            refused: rseq::refused(image),
        }
    }

    /// [`Outline::functions`] where a module with that bias has them.
    #[must_use]
    pub fn functions_at(&self, bias: Bias) -> Vec<Range<Address>> {
        ranges_at(&self.functions, bias)
    }

    /// [`Outline::pointed_at`] where a module with that bias has them.
    #[must_use]
    pub fn pointed_at_at(&self, bias: Bias) -> Vec<Address> {
        addresses_at(&self.pointed_at, bias)
    }

    /// [`Outline::may_point_at`] where a module with that bias has them.
    #[must_use]
    pub fn may_point_at_at(&self, bias: Bias) -> Vec<Address> {
        addresses_at(&self.may_point_at, bias)
    }

    /// [`Outline::refused`] where a module with that bias has them.
    #[must_use]
    pub fn refused_at(&self, bias: Bias) -> Vec<Range<Address>> {
        ranges_at(&self.refused, bias)
    }
}

fn addresses_at(addresses: &[FileAddress], bias: Bias) -> Vec<Address> {
    let mut addresses: Vec<_> = addresses.iter().map(|at| bias.run_time(*at)).collect();
    addresses.sort_unstable(); // a bias may wrap
    addresses
}

fn ranges_at(ranges: &[Range<FileAddress>], bias: Bias) -> Vec<Range<Address>> {
    let mut moved: Vec<_> =
        ranges.iter().map(|range| bias.run_time(range.start)..bias.run_time(range.end)).collect();
    moved.sort_unstable_by_key(|range| (range.start, range.end));
    moved
}

/// [`Outline::functions`].
pub(crate) fn functions(
    image: &Image<'_>,
    frames: &[Frame],
    symbols: &Symbols<'_>,
) -> Vec<Range<FileAddress>> {
    let code = Code::of(image);
    let mut ranges: Vec<_> = frames.iter().map(|frame| frame.range.clone()).collect();
    ranges.extend(symbols.functions().map(|symbol| symbol.range()));
    ranges.retain(|range| !range.is_empty() && code.holds(range));
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    ranges.dedup();
    ranges
}

fn pointed_at(image: &Image<'_>, frames: &[Frame], symbols: &Symbols<'_>) -> Vec<FileAddress> {
    let mut found = pointers(image);
    found.extend(all_landing_pads(image, frames));
    let exported = symbols.functions().filter(|symbol| symbol.binding != Binding::Local);
    found.extend(exported.chain(symbols.labels()).map(|symbol| symbol.address));
    in_code(image, found)
}

fn may_point_at(image: &Image<'_>) -> Vec<FileAddress> {
    let words = |(start, bytes)| words(image.format(), start, bytes);
    let mut found = Vec::new();
    if let Some(got) = image.got() {
        // Tables of `switch`es are distances from there (psABI, "Position-Independent Function Calls").
        let distances = image.rodata().into_iter().flat_map(words);
        found.extend(
            distances.map(|distance| FileAddress(got.0.wrapping_add(distance) & u64::from(u32::MAX))),
        );
    }
    found.extend(unmarked_pointers(image));
    in_code(image, found)
}

/// Where the kernel, the loader or a pointer in data leads, as far as the file tells.
pub(crate) fn pointers(image: &Image<'_>) -> Vec<FileAddress> {
    let mut found = relocations::targets(image);
    found.push(image.entry());
    found.extend(initializers(image));
    found
}

/// The words of a program at a fixed address: no relocations say which are pointers, so each could be one.
pub(crate) fn unmarked_pointers(image: &Image<'_>) -> impl Iterator<Item = FileAddress> {
    let data = if image.linkage() == Linkage::Fixed { image.data() } else { Vec::new() };
    let format = image.format();
    data.into_iter().flat_map(move |(start, bytes)| words(format, start, bytes)).map(FileAddress)
}

/// Those that lie in code, once and in order.
fn in_code(image: &Image<'_>, mut found: Vec<FileAddress>) -> Vec<FileAddress> {
    let code = Code::of(image);
    found.retain(|address| code.contains(*address));
    found.sort_unstable();
    found.dedup();
    found
}

/// `DT_INIT`, `DT_FINI` and the arrays of functions the loader calls (their words too, for files without relocations).
fn initializers(image: &Image<'_>) -> Vec<FileAddress> {
    let Some(dynamic) = image.dynamic() else { return Vec::new() };
    let arrays = dynamic.arrays.iter();
    let words = arrays.flat_map(|array| words(image.format(), array.0, image.table(Some(*array))));
    dynamic.init.into_iter().chain(dynamic.fini).chain(words.map(FileAddress)).collect()
}

fn all_landing_pads(image: &Image<'_>, frames: &[Frame]) -> Vec<FileAddress> {
    let mut found = Vec::new();
    // Tables may be shared, but hardly: more bytes than a few files' worth is a file made to waste time.
    let mut budget = image.bytes().len().saturating_mul(4);
    for frame in frames {
        let Some(rest) = budget.checked_sub(landing_pads(image, frame, &mut found)) else { break };
        budget = rest;
    }
    found
}

/// The code of an image, for quick membership tests.
struct Code(Vec<Range<FileAddress>>);

impl Code {
    fn of(image: &Image<'_>) -> Self {
        Self(image.code().into_iter().map(|(start, bytes)| start.span(bytes.len() as u64)).collect())
    }

    fn contains(&self, address: FileAddress) -> bool {
        self.0.iter().any(|range| range.contains(&address))
    }

    /// `range` lies in one segment.
    fn holds(&self, range: &Range<FileAddress>) -> bool {
        self.0.iter().any(|code| code.start <= range.start && range.end <= code.end)
    }
}

/// The aligned words of data.
fn words(format: Format, start: FileAddress, bytes: &[u8]) -> impl Iterator<Item = u64> + use<'_> {
    let len = format.word();
    let skip = usize::try_from(start.0.next_multiple_of(len as u64) - start.0).unwrap_or(0);
    let words = bytes.get(skip..).unwrap_or(&[]).chunks_exact(len);
    words.filter_map(move |word| format.reader(word).word(len))
}
