//! What `stat` and `trace` ask of a session, so that they can be tested without a process.

use std::process::ExitStatus;
use std::time::Duration;

use xol::remote::RemoteSession;
use xol::session::{Error, Hit, Session, SiteStatus, State, Summary};

/// A target with armed probes: the methods of [`Session`] of the same names.
pub(crate) trait Live {
    fn armed_at(&self) -> u64;
    fn sites(&self) -> Vec<SiteStatus>;
    fn warnings(&self) -> &[String];
    fn poll(&mut self, timeout: Duration, on_hit: &mut dyn FnMut(Hit)) -> Result<State, Error>;
    fn remove(&mut self, on_hit: &mut dyn FnMut(Hit)) -> Result<(Vec<SiteStatus>, Summary), Error>;
    fn wait(self: Box<Self>) -> Result<Option<ExitStatus>, Error>;
}

impl Live for Session {
    fn armed_at(&self) -> u64 {
        Self::armed_at(self)
    }

    fn sites(&self) -> Vec<SiteStatus> {
        Self::sites(self)
    }

    fn warnings(&self) -> &[String] {
        Self::warnings(self)
    }

    fn poll(&mut self, timeout: Duration, on_hit: &mut dyn FnMut(Hit)) -> Result<State, Error> {
        Self::poll(self, timeout, on_hit)
    }

    fn remove(&mut self, on_hit: &mut dyn FnMut(Hit)) -> Result<(Vec<SiteStatus>, Summary), Error> {
        Self::remove(self, on_hit)
    }

    fn wait(self: Box<Self>) -> Result<Option<ExitStatus>, Error> {
        Self::wait(*self)
    }
}

impl Live for RemoteSession {
    fn armed_at(&self) -> u64 {
        Self::armed_at(self)
    }

    fn sites(&self) -> Vec<SiteStatus> {
        Self::sites(self)
    }

    fn warnings(&self) -> &[String] {
        Self::warnings(self)
    }

    fn poll(&mut self, timeout: Duration, on_hit: &mut dyn FnMut(Hit)) -> Result<State, Error> {
        Self::poll(self, timeout, on_hit)
    }

    fn remove(&mut self, on_hit: &mut dyn FnMut(Hit)) -> Result<(Vec<SiteStatus>, Summary), Error> {
        Self::remove(self, on_hit)
    }

    fn wait(self: Box<Self>) -> Result<Option<ExitStatus>, Error> {
        Ok(Self::wait(*self))
    }
}

/// A session that plays back what a test gives it.
#[cfg(test)]
pub(crate) mod fake {
    use super::*;
    use xol::session::{LostBy, Mechanism};

    /// One poll: hits that arrive, and the sites' counts after it.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Step {
        pub(crate) hits: Vec<Hit>,
        pub(crate) counts: Vec<u64>,
        pub(crate) lost: Vec<LostBy>,
    }

    #[derive(Debug, Default)]
    pub(crate) struct FakeSession {
        pub(crate) sites: Vec<SiteStatus>,
        pub(crate) steps: Vec<Step>,
        /// Hits that come with the removal.
        pub(crate) last_hits: Vec<Hit>,
        pub(crate) summary: Summary,
        pub(crate) command: Option<ExitStatus>,
        /// Whether the target goes on after the last step.
        pub(crate) endless: bool,
        pub(crate) removed: std::rc::Rc<std::cell::Cell<bool>>,
        pub(crate) next: usize,
    }

    impl Live for FakeSession {
        fn armed_at(&self) -> u64 {
            1_000_000_000
        }

        fn sites(&self) -> Vec<SiteStatus> {
            self.sites.clone()
        }

        fn warnings(&self) -> &[String] {
            &self.summary.warnings
        }

        fn poll(&mut self, _: Duration, on_hit: &mut dyn FnMut(Hit)) -> Result<State, Error> {
            let Some(step) = self.steps.get(self.next).cloned() else {
                assert!(self.endless || self.next <= self.steps.len() + 100, "polled for ever");
                self.next += 1;
                return Ok(if self.endless { State::Running } else { State::Ended });
            };
            self.next += 1;
            for (site, hits) in self.sites.iter_mut().zip(&step.counts) {
                site.hits = *hits;
            }
            for (site, lost) in self.sites.iter_mut().zip(&step.lost) {
                site.lost_by = *lost;
                site.lost = lost.ring_full + lost.nested + lost.abandoned;
            }
            step.hits.into_iter().for_each(on_hit);
            Ok(State::Running)
        }

        fn remove(&mut self, on_hit: &mut dyn FnMut(Hit)) -> Result<(Vec<SiteStatus>, Summary), Error> {
            self.removed.set(true);
            self.last_hits.drain(..).for_each(on_hit);
            Ok((self.sites.clone(), self.summary.clone()))
        }

        fn wait(self: Box<Self>) -> Result<Option<ExitStatus>, Error> {
            assert!(self.removed.get(), "waited for the command with the probes in place");
            Ok(self.command)
        }
    }

    /// A site by name, as a jump.
    pub(crate) fn site(symbol: &str, address: u64) -> SiteStatus {
        SiteStatus {
            probe: format!("uprobe:/lib/libc.so.6:{symbol}"),
            spec: format!("libc:{symbol}"),
            pid: 7,
            address: Some(address),
            file_address: address & 0xfff,
            mechanism: Mechanism::Jump,
            hits: 0,
            lost: 0,
            lost_by: LostBy::default(),
            reason: None,
            sampled: None,
        }
    }
}
