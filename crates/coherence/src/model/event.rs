//! What may happen next.

use crate::cache::Tag;
use crate::procedure::{Action, Runner, Situation, Writer};

use super::machine::Machine;
use super::run::Stage;
use super::state::{Code, Space, State};

/// Something that happens. CPUs, threads and lines by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The stage that is next, or the next part of it.
    Step {
        cpu: usize,
    },
    /// A unit is stored, as the stage that is next says.
    Store {
        cpu: usize,
        line: usize,
    },
    /// A CPU goes on with a thread.
    TakeUp {
        cpu: usize,
        thread: u8,
    },
    /// A CPU goes on with another thread of the same address space, nothing in between.
    Follow {
        cpu: usize,
        thread: u8,
    },
    /// A CPU's thread has to wait.
    Preempt {
        cpu: usize,
    },
    /// A CPU without a thread of ours takes up another address space.
    Leave {
        cpu: usize,
    },
    /// The numbers of address spaces are given out anew.
    Rollover {
        cpu: usize,
    },
    /// A CPU fetches ahead from its instruction cache.
    FetchAhead {
        cpu: usize,
        line: usize,
    },
    /// An instruction line is dropped and filled again.
    Fill {
        cpu: usize,
        line: usize,
    },
    /// A modified data line is written back by itself.
    WriteBack {
        colour: usize,
        line: usize,
    },
    /// Maintenance that was begun completes.
    Clean {
        colour: usize,
        line: usize,
    },
    Invalidate {
        cpu: usize,
        line: usize,
    },
    /// A thread does what it must before it goes on.
    Pay {
        cpu: usize,
    },
    /// A thread executes the code, or its first instruction, or its second.
    Execute {
        cpu: usize,
    },
    Enter {
        cpu: usize,
    },
    GoOn {
        cpu: usize,
    },
    /// The page is unmapped and mapped again, or mapped for the first time.
    Map,
    /// The program forks.
    Fork,
}

impl Machine {
    /// Everything that may happen in a state. What would change nothing is left out by the search.
    pub(super) fn events(&self, state: &State, events: &mut Vec<Event>) {
        if state.fault.is_some() {
            return;
        }
        self.next_steps(state, events);
        for cpu in 0..self.run.setup.cpus {
            self.scheduling(state, cpu, events);
            self.fetching(state, cpu, events);
            self.executing(state, cpu, events);
        }
        self.writing_back(state, events);
        if self.may_map(state) {
            events.push(Event::Map);
        }
        let private = self.run.writer == Writer::DebuggerWrite && !state.is_shared;
        if self.run.setup.may_fork && private && !state.has_begun {
            events.push(Event::Fork);
        }
    }

    /// A page that is not there is mapped by the fault of whoever executes it.
    fn may_map(&self, state: &State) -> bool {
        let runs = state.cpus.iter().any(|cpu| cpu.running.is_some());
        state.pinned.is_none() && (state.is_mapped || self.is_published(state) && runs)
    }

    /// The stage that is next, on every CPU where it may be taken.
    pub(super) fn next_steps(&self, state: &State, events: &mut Vec<Event>) {
        let Some(stage) = self.stage(state).filter(|stage| !self.is_refused(state, **stage)) else { return };
        if !self.has_place(*stage) {
            events.push(Event::Step { cpu: 0 });
            return;
        }
        for cpu in 0..self.run.setup.cpus {
            if !self.may_act(state, *stage, cpu) {
                continue;
            }
            match (stage.by, self.missing_units(state, *stage)) {
                (Runner::EveryCpu | Runner::WriterOnEveryCpu, _) if state.done & (1 << cpu) != 0 => {}
                (_, []) => events.push(Event::Step { cpu }),
                (_, lines) => {
                    let missing = lines.iter().filter(|line| state.done & (1 << **line) == 0);
                    events.extend(missing.map(|line| Event::Store { cpu, line: *line }));
                }
            }
        }
    }

    /// Whether a stage can never be taken.
    pub(super) fn is_refused(&self, state: &State, stage: Stage) -> bool {
        use crate::cache::{Means, SystemCall};
        let needs_preparation =
            stage.action == Action::Perform(Means::SystemCall(SystemCall::MembarrierSyncCore));
        needs_preparation && !state.is_prepared
    }

    /// Whether a stage is taken on a CPU; else it concerns all threads and takes no time.
    pub(super) fn has_place(&self, stage: Stage) -> bool {
        let everywhere = stage.by == Runner::EveryThread;
        !everywhere && matches!(stage.action, Action::Write(_) | Action::Perform(_))
    }

    /// Whether a stage is taken by a thread of the target.
    pub(super) fn is_by_thread(&self, stage: Stage) -> bool {
        match stage.by {
            Runner::StoppedThread | Runner::EveryCpu => true,
            Runner::WriterOnEveryCpu => false,
            _ => self.run.writer == Writer::TargetStore,
        }
    }

    /// A tracer, and a stopped thread with an injected call, find any CPU that is free; a running thread acts where it
    /// runs.
    fn may_act(&self, state: &State, stage: Stage, cpu: usize) -> bool {
        let is_free = state.cpus[cpu].running.is_none();
        match state.pinned {
            Some(pinned) => usize::from(pinned) == cpu,
            None if self.is_by_thread(stage) && !state.is_stopped => state.cpus[cpu].running == Some(0),
            None => is_free,
        }
    }

    fn scheduling(&self, state: &State, cpu: usize, events: &mut Vec<Event>) {
        let here = &state.cpus[cpu];
        if state.pinned == Some(cpu_number(cpu)) {
            return;
        }
        let waits = |thread: &u8| state.cpu_of(*thread).is_none();
        let may_run = |thread: &u8| !state.is_stopped || self.space_of(*thread) == Space::Child;
        let threads = (0..cpu_number(self.run.setup.threads)).filter(waits).filter(may_run);
        if here.running.is_some() {
            events.push(Event::Preempt { cpu });
            // Where a kernel thread in between makes no difference, waiting and being taken up say the same.
            if self.synchronises_if_prepared() && state.is_prepared {
                let same = threads.filter(|thread| self.space_of(*thread) == here.space);
                events.extend(same.map(|thread| Event::Follow { cpu, thread }));
            }
            return;
        }
        if here.space != Space::Other {
            events.push(Event::Leave { cpu });
        } else if self.has_numbers() {
            events.push(Event::Rollover { cpu });
        }
        events.extend(threads.map(|thread| Event::TakeUp { cpu, thread }));
    }

    /// Lines with virtual tags are filled only while the addresses are translated.
    fn fetching(&self, state: &State, cpu: usize, events: &mut Vec<Event>) {
        let translates = state.cpus[cpu].space != Space::Other;
        for line in 0..self.lines() {
            if translates || self.run.caches.instruction.tag == Tag::Physical {
                events.push(Event::Fill { cpu, line });
            }
            if translates {
                events.push(Event::FetchAhead { cpu, line });
            }
            if state.invalidating[cpu][line] {
                events.push(Event::Invalidate { cpu, line });
            }
        }
    }

    fn writing_back(&self, state: &State, events: &mut Vec<Event>) {
        for (colour, lines) in state.dirty.iter().enumerate() {
            for (line, dirty) in lines.iter().enumerate().take(self.lines()) {
                if dirty.is_some() {
                    events.push(Event::WriteBack { colour, line });
                }
                if state.cleaning[colour][line] {
                    events.push(Event::Clean { colour, line });
                }
            }
        }
    }

    fn executing(&self, state: &State, cpu: usize, events: &mut Vec<Event>) {
        let Some(thread) = state.cpus[cpu].running.map(usize::from) else { return };
        let thread = &state.threads[thread];
        if thread.owes.is_some() {
            events.push(Event::Pay { cpu });
            return;
        }
        let reachable = self.is_published(state) || self.run.situation != Situation::FreshCode;
        if !state.is_mapped || !state.is_executable || !reachable {
            return;
        }
        if thread.is_inside {
            events.push(Event::GoOn { cpu });
            return;
        }
        events.push(Event::Execute { cpu });
        let two_instructions = self.run.situation == Situation::LiveTextStopped && !state.has_begun;
        if two_instructions && state.cpus[cpu].ahead[0] == Code::Old {
            events.push(Event::Enter { cpu });
        }
    }
}

pub(super) fn cpu_number(cpu: usize) -> u8 {
    u8::try_from(cpu).unwrap_or(u8::MAX)
}
