//! Leaving: the text restored and verified, threads out of the area, the area unmapped, every thread let go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use insn::Address;
use serde::{Deserialize, Serialize};
use symbols::maps::Mapping;

use super::change::{Backing, Change, PAGE, Patched};
use super::place::Place;
use super::state::{Boundary, Engine, Notice};
use crate::area::{self, Description, Entry};
use crate::error::TargetError;
use crate::seam::{Target, Tid};
use crate::sys::ptrace::SigInfo;

/// What was left behind, or found changed, on leaving.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Patches restored.
    pub restored: usize,
    /// Patches whose bytes the program (or another tool) had changed: not touched.
    pub changed: Vec<Address>,
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
/// How much of a stack is searched for words that lead into the area. Code of ours never leaves one there: a displaced call
/// pushes the original's address, and while a routine of ours runs its thread is inside. So this is belt and braces...
const STACK_NEAR: u64 = 256 << 10;
/// ... unless a PC in a signal frame was moved into a stub: its handler may have gone deep since.
const STACK_FAR: u64 = 16 << 20;

/// Patches by their start.
type Patches = BTreeMap<Address, Patched>;

/// The patches of which `ours` says `which`, in the order of both.
fn chosen<'p>(patches: &'p Patches, ours: &'p [bool], which: bool) -> impl Iterator<Item = &'p Patched> {
    patches.values().zip(ours).filter(move |(_, ours)| **ours == which).map(|(patched, _)| patched)
}

impl<T: Target> Engine<T> {
    /// Takes everything out and lets every thread go.
    ///
    /// # Errors
    /// When the world does not stop: nothing is changed then and the probes stay.
    pub fn leave(&mut self) -> Result<Left, TargetError> {
        if self.target.tasks().is_empty() {
            return Ok(Left { verified: true, ..Left::default() });
        }
        self.gentle = self.target.is_filtered();
        if let (Some(layout), Some(shared)) = (&self.layout, &self.shared) {
            layout.set_asks(shared, false);
        }
        let (mut left, patches, ours) = match self.in_stopped_world(Self::restore) {
            // It ended while we were at it: there is nothing to restore any more.
            Err(_) if self.target.tasks().is_empty() => {
                return Ok(Left { verified: true, ..Left::default() });
            }
            other => other?,
        };
        let restored: Vec<&Patched> = chosen(&patches, &ours, true).collect();
        left.restored = restored.len();
        left.private_pages =
            restored.iter().map(|patched| patched.entry.start.0 >> 12).collect::<BTreeSet<_>>().len();
        left.verified = self.original_again(restored.into_iter()).into_iter().all(|original| original);
        self.describe_left();
        self.stop_world()?;
        let unmapped = self.let_everybody_out().and_then(|out| {
            self.save_state();
            if out { self.unmap_all() } else { Ok(()) }
        });
        left.left_mapped = self.mapped.len();
        left.membarrier = self.membarrier;
        self.detach_all();
        self.resume_world();
        unmapped.map(|()| left)
    }

    /// The description of an area that may stay: nothing is in the text any more.
    fn describe_left(&mut self) {
        if let Err(error) = self.describe(&[]) {
            self.warn(format!("the area's description could not be emptied: {error}"));
        }
    }

    /// Puts the originals back. Gives what became of the others, all patches, and which of them were put back.
    ///
    /// The patches are moved as a whole and then only referred to: taking ten thousand apart doubled the stop.
    fn restore(&mut self) -> Result<(Left, Patches, Vec<bool>), TargetError> {
        let mut left = Left { verified: true, ..Left::default() };
        let mappings = self.target.mappings()?;
        let patches = std::mem::take(&mut self.patches);
        self.all_retired = true;
        let ours = self.still_ours(patches.values(), &mappings);
        let others = || chosen(&patches, &ours, false);
        for (patched, untouched) in others().zip(self.original_again(others())) {
            let start = patched.entry.start;
            if Backing::at(&mappings, start) != Some(patched.backing) {
                left.unmapped += 1;
            } else if !untouched {
                left.changed.push(start);
            }
        }
        let originals = |engine: &mut Self| engine.write_originals(chosen(&patches, &ours, true));
        if let Err(error) = self.carry_out(originals, &Change::default()) {
            let mut ours = ours.into_iter();
            self.patches = patches;
            self.patches.retain(|_, _| ours.next().unwrap_or(false));
            self.all_retired = false;
            return Err(error);
        }
        Ok((left, patches, ours))
    }

    /// Until no thread is in the area, none has a signal of ours pending, and no stack word points there. The world is
    /// stopped on return. Gives whether that was reached.
    fn let_everybody_out(&mut self) -> Result<bool, TargetError> {
        for pause in PAUSES {
            if pause > 0 {
                self.resume_world();
                std::thread::sleep(Duration::from_millis(pause));
                self.stop_world()?;
            }
            self.move_out()?;
            if !self.is_anybody_inside() {
                let mappings = self.target.mappings()?;
                return Ok(self
                    .target
                    .tasks()
                    .into_iter()
                    .all(|tid| !self.does_stack_point_in(tid, &mappings)));
            }
        }
        Ok(false)
    }

    /// Puts threads that stand at a place equal to an original address back there.
    fn move_out(&mut self) -> Result<(), TargetError> {
        for tid in self.target.tasks() {
            if !self.target.is_stopped(tid) {
                continue;
            }
            let mut registers = self.target.registers(tid)?;
            // A thread that has done nothing yet, or waits in a displaced system call (which the kernel may then restart:
            // at the restored original).
            let equal = |place: &Place| place.is_entry || place.behind_syscall;
            let Some(place) = self.original_of(registers.pc()).filter(equal) else { continue };
            place.put(&mut registers);
            self.target.set_registers(tid, &registers)?;
            self.end_drain(tid)?;
        }
        Ok(())
    }

    fn is_anybody_inside(&self) -> bool {
        self.target.tasks().into_iter().any(|tid| {
            if !self.target.is_stopped(tid) {
                return self.target.blocked_at(tid).is_none_or(|pc| self.in_area(pc))
                    && self.target.state(tid) != 'Z';
            }
            let inside = self.target.registers(tid).is_ok_and(|registers| self.in_area(registers.pc()));
            inside || self.draining.contains_key(&tid) || self.has_trap_pending(tid)
        })
    }

    /// A fault of ours may be queued and not yet reported: the interrupt's stop comes first (kernel/signal.c,
    /// `get_signal`). Let go now, the thread would die of it.
    fn has_trap_pending(&self, tid: Tid) -> bool {
        let Ok(pc) = self.target.registers(tid).map(|registers| registers.pc()) else { return false };
        let past = self.target.isa().abi().pc_past_breakpoint;
        let is_ours = |info: &SigInfo| match info.signal() {
            libc::SIGILL => self.boundary(Address(info.address())).is_some() || self.boundary(pc).is_some(),
            libc::SIGTRAP => self.boundary(Address(pc.0.wrapping_sub(past))).is_some(),
            _ => false,
        };
        self.target.pending(tid).is_ok_and(|pending| pending.iter().any(is_ours))
    }

    fn does_stack_point_in(&self, tid: Tid, mappings: &[Mapping]) -> bool {
        let Ok(registers) = self.target.registers(tid) else { return false };
        let low = Address(registers.sp().0.saturating_sub(self.target.isa().abi().red_zone) & !7);
        let Some(stack) = mappings.iter().find(|mapping| mapping.range.contains(&low)) else { return false };
        let limit = if self.statistics.frames > 0 { STACK_FAR } else { STACK_NEAR };
        let len = (stack.range.end - low).min(limit);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        if self.target.read(low, &mut bytes).is_err() {
            return true;
        }
        let (first, end) = self.reach_of_area();
        bytes
            .chunks_exact(8)
            .filter_map(|word| word.try_into().ok().map(u64::from_le_bytes))
            // Megabytes of words, and the world stands still: nearly all are out of reach.
            .any(|word| first <= word && word < end && self.is_code_of_ours(Address(word)))
    }

    /// The addresses between which everything of ours is mapped.
    fn reach_of_area(&self) -> (u64, u64) {
        let first = self.mapped.first_key_value().map_or(0, |(start, _)| start.0);
        let end = self.mapped.last_key_value().map_or(0, |(start, len)| start.0 + len);
        (first, end)
    }

    /// Words that point into the state or the description are not return addresses; only code counts.
    fn is_code_of_ours(&self, at: Address) -> bool {
        self.stub_at(at).is_some()
            || self.routines_at(at).is_some()
            || (self.stubs.is_empty() && self.in_area(at))
    }

    fn unmap_all(&mut self) -> Result<(), TargetError> {
        let Some(caller) = self.caller() else { return Ok(()) };
        let calls: Vec<_> = self.unmap_calls().collect();
        let starts: Vec<Address> = self.mapped.keys().copied().collect();
        let answers = self.target.call(caller, &calls)?;
        for (start, got) in starts.into_iter().zip(answers) {
            if got == 0 {
                self.mapped.remove(&start);
            }
        }
        self.description_at = None;
        self.state_at = None;
        Ok(())
    }

    fn detach_all(&mut self) {
        self.held.clear();
        for tid in self.draining.keys().copied().collect::<Vec<_>>() {
            // Still in its stub after all our patience: its exits must be its own again before nobody watches them.
            let _ = self.end_drain(tid);
        }
        self.leaving = true;
        for tid in self.target.tasks() {
            if !self.target.is_stopped(tid) {
                continue; // parked: let go at its next stop, or by our end
            }
            let signal = self.group_stopped.get(&tid).copied().unwrap_or(0);
            let _ = self.target.detach(tid, signal);
        }
        if let Some(since) = self.stopped_since {
            let time = Instant::now() - since;
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
        for mapping in mappings.iter().filter(|mapping| area::is_ours(mapping)) {
            self.mapped.insert(mapping.range.start, mapping.range.end - mapping.range.start);
        }
        for (at, description) in &found {
            self.mapped.extend(area::unnamed(&mappings, *at, description));
        }
        for entry in found.into_iter().flat_map(|(_, description)| description.entries) {
            let Some(backing) = Backing::at(&mappings, entry.start) else { continue };
            if let Some(entry) = self.as_found(entry) {
                let len = u8::try_from(entry.patched.len()).unwrap_or(1);
                // Which offsets are old boundaries is not recorded: any may be.
                let interior = (1..len).collect();
                self.adopt(Patched { entry, interior, backing, notify: false });
            }
        }
        Ok(self.patches.len())
    }

    /// The entry with the bytes that stand in the text, if those are its patch. A tracer that was killed between the two
    /// pages of a patch left half of it.
    fn as_found(&self, mut entry: Entry) -> Option<Entry> {
        let mut live = vec![0; entry.patched.len()];
        self.target.read(entry.start, &mut live).ok()?;
        let split = usize::try_from(PAGE - entry.start.0 % PAGE).unwrap_or(usize::MAX).min(live.len());
        let is = |piece: std::ops::Range<usize>, bytes: &[u8]| live.get(piece.clone()) == bytes.get(piece);
        let (first, second) = (0..split, split..live.len());
        let ours = |one: &[u8], two: &[u8]| is(first.clone(), one) && is(second.clone(), two);
        let (old, new) = (entry.original.as_slice(), entry.patched.as_slice());
        let is_half = split < live.len() && (ours(old, new) || ours(new, old));
        if !is_half && live != entry.patched {
            return None;
        }
        entry.patched = live;
        Some(entry)
    }

    fn adopt(&mut self, patched: Patched) {
        let start = patched.entry.start;
        for offset in 0..patched.entry.patched.len() as u64 {
            let boundary = Boundary { stub: patched.entry.stub, live: true, notify: false };
            self.boundaries.entry(start + offset).or_default().push(boundary);
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
