//! The layout of the shared state: one definition for the code in the target, the holder and the reader.
//!
//! ```text
//! header page   magic, version, sizing; control words; the tracer's scratch room
//! counters      one array of words per shard, each array on cache lines of its own
//! losses        one array of words per reason
//! thread slots  a hash table by thread pointer, 64 bytes a slot; behind it the slot of a thread that is the only one
//! rings         per ring: head, tail (a cache line each), then its records
//! ```
//!
//! Every number here is the tracer's own. What the target may have scribbled over is a *value* (a counter, a head, a
//! slot's ring number), never an offset or a size.

use std::ops::Range;
use std::sync::atomic::{Ordering, fence};

use serde::{Deserialize, Serialize};

/// First word of the shared state: "xolstate" as bytes in memory.
pub const MAGIC: u64 = u64::from_le_bytes(*b"xolstate");
/// Version of this layout; raised whenever an offset or a meaning changes.
pub const VERSION: u64 = 3;

/// Deepest nesting of events in one thread that is still recorded (a hit inside the body of a hit, ...).
pub const NESTING_LIMIT: u32 = 4;
/// Places of the thread table in which a key may lie, from its home on.
pub const PROBE_LIMIT: u32 = 8;

/// Words of a record: state, time, who, identity, arguments.
pub const RECORD_WORDS: usize = 10;
/// Bytes of a record.
pub const RECORD_LEN: usize = RECORD_WORDS * 8;

const PAGE: usize = 4096;
pub(crate) const LINE: usize = 64;
const SCRATCH: Range<usize> = 1024..2048;
/// Upper bound of the whole: every offset fits the signed 32-bit displacement of an x86 operand.
const MAX_LEN: usize = 1 << 30;

/// Offsets of the header's words.
pub mod header {
    /// [`MAGIC`](super::MAGIC).
    pub const MAGIC: usize = 0;
    /// [`VERSION`](super::VERSION).
    pub const VERSION: usize = 8;
    /// Length of the whole.
    pub const LEN: usize = 16;
    /// Five words: probes, shards, threads, rings, records.
    pub const SIZING: usize = 24;
    /// The holder's thread id, as a robust futex (robust_futexes(2)): when the holder dies the kernel puts
    /// `FUTEX_OWNER_DIED`, bit 30, in its place, before it lets go of the threads that the holder traced. Thread ids are
    /// below 2^22, so the fourth byte is zero as long as the holder lives.
    pub const OWNER: usize = 128;
    /// Nonzero: nobody answers any more.
    pub const CLOSED: usize = 136;
    /// The kernel's link to the next robust futex of the holder: an address in the holder.
    pub const OWNER_LINK: usize = 144;
    /// What the code in the target looks at, 8 bytes that lie across the two words: the fourth byte of the first, and the
    /// lowest of the second. Nonzero: a thread without a slot loses its event instead of asking.
    pub const ASKS_CLOSED: usize = OWNER + 3;
}

/// Offsets within a thread slot.
pub mod slot {
    /// Thread pointer, 0 when free.
    pub const KEY: usize = 0;
    /// `tid | generation << 32`, copied into each record as one word.
    pub const IDENTITY: usize = 8;
    /// Number of the thread's ring.
    pub const RING: usize = 16;
    /// `slot | depth << 24`: its own number, and how many events of this thread are being written. As in the upper
    /// half of a record's word `WHO`, where it is copied to.
    pub const DEPTH: usize = 24;
    /// How far the depth is shifted in its word.
    pub const DEPTH_SHIFT: u32 = 24;
    /// Size of a slot, one cache line. A power of two: the code in the target shifts by its logarithm.
    pub const LEN: usize = 64;
}

/// Offsets within a ring.
pub mod ring {
    /// Next index to reserve; the producers' word.
    pub const HEAD: usize = 0;
    /// First index not yet read; written by the reader, only compared by producers.
    pub const TAIL: usize = 64;
    /// Its first record.
    pub const RECORDS: usize = 128;
}

/// Offsets within a record.
pub mod record {
    /// `index << 2 | BUSY` or `index << 2 | DONE`; the lower half is 0 while code of 32 bits writes the upper one.
    pub const STATE: usize = 0;
    /// `rdtsc`; 0 where the program forbade that instruction.
    pub const TIME: usize = 8;
    /// `probe | slot << 32 | nesting << 56`; the upper half is the word [`slot::DEPTH`](super::slot::DEPTH) as it was.
    pub const WHO: usize = 16;
    /// `tid | generation << 32`.
    pub const IDENTITY: usize = 24;
    /// Six words, first argument to sixth.
    pub const ARGUMENTS: usize = 32;

    /// Low bits of the state: reserved and being written.
    pub const BUSY: u64 = 1;
    /// Low bits of the state: complete.
    pub const DONE: u64 = 2;
    /// How far the index is shifted in the state.
    pub const INDEX_SHIFT: u32 = 2;
}

/// Access to the shared state, however it is reached. All offsets are in bytes, 8-aligned; out of range reads give 0
/// and writes are dropped. Reads are atomic (acquire), writes atomic (release).
pub trait SharedMemory {
    /// One word.
    fn load(&self, offset: usize) -> u64;
    /// Stores one word.
    fn store(&self, offset: usize, value: u64);
    /// Adds to one word atomically; gives the old value.
    fn add(&self, offset: usize, value: u64) -> u64;
    /// Copies words out, one relaxed load each.
    fn copy(&self, offset: usize, words: &mut [u64]);
    /// Orders the relaxed loads of [`copy`](Self::copy) before all later accesses. Only a model checker with atomics
    /// of its own needs another one.
    fn fence(&self) {
        fence(Ordering::Acquire);
    }
}

/// How big the parts are. Every number is chosen by the tracer, never read back from the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizing {
    /// Counters.
    pub probes: u32,
    /// Shards of the counters (a power of two).
    pub shards: u32,
    /// Thread slots (a power of two).
    pub threads: u32,
    /// Rings (0 when only counting).
    pub rings: u32,
    /// Records per ring (a power of two).
    pub records: u32,
}

/// The largest of each part that [`Layout::new`] gives.
pub const MAX_SIZING: Sizing =
    Sizing { probes: 1 << 20, shards: 1 << 10, threads: 1 << 16, rings: 1 << 10, records: 1 << 18 };

/// Why the event of a hit was not recorded. The hit itself is counted all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Loss {
    /// The ring had no room (or too many threads contended for it).
    RingFull,
    /// More than [`NESTING_LIMIT`] events of one thread inside each other.
    Nested,
    /// The thread has no slot: no thread pointer, a full table, or nobody to ask.
    NoSlot,
}

impl Loss {
    /// All reasons that the code in the target counts.
    pub const ALL: [Self; 3] = [Self::RingFull, Self::Nested, Self::NoSlot];

    /// The reason as users read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RingFull => "ring full",
            Self::Nested => "nested",
            Self::NoSlot => "no slot",
        }
    }
}

/// Offsets of the parts of the shared state, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// What it was made from.
    pub sizing: Sizing,
    /// Total length, a multiple of 4096.
    pub len: usize,
}

impl Layout {
    /// The layout for a sizing, or for the nearest one that can be: powers of two are rounded up, each part is kept
    /// below [`MAX_SIZING`], and shards, then records, are halved until the whole is below 1 GiB.
    /// `sizing` tells what came of it; a caller to whom a smaller number matters compares.
    #[must_use]
    pub fn new(sizing: Sizing) -> Self {
        let power = |wanted: u32, most: u32| wanted.clamp(1, most).next_power_of_two();
        let mut layout = Self {
            sizing: Sizing {
                probes: sizing.probes.min(MAX_SIZING.probes),
                shards: power(sizing.shards, MAX_SIZING.shards),
                threads: power(sizing.threads, MAX_SIZING.threads),
                rings: sizing.rings.min(MAX_SIZING.rings),
                records: power(sizing.records, MAX_SIZING.records),
            },
            len: 0,
        };
        while layout.end() > MAX_LEN && layout.sizing.shards > 1 {
            layout.sizing.shards /= 2;
        }
        while layout.end() > MAX_LEN && layout.sizing.records > 1 {
            layout.sizing.records /= 2;
        }
        layout.len = layout.end();
        layout
    }

    /// Writes the words by which a later session recognises the state.
    pub fn describe(&self, memory: &dyn SharedMemory) {
        let Sizing { probes, shards, threads, rings, records } = self.sizing;
        for (word, value) in [probes, shards, threads, rings, records].into_iter().enumerate() {
            memory.store(header::SIZING + word * 8, u64::from(value));
        }
        memory.store(header::LEN, self.len as u64);
        memory.store(header::VERSION, VERSION);
        memory.store(header::MAGIC, MAGIC);
    }

    /// The layout of a state that another session described, checked: the words come from foreign memory.
    #[must_use]
    pub fn recover(memory: &dyn SharedMemory) -> Option<Self> {
        if memory.load(header::MAGIC) != MAGIC || memory.load(header::VERSION) != VERSION {
            return None;
        }
        let word = |n: usize| u32::try_from(memory.load(header::SIZING + n * 8)).ok();
        let sizing = Sizing {
            probes: word(0)?,
            shards: word(1)?,
            threads: word(2)?,
            rings: word(3)?,
            records: word(4)?,
        };
        let layout = Self::new(sizing);
        (layout.sizing == sizing && memory.load(header::LEN) == layout.len as u64).then_some(layout)
    }

    /// Room of the tracer for the arguments of injected calls: 1 KiB that no code in the target uses.
    #[must_use]
    pub fn scratch(&self) -> Range<usize> {
        SCRATCH
    }

    /// Says whether someone answers a thread that asks for a slot. Closed, such a thread loses its event
    /// ([`Loss::NoSlot`]) at once and goes on.
    pub fn set_asks(&self, memory: &dyn SharedMemory, open: bool) {
        memory.store(header::CLOSED, u64::from(!open));
    }

    /// Hits of a probe so far, summed over the shards: a lower bound while threads are in stubs. Code of 32 bits adds a carry
    /// after the lower half, so once in 2^32 hits of a shard that much is missing for a moment.
    #[must_use]
    pub fn hits(&self, memory: &dyn SharedMemory, probe: u32) -> u64 {
        self.counters_of(probe).fold(0, |sum, offset| sum.wrapping_add(memory.load(offset)))
    }

    /// Hits of all probes so far, in the order of the probes: one copy per shard.
    #[must_use]
    pub fn all_hits(&self, memory: &dyn SharedMemory) -> Vec<u64> {
        let mut sums = vec![0_u64; self.sizing.probes as usize];
        let mut shard = sums.clone();
        for number in 0..self.sizing.shards as usize {
            memory.copy(self.counters() + number * self.shard_len(), &mut shard);
            for (sum, count) in sums.iter_mut().zip(&shard) {
                *sum = sum.saturating_add(*count);
            }
        }
        sums
    }

    /// Events of a probe that were lost for `reason`.
    #[must_use]
    pub fn lost(&self, memory: &dyn SharedMemory, probe: u32, reason: Loss) -> u64 {
        if probe < self.sizing.probes { memory.load(self.losses(reason) + probe as usize * 8) } else { 0 }
    }

    /// Sets all counters of a probe to 0 (before it is armed).
    pub fn clear(&self, memory: &dyn SharedMemory, probe: u32) {
        if probe >= self.sizing.probes {
            return;
        }
        self.counters_of(probe).for_each(|offset| memory.store(offset, 0));
        for reason in Loss::ALL {
            memory.store(self.losses(reason) + probe as usize * 8, 0);
        }
    }

    /// The words that count a probe's hits, one per shard; none for a probe that does not exist.
    fn counters_of(self, probe: u32) -> impl Iterator<Item = usize> {
        let shards = if probe < self.sizing.probes { self.sizing.shards as usize } else { 0 };
        (0..shards).map(move |shard| self.counters() + shard * self.shard_len() + probe as usize * 8)
    }

    /// Offset of the counters of shard 0.
    #[must_use]
    pub fn counters(&self) -> usize {
        PAGE
    }

    /// Distance from a shard to the next, in bytes.
    #[must_use]
    pub fn shard_len(&self) -> usize {
        (self.sizing.probes as usize).saturating_mul(8).next_multiple_of(LINE).max(LINE)
    }

    /// Offset of the loss counters for a reason, one word per probe.
    #[must_use]
    pub fn losses(&self, reason: Loss) -> usize {
        let place = match reason {
            Loss::RingFull => 0,
            Loss::Nested => 1,
            Loss::NoSlot => 2,
        };
        self.counters() + (self.sizing.shards as usize + place).saturating_mul(self.shard_len())
    }

    /// Offset of thread slot 0.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.losses(Loss::NoSlot).saturating_add(self.shard_len())
    }

    /// Offset of a thread slot.
    #[must_use]
    pub fn slot(&self, number: u32) -> usize {
        self.slots() + number as usize * slot::LEN
    }

    /// The slot behind those of the table: that of the only thread, which need not be searched.
    #[must_use]
    pub fn lone_slot(&self) -> u32 {
        self.sizing.threads
    }

    /// Where the search for a thread's slot begins.
    #[must_use]
    pub fn home(&self, key: u64) -> u32 {
        spread(key, self.sizing.threads)
    }

    /// Offset of ring 0.
    #[must_use]
    pub fn rings(&self) -> usize {
        self.slots().saturating_add((self.sizing.threads as usize + 1).saturating_mul(slot::LEN))
    }

    /// Distance from a ring to the next, in bytes.
    #[must_use]
    pub fn ring_len(&self) -> usize {
        ring::RECORDS + (self.sizing.records as usize).saturating_mul(RECORD_LEN).next_multiple_of(LINE)
    }

    /// Offset of a ring.
    #[must_use]
    pub fn ring(&self, number: u32) -> usize {
        self.rings() + number as usize * self.ring_len()
    }

    /// Offset of the record with this index: indices count up for ever, places repeat.
    #[must_use]
    pub fn record(&self, ring: u32, index: u64) -> usize {
        self.ring(ring) + ring::RECORDS + self.place(index) * RECORD_LEN
    }

    /// The place of an index in its ring.
    pub(crate) fn place(&self, index: u64) -> usize {
        #[allow(clippy::cast_possible_truncation, reason = "masked to less than 32 bits")]
        let place = (index & (u64::from(self.sizing.records) - 1)) as usize;
        place
    }

    fn end(&self) -> usize {
        self.rings()
            .saturating_add((self.sizing.rings as usize).saturating_mul(self.ring_len()))
            .next_multiple_of(PAGE)
    }
}

/// Multiplier by which thread pointers are spread: thread stacks, and so thread pointers, lie at multiples of 4096
/// from each other. The low 20 bits are the golden ratio's, so that steps of any number of pages fall far apart
/// (multiplicative hashing; Knuth, The Art of Computer Programming 3, 6.4).
pub(crate) const SPREAD: u32 = 0x7a19_e377;

/// Spreads a thread pointer over `count` places (a power of two): the highest bits of a 32-bit product. The code in
/// the target computes the same.
pub(crate) fn spread(key: u64, count: u32) -> u32 {
    #[allow(clippy::cast_possible_truncation, reason = "the low half is what is hashed")]
    let product = (key as u32).wrapping_mul(SPREAD);
    #[allow(clippy::cast_possible_truncation, reason = "a 32-bit value shifted right")]
    let place = (u64::from(product) >> (32 - count.trailing_zeros())) as u32;
    place
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::memory::Words;

    fn layout() -> Layout {
        Layout::new(Sizing { probes: 3, shards: 4, threads: 8, rings: 2, records: 16 })
    }

    #[test]
    fn parts_do_not_overlap_and_start_on_cache_lines() {
        let layout = layout();
        let parts = [
            layout.counters(),
            layout.losses(Loss::RingFull),
            layout.losses(Loss::Nested),
            layout.losses(Loss::NoSlot),
            layout.slots(),
            layout.rings(),
            layout.len,
        ];
        assert!(parts.is_sorted_by(|a, b| a < b), "{parts:?}");
        assert!(parts.iter().all(|part| part % LINE == 0), "{parts:?}");
        assert!(layout.ring(1) + layout.ring_len() <= layout.len);
        assert_eq!(layout.record(1, 15) + RECORD_LEN, layout.ring(1) + layout.ring_len());
    }

    #[test]
    fn hits_sum_over_shards_and_clear_reaches_all() {
        let (layout, memory) = (layout(), Words::new(layout().len));
        for offset in layout.counters_of(1) {
            memory.store(offset, 5);
        }
        memory.store(layout.losses(Loss::Nested) + 8, 7);
        assert_eq!(layout.hits(&memory, 1), 20);
        assert_eq!(layout.all_hits(&memory), [0, 20, 0]);
        assert_eq!(layout.lost(&memory, 1, Loss::Nested), 7);
        layout.clear(&memory, 1);
        assert_eq!((layout.hits(&memory, 1), layout.lost(&memory, 1, Loss::Nested)), (0, 0));
        assert_eq!(layout.hits(&memory, 99), 0);
    }

    #[test]
    fn a_described_state_is_recovered_and_a_damaged_one_is_not() {
        let (layout, memory) = (layout(), Words::new(layout().len));
        layout.describe(&memory);
        assert_eq!(Layout::recover(&memory), Some(layout));
        memory.store(header::SIZING + 8, 1 << 40);
        assert_eq!(Layout::recover(&memory), None);
    }

    #[test]
    fn threads_in_a_row_take_different_shards() {
        // Distances seen between thread pointers: glibc's default stack with and without its guard page, small
        // stacks, musl's, Go's and jemalloc-like arenas.
        for step in [0x80_1000, 0x80_0000, 0x1000, 0x2_1000, 0x2_3000, 0x1_1000, 0x20_1000, 0x40_0000] {
            let taken: BTreeSet<u32> =
                (0..8).map(|n| spread(0x7f12_3456_7740_u64.wrapping_sub(n * step), 64)).collect();
            assert!(taken.len() >= 7, "step {step:#x}: {taken:?}");
        }
    }

    proptest! {
        #[test]
        fn any_sizing_gives_a_bounded_layout(
            probes: u32, shards: u32, threads: u32, rings: u32, records: u32
        ) {
            let layout = Layout::new(Sizing { probes, shards, threads, rings, records });
            prop_assert!(layout.len <= MAX_LEN);
            prop_assert_eq!(layout.len % PAGE, 0);
            prop_assert_eq!(layout, Layout::new(layout.sizing));
            for count in [layout.sizing.shards, layout.sizing.threads, layout.sizing.records] {
                prop_assert!(count.is_power_of_two());
            }
            if layout.sizing.rings > 0 {
                prop_assert!(layout.record(layout.sizing.rings - 1, u64::MAX) + RECORD_LEN <= layout.len);
            }
        }
    }
}
