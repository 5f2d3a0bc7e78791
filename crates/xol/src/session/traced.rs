//! One address space: what is wanted in it, what is installed, and its shared state.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::Instant;

use insn::Address;
use insn::place::Room;
use insn::plan::Reason;
use program::clock::Clock;
use program::layout::Loss;
use program::ring::{self, Reader};
use program::stub::{Environment, Routines};
use target::TargetError;
use target::engine::Left;
use target::holder::{Client, Reply, Request, Space, Status};
use target::linux::shown_by;
use target::state::{Remote, State};
use target::sys::shared::SharedMap;

use super::arm::Settled;
use super::install::{self, Installed};
use super::modules::{Module, ModuleKey, View};
use super::pace::Meter;
use super::rows::{Row, Rows, Wanted};
use super::types::{Action, LostBy, SiteStatus};

/// What a session takes of a process's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Footprint {
    /// Mappings, those of the state and the descriptions included.
    pub(super) mappings: u64,
    /// Pages of stubs.
    pub(super) pages: u64,
    /// Bytes of stubs, state and descriptions.
    pub(super) resident: u64,
}

/// How an address space stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// In the holder's hands.
    Live,
    /// Let go, as told.
    Left(Left),
    /// Gone: its last thread ended, or executed another program.
    Over,
}

/// An address space that is or was probed.
#[derive(Debug)]
pub(super) struct Traced {
    pub(super) space: Space,
    pub(super) pid: i32,
    /// The process that stands for it: another that shares the memory, once its own has ended.
    pub(super) stands: i32,
    pub(super) stage: Stage,
    pub(super) rows: Rows,
    /// The site of each row.
    pub(super) sites: Vec<usize>,
    pub(super) modules: Vec<Module>,
    pub(super) installed: BTreeMap<Address, Installed>,
    /// What was in the text and is not now, by start: its stub is still there, and serves it if it comes back.
    pub(super) retired: BTreeMap<Address, Vec<Installed>>,
    /// For how many patches the area's description of itself has room.
    pub(super) describable: usize,
    /// How long each description is that was mapped: one that became too short stays.
    pub(super) described_by: Vec<u64>,
    pub(super) routines: BTreeMap<ModuleKey, Routines>,
    pub(super) room: Room,
    /// Where stubs may be: what is free, and their own areas.
    pub(super) around: Vec<Range<Address>>,
    /// Sites whose jump found no place for its stub, and why: they are breakpoints.
    pub(super) unplaced: HashMap<(ModuleKey, Address), Reason>,
    /// What modules were planned for last, where all of that was put in.
    pub(super) settled: HashMap<ModuleKey, Settled>,
    pub(super) environment: Option<Environment>,
    pub(super) footprint: Footprint,
    pub(super) shared: Option<State>,
    /// The counts as last read, of a state that is the target's alone: it may vanish.
    seen: Vec<u64>,
    pub(super) reader: Option<Reader>,
    pub(super) shadow_stack: bool,
    pub(super) final_hits: Option<Vec<u64>>,
    pub(super) final_lost: BTreeMap<u32, LostBy>,
    /// What the holder counted of it, once that is told.
    pub(super) numbers: Status,
    /// How many changes were made to it, those before its fork included.
    pub(super) changes: u32,
    /// How it was before changes whose forks may still be unheard of.
    pub(super) past: Vec<Self>,
    /// Since when a ring waits for a record that is not finished.
    pub(super) stalled: Option<Instant>,
    /// How many of the loader's reports still belong to the start of a command.
    pub(super) startup_events: u8,
    /// How fast each row's counter runs, by row.
    pub(super) meters: Vec<Meter>,
    /// Since when nothing is counted any more.
    pub(super) over_since: Option<Instant>,
}

impl Traced {
    /// The address space of a program that stands at its first instruction. Whether its returns will be checked is not known
    /// yet: the loader, or the C library, switches shadow stacks on for programs that are marked (`ARCH_SHSTK_ENABLE`,
    /// Documentation/arch/x86/shstk.rst).
    pub(super) fn beginning(space: Space, pid: i32, rows: Rows) -> Self {
        let may_check = install::cpu_flags().contains("user_shstk");
        let is_marked = |view: View| {
            let executable = view.executable();
            executable.is_ok_and(|binary| binary.image.control_flow_protection().shadow_stack)
        };
        Self { shadow_stack: may_check && View::of(pid).is_ok_and(is_marked), ..Self::new(space, pid, rows) }
    }

    /// An address space without probes.
    pub(super) fn new(space: Space, pid: i32, rows: Rows) -> Self {
        let status = std::fs::read(format!("/proc/{}/status", shown_by(pid))).unwrap_or_default();
        Self {
            space,
            pid,
            stands: pid,
            stage: Stage::Live,
            rows,
            sites: Vec::new(),
            modules: Vec::new(),
            installed: BTreeMap::new(),
            retired: BTreeMap::new(),
            describable: 0,
            described_by: Vec::new(),
            routines: BTreeMap::new(),
            room: Room::default(),
            around: Vec::new(),
            unplaced: HashMap::new(),
            settled: HashMap::new(),
            environment: None,
            footprint: Footprint::default(),
            shared: None,
            seen: Vec::new(),
            reader: None,
            shadow_stack: symbols::status::Status::parse(&status).shadow_stack,
            final_hits: None,
            final_lost: BTreeMap::new(),
            numbers: Status::default(),
            changes: 0,
            past: Vec::new(),
            stalled: None,
            startup_events: 0,
            meters: Vec::new(),
            over_since: None,
        }
    }

    /// A forked child: probed like its parent was after so many changes, in the same places.
    pub(super) fn forked(parent: &Self, changes: u32, space: Space, pid: i32) -> Option<Self> {
        let then = [parent].into_iter().chain(&parent.past).find(|then| then.changes == changes)?;
        Some(then.copy_for(space, pid))
    }

    /// What is installed here, in another process.
    fn copy_for(&self, space: Space, pid: i32) -> Self {
        Self {
            rows: self.rows.clone(),
            modules: self.modules.clone(),
            installed: self.installed.clone(),
            retired: self.retired.clone(),
            routines: self.routines.clone(),
            room: self.room.clone(),
            unplaced: self.unplaced.clone(),
            settled: self.settled.clone(),
            describable: self.describable,
            described_by: self.described_by.clone(),
            environment: self.environment.clone().filter(|_| self.changes > 0),
            footprint: self.footprint,
            shadow_stack: self.shadow_stack,
            changes: self.changes,
            meters: self.meters.iter().map(Meter::forked).collect(),
            ..Self::new(space, pid, Rows::default())
        }
    }

    /// Itself as it is before a change.
    pub(super) fn before_change(&self) -> Self {
        let mut before = self.copy_for(self.space, self.pid);
        if self.changes == 0 {
            before.rows.forget_plan();
        }
        before
    }

    /// Whether the holder has it.
    pub(super) fn is_live(&self) -> bool {
        self.stage == Stage::Live
    }

    /// Whether its text is known to be what it was (or is gone).
    pub(super) fn is_restored(&self) -> bool {
        match &self.stage {
            Stage::Live => false,
            Stage::Left(left) => left.verified,
            Stage::Over => true,
        }
    }

    /// What became of it; of one that is gone, nothing is left.
    pub(super) fn left(&self) -> Left {
        match &self.stage {
            Stage::Left(left) => left.clone(),
            Stage::Live | Stage::Over => Left::default(),
        }
    }

    /// Opens the shared state: by the holder's descriptor of it, or in the target where it is the target's alone.
    pub(super) fn open_state(
        &mut self,
        client: &Client,
        action: Action,
        descriptor: Option<i32>,
    ) -> Result<(), TargetError> {
        let Some(environment) = &self.environment else { return Ok(()) };
        let state = match descriptor {
            // The mapping keeps the memory when target and holder are gone.
            Some(descriptor) => Some(State::Mapped(
                SharedMap::new(&client.open_state(descriptor)?, environment.layout.len).map_err(opening)?,
            )),
            None => match Remote::of(shown_by(self.stands), environment.state) {
                // It has ended already: the holder kept a copy, of which it will tell.
                Err(error) if is_gone(&error) => None,
                state => Some(State::Remote(state.map_err(opening)?)),
            },
        };
        if action == Action::Trace {
            self.reader = Some(Reader::new(environment.layout));
        }
        self.shared = state;
        Ok(())
    }

    /// Nobody is there to give a slot to a thread that asks: its breakpoint would be its death.
    pub(super) fn close_asks(&self) {
        if let (Some(environment), Some(shared)) = (&self.environment, &self.shared) {
            environment.layout.set_asks(shared, false);
        }
    }

    /// Takes what is in the rings. Gives the number of rings that wait.
    pub(super) fn take_hits(&mut self, quiescent: bool, hits: &mut Vec<ring::Hit>) -> u32 {
        let (Some(reader), Some(shared)) = (&mut self.reader, &self.shared) else { return 0 };
        let progress = if quiescent {
            reader.drain_quiescent(shared, &mut |hit| hits.push(hit))
        } else {
            reader.drain(shared, &mut |hit| hits.push(hit))
        };
        progress.waiting
    }

    /// Nobody writes to the shared state any more: the final counts, and its memory back.
    pub(super) fn close_state(&mut self) {
        self.over_since.get_or_insert_with(Instant::now);
        if self.final_hits.is_none() && self.shared.is_some() {
            self.final_hits = Some(self.hits());
            self.final_lost =
                self.rows.all.iter().map(|row| (row.counter, self.lost_by(row.counter))).collect();
            self.shared = None;
        }
        if !self.is_live() {
            self.forget_text();
        }
    }

    /// Of an address space that is gone only the counts are wanted: there may be many of them.
    fn forget_text(&mut self) {
        self.modules = Vec::new();
        self.installed = BTreeMap::new();
        self.routines = BTreeMap::new();
        self.room = Room::default();
        self.unplaced = HashMap::new();
        self.settled = HashMap::new();
        self.past = Vec::new();
        self.rows.forget_meanings();
        if let Some(hits) = &mut self.final_hits {
            hits.truncate(self.rows.all.len());
            hits.shrink_to_fit();
        }
    }

    /// Reads the counts of a state that may vanish.
    pub(super) fn look_at_state(&mut self) {
        if matches!(self.shared, Some(State::Remote(_))) {
            self.seen = self.hits();
        }
    }

    /// Takes the copy that the holder made of a state that was the target's alone.
    pub(super) fn take_saved(&mut self, client: &mut Client, saved: Option<i32>) -> Result<(), TargetError> {
        if let (Some(descriptor), Some(environment)) = (saved, &self.environment) {
            let file = client.open_state(descriptor)?;
            let map = SharedMap::new(&file, environment.layout.len).map_err(opening)?;
            self.shared = Some(State::Mapped(map));
            client.request(&Request::Opened(self.space))?;
        }
        Ok(())
    }

    /// A state that was the target's alone and is not saved is gone with it: what was last seen of it has to do. Gives
    /// whether that is so.
    pub(super) fn lose_state(&mut self) -> bool {
        let is_lost = matches!(self.shared, Some(State::Remote(_)));
        if is_lost {
            self.final_hits = Some(std::mem::take(&mut self.seen));
            self.shared = None;
        }
        is_lost
    }

    /// Hits of every counter so far.
    pub(super) fn hits(&self) -> Vec<u64> {
        match (&self.final_hits, &self.environment, &self.shared) {
            (Some(hits), ..) => hits.clone(),
            (None, Some(environment), Some(shared)) => environment.layout.all_hits(shared),
            _ => Vec::new(),
        }
    }

    /// A row as results show it.
    pub(super) fn status(&self, row: &Row, hits: &[u64], wanted: &[Wanted]) -> SiteStatus {
        let lost_by = self.lost_by(row.counter);
        let (mechanism, reason) = install::shown(&row.standing);
        let index = usize::try_from(row.counter).unwrap_or(usize::MAX);
        SiteStatus {
            probe: row.probe.clone(),
            spec: wanted.get(row.wanted).map(|wanted| wanted.spec.text.clone()).unwrap_or_default(),
            pid: self.pid.cast_unsigned(),
            address: row.address.map(|address| address.0),
            file_address: row.file_address.0,
            mechanism,
            hits: hits.get(index).copied().unwrap_or(0),
            lost: lost_by.total(),
            lost_by,
            reason,
            sampled: self.share_armed(row),
        }
    }

    fn lost_by(&self, probe: u32) -> LostBy {
        if let Some(lost) = self.final_lost.get(&probe) {
            return *lost;
        }
        let (Some(environment), Some(shared)) = (&self.environment, &self.shared) else {
            return LostBy::default();
        };
        let lost = |reason| environment.layout.lost(shared, probe, reason);
        LostBy {
            ring_full: lost(Loss::RingFull),
            nested: lost(Loss::Nested),
            abandoned: self.reader.as_ref().map_or(0, |reader| reader.abandoned(probe)),
            no_slot: lost(Loss::NoSlot),
        }
    }

    /// Stops its world, hands out what is certain then, and lets it go on.
    pub(super) fn settle_rings(
        &mut self,
        client: &mut Client,
        hits: &mut Vec<ring::Hit>,
    ) -> Result<(), TargetError> {
        match client.request(&Request::Freeze(self.space)) {
            Ok(Reply::Frozen(inside)) if inside.is_empty() => {
                self.take_hits(true, hits);
            }
            Ok(_) => {}
            // Its end is on the way.
            Err(error) if error.is_end() => return Ok(()),
            Err(error) => return Err(error),
        }
        client.request(&Request::Thaw(self.space)).map(drop)
    }
}

/// Whether the process is gone, or its memory is (ESRCH): what it then leaves in /proc belongs to root (fs/proc/base.c,
/// `task_dump_owner`). One that lives and may not be looked at was refused long before.
fn is_gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    const ESRCH: i32 = 3;
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
        || error.raw_os_error() == Some(ESRCH)
}

fn opening(source: std::io::Error) -> TargetError {
    TargetError::System { what: "opening the shared state".to_owned(), source: source.into() }
}

/// Pairs a time stamp with the clock.
pub(super) fn sample(clock: &mut Clock) {
    let (stamp, time) = target::sys::clock::pair();
    clock.sample(stamp, time);
}
