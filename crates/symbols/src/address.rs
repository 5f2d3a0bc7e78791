//! Addresses inside a file, and what separates them from those of a process.

use std::fmt;
use std::ops::{Add, Range, Sub};

use insn::Address;
use serde::{Deserialize, Serialize};

/// A virtual address as the ELF file states it and `nm` and `objdump` print it: not a file offset, not a run-time address.
///
/// Arithmetic wraps: the numbers come from files, and a hostile one must not panic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct FileAddress(pub u64);

impl FileAddress {
    /// The `len` bytes from here on; clipped at the end of the address space.
    #[must_use]
    pub fn span(self, len: u64) -> Range<Self> {
        self..Self(self.0.saturating_add(len))
    }
}

impl Add<u64> for FileAddress {
    type Output = Self;
    fn add(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl Sub<Self> for FileAddress {
    type Output = u64;
    fn sub(self, origin: Self) -> u64 {
        self.0.wrapping_sub(origin.0)
    }
}

impl fmt::Debug for FileAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file:{:#x}", self.0)
    }
}

impl fmt::Display for FileAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::LowerHex for FileAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// Run-time address minus file address of one loaded module; 0 for a program linked at a fixed address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Bias(pub u64);

impl Bias {
    /// The bias of a module whose byte at `file` is found at `run_time`.
    #[must_use]
    pub fn between(run_time: Address, file: FileAddress) -> Self {
        Self(run_time.0.wrapping_sub(file.0))
    }

    /// Where the process has what the file has at `address`.
    #[must_use]
    pub fn run_time(self, address: FileAddress) -> Address {
        Address(address.0.wrapping_add(self.0))
    }

    /// Where the file has what the process has at `address`.
    #[must_use]
    pub fn file(self, address: Address) -> FileAddress {
        FileAddress(address.0.wrapping_sub(self.0))
    }
}

impl fmt::Debug for Bias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bias:{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bias_goes_both_ways_and_wraps() {
        let bias = Bias::between(Address(0x1000), FileAddress(0x40_0000));
        assert_eq!(bias.run_time(FileAddress(0x40_0010)), Address(0x1010));
        assert_eq!(bias.file(Address(0x1010)), FileAddress(0x40_0010));
    }
}
