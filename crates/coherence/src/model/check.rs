//! Which promise is broken, and how soonest: a search of every state, breadth first.
//!
//! States are compared, not only their hashes, and the first broken promise ends the search, so a counterexample is a
//! shortest one. The tests let an independent checker search the same machine and compare what it finds.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use serde::Serialize;

use super::event::Event;
use super::machine::Machine;
use super::run::Run;
use super::state::{Fault, State};
use super::trace::Trace;

/// States after which a search is given up.
pub const BOUND: usize = 10_000_000;

/// What a procedure promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promise {
    /// Before the new code is there, no CPU executes anything but the old.
    OldBefore,
    /// No CPU executes a mixture of old and new.
    Whole,
    /// After the procedure no CPU executes anything but the new code.
    NewAfter,
    /// From every state the procedure can come to its end, and then the program runs.
    Ends,
}

impl Promise {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::OldBefore, Self::Whole, Self::NewAfter, Self::Ends];

    fn name(self) -> &'static str {
        match self {
            Self::OldBefore => "nothing but the old code is executed before",
            Self::Whole => "no mixture is executed",
            Self::NewAfter => "nothing but the new code is executed after",
            Self::Ends => "the procedure ends",
        }
    }

    /// Stated of one state, so that it can be checked in every one.
    #[must_use]
    pub fn holds(self, machine: &Machine, state: &State) -> bool {
        match self {
            Self::OldBefore => state.fault != Some(Fault::Early),
            Self::Whole => state.fault != Some(Fault::Torn),
            Self::NewAfter => state.fault != Some(Fault::Stale),
            Self::Ends => machine.can_end(state),
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a search found.
#[derive(Clone, Debug)]
pub enum Finding {
    /// The promises hold in every state.
    Holds {
        /// How many there are.
        states: usize,
    },
    /// One does not.
    Broken {
        /// States seen until then.
        states: usize,
        /// Which.
        promise: Promise,
        /// The shortest way there.
        trace: Trace,
    },
    /// The bound was reached.
    Undecided {
        /// States seen.
        states: usize,
    },
}

impl Finding {
    /// Whether the promises were shown to hold.
    #[must_use]
    pub fn holds(&self) -> bool {
        matches!(self, Self::Holds { .. })
    }

    /// How many states were seen.
    #[must_use]
    pub fn states(&self) -> usize {
        match self {
            Self::Holds { states } | Self::Broken { states, .. } | Self::Undecided { states } => *states,
        }
    }

    /// The promise that is broken.
    #[must_use]
    pub fn broken(&self) -> Option<Promise> {
        match self {
            Self::Broken { promise, .. } => Some(*promise),
            _ => None,
        }
    }
}

impl Run {
    /// Searches every state, up to [`BOUND`].
    #[must_use]
    pub fn check(&self) -> Finding {
        self.check_within(BOUND)
    }

    /// Searches every state, up to a bound.
    ///
    /// # Panics
    /// If the setup has more CPUs, lines or threads than the machine.
    #[must_use]
    pub fn check_within(&self, bound: usize) -> Finding {
        assert!(self.setup.is_within_bounds(), "too many CPUs, lines or threads");
        let machine = Machine::new(self.clone());
        Search::default().run(&machine, bound)
    }
}

/// A hash for many small fields: states come from us, so nobody can make them collide on purpose.
#[derive(Default)]
struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value.cast_unsigned() as u64);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

/// The states seen, in the order in which they were, and how each was reached first.
#[derive(Default)]
struct Search {
    seen: HashSet<State, BuildHasherDefault<Fold>>,
    nodes: Vec<Node>,
}

struct Node {
    state: State,
    /// Of a state that is no beginning.
    from: Option<(u32, Event)>,
}

impl Search {
    fn run(mut self, machine: &Machine, bound: usize) -> Finding {
        for state in machine.beginnings() {
            self.add(state, None);
        }
        let mut events = Vec::new();
        let mut at = 0;
        while let Some(state) = self.nodes.get(at).map(|node| node.state) {
            if let Some(promise) = Promise::ALL.into_iter().find(|promise| !promise.holds(machine, &state)) {
                let trace = Trace::new(machine, &self.path_to(at));
                return Finding::Broken { states: self.nodes.len(), promise, trace };
            }
            if self.nodes.len() >= bound {
                return Finding::Undecided { states: self.nodes.len() };
            }
            machine.events(&state, &mut events);
            for event in events.drain(..) {
                if let Some(next) = machine.after(&state, event) {
                    self.add(next, u32::try_from(at).ok().map(|from| (from, event)));
                }
            }
            at += 1;
        }
        Finding::Holds { states: self.nodes.len() }
    }

    fn add(&mut self, state: State, from: Option<(u32, Event)>) {
        if self.seen.insert(state) {
            self.nodes.push(Node { state, from });
        }
    }

    /// The states on the way to a node, each with the event that follows.
    fn path_to(&self, node: usize) -> Vec<(State, Option<Event>)> {
        let mut path = vec![(self.nodes[node].state, None)];
        let mut at = node;
        while let Some((before, event)) = self.nodes[at].from {
            at = usize::try_from(before).unwrap_or_default();
            path.push((self.nodes[at].state, Some(event)));
        }
        path.reverse();
        path
    }
}

impl Machine {
    /// Whether the stage that is next can be taken some time: then, by induction over the stages that remain, the end
    /// can be reached. Nothing but a refusal can be in the way for good, since a CPU can always be made free and a
    /// thread can always be given one; after the last stage the threads must run and the code be executable.
    fn can_end(&self, state: &State) -> bool {
        match self.stage(state) {
            Some(stage) => !self.is_refused(state, *stage),
            None => !state.is_stopped && state.is_executable,
        }
    }
}
