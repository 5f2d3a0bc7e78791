//! What a killed holder died in the middle of: the memory `xol:windows` that it shows through /proc/HOLDER/fd.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

const MAGIC: u64 = u64::from_le_bytes(*b"xolwindw");
const NAMES: [&str; 4] = ["foreign registers", "half written", "moved threads", "held signal"];

/// The memory, open: it outlives the holder.
#[derive(Debug)]
pub struct Windows(File);

/// One kind of window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// What it is.
    pub name: &'static str,
    /// Whether one is open.
    pub is_open: bool,
    /// How many there were.
    pub count: u64,
    /// Nanoseconds open in all.
    pub total: u64,
    /// Nanoseconds of the longest.
    pub longest: u64,
}

impl Windows {
    /// Those of a living holder that has begun to trace.
    #[must_use]
    pub fn of(holder: u32) -> Option<Self> {
        let descriptors = fs::read_dir(format!("/proc/{holder}/fd")).ok()?.flatten();
        let is_it = |entry: &fs::DirEntry| {
            fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().contains("xol:windows"))
        };
        let mut found = descriptors.filter(is_it).filter_map(|entry| File::open(entry.path()).ok());
        found.find_map(|file| Some(Self(file)).filter(|windows| windows.word(0) == MAGIC))
    }

    fn word(&self, index: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, 8 * index).map_or(0, |()| u64::from_ne_bytes(bytes))
    }

    /// All kinds.
    ///
    /// # Panics
    /// There are others than this test knows.
    #[must_use]
    pub fn all(&self) -> Vec<Window> {
        assert_eq!(self.word(1), NAMES.len() as u64, "kinds of windows");
        let kind = |(index, name): (u64, &'static str)| {
            let word = |which: u64| self.word(2 + 4 * index + which);
            Window { name, is_open: word(0) != 0, count: word(1), total: word(2), longest: word(3) }
        };
        (0..).zip(NAMES).map(kind).collect()
    }

    /// The kinds that are open.
    #[must_use]
    pub fn open(&self) -> Vec<&'static str> {
        self.all().into_iter().filter(|window| window.is_open).map(|window| window.name).collect()
    }
}
