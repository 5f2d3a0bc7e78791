//! Damaged files: whatever is read from them, nothing panics and nothing takes long.

use std::sync::OnceLock;

use proptest::prelude::*;
use symbols::elf::ElfError;
use symbols::frames::frames;
use symbols::functions::Outline;
use symbols::glob::Glob;
use symbols::relocations::{ifunc_slots, import_slots};
use symbols::resolve::resolve;
use symbols::{Bias, FileAddress, Image, NamePattern, Symbols, go, loader};

/// A small real file: the loader, which has every table but DT_NEEDED; else a part of this program.
fn real() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let loader = std::fs::read("/lib64/ld-linux-x86-64.so.2");
        loader.unwrap_or_else(|_| {
            let mut own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
            own.truncate(1 << 20);
            own
        })
    })
}

/// Everything that can be asked of an image.
fn ask_everything(image: &Image<'_>) {
    let _ = (image.isa(), image.linkage(), image.interpreter(), image.soname(), image.needed());
    let _ = (image.build_id(), image.control_flow_protection(), image.is_go(), image.rodata());
    let frames = frames(image);
    let symbols = Symbols::read(image, &frames);
    let outline = Outline::read(image, &frames, &symbols);
    let in_code =
        |range: &std::ops::Range<FileAddress>| image.is_code(range.start) && range.start < range.end;
    assert!(outline.functions.iter().all(in_code));
    assert!(outline.pointed_at.iter().all(|address| image.is_code(*address)));
    let _ = (go::functions(image), loader::loader_break(&symbols));
    let _ = (ifunc_slots(image, image.entry()), import_slots(image, "malloc"));
    let _ = image.bias_of(insn::Address(0x1000), 0, true);
    for name in [
        NamePattern::Symbol("_dl_debug_state".to_owned()),
        NamePattern::Glob(Glob::new("*open*")),
        NamePattern::Address(image.entry()),
        NamePattern::Offset { symbol: "_start".to_owned(), offset: 3 },
    ] {
        let _ = resolve(image, &symbols, &name);
    }
}

fn survive(bytes: &[u8]) {
    if let Ok(image) = Image::parse(bytes) {
        ask_everything(&image);
    }
    if let Ok(image) = Image::parse_loaded(bytes, Bias(0x7000_0000_0000)) {
        ask_everything(&image);
    }
}

#[test]
fn the_undamaged_file_is_read() {
    let image = Image::parse(real()).unwrap();
    ask_everything(&image);
}

#[test]
fn what_is_no_elf_file_says_so() {
    assert_eq!(Image::parse(b"").unwrap_err(), ElfError::NotElf);
    assert_eq!(Image::parse(b"#!/bin/sh\n").unwrap_err(), ElfError::NotElf);
    assert!(matches!(Image::parse(b"\x7fELF").unwrap_err(), ElfError::Truncated { .. }));
}

#[test]
fn a_file_cut_short_says_so() {
    let bytes = real();
    for len in [16, 63, 64, 100, 0x1000, bytes.len() / 2, bytes.len() - 1] {
        let cut = Image::parse(&bytes[..len]);
        assert!(matches!(cut, Err(ElfError::Truncated { .. })), "{len}: {cut:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn truncated_files_never_panic(len in 0usize..300_000) {
        let bytes = real();
        survive(&bytes[..len.min(bytes.len())]);
    }

    /// Bytes changed anywhere.
    #[test]
    fn damaged_files_never_panic(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..200)) {
        let mut bytes = real().to_vec();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        survive(&bytes);
    }

    /// Words changed where they hurt: file header, program headers, section headers, dynamic section.
    #[test]
    fn damaged_tables_never_panic(damage in prop::collection::vec((0usize..16, any::<u16>(), word()), 1..6)) {
        let mut bytes = real().to_vec();
        let tables = tables(&bytes);
        for (table, at, value) in damage {
            let range = &tables[table % tables.len()];
            let at = range.start + usize::from(at) % (range.end - range.start);
            let at = (at & !7).min(bytes.len() - 8);
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        survive(&bytes);
    }
}

/// Numbers that break arithmetic, among others.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0u64..0x40_0000,
        prop::sample::select(vec![0, 1, u64::MAX, u64::MAX - 7, 1 << 63, 1 << 32, 0xffff_ffff]),
    ]
}

fn tables(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let word =
        |at: usize| usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap();
    let (segments, sections) = (word(32), word(40).min(bytes.len() - 64));
    let image = Image::parse(bytes).unwrap();
    let mut tables = vec![0..64, segments..segments + 56 * 12, sections..bytes.len()];
    for name in
        [".dynamic", ".gnu.hash", ".gnu.version_d", ".dynsym", ".eh_frame", ".eh_frame_hdr", ".rela.dyn"]
    {
        let Some((_, table)) = image.section(name).filter(|(_, table)| !table.is_empty()) else { continue };
        let start = table.as_ptr() as usize - bytes.as_ptr() as usize;
        tables.push(start..start + table.len());
    }
    tables
}
