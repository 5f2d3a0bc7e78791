//! Functions and data by name: `.symtab` and `.dynsym` together, with versions and aliases.
//!
//! Names are borrowed from the file and demangled only when asked: a compiler's library has a million of them.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::ops::Range;

use insn::Isa;
use object::elf;

use crate::address::FileAddress;
use crate::demangle::{Demangled, demangle};
use crate::dynamic::version_names;
use crate::elf::Image;
use crate::frames::{Frame, frame_of};
use crate::functions;
use crate::go;
use crate::headers::{Class, Format, symbol_count};
use crate::labels;
use crate::marks::{self, Code};

/// What a symbol names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Code; also an untyped label in text, as assembly leaves them, if something says that it is code.
    Function,
    /// A resolver that chooses the function when the program is linked at run time (`STT_GNU_IFUNC`).
    Ifunc,
    /// A variable or constant.
    Data,
    /// An untyped label in text that may be either: no unwind table, pointer or branch says that it is code.
    Label,
}

/// Who may refer to a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Binding {
    /// Every module.
    Global,
    /// Every module, unless a global one is there.
    Weak,
    /// Its own object file only.
    Local,
}

/// The version of a dynamic symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version<'a> {
    /// For instance `GLIBC_2.2.5`.
    pub name: &'a str,
    /// What a program linked today would get (`name@@VERSION`).
    pub default: bool,
}

/// A defined symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// The name as in the file, without its version.
    pub name: &'a str,
    /// The version, in libraries that have them.
    pub version: Option<Version<'a>>,
    /// Where it is.
    pub address: FileAddress,
    /// Bytes.
    pub size: u64,
    /// The symbol had size 0; `size` comes from an FDE or reaches to the next function.
    pub size_guessed: bool,
    /// What it names.
    pub kind: Kind,
    /// Who may refer to it.
    pub binding: Binding,
    /// How far behind the address callers in the same module enter, and others after it set a register up (ELFv2 of 64-bit Power,
    /// Alpha: the local entry, `st_other`); 0 elsewhere. What runs at every call is there.
    pub local_entry: u64,
}

impl<'a> Symbol<'a> {
    /// The name as the programmer wrote it, where it is mangled.
    #[must_use]
    pub fn demangled(&self) -> Option<Demangled> {
        demangle(self.name)
    }

    /// `true` for [`Kind::Function`] and [`Kind::Ifunc`].
    #[must_use]
    pub fn is_function(&self) -> bool {
        matches!(self.kind, Kind::Function | Kind::Ifunc)
    }

    /// Its bytes.
    #[must_use]
    pub fn range(&self) -> Range<FileAddress> {
        self.address.span(self.size)
    }

    /// The name that tells it from other versions: `name`, or `name@VERSION` where the version is not the default.
    #[must_use]
    pub fn versioned_name(&self) -> String {
        match self.version {
            Some(version) if !version.default => format!("{}@{}", self.name, version.name),
            _ => self.name.to_owned(),
        }
    }

    /// `typed` is this symbol's name: plain, `name@VERSION` or `name@@VERSION`.
    #[must_use]
    pub fn has_raw_name(&self, typed: &str) -> bool {
        let Some(rest) = typed.strip_prefix(self.name) else { return false };
        let Some(version) = self.version else { return rest.is_empty() };
        match rest.strip_prefix("@@").map(|name| (name, true)) {
            Some((name, _)) => version.default && name == version.name,
            None => rest.is_empty() || rest.strip_prefix('@') == Some(version.name),
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        let key = |symbol: &Self| (symbol.address, symbol.name, symbol.version, symbol.binding, symbol.kind);
        key(self).cmp(&key(other))
    }
}

/// All symbols that a file defines, sorted by address, and the names it imports.
#[derive(Clone, Debug, Default)]
pub struct Symbols<'a> {
    list: Vec<Symbol<'a>>,
    imports: Vec<&'a str>,
    /// Where code of a kind, or data, begins.
    marks: Vec<(FileAddress, Code)>,
    /// Labels that other modules may use.
    exported: HashSet<FileAddress>,
    unreadable: usize,
}

impl<'a> Symbols<'a> {
    /// Reads both symbol tables; for a stripped Go program, the runtime's table of functions. `frames` are the image's own
    /// ([`crate::frames::frames`]) and give the sizes that symbols do not state.
    #[must_use]
    pub fn read(image: &Image<'a>, frames: &[Frame]) -> Self {
        let mut symbols = Self::default();
        let has_symtab = symbols.add_symtab(image);
        symbols.add_dynsym(image);
        if !has_symtab && image.is_go() {
            symbols.list.extend(go::symbols(image));
        }
        symbols.list.sort_unstable_by(Symbol::order);
        symbols.merge();
        symbols.marks.sort_unstable();
        symbols.marks.dedup();
        symbols.imports.sort_unstable();
        symbols.imports.dedup();
        symbols.guess_sizes(image, frames);
        symbols.judge_labels(image, frames);
        symbols
    }

    /// All symbols, sorted by address.
    #[must_use]
    pub fn all(&self) -> &[Symbol<'a>] {
        &self.list
    }

    /// Functions only, sorted by address; aliases are listed each.
    pub fn functions(&self) -> impl Iterator<Item = &Symbol<'a>> {
        self.list.iter().filter(|symbol| symbol.is_function())
    }

    /// What may be functions or data, sorted by address.
    pub fn labels(&self) -> impl Iterator<Item = &Symbol<'a>> {
        self.list.iter().filter(|symbol| symbol.kind == Kind::Label)
    }

    /// Every symbol that begins at `address`.
    #[must_use]
    pub fn at(&self, address: FileAddress) -> &[Symbol<'a>] {
        let start = self.list.partition_point(|symbol| symbol.address < address);
        let rest = self.list.get(start..).unwrap_or(&[]);
        let len = rest.partition_point(|symbol| symbol.address == address);
        rest.get(..len).unwrap_or(&[])
    }

    /// The function that `address` belongs to: the nearest one before it that reaches so far; of aliases the one that a
    /// person would name (see [`preferred`]).
    #[must_use]
    pub fn function_of(&self, address: FileAddress) -> Option<&Symbol<'a>> {
        // Nested symbols are few levels deep; a limit keeps a file of overlapping ones from costing more.
        const TRIES: usize = 4096;
        let end = self.list.partition_point(|symbol| symbol.address <= address);
        let before = self.list.get(..end).unwrap_or(&[]).iter().rev().take(TRIES);
        let covers = |s: &&Symbol<'a>| s.is_function() && s.range().contains(&address);
        let found = before.clone().find(covers)?.address;
        preferred(self.at(found).iter().filter(covers))
    }

    /// The file uses `name` but does not define it.
    #[must_use]
    pub fn imports(&self, name: &str) -> bool {
        self.imports.binary_search(&name).is_ok()
    }

    /// The ISA of the code at `address`, by the assembler's marks (and, of arm, a function's lowest bit); `None` where they say that
    /// data are there, or code that is not supported ([`Self::other_code_at`]).
    #[must_use]
    pub fn isa_at(&self, image: &Image<'_>, address: FileAddress) -> Option<Isa> {
        let isa = image.isa().ok()?;
        match self.mark_at(address) {
            Some(Code::Data | Code::Compressed) => None,
            Some(Code::Thumb) if isa == Isa::Arm => Some(Isa::Thumb),
            _ => Some(isa),
        }
    }

    /// Code at `address` that is of none of the ISAs, by its name.
    #[must_use]
    pub fn other_code_at(&self, address: FileAddress) -> Option<&'static str> {
        (self.mark_at(address) == Some(Code::Compressed)).then_some("MIPS16 or microMIPS")
    }

    fn mark_at(&self, address: FileAddress) -> Option<Code> {
        let before = self.marks.partition_point(|(at, _)| *at <= address);
        before.checked_sub(1).and_then(|index| self.marks.get(index)).map(|(_, code)| *code)
    }

    /// How many entries had names that are no text, or lie outside the string table.
    #[must_use]
    pub fn unreadable(&self) -> usize {
        self.unreadable
    }

    fn add_symtab(&mut self, image: &Image<'a>) -> bool {
        let table = image.sections().iter().find(|section| section.kind == elf::SHT_SYMTAB);
        let Some(table) = table else { return false };
        let entries = table.bytes.unwrap_or(&[]);
        let strings = image.sections().get(table.link).and_then(|section| section.bytes).unwrap_or(&[]);
        let mut names = Names::new(strings);
        for raw in raw_symbols(image.format(), entries) {
            match names.get(raw.name) {
                Some(text) => {
                    let (name, version) = split_version(text);
                    self.add(image, &raw, name, version);
                }
                None => self.unreadable += 1,
            }
        }
        true
    }

    fn add_dynsym(&mut self, image: &Image<'a>) {
        let Some(dynamic) = image.dynamic() else { return };
        let versym = dynamic.versym.and_then(|address| image.tail(address)).unwrap_or(&[]);
        let mut versym = image.format().reader(versym);
        let verdef = dynamic.verdef.and_then(|address| image.tail(address)).unwrap_or(&[]);
        let versions: HashMap<u16, &str> =
            version_names(image.order(), verdef, image.strings()).into_iter().collect();
        let mut names = Names::new(image.strings());
        for raw in dynamic_symbols(image) {
            // Bit 15 hides a version from programs linked today; 0 is local, 1 the file itself.
            let version = versym.u16().and_then(|index| {
                let name = versions.get(&(index & 0x7fff))?;
                (index & 0x7fff > 1).then_some(Version { name, default: index & 0x8000 == 0 })
            });
            match names.get(raw.name) {
                Some(name) => self.add(image, &raw, name, version),
                None => self.unreadable += 1,
            }
            if raw.kind() == elf::STT_NOTYPE && raw.section != elf::SHN_UNDEF {
                self.exported.insert(FileAddress(raw.value));
            }
        }
    }

    fn add(&mut self, image: &Image<'a>, raw: &RawSymbol, name: &'a str, version: Option<Version<'a>>) {
        if name.is_empty() || matches!(raw.kind(), elf::STT_SECTION | elf::STT_FILE) {
            return;
        }
        if raw.section == elf::SHN_UNDEF {
            self.imports.push(name);
            return;
        }
        if let Some(code) = marks::code(image, name) {
            self.marks.push((FileAddress(raw.value), code));
            return;
        }
        let (address, marked) = marks::entry(image, raw.value, raw.other, raw.kind() == elf::STT_FUNC);
        self.marks.extend(marked.map(|code| (address, code)));
        let local_entry = marks::local_entry(image, raw.other);
        let Some(kind) = raw.meaning(name, image.is_code(address)) else { return };
        let binding = match raw.info >> 4 {
            elf::STB_LOCAL => Binding::Local,
            elf::STB_WEAK => Binding::Weak,
            _ => Binding::Global,
        };
        let size_guessed = raw.size == 0;
        self.list.push(Symbol {
            name,
            version,
            address,
            size: raw.size,
            size_guessed,
            kind,
            binding,
            local_entry,
        });
    }

    /// One symbol where both tables name the same thing.
    fn merge(&mut self) {
        self.list.dedup_by(|later, kept| {
            let versions = kept.version.is_none() || kept.version == later.version;
            let same = later.address == kept.address && later.name == kept.name && versions;
            if same {
                kept.version = kept.version.or(later.version);
                kept.size = kept.size.max(later.size);
                kept.size_guessed &= later.size_guessed;
                kept.binding = kept.binding.min(later.binding);
                if kept.kind == Kind::Label || kept.kind == Kind::Function && later.kind != Kind::Label {
                    kept.kind = later.kind; // an untyped label beside the same ifunc
                }
            }
            same
        });
    }

    fn guess_sizes(&mut self, image: &Image<'_>, frames: &[Frame]) {
        let sections = code_sections(image);
        let mut next_start = None;
        let mut current = None;
        let is_in_code =
            |symbol: &&mut Symbol<'a>| symbol.kind != Kind::Data || image.is_code(symbol.address);
        for symbol in self.list.iter_mut().rev().filter(is_in_code) {
            if current != Some(symbol.address) {
                next_start = current;
                current = Some(symbol.address);
            }
            if symbol.size == 0 && symbol.kind != Kind::Data {
                let end = frame_of(frames, symbol.address).map(|frame| frame.range.end);
                let end = end.or_else(|| natural_end(symbol.address, next_start, &sections));
                symbol.size = end.map_or(0, |end| end - symbol.address);
            }
        }
    }

    /// Makes functions of the labels that are.
    fn judge_labels(&mut self, image: &Image<'_>, frames: &[Frame]) {
        let mut labels: Vec<Range<FileAddress>> = self.labels().map(Symbol::range).collect();
        labels.dedup_by_key(|label| label.start);
        if labels.is_empty() {
            return;
        }
        let is_certain = labels::are_all_functions(image);
        let mut functions = functions::functions(image, frames, self);
        let mut found = self.surely_functions(image, &labels, &functions);
        if !is_certain {
            functions.extend(labels.iter().filter(|label| found.contains(&label.start)).cloned());
            labels.retain(|label| !found.contains(&label.start));
        }
        if !is_certain && !labels.is_empty() {
            found.extend(labels::reached(image, functions, &labels));
        }
        for symbol in self.list.iter_mut().filter(|symbol| symbol.kind == Kind::Label) {
            if is_certain || found.contains(&symbol.address) {
                symbol.kind = Kind::Function;
            }
        }
    }

    /// Labels within `functions` (sorted), and those that others call by name or pointer. (The C library's start-up code takes
    /// the address of `main`.)
    fn surely_functions(
        &self,
        image: &Image<'_>,
        labels: &[Range<FileAddress>],
        functions: &[Range<FileAddress>],
    ) -> HashSet<FileAddress> {
        let starts: Vec<FileAddress> = labels.iter().map(|label| label.start).collect();
        let mut found = labels::pointed_at(image, &starts);
        let named = self.labels().filter(|symbol| symbol.name == "main").map(|symbol| symbol.address);
        found.extend(named.chain(self.exported.iter().copied()));
        let mut functions = functions.iter().peekable();
        let mut furthest = FileAddress(0);
        for label in starts {
            while let Some(function) = functions.next_if(|function| function.start <= label) {
                furthest = furthest.max(function.end);
            }
            found.extend((label < furthest).then_some(label));
        }
        found
    }
}

/// Of aliases, the name to show: exported before local, the default version first, then the shortest name.
///
/// Weak is no worse than global: in libc the public names (`calloc`) are weak aliases of private ones (`__libc_calloc`).
pub fn preferred<'s, 'a: 's>(aliases: impl Iterator<Item = &'s Symbol<'a>>) -> Option<&'s Symbol<'a>> {
    aliases.min_by_key(|symbol| {
        let old_version = symbol.version.is_some_and(|version| !version.default);
        // A name with leading underscores is the implementation's own: people mean the other one.
        let private = symbol.name.starts_with("__");
        (
            !symbol.is_function(),
            symbol.binding == Binding::Local,
            old_version,
            private,
            symbol.name.len(),
            symbol.name,
        )
    })
}

/// Sorted ranges of executable sections, or segments where there are no sections.
fn code_sections(image: &Image<'_>) -> Vec<Range<FileAddress>> {
    let sections = image.sections().iter().filter(|section| section.has(elf::SHF_EXECINSTR));
    let mut ranges: Vec<_> = sections.map(|section| section.address.span(section.size)).collect();
    if ranges.is_empty() {
        ranges = image.code().iter().map(|(start, bytes)| start.span(bytes.len() as u64)).collect();
    }
    ranges.sort_by_key(|range| range.start);
    ranges
}

/// Up to the next function, but not past the end of the section.
fn natural_end(
    address: FileAddress,
    next_start: Option<FileAddress>,
    sections: &[Range<FileAddress>],
) -> Option<FileAddress> {
    let index = sections.partition_point(|range| range.start <= address).checked_sub(1)?;
    let section_end = sections.get(index).filter(|range| range.contains(&address))?.end;
    Some(next_start.map_or(section_end, |next| next.min(section_end)))
}

/// An entry of a symbol table (gABI, "Symbol Table").
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawSymbol {
    pub(crate) name: u32,
    info: u8,
    other: u8,
    pub(crate) section: u16,
    pub(crate) value: u64,
    size: u64,
}

impl RawSymbol {
    fn len(class: Class) -> usize {
        match class {
            Class::Elf32 => 16,
            Class::Elf64 => 24,
        }
    }

    fn read(format: Format, entry: &[u8]) -> Option<Self> {
        let mut reader = format.reader(entry);
        let name = reader.u32()?;
        // The classes have the same fields in two orders.
        let (value, size) = match format.class {
            Class::Elf32 => (u64::from(reader.u32()?), u64::from(reader.u32()?)),
            Class::Elf64 => (0, 0),
        };
        let (info, other, section) = (reader.u8()?, reader.u8()?, reader.u16()?);
        let (value, size) = match format.class {
            Class::Elf32 => (value, size),
            Class::Elf64 => (reader.u64()?, reader.u64()?),
        };
        Some(Self { name, info, other, section, value, size })
    }

    fn kind(&self) -> u8 {
        self.info & 0xf
    }

    /// What the entry means to us; `None` for what is neither code nor data, such as the marks of linkers and assemblers.
    fn meaning(&self, name: &str, in_code: bool) -> Option<Kind> {
        let mark = || name.starts_with('$') || name.starts_with(".L") || self.section == elf::SHN_ABS;
        match self.kind() {
            elf::STT_FUNC => Some(Kind::Function),
            elf::STT_GNU_IFUNC => Some(Kind::Ifunc),
            elf::STT_OBJECT | elf::STT_COMMON | elf::STT_TLS => Some(Kind::Data),
            elf::STT_NOTYPE if in_code && !mark() => Some(Kind::Label),
            _ => None,
        }
    }
}

fn raw_symbols(format: Format, entries: &[u8]) -> impl Iterator<Item = RawSymbol> {
    entries.chunks_exact(RawSymbol::len(format.class)).filter_map(move |entry| RawSymbol::read(format, entry))
}

/// The dynamic symbol table.
pub(crate) fn dynamic_symbols<'a>(image: &Image<'a>) -> impl Iterator<Item = RawSymbol> + use<'a> {
    raw_symbols(image.format(), dynamic_entries(image))
}

/// The dynamic symbol at an index of a relocation.
pub(crate) fn dynamic_symbol(format: Format, entries: &[u8], index: u32) -> Option<RawSymbol> {
    let len = RawSymbol::len(format.class);
    let start = usize::try_from(index).ok()?.checked_mul(len)?;
    RawSymbol::read(format, entries.get(start..start.checked_add(len)?)?)
}

/// The bytes of the dynamic symbol table. Its length stands in the section header only; without one, the hash tables tell it.
pub(crate) fn dynamic_entries<'a>(image: &Image<'a>) -> &'a [u8] {
    let section = image.sections().iter().find(|section| section.kind == elf::SHT_DYNSYM);
    if let Some(entries) = section.and_then(|section| section.bytes) {
        return entries;
    }
    let Some(dynamic) = image.dynamic() else { return &[] };
    let tail = |address: Option<FileAddress>| address.and_then(|address| image.tail(address)).unwrap_or(&[]);
    let count = symbol_count(image.format(), tail(dynamic.hash), tail(dynamic.gnu_hash)).unwrap_or(0);
    let entries = tail(dynamic.symbols);
    let len = usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(RawSymbol::len(image.class()));
    entries.get(..len.min(entries.len())).unwrap_or(&[])
}

/// `name@VERSION` and `name@@VERSION`, as static symbol tables spell versions.
fn split_version(text: &str) -> (&str, Option<Version<'_>>) {
    match text.split_once('@') {
        Some((name, rest)) if !name.is_empty() && !rest.is_empty() => {
            let default = rest.starts_with('@');
            (name, Some(Version { name: rest.trim_start_matches('@'), default }))
        }
        _ => (text, None),
    }
}

/// A string table with a budget, so that a million entries that name the tail of one huge string cost no more than a real table.
struct Names<'a> {
    strings: &'a [u8],
    budget: usize,
}

impl<'a> Names<'a> {
    fn new(strings: &'a [u8]) -> Self {
        // Linkers merge common tails, so the names together may be longer than the table: in practice by less than half.
        Self { strings, budget: strings.len().saturating_mul(8).saturating_add(1 << 20) }
    }

    fn get(&mut self, offset: u32) -> Option<&'a str> {
        let tail = self.strings.get(usize::try_from(offset).ok()?..)?;
        let within = tail.get(..tail.len().min(self.budget))?;
        let name = CStr::from_bytes_until_nul(within).ok();
        self.budget -= name.map_or(within.len(), CStr::count_bytes);
        name?.to_str().ok()
    }
}
