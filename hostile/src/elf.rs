//! Bytes taken for an executable, or for a table of one.

use insn::Address;
use symbols::frames::{frame_of, frames};
use symbols::functions::Outline;
use symbols::glob::Glob;
use symbols::relocations::{ifunc_slots, import_slots};
use symbols::resolve::resolve;
use symbols::{Bias, FileAddress, Image, NamePattern, Symbols, go, loader};

/// A file, or a module gathered from memory: everything that can be asked of it.
pub fn image(bytes: &[u8]) {
    if let Ok(image) = Image::parse(bytes) {
        ask_everything(&image);
    }
    if let Ok(image) = Image::parse_loaded(bytes, Bias(0x7000_0000_0000)) {
        ask_everything(&image);
    }
}

fn ask_everything(image: &Image<'_>) {
    let _ = (image.isa(), image.linkage(), image.interpreter(), image.soname(), image.needed());
    let _ = (image.build_id(), image.control_flow_protection(), image.is_go(), image.rodata());
    let frames = frames(image);
    let symbols = Symbols::read(image, &frames);
    let outline = Outline::read(image, &frames, &symbols);
    let in_code =
        |range: &std::ops::Range<FileAddress>| image.is_code(range.start) && range.start < range.end;
    assert!(outline.functions.iter().all(in_code));
    let mut pointed_at = outline.pointed_at.iter().chain(&outline.may_point_at);
    assert!(pointed_at.all(|address| image.is_code(*address)));
    let _ = (go::functions(image), loader::loader_break(&symbols));
    let _ = (ifunc_slots(image, image.entry()), import_slots(image, "malloc"));
    let _ = (image.bias_of(Address(0x1000), 0, true), frame_of(&frames, image.entry()));
    for name in [
        NamePattern::Symbol("_dl_debug_state".to_owned()),
        NamePattern::Glob(Glob::new("*open*")),
        NamePattern::Address(image.entry()),
        NamePattern::Offset { symbol: "_start".to_owned(), offset: 3 },
        NamePattern::Instructions,
    ] {
        let _ = resolve(image, &symbols, &name);
    }
}

/// The `.eh_frame` of a small program.
pub fn unwind_table(bytes: &[u8]) {
    image(&program(".eh_frame", bytes));
}

/// The `.gopclntab` of a small program.
pub fn go_table(bytes: &[u8]) {
    let file = program(".gopclntab", bytes);
    let image = Image::parse(&file).expect("a well-formed file");
    let functions = go::functions(&image);
    assert!(functions.iter().all(|function| function.range.start < function.range.end));
    ask_everything(&image);
}

const TEXT: u64 = 0x40_1000;
const TEXT_LEN: u64 = 0x1000;
const HEADER_LEN: u64 = 64;
const SEGMENT_LEN: u64 = 56;

/// An executable with a page of code and one section of the given contents.
fn program(name: &str, contents: &[u8]) -> Vec<u8> {
    let names = ["", ".text", name, ".shstrtab"];
    let strings: Vec<u8> = names.iter().flat_map(|name| [name.as_bytes(), &[0]].concat()).collect();
    let name_at = |index: usize| names[..index].iter().map(|name| name.len() as u64 + 1).sum::<u64>();
    let text_at = (HEADER_LEN + SEGMENT_LEN).next_multiple_of(0x1000);
    let contents_at = text_at + TEXT_LEN;
    let strings_at = contents_at + contents.len() as u64;
    let sections_at = (strings_at + strings.len() as u64).next_multiple_of(8);
    let mut file = Vec::new();
    // Elf64_Ehdr: ELFCLASS64, ELFDATA2LSB, EV_CURRENT; ET_EXEC, EM_X86_64.
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 62, 0, 1, 0, 0, 0]);
    [TEXT, HEADER_LEN, sections_at].iter().for_each(|word| file.extend(word.to_le_bytes()));
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 4, 0, 3, 0]);
    // Elf64_Phdr: PT_LOAD, readable and executable.
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    let loaded = TEXT_LEN + contents.len() as u64;
    [text_at, TEXT, TEXT, loaded, loaded, 0x1000].iter().for_each(|word| file.extend(word.to_le_bytes()));
    file.resize(usize::try_from(text_at).unwrap_or(0), 0);
    file.extend([0x90; 0x1000]);
    file.extend(contents);
    file.extend(&strings);
    file.resize(usize::try_from(sections_at + 64).unwrap_or(0), 0); // the first section is none
    let mut section = |index: usize, kind: u32, flags: u64, address: u64, at: u64, len: u64| {
        file.extend(u32::try_from(name_at(index)).unwrap_or(0).to_le_bytes());
        file.extend(kind.to_le_bytes());
        [flags, address, at, len, 0, 1, 0].iter().for_each(|word| file.extend(word.to_le_bytes()));
    };
    let (progbits, strtab, alloc, alloc_exec) = (1, 3, 2, 6);
    section(1, progbits, alloc_exec, TEXT, text_at, TEXT_LEN);
    section(2, progbits, alloc, TEXT + TEXT_LEN, contents_at, contents.len() as u64);
    section(3, strtab, 0, 0, strings_at, strings.len() as u64);
    file
}

/// Small real files: the loader, which has every table but DT_NEEDED; else a made one.
pub(crate) fn images() -> Vec<Vec<u8>> {
    let loader = std::fs::read("/lib64/ld-linux-x86-64.so.2");
    vec![loader.unwrap_or_else(|_| program(".eh_frame", &unwind_tables()[0]))]
}

/// One CIE with a personality and language-specific data, and two FDEs.
pub(crate) fn unwind_tables() -> Vec<Vec<u8>> {
    let common: Vec<u8> = [
        &24_u32.to_le_bytes()[..],
        &[0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let frame = |back: u32, start: i32, len: u32| {
        [&20_u32.to_le_bytes()[..], &back.to_le_bytes(), &start.to_le_bytes(), &len.to_le_bytes(), &[0; 8]]
            .concat()
    };
    let table = [&common[..], &frame(32, -0x1000, 64), &frame(56, -0xf00, 32), &[0; 4]].concat();
    vec![table]
}

/// Two functions.
pub(crate) fn go_tables() -> Vec<Vec<u8>> {
    let names = b"main.work\0main.main\0\0\0\0\0";
    let (header, entries_len) = (72_u64, 20_u64);
    let names_at = header;
    let entries_at = names_at + names.len() as u64;
    let mut table = vec![0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8];
    let words = [2, 1, TEXT, names_at, entries_at, entries_at, entries_at, entries_at];
    words.iter().for_each(|word: &u64| table.extend(word.to_le_bytes()));
    table.extend(names);
    let first = u32::try_from(entries_len).unwrap_or(0);
    [0, first, 0x40, first + 8, 0x90].iter().for_each(|word: &u32| table.extend(word.to_le_bytes()));
    [0, 0, 0x40, 10].iter().for_each(|word: &u32| table.extend(word.to_le_bytes()));
    vec![table]
}

#[cfg(test)]
mod tests {
    use super::{Image, frames, go, go_tables, images, program, unwind_tables};

    /// What mutations begin with is read, or they would reach nothing.
    #[test]
    fn seeds_are_read() {
        let file = program(".gopclntab", &go_tables()[0]);
        let image = Image::parse(&file).unwrap();
        let names: Vec<_> = go::functions(&image).iter().map(|function| function.name).collect();
        assert_eq!(names, ["main.work", "main.main"]);
        let file = program(".eh_frame", &unwind_tables()[0]);
        assert_eq!(frames(&Image::parse(&file).unwrap()).len(), 2);
        assert!(images().iter().all(|file| Image::parse(file).is_ok()));
    }
}
