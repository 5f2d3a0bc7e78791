//! uftrace: starts the program with a library of its own and replaces the 5-byte nop at a function's entry by a call. It
//! records entry and return, both with the time.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::probe::{Armed, Function, Kind, LIMIT, Probe, Setting, version};
use crate::error::Error;
use crate::responder::Responder;
use crate::run;

struct Uftrace {
    target: Responder,
    function: Function,
    data: PathBuf,
}

/// Starts a program under `uftrace record`.
pub(super) fn arm(setting: &Setting, function: Function, _: Kind) -> Result<Armed, Error> {
    let version = version(&run::output(Command::new("uftrace").arg("--version"), LIMIT)?);
    let data = setting.workshop.path("uftrace.data");
    let target = Responder::spawn(
        Command::new("uftrace")
            .args(["record", "--no-libcall", "--no-event", "--no-pager"])
            // Functions of any size.
            .args(["-Z", "1", "-P", &format!("^{}$", function.name()), "-d"])
            .args([&data, &setting.program])
            .stderr(Stdio::null()),
    )?;
    Ok(Armed { version, probe: Box::new(Uftrace { target, function, data }) })
}

impl Probe for Uftrace {
    fn target(&mut self) -> &mut Responder {
        &mut self.target
    }

    fn finish(self: Box<Self>, _: u64) -> Result<u64, Error> {
        let Self { target, function, data } = *self;
        target.close()?;
        let report =
            run::output(Command::new("uftrace").args(["report", "--no-pager", "-d"]).arg(&data), LIMIT)?;
        calls(&report, function.name())
            .ok_or(Error::Missing(format!("uftrace recorded nothing of {}", function.name())))
    }
}

/// The column `Calls` of a function: `  12.3 us    4.5 us     20  nop5`.
fn calls(report: &str, function: &str) -> Option<u64> {
    report.lines().find_map(|line| {
        let mut words = line.split_whitespace().rev();
        if words.next()? == function { words.next()?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::calls;

    #[test]
    fn the_report_says_how_often() {
        let report = "  Total time   Self time       Calls  Function\n  ==========  ==========\n   \
                      29.866 ms   20.653 ms      240000  nop5\n    9.213 ms    9.213 ms           3  other\n";
        assert_eq!(calls(report, "nop5"), Some(240_000));
        assert_eq!(calls(report, "lea"), None);
        assert_eq!(calls("", "nop5"), None);
    }
}
