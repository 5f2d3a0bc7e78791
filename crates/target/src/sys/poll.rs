//! Waiting: poll, signalfd, the signal mask of the calling thread.
//!
//! # Safety
//! Plain system calls on file descriptors that are borrowed for the call, and on sets that live on this stack frame.
#![allow(unsafe_code, reason = "poll(2), signalfd(2) and sigprocmask(2) take raw pointers")]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::time::{Duration, Instant};

use libc::c_int;

/// Signals received as data instead of by handlers.
#[derive(Debug)]
pub struct SignalFd(File);

fn set_of(signals: &[c_int]) -> libc::sigset_t {
    // SAFETY: sigset_t is plain data; zero is a valid value and sigemptyset initialises it.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a valid sigset_t.
    unsafe { libc::sigemptyset(&raw mut set) };
    for &signal in signals {
        // SAFETY: `set` is a valid sigset_t; an invalid signal number only gives EINVAL.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

impl SignalFd {
    /// Blocks `signals` in the calling thread and opens a descriptor that tells of them.
    ///
    /// # Errors
    /// Those of signalfd(2).
    pub fn new(signals: &[c_int]) -> io::Result<Self> {
        let set = set_of(signals);
        // SAFETY: `set` is initialised; the old mask is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        // SAFETY: `set` is initialised.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd returned a new descriptor that nobody else owns.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    /// Takes all signals that have arrived: their numbers.
    pub fn take(&mut self) -> Vec<c_int> {
        let mut taken = Vec::new();
        let mut record = [0_u8; 128]; // struct signalfd_siginfo
        while let Ok(128) = self.0.read(&mut record) {
            let number = u32::from_ne_bytes([record[0], record[1], record[2], record[3]]);
            taken.push(c_int::try_from(number).unwrap_or(0));
        }
        taken
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sets the calling thread's signal mask to `mask` (bit n-1 for signal n), giving the old one.
pub fn set_thread_mask(mask: u64) -> u64 {
    let signals: Vec<c_int> = (1..=64).filter(|n| mask & (1_u64 << (n - 1)) != 0).collect();
    let new = set_of(&signals);
    let mut old = set_of(&[]);
    // SAFETY: both sets are initialised and live through the call.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const new, &raw mut old) };
    (1..=64).fold(0, |mask, n| {
        // SAFETY: `old` was filled by the kernel.
        if unsafe { libc::sigismember(&raw const old, n) } == 1 { mask | 1_u64 << (n - 1) } else { mask }
    })
}

/// Waits until one of `fds` is readable or `deadline` passes: which are readable.
///
/// # Errors
/// Those of poll(2) but EINTR.
pub fn readable<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    deadline: Option<Instant>,
) -> io::Result<[bool; N]> {
    let mut polled = fds.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    loop {
        // Rounded up, so that a wait never spins through its last fraction of a millisecond.
        let timeout = deadline.map_or(-1, |end| {
            let left = end.saturating_duration_since(Instant::now());
            c_int::try_from((left + Duration::from_micros(999)).as_millis()).unwrap_or(c_int::MAX)
        });
        // SAFETY: `polled` is an array of N pollfds owned by this frame.
        let got = unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, timeout) };
        if got >= 0 {
            return Ok(polled.map(|fd| fd.revents != 0));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Blocks SIGCHLD in the calling thread, so that [`wait_for_child`] can take it.
pub fn block_child_signal() {
    let set = set_of(&[libc::SIGCHLD]);
    // SAFETY: `set` is initialised; the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// Waits for a SIGCHLD (blocked by the caller), or the deadline: whether one came.
pub fn wait_for_child(deadline: Instant) -> bool {
    let set = set_of(&[libc::SIGCHLD]);
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(left.subsec_nanos()),
    };
    // SAFETY: set and timeout live on this frame; the siginfo is not asked for.
    unsafe { libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const timeout) != -1 }
}
