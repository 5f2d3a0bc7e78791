//! The two system calls that the standard library does not offer.
#![allow(unsafe_code, reason = "kill(2) and geteuid(2) have no safe form in std")]

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

/// Whether the test runs as root.
#[must_use]
pub fn is_root() -> bool {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}
