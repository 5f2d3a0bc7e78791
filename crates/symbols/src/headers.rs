//! The headers of an ELF file of either class (ELF gABI), widened to 64 bits: what comes after asks for the class only where
//! the format's words differ.

use insn::Isa;
use insn::isa::Order;
use object::Endianness;
use object::elf;
use object::read::elf::{FileHeader, GnuHashTable, HashTable, ProgramHeader, SectionHeader};

use crate::address::FileAddress;
use crate::elf::ElfError;
use crate::reader::Reader;

type Header32 = elf::FileHeader32<Endianness>;
type Header64 = elf::FileHeader64<Endianness>;

/// What the words of a file are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) class: Class,
    pub(crate) order: Order,
}

impl Format {
    /// Bytes of an address.
    pub(crate) fn word(self) -> usize {
        self.class.word()
    }

    /// A reader of such words.
    pub(crate) fn reader(self, bytes: &[u8]) -> Reader<'_> {
        Reader::of(self.order, bytes)
    }

    fn endianness(self) -> Endianness {
        match self.order {
            Order::Little => Endianness::Little,
            Order::Big => Endianness::Big,
        }
    }
}

/// The class of a file: how wide its addresses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// `ELFCLASS32`.
    Elf32,
    /// `ELFCLASS64`.
    Elf64,
}

impl Class {
    /// The class of an ISA's programs.
    #[must_use]
    pub fn of(isa: Isa) -> Self {
        match isa.abi().word {
            4 => Self::Elf32,
            _ => Self::Elf64,
        }
    }

    /// Bytes of an address.
    #[must_use]
    pub fn word(self) -> usize {
        match self {
            Self::Elf32 => 4,
            Self::Elf64 => 8,
        }
    }

    /// Bytes of the file header.
    pub(crate) fn header_len(self) -> u64 {
        match self {
            Self::Elf32 => 52,
            Self::Elf64 => 64,
        }
    }

    /// Where `e_flags` is in it.
    pub(crate) fn flags_offset(self) -> usize {
        match self {
            Self::Elf32 => 36,
            Self::Elf64 => 48,
        }
    }
}

/// A program header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    pub(crate) address: FileAddress,
    pub(crate) offset: u64,
    pub(crate) file_size: u64,
    pub(crate) memory_size: u64,
    align: u64,
}

/// A section header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) kind: u32,
    pub(crate) flags: u64,
    pub(crate) address: FileAddress,
    pub(crate) size: u64,
    pub(crate) link: usize,
    /// Its bytes, as far as the file has them; none for `SHT_NOBITS`.
    pub(crate) bytes: Option<&'a [u8]>,
    align: u64,
}

impl Section<'_> {
    /// Whether all of these flags (`SHF_*`) are set.
    pub(crate) fn has(&self, flags: u32) -> bool {
        self.flags & u64::from(flags) == u64::from(flags)
    }
}

/// All headers of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Headers<'a> {
    pub(crate) entry: FileAddress,
    pub(crate) segments: Vec<Segment>,
    pub(crate) sections: Vec<Section<'a>>,
}

/// What to do about a section table that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sections {
    Required,
    IfReadable,
}

impl<'a> Headers<'a> {
    pub(crate) fn read(format: Format, bytes: &'a [u8], wanted: Sections) -> Result<Self, ElfError> {
        match format.class {
            Class::Elf32 => Self::of::<Header32>(format.endianness(), bytes, wanted),
            Class::Elf64 => Self::of::<Header64>(format.endianness(), bytes, wanted),
        }
    }

    fn of<H: FileHeader<Endian = Endianness>>(
        endian: Endianness,
        bytes: &'a [u8],
        wanted: Sections,
    ) -> Result<Self, ElfError> {
        let header = H::parse(bytes).map_err(|_| ElfError::Malformed("unusable ELF header"))?;
        let segments = segments(header, endian, bytes)?;
        let sections = match sections(header, endian, bytes) {
            Err(error) if wanted == Sections::Required => return Err(error),
            sections => sections.unwrap_or_default(),
        };
        Ok(Self { entry: FileAddress(header.e_entry(endian).into()), segments, sections })
    }

    /// Every note, by the segments first: section headers may be missing.
    pub(crate) fn notes(
        &self,
        format: Format,
        bytes: &'a [u8],
    ) -> impl Iterator<Item = Note<'a>> + use<'a, '_> {
        let inside = |offset: u64, len: u64| {
            let start = usize::try_from(offset).ok()?;
            bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
        };
        let by_segment = self.segments.iter().filter(|segment| segment.kind == elf::PT_NOTE);
        let by_segment =
            by_segment.filter_map(move |found| Some((inside(found.offset, found.file_size)?, found.align)));
        let by_section = self.sections.iter().filter(|section| section.kind == elf::SHT_NOTE);
        let by_section = by_section.filter_map(|section| Some((section.bytes?, section.align)));
        const MOST: usize = 64;
        by_segment
            .chain(by_section)
            .take(MOST)
            .flat_map(move |(table, align)| Notes::new(format, table, align))
    }
}

fn segments<H: FileHeader<Endian = Endianness>>(
    header: &H,
    endian: Endianness,
    bytes: &[u8],
) -> Result<Vec<Segment>, ElfError> {
    let size = u64::from(header.e_phnum(endian)) * size_of::<H::ProgramHeader>() as u64;
    inside(bytes, header.e_phoff(endian).into().saturating_add(size), "table of program headers")?;
    let raw = header
        .program_headers(endian, bytes)
        .map_err(|_| ElfError::Malformed("unusable table of program headers"))?;
    let segment = |raw: &H::ProgramHeader| Segment {
        kind: raw.p_type(endian),
        flags: raw.p_flags(endian),
        address: FileAddress(raw.p_vaddr(endian).into()),
        offset: raw.p_offset(endian).into(),
        file_size: raw.p_filesz(endian).into(),
        memory_size: raw.p_memsz(endian).into(),
        align: raw.p_align(endian).into(),
    };
    Ok(raw.iter().map(segment).collect())
}

fn sections<'a, H: FileHeader<Endian = Endianness>>(
    header: &H,
    endian: Endianness,
    bytes: &'a [u8],
) -> Result<Vec<Section<'a>>, ElfError> {
    let size = u64::from(header.e_shnum(endian)) * size_of::<H::SectionHeader>() as u64;
    inside(bytes, header.e_shoff(endian).into().saturating_add(size), "table of section headers")?;
    let table = header
        .sections(endian, bytes)
        .map_err(|_| ElfError::Malformed("unusable table of section headers"))?;
    let section = |raw: &H::SectionHeader| Section {
        name: table.section_name(endian, raw).unwrap_or_default(),
        kind: raw.sh_type(endian),
        flags: raw.sh_flags(endian).into(),
        address: FileAddress(raw.sh_addr(endian).into()),
        size: raw.sh_size(endian).into(),
        link: raw.link(endian).0,
        bytes: raw.data(endian, bytes).ok(),
        align: raw.sh_addralign(endian).into(),
    };
    Ok(table.iter().map(section).collect())
}

/// Nothing that ends at `end` is cut off.
pub(crate) fn inside(bytes: &[u8], end: u64, what: &'static str) -> Result<(), ElfError> {
    let have = bytes.len() as u64;
    if end <= have { Ok(()) } else { Err(ElfError::Truncated { what, need: end, have }) }
}

/// The number of symbols that a hash table is for: `DT_HASH`, or `DT_GNU_HASH`.
pub(crate) fn symbol_count(format: Format, hash: &[u8], gnu_hash: &[u8]) -> Option<u32> {
    fn of<H: FileHeader<Endian = Endianness>>(
        endian: Endianness,
        hash: &[u8],
        gnu_hash: &[u8],
    ) -> Option<u32> {
        let by_hash = HashTable::<H>::parse(endian, hash).ok().map(|hash| hash.symbol_table_length());
        by_hash.or_else(|| GnuHashTable::<H>::parse(endian, gnu_hash).ok()?.symbol_table_length(endian))
    }
    match format.class {
        Class::Elf32 => of::<Header32>(format.endianness(), hash, gnu_hash),
        Class::Elf64 => of::<Header64>(format.endianness(), hash, gnu_hash),
    }
}

/// A note (gABI, "Note Section").
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note<'a> {
    pub(crate) owner: &'a [u8],
    pub(crate) kind: u32,
    pub(crate) body: &'a [u8],
}

/// The notes of one table.
struct Notes<'a> {
    reader: Reader<'a>,
    align: usize,
}

impl<'a> Notes<'a> {
    /// Names and bodies are padded to 4 bytes, or to 8 where the table is aligned so.
    fn new(format: Format, table: &'a [u8], align: u64) -> Self {
        Self { reader: format.reader(table), align: if align == 8 { 8 } else { 4 } }
    }

    fn padded(&mut self, len: u32) -> Option<&'a [u8]> {
        let taken = self.reader.take(usize::try_from(len).ok()?)?;
        let padding = self.reader.position().next_multiple_of(self.align) - self.reader.position();
        // The last one may end without.
        let _ = self.reader.take(padding);
        Some(taken)
    }
}

impl<'a> Iterator for Notes<'a> {
    type Item = Note<'a>;

    fn next(&mut self) -> Option<Note<'a>> {
        let (name, body, kind) = (self.reader.u32()?, self.reader.u32()?, self.reader.u32()?);
        let owner = self.padded(name)?;
        let owner = owner.strip_suffix(b"\0").unwrap_or(owner);
        Some(Note { owner, kind, body: self.padded(body)? })
    }
}
