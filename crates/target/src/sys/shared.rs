//! The tracer's mapping of the shared state, reached by atomic words only: the other side writes whenever it likes.
//!
//! # Safety
//! The mapping belongs to [`SharedMap`] until it is dropped; its length is fixed by seals on the memfd, so no access can
//! meet a hole. Every access is an `AtomicU64` at a checked, 8-aligned offset, hence never a data race. A word that is to tell
//! of this thread's death is linked into the kernel's list of robust futexes ([`super::robust`]) and taken out of it
//! before the mapping goes.
#![allow(unsafe_code, reason = "a shared mapping is reached by raw pointer; every access is atomic")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use program::layout::SharedMemory;

use super::robust;

/// A shared mapping of a memfd.
#[derive(Debug)]
pub struct SharedMap {
    base: *mut AtomicU64,
    words: usize,
    /// The link of a word that tells of this thread's death.
    link: Option<robust::Link>,
}

impl SharedMap {
    /// Maps `len` bytes of `file`, shared, readable and writable.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn new(file: &File, len: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice; nothing of ours is replaced.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { base: base.cast(), words: len / 8, link: None })
    }

    /// Puts this thread's id into the word at `offset`. When the thread dies the kernel sets bit 30 there
    /// (`FUTEX_OWNER_DIED`). The word at `link` is the kernel's. Only one such word of a mapping at a time.
    pub fn tell_of_death(&mut self, offset: usize, link: usize) {
        let Some((word, link)) = self.word(offset).zip(self.word(link)) else { return };
        self.link = robust::Link::new(word, link);
    }

    fn word(&self, offset: usize) -> Option<&AtomicU64> {
        let index = offset / 8;
        if !offset.is_multiple_of(8) || index >= self.words {
            return None;
        }
        // SAFETY: index < words, so the word lies inside the mapping.
        let word = unsafe { self.base.add(index) };
        // SAFETY: aligned, inside a mapping that lives as long as self, and only ever accessed atomically by us.
        Some(unsafe { &*word })
    }
}

impl SharedMemory for SharedMap {
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
        for (index, out) in words.iter_mut().enumerate() {
            *out = self.word(offset + 8 * index).map_or(0, |word| word.load(Ordering::Relaxed));
        }
    }
}

impl Drop for SharedMap {
    fn drop(&mut self) {
        drop(self.link.take());
        // SAFETY: exactly the mapping made in `new`; no reference into it outlives self.
        unsafe { libc::munmap(self.base.cast(), self.words * 8) };
    }
}

// SAFETY: the mapping is plain shared memory reached by atomics only; any thread may do so.
unsafe impl Send for SharedMap {}
