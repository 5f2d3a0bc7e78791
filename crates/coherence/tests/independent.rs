//! An independent checker, stateright, searches the same machine, and finds as many states and the same verdicts.
//!
//! It is the tests' alone: it brings a web server and a random-number generator along, keeps hashes instead of states,
//! and does not report the shortest counterexample.

use coherence::model::{Finding, Machine, Promise, Run, State};
use coherence::replay::{KERNELS, THREAD};
use coherence::table::shipped;
use stateright::{Checker, HasDiscoveries, Model, Property};

struct Searched(Machine);

impl Model for Searched {
    type State = State;
    type Action = usize;

    fn init_states(&self) -> Vec<State> {
        self.0.beginnings()
    }

    fn actions(&self, state: &State, actions: &mut Vec<usize>) {
        actions.extend(0..self.0.successors(state).len());
    }

    fn next_state(&self, state: &State, action: usize) -> Option<State> {
        self.0.successors(state).get(action).copied()
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("old before", |model, state| Promise::OldBefore.holds(&model.0, state)),
            Property::always("whole", |model, state| Promise::Whole.holds(&model.0, state)),
            Property::always("new after", |model, state| Promise::NewAfter.holds(&model.0, state)),
            Property::always("ends", |model, state| Promise::Ends.holds(&model.0, state)),
        ]
    }
}

fn agrees(run: Run, finding: &Finding, name: &str) {
    let checker = Searched(Machine::new(run)).checker().finish_when(HasDiscoveries::Any).spawn_bfs().join();
    assert_eq!(checker.discoveries().is_empty(), finding.holds(), "{name}");
    if let Finding::Holds { states } = finding {
        assert_eq!(checker.unique_state_count(), *states, "{name}");
    }
}

/// States of a search that is short enough to be done twice by default.
const SHORT: usize = 20_000;

#[test]
fn another_checker_agrees() {
    let long = std::env::var_os("XOL_LONG").is_some();
    let mut skipped = 0;
    for case in shipped() {
        let run = case.run(None);
        let finding = run.check();
        if finding.states() > SHORT && !long {
            skipped += 1;
            continue;
        }
        agrees(run, &finding, &format!("{:?}", case.key()));
    }
    for scenario in THREAD.iter().chain(KERNELS) {
        let run = scenario.run().unwrap();
        agrees(run.clone(), &run.check(), scenario.name);
    }
    if skipped > 0 {
        println!("skipped: {skipped} searches of more than {SHORT} states; XOL_LONG=1 does them too");
    }
}
