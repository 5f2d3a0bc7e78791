//! Packets over a stream: acknowledgements, deadlines, and nothing after an error that leaves the two ends apart.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use crate::error::{RemoteError, excerpt};
use crate::link::Stream;
use crate::packet::{Decoder, Item, frame};

/// The longest reply that is read, runs expanded. Stubs answer in pieces of some KiB (`PacketSize`).
pub const LONGEST_REPLY: usize = 1 << 20;
/// How often a damaged packet is asked for again, or sent again.
const TRIES: u32 = 3;
/// Items that belong to no request (acknowledgements, notifications, late answers) before we stop to look.
const STRAYS: u32 = 1000;

/// One end of a conversation in packets.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    decoder: Decoder,
    items: VecDeque<Item>,
    acknowledges: bool,
    is_broken: bool,
    patience: Duration,
    /// The last packet sent, for messages.
    sent: String,
}

impl<S: Stream> Connection<S> {
    /// Over this stream; an answer may take `patience`.
    pub fn new(stream: S, patience: Duration) -> Self {
        Self {
            stream,
            decoder: Decoder::new(LONGEST_REPLY),
            items: VecDeque::new(),
            acknowledges: true,
            is_broken: false,
            patience,
            sent: String::new(),
        }
    }

    /// How long an answer may take.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Whether more can be said: no error has left the two ends apart.
    #[must_use]
    pub fn is_good(&self) -> bool {
        !self.is_broken
    }

    /// From now on packets are neither acknowledged nor sent again: both sides agreed (`QStartNoAckMode`).
    pub fn stop_acknowledging(&mut self) {
        self.acknowledges = false;
    }

    /// The last packet sent, as messages show it.
    #[must_use]
    pub fn sent(&self) -> &str {
        &self.sent
    }

    /// Sends a packet and waits for its answer.
    ///
    /// # Errors
    /// A fatal one ([`RemoteError::is_fatal`]).
    pub fn request(&mut self, content: &[u8]) -> Result<Vec<u8>, RemoteError> {
        let deadline = Instant::now() + self.patience;
        self.send_until(content, deadline)?;
        match self.receive(deadline)? {
            Some(reply) => Ok(reply),
            None => Err(self.silent()),
        }
    }

    /// Sends a packet whose answer may take any time ([`Self::receive`]).
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn send(&mut self, content: &[u8]) -> Result<(), RemoteError> {
        self.send_until(content, Instant::now() + self.patience)
    }

    /// Sends a byte outside any packet: 0x03, the interrupt.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn send_byte(&mut self, byte: u8) -> Result<(), RemoteError> {
        self.check()?;
        self.write(&[byte], Instant::now() + self.patience)
    }

    /// The next packet; `None` at the deadline; what came of it by then is kept.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn receive(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>, RemoteError> {
        self.check()?;
        let (mut damaged, mut strays) = (0, 0);
        loop {
            match self.next(deadline)? {
                None => return Ok(None),
                Some(Item::Packet(content)) => {
                    if self.acknowledges {
                        self.write(b"+", Instant::now() + self.patience)?;
                    }
                    return Ok(Some(content));
                }
                Some(Item::Damaged) => {
                    damaged += 1;
                    if damaged >= TRIES || !self.acknowledges {
                        return Err(self.damaged(damaged));
                    }
                    self.write(b"-", Instant::now() + self.patience)?;
                }
                Some(Item::Ack | Item::Nack | Item::Notification(_)) => {
                    strays += 1;
                    if strays > STRAYS {
                        return Err(self.too_long());
                    }
                }
            }
        }
    }

    fn send_until(&mut self, content: &[u8], deadline: Instant) -> Result<(), RemoteError> {
        self.check()?;
        self.sent = excerpt(content);
        let packet = frame(content);
        // What is still here answers an older packet.
        self.items.clear();
        for _ in 0..TRIES {
            self.write(&packet, deadline)?;
            if !self.acknowledges || self.is_acknowledged(deadline)? {
                return Ok(());
            }
        }
        Err(self.damaged(TRIES))
    }

    /// Whether the packet arrived; false where it must be sent again.
    fn is_acknowledged(&mut self, deadline: Instant) -> Result<bool, RemoteError> {
        for _ in 0..STRAYS {
            match self.next(deadline)? {
                Some(Item::Ack) => return Ok(true),
                Some(Item::Nack) => return Ok(false),
                // An answer to an older packet, which our acknowledgement did not reach.
                Some(Item::Packet(_) | Item::Damaged) => {
                    self.write(b"+", deadline)?;
                }
                Some(Item::Notification(_)) => {}
                None => return Err(self.silent()),
            }
        }
        Err(self.too_long())
    }

    fn next(&mut self, deadline: Instant) -> Result<Option<Item>, RemoteError> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(item) = self.items.pop_front() {
                return Ok(Some(item));
            }
            let len = match self.stream.receive(&mut buffer, deadline) {
                Ok(0) => return Err(self.fatal(|sent| RemoteError::Closed { sent })),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Ok(None);
                }
                Err(source) => return Err(self.failed(source)),
            };
            for byte in buffer.get(..len).unwrap_or_default() {
                match self.decoder.push(*byte) {
                    Ok(item) => self.items.extend(item),
                    Err(_) => return Err(self.too_long()),
                }
            }
        }
    }

    fn write(&mut self, bytes: &[u8], deadline: Instant) -> Result<(), RemoteError> {
        let written = self.stream.send(bytes, deadline);
        written.map_err(|source| match source.kind() {
            io::ErrorKind::TimedOut => self.silent(),
            _ => self.failed(source),
        })
    }

    /// A socket whose other end closed before it had read all is reset.
    fn failed(&mut self, source: io::Error) -> RemoteError {
        match source.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                self.fatal(|sent| RemoteError::Closed { sent })
            }
            _ => self.fatal(|sent| RemoteError::Stream { sent, source }),
        }
    }

    fn check(&self) -> Result<(), RemoteError> {
        if self.is_broken { Err(RemoteError::Broken) } else { Ok(()) }
    }

    fn silent(&mut self) -> RemoteError {
        let within = self.patience;
        self.fatal(|sent| RemoteError::Silent { sent, within })
    }

    fn too_long(&mut self) -> RemoteError {
        self.fatal(|sent| RemoteError::TooLong { sent, limit: LONGEST_REPLY })
    }

    fn damaged(&mut self, times: u32) -> RemoteError {
        self.fatal(|sent| RemoteError::Damaged { sent, times })
    }

    /// An error behind which the two ends are apart.
    fn fatal(&mut self, error: impl FnOnce(String) -> RemoteError) -> RemoteError {
        self.is_broken = true;
        error(self.sent.clone())
    }
}
