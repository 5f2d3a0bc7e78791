//! The kernel's uprobe by a perf event: a counting one, or one whose samples go to a ring in memory that nobody writes out.

use std::fs;

use super::probe::{Armed, Function, Kind, Probe, Setting};
use crate::error::Error;
use crate::responder::Responder;
use crate::uprobe::Uprobe;

struct Kernel {
    uprobe: Uprobe,
    target: Responder,
    kind: Kind,
    samples: u64,
}

/// Arms it for a process of its own.
pub(super) fn arm(setting: &Setting, function: Function, kind: Kind) -> Result<Armed, Error> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut target = Responder::start(&setting.program, &[])?;
    let address = target.address_of(function.name())?;
    let arm = match kind {
        Kind::Count => Uprobe::arm,
        Kind::Event => Uprobe::arm_with_samples,
    };
    let uprobe = arm(&setting.program, target.pid(), address).map_err(Error::Missing)?;
    let version = release.trim().to_owned();
    Ok(Armed { version, probe: Box::new(Kernel { uprobe, target, kind, samples: 0 }) })
}

impl Probe for Kernel {
    fn target(&mut self) -> &mut Responder {
        &mut self.target
    }

    fn settle(&mut self, _: u64) -> Result<(), Error> {
        self.samples += self.uprobe.take_samples();
        Ok(())
    }

    fn finish(mut self: Box<Self>, _: u64) -> Result<u64, Error> {
        match self.kind {
            Kind::Count => self.uprobe.hits().map_err(Error::Missing),
            Kind::Event => Ok(self.samples),
        }
    }
}
