//! While the probes are armed: news of the target, hits from the rings.

use std::time::{Duration, Instant};

use program::ring;
use target::TargetError;
use target::holder::{Newborn, News, Origin, Request, Space, Status};

use super::rows::Rows;
use super::start::Session;
use super::traced::{Stage, Traced, sample};
use super::types::{Action, Error, Hit, Progress, State};

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
            let reads = self.common.action == Action::Trace;
            let wake = if reads { end.min(Instant::now() + READ_EVERY) } else { end };
            let wake = wake.min(self.next_look);
            match self.common.client.news(wake) {
                Ok(Some(news)) => self.on_news(news)?,
                // Whatever was forked before the last change has been heard of.
                Ok(None) => self.traced.iter_mut().for_each(|traced| traced.past.clear()),
                Err(TargetError::Line(_)) => self.holder_is_gone(),
                Err(error) => return Err(error.into()),
            }
            self.read_rings(on_hit)?;
            if !self.is_over() {
                self.keep_pace()?;
            }
            if Instant::now() >= end {
                return Ok(if self.is_over() { State::Ended } else { State::Running });
            }
        }
    }

    /// Who is told of the work that the target causes while it runs: a library that it loads is analysed while it waits.
    pub fn show_progress(&mut self, progress: Box<dyn Progress>) {
        self.watcher = Watcher(progress);
    }

    fn is_over(&self) -> bool {
        self.holder_died || !self.traced.iter().any(Traced::is_live)
    }

    /// Acts on news; the holder may die meanwhile.
    pub(super) fn on_news(&mut self, news: News) -> Result<(), Error> {
        match self.act_on(news) {
            Err(Error::Target(TargetError::Line(_))) => {
                self.holder_is_gone();
                Ok(())
            }
            other => other,
        }
    }

    fn act_on(&mut self, news: News) -> Result<(), Error> {
        match news {
            News::Command { status, signal } => self.ended = Some((status, signal)),
            News::Warning(text) => self.common.warnings.push(text),
            News::Ended { space, numbers, saved } => self.note_end(space, numbers, saved)?,
            News::Born(newborn) => self.take_newborn(newborn)?,
            News::PassedOn(space, pid) => {
                let passed = self.traced.iter_mut().filter(|traced| traced.space == space);
                passed.for_each(|traced| traced.stands = pid);
            }
            News::Library(space, tid) => {
                // The program must go on whatever comes of this.
                let starts = self.is_starting(space);
                let armed = if self.removed { Ok(()) } else { self.arm_space(space, starts) };
                self.common.client.request(&Request::Go { space, tid })?;
                match armed {
                    // What the command is made of is mapped only now: as if it had been there from the start.
                    Err(error @ Error::Refused { .. }) if starts => return Err(error),
                    armed => self.note_failure(space, armed)?,
                }
            }
        }
        Ok(())
    }

    fn note_end(&mut self, space: Space, numbers: Status, saved: Option<i32>) -> Result<(), Error> {
        let Self { common, traced, .. } = self;
        let ended = traced.iter_mut().find(|traced| traced.space == space);
        // Of one that was let go everything is known, unless it had ended before it could be.
        let Some(traced) = ended.filter(|traced| traced.is_live() || saved.is_some()) else { return Ok(()) };
        if traced.is_live() {
            traced.stage = Stage::Over;
        }
        traced.numbers = numbers;
        traced.take_saved(&mut common.client, saved)?;
        if traced.lose_state() {
            common.warnings.push(format!(
                "process {} executed another program: its hits since they were last read (up to 0.1 s before) are not \
                 counted, because the counts had to be in its own memory (it has a system-call filter, or could not make \
                 a memfd)",
                traced.pid
            ));
        }
        Ok(())
    }

    /// A new address space: wanted only while children are followed and the probes are not taken out.
    fn take_newborn(&mut self, newborn: Newborn) -> Result<(), Error> {
        let Newborn { parent, space, pid, origin } = newborn;
        if let Origin::Executed { replaced: true, .. } = origin
            && !self.common.manner.follow
        {
            self.common
                .warnings
                .push("the program replaced itself by another (exec): its probes ended there".to_owned());
        }
        match origin {
            Origin::Forked { state, changes } if self.common.manner.follow => {
                let parent = self.traced.iter().find(|traced| traced.space == parent);
                let child = parent.and_then(|parent| Traced::forked(parent, changes, space, pid));
                let Some(child) = child else { return self.let_go(space) };
                // Also while the probes are taken out: it has counts, and is let go next.
                let is_behind = parent.is_some_and(|parent| parent.changes != changes);
                self.traced.push(child);
                self.open_child(space, state)?;
                let armed = if is_behind && !self.removed { self.arm_space(space, false) } else { Ok(()) };
                self.note_failure(space, armed)
            }
            Origin::Executed { tid, .. } if self.common.manner.follow && !self.removed => {
                self.traced.push(Traced::beginning(space, pid, Rows::default()));
                let armed = self.arm_space(space, false);
                self.common.client.request(&Request::Go { space, tid })?;
                self.note_failure(space, armed)
            }
            _ => self.let_go(space),
        }
    }

    fn open_child(&mut self, space: Space, descriptor: Option<i32>) -> Result<(), Error> {
        let Self { common, traced, .. } = self;
        if let Some(child) = traced.last_mut() {
            let opened = child.open_state(&common.client, common.action, descriptor);
            match opened {
                // A state that is the child's alone is gone with it: then a copy comes with the news of its end.
                Err(_) if descriptor.is_none() => {}
                // One that is the holder's is there until we have opened it, or the holder is gone.
                Err(error) if common.client.is_gone() => {
                    return Err(TargetError::Line(error.to_string()).into());
                }
                opened => opened?,
            }
        }
        self.index_sites();
        // Without one there is nothing that the holder keeps, but for the copy that it may have made meanwhile.
        if descriptor.is_some() {
            self.common.client.request(&Request::Opened(space))?;
        }
        Ok(())
    }

    /// Lets go of an address space that nobody wants to probe.
    fn let_go(&mut self, space: Space) -> Result<(), Error> {
        match self.common.client.request(&Request::Leave(space)) {
            Err(error) if !error.is_end() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Whether this report of the loader still belongs to the start of a command.
    fn is_starting(&mut self, space: Space) -> bool {
        let traced = self.traced.iter_mut().find(|traced| traced.space == space);
        let Some(events) = traced.map(|traced| &mut traced.startup_events) else { return false };
        let is_starting = *events > 0;
        *events = events.saturating_sub(1);
        is_starting
    }

    /// `starts`: the refusal of an exact name is an error, as at the beginning.
    fn arm_space(&mut self, space: Space, starts: bool) -> Result<(), Error> {
        let Self { common, traced, watcher, .. } = self;
        let progress = watcher.progress();
        let armed = traced
            .iter_mut()
            .find(|traced| traced.space == space && traced.is_live())
            .map_or(Ok(()), |traced| traced.arm(common, starts, progress));
        if let (Err(error @ Error::Refused { .. }), true) = (&armed, starts) {
            progress.note(&format!("{error}; the command goes on without probes"));
        }
        self.index_sites();
        armed
    }

    pub(super) fn note_failure(&mut self, space: Space, armed: Result<(), Error>) -> Result<(), Error> {
        match armed {
            // Who wanted out will remove everything.
            Ok(()) | Err(Error::Cancelled) => {}
            Err(Error::Target(error @ TargetError::Line(_))) => return Err(error.into()),
            // Whatever goes wrong with a process that ends goes wrong because of that.
            Err(_) if !self.lives(space) => {}
            Err(error) => {
                let what = format!("what was loaded, executed or forked could not be probed: {error}");
                if !self.common.warnings.contains(&what) {
                    self.common.warnings.push(what);
                }
            }
        }
        Ok(())
    }

    fn lives(&self, space: Space) -> bool {
        let traced = self.traced.iter().find(|traced| traced.space == space && traced.is_live());
        traced.is_some_and(|traced| target::linux::is_alive(traced.stands))
    }

    fn read_rings(&mut self, on_hit: &mut dyn FnMut(Hit)) -> Result<(), Error> {
        let mut hits = Vec::new();
        for (index, traced) in self.traced.iter_mut().enumerate() {
            let mut new = Vec::new();
            // Of one that is gone nothing can come any more.
            let is_over = !traced.is_live();
            traced.look_at_state();
            let waiting = traced.take_hits(is_over, &mut new);
            if is_over {
                traced.close_state();
            } else if is_stalled(traced, waiting) {
                traced.settle_rings(&mut self.common.client, &mut new)?;
            }
            hits.extend(new.into_iter().map(|hit| (index, hit)));
        }
        self.hand_out(hits, on_hit);
        Ok(())
    }

    /// Hands out hits in the order of time.
    pub(super) fn hand_out(&mut self, mut hits: Vec<(usize, ring::Hit)>, on_hit: &mut dyn FnMut(Hit)) {
        if self.common.action == Action::Trace {
            sample(&mut self.common.clock);
        }
        hits.sort_by_key(|(_, hit)| hit.tsc);
        for (index, hit) in hits {
            let Some(traced) = self.traced.get(index) else { continue };
            let row = usize::try_from(hit.probe).unwrap_or(usize::MAX);
            let Some(site) = traced.sites.get(row).copied() else { continue };
            on_hit(Hit {
                time_ns: self.common.clock.time(hit.tsc).unwrap_or(0),
                pid: traced.pid.cast_unsigned(),
                tid: hit.tid,
                site,
                args: hit.args,
            });
        }
    }
}

/// Whether a record has been waited for so long that it is worth a stop: it was begun and its thread does not finish it,
/// because it was killed, or jumped out. With the world stopped and nobody in our code that is certain.
fn is_stalled(traced: &mut Traced, waiting: u32) -> bool {
    if waiting == 0 {
        traced.stalled = None;
        return false;
    }
    let since = *traced.stalled.get_or_insert_with(Instant::now);
    let is_long = since.elapsed() >= STALL;
    if is_long {
        traced.stalled = None;
    }
    is_long
}

/// Who watches work that a running target causes, if anybody does.
pub(super) struct Watcher(Box<dyn Progress>);

impl Watcher {
    pub(super) fn progress(&mut self) -> &mut dyn Progress {
        &mut *self.0
    }
}

impl Default for Watcher {
    fn default() -> Self {
        Self(Box::new(Nobody))
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").finish_non_exhaustive()
    }
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Progress for Nobody {
    fn phase(&mut self, _what: &str, _total: u64) {}
    fn advance(&mut self, _done: u64) {}
    fn note(&mut self, _text: &str) {}
    fn cancelled(&self) -> bool {
        false
    }
}
