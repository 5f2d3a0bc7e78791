//! `xol detach`: remove what a killed xol left.

use target::engine::Left;
use target::{TargetError, recover};

use super::args::DetachArgs;
use super::failure::Failure;
use crate::show::number::counted;
use crate::show::output::Notes;

pub(crate) fn run(args: &DetachArgs) -> Result<u8, Failure> {
    let number = i32::try_from(args.pid).unwrap_or(i32::MAX);
    let areas = recover::find(number)?;
    // Its probes are somebody's session, not a leftover.
    if let Some((_, area)) = areas.iter().find(|(_, area)| recover::is_owner_alive(area)) {
        return Err(TargetError::AlreadyTraced { pid: number, tracer: area.owner }.into());
    }
    let mut notes = Notes::new(args.quiet);
    if areas.is_empty() {
        notes.note(&format!("process {} holds nothing of xol's", args.pid));
        return Ok(0);
    }
    let (_, left) = recover::recover(number)?;
    for line in report(&left) {
        notes.note(&line);
    }
    if left.verified { Ok(0) } else { Err(Failure::NotRestored) }
}

/// What was done, and what remains.
fn report(left: &Left) -> Vec<String> {
    let count = |number: usize, noun| counted(number as u64, noun);
    let mut lines = vec![format!("{} restored", count(left.restored, "patch"))];
    lines.extend(
        left.changed.iter().map(|at| format!("left alone: the bytes at {at} were changed by the program")),
    );
    if left.unmapped > 0 {
        lines.push(format!("{} in files that are no longer mapped", count(left.unmapped, "patch")));
    }
    if left.left_mapped > 0 {
        lines.push(format!(
            "{} left behind, since something may still reach them",
            count(left.left_mapped, "mapping")
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use insn::Address;

    #[test]
    fn what_was_done_and_what_remains() {
        let left = Left { restored: 3, changed: vec![Address(0x10)], left_mapped: 1, ..Left::default() };
        assert_eq!(
            report(&left),
            [
                "3 patches restored",
                "left alone: the bytes at 0x10 were changed by the program",
                "1 mapping left behind, since something may still reach them",
            ]
        );
    }
}
