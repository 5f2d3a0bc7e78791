//! Stops of the tracee, and what becomes of the threads.

use std::time::Instant;

use insn::Address;
use insn::isa::RegisterSlot;
use insn::xol::{Fault, How, Memory, Slot, Then};

use super::arguments::arguments;
use super::call::is_fault;
use super::site::{Breakpoint, Site};
use super::{Branch, End, Hit, MOST_COSTS, PATIENCE, Stepper, Visit};
use crate::error::TargetError;
use crate::registers::Registers;
use crate::seam::Tid;
use crate::sys::clock::monotonic;
use crate::tracee::{Event, Go, Stop, Tracee};

/// Where a thread stands, as far as it concerns us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At a site's breakpoint.
    Site(Address),
    /// In the slot of this site, whose code has not run (or is about to be run again).
    Slot(Address),
    /// Behind the code of this site's slot.
    SlotEnd(Address),
}

/// The tracee's memory, for emulation.
struct Through<'a, T>(&'a mut T);

impl<T: Tracee> Memory for Through<'_, T> {
    fn read(&mut self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        self.0.read(at, into).map_err(|_| Fault::Memory(at))
    }

    fn write(&mut self, at: Address, bytes: &[u8]) -> Result<(), Fault> {
        self.0.write(at, bytes).map_err(|_| Fault::Memory(at))
    }
}

impl Visit {
    fn of(site: Address, since: Instant) -> Self {
        Self { site, own: Vec::new(), branch: None, held: Vec::new(), since }
    }
}

/// The registers that differ, as they were before.
fn changes(before: &Registers, after: &Registers) -> Vec<(RegisterSlot, u64)> {
    let slots = before.isa().abi().registers.iter().map(|(_, slot)| *slot);
    slots.filter(|slot| before.get(*slot) != after.get(*slot)).map(|slot| (slot, before.get(slot))).collect()
}

impl<T: Tracee> Stepper<T> {
    /// Does what a stop asks for. True where the libraries changed.
    pub(super) fn handle(&mut self, stop: Stop, on_hit: &mut dyn FnMut(Hit)) -> Result<bool, TargetError> {
        let Stop { tid, event } = stop;
        let is_guest = self.guests.contains(&tid);
        match &event {
            Event::Exited(_) | Event::Killed(_) if is_guest || tid.0 != self.tracee.process() => {
                self.guests.remove(&tid);
                return Ok(false);
            }
            Event::Exited(status) => self.end = Some(End::Exited(*status)),
            Event::Killed(signal) => self.end = Some(End::Killed(*signal)),
            // It stays until its end, without probes: let go of here, gdbserver 13 leaves it standing.
            Event::Exec(_) if is_guest => return Ok(false),
            Event::Signal(signal) if is_guest && *signal != libc::SIGTRAP => {
                self.signals.push((tid, *signal));
                return Ok(false);
            }
            Event::Exec(path) => self.end = Some(End::Executed(path.clone())),
            _ => {}
        }
        if self.end.is_some() {
            return Ok(false);
        }
        if !is_guest {
            self.current = tid;
        }
        self.threads.insert(tid);
        match event {
            Event::Breakpoint => return self.trap(tid, true, on_hit),
            Event::Signal(libc::SIGTRAP) => return self.trap(tid, false, on_hit),
            Event::Signal(signal) => self.signal(tid, signal)?,
            Event::Interrupted => self.is_asked_to_stop = false,
            Event::Fork(child) => self.let_go(child)?,
            Event::Vfork(child) => {
                self.guests.insert(child);
            }
            Event::Libraries => return Ok(true),
            _ => {}
        }
        Ok(false)
    }

    /// A process that was made with a copy of the memory goes its own way, without probes.
    fn let_go(&mut self, child: Tid) -> Result<(), TargetError> {
        let inserted: Vec<_> = self
            .sites
            .iter()
            .filter(|(_, site)| site.breakpoint == Breakpoint::Inserted)
            .map(|(at, site)| (site.isa, *at, site.original.clone()))
            .collect();
        self.tracee.let_go(child, &inserted)
    }

    /// A thread met a breakpoint; `is_at_it`: its PC is back at it. True where it is a watched one.
    fn trap(&mut self, tid: Tid, is_at_it: bool, on_hit: &mut dyn FnMut(Hit)) -> Result<bool, TargetError> {
        let time_ns = monotonic();
        let since = Instant::now();
        let registers = self.tracee.registers(tid)?;
        match self.met(registers.pc(), is_at_it) {
            // A handler comes first: it is not to find an address of ours. What it returns to is met then.
            Some(Place::Site(at)) if self.signals.iter().any(|(other, _)| *other == tid) => {
                self.back_out(tid, at, registers)?;
            }
            Some(Place::Site(at)) => {
                if let Some(site) = self.sites.get_mut(&at) {
                    site.hits += 1;
                    let site = site.clone();
                    let mut told = |stepper: &mut Self, at: Address, registers: &Registers| {
                        let args =
                            if stepper.records { arguments(&mut stepper.tracee, registers)? } else { [0; 6] };
                        on_hit(Hit { time_ns, tid, site: at, args });
                        Ok(())
                    };
                    told(self, at, &registers)?;
                    self.carry_out(tid, at, &site, registers, since, &mut told)?;
                }
                return Ok(self.watched.contains(&at));
            }
            Some(Place::SlotEnd(at) | Place::Slot(at)) => self.leave_slot(tid, at, registers)?,
            None => self.own_trap(tid, registers, is_at_it)?,
        }
        Ok(false)
    }

    /// Which breakpoint of ours it is. What we wrote ourselves the kernel reports with the PC behind it on some ISAs.
    fn met(&self, pc: Address, is_at_it: bool) -> Option<Place> {
        let past = if is_at_it { 0 } else { self.isa.abi().pc_past_breakpoint };
        let behind = Address(pc.0.wrapping_sub(past));
        let site = |at: Address, kind: Breakpoint| self.sites.get(&at).is_some_and(|s| s.breakpoint == kind);
        if site(pc, Breakpoint::Inserted) {
            return Some(Place::Site(pc));
        }
        if site(behind, Breakpoint::Written) {
            return Some(Place::Site(behind));
        }
        // At one that the tracee set behind a slot the PC is back.
        let end = if self.tracee.abilities().traps { behind } else { pc };
        self.in_slot(end).filter(|place| matches!(place, Place::SlotEnd(_)))
    }

    /// Where in the area an address is.
    pub(super) fn in_slot(&self, pc: Address) -> Option<Place> {
        if !self.area.contains(pc) {
            return None;
        }
        let (start, at) = self.slots.range(..=pc).next_back()?;
        let end = self.sites.get(at)?.slot_end()?;
        match pc {
            _ if pc == end => Some(Place::SlotEnd(*at)),
            _ if (*start..end).contains(&pc) => Some(Place::Slot(*at)),
            _ => None,
        }
    }

    /// The displaced instruction: by us, or by the thread in the slot. `told` tells of a probe in its delay slot.
    fn carry_out(
        &mut self,
        tid: Tid,
        at: Address,
        site: &Site,
        mut registers: Registers,
        since: Instant,
        told: &mut dyn FnMut(&mut Self, Address, &Registers) -> Result<(), TargetError>,
    ) -> Result<(), TargetError> {
        if let (How::Slot(code), Some(slot)) = (&site.how, site.slot) {
            return self.enter_slot(tid, Visit::of(at, since), code, slot, registers);
        }
        let before = registers.clone();
        let delays = !insn::xol::annuls(site.isa, at, &site.original, before.bytes());
        let memory = &mut Through(&mut self.tracee);
        if insn::xol::emulate(site.isa, at, &site.original, registers.bytes_mut(), memory).is_err() {
            registers = before;
            registers.set_pc(at);
            self.tracee.set_registers(tid, &registers)?;
            return self.run_in_place(tid, at);
        }
        if let Some(probed) = self.delay_slots.get_mut(&at).filter(|_| delays) {
            probed.hits += 1;
            let probed = probed.at;
            told(self, probed, &registers)?;
        }
        if let (How::Delayed(code), Some(slot), true) = (&site.how, site.slot, delays) {
            let branch = Some(Branch { to: registers.pc(), before: changes(&before, &registers) });
            return self.enter_slot(tid, Visit { branch, ..Visit::of(at, since) }, code, slot, registers);
        }
        self.tracee.set_registers(tid, &registers)?;
        self.note_cost(since);
        Ok(())
    }

    fn enter_slot(
        &mut self,
        tid: Tid,
        mut visit: Visit,
        code: &Slot,
        slot: Address,
        mut registers: Registers,
    ) -> Result<(), TargetError> {
        visit.own = code.lent.iter().map(|(lent, _)| (*lent, registers.get(*lent))).collect();
        for (lent, value) in &code.lent {
            registers.set(*lent, *value);
        }
        registers.set_pc(slot);
        self.tracee.set_registers(tid, &registers)?;
        self.visits.insert(tid, visit);
        Ok(())
    }

    /// A thread is behind its slot's code: it is brought back into the program. One that has not entered it is a thread that a
    /// displaced system call made.
    pub(super) fn leave_slot(
        &mut self,
        tid: Tid,
        at: Address,
        mut registers: Registers,
    ) -> Result<(), TargetError> {
        let Some(site) = self.sites.get(&at) else { return Ok(()) };
        let Some(slot) = site.how.slot() else { return Ok(()) };
        let next = site.isa.wrap(at + site.original.len() as u64);
        let to = match slot.then {
            Then::Next => None,
            Then::Branch(target) => Some(registers.get(target)),
        };
        let visit = self.visits.remove(&tid).filter(|visit| visit.site == at);
        let next = visit.as_ref().and_then(|visit| visit.branch.as_ref()).map_or(next, |branch| branch.to);
        for (lent, value) in visit.iter().flat_map(|visit| &visit.own) {
            registers.set(*lent, *value);
        }
        for (left, value) in &slot.left {
            registers.set(*left, *value);
        }
        match to {
            None => registers.set_pc(next),
            Some(to) => insn::xol::branch(site.isa, registers.bytes_mut(), to),
        }
        self.tracee.set_registers(tid, &registers)?;
        if let Some(visit) = visit {
            self.signals.extend(visit.held.iter().map(|signal| (tid, *signal)));
            self.note_cost(visit.since);
        }
        Ok(())
    }

    /// A thread whose slot's code has done nothing yet goes back to the site.
    pub(super) fn back_out(
        &mut self,
        tid: Tid,
        at: Address,
        mut registers: Registers,
    ) -> Result<(), TargetError> {
        let visit = self.visits.get(&tid).filter(|visit| visit.site == at);
        let is_done = self.in_delay_slot(at, visit, &registers).is_some();
        let changed = visit.filter(|_| !is_done).and_then(|visit| visit.branch.clone());
        for (changed, value) in changed.iter().flat_map(|branch| &branch.before) {
            registers.set(*changed, *value);
        }
        self.back_out_of_fault(tid, at, registers)
    }

    /// The same of a thread whose slot's code faults: a branch has left its return address when what is in its delay slot does.
    fn back_out_of_fault(
        &mut self,
        tid: Tid,
        at: Address,
        mut registers: Registers,
    ) -> Result<(), TargetError> {
        let visit = self.visits.remove(&tid).filter(|visit| visit.site == at);
        for (lent, value) in visit.iter().flat_map(|visit| &visit.own) {
            registers.set(*lent, *value);
        }
        if let Some((delayed, next, to)) = self.in_delay_slot(at, visit.as_ref(), &registers) {
            registers.set_pc(delayed);
            registers.set(next, to.0);
            self.tracee.set_registers(tid, &registers)?;
            self.signals.extend(visit.iter().flat_map(|visit| &visit.held).map(|signal| (tid, *signal)));
            return Ok(());
        }
        registers.set_pc(at);
        self.tracee.set_registers(tid, &registers)?;
        self.signals.extend(visit.iter().flat_map(|visit| &visit.held).map(|signal| (tid, *signal)));
        Ok(())
    }

    /// Where the ISA has a register for the address behind the next one, a thread at the last instruction of a branch's slot belongs
    /// between the branch, which is done, and where it goes: the PC, and that register with its value.
    fn in_delay_slot(
        &self,
        at: Address,
        visit: Option<&Visit>,
        registers: &Registers,
    ) -> Option<(Address, RegisterSlot, Address)> {
        let next = self.isa.abi().next_pc?;
        let to = visit?.branch.as_ref()?.to;
        let site = self.sites.get(&at)?;
        let len = site.original.len() as u64;
        (registers.pc() + len == site.slot_end()?).then(|| (site.isa.wrap(at + len), next, to))
    }

    /// A signal for a thread. In a slot, a fault is reported where the instruction belongs; what comes from elsewhere waits for
    /// the slot's end, but not for that of a system call, in which the thread might sleep.
    fn signal(&mut self, tid: Tid, signal: i32) -> Result<(), TargetError> {
        if !self.area.mappings.is_empty() {
            let registers = self.tracee.registers(tid)?;
            match self.in_slot(registers.pc()) {
                Some(Place::Slot(at)) => {
                    let calls = self.sites.get(&at).is_some_and(Site::calls_the_kernel);
                    let waits = !is_fault(signal) && !calls;
                    if let Some(visit) = self.visits.get_mut(&tid).filter(|_| waits) {
                        // The kernel keeps one of each kind (signal(7), "Queueing and delivery semantics for standard signals").
                        if signal >= libc::SIGRTMIN() || !visit.held.contains(&signal) {
                            visit.held.push(signal);
                        }
                        return Ok(());
                    }
                    match is_fault(signal) {
                        true => self.back_out_of_fault(tid, at, registers)?,
                        false => self.back_out(tid, at, registers)?,
                    }
                }
                Some(Place::SlotEnd(at)) => self.leave_slot(tid, at, registers)?,
                _ => {}
            }
        }
        self.signals.push((tid, signal));
        Ok(())
    }

    /// A trap that is not of our making is the program's own, in a slot that of the displaced instruction (Power's `tw`, mips's
    /// `teq`); or it was of our making, and that breakpoint is gone.
    fn own_trap(&mut self, tid: Tid, mut registers: Registers, is_at_it: bool) -> Result<(), TargetError> {
        let abi = self.isa.abi();
        if let Some(Place::Slot(at)) = self.in_slot(registers.pc()) {
            self.back_out_of_fault(tid, at, registers)?;
            self.signals.push((tid, libc::SIGTRAP));
            return Ok(());
        }
        if is_at_it {
            let pc = registers.pc();
            let mut found = vec![0; abi.breakpoint.len()];
            if self.sites.contains_key(&pc)
                || self.tracee.read(pc, &mut found).is_err()
                || found != abi.breakpoint
            {
                return Ok(());
            }
            if abi.pc_past_breakpoint > 0 {
                registers.set_pc(pc + abi.pc_past_breakpoint);
                self.tracee.set_registers(tid, &registers)?;
            }
        }
        self.signal(tid, libc::SIGTRAP)
    }

    /// Has a thread meet its instruction in place, alone: one that we could not carry out faults there, and what the kernel says
    /// of it is right.
    fn run_in_place(&mut self, tid: Tid, at: Address) -> Result<(), TargetError> {
        self.disarm(at)?;
        let abilities = self.tracee.abilities();
        self.tracee.go(match (abilities.step, abilities.threads) {
            (true, _) => Go::Step(tid),
            (false, true) => Go::Only(tid),
            (false, false) => Go::All(&[]),
        })?;
        let stop = self.tracee.wait(Instant::now() + PATIENCE)?;
        let Some(stop) = stop else {
            self.runs = true;
            return Ok(());
        };
        match stop.event {
            Event::Exited(status) => self.end = Some(End::Exited(status)),
            Event::Killed(signal) => self.end = Some(End::Killed(signal)),
            Event::Signal(signal) if signal != libc::SIGTRAP => self.signals.push((stop.tid, signal)),
            Event::Interrupted => self.is_asked_to_stop = false,
            _ => {}
        }
        if self.end.is_some() { Ok(()) } else { self.rearm(at) }
    }

    fn note_cost(&mut self, since: Instant) {
        if self.costs.len() < MOST_COSTS {
            self.costs.push(since.elapsed());
        }
    }
}
