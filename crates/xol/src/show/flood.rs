//! Keeps `trace` readable on a terminal: so many lines a second, and a word about the rest.

use std::time::Duration;

/// Lines a second that a person may still follow.
const LINES: u64 = 200;

/// Which lines may be shown. Time is what has passed since the start.
#[derive(Debug, Default)]
pub(crate) struct Flood {
    window: u64,
    shown: u64,
    dropped: u64,
}

impl Flood {
    /// Whether a line that comes at `now` may be shown.
    pub(crate) fn admit(&mut self, now: Duration) -> bool {
        if now.as_secs() != self.window {
            self.window = now.as_secs();
            self.shown = 0;
        }
        let fits = self.shown < LINES;
        self.shown += u64::from(fits);
        self.dropped += u64::from(!fits);
        fits
    }

    /// Once a second: how many lines were dropped in it.
    pub(crate) fn report(&mut self, now: Duration) -> Option<u64> {
        let due = now.as_secs() != self.window && self.dropped > 0;
        due.then(|| std::mem::take(&mut self.dropped))
    }

    /// At the end: lines dropped since the last report.
    pub(crate) fn rest(&mut self) -> Option<u64> {
        (self.dropped > 0).then(|| std::mem::take(&mut self.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn so_many_lines_a_second() {
        let mut flood = Flood::default();
        let admitted = (0..LINES + 50).filter(|_| flood.admit(at(10))).count();
        assert_eq!(admitted as u64, LINES);
        assert_eq!(flood.report(at(990)), None, "the second is not over");
        assert_eq!(flood.report(at(1_000)), Some(50));
        assert_eq!(flood.report(at(1_000)), None, "said once");
        assert!(flood.admit(at(1_001)), "a new second");
    }

    #[test]
    fn nothing_is_dropped_silently() {
        let mut flood = Flood::default();
        for step in 0..5_000 {
            flood.admit(at(step));
        }
        assert_eq!(flood.rest(), Some(4_000), "200 of 1,000 lines in each of 5 seconds were shown");
        assert_eq!(flood.rest(), None);
    }
}
