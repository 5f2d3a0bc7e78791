//! The lines a remote can be reached by, each a stream whose reads and writes have a deadline.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::error::RemoteError;

/// Bytes to and from a remote.
pub trait Stream {
    /// Reads some bytes; 0 at the end of the stream.
    ///
    /// # Errors
    /// `TimedOut` at the deadline, or what the kernel says.
    fn receive(&mut self, into: &mut [u8], deadline: Instant) -> io::Result<usize>;

    /// Writes all bytes.
    ///
    /// # Errors
    /// `TimedOut` at the deadline, or what the kernel says.
    fn send(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()>;
}

impl<S: Stream + ?Sized> Stream for Box<S> {
    fn receive(&mut self, into: &mut [u8], deadline: Instant) -> io::Result<usize> {
        (**self).receive(into, deadline)
    }

    fn send(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        (**self).send(bytes, deadline)
    }
}

/// Where a remote is, as the user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `HOST:PORT`; no host means this machine.
    Tcp(String),
    /// `unix:PATH`.
    Unix(PathBuf),
    /// `|COMMAND`: a shell's command that speaks the protocol on its standard input and output.
    Command(String),
}

impl FromStr for Endpoint {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, RemoteError> {
        let wrong = || RemoteError::Endpoint { text: text.to_owned() };
        if let Some(command) = text.strip_prefix('|') {
            let command = command.trim();
            return if command.is_empty() { Err(wrong()) } else { Ok(Self::Command(command.to_owned())) };
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(wrong()) } else { Ok(Self::Unix(PathBuf::from(path))) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        port.parse::<u16>().map_err(|_| wrong())?;
        let host = if host.is_empty() { "localhost" } else { host };
        Ok(Self::Tcp(format!("{host}:{port}")))
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Command(command) => write!(f, "|{command}"),
        }
    }
}

impl Endpoint {
    /// Opens the line; a host gets `patience` to answer.
    ///
    /// # Errors
    /// [`RemoteError::Connect`].
    pub fn connect(&self, patience: Duration) -> Result<Link, RemoteError> {
        let opened = match self {
            Self::Tcp(address) => tcp(address, patience).map(Link::Tcp),
            Self::Unix(path) => UnixStream::connect(path).map(Link::Unix),
            Self::Command(command) => Spoken::start(command).map(Link::Command),
        };
        opened.map_err(|source| RemoteError::Connect { to: self.to_string(), source })
    }
}

/// The first of the host's addresses that answers.
fn tcp(address: &str, patience: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => {
                // Packets are small, and each waits for its answer.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// An open line.
#[derive(Debug)]
pub enum Link {
    /// Over the network.
    Tcp(TcpStream),
    /// On this machine.
    Unix(UnixStream),
    /// A child of ours.
    Command(Spoken),
}

impl Stream for Link {
    fn receive(&mut self, into: &mut [u8], deadline: Instant) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.receive(into, deadline),
            Self::Unix(stream) | Self::Command(Spoken { stream, .. }) => stream.receive(into, deadline),
        }
    }

    fn send(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.send(bytes, deadline),
            Self::Unix(stream) | Self::Command(Spoken { stream, .. }) => stream.send(bytes, deadline),
        }
    }
}

/// What is left until the deadline; the kernel takes 0 for no limit at all.
fn left(deadline: Instant) -> io::Result<Option<Duration>> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(io::ErrorKind::TimedOut.into())
    } else {
        Ok(Some(left.max(Duration::from_micros(1))))
    }
}

/// A socket's time limit ends as `EAGAIN`.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

macro_rules! socket {
    ($socket:ty) => {
        impl Stream for $socket {
            fn receive(&mut self, into: &mut [u8], deadline: Instant) -> io::Result<usize> {
                loop {
                    self.set_read_timeout(left(deadline)?)?;
                    match Read::read(self, into) {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        done => return done.map_err(timed_out),
                    }
                }
            }

            fn send(&mut self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
                while !bytes.is_empty() {
                    self.set_write_timeout(left(deadline)?)?;
                    match Write::write(self, bytes) {
                        Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                        Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(timed_out(error)),
                    }
                }
                Ok(())
            }
        }
    };
}

socket!(TcpStream);
socket!(UnixStream);

/// A command that speaks the protocol, in a process group of its own, which is ended when this is dropped.
///
/// Its standard input and output are one socket, as gdb has it, so that reads can have deadlines.
#[derive(Debug)]
pub struct Spoken {
    stream: UnixStream,
    child: Child,
}

/// How long a command may take to end by itself when its input ends, and again when it is asked to (SIGTERM).
const GRACE: Duration = Duration::from_secs(1);

impl Spoken {
    fn start(command: &str) -> io::Result<Self> {
        let (stream, theirs) = UnixStream::pair()?;
        let output = OwnedFd::from(theirs.try_clone()?);
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", command]).process_group(0);
        let child = shell.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::from(output)).spawn()?;
        Ok(Self { stream, child })
    }

    /// Whether the command has ended; it is not reaped, so that its number, which is its group's, stays taken.
    fn has_ended(&self, pid: Pid) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
    }

    fn ends_within(&self, pid: Pid, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        while !self.has_ended(pid) {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }
}

impl Drop for Spoken {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            if !self.ends_within(pid, GRACE) {
                let _ = kill_process_group(pid, Signal::TERM);
                let _ = self.ends_within(pid, GRACE);
            }
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
