//! What the procedures ask for in their "given", and what happens without it.

use coherence::model::{Run, Setup};
use coherence::table::{Case, shipped};
use coherence::{Situation, Writer};

fn fresh(writer: Writer) -> impl Iterator<Item = Case> {
    shipped().into_iter().filter(move |case| case.writer == writer && case.situation == Situation::FreshCode)
}

fn with(case: &Case, change: impl Fn(Setup) -> Setup) -> bool {
    let run = case.run(None);
    let setup = change(run.setup);
    Run { setup, ..run }.check().holds()
}

/// A child that shares the page is another address space: what is done for one does not reach the other.
#[test]
fn a_child_may_not_share_a_page_written_through_another_mapping() {
    let mut broken: Vec<String> = fresh(Writer::StoreThroughAlias)
        .filter(|case| !with(case, |setup| Setup { has_child: true, ..setup }))
        .map(|case| {
            let key = case.key();
            format!("{} {} ({})", key.isa, key.cache, key.requires)
        })
        .collect();
    broken.sort();
    println!("{broken:#?}");
    for isa in ["alpha smp", "riscv incoherent", "x86 snooping (membarrier"] {
        assert!(broken.iter().any(|name| name.starts_with(isa)), "{isa} is not among {broken:?}");
    }
}

/// One thread is as much in danger as two: it migrates.
#[test]
fn one_thread_is_no_excuse() {
    for case in shipped() {
        assert!(with(&case, |setup| Setup { threads: 1, ..setup }), "{:?}", case.key());
    }
    for case in shipped().into_iter().flat_map(Case::on_older_kernels) {
        assert!(!with(&case, |setup| Setup { threads: 1, ..setup }), "{:?}", case.key());
    }
}

/// On one CPU most of it is needed all the same.
#[test]
fn procedures_hold_on_one_cpu() {
    for case in shipped() {
        assert!(with(&case, |setup| Setup { cpus: 1, ..setup }), "{:?}", case.key());
    }
}
