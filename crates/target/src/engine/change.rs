//! One change of the set of probes: map, write stubs, describe, move threads, patch, make every CPU see it.
//!
//! The order is that of `coherence`'s procedure for live text with all threads stopped; its steps are carried out here
//! one by one, so that what `xol explain` prints is what is done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coherence::{Action, Means, Requirement, Situation, SystemCall, Way, Writer};
use insn::Address;
use insn::plan::hex;
use program::layout::{Layout, header};
use program::stub::{Routines, Stub};
use program::threads::Table;
use serde::{Deserialize, Serialize};
use symbols::maps::Mapping;

use super::state::{Boundary, Engine};
use crate::area::{self, Description, Entry};
use crate::error::{TargetError, system};
use crate::seam::{Call, Target, Tid, Window};
use crate::state::State;
use crate::sys::process;
use crate::sys::shared::SharedMap;

/// A patch in the text, and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patched {
    /// The bytes, before and after.
    pub entry: Entry,
    /// Offsets of old instruction boundaries inside the patch.
    pub interior: Vec<u8>,
    /// How many bytes at its end stay as they are, because the jump ends in instructions that it does not displace.
    pub tail: usize,
    /// What must still be mapped there for the bytes to be ours to restore.
    pub backing: Backing,
    /// Whether the front wants to know of every hit: the thread waits for it.
    pub notify: bool,
}

impl Patched {
    /// Whether `at` lies among the bytes changed (or right at their start).
    fn covers(&self, at: Address) -> bool {
        let changed = self.entry.patched.len().saturating_sub(self.tail) as u64;
        at >= self.entry.start && at - self.entry.start < changed
    }
}

/// The identity of a file mapping at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backing {
    /// Device of the file, major and minor.
    pub device: (u32, u32),
    /// Its inode.
    pub inode: u64,
    /// File offset of the patch.
    pub offset: u64,
}

impl Backing {
    /// The backing of `address` as mapped now (`mappings` sorted, as the kernel lists them).
    #[must_use]
    pub fn at(mappings: &[Mapping], address: Address) -> Option<Self> {
        let behind = mappings.partition_point(|mapping| mapping.range.start <= address);
        let mapping =
            mappings.get(behind.checked_sub(1)?).filter(|mapping| mapping.range.contains(&address))?;
        let offset = mapping.offset.wrapping_add(address - mapping.range.start);
        Some(Self { device: mapping.device, inode: mapping.inode, offset })
    }
}

/// A change of what is installed, planned by the front.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Change {
    /// The shared state, on the first change: its layout and where it goes.
    pub state: Option<(Layout, Address)>,
    /// A (larger) mapping for the description: address and length.
    pub description: Option<(Address, u64)>,
    /// New mappings of the area: address and length.
    pub map: Vec<(Address, u64)>,
    /// New shared routines.
    pub routines: Vec<Routines>,
    /// New stubs.
    pub stubs: Vec<Stub>,
    /// Islands, each with the site that leads there: they are patches too.
    pub islands: Vec<(Address, Address)>,
    /// Patches to take out of the text, by start.
    pub remove: Vec<Address>,
    /// Patches to put in, sorted by start when carried out. One that replaces a live patch at the same start need not be in `remove`.
    pub apply: Vec<Patched>,
}

/// What a change did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ChangeReport {
    /// How long the target stood still.
    pub stopped: Duration,
    /// Patches that could not be taken out because their mapping is gone or the program changed the bytes.
    pub lost: Vec<Address>,
    /// Patches that were not put in because something else is mapped there by now, or nothing.
    pub skipped: Vec<Address>,
}

impl<T: Target> Engine<T> {
    /// Carries out a change: mappings in one short stop of the world (if any are new), stubs written while it runs, since
    /// nobody can reach them yet, and the text patched in a second stop. Nothing is patched if anything fails before.
    ///
    /// # Errors
    /// The world did not stop; an address is taken; live bytes are not the expected ones.
    pub fn change(&mut self, mut change: Change) -> Result<ChangeReport, TargetError> {
        change.apply.sort_by_key(|patched| patched.entry.start);
        self.refuse_code_over_ours(&change)?;
        let before = self.statistics.stopped;
        if !self.membarrier && change.state.is_some() {
            self.register_membarrier()?;
        }
        self.map(&change)?;
        self.forget_code_in(&change.map);
        if change.state.is_some() {
            self.allocate_state()?;
            self.populate_rings()?;
        }
        let done = self.write_and_patch(&mut change);
        if done.is_err() {
            self.forget_unused(&change);
        }
        let (lost, skipped) = done?;
        self.changes += 1;
        let writes_running = self.target.capabilities().write_running;
        // The books are kept while the target runs on: no event of its is looked at before they are.
        let removes = !change.remove.is_empty();
        self.note_change(change);
        if removes
            && writes_running
            && let Err(error) = self.describe(&[])
        {
            // It names too much, which is harmless.
            self.warn(format!("the area's description could not be shortened: {error}"));
        }
        Ok(ChangeReport { stopped: self.statistics.stopped - before, lost, skipped })
    }

    /// The code, then the text. Gives which patches were lost, and which skipped.
    fn write_and_patch(&mut self, change: &mut Change) -> Result<(Vec<Address>, Vec<Address>), TargetError> {
        let writes_running = self.target.capabilities().write_running;
        if writes_running {
            self.write_code(change)?;
        }
        self.in_stopped_world(|engine| {
            if !writes_running {
                engine.write_code(change)?;
            }
            let skipped = engine.skip_what_moved(change)?;
            engine.verify(change)?;
            engine.snapshot_dispositions()?;
            engine.assign_all_slots();
            let lost = engine.patch(change);
            if lost.is_err() && engine.take_back(change.clone()).is_err() {
                // Somebody may be in its code, which stays in the books.
                change.stubs.clear();
                change.routines.clear();
            }
            Ok((lost?, skipped))
        })
    }

    /// Drops the patches of what is no longer mapped where the front saw it: a library unloaded since, by any thread.
    fn skip_what_moved(&self, change: &mut Change) -> Result<Vec<Address>, TargetError> {
        if change.apply.is_empty() {
            return Ok(Vec::new());
        }
        let mappings = self.target.mappings()?;
        let mut skipped = Vec::new();
        change.apply.retain(|patched| {
            let start = patched.entry.start;
            let stays = Backing::at(&mappings, start) == Some(patched.backing);
            if !stays {
                skipped.push(start);
            }
            stays
        });
        Ok(skipped)
    }

    pub(super) fn note_change(&mut self, change: Change) {
        self.put_back.clear();
        let starts = change.apply.iter().map(|patched| patched.entry.start);
        for start in change.remove.iter().copied().chain(starts).collect::<Vec<_>>() {
            if let Some(patched) = self.patches.remove(&start) {
                self.retire(&patched);
            }
            self.islands.remove(&start);
        }
        for (at, site) in change.islands {
            let is_there = change.apply.iter().any(|patched| patched.entry.start == at);
            is_there.then(|| self.islands.insert(at, site));
        }
        for patched in change.apply {
            self.enter(&patched);
            self.patches.insert(patched.entry.start, patched);
        }
    }

    /// Stops the world, does `what`, and lets it go whatever came of it.
    pub(super) fn in_stopped_world<R>(
        &mut self,
        what: impl FnOnce(&mut Self) -> Result<R, TargetError>,
    ) -> Result<R, TargetError> {
        self.stop_world()?;
        self.look_for_filter();
        let result = what(self);
        self.resume_world();
        result
    }

    /// In a stopped world: a filter that is set up later finds no call of ours on its way.
    pub(super) fn look_for_filter(&mut self) {
        self.gentle = self.target.is_filtered();
    }

    /// Code and description, where no thread is yet.
    fn write_code(&mut self, change: &Change) -> Result<(), TargetError> {
        for routines in &change.routines {
            self.target.write(routines.at, &routines.bytes)?;
            self.routines.push(routines.clone());
        }
        let code: Vec<_> = change.stubs.iter().map(|stub| stub.code(self.alone)).collect();
        let writes = change.stubs.iter().zip(&code).map(|(stub, code)| (stub.at, &**code)).collect();
        write_by_page(&mut self.target, writes)?;
        for stub in &change.stubs {
            self.stubs.insert(stub.at, stub.clone());
        }
        self.describe(&change.apply)
    }

    /// Registration waits for a grace period of the kernel, 15 to 96 ms in a process with threads
    /// (kernel/sched/membarrier.c, `sync_runqueues_membarrier_state`): one thread does it while the others run.
    fn register_membarrier(&mut self) -> Result<(), TargetError> {
        let Some(command) = SystemCall::MembarrierRegisterSyncCore.membarrier_command() else {
            return Ok(());
        };
        let call = self.membarrier_call(command);
        self.membarrier = self.call_while_others_run(call)? == Some(0);
        Ok(())
    }

    /// Has one thread make a system call that may take long. Gives its answer; `None` where no thread could make it.
    fn call_while_others_run(&mut self, call: Call) -> Result<Option<i64>, TargetError> {
        self.stop_world()?;
        self.look_for_filter();
        let Some(tid) = self.memory_caller().filter(|_| !self.gentle) else {
            self.resume_world();
            return Ok(None);
        };
        let was_held = !self.held.insert(tid);
        self.resume_world();
        let result = self.target.call(tid, &[call]);
        if !was_held {
            self.go(tid);
        }
        Ok(result?.first().copied())
    }

    /// Gives the shared state its pages, so that no later access can fail for want of memory. Nobody uses them before the
    /// text is patched: the target need not stand still meanwhile.
    fn allocate_state(&self) -> Result<(), TargetError> {
        let (Some(file), Some((_, len))) = (&self.state_file, self.state_at) else { return Ok(()) };
        process::allocate(file, len).map_err(system("allocating the shared state"))
    }

    /// Enters the pages of the rings into the target's page table: a fault at the first record of each page would cost as
    /// much as all the page's fifty events.
    fn populate_rings(&mut self) -> Result<(), TargetError> {
        /// include/uapi/asm-generic/mman-common.h; kernels before 5.14 refuse it, and the faults are taken.
        const MADV_POPULATE_WRITE: u64 = 23;
        let has_rings = self.layout.is_some_and(|layout| layout.sizing.rings > 0);
        let (true, Some(_), Some((at, len))) = (has_rings, &self.state_file, self.state_at) else {
            return Ok(());
        };
        let number = self.target.isa().abi().numbers.madvise;
        let arguments = [at.0, len, MADV_POPULATE_WRITE, 0, 0, 0];
        self.call_while_others_run(Call { name: "madvise", number, arguments }).map(drop)
    }

    fn membarrier_call(&self, command: u64) -> Call {
        let number = self.target.isa().abi().numbers.membarrier;
        Call { name: "membarrier", number, arguments: [command, 0, 0, 0, 0, 0] }
    }

    /// A stopped thread fit to make calls for us: best one that sleeps anyway.
    pub(super) fn caller(&self) -> Option<Tid> {
        let fit = |tid: &Tid| self.target.is_stopped(*tid) && !self.guests.contains(tid);
        let tasks = self.target.tasks();
        let free = |tid: &&Tid| {
            fit(tid) && self.target.group_stop(**tid).is_none() && !self.draining.contains_key(*tid)
        };
        tasks.iter().find(free).or_else(|| tasks.iter().find(|tid| fit(tid))).copied()
    }

    /// The same for calls that concern the memory alone: where the program's only thread waits for its vfork child, that child
    /// does as well.
    pub(super) fn memory_caller(&self) -> Option<Tid> {
        let fit = |tid: &Tid| self.target.is_stopped(*tid) && !self.draining.contains_key(tid);
        self.caller().or_else(|| self.target.tasks().into_iter().find(fit))
    }

    /// Every byte to be overwritten is what the plan saw: the file's, or our own live patch's original.
    fn verify(&self, change: &Change) -> Result<(), TargetError> {
        let covered = |address: Address| {
            self.patches
                .range(..=address)
                .next_back()
                .and_then(|(start, patch)| patch.entry.original.get(usize::try_from(address - *start).ok()?))
                .copied()
        };
        let mut page = PageCache::default();
        for patched in &change.apply {
            let entry = &patched.entry;
            if page.holds(&self.target, entry.start, &entry.original)? {
                continue;
            }
            let mut live = vec![0; entry.original.len()];
            self.target.read(entry.start, &mut live)?;
            for (index, byte) in live.iter_mut().enumerate() {
                if let Some(original) = covered(patched.entry.start + index as u64) {
                    *byte = original;
                }
            }
            if live != patched.entry.original {
                return Err(TargetError::Changed {
                    address: patched.entry.start,
                    found: hex(&live),
                    expected: hex(&patched.entry.original),
                });
            }
        }
        Ok(())
    }

    /// Makes the mappings: many stubs at addresses that are not theirs to choose take many, so that they are made in
    /// several stops. All or nothing: the front plans anew around an address that was taken (which may be one of ours).
    fn map(&mut self, change: &Change) -> Result<(), TargetError> {
        let code: Vec<(Address, u64)> = change.description.iter().chain(&change.map).copied().collect();
        if change.state.is_some() || !code.is_empty() {
            let (first, rest) = code.split_at(code.len().min(MAPPINGS_IN_A_STOP));
            self.in_stopped_world(|engine| engine.map_first(change, first))?;
            for (index, part) in rest.chunks(MAPPINGS_IN_A_STOP).enumerate() {
                let mapped = self.in_stopped_world(|engine| engine.map_code(part));
                if let Err(error) = mapped {
                    let made = first.len() + index * MAPPINGS_IN_A_STOP;
                    self.in_stopped_world(|engine| engine.unmap(&code[..made]))?;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn unmap(&mut self, places: &[(Address, u64)]) -> Result<(), TargetError> {
        let caller = self.memory_caller().ok_or_else(|| self.nobody_stands())?;
        // The description stays: it says what there is.
        let places = places.iter().filter(|place| Some(**place) != self.description_at);
        let gone: Vec<Address> = places.map(|(at, _)| *at).collect();
        let calls: Vec<Call> = gone.iter().filter_map(|at| self.unmap_call(*at)).collect();
        self.target.call(caller, &calls)?;
        self.mapped.retain(|at, _| !gone.contains(at));
        self.describe(&[])
    }

    fn map_code(&mut self, code: &[(Address, u64)]) -> Result<(), TargetError> {
        let caller = self.memory_caller().ok_or_else(|| self.nobody_stands())?;
        self.map_file(caller, code, false)?;
        self.describe(&[])
    }

    /// The state, the description, and the first of the mappings for code, by system calls of one stopped thread: with
    /// all threads stopped nobody else can take the descriptor's number.
    fn map_first(&mut self, change: &Change, code: &[(Address, u64)]) -> Result<(), TargetError> {
        let caller = self.memory_caller().ok_or_else(|| self.nobody_stands())?;
        if let Some((layout, at)) = change.state {
            self.map_state(caller, layout, at)?;
        }
        if !code.is_empty() {
            self.map_file(caller, code, false)?;
        }
        let former = change.description.and_then(|description| self.description_at.replace(description));
        // At once: an area that has no name is found by its description alone.
        self.describe(&[])?;
        former.map_or(Ok(()), |(at, _)| self.target.write(at, &[0; 8]))
    }

    /// The error where every thread waits in the kernel, parked, so that none can make a call.
    fn nobody_stands(&self) -> TargetError {
        let tid = self.parked.first().copied().unwrap_or(Tid(self.target.group()));
        let milliseconds = u64::try_from(super::world::DEADLINE.as_millis()).unwrap_or(u64::MAX);
        TargetError::DidNotStop { tid, state: self.target.state(tid), milliseconds }
    }

    fn map_state(&mut self, caller: Tid, layout: Layout, at: Address) -> Result<(), TargetError> {
        let len = layout.len as u64;
        let file = self.map_file(caller, &[(at, len)], true)?;
        let shared = match &file {
            Some(file) => {
                let map = SharedMap::new(file, layout.len).map_err(system("mapping the shared state"))?;
                State::Mapped(map)
            }
            None => {
                self.target.report_exits()?;
                State::Remote(self.target.remote_state(at)?)
            }
        };
        layout.describe(&shared);
        let shared = answers_while_we_live(layout, shared);
        self.slots = (layout.sizing.rings > 0).then(|| Table::new(layout));
        self.shared = Some(shared);
        self.state_file = file;
        self.state_at = Some((at, len));
        self.layout = Some(layout);
        Ok(())
    }

    /// A fresh shared state in the place of the one inherited by fork, which is still the parent's: put there by the one call
    /// that replaces it, so that there is one at any moment.
    pub(super) fn renew_state(&mut self, caller: Tid) -> Result<(), TargetError> {
        let (Some(layout), Some((at, _))) = (self.layout, self.state_at) else { return Ok(()) };
        self.map_state(caller, layout, at)?;
        self.allocate_state()
    }

    /// Mappings at `places`: of a memfd, which is given, or where that must not be made of private memory.
    fn map_file(
        &mut self,
        caller: Tid,
        places: &[(Address, u64)],
        is_state: bool,
    ) -> Result<Option<std::fs::File>, TargetError> {
        if !self.gentle {
            // Until it is closed the program has a descriptor that is none of its own.
            self.target.mark(Window::ForeignRegisters, true);
            let mapped = self.map_memfd(caller, places, is_state);
            self.target.mark(Window::ForeignRegisters, false);
            match mapped {
                Err(TargetError::Injected { call, source }) if call == MEMFD_CREATE => {
                    let what = if is_state { "counts" } else { "stubs" };
                    let pid = self.target.group();
                    self.warn(format!(
                        "process {pid} cannot make a memfd ({source}): {what} are in its own memory"
                    ));
                }
                other => return other.map(Some),
            }
        }
        self.map_places(caller, None, places, is_state)?;
        Ok(None)
    }

    /// One memfd of the target, mapped at `places`: shared and writable (state), or private and executable (code).
    fn map_memfd(
        &mut self,
        caller: Tid,
        places: &[(Address, u64)],
        is_state: bool,
    ) -> Result<std::fs::File, TargetError> {
        let numbers = &self.target.isa().abi().numbers;
        // The name must be in the target's memory: below the red zone of the caller's stack, restored afterwards.
        let sp = self.target.registers(caller)?.sp();
        let name_at = Address((sp.0 - self.target.isa().abi().red_zone - 64) & !7);
        let mut saved = [0; 8];
        self.target.read(name_at, &mut saved)?;
        self.target.write(name_at, if is_state { b"xol:st\0\0" } else { b"xol\0\0\0\0\0" })?;
        let create = Call {
            name: MEMFD_CREATE,
            number: numbers.memfd_create,
            arguments: [name_at.0, u64::from(libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING), 0, 0, 0, 0],
        };
        let created = self.target.call(caller, &[create]);
        let restored = self.target.write(name_at, &saved);
        let fd = answer(MEMFD_CREATE, created?.first().copied())?;
        let file = restored.and_then(|()| self.target.take_file(caller, i32::try_from(fd).unwrap_or(-1)));
        let mapped = file.and_then(|file| {
            let len = if is_state { places.iter().map(|(_, len)| len).sum() } else { longest(places) };
            file.set_len(len).map_err(system("sizing the area"))?;
            process::seal(&file).map_err(system("sealing the area"))?;
            self.map_places(caller, Some(fd), places, is_state)?;
            Ok(file)
        });
        let close = Call { name: "close", number: numbers.close, arguments: [fd, 0, 0, 0, 0, 0] };
        self.target.call(caller, &[close])?;
        mapped
    }

    fn map_places(
        &mut self,
        caller: Tid,
        fd: Option<u64>,
        places: &[(Address, u64)],
        is_state: bool,
    ) -> Result<(), TargetError> {
        let number = self.target.isa().abi().numbers.mmap;
        let protection = libc::PROT_READ | if is_state { libc::PROT_WRITE } else { libc::PROT_EXEC };
        // A state in the place of the one inherited by fork. Code of ours is never replaced: somebody may be in it.
        let replaces = is_state && places.iter().all(|(at, _)| self.mapped.contains_key(at));
        let flags = if replaces { libc::MAP_FIXED } else { libc::MAP_FIXED_NOREPLACE }
            | match fd {
                Some(_) if is_state => libc::MAP_SHARED,
                Some(_) => libc::MAP_PRIVATE,
                None => libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            };
        let fd = fd.unwrap_or(u64::MAX);
        let (protection, flags) = (u64::from(protection.cast_unsigned()), u64::from(flags.cast_unsigned()));
        let calls: Vec<Call> = places
            .iter()
            .map(|(at, len)| Call { name: "mmap", number, arguments: [at.0, *len, protection, flags, fd, 0] })
            .collect();
        let answers = self.target.call(caller, &calls)?;
        let mut failure = None;
        let mut undo = Vec::new();
        for ((at, len), got) in places.iter().zip(answers) {
            if got.cast_unsigned() == at.0 {
                self.mapped.insert(*at, *len);
                undo.push(*at);
            } else {
                failure = Some(match got {
                    got if -got == i64::from(libc::EEXIST) => TargetError::Taken { address: *at },
                    got => answer("mmap", Some(got)).err().unwrap_or(TargetError::Taken { address: *at }),
                });
            }
        }
        let Some(failure) = failure else { return Ok(()) };
        // All or nothing: the front plans anew around the address that was taken (which may be one of ours).
        let calls: Vec<Call> = undo.iter().filter_map(|at| self.unmap_call(*at)).collect();
        self.target.call(caller, &calls)?;
        for at in undo {
            self.mapped.remove(&at);
        }
        Err(failure)
    }

    pub(super) fn unmap_call(&self, at: Address) -> Option<Call> {
        self.mapped.get(&at).map(|len| self.munmap(at, *len))
    }

    pub(super) fn munmap(&self, at: Address, len: u64) -> Call {
        let number = self.target.isa().abi().numbers.munmap;
        Call { name: "munmap", number, arguments: [at.0, len, 0, 0, 0, 0] }
    }

    /// The calls that unmap everything of ours.
    pub(super) fn unmap_calls(&self) -> impl Iterator<Item = Call> + '_ {
        self.mapped.keys().filter_map(|at| self.unmap_call(*at))
    }

    /// Writes the description: the patches in the text and those `coming`. Of an old and a new patch of one start both are
    /// listed, since either may be what stands in the text when we are killed.
    pub(super) fn describe(&mut self, coming: &[Patched]) -> Result<(), TargetError> {
        let Some((at, len)) = self.description_at else { return Ok(()) };
        // Those that stay the same are listed once.
        let is_new = |patched: &&Patched| {
            self.patches.get(&patched.entry.start).is_none_or(|old| old.entry != patched.entry)
        };
        let patches = self.patches.values().chain(coming.iter().filter(is_new));
        let entries: Vec<Entry> = patches.map(|patched| patched.entry.clone()).collect();
        let capacity = Description::capacity(len);
        if entries.len() > capacity {
            return Err(TargetError::Unsupported {
                pid: self.target.group(),
                why: format!(
                    "the area's description has room for {capacity} patches, not for {}",
                    entries.len()
                ),
            });
        }
        let (state, state_len) = self.state_at.unwrap_or_default();
        let description = Description {
            owner: self.owner.0,
            owner_start: self.owner.1,
            word: u32::try_from(self.target.isa().abi().word).unwrap_or(0),
            len,
            state,
            state_len,
            entries,
            mapped: self.mapped.iter().map(|(start, len)| (*start, *len)).collect(),
        };
        let second = !self.second_table;
        let table = Description::tables(len)[usize::from(second)];
        self.target.write(at + table, &description.encode_table())?;
        self.target.write(at, &description.encode_header(table))?;
        self.second_table = second;
        Ok(())
    }

    fn patch(&mut self, change: &Change) -> Result<Vec<Address>, TargetError> {
        let mut lost = Vec::new();
        self.carry_out(
            |engine| {
                lost = engine.write_text(change)?;
                Ok(())
            },
            change,
        )?;
        Ok(lost)
    }

    /// Carries out the procedure of `coherence` for live text, with `write` as its writing step. Threads are moved out of
    /// the spans of `change`.
    pub(super) fn carry_out(
        &mut self,
        mut write: impl FnMut(&mut Self) -> Result<(), TargetError>,
        change: &Change,
    ) -> Result<(), TargetError> {
        let way = self.way()?;
        self.carry_out_by(way, &mut write, change)
    }

    /// The same where no thread can make a system call for us.
    pub(super) fn carry_out_without_calls(
        &mut self,
        mut write: impl FnMut(&mut Self) -> Result<(), TargetError>,
    ) -> Result<(), TargetError> {
        let way = self.way_with(|_| false)?;
        self.carry_out_by(way, &mut write, &Change::default())
    }

    fn carry_out_by(
        &mut self,
        way: &Way,
        write: &mut dyn FnMut(&mut Self) -> Result<(), TargetError>,
        change: &Change,
    ) -> Result<(), TargetError> {
        for step in way.steps {
            match step.action {
                // The world is stopped already, and resumed by the caller.
                Action::StopAllThreads | Action::ResumeAllThreads | Action::PublishBy(_) => {}
                Action::EmptySpan => self.empty_spans(change)?,
                Action::Write(_) => {
                    write(self)?;
                    self.close_moved();
                }
                Action::Perform(means) => self.perform(means)?,
                other => return Err(self.not_built(other)),
            }
        }
        Ok(())
    }

    fn perform(&mut self, means: Means) -> Result<(), TargetError> {
        match means {
            Means::SystemCall(SystemCall::MembarrierRegisterSyncCore) => Ok(()), // done before
            Means::SystemCall(call) => self.synchronise(call),
            Means::ResumeByIret => self.resume_by_iret(),
            Means::Visit => self.target.visit_every_cpu(),
            other => Err(self.not_built(Action::Perform(other))),
        }
    }

    fn not_built(&self, action: Action) -> TargetError {
        TargetError::Unsupported {
            pid: self.target.group(),
            why: format!("its coherence procedure has a step that is not built yet: {action:?}"),
        }
    }

    /// Threads (or frames of theirs) are moved to originals that do not stand in the text yet.
    pub(super) fn open_moved(&mut self) {
        if !std::mem::replace(&mut self.moved_out, true) {
            self.target.mark(Window::MovedThreads, true);
        }
    }

    /// The text is what they were moved for.
    pub(super) fn close_moved(&mut self) {
        if std::mem::take(&mut self.moved_out) {
            self.target.mark(Window::MovedThreads, false);
        }
    }

    /// Puts the original bytes back.
    pub(super) fn write_originals<'p>(
        &mut self,
        patches: impl Iterator<Item = &'p Patched>,
    ) -> Result<(), TargetError> {
        let originals =
            patches.map(|patched| (patched.entry.start, patched.entry.original.as_slice())).collect();
        write_by_page(&mut self.target, originals)
    }

    fn way(&self) -> Result<&'static Way, TargetError> {
        self.way_with(|requirement| match requirement {
            Requirement::MembarrierSyncCore => self.membarrier && !self.gentle,
            _ => false,
        })
    }

    fn way_with(&self, available: impl Fn(Requirement) -> bool) -> Result<&'static Way, TargetError> {
        self.coherence
            .procedure(Writer::DebuggerWrite, Situation::LiveTextStopped)
            .ok()
            .and_then(|procedure| procedure.way(available))
            .ok_or_else(|| TargetError::Unsupported {
                pid: 0,
                why: "no coherence procedure can be carried out here".to_owned(),
            })
    }

    /// The barrier. Where it is refused after all, or nobody can make the call, what the way that asks for nothing does
    /// in its place.
    fn synchronise(&mut self, call: SystemCall) -> Result<(), TargetError> {
        if let (Some(caller), Some(command)) = (self.memory_caller(), call.membarrier_command()) {
            let call = self.membarrier_call(command);
            if self.target.call(caller, &[call])?.first() == Some(&0) {
                return Ok(());
            }
        }
        for step in self.way_with(|_| false)?.steps {
            if let Action::Perform(means) = step.action {
                self.perform(means)?;
            }
        }
        Ok(())
    }

    /// RF in the saved flags keeps the kernel from returning by `sysret`, which does not serialise.
    fn resume_by_iret(&mut self) -> Result<(), TargetError> {
        const RF: u64 = 1 << 16;
        let Some(flags) = self.target.isa().abi().flags else { return Ok(()) };
        for tid in self.target.tasks() {
            if !self.target.is_stopped(tid) {
                continue;
            }
            let mut registers = self.target.registers(tid)?;
            registers.set(flags, registers.get(flags) | RF);
            self.target.set_registers(tid, &registers)?;
        }
        Ok(())
    }

    /// Moves every thread that stands inside bytes to be overwritten to its copy in the stub, and one that stands at
    /// the entry of a stub about to retire back to the original. The same for PCs saved in signal frames.
    pub(super) fn empty_spans(&mut self, change: &Change) -> Result<(), TargetError> {
        self.mend_moved_frames(change)?;
        for tid in self.target.tasks() {
            if !self.target.is_stopped(tid) {
                continue;
            }
            self.mend_frames(tid, change)?;
            let mut registers = self.target.registers(tid)?;
            if self.has_breakpoint_pending(tid, registers.pc()) {
                continue;
            }
            if let Some(to) = self.moved(registers.pc(), change)?.filter(|to| *to != registers.pc()) {
                if self.is_ours(registers.pc()) {
                    self.open_moved();
                }
                registers.set_pc(to);
                self.target.set_registers(tid, &registers)?;
                // Also into another stub: a signal held back waits at the exits of the one it was in.
                self.end_drain(tid)?;
            }
        }
        Ok(())
    }

    /// Whether a stub is still led to after the change: a thread at one of its entries may stay there.
    fn stays(&self, stub: Address, change: &Change) -> bool {
        let led_to = self.patches.values().find(|patched| patched.entry.stub == stub);
        led_to.is_some_and(|patched| {
            let start = patched.entry.start;
            !change.remove.contains(&start) && !change.apply.iter().any(|new| new.entry.start == start)
        })
    }

    /// Where a PC goes that will not lead on after the change; `None` for one that will.
    pub(super) fn moved(&self, pc: Address, change: &Change) -> Result<Option<Address>, TargetError> {
        let original = self.is_ours(pc).then(|| self.original_at_entry(pc, change)).flatten();
        let at = original.unwrap_or(pc);
        let behind = change.apply.partition_point(|patched| patched.entry.start < at);
        let before = behind.checked_sub(1).and_then(|index| change.apply.get(index));
        let Some(patched) = before.filter(|patched| patched.covers(at)) else { return Ok(original) };
        self.entry_in(patched.entry.stub, at).map(Some).ok_or_else(|| TargetError::Changed {
            address: at,
            found: "a thread that stands there".to_owned(),
            expected: "an instruction boundary of the plan".to_owned(),
        })
    }

    /// The original address that `pc` stands for, if that is an entry of a stub to which nothing leads after the change, or
    /// an island.
    fn original_at_entry(&self, pc: Address, change: &Change) -> Option<Address> {
        if let Some(site) = self.islands.get(&pc) {
            return Some(*site);
        }
        let (stub, _) = self.stub_at(pc)?;
        stub.entry_at(pc).filter(|_| !self.stays(stub.at, change))
    }

    /// Old patches out, new ones in, page by page: a write per site would take thirty times as long.
    fn write_text(&mut self, change: &Change) -> Result<Vec<Address>, TargetError> {
        let mappings = self.target.mappings()?;
        let mut out: BTreeSet<Address> = change.remove.iter().copied().collect();
        let starts = change.apply.iter().map(|patched| patched.entry.start);
        out.extend(starts.filter(|start| self.patches.contains_key(start)));
        let gone: Vec<&Patched> = out.iter().filter_map(|start| self.patches.get(start)).collect();
        let ours: Vec<bool> = self
            .still_ours(gone.iter().copied(), &mappings)
            .into_iter()
            .zip(&gone)
            .map(|(ours, patched)| ours.ok_or_else(|| unreadable(&patched.entry)))
            .collect::<Result<_, _>>()?;
        let lost = gone.iter().zip(&ours).filter(|(_, ours)| !**ours).map(|(patched, _)| patched.entry.start);
        let lost: Vec<Address> = lost.collect();
        let mine = gone.iter().zip(&ours).filter(|(_, ours)| **ours).map(|(patched, _)| &patched.entry);
        let originals: Vec<(Address, Vec<u8>)> =
            mine.map(|entry| (entry.start, entry.original.clone())).collect();
        let mut writes: Vec<(Address, &[u8])> =
            originals.iter().map(|(start, bytes)| (*start, bytes.as_slice())).collect();
        // Behind the originals: where an old and a new patch overlap, the new one is what counts.
        writes.extend(
            change.apply.iter().map(|patched| (patched.entry.start, patched.entry.patched.as_slice())),
        );
        write_by_page(&mut self.target, writes)?;
        Ok(lost)
    }

    /// Per patch, whether its mapping is the one that was patched and its bytes are exactly our patch; `None` where they
    /// cannot be read.
    pub(super) fn still_ours<'p>(
        &self,
        patches: impl Iterator<Item = &'p Patched>,
        mappings: &[Mapping],
    ) -> Vec<Option<bool>> {
        let mut page = PageCache::default();
        let is_ours = |patched: &'p Patched| {
            let entry = &patched.entry;
            if Backing::at(mappings, entry.start) != Some(patched.backing) {
                return Some(false);
            }
            page.holds(&self.target, entry.start, &entry.patched).ok()
        };
        patches.map(is_ours).collect()
    }

    /// Per patch, whether every byte is the original.
    pub(super) fn original_again<'p>(&self, patches: impl Iterator<Item = &'p Patched>) -> Vec<bool> {
        let mut page = PageCache::default();
        let is_original = |patched: &'p Patched| {
            page.holds(&self.target, patched.entry.start, &patched.entry.original).unwrap_or(false)
        };
        patches.map(is_original).collect()
    }

    /// Marks the boundaries of a patch that leaves the text as retired.
    pub(super) fn retire(&mut self, patched: &Patched) {
        for address in boundaries_of(patched) {
            for boundary in self.boundaries.entry(address).or_default() {
                boundary.live &= boundary.stub != patched.entry.stub;
            }
        }
    }

    /// Notes the boundaries of a patch that comes into the text.
    fn enter(&mut self, patched: &Patched) {
        let boundary = Boundary { stub: patched.entry.stub, live: true, notify: patched.notify };
        for address in boundaries_of(patched) {
            let all = self.boundaries.entry(address).or_default();
            all.retain(|old| old.stub != boundary.stub);
            all.push(boundary);
        }
    }

    /// The file behind the shared state, for the front to map.
    pub fn state_file(&self) -> Option<&std::fs::File> {
        self.state_file.as_ref()
    }

    fn assign_all_slots(&mut self) {
        self.name_only_thread(None);
        for tid in self.target.tasks() {
            if self.target.is_stopped(tid)
                && let Some(key) = self.thread_key(tid)
            {
                self.assign_slot(tid, key);
            }
        }
    }

    /// Whether a thread of a previous xol's area is in the way: used before the first change.
    ///
    /// # Errors
    /// What prevents reading the mappings.
    pub fn leftovers(&self) -> Result<Vec<(Address, Description)>, TargetError> {
        let mappings = self.target.mappings()?;
        Ok(area::find(&mappings, &mut |at, buffer| self.target.read(at, buffer).is_ok()))
    }
}

/// What cannot be read is not known to be the program's: the patch stays in the books.
pub(super) fn unreadable(entry: &Entry) -> TargetError {
    let (address, len) = (entry.start, entry.patched.len());
    TargetError::Memory { verb: "read".to_owned(), address, len, source: libc::EIO.into() }
}

/// A thread that asks for a slot dies of it when nobody is there to answer: our death must close the question. Where the state
/// is the target's alone the kernel cannot see to that; then none may be asked, and the few threads that get no slot at
/// their first stop lose their events, which is counted.
fn answers_while_we_live(layout: Layout, mut shared: State) -> State {
    match &mut shared {
        State::Mapped(map) => map.tell_of_death(header::OWNER, header::OWNER_LINK),
        State::Remote(_) => layout.set_asks(&shared, false),
    }
    shared
}

fn boundaries_of(patched: &Patched) -> impl Iterator<Item = Address> + '_ {
    let start = patched.entry.start;
    let trap = (patched.entry.patched.len() == 1).then_some(start);
    trap.into_iter().chain(patched.interior.iter().map(move |offset| start + u64::from(*offset)))
}

fn longest(places: &[(Address, u64)]) -> u64 {
    places.iter().map(|(_, len)| *len).max().unwrap_or(0)
}

/// A system call's raw answer as a result.
pub(super) fn answer(call: &'static str, got: Option<i64>) -> Result<u64, TargetError> {
    let got = got.unwrap_or(-i64::from(libc::EIO));
    if (-4095..0).contains(&got) {
        let source = std::io::Error::from_raw_os_error(i32::try_from(-got).unwrap_or(libc::EIO));
        return Err(TargetError::Injected { call: call.to_owned(), source: source.into() });
    }
    Ok(got.cast_unsigned())
}

pub(super) const PAGE: u64 = 4096;
/// How many mappings are made while all threads stand still: some 30 us each.
const MAPPINGS_IN_A_STOP: usize = 64;
const MEMFD_CREATE: &str = "memfd_create";

/// The last page read: sites come sorted, so most are on the same one.
#[derive(Default)]
pub(super) struct PageCache {
    start: Address,
    bytes: Vec<u8>,
}

impl PageCache {
    /// Whether memory at `at` is exactly `bytes`.
    pub(super) fn holds<T: Target>(
        &mut self,
        target: &T,
        at: Address,
        bytes: &[u8],
    ) -> Result<bool, TargetError> {
        if let Some(live) = self.read(target, at, bytes.len()) {
            return Ok(live == bytes);
        }
        // Across the end of a page, or next to a hole.
        let mut live = vec![0; bytes.len()];
        target.read(at, &mut live)?;
        Ok(live == bytes)
    }

    /// Memory at `at`, if it lies in one page that can be read.
    fn read<T: Target>(&mut self, target: &T, at: Address, len: usize) -> Option<&[u8]> {
        let page = Address(at.0 & !(PAGE - 1));
        if page != self.start || self.bytes.is_empty() {
            self.start = page;
            self.bytes.resize(usize::try_from(PAGE).unwrap_or(0), 0);
            if target.read(page, &mut self.bytes).is_err() {
                self.bytes.clear();
            }
        }
        let offset = usize::try_from(at - page).unwrap_or(0);
        self.bytes.get(offset..offset + len)
    }
}

/// Many small writes as one read and one write for each page; of two to one byte the later counts. All or nothing: a jump
/// over the end of a page must not stay half written.
pub(super) fn write_by_page<T: Target>(
    target: &mut T,
    writes: Vec<(Address, &[u8])>,
) -> Result<(), TargetError> {
    let (mut before, mut is_half) = (Vec::new(), false);
    let result = write_pages(target, writes, &mut before, &mut is_half);
    if result.is_err() {
        for (page, bytes) in before {
            // Whatever fails now shows in the text, by which the books are kept then.
            let _ = target.write(page, &bytes);
        }
    }
    if is_half {
        target.mark(Window::HalfWritten, false);
    }
    result
}

/// Pages as they were before they were written go to `before`; `is_half`: the last one written goes on in another.
fn write_pages<T: Target>(
    target: &mut T,
    writes: Vec<(Address, &[u8])>,
    before: &mut Vec<(Address, Vec<u8>)>,
    is_half: &mut bool,
) -> Result<(), TargetError> {
    let mut pages: BTreeMap<Address, Vec<(Address, &[u8])>> = BTreeMap::new();
    let mut crossing: BTreeSet<Address> = BTreeSet::new();
    for (mut at, mut bytes) in writes {
        while !bytes.is_empty() {
            let page = Address(at.0 & !(PAGE - 1));
            let room = usize::try_from(page + PAGE - at).unwrap_or(0).min(bytes.len());
            let (here, rest) = bytes.split_at(room);
            if !rest.is_empty() {
                crossing.insert(at);
            }
            pages.entry(page).or_default().push((at, here));
            (at, bytes) = (at + room as u64, rest);
        }
    }
    let mut buffer = vec![0; usize::try_from(PAGE).unwrap_or(0)];
    for (page, writes) in pages {
        target.read(page, &mut buffer)?;
        let mut goes_on = false;
        let old = buffer.clone();
        for (at, bytes) in writes {
            let start = usize::try_from(at - page).unwrap_or(0);
            if let Some(place) = buffer.get_mut(start..start + bytes.len()) {
                place.copy_from_slice(bytes);
            }
            goes_on |= crossing.contains(&at);
        }
        if goes_on && !std::mem::replace(is_half, true) {
            target.mark(Window::HalfWritten, true);
        }
        target.write(page, &buffer)?;
        before.push((page, old));
        if !goes_on && std::mem::take(is_half) {
            target.mark(Window::HalfWritten, false);
        }
    }
    Ok(())
}
