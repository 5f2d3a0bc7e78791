//! The dynamic section: what the loader reads, found through the program headers alone (ELF gABI, "Dynamic Section").
//!
//! It is used in place of the section headers wherever both say the same, because it is also there in a stripped file and in
//! a module's memory.

use insn::isa::Order;
use object::elf;

use crate::address::FileAddress;
use crate::headers::{Class, Format};
use crate::reader::{Reader, string_at};

/// An address and a size in bytes.
pub(crate) type Table = Option<(FileAddress, u64)>;

/// The entries xol asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dynamic {
    /// `DT_NEEDED`, as offsets into the string table.
    pub(crate) needed: Vec<u64>,
    pub(crate) soname: Option<u64>,
    pub(crate) strings: Table,
    pub(crate) symbols: Option<FileAddress>,
    pub(crate) hash: Option<FileAddress>,
    pub(crate) gnu_hash: Option<FileAddress>,
    pub(crate) versym: Option<FileAddress>,
    pub(crate) verdef: Option<FileAddress>,
    /// `DT_RELA`, or `DT_REL` where the file's class uses that (psABIs: x86-64 has the former only, i386 the latter).
    pub(crate) relocations: Table,
    /// `DT_JMPREL`, of the same kind.
    pub(crate) jump_relocations: Table,
    pub(crate) relr: Table,
    /// `DT_PLTGOT`.
    pub(crate) got: Option<FileAddress>,
    pub(crate) init: Option<FileAddress>,
    pub(crate) fini: Option<FileAddress>,
    /// `DT_PREINIT_ARRAY`, `DT_INIT_ARRAY`, `DT_FINI_ARRAY`.
    pub(crate) arrays: Vec<(FileAddress, u64)>,
    /// `DF_1_PIE` in `DT_FLAGS_1`.
    pub(crate) pie: bool,
}

/// A file may name more libraries than this only to waste our time.
const MAX_NEEDED: usize = 4096;

impl Dynamic {
    /// Reads tag/value pairs up to `DT_NULL` or the end of `bytes`.
    pub(crate) fn parse(format: Format, bytes: &[u8]) -> Self {
        let word = format.word();
        let mut found = Self::default();
        let mut values = Values::default();
        let mut reader = format.reader(bytes);
        while let (Some(tag), Some(value)) = (reader.word(word), reader.word(word)) {
            // No tag that is asked for is negative.
            let tag = tag.cast_signed();
            if tag == elf::DT_NULL {
                break;
            }
            found.entry(tag, value, &mut values);
        }
        found.strings = values.table(elf::DT_STRTAB, elf::DT_STRSZ);
        found.relocations = match format.class {
            Class::Elf32 => values.table(elf::DT_REL, elf::DT_RELSZ),
            Class::Elf64 => values.table(elf::DT_RELA, elf::DT_RELASZ),
        };
        found.jump_relocations = values.table(elf::DT_JMPREL, elf::DT_PLTRELSZ);
        found.relr = values.table(elf::DT_RELR, elf::DT_RELRSZ);
        found.arrays = [
            values.table(elf::DT_PREINIT_ARRAY, elf::DT_PREINIT_ARRAYSZ),
            values.table(elf::DT_INIT_ARRAY, elf::DT_INIT_ARRAYSZ),
            values.table(elf::DT_FINI_ARRAY, elf::DT_FINI_ARRAYSZ),
        ]
        .into_iter()
        .flatten()
        .collect();
        found
    }

    /// Hands out every address, for those that hold run-time ones.
    pub(crate) fn for_each_address(&mut self, mut change: impl FnMut(&mut FileAddress)) {
        let tables = [&mut self.strings, &mut self.relocations, &mut self.jump_relocations, &mut self.relr];
        let tables = tables.into_iter().flatten().map(|(address, _)| address);
        let plain = [
            &mut self.symbols,
            &mut self.hash,
            &mut self.gnu_hash,
            &mut self.versym,
            &mut self.verdef,
            &mut self.got,
            &mut self.init,
            &mut self.fini,
        ];
        let arrays = self.arrays.iter_mut().map(|(address, _)| address);
        tables.chain(plain.into_iter().flatten()).chain(arrays).for_each(&mut change);
    }

    fn entry(&mut self, tag: i64, value: u64, values: &mut Values) {
        let address = Some(FileAddress(value));
        match tag {
            elf::DT_NEEDED if self.needed.len() < MAX_NEEDED => self.needed.push(value),
            elf::DT_SONAME => self.soname = Some(value),
            elf::DT_SYMTAB => self.symbols = address,
            elf::DT_HASH => self.hash = address,
            elf::DT_GNU_HASH => self.gnu_hash = address,
            elf::DT_VERSYM => self.versym = address,
            elf::DT_VERDEF => self.verdef = address,
            elf::DT_PLTGOT => self.got = address,
            elf::DT_INIT => self.init = address,
            elf::DT_FINI => self.fini = address,
            elf::DT_FLAGS_1 => self.pie = value & u64::from(elf::DF_1_PIE) != 0,
            _ => values.keep(tag, value),
        }
    }
}

/// The values whose meaning needs a second entry.
#[derive(Default)]
struct Values(Vec<(i64, u64)>);

impl Values {
    const WANTED: [i64; 16] = [
        elf::DT_STRTAB,
        elf::DT_STRSZ,
        elf::DT_RELA,
        elf::DT_RELASZ,
        elf::DT_REL,
        elf::DT_RELSZ,
        elf::DT_JMPREL,
        elf::DT_PLTRELSZ,
        elf::DT_RELR,
        elf::DT_RELRSZ,
        elf::DT_PREINIT_ARRAY,
        elf::DT_PREINIT_ARRAYSZ,
        elf::DT_INIT_ARRAY,
        elf::DT_INIT_ARRAYSZ,
        elf::DT_FINI_ARRAY,
        elf::DT_FINI_ARRAYSZ,
    ];

    fn keep(&mut self, tag: i64, value: u64) {
        if Self::WANTED.contains(&tag) && self.get(tag).is_none() {
            self.0.push((tag, value));
        }
    }

    fn get(&self, tag: i64) -> Option<u64> {
        self.0.iter().find(|(known, _)| *known == tag).map(|(_, value)| *value)
    }

    fn table(&self, address: i64, size: i64) -> Table {
        Some((FileAddress(self.get(address)?), self.get(size)?))
    }
}

/// Names of the versions that a file defines, by version index (`DT_VERDEF`; gABI supplement "Symbol Versioning").
pub(crate) fn version_names<'a>(order: Order, verdef: &'a [u8], strings: &'a [u8]) -> Vec<(u16, &'a str)> {
    const MOST: usize = 0x7fff; // the index has 15 bits
    let mut names = Vec::new();
    let mut at = 0u64;
    for _ in 0..MOST {
        let Some((index, name, next)) = version_definition(order, verdef, strings, at) else { break };
        names.extend(name.map(|name| (index, name)));
        if next == 0 {
            break;
        }
        at = at.saturating_add(next);
    }
    names
}

/// The definition at `at`: its index, its name, and how far the next one is.
fn version_definition<'a>(
    order: Order,
    verdef: &'a [u8],
    strings: &'a [u8],
    at: u64,
) -> Option<(u16, Option<&'a str>, u64)> {
    let mut reader = Reader::starting_at(verdef, at)?.in_order(order);
    let (_version, _flags, index, _count) = (reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?);
    let (_hash, aux, next) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let mut first = Reader::starting_at(verdef, at.saturating_add(u64::from(aux)))?.in_order(order);
    let name = string_at(strings, u64::from(first.u32()?));
    Some((index, name, u64::from(next)))
}
