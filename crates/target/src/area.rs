//! The area's description of itself: what a later xol needs to recognise it and to restore the text.
//!
//! A mapping of its own holds a header and a table of the patches that are (or were about to be) in the text. It is written
//! before the text is patched and shortened after it is restored, so a tracer that dies between leaves a table that
//! names too much, never too little: an entry counts only where the live bytes are exactly its patch.
//!
//! Layout, little-endian words of 8 bytes: magic, version and word size, owner pid, owner start time, own length in bytes,
//! entries, state address, state length, then the entries of 5 words: address, original bytes, patched bytes, stub, length.

use std::collections::BTreeMap;

use insn::Address;
use insn::place::AREA_LEN;
use insn::plan::Mechanism;
use serde::{Deserialize, Serialize};
use symbols::maps::Mapping;

/// First word of every description.
const MAGIC: u64 = u64::from_le_bytes(*b"xol area");
/// Changes whenever the meaning of a word does.
const VERSION: u32 = 1;
const HEADER_WORDS: usize = 8;
const ENTRY_WORDS: usize = 5;
/// How the area is called in /proc/PID/maps.
pub const NAME: &str = "/memfd:xol";

/// One change of the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// First byte changed.
    pub start: Address,
    /// What was there (at most 8 bytes).
    pub original: Vec<u8>,
    /// What we wrote: as many bytes.
    pub patched: Vec<u8>,
    /// The stub it leads to.
    pub stub: Address,
}

impl Entry {
    /// Most bytes of one: a word of the description holds them.
    pub(crate) const MAX_LEN: u64 = 8;

    /// The mechanism, told by the length of the change.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        if self.patched.len() == 1 { Mechanism::Trap } else { Mechanism::Jump }
    }
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
}

fn pack(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    let len = bytes.len().min(8);
    word[..len].copy_from_slice(&bytes[..len]);
    u64::from_le_bytes(word)
}

impl Description {
    /// How many entries fit a mapping of `len` bytes.
    #[must_use]
    pub fn capacity(len: u64) -> usize {
        (usize::try_from(len).unwrap_or(0) / 8).saturating_sub(HEADER_WORDS) / ENTRY_WORDS
    }

    /// The length of mapping that holds `entries` with room to grow, a multiple of the area's mapping size.
    #[must_use]
    pub fn len_for(entries: usize) -> u64 {
        let words = HEADER_WORDS + ENTRY_WORDS * (2 * entries).max(512);
        (8 * words as u64).next_multiple_of(AREA_LEN)
    }

    /// The bytes of header and table.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut words = vec![
            MAGIC,
            u64::from(VERSION) | u64::from(self.word) << 32,
            u64::from(self.owner.cast_unsigned()),
            self.owner_start,
            self.len,
            self.entries.len() as u64,
            self.state.0,
            self.state_len,
        ];
        for entry in &self.entries {
            words.extend([
                entry.start.0,
                pack(&entry.original),
                pack(&entry.patched),
                entry.stub.0,
                entry.patched.len() as u64,
            ]);
        }
        words.into_iter().flat_map(u64::to_le_bytes).collect()
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
        if count > Self::capacity(bytes.len() as u64) {
            return None;
        }
        let entries = (0..count)
            .map(|index| {
                let base = HEADER_WORDS + ENTRY_WORDS * index;
                let len = usize::try_from(word(base + 4)?).ok().filter(|len| (1..=8).contains(len))?;
                Some(Entry {
                    start: Address(word(base)?),
                    original: word(base + 1)?.to_le_bytes()[..len].to_vec(),
                    patched: word(base + 2)?.to_le_bytes()[..len].to_vec(),
                    stub: Address(word(base + 3)?),
                })
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Self {
            owner: i32::try_from(word(2)?).ok()?,
            owner_start: word(3)?,
            word: u32::try_from(word(1)? >> 32).ok()?,
            len: word(4)?,
            state: Address(word(6)?),
            state_len: word(7)?,
            entries,
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

/// The mappings of an area without a name: start and length. Those that hold only retired stubs are not known from the
/// description, and stay.
#[must_use]
pub fn unnamed(mappings: &[Mapping], at: Address, description: &Description) -> BTreeMap<Address, u64> {
    let mapping_at = |at: Address| mappings.iter().find(|mapping| mapping.range.contains(&at));
    if !mapping_at(at).is_some_and(may_be_ours) {
        return BTreeMap::new();
    }
    let stubs = description.entries.iter().map(|entry| Address(entry.stub.0 / AREA_LEN * AREA_LEN));
    let places = stubs.map(|start| (start, AREA_LEN));
    let own = [(at, description.len), (description.state, description.state_len)];
    // The words come from foreign memory: only what is mapped as ours would be is taken.
    let is_plausible = |(start, len): &(Address, u64)| {
        *len > 0
            && mapping_at(*start).is_some_and(|mapping| {
                mapping.path.is_none() && !mapping.shared && *len <= mapping.range.end - *start
            })
    };
    places.chain(own).filter(is_plausible).collect()
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
            ],
        }
    }

    #[test]
    fn decodes_what_it_encoded() {
        let description = sample();
        assert_eq!(Description::decode(&description.encode()), Some(description));
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let good = sample().encode();
        for cut in 0..good.len() {
            assert_eq!(Description::decode(&good[..cut]), None, "cut at {cut}");
        }
        let mut wild = good.clone();
        wild[5 * 8] = 200; // more entries than there is room for
        assert_eq!(Description::decode(&wild), None);
        let mut wild = good;
        wild[(HEADER_WORDS + 4) * 8] = 9; // nine bytes in a word
        assert_eq!(Description::decode(&wild), None);
    }
}
