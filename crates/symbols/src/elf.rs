//! An ELF file as xol sees it: what kind of program it is, and its bytes by virtual address (ELF gABI; System V x86-64 and i386
//! psABIs).

use std::ops::Range;

use insn::isa::Order;
use insn::{Address, Isa};
use object::elf;

use crate::address::{Bias, FileAddress};
use crate::dynamic::{Dynamic, Table};
use crate::headers::{self, Class, Format, Headers, Section, Sections, inside};
use crate::reader::string_at;

/// Mappings begin at multiples of this (x86-64's base page size; the kernel's `ELF_PAGESTART`).
const PAGE: u64 = 4096;

/// More loaded segments than any linker makes; a limit on the work a hostile file can ask for.
const MAX_LOAD_SEGMENTS: usize = 256;

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// Another kind of file.
    #[error("not an ELF file")]
    NotElf,
    /// Shorter than its own headers say.
    #[error("truncated ELF file: its {what} ends at byte {need}, the file at byte {have}")]
    Truncated {
        /// The part that is cut off.
        what: &'static str,
        /// Where that part ends.
        need: u64,
        /// Length of the file.
        have: u64,
    },
    /// The headers contradict themselves.
    #[error("malformed ELF file: {0}")]
    Malformed(&'static str),
    /// A program for another machine.
    #[error("a program for {0}: not supported yet")]
    Unsupported(String),
    /// A program that is probed behind a remote only.
    #[error("a program for {0}: not supported yet but behind a GDB stub (--remote)")]
    RemoteOnly(String),
    /// A file that the process has mapped, but cannot run itself.
    #[error("a program for {0}, which is not what the process runs")]
    Foreign(String),
    /// Not a program or library: an object file or a core.
    #[error("{0}, which is not a program or a shared library")]
    NotLoadable(&'static str),
}

/// How the file is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linkage {
    /// A program at a fixed address (`ET_EXEC`).
    Fixed,
    /// A position-independent program.
    Pie,
    /// A shared library (or the dynamic loader itself).
    Shared,
}

/// A `PT_LOAD` segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it is loaded, before the bias.
    pub address: FileAddress,
    /// Where its bytes are in the file.
    pub offset: u64,
    /// How many bytes it has in the file.
    pub file_size: u64,
    /// How many bytes it has in memory.
    pub memory_size: u64,
    /// `PF_R`.
    pub readable: bool,
    /// `PF_W`.
    pub writable: bool,
    /// `PF_X`.
    pub executable: bool,
}

impl Segment {
    /// Its addresses in memory.
    #[must_use]
    pub fn range(&self) -> Range<FileAddress> {
        self.address.span(self.memory_size)
    }
}

/// What `.note.gnu.property` promises (psABI, "Program Property"): it holds if every object linked in has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ControlFlowProtection {
    /// Indirect branches only reach `endbr64`.
    pub indirect_branch_tracking: bool,
    /// Compatible with shadow stacks.
    pub shadow_stack: bool,
}

/// The parts of a file's identification that are readable for every machine.
#[derive(Clone, Copy, Debug)]
struct Identification {
    class: Class,
    order: Order,
    machine: u16,
    object_type: u16,
    /// What the machine's ABI says in `e_flags`.
    flags: u32,
}

impl Identification {
    fn format(&self) -> Format {
        Format { class: self.class, order: self.order }
    }

    fn isa(&self) -> Result<Isa, ElfError> {
        match self.object_type {
            elf::ET_EXEC | elf::ET_DYN => {}
            elf::ET_REL => return Err(ElfError::NotLoadable("an object file")),
            elf::ET_CORE => return Err(ElfError::NotLoadable("a core file")),
            _ => return Err(ElfError::NotLoadable("an ELF file of unknown type")),
        }
        Isa::of_elf(self.machine, self.class.word(), self.order)
            .filter(|_| !self.is_n32())
            .ok_or_else(|| ElfError::Unsupported(self.machine()))
    }

    /// MIPS's third ABI: 64-bit registers, 32-bit pointers.
    fn is_n32(&self) -> bool {
        (self.machine, self.class) == (elf::EM_MIPS, Class::Elf32) && self.flags & elf::EF_MIPS_ABI2 != 0
    }

    fn machine(&self) -> String {
        let name = match self.machine {
            elf::EM_X86_64 if self.class == Class::Elf32 => {
                return "x32 (32-bit pointers on x86-64)".to_owned();
            }
            elf::EM_X86_64 => "x86-64",
            elf::EM_386 => "i386",
            elf::EM_ARM => "arm",
            elf::EM_AARCH64 => "arm64",
            elf::EM_RISCV => "riscv",
            elf::EM_PPC | elf::EM_PPC64 => "powerpc",
            elf::EM_S390 => "s390",
            elf::EM_MIPS if self.is_n32() => "mips, n32 ABI",
            elf::EM_MIPS => "mips",
            elf::EM_SPARC | elf::EM_SPARCV9 => "sparc",
            elf::EM_ALPHA => "alpha",
            elf::EM_SH => "sh",
            elf::EM_LOONGARCH => "loongarch",
            other => return format!("ELF machine {other}"),
        };
        let bits = 8 * self.class.word();
        let order = if self.order == Order::Little { "little" } else { "big" };
        format!("{name} ({bits}-bit, {order}-endian)")
    }
}

/// The ISA of a program or library, by the first bytes of its file ([`HEADER_LEN`] are enough).
///
/// # Errors
/// As [`Image::isa`]; or it is no ELF file.
pub fn isa_of(bytes: &[u8]) -> Result<Isa, ElfError> {
    identify(bytes)?.isa()
}

/// The length of the longer file header.
pub const HEADER_LEN: usize = 64;

/// An ELF file over its bytes.
///
/// A file of a foreign machine parses too, so that [`Image::isa`] can name it; it has no segments then.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    bytes: &'a [u8],
    id: Identification,
    headers: Headers<'a>,
    segments: Vec<Segment>,
    dynamic: Option<Dynamic>,
    strings: &'a [u8],
}

impl<'a> Image<'a> {
    /// Reads the headers of a whole file.
    ///
    /// # Errors
    /// Not ELF, truncated, or headers that contradict each other.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ElfError> {
        let image = Self::with_sections(bytes, Sections::Required)?;
        for segment in &image.segments {
            let end = segment.offset.saturating_add(segment.file_size);
            inside(bytes, end, "loaded segment")?;
        }
        Ok(image)
    }

    /// Reads a module gathered from a process's memory, each mapping's bytes put at its file offset: section headers are
    /// usually missing, and the loader may have added `bias` to addresses in the dynamic section.
    ///
    /// # Errors
    /// As [`Image::parse`], but what is missing at the end is no error.
    pub fn parse_loaded(bytes: &'a [u8], bias: Bias) -> Result<Self, ElfError> {
        let mut image = Self::with_sections(bytes, Sections::IfReadable)?;
        if let Some(mut dynamic) = image.dynamic.take() {
            dynamic.for_each_address(|address| {
                let unbiased = bias.file(Address(address.0));
                if image.segment_of(*address).is_none() && image.segment_of(unbiased).is_some() {
                    *address = unbiased;
                }
            });
            image.strings = image.table(dynamic.strings);
            image.dynamic = Some(dynamic);
        }
        Ok(image)
    }

    fn with_sections(bytes: &'a [u8], wanted: Sections) -> Result<Self, ElfError> {
        let id = identify(bytes)?;
        let mut image = Self {
            bytes,
            id,
            headers: Headers::default(),
            segments: Vec::new(),
            dynamic: None,
            strings: &[],
        };
        if matches!(id.isa(), Err(ElfError::Unsupported(_))) {
            return Ok(image);
        }
        image.headers = Headers::read(id.format(), bytes, wanted)?;
        image.segments = load_segments(&image.headers.segments)?;
        let dynamic = image.find_segment(elf::PT_DYNAMIC);
        image.dynamic = dynamic.map(|bytes| Dynamic::parse(id.format(), bytes));
        image.strings = image.dynamic.as_ref().map_or(&[], |dynamic| image.table(dynamic.strings));
        Ok(image)
    }

    /// The instruction set.
    ///
    /// # Errors
    /// [`ElfError::Unsupported`] names a machine that xol does not handle; [`ElfError::NotLoadable`] an object or core file.
    pub fn isa(&self) -> Result<Isa, ElfError> {
        self.id.isa()
    }

    /// The machine's name, for messages.
    #[must_use]
    pub fn machine(&self) -> String {
        self.id.machine()
    }

    /// What the machine's ABI says in `e_flags`.
    pub(crate) fn flags(&self) -> u32 {
        self.id.flags
    }

    /// The order of bytes in its words.
    #[must_use]
    pub fn order(&self) -> Order {
        self.id.order
    }

    pub(crate) fn format(&self) -> Format {
        self.id.format()
    }

    /// The class.
    #[must_use]
    pub fn class(&self) -> Class {
        self.id.class
    }

    /// How the file is linked.
    ///
    /// Older linkers do not mark a position-independent program with `DF_1_PIE`; it is told from a library by having an
    /// interpreter and no soname (libc.so.6 has both).
    #[must_use]
    pub fn linkage(&self) -> Linkage {
        let marked = self.dynamic.as_ref().is_some_and(|dynamic| dynamic.pie);
        match self.id.object_type {
            elf::ET_EXEC => Linkage::Fixed,
            _ if marked => Linkage::Pie,
            _ if self.interpreter().is_some() && self.soname().is_none() => Linkage::Pie,
            _ => Linkage::Shared,
        }
    }

    /// A position-independent program.
    #[must_use]
    pub fn is_pie(&self) -> bool {
        self.linkage() == Linkage::Pie
    }

    /// A shared library.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.linkage() == Linkage::Shared
    }

    /// A program that runs without a dynamic loader: fixed or static-PIE.
    #[must_use]
    pub fn is_static(&self) -> bool {
        !self.is_shared() && self.interpreter().is_none()
    }

    /// Both position-independent and static.
    #[must_use]
    pub fn is_static_pie(&self) -> bool {
        self.is_pie() && self.is_static()
    }

    /// The dynamic loader that the program asks for.
    #[must_use]
    pub fn interpreter(&self) -> Option<&'a str> {
        string_at(self.find_segment(elf::PT_INTERP)?, 0)
    }

    /// The name under which the library is linked.
    #[must_use]
    pub fn soname(&self) -> Option<&'a str> {
        string_at(self.strings, self.dynamic.as_ref()?.soname?)
    }

    /// The libraries it asks for.
    #[must_use]
    pub fn needed(&self) -> Vec<&'a str> {
        let offsets = self.dynamic.iter().flat_map(|dynamic| &dynamic.needed);
        offsets.filter_map(|offset| string_at(self.strings, *offset)).collect()
    }

    /// The linker's build ID (`NT_GNU_BUILD_ID`).
    #[must_use]
    pub fn build_id(&self) -> Option<&'a [u8]> {
        self.find_note(b"GNU", elf::NT_GNU_BUILD_ID)
    }

    /// The virtual address of a part of the file's bytes, such as [`Self::build_id`], where it is loaded.
    #[must_use]
    pub fn address_of(&self, part: &[u8]) -> Option<FileAddress> {
        let offset = (part.as_ptr() as usize).checked_sub(self.bytes.as_ptr() as usize)? as u64;
        let holds = |segment: &&Segment| {
            (segment.offset..segment.offset.saturating_add(segment.file_size)).contains(&offset)
        };
        let segment = self.segments.iter().find(holds)?;
        Some(segment.address + (offset - segment.offset))
    }

    /// What the file promises of control-flow protection.
    #[must_use]
    pub fn control_flow_protection(&self) -> ControlFlowProtection {
        let features = self
            .find_note(b"GNU", elf::NT_GNU_PROPERTY_TYPE_0)
            .and_then(|properties| property(self.format(), properties, elf::GNU_PROPERTY_X86_FEATURE_1_AND))
            .unwrap_or(0);
        ControlFlowProtection {
            indirect_branch_tracking: features & elf::GNU_PROPERTY_X86_FEATURE_1_IBT != 0,
            shadow_stack: features & elf::GNU_PROPERTY_X86_FEATURE_1_SHSTK != 0,
        }
    }

    /// Made by the Go tool chain.
    #[must_use]
    pub fn is_go(&self) -> bool {
        let named = [".go.buildinfo", ".note.go.buildid", ".gopclntab", ".data.rel.ro.gopclntab"];
        named.iter().any(|name| self.section(name).is_some()) || self.find_note(b"Go", 4).is_some()
    }

    /// A Go program without libc: its threads have no thread pointer of the C library's kind.
    #[must_use]
    pub fn is_static_go(&self) -> bool {
        self.is_go() && self.interpreter().is_none()
    }

    /// A Go program with no code of C in it: compilers of C write unwind tables, Go's does not.
    #[must_use]
    pub fn is_pure_go(&self) -> bool {
        self.is_static_go() && self.section(".text").is_some() && self.section(".eh_frame").is_none()
    }

    /// Where the kernel (or the loader) enters.
    #[must_use]
    pub fn entry(&self) -> FileAddress {
        self.headers.entry
    }

    /// The loaded segments, in the order of the file.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The bytes the image was made of.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The segment that has `address` in memory.
    #[must_use]
    pub fn segment_of(&self, address: FileAddress) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.range().contains(&address))
    }

    /// `address` is code that the file holds.
    #[must_use]
    pub fn is_code(&self, address: FileAddress) -> bool {
        self.segments
            .iter()
            .any(|segment| segment.executable && segment.address.span(segment.file_size).contains(&address))
    }

    /// The file's bytes of the executable segments.
    #[must_use]
    pub fn code(&self) -> Vec<(FileAddress, &'a [u8])> {
        self.contents(|segment| segment.executable)
    }

    /// Loaded data that the program does not write after relocation, where jump tables are.
    ///
    /// By section where the file has them, because older linkers put constants into the executable segment and
    /// `.data.rel.ro` lies in a writable one; by segment otherwise.
    #[must_use]
    pub fn rodata(&self) -> Vec<(FileAddress, &'a [u8])> {
        let constant = |section: &Section<'_>| {
            let relro = || section.name.starts_with(b".data.rel.ro");
            section.has(elf::SHF_ALLOC)
                && !section.has(elf::SHF_EXECINSTR)
                && (!section.has(elf::SHF_WRITE) || relro())
        };
        let by_section = self.section_contents(constant);
        if by_section.is_empty() {
            return self.contents(|segment| segment.readable && !segment.writable && !segment.executable);
        }
        by_section
    }

    /// All loaded data that is not code, by section where the file has them.
    pub(crate) fn data(&self) -> Vec<(FileAddress, &'a [u8])> {
        let by_section =
            self.section_contents(|section| section.has(elf::SHF_ALLOC) && !section.has(elf::SHF_EXECINSTR));
        if by_section.is_empty() { self.contents(|segment| !segment.executable) } else { by_section }
    }

    /// Run-time minus file address of the module, one of whose mappings begins at `start` with the file's byte `offset`.
    ///
    /// Segments may share a page of the file: `executable` (the mapping's permission) decides, then which one begins there. So
    /// ask with the mapping of the code where there is a choice.
    #[must_use]
    pub fn bias_of(&self, start: Address, offset: u64, executable: bool) -> Option<Bias> {
        let covers = |segment: &&Segment| {
            let first = segment.offset & !(PAGE - 1);
            (first..segment.offset.saturating_add(segment.file_size)).contains(&offset)
        };
        let starts = |segment: &Segment| segment.offset & !(PAGE - 1) == offset;
        let rank = |segment: &&Segment| (segment.executable == executable, starts(segment));
        let segment = self.segments.iter().filter(covers).max_by_key(rank)?;
        let file = FileAddress(segment.address.0.wrapping_sub(segment.offset).wrapping_add(offset));
        Some(Bias::between(start, file))
    }

    /// `len` bytes of the file at a virtual address.
    #[must_use]
    pub fn read(&self, address: FileAddress, len: u64) -> Option<&'a [u8]> {
        self.tail(address)?.get(..usize::try_from(len).ok()?)
    }

    /// The file's bytes from a virtual address to the end of its segment.
    #[must_use]
    pub fn tail(&self, address: FileAddress) -> Option<&'a [u8]> {
        let segment = self.segments.iter().find(|s| s.address.span(s.file_size).contains(&address))?;
        let skip = usize::try_from(address - segment.address).ok()?;
        self.segment_bytes(segment).get(skip..)
    }

    /// The word (as wide as an address) that the file has at a virtual address.
    #[must_use]
    pub fn word(&self, address: FileAddress) -> Option<u64> {
        let word = self.class().word();
        self.format().reader(self.read(address, word as u64)?).word(word)
    }

    /// The global offset table from which position-independent i386 code counts (psABI, "Global Offset Table").
    #[must_use]
    pub fn got(&self) -> Option<FileAddress> {
        let by_section = || {
            let names = [".got.plt", ".got"];
            names.iter().find_map(|name| self.section(name)).map(|(address, _)| address)
        };
        let dynamic = self.dynamic.as_ref().and_then(|dynamic| dynamic.got);
        dynamic.or_else(by_section).filter(|_| self.id.machine == elf::EM_386)
    }

    /// A section's address and bytes, by name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<(FileAddress, &'a [u8])> {
        let section = self.sections().iter().find(|section| section.name == name.as_bytes())?;
        Some((section.address, section.bytes?))
    }

    pub(crate) fn sections(&self) -> &[Section<'a>] {
        &self.headers.sections
    }

    pub(crate) fn dynamic(&self) -> Option<&Dynamic> {
        self.dynamic.as_ref()
    }

    /// The dynamic string table.
    pub(crate) fn strings(&self) -> &'a [u8] {
        self.strings
    }

    /// What the program headers say is at `kind`, through the file offset (the kernel reads `PT_INTERP` so).
    pub(crate) fn find_segment(&self, kind: u32) -> Option<&'a [u8]> {
        let found = self.headers.segments.iter().find(|segment| segment.kind == kind)?;
        let start = usize::try_from(found.offset).ok()?;
        let len = usize::try_from(found.file_size).ok()?;
        self.bytes.get(start..start.checked_add(len)?)
    }

    /// The virtual address of the first program header of `kind`.
    pub(crate) fn segment_address(&self, kind: u32) -> Option<FileAddress> {
        self.headers.segments.iter().find(|segment| segment.kind == kind).map(|segment| segment.address)
    }

    /// As much of a table as the file has.
    pub(crate) fn table(&self, table: Table) -> &'a [u8] {
        let Some((address, size)) = table else { return &[] };
        let tail = self.tail(address).unwrap_or(&[]);
        let len = usize::try_from(size).unwrap_or(usize::MAX).min(tail.len());
        tail.get(..len).unwrap_or(&[])
    }

    fn segment_bytes(&self, segment: &Segment) -> &'a [u8] {
        let have = self.bytes.len() as u64;
        let start = segment.offset.min(have);
        let end = segment.offset.saturating_add(segment.file_size).min(have);
        let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        self.bytes.get(index(start)..index(end)).unwrap_or(&[])
    }

    fn contents(&self, wanted: impl Fn(&Segment) -> bool) -> Vec<(FileAddress, &'a [u8])> {
        let wanted = self.segments.iter().filter(|segment| wanted(segment));
        wanted.map(|segment| (segment.address, self.segment_bytes(segment))).collect()
    }

    fn section_contents(&self, wanted: impl Fn(&Section<'_>) -> bool) -> Vec<(FileAddress, &'a [u8])> {
        const MOST: usize = 4096; // against tables of overlapping sections
        let stored = self.sections().iter().filter(|section| section.kind != elf::SHT_NOBITS);
        stored
            .filter(|section| wanted(section))
            .take(MOST)
            .filter_map(|section| Some((section.address, section.bytes?)))
            .collect()
    }

    /// The body of the first note of that owner and type.
    fn find_note(&self, owner: &[u8], kind: u32) -> Option<&'a [u8]> {
        let mut notes = self.headers.notes(self.format(), self.bytes);
        notes.find(|note| note.owner == owner && note.kind == kind).map(|note| note.body)
    }
}

fn identify(bytes: &[u8]) -> Result<Identification, ElfError> {
    if !bytes.starts_with(&elf::ELFMAG) {
        return Err(ElfError::NotElf);
    }
    inside(bytes, 20, "file header")?;
    let field = |at: usize| bytes.get(at).copied().unwrap_or(0);
    let order = match field(5) {
        elf::ELFDATA2LSB => Order::Little,
        elf::ELFDATA2MSB => Order::Big,
        _ => return Err(ElfError::Malformed("unknown byte order")),
    };
    let class = match field(4) {
        elf::ELFCLASS64 => Class::Elf64,
        elf::ELFCLASS32 => Class::Elf32,
        _ => return Err(ElfError::Malformed("unknown ELF class")),
    };
    let half = |at| {
        let pair = [field(at), field(at + 1)];
        if order == Order::Little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) }
    };
    inside(bytes, class.header_len(), "file header")?;
    let flags = class.flags_offset();
    let flags = order.number(bytes.get(flags..flags + 4).unwrap_or_default());
    let flags = u32::try_from(flags).unwrap_or_default();
    Ok(Identification { class, order, object_type: half(16), machine: half(18), flags })
}

fn load_segments(raw: &[headers::Segment]) -> Result<Vec<Segment>, ElfError> {
    let loaded = raw.iter().filter(|raw| raw.kind == elf::PT_LOAD);
    let segments: Vec<Segment> = loaded.take(MAX_LOAD_SEGMENTS + 1).map(load_segment).collect();
    if segments.len() > MAX_LOAD_SEGMENTS {
        return Err(ElfError::Malformed("too many loaded segments"));
    }
    for segment in &segments {
        if segment.address.0.checked_add(segment.memory_size).is_none() {
            return Err(ElfError::Malformed("a segment passes the end of the address space"));
        }
        if segment.file_size > segment.memory_size {
            return Err(ElfError::Malformed("a segment is larger in the file than in memory"));
        }
    }
    // Also bounds the work: without overlap the segments together cannot hold a byte of the file more than a few times.
    let mut ranges: Vec<_> = segments.iter().map(Segment::range).filter(|r| !r.is_empty()).collect();
    ranges.sort_by_key(|range| range.start);
    if ranges.windows(2).any(|pair| pair[1].start < pair[0].end) {
        return Err(ElfError::Malformed("loaded segments overlap"));
    }
    Ok(segments)
}

fn load_segment(raw: &headers::Segment) -> Segment {
    Segment {
        address: raw.address,
        offset: raw.offset,
        file_size: raw.file_size,
        memory_size: raw.memory_size,
        readable: raw.flags & elf::PF_R != 0,
        writable: raw.flags & elf::PF_W != 0,
        executable: raw.flags & elf::PF_X != 0,
    }
}

/// A 32-bit property in the body of a `.note.gnu.property` note: entries of type, size, data padded to words.
fn property(format: Format, body: &[u8], wanted: u32) -> Option<u32> {
    let mut reader = format.reader(body);
    loop {
        let (kind, size) = (reader.u32()?, reader.u32()?);
        let data = reader.take(usize::try_from(size).ok()?)?;
        if kind == wanted {
            return format.reader(data).u32();
        }
        reader.take(data.len().next_multiple_of(format.word()) - data.len())?;
    }
}
