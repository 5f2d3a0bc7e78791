//! The holder's loop.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use coherence::Architecture;

use super::line::Line;
use super::messages::{Attached, Message, News, Reply, Request};
use crate::engine::{Engine, Notice};
use crate::error::{TargetError, system};
use crate::linux::Process;
use crate::seam::{Target, Tid};
use crate::sys::process::{self, Command, Gate, SignalState};
use crate::sys::ptrace::{self, Wait};
use crate::sys::{poll, process as sys_process};

/// How long a command may take from fork to its first instruction: reading a large file from a slow disk, not more.
const EXEC_PATIENCE: Duration = Duration::from_secs(60);
/// How long the rest of a request may take to arrive, once its beginning did.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Holder {
    line: Line,
    engine: Option<Engine<Process>>,
    /// The process that is or was traced.
    pid: i32,
    /// Whether it is our child: its end is ours to report, also when it is no longer traced.
    is_command: bool,
    has_ended: bool,
    signals: SignalState,
}

/// What the loop does after a request.
enum Then {
    Continue,
    Quit,
}

impl Holder {
    pub(super) fn new(line: Line, signals: SignalState) -> Self {
        Self { line, engine: None, pid: 0, is_command: false, has_ended: false, signals }
    }

    /// Serves until the front quits or is gone. The process's exit status.
    pub(super) fn run(mut self, front: &OwnedFd) -> i32 {
        process::ignore_terminal_signals();
        let Ok(mut children) = poll::SignalFd::new(&[libc::SIGCHLD]) else { return 1 };
        loop {
            self.sweep();
            if self.tell().is_err() {
                return self.take_out();
            }
            let Ok([_, request, gone]) =
                poll::readable([children.as_fd(), self.line.as_fd(), front.as_fd()], None)
            else {
                return self.take_out();
            };
            children.take();
            if request {
                match self.serve() {
                    Ok(Then::Continue) => {}
                    Ok(Then::Quit) => return 0,
                    Err(_) => return self.take_out(),
                }
            } else if gone {
                return self.take_out();
            }
        }
    }

    /// The front is gone: nobody wants the probes any more.
    fn take_out(mut self) -> i32 {
        for _ in 0..10 {
            match self.engine.as_mut().map(Engine::leave) {
                None | Some(Ok(_)) => return 0,
                Some(Err(_)) => self.sweep(),
            }
        }
        1
    }

    /// Handles everything that waitpid has.
    fn sweep(&mut self) {
        while let Ok(Some((tid, wait))) = ptrace::try_wait(-1) {
            self.route(Tid(tid), wait);
        }
    }

    fn route(&mut self, tid: Tid, wait: Wait) {
        let ended = matches!(wait, Wait::Exited(_) | Wait::Killed(_));
        let Some(engine) = &mut self.engine else {
            if ended && tid.0 == self.pid {
                self.report_end(wait);
            }
            return;
        };
        let known = engine.target.tasks().contains(&tid);
        if !known && !engine.target.is_thread(tid) && !ended {
            engine.target.note_early(tid, wait);
            return;
        }
        if !known && ended {
            // A forked child let go that is our grandchild, or a task already forgotten; the command's own end counts.
            if tid.0 == self.pid {
                self.report_end(wait);
            }
            return;
        }
        let event = engine.target.note(tid, wait);
        if let Err(error) = engine.react(tid, event) {
            engine.warn(format!("thread {tid}: {error}"));
        }
    }

    fn report_end(&mut self, wait: Wait) {
        let (status, signal) = match wait {
            Wait::Exited(status) => (Some(status), None),
            Wait::Killed(signal) => (None, Some(signal)),
            _ => return,
        };
        if !self.has_ended {
            self.has_ended = true;
            // A front that is gone is noticed by the loop.
            let _ = self.line.send(&Message::News(News::Ended { status, signal }));
        }
    }

    /// Sends what happened.
    fn tell(&mut self) -> Result<(), TargetError> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        while let Some(notice) = engine.notices.pop_front() {
            let news = match notice {
                Notice::Library(tid) => News::Library(tid),
                Notice::Exec(tid) => News::Exec(tid),
                Notice::Warning(text) => News::Warning(text),
                Notice::Ended { status, signal } => {
                    if self.has_ended {
                        continue;
                    }
                    self.has_ended = true;
                    News::Ended { status, signal }
                }
            };
            self.line.send(&Message::News(news))?;
        }
        Ok(())
    }

    fn serve(&mut self) -> Result<Then, TargetError> {
        let request: Request = self.line.receive(PATIENCE)?;
        let quit = matches!(request, Request::Quit);
        let reply = self.answer(request).unwrap_or_else(Reply::Failed);
        self.tell()?;
        self.line.send(&Message::Reply(reply))?;
        Ok(if quit { Then::Quit } else { Then::Continue })
    }

    fn answer(&mut self, request: Request) -> Result<Reply, TargetError> {
        match request {
            Request::Attach { pid } => {
                process::close_standard_streams();
                self.attach(Process::attach(pid)?);
                let threads = self.engine()?.target.tasks().len();
                Ok(Reply::Attached(Attached { pid, threads, held: None }))
            }
            Request::Spawn { paths, argv } => self.spawn(paths, argv),
            Request::Change(change) => {
                let engine = self.engine()?;
                let report = engine.change(*change)?;
                Ok(Reply::Changed(report, engine.state_file().map(AsRawFd::as_raw_fd)))
            }
            Request::Go { tid } => {
                self.engine()?.go(tid);
                Ok(Reply::Done)
            }
            Request::Freeze => {
                let engine = self.engine()?;
                engine.stop_world()?;
                Ok(Reply::Frozen(engine.threads_inside()))
            }
            Request::Thaw => {
                self.engine()?.resume_world();
                Ok(Reply::Done)
            }
            Request::Status => Ok(Reply::Status(self.engine()?.statistics.into())),
            Request::Leave => {
                let engine = self.engine()?;
                let left = engine.leave()?;
                Ok(Reply::Left(left, engine.statistics.into()))
            }
            Request::Quit => Ok(Reply::Done),
        }
    }

    fn engine(&mut self) -> Result<&mut Engine<Process>, TargetError> {
        self.engine.as_mut().ok_or_else(|| TargetError::Line("nothing is attached".to_owned()))
    }

    fn attach(&mut self, target: Process) {
        self.pid = target.pid();
        let own = sys_process::identity();
        self.engine = Some(Engine::new(target, coherence::description(Architecture::X86), own));
    }

    fn spawn(&mut self, paths: Vec<Vec<u8>>, argv: Vec<Vec<u8>>) -> Result<Reply, TargetError> {
        let texts = |all: Vec<Vec<u8>>| -> Result<Vec<CString>, TargetError> {
            let text =
                |bytes| CString::new(bytes).map_err(|_| TargetError::Exec { source: libc::EINVAL.into() });
            all.into_iter().map(text).collect()
        };
        let command = Command::new(texts(paths)?, texts(argv)?, self.signals);
        let (wait, open) = process::pipe().map_err(system("pipe"))?;
        let gate = Gate { wait, open };
        let (failed, failed_write) = process::pipe().map_err(system("pipe"))?;
        let pid = command.spawn(&gate, &failed_write).map_err(system("fork"))?;
        drop(failed_write);
        self.is_command = true;
        self.attach(Process::attach(pid)?);
        process::close_standard_streams();
        drop(gate);
        self.until_exec(pid, File::from(failed))
    }

    fn until_exec(&mut self, pid: i32, mut failed: File) -> Result<Reply, TargetError> {
        let deadline = Instant::now() + EXEC_PATIENCE;
        let tid = Tid(pid);
        let engine = self.engine()?;
        while !engine.is_held(tid) {
            let event = engine.target.wait(tid, deadline)?.ok_or(TargetError::Gone { tid })?;
            engine.react(tid, event)?;
            if engine.target.tasks().is_empty() {
                self.has_ended = true;
                return Err(TargetError::Exec { source: exec_error(&mut failed).into() });
            }
        }
        let engine = self.engine()?;
        engine.notices.clear();
        Ok(Reply::Attached(Attached { pid, threads: 1, held: Some(tid) }))
    }
}

/// The error number that a failed exec left in the pipe.
fn exec_error(failed: &mut File) -> io::Error {
    let mut bytes = [0; 4];
    match failed.read_exact(&mut bytes) {
        Ok(()) => io::Error::from_raw_os_error(i32::from_ne_bytes(bytes)),
        Err(error) => error,
    }
}
