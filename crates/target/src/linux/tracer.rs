//! What all processes of one tracer have in common.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::windows::Windows;
use crate::seam::Tid;
use crate::sys::ptrace::Wait;

/// One tracer: the process that made these ptrace calls.
#[derive(Debug, Default)]
pub struct Tracer {
    /// First stops of tasks whose maker's event is still to come: waitpid keeps no order between tasks.
    early: RefCell<BTreeMap<Tid, Wait>>,
    /// Make any call in processes that have a system-call filter.
    pub(super) inject_freely: Cell<bool>,
    /// What it is at.
    pub(super) windows: Windows,
}

impl Tracer {
    /// A tracer that traces nothing yet.
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// The same, with its windows in memory that others can look at.
    #[must_use]
    pub fn watched() -> Rc<Self> {
        Rc::new(Self { windows: Windows::shown(), ..Self::default() })
    }

    /// Whether calls are injected without regard for system-call filters.
    pub fn inject_freely(&self, freely: bool) {
        self.inject_freely.set(freely);
    }

    /// Keeps a stop that waitpid gave for a task whose maker has not reported it yet.
    pub fn note_early(&self, tid: Tid, wait: Wait) {
        self.early.borrow_mut().insert(tid, wait);
    }

    /// Takes it back.
    pub(super) fn take_early(&self, tid: Tid) -> Option<Wait> {
        self.early.borrow_mut().remove(&tid)
    }
}
