//! `differential [--executions N] [--seed N] [--jobs N]`: random instructions in place and displaced.

use std::process::ExitCode;

const USAGE: &str = "usage: differential [--executions N] [--seed N] [--jobs N]";

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn main() -> ExitCode {
    let mut options = differential::fuzz::Options { executions: 10_000_000, seed: 1, jobs: 1, patience: 20 };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|value| value.replace('_', "").parse::<u64>().ok());
        match (name.as_str(), value) {
            ("--executions", Some(value)) => options.executions = value,
            ("--seed", Some(value)) => options.seed = value,
            ("--jobs", Some(value)) => options.jobs = value,
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    println!("seed {}", options.seed);
    match differential::fuzz::fuzz(options) {
        Ok(report) => {
            print!("{report}");
            if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("differential: {error}");
            ExitCode::from(2)
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn main() -> ExitCode {
    eprintln!("{USAGE}\ndifferential: it executes x86-64 code, on Linux");
    ExitCode::from(2)
}
