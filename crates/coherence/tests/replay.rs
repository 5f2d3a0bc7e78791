//! The thread's arguments, and what kernels do since: each comes out as expected.

use coherence::replay::{KERNELS, Scenario, THREAD};

fn surprises(scenarios: &[Scenario]) -> Vec<String> {
    let check = |scenario: &Scenario| {
        let finding = scenario.check().expect("there are such caches");
        let name = format!("{}, {} {}", scenario.name, scenario.architecture, scenario.cache);
        (finding.holds() != scenario.holds).then(|| format!("{name}: {finding:#?}"))
    };
    scenarios.iter().filter_map(check).collect()
}

#[test]
fn the_thread_is_confirmed() {
    assert_eq!(surprises(THREAD), Vec::<String>::new());
}

#[test]
fn kernels_are_as_their_code_reads() {
    assert_eq!(surprises(KERNELS), Vec::<String>::new());
}
