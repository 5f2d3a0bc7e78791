//! The front's end of the line.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::line::Line;
use super::messages::{Message, News, Reply, Request};
use super::serve::Holder;
use crate::error::{TargetError, system};
use crate::sys::process::{self, SignalState};
use crate::sys::{poll, ptrace};

/// How long the holder may take over a request: it gives up by itself long before.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a process that was killed, or told to end, may take to be gone.
const BURIAL: Duration = Duration::from_secs(10);

/// A holder process, and the line to it. Dropped: the holder notices and takes everything out.
#[derive(Debug)]
pub struct Client {
    line: Line,
    holder: i32,
    news: VecDeque<News>,
}

impl Client {
    /// Forks the holder. To be done early: the holder keeps a copy of this process's memory, and only this thread goes on
    /// in it. The calling process becomes a subreaper, so that a command outlives its holder as our child.
    ///
    /// # Errors
    /// What prevents forking.
    pub fn start() -> Result<Self, TargetError> {
        process::become_subreaper();
        let signals = SignalState::current();
        let (line, other) = Line::pair().map_err(system("socketpair"))?;
        let front = process::pidfd_open(process::own_pid()).map_err(system("pidfd_open"))?;
        // The child must not keep the front's end open: the end of the line is how it learns of our end.
        let mut line = Some(line);
        let mut other = Some(other);
        let holder = process::fork(|| {
            drop(line.take());
            other.take().map_or(1, |other| Holder::new(other, signals).run(&front))
        })
        .map_err(system("fork"))?;
        let line = line.ok_or_else(|| TargetError::Line("the line was lost".to_owned()))?;
        Ok(Self { line, holder, news: VecDeque::new() })
    }

    /// The holder's process number.
    #[must_use]
    pub fn holder(&self) -> i32 {
        self.holder
    }

    /// Whether the holder has died.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        process::start_time(self.holder).is_none()
    }

    /// Asks, and waits for the answer. News that come before it are kept.
    ///
    /// # Errors
    /// What the holder answered, or [`TargetError::Line`] when it is gone.
    pub fn request(&mut self, request: &Request) -> Result<Reply, TargetError> {
        self.line.send(request)?;
        loop {
            match self.line.receive(PATIENCE)? {
                Message::News(news) => self.news.push_back(news),
                Message::Reply(Reply::Failed(error)) => return Err(error),
                Message::Reply(reply) => return Ok(reply),
            }
        }
    }

    /// The next news, waiting at most until `deadline`.
    ///
    /// # Errors
    /// [`TargetError::Line`] when the holder is gone.
    pub fn news(&mut self, deadline: Instant) -> Result<Option<News>, TargetError> {
        if let Some(news) = self.news.pop_front() {
            return Ok(Some(news));
        }
        let [ready] = poll::readable([self.line.as_fd()], Some(deadline)).map_err(system("poll"))?;
        if !ready {
            return Ok(None);
        }
        match self.line.receive(PATIENCE)? {
            Message::News(news) => Ok(Some(news)),
            Message::Reply(_) => Err(TargetError::Line("an answer to no question".to_owned())),
        }
    }

    /// Opens the shared state by the holder's descriptor of it.
    ///
    /// # Errors
    /// What prevents it.
    pub fn open_state(&self, fd: i32) -> Result<File, TargetError> {
        File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/{}/fd/{fd}", self.holder))
            .map_err(system("opening the shared state"))
    }

    /// Waits for the end of a holder that no longer answers. The kernel closes a dying process's descriptors before it lets
    /// go of its tracees (kernel/exit.c, `do_exit`): until it is a zombie nobody else can seize them.
    pub fn bury(&self) {
        let deadline = Instant::now() + BURIAL;
        while Instant::now() < deadline && matches!(ptrace::try_wait(self.holder), Ok(None)) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends the holder and collects it.
    pub fn quit(mut self) {
        if self.request(&Request::Quit).is_ok() {
            self.bury();
        }
    }
}
