//! What all processes of one tracer have in common.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::windows::Windows;
use crate::seam::Tid;
use crate::sys::ptrace::Wait;

/// How long the event of a task's maker may come after the task's first stop: the maker has only to leave the kernel's clone.
const OVERDUE: Duration = Duration::from_secs(1);

/// One tracer: the process that made these ptrace calls.
#[derive(Debug, Default)]
pub struct Tracer {
    /// First stops of tasks whose maker's event is still to come: waitpid keeps no order between tasks.
    early: RefCell<BTreeMap<Tid, (Instant, Wait)>>,
    /// Our own child, and how it ended: to be told whoever happened to wait for it.
    command: Cell<Option<Tid>>,
    command_end: Cell<Option<Wait>>,
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

    /// From now on the end of this task is kept until it is taken.
    pub fn watch_command(&self, command: Option<Tid>) {
        self.command.set(command);
    }

    /// Notes what waitpid said of a task: it says so only once.
    pub fn note_wait(&self, tid: Tid, wait: Wait) {
        if self.command.get() == Some(tid) && matches!(wait, Wait::Exited(_) | Wait::Killed(_)) {
            self.command_end.set(Some(wait));
        }
    }

    /// How the command ended, if it did and that was not taken yet.
    pub fn take_command_end(&self) -> Option<Wait> {
        self.command_end.take()
    }

    /// Keeps a stop that waitpid gave for a task whose maker has not reported it yet.
    pub fn note_early(&self, tid: Tid, wait: Wait) {
        self.early.borrow_mut().insert(tid, (Instant::now(), wait));
    }

    /// The end of such a task takes the place of its stop.
    pub fn note_end(&self, tid: Tid, wait: Wait) {
        if let Some((_, early)) = self.early.borrow_mut().get_mut(&tid) {
            *early = wait;
        }
    }

    /// When the next of them becomes overdue.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.early.borrow().values().map(|(since, _)| *since + OVERDUE).min()
    }

    /// Those that nobody has claimed for so long that nobody will: their makers were killed before they could tell.
    #[must_use]
    pub fn orphans(&self) -> Vec<Tid> {
        let early = self.early.borrow();
        early.iter().filter(|(_, (since, _))| since.elapsed() >= OVERDUE).map(|(tid, _)| *tid).collect()
    }

    /// Those that nobody has claimed.
    #[must_use]
    pub fn unclaimed(&self) -> Vec<Tid> {
        self.early.borrow().keys().copied().collect()
    }

    /// Forgets one of them.
    pub fn drop_early(&self, tid: Tid) {
        self.early.borrow_mut().remove(&tid);
    }

    /// Takes it back.
    pub(super) fn take_early(&self, tid: Tid) -> Option<Wait> {
        self.early.borrow_mut().remove(&tid).map(|(_, wait)| wait)
    }
}
