//! A counterexample as text.

use std::fmt::{self, Display, Formatter};

use serde::{Serialize, Serializer};

use super::event::Event;
use super::machine::Machine;
use super::state::{ALIAS, Code, EXECUTING, Fault, State};

/// What happened, one sentence an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    lines: Vec<String>,
}

impl Trace {
    pub(super) fn new(machine: &Machine, path: &[(State, Option<Event>)]) -> Self {
        let after = path.iter().skip(1).map(|(state, _)| state);
        let taken =
            path.iter().zip(after).filter_map(|((before, event), after)| Some((before, (*event)?, after)));
        let beginning = path.first().map(|(state, _)| machine.tell_beginning(state));
        let events = taken.map(|(before, event, after)| machine.tell(before, event, after));
        Self { lines: beginning.into_iter().chain(events).collect() }
    }

    /// The sentences.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

impl Display for Trace {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, line) in (1..).zip(&self.lines) {
            writeln!(f, "{number:3}. {line}")?;
        }
        Ok(())
    }
}

impl Serialize for Trace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.lines.serialize(serializer)
    }
}

impl Display for Code {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Old => "old",
            Self::New => "new",
            Self::Breakpoint => "breakpoint",
        })
    }
}

impl Machine {
    fn tell_beginning(&self, state: &State) -> String {
        let executed = match state.is_mapped {
            true => "every CPU has executed the old code before",
            false => "the page is not mapped; what was there before is in every instruction cache",
        };
        match state.dirty[EXECUTING][0] {
            Some(_) => format!("{executed}, and its data lines are modified"),
            None => executed.to_owned(),
        }
    }

    fn tell(&self, before: &State, event: Event, after: &State) -> String {
        match event {
            Event::Step { cpu } => self.tell_step(before, cpu),
            Event::Store { cpu, line } => format!("{}: stores unit {line}", self.actor(before, cpu)),
            Event::TakeUp { cpu, thread } => {
                format!("CPU {cpu}: thread {} runs{}", name(thread), number(after, cpu, self))
            }
            Event::Follow { cpu, thread } => {
                format!("CPU {cpu}: thread {} follows directly", name(thread))
            }
            Event::Preempt { cpu } => match before.cpus[cpu].running {
                Some(thread) => format!("CPU {cpu}: thread {} has to wait", name(thread)),
                None => format!("CPU {cpu}: idle"),
            },
            Event::Leave { cpu } => format!("CPU {cpu}: another program runs"),
            Event::Rollover { cpu } => format!("CPU {cpu}: address-space numbers are given out anew"),
            Event::FetchAhead { cpu, line } => {
                format!("CPU {cpu}: fetches ahead unit {line}: {}", after.cpus[cpu].ahead[line])
            }
            Event::Fill { cpu, line } => {
                format!(
                    "CPU {cpu}: drops instruction line {line} and fills it from memory: {}",
                    after.memory[line]
                )
            }
            Event::WriteBack { colour, line } => {
                format!("data line {line}{} is written back: {}", alias(colour), after.memory[line])
            }
            Event::Clean { colour, line } => {
                format!("the cleaning of data line {line}{} completes: {}", alias(colour), after.memory[line])
            }
            Event::Invalidate { cpu, line } => {
                format!("CPU {cpu}: the invalidation of instruction line {line} completes")
            }
            Event::Pay { cpu } => format!("CPU {cpu}: the thread does what it owes"),
            Event::Execute { cpu } => self.tell_execution(before, cpu, after.fault),
            Event::Enter { cpu } => format!("CPU {cpu}: executes the first of the old instructions"),
            Event::GoOn { cpu } => match after.fault {
                None => format!("CPU {cpu}: executes the second of the old instructions"),
                Some(_) => format!("CPU {cpu}: goes on in the middle of the new code"),
            },
            Event::Map if before.is_mapped => "the page is unmapped and mapped again".to_owned(),
            Event::Map => "a page fault maps the page".to_owned(),
            Event::Fork => "the program forks: the page is shared until it is written".to_owned(),
        }
    }

    fn tell_step(&self, state: &State, cpu: usize) -> String {
        let Some(stage) = self.stage(state) else { return String::new() };
        if !self.has_place(*stage) {
            return format!("{}: {}", stage.by, stage.action);
        }
        let care = self.run.care.and_then(|care| care.steps.get(usize::from(state.care)));
        let what = match (state.pinned, care) {
            (Some(_), Some(operation)) => format!("{} in the kernel", operation.means),
            _ => stage.action.to_string(),
        };
        format!("{}: {what}", self.actor(state, cpu))
    }

    fn actor(&self, state: &State, cpu: usize) -> String {
        let by_thread = self.stage(state).is_some_and(|stage| self.is_by_thread(*stage));
        let who = if by_thread { "thread A" } else { "the writer" };
        format!("{who} on CPU {cpu}")
    }

    fn tell_execution(&self, state: &State, cpu: usize, fault: Option<Fault>) -> String {
        let units = state.cpus[cpu].ahead.iter().take(self.lines());
        let units: Vec<String> = units.map(ToString::to_string).collect();
        let verdict = match fault {
            Some(Fault::Early) => "too early",
            Some(Fault::Torn) => "a mixture",
            Some(Fault::Stale) => "stale",
            None => "as it should",
        };
        format!("CPU {cpu}: executes {}: {verdict}", units.join(", "))
    }
}

fn name(thread: u8) -> char {
    char::from(b'A' + thread)
}

fn alias(colour: usize) -> &'static str {
    if colour == ALIAS { " of the other colour" } else { "" }
}

fn number(state: &State, cpu: usize, machine: &Machine) -> String {
    if !machine.has_numbers() {
        return String::new();
    }
    let here = &state.cpus[cpu];
    format!(", as address space {}", here.number[here.space.index()])
}
