//! A child under ptrace(2): steps, registers, memory.
//!
//! # Safety
//!
//! Every request names the one child that this value owns and that stands still, or takes numbers only. Buffers that the
//! kernel fills are of exactly the size that it is told.
#![allow(unsafe_code, reason = "ptrace(2) has no safe form in std")]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

/// Registers as the kernel's `user_regs_struct` has them.
pub(super) type Registers = libc::user_regs_struct;

/// `NT_X86_XSTATE` of elf.h.
const XSTATE: usize = 0x202;
/// More than any processor's extended state.
const XSTATE_LEN: usize = 16 * 1024;
/// The header behind the legacy region says which parts are in use: not state of the program (Intel SDM vol. 1, 13.4.2).
const XSTATE_HEADER: std::ops::Range<usize> = 512..576;

/// System calls are told from other traps; a child does not outlive the test.
const OPTIONS: usize = 0x10_0001;
const _: () = assert!(OPTIONS == (libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL) as usize);

/// How a child came to stand still, or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// By a signal: a step, a breakpoint, or one of its own.
    Signal(i32),
    /// By job control (ptrace(2), "Group-stop").
    JobControl,
    /// It ended.
    Ended,
}

/// A traced child, killed when dropped.
#[derive(Debug)]
pub(super) struct Tracee {
    child: Child,
    memory: Option<File>,
}

impl Tracee {
    /// Starts a command traced, and runs it until it has executed the program at `path` (it may execute others, such as
    /// `env`, before).
    pub(super) fn start(command: &mut Command, path: &Path) -> io::Result<Self> {
        // SAFETY: between fork and exec only ptrace is called, which is async-signal-safe.
        unsafe { command.pre_exec(|| request(libc::PTRACE_TRACEME, 0, 0, 0).map(drop)) };
        let mut tracee = Self { child: command.spawn()?, memory: None };
        loop {
            match tracee.wait()? {
                Stop::Ended => return Err(io::Error::other("it ended before it executed the program")),
                Stop::Signal(_) if tracee.executes(path) => break,
                Stop::Signal(_) | Stop::JobControl => tracee.resume(0)?,
            }
        }
        request(libc::PTRACE_SETOPTIONS, tracee.number(), 0, OPTIONS)?;
        tracee.memory =
            Some(File::options().read(true).write(true).open(format!("/proc/{}/mem", tracee.pid()))?);
        Ok(tracee)
    }

    fn executes(&self, path: &Path) -> bool {
        std::fs::read_link(format!("/proc/{}/exe", self.pid())).is_ok_and(|exe| exe == path)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn number(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Waits until it stands still or has ended.
    pub(super) fn wait(&mut self) -> io::Result<Stop> {
        let mut status = 0;
        // SAFETY: waitpid writes one integer.
        let waited = unsafe { libc::waitpid(self.number(), &raw mut status, libc::__WALL) };
        if waited < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(match (libc::WIFSTOPPED(status), status >> 16) {
            (true, libc::PTRACE_EVENT_STOP) => Stop::JobControl,
            (true, _) => Stop::Signal(libc::WSTOPSIG(status)),
            (false, _) => Stop::Ended,
        })
    }

    /// Lets it run on, with a signal or 0.
    pub(super) fn resume(&self, signal: i32) -> io::Result<()> {
        request(libc::PTRACE_CONT, self.number(), 0, number(signal)).map(drop)
    }

    /// Lets it run to the beginning or end of a system call, which stops it with `SIGTRAP | 0x80`, or to a signal.
    pub(super) fn resume_to_call(&mut self, signal: i32) -> io::Result<Stop> {
        request(libc::PTRACE_SYSCALL, self.number(), 0, number(signal))?;
        self.wait()
    }

    /// Carries out one instruction, with a signal or 0.
    pub(super) fn step(&mut self, signal: i32) -> io::Result<Stop> {
        request(libc::PTRACE_SINGLESTEP, self.number(), 0, number(signal))?;
        self.wait()
    }

    /// Lets it go with a signal.
    pub(super) fn detach(&self, signal: i32) -> io::Result<()> {
        request(libc::PTRACE_DETACH, self.number(), 0, number(signal)).map(drop)
    }

    /// Takes it back where another tracer has let it go; it runs or is stopped by a signal, as it was.
    pub(super) fn seize(&self) -> io::Result<()> {
        request(libc::PTRACE_SEIZE, self.number(), 0, OPTIONS).map(drop)
    }

    pub(super) fn registers(&self) -> io::Result<Registers> {
        // SAFETY: all-zero integers are a valid value.
        let mut registers: Registers = unsafe { std::mem::zeroed() };
        request(libc::PTRACE_GETREGS, self.number(), 0, (&raw mut registers).expose_provenance())?;
        Ok(registers)
    }

    pub(super) fn set_registers(&self, registers: &Registers) -> io::Result<()> {
        request(libc::PTRACE_SETREGS, self.number(), 0, std::ptr::from_ref(registers).expose_provenance())
            .map(drop)
    }

    fn extended_state(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; XSTATE_LEN];
        let mut buffer = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        request(libc::PTRACE_GETREGSET, self.number(), XSTATE, (&raw mut buffer).expose_provenance())?;
        bytes.truncate(buffer.iov_len);
        Ok(bytes)
    }

    /// Gets vector registers and what else xsave has from another one.
    pub(super) fn copy_vectors(&self, from: &Self) -> io::Result<()> {
        let mut bytes = from.extended_state()?;
        let mut buffer = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        request(libc::PTRACE_SETREGSET, self.number(), XSTATE, (&raw mut buffer).expose_provenance())
            .map(drop)
    }

    /// The vector registers and what else xsave has, without its header.
    pub(super) fn vectors(&self) -> io::Result<Vec<u8>> {
        let mut bytes = self.extended_state()?;
        if let Some(header) = bytes.get_mut(XSTATE_HEADER) {
            header.fill(0);
        }
        Ok(bytes)
    }

    pub(super) fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.memory()?.read_exact_at(bytes, at)
    }

    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.memory()?.write_all_at(bytes, at)
    }

    fn memory(&self) -> io::Result<&File> {
        self.memory.as_ref().ok_or_else(|| io::Error::other("no memory yet"))
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number(signal: i32) -> usize {
    usize::try_from(signal).unwrap_or(0)
}

fn request(what: libc::c_uint, pid: i32, address: usize, data: usize) -> io::Result<libc::c_long> {
    let pointer = std::ptr::with_exposed_provenance_mut::<libc::c_void>;
    // SAFETY: the callers above pass numbers, or buffers that live over the call and have the size the kernel fills.
    let result = unsafe { libc::ptrace(what, pid, pointer(address), pointer(data)) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
