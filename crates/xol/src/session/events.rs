//! While the probes are armed: news of the target, hits from the rings.

use std::time::{Duration, Instant};

use program::ring;
use target::TargetError;
use target::holder::{News, Reply, Request};

use super::start::Session;
use super::types::{Error, Hit, Progress, State};

/// The rings are read at least this often: hits come out within 100 ms.
const READ_EVERY: Duration = Duration::from_millis(20);
/// A record that is begun and not finished for so long is looked into.
const STALL: Duration = Duration::from_millis(100);

impl Session {
    /// Waits for hits or a change of the target, at most `timeout`; may return early.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn poll(&mut self, timeout: Duration, on_hit: &mut dyn FnMut(Hit)) -> Result<State, Error> {
        let end = Instant::now() + timeout;
        loop {
            if self.is_over() {
                return Ok(State::Ended);
            }
            let wake = if self.reader.is_some() { end.min(Instant::now() + READ_EVERY) } else { end };
            match self.client.news(wake) {
                Ok(Some(news)) => self.on_news(news)?,
                Ok(None) => {}
                Err(TargetError::Line(_)) => self.holder_is_gone(),
                Err(error) => return Err(error.into()),
            }
            self.read_rings(on_hit)?;
            if Instant::now() >= end {
                return Ok(if self.is_over() { State::Ended } else { State::Running });
            }
        }
    }

    fn is_over(&self) -> bool {
        self.ended.is_some() || self.replaced || self.holder_died
    }

    pub(super) fn on_news(&mut self, news: News) -> Result<(), Error> {
        match news {
            News::Ended { status, signal } => self.ended = Some((status, signal)),
            News::Warning(text) => self.warnings.push(text),
            News::Exec(_) => {
                self.replaced = true;
                self.warnings
                    .push("the program replaced itself by another (exec): its probes ended there".to_owned());
            }
            News::Library(tid) => {
                if !self.removed && self.ended.is_none() {
                    // The program must go on whatever comes of this.
                    let armed = self.arm(false, &mut Silent);
                    self.client.request(&Request::Go { tid })?;
                    self.note_failure(armed)?;
                }
            }
        }
        Ok(())
    }

    fn note_failure(&mut self, armed: Result<(), Error>) -> Result<(), Error> {
        match armed {
            Ok(()) | Err(Error::Target(TargetError::Gone { .. })) => Ok(()),
            Err(Error::Target(error @ TargetError::Line(_))) => Err(error.into()),
            Err(error) => {
                self.warnings.push(format!("a library that was loaded could not be probed: {error}"));
                Ok(())
            }
        }
    }

    pub(super) fn sample_clock(&mut self) {
        let (stamp, time) = target::sys::clock::pair();
        self.clock.sample(stamp, time);
    }

    fn read_rings(&mut self, on_hit: &mut dyn FnMut(Hit)) -> Result<(), Error> {
        if self.drain(false, on_hit) == 0 {
            self.stalled = None;
            return Ok(());
        }
        let since = *self.stalled.get_or_insert_with(Instant::now);
        if since.elapsed() < STALL || self.is_over() {
            return Ok(());
        }
        self.stalled = None;
        self.look_into_stall(on_hit)
    }

    /// A record was begun and its thread does not finish it: it was killed, or jumped out. With the world stopped and
    /// nobody in our code that is certain.
    fn look_into_stall(&mut self, on_hit: &mut dyn FnMut(Hit)) -> Result<(), Error> {
        if let Reply::Frozen(inside) = self.client.request(&Request::Freeze)?
            && inside.is_empty()
        {
            self.drain(true, on_hit);
        }
        self.client.request(&Request::Thaw)?;
        Ok(())
    }

    /// Hands out what is in the rings, in the order of time. Gives the number of rings that wait.
    pub(super) fn drain(&mut self, quiescent: bool, on_hit: &mut dyn FnMut(Hit)) -> u32 {
        let (Some(reader), Some(shared)) = (&mut self.reader, &self.shared) else { return 0 };
        let mut hits: Vec<ring::Hit> = Vec::new();
        let progress = if quiescent {
            reader.drain_quiescent(shared, &mut |hit| hits.push(hit))
        } else {
            reader.drain(shared, &mut |hit| hits.push(hit))
        };
        self.sample_clock();
        hits.sort_by_key(|hit| hit.tsc);
        for hit in hits {
            let Ok(site) = usize::try_from(hit.probe) else { continue };
            if site < self.rows.all.len() {
                on_hit(Hit {
                    time_ns: self.clock.time(hit.tsc).unwrap_or(0),
                    pid: self.pid.cast_unsigned(),
                    tid: hit.tid,
                    site,
                    args: hit.args,
                });
            }
        }
        progress.waiting
    }
}

/// Nobody watches work that is done while the program waits.
pub(super) struct Silent;

impl Progress for Silent {
    fn phase(&mut self, _what: &str, _total: u64) {}
    fn advance(&mut self, _done: u64) {}
    fn note(&mut self, _text: &str) {}
    fn cancelled(&self) -> bool {
        false
    }
}
