//! `xol doctor`: what this machine allows, and what is left over in a process.

use target::linux::permission;
use xol::doctor::{self, Facts};

use super::args::DoctorArgs;
use super::failure::Failure;
use crate::show::json::Line;
use crate::show::output::Output;

/// Prints the findings. Status 0: an answer was given, whatever it is.
pub(crate) fn run(args: &DoctorArgs) -> Result<u8, Failure> {
    let mut output = Output::open(args.output.output.as_deref())?;
    let facts = Facts::gather(args.pid).map_err(|(path, source)| match args.pid {
        Some(pid) => permission::explain(pid.cast_signed(), &source).into(),
        None => Failure::Read { path, source },
    })?;
    let findings = doctor::examine(&facts);
    if args.output.json {
        for finding in &findings {
            let line = Line::Doctor {
                check: finding.check,
                ok: finding.ok,
                detail: &finding.detail,
                fix: finding.fix.as_deref(),
            };
            output.json(&line)?;
        }
    } else {
        output.lines(&crate::show::doctor::lines(&findings, output.colours()))?;
        output.line(&doctor::verdict(&facts))?;
    }
    output.flush()?;
    Ok(0)
}
