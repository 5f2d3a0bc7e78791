//! Chores of the repository, each a thin wrapper around one command: `cargo xtask ci|bless|bench|storm|differential|every-instruction`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: cargo xtask COMMAND [ARGUMENT...]

  ci       what continuous integration runs: scripts/test
  bless    write the golden files anew, then show what changed
  bench    the cost of a hit, and 10,000 sites at once (arguments go to the benchmark)
  storm    the long form of the tests: thousands of attach and detach cycles (arguments go to the test runner)
  differential
           random instructions run in place and displaced (--executions N --seed N --jobs N)
  every-instruction
           a probe at each instruction of a program's modules, compared with plain runs ([--short] [PROGRAM...])
";

/// A chore: what to run, and what it needs in its environment.
#[derive(Debug, PartialEq, Eq)]
struct Chore {
    program: String,
    arguments: Vec<String>,
    environment: Vec<(&'static str, &'static str)>,
}

impl Chore {
    fn new(program: &str, arguments: &[&str]) -> Self {
        Self {
            program: program.to_owned(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            environment: Vec::new(),
        }
    }

    fn with(mut self, rest: &[String]) -> Self {
        self.arguments.extend_from_slice(rest);
        self
    }

    fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    fn run(&self, root: &Path) -> Result<(), String> {
        let status = Command::new(&self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().copied())
            .current_dir(root)
            .status()
            .map_err(|error| format!("cannot run {}: {error}", self.program))?;
        if status.success() { Ok(()) } else { Err(format!("{} failed: {status}", self.program)) }
    }
}

/// The chores behind a command, in order; none if there is no such command.
fn chores(command: &str, rest: &[String], cargo: &str) -> Option<Vec<Chore>> {
    Some(match command {
        "ci" => vec![Chore::new("scripts/test", &[]).with(rest)],
        "bless" => vec![
            Chore::new(cargo, &["test", "--workspace", "--exclude", "tests", "--no-fail-fast"])
                .with(rest)
                .env("BLESS", "1"),
            Chore::new("git", &["status", "--short"]),
        ],
        "bench" => vec![Chore::new(cargo, &["run", "--release", "-p", "xol-bench", "--"]).with(rest)],
        "storm" => vec![
            Chore::new(cargo, &["build", "-p", "xol"]),
            Chore::new(cargo, &["test", "-p", "tests"]).with(rest).env("XOL_LONG", "1"),
        ],
        "differential" => {
            vec![Chore::new(cargo, &["run", "--release", "-p", "differential", "--"]).with(rest)]
        }
        "every-instruction" => vec![
            Chore::new(cargo, &["build", "--release", "-p", "xol"]),
            Chore::new(cargo, &["run", "--release", "-p", "tests", "--bin", "every-instruction", "--"])
                .with(rest),
        ],
        _ => return None,
    })
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let Some(chores) = arguments.split_first().and_then(|(command, rest)| chores(command, rest, &cargo))
    else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    let root = root();
    match chores.iter().try_for_each(|chore| chore.run(&root)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The repository: where this package's folder lies.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::{USAGE, chores, root};

    #[test]
    fn every_command_of_the_usage_has_chores() {
        let commands: Vec<&str> = USAGE
            .lines()
            .filter_map(|line| line.strip_prefix("  "))
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(commands, ["ci", "bless", "bench", "storm", "differential", "every-instruction"]);
        for command in commands {
            assert!(chores(command, &[], "cargo").is_some_and(|chores| !chores.is_empty()), "{command}");
        }
        assert_eq!(chores("no-such-chore", &[], "cargo"), None);
    }

    #[test]
    fn further_arguments_are_passed_on() {
        let rest = ["--rounds".to_owned(), "9".to_owned()];
        let bench = chores("bench", &rest, "cargo").unwrap();
        assert_eq!(bench[0].arguments, ["run", "--release", "-p", "xol-bench", "--", "--rounds", "9"]);
    }

    #[test]
    fn the_root_is_the_workspace() {
        assert!(root().join("scripts/test").is_file());
        assert!(root().join(".ci/run").is_file());
    }
}
