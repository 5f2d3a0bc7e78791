//! The holder's loop.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use coherence::Architecture;

use super::line::Line;
use super::messages::{Attached, Manner, Message, Newborn, News, Origin, Reply, Request, Space, Status};
use crate::engine::{Born, Engine, Left, Notice};
use crate::error::{TargetError, system};
use crate::linux::{Process, Tracer};
use crate::seam::{Target, Tid};
use crate::sys::poll;
use crate::sys::process::{self, Command, Gate, SignalState};
use crate::sys::ptrace::{self, Wait};

/// How long a command may take from fork to its first instruction: reading a large file from a slow disk, not more.
const EXEC_PATIENCE: Duration = Duration::from_secs(60);
/// Events handled before the front is looked after again: threads at a hot breakpoint never leave waitpid without one.
const BATCH: usize = 64;
/// How long the rest of a request may take to arrive, once its beginning did.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long an orphaned holder waits until it tries again to take the probes out, if nothing happens before.
const RETRY: Duration = Duration::from_millis(500);

pub(super) struct Holder {
    line: Line,
    tracer: Rc<Tracer>,
    /// Every address space with tasks in it.
    spaces: BTreeMap<Space, Engine<Process>>,
    next: u32,
    /// States, and copies of such, until the front has opened them: the process may be gone by then.
    unopened: BTreeMap<Space, File>,
    /// Our child: its end is ours to report, also when it is no longer traced.
    command: Option<i32>,
    signals: SignalState,
    /// The front is gone: there is nobody to tell.
    is_orphan: bool,
}

/// What the loop does after a request.
enum Then {
    Continue,
    Quit,
}

impl Holder {
    pub(super) fn new(line: Line, signals: SignalState) -> Self {
        Self {
            line,
            tracer: Tracer::watched(),
            spaces: BTreeMap::new(),
            next: 0,
            unopened: BTreeMap::new(),
            command: None,
            signals,
            is_orphan: false,
        }
    }

    /// Serves until the front quits or is gone. The process's exit status.
    pub(super) fn run(mut self, front: &OwnedFd) -> i32 {
        process::ignore_terminal_signals();
        let Ok(mut children) = poll::SignalFd::new(&[libc::SIGCHLD]) else { return 1 };
        loop {
            let Ok(more) = self.sweep() else { return self.take_out(&mut children) };
            let Ok([_, request, gone]) =
                poll::readable([children.as_fd(), self.line.as_fd(), front.as_fd()], more.then(Instant::now))
            else {
                return self.take_out(&mut children);
            };
            children.take();
            if request {
                match self.serve() {
                    Ok(Then::Continue) => {}
                    Ok(Then::Quit) => return 0,
                    Err(_) => return self.take_out(&mut children),
                }
            } else if gone {
                return self.take_out(&mut children);
            }
        }
    }

    /// The front is gone: nobody wants the probes any more. Where they cannot be taken out we stay, for as long as the
    /// process lives: without us a breakpoint would be its death.
    fn take_out(mut self, children: &mut poll::SignalFd) -> i32 {
        self.is_orphan = true;
        loop {
            while self.leave_some() {}
            if self.spaces.is_empty() {
                return 0;
            }
            // An error is a timeout like any other here: it is all tried again.
            let _ = poll::readable([children.as_fd()], Some(Instant::now() + RETRY));
            children.take();
            let _ = self.sweep();
        }
    }

    /// Takes the probes out of every address space where that can be done. Gives whether there was any.
    fn leave_some(&mut self) -> bool {
        let mut any = false;
        for space in self.spaces.keys().copied().collect::<Vec<_>>() {
            if self.spaces.get_mut(&space).is_some_and(|engine| engine.leave().is_ok()) {
                any = true;
                // Children that came meanwhile are address spaces of their own; nobody is there to fail to be told.
                let _ = self.tell_of(space);
                self.spaces.remove(&space);
            }
        }
        any
    }

    /// Handles what waitpid has, and tells of it; whether there may be more.
    fn sweep(&mut self) -> Result<bool, TargetError> {
        let mut handled = 0;
        while handled < BATCH
            && let Ok(Some((tid, wait))) = ptrace::try_wait(-1)
        {
            self.route(Tid(tid), wait)?;
            handled += 1;
        }
        self.spaces.values_mut().for_each(Engine::settle);
        self.tell()?;
        Ok(handled == BATCH)
    }

    fn route(&mut self, tid: Tid, wait: Wait) -> Result<(), TargetError> {
        let ended = matches!(wait, Wait::Exited(_) | Wait::Killed(_));
        let known = |engine: &Engine<Process>| engine.target.tasks().contains(&tid);
        let related = |engine: &Engine<Process>| !ended && engine.target.is_thread(tid);
        let find = |holds: &dyn Fn(&Engine<Process>) -> bool| {
            self.spaces.iter().find(|(_, engine)| holds(engine)).map(|(space, _)| *space)
        };
        let space = find(&known).or_else(|| find(&related));
        match space.and_then(|space| self.spaces.get_mut(&space)) {
            Some(engine) => {
                let event = engine.target.note(tid, wait);
                if let Err(error) = engine.react(tid, event) {
                    engine.warn(format!("thread {tid}: {error}"));
                }
            }
            // Else a forked child let go that is our grandchild, or a task already forgotten.
            None if !ended => self.tracer.note_early(tid, wait),
            None => {}
        }
        // A front that must act on the end of a space has to hear of that first.
        self.tell()?;
        if ended && self.command == Some(tid.0) {
            self.command = None;
            let (status, signal) = match wait {
                Wait::Killed(signal) => (None, Some(signal)),
                Wait::Exited(status) => (Some(status), None),
                _ => (None, None),
            };
            self.send_news(News::Command { status, signal })?;
        }
        Ok(())
    }

    /// Sends what happened, takes in new address spaces, and drops those that are gone.
    fn tell(&mut self) -> Result<(), TargetError> {
        for space in self.spaces.keys().copied().collect::<Vec<_>>() {
            self.tell_of(space)?;
        }
        Ok(())
    }

    fn tell_of(&mut self, space: Space) -> Result<(), TargetError> {
        let Some(engine) = self.spaces.get_mut(&space) else { return Ok(()) };
        let group = engine.group;
        let mut news: Vec<News> = Vec::new();
        while let Some(notice) = engine.notices.pop_front() {
            match notice {
                Notice::Library(tid) => news.push(News::Library(space, tid)),
                Notice::Warning(text) => news.push(News::Warning(text)),
            }
        }
        let born: Vec<_> = engine.born.drain(..).collect();
        let is_over = engine.target.tasks().is_empty();
        let numbers = engine.statistics.into();
        let children: Vec<Space> = born
            .into_iter()
            .map(|born| {
                let (child, newborn) = self.take_in(space, group, born);
                news.push(News::Born(newborn));
                child
            })
            .collect();
        if is_over {
            let saved = self.spaces.remove(&space).and_then(|mut engine| engine.take_saved());
            let saved = self.keep_for_front(space, saved);
            news.push(News::Ended { space, numbers, saved });
        }
        for news in news {
            self.send_news(news)?;
        }
        // They may have had children of their own, or be gone already.
        children.into_iter().try_for_each(|child| self.tell_of(child))
    }

    fn send_news(&mut self, news: News) -> Result<(), TargetError> {
        if self.is_orphan { Ok(()) } else { self.line.send(&Message::News(news)) }
    }

    fn take_in(&mut self, parent: Space, group: i32, born: Born<Process>) -> (Space, Newborn) {
        let Born { forked, engine, tid } = born;
        let pid = engine.target.group();
        let file = engine.state_file().and_then(|file| file.try_clone().ok());
        let has_state = engine.has_state();
        let space = self.enter(*engine);
        let origin = if forked && !has_state {
            Origin::Untouched
        } else if forked {
            Origin::Forked(self.keep_for_front(space, file))
        } else {
            Origin::Executed { tid, replaced: pid == group }
        };
        (space, Newborn { parent, space, pid, origin })
    }

    /// Keeps a file until the front has opened it. Its descriptor.
    fn keep_for_front(&mut self, space: Space, file: Option<File>) -> Option<i32> {
        let file = file?;
        let descriptor = file.as_raw_fd();
        self.unopened.insert(space, file);
        Some(descriptor)
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
            Request::Attach { pid, manner } => {
                process::close_standard_streams();
                let space = self.attach(pid, manner)?;
                let threads = self.engine(space)?.target.tasks().len();
                Ok(Reply::Attached(Attached { space, pid, threads, held: None }))
            }
            Request::Spawn { paths, argv, manner } => self.spawn(paths, argv, manner),
            Request::Change(space, change) => {
                let is_first = change.state.is_some();
                let engine = self.engine(space)?;
                let report = engine.change(*change)?;
                // The target may end, and its engine with it, before the front has opened the state.
                let file = engine.state_file().filter(|_| is_first).and_then(|file| file.try_clone().ok());
                Ok(Reply::Changed(report, self.keep_for_front(space, file)))
            }
            Request::Go { space, tid } => {
                // A thread that is gone needs no leave to go.
                if let Some(engine) = self.spaces.get_mut(&space) {
                    engine.go(tid);
                }
                Ok(Reply::Done)
            }
            Request::Freeze(space) => {
                let engine = self.engine(space)?;
                engine.stop_world()?;
                Ok(Reply::Frozen(engine.threads_inside()))
            }
            Request::Thaw(space) => {
                if let Some(engine) = self.spaces.get_mut(&space) {
                    engine.resume_world();
                }
                Ok(Reply::Done)
            }
            Request::Opened(space) => {
                self.unopened.remove(&space);
                Ok(Reply::Done)
            }
            Request::Leave(space) => match self.spaces.get_mut(&space) {
                Some(engine) => {
                    let (left, numbers) = (engine.leave()?, engine.statistics.into());
                    let saved = engine.take_saved();
                    Ok(Reply::Left(left, numbers, self.keep_for_front(space, saved)))
                }
                // It ended meanwhile: nothing is left to restore, and its numbers are on the way.
                None => Ok(Reply::Left(Left { verified: true, ..Left::default() }, Status::default(), None)),
            },
            Request::Quit => Ok(Reply::Done),
        }
    }

    fn engine(&mut self, space: Space) -> Result<&mut Engine<Process>, TargetError> {
        self.spaces.get_mut(&space).ok_or(TargetError::Gone { tid: Tid(0) })
    }

    fn attach(&mut self, pid: i32, manner: Manner) -> Result<Space, TargetError> {
        self.tracer.inject_freely(manner.inject_freely);
        let target = Process::attach(&self.tracer, pid)?;
        let mut engine = Engine::new(target, coherence::description(Architecture::X86), process::identity());
        engine.follow = manner.follow;
        Ok(self.enter(engine))
    }

    fn enter(&mut self, engine: Engine<Process>) -> Space {
        let space = Space(self.next);
        self.next += 1;
        self.spaces.insert(space, engine);
        space
    }

    fn spawn(
        &mut self,
        paths: Vec<Vec<u8>>,
        argv: Vec<Vec<u8>>,
        manner: Manner,
    ) -> Result<Reply, TargetError> {
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
        self.command = Some(pid);
        let space = self.attach(pid, manner)?;
        process::close_standard_streams();
        drop(gate);
        self.until_exec(space, pid, File::from(failed))
    }

    /// On to the command's first instruction: our own copy that forked is not what anybody wants to know of.
    fn until_exec(&mut self, space: Space, pid: i32, mut failed: File) -> Result<Reply, TargetError> {
        let deadline = Instant::now() + EXEC_PATIENCE;
        let tid = Tid(pid);
        let mut engine = self.spaces.remove(&space).ok_or(TargetError::Gone { tid })?;
        loop {
            let event = engine.target.wait(tid, deadline)?.ok_or(TargetError::Gone { tid })?;
            engine.react(tid, event)?;
            if let Some(born) = engine.born.pop_front() {
                let mut command = *born.engine;
                // A privilege that the command does not get is said in its name.
                command.notices.append(&mut engine.notices);
                let space = self.enter(command);
                return Ok(Reply::Attached(Attached { space, pid, threads: 1, held: Some(tid) }));
            }
            if engine.target.tasks().is_empty() {
                self.command = None;
                return Err(TargetError::Exec { source: exec_error(&mut failed).into() });
            }
        }
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
