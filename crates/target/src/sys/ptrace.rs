//! ptrace and waitpid, typed: a [`Stopped`] thread can be looked at and changed, a [`Running`] one only interrupted.
//!
//! # Safety
//! Every `unsafe` block is one system call. ptrace writes only to the buffers passed here, whose lengths are passed along
//! (iovec) or fixed by the request's ABI (`siginfo_t`, 8-byte masks, `struct user_desc`, one word of event message); all live on this
//! stack frame for the duration of the call. No request used here makes the kernel keep a pointer.
#![allow(unsafe_code, reason = "ptrace(2) and wait4(2) are variadic or raw-pointer calls")]

use std::io;
use std::ptr;

use libc::{c_int, c_long, c_void, pid_t};

/// Events that seized threads report.
const OPTIONS: c_int = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACEEXEC;

/// The signals of job control that stop a process.
pub const STOPS: [c_int; 4] = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// Why a thread stopped, or that it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// `PTRACE_EVENT_STOP` by an interrupt, or the first stop of a new thread.
    Interrupted,
    /// Group-stop by this signal.
    GroupStop(c_int),
    /// Signal-delivery-stop.
    Signal(c_int),
    /// System-call stop (entry or exit).
    Syscall,
    /// Another `PTRACE_EVENT_*`, with its message.
    Event(c_int, u64),
    /// The thread ended by itself.
    Exited(c_int),
    /// The thread was killed.
    Killed(c_int),
}

/// A siginfo, opaque but for the fields every kind of signal has.
#[derive(Clone, Copy)]
pub struct SigInfo(libc::siginfo_t);

// `siginfo_t` on 64-bit: si_signo, si_errno, si_code, padding, then the union (si_addr first for faults).
impl SigInfo {
    /// Signal number.
    #[must_use]
    pub fn signal(&self) -> c_int {
        self.0.si_signo
    }

    /// `si_code`.
    #[must_use]
    pub fn code(&self) -> c_int {
        self.0.si_code
    }

    /// `si_addr`, of a fault.
    #[must_use]
    pub fn address(&self) -> u64 {
        // SAFETY: `si_addr` reads the union as a pointer-sized integer; any bit pattern is valid for it.
        unsafe { self.0.si_addr() as u64 }
    }

    /// `si_pid`, of a signal that a process sent.
    #[must_use]
    pub fn sender(&self) -> c_int {
        // SAFETY: `si_pid` reads the union as an integer; any bit pattern is valid for it.
        unsafe { self.0.si_pid() }
    }

    /// Replaces `si_addr`.
    pub fn set_address(&mut self, address: u64) {
        let bytes = address.to_ne_bytes();
        let info = ptr::addr_of_mut!(self.0).cast::<u8>();
        // SAFETY: the union starts at byte 16 of the 128-byte siginfo (include/uapi/asm-generic/siginfo.h,
        // __SI_FIELDS after three ints, 8-aligned on 64-bit), so this is inside the object.
        let field = unsafe { info.add(16) };
        // SAFETY: 8 bytes at `field` lie inside the object too, and `bytes` is not part of it.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), field, 8) };
    }

    /// The raw bytes, for an injected `rt_tgsigqueueinfo`.
    #[must_use]
    pub fn bytes(&self) -> [u8; 128] {
        // SAFETY: siginfo_t is 128 bytes of plain data on Linux.
        unsafe { std::mem::transmute_copy(&self.0) }
    }

    /// The siginfo of these raw bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 128]) -> Self {
        // SAFETY: siginfo_t is 128 bytes of plain data on Linux; any bits are valid for it.
        Self(unsafe { std::mem::transmute_copy(bytes) })
    }

    /// A synthetic siginfo, for tests and fakes.
    #[must_use]
    pub fn new(signal: c_int, code: c_int, address: u64) -> Self {
        // SAFETY: all-zero bytes are a valid siginfo_t (plain integers).
        let mut raw: libc::siginfo_t = unsafe { std::mem::zeroed() };
        raw.si_signo = signal;
        raw.si_code = code;
        let mut info = Self(raw);
        info.set_address(address);
        info
    }
}

impl std::fmt::Debug for SigInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigInfo {{ signal: {}, code: {} }}", self.signal(), self.code())
    }
}

fn check(result: c_long) -> io::Result<c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn request(request: libc::c_uint, tid: pid_t, address: usize, data: usize) -> io::Result<c_long> {
    // SAFETY: only requests whose address and data are plain numbers (or pointers vetted by the caller) come here.
    check(unsafe { libc::ptrace(request, tid, address as *mut c_void, data as *mut c_void) })
}

/// Seizes a thread: it goes on running.
///
/// # Errors
/// EPERM: not permitted, or traced already; ESRCH: gone.
pub fn seize(tid: pid_t) -> io::Result<Running> {
    request(libc::PTRACE_SEIZE, tid, 0, usize::try_from(OPTIONS).unwrap_or(0))?;
    Ok(Running { tid })
}

/// A seized thread that runs, as far as we know.
#[derive(Debug)]
pub struct Running {
    tid: pid_t,
}

impl Running {
    /// A thread that the kernel attached for us (clone, fork): its first stop is still to come.
    #[must_use]
    pub fn auto_attached(tid: pid_t) -> Self {
        Self { tid }
    }

    /// Asks for a stop. Idempotent. Any other stop swallows the request (kernel/signal.c, `ptrace_stop`).
    ///
    /// # Errors
    /// ESRCH when the thread is gone.
    pub fn interrupt(&self) -> io::Result<()> {
        request(libc::PTRACE_INTERRUPT, self.tid, 0, 0).map(drop)
    }

    /// The thread was seen to have stopped.
    #[must_use]
    pub fn into_stopped(self) -> Stopped {
        Stopped { tid: self.tid }
    }
}

/// A thread in a ptrace stop.
#[derive(Debug)]
pub struct Stopped {
    tid: pid_t,
}

impl Stopped {
    fn resume(self, how: libc::c_uint, signal: c_int) -> io::Result<Running> {
        request(how, self.tid, 0, usize::try_from(signal).unwrap_or(0))?;
        Ok(Running { tid: self.tid })
    }

    /// Lets it run, delivering `signal` (0: none).
    ///
    /// # Errors
    /// ESRCH when the thread was killed meanwhile.
    pub fn cont(self, signal: c_int) -> io::Result<Running> {
        self.resume(libc::PTRACE_CONT, signal)
    }

    /// Lets it run to the next system-call stop.
    ///
    /// # Errors
    /// As [`Self::cont`].
    pub fn cont_to_syscall(self, signal: c_int) -> io::Result<Running> {
        self.resume(libc::PTRACE_SYSCALL, signal)
    }

    /// Keeps a group-stopped thread stopped, but listening for the end of the group-stop.
    ///
    /// # Errors
    /// As [`Self::cont`].
    pub fn listen(self) -> io::Result<Running> {
        self.resume(libc::PTRACE_LISTEN, 0)
    }

    /// Runs one instruction.
    ///
    /// # Errors
    /// As [`Self::cont`].
    pub fn step(self) -> io::Result<Running> {
        self.resume(libc::PTRACE_SINGLESTEP, 0)
    }

    /// Lets go of the thread.
    ///
    /// # Errors
    /// As [`Self::cont`].
    pub fn detach(self, signal: c_int) -> io::Result<()> {
        request(libc::PTRACE_DETACH, self.tid, 0, usize::try_from(signal).unwrap_or(0)).map(drop)
    }

    /// Asks for another stop right after the next resumption.
    ///
    /// # Errors
    /// As [`Self::cont`].
    pub fn interrupt(&self) -> io::Result<()> {
        request(libc::PTRACE_INTERRUPT, self.tid, 0, 0).map(drop)
    }

    /// Reports the end of this thread (and of those it makes) before it lets go of its memory.
    ///
    /// # Errors
    /// As [`Self::cont`].
    pub fn report_exit(&self) -> io::Result<()> {
        let options = OPTIONS | libc::PTRACE_O_TRACEEXIT;
        request(libc::PTRACE_SETOPTIONS, self.tid, 0, usize::try_from(options).unwrap_or(0)).map(drop)
    }

    /// The `NT_PRSTATUS` register set; its length tells the ISA.
    ///
    /// # Errors
    /// As [`Self::cont`].
    pub fn registers(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0_u8; 1024];
        let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let at = ptr::addr_of_mut!(iov) as usize;
        request(libc::PTRACE_GETREGSET, self.tid, 1 /* NT_PRSTATUS */, at)?;
        buffer.truncate(iov.iov_len);
        Ok(buffer)
    }

    /// Writes the `NT_PRSTATUS` register set.
    ///
    /// # Errors
    /// As [`Self::cont`].
    pub fn set_registers(&self, registers: &[u8]) -> io::Result<()> {
        let mut copy = registers.to_vec();
        let mut iov = libc::iovec { iov_base: copy.as_mut_ptr().cast(), iov_len: copy.len() };
        request(libc::PTRACE_SETREGSET, self.tid, 1, ptr::addr_of_mut!(iov) as usize).map(drop)
    }

    /// The siginfo of a signal-delivery-stop; in a stop by an event `si_code` holds the event.
    ///
    /// # Errors
    /// As [`Self::cont`].
    pub fn siginfo(&self) -> io::Result<SigInfo> {
        let mut info = SigInfo::new(0, 0, 0);
        request(libc::PTRACE_GETSIGINFO, self.tid, 0, ptr::addr_of_mut!(info.0) as usize)?;
        Ok(info)
    }

    /// The signal of the group-stop, if this stop is one (kernel/signal.c, `ptrace_do_notify`: `si_code` is the status).
    #[must_use]
    pub fn group_stop(&self) -> Option<c_int> {
        let code = self.siginfo().ok()?.code();
        let signal = code & 0xff;
        (code >> 8 == libc::PTRACE_EVENT_STOP && STOPS.contains(&signal)).then_some(signal)
    }

    /// Replaces the siginfo of a signal-delivery-stop.
    ///
    /// # Errors
    /// As [`Self::siginfo`].
    pub fn set_siginfo(&self, info: &SigInfo) -> io::Result<()> {
        let mut copy = *info;
        request(libc::PTRACE_SETSIGINFO, self.tid, 0, ptr::addr_of_mut!(copy.0) as usize).map(drop)
    }

    /// Signals queued to this thread and not yet delivered (up to 16).
    ///
    /// # Errors
    /// As [`Self::cont`].
    pub fn pending(&self) -> io::Result<Vec<SigInfo>> {
        let mut infos = vec![SigInfo::new(0, 0, 0); 16];
        let args = libc::ptrace_peeksiginfo_args { off: 0, flags: 0, nr: 16 };
        let got = request(
            libc::PTRACE_PEEKSIGINFO,
            self.tid,
            ptr::addr_of!(args) as usize,
            infos.as_mut_ptr() as usize,
        )?;
        infos.truncate(usize::try_from(got).unwrap_or(0));
        Ok(infos)
    }

    /// The base of the segment that a 32-bit thread's `gs` names; `None` if that is no entry of the thread's own in the global
    /// descriptor table. `registers` is its `struct user_regs_struct32`.
    ///
    /// # Errors
    /// As [`Self::cont`]; EIO: the kernel runs no 32-bit programs.
    pub fn thread_area(&self, registers: &[u8]) -> io::Result<Option<u64>> {
        /// Byte 40: `gs` (arch/x86/include/asm/user32.h).
        const GS: usize = 40;
        /// Of a selector: the local table, and how far the index is shifted (Intel SDM vol. 3, 3.4.2).
        const LOCAL: u8 = 1 << 2;
        /// arch/x86/include/uapi/asm/ptrace-abi.h
        const PTRACE_GET_THREAD_AREA: libc::c_uint = 25;
        let selector = registers.get(GS).copied().unwrap_or(0);
        if selector & LOCAL != 0 || selector >> 3 == 0 {
            return Ok(None);
        }
        // `struct user_desc`: entry_number, base_addr, limit, flags.
        let mut area = [0_u32; 4];
        let at = ptr::addr_of_mut!(area) as usize;
        request(PTRACE_GET_THREAD_AREA, self.tid, usize::from(selector >> 3), at)?;
        Ok(Some(u64::from(area[1])))
    }

    /// The thread's signal mask.
    ///
    /// # Errors
    /// As [`Self::cont`].
    pub fn signal_mask(&self) -> io::Result<u64> {
        let mut mask = 0_u64;
        request(libc::PTRACE_GETSIGMASK, self.tid, 8, ptr::addr_of_mut!(mask) as usize)?;
        Ok(mask)
    }

    /// Sets the thread's signal mask.
    ///
    /// # Errors
    /// As [`Self::cont`].
    pub fn set_signal_mask(&self, mask: u64) -> io::Result<()> {
        request(libc::PTRACE_SETSIGMASK, self.tid, 8, ptr::addr_of!(mask) as usize).map(drop)
    }

    /// Writes one word of memory (`PTRACE_POKETEXT`), where /proc/PID/mem is restricted.
    ///
    /// # Errors
    /// EIO where nothing is mapped.
    pub fn poke(&self, address: u64, word: u64) -> io::Result<()> {
        let at = usize::try_from(address).unwrap_or(0);
        request(libc::PTRACE_POKETEXT, self.tid, at, usize::try_from(word).unwrap_or(0)).map(drop)
    }
}

fn decode(tid: pid_t, status: c_int) -> Wait {
    if libc::WIFEXITED(status) {
        return Wait::Exited(libc::WEXITSTATUS(status));
    }
    if libc::WIFSIGNALED(status) {
        return Wait::Killed(libc::WTERMSIG(status));
    }
    let signal = libc::WSTOPSIG(status);
    match (status >> 16, signal) {
        (libc::PTRACE_EVENT_STOP, signal) if STOPS.contains(&signal) => Wait::GroupStop(signal),
        (libc::PTRACE_EVENT_STOP, _) => Wait::Interrupted,
        (0, signal) if signal == libc::SIGTRAP | 0x80 => Wait::Syscall,
        (0, signal) => Wait::Signal(signal),
        (event, _) => Wait::Event(event, event_message(tid)),
    }
}

fn event_message(tid: pid_t) -> u64 {
    let mut message: libc::c_ulong = 0;
    let at = ptr::addr_of_mut!(message) as usize;
    request(libc::PTRACE_GETEVENTMSG, tid, 0, at).map_or(0, |_| message)
}

/// What thread `tid` (-1: any) has to report, without waiting. `None`: nothing yet.
///
/// # Errors
/// ECHILD: there is no such thread to wait for.
pub fn try_wait(tid: pid_t) -> io::Result<Option<(pid_t, Wait)>> {
    let mut status: c_int = 0;
    // SAFETY: wait4 writes one int to `status`; rusage may be null.
    let got = unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL | libc::WNOHANG) };
    match got {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        tid => Ok(Some((tid, decode(tid, status)))),
    }
}

/// Waits for a child to end: its exit status or the signal that killed it. `None` if it is no child of ours.
#[must_use]
pub fn wait_for_end(pid: pid_t) -> Option<(Option<i32>, Option<i32>)> {
    loop {
        let mut status: c_int = 0;
        // SAFETY: waitpid writes one int to `status`.
        let got = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
        if got == -1 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
        if got == pid && libc::WIFEXITED(status) {
            return Some((Some(libc::WEXITSTATUS(status)), None));
        }
        if got == pid && libc::WIFSIGNALED(status) {
            return Some((None, Some(libc::WTERMSIG(status))));
        }
    }
}
