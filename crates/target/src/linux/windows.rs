//! The moments in which the tracer's own death would harm the target, as counters in memory that outlives it.
//!
//! A memfd called `xol:windows` of one page. Whoever opens it while the tracer lives (through /proc/TRACER/fd) can tell after
//! its death in the middle of what it died. Words of 8 bytes, native order: the magic "xolwindw", the number of kinds, and
//! for each kind, in the order of [`Window`], four words: open now (1 or 0), how often opened, nanoseconds open in all,
//! nanoseconds of the longest.

use std::cell::Cell;
use std::time::Instant;

use program::layout::SharedMemory;

use crate::seam::Window;
use crate::sys::process;
use crate::sys::shared::SharedMap;

/// First word of the page.
const MAGIC: u64 = u64::from_le_bytes(*b"xolwindw");
const LEN: usize = 4096;
const KINDS: usize = 4;

/// The counters; without memory to show them in, nothing.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// The file stays open: its name in /proc/PID/fd is how it is found.
    shown: Option<(std::fs::File, SharedMap)>,
    open: [Cell<Open>; KINDS],
}

/// How many windows of a kind are open, and since when there is one.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    depth: u32,
    since: Option<Instant>,
}

impl Windows {
    pub(super) fn shown() -> Self {
        let shown = process::memfd(c"xol:windows", LEN as u64).and_then(|file| {
            let map = SharedMap::new(&file, LEN)?;
            map.store(8, KINDS as u64);
            map.store(0, MAGIC);
            Ok((file, map))
        });
        // Without it only the tests of killed tracers know less.
        Self { shown: shown.ok(), ..Self::default() }
    }

    /// A window opens or closes. Those of one kind may overlap: it is open until the last one is closed.
    pub(super) fn mark(&self, window: Window, opens: bool) {
        let Some((_, map)) = &self.shown else { return };
        let index = match window {
            Window::ForeignRegisters => 0,
            Window::HalfWritten => 1,
            Window::MovedThreads => 2,
            Window::HeldSignal => 3,
        };
        let Open { depth, since } = self.open[index].get();
        let word = |which: usize| 8 * (2 + 4 * index + which);
        let now = match (depth, opens) {
            (0, true) => {
                map.store(word(0), 1);
                map.add(word(1), 1);
                Open { depth: 1, since: Some(Instant::now()) }
            }
            (1, false) => {
                map.store(word(0), 0);
                let time = since.map_or(0, |since| since.elapsed().as_nanos());
                let time = u64::try_from(time).unwrap_or(u64::MAX);
                map.add(word(2), time);
                map.store(word(3), map.load(word(3)).max(time));
                Open::default()
            }
            (_, true) => Open { depth: depth.saturating_add(1), since },
            (_, false) => Open { depth: depth.saturating_sub(1), since },
        };
        self.open[index].set(now);
    }
}
