//! What can go wrong in a benchmark run.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// A reason to stop measuring.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// A program could not be started or spoken to.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A command that we depend on failed.
    #[error("`{command}` failed: {detail}")]
    Command {
        /// The command line.
        command: String,
        /// Its standard error, or its status.
        detail: String,
    },
    /// The measured program answered something else than its protocol says.
    #[error("the measured program answered {answer:?} to {request:?}")]
    Protocol {
        /// What was asked.
        request: String,
        /// What came back.
        answer: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {} s", limit.as_secs())]
    Deadline {
        /// What was waited for.
        what: String,
        /// For how long.
        limit: Duration,
    },
    /// xol's own results do not have the form that its command line promises.
    #[error("{}: {detail}", path.display())]
    Results {
        /// The results file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Something that is measured where it is there is not.
    #[error("{0}")]
    Missing(String),
    /// A probe did not count what happened.
    #[error("inexact: {0}")]
    Inexact(String),
}

impl Error {
    /// Adds what was tried to an I/O error.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
