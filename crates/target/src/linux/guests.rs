//! Processes that share the address space of another when that is attached: a vfork child that has not executed its program
//! yet, or one made with CLONE_VM alone. They run the same text, so they must be in our hands before it changes.

use std::time::Instant;

use super::living::{numbers, shown_by, threads};
use super::{Process, State, TRANSITION, is_kernels, permission};
use crate::error::TargetError;
use crate::seam::{Event, Resume, Target, Tid};
use crate::sys::ptrace;

impl Process {
    /// Begins tracing them; how many tasks.
    pub(super) fn seize_guests(&mut self) -> Result<usize, TargetError> {
        // Nothing but a look at every process tells: the kernel keeps no list of who shares a memory.
        let pids = numbers("/proc").filter(|pid| *pid != self.pid && !self.tasks.contains_key(&Tid(*pid)));
        // The first thread of one may have ended, and shares nothing any more.
        let sharing = self.sharing(pids.map(shown_by).map(Tid).collect());
        self.is_unsure = sharing.is_none();
        let mut seized = 0;
        for Tid(shown) in sharing.unwrap_or_default() {
            let pid = self.group_of(Tid(shown));
            for tid in threads(pid) {
                seized += usize::from(self.seize_guest(pid, tid)?);
            }
        }
        Ok(seized)
    }

    /// Whether it is in our hands now, and was not before.
    fn seize_guest(&mut self, pid: i32, tid: Tid) -> Result<bool, TargetError> {
        if self.tasks.contains_key(&tid) || is_kernels(tid) {
            return Ok(false);
        }
        match ptrace::seize(tid.0) {
            Ok(running) => {
                self.tasks.insert(tid, State::Running(running));
            }
            // Gone, or on its way with a program of its own.
            Err(_) if !self.shares_memory(None, tid) => return Ok(false),
            Err(error) => return permission::refusal(pid, tid, &error).map_or(Ok(false), Err),
        }
        if self.shares_memory(None, tid) {
            return Ok(true);
        }
        // It executed its program between the two looks.
        match self.let_go_running(tid) {
            Ok(()) | Err(TargetError::Gone { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lets go of a task that runs: only a stopped one can be let go.
    fn let_go_running(&mut self, tid: Tid) -> Result<(), TargetError> {
        let deadline = Instant::now() + TRANSITION;
        loop {
            self.interrupt(tid)?;
            let signal = match self.wait(tid, deadline)?.ok_or(TargetError::Gone { tid })? {
                Event::Interrupted => 0,
                Event::GroupStop(signal) => signal,
                Event::Signal(info) => info.signal(),
                Event::Exited(_) | Event::Killed(_) => return Ok(()),
                _ => {
                    self.resume(tid, Resume::Run(0))?;
                    continue;
                }
            };
            return self.detach(tid, signal);
        }
    }
}
