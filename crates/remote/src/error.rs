//! What can go wrong between us and a remote.

use std::io;
use std::time::Duration;

use insn::Address;
use thiserror::Error;

use crate::description::DescriptionError;

/// A failure of a connection, a request or a reply.
///
/// Packets appear in it as text, shortened ([`excerpt`]). After [`RemoteError::is_fatal`] the connection is of no more use.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The text names no remote.
    #[error("`{text}` names no remote: give HOST:PORT, unix:PATH or '|COMMAND'")]
    Endpoint {
        /// What was given.
        text: String,
    },
    /// Nobody there.
    #[error("cannot connect to {to}: {source}; is the stub running, and does it listen there?")]
    Connect {
        /// The remote as it was named.
        to: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The remote ended the connection.
    #[error("the remote closed the connection after `{sent}`; its own output may say why")]
    Closed {
        /// The last packet sent.
        sent: String,
    },
    /// The kernel failed to carry bytes.
    #[error("the connection failed after `{sent}`: {source}")]
    Stream {
        /// The last packet sent.
        sent: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No answer in time.
    #[error("no whole answer to `{sent}` within {within:?}: the remote hangs, or is no GDB stub")]
    Silent {
        /// The packet.
        sent: String,
        /// The time it had.
        within: Duration,
    },
    /// More than any honest answer holds.
    #[error("the answer to `{sent}` is longer than {limit} bytes: the remote is broken, or is no GDB stub")]
    TooLong {
        /// The packet.
        sent: String,
        /// What would have been read.
        limit: usize,
    },
    /// Packets come damaged, again and again.
    #[error(
        "`{sent}` or its answer came damaged {times} times: the line loses bytes, or the remote is no GDB stub"
    )]
    Damaged {
        /// The packet.
        sent: String,
        /// How often it was tried.
        times: u32,
    },
    /// The empty reply: the remote does not know the packet.
    #[error("the remote does not know `{sent}`: it cannot {what}")]
    Unsupported {
        /// The packet.
        sent: String,
        /// What it would have done.
        what: &'static str,
    },
    /// An error reply.
    #[error("the remote refuses `{sent}`: {code}")]
    Refused {
        /// The packet.
        sent: String,
        /// The error as it came: `E` and a number without a fixed meaning, or `E.` and words.
        code: String,
    },
    /// An error reply to an access of memory.
    #[error("the remote cannot {verb} {len} bytes at {address}: {code}")]
    Memory {
        /// "read" or "write".
        verb: &'static str,
        /// Where.
        address: Address,
        /// How many.
        len: usize,
        /// The error as it came.
        code: String,
    },
    /// A reply that does not fit its request.
    #[error(
        "the remote answers `{sent}` with `{came}`, which is not {expected}: please report this with the stub's version"
    )]
    Unexpected {
        /// The packet.
        sent: String,
        /// The reply.
        came: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A file operation failed on the remote's side; the number is the protocol's (GDB manual, "Errno Values").
    #[error("the remote cannot {verb} {path}: error {errno}")]
    File {
        /// What was attempted.
        verb: &'static str,
        /// The file.
        path: String,
        /// The protocol's number.
        errno: u32,
    },
    /// The target description is missing, wrong, or of a machine that is not known.
    #[error(transparent)]
    Description(#[from] DescriptionError),
    /// The target runs: it must stop first.
    #[error("the target runs; `{wanted}` needs it stopped")]
    Running {
        /// The packet that cannot be sent now.
        wanted: String,
    },
    /// The target stands still: there is nothing to wait for.
    #[error("the target stands still: nothing to wait for")]
    Stopped,
    /// The remote has no process.
    #[error("the remote has no process: attach to one, or run a program")]
    NoProcess,
    /// An earlier error left the connection between two packets.
    #[error("the connection is of no more use since an earlier error")]
    Broken,
}

impl RemoteError {
    /// Whether nothing more can be said over this connection.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::Closed { .. }
                | Self::Stream { .. }
                | Self::Silent { .. }
                | Self::TooLong { .. }
                | Self::Damaged { .. }
                | Self::Broken
        )
    }
}

/// A packet as text for a message: what is not printable as `.`, and not more than 80 characters.
#[must_use]
pub fn excerpt(packet: &[u8]) -> String {
    const SHOWN: usize = 80;
    let shown = packet.iter().take(SHOWN);
    let printable = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '.' };
    let mut text: String = shown.map(printable).collect();
    if packet.len() > SHOWN {
        text.push_str(&format!("... ({} bytes)", packet.len()));
    }
    text
}
