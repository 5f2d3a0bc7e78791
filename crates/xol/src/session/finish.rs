//! The end of a session: text restored, last hits and final counts read, the command waited for.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use target::engine::Left;
use target::holder::{News, Reply, Request, Space};
use target::{TargetError, recover};

use super::rows::Wanted;
use super::start::{Session, strange};
use super::traced::{Stage, Traced};
use super::types::{Error, Hit, Mechanism, Progress, SiteStatus, Summary};

/// No probe is hit so often: it would take decades.
const IMPOSSIBLE: u64 = 1 << 60;
/// How often the world is asked to stop for the end of a session; each time takes most of a second.
const LEAVE_TRIES: u32 = 10;
/// How long one wait for the command's end lasts before it is begun again.
const LONG: Duration = Duration::from_secs(3600);

impl Session {
    /// Adds a probe to the running session. Gives the indices of its sites.
    ///
    /// # Errors
    /// See [`Error`]; nothing is changed then.
    pub fn add(&mut self, spec: &str, progress: &mut dyn Progress) -> Result<Vec<usize>, Error> {
        let wanted = Wanted::parse(spec)?;
        let first = self.sites.len();
        for traced in self.traced.iter_mut().filter(|traced| traced.is_live()) {
            let system = crate::catalogue::system(Some(traced.stands.cast_unsigned()))?;
            traced.rows.expect(self.common.wanted.len(), &wanted, &system, progress)?;
        }
        self.common.wanted.push(wanted);
        let armed = self.arm_all(true, progress);
        if armed.is_err() {
            if let Some(wanted) = self.common.wanted.last_mut() {
                wanted.dropped = true;
            }
            self.arm_all(false, progress)?;
        }
        armed?;
        Ok((first..self.sites.len()).collect())
    }

    /// Takes out the probes of one spec, given the index of one of its sites; their counts stay.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn drop_probe(&mut self, site: usize, progress: &mut dyn Progress) -> Result<(), Error> {
        let row = self.sites.get(site).and_then(|&(index, row)| self.traced.get(index)?.rows.all.get(row));
        let Some(wanted) = row.map(|row| row.wanted) else { return Ok(()) };
        if let Some(wanted) = self.common.wanted.get_mut(wanted) {
            wanted.dropped = true;
        }
        self.arm_all(false, progress)
    }

    /// Removes all probes and reads the final counts and the last hits. The command of `-- CMD` goes on.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn remove(&mut self, on_hit: &mut dyn FnMut(Hit)) -> Result<(Vec<SiteStatus>, Summary), Error> {
        self.take_out()?;
        let mut hits = Vec::new();
        for (index, traced) in self.traced.iter_mut().enumerate() {
            let mut new = Vec::new();
            traced.take_hits(true, &mut new);
            traced.close_state();
            hits.extend(new.into_iter().map(|hit| (index, hit)));
        }
        self.hand_out(hits, on_hit);
        let sites = self.sites();
        let summary = self.summary(&sites);
        Ok((sites, summary))
    }

    /// Takes everything out, by the holder or, if that is gone, by ourselves.
    pub(super) fn take_out(&mut self) -> Result<(), Error> {
        self.removed = true;
        let mut failed = Vec::new();
        let mut failure = None;
        loop {
            let is_next = |one: &Traced| one.is_live() && !failed.contains(&one.space);
            let Some(index) = self.traced.iter().position(is_next).filter(|_| !self.holder_died) else {
                return failure.map_or(Ok(()), Err);
            };
            let space = self.traced[index].space;
            match self.leave(space) {
                Ok(Reply::Left(left, numbers, saved)) => {
                    let Self { common, traced, .. } = self;
                    traced[index].stage = Stage::Left(left);
                    traced[index].numbers = numbers;
                    traced[index].take_saved(&mut common.client, saved)?;
                }
                Ok(_) => return Err(strange()),
                Err(TargetError::Line(_)) => self.holder_is_gone(),
                // The others are let go all the same; of this one the holder takes care when we end.
                Err(error) => {
                    failed.push(space);
                    failure.get_or_insert(error.into());
                }
            }
            self.hear_what_came()?;
        }
    }

    /// Asks the holder to let a space go, again and again where a thread got no processor in time to stop: arming can be
    /// given up, but this must be done.
    fn leave(&mut self, space: Space) -> Result<Reply, TargetError> {
        let mut tries = LEAVE_TRIES;
        loop {
            match self.common.client.request(&Request::Leave(space)) {
                Err(TargetError::DidNotStop { .. }) if tries > 1 => tries -= 1,
                other => return other,
            }
        }
    }

    /// What the holder told meanwhile: children that came before their parent was let go must be let go too.
    fn hear_what_came(&mut self) -> Result<(), Error> {
        while !self.holder_died {
            match self.common.client.news(Instant::now()) {
                Ok(Some(news)) => self.on_news(news)?,
                Ok(None) => break,
                Err(TargetError::Line(_)) => self.holder_is_gone(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The holder died: hits of breakpoints and stale PCs are fatal to the target until its text is restored.
    pub(super) fn holder_is_gone(&mut self) {
        if self.holder_died {
            return;
        }
        self.holder_died = true;
        self.removed = true;
        self.traced.iter().filter(|one| one.is_live()).for_each(Traced::close_asks);
        self.common.client.bury();
        let live = self.traced.iter().filter(|one| one.is_live());
        let pids: BTreeSet<i32> = live.map(|one| one.stands).collect();
        let told = self.unheard_children();
        for pid in pids.into_iter().chain(told) {
            self.recover(pid);
        }
        // Children that it had not told of: they carry its name.
        for pid in recover::left_by(self.common.client.holder()) {
            self.recover(pid);
        }
    }

    /// Children that the holder told of before it died, unheard so far.
    fn unheard_children(&mut self) -> Vec<i32> {
        let mut pids = Vec::new();
        while let Ok(Some(news)) = self.common.client.news(Instant::now()) {
            match news {
                News::Born(newborn) => pids.push(newborn.pid),
                News::Command { status, signal } => self.ended = Some((status, signal)),
                _ => {}
            }
        }
        pids
    }

    fn recover(&mut self, pid: i32) {
        let recovered = recover::recover(pid);
        self.common.warnings.push(match &recovered {
            Ok((sites, _)) => {
                format!("the holder process was killed; the front restored the text of {pid} ({sites} sites)")
            }
            Err(error) => {
                format!("the holder process was killed, and the text of {pid} could not be restored: {error}")
            }
        });
        let left = match recovered {
            Ok((_, left)) => left,
            Err(TargetError::NoSuchProcess { .. } | TargetError::Gone { .. }) => {
                Left { verified: true, ..Left::default() }
            }
            Err(_) => Left::default(),
        };
        for traced in self.traced.iter_mut().filter(|traced| traced.is_live() && traced.stands == pid) {
            traced.stage = Stage::Left(left.clone());
        }
    }

    fn summary(&self, sites: &[SiteStatus]) -> Summary {
        let count = |mechanism| sites.iter().filter(|site| site.mechanism == mechanism).count() as u64;
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let numbers = || self.traced.iter().map(|traced| traced.numbers);
        let mut warnings = self.common.warnings.clone();
        warnings.extend(self.traced.iter().flat_map(warnings_of));
        warnings.extend(sites.iter().filter_map(|site| {
            let share = site.sampled? * 100.0;
            Some(format!("{} (process {}) was sampled: armed {share:.2} % of the time", site.probe, site.pid))
        }));
        if self.common.clock.backwards() > 0 {
            warnings.push(format!("the clock went backwards {} times", self.common.clock.backwards()));
        }
        warnings.extend(impossible_counts(sites));
        Summary {
            hit_cost_ns: None,
            jump: count(Mechanism::Jump),
            pun: count(Mechanism::Pun),
            trap: count(Mechanism::Trap),
            refused: count(Mechanism::Refused),
            waiting: count(Mechanism::Waiting),
            sampled: sites.iter().filter(|site| site.sampled.is_some()).count() as u64,
            hits: sites.iter().map(|site| site.hits).fold(0, u64::saturating_add),
            lost: sites.iter().map(|site| site.lost).fold(0, u64::saturating_add),
            threads: numbers().map(|numbers| numbers.threads as u64).sum(),
            stopped_us: numbers().map(|numbers| micros(numbers.stopped)).sum(),
            longest_stop_us: numbers().map(|numbers| micros(numbers.longest_stop)).max().unwrap_or(0),
            text_restored: self.traced.iter().all(Traced::is_restored),
            left_mapped: self.traced.iter().map(|traced| traced.left().left_mapped as u64).sum(),
            mappings: self.traced.iter().map(|traced| traced.footprint.mappings).sum(),
            pages: self.traced.iter().map(|traced| traced.footprint.pages).sum(),
            resident: self.traced.iter().map(|traced| traced.footprint.resident).sum(),
            warnings,
        }
    }

    /// Waits for the command of `-- CMD` to end; `None` for an attached target.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn wait(mut self) -> Result<Option<ExitStatus>, Error> {
        while self.common.is_command && self.ended.is_none() {
            if self.holder_died {
                self.wait_as_subreaper();
                break;
            }
            match self.common.client.news(Instant::now() + LONG) {
                Ok(Some(news)) => {
                    self.on_news(news)?;
                    // A child of which nobody had heard.
                    self.take_out()?;
                }
                Ok(None) => {}
                Err(_) => self.holder_is_gone(),
            }
        }
        let status = self.ended.map(|(status, signal)| {
            ExitStatus::from_raw(
                signal.map_or_else(|| (status.unwrap_or(0) & 0xff) << 8, |signal| signal & 0x7f),
            )
        });
        if !self.holder_died {
            self.common.client.quit();
        }
        Ok(status.filter(|_| self.common.is_command))
    }

    /// An orphan of the holder is our child now.
    fn wait_as_subreaper(&mut self) {
        self.ended = self.traced.first().and_then(|command| target::sys::ptrace::wait_for_end(command.pid));
    }
}

fn warnings_of(traced: &Traced) -> Vec<String> {
    let mut warnings = Vec::new();
    let left = traced.left();
    for at in &left.undone {
        warnings.push(format!(
            "{at}: the program wrote the original bytes back while it was probed; later hits were not counted"
        ));
    }
    for at in &left.changed {
        warnings.push(format!("{at}: changed by the program while it was probed; not touched"));
    }
    if left.left_mapped > 0 {
        warnings.push(format!(
            "{} mappings of the area stay: something may still reach them (the next xol takes them over)",
            left.left_mapped
        ));
    }
    if let Some(reader) = &traced.reader {
        if reader.corrupt() > 0 {
            warnings.push(format!(
                "{} records were corrupt: the program wrote over the shared state",
                reader.corrupt()
            ));
        }
        if reader.unattributed() > 0 {
            warnings.push(format!("{} records were reserved and never begun", reader.unattributed()));
        }
    }
    warnings
}

/// Counters that only the program itself can have written.
fn impossible_counts(sites: &[SiteStatus]) -> Option<String> {
    let count = sites.iter().filter(|site| site.hits.max(site.lost) >= IMPOSSIBLE).count();
    let what = if count == 1 { "probe's counts are" } else { "probes' counts are" };
    (count > 0)
        .then(|| format!("{count} {what} impossible, so corrupt: the program wrote over the shared state"))
}
