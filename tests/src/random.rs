//! Numbers that are the same in every run.

/// Knuth's linear congruential generator for MMIX (The Art of Computer Programming, 3.3.4). Its upper bits are the good ones.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers that follow this one.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one, of 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0
    }

    /// The upper 31 bits of the next one.
    pub fn upper(&mut self) -> u32 {
        u32::try_from(self.word() >> 33).unwrap_or(0)
    }

    /// The next one, below `end`; 0 where there is none.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.upper()).unwrap_or(0) % end.max(1)
    }
}
