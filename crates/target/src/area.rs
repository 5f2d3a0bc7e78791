//! The area's description of itself: what a later xol needs to recognise it and to restore the text.
//!
//! A mapping of its own holds a header and a table of the patches that are (or were about to be) in the text. It is written
//! before the text is patched and shortened after it is restored, so a tracer that dies between leaves a table that
//! names too much, never too little: an entry counts only where the live bytes are exactly its patch.
//!
//! Layout, little-endian words of 8 bytes: magic, version and word size, owner pid, owner start time, own length in bytes,
//! entries, state address, state length, offset of the table in bytes, mappings. An entry has 7 words: address, original bytes
//! (two words), patched bytes (two words), stub, length. Behind the entries stand the mappings of the area: address and length. There is room for two tables: a new one is written beside the one in use, and the header,
//! which then names it, in one write within one page. So a tracer that dies in the middle leaves one or the other.

use std::collections::BTreeMap;

use insn::Address;
use insn::place::AREA_LEN;
use insn::plan::MAX_OVERWRITTEN;
use serde::{Deserialize, Serialize};
use symbols::maps::Mapping;

/// First word of every description.
const MAGIC: u64 = u64::from_le_bytes(*b"xol area");
/// Changes whenever the meaning of a word does.
const VERSION: u32 = 3;
/// Words in use, and some to spare.
const HEADER_WORDS: usize = 16;
const ENTRY_WORDS: usize = 7;
const MAPPING_WORDS: usize = 2;
/// For the mappings that are no patch's: description, state, routines.
const SPARE_MAPPINGS: usize = 64;
/// How the area is called in /proc/PID/maps.
pub const NAME: &str = "/memfd:xol";

/// One change of the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// First byte changed.
    pub start: Address,
    /// What was there (at most 16 bytes).
    pub original: Vec<u8>,
    /// What we wrote: as many bytes.
    pub patched: Vec<u8>,
    /// The stub it leads to.
    pub stub: Address,
}

impl Entry {
    /// Most bytes of one: two words of the description hold them.
    pub(crate) const MAX_LEN: u64 = MAX_OVERWRITTEN;
}

/// Who made the area, and what it changed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Description {
    /// Process that was the tracer.
    pub owner: i32,
    /// Its start time (field 22 of /proc/PID/stat), so that a reused number is not taken for it.
    pub owner_start: u64,
    /// Bytes of a pointer in the target.
    pub word: u32,
    /// Length of the description's mapping.
    pub len: u64,
    /// Where the shared state is mapped.
    pub state: Address,
    /// Its length.
    pub state_len: u64,
    /// Patches.
    pub entries: Vec<Entry>,
    /// The mappings of the area: start and length. Those beyond the room for one a patch are left out.
    pub mapped: Vec<(Address, u64)>,
}

fn pack(bytes: &[u8]) -> [u64; 2] {
    let mut all = [0; 16];
    let len = bytes.len().min(all.len());
    all[..len].copy_from_slice(&bytes[..len]);
    let (words, _) = all.as_chunks::<8>();
    [u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1])]
}

fn unpack(words: [u64; 2], len: usize) -> Vec<u8> {
    words.into_iter().flat_map(u64::to_le_bytes).take(len).collect()
}

impl Description {
    /// How many entries fit each table of a mapping of `len` bytes, with as many mappings.
    #[must_use]
    pub fn capacity(len: u64) -> usize {
        Self::table_words(len).saturating_sub(MAPPING_WORDS * SPARE_MAPPINGS) / (ENTRY_WORDS + MAPPING_WORDS)
    }

    fn table_words(len: u64) -> usize {
        (usize::try_from(len).unwrap_or(0) / 8).saturating_sub(HEADER_WORDS) / 2
    }

    /// Where the two tables of a mapping of `len` bytes begin.
    #[must_use]
    pub fn tables(len: u64) -> [u64; 2] {
        let first = 8 * HEADER_WORDS;
        [first as u64, (first + 8 * Self::table_words(len)) as u64]
    }

    /// The length of mapping that holds `entries` with room to grow, a multiple of the area's mapping size.
    #[must_use]
    pub fn len_for(entries: usize) -> u64 {
        let entries = (2 * entries).max(512);
        let table = entries * (ENTRY_WORDS + MAPPING_WORDS) + MAPPING_WORDS * SPARE_MAPPINGS;
        (8 * (HEADER_WORDS + 2 * table) as u64).next_multiple_of(AREA_LEN)
    }

    fn listed(&self) -> &[(Address, u64)] {
        let room =
            Self::table_words(self.len).saturating_sub(ENTRY_WORDS * self.entries.len()) / MAPPING_WORDS;
        self.mapped.get(..room).unwrap_or(&self.mapped)
    }

    /// The bytes of the header, whose table is at offset `table`.
    #[must_use]
    pub fn encode_header(&self, table: u64) -> Vec<u8> {
        let words = [
            MAGIC,
            u64::from(VERSION) | u64::from(self.word) << 32,
            u64::from(self.owner.cast_unsigned()),
            self.owner_start,
            self.len,
            self.entries.len() as u64,
            self.state.0,
            self.state_len,
            table,
            self.listed().len() as u64,
        ];
        words.into_iter().flat_map(u64::to_le_bytes).collect()
    }

    /// The bytes of the table.
    #[must_use]
    pub fn encode_table(&self) -> Vec<u8> {
        let words = |entry: &Entry| {
            let ([before, more], [after, rest]) = (pack(&entry.original), pack(&entry.patched));
            [entry.start.0, before, more, after, rest, entry.stub.0, entry.patched.len() as u64]
        };
        let mappings = self.listed().iter().flat_map(|(start, len)| [start.0, *len]);
        self.entries.iter().flat_map(words).chain(mappings).flat_map(u64::to_le_bytes).collect()
    }

    /// Reads a description found in foreign memory; `None` if it is none of ours, or makes no sense.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let word = |index: usize| {
            let at = index.checked_mul(8)?;
            bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
        };
        if word(0)? != MAGIC || word(1)? & 0xffff_ffff != u64::from(VERSION) {
            return None;
        }
        let count = usize::try_from(word(5)?).ok()?;
        let table = usize::try_from(word(8)?).ok()?;
        let mappings = usize::try_from(word(9)?).ok()?;
        let room = bytes.len().saturating_sub(table) / 8;
        if !table.is_multiple_of(8) || count > room / ENTRY_WORDS || mappings > room / MAPPING_WORDS {
            return None;
        }
        let entries = (0..count)
            .map(|index| {
                let base = table / 8 + ENTRY_WORDS * index;
                let len = word(base + 6).filter(|len| (1..=Entry::MAX_LEN).contains(len))?;
                let len = usize::try_from(len).ok()?;
                Some(Entry {
                    start: Address(word(base)?),
                    original: unpack([word(base + 1)?, word(base + 2)?], len),
                    patched: unpack([word(base + 3)?, word(base + 4)?], len),
                    stub: Address(word(base + 5)?),
                })
            })
            .collect::<Option<Vec<_>>>()?;
        let mapping = |index: usize| {
            let base = table / 8 + ENTRY_WORDS * count + MAPPING_WORDS * index;
            Some((Address(word(base)?), word(base + 1)?))
        };
        Some(Self {
            owner: i32::try_from(word(2)?).ok()?,
            owner_start: word(3)?,
            word: u32::try_from(word(1)? >> 32).ok()?,
            len: word(4)?,
            state: Address(word(6)?),
            state_len: word(7)?,
            entries,
            mapped: (0..mappings).map(mapping).collect::<Option<Vec<_>>>()?,
        })
    }
}

/// Whether a mapping looks like one of ours by its name: code area or shared state.
#[must_use]
pub fn is_ours(mapping: &Mapping) -> bool {
    mapping.path.as_deref().is_some_and(|path| path.starts_with(NAME))
}

/// Whether a mapping may be ours though it has no name: private memory that holds code.
fn may_be_ours(mapping: &Mapping) -> bool {
    mapping.path.is_none() && mapping.executable && !mapping.writable && !mapping.shared
}

/// The mappings of an area without a name: start and length.
#[must_use]
pub fn unnamed(mappings: &[Mapping], at: Address, description: &Description) -> BTreeMap<Address, u64> {
    let mapping_at = |at: Address| mappings.iter().find(|mapping| mapping.range.contains(&at));
    if !mapping_at(at).is_some_and(may_be_ours) {
        return BTreeMap::new();
    }
    // The words come from foreign memory: only what is mapped as ours would be is taken.
    let is_plausible = |(start, len): &(Address, u64)| {
        *len > 0
            && mapping_at(*start).is_some_and(|mapping| {
                mapping.path.is_none() && !mapping.shared && *len <= mapping.range.end - *start
            })
    };
    description.mapped.iter().copied().filter(is_plausible).collect()
}

/// Finds the descriptions in an address space: each with the address of its mapping.
///
/// `read` fills a buffer from target memory and says whether it could.
pub fn find(
    mappings: &[Mapping],
    read: &mut dyn FnMut(Address, &mut [u8]) -> bool,
) -> Vec<(Address, Description)> {
    let mut found = Vec::new();
    let candidate = |mapping: &&Mapping| (is_ours(mapping) && !mapping.shared) || may_be_ours(mapping);
    for mapping in mappings.iter().filter(candidate) {
        let mut magic = [0; 8];
        if !read(mapping.range.start, &mut magic) || u64::from_le_bytes(magic) != MAGIC {
            continue;
        }
        // Neighbouring mappings of the same file may be merged into one line, so more than the description may be
        // read; never more than 64 MiB: a million patches.
        let len = usize::try_from(mapping.range.end - mapping.range.start).unwrap_or(0).min(64 << 20);
        let mut bytes = vec![0; len];
        if read(mapping.range.start, &mut bytes)
            && let Some(description) = Description::decode(&bytes)
        {
            found.push((mapping.range.start, description));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Description {
        Description {
            owner: 77,
            owner_start: 123_456,
            word: 8,
            len: 65536,
            state: Address(0x7000_0000),
            state_len: 4096,
            entries: vec![
                Entry {
                    start: Address(0x40_1000),
                    original: vec![0x55, 0x48, 0x89, 0xe5, 0x90],
                    patched: vec![0xe9, 1, 2, 3, 4],
                    stub: Address(0x6100_0000),
                },
                Entry {
                    start: Address(0x40_2000),
                    original: vec![0xc3],
                    patched: vec![0xcc],
                    stub: Address(0x6100_0040),
                },
                Entry {
                    start: Address(0x40_3000),
                    original: (1..=16).collect(),
                    patched: (101..=116).collect(),
                    stub: Address(0x6100_0080),
                },
            ],
            mapped: vec![(Address(0x6100_0000), 65536), (Address(0x7000_0000), 4096)],
        }
    }

    /// A mapping that holds the description with its table in one of the two places.
    fn mapping(description: &Description, second: bool) -> Vec<u8> {
        let table = Description::tables(description.len)[usize::from(second)];
        let mut bytes = vec![0; usize::try_from(table).unwrap()];
        let header = description.encode_header(table);
        bytes[..header.len()].copy_from_slice(&header);
        bytes.extend(description.encode_table());
        bytes
    }

    #[test]
    fn decodes_what_it_encoded() {
        let description = sample();
        for second in [false, true] {
            assert_eq!(Description::decode(&mapping(&description, second)).as_ref(), Some(&description));
        }
    }

    #[test]
    fn both_tables_fit_and_do_not_overlap() {
        for entries in [0, 1, 511, 513, 100_000] {
            let len = Description::len_for(entries);
            let words = (ENTRY_WORDS + MAPPING_WORDS) * Description::capacity(len);
            let room = 8 * (words + MAPPING_WORDS * SPARE_MAPPINGS) as u64;
            let [first, second] = Description::tables(len);
            assert!(Description::capacity(len) >= 2 * entries);
            assert!(first >= 8 * HEADER_WORDS as u64 && first + room <= second && second + room <= len);
        }
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let good = mapping(&sample(), false);
        for cut in 0..good.len() {
            assert_eq!(Description::decode(&good[..cut]), None, "cut at {cut}");
        }
        let mut wild = good.clone();
        wild[5 * 8] = 200; // more entries than there is room for
        assert_eq!(Description::decode(&wild), None);
        let mut wild = good;
        wild[(HEADER_WORDS + 6) * 8] = 17; // more bytes than two words hold
        assert_eq!(Description::decode(&wild), None);
    }
}
