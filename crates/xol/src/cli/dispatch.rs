//! `main`: which command, and how it ends.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use super::args::{Cli, Command};
use super::failure::Failure;
use super::{coherence, detach, doctor, explain, list, stat, trace, version};
use crate::show::{error, output::Output};

/// Runs the command of this process's arguments.
pub(crate) fn main() -> ExitCode {
    let status = match run(std::env::args_os()) {
        Ok(status) => status,
        Err(failure) => report(&failure),
    };
    ExitCode::from(status)
}

fn run(arguments: impl Iterator<Item = OsString>) -> Result<u8, Failure> {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output, errors to standard error; there is nothing to do if neither takes it.
            let _ = error.print();
            return Ok(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if cli.version {
        let mut output = Output::open(None)?;
        output.line(version::lines().trim_end())?;
        output.flush()?;
        return Ok(0);
    }
    match cli.command {
        Some(command) => execute(&command),
        None => {
            say(&Cli::command().render_help().to_string());
            Ok(2)
        }
    }
}

fn execute(command: &Command) -> Result<u8, Failure> {
    match command {
        Command::Stat(args) => stat::run(args),
        Command::Trace(args) => trace::run(args),
        Command::List(args) => list::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Detach(args) => detach::run(args),
        Command::Coherence(args) => coherence::run(args),
        Command::Lat(_) => Err(later("lat")),
        Command::Tree(_) => Err(later("tree")),
        Command::Run(_) => Err(later("run")),
    }
}

fn later(command: &str) -> Failure {
    Failure::NotAvailable(format!("xol {command}"))
}

/// Says what went wrong and gives the status for it. A closed pipe is no error to speak of.
fn report(failure: &Failure) -> u8 {
    if !matches!(failure, Failure::ClosedPipe) {
        say(&error::render(failure, console::colors_enabled_stderr()));
    }
    failure.status()
}

/// Unlike `eprintln`, does not panic where standard error is closed.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
