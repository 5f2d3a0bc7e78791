//! The moments in which the tracer's own death would harm the target, as counters in memory that outlives it.
//!
//! A memfd called `xol:windows` of one page. Whoever opens it while the tracer lives (through /proc/TRACER/fd) can tell after
//! its death in the middle of what it died. Words of 8 bytes, native order:
//!
//! | word | |
//! |---|---|
//! | 0 | magic, "xolwindw" |
//! | 1, 2 | foreign registers: open now (0 or more); half written patches: likewise |
//! | 3, 4 | how often each was opened |
//! | 5, 6 | nanoseconds open in all |
//! | 7, 8 | nanoseconds of the longest |

use std::cell::Cell;
use std::time::Instant;

use program::layout::SharedMemory;

use crate::seam::Window;
use crate::sys::process;
use crate::sys::shared::SharedMap;

/// First word of the page.
const MAGIC: u64 = u64::from_le_bytes(*b"xolwindw");
const LEN: usize = 4096;

/// The counters; without memory to show them in, nothing.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// The file stays open: its name in /proc/PID/fd is how it is found.
    shown: Option<(std::fs::File, SharedMap)>,
    since: [Cell<Option<Instant>>; 2],
}

impl Windows {
    pub(super) fn shown() -> Self {
        let shown = process::memfd(c"xol:windows", LEN as u64).and_then(|file| {
            let map = SharedMap::new(&file, LEN)?;
            map.store(0, MAGIC);
            Ok((file, map))
        });
        // Without it only the tests of killed tracers know less.
        Self { shown: shown.ok(), ..Self::default() }
    }

    /// A window opens or closes. Closing one that is not open is nothing.
    pub(super) fn mark(&self, window: Window, open: bool) {
        let Some((_, map)) = &self.shown else { return };
        let index = match window {
            Window::ForeignRegisters => 0,
            Window::HalfWritten => 1,
        };
        let word = |group: usize| 8 * (1 + 2 * group + index);
        match (open, self.since[index].take()) {
            (true, before) => {
                map.store(word(0), 1);
                if before.is_none() {
                    map.add(word(1), 1);
                }
                self.since[index].set(before.or_else(|| Some(Instant::now())));
            }
            (false, Some(since)) => {
                map.store(word(0), 0);
                let time = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
                map.add(word(2), time);
                map.store(word(3), map.load(word(3)).max(time));
            }
            (false, None) => {}
        }
    }
}
