//! What the loader writes where: relocations, and the slots through which functions of other modules are called.

use insn::Isa;
use object::elf;

use crate::address::FileAddress;
use crate::elf::Image;
use crate::headers::Class;
use crate::reader::Reader;
use crate::symbols::{dynamic_entries, dynamic_symbol};

/// What a relocation writes (psABIs, "Relocation Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An address in the image itself (`R_*_RELATIVE`; also the entries of `RELR`).
    Relative,
    /// What an ifunc resolver in the image gives (`R_*_IRELATIVE`).
    Resolved,
    /// A symbol's address plus the addend (`R_X86_64_64`, `R_386_32`).
    Symbol,
    /// A symbol's address, in a slot for calls (`R_*_GLOB_DAT`, `R_*_JUMP_SLOT`).
    Slot,
    /// Something else.
    Other,
}

impl Kind {
    fn of(class: Class, number: u32) -> Self {
        match (class, number) {
            (Class::Elf64, elf::R_X86_64_RELATIVE | elf::R_X86_64_RELATIVE64)
            | (Class::Elf32, elf::R_386_RELATIVE) => Self::Relative,
            (Class::Elf64, elf::R_X86_64_IRELATIVE) | (Class::Elf32, elf::R_386_IRELATIVE) => Self::Resolved,
            (Class::Elf64, elf::R_X86_64_64) | (Class::Elf32, elf::R_386_32) => Self::Symbol,
            (Class::Elf64, elf::R_X86_64_GLOB_DAT | elf::R_X86_64_JUMP_SLOT)
            | (Class::Elf32, elf::R_386_GLOB_DAT | elf::R_386_JMP_SLOT) => Self::Slot,
            _ => Self::Other,
        }
    }
}

/// One dynamic relocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// The place that is written.
    pub address: FileAddress,
    /// What is written there.
    pub kind: Kind,
    /// Index into the dynamic symbol table; 0 for none.
    pub symbol: u32,
    /// The addend: of i386 what the file has at the place.
    pub addend: u64,
}

/// All relocations that are applied when the image is loaded.
pub fn relocations<'i>(image: &'i Image<'_>) -> impl Iterator<Item = Relocation> + 'i {
    // Numbers mean something else on other machines, whose code nobody looks for pointers to.
    let is_known = image.isa().is_ok_and(Isa::has_stubs);
    let (tables, packed_tables) = if is_known { tables(image) } else { Default::default() };
    let packed: Vec<Relocation> = packed_tables.iter().flat_map(|table| packed(image, table)).collect();
    let len = match image.class() {
        Class::Elf32 => 8,
        Class::Elf64 => 24,
    };
    let entries = tables.into_iter().flat_map(move |table| table.chunks_exact(len));
    entries.filter_map(|bytes| entry(image, bytes)).chain(packed)
}

/// The dynamic section's tables; in a static program, which has none, the sections that are loaded.
fn tables<'a>(image: &Image<'a>) -> (Vec<&'a [u8]>, Vec<&'a [u8]>) {
    if let Some(dynamic) = image.dynamic() {
        let tables = vec![image.table(dynamic.relocations), image.table(dynamic.jump_relocations)];
        return (tables, vec![image.table(dynamic.relr)]);
    }
    const MOST: usize = 64; // a static program has one or two
    let loaded = |kind: u32| {
        let wanted = image.sections().iter().filter(move |section| section.kind == kind);
        let wanted = wanted.filter(|section| section.has(elf::SHF_ALLOC));
        wanted.take(MOST).filter_map(|section| section.bytes).collect()
    };
    let with_addends = match image.class() {
        Class::Elf32 => elf::SHT_REL,
        Class::Elf64 => elf::SHT_RELA,
    };
    (loaded(with_addends), loaded(elf::SHT_RELR))
}

/// An entry: `Elf64_Rela`, or `Elf32_Rel`, whose addend is at the place.
fn entry(image: &Image<'_>, bytes: &[u8]) -> Option<Relocation> {
    let mut reader = Reader::new(bytes);
    let class = image.class();
    let address = FileAddress(reader.word(class.word())?);
    let (number, symbol, addend) = match class {
        Class::Elf32 => {
            let info = reader.u32()?;
            (info & 0xff, info >> 8, image.word(address).unwrap_or(0))
        }
        Class::Elf64 => (reader.u32()?, reader.u32()?, reader.u64()?),
    };
    Some(Relocation { address, kind: Kind::of(class, number), symbol, addend })
}

/// Packed relative relocations (gABI, `SHT_RELR`): an even word is an address, an odd one a bitmap of the words behind it,
/// one fewer than the word has bits.
/// The addend is what the place holds.
fn packed<'i>(image: &'i Image<'_>, table: &'i [u8]) -> impl Iterator<Item = Relocation> + 'i {
    let len = image.class().word();
    let (word_len, bit_count) = (len as u64, 8 * len as u64 - 1);
    let mut next = 0u64;
    let places = table.chunks_exact(len).filter_map(move |word| Reader::new(word).word(len));
    let places = places.flat_map(move |word| {
        let (first, bits) = if word & 1 == 0 { (word, 1) } else { (next, word >> 1) };
        next = first.wrapping_add(if word & 1 == 0 { word_len } else { bit_count * word_len });
        (0..bit_count)
            .filter(move |bit| bits >> bit & 1 != 0)
            .map(move |bit| first.wrapping_add(bit * word_len))
    });
    places.filter_map(|place| {
        let address = FileAddress(place);
        let addend = image.word(address)?;
        Some(Relocation { address, kind: Kind::Relative, symbol: 0, addend })
    })
}

/// The addresses that relocations put into memory, as far as they lie in this image.
pub(crate) fn targets(image: &Image<'_>) -> Vec<FileAddress> {
    let symbols = dynamic_entries(image);
    let target = |relocation: Relocation| match relocation.kind {
        Kind::Relative | Kind::Resolved => Some(FileAddress(relocation.addend)),
        Kind::Symbol | Kind::Slot => {
            let symbol = dynamic_symbol(image.format(), symbols, relocation.symbol)?;
            // What an i386 slot holds in the file is its way back to the PLT.
            let addend = if relocation.kind == Kind::Slot { 0 } else { relocation.addend };
            (symbol.section != elf::SHN_UNDEF).then_some(FileAddress(symbol.value) + addend)
        }
        Kind::Other => None,
    };
    relocations(image).filter_map(target).collect()
}

/// The slots that the loader fills with what the ifunc resolver at `resolver` chose. Read one in the running process to learn
/// the implementation; before it is filled it may hold the address of PLT code or be unrelocated.
#[must_use]
pub fn ifunc_slots(image: &Image<'_>, resolver: FileAddress) -> Vec<FileAddress> {
    relocations(image)
        .filter(|r| r.kind == Kind::Resolved && r.addend == resolver.0)
        .map(|r| r.address)
        .collect()
}

/// The slots through which this image reaches the function called `name`, whoever defines it. With lazy binding a slot points
/// back into the image's own PLT until the first call.
#[must_use]
pub fn import_slots(image: &Image<'_>, name: &str) -> Vec<FileAddress> {
    let entries = dynamic_entries(image);
    let named = |index: u32| {
        let symbol = dynamic_symbol(image.format(), entries, index)?;
        let text =
            image.strings().get(usize::try_from(symbol.name).ok()?..)?.strip_prefix(name.as_bytes())?;
        (text.first() == Some(&0)).then_some(())
    };
    relocations(image)
        .filter(|r| r.kind == Kind::Slot && named(r.symbol).is_some())
        .map(|r| r.address)
        .collect()
}
