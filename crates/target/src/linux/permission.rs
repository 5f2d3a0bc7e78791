//! May we trace this process, and if not, what would permit it?

use std::fs;
use std::io;

use super::open_rw;
use crate::error::TargetError;

/// Opens the memory of a process: the first thing that fails when it may not be traced.
pub(super) fn open_memory(pid: i32) -> Result<fs::File, TargetError> {
    open_rw(pid).map_err(|error| explain(pid, &error))
}

/// Turns the kernel's answer into one that says what would permit it.
pub(super) fn explain(pid: i32, error: &io::Error) -> TargetError {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return TargetError::NoSuchProcess { pid };
    };
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
    TargetError::NotPermitted { pid, why: why(field("Uid:"), error) }
}

fn why(uid: Option<&str>, error: &io::Error) -> String {
    let own = fs::metadata("/proc/self").map(|meta| std::os::unix::fs::MetadataExt::uid(&meta)).unwrap_or(0);
    if let Some(uid) = uid.filter(|uid| *uid != own.to_string()) {
        return format!(
            "it belongs to user {uid} and you are user {own}; run xol as that user, or with CAP_SYS_PTRACE"
        );
    }
    let yama = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    match yama.trim() {
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
