//! Objects (`qXfer`) and files (`vFile`) on the remote's side.

use std::time::Instant;

use super::Client;
use crate::connection::LONGEST_REPLY;
use crate::error::RemoteError;
use crate::link::Stream;
use crate::packet::{hex, unescape};
use crate::stop::{number, split};

/// The longest object that is read: descriptions have some 100 KiB, lists of libraries less.
const LONGEST_OBJECT: usize = 1 << 22;

/// An open file of the remote's. Close it ([`Client::close`]): nothing does so by itself.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    descriptor: u32,
    path: String,
}

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStat {
    /// Its type and permissions, as `st_mode`.
    pub mode: u32,
    /// Its length in bytes.
    pub len: u64,
}

impl<S: Stream> Client<S> {
    /// Reads a whole object (`qXfer:OBJECT:read`).
    ///
    /// # Errors
    /// [`RemoteError::Unsupported`], [`RemoteError::TooLong`]; else what the remote says.
    pub fn transfer(&mut self, object: &str, annex: &str) -> Result<Vec<u8>, RemoteError> {
        let mut whole = Vec::new();
        let most = self.features.packet_size - 5;
        let began = Instant::now();
        loop {
            self.check_time(began)?;
            let packet = format!("qXfer:{object}:read:{annex}:{:x},{most:x}", whole.len());
            let reply = self.ask(packet.as_bytes(), "read this object")?;
            let (kind, data) = reply.split_first().map_or((&0, [].as_slice()), |(kind, data)| (kind, data));
            let data = unescape(data).ok_or_else(|| self.unexpected(&reply, "whole escapes"))?;
            whole.extend_from_slice(&data);
            match kind {
                b'l' => return Ok(whole),
                b'm' if data.is_empty() => return Err(self.unexpected(&reply, "a part of the object")),
                b'm' if whole.len() <= LONGEST_OBJECT => {}
                b'm' => return Err(RemoteError::TooLong { sent: self.sent(), limit: LONGEST_OBJECT }),
                _ => return Err(self.unexpected(&reply, "a part of the object")),
            }
        }
    }

    /// The target's auxiliary vector, in its own words and order.
    ///
    /// # Errors
    /// As [`Self::transfer`].
    pub fn auxv(&mut self) -> Result<Vec<u8>, RemoteError> {
        self.transfer("auxv", "")
    }

    /// The path of the file that a process executes, as the remote sees it; of the current one without a number.
    ///
    /// # Errors
    /// As [`Self::transfer`].
    pub fn executable(&mut self, process: Option<u64>) -> Result<Vec<u8>, RemoteError> {
        self.transfer("exec-file", &process.map(|process| format!("{process:x}")).unwrap_or_default())
    }

    /// Files are from now on as this process sees them; without a number as the remote does.
    ///
    /// # Errors
    /// What the remote says.
    pub fn set_file_system(&mut self, process: Option<u64>) -> Result<(), RemoteError> {
        let packet = format!("vFile:setfs:{:x}", process.unwrap_or(0));
        self.file(packet.as_bytes(), "look into the file system of", "a process").map(|_| ())
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`RemoteError::File`], [`RemoteError::Unsupported`]; else what the remote says.
    pub fn open(&mut self, path: &str) -> Result<File, RemoteError> {
        let packet = format!("vFile:open:{},0,0", hex(path.as_bytes()));
        let (descriptor, _) = self.file(packet.as_bytes(), "open", path)?;
        Ok(File { descriptor, path: path.to_owned() })
    }

    /// Reads at most `len` bytes at `offset`, as many as one packet holds; none at the end.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn read_file(&mut self, file: &File, offset: u64, len: usize) -> Result<Vec<u8>, RemoteError> {
        let len = len.min((self.features.packet_size - 16) / 2);
        let packet = format!("vFile:pread:{:x},{len:x},{offset:x}", file.descriptor);
        let (found, data) = self.file(packet.as_bytes(), "read", &file.path)?;
        if data.len() == found as usize && data.len() <= len {
            return Ok(data);
        }
        Err(self.unexpected(&data, "as many bytes as it says, and as were asked for"))
    }

    /// What is known of an open file.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn stat_file(&mut self, file: &File) -> Result<FileStat, RemoteError> {
        // `struct stat` of the protocol (GDB manual, "struct stat"): big-endian, 64 bytes.
        const STAT: usize = 64;
        let packet = format!("vFile:fstat:{:x}", file.descriptor);
        let (_, data) = self.file(packet.as_bytes(), "look at", &file.path)?;
        let (mode, len) = match data.as_slice() {
            stat if stat.len() == STAT => (stat.get(8..12), stat.get(28..36)),
            _ => (None, None),
        };
        let mode = mode.and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?)));
        let len = len.and_then(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?)));
        let stat = mode.zip(len).map(|(mode, len)| FileStat { mode, len });
        stat.ok_or_else(|| self.unexpected(&data, "what is known of the file"))
    }

    /// Closes a file.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn close(&mut self, file: File) -> Result<(), RemoteError> {
        let packet = format!("vFile:close:{:x}", file.descriptor);
        self.file(packet.as_bytes(), "close", &file.path).map(|_| ())
    }

    /// Reads a whole file of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Self::open`]; [`RemoteError::TooLong`].
    pub fn whole_file(&mut self, path: &str, limit: usize) -> Result<Vec<u8>, RemoteError> {
        let file = self.open(path)?;
        let mut whole = Vec::new();
        let read = loop {
            match self.read_file(&file, whole.len() as u64, LONGEST_REPLY) {
                Ok(piece) if piece.is_empty() => break Ok(()),
                Ok(piece) => whole.extend_from_slice(&piece),
                Err(error) => break Err(error),
            }
            if whole.len() > limit {
                break Err(RemoteError::TooLong { sent: self.sent(), limit });
            }
        };
        match read {
            Err(error) if error.is_fatal() => return Err(error),
            _ => self.close(file)?,
        }
        read.map(|()| whole)
    }

    /// `F RESULT [, ERRNO] [; DATA]`.
    fn file(&mut self, packet: &[u8], verb: &'static str, path: &str) -> Result<(u32, Vec<u8>), RemoteError> {
        let reply = self.ask(packet, "do this with files of its own")?;
        let Some(answer) = reply.strip_prefix(b"F") else {
            return Err(self.unexpected(&reply, "the result of a file operation"));
        };
        if let Some(failure) = answer.strip_prefix(b"-1") {
            let errno =
                failure.strip_prefix(b",").and_then(number).and_then(|errno| u32::try_from(errno).ok());
            return Err(RemoteError::File { verb, path: path.to_owned(), errno: errno.unwrap_or(0) });
        }
        let (result, data) = split(answer, b';').unwrap_or((answer, &[]));
        let result = number(result).and_then(|result| u32::try_from(result).ok());
        let parsed = result.zip(unescape(data));
        parsed.ok_or_else(|| self.unexpected(&reply, "the result of a file operation"))
    }
}
