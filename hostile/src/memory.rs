//! Bytes taken for memory of the target, where its program may write what it likes, and for what the other process of a
//! session says.

use insn::Address;
use program::layout::{Layout, SharedMemory, Sizing};
use program::memory::Words;
use program::ring::Reader;
use program::threads::Table;
use symbols::{Class, loader};
use target::area::Description;
use target::holder::{Manner, Reply, Request, Space};

use crate::Numbers;

fn layout() -> Layout {
    Layout::new(Sizing { probes: 4, shards: 2, threads: 16, rings: 2, records: 8 })
}

/// The shared state: words written anywhere, between assignments of slots and looks at the rings.
pub fn ring(bytes: &[u8]) {
    let layout = layout();
    let (memory, mut table) = (Words::new(layout.len), Table::new(layout));
    layout.describe(&memory);
    let mut reader = Reader::new(layout);
    let mut numbers = Numbers(bytes);
    let mut hits = 0_u64;
    while !numbers.0.is_empty() {
        let (what, place) = (numbers.byte(), u16::from(numbers.byte()) << 8 | u16::from(numbers.byte()));
        match what & 7 {
            0 => drop(table.assign(&memory, numbers.word(), u32::from(place))),
            1 => table.close(&memory, u32::from(place)),
            2 => hits += reader.drain(&memory, &mut |_| {}).hits,
            3 => hits += reader.drain_quiescent(&memory, &mut |_| {}).hits,
            4 => reader.told(u32::from(place), u32::from(what >> 3), u32::from(place)),
            5 => drop(memory.add(layout.ring(u32::from(place) & 1), u64::from(what >> 3))),
            _ => memory.store(usize::from(place) * 8 % layout.len, numbers.word()),
        }
    }
    // A ring has 8 records: what comes out of one look is bounded, whatever head and tail say.
    let looks = bytes.len() as u64;
    assert!(hits <= looks * 2 * u64::from(layout.sizing.records), "{hits} hits of {looks} looks");
    let _ = (layout.all_hits(&memory), reader.corrupt(), reader.unattributed());
    if let Some(found) = Layout::recover(&memory) {
        assert_eq!(Layout::new(found.sizing), found);
    }
}

/// The dynamic loader's rendezvous structure and list of modules.
pub fn loader_list(bytes: &[u8]) {
    let base = Address(0x7000_0000_0000);
    let mut read = |at: Address, buffer: &mut [u8]| {
        let start = usize::try_from(at - base).unwrap_or(usize::MAX);
        let found = start.checked_add(buffer.len()).and_then(|end| bytes.get(start..end));
        found.is_some_and(|found| {
            buffer.copy_from_slice(found);
            true
        })
    };
    for class in [Class::Elf32, Class::Elf64] {
        if let Some(found) = loader::rendezvous(class, base, &mut read) {
            let modules = loader::modules(class, &found, &mut read);
            assert!(modules.len() <= 1 << 16);
        }
    }
}

/// xol's description of its area, which a later session finds.
pub fn description(bytes: &[u8]) {
    let Some(found) = Description::decode(bytes) else { return };
    let (header, table) = (found.encode_header(0), found.encode_table());
    assert!(!header.is_empty() && table.len() <= bytes.len());
}

/// What front and holder say to each other.
pub fn messages(bytes: &[u8]) {
    let _ = postcard::from_bytes::<Request>(bytes);
    let _ = postcard::from_bytes::<Reply>(bytes);
}

/// Writes, a slot, a record and a look.
pub(crate) fn rings() -> Vec<Vec<u8>> {
    let layout = layout();
    let store = |offset: usize, value: u64| {
        let [high, low] = u16::try_from(offset / 8).unwrap_or(0).to_be_bytes();
        [&[6, high, low][..], &value.to_le_bytes()].concat()
    };
    let record = layout.record(0, 0);
    let mut seed = vec![0, 0, 100];
    seed.extend(0x1000_u64.to_le_bytes());
    seed.extend([0x0d, 0, 0]); // one record is reserved
    (0..8).for_each(|word| seed.extend(store(record + 8 * word, 0x0101 * word as u64 + 2)));
    seed.extend([2, 0, 0, 4, 0, 1, 3, 0, 0, 1, 0, 100, 3, 0, 0]);
    vec![seed]
}

/// The structure and two modules that follow one another.
pub(crate) fn loader_lists() -> Vec<Vec<u8>> {
    let base = 0x7000_0000_0000_u64;
    let words =
        [1, base + 40, 0x40_1000, 0, 0, 0, base + 160, 0x40_3000, base + 80, 0, base, base + 160, 0, 0, 0];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word: &u64| word.to_le_bytes()).collect();
    bytes.resize(160, 0);
    bytes.extend(b"/lib/libc.so.6\0");
    vec![bytes]
}

pub(crate) fn descriptions() -> Vec<Vec<u8>> {
    let entry = target::area::Entry {
        start: Address(0x40_1000),
        original: vec![0x55, 0x48, 0x89, 0xe5, 0x90],
        patched: vec![0xe9, 1, 2, 3, 4],
        stub: Address(0x10_0000),
    };
    let made = Description {
        owner: 7,
        owner_start: 8,
        word: 8,
        len: Description::len_for(1),
        state: Address(0x20_0000),
        state_len: 4096,
        entries: vec![entry],
        mapped: vec![(Address(0x10_0000), 0x1_0000)],
    };
    let header = made.encode_header(0);
    let mut bytes = made.encode_header(header.len() as u64);
    bytes.extend(made.encode_table());
    vec![bytes]
}

pub(crate) fn all_messages() -> Vec<Vec<u8>> {
    let requests = [
        Request::Attach { pid: 7, manner: Manner { follow: true, inject_freely: false } },
        Request::Spawn {
            paths: vec![b"/bin/true".to_vec()],
            argv: vec![b"true".to_vec(), b"x".to_vec()],
            manner: Manner::default(),
        },
        Request::Freeze(Space(3)),
        Request::Leave(Space(1)),
    ];
    requests.iter().filter_map(|request| postcard::to_stdvec(request).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Description, Request, all_messages, descriptions};

    #[test]
    fn seeds_are_read() {
        assert_eq!(Description::decode(&descriptions()[0]).map(|found| found.entries.len()), Some(1));
        let understood = all_messages().iter().all(|bytes| postcard::from_bytes::<Request>(bytes).is_ok());
        assert!(understood && all_messages().len() == 4);
    }
}
