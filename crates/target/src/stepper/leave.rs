//! Everything out again: threads out of slots, breakpoints out of the text, the area out of the memory.

use std::time::{Duration, Instant};

use insn::Address;

use super::hit::Place;
use super::site::Breakpoint;
use super::{Hit, Stepper};
use crate::error::TargetError;
use crate::seam::Tid;
use crate::tracee::Tracee;

/// How things are when a tracee was left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// Sites whose bytes are not the program's own again.
    pub not_restored: Vec<Address>,
    /// Mappings that stay.
    pub left_mapped: u64,
    /// What went wrong.
    pub problems: Vec<String>,
}

/// How often signals are given back before the rest is left.
const ROUNDS: usize = 8;

impl<T: Tracee> Stepper<T> {
    /// Takes everything out and lets go of the tracee. It is given `patience` to stop. Hits until then count.
    ///
    /// # Errors
    /// The tracee did not stop, or nothing more can be said to it: the probes are still in.
    pub fn remove(
        &mut self,
        patience: Duration,
        on_hit: &mut dyn FnMut(Hit),
    ) -> Result<Removal, TargetError> {
        self.stop(Instant::now() + patience, on_hit)?;
        let mut removal = Removal::default();
        if self.end.is_none() {
            self.take_out(&mut removal);
            // Signals that were held back are given while the area is still there, and nothing leads into it any more.
            self.give_signals(patience, on_hit)?;
        }
        if self.end.is_none() {
            if let Err(error) = self.unmap() {
                removal.problems.push(format!("the area stays: {error}"));
            }
            // What came during that call, too.
            if let Err(error) = self.give_signals(patience, on_hit) {
                removal.problems.push(format!("a signal that came last: {error}"));
            }
            removal.left_mapped = self.area.mappings.len() as u64;
            removal.not_restored = self.not_restored();
        }
        for guest in std::mem::take(&mut self.guests) {
            let _ = self.tracee.let_go(guest, &[]);
        }
        if !matches!(self.end, Some(super::End::Exited(_) | super::End::Killed(_))) {
            self.tracee.detach()?;
        }
        Ok(removal)
    }

    /// Lets the tracee run until all signals that wait are given.
    fn give_signals(&mut self, patience: Duration, on_hit: &mut dyn FnMut(Hit)) -> Result<(), TargetError> {
        for _ in 0..ROUNDS {
            if self.signals.is_empty() || self.end.is_some() {
                break;
            }
            self.go_on()?;
            self.stop(Instant::now() + patience, on_hit)?;
        }
        Ok(())
    }

    /// Brings the tracee to a stop at which nothing that we asked for is still on its way.
    fn stop(&mut self, deadline: Instant, on_hit: &mut dyn FnMut(Hit)) -> Result<(), TargetError> {
        if self.runs && self.end.is_none() {
            self.tracee.interrupt()?;
            self.is_asked_to_stop = true;
        }
        while (self.runs || self.is_asked_to_stop) && self.end.is_none() {
            self.go_on()?;
            let Some(stop) = self.tracee.wait(deadline)? else {
                return Err(TargetError::Remote(
                    "the program does not stop: the remote heeds no interrupt while it runs".to_owned(),
                ));
            };
            self.stands_still();
            if !self.tracee.abilities().interrupts_wait {
                self.is_asked_to_stop = false;
            }
            self.handle(stop, on_hit)?;
        }
        Ok(())
    }

    /// Threads out of the slots, then breakpoints out of the text.
    fn take_out(&mut self, removal: &mut Removal) {
        let threads = self.tracee.threads().unwrap_or_else(|error| {
            removal.problems.push(format!("its threads are unknown: {error}"));
            self.visits.keys().copied().collect()
        });
        self.threads.extend(&threads);
        for tid in threads {
            match self.withdraw(tid) {
                Ok(()) | Err(TargetError::Gone { .. }) => {}
                Err(error) => removal.problems.push(format!("thread {tid} may be in the area: {error}")),
            }
        }
        let armed: Vec<Address> = self
            .sites
            .iter()
            .filter(|(_, site)| site.breakpoint != Breakpoint::Out)
            .map(|(at, _)| *at)
            .collect();
        for at in armed {
            if let Err(error) = self.disarm(at) {
                removal.problems.push(format!("the breakpoint at {at}: {error}"));
            }
        }
    }

    fn withdraw(&mut self, tid: Tid) -> Result<(), TargetError> {
        let registers = self.tracee.registers(tid)?;
        match self.in_slot(registers.pc()) {
            Some(Place::SlotEnd(at)) => self.leave_slot(tid, at, registers),
            Some(Place::Slot(at)) => self.back_out(tid, at, registers),
            _ => Ok(()),
        }
    }

    fn not_restored(&mut self) -> Vec<Address> {
        let sites: Vec<Address> = self.sites.keys().copied().collect();
        sites.into_iter().filter(|at| !self.is_restored(*at)).collect()
    }
}
