//! Memory and breakpoints.

use insn::Address;

use super::Client;
use crate::error::{RemoteError, excerpt};
use crate::link::Stream;
use crate::packet::{escape, hex, unescape, unhex};

/// What a breakpoint packet's `Z` and `z` are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakpointKind {
    /// An instruction in memory, which the remote writes and hides.
    Software,
    /// The processor's.
    Hardware,
}

impl BreakpointKind {
    fn digit(self) -> char {
        match self {
            Self::Software => '0',
            Self::Hardware => '1',
        }
    }
}

impl<S: Stream> Client<S> {
    /// Fills `into` from memory at `at` (of the selected thread's process: [`Client::select`]).
    ///
    /// # Errors
    /// [`RemoteError::Memory`]; else what the remote says.
    pub fn read(&mut self, at: Address, into: &mut [u8]) -> Result<(), RemoteError> {
        let mut done = 0;
        let most = (self.features.packet_size - 16) / 2;
        while done < into.len() {
            let rest = into.get_mut(done..).unwrap_or_default();
            let len = rest.len().min(most);
            let found = self.read_some(at + done as u64, len)?;
            let fits = (1..=len).contains(&found.len());
            let Some(place) = rest.get_mut(..found.len()).filter(|_| fits) else {
                return Err(
                    self.unexpected(hex(&found).as_bytes(), "as many bytes as were asked for, or fewer")
                );
            };
            place.copy_from_slice(&found);
            done += found.len();
        }
        Ok(())
    }

    fn read_some(&mut self, at: Address, len: usize) -> Result<Vec<u8>, RemoteError> {
        let letter = if self.features.binary_reads { 'x' } else { 'm' };
        let reply = self.access(format!("{letter}{:x},{len:x}", at.0).as_bytes(), "read", at, len)?;
        let found = if self.features.binary_reads {
            reply.strip_prefix(b"b").and_then(unescape)
        } else {
            unhex(&reply)
        };
        found.ok_or_else(|| self.unexpected(&reply, "memory"))
    }

    /// Writes memory at `at` (of the selected thread's process), text included. At an error some of it may be written.
    ///
    /// # Errors
    /// [`RemoteError::Memory`]; else what the remote says.
    pub fn write(&mut self, at: Address, bytes: &[u8]) -> Result<(), RemoteError> {
        // In binary a byte may take two, too.
        let most = (self.features.packet_size - 32) / 2;
        for (index, piece) in bytes.chunks(most).enumerate() {
            self.write_some(at + (index * most) as u64, piece)?;
        }
        Ok(())
    }

    fn write_some(&mut self, at: Address, bytes: &[u8]) -> Result<(), RemoteError> {
        let head = |letter: char| format!("{letter}{:x},{:x}:", at.0, bytes.len()).into_bytes();
        let packet = if self.binary_writes(at)? {
            [head('X'), escape(bytes)].concat()
        } else {
            [head('M'), hex(bytes).into_bytes()].concat()
        };
        match self.access(&packet, "write", at, bytes.len())?.as_slice() {
            b"OK" => Ok(()),
            other => Err(self.unexpected(other, "OK")),
        }
    }

    /// Whether the remote takes binary data: found by a write of nothing.
    fn binary_writes(&mut self, at: Address) -> Result<bool, RemoteError> {
        if let Some(known) = self.takes_binary {
            return Ok(known);
        }
        let takes = self.request(format!("X{:x},0:", at.0).as_bytes())? == b"OK";
        self.takes_binary = Some(takes);
        Ok(takes)
    }

    fn access(
        &mut self,
        packet: &[u8],
        verb: &'static str,
        address: Address,
        len: usize,
    ) -> Result<Vec<u8>, RemoteError> {
        match self.request(packet)? {
            reply if super::is_error(&reply) => {
                Err(RemoteError::Memory { verb, address, len, code: excerpt(&reply) })
            }
            reply if reply.is_empty() => {
                Err(RemoteError::Unsupported { sent: self.sent(), what: "access memory" })
            }
            reply => Ok(reply),
        }
    }

    /// Inserts a breakpoint (`Z`). `size` is what the architecture calls its kind: the length of the breakpoint instruction (arm:
    /// 2 and 3 mean T32, 4 means A32).
    ///
    /// # Errors
    /// [`RemoteError::Unsupported`]: it must be written into memory then; else what the remote says.
    pub fn insert_breakpoint(
        &mut self,
        kind: BreakpointKind,
        at: Address,
        size: usize,
    ) -> Result<(), RemoteError> {
        let packet = format!("Z{},{:x},{size:x}", kind.digit(), at.0);
        self.command(packet.as_bytes(), "insert a breakpoint of this kind")
    }

    /// Removes a breakpoint (`z`).
    ///
    /// # Errors
    /// What the remote says.
    pub fn remove_breakpoint(
        &mut self,
        kind: BreakpointKind,
        at: Address,
        size: usize,
    ) -> Result<(), RemoteError> {
        let packet = format!("z{},{:x},{size:x}", kind.digit(), at.0);
        self.command(packet.as_bytes(), "remove a breakpoint of this kind")
    }
}
