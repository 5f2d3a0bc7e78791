//! The line between front and holder: length-prefixed messages over a socket pair.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::TargetError;

/// No message is longer: a change of a hundred thousand sites is some tens of megabytes.
const LIMIT: usize = 1 << 30;

/// One end.
#[derive(Debug)]
pub(super) struct Line {
    stream: UnixStream,
}

fn broken(error: impl ToString) -> TargetError {
    TargetError::Line(error.to_string())
}

impl Line {
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = UnixStream::pair()?;
        Ok((Self { stream: a }, Self { stream: b }))
    }

    pub(super) fn send<M: Serialize>(&mut self, message: &M) -> Result<(), TargetError> {
        let bytes = postcard::to_stdvec(message).map_err(broken)?;
        let len = u32::try_from(bytes.len()).map_err(broken)?;
        self.stream.write_all(&len.to_le_bytes()).map_err(broken)?;
        self.stream.write_all(&bytes).map_err(broken)
    }

    /// The next message, waiting at most `patience` for each part of it.
    pub(super) fn receive<M: DeserializeOwned>(&mut self, patience: Duration) -> Result<M, TargetError> {
        self.stream.set_read_timeout(Some(patience)).map_err(broken)?;
        let mut len = [0; 4];
        self.stream.read_exact(&mut len).map_err(broken)?;
        let len = usize::try_from(u32::from_le_bytes(len)).map_err(broken)?;
        if len > LIMIT {
            return Err(broken("a message of absurd length"));
        }
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).map_err(broken)?;
        postcard::from_bytes(&bytes).map_err(broken)
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
