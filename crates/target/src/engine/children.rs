//! New tasks: threads get a slot, forked children are let go clean, CLONE_VM children are kept until their exec.

use std::time::{Duration, Instant};

use super::state::{Engine, Notice};
use crate::error::TargetError;
use crate::seam::{Call, Event, Resume, Target, Tid};

/// How long a child that the kernel has already attached may take to its first stop.
const FIRST_STOP: Duration = Duration::from_secs(10);

impl<T: Target> Engine<T> {
    /// The first stop of a thread is when its thread pointer is known: give it its slot.
    pub(super) fn first_stop(&mut self, tid: Tid) {
        if let Some(key) = self.thread_key(tid) {
            self.assign_slot(tid, key);
        }
    }

    /// The value by which the code in the target finds the thread's slot: `fs_base`.
    pub(super) fn thread_key(&self, tid: Tid) -> Option<u64> {
        let registers = self.target.registers(tid).ok()?;
        let key = registers.get(self.target.isa().abi().thread_base);
        (key != 0).then_some(key)
    }

    pub(super) fn assign_slot(&mut self, tid: Tid, key: u64) -> bool {
        match (&mut self.slots, &self.shared) {
            (Some(slots), Some(shared)) => slots.assign(shared, key, tid.0.cast_unsigned()).is_some(),
            _ => false,
        }
    }

    pub(super) fn close_slot(&mut self, tid: Tid) {
        self.dispositions.forget(tid);
        if let (Some(slots), Some(shared)) = (&mut self.slots, &self.shared) {
            slots.close(shared, tid.0.cast_unsigned());
        }
    }

    /// A new task by clone(2): a thread, or a process that shares the memory.
    pub(super) fn on_clone(&mut self, child: Tid) -> Result<(), TargetError> {
        if !self.target.is_thread(child) {
            self.guests.insert(child);
        }
        self.adopt_task(child)
    }

    fn adopt_task(&mut self, child: Tid) -> Result<(), TargetError> {
        match self.target.adopt(child).map(|event| self.handle(child, event)) {
            Some(Err(error)) if !matches!(error, TargetError::Gone { .. }) => Err(error),
            _ => Ok(()),
        }
    }

    /// A new process. One that shares our memory (vfork, posix_spawn) becomes a guest; another got a copy of the
    /// patched text and is cleaned before its first instruction.
    pub(super) fn on_fork(&mut self, child: Tid) -> Result<(), TargetError> {
        if self.target.shares_memory(child) {
            self.guests.insert(child);
            return self.adopt_task(child);
        }
        let mut other = self.target.child(child)?;
        match self.clean(&mut other, child) {
            // A child that died meanwhile needs no cleaning.
            Ok(()) | Err(TargetError::Gone { .. } | TargetError::NoSuchProcess { .. }) => Ok(()),
            Err(error) => {
                self.notices.push_back(Notice::Warning(format!(
                    "the child process {child} could not be cleaned of probes: {error}"
                )));
                Ok(())
            }
        }
    }

    /// Takes our patches, area and state out of a forked copy of the address space, and lets it go.
    fn clean(&self, other: &mut T, tid: Tid) -> Result<(), TargetError> {
        let deadline = Instant::now() + FIRST_STOP;
        let mut signal = 0;
        loop {
            match other.wait(tid, deadline)? {
                Some(Event::Interrupted | Event::GroupStop(_)) => break,
                Some(Event::Signal(info)) => {
                    signal = info.signal();
                    break;
                }
                Some(Event::Exited(_) | Event::Killed(_)) | None => return Err(TargetError::Gone { tid }),
                Some(_) => other.resume(tid, Resume::Run(0))?,
            }
        }
        for patch in self.patches.values() {
            let entry = &patch.entry;
            let mut live = vec![0; entry.patched.len()];
            if other.read(entry.start, &mut live).is_ok() && live == entry.patched {
                other.write(entry.start, &entry.original)?;
            }
        }
        let mut registers = other.registers(tid)?;
        if let Some(place) = self.original_of(registers.pc()) {
            place.put(&mut registers);
            other.set_registers(tid, &registers)?;
        }
        if !self.in_area(registers.pc()) {
            let calls: Vec<Call> = self.unmap_calls().collect();
            if !calls.is_empty() {
                other.call(tid, &calls)?;
            }
        }
        other.detach(tid, signal)
    }

    /// The address space was replaced: by the program itself, or by a guest that thereby leaves it.
    pub(super) fn on_exec(&mut self, tid: Tid, _former: Tid) -> Result<(), TargetError> {
        if self.guests.remove(&tid) {
            self.close_slot(tid);
            return self.target.detach(tid, 0);
        }
        self.forget_address_space();
        self.target.exec_done()?;
        // On to the end of execve, where the thread stands before its first instruction and can make calls for us.
        self.target.interrupt(tid)?;
        self.target.resume(tid, Resume::Run(0))?;
        let deadline = Instant::now() + FIRST_STOP;
        loop {
            match self.target.wait(tid, deadline)? {
                Some(Event::Interrupted | Event::GroupStop(_)) => break,
                Some(Event::Exited(status)) => {
                    self.notices.push_back(Notice::Ended { status: Some(status), signal: None });
                    return Ok(());
                }
                Some(Event::Killed(signal)) => {
                    self.notices.push_back(Notice::Ended { status: None, signal: Some(signal) });
                    return Ok(());
                }
                None => return Err(TargetError::Gone { tid }),
                Some(other) => {
                    let signal = if let Event::Signal(info) = other { info.signal() } else { 0 };
                    self.target.interrupt(tid)?;
                    self.target.resume(tid, Resume::Run(signal))?;
                }
            }
        }
        self.held.insert(tid);
        self.notices.push_back(Notice::Exec(tid));
        Ok(())
    }
}
