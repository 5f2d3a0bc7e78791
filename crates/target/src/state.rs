//! The shared state of an address space, however the tracer reaches it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

use insn::Address;
use program::layout::SharedMemory;

use crate::sys::shared::SharedMap;

/// Shared state: memory of both, or memory of the target's alone.
#[derive(Debug)]
pub enum State {
    /// A memfd that both have mapped: it outlives the target.
    Mapped(SharedMap),
    /// Private memory of a target that must not be asked to make a memfd (a system-call filter might kill it for that):
    /// read and written through the kernel, and gone with the target.
    Remote(Remote),
}

/// Memory of another process.
#[derive(Debug)]
pub struct Remote {
    memory: File,
    at: Address,
}

impl Remote {
    /// The state at `at` in process `pid`.
    ///
    /// # Errors
    /// No such process, or not permitted.
    pub fn of(pid: i32, at: Address) -> io::Result<Self> {
        let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
        Ok(Self { memory, at })
    }

    fn place(&self, offset: usize) -> u64 {
        self.at.0.wrapping_add(offset as u64)
    }
}

// The kernel copies aligned words whole (lib/iov_iter.c uses word-sized moves for them); what was torn all the same would
// be found by the reader's checks, which trust nothing in this memory anyway. What cannot be read is zeros.
impl SharedMemory for Remote {
    fn load(&self, offset: usize) -> u64 {
        let mut bytes = [0; 8];
        self.memory.read_exact_at(&mut bytes, self.place(offset)).map_or(0, |()| u64::from_le_bytes(bytes))
    }

    fn store(&self, offset: usize, value: u64) {
        // A target that is gone needs nothing stored.
        let _ = self.memory.write_all_at(&value.to_le_bytes(), self.place(offset));
    }

    /// Not atomic: only the tracer's own words are added to.
    fn add(&self, offset: usize, value: u64) -> u64 {
        let old = self.load(offset);
        self.store(offset, old.wrapping_add(value));
        old
    }

    fn copy(&self, offset: usize, words: &mut [u64]) {
        let mut bytes = vec![0; words.len() * 8];
        if self.memory.read_exact_at(&mut bytes, self.place(offset)).is_err() {
            bytes.fill(0);
        }
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = bytes.try_into().map_or(0, u64::from_le_bytes);
        }
    }
}

impl SharedMemory for State {
    fn load(&self, offset: usize) -> u64 {
        match self {
            Self::Mapped(map) => map.load(offset),
            Self::Remote(remote) => remote.load(offset),
        }
    }

    fn store(&self, offset: usize, value: u64) {
        match self {
            Self::Mapped(map) => map.store(offset, value),
            Self::Remote(remote) => remote.store(offset, value),
        }
    }

    fn add(&self, offset: usize, value: u64) -> u64 {
        match self {
            Self::Mapped(map) => map.add(offset, value),
            Self::Remote(remote) => remote.add(offset, value),
        }
    }

    fn copy(&self, offset: usize, words: &mut [u64]) {
        match self {
            Self::Mapped(map) => map.copy(offset, words),
            Self::Remote(remote) => remote.copy(offset, words),
        }
    }
}
