//! Shared state in ordinary memory: what tests, models and the fake target use in place of a mapping.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::layout::SharedMemory;

/// Words of this process.
#[derive(Debug)]
pub struct Words(Vec<AtomicU64>);

impl Words {
    /// `len` bytes of zeros.
    #[must_use]
    pub fn new(len: usize) -> Self {
        Self((0..len / 8).map(|_| AtomicU64::new(0)).collect())
    }

    fn word(&self, offset: usize) -> Option<&AtomicU64> {
        self.0.get(offset / 8)
    }
}

impl SharedMemory for Words {
    fn load(&self, offset: usize) -> u64 {
        self.word(offset).map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn store(&self, offset: usize, value: u64) {
        if let Some(word) = self.word(offset) {
            word.store(value, Ordering::Release);
        }
    }

    fn add(&self, offset: usize, value: u64) -> u64 {
        self.word(offset).map_or(0, |word| word.fetch_add(value, Ordering::AcqRel))
    }

    fn copy(&self, offset: usize, words: &mut [u64]) {
        for (n, out) in words.iter_mut().enumerate() {
            *out = self.word(offset.saturating_add(n * 8)).map_or(0, |word| word.load(Ordering::Relaxed));
        }
    }
}
