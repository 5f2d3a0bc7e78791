//! A child process that answers one line to each line it is sent, with a limit on how long that may take.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;

/// How long an answer may take, batches of single-stepped calls included.
const LIMIT: Duration = Duration::from_secs(120);

/// The child; killed when dropped.
pub(crate) struct Peer {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<String>,
}

impl Peer {
    /// Starts `program`.
    pub(crate) fn start(program: &Path, arguments: &[&Path]) -> Result<Self, Error> {
        let what = || format!("starting {}", program.display());
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Error::io(what()))?;
        let (Some(requests), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Protocol { request: what(), answer: "no pipes".to_owned() });
        };
        let (sender, answers) = mpsc::channel();
        // Reading has no time limit, receiving has; the thread ends with the child's output.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, requests, answers })
    }

    /// The child's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line and waits for the answer.
    pub(crate) fn ask(&mut self, request: &str) -> Result<String, Error> {
        writeln!(self.requests, "{request}").map_err(Error::io(format!("sending {request:?}")))?;
        self.answers
            .recv_timeout(LIMIT)
            .map_err(|_| Error::Deadline { what: format!("an answer to {request:?}"), limit: LIMIT })
    }

    /// Sends a line upon which the child ends; the time until it has ended.
    pub(crate) fn end(mut self, request: &str) -> Result<Duration, Error> {
        let started = Instant::now();
        writeln!(self.requests, "{request}").map_err(Error::io(format!("sending {request:?}")))?;
        self.child.wait().map_err(Error::io("waiting for a child"))?;
        Ok(started.elapsed())
    }

    /// As `ask`, for an answer of `N` numbers.
    pub(crate) fn ask_numbers<const N: usize>(&mut self, request: &str) -> Result<[u64; N], Error> {
        let answer = self.ask(request)?;
        let numbers: Option<Vec<u64>> = answer.split(' ').map(|word| word.parse().ok()).collect();
        numbers
            .and_then(|numbers| numbers.try_into().ok())
            .ok_or_else(|| Error::Protocol { request: request.to_owned(), answer })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Peer;
    use crate::error::Error;

    #[test]
    fn lines_are_answered() {
        let mut peer = Peer::start(Path::new("cat"), &[]).unwrap();
        assert_eq!(peer.ask("hello there").unwrap(), "hello there");
        assert_eq!(peer.ask_numbers::<2>("12 34").unwrap(), [12, 34]);
        assert!(matches!(peer.ask_numbers::<2>("12"), Err(Error::Protocol { .. })));
        assert!(matches!(peer.ask_numbers::<1>("x"), Err(Error::Protocol { .. })));
    }

    #[test]
    fn a_peer_that_ended_is_an_error() {
        let mut peer = Peer::start(Path::new("true"), &[]).unwrap();
        let _ = peer.child.wait();
        assert!(peer.ask("hello").is_err());
    }
}
