//! May we trace this process, and if not, what would permit it?

use std::fs;
use std::io;

use super::{open_rw, shown_by};
use crate::error::TargetError;
use crate::seam::Tid;
use crate::sys::process;

/// Opens the memory of a process: the first thing that fails when it may not be traced.
pub(super) fn open_memory(pid: i32) -> Result<fs::File, TargetError> {
    open_rw(pid).map_err(|error| explain(pid, &error))
}

/// Turns the kernel's answer, when a process could not be looked at or traced, into one that says what would permit it.
#[must_use]
pub fn explain(pid: i32, error: &io::Error) -> TargetError {
    explain_task(pid, Tid(pid), error)
}

/// What keeps us from tracing a task of a process. `None` for one that is gone, or ours already: its maker was, and the event
/// of that is on the way.
pub(super) fn refusal(pid: i32, tid: Tid, error: &io::Error) -> Option<TargetError> {
    match explain_task(pid, tid, error) {
        TargetError::AlreadyTraced { tracer, .. } if tracer == process::own_pid() => None,
        TargetError::NoSuchProcess { .. } => None,
        other => Some(other),
    }
}

/// Each task has a tracer, and rights, of its own.
fn explain_task(pid: i32, tid: Tid, error: &io::Error) -> TargetError {
    // Anything else has nothing to do with permission: no descriptor may be left, say.
    if !matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOENT | libc::ESRCH)) {
        let what = format!("looking at process {pid}");
        return TargetError::System { what, source: error.raw_os_error().unwrap_or(libc::EIO).into() };
    }
    // Where the first thread has ended, another speaks for the process.
    let speaker = if tid.0 == pid { shown_by(pid) } else { tid.0 };
    let Ok(status) = fs::read_to_string(format!("/proc/{speaker}/status")) else {
        return TargetError::NoSuchProcess { pid };
    };
    // A process without memory, or a thread that was there before: it is just ending.
    if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) {
        return TargetError::NoSuchProcess { pid };
    }
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next())
    };
    if field("State:").is_some_and(|state| matches!(state, "Z" | "X")) {
        return TargetError::NoSuchProcess { pid };
    }
    if let Some(tracer) = field("TracerPid:").and_then(|value| value.parse().ok()).filter(|&pid| pid != 0) {
        return TargetError::AlreadyTraced { pid, tracer };
    }
    let own = fs::metadata("/proc/self").map(|meta| std::os::unix::fs::MetadataExt::uid(&meta)).unwrap_or(0);
    let yama = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    TargetError::NotPermitted { pid, why: why(field("Uid:"), own, yama.trim(), error) }
}

/// What stands in the way of user `own`, and what would take it away.
fn why(uid: Option<&str>, own: u32, yama: &str, error: &io::Error) -> String {
    if let Some(uid) = uid.filter(|uid| *uid != own.to_string()) {
        return format!(
            "it belongs to user {uid} and you are user {own}; run xol as that user, or with CAP_SYS_PTRACE"
        );
    }
    match yama {
        "1" => "Yama allows tracing only one's own descendants: start the program with `-- CMD`, \
                or set kernel.yama.ptrace_scope to 0, or give xol CAP_SYS_PTRACE"
            .to_owned(),
        "2" => "Yama demands CAP_SYS_PTRACE (kernel.yama.ptrace_scope is 2)".to_owned(),
        "3" => "Yama forbids tracing until the next boot (kernel.yama.ptrace_scope is 3)".to_owned(),
        _ => format!(
            "{error}; the process is probably not dumpable (it changed its user, or has capabilities that you \
             lack): CAP_SYS_PTRACE would permit it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_permit_it() {
        let denied = io::Error::from_raw_os_error(libc::EACCES);
        let text = |uid, yama| why(Some(uid), 1000, yama, &denied);
        assert!(text("0", "1").contains("user 0 and you are user 1000"), "the user stands first in the way");
        assert!(text("1000", "1").contains("`-- CMD`") && text("1000", "1").contains("CAP_SYS_PTRACE"));
        assert!(text("1000", "2").contains("demands CAP_SYS_PTRACE"));
        assert!(text("1000", "3").contains("next boot"));
        for yama in ["0", ""] {
            assert!(text("1000", yama).contains("not dumpable"), "no Yama, or one that allows it");
        }
    }

    #[test]
    fn a_process_that_is_gone() {
        let gone = |pid| {
            let error = explain(pid, &io::Error::from_raw_os_error(libc::ESRCH));
            assert_eq!(error, TargetError::NoSuchProcess { pid });
        };
        gone(1 << 22);
        gone(i32::try_from(std::process::id()).unwrap());
    }
}
