//! Tasks that still have their memory. When the first thread of a process ends before the others, the process's folder in
//! /proc shows none of it any more: no mappings, no file that it executes, no root directory. Those of the others do.

use std::fs;

use crate::seam::Tid;

/// Whether a task has memory: the first number of its `statm` is the size of that, in pages (`proc_pid_statm`(5)), which the
/// kernel shows to everybody. Where that cannot be read (no descriptor is left, say) it has not been seen to end.
pub(super) fn has_memory(tid: i32) -> bool {
    match fs::read_to_string(format!("/proc/{tid}/statm")) {
        Ok(text) => text.split_whitespace().next().is_some_and(|size| size != "0"),
        Err(error) => !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)),
    }
}

/// The number under which /proc shows the memory of a process: its own, or that of a thread where the first one has ended.
#[must_use]
pub fn shown_by(pid: i32) -> i32 {
    if has_memory(pid) {
        return pid;
    }
    threads(pid).map(|tid| tid.0).find(|tid| has_memory(*tid)).unwrap_or(pid)
}

/// Whether anything of a process lives: one whose first thread has ended may.
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    has_memory(shown_by(pid))
}

/// The threads of a process, as /proc lists them.
pub(super) fn threads(pid: i32) -> impl Iterator<Item = Tid> {
    numbers(&format!("/proc/{pid}/task")).map(Tid)
}

/// The names in a folder that are numbers.
pub(super) fn numbers(folder: &str) -> impl Iterator<Item = i32> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_shows_its_memory_itself() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(is_alive(own));
        assert_eq!(shown_by(own), own);
        assert!(threads(own).any(|tid| tid.0 == own));
    }

    #[test]
    fn nobody_shows_the_memory_of_a_process_that_is_not_there() {
        assert!(!is_alive(1 << 22));
        assert_eq!(shown_by(1 << 22), 1 << 22);
    }
}
