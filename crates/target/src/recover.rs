//! Taking out what a killed xol left in a process: by `xol detach`, and by the front when its holder dies.

use coherence::Architecture;
use insn::Address;

use crate::area::{self, Description};
use crate::engine::{Engine, Left};
use crate::error::TargetError;
use crate::linux::{self, Process, Tracer};
use crate::sys::{poll, process};

/// How often it is tried to stop a process whose threads get no processor: there is nobody else who would.
const ATTEMPTS: usize = 20;

/// Seizes the process, restores its text by the area's description of itself, unmaps the area and lets go.
/// Gives the number of patches found, and what was left.
///
/// # Errors
/// Not permitted, traced by another, or it did not stop.
pub fn recover(pid: i32) -> Result<(usize, Left), TargetError> {
    poll::block_child_signal();
    let target = Process::attach(&Tracer::new(), pid)?;
    let mut engine = Engine::new(target, coherence::description(Architecture::X86), process::identity());
    let found = engine.adopt_leftovers()?;
    for _ in 1..ATTEMPTS {
        match engine.leave() {
            Err(TargetError::DidNotStop { .. }) => {}
            left => return left.map(|left| (found, left)),
        }
    }
    engine.leave().map(|left| (found, left))
}

/// The processes with an area that a dead tracer made: children that it had no time to tell of are among them.
#[must_use]
pub fn left_by(owner: i32) -> Vec<i32> {
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    let pids = names.filter_map(|name| name.to_str()?.parse().ok());
    let is_left = |pid: &i32| {
        find(*pid)
            .is_ok_and(|areas| areas.iter().any(|(_, area)| area.owner == owner && !is_owner_alive(area)))
    };
    pids.filter(is_left).collect()
}

/// The areas that a xol left (or has) in a process: where their descriptions are, and what they say.
///
/// # Errors
/// No such process, or not permitted.
pub fn find(pid: i32) -> Result<Vec<(Address, Description)>, TargetError> {
    linux::peek(pid, area::find)
}

/// Whether the process that a description names as its owner still lives.
#[must_use]
pub fn is_owner_alive(description: &Description) -> bool {
    process::start_time(description.owner) == Some(description.owner_start)
}
