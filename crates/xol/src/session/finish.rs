//! The end of a session: text restored, last hits and final counts read, the command waited for.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use program::layout::Layout;
use target::engine::Left;
use target::holder::{Reply, Request, Status};
use target::{TargetError, recover};

use super::rows::Wanted;
use super::start::Session;
use super::types::{Error, Hit, Mechanism, Progress, SiteStatus, Summary};

/// How long one wait for the command's end lasts before it is begun again.
const LONG: Duration = Duration::from_secs(3600);

impl Session {
    /// Adds a probe to the running session. Gives the indices of its sites.
    ///
    /// # Errors
    /// See [`Error`]; nothing is changed then.
    pub fn add(&mut self, spec: &str, progress: &mut dyn Progress) -> Result<Vec<usize>, Error> {
        let wanted = Wanted::parse(spec)?;
        let first = self.rows.all.len();
        let system = crate::catalogue::system(Some(self.pid()))?;
        self.rows.expect(self.wanted.len(), &wanted, &system)?;
        self.wanted.push(wanted);
        let armed = self.arm(true, progress);
        if armed.is_err() {
            if let Some(wanted) = self.wanted.last_mut() {
                wanted.dropped = true;
            }
            self.arm(false, progress)?;
        }
        armed?;
        Ok((first..self.rows.all.len()).collect())
    }

    /// Takes out the probes of one spec, given the index of one of its sites; their counts stay.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn drop_probe(&mut self, site: usize, progress: &mut dyn Progress) -> Result<(), Error> {
        let Some(wanted) = self.rows.all.get(site).map(|row| row.wanted) else { return Ok(()) };
        if let Some(wanted) = self.wanted.get_mut(wanted) {
            wanted.dropped = true;
        }
        self.arm(false, progress)
    }

    /// Removes all probes and reads the final counts and the last hits. The command of `-- CMD` goes on.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn remove(&mut self, on_hit: &mut dyn FnMut(Hit)) -> Result<(Vec<SiteStatus>, Summary), Error> {
        let (left, status) = self.take_out()?;
        self.drain(true, on_hit);
        if let (Some(environment), Some(shared)) = (&self.environment, &self.shared) {
            self.final_hits = Some(Layout::all_hits(&environment.layout, shared));
        }
        let sites = self.sites();
        let summary = self.summary(&sites, &left, status);
        Ok((sites, summary))
    }

    /// Takes everything out, by the holder or, if that is gone, by ourselves.
    pub(super) fn take_out(&mut self) -> Result<(Left, Status), Error> {
        self.removed = true;
        if !self.holder_died {
            match self.client.request(&Request::Leave) {
                Ok(Reply::Left(left, status)) => return Ok((left, status)),
                Ok(_) => return Err(TargetError::Line("a strange answer".to_owned()).into()),
                Err(TargetError::Line(_)) => self.holder_is_gone(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok((self.recovered.clone().unwrap_or_default(), Status::default()))
    }

    /// The holder died: hits of breakpoints and stale PCs are fatal to the target until its text is restored.
    pub(super) fn holder_is_gone(&mut self) {
        if self.holder_died {
            return;
        }
        self.holder_died = true;
        self.removed = true;
        self.client.bury();
        let recovered = recover::recover(self.pid);
        self.warnings.push(match &recovered {
            Ok((sites, _)) => {
                format!("the holder process was killed; the front restored the text ({sites} sites)")
            }
            Err(error) => {
                format!("the holder process was killed, and the text could not be restored: {error}")
            }
        });
        self.recovered = match recovered {
            Ok((_, left)) => Some(left),
            Err(TargetError::NoSuchProcess { .. } | TargetError::Gone { .. }) => {
                Some(Left { verified: true, ..Left::default() })
            }
            Err(_) => None,
        };
    }

    fn summary(&self, sites: &[SiteStatus], left: &Left, status: Status) -> Summary {
        let count = |mechanism| sites.iter().filter(|site| site.mechanism == mechanism).count() as u64;
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let mut warnings = self.warnings.clone();
        warnings.extend(self.warnings_of(left));
        Summary {
            jump: count(Mechanism::Jump),
            trap: count(Mechanism::Trap),
            refused: count(Mechanism::Refused),
            waiting: count(Mechanism::Waiting),
            hits: sites.iter().map(|site| site.hits).sum(),
            lost: sites.iter().map(|site| site.lost).sum(),
            threads: status.threads as u64,
            stopped_us: micros(status.stopped),
            longest_stop_us: micros(status.longest_stop),
            text_restored: left.verified,
            left_mapped: left.left_mapped as u64,
            warnings,
        }
    }

    fn warnings_of(&self, left: &Left) -> Vec<String> {
        let mut warnings = Vec::new();
        for at in &left.changed {
            warnings.push(format!("{at}: changed by the program while it was probed; not touched"));
        }
        if left.left_mapped > 0 {
            warnings.push(format!(
                "{} mappings of the area stay: something may still reach them (the next xol takes them over)",
                left.left_mapped
            ));
        }
        if let Some(reader) = &self.reader {
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
        if self.clock.backwards() > 0 {
            warnings.push(format!("the clock went backwards {} times", self.clock.backwards()));
        }
        warnings
    }

    /// Waits for the command of `-- CMD` to end; `None` for an attached target.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn wait(mut self) -> Result<Option<ExitStatus>, Error> {
        while self.is_command && self.ended.is_none() {
            if self.holder_died {
                self.wait_as_subreaper();
                break;
            }
            match self.client.news(Instant::now() + LONG) {
                Ok(Some(news)) => self.on_news(news)?,
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
            self.client.quit();
        }
        Ok(status.filter(|_| self.is_command))
    }

    /// An orphan of the holder is our child now.
    fn wait_as_subreaper(&mut self) {
        self.ended = target::sys::ptrace::wait_for_end(self.pid);
    }
}
