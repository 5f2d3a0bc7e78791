//! The kernel's uprobe with a counting perf event.

use std::fs;
use std::path::Path;

use super::probe::{Armed, Function, Kind, Probe, Setting};
use crate::error::Error;
use crate::responder::Responder;
use crate::uprobe::Uprobe;

struct Kernel {
    uprobe: Uprobe,
    target: Responder,
}

/// Arms it for a process of its own.
pub(super) fn arm(setting: &Setting, function: Function, _: Kind) -> Result<Armed, Error> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut target = Responder::start(&setting.program, &[])?;
    let address = function.address(&mut target)?;
    let uprobe = arm_in(&setting.program, target.pid(), address)?;
    Ok(Armed { version: release.trim().to_owned(), probe: Box::new(Kernel { uprobe, target }) })
}

fn arm_in(program: &Path, pid: u32, address: u64) -> Result<Uprobe, Error> {
    Uprobe::arm(program, pid, address).map_err(Error::Missing)
}

impl Probe for Kernel {
    fn target(&mut self) -> &mut Responder {
        &mut self.target
    }

    fn finish(mut self: Box<Self>, _: u64) -> Result<u64, Error> {
        self.uprobe.hits().map_err(Error::Missing)
    }
}
