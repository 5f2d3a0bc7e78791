//! A bounded run, from a fixed seed, and what the comparison itself must see.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use differential::fuzz::{Error, Options, Report, fuzz};

/// Cases of an ordinary run: some seconds.
const EXECUTIONS: u64 = 150_000;
const SEED: u64 = 1;

fn run(executions: u64) -> Option<Report> {
    println!("seed {SEED}");
    match fuzz(Options { executions, seed: SEED, jobs: 1, patience: 20 }) {
        Ok(report) => Some(report),
        Err(Error::Unsupported) => {
            println!("skipped: {}", Error::Unsupported);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Nothing differs, and every code of iced's is reached: run, refused, or left out by name.
#[test]
fn displaced_instructions_do_what_they_did() {
    let Some(report) = run(EXECUTIONS) else { return };
    println!("{report}");
    assert!(report.findings.is_empty(), "{report}");
    let left_out: Vec<_> = differential::case::LEFT_OUT.iter().map(|(mnemonic, _)| *mnemonic).collect();
    let missed = report.missed();
    let unexplained: Vec<_> = missed
        .iter()
        .filter(|code| !left_out.contains(&code.mnemonic()))
        .map(|code| format!("{code:?}"))
        .collect();
    // The decoder reads its bytes as the form with 32-bit addresses.
    assert_eq!(unexplained, ["Montmul_64"]);
    assert!(report.outcomes[&0] > report.executions / 3, "most go on: {:?}", report.outcomes);
}

/// Batches are made from the seed alone.
#[test]
fn equal_seeds_make_equal_cases() {
    let (Some(one), Some(other)) = (run(20_000), run(20_000)) else { return };
    assert_eq!(one.outcomes, other.outcomes);
}
