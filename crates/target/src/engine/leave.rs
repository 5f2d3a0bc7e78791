//! Leaving: the text restored and verified, threads out of the area, the area unmapped, every thread let go.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::time::Duration;

use insn::Address;
use serde::{Deserialize, Serialize};
use symbols::maps::Mapping;

use super::change::{Backing, Change, Patched, unreadable};
use super::inherit::mappings_of;
use super::place::Place;
use super::state::{Boundary, Engine, Notice};
use crate::area::{self, Description, Entry};
use crate::error::TargetError;
use crate::seam::{Call, Target, Tid};
use crate::sys::ptrace::SigInfo;

/// What was left behind, or found changed, on leaving.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Patches restored.
    pub restored: usize,
    /// Patches whose bytes the program (or another tool) had changed: not touched.
    pub changed: Vec<Address>,
    /// Patches over which the program (or another tool) had written the original bytes: hits were missed since.
    pub undone: Vec<Address>,
    /// Patches whose mapping was gone.
    pub unmapped: usize,
    /// Whether every byte of ours was seen to be the original again.
    pub verified: bool,
    /// Mappings that stay because something may still reach them.
    pub left_mapped: usize,
    /// Pages of text that stay private copies.
    pub private_pages: usize,
    /// Whether the process stays registered for membarrier.
    pub membarrier: bool,
}

/// Pauses between the attempts to find no thread in the area: a body runs for nanoseconds once its thread gets a CPU.
const PAUSES: [u64; 8] = [0, 1, 2, 5, 10, 20, 50, 100];
/// How often leaving is tried before what stands in the way is given up.
const ATTEMPTS: usize = 3;
/// How much of a stack is searched for words that lead into the area. Code of ours never leaves one there: a displaced call
/// pushes the original's address, and while a routine of ours runs its thread is inside. So this is belt and braces...
const STACK_NEAR: u64 = 256 << 10;
/// ... unless a PC in a signal frame was moved into a stub: its handler may have gone deep since.
pub(super) const STACK_FAR: u64 = 16 << 20;

/// Patches by their start.
type Patches = BTreeMap<Address, Patched>;

/// What was in the text, which of it was ours to put back, and what was mapped then.
struct PutBack {
    patches: Patches,
    ours: Vec<bool>,
    mappings: Vec<Mapping>,
}

/// The patches of which `ours` says `which`, in the order of both.
fn chosen<'p>(
    patches: &'p Patches,
    ours: &'p [bool],
    which: bool,
) -> impl Iterator<Item = &'p Patched> + Clone {
    patches.values().zip(ours).filter(move |(_, ours)| **ours == which).map(|(patched, _)| patched)
}

impl<T: Target> Engine<T> {
    /// Takes everything out and lets every thread go.
    ///
    /// # Errors
    /// When the world does not stop, or memory cannot be reached: what is in the text then stays known, and leaving may be
    /// tried again.
    pub fn leave(&mut self) -> Result<Left, TargetError> {
        for _ in 0..ATTEMPTS {
            match self.take_out(false) {
                // A thread died under our hands, or memory went: who and what is left is looked at anew.
                Err(TargetError::Memory { .. }) => {}
                Err(error) if error.is_end() => {}
                other => return other,
            }
        }
        self.take_out(true)
    }

    /// Lets everybody go of a process to which nothing was done (because nothing can be: it is of a foreign machine). Gives
    /// whether it is one.
    pub fn let_go_untouched(&mut self) -> bool {
        let untouched = self.changes == 0 && self.mapped.is_empty() && self.patches.is_empty();
        if untouched {
            self.detach_all();
        }
        untouched
    }

    /// Whether everything is taken out, and whoever is still here only has to stop once to be let go.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.leaving
    }

    /// One attempt; at the last, patches that cannot be read are given up.
    fn take_out(&mut self, is_last: bool) -> Result<Left, TargetError> {
        self.look_for_harm();
        self.forget_what_is_not_ours();
        if let (Some(layout), Some(shared)) = (&self.layout, &self.shared) {
            layout.set_asks(shared, false);
        }
        let restored = self.in_stopped_world(|engine| engine.restore(is_last));
        if self.target.tasks().is_empty() {
            // It ended before or while we were at it: there is nothing to restore any more.
            return Ok(Left { verified: true, ..Left::default() });
        }
        self.account_for(restored?);
        // What could not be read is looked at once more.
        self.left.verified = self.is_original_or_gone() || self.is_original_or_gone();
        self.stop_world()?;
        // Text that could not be read may have gone with its process.
        self.left.verified |= self.target.tasks().is_empty();
        self.look_for_filter();
        let out = self.let_everybody_out();
        if !matches!(self.put_back_ignored(), Ok(true)) {
            self.warn("a signal that the program ignores has its default action now".to_owned());
        }
        let unmapped = out.and_then(|out| {
            self.save_state();
            if out { self.unmap_all() } else { Ok(()) }
        });
        let unmapped = unmapped.and_then(|()| self.unmap_inherited());
        if let (Err(error), false) = (&unmapped, is_last) {
            self.resume_world();
            return Err(error.clone());
        }
        self.left.left_mapped = self.mapped.len() + self.inherited.len() + self.moved_away();
        self.describe_left();
        self.left.membarrier = self.membarrier;
        self.detach_all();
        self.resume_world();
        unmapped.map(|()| self.left.clone())
    }

    /// The description of an area that stays: nothing is in the text any more. Not before it is certain to stay: whoever has
    /// to finish this for us finds the mappings of an area without a name by the patches that led there.
    fn describe_left(&mut self) {
        if let Err(error) = self.describe(&[]) {
            self.warn(format!("the area's description could not be emptied: {error}"));
        }
    }

    /// Puts the originals back.
    ///
    /// The patches are moved as a whole and then only referred to: taking ten thousand apart doubled the stop.
    fn restore(&mut self, is_last: bool) -> Result<PutBack, TargetError> {
        let mappings = self.target.mappings()?;
        let is_ours = self.still_ours(self.patches.values(), &mappings);
        let unread = self.patches.values().zip(&is_ours).find(|(_, ours)| ours.is_none());
        if let (false, Some((patched, _))) = (is_last, unread) {
            return Err(unreadable(&patched.entry));
        }
        let ours: Vec<bool> = is_ours.into_iter().map(|ours| ours == Some(true)).collect();
        let patches = std::mem::take(&mut self.patches);
        self.all_retired = true;
        self.put_back.clear();
        if !self.restoring {
            self.left.undone = self.undone(chosen(&patches, &ours, false), &mappings);
        }
        self.restoring = true;
        let originals = |engine: &mut Self| engine.write_originals(chosen(&patches, &ours, true));
        if let Err(error) = self.carry_out(originals, &Change::default()) {
            self.patches = patches;
            self.all_retired = false;
            return Err(error);
        }
        Ok(PutBack { patches, ours, mappings })
    }

    /// Those of some patches that are not ours any more which are original again, though we have restored nothing yet.
    fn undone<'p>(
        &self,
        others: impl Iterator<Item = &'p Patched> + Clone,
        mappings: &[Mapping],
    ) -> Vec<Address> {
        let is_original = self.original_again(others.clone());
        let undone = others.zip(is_original).filter(|(patched, is_original)| {
            *is_original && Backing::at(mappings, patched.entry.start) == Some(patched.backing)
        });
        undone.map(|(patched, _)| patched.entry.start).collect()
    }

    /// Whether every byte of ours is the original again, or went with its mapping: the program runs on, and unloads libraries.
    fn is_original_or_gone(&self) -> bool {
        let original = self.original_again(self.restored.iter());
        let doubtful: Vec<&Patched> =
            self.restored.iter().zip(original).filter(|(_, is)| !is).map(|(patched, _)| patched).collect();
        doubtful.is_empty()
            || self.target.mappings().is_ok_and(|mappings| {
                let is_gone =
                    |patched: &&Patched| Backing::at(&mappings, patched.entry.start) != Some(patched.backing);
                doubtful.iter().all(is_gone)
            })
    }

    /// Notes what became of the patches, while the target runs on.
    fn account_for(&mut self, done: PutBack) {
        let PutBack { patches, ours, mappings } = done;
        let others = || chosen(&patches, &ours, false);
        for (patched, untouched) in others().zip(self.original_again(others())) {
            let start = patched.entry.start;
            if Backing::at(&mappings, start) != Some(patched.backing) {
                self.left.unmapped += 1;
            } else if !untouched {
                self.left.changed.push(start);
            }
        }
        let mut ours = ours.into_iter();
        self.restored.extend(patches.into_values().filter(|_| ours.next().unwrap_or(false)));
        self.left.restored = self.restored.len();
        self.left.private_pages =
            self.restored.iter().map(|patched| patched.entry.start.0 >> 12).collect::<BTreeSet<_>>().len();
    }

    /// Until no thread is in the area, none has a signal of ours pending, and no stack word points there. The world is
    /// stopped on return. Gives whether that was reached.
    fn let_everybody_out(&mut self) -> Result<bool, TargetError> {
        for pause in PAUSES {
            if pause > 0 {
                self.lead_out()?;
                self.resume_world();
                self.target.pause(Duration::from_millis(pause));
                self.stop_world()?;
            }
            self.move_out()?;
            if !self.is_anybody_inside() {
                let mappings = self.target.mappings()?;
                return Ok(self
                    .target
                    .tasks()
                    .into_iter()
                    .all(|tid| !self.does_stack_point_in(&self.target, tid, &mappings)));
            }
        }
        Ok(false)
    }

    /// Puts threads that stand at a place equal to an original address back there.
    fn move_out(&mut self) -> Result<(), TargetError> {
        // Of a thread that was parked when the text changed nothing was moved then.
        self.mend_moved_frames(&Change::default())?;
        self.close_moved(); // the text is original again
        for tid in self.target.tasks() {
            if !self.target.is_stopped(tid) {
                continue;
            }
            let mut registers = self.target.registers(tid)?;
            // Behind the breakpoint over an exit another stub may begin.
            if self.has_breakpoint_pending(tid, registers.pc()) {
                continue;
            }
            // A thread that has done nothing yet, or waits in a displaced system call (which the kernel may then restart:
            // at the restored original).
            let equal = |place: &Place| place.is_entry || place.behind_syscall;
            self.mend_frames(tid, &Change::default())?;
            self.close_moved();
            let Some(place) = self.original_of(registers.pc()).filter(equal) else { continue };
            place.put(&mut registers);
            self.target.set_registers(tid, &registers)?;
            self.end_drain(tid)?;
        }
        Ok(())
    }

    /// Threads that job control has stopped in a stub would stay there.
    fn lead_out(&mut self) -> Result<(), TargetError> {
        for tid in self.target.tasks() {
            if self.target.group_stop(tid).is_none() {
                continue;
            }
            let registers = self.target.registers(tid)?;
            if self.in_area(registers.pc()) {
                self.drain_stopped(tid, &registers)?;
            }
        }
        Ok(())
    }

    fn is_anybody_inside(&self) -> bool {
        self.target.tasks().into_iter().any(|tid| {
            if !self.target.is_stopped(tid) {
                return self.target.blocked_at(tid).is_none_or(|pc| self.in_area(pc))
                    && self.target.state(tid) != 'Z';
            }
            let inside = self.target.registers(tid).is_ok_and(|registers| self.is_ours(registers.pc()));
            inside || self.draining.contains_key(&tid) || self.has_trap_pending(tid)
        })
    }

    /// A fault of ours may be queued and not yet reported: the interrupt's stop comes first (kernel/signal.c,
    /// `get_signal`). Let go now, the thread would die of it.
    pub(super) fn has_trap_pending(&self, tid: Tid) -> bool {
        let Ok(pc) = self.target.registers(tid).map(|registers| registers.pc()) else { return false };
        let is_ours = |info: &SigInfo| {
            let at = Address(info.address());
            self.raises(info.signal()) && (self.boundary(at).is_some() || self.boundary(pc).is_some())
        };
        self.has_breakpoint_pending(tid, pc)
            || self.target.pending(tid).is_ok_and(|pending| pending.iter().any(is_ours))
    }

    /// Whether the thread has met a breakpoint of ours, in the text or at a stub's exit, and we have not been told: it is at
    /// the breakpoint still, not at its PC.
    pub(super) fn has_breakpoint_pending(&self, tid: Tid, pc: Address) -> bool {
        let past = self.target.isa().abi().pc_past_breakpoint;
        self.may_be_breakpoint(Address(pc.0.wrapping_sub(past)))
            && self
                .target
                .pending(tid)
                .is_ok_and(|pending| pending.iter().any(|info| info.signal() == libc::SIGTRAP))
    }

    /// Whether a word on a thread's stack leads into code of ours. The thread may be one of a copy of this address space.
    pub(super) fn does_stack_point_in(&self, target: &T, tid: Tid, mappings: &[Mapping]) -> bool {
        let limit = if self.may_frames_lead_in() { STACK_FAR } else { STACK_NEAR };
        let (first, end) = self.reach_of_area();
        // Megabytes of words, and the world stands still: nearly all are out of reach.
        let leads = |at: Address| first <= at.0 && at.0 < end && self.is_code_of_ours(at);
        does_stack_lead(target, tid, mappings, limit, leads)
    }

    /// Whether PCs in signal frames were moved into stubs, however deep they are by now. Of what another xol left (we have
    /// no stubs then) nobody knows.
    pub(super) fn may_frames_lead_in(&self) -> bool {
        self.statistics.frames > 0 || self.stubs.is_empty() && !self.mapped.is_empty()
    }

    /// The addresses between which everything of ours is mapped.
    fn reach_of_area(&self) -> (u64, u64) {
        let first = self.mapped.first_key_value().map_or(0, |(start, _)| start.0);
        let end = self.mapped.last_key_value().map_or(0, |(start, len)| start.0 + len);
        (first, end)
    }

    /// Words that point into the state or the description are not return addresses; only code counts.
    fn is_code_of_ours(&self, at: Address) -> bool {
        self.in_area(at)
            && (self.stub_at(at).is_some() || self.routines_at(at).is_some() || self.stubs.is_empty())
    }

    fn unmap_all(&mut self) -> Result<(), TargetError> {
        let mappings = self.target.mappings()?;
        let mapped = std::mem::take(&mut self.mapped);
        let is_ours = |(at, len): &(Address, u64)| self.is_still_our_mapping(&mappings, *at, *len);
        let ours = mapped.into_iter().filter(is_ours).collect();
        self.mapped = ours;
        self.close_left_open()?;
        let Some(caller) = self.memory_caller() else { return Ok(()) };
        let mut starts: Vec<Address> = self.mapped.keys().copied().collect();
        // The description last: without it an area that has no name would not be found again.
        starts.sort_by_key(|start| self.description_at.is_some_and(|(at, _)| at == *start));
        let calls: Vec<Call> = starts.iter().filter_map(|start| self.unmap_call(*start)).collect();
        let answers = self.target.call(caller, &calls)?;
        for (start, got) in starts.into_iter().zip(answers) {
            if got == 0 {
                self.mapped.remove(&start);
            }
        }
        let stays = |at: &(Address, u64)| self.mapped.contains_key(&at.0);
        self.description_at = self.description_at.filter(stays);
        self.state_at = self.state_at.filter(stays);
        Ok(())
    }

    /// Closes what a killed tracer had no time to close; a filter may not let us.
    fn close_left_open(&mut self) -> Result<(), TargetError> {
        let left_open = std::mem::take(&mut self.left_open);
        let Some(caller) = self.caller().filter(|_| !self.gentle && !left_open.is_empty()) else {
            return Ok(());
        };
        let number = self.target.isa().abi().numbers.close;
        let close = |fd| Call { name: "close", number, arguments: [fd, 0, 0, 0, 0, 0] };
        let calls: Vec<Call> = left_open.into_iter().map(close).collect();
        self.target.call(caller, &calls).map(drop)
    }

    fn detach_all(&mut self) {
        self.held.clear();
        self.owed_to.clear();
        for tid in self.draining.keys().copied().collect::<Vec<_>>() {
            // Still in its stub after all our patience: its exits must be its own again before nobody watches them.
            let _ = self.end_drain(tid);
        }
        self.leaving = true;
        for tid in self.target.tasks() {
            if !self.target.is_stopped(tid) {
                continue; // parked: let go at its next stop, or by our end
            }
            // The kernel keeps one stopped that job control has stopped (kernel/ptrace.c, `__ptrace_unlink`).
            let _ = self.target.detach(tid, 0);
        }
        if let Some(since) = self.stopped_since {
            let time = self.target.now().saturating_duration_since(since);
            self.statistics.longest_stop = self.statistics.longest_stop.max(time);
        }
    }

    /// Takes over what a killed xol left: its patches and mappings become ours, to be removed by [`Self::leave`].
    /// Gives the number of patches found in the text.
    ///
    /// # Errors
    /// What prevents reading the target.
    pub fn adopt_leftovers(&mut self) -> Result<usize, TargetError> {
        let mappings = self.target.mappings()?;
        let found: Vec<(Address, Description)> = self.leftovers()?;
        self.left_open = self.target.files_called(area::NAME);
        // Of several the others would be found by their names.
        self.description_at = found.first().map(|(at, description)| (*at, description.len));
        self.state_at = found.first().map(|(_, description)| (description.state, description.state_len));
        self.mapped = mappings_of(&mappings, &found);
        let mut entries: Vec<Entry> =
            found.into_iter().flat_map(|(_, description)| description.entries).collect();
        entries.sort_by_key(|entry| entry.start);
        for entry in &entries {
            let Some(entry) = self.left_of(entry, &neighbours(&entries, entry)) else { continue };
            let Some(backing) = Backing::at(&mappings, entry.start) else { continue };
            // Which offsets are old boundaries is not recorded: any may be at which another byte stands now.
            let same = entry.patched.iter().zip(&entry.original).rev().take_while(|(ours, old)| ours == old);
            let tail = same.count();
            let changed = u8::try_from(entry.patched.len() - tail).unwrap_or(1);
            self.adopt(Patched { entry, interior: (1..changed).collect(), tail, backing, notify: false });
        }
        self.islands = islands_of(self.patches.values());
        Ok(self.patches.len())
    }

    fn adopt(&mut self, patched: Patched) {
        let start = patched.entry.start;
        for offset in iter::once(0).chain(patched.interior.iter().copied()) {
            let boundary = Boundary { stub: patched.entry.stub, live: true, notify: false };
            self.boundaries.entry(start + u64::from(offset)).or_default().push(boundary);
        }
        self.patches.insert(start, patched);
    }

    /// Which threads of the stopped world stand in the area.
    pub fn threads_inside(&self) -> Vec<Tid> {
        let inside =
            |tid: &Tid| self.target.registers(*tid).is_ok_and(|registers| self.in_area(registers.pc()));
        self.target.tasks().into_iter().filter(inside).collect()
    }

    /// Notes a warning for the user.
    pub fn warn(&mut self, text: String) {
        self.notices.push_back(Notice::Warning(text));
    }
}

/// Whether one of the words next to a thread's stack pointer is an address of those that are asked for.
pub(super) fn does_stack_lead<T: Target>(
    target: &T,
    tid: Tid,
    mappings: &[Mapping],
    limit: u64,
    leads: impl Fn(Address) -> bool,
) -> bool {
    let Ok(registers) = target.registers(tid) else { return false };
    let abi = target.isa().abi();
    let low = Address(registers.sp().0.saturating_sub(abi.red_zone) & !(abi.word as u64 - 1));
    let Some(stack) = mappings.iter().find(|mapping| mapping.range.contains(&low)) else { return false };
    // The text of an environment looks like addresses of 32 bits.
    let is_inside = |bottom: &Address| low < *bottom && *bottom < stack.range.end;
    let end = target.stack_bottom().filter(is_inside).unwrap_or(stack.range.end);
    let len = (end - low).min(limit);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    if target.read(low, &mut bytes).is_err() {
        return true;
    }
    bytes.chunks_exact(abi.word).any(|word| leads(Address(abi.order.number(word))))
}

/// The islands among patches: of two that lead to one stub the shorter leads there over the other.
fn islands_of<'p>(patches: impl Iterator<Item = &'p Patched>) -> BTreeMap<Address, Address> {
    let mut by_stub: BTreeMap<Address, &Entry> = BTreeMap::new();
    let mut islands = BTreeMap::new();
    for entry in patches.map(|patched| &patched.entry) {
        if let Some(other) = by_stub.insert(entry.stub, entry) {
            let (site, island) =
                if other.patched.len() < entry.patched.len() { (other, entry) } else { (entry, other) };
            islands.insert(island.start, site.start);
        }
    }
    islands
}

/// Those of `entries`, sorted by start, that may cover a byte of `entry`.
fn neighbours<'e>(entries: &'e [Entry], entry: &Entry) -> Vec<&'e Entry> {
    let first =
        entries.partition_point(|other| other.start.0.saturating_add(Entry::MAX_LEN) <= entry.start.0);
    let end = entry.start + entry.patched.len() as u64;
    entries[first..].iter().take_while(|other| other.start < end).collect()
}
