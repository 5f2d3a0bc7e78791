//! A line between xol and a real server on which something is amiss: a server that lacks an ability, or fails in the middle.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

use remote::Endpoint;
use remote::packet::frame;

use crate::server::Server;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From xol to the server.
    There,
    /// From the server to xol.
    Back,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on as it is.
    Pass,
    /// xol gets a packet with this content: another than the server's, or an answer of which the server knows nothing.
    Answer(Vec<u8>),
    /// xol gets these bytes, which may be no packet.
    Bytes(Vec<u8>),
    /// xol gets a packet of this byte that never ends.
    Endless(u8),
    /// Nobody hears of it.
    Swallow,
    /// The line is closed.
    Close,
}

/// See the module header. It takes one connection.
#[derive(Debug)]
pub struct Filter {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The folder of its socket.
    _folder: tempfile::TempDir,
}

type Rule = Box<dyn FnMut(Way, &[u8]) -> Verdict + Send>;

/// The two ends, and what decides about packets.
#[derive(Clone)]
struct Line {
    client: Arc<UnixStream>,
    server: Arc<UnixStream>,
    rule: Arc<Mutex<Rule>>,
    /// Whether packets are acknowledged.
    acknowledges: Arc<AtomicBool>,
}

impl Filter {
    /// Before this server. `rule` sees the content of every packet.
    ///
    /// # Panics
    /// There is no room for a socket.
    #[must_use]
    pub fn before(server: &Server, rule: impl FnMut(Way, &[u8]) -> Verdict + Send + 'static) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("filter");
        let listener = UnixListener::bind(&path).expect("a socket of ours");
        let to = server.endpoint.clone();
        thread::spawn(move || {
            let Ok((client, _)) = listener.accept() else { return };
            let Ok(server) = connect(&to) else { return };
            let rule: Rule = Box::new(rule);
            let line = Line {
                client: client.into(),
                server: server.into(),
                rule: Arc::new(Mutex::new(rule)),
                acknowledges: Arc::new(true.into()),
            };
            let other = line.clone();
            thread::spawn(move || other.carry(Way::Back));
            line.carry(Way::There);
        });
        Self { endpoint: Endpoint::Unix(path), _folder: folder }
    }
}

/// Reads, writes and shuts down are the same on all sockets: the type stands for any.
fn connect(to: &Endpoint) -> io::Result<UnixStream> {
    match to {
        Endpoint::Tcp(address) => {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            Ok(OwnedFd::from(stream).into())
        }
        Endpoint::Unix(path) => UnixStream::connect(path),
        Endpoint::Command(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

impl Line {
    /// Carries everything one way until one end closes; then the other is closed too.
    fn carry(&self, way: Way) {
        let from = if way == Way::There { &self.client } else { &self.server };
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = (&**from).read(&mut buffer) {
            bytes.extend(&buffer[..len]);
            if self.forward(way, &mut bytes).is_err() {
                break;
            }
        }
        let _ = (self.client.shutdown(Shutdown::Both), self.server.shutdown(Shutdown::Both));
    }

    /// Sends what is whole; an error where the line is to be closed.
    fn forward(&self, way: Way, bytes: &mut Vec<u8>) -> io::Result<()> {
        while let Some(first) = bytes.first().copied() {
            // Acknowledgements and interrupts are single bytes; `#` stands nowhere in a packet's content.
            let end = match first {
                b'$' => bytes.iter().position(|byte| *byte == b'#').map(|at| at + 3),
                _ => Some(1),
            };
            let Some(end) = end.filter(|end| *end <= bytes.len()) else { break };
            let item: Vec<u8> = bytes.drain(..end).collect();
            match item.get(1..end.saturating_sub(3)) {
                Some(content) if first == b'$' => self.judge(way, content, &item)?,
                _ => self.end(way).write_all(&item)?,
            }
        }
        Ok(())
    }

    fn judge(&self, way: Way, content: &[u8], packet: &[u8]) -> io::Result<()> {
        let verdict = (self.rule.lock().unwrap_or_else(PoisonError::into_inner))(way, content);
        let mut client = self.end(Way::Back);
        if way == Way::There
            && self.acknowledges.load(Ordering::SeqCst)
            && matches!(verdict, Verdict::Answer(_))
        {
            client.write_all(b"+")?;
        }
        if content == b"QStartNoAckMode" {
            self.acknowledges.store(false, Ordering::SeqCst);
        }
        match verdict {
            Verdict::Pass => self.end(way).write_all(packet),
            Verdict::Answer(content) => client.write_all(&frame(&content)),
            Verdict::Bytes(bytes) => client.write_all(&bytes),
            Verdict::Endless(byte) => {
                client.write_all(b"$")?;
                loop {
                    client.write_all(&[byte; 4096])?;
                }
            }
            Verdict::Swallow => Ok(()),
            Verdict::Close => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    fn end(&self, way: Way) -> &UnixStream {
        match way {
            Way::There => &self.server,
            Way::Back => &self.client,
        }
    }
}
