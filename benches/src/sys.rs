//! The system calls without a safe wrapper in the standard library.
//!
//! # Safety
//!
//! `kill` takes integers only; the process id is that of a child of ours that was not waited for yet, so it cannot
//! have been given to another process. `perf_event_open` reads the attribute structure and, through the address in
//! it, a path that ends in NUL; both are borrowed for the time of the call and not kept by the kernel. The descriptor
//! that it returns belongs to nobody else and is owned from there on.
#![allow(unsafe_code, reason = "system calls; see the module's Safety chapter")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::process::Child;

/// `struct perf_event_attr` of include/uapi/linux/perf_event.h up to `PERF_ATTR_SIZE_VER1`, which has all that the
/// uprobe PMU reads: the kernel takes any published size and reads what is missing as 0.
#[repr(C)]
#[derive(Debug, Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup: u32,
    bp_type: u32,
    /// `uprobe_path`: address of a path.
    config1: u64,
    /// `probe_offset`: offset in that file.
    config2: u64,
}

const _: () = assert!(size_of::<PerfEventAttr>() == 72, "PERF_ATTR_SIZE_VER1");

/// `PERF_FLAG_FD_CLOEXEC`.
const CLOEXEC: libc::c_ulong = 1 << 3;

/// Opens a counting event on the kernel's uprobe at `offset` of the file `path`, for the thread `tid` only.
pub(crate) fn open_uprobe(pmu: u32, path: &CStr, offset: u64, tid: u32) -> io::Result<OwnedFd> {
    let attr = PerfEventAttr {
        kind: pmu,
        size: u32::try_from(size_of::<PerfEventAttr>()).map_err(io::Error::other)?,
        config1: path.as_ptr().expose_provenance() as u64,
        config2: offset,
        ..PerfEventAttr::default()
    };
    let tid = libc::pid_t::try_from(tid).map_err(io::Error::other)?;
    let (any_cpu, no_group): (libc::c_int, libc::c_int) = (-1, -1);
    // SAFETY: `attr` and `path` live until the call returns; the other arguments are integers.
    let result =
        unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attr, tid, any_cpu, no_group, CLOEXEC) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = RawFd::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Whether we may do anything.
pub(crate) fn is_root() -> bool {
    // SAFETY: no arguments, no effect.
    unsafe { libc::geteuid() == 0 }
}

/// Sends SIGINT to a child that was not waited for.
pub(crate) fn interrupt(child: &Child) -> io::Result<()> {
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    // SAFETY: integers only; the child is ours and not reaped, so the id is still its own.
    match unsafe { libc::kill(pid, libc::SIGINT) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
