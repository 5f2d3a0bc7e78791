//! Processes: fork of the holder, exec of the command, pidfds.
//!
//! # Safety
//! `fork` without exec: the child goes on with only the calling thread. glibc keeps its allocator usable in the child;
//! other locks may be held for ever by threads that do not exist there, so the child (the holder) uses nothing that the
//! parent's threads share: no stdio, no logger, no thread pool. Between fork and exec of the command only async-signal-safe
//! calls are made, on memory prepared before the fork. The other blocks are plain system calls.
#![allow(unsafe_code, reason = "fork(2), execve(2), prctl(2) and pidfds have no safe wrapper in std")]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use libc::{c_int, pid_t};

fn check(result: libc::c_long) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(c_int::try_from(result).unwrap_or(-1)) }
}

/// Forks; the child runs `body` and exits with its result.
///
/// # Errors
/// EAGAIN, ENOMEM.
pub fn fork(body: impl FnOnce() -> c_int) -> io::Result<pid_t> {
    // SAFETY: see the module's chapter: the child uses nothing that other threads of the parent could have locked.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let status = body();
            // SAFETY: ends the child without running the parent's atexit handlers.
            unsafe { libc::_exit(status) }
        }
        pid => Ok(pid),
    }
}

/// A descriptor of a process.
///
/// # Errors
/// ESRCH: no such process.
pub fn pidfd_open(pid: pid_t) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A duplicate of descriptor `fd` of the process behind `pidfd`.
///
/// # Errors
/// EPERM: no ptrace access; EBADF: no such descriptor there.
pub fn pidfd_getfd(pidfd: &OwnedFd, fd: c_int) -> io::Result<File> {
    // SAFETY: pidfd_getfd takes three integers.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) })?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// A memfd of `len` bytes of this process's own, which may be sealed.
///
/// # Errors
/// EMFILE, ENOMEM.
pub fn memfd(name: &std::ffi::CStr, len: u64) -> io::Result<File> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: `name` is NUL-terminated and only read during the call.
    let fd = check(libc::c_long::from(unsafe { libc::memfd_create(name.as_ptr(), flags) }))?;
    // SAFETY: a new descriptor that nobody else owns.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(len)?;
    Ok(file)
}

/// Whether a file has capabilities of its own (the extended attribute `security.capability`).
#[must_use]
pub fn has_file_capabilities(path: &std::ffi::CStr) -> bool {
    // SAFETY: both strings are NUL-terminated; with length 0 nothing is written.
    let got =
        unsafe { libc::getxattr(path.as_ptr(), c"security.capability".as_ptr(), std::ptr::null_mut(), 0) };
    got > 0
}

/// Whether the file system of a file gives no privileges (`nosuid`).
#[must_use]
pub fn gives_no_privileges(path: &std::ffi::CStr) -> bool {
    let mut facts = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the string is NUL-terminated, and statvfs writes no more than the structure.
    if unsafe { libc::statvfs(path.as_ptr(), facts.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: it was filled in.
    let facts = unsafe { facts.assume_init() };
    facts.f_flag & libc::ST_NOSUID != 0
}

/// Forbids shrinking, growing and further sealing of a memfd.
///
/// # Errors
/// EPERM where it is sealed or not sealable.
pub fn seal(file: &File) -> io::Result<()> {
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: fcntl with an integer argument.
    check(libc::c_long::from(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })).map(drop)
}

/// Allocates all pages of a memfd now, so that no later access can fail for want of memory.
///
/// # Errors
/// ENOSPC, ENOMEM.
pub fn allocate(file: &File, len: u64) -> io::Result<()> {
    let len = libc::off_t::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: fallocate takes integers.
    check(libc::c_long::from(unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len) })).map(drop)
}

/// Orphans of our descendants become our children: the command stays waitable when the holder dies.
pub fn become_subreaper() {
    // SAFETY: prctl with integer arguments.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}

/// Ignores the terminal's signals in this process: the front deals with them.
pub fn ignore_terminal_signals() {
    for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP, libc::SIGTSTP, libc::SIGPIPE] {
        // SAFETY: SIG_IGN is a valid disposition for each.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Whether two tasks share their address space (kcmp(2), `KCMP_VM`). Two that have none do.
///
/// # Errors
/// EPERM: not permitted, for these or at all; ENOSYS: the kernel cannot tell; ESRCH: one is gone.
pub fn same_address_space(a: pid_t, b: pid_t) -> io::Result<bool> {
    const KCMP_VM: c_int = 1;
    // SAFETY: kcmp takes integers.
    check(unsafe { libc::syscall(libc::SYS_kcmp, a, b, KCMP_VM, 0, 0) }).map(|order| order == 0)
}

/// Sends a signal to one thread.
///
/// # Errors
/// ESRCH, EPERM.
pub fn tgkill(pid: pid_t, tid: pid_t, signal: c_int) -> io::Result<()> {
    // SAFETY: tgkill takes integers.
    check(unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) }).map(drop)
}

/// The signal state that a command is to start with: what xol was started with.
#[derive(Clone, Copy, Debug)]
pub struct SignalState {
    /// Mask, bit n-1 for signal n.
    pub mask: u64,
    /// Ignored signals, likewise.
    pub ignored: u64,
}

impl SignalState {
    /// The calling thread's mask and the process's ignored signals.
    #[must_use]
    pub fn current() -> Self {
        let mask = super::poll::set_thread_mask(0);
        super::poll::set_thread_mask(mask);
        Self { mask, ignored: INITIALLY_IGNORED.load(Ordering::Relaxed) }
    }
}

/// The signals that this process was started with ignored. Rust's runtime ignores SIGPIPE before `main`, so it must be
/// asked before that.
static INITIALLY_IGNORED: AtomicU64 = AtomicU64::new(0);

extern "C" fn note_ignored() {
    let ignored = (1..=64).filter(|&signal| is_ignored(signal)).fold(0, |set, n| set | 1_u64 << (n - 1));
    INITIALLY_IGNORED.store(ignored, Ordering::Relaxed);
}

// SAFETY: the loader calls each entry of .init_array once, before the runtime starts, with the C calling convention; the
// function makes only sigaction(2) calls and a store.
#[unsafe(link_section = ".init_array")]
#[used]
static NOTE_IGNORED: extern "C" fn() = note_ignored;

fn is_ignored(signal: c_int) -> bool {
    // SAFETY: zeroed sigaction is plain data to be filled.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: only reads the current action into `action`.
    let got = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    got == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Holds a child back until [`Gate::open`] is closed, or its holder is gone.
#[derive(Debug)]
pub struct Gate {
    /// The child's end.
    pub wait: OwnedFd,
    /// The parent's end.
    pub open: OwnedFd,
}

/// A command prepared for exec: everything allocated before the fork.
#[derive(Debug)]
pub struct Command {
    paths: Vec<CString>,
    argv: Vec<CString>,
    signals: SignalState,
}

impl Command {
    /// `paths` are tried in order (the command's name against PATH, resolved by the caller).
    #[must_use]
    pub fn new(paths: Vec<CString>, argv: Vec<CString>, signals: SignalState) -> Self {
        Self { paths, argv, signals }
    }

    /// Forks a child that waits until the gate opens, then executes the command. If that fails the
    /// child writes the error number to `failed` and exits with 127 (not found) or 126.
    ///
    /// # Errors
    /// Those of fork(2).
    pub fn spawn(&self, go: &Gate, failed: &OwnedFd) -> io::Result<pid_t> {
        let mut argv: Vec<*const libc::c_char> = self.argv.iter().map(|arg| arg.as_ptr()).collect();
        argv.push(std::ptr::null());
        fork(|| self.child(go, failed.as_raw_fd(), &argv))
    }

    fn child(&self, go: &Gate, failed: c_int, argv: &[*const libc::c_char]) -> c_int {
        let mut byte = 0_u8;
        // The child's own copy of the write end would keep the pipe open for ever.
        // SAFETY: closes a descriptor of this (forked) process that nothing in it uses.
        unsafe { libc::close(go.open.as_raw_fd()) };
        let go = go.wait.as_raw_fd();
        // SAFETY: reads at most one byte into `byte`.
        unsafe { libc::read(go, (&raw mut byte).cast(), 1) };
        for signal in 1..=64 {
            let ignored = self.signals.ignored & (1_u64 << (signal - 1)) != 0;
            // SAFETY: SIG_IGN and SIG_DFL are valid; signals that cannot be changed only give EINVAL.
            unsafe { libc::signal(signal, if ignored { libc::SIG_IGN } else { libc::SIG_DFL }) };
        }
        super::poll::set_thread_mask(self.signals.mask);
        let mut error = libc::ENOENT;
        for path in &self.paths {
            // SAFETY: path and argv are NUL-terminated and argv ends with a null pointer; environ is the process's own.
            unsafe { libc::execv(path.as_ptr(), argv.as_ptr()) };
            let got = io::Error::last_os_error().raw_os_error().unwrap_or(libc::ENOENT);
            // As a shell does: "permission denied" for one candidate is remembered, "not found" is not.
            if got != libc::ENOENT && got != libc::ENOTDIR {
                error = got;
            }
        }
        let bytes = error.to_ne_bytes();
        // SAFETY: writes four bytes from `bytes`.
        unsafe { libc::write(failed, bytes.as_ptr().cast(), bytes.len()) };
        if error == libc::ENOENT { 127 } else { 126 }
    }
}

/// A pipe, both ends close-on-exec: `(read, write)`.
///
/// # Errors
/// EMFILE, ENFILE.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: pipe2 writes two descriptors into `fds`.
    check(libc::c_long::from(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) }))?;
    // SAFETY: a new descriptor that nobody else owns.
    let read = unsafe { OwnedFd::from_raw_fd(fds[0]) };
    // SAFETY: as above.
    let write = unsafe { OwnedFd::from_raw_fd(fds[1]) };
    Ok((read, write))
}

/// This process's number.
#[must_use]
pub fn own_pid() -> pid_t {
    // SAFETY: getpid has no preconditions. (Not `std::process::id`: that is the same, but unsigned.)
    unsafe { libc::getpid() }
}

/// Start time of a living process in clock ticks since boot (field 22 of /proc/PID/stat): with the number, its identity. A
/// zombie lives no more.
#[must_use]
pub fn start_time(pid: pid_t) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may contain anything: fields are counted from the last parenthesis.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

/// This process's number and start time.
#[must_use]
pub fn identity() -> (pid_t, u64) {
    let pid = own_pid();
    (pid, start_time(pid).unwrap_or(0))
}

/// Lets go of stdin, stdout and stderr, so that a pipe's other end sees its end when its real users are gone.
pub fn close_standard_streams() {
    let Ok(null) = File::options().read(true).write(true).open("/dev/null") else { return };
    for fd in 0..3 {
        // SAFETY: dup2 onto a standard descriptor of this process, which uses no stdio.
        unsafe { libc::dup2(null.as_raw_fd(), fd) };
    }
}
