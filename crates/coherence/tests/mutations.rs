//! A broken model must fail: each rule of the caches, turned round, changes at least one expected verdict.
//!
//! The expected verdicts are those of the shipped procedures, of each omission of a step, and of the replayed thread. A
//! rule that changes none of them would be a rule that nothing here depends on.

use coherence::cache::{Aliasing, Coherence, Index, Tag};
use coherence::cache::{Completes, Finds, Scope};
use coherence::model::{Finding, Run, Setup, Stage};
use coherence::replay::{KERNELS, THREAD};
use coherence::table::{Case, shipped};
use coherence::{Action, Architecture, Caches, Operation, Part, Runner, Situation, Writer};

/// A rule and how it is turned round; `None` where it is not there to be turned.
struct Mutation {
    rule: &'static str,
    turn: fn(&mut Run) -> bool,
}

fn set<T: PartialEq>(place: &mut T, value: T) -> bool {
    let changes = *place != value;
    *place = value;
    changes
}

fn flip(place: &mut bool) -> bool {
    *place = !*place;
    true
}

/// What is done by operations and by the kernel's care alike.
fn each_operation(run: &mut Run, mut turn: impl FnMut(&mut Operation) -> bool) -> bool {
    let mut changes = false;
    for operation in &mut run.operations {
        changes |= turn(operation);
    }
    if let Some(care) = &mut run.care {
        let mut steps = care.steps.to_vec();
        for operation in &mut steps {
            changes |= turn(operation);
        }
        care.steps = steps.leak();
    }
    changes
}

fn caches(run: &mut Run) -> &mut Caches {
    &mut run.caches
}

const MUTATIONS: &[Mutation] = &[
    Mutation {
        rule: "instruction lines see every store",
        turn: |run| {
            let coherence = &mut caches(run).instruction.coherence;
            *coherence == Coherence::Snooped && set(coherence, Coherence::None)
        },
    },
    Mutation {
        rule: "instruction lines see no store",
        turn: |run| {
            let coherence = &mut caches(run).instruction.coherence;
            *coherence == Coherence::None && set(coherence, Coherence::Snooped)
        },
    },
    Mutation {
        rule: "instruction lines see stores of other CPUs only",
        turn: |run| {
            let coherence = &mut caches(run).instruction.coherence;
            *coherence == Coherence::SnoopedRemotely && set(coherence, Coherence::Snooped)
        },
    },
    Mutation {
        rule: "instruction lines are indexed physically",
        turn: |run| {
            let index = &mut caches(run).instruction.index;
            *index == Index::Physical && set(index, Index::Virtual)
        },
    },
    Mutation {
        rule: "instruction lines are indexed virtually",
        turn: |run| {
            let index = &mut caches(run).instruction.index;
            *index == Index::Virtual && set(index, Index::Physical)
        },
    },
    Mutation {
        rule: "tags have numbers of address spaces",
        turn: |run| {
            let tag = &mut caches(run).instruction.tag;
            *tag == Tag::VirtualWithSpaceNumber && set(tag, Tag::Physical)
        },
    },
    Mutation {
        rule: "tags are physical",
        turn: |run| {
            let tag = &mut caches(run).instruction.tag;
            *tag == Tag::Physical && set(tag, Tag::Virtual)
        },
    },
    Mutation {
        rule: "tags are virtual alone",
        turn: |run| {
            let tag = &mut caches(run).instruction.tag;
            *tag == Tag::Virtual && set(tag, Tag::Physical)
        },
    },
    Mutation {
        rule: "data has aliases or none",
        turn: |run| {
            let aliasing = &mut caches(run).data.aliasing;
            let other = if *aliasing == Aliasing::None { Aliasing::Colours(0x4000) } else { Aliasing::None };
            set(aliasing, other)
        },
    },
    Mutation {
        rule: "fetches need a write-back or none",
        turn: |run| flip(&mut caches(run).data.fetch_needs_write_back),
    },
    Mutation {
        rule: "own stores are not seen ahead",
        turn: |run| flip(&mut caches(run).prefetch.sees_own_stores),
    },
    Mutation {
        rule: "other stores are not seen ahead",
        turn: |run| flip(&mut caches(run).prefetch.sees_other_stores),
    },
    Mutation {
        rule: "switching between spaces synchronises",
        turn: |run| flip(&mut caches(run).context_switch.synchronises_between_spaces),
    },
    Mutation {
        rule: "switching within a space does not synchronise",
        turn: |run| flip(&mut caches(run).context_switch.synchronises_within_space),
    },
    Mutation {
        rule: "a space keeps its number",
        turn: |run| flip(&mut caches(run).context_switch.keeps_space_number),
    },
    Mutation {
        rule: "numbers given out anew find empty caches",
        turn: |run| flip(&mut caches(run).context_switch.number_reuse_flushes),
    },
    Mutation {
        rule: "switching between spaces flushes, or does not",
        turn: |run| flip(&mut caches(run).context_switch.flushes_between_spaces),
    },
    Mutation {
        rule: "a move to another CPU flushes if asked for",
        turn: |run| flip(&mut caches(run).context_switch.flushes_if_prepared),
    },
    Mutation {
        rule: "a move to another CPU completes maintenance",
        turn: |run| flip(&mut caches(run).context_switch.completes_maintenance),
    },
    Mutation {
        rule: "returns from the kernel synchronise, or do not",
        turn: |run| flip(&mut caches(run).kernel_exit.always_synchronises),
    },
    Mutation {
        rule: "returns from interrupts synchronise, or do not",
        turn: |run| flip(&mut caches(run).kernel_exit.interrupts_synchronise),
    },
    Mutation {
        rule: "mapping makes marked pages agree",
        turn: |run| flip(&mut caches(run).mapping.makes_marked_pages_agree),
    },
    Mutation {
        rule: "a TLB flush renews the number",
        turn: |run| flip(&mut caches(run).mapping.tlb_flush_renews_number),
    },
    Mutation {
        rule: "the kernel writes at the program's colour",
        turn: |run| run.care.as_mut().is_some_and(|care| flip(&mut care.at_executing_colour)),
    },
    Mutation {
        rule: "operations are broadcast",
        turn: |run| {
            each_operation(run, |operation| {
                operation.scope == Scope::EveryCpu && set(&mut operation.scope, Scope::ThisCpu)
            })
        },
    },
    Mutation {
        rule: "operations reach this CPU only",
        turn: |run| {
            each_operation(run, |operation| {
                operation.scope == Scope::ThisCpu && set(&mut operation.scope, Scope::EveryCpu)
            })
        },
    },
    Mutation {
        rule: "what a space does not run now is done later",
        turn: |run| {
            each_operation(run, |operation| {
                operation.scope == Scope::EveryCpuOfSpace
                    && set(&mut operation.scope, Scope::CpusRunningSpace)
            })
        },
    },
    Mutation {
        rule: "other CPUs are interrupted",
        turn: |run| {
            each_operation(run, |operation| {
                operation.scope == Scope::OtherCpus && set(&mut operation.scope, Scope::ThisCpu)
            })
        },
    },
    Mutation {
        rule: "maintenance is outstanding until a barrier",
        turn: |run| {
            each_operation(run, |operation| {
                operation.completes == Completes::ByBarrier
                    && set(&mut operation.completes, Completes::AtOnce)
            })
        },
    },
    Mutation {
        rule: "operations find all lines",
        turn: |run| {
            each_operation(run, |operation| {
                operation.finds == Finds::Everything && set(&mut operation.finds, Finds::OwnAddress)
            })
        },
    },
    Mutation {
        rule: "operations find lines of one address",
        turn: |run| {
            each_operation(run, |operation| {
                operation.finds != Finds::Everything && set(&mut operation.finds, Finds::Everything)
            })
        },
    },
];

/// What is expected of a run.
struct Expected {
    name: String,
    run: Run,
    holds: bool,
}

/// x86 alone: a CPU sees its own stores at the address where it executes, without more.
fn own_store() -> Expected {
    let variant = coherence::description(Architecture::X86).variant("snooping").unwrap();
    let store = Stage { by: Runner::Writer, action: Action::Write(Part::All) };
    let run = Run::new(variant, Writer::TargetStore, Situation::FreshCode, vec![store]);
    let setup = Setup { cpus: 1, threads: 1, is_executable: true, ..run.setup };
    Expected { name: "an own store on x86".to_owned(), run: Run { setup, ..run }, holds: true }
}

fn expected() -> Vec<Expected> {
    let mut all = vec![own_store()];
    // The smallest first, so that a change is found soon.
    for scenario in THREAD.iter().chain(KERNELS) {
        let name = format!("{} on {} {}", scenario.name, scenario.architecture, scenario.cache);
        all.push(Expected { name, run: scenario.run().unwrap(), holds: scenario.holds });
    }
    for case in shipped().into_iter().flat_map(Case::on_older_kernels) {
        let name = format!("{} on older kernels", case.description.name);
        all.push(Expected { name, run: case.run(None), holds: false });
    }
    for case in shipped() {
        let key = case.key();
        let name = format!("{} {}, {}, {}", key.isa, key.cache, key.writer, key.situation);
        all.push(Expected { name: name.clone(), run: case.run(None), holds: true });
        for (index, step) in case.way.steps.iter().enumerate() {
            let name = format!("{name} without {}", case.way.step_names()[index]);
            all.push(Expected { name, run: case.run(Some(index)), holds: step.spare.is_some() });
        }
    }
    all
}

/// Searches that are large are given up: they change nothing that smaller ones do not.
fn differs(run: &Run, holds: bool) -> bool {
    match run.check_within(20_000) {
        Finding::Undecided { .. } => false,
        finding => finding.holds() != holds,
    }
}

#[test]
fn each_rule_matters() {
    let expected = expected();
    let mut idle = Vec::new();
    for mutation in MUTATIONS {
        let caught = expected.iter().find(|expected| {
            let mut run = expected.run.clone();
            (mutation.turn)(&mut run) && differs(&run, expected.holds)
        });
        match caught {
            Some(expected) => println!("{}: noticed by {}", mutation.rule, expected.name),
            None => idle.push(mutation.rule),
        }
    }
    assert_eq!(idle, Vec::<&str>::new(), "no expected verdict depends on these rules");
}
