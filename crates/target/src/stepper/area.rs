//! The area: memory in the tracee that holds the slots.
//!
//! It is never writable and executable at once. A debugger writes where the program may not; where that is refused the mapping is
//! made writable for the moment, which nobody executes then: all threads stand still. (qemu's stub refuses it, and so it does in
//! a page that code was executed from; what is mapped anew there is also translated anew.)

use std::ops::Range;

use insn::{Address, Isa};

use super::Stepper;
use super::site::Site;
use crate::error::TargetError;
use crate::seam::Call;
use crate::tracee::Tracee;

/// Mappings come in multiples of this: the largest page that Linux has anywhere.
const UNIT: u64 = 64 << 10;
/// Slots begin at multiples of this: no ISA wants more of an instruction.
const ALIGNMENT: usize = 16;

// Arguments of mmap(2) and mprotect(2), the same on all ISAs that are there.
const PROT_READ: u64 = 1;
const PROT_WRITE: u64 = 2;
const PROT_EXEC: u64 = 4;
const MAP_PRIVATE: u64 = 2;

/// See the module header.
#[derive(Debug, Default)]
pub(super) struct Area {
    pub(super) mappings: Vec<Range<Address>>,
    /// Of the last mapping.
    used: u64,
    /// Where the coherence procedure's instructions are, or what stands for them.
    pub(super) routine: Option<Address>,
    /// Breakpoints behind slots that the tracee set.
    pub(super) guards: Vec<(Isa, Address)>,
}

impl Area {
    /// Whether an address lies in it.
    pub(super) fn contains(&self, at: Address) -> bool {
        self.mappings.iter().any(|mapping| mapping.contains(&at))
    }

    pub(super) fn size(&self) -> (u64, u64) {
        let bytes = self.mappings.iter().map(|mapping| mapping.end - mapping.start).sum();
        (self.mappings.len() as u64, bytes)
    }
}

impl<T: Tracee> Stepper<T> {
    /// Gives each site that needs one a slot: its code and a breakpoint.
    pub(super) fn write_slots(&mut self, sites: &mut [&mut Site]) -> Result<(), TargetError> {
        let mut code = Vec::new();
        let mut offsets = Vec::new();
        for site in sites.iter() {
            let Some(slot) = site.how.slot() else {
                offsets.push(None);
                continue;
            };
            offsets.push(Some(code.len() as u64));
            code.extend(&slot.code);
            code.extend(site.isa.breakpoint_behind_slot());
            code.resize(code.len().next_multiple_of(ALIGNMENT), 0);
        }
        if code.is_empty() {
            return Ok(());
        }
        let at = self.reserve(code.len() as u64)?;
        self.put(at, &code)?;
        self.publish(at, code.len())?;
        for (site, offset) in sites.iter_mut().zip(offsets) {
            site.slot = offset.map(|offset| at + offset);
            if let Some(end) = site.slot_end() {
                self.guard(site.isa, end)?;
            }
        }
        Ok(())
    }

    /// Has the tracee set a breakpoint behind a slot, if it would run over ours. (A step would not do: over a system call some
    /// step too far, and a thread may sleep in one.)
    fn guard(&mut self, isa: Isa, end: Address) -> Result<(), TargetError> {
        if !self.tracee.abilities().traps {
            self.tracee.insert_breakpoint(isa, end, isa.breakpoint_behind_slot())?;
            self.area.guards.push((isa, end));
        }
        Ok(())
    }

    /// Room for so many bytes.
    pub(super) fn reserve(&mut self, len: u64) -> Result<Address, TargetError> {
        let len = len.next_multiple_of(ALIGNMENT as u64);
        let last = self.area.mappings.last().cloned().unwrap_or_default();
        if self.area.used + len > last.end - last.start {
            let size = len.next_multiple_of(UNIT);
            let numbers = &self.isa.abi().numbers;
            let flags = MAP_PRIVATE | numbers.map_anonymous;
            let arguments = [0, size, PROT_READ | PROT_EXEC, flags, u64::MAX, 0];
            let number = numbers.mmap;
            let start = self.call(&Call { name: "mmap", number, arguments })?;
            self.area.mappings.push(Address(start)..Address(start) + size);
            self.area.used = 0;
        }
        let start = self.area.mappings.last().map_or(Address(0), |mapping| mapping.start);
        let at = start + self.area.used;
        self.area.used += len;
        Ok(at)
    }

    /// Writes code into the area, and looks whether it is there.
    pub(super) fn put(&mut self, at: Address, code: &[u8]) -> Result<(), TargetError> {
        if self.write_and_look(at, code).is_err() {
            self.protect(at, PROT_READ | PROT_WRITE)?;
            let written = self.write_and_look(at, code);
            self.protect(at, PROT_READ | PROT_EXEC)?;
            written?;
        }
        Ok(())
    }

    fn write_and_look(&mut self, at: Address, code: &[u8]) -> Result<(), TargetError> {
        self.tracee.write(at, code)?;
        let mut found = vec![0; code.len()];
        self.tracee.read(at, &mut found)?;
        if found == code {
            Ok(())
        } else {
            Err(TargetError::Remote(format!("what was written at {at} is not there")))
        }
    }

    /// Takes the right to execute the mapping that `at` is in, and gives it back.
    pub(super) fn protect_twice(&mut self, at: Address) -> Result<(), TargetError> {
        self.protect(at, PROT_READ)?;
        self.protect(at, PROT_READ | PROT_EXEC)
    }

    fn protect(&mut self, at: Address, protection: u64) -> Result<(), TargetError> {
        let Some(mapping) = self.area.mappings.iter().find(|mapping| mapping.contains(&at)).cloned() else {
            return Ok(());
        };
        let arguments = [mapping.start.0, mapping.end - mapping.start, protection, 0, 0, 0];
        let number = self.isa.abi().numbers.mprotect;
        self.call(&Call { name: "mprotect", number, arguments }).map(|_| ())
    }

    /// Unmaps all of it: no thread is in it.
    pub(super) fn unmap(&mut self) -> Result<(), TargetError> {
        while let Some((isa, end)) = self.area.guards.pop() {
            self.tracee.remove_breakpoint(isa, end, isa.breakpoint_behind_slot())?;
        }
        while let Some(mapping) = self.area.mappings.last().cloned() {
            let arguments = [mapping.start.0, mapping.end - mapping.start, 0, 0, 0, 0];
            self.call(&Call { name: "munmap", number: self.isa.abi().numbers.munmap, arguments })?;
            self.area.mappings.pop();
        }
        Ok(())
    }
}
