//! The system calls without a safe wrapper in the standard library.
//!
//! # Safety
//!
//! `kill` takes integers only; the process id is that of a child of ours that was not waited for yet, so it cannot
//! have been given to another process. `perf_event_open` reads the attribute structure and, through the address in
//! it, a path that ends in NUL; both are borrowed for the time of the call and not kept by the kernel. The descriptor
//! that it returns belongs to nobody else and is owned from there on. A [`Ring`] owns its mapping, which is shared with the
//! kernel alone; of it only the two positions are touched, as atomics, and they lie in its first page.
#![allow(unsafe_code, reason = "system calls; see the module's Safety chapter")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::Child;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// `struct perf_event_attr` of include/uapi/linux/perf_event.h up to `PERF_ATTR_SIZE_VER3`, which has all that is used
/// here: the kernel takes any published size and reads what is missing as 0.
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
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    clockid: i32,
}

const _: () = assert!(size_of::<PerfEventAttr>() == 96, "PERF_ATTR_SIZE_VER3");

/// `PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_REGS_USER`.
const SAMPLE: u64 = 1 << 1 | 1 << 2 | 1 << 12;
/// The registers of six arguments: cx, dx, si, di, r8, r9 (arch/x86/include/uapi/asm/perf_regs.h).
const ARGUMENTS: u64 = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 17;
/// Bytes of a sample: its header, the thread, the time, the ABI of the registers, the registers.
pub(crate) const SAMPLE_BYTES: u64 = 8 * 4 + 8 * 6;
/// Pages of samples in a [`Ring`], a power of two.
const RING_PAGES: usize = 1024;
/// `data_head` and `data_tail` in `struct perf_event_mmap_page`.
const HEAD: usize = 1024;
const TAIL: usize = 1032;

/// `PERF_FLAG_FD_CLOEXEC`.
const CLOEXEC: libc::c_ulong = 1 << 3;

/// Opens an event on the kernel's uprobe at `offset` of the file `path`, for the thread `tid` only. It counts; with
/// `samples` each hit is a sample too, with time, thread and six arguments, in the [`Ring`] of the event.
pub(crate) fn open_uprobe(
    pmu: u32,
    path: &CStr,
    offset: u64,
    tid: u32,
    samples: bool,
) -> io::Result<OwnedFd> {
    let attr = PerfEventAttr {
        kind: pmu,
        size: u32::try_from(size_of::<PerfEventAttr>()).map_err(io::Error::other)?,
        config1: path.as_ptr().expose_provenance() as u64,
        config2: offset,
        sample_period: u64::from(samples),
        sample_type: if samples { SAMPLE } else { 0 },
        sample_regs_user: if samples { ARGUMENTS } else { 0 },
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

/// The ring into which the kernel writes an event's samples.
pub(crate) struct Ring {
    mapping: NonNull<u8>,
    bytes: usize,
}

impl Ring {
    /// Maps the ring of an event.
    pub(crate) fn map(event: &impl AsRawFd) -> io::Result<Self> {
        // SAFETY: a question with an integer.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let bytes = (RING_PAGES + 1) * usize::try_from(page).map_err(io::Error::other)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses; nothing that exists is replaced.
        let mapping = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, event.as_raw_fd(), 0)
        };
        if mapping == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping = NonNull::new(mapping.cast::<u8>()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { mapping, bytes })
    }

    /// How many bytes of samples have come since the last time; their place is the kernel's again.
    pub(crate) fn take(&mut self) -> u64 {
        let head = self.position(HEAD).load(Ordering::Acquire);
        head.wrapping_sub(self.position(TAIL).swap(head, Ordering::Release))
    }

    fn position(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: both offsets lie in the first page of the mapping.
        let position = unsafe { self.mapping.add(offset) };
        // SAFETY: mapped as long as `self` is there, aligned to 8 bytes, and written by the kernel as a whole word.
        unsafe { AtomicU64::from_ptr(position.as_ptr().cast()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing borrows from it any more.
        unsafe { libc::munmap(self.mapping.as_ptr().cast(), self.bytes) };
    }
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
