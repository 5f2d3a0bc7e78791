//! Arming: what is wanted against what is mapped, as one change of the target.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use insn::Address;
use insn::place::Demand;
use insn::plan::{Mechanism, Patch, Plan, Reason};
use program::layout::Layout;
use program::stub::{Action as Body, Environment, Routines};
use symbols::maps::Mapping;
use target::TargetError;
use target::area::{Description, NAME};
use target::engine::Change;
use target::holder::{Reply, Request};

use super::install::{self, Draft, Installed, differs, unfit_mapping};
use super::modules::{ModuleKey, View};
use super::rows::Standing;
use super::start::{Common, strange};
use super::traced::{Footprint, Traced, sample};
use super::types::{Action, Error, Progress};
use crate::mapped::replaced_notice;
use crate::room::{free_ranges, kept_whole, mappings_left, without};

/// How often a change is planned anew because the program mapped something into the room meanwhile.
const ATTEMPTS: usize = 5;
/// The lowest 2 GiB: an instruction can name any address there.
const LOW: Address = Address(1 << 31);
/// What may be put there: some programs ask for memory there, and should find it.
const MOST_LOW: u64 = 16 << 20;
/// How often sites are planned anew because a stub found no place: each time some become traps, and the last time all
/// whose stub takes a mapping that it shares with few.
const REPLANS: usize = 4;

/// Everything a change consists of, while it is put together.
#[derive(Default)]
struct Drafts {
    /// Those whose stub is written already, because they were in the text once.
    known: Vec<Draft>,
    /// Those whose stub is to be written, and where.
    new: Vec<(ModuleKey, Draft, Result<Address, Reason>)>,
    /// Starts of installed patches that are to go.
    remove: Vec<Address>,
    /// Shared routines of modules that have no stubs yet.
    routines: Vec<Routines>,
    /// What modules are settled for once the change is made: those of which all that was planned is in it.
    settled: Vec<(ModuleKey, Settled)>,
}

/// What a module was planned for: as long as the same is wanted and its patches stand, it is not planned anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    bodies: Vec<(Address, Body)>,
    notify: Option<Address>,
    /// Starts of its patches.
    starts: Vec<Address>,
}

/// What a patch is for is not mapped any more.
struct Gone;

impl Traced {
    /// Brings the target in line with what is wanted and mapped. `first`: a refusal of an exact name is an error.
    pub(super) fn arm(
        &mut self,
        common: &mut Common,
        first: bool,
        progress: &mut dyn Progress,
    ) -> Result<(), Error> {
        let armed = self.try_to_arm(common, first, progress);
        progress.done();
        armed
    }

    fn try_to_arm(
        &mut self,
        common: &mut Common,
        first: bool,
        progress: &mut dyn Progress,
    ) -> Result<(), Error> {
        let mut moved = false;
        let mut refused = None;
        for _ in 0..ATTEMPTS {
            let view = View::of(self.stands)?;
            self.rows.refresh(&common.wanted, &view, &mut self.modules)?;
            self.note_replaced(progress);
            let placed = (self.room.clone(), self.routines.clone());
            let installed = match self.draft(common, &view, progress) {
                Ok(_) if progress.cancelled() => Err(Error::Cancelled),
                Ok(drafts) => self.install(common, &view, drafts, first),
                Err(error) => Err(error),
            };
            if installed.is_err() {
                (self.room, self.routines) = placed;
            }
            match installed {
                Ok(skipped) if skipped > 0 => (moved, refused) = (true, None),
                Err(Error::Target(TargetError::Taken { .. })) => (moved, refused) = (false, None),
                // Of a library that went while it was looked at nothing can be said: what is mapped now is what counts.
                Err(error @ Error::Refused { .. }) if !view.is_still_so() => {
                    self.rows.reconsider();
                    refused = Some(error);
                }
                other => return other.map(drop),
            }
        }
        if let Some(error) = refused {
            return Err(error);
        }
        if moved {
            // What comes and goes so fast comes again, and is armed when the loader tells of it.
            return Ok(());
        }
        Err(Error::NoRoom { pid: self.pid, len: insn::place::AREA_LEN })
    }

    /// Says once of each module that is probed whether its file is still the one that is mapped.
    fn note_replaced(&mut self, progress: &mut dyn Progress) {
        for module in &mut self.modules {
            let is_probed = || self.rows.all.iter().any(|row| row.module == Some(module.key));
            if module.binary.is_replaced && !module.noted && is_probed() {
                progress.note(&replaced_notice(&module.binary.path));
                module.noted = true;
            }
        }
    }

    fn refuse_exact(&self, common: &Common) -> Result<(), Error> {
        for row in &self.rows.all {
            if let Standing::Refused(reason) = &row.standing
                && common.wanted.get(row.wanted).is_some_and(|wanted| wanted.spec.is_exact())
            {
                let pid = (!common.is_command).then_some(self.pid.cast_unsigned());
                return Err(Error::Refused { probe: row.probe.clone(), pid, reason: reason.clone() });
            }
        }
        Ok(())
    }

    /// Why the live bytes of a patch must not be touched, if they differ from the file's. A library may go, and come back to the
    /// same place, while they are read: what is found twice, with the same mapped in between, is believed.
    fn compare(&self, view: &View, patch: &Patch) -> Result<Option<String>, Gone> {
        let mut before = None;
        for _ in 0..ATTEMPTS {
            let Some(why) = differs(view, patch, &self.installed) else { return Ok(None) };
            if before.as_ref() == Some(&why) {
                return Ok(before);
            }
            if !view.is_current(patch.start) {
                break;
            }
            before = Some(why);
        }
        Err(Gone)
    }

    /// Plans every module that has rows, and the loader's breakpoint, and places the stubs. Sites whose jump finds no
    /// place for its stub are planned anew as breakpoints.
    fn draft(&mut self, common: &Common, view: &View, progress: &mut dyn Progress) -> Result<Drafts, Error> {
        self.prepare_environment(common.action, view)?;
        let mut replans = 0;
        loop {
            let mut drafts = self.draft_modules(common, view, progress)?;
            let placed = (self.room.clone(), self.routines.clone());
            if self.place(&mut drafts) || replans == REPLANS {
                return Ok(drafts);
            }
            (self.room, self.routines) = placed;
            replans += 1;
            if replans == REPLANS {
                self.give_up_puns(&drafts);
            }
        }
    }

    /// Finds places for new stubs. Says whether every jump has one, and keeps in mind those that have none.
    fn place(&mut self, drafts: &mut Drafts) -> bool {
        let Some(environment) = self.environment.clone() else { return true };
        let roomless = self.place_routines(&environment, drafts);
        let (hopeless, hopeful): (Vec<_>, Vec<_>) =
            drafts.new.iter_mut().partition(|(key, _, _)| roomless.contains_key(key));
        for (key, _, at) in hopeless {
            *at = Err(roomless[key].clone());
        }
        let demands: Vec<Demand<'_>> = hopeful.iter().map(|(_, draft, _)| draft.demand()).collect();
        let places = self.room.place(environment.isa, &demands);
        let mut all = true;
        for ((key, draft, at), place) in hopeful.into_iter().zip(places) {
            if let Err(reason) = &place
                && draft.patch.mechanism != Mechanism::Trap
            {
                self.unplaced.extend(draft.sites.iter().map(|site| ((*key, *site), reason.clone())));
                all = false;
            }
            *at = place;
        }
        all
    }

    /// Of modules in which jumps still find no places no further puns are tried: breakpoints have their stubs wherever there
    /// is any room.
    fn give_up_puns(&mut self, drafts: &Drafts) {
        let reasons: HashMap<ModuleKey, Reason> = drafts
            .new
            .iter()
            .filter(|(_, draft, _)| draft.patch.mechanism != Mechanism::Trap)
            .filter_map(|(key, _, at)| Some((*key, at.clone().err()?)))
            .collect();
        for (key, draft, _) in
            drafts.new.iter().filter(|(_, draft, _)| draft.patch.mechanism == Mechanism::Pun)
        {
            let Some(reason) = reasons.get(key) else { continue };
            self.unplaced.extend(draft.sites.iter().map(|site| ((*key, *site), reason.clone())));
        }
    }

    fn draft_modules(
        &mut self,
        common: &Common,
        view: &View,
        progress: &mut dyn Progress,
    ) -> Result<Drafts, Error> {
        let loader = self.loader_site(view);
        let mut drafts = Drafts::default();
        let mut starts: Vec<Address> = Vec::new();
        let keys: Vec<ModuleKey> = self.modules.iter().map(|module| module.key).collect();
        for key in keys {
            let notify = loader.filter(|(module, _)| *module == key).map(|(_, at)| at);
            let wanted = self.bodies_of(common, key, view);
            if let Some(settled) = self.settled_for(key, &wanted, notify, view) {
                starts.extend(&settled.starts);
                continue;
            }
            self.settled.remove(&key);
            let (of_module, settled) = self.draft_module(key, wanted, notify, view, progress);
            drafts.settled.extend(settled.map(|settled| (key, settled)));
            for draft in of_module {
                starts.push(draft.patch.start);
                let installed = self.installed.get(&draft.patch.start);
                if installed.is_some_and(|installed| draft.is(installed)) {
                    continue;
                }
                match self.former(&draft) {
                    Some(_) => drafts.known.push(draft),
                    None => drafts.new.push((key, draft, Err(Reason::NoRoom))),
                }
            }
        }
        starts.sort_unstable();
        drafts.remove =
            self.installed.keys().filter(|start| starts.binary_search(start).is_err()).copied().collect();
        Ok(drafts)
    }

    /// What a module was planned for, if that is what is wanted now and stands in its text.
    fn settled_for(
        &self,
        key: ModuleKey,
        wanted: &BTreeMap<Address, Vec<Body>>,
        notify: Option<Address>,
        view: &View,
    ) -> Option<&Settled> {
        let settled = self.settled.get(&key)?;
        let is_same = settled.notify == notify && bodies(wanted).eq(settled.bodies.iter().copied());
        let installed = |start| self.installed.get(start);
        let stands = |one: &Installed| differs(view, &one.patch, &self.installed).is_none();
        let all_stand = || settled.starts.iter().all(|start| installed(start).is_some_and(stands));
        (is_same && all_stand()).then_some(settled)
    }

    /// The patches that one module should have.
    fn draft_module(
        &mut self,
        key: ModuleKey,
        mut wanted: BTreeMap<Address, Vec<Body>>,
        notify: Option<Address>,
        view: &View,
        progress: &mut dyn Progress,
    ) -> (Vec<Draft>, Option<Settled>) {
        if let Some(at) = notify {
            wanted.entry(at).or_default();
        }
        let unplaced = self.unplaced.keys().filter(|(module, _)| *module == key).map(|(_, site)| *site);
        let mut force: HashMap<Address, Mechanism> =
            notify.into_iter().chain(unplaced).map(|site| (site, Mechanism::Trap)).collect();
        for _ in 0..REPLANS {
            if wanted.is_empty() {
                break;
            }
            let sites: Vec<Address> = wanted.keys().copied().collect();
            let shadow_stack = self.shadow_stack;
            let Some(module) = self.modules.iter_mut().find(|module| module.key == key) else { break };
            let plan = module.analysis(shadow_stack, progress).plan(&sites, &force, &self.around);
            self.note_refused(key, &plan);
            let before = force.len();
            let drafts = self.drafts_of(key, &plan, &wanted, notify, view, &mut force);
            wanted.retain(|address, _| !self.rows.is_refused(key, *address));
            if force.len() == before {
                self.note_armed(key, &plan, &drafts);
                let starts = drafts.iter().map(|draft| draft.patch.start).collect();
                let settled = Settled { bodies: bodies(&wanted).collect(), notify, starts };
                let is_whole = drafts.len() == plan.patches.len();
                return (drafts, is_whole.then_some(settled));
            }
        }
        (Vec::new(), None)
    }

    /// The bodies of each address of a module, of rows whose mapping allows it.
    fn bodies_of(&mut self, common: &Common, key: ModuleKey, view: &View) -> BTreeMap<Address, Vec<Body>> {
        let limit = self.environment.as_ref().map_or(0, |environment| environment.layout.sizing.probes);
        let action = common.action;
        let mut bodies: BTreeMap<Address, Vec<Body>> = BTreeMap::new();
        for row in &mut self.rows.all {
            let (Some(address), true) = (row.address, row.module == Some(key)) else { continue };
            if matches!(row.standing, Standing::Refused(_)) {
                continue;
            }
            if common.wanted.get(row.wanted).is_none_or(|wanted| wanted.dropped) {
                row.standing = Standing::Waiting("removed".to_owned());
                continue;
            }
            if let Some(why) = unfit_mapping(view, address) {
                row.standing = Standing::Refused(format!("{address}: {why}"));
                continue;
            }
            // Out of the text for a while; how it is probed when it is in stays known.
            if row.paused {
                continue;
            }
            if row.counter >= limit {
                row.standing = Standing::Refused(format!("the session has only {limit} counters"));
                continue;
            }
            bodies.entry(address).or_default().push(match action {
                Action::Count => Body::Count { probe: row.counter },
                Action::Trace => Body::Event { probe: row.counter },
            });
        }
        bodies
    }

    fn note_refused(&mut self, key: ModuleKey, plan: &Plan) {
        for refusal in &plan.refused {
            self.rows.refuse(key, refusal.address, &refusal.to_string());
        }
    }

    fn note_armed(&mut self, key: ModuleKey, plan: &Plan, drafts: &[Draft]) {
        let mut served: HashMap<Address, Mechanism> = HashMap::new();
        for draft in drafts {
            served.extend(draft.patch.sites().map(|site| (site, draft.patch.mechanism)));
        }
        for (site, at) in &plan.moved {
            if let Some(mechanism) = served.get(at).copied() {
                served.insert(*site, mechanism);
            }
        }
        for row in self.rows.all.iter_mut().filter(|row| row.module == Some(key)) {
            let Some(address) = row.address else { continue };
            if let Some(mechanism) = served.get(&address) {
                let why = self.unplaced.get(&(key, address)).map(Reason::to_string);
                row.standing = Standing::Armed(*mechanism, why);
            }
        }
    }

    /// Drafts of a plan's patches. Those whose bytes are not the file's are refused; those whose code cannot be made are
    /// forced to be traps, and what is a trap already is refused: then `force` has grown.
    fn drafts_of(
        &mut self,
        key: ModuleKey,
        plan: &Plan,
        wanted: &BTreeMap<Address, Vec<Body>>,
        notify: Option<Address>,
        view: &View,
        force: &mut HashMap<Address, Mechanism>,
    ) -> Vec<Draft> {
        let Some(environment) = self.environment.clone() else { return Vec::new() };
        let Some(first) = plan.patches.first() else { return Vec::new() };
        // Lengths do not depend on addresses, so any near address gives the size.
        let routines = Routines::assemble(&environment, first.start);
        let moved = Moved::of(plan);
        let guests = guests(plan);
        let mut drafts = Vec::new();
        for patch in &plan.patches {
            let Ok(why) = self.compare(view, patch) else {
                continue; // it is another module's memory by now, or nobody's
            };
            let guests = guests.get(&patch.start).into_iter().flatten();
            let guests = guests.flat_map(|guest| moved.sites_of(guest));
            if let Some(why) = why {
                force.extend(guests.map(|site| (site, Mechanism::Trap)));
                for site in moved.sites_of(patch) {
                    self.rows.refuse(key, site, &why);
                }
                continue;
            }
            let mut draft = Draft {
                sites: moved.sites_of(patch).into_iter().chain(guests).collect(),
                bodies: moved.bodies_of(patch, wanted),
                notify: notify == Some(patch.start),
                patch: patch.clone(),
                size: 0,
            };
            match draft.assemble(&environment, &routines, patch.start) {
                Ok(stub) => {
                    draft.size = u32::try_from(stub.bytes.len()).unwrap_or(u32::MAX);
                    drafts.push(draft);
                }
                Err(reason) => {
                    for site in draft.sites {
                        if patch.mechanism == Mechanism::Trap {
                            self.rows.refuse(key, site, &format!("{site}: {reason}"));
                        }
                        force.insert(site, Mechanism::Trap);
                    }
                }
            }
        }
        drafts
    }

    /// The shared state's place and the kind of its code, at the first arming.
    fn prepare_environment(&mut self, action: Action, view: &View) -> Result<(), Error> {
        let (isa, start_brk) = (view.system.isa(), view.start_brk());
        self.room.free = free_ranges(isa, &view.mappings, start_brk);
        // Areas that are mapped by now split the free ranges; their unused parts stay ours by `room.areas`. What is planned
        // does not change because they were made.
        let areas: HashSet<Address> = self.room.areas.iter().map(|area| area.start).collect();
        let is_foreign = |mapping: &&Mapping| !areas.contains(&mapping.range.start);
        self.around = free_ranges(isa, view.mappings.iter().filter(is_foreign), start_brk);
        let is_theirs = |mapping: &&Mapping| {
            is_foreign(mapping) && !mapping.path.as_deref().is_some_and(|path| path.starts_with(NAME))
        };
        let theirs = free_ranges(isa, view.mappings.iter().filter(is_theirs), start_brk);
        if let Some(whole) = kept_whole(isa, &theirs) {
            for free in [&mut self.room.free, &mut self.around] {
                *free = without(std::mem::take(free), vec![whole.clone()]);
            }
        }
        let ours = usize::try_from(self.footprint.mappings).unwrap_or(usize::MAX);
        // A description may come with any change, and with the first the state.
        let coming = 1 + usize::from(self.shared.is_none());
        let foreign = view.mappings.len().saturating_sub(ours);
        self.room.mappings = mappings_left(foreign, ours.saturating_add(coming));
        if self.shared.is_some() {
            return Ok(());
        }
        let layout = Layout::new(install::sizing(self.rows.all.len(), action));
        let state = self.take_room_for_state(layout.len as u64)?;
        let executable = view.executable().ok().map(|binary| &binary.image);
        self.environment = Some(install::environment(view.system.isa(), layout, state, executable));
        Ok(())
    }

    /// A place for the shared state: if it is small, where instructions can name it ([`LOW`]).
    fn take_room_for_state(&mut self, len: u64) -> Result<Address, Error> {
        let low = if len <= MOST_LOW { self.take_room_below(LOW, len) } else { Err(self.no_room(len)) };
        low.or_else(|_| self.take_room(len))
    }

    /// A place for a mapping that may be anywhere.
    fn take_room(&mut self, len: u64) -> Result<Address, Error> {
        self.take_room_below(Address(u64::MAX), len)
    }

    fn no_room(&self, len: u64) -> Error {
        Error::NoRoom { pid: self.pid, len }
    }

    /// The middle of the largest free range, out of everybody's way. The areas of this very change are not mapped yet.
    fn take_room_below(&mut self, end: Address, len: u64) -> Result<Address, Error> {
        let len = len.next_multiple_of(insn::place::AREA_LEN);
        let guard = insn::place::AREA_LEN;
        let guarded = |at: Address, len: u64| Address(at.0.saturating_sub(guard))..at + len + guard;
        let below = |range: &Range<Address>| range.start..range.end.min(end).max(range.start);
        let areas: Vec<_> = self.room.areas.iter().map(|area| guarded(area.start, area.len)).collect();
        let free = without(self.room.free.iter().map(below).collect(), areas);
        let size = |range: &Range<Address>| range.end - range.start;
        let range = free.into_iter().max_by_key(size).ok_or_else(|| self.no_room(len))?;
        let size = size(&range);
        if size < len + 4 * guard {
            return Err(self.no_room(len));
        }
        let middle = range.start.0 + (size - len) / 2;
        let at = Address(middle / guard * guard);
        self.room.free = without(std::mem::take(&mut self.room.free), vec![guarded(at, len)]);
        Ok(at)
    }

    /// The loader's function that is called at each change of what is loaded.
    fn loader_site(&mut self, view: &View) -> Option<(ModuleKey, Address)> {
        let base = view.loader()?;
        let file = view.mapping(base)?.clone();
        let mapping = view.mappings.iter().find(|mapping| {
            mapping.executable && (mapping.device, mapping.inode) == (file.device, file.inode)
        })?;
        let key = view.module(mapping, &mut self.modules).ok()??;
        let module = self.modules.iter().find(|module| module.key == key)?;
        let at = symbols::loader::loader_break(&module.binary.symbols)?;
        Some((key, module.bias.run_time(at)))
    }

    /// Places the drafts, sends the change and keeps the books. `first`: a refusal of an exact name is an error, and the
    /// target is left alone. Gives how many patches were not put in because their module was gone.
    fn install(
        &mut self,
        common: &mut Common,
        view: &View,
        mut drafts: Drafts,
        first: bool,
    ) -> Result<usize, Error> {
        if first {
            self.refuse_exact(common)?;
        }
        let Some(environment) = self.environment.clone() else { return Ok(0) };
        let settled = std::mem::take(&mut drafts.settled);
        if drafts.known.is_empty() && drafts.new.is_empty() && drafts.remove.is_empty() {
            self.settled.extend(settled);
            return Ok(0);
        }
        let before = common.manner.follow.then(|| self.before_change());
        let result = self.change_for(common, view, &environment, drafts).and_then(|(change, installed)| {
            if first {
                self.refuse_exact(common)?; // a stub that finds no room
            }
            let reply = common.client.request(&Request::Change(self.space, Box::new(change.clone())))?;
            Ok((change, installed, reply))
        });
        match result {
            Ok((change, installed, Reply::Changed(report, fd))) => {
                self.changes += 1;
                self.past.extend(before);
                if self.shared.is_none() {
                    self.open_state(&common.client, common.action, fd)?;
                    // Else the holder keeps nothing but, at the target's end, a copy of which it is still to tell.
                    if fd.is_some() {
                        common.client.request(&Request::Opened(self.space))?;
                    }
                    sample(&mut common.clock);
                }
                if let Some((_, len)) = change.description {
                    self.describable = Description::capacity(len);
                    self.described_by.push(len);
                }
                self.note_installed(&change.remove, installed);
                self.settled.extend(settled);
                self.footprint = self.footprint_with(environment.layout.len as u64);
                for start in &report.skipped {
                    self.installed.remove(start);
                }
                for area in &mut self.room.areas {
                    area.is_new = false;
                }
                Ok(report.skipped.len())
            }
            Ok(_) => Err(strange()),
            Err(error) => Err(error),
        }
    }

    /// What is mapped of ours, the state being so long.
    fn footprint_with(&self, state: u64) -> Footprint {
        let (areas, pages) = (self.room.areas.len(), self.room.pages() as u64);
        Footprint {
            mappings: (areas + self.described_by.len() + 1) as u64,
            pages,
            resident: pages * insn::place::PAGE + self.described_by.iter().sum::<u64>() + state,
        }
    }

    fn note_installed(&mut self, removed: &[Address], installed: Vec<Installed>) {
        for start in removed.iter().copied().chain(installed.iter().map(|one| one.patch.start)) {
            if let Some(old) = self.installed.remove(&start) {
                self.retired.entry(start).or_default().push(old);
            }
        }
        for one in installed {
            if let Some(same) = self.retired.get_mut(&one.patch.start) {
                same.retain(|old| old.stub != one.stub);
            }
            self.installed.insert(one.patch.start, one);
        }
    }

    /// The stub that a draft had before, if it was in the text once.
    fn former(&self, draft: &Draft) -> Option<&Installed> {
        self.retired.get(&draft.patch.start)?.iter().find(|old| draft.is(old))
    }

    fn change_for(
        &mut self,
        common: &mut Common,
        view: &View,
        environment: &Environment,
        drafts: Drafts,
    ) -> Result<(Change, Vec<Installed>), Error> {
        let mut change = Change { remove: drafts.remove.clone(), ..Change::default() };
        if self.shared.is_none() {
            change.state = Some((environment.layout, environment.state));
        }
        let entries = |patch: &Patch| 1 + usize::from(patch.island.is_some());
        let installed = self.installed.values().map(|installed| &installed.patch);
        let new = drafts.new.iter().map(|(_, draft, _)| draft).chain(&drafts.known).map(|draft| &draft.patch);
        let patches: usize = installed.chain(new).map(entries).sum();
        if patches > self.describable || self.shared.is_none() {
            let len = Description::len_for(patches);
            change.description = Some((self.take_room(len)?, len));
        }
        change.routines = drafts.routines;
        let mut installed = Vec::new();
        // A patch whose island lies in what another one displaces comes behind that one, or not at all.
        let mut failed: Vec<&Patch> = Vec::new();
        for is_guest in [false, true] {
            let is_turn = |draft: &Draft| draft.patch.island.is_some() == is_guest;
            for draft in drafts.known.iter().filter(|draft| is_turn(draft)) {
                let former = self.former(draft).filter(|_| !draft.lacks_room(&failed));
                match former.and_then(|former| Some((former, draft.patched(former.stub, view)?))) {
                    Some((former, patched)) => {
                        change.apply.extend(patched);
                        installed.push(former.clone());
                    }
                    None => failed.push(&draft.patch),
                }
            }
            for (key, draft, place) in drafts.new.iter().filter(|(_, draft, _)| is_turn(draft)) {
                let place = place.clone().and_then(|at| {
                    let at = Some(at).filter(|_| !draft.lacks_room(&failed));
                    at.and_then(|at| self.finish_draft(*key, draft, at, view, environment))
                        .ok_or(Reason::NoRoom)
                });
                match place {
                    Ok((stub, one, patched)) => {
                        change.stubs.push(stub);
                        change.apply.extend(patched);
                        installed.push(one);
                    }
                    Err(reason) => {
                        failed.push(&draft.patch);
                        self.refuse_draft(common, *key, draft, &reason);
                    }
                }
            }
        }
        change.remove.extend(self.homeless(&failed, &installed));
        self.note_islands(&installed, &mut change);
        change.map =
            self.room.areas.iter().filter(|area| area.is_new).map(|area| (area.start, area.len)).collect();
        Ok((change, installed))
    }

    /// Patches in the text that stay as they are, but that one of `failed` was to make room for: they must go.
    fn homeless(&mut self, failed: &[&Patch], replaced: &[Installed]) -> Vec<Address> {
        let is_replaced = |start| replaced.iter().any(|one| one.patch.start == start);
        let lacks_room = |patch: &Patch| {
            let island = patch.island.as_ref();
            island.is_some_and(|island| failed.iter().any(|host| host.makes_room_for(island)))
        };
        let installed = self.installed.values().map(|one| &one.patch);
        let homeless = installed.filter(|patch| lacks_room(patch) && !is_replaced(patch.start));
        let homeless: Vec<Address> = homeless.map(|patch| patch.start).collect();
        for row in self.rows.all.iter_mut().filter(|row| row.address.is_some_and(|at| homeless.contains(&at)))
        {
            row.standing = Standing::Refused(Reason::NoRoom.to_string());
        }
        homeless
    }

    /// The islands of new patches, and those of old ones, which go with them.
    fn note_islands(&self, installed: &[Installed], change: &mut Change) {
        let with_island = |one: &Installed| Some((one.patch.island.as_ref()?.at, one.patch.start));
        change.islands = installed.iter().filter_map(with_island).collect();
        let new: HashSet<Address> = change.islands.iter().map(|(at, _)| *at).collect();
        let replaced = installed.iter().map(|one| one.patch.start);
        let gone: Vec<Address> = change.remove.iter().copied().chain(replaced).collect();
        let old = gone.iter().filter_map(|start| with_island(self.installed.get(start)?));
        change.remove.extend(old.map(|(at, _)| at).filter(|at| !new.contains(at)));
    }

    fn refuse_draft(&mut self, common: &mut Common, key: ModuleKey, draft: &Draft, reason: &Reason) {
        const DEAF: &str = "no room near the loader: libraries that are loaded later are not probed";
        if draft.notify && !common.warnings.iter().any(|warning| warning == DEAF) {
            common.warnings.push(DEAF.to_owned());
        }
        for site in &draft.sites {
            self.rows.refuse(key, *site, &format!("{site}: {reason}"));
        }
    }

    fn finish_draft(
        &self,
        key: ModuleKey,
        draft: &Draft,
        at: Address,
        view: &View,
        environment: &Environment,
    ) -> Option<(program::stub::Stub, Installed, Vec<target::engine::Patched>)> {
        let stub = draft.assemble(environment, self.routines.get(&key)?, at).ok()?;
        let patched = draft.patched(at, view)?;
        let installed = Installed {
            patch: draft.patch.clone(),
            bodies: draft.bodies.clone(),
            notify: draft.notify,
            entries: patched.iter().map(|patched| patched.entry.clone()).collect(),
            stub: at,
            stub_len: stub.bytes.len() as u64,
        };
        Some((stub, installed, patched))
    }

    /// Each module has the shared routines near its stubs. Where there is no room for them there is none for stubs: gives
    /// the modules of which that is so, and why. They are asked for once, not for each of their stubs.
    fn place_routines(
        &mut self,
        environment: &Environment,
        drafts: &mut Drafts,
    ) -> HashMap<ModuleKey, Reason> {
        let mut roomless = HashMap::new();
        for (key, draft, _) in &drafts.new {
            if self.routines.contains_key(key) || roomless.contains_key(key) {
                continue;
            }
            let near = draft.patch.start;
            let size = u32::try_from(Routines::assemble(environment, near).bytes.len()).unwrap_or(u32::MAX);
            // A patch that covers nothing has no constraint but to be near.
            let nothing = Patch {
                start: near,
                mechanism: Mechanism::Trap,
                overwritten: Vec::new(),
                displaced: Vec::new(),
                island: None,
            };
            let mut at = self.room.place(environment.isa, &[Demand { patch: &nothing, size: size.max(1) }]);
            match at.pop().unwrap_or(Err(Reason::NoRoom)) {
                Ok(at) => {
                    let routines = Routines::assemble(environment, at);
                    drafts.routines.push(routines.clone());
                    self.routines.insert(*key, routines);
                }
                Err(reason) => drop(roomless.insert(*key, reason)),
            }
        }
        roomless
    }
}

/// Each body with its address.
fn bodies(wanted: &BTreeMap<Address, Vec<Body>>) -> impl Iterator<Item = (Address, Body)> + '_ {
    wanted.iter().flat_map(|(at, bodies)| bodies.iter().map(|body| (*at, *body)))
}

/// The patches whose islands lie in what another one displaces, by that one's start: without it they may not be in the text.
fn guests(plan: &Plan) -> HashMap<Address, Vec<&Patch>> {
    let mut by_host: HashMap<Address, Vec<&Patch>> = HashMap::new();
    for patch in &plan.patches {
        if let Some(host) = plan.host_of(patch) {
            by_host.entry(host.start).or_default().push(patch);
        }
    }
    by_host
}

/// The sites that a plan serves at another address, by that address.
struct Moved(HashMap<Address, Vec<Address>>);

impl Moved {
    fn of(plan: &Plan) -> Self {
        let mut by_served: HashMap<Address, Vec<Address>> = HashMap::new();
        for (site, served) in &plan.moved {
            by_served.entry(*served).or_default().push(*site);
        }
        Self(by_served)
    }

    /// The wanted sites that are served at an address: those that moved there, and itself.
    fn at(&self, served: Address) -> impl Iterator<Item = Address> + '_ {
        self.0.get(&served).into_iter().flatten().copied().chain([served])
    }

    /// The wanted sites that a patch serves.
    fn sites_of(&self, patch: &Patch) -> Vec<Address> {
        patch.sites().flat_map(|served| self.at(served)).collect()
    }

    /// The bodies that a patch runs, by the address that serves them.
    fn bodies_of(&self, patch: &Patch, wanted: &BTreeMap<Address, Vec<Body>>) -> Vec<(Address, Vec<Body>)> {
        let bodies =
            |served| self.at(served).filter_map(|site| wanted.get(&site)).flatten().copied().collect();
        patch.sites().map(|served| (served, bodies(served))).collect()
    }
}
