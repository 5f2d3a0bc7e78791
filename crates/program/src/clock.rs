//! From `rdtsc` to `CLOCK_MONOTONIC`: interpolation between pairs that the tracer samples.

use std::collections::VecDeque;

/// Pairs kept: with one per flush (100 ms) some twelve seconds, longer than a record waits.
const KEPT: usize = 128;

/// Pairs of (TSC, `CLOCK_MONOTONIC` in nanoseconds), both growing.
///
/// Sample a pair *after* each reading of the rings: then every record read lies before a pair, and the times given
/// are final and in the order of the TSC. A later record is extrapolated, which the next pair may correct.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    pairs: VecDeque<(u64, u64)>,
    backwards: u64,
}

impl Clock {
    /// A clock without a pair.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pair. One that does not lie behind the last in both clocks (the TSC was set back, or the tracer moved to
    /// a CPU whose TSC differs) is left out and counted.
    pub fn sample(&mut self, tsc: u64, nanoseconds: u64) {
        if self.pairs.back().is_some_and(|&(last, time)| tsc <= last || nanoseconds < time) {
            self.backwards += 1;
            return;
        }
        if self.pairs.len() == KEPT {
            self.pairs.pop_front();
        }
        self.pairs.push_back((tsc, nanoseconds));
    }

    /// Pairs left out because a clock went backwards.
    #[must_use]
    pub fn backwards(&self) -> u64 {
        self.backwards
    }

    /// The time, in nanoseconds of `CLOCK_MONOTONIC`, at which the TSC was `tsc`. `None` before the second pair.
    #[must_use]
    pub fn time(&self, tsc: u64) -> Option<u64> {
        let behind = self.pairs.partition_point(|pair| pair.0 <= tsc);
        let second = behind.clamp(1, self.pairs.len().checked_sub(1)?.max(1));
        let (&from, &to) = (self.pairs.get(second - 1)?, self.pairs.get(second)?);
        let rise = i128::from(to.1 - from.1);
        let run = i128::from(to.0 - from.0);
        let time =
            i128::from(from.1) + (i128::from(tsc) - i128::from(from.0)).saturating_mul(rise).div_euclid(run);
        Some(u64::try_from(time.max(0)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_pair_gives_no_rate() {
        let mut clock = Clock::new();
        assert_eq!(clock.time(5), None);
        clock.sample(100, 1000);
        assert_eq!(clock.time(100), None);
        clock.sample(200, 1050);
        assert_eq!(clock.time(100), Some(1000));
        assert_eq!(clock.time(150), Some(1025));
    }

    #[test]
    fn outside_the_pairs_the_nearest_rate_goes_on() {
        let mut clock = Clock::new();
        for pair in [(100, 1000), (200, 1050), (300, 1250)] {
            clock.sample(pair.0, pair.1);
        }
        assert_eq!((clock.time(0), clock.time(400)), (Some(950), Some(1450)));
    }

    #[test]
    fn pairs_that_go_backwards_are_left_out() {
        let mut clock = Clock::new();
        for pair in [(100, 1000), (90, 1010), (110, 990), (100, 1000), (200, 1100)] {
            clock.sample(pair.0, pair.1);
        }
        assert_eq!((clock.backwards(), clock.time(150)), (3, Some(1050)));
    }

    proptest! {
        #[test]
        fn times_never_panic_and_keep_the_order_of_the_tsc(
            pairs in prop::collection::vec(any::<(u64, u64)>(), 2..300),
            mut stamps in prop::collection::vec(any::<u64>(), 1..50),
        ) {
            let mut clock = Clock::new();
            for (tsc, time) in pairs {
                clock.sample(tsc, time);
            }
            stamps.sort_unstable();
            let times: Vec<_> = stamps.iter().map(|&stamp| clock.time(stamp)).collect();
            prop_assert!(times.is_sorted(), "{times:?}");
        }

        #[test]
        fn a_steady_clock_is_read_exactly(rate in 1_u64..8, start: u32, stamp in 0_u64..100_000) {
            let mut clock = Clock::new();
            for n in 0..5_u64 {
                clock.sample(u64::from(start) + n * 10_000, n * 10_000 * rate);
            }
            let time = clock.time(u64::from(start) + stamp);
            prop_assert_eq!(time, Some(stamp * rate));
        }
    }
}
