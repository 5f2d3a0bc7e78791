//! The system calls that the standard library does not offer.
#![allow(unsafe_code, reason = "kill(2), pidfd_open(2) and geteuid(2) have no safe form in std")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A signal that a test sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// Polite end.
    Terminate,
    /// The terminal went away.
    HangUp,
    /// Immediate end.
    Kill,
    /// Pause until [`Signal::Continue`].
    Stop,
    /// End of a pause.
    Continue,
    /// Ctrl-Z.
    TerminalStop,
    /// The first that means what the program makes of it.
    User,
}

impl Signal {
    fn number(self) -> libc::c_int {
        match self {
            Self::Interrupt => libc::SIGINT,
            Self::Terminate => libc::SIGTERM,
            Self::HangUp => libc::SIGHUP,
            Self::Kill => libc::SIGKILL,
            Self::Stop => libc::SIGSTOP,
            Self::Continue => libc::SIGCONT,
            Self::TerminalStop => libc::SIGTSTP,
            Self::User => libc::SIGUSR1,
        }
    }
}

/// Sends a signal to one process that the test started. False if it is gone.
pub fn send(pid: u32, signal: Signal) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    assert!(pid > 1, "refusing to signal process {pid}");
    // SAFETY: kill takes two numbers and touches no memory of ours.
    unsafe { libc::kill(pid, signal.number()) == 0 }
}

/// A process that is not our child (or may be collected meanwhile), for signals: its number may be another's by then.
#[derive(Debug)]
pub struct Handle(OwnedFd);

impl Handle {
    /// A handle of a process. `is_it` is asked once it is open, when the number may no longer mean another.
    #[must_use]
    pub fn of(pid: u32, is_it: impl FnOnce() -> bool) -> Option<Self> {
        let number = libc::pid_t::try_from(pid).ok()?;
        // SAFETY: pidfd_open takes two integers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, number, 0) };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
        // SAFETY: a new descriptor that nobody else owns.
        let handle = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        is_it().then_some(handle)
    }

    /// Sends a signal. False if the process is gone.
    pub fn send(&self, signal: Signal) -> bool {
        let (fd, no_info) = (self.0.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
        // SAFETY: pidfd_send_signal without siginfo takes integers only.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal.number(), no_info, 0) == 0 }
    }
}

/// Whether the test runs as root.
#[must_use]
pub fn is_root() -> bool {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}
