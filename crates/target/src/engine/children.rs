//! New tasks and new address spaces: threads get a slot; forked children are followed or let go clean; children that
//! share the memory are kept until their exec.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use insn::Address;

use super::change::Change;
use super::state::{Born, Engine, Notice};
use crate::error::{TargetError, system};
use crate::seam::{Call, Event, Resume, Target, Tid};
use crate::state::State;
use crate::sys::process;

/// How long a child that the kernel has already attached may take to its first stop.
const FIRST_STOP: Duration = Duration::from_secs(10);
/// Bytes of a state that are copied at once.
const PIECE: usize = 1 << 20;

impl<T: Target> Engine<T> {
    /// The first stop of a thread is when its thread pointer is known: give it its slot. It may be told of before its maker's
    /// event, since waitpid keeps no order between tasks.
    pub(super) fn first_stop(&mut self, tid: Tid) {
        if self.target.tasks().iter().any(|other| *other != tid) {
            self.no_longer_alone();
        }
        self.name_only_thread(None);
        if let Some(key) = self.thread_key(tid) {
            self.assign_slot(tid, key);
        }
    }

    /// The value by which the code in the target finds the thread's slot.
    pub(super) fn thread_key(&self, tid: Tid) -> Option<u64> {
        self.target.thread_pointer(tid).map(|at| at.0)
    }

    pub(super) fn assign_slot(&mut self, tid: Tid, key: u64) -> bool {
        match (&mut self.slots, &self.shared) {
            (Some(slots), Some(shared)) => slots.assign(shared, key, tid.0.cast_unsigned()).is_some(),
            _ => false,
        }
    }

    pub(super) fn close_slot(&mut self, tid: Tid) {
        self.dispositions.forget(tid);
        self.name_only_thread(Some(tid));
        if let (Some(slots), Some(shared)) = (&mut self.slots, &self.shared) {
            slots.close(shared, tid.0.cast_unsigned());
        }
    }

    /// A new task by clone(2): a thread, or a process whose end is told by another signal than SIGCHLD (kernel/fork.c,
    /// `kernel_clone`).
    pub(super) fn on_clone(&mut self, parent: Tid, child: Tid) -> Result<(), TargetError> {
        if self.target.is_thread(child) {
            self.no_longer_alone();
            return self.adopt_task(child);
        }
        if self.target.state(child) == 'X' {
            // Its first stop and its end were both reported before its maker's event: it is forgotten already.
            return Ok(());
        }
        self.on_fork(parent, child)
    }

    /// Takes in a process that shares the memory, whose maker was killed before it could tell. It stands at its first stop;
    /// others may run.
    ///
    /// # Errors
    /// What went wrong there.
    pub fn adopt_orphan(&mut self, child: Tid) -> Result<(), TargetError> {
        if self.runs_with_others() {
            self.in_stopped_world(|_| Ok(()))?;
        }
        self.adopt_guest(child)
    }

    /// Takes in a process that shares the memory: it stays until its exec.
    fn adopt_guest(&mut self, child: Tid) -> Result<(), TargetError> {
        self.guests.insert(child);
        self.adopt_task(child)
    }

    fn adopt_task(&mut self, child: Tid) -> Result<(), TargetError> {
        match self.target.adopt(child).map(|event| self.handle(child, event)) {
            Some(Err(error)) if !matches!(error, TargetError::Gone { .. }) => Err(error),
            _ => Ok(()),
        }
    }

    /// A new process. One that shares our memory (vfork, posix_spawn) becomes a guest; another got a copy of the
    /// patched text, and is followed or cleaned before its first instruction.
    pub(super) fn on_fork(&mut self, parent: Tid, child: Tid) -> Result<(), TargetError> {
        if self.target.shares_memory(Some(parent), child) {
            self.no_longer_alone();
            return self.adopt_guest(child);
        }
        let mut other = match self.target.child(child) {
            Err(TargetError::NoSuchProcess { .. } | TargetError::Gone { .. }) => return Ok(()),
            other => other?,
        };
        match self.take_child(&mut other, parent, child) {
            Ok(signal) if self.follow => self.follow_child(other, child, signal),
            Ok(signal) => self.clean(other, child, signal),
            Err(error) => Err(error),
        }
        .or_else(|error| {
            // A child that died meanwhile needs nothing.
            if !error.is_end() {
                let what = format!("the child process {child} could not be cleaned of probes: {error}");
                self.notices.push_back(Notice::Warning(what));
            }
            Ok(())
        })
    }

    /// Waits for the first stop of a forked child, and undoes in it what its parent bore only while it left a stub. Gives the
    /// signal with which it is to go on.
    fn take_child(&self, other: &mut T, parent: Tid, child: Tid) -> Result<i32, TargetError> {
        let signal = await_stop(other, child)?;
        if let Some(mask) = self.mask_before_drain(parent) {
            other.set_signal_mask(child, mask)?;
        }
        self.exits_under_breakpoints()
            .into_iter()
            .try_for_each(|(address, bytes)| other.write(address, &bytes))?;
        Ok(signal)
    }

    /// Takes our patches, area and state out of a forked copy of the address space, and lets it go.
    fn clean(&mut self, mut other: T, tid: Tid, signal: i32) -> Result<(), TargetError> {
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
        self.mend_frames_of_copy(&mut other)?;
        if self.in_area(registers.pc()) || self.may_stack_lead_in(&other, tid)? {
            return self.leave_area_in(other, tid, signal);
        }
        let calls: Vec<Call> = self.unmap_calls().collect();
        if !calls.is_empty() {
            other.call(tid, &calls)?;
        }
        other.detach(tid, signal)
    }

    /// The child goes back through the frames of the handlers that its parent was in, and has copies of the frames of all
    /// other threads. The text is original by now: no patch leads to a stub.
    fn mend_frames_of_copy(&self, other: &mut T) -> Result<(), TargetError> {
        if self.moved_frames.is_empty() {
            return Ok(());
        }
        let nothing = Change { remove: self.patches.keys().copied().collect(), ..Change::default() };
        self.moves_of_frames(other, &nothing).into_iter().try_for_each(|one| one.carry_out(other))
    }

    /// Where no frame was ever moved nothing of ours is on a stack, and a fork is not made slower by a look at it.
    fn may_stack_lead_in(&self, other: &T, tid: Tid) -> Result<bool, TargetError> {
        Ok(self.may_frames_lead_in() && self.does_stack_point_in(other, tid, &other.mappings()?))
    }

    /// Lets a child go that may still come into code of ours. It gets a state of its own, in which nobody looks and nobody
    /// answers: what it counts is not its parent's.
    fn leave_area_in(&mut self, other: T, tid: Tid, signal: i32) -> Result<(), TargetError> {
        let mut engine = self.copy_for(other);
        engine.patches.clear();
        let renewed = engine.renew_state(tid).and_then(|()| engine.describe(&[]));
        if let (Some(layout), Some(shared)) = (&engine.layout, &engine.shared) {
            layout.set_asks(shared, false);
        }
        if let Err(error) = renewed {
            self.warn(format!("hits of the child process {tid} may be counted as its parent's: {error}"));
        }
        self.warn(format!(
            "{} mappings of the area stay in the child process {tid}: something may still reach them",
            engine.mapped.len()
        ));
        engine.target.detach(tid, signal)
    }

    /// Keeps a forked child: its copy of text and area is as the parent's, its counters are its own.
    fn follow_child(&mut self, other: T, tid: Tid, signal: i32) -> Result<(), TargetError> {
        let mut engine = self.copy_for(other);
        if let Err(error) = engine.renew_state(tid) {
            self.warn(format!("the child process {tid} is not followed: {error}"));
            return self.clean(engine.target, tid, signal);
        }
        engine.first_stop(tid);
        engine.run(tid, signal)?;
        self.born.push_back(Born { forked: true, engine: Box::new(engine), tid });
        Ok(())
    }

    /// A task that shared this memory (or the program itself) executes another: it has an address space of its own now.
    pub(super) fn on_exec(&mut self, tid: Tid, former: Tid) -> Result<(), TargetError> {
        let is_guest = self.guests.remove(&tid) | self.guests.remove(&former);
        self.gone(tid);
        self.gone(former);
        if is_guest && !self.follow {
            return self.target.detach(tid, 0);
        }
        let target = self.target.part(tid)?;
        self.tell_of_privilege(&target, tid);
        let mut engine = Self::new(target, self.coherence, self.owner);
        engine.follow = self.follow;
        if engine.run_to_first_instruction(tid)? {
            engine.held.insert(tid);
        }
        self.born.push_back(Born { forked: false, engine: Box::new(engine), tid });
        Ok(())
    }

    fn tell_of_privilege(&mut self, target: &T, tid: Tid) {
        if let Some(file) = target.executable(tid).filter(|file| file.is_deprived) {
            self.warn(format!(
                "process {tid} runs {} without the privilege that the file gives, because it is traced",
                file.path
            ));
        }
    }

    /// Whether a task's system calls have to be seen: it is a guest, and one of them may be its leave. That is most of what a
    /// posix_spawn costs (the C library's makes more than a hundred).
    pub(super) fn may_be_let_go(&self, tid: Tid) -> bool {
        !self.follow && self.guests.contains(&tid)
    }

    /// A guest at the entry of a system call. A traced exec would not get the privileges of the file: such a one is let go
    /// here, where it has left the shared text for good.
    pub(super) fn on_guest_call(&mut self, tid: Tid) -> Result<(), TargetError> {
        if self.target.about_to_execute(tid).is_some_and(|file| file.gives_privilege) {
            self.gone(tid);
            return self.target.detach(tid, 0);
        }
        self.run(tid, 0)
    }

    /// A task is about to end. With the last one goes a state that is the target's alone.
    pub(super) fn on_exiting(&mut self, tid: Tid) -> Result<(), TargetError> {
        self.exiting.insert(tid);
        if self.target.tasks().iter().all(|task| self.exiting.contains(task)) {
            self.save_state();
        }
        self.run(tid, 0)
    }

    /// Copies a state that is the target's alone, before it goes.
    pub(super) fn save_state(&mut self) {
        let (Some(State::Remote(_)), Some((at, len))) = (&self.shared, self.state_at) else { return };
        match self.copy_of(at, len) {
            Ok(file) => self.saved = Some(file),
            Err(error) => self.warn(format!("the last hits could not be read: {error}")),
        }
    }

    fn copy_of(&self, at: Address, len: u64) -> Result<File, TargetError> {
        let wrong = system("copying the shared state");
        let file = process::memfd(c"xol:saved", len).map_err(&wrong)?;
        let mut piece = vec![0; PIECE];
        for offset in (0..len).step_by(PIECE) {
            let room = usize::try_from(len - offset).unwrap_or(PIECE).min(PIECE);
            self.target.read(at + offset, &mut piece[..room])?;
            file.write_all_at(&piece[..room], offset).map_err(&wrong)?;
        }
        Ok(file)
    }

    /// That copy, for whoever keeps it.
    pub fn take_saved(&mut self) -> Option<File> {
        self.saved.take()
    }

    /// From the exec's event on to the end of execve, where the thread stands before its first instruction and can make
    /// calls for us. Gives whether it still lives.
    fn run_to_first_instruction(&mut self, tid: Tid) -> Result<bool, TargetError> {
        self.target.interrupt(tid)?;
        self.run(tid, 0)?;
        let deadline = self.target.now() + FIRST_STOP;
        loop {
            match self.target.wait(tid, deadline)? {
                Some(Event::Interrupted | Event::GroupStop(_)) => return Ok(true),
                Some(Event::Exited(_) | Event::Killed(_)) => return Ok(false),
                None => return Err(TargetError::Gone { tid }),
                Some(other) => {
                    let signal = if let Event::Signal(info) = other { info.signal() } else { 0 };
                    self.target.interrupt(tid)?;
                    self.run(tid, signal)?;
                }
            }
        }
    }
}

/// Waits for the first stop of a child that the kernel attached. Gives the signal that it is about to receive, or 0.
fn await_stop<T: Target>(other: &mut T, tid: Tid) -> Result<i32, TargetError> {
    let deadline = other.now() + FIRST_STOP;
    loop {
        match other.wait(tid, deadline)? {
            Some(Event::Interrupted | Event::GroupStop(_)) => return Ok(0),
            Some(Event::Signal(info)) => return Ok(info.signal()),
            Some(Event::Exited(_) | Event::Killed(_)) | None => return Err(TargetError::Gone { tid }),
            Some(_) => other.resume(tid, Resume::Run(0))?,
        }
    }
}
