//! Why the command ends without doing what was asked, and the exit status that says so.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A failure of the command. Rendered by [`crate::show::error`].
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// Neither or both forms of target were given.
    #[error("{problem} given: `xol {verb} PROBE... -p PID[,PID...]` or `xol {verb} PROBE... -- CMD ARG...`")]
    Usage {
        /// The command.
        verb: &'static str,
        /// `no target` or `two targets`.
        problem: &'static str,
    },
    /// A name that is not among those there are.
    #[error("no {what} named {name}: there are {known}")]
    Unknown {
        /// What kind of thing.
        what: String,
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// In the contract, not built yet.
    #[error("{0} is not available yet")]
    NotAvailable(String),
    /// What was named does not exist.
    #[error(transparent)]
    Lookup(#[from] xol::catalogue::LookupError),
    /// A process would not be handled.
    #[error(transparent)]
    Target(#[from] target::TargetError),
    /// The session failed.
    #[error(transparent)]
    Session(#[from] xol::session::Error),
    /// Results could not be written.
    #[error("cannot write to {to}: {source}")]
    Output {
        /// The file, or `standard output`.
        to: String,
        /// Why.
        source: io::Error,
    },
    /// Whoever read the results has closed the pipe: a quiet end.
    #[error("the reader of the results has gone")]
    ClosedPipe,
    /// Signals cannot be caught.
    #[error("cannot catch {signal}: {source}")]
    Signal {
        /// Its name.
        signal: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The text of a removed session is not what it was.
    #[error("the program's text could not be restored")]
    NotRestored,
    /// A file that was asked about cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Failure {
    /// What the user can do about it.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::Lookup(error) => error.help(),
            Self::Session(error) => error.help(),
            Self::NotRestored => {
                Some("restart the program; please report this with the output of `xol --version`".into())
            }
            Self::Output { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some room and start again; nothing of xol's is left in the target".into())
            }
            Self::Target(target::TargetError::NotPermitted { pid, .. }) => {
                Some(format!("`xol doctor -p {pid}` says more"))
            }
            _ => None,
        }
    }

    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Usage { .. } | Self::Unknown { .. } | Self::NotAvailable(_) => 2,
            Self::Lookup(error) => 1 + u8::from(error.is_usage()),
            Self::Session(error) => error.status(),
            Self::ClosedPipe => 0,
            Self::Target(_)
            | Self::Output { .. }
            | Self::Signal { .. }
            | Self::NotRestored
            | Self::Read { .. } => 1,
        }
    }
}
