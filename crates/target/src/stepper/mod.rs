//! Probing by a tracer that steps: breakpoints, and slots out of line, in a process reached through [`Tracee`].
//!
//! A site is a breakpoint. Whoever meets it stops; the tracer counts, and carries the displaced instruction out ([`insn::xol`]):
//! on the registers that it holds, or by a slot, code in a mapping of ours behind which a second breakpoint stands. There the
//! thread is brought back to where the instruction would have left it. Slots are written once and belong to a site, so any
//! number of threads may be in one, and nobody need stand still meanwhile: what a thread lent is kept by thread.
//!
//! | module | what it does |
//! |---|---|
//! | `site` | what is planned for a site, and its breakpoint |
//! | `area` | the mapping with the slots |
//! | `publish` | the coherence procedure behind writing them |
//! | `call` | system calls, and code of ours, run by a thread of the tracee |
//! | `hit` | stops: hits, slots' ends, signals, ends |
//! | `leave` | everything out again |
//! | `arguments` | a function's arguments, from registers |
//!
//! Two breakpoints per hit, each a stop of the whole process and a few questions: this is for targets that nothing faster
//! reaches.

mod area;
mod arguments;
mod call;
mod hit;
mod leave;
mod publish;
mod site;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use insn::isa::RegisterSlot;
use insn::{Address, Isa};

use crate::error::TargetError;
use crate::seam::Tid;
use crate::tracee::{Go, Tracee};

use area::Area;
pub use call::{Gate, gates};
pub use leave::Removal;
pub use publish::{routine, steps};
use site::{DelaySlot, Site};
pub use site::{Refusal, Wanted};

/// Longest time that a thread may take for what we have it do: a system call that does not sleep, an instruction.
const PATIENCE: Duration = Duration::from_secs(10);

/// One hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// `CLOCK_MONOTONIC` of the tracer, nanoseconds, when it learnt of the stop.
    pub time_ns: u64,
    /// The thread.
    pub tid: Tid,
    /// The site.
    pub site: Address,
    /// The integer arguments of the calling convention; 0 unless records are wanted.
    pub args: [u64; 6],
}

/// How a tracee came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// It executes this file now: the program that was probed is gone.
    Executed(String),
}

/// What became of the tracee in a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Libraries came or went: the tracee stands still until the next call, so that what is new can be probed.
    pub libraries: bool,
    /// It came to its end.
    pub ended: bool,
}

/// A thread between its site and the end of the slot.
#[derive(Clone, Debug)]
struct Visit {
    site: Address,
    /// What the lent registers hold in the program.
    own: Vec<(RegisterSlot, u64)>,
    /// Of a branch whose delay slot this is.
    branch: Option<Branch>,
    /// Signals that came meanwhile: they are given behind the slot.
    held: Vec<i32>,
    since: Instant,
}

/// A branch that was carried out but for its delay slot.
#[derive(Clone, Debug)]
struct Branch {
    /// Where the thread goes behind the delay slot.
    to: Address,
    /// The registers that the branch changed, as they were: if the slot faults the branch has not happened.
    before: Vec<(RegisterSlot, u64)>,
}

/// The engine: one tracee with its sites.
#[derive(Debug)]
pub struct Stepper<T> {
    tracee: T,
    isa: Isa,
    records: bool,
    /// Sites whose hits are told as [`News::libraries`].
    watched: HashSet<Address>,
    /// Where the tracee's own code has an instruction that calls the kernel.
    gates: Vec<Gate>,
    area: Area,
    sites: BTreeMap<Address, Site>,
    /// What is probed in the delay slots of branches, by the branch.
    delay_slots: BTreeMap<Address, DelaySlot>,
    /// The site of each slot.
    slots: BTreeMap<Address, Address>,
    visits: HashMap<Tid, Visit>,
    /// Processes that ran in the tracee's memory until they executed something.
    guests: HashSet<Tid>,
    /// What threads get when they go on.
    signals: Vec<(Tid, i32)>,
    /// The thread of the last stop.
    current: Tid,
    runs: bool,
    /// An interrupt was asked for and has not come yet.
    is_asked_to_stop: bool,
    end: Option<End>,
    costs: Vec<Duration>,
    /// Since when the tracee stands still; how long it did in all, and at most.
    still_since: Instant,
    stopped: (Duration, Duration),
    threads: HashSet<Tid>,
    warnings: Vec<String>,
}

/// How many hits' costs are kept for the median.
const MOST_COSTS: usize = 10_000;

impl<T: Tracee> Stepper<T> {
    /// Of a tracee that stands still. `records`: hits come with the function's arguments. `gates` are places where its code
    /// has the instruction that calls the kernel ([`gates`]).
    ///
    /// # Errors
    /// What prevents asking for its threads.
    pub fn new(mut tracee: T, records: bool, gates: Vec<Gate>) -> Result<Self, TargetError> {
        let threads = tracee.threads()?;
        let process = Tid(tracee.process());
        let current = threads.first().copied().ok_or(TargetError::Gone { tid: process })?;
        Ok(Self {
            isa: tracee.isa(),
            tracee,
            records,
            watched: HashSet::new(),
            gates,
            area: Area::default(),
            sites: BTreeMap::new(),
            delay_slots: BTreeMap::new(),
            slots: BTreeMap::new(),
            visits: HashMap::new(),
            guests: HashSet::new(),
            signals: Vec::new(),
            current,
            runs: false,
            is_asked_to_stop: false,
            end: None,
            costs: Vec::new(),
            still_since: Instant::now(),
            stopped: (Duration::ZERO, Duration::ZERO),
            threads: threads.into_iter().collect(),
            warnings: Vec::new(),
        })
    }

    /// The tracee.
    pub fn tracee(&mut self) -> &mut T {
        &mut self.tracee
    }

    /// Its end, if it came to that.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// From now on [`Self::run`] returns when a thread meets this site, before it goes on: the loader calls the function there
    /// when libraries came or went. Its hits are told as others' are.
    pub fn watch(&mut self, site: Address) {
        self.watched.insert(site);
    }

    /// Hits of a site so far.
    #[must_use]
    pub fn hits(&self, site: Address) -> u64 {
        let in_delay_slot = || self.delay_slots.values().find(|slot| slot.at == site).map(|slot| slot.hits);
        self.sites.get(&site).map(|site| site.hits).or_else(in_delay_slot).unwrap_or_default()
    }

    /// How many threads were seen.
    #[must_use]
    pub fn threads_seen(&self) -> usize {
        self.threads.len()
    }

    /// What the user should know; only ever added to.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The median of what a hit cost the thread that made it, from the tracer's learning of it until the thread went on behind
    /// the instruction, over the first hits; `None` where there was none.
    #[must_use]
    pub fn cost(&self) -> Option<Duration> {
        let mut costs = self.costs.clone();
        let middle = costs.len() / 2;
        (!costs.is_empty()).then(|| *costs.select_nth_unstable(middle).1)
    }

    /// How long all threads stood still, in all and at most at a time.
    #[must_use]
    pub fn stopped(&self) -> (Duration, Duration) {
        self.stopped
    }

    /// Mappings, and bytes of them, that slots took.
    #[must_use]
    pub fn area(&self) -> (u64, u64) {
        self.area.size()
    }

    /// Lets the tracee run until the deadline, and tells of each hit. A tracee whose libraries changed stands still.
    ///
    /// # Errors
    /// What prevents going on with it.
    pub fn run(&mut self, deadline: Instant, on_hit: &mut dyn FnMut(Hit)) -> Result<News, TargetError> {
        loop {
            if self.end.is_some() {
                return Ok(News { ended: true, ..News::default() });
            }
            self.go_on()?;
            let Some(stop) = self.tracee.wait(deadline)? else { return Ok(News::default()) };
            self.stands_still();
            if self.handle(stop, on_hit)? {
                return Ok(News { libraries: true, ..News::default() });
            }
            if Instant::now() >= deadline && self.end.is_none() {
                self.go_on()?;
                return Ok(News::default());
            }
        }
    }

    /// Lets all threads run, each with the first of the signals that it is to get.
    fn go_on(&mut self) -> Result<(), TargetError> {
        if self.runs {
            return Ok(());
        }
        let mut given: Vec<(Tid, i32)> = Vec::new();
        self.signals.retain(|(tid, signal)| {
            let waits = given.iter().any(|(other, _)| other == tid);
            if !waits {
                given.push((*tid, *signal));
            }
            waits
        });
        self.tracee.go(Go::All(&given))?;
        self.runs = true;
        let still = self.still_since.elapsed();
        self.stopped = (self.stopped.0 + still, self.stopped.1.max(still));
        Ok(())
    }

    fn stands_still(&mut self) {
        self.runs = false;
        self.still_since = Instant::now();
    }
}
