//! Addresses of the traced program, as a type of their own.

use std::fmt;
use std::ops::{Add, AddAssign, Range, Sub};

use serde::{Deserialize, Serialize};

/// A virtual address in the traced address space (never in ours).
///
/// Arithmetic wraps: addresses come from files and foreign memory, and a hostile one must not panic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Address(pub u64);

impl Address {
    /// The distance from `origin` to `self`, in bytes, as a signed number.
    #[must_use]
    pub fn offset_from(self, origin: Self) -> i64 {
        self.0.wrapping_sub(origin.0).cast_signed()
    }

    /// `self` moved by a signed number of bytes.
    #[must_use]
    pub fn offset(self, by: i64) -> Self {
        Self(self.0.wrapping_add_signed(by))
    }

    /// The `len` bytes from here on; clipped at the end of the address space.
    #[must_use]
    pub fn span(self, len: u64) -> Range<Self> {
        self..Self(self.0.saturating_add(len))
    }
}

impl Add<u64> for Address {
    type Output = Self;
    fn add(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl AddAssign<u64> for Address {
    fn add_assign(&mut self, bytes: u64) {
        *self = *self + bytes;
    }
}

impl Sub<Self> for Address {
    type Output = u64;
    fn sub(self, origin: Self) -> u64 {
        self.0.wrapping_sub(origin.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::LowerHex for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}
