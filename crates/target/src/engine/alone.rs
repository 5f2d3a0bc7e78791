//! Programs of one thread: what counts in their stubs locks nothing, and their events need not find out whose they are, until a
//! second task comes.
//!
//! A signal waits until its thread has left the stub (`drain`), so that no handler counts in between. The kernel reports a
//! new task before it runs, while its maker still stands in the system call: nobody is in a body that is rewritten here. A
//! task that it hides (CLONE_UNTRACED, clone(2)) is found when the world stops, and may be anywhere, as may be the others.
//!
//! A vfork child ends it too, though its maker sleeps: the maker may wake before we know, where the child is killed while a
//! child of its own still shares the memory.

use std::time::Duration;

use insn::Address;
use program::stub::Stub;

use super::change::{PageCache, write_by_page};
use super::state::Engine;
use crate::error::TargetError;
use crate::seam::{Target, Tid};

/// How often, and for how long, threads run on to leave a body.
const ATTEMPTS: u32 = 30;
const MOMENT: Duration = Duration::from_millis(1);

impl<T: Target> Engine<T> {
    /// A second task is about to run in this address space.
    pub(super) fn no_longer_alone(&mut self) {
        if std::mem::take(&mut self.alone) {
            self.share_bodies_or_warn();
        }
    }

    fn share_bodies_or_warn(&mut self) {
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

    /// Says whose the events of the lone slot are. `gone` is about to be no task of ours.
    pub(super) fn name_only_thread(&mut self, gone: Option<Tid>) {
        if !self.alone {
            return;
        }
        let tasks = self.target.tasks();
        let only = tasks.iter().find(|tid| Some(**tid) != gone);
        if let (Some(slots), Some(shared)) = (&self.slots, &self.shared) {
            slots.name_only(shared, only.map(|tid| tid.0.cast_unsigned()));
        }
    }

    /// Tasks were found that the kernel never reported.
    pub(super) fn unreported_tasks(&mut self) {
        if self.runs_with_others() {
            self.warn(format!(
                "process {} made a task that its tracer was not told of: counts until now may be too low",
                self.target.group()
            ));
        }
    }

    /// Several tasks run here that may be in bodies: these are rewritten when the world stands. Gives whether there are any.
    pub(super) fn runs_with_others(&mut self) -> bool {
        let is_late = std::mem::take(&mut self.alone) && !self.stubs.is_empty();
        self.late |= is_late;
        is_late
    }

    /// Rewrites in a stopped world what had to wait for one. Threads that are in a body run on alone until they are not. Where
    /// one stays (job control has stopped it) the next stop does it: nobody counts meanwhile.
    pub(super) fn catch_up(&mut self) -> Result<(), TargetError> {
        for _ in 0..ATTEMPTS {
            if !self.late {
                break;
            }
            let inside = self.tasks_in_bodies();
            if inside.is_empty() {
                self.late = false;
                self.share_bodies_or_warn();
                break;
            }
            let since = self.stopped_since;
            for tid in inside {
                if !self.must_wait(tid) {
                    self.resume_one(tid);
                }
            }
            self.target.pause(MOMENT);
            self.stop_all()?;
            self.stopped_since = since;
        }
        Ok(())
    }

    fn tasks_in_bodies(&self) -> Vec<Tid> {
        let pc_of = |tid: Tid| match self.target.registers(tid) {
            Ok(registers) => Some(registers.pc()),
            Err(_) => self.target.blocked_at(tid),
        };
        // Breakpoints stand on the exits of a stub that is left for a signal: it is not as we wrote it.
        let is_inside = |tid: &Tid| {
            self.draining.contains_key(tid) || pc_of(*tid).is_some_and(|pc| self.is_in_a_body(pc))
        };
        self.target.tasks().into_iter().filter(is_inside).collect()
    }

    /// Whether something of a body, or of what it calls, is done at `pc` and something may be left.
    fn is_in_a_body(&self, pc: Address) -> bool {
        let is_inside = |(stub, offset): (&Stub, u32)| {
            stub.alone
                .iter()
                .any(|(start, body)| *start < offset && offset as usize <= *start as usize + body.len())
        };
        self.routines_at(pc).is_some() || self.stub_at(pc).is_some_and(is_inside)
    }
}
