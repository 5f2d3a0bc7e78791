//! What the tools are compared with: xol, and the stub written by hand.

use std::path::PathBuf;

use super::probe::{Armed, Function, Kind, Probe, Setting};
use crate::error::Error;
use crate::responder::Responder;
use crate::session::Session;

struct ByHand {
    target: Responder,
    function: &'static str,
}

struct Ours {
    target: Responder,
    session: Session,
    kind: Kind,
}

/// The stub that counts.
pub(super) fn by_hand(setting: &Setting, function: Function, _: Kind) -> Result<Armed, Error> {
    let target = Responder::start(&setting.program, &[])?;
    let function = match function {
        Function::Lea => "lea_stub",
        Function::Nop5 => "nop5_stub",
    };
    Ok(Armed { version: String::new(), probe: Box::new(ByHand { target, function }) })
}

impl Probe for ByHand {
    fn target(&mut self) -> &mut Responder {
        &mut self.target
    }

    fn function(&self) -> Option<&'static str> {
        Some(self.function)
    }

    fn finish(mut self: Box<Self>, _: u64) -> Result<u64, Error> {
        let [hits] = self.target.ask_numbers(&format!("hits {}", self.function))?;
        Ok(hits)
    }
}

/// `xol stat` or `xol trace`.
pub(super) fn xol(setting: &Setting, function: Function, kind: Kind) -> Result<Armed, Error> {
    let mut target = Responder::start(&setting.program, &[])?;
    let request = format!("code {}", function.name());
    let pristine = target.ask(&request)?;
    let probe = format!("{}:{}", setting.program.display(), function.name());
    let command = match kind {
        Kind::Count => "stat",
        Kind::Event => "trace",
    };
    let results: PathBuf = setting.workshop.path(&format!("peers-{}-{command}.jsonl", function.name()));
    let mut session = setting.xol.start(command, &[probe], target.pid(), &results)?;
    session.armed(|| Ok(target.ask(&request)? != pristine))?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(Armed { version, probe: Box::new(Ours { target, session, kind }) })
}

impl Probe for Ours {
    fn target(&mut self) -> &mut Responder {
        &mut self.target
    }

    fn settle(&mut self, hits: u64) -> Result<(), Error> {
        match self.kind {
            Kind::Count => Ok(()),
            Kind::Event => self.session.told(hits),
        }
    }

    fn finish(self: Box<Self>, _: u64) -> Result<u64, Error> {
        let (report, _) = self.session.finish()?;
        Ok(match self.kind {
            Kind::Count => report.summary.hits,
            Kind::Event => report.hit_lines,
        })
    }
}
