//! What the loader writes where: relocations, and the slots through which functions of other modules are called.

use object::elf;
use object::read::elf::SectionHeader;

use crate::address::FileAddress;
use crate::elf::{Image, LE};
use crate::reader::Reader;
use crate::symbols::{dynamic_entries, dynamic_symbol};

/// One dynamic relocation of x86-64 (psABI, "Relocation Types"; `RELR` entries appear as `R_X86_64_RELATIVE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// The place that is written.
    pub address: FileAddress,
    /// `R_X86_64_*`.
    pub kind: u32,
    /// Index into the dynamic symbol table; 0 for none.
    pub symbol: u32,
    /// The addend.
    pub addend: u64,
}

/// All relocations that are applied when the image is loaded.
pub fn relocations<'a>(image: &Image<'a>) -> impl Iterator<Item = Relocation> + use<'a> {
    let (rela, relr) = tables(image);
    let packed: Vec<Relocation> = relr.iter().flat_map(|table| packed(image, table)).collect();
    rela.into_iter().flat_map(|table| table.chunks_exact(24)).filter_map(entry).chain(packed)
}

/// The dynamic section's tables; in a static program, which has none, the sections that are loaded.
fn tables<'a>(image: &Image<'a>) -> (Vec<&'a [u8]>, Vec<&'a [u8]>) {
    if let Some(dynamic) = image.dynamic() {
        let rela = vec![image.table(dynamic.rela), image.table(dynamic.jump_rela)];
        return (rela, vec![image.table(dynamic.relr)]);
    }
    const MOST: usize = 64; // a static program has one or two
    let loaded = |kind: u32| {
        let wanted = image.sections().iter().filter(move |section| {
            let allocated = section.sh_flags.get(LE) & u64::from(elf::SHF_ALLOC) != 0;
            section.sh_type.get(LE) == kind && allocated
        });
        wanted.take(MOST).filter_map(|section| section.data(LE, image.bytes()).ok()).collect()
    };
    (loaded(elf::SHT_RELA), loaded(elf::SHT_RELR))
}

fn entry(bytes: &[u8]) -> Option<Relocation> {
    let mut reader = Reader::new(bytes);
    let address = FileAddress(reader.u64()?);
    let (kind, symbol) = (reader.u32()?, reader.u32()?);
    Some(Relocation { address, kind, symbol, addend: reader.u64()? })
}

/// Packed relative relocations (gABI, `SHT_RELR`): an even word is an address, an odd one a bitmap of the 63 words behind it.
/// The addend is what the place holds.
fn packed<'i>(image: &'i Image<'_>, table: &'i [u8]) -> impl Iterator<Item = Relocation> + 'i {
    let mut next = 0u64;
    let places = table.chunks_exact(8).filter_map(|word| Reader::new(word).u64()).flat_map(move |word| {
        let (first, bits) = if word & 1 == 0 { (word, 1) } else { (next, word >> 1) };
        next = first.wrapping_add(if word & 1 == 0 { 8 } else { 63 * 8 });
        (0..63).filter(move |bit| bits >> bit & 1 != 0).map(move |bit| first.wrapping_add(bit * 8))
    });
    places.filter_map(|place| {
        let address = FileAddress(place);
        let addend = image.word(address)?;
        Some(Relocation { address, kind: elf::R_X86_64_RELATIVE, symbol: 0, addend })
    })
}

/// The addresses that relocations put into memory, as far as they lie in this image.
pub(crate) fn targets(image: &Image<'_>) -> Vec<FileAddress> {
    let symbols = dynamic_entries(image);
    relocations(image).filter_map(|relocation| target(symbols, &relocation)).collect()
}

fn target(symbols: &[u8], relocation: &Relocation) -> Option<FileAddress> {
    match relocation.kind {
        elf::R_X86_64_RELATIVE | elf::R_X86_64_RELATIVE64 | elf::R_X86_64_IRELATIVE => {
            Some(FileAddress(relocation.addend))
        }
        elf::R_X86_64_64 | elf::R_X86_64_GLOB_DAT | elf::R_X86_64_JUMP_SLOT => {
            let symbol = dynamic_symbol(symbols, relocation.symbol)?;
            (symbol.section != elf::SHN_UNDEF).then_some(FileAddress(symbol.value) + relocation.addend)
        }
        _ => None,
    }
}

/// The slots that the loader fills with what the ifunc resolver at `resolver` chose. Read one in the running process to learn
/// the implementation; before it is filled it may hold the address of PLT code or be unrelocated.
#[must_use]
pub fn ifunc_slots(image: &Image<'_>, resolver: FileAddress) -> Vec<FileAddress> {
    relocations(image)
        .filter(|r| r.kind == elf::R_X86_64_IRELATIVE && r.addend == resolver.0)
        .map(|r| r.address)
        .collect()
}

/// The slots through which this image reaches the function called `name`, whoever defines it. With lazy binding a slot points
/// back into the image's own PLT until the first call.
#[must_use]
pub fn import_slots(image: &Image<'_>, name: &str) -> Vec<FileAddress> {
    let entries = dynamic_entries(image);
    let named = |index: u32| {
        let symbol = dynamic_symbol(entries, index)?;
        let text =
            image.strings().get(usize::try_from(symbol.name).ok()?..)?.strip_prefix(name.as_bytes())?;
        (text.first() == Some(&0)).then_some(())
    };
    let slot = |kind: u32| matches!(kind, elf::R_X86_64_JUMP_SLOT | elf::R_X86_64_GLOB_DAT);
    relocations(image).filter(|r| slot(r.kind) && named(r.symbol).is_some()).map(|r| r.address).collect()
}
