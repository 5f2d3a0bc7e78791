//! What an event changes.

use crate::cache::{Aliasing, Coherence, DebuggerWriteCare, Effect, Operation, Scope, Tag};
use crate::procedure::{Action, Part, Runner, Situation, Writer};

use super::event::{Event, cpu_number};
use super::run::{Run, Stage};
use super::state::{ALIAS, Code, Dirty, EXECUTING, Fault, LINES, SPACES, Space, State, TAGS};

/// A run as a machine.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(super) run: Run,
    /// Some operation writes back the lines of one CPU only, so it matters whose a modified line is.
    owners_matter: bool,
}

impl Machine {
    /// The machine of a run.
    #[must_use]
    pub fn new(run: Run) -> Self {
        let care = run.care.iter().flat_map(|care| care.before.iter().chain(care.steps));
        let owners_matter = run.operations.iter().chain(care).any(|operation| {
            operation.scope == Scope::ThisCpu && operation.effects.contains(&Effect::WriteBackData)
        });
        Self { run, owners_matter }
    }

    /// Where it begins. On caches with aliases the program may have left a modified line of the old bytes.
    #[must_use]
    pub fn beginnings(&self) -> Vec<State> {
        let mut state = State::old();
        state.is_mapped = self.run.setup.is_mapped;
        state.is_marked = !state.is_mapped;
        state.is_executable = self.run.setup.is_executable;
        let mut states = vec![state];
        if self.has_aliases() && self.run.caches.data.fetch_needs_write_back {
            for line in 0..self.lines() {
                state.dirty[EXECUTING][line] = Some(Dirty { code: Code::Old, owner: 0 });
            }
            states.push(state);
        }
        states
    }

    /// The states that may follow.
    #[must_use]
    pub fn successors(&self, state: &State) -> Vec<State> {
        let mut events = Vec::new();
        self.events(state, &mut events);
        events.into_iter().filter_map(|event| self.after(state, event)).collect()
    }

    /// The state after an event; `None` where nothing changes that can be told apart.
    pub(super) fn after(&self, state: &State, event: Event) -> Option<State> {
        let mut next = *state;
        match event {
            Event::Step { cpu } => self.step(&mut next, cpu),
            Event::Store { cpu, line } => self.store_unit(&mut next, cpu, line),
            Event::TakeUp { cpu, thread } | Event::Follow { cpu, thread } => {
                self.take_up(&mut next, cpu, thread);
            }
            Event::Preempt { cpu } => next.cpus[cpu].running = None,
            Event::Leave { cpu } => self.switch_space(&mut next, cpu, Space::Other),
            Event::Rollover { cpu } => self.roll_over(&mut next, cpu),
            Event::FetchAhead { cpu, line } => self.fetch_ahead(&mut next, cpu, line),
            Event::Fill { cpu, line } => self.fill(&mut next, cpu, line),
            Event::WriteBack { colour, line } => self.write_back(&mut next, colour, line),
            Event::Clean { colour, line } => {
                next.cleaning[colour][line] = false;
                self.write_back(&mut next, colour, line);
            }
            Event::Invalidate { cpu, line } => {
                next.invalidating[cpu][line] = false;
                self.fill_all_tags(&mut next, cpu, line);
            }
            Event::Pay { cpu } => self.pay(&mut next, cpu),
            Event::Execute { cpu } => next.fault = self.judge(state, state.cpus[cpu].ahead),
            Event::Enter { cpu } | Event::GoOn { cpu } => self.inside(&mut next, cpu, event),
            Event::Map => self.map(&mut next),
            Event::Fork => next.is_shared = true,
        }
        if !next.has_outstanding() {
            next.issuer = 0;
        }
        (next != *state).then_some(next)
    }

    // Facts of the run.

    pub(super) fn stage(&self, state: &State) -> Option<&Stage> {
        self.run.stages.get(usize::from(state.stage))
    }

    pub(super) fn is_published(&self, state: &State) -> bool {
        usize::from(state.stage) == self.run.stages.len()
    }

    pub(super) fn lines(&self) -> usize {
        self.run.lines()
    }

    pub(super) fn has_numbers(&self) -> bool {
        self.run.caches.instruction.tag == Tag::VirtualWithSpaceNumber
    }

    /// Tags that are in use.
    fn tags(&self) -> usize {
        match (self.has_numbers(), self.run.setup.has_child) {
            (false, _) => 1,
            (true, false) => TAGS / SPACES,
            (true, true) => TAGS,
        }
    }

    pub(super) fn synchronises_if_prepared(&self) -> bool {
        self.run.caches.context_switch.synchronises_if_prepared
    }

    fn has_aliases(&self) -> bool {
        self.run.caches.data.aliasing != Aliasing::None
    }

    pub(super) fn space_of(&self, thread: u8) -> Space {
        let is_last = usize::from(thread) + 1 == self.run.setup.threads;
        if self.run.setup.has_child && is_last { Space::Child } else { Space::Target }
    }

    /// The colour of the lines that the writer's stores make.
    pub(super) fn written_colour(&self) -> usize {
        let same = match self.run.writer {
            Writer::TargetStore => true,
            Writer::DebuggerWrite => self.run.care.is_none_or(|care| care.at_executing_colour),
            Writer::StoreThroughAlias | Writer::ProcessVmWritev => false,
        };
        if same || !self.has_aliases() { EXECUTING } else { ALIAS }
    }

    /// The colour of the address that whoever takes a stage uses.
    pub(super) fn own_colour(&self, stage: Stage) -> usize {
        if self.is_by_thread(stage) || !self.has_aliases() { EXECUTING } else { self.written_colour() }
    }

    /// The units that a writing stage has yet to store; none for another stage, or while the kernel cares for caches.
    pub(super) fn missing_units(&self, state: &State, stage: Stage) -> &'static [usize] {
        let Action::Write(part) = stage.action else { return &[] };
        let units: &'static [usize] = match part {
            Part::All if self.lines() == LINES => &[0, 1],
            Part::All | Part::Breakpoint | Part::FirstUnit => &[0],
            Part::Tail => &[1],
        };
        let all = units.iter().fold(0, |mask, unit| mask | 1 << unit);
        if state.done == all { &[] } else { units }
    }

    // The procedure.

    fn step(&self, state: &mut State, cpu: usize) {
        let Some(stage) = self.stage(state).copied() else { return };
        match stage.action {
            Action::StopAllThreads => self.stop_all(state),
            Action::ResumeAllThreads => state.is_stopped = false,
            Action::EmptySpan => state.threads.iter_mut().for_each(|thread| thread.is_inside = false),
            Action::Perform(_) if stage.by == Runner::EveryThread => {
                let owed = state.stage;
                let own = self.run.setup.threads - usize::from(self.run.setup.has_child);
                state.threads.iter_mut().take(own).for_each(|thread| thread.owes = Some(owed));
            }
            Action::Perform(means) => {
                self.arrive(state, stage, cpu);
                if let Some(operation) = self.run.operation(means) {
                    self.perform(state, operation, stage, cpu);
                }
                let everywhere = matches!(stage.by, Runner::EveryCpu | Runner::WriterOnEveryCpu);
                if everywhere && !self.serve(state, cpu) {
                    return;
                }
            }
            Action::Write(_) => {
                if !self.care(state, stage, cpu) {
                    return;
                }
            }
            Action::PublishBy(_) => {}
        }
        state.stage += 1;
        state.done = 0;
    }

    /// Notes that a CPU has done the stage; whether all have.
    fn serve(&self, state: &mut State, cpu: usize) -> bool {
        state.done |= 1 << cpu;
        let all = (1u8 << self.run.setup.cpus) - 1;
        state.done == all
    }

    fn stop_all(&self, state: &mut State) {
        state.is_stopped = true;
        for cpu in &mut state.cpus {
            cpu.running = cpu.running.filter(|thread| self.space_of(*thread) == Space::Child);
        }
    }

    /// Whoever takes the stage runs on `cpu` now. A tracer has an address space of its own; a stopped thread goes
    /// through the kernel.
    fn arrive(&self, state: &mut State, stage: Stage, cpu: usize) {
        if state.pinned.is_some() {
            return;
        }
        match (self.is_by_thread(stage), state.is_stopped) {
            (true, false) => {}
            (true, true) => self.enter_program(state, cpu, 0),
            (false, _) => self.switch_space(state, cpu, Space::Other),
        }
        self.migrate_outstanding(state, cpu);
    }

    /// What a barrier does for maintenance that its thread began on another CPU.
    fn migrate_outstanding(&self, state: &mut State, cpu: usize) {
        if self.run.caches.context_switch.completes_maintenance && usize::from(state.issuer) != cpu {
            self.complete(state);
        }
    }

    fn store_unit(&self, state: &mut State, cpu: usize, line: usize) {
        let Some(stage) = self.stage(state).copied() else { return };
        self.arrive(state, stage, cpu);
        if std::mem::take(&mut state.is_shared) {
            self.copy_on_write(state, cpu);
        }
        if state.done == 0 {
            let before = self.care_of_writer().map_or(&[][..], |care| care.before);
            before.iter().for_each(|operation| self.perform(state, operation, stage, cpu));
        }
        let breakpoint = stage.action == Action::Write(Part::Breakpoint);
        let code = if breakpoint { Code::Breakpoint } else { Code::New };
        self.store(state, cpu, self.written_colour(), line, code);
        state.has_begun = true;
        state.done |= 1 << line;
        if self.missing_units(state, stage).is_empty() {
            match self.care_steps().is_empty() {
                true => {
                    state.stage += 1;
                    state.done = 0;
                    state.pinned = None;
                }
                false => state.pinned = Some(cpu_number(cpu)),
            }
        } else if !self.care_steps().is_empty() {
            state.pinned = Some(cpu_number(cpu));
        }
    }

    fn care_of_writer(&self) -> Option<DebuggerWriteCare> {
        self.run.care.filter(|_| self.run.writer == Writer::DebuggerWrite)
    }

    fn care_steps(&self) -> &'static [Operation] {
        self.care_of_writer().map_or(&[], |care| care.steps)
    }

    /// The next of the kernel's steps after its copy; whether it was the last.
    fn care(&self, state: &mut State, stage: Stage, cpu: usize) -> bool {
        let steps = self.care_steps();
        if let Some(operation) = steps.get(usize::from(state.care)) {
            self.perform(state, operation, stage, cpu);
        }
        state.care += 1;
        let is_last = usize::from(state.care) >= steps.len();
        if is_last {
            state.care = 0;
            state.pinned = None;
        }
        is_last
    }

    /// A write to a private page that a child shares goes to a new page, a copy made by the kernel.
    fn copy_on_write(&self, state: &mut State, cpu: usize) {
        for line in 0..self.lines() {
            self.store(state, cpu, self.written_colour(), line, Code::Old);
        }
        state.is_marked = true;
        self.map(state);
    }

    /// The bytes are in a data line, or in memory at once.
    fn store(&self, state: &mut State, cpu: usize, colour: usize, line: usize, code: Code) {
        if self.run.caches.data.fetch_needs_write_back {
            let owner = if self.owners_matter { cpu_number(cpu) } else { 0 };
            state.dirty[colour][line] = Some(Dirty { code, owner });
        } else {
            self.set_memory(state, Some(cpu), line, code);
        }
        let prefetch = self.run.caches.prefetch;
        for other in 0..self.run.setup.cpus {
            let own = other == cpu && prefetch.sees_own_stores && self.run.writer == Writer::TargetStore;
            if own || prefetch.sees_other_stores {
                self.fetch_ahead(state, other, line);
            }
        }
    }

    /// What snoops sees it. `by`: the CPU that stores; a write-back is by none.
    fn set_memory(&self, state: &mut State, by: Option<usize>, line: usize, code: Code) {
        state.memory[line] = code;
        for cpu in 0..self.run.setup.cpus {
            let sees = match self.run.caches.instruction.coherence {
                Coherence::Snooped => true,
                Coherence::SnoopedRemotely => by != Some(cpu),
                Coherence::None => false,
            };
            if sees {
                self.fill_all_tags(state, cpu, line);
            }
        }
    }

    pub(super) fn write_back(&self, state: &mut State, colour: usize, line: usize) {
        if let Some(dirty) = state.dirty[colour][line].take() {
            self.set_memory(state, None, line, dirty.code);
        }
    }

    // Scheduling.

    fn take_up(&self, state: &mut State, cpu: usize, thread: u8) {
        self.enter_program(state, cpu, thread);
        state.cpus[cpu].running = Some(thread);
        self.pay(state, cpu);
    }

    /// The thread that runs does what it must before it executes anything more.
    fn pay(&self, state: &mut State, cpu: usize) {
        let Some(thread) = state.cpus[cpu].running.map(usize::from) else { return };
        let owed = state.threads[thread].owes.take();
        let Some(stage) = owed.and_then(|stage| self.run.stages.get(usize::from(stage))) else { return };
        let Action::Perform(means) = stage.action else { return };
        if let Some(operation) = self.run.operation(means) {
            self.perform(state, operation, *stage, cpu);
        }
    }

    fn enter_program(&self, state: &mut State, cpu: usize, thread: u8) {
        let here = state.cpus[cpu];
        let comes_back = here.running.is_none() && here.space == Space::Target;
        self.switch_space(state, cpu, self.space_of(thread));
        let stayed = comes_back && state.cpus[cpu].space == Space::Target;
        if stayed && self.synchronises_if_prepared() && state.is_prepared {
            self.synchronise(state, cpu);
        }
        if self.run.caches.context_switch.flushes_if_prepared {
            let last = state.threads[usize::from(thread)].last.replace(cpu_number(cpu));
            if state.is_prepared && last != Some(cpu_number(cpu)) {
                self.invalidate_everything(state, cpu);
                self.synchronise(state, cpu);
            }
        }
        let exit = self.run.caches.kernel_exit;
        if exit.always_synchronises || exit.interrupts_synchronise && !self.run.setup.may_call {
            self.synchronise(state, cpu);
        }
    }

    pub(super) fn switch_space(&self, state: &mut State, cpu: usize, to: Space) {
        let switch = self.run.caches.context_switch;
        let changes = state.cpus[cpu].space != to;
        state.cpus[cpu].space = to;
        if changes && switch.flushes_between_spaces {
            self.write_back_everything(state);
            self.invalidate_everything(state, cpu);
        }
        if to != Space::Other {
            let forgets = changes && !switch.keeps_space_number;
            if self.has_numbers() && (forgets || !state.cpus[cpu].has_number[to.index()]) {
                self.give_number(state, cpu, to);
            }
        }
        if to == Space::Target {
            self.pay_for_space(state, cpu);
        }
        let synchronises =
            if changes { switch.synchronises_between_spaces } else { switch.synchronises_within_space };
        if synchronises {
            self.synchronise(state, cpu);
        }
    }

    /// What was noted for the next time that this CPU takes up the target.
    fn pay_for_space(&self, state: &mut State, cpu: usize) {
        if std::mem::take(&mut state.cpus[cpu].owes_invalidation) {
            self.invalidate_everything(state, cpu);
        }
        if std::mem::take(&mut state.cpus[cpu].owes_synchronisation) {
            self.synchronise(state, cpu);
        }
    }

    /// The address space gets the next number. After the last comes the first, and then the lines of all must go.
    pub(super) fn give_number(&self, state: &mut State, cpu: usize, space: Space) {
        let flushes = self.run.caches.context_switch.number_reuse_flushes;
        let here = &mut state.cpus[cpu];
        let begins_anew = here.number[space.index()] == 1;
        here.number[space.index()] ^= 1;
        here.has_number[space.index()] = true;
        let tag = here.tag(space);
        if flushes {
            here.cached[tag] = state.memory;
        }
        if begins_anew {
            let other = 1 - space.index();
            here.has_number[other] = false;
            if flushes {
                self.invalidate_everything(state, cpu);
            }
        }
    }

    fn roll_over(&self, state: &mut State, cpu: usize) {
        state.cpus[cpu].has_number = [false; 2];
        state.cpus[cpu].number = [1; 2];
        if self.run.caches.context_switch.number_reuse_flushes {
            self.invalidate_everything(state, cpu);
        }
    }

    // Execution.

    pub(super) fn synchronise(&self, state: &mut State, cpu: usize) {
        for line in 0..self.lines() {
            self.fetch_ahead(state, cpu, line);
        }
    }

    fn fetch_ahead(&self, state: &mut State, cpu: usize, line: usize) {
        let here = &mut state.cpus[cpu];
        here.ahead[line] = here.cached[self.tag_here(here)][line];
    }

    pub(super) fn tag_here(&self, cpu: &super::state::Cpu) -> usize {
        if !self.has_numbers() {
            return 0;
        }
        cpu.tag(if cpu.space == Space::Child { Space::Child } else { Space::Target })
    }

    fn fill(&self, state: &mut State, cpu: usize, line: usize) {
        let tag = self.tag_here(&state.cpus[cpu]);
        state.cpus[cpu].cached[tag][line] = state.memory[line];
    }

    pub(super) fn fill_all_tags(&self, state: &mut State, cpu: usize, line: usize) {
        let code = state.memory[line];
        state.cpus[cpu].cached.iter_mut().take(self.tags()).for_each(|lines| lines[line] = code);
    }

    fn inside(&self, state: &mut State, cpu: usize, event: Event) {
        let Some(thread) = state.cpus[cpu].running.map(usize::from) else { return };
        let enters = matches!(event, Event::Enter { .. });
        state.threads[thread].is_inside = enters;
        if !enters && state.cpus[cpu].ahead[1] != Code::Old {
            state.fault = Some(Fault::Torn);
        }
    }

    /// What is wrong with executing these bytes now.
    fn judge(&self, state: &State, ahead: [Code; LINES]) -> Option<Fault> {
        let units = &ahead[..self.lines()];
        let is_all = |code| units.iter().all(|unit| *unit == code);
        let whole = match ahead[0] {
            Code::Breakpoint => Some(Code::Breakpoint),
            Code::Old if is_all(Code::Old) => Some(Code::Old),
            Code::New if is_all(Code::New) => Some(Code::New),
            _ => None,
        };
        let Some(code) = whole else { return Some(Fault::Torn) };
        let running = matches!(self.run.situation, Situation::LiveTextRunning | Situation::OwnBreakpoint);
        if self.is_published(state) {
            (code != Code::New).then_some(Fault::Stale)
        } else if state.has_begun && running {
            None
        } else {
            (code != Code::Old).then_some(Fault::Early)
        }
    }

    /// The page is mapped: caches are made to agree if it is marked, and TLBs were flushed for it.
    fn map(&self, state: &mut State) {
        let was_mapped = std::mem::replace(&mut state.is_mapped, true);
        let mapping = self.run.caches.mapping;
        if mapping.makes_marked_pages_agree && state.is_marked {
            self.write_back_everything(state);
            (0..self.run.setup.cpus).for_each(|cpu| self.invalidate_everything(state, cpu));
        }
        state.is_marked = false;
        if !was_mapped && self.run.caches.kernel_exit.always_synchronises {
            // Whoever faulted returns from the kernel.
            let runs: Vec<usize> =
                (0..self.run.setup.cpus).filter(|cpu| state.cpus[*cpu].running.is_some()).collect();
            runs.into_iter().for_each(|cpu| self.synchronise(state, cpu));
        }
        if mapping.tlb_flush_renews_number {
            (0..self.run.setup.cpus).for_each(|cpu| self.renew_number(state, cpu));
        }
    }
}
