//! Programs of one thread: what counts in their stubs locks nothing, until a second task comes.
//!
//! A signal waits until its thread has left the stub (`drain`), so that no handler counts in between. The kernel reports a
//! new task before it runs, while its maker still stands in the system call: nobody is in a body that is rewritten here.

use program::stub::{Routines, Stub};

use super::change::write_by_page;
use super::state::Engine;
use crate::error::TargetError;
use crate::seam::Target;

impl<T: Target> Engine<T> {
    /// A second task is about to run in this address space. Not for one whose maker sleeps until it is gone (vfork).
    pub(super) fn no_longer_alone(&mut self) {
        if !std::mem::take(&mut self.alone) {
            return;
        }
        if let Err(error) = self.share_bodies() {
            self.warn(format!(
                "process {} has several threads now, and may count too few hits: {error}",
                self.target.group()
            ));
        }
    }

    fn share_bodies(&mut self) -> Result<(), TargetError> {
        if self.stubs.is_empty() && self.routines.is_empty() {
            return Ok(());
        }
        self.carry_out_without_calls(|engine| {
            let routines = engine.routines.iter().flat_map(Routines::shared_bodies);
            let stubs = engine.stubs.values().flat_map(Stub::shared_bodies);
            write_by_page(&mut engine.target, routines.chain(stubs).collect())
        })
    }

    /// Tasks were found that the kernel never reported: it hides those made with CLONE_UNTRACED (clone(2)).
    pub(super) fn unreported_tasks(&mut self) {
        if std::mem::take(&mut self.alone) && !self.stubs.is_empty() {
            self.warn(format!(
                "process {} made a task that its tracer was not told of: counts until now may be too low",
                self.target.group()
            ));
        }
    }
}
