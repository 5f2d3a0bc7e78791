//! Programs of one thread: what counts in their stubs locks nothing, and their events need not find out whose they are, until a
//! second task comes.
//!
//! A signal waits until its thread has left the stub (`drain`), so that no handler counts in between. The kernel reports a
//! new task before it runs, while its maker still stands in the system call: nobody is in a body that is rewritten here.

use insn::Address;

use super::change::{PageCache, write_by_page};
use super::state::Engine;
use crate::error::TargetError;
use crate::seam::{Target, Tid};

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
        if self.stubs.is_empty() {
            return Ok(());
        }
        self.carry_out_without_calls(|engine| {
            let bodies = engine.bodies_still_ours();
            write_by_page(&mut engine.target, bodies.iter().map(|(at, body)| (*at, &**body)).collect())
        })
    }

    /// The bodies of what is as we wrote it: elsewhere is what the program put there, or a later stub of ours.
    fn bodies_still_ours(&self) -> Vec<(Address, Vec<u8>)> {
        let mut page = PageCache::default();
        let mut is_ours = |at, code: &[u8]| page.holds(&self.target, at, code).unwrap_or(false);
        let mut bodies = Vec::new();
        for stub in self.stubs.values().filter(|stub| !stub.alone.is_empty()) {
            if is_ours(stub.at, &stub.code(true)) {
                bodies.extend(stub.shared_bodies().map(|(at, body)| (at, body.to_vec())));
            }
        }
        bodies
    }

    /// Says whose the events of the lone slot are: of the task that runs, which is the thread or a vfork child while it sleeps.
    /// `gone` is about to be no task of ours.
    pub(super) fn name_only_thread(&mut self, gone: Option<Tid>) {
        if !self.alone {
            return;
        }
        let tasks = self.target.tasks();
        let is_here = |tid: &&Tid| Some(**tid) != gone && tasks.contains(tid);
        let only = self.guests.iter().rfind(is_here).or_else(|| tasks.iter().find(is_here));
        if let (Some(slots), Some(shared)) = (&self.slots, &self.shared) {
            slots.name_only(shared, only.map(|tid| tid.0.cast_unsigned()));
        }
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
