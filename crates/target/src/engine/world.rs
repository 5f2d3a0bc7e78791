//! Stopping every thread, with a deadline, and letting them go.

use std::time::{Duration, Instant};

use super::state::Engine;
use crate::error::TargetError;
use crate::seam::{Event, Resume, Target, Tid};

/// How long the target may stand still while we wait for its last thread.
pub(super) const DEADLINE: Duration = Duration::from_millis(50);
/// Pauses before the further attempts.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(500)];
/// After this long without an answer it is worth a look at the thread's state.
const GLANCE: Duration = Duration::from_millis(2);

impl<T: Target> Engine<T> {
    /// Stops every thread. On return each stands at an interrupt stop (or group-stop), or is parked in the kernel.
    ///
    /// # Errors
    /// [`TargetError::DidNotStop`] names the thread that did not, after four attempts; everything runs again then.
    pub fn stop_world(&mut self) -> Result<(), TargetError> {
        self.stop_all()?;
        self.catch_up()
    }

    pub(super) fn stop_all(&mut self) -> Result<(), TargetError> {
        let mut pauses = PAUSES.into_iter();
        loop {
            self.stopped_since = Some(self.target.now());
            match self.try_stop() {
                Ok(()) => return Ok(()),
                Err(error) => {
                    self.resume_world();
                    let Some(pause) =
                        pauses.next().filter(|_| matches!(error, TargetError::DidNotStop { .. }))
                    else {
                        return Err(error);
                    };
                    self.target.pause(pause);
                }
            }
        }
    }

    fn try_stop(&mut self) -> Result<(), TargetError> {
        let deadline = self.target.now() + DEADLINE;
        // A running thread may make new ones until it stops; a pass that stops nobody has seen everybody.
        loop {
            // What goes by the process's number now is another address space, if anything.
            if self.target.tasks().is_empty() {
                return Err(TargetError::Gone { tid: Tid(self.target.group()) });
            }
            if self.target.seize_new()? > 0 {
                self.unreported_tasks();
            }
            let running: Vec<Tid> = self
                .target
                .tasks()
                .into_iter()
                .filter(|tid| !self.target.is_stopped(*tid) && !self.parked.contains(tid))
                .collect();
            if running.is_empty() {
                self.statistics.threads = self.statistics.threads.max(self.target.tasks().len());
                return Ok(());
            }
            let mut asked = Vec::new();
            for tid in running {
                // One that stands already must not be asked: the request would stay pending, and stop it again before it
                // has run one instruction, in every stop from then on.
                if !self.stands(tid)? {
                    // One that is gone is found out below.
                    let _ = self.target.interrupt(tid);
                    asked.push(tid);
                }
            }
            for tid in asked {
                self.stop_one(tid, deadline)?;
            }
        }
    }

    /// Whether a thread has reported a stop that it stays at, or is gone.
    fn stands(&mut self, tid: Tid) -> Result<bool, TargetError> {
        match self.target.wait(tid, self.target.now()) {
            Err(TargetError::Gone { .. }) => {
                self.gone(tid);
                Ok(true)
            }
            Err(error) => Err(error),
            Ok(None) => Ok(false),
            Ok(Some(event)) => self.stays_at(tid, event),
        }
    }

    fn stop_one(&mut self, tid: Tid, deadline: Instant) -> Result<(), TargetError> {
        loop {
            let glance = deadline.min(self.target.now() + GLANCE);
            match self.target.wait(tid, glance) {
                Err(TargetError::Gone { .. }) => {
                    self.gone(tid);
                    return Ok(());
                }
                Err(error) => return Err(error),
                Ok(None) => {
                    if self.cannot_answer(tid) {
                        return Ok(());
                    }
                    if self.target.now() >= deadline {
                        let state = self.target.state(tid);
                        let milliseconds = u64::try_from(DEADLINE.as_millis()).unwrap_or(u64::MAX);
                        return Err(TargetError::DidNotStop { tid, state, milliseconds });
                    }
                }
                Ok(Some(event)) => {
                    if self.stays_at(tid, event)? {
                        return Ok(());
                    }
                    // Any other stop swallows a pending interrupt: ask again.
                    let _ = self.target.interrupt(tid);
                }
            }
        }
    }

    /// A few system calls are ended by any stop, ours too, and the program would see an `EINTR` that no signal explains.
    /// The thread stands before the kernel looks at what to do with an interrupted call: it is told to restart this one
    /// unless a handler runs (`ERESTARTNOHAND`, arch/x86/kernel/signal.c, `arch_do_signal_or_restart`).
    fn restart_ended_call(&mut self, tid: Tid) {
        const RESTART_UNLESS_HANDLED: i64 = -514;
        let abi = &self.target.isa().abi().syscall;
        let Ok(mut registers) = self.target.registers(tid) else { return };
        let is_one =
            abi.original_number.is_some_and(|slot| abi.ended_by_stops.contains(&registers.get(slot)));
        if is_one && registers.answer() == -i64::from(libc::EINTR) {
            registers.set(abi.result, RESTART_UNLESS_HANDLED.cast_unsigned());
            // A thread that died meanwhile needs no call.
            let _ = self.target.set_registers(tid, &registers);
        }
    }

    /// Handles an event of a thread that is to stop. Gives whether it stays there, or is gone.
    fn stays_at(&mut self, tid: Tid, event: Event) -> Result<bool, TargetError> {
        match event {
            Event::Interrupted => {
                self.parked.remove(&tid);
                self.first_stop(tid);
                self.restart_ended_call(tid);
                Ok(true)
            }
            Event::GroupStop(_) => {
                self.parked.remove(&tid);
                Ok(true)
            }
            other => {
                match self.handle(tid, other) {
                    Ok(()) | Err(TargetError::Gone { .. }) => {}
                    Err(error) => return Err(error),
                }
                Ok(self.target.is_stopped(tid) || !self.target.tasks().contains(&tid))
            }
        }
    }

    /// A thread that does not answer because it cannot run: a dead leader whose threads live, or one that waits in the
    /// kernel where no signal reaches it (the parent of a vfork child, a hung file system). The latter has our interrupt
    /// pending and stops before it runs another instruction of the program; it counts as stopped if that
    /// instruction is outside every patch.
    fn cannot_answer(&mut self, tid: Tid) -> bool {
        match self.target.state(tid) {
            'Z' | 'X' => {
                self.parked.insert(tid);
                true
            }
            'D' => {
                let outside = self.target.blocked_at(tid).is_some_and(|pc| !self.is_inside_patch(pc));
                if outside {
                    self.parked.insert(tid);
                }
                outside
            }
            _ => false,
        }
    }

    fn is_inside_patch(&self, pc: insn::Address) -> bool {
        self.patches
            .range(..pc)
            .next_back()
            .is_some_and(|(start, patch)| pc - *start < patch.entry.patched.len() as u64)
    }

    /// Lets every thread go on that nobody holds.
    pub fn resume_world(&mut self) {
        for tid in self.target.tasks() {
            if self.must_wait(tid) || !self.target.is_stopped(tid) {
                continue;
            }
            self.resume_one(tid);
        }
        if let Some(since) = self.stopped_since.take() {
            let time = self.target.now().saturating_duration_since(since);
            self.statistics.stopped += time;
            self.statistics.longest_stop = self.statistics.longest_stop.max(time);
        }
    }

    /// Lets a thread go on; what job control stopped stays stopped.
    pub(super) fn resume_one(&mut self, tid: Tid) {
        if self.run(tid, 0).is_err() {
            self.gone(tid);
        }
    }

    /// Lets a thread go that waited for the front.
    pub fn go(&mut self, tid: Tid) {
        if self.held.remove(&tid) && !self.must_wait(tid) && self.stopped_since.is_none() {
            self.resume_one(tid);
        }
    }

    /// Whether a thread waits for the front, or for a signal action that is not back yet.
    pub(super) fn must_wait(&self, tid: Tid) -> bool {
        self.held.contains(&tid) || self.owed_to.contains(&tid)
    }

    /// Lets a thread go on behind a trap of ours.
    pub(super) fn go_on_behind_trap(&mut self, tid: Tid) -> Result<(), TargetError> {
        if self.must_wait(tid) { Ok(()) } else { self.run(tid, 0) }
    }

    /// Drops a thread that no longer exists.
    pub(super) fn gone(&mut self, tid: Tid) {
        self.held.remove(&tid);
        self.owed_to.remove(&tid);
        self.put_back.retain(|(other, _)| *other != tid);
        self.parked.remove(&tid);
        self.guests.remove(&tid);
        self.exiting.remove(&tid);
        self.reissued.retain(|(to, _)| *to != tid);
        self.asked.remove(&tid);
        self.forget_drain(tid);
        self.close_slot(tid);
    }

    /// Handles one event. Leaves the thread running, unless it is held or the event was the stop that
    /// `stop_world` waits for.
    pub(super) fn handle(&mut self, tid: Tid, event: Event) -> Result<(), TargetError> {
        if self.leaving && self.target.is_stopped(tid) {
            let signal = if let Event::Signal(info) = event { info.signal() } else { 0 };
            self.gone(tid);
            return self.target.detach(tid, signal);
        }
        let was_parked = self.parked.remove(&tid);
        match event {
            Event::Interrupted => {
                if was_parked {
                    self.late_snapshot();
                }
                self.first_stop(tid);
                self.restart_ended_call(tid);
                self.resume_unless_held(tid, 0)
            }
            Event::GroupStop(_) => self.target.resume(tid, Resume::Listen),
            Event::Signal(info) => self.on_signal(tid, info),
            Event::Syscall if self.draining.contains_key(&tid) => self.on_drained_call(tid),
            Event::Syscall if self.may_be_let_go(tid) => self.on_guest_call(tid),
            Event::Syscall => self.run(tid, 0),
            Event::Clone(child) => {
                self.on_clone(tid, child)?;
                self.run(tid, 0)
            }
            Event::Fork(child) | Event::Vfork(child) => {
                self.on_fork(tid, child)?;
                self.run(tid, 0)
            }
            Event::Exec(former) => self.on_exec(tid, former),
            Event::Exiting => self.on_exiting(tid),
            Event::Exited(_) | Event::Killed(_) => {
                self.gone(tid);
                self.target.forget(tid);
                Ok(())
            }
        }
    }

    fn resume_unless_held(&mut self, tid: Tid, signal: i32) -> Result<(), TargetError> {
        if self.must_wait(tid) || self.stopped_since.is_some() {
            return Ok(());
        }
        self.run(tid, signal)
    }
}
