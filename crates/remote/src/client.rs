//! A client: what is asked of a remote, one method a question.
//!
//! All-stop mode: the target either runs, and then only [`Client::wait`] and [`Client::interrupt`] make sense, or stands still with
//! all its threads. Whatever a remote cannot do is [`RemoteError::Unsupported`], and [`Features`] tells it beforehand.

mod files;
mod lists;
mod memory;
mod registers;
mod run;
mod setup;

pub use files::{File, FileStat};
pub use lists::{Library, Listed, Offsets, Region};
pub use memory::BreakpointKind;
pub use run::Action;
pub use setup::Features;

use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::error::{RemoteError, excerpt};
use crate::link::Stream;
use crate::stop::{ThreadId, number};

/// What takes many packets (objects, lists) may take so many times as long as one.
const MANY_PACKETS: u32 = 6;

/// A conversation with a remote, over any stream.
#[derive(Debug)]
pub struct Client<S> {
    connection: Connection<S>,
    features: Features,
    is_running: bool,
    /// Whether the remote was asked where it stands, and had a process: only then gdbserver can describe its target (13.1 ends
    /// when asked for it before).
    has_process: bool,
    /// The thread that the next `g`, `m`, `Z` and their like are about, where we chose it since the last stop.
    selected: Option<ThreadId>,
    /// Whether the remote takes `X` and `P`; unknown before the first time.
    takes_binary: Option<bool>,
    takes_single_registers: Option<bool>,
    /// What the target printed through the remote.
    output: Vec<u8>,
}

impl<S: Stream> Client<S> {
    /// What the remote can do.
    #[must_use]
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Whether the target runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.is_running
    }

    /// Whether more can be said: no fatal error has come ([`RemoteError::is_fatal`]).
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.connection.is_good()
    }

    /// How long an answer may take.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.connection.patience()
    }

    /// What the target printed through the remote since the last time (the last MiB of it).
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Sends a packet that needs the target stopped, and takes its answer as it comes.
    ///
    /// # Errors
    /// [`RemoteError::Running`], or a fatal one.
    pub fn request(&mut self, content: &[u8]) -> Result<Vec<u8>, RemoteError> {
        if self.is_running {
            return Err(RemoteError::Running { wanted: excerpt(content) });
        }
        self.connection.request(content)
    }

    /// The same, for packets that are known to all remotes or announced by this one: the empty reply and errors are errors.
    fn ask(&mut self, content: &[u8], what: &'static str) -> Result<Vec<u8>, RemoteError> {
        let reply = self.request(content)?;
        match reply.as_slice() {
            [] => Err(RemoteError::Unsupported { sent: self.sent(), what }),
            _ if is_error(&reply) => Err(RemoteError::Refused { sent: self.sent(), code: excerpt(&reply) }),
            _ => Ok(reply),
        }
    }

    /// The same, where the answer is `OK`.
    fn command(&mut self, content: &[u8], what: &'static str) -> Result<(), RemoteError> {
        match self.ask(content, what)?.as_slice() {
            b"OK" => Ok(()),
            other => Err(self.unexpected(other, "OK")),
        }
    }

    fn sent(&self) -> String {
        self.connection.sent().to_owned()
    }

    /// Whether something of many packets that began then may still go on.
    ///
    /// # Errors
    /// [`RemoteError::Silent`], and the connection stays good.
    fn check_time(&self, began: Instant) -> Result<(), RemoteError> {
        let within = self.patience() * MANY_PACKETS;
        if began.elapsed() <= within {
            return Ok(());
        }
        Err(RemoteError::Silent { sent: self.sent(), within })
    }

    fn unexpected(&self, came: &[u8], expected: &'static str) -> RemoteError {
        RemoteError::Unexpected { sent: self.sent(), came: excerpt(came), expected }
    }

    /// Makes `thread` what the next requests are about (`Hg`): registers, and in a remote of several processes memory and
    /// breakpoints too. Does nothing where it is already so.
    ///
    /// # Errors
    /// What the remote says.
    pub fn select(&mut self, thread: ThreadId) -> Result<(), RemoteError> {
        if self.selected == Some(thread) {
            return Ok(());
        }
        self.command(format!("Hg{thread}").as_bytes(), "choose a thread")?;
        self.selected = Some(thread);
        Ok(())
    }
}

/// `E` and two digits, or `E.` and words. (A reply of data in digits may begin with E too, but is longer.)
fn is_error(reply: &[u8]) -> bool {
    reply.starts_with(b"E.") || reply.len() == 3 && reply[0] == b'E' && number(&reply[1..]).is_some()
}
