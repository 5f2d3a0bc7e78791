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

/// How long a new task may take to its first stop at the very end: it is runnable and does nothing else.
const LAST_LOOK: Duration = Duration::from_millis(200);

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
            signals,
            is_orphan: false,
        }
    }

    /// Serves until the front quits or is gone. The process's exit status.
    pub(super) fn run(mut self, front: &OwnedFd) -> i32 {
        process::ignore_terminal_signals();
        let mut children = match poll::SignalFd::new(&[libc::SIGCHLD]) {
            Ok(children) => children,
            Err(error) => return self.excuse(front, system("signalfd")(error)),
        };
        loop {
            let Ok(more) = self.sweep() else { return self.take_out(&mut children) };
            let fds = [children.as_fd(), self.line.as_fd(), front.as_fd()];
            let wake = if more { Some(Instant::now()) } else { self.tracer.due() };
            let Ok([_, request, gone]) = poll::readable(fds, wake) else {
                return self.take_out(&mut children);
            };
            children.take();
            for orphan in self.tracer.orphans() {
                self.take_orphan(orphan);
            }
            if request {
                match self.serve() {
                    Ok(Then::Continue) => {}
                    Ok(Then::Quit) | Err(_) => return self.take_out(&mut children),
                }
            } else if gone {
                return self.take_out(&mut children);
            }
        }
    }

    /// Nothing can be done here: the first request is told why.
    fn excuse(mut self, front: &OwnedFd, error: TargetError) -> i32 {
        let asked = poll::readable([self.line.as_fd(), front.as_fd()], None).is_ok_and(|[asked, _]| asked);
        if asked && self.line.receive::<Request>(PATIENCE).is_ok() {
            // A front that is gone meanwhile needs no answer.
            let _ = self.line.send(&Message::Reply(Reply::Failed(error)));
        }
        1
    }

    /// Nobody wants the probes any more: the front is gone, or has let go of everything that it knows of. Where they cannot be
    /// taken out we stay, for as long as the process lives: without us a breakpoint would be its death.
    fn take_out(mut self, children: &mut poll::SignalFd) -> i32 {
        self.is_orphan = true;
        loop {
            while self.leave_some() {}
            if self.spaces.is_empty() {
                self.take_unclaimed();
                return 0;
            }
            // An error is a timeout like any other here: it is all tried again.
            let _ = poll::readable([children.as_fd()], Some(Instant::now() + RETRY));
            children.take();
            for orphan in self.tracer.orphans() {
                self.take_orphan(orphan);
            }
            let _ = self.sweep();
        }
    }

    /// Takes the probes out of every address space where that can be done. Gives whether there was any.
    fn leave_some(&mut self) -> bool {
        let mut any = false;
        for space in self.spaces.keys().copied().collect::<Vec<_>>() {
            any |= self.leave_unheard(space);
        }
        any
    }

    /// Waits for tasks that are still on their way to their first stop, made by processes that were killed over it.
    fn take_unclaimed(&mut self) {
        let deadline = Instant::now() + LAST_LOOK;
        loop {
            let _ = self.sweep();
            for orphan in self.tracer.unclaimed() {
                self.take_orphan(orphan);
            }
            // An error: there is nothing to wait for.
            match ptrace::try_wait(-1) {
                Ok(Some((tid, wait))) => drop(self.route(Tid(tid), wait)),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
                _ => return,
            }
        }
    }

    /// Lets go of an address space, if it can be done now; whether it could. What came out of it meanwhile is ours to let go
    /// too.
    fn leave_unheard(&mut self, space: Space) -> bool {
        let Some(engine) = self.spaces.get_mut(&space) else { return false };
        let left = engine.has_left() || engine.leave().is_ok() || engine.let_go_untouched();
        for born in std::mem::take(&mut engine.born) {
            self.enter(*born.engine);
        }
        if left {
            self.spaces.remove(&space);
        }
        left
    }

    /// A new task whose maker was killed before it could tell: it stands at its first stop, with the text of its maker.
    fn take_orphan(&mut self, tid: Tid) {
        let shares = |engine: &&mut Engine<Process>| engine.target.shares_memory(None, tid);
        let taken = match self.spaces.values_mut().find(shares) {
            Some(engine) => engine.adopt_orphan(tid),
            None => self.clean_orphan(tid),
        };
        self.tracer.drop_early(tid);
        if let Err(error) = taken
            && !error.is_end()
        {
            let what = format!("the child process {tid} of a killed process could not be cleaned: {error}");
            let _ = self.send_news(News::Warning(what));
        }
    }

    /// Of its maker nothing may be left but the area's description of itself.
    fn clean_orphan(&self, tid: Tid) -> Result<(), TargetError> {
        let target = Process::orphan(&self.tracer, tid.0)?;
        let mut engine = Engine::new(target, coherence::description(Architecture::X86), process::identity());
        engine.adopt_leftovers()?;
        engine.leave().map(drop)
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
            None => self.tracer.note_end(tid, wait),
        }
        self.tracer.note_wait(tid, wait);
        self.tell()
    }

    /// Sends what happened, takes in new address spaces, and drops those that are gone.
    fn tell(&mut self) -> Result<(), TargetError> {
        for space in self.spaces.keys().copied().collect::<Vec<_>>() {
            self.tell_of(space)?;
        }
        // A front that must act on the end of a space has to hear of that first.
        let (status, signal) = match self.tracer.take_command_end() {
            Some(Wait::Killed(signal)) => (None, Some(signal)),
            Some(Wait::Exited(status)) => (Some(status), None),
            _ => return Ok(()),
        };
        self.send_news(News::Command { status, signal })
    }

    fn tell_of(&mut self, space: Space) -> Result<(), TargetError> {
        let Some(engine) = self.spaces.get_mut(&space) else { return Ok(()) };
        let group = engine.group;
        let mut news: Vec<News> = Vec::new();
        let stands = engine.target.group();
        if std::mem::replace(&mut engine.known_as, stands) != stands {
            news.push(News::PassedOn(space, stands));
        }
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
        let (pid, changes) = (engine.target.group(), engine.changes);
        let file = engine.state_file().and_then(|file| file.try_clone().ok());
        let space = self.enter(*engine);
        let origin = if forked {
            Origin::Forked { state: self.keep_for_front(space, file), changes }
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
                let engine = self.engine(space)?;
                engine.inherit()?;
                let threads = engine.target.tasks().len();
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
        self.spaces.get_mut(&space).ok_or(TargetError::SpaceGone)
    }

    fn attach(&mut self, pid: i32, manner: Manner) -> Result<Space, TargetError> {
        self.tracer.inject_freely(manner.inject_freely);
        let target = Process::attach(&self.tracer, pid)?;
        let mut engine = Engine::new(target, coherence::description(Architecture::X86), process::identity());
        engine.follow = manner.follow;
        if engine.target.may_have_unseen_guests() {
            engine.warn(format!(
                "whether another process shares the memory of process {pid} is not known: kcmp(2) is not allowed here, nor \
                 to write /proc/PID/coredump_filter; such a one may stumble over the probes"
            ));
        }
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
        self.tracer.watch_command(Some(Tid(pid)));
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
                self.tracer.watch_command(None);
                self.tracer.take_command_end();
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
