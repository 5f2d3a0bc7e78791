//! A probe at each instruction of a program's modules: the short forms of the cases that are done soon. The others, and the
//! long forms, are `cargo xtask every-instruction`'s.

use tests::every::{Size, all_cases, check};
use tests::{need, skip, which};

fn short(name: &str) {
    if which("valgrind").is_none() {
        skip!("no valgrind on this machine");
    }
    let cases = all_cases();
    let (_, make) = cases.iter().find(|(known, _)| *known == name).expect("a known case");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let case = need!(make(folder.path(), Size::Short));
    let report = check(&case, folder.path()).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(report.failures.is_empty(), "{name}:\n{report}");
    print!("{report}");
}

/// Frames of probed code are unwound, with libgcc's own code probed too.
#[test]
fn exceptions() {
    short("throwing");
}

/// Loops that compilers unrolled, and computed jumps.
#[test]
fn compression() {
    short("gzip");
}
