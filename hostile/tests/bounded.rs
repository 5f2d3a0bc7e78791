//! Bounded runs of every target on damaged inputs: nothing panics and nothing takes long.

use hostile::{TARGETS, Target};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use symbols::Image;
use symbols::elf::ElfError;

/// One way to damage an input.
#[derive(Clone, Debug)]
enum Damage {
    Byte(Index, u8),
    /// A number where it hurts: at a multiple of its length.
    Word(Index, u64),
    Half(Index, u32),
    Cut(Index),
    Remove(Index, usize),
    Repeat(Index, usize),
    Insert(Index, Vec<u8>),
}

/// Numbers that break arithmetic, among others.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0u64..0x40_0000,
        prop::sample::select(vec![0, 1, u64::MAX, u64::MAX - 7, 1 << 63, 1 << 32, 0xffff_ffff, 0x7fff_ffff]),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        3 => (any::<Index>(), word()).prop_map(|(at, word)| Damage::Word(at, word)),
        2 => (any::<Index>(), any::<u32>()).prop_map(|(at, half)| Damage::Half(at, half)),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => (any::<Index>(), 1_usize..40).prop_map(|(at, len)| Damage::Remove(at, len)),
        1 => (any::<Index>(), 1_usize..40).prop_map(|(at, len)| Damage::Repeat(at, len)),
        2 => (any::<Index>(), vec(any::<u8>(), 1..24)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: Damage) {
    let at = |index: Index, bytes: &Vec<u8>| index.index(bytes.len() + 1);
    let put = |bytes: &mut Vec<u8>, at: usize, new: &[u8]| {
        let at = at - at % new.len();
        bytes.iter_mut().skip(at).zip(new).for_each(|(old, new)| *old = *new);
    };
    match damage {
        Damage::Byte(index, byte) => put(bytes, at(index, bytes), &[byte]),
        Damage::Word(index, word) => put(bytes, at(index, bytes), &word.to_le_bytes()),
        Damage::Half(index, half) => put(bytes, at(index, bytes), &half.to_le_bytes()),
        Damage::Cut(index) => bytes.truncate(at(index, bytes)),
        Damage::Remove(index, len) => {
            let start = at(index, bytes);
            bytes.drain(start..(start + len).min(bytes.len()));
        }
        Damage::Repeat(index, len) => {
            let start = at(index, bytes);
            let again = bytes[start..(start + len).min(bytes.len())].to_vec();
            bytes.splice(start..start, again);
        }
        Damage::Insert(index, new) => {
            let start = at(index, bytes);
            bytes.splice(start..start, new);
        }
    }
}

/// The target on damaged seeds, and on bytes made of nothing.
fn attack(name: &str, cases: u32) {
    let target: &Target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty());
    seeds.iter().for_each(|seed| (target.body)(seed));
    (target.body)(&[]);
    let damaged = (any::<Index>(), vec(damage(), 1..12)).prop_map(move |(seed, damages)| {
        let mut bytes = seed.get(&seeds).clone();
        damages.into_iter().for_each(|damage| apply(&mut bytes, damage));
        bytes
    });
    let bytes = prop_oneof![8 => damaged, 1 => vec(any::<u8>(), 0..300)];
    proptest!(ProptestConfig { cases, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() },
        |(bytes in bytes)| (target.body)(&bytes));
}

#[test]
fn image() {
    attack("image", 40);
}

#[test]
fn unwind_table() {
    attack("unwind_table", 3000);
}

#[test]
fn go_table() {
    attack("go_table", 3000);
}

#[test]
fn maps() {
    attack("maps", 3000);
}

#[test]
fn ld_cache() {
    attack("ld_cache", 3000);
}

#[test]
fn spec() {
    attack("spec", 5000);
}

#[test]
fn process() {
    attack("process", 3000);
}

#[test]
fn analysis() {
    attack("analysis", 200);
}

#[test]
fn relocation() {
    attack("relocation", 300);
}

#[test]
fn ring() {
    attack("ring", 3000);
}

#[test]
fn loader_list() {
    attack("loader_list", 3000);
}

#[test]
fn description() {
    attack("description", 3000);
}

#[test]
fn messages() {
    attack("messages", 3000);
}

#[test]
fn remote() {
    attack("remote", 1000);
}

/// Every target has a fuzz target of its name, and no other is there.
#[test]
fn every_target_is_fuzzed() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
    let files = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<String> =
        files.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    files.sort();
    let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    names.sort_unstable();
    assert_eq!(files, names);
    let manifest = std::fs::read_to_string(folder.join("../Cargo.toml")).unwrap();
    assert!(names.iter().all(|name| manifest.contains(&format!("name = \"{name}\""))));
}

/// A small real file: the loader, which has every table but DT_NEEDED; else a made one.
fn real() -> Vec<u8> {
    let target = TARGETS.iter().find(|target| target.name == "image").unwrap();
    (target.seeds)().remove(0)
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
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Words changed where they hurt: file header, program headers, section headers, dynamic section.
    #[test]
    fn damaged_tables_never_panic(damage in vec((0usize..16, any::<u16>(), word()), 1..6)) {
        let mut bytes = real();
        let tables = tables(&bytes);
        for (table, at, value) in damage {
            let range = &tables[table % tables.len()];
            let at = range.start + usize::from(at) % (range.end - range.start);
            let at = (at & !7).min(bytes.len() - 8);
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        hostile::image(&bytes);
    }
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
