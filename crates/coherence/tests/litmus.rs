//! arm64: the model says what the architecture's own instruction-fetch model says.
//!
//! `arm64_litmus.tsv` holds the verdicts of herd7 with the model for instruction fetch, for every subset of `dc cvau`,
//! `dsb`, `ic ivau`, `dsb` by the writer, with and without `isb` by the executor, in two threads and in one, and one wrong
//! order. *Sometimes* means that some execution executes the old instruction after the program has seen that the new one
//! is ready; *Never* that none does.

use coherence::model::{Finding, Promise, Run, Setup, Stage};
use coherence::{Action, Architecture, Means, Part, Runner, Situation, Writer};

const VERDICTS: &str = include_str!("arm64_litmus.tsv");

fn means(step: &str) -> Means {
    Means::Instruction(match step {
        "dc" => "dc cvau",
        "ic" => "ic ivau",
        "dsb" | "dsb1" | "dsb2" => "dsb ish",
        "isb" => "isb",
        other => panic!("no such step: {other}"),
    })
}

/// Thread A stores and maintains; in two threads the `isb` is each executor's own, behind the publication. Nobody goes
/// through the kernel.
fn run(threads: &str, steps: &str) -> Run {
    let variant = coherence::description(Architecture::Arm64).variant("pipt").unwrap();
    let store = Stage { by: Runner::Writer, action: Action::Write(Part::All) };
    let maintain = |step: &str| {
        let by = if threads == "two" && step == "isb" { Runner::EveryThread } else { Runner::Writer };
        Stage { by, action: Action::Perform(means(step)) }
    };
    let steps = steps.split(',').filter(|step| !step.is_empty()).map(maintain);
    let stages = std::iter::once(store).chain(steps).collect();
    let run = Run::new(variant, Writer::TargetStore, Situation::FreshCode, stages);
    let setup = Setup { is_executable: true, may_fork: false, ..run.setup };
    Run { setup: Setup { threads: if threads == "two" { 2 } else { 1 }, ..setup }, ..run }
}

#[test]
fn verdicts_are_the_architectures() {
    let rows: Vec<(&str, &str)> = VERDICTS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once('\t').unwrap())
        .collect();
    assert_eq!(rows.len(), 65);
    for (shape, verdict) in rows {
        let (threads, steps) = shape.split_once(':').unwrap();
        let finding = run(threads, steps).check();
        let found = match &finding {
            Finding::Holds { .. } => "Never",
            Finding::Broken { promise: Promise::NewAfter | Promise::Whole, .. } => "Sometimes",
            other => panic!("{shape}: {other:?}"),
        };
        assert_eq!(found, verdict, "{shape}: {finding:#?}");
    }
}
