//! The batch that two processes share, and the child that serves it.
//!
//! # Safety
//!
//! The batch is a mapping of a memory file of exactly its size, made by us and never unmapped before its owner is dropped;
//! every bit pattern is one of its type. Parent and child take turns by a byte through a pipe: while one works, the other
//! waits in a read, so neither has a reference while the other writes. The child is forked and goes on in
//! [`crate::executor`] at once: until then it calls only what is safe between fork and exec (mmap, sigaction, prctl).
//! It is waited for once, by its owner, so its number cannot be another's when it is ended.
#![allow(unsafe_code, reason = "maps memory and forks; see the module's Safety chapter")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;

use crate::executor::{self, Machine};
use crate::world::{Batch, CODE, MEMORY, PAGE, WORLDS, World};

/// How long a batch may take: far more than it does, for a machine may be loaded.
const LIMIT_MS: libc::c_int = 120_000;

/// A batch in shared memory.
#[derive(Debug)]
pub(crate) struct Area {
    file: OwnedFd,
    batch: NonNull<Batch>,
}

// SAFETY: the owner has it alone, as with a Box.
unsafe impl Send for Area {}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

impl Area {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: the name ends in NUL; the descriptor is new.
        let fd = check(unsafe { libc::memfd_create(c"differential".as_ptr(), libc::MFD_CLOEXEC) })?;
        // SAFETY: nobody else has it.
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        let len = size_of::<Batch>();
        // SAFETY: integers only.
        check(unsafe { libc::ftruncate(fd, libc::off_t::try_from(len).map_err(io::Error::other)?) })?;
        // SAFETY: a new mapping where the kernel likes.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0)
        };
        match NonNull::new(at.cast::<Batch>()) {
            Some(batch) if at != libc::MAP_FAILED => Ok(Self { file, batch }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(crate) fn batch(&mut self) -> &mut Batch {
        // SAFETY: mapped, of this type, and ours between two turns of the child; `Worker` sees to that.
        unsafe { self.batch.as_mut() }
    }

    /// Maps `len` bytes of the batch from `offset` on at `at`.
    fn map_at(&self, at: u64, offset: usize, len: usize, protection: libc::c_int) -> io::Result<()> {
        let place = std::ptr::with_exposed_provenance_mut(usize::try_from(at).map_err(io::Error::other)?);
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: replaces nothing.
        let got = unsafe { libc::mmap(place, len, protection, flags, self.file.as_raw_fd(), offset) };
        if got == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn map_world(&self, world: World) -> io::Result<()> {
        let (code, data) = (libc::PROT_READ | libc::PROT_EXEC, libc::PROT_READ | libc::PROT_WRITE);
        self.map_at(world.originals(), std::mem::offset_of!(Batch, originals), CODE, code)?;
        for copy in world.copies() {
            self.map_at(copy, std::mem::offset_of!(Batch, copies), CODE, code)?;
        }
        let memory = std::mem::offset_of!(Batch, memory);
        self.map_at(world.data(), memory, PAGE, data)?;
        self.map_at(world.stack(), memory + MEMORY - PAGE, PAGE, data)?;
        self.map_at(world.targets(), std::mem::offset_of!(Batch, targets), 2 * PAGE, code)
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody borrows any more.
        unsafe { libc::munmap(self.batch.as_ptr().cast(), size_of::<Batch>()) };
    }
}

/// How the child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It did not answer in time.
    Hung,
    /// It ended by itself; the status of waitpid(2).
    Died(i32),
}

/// The child that executes.
#[derive(Debug)]
pub(crate) struct Child {
    pid: libc::pid_t,
    questions: File,
    answers: File,
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [0; 2];
    // SAFETY: room for two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: both are new.
    Ok(ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) }).into())
}

impl Child {
    pub(crate) fn start(machine: Machine, area: &Area) -> io::Result<Self> {
        let (questions, ask) = pipe()?;
        let (listen, answers) = pipe()?;
        // SAFETY: the child touches nothing that other threads of ours may hold; see above.
        let pid = check(unsafe { libc::fork() })?;
        if pid == 0 {
            drop((ask, listen));
            if prepare(area).is_err() {
                // SAFETY: ends the child.
                unsafe { libc::_exit(63) };
            }
            // SAFETY: prepared; the parent takes turns with us.
            unsafe {
                executor::serve(machine, area.batch.as_ptr(), questions.as_raw_fd(), answers.as_raw_fd());
            }
        }
        Ok(Self { pid, questions: File::from(ask), answers: File::from(listen) })
    }

    /// Has the batch run.
    pub(crate) fn run(&mut self) -> Result<(), End> {
        let asked = self.questions.write_all(&[0]);
        let mut poll = libc::pollfd { fd: self.answers.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor.
        let ready = unsafe { libc::poll(&raw mut poll, 1, LIMIT_MS) };
        if ready == 0 {
            return Err(End::Hung);
        }
        let mut byte = [0];
        if asked.is_ok() && self.answers.read_exact(&mut byte).is_ok() {
            return Ok(());
        }
        Err(End::Died(self.end()))
    }

    /// Ends the child if it has not ended, and waits for it: its status.
    fn end(&mut self) -> i32 {
        let mut status = 0;
        if self.pid > 0 {
            // SAFETY: our own child, not waited for yet.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            // SAFETY: as above.
            unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
            self.pid = 0;
        }
        status
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the child does before it executes anything.
fn prepare(area: &Area) -> io::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure lives during the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core) })?;
    WORLDS.iter().try_for_each(|world| area.map_world(*world))?;
    let len = 1 << 17;
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping.
    let place = unsafe { libc::mmap(std::ptr::null_mut(), len, access, kind, -1, 0) };
    if place == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let stack = libc::stack_t { ss_sp: place, ss_flags: 0, ss_size: len };
    // SAFETY: the mapping is the child's for its life.
    check(unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) })?;
    // SAFETY: all zeros is a sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = executor::handler();
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP] {
        // SAFETY: the handler is one; the structure lives during the call.
        check(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) })?;
    }
    Ok(())
}
