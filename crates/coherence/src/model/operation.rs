//! What an operation does to caches and CPUs.

use crate::cache::{Completes, Effect, Finds, Index, Operation, Scope, Tag};

use super::event::cpu_number;
use super::machine::Machine;
use super::run::Stage;
use super::state::{Code, EXECUTING, LINES, Space, State};
use crate::procedure::Writer;

impl Machine {
    /// Whoever takes `stage` performs an operation on `cpu`.
    pub(super) fn perform(&self, state: &mut State, operation: &Operation, stage: Stage, cpu: usize) {
        for effect in operation.effects {
            match effect {
                Effect::WriteBackData => self.clean(state, operation, stage, cpu),
                Effect::InvalidateInstructions => self.invalidate(state, operation, stage, cpu),
                Effect::DropPrefetched => {
                    for cpu in self.reached(state, operation.scope, cpu) {
                        self.synchronise(state, cpu);
                    }
                    self.owe(state, operation, |cpu| cpu.owes_synchronisation = true);
                }
                Effect::RenewSpaceNumber => {
                    for cpu in self.reached(state, operation.scope, cpu) {
                        self.renew_number(state, cpu);
                    }
                }
                Effect::Complete if usize::from(state.issuer) == cpu => self.complete(state),
                Effect::Complete => {}
                Effect::ReplacePage => self.replace_page(state),
                Effect::MarkPage => state.is_marked = true,
                Effect::Prepare => state.is_prepared = true,
                Effect::Protect => self.protect(state),
            }
        }
    }

    /// The CPUs that an operation reaches at once.
    fn reached(&self, state: &State, scope: Scope, cpu: usize) -> Vec<usize> {
        let runs_space = |other: usize| {
            let here = &state.cpus[other];
            here.running.is_some() && here.space == Space::Target
        };
        let all = 0..self.run.setup.cpus;
        match scope {
            Scope::ThisCpu => vec![cpu],
            Scope::EveryCpu => all.collect(),
            Scope::OtherCpus => all.filter(|other| *other != cpu).collect(),
            Scope::CpusRunningSpace | Scope::EveryCpuOfSpace => {
                all.filter(|other| runs_space(*other)).collect()
            }
            Scope::AddressSpace => Vec::new(),
        }
    }

    /// What an operation for a whole address space leaves for the CPUs that do not run it now.
    fn owe(&self, state: &mut State, operation: &Operation, note: impl Fn(&mut super::state::Cpu)) {
        if operation.scope != Scope::EveryCpuOfSpace {
            return;
        }
        for cpu in state.cpus.iter_mut().take(self.run.setup.cpus) {
            if cpu.running.is_none() || cpu.space != Space::Target {
                note(cpu);
            }
        }
    }

    /// Data lines are written back, of the colours that the operation finds.
    fn clean(&self, state: &mut State, operation: &Operation, stage: Stage, cpu: usize) {
        let colours: &[usize] = match (operation.finds, self.own_colour(stage)) {
            (Finds::Everything, _) => &[0, 1],
            (Finds::WrittenAddress, _) if self.written_colour() != EXECUTING => &[1],
            (Finds::ExecutingAddress | Finds::WrittenAddress, _) | (Finds::OwnAddress, EXECUTING) => &[0],
            (Finds::OwnAddress, _) => &[1],
        };
        for colour in colours.iter().copied() {
            for line in 0..self.lines() {
                let Some(dirty) = state.dirty[colour][line] else { continue };
                match operation.completes {
                    Completes::ByBarrier => {
                        state.cleaning[colour][line] = true;
                        state.issuer = cpu_number(cpu);
                    }
                    // Without a broadcast the lines of other CPUs stay as they are.
                    Completes::AtOnce
                        if operation.scope == Scope::ThisCpu && usize::from(dirty.owner) != cpu => {}
                    Completes::AtOnce => self.write_back(state, colour, line),
                }
            }
        }
    }

    /// Instruction lines are dropped, on the CPUs that the operation reaches, if it finds them there.
    fn invalidate(&self, state: &mut State, operation: &Operation, stage: Stage, cpu: usize) {
        let instruction = &self.run.caches.instruction;
        let any_address_finds = instruction.index == Index::Physical && instruction.tag == Tag::Physical;
        let finds = match operation.finds {
            Finds::Everything | Finds::ExecutingAddress => true,
            Finds::WrittenAddress => any_address_finds || self.run.writer == Writer::TargetStore,
            Finds::OwnAddress => any_address_finds || self.is_by_thread(stage),
        };
        if !finds {
            return;
        }
        for other in self.reached(state, operation.scope, cpu) {
            match operation.completes {
                Completes::ByBarrier => {
                    (0..self.lines()).for_each(|line| state.invalidating[other][line] = true);
                    state.issuer = cpu_number(cpu);
                }
                Completes::AtOnce => self.invalidate_everything(state, other),
            }
        }
        self.owe(state, operation, |cpu| cpu.owes_invalidation = true);
    }

    pub(super) fn invalidate_everything(&self, state: &mut State, cpu: usize) {
        (0..self.lines()).for_each(|line| self.fill_all_tags(state, cpu, line));
    }

    pub(super) fn write_back_everything(&self, state: &mut State) {
        for colour in 0..state.dirty.len() {
            (0..self.lines()).for_each(|line| self.write_back(state, colour, line));
        }
    }

    /// Everything that was begun is done: data first, since what is begun together may complete in either order.
    pub(super) fn complete(&self, state: &mut State) {
        for colour in 0..state.cleaning.len() {
            for line in 0..self.lines() {
                if std::mem::take(&mut state.cleaning[colour][line]) {
                    self.write_back(state, colour, line);
                }
            }
        }
        for cpu in 0..self.run.setup.cpus {
            for line in 0..self.lines() {
                if std::mem::take(&mut state.invalidating[cpu][line]) {
                    self.fill_all_tags(state, cpu, line);
                }
            }
        }
    }

    /// Where the space runs, or is the last that ran, the new number is loaded at once.
    pub(super) fn renew_number(&self, state: &mut State, cpu: usize) {
        if !self.has_numbers() {
            return;
        }
        if state.cpus[cpu].space == Space::Target {
            self.give_number(state, cpu, Space::Target);
        } else {
            state.cpus[cpu].has_number[Space::Target.index()] = false;
        }
    }

    /// Another page has lines of its own where tags are physical, and the lines of the old one where they are not.
    /// Modified data lines belong to the old page in either case: that is where they are written back.
    fn replace_page(&self, state: &mut State) {
        state.memory = [Code::New; LINES];
        state.dirty = [[None; LINES]; 2];
        state.has_begun = true;
        if self.run.caches.instruction.tag == Tag::Physical {
            (0..self.run.setup.cpus).for_each(|cpu| self.invalidate_everything(state, cpu));
        }
    }

    /// The page is executable, and TLBs were flushed for it.
    fn protect(&self, state: &mut State) {
        state.is_executable = true;
        if self.run.caches.mapping.tlb_flush_renews_number {
            (0..self.run.setup.cpus).for_each(|cpu| self.renew_number(state, cpu));
        }
    }
}
