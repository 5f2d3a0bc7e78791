//! Go's own table of functions (`.gopclntab`): it stays in programs stripped of symbols, because the runtime needs it.
//!
//! Layout: runtime/symtab.go, `pcHeader` and `functab`, of Go 1.18 and later (offsets of 32 bits from the start of text).

use std::ops::Range;

use crate::address::FileAddress;
use crate::elf::Image;
use crate::reader::{Reader, string_at};
use crate::relocations::{Kind as Relocated, relocations};
use crate::symbols::{Binding, Kind, Symbol};

/// The table's magic numbers: Go 1.18 and Go 1.20.
const MAGIC: [u32; 2] = [0xffff_fff0, 0xffff_fff1];
/// Bytes of the header before its words, the third of which is the address of text.
const WORDS: u64 = 8;

/// A function of a Go program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoFunction<'a> {
    /// Its import path and name, such as `main.work`.
    pub name: &'a str,
    /// Its code, to the start of the next function.
    pub range: Range<FileAddress>,
}

/// All functions of the table; none for other programs or a layout that is not known.
#[must_use]
pub fn functions<'a>(image: &Image<'a>) -> Vec<GoFunction<'a>> {
    let sections = [".gopclntab", ".data.rel.ro.gopclntab"];
    let Some((address, table)) = sections.iter().find_map(|name| image.section(name)) else {
        return Vec::new();
    };
    read(image, address, table).unwrap_or_default()
}

/// The functions as symbols.
pub(crate) fn symbols<'a>(image: &Image<'a>) -> impl Iterator<Item = Symbol<'a>> {
    functions(image).into_iter().map(|function| Symbol {
        name: function.name,
        version: None,
        address: function.range.start,
        size: function.range.end - function.range.start,
        size_guessed: false,
        kind: Kind::Function,
        binding: Binding::Local,
        local_entry: 0,
    })
}

fn read<'a>(image: &Image<'a>, address: FileAddress, table: &'a [u8]) -> Option<Vec<GoFunction<'a>>> {
    let mut header = Reader::new(table);
    let magic = header.u32()?;
    header.take(3)?; // padding, and the unit of code addresses
    let len = image.class().word();
    if !MAGIC.contains(&magic) || usize::from(header.u8()?) != len {
        return None;
    }
    let mut word = || header.word(len);
    let count = usize::try_from(word()?).ok()?;
    let (_files, text) = (word()?, word()?);
    let names = tail(table, word()?)?;
    let (_units, _file_names, _counters) = (word()?, word()?, word()?);
    let entries = tail(table, word()?)?;
    let text = text_start(image, address, text)?;
    // `count` pairs of (code offset, function record's offset), then the end of the last function.
    let mut reader = Reader::new(entries);
    let mut start = reader.u32()?;
    let mut functions = Vec::with_capacity(count.min(entries.len() / 8));
    for _ in 0..count {
        let record = reader.u32()?;
        let end = reader.u32()?;
        let range = text + u64::from(start)..text + u64::from(end);
        start = end;
        let name = name_of(entries, names, record);
        functions.extend(name.filter(|_| range.start < range.end).map(|name| GoFunction { name, range }));
    }
    Some(functions)
}

fn tail(table: &[u8], offset: u64) -> Option<&[u8]> {
    table.get(usize::try_from(offset).ok()?..)
}

/// A function record begins with its code offset and its name's offset.
fn name_of<'a>(entries: &'a [u8], names: &'a [u8], record: u32) -> Option<&'a str> {
    const LONGEST: usize = 16 << 10;
    let mut record = Reader::starting_at(entries, u64::from(record))?;
    let (_code, name) = (record.u32()?, record.u32()?);
    let at = tail(names, u64::from(name))?;
    string_at(at.get(..LONGEST.min(at.len()))?, 0)
}

/// The header's address of text; in a position-independent program a relocation gives it, and newer Go leaves it out.
fn text_start(image: &Image<'_>, table: FileAddress, stated: u64) -> Option<FileAddress> {
    if image.is_code(FileAddress(stated)) && stated != 0 {
        return Some(FileAddress(stated));
    }
    let place = table + (WORDS + 2 * image.class().word() as u64);
    let relocated = relocations(image).find(|r| r.address == place && r.kind == Relocated::Relative);
    let relocated = relocated.map(|r| FileAddress(r.addend));
    relocated.or_else(|| image.section(".text").map(|(text, _)| text))
}
