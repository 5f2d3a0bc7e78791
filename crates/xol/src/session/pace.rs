//! Probes that cost the target much: said, and where the user set a limit taken out for a while.
//!
//! With a limit of N hits a second a probe is in the text for a slice of at most a second. Once a slice has counted more
//! than N the probe goes out, until the average since the slice began is N again. What is counted is exact; the share of the
//! time in which it was counted is told.

use std::time::{Duration, Instant};

use insn::plan::Mechanism;

use super::rows::{Row, Standing};
use super::start::Session;
use super::traced::Traced;
use super::types::{Action, Error};

/// A count costs the thread that is hit about so much (the benchmark's "count" less the bare call).
const COUNT: Duration = Duration::from_nanos(5);
/// The same for an event.
const EVENT: Duration = Duration::from_nanos(30);
/// The same for a breakpoint: two switches to the tracer and back.
const TRAP: Duration = Duration::from_micros(20);
/// More than this share of a core is worth a word.
const SHARE: f64 = 0.05;
/// More hits a second than this, too: the CPU spends its time with the counter's cache line.
const MANY: f64 = 1e7;
/// Rates are averages over at least so much, so that a short burst is no overload.
const WINDOW: Duration = Duration::from_millis(500);
/// The longest slice, in which N hits are allowed.
const SLICE: Duration = Duration::from_secs(1);
/// With a limit, counters are looked at after a slice has lasted this long, then twice as long, and so on up to the latter.
const SOONEST: Duration = Duration::from_millis(1);
const LATEST: Duration = Duration::from_millis(20);

/// How fast a row's counter runs.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    /// When it was armed first.
    since: Instant,
    /// Of the slice (or, without a limit, the window): when it began, and the hits then.
    began: Instant,
    hits: u64,
    /// Out of the text: since when, and until when.
    out: Option<(Instant, Instant)>,
    /// How long it was out before.
    was_out: Duration,
    /// The user knows that it is expensive.
    told: bool,
}

impl Meter {
    fn new(now: Instant) -> Self {
        Self { since: now, began: now, hits: 0, out: None, was_out: Duration::ZERO, told: false }
    }

    /// The meter of the same row of a forked child, whose counters start anew.
    pub(super) fn forked(&self) -> Self {
        let now = Instant::now();
        Self { out: self.out.map(|(_, until)| (now, until)), ..Self::new(now) }
    }

    fn begin(&mut self, now: Instant, hits: u64) {
        (self.began, self.hits) = (now, hits);
    }

    /// Hits since the slice began, of `hits` in all.
    fn fresh(&self, hits: u64) -> u64 {
        hits.saturating_sub(self.hits)
    }

    /// When the average since the slice began is down to `limit`.
    fn due(&self, hits: u64, limit: u64) -> Instant {
        // Beyond a few centuries it is all the same; Duration would panic.
        let seconds = (self.fresh(hits) as f64 / limit as f64).min(1e9);
        self.began + Duration::from_secs_f64(seconds)
    }

    fn is_too_fast(&self, hits: u64, limit: u64, now: Instant) -> bool {
        self.out.is_none() && self.fresh(hits) > limit && self.due(hits, limit) > now
    }

    fn is_due(&self, now: Instant) -> bool {
        self.out.is_some_and(|(_, until)| until <= now)
    }

    fn go_out(&mut self, now: Instant, hits: u64, limit: u64) {
        self.out = Some((now, self.due(hits, limit)));
    }

    fn come_in(&mut self, now: Instant, hits: u64) {
        if let Some((since, _)) = self.out.take() {
            self.was_out += now.saturating_duration_since(since);
        }
        self.begin(now, hits);
    }

    /// The share of its time that the row was in the text; `None` if it always was.
    fn share(&self, now: Instant) -> Option<f64> {
        let out = self.was_out
            + self.out.map(|(since, _)| now.saturating_duration_since(since)).unwrap_or_default();
        let all = now.saturating_duration_since(self.since).as_secs_f64();
        (!out.is_zero() && all > 0.0).then(|| (1.0 - out.as_secs_f64() / all).clamp(0.0, 1.0))
    }
}

/// What a hit costs the thread that is hit.
fn cost(mechanism: Mechanism, action: Action) -> Duration {
    match (mechanism, action) {
        (Mechanism::Trap, _) => TRAP,
        (_, Action::Count) => COUNT,
        (_, Action::Trace) => EVENT,
    }
}

/// What is said of a probe that is hit `rate` times a second, if that is much.
fn overload(row: &Row, mechanism: Mechanism, action: Action, rate: f64) -> Option<String> {
    let share = rate * cost(mechanism, action).as_secs_f64();
    (share > SHARE || rate > MANY).then(|| {
        format!(
            "{} is hit {rate:.0} times a second, which costs the program about {:.0} % of a core; --max-rate N \
             takes the probe out for a while after N hits",
            row.probe,
            share * 100.0
        )
    })
}

impl Traced {
    /// The share of its time that a row was in the text; `None` if it always was.
    pub(super) fn share_armed(&self, row: &Row) -> Option<f64> {
        let meter = self.meters.get(usize::try_from(row.counter).ok()?)?;
        meter.share(self.over_since.unwrap_or_else(Instant::now))
    }

    /// Meters of rows that are armed by now; what its rows have counted.
    fn read_meters(&mut self, now: Instant) -> Vec<u64> {
        let known = self.meters.len();
        self.meters.extend((known..self.rows.all.len()).map(|_| Meter::new(now)));
        self.hits()
    }

    /// Who is expensive, of those of whom that is not known yet.
    fn overloads(&mut self, action: Action, now: Instant) -> Vec<String> {
        let hits = self.read_meters(now);
        let mut told = Vec::new();
        for ((row, meter), hits) in self.rows.all.iter().zip(&mut self.meters).zip(hits) {
            let time = now.saturating_duration_since(meter.began);
            if meter.told || time < WINDOW {
                continue;
            }
            let rate = meter.fresh(hits) as f64 / time.as_secs_f64();
            meter.begin(now, hits);
            let Standing::Armed(mechanism, _) = row.standing else { continue };
            let said = overload(row, mechanism, action, rate);
            meter.told = said.is_some();
            told.extend(said);
        }
        told
    }

    /// Takes note of who has to go out and who may come in again, as flags of the rows. Gives their numbers, and hits so far.
    fn turn(&mut self, limit: u64, now: Instant) -> Vec<(usize, u64)> {
        let hits = self.read_meters(now);
        let mut turned = Vec::new();
        for (number, (row, meter)) in self.rows.all.iter_mut().zip(&mut self.meters).enumerate() {
            let hits = hits.get(number).copied().unwrap_or(0);
            let is_armed = matches!(row.standing, Standing::Armed(..));
            if meter.is_due(now) || (is_armed && meter.is_too_fast(hits, limit, now)) {
                row.paused = !row.paused;
                turned.push((number, hits));
            } else if meter.out.is_none() && now.saturating_duration_since(meter.began) >= SLICE {
                meter.begin(now, hits);
            }
        }
        turned
    }

    /// The text is as the flags say. What was hit while it was being changed belongs to the slice that ended or begins.
    fn note_turned(&mut self, turned: &[(usize, u64)], limit: u64) {
        let (now, hits) = (Instant::now(), self.hits());
        for (number, before) in turned {
            let (Some(row), Some(meter)) = (self.rows.all.get(*number), self.meters.get_mut(*number)) else {
                continue;
            };
            if row.paused {
                meter.go_out(now, hits.get(*number).copied().unwrap_or(*before), limit);
            } else {
                meter.come_in(now, *before);
            }
        }
    }

    /// The text is as it was: the flags too.
    fn turn_back(&mut self, turned: &[(usize, u64)]) {
        for (number, _) in turned {
            if let Some(row) = self.rows.all.get_mut(*number) {
                row.paused = !row.paused;
            }
        }
    }

    /// When it is worth looking again.
    fn next_look(&self, now: Instant) -> Instant {
        let wake = |meter: &Meter| match meter.out {
            Some((_, until)) => until,
            None => now + now.saturating_duration_since(meter.began).clamp(SOONEST, LATEST),
        };
        let is_counting = |row: &Row| matches!(row.standing, Standing::Armed(..));
        let counting = self.rows.all.iter().zip(&self.meters).filter(|(row, _)| is_counting(row));
        counting.map(|(_, meter)| wake(meter)).min().unwrap_or(now + LATEST).max(now + SOONEST)
    }
}

impl Session {
    /// Looks at the counters if it is time: says who is expensive, or keeps all below the limit.
    pub(super) fn keep_pace(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if now < self.next_look {
            return Ok(());
        }
        match self.common.max_rate {
            Some(limit) => self.keep_below(limit, now),
            None => {
                self.next_look = now + WINDOW;
                let Self { common, traced, .. } = self;
                for one in traced.iter_mut().filter(|one| one.is_live()) {
                    common.warnings.extend(one.overloads(common.action, now));
                }
                Ok(())
            }
        }
    }

    fn keep_below(&mut self, limit: u64, now: Instant) -> Result<(), Error> {
        let mut next = now + SLICE;
        let mut outcomes = Vec::new();
        for index in 0..self.traced.len() {
            let Self { common, traced, watcher, .. } = self;
            let Some(one) = traced.get_mut(index).filter(|one| one.is_live()) else { continue };
            let turned = one.turn(limit, now);
            let armed = if turned.is_empty() { Ok(()) } else { one.arm(common, false, watcher.progress()) };
            match &armed {
                Ok(()) => one.note_turned(&turned, limit),
                Err(_) => one.turn_back(&turned),
            }
            // What cannot be done now is tried again, but not at once.
            if armed.is_ok() {
                next = next.min(one.next_look(Instant::now()));
            }
            outcomes.push((one.space, armed));
        }
        self.next_look = next;
        self.index_sites();
        outcomes.into_iter().try_for_each(|(space, armed)| self.note_failure(space, armed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn out_until_the_average_is_down() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        assert!(!meter.is_too_fast(1000, 1000, start), "N hits are allowed at once");
        assert!(meter.is_too_fast(1001, 1000, start));
        meter.go_out(start, 5000, 1000);
        assert!(!meter.is_due(start + 4 * SECOND) && meter.is_due(start + 5 * SECOND));
        meter.come_in(start + 5 * SECOND, 5000);
        assert!(!meter.is_too_fast(6000, 1000, start + 5 * SECOND), "a new slice");
        assert_eq!(meter.share(start + 10 * SECOND), Some(0.5));
    }

    #[test]
    fn what_is_slow_is_never_out() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        for second in 0..100 {
            let now = start + second * SECOND;
            assert!(!meter.is_too_fast(u64::from(second) * 1000, 1000, now));
            meter.begin(now, u64::from(second) * 1000);
        }
        assert_eq!(meter.share(start + 100 * SECOND), None);
    }

    #[test]
    fn numbers_that_make_no_sense() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        meter.go_out(start, u64::MAX, 1);
        assert!(!meter.is_due(start + SECOND));
        meter.begin(start, 10);
        assert!(!meter.is_too_fast(9, 1, start), "a counter that ran backwards");
    }

    #[test]
    fn costs() {
        let share = |mechanism, action| cost(mechanism, action).as_secs_f64() * 10_000.0;
        assert!(share(Mechanism::Trap, Action::Count) > SHARE);
        assert!(share(Mechanism::Jump, Action::Trace) < SHARE);
        assert!(share(Mechanism::Jump, Action::Count) < share(Mechanism::Jump, Action::Trace));
    }
}
