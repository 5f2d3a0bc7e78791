//! `cargo xtask every-instruction [PROGRAM...]`: every instruction of each program's modules probed, and compared.

use std::process::ExitCode;

use tests::every::{Size, all_cases, check};

fn main() -> ExitCode {
    let mut size = Size::Long;
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    wanted.retain(|argument| {
        let is_short = argument == "--short";
        if is_short {
            size = Size::Short;
        }
        !is_short
    });
    let cases = all_cases();
    let known: Vec<&str> = cases.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(&name.as_str())) {
        eprintln!("no program `{unknown}`; there are: {}", known.join(", "));
        return ExitCode::from(2);
    }
    let chosen = cases.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|want| want == name));
    let mut failed = Vec::new();
    for (name, make) in chosen {
        let Ok(folder) = tempfile::tempdir() else { return ExitCode::FAILURE };
        println!("{name}");
        let report = match make(folder.path(), size) {
            Ok(case) => check(&case, folder.path()),
            Err(reason) => {
                println!("  skipped: {reason}");
                // Who names a program wants it.
                if !wanted.is_empty() {
                    failed.push(*name);
                }
                continue;
            }
        };
        match report {
            Ok(report) => {
                print!("{report}");
                if !report.failures.is_empty() {
                    failed.push(*name);
                }
            }
            Err(error) => {
                println!("  FAILED: {error}");
                failed.push(*name);
            }
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {}", failed.join(", "));
    ExitCode::FAILURE
}
