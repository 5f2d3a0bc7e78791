//! Registers of stopped threads, and their description.

use super::Client;
use crate::description::{Description, DescriptionError, Layout, RegisterFile, order};
use crate::error::RemoteError;
use crate::fixed;
use crate::link::Stream;
use crate::packet::{hex, unhex};
use crate::stop::{Stop, ThreadId};
use insn::Address;
use insn::isa::{Isa, Order};

/// How many registers are written one by one rather than all in one packet.
const FEW: usize = 4;

impl<S: Stream> Client<S> {
    /// Reads the target's description. (qemu knows single registers only for who has asked for it.)
    ///
    /// # Errors
    /// [`RemoteError::NoProcess`]; [`DescriptionError::None`] where the remote has none; else what is wrong with it.
    pub fn description(&mut self) -> Result<Description, RemoteError> {
        if !self.has_process && !matches!(self.halted()?, Stop::Stopped { .. }) {
            return Err(RemoteError::NoProcess);
        }
        if !self.features.has_object("features") {
            return Err(DescriptionError::None.into());
        }
        Description::read(&mut |document| self.transfer("features", document))
    }

    /// The order of bytes in the target's words, of `word` bytes each, from its auxiliary vector; `None` where the remote has
    /// none.
    ///
    /// # Errors
    /// A fatal one.
    pub fn order(&mut self, word: usize) -> Result<Option<Order>, RemoteError> {
        match self.auxv() {
            Ok(auxv) => Ok(order(&auxv, word)),
            Err(error) if error.is_fatal() => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The layout of the target's registers: its description, its ISA, and the order of bytes where that is to be asked for. Of a
    /// remote without description: what GDB assumes of the program's machine.
    ///
    /// # Errors
    /// As [`Self::description`]; [`DescriptionError::Architecture`], [`DescriptionError::Order`], [`DescriptionError::Register`].
    pub fn layout(&mut self) -> Result<Layout, RemoteError> {
        let description = match self.description() {
            Err(RemoteError::Description(DescriptionError::None)) => return self.assumed_layout(),
            described => described?,
        };
        let order = match description.isas().first() {
            Some(isa) => self.order(isa.abi().word)?,
            None => None,
        };
        let isa = description.isa(order)?;
        Ok(description.layout(isa)?)
    }

    fn assumed_layout(&mut self) -> Result<Layout, RemoteError> {
        let isa = self.isa_of_program()?;
        let assumed = isa.and_then(|isa| Some((isa, fixed::description(isa)?)));
        let (isa, description) = assumed.ok_or(DescriptionError::None)?;
        Ok(description.layout(isa)?.assumed())
    }

    /// By the ELF header, which is at the start of the page that has the program headers.
    fn isa_of_program(&mut self) -> Result<Option<Isa>, RemoteError> {
        let auxv = match self.auxv() {
            Err(error) if error.is_fatal() => return Err(error),
            auxv => auxv.unwrap_or_default(),
        };
        let Some(headers) = fixed::program_headers(&auxv) else { return Ok(None) };
        let mut header = [0; 20];
        match self.read(Address(headers & !0xfff), &mut header) {
            Err(error) if error.is_fatal() => Err(error),
            Err(_) => Ok(None),
            Ok(()) => Ok(fixed::isa(&header)),
        }
    }

    /// All registers of a thread, as the remote has them.
    ///
    /// # Errors
    /// What the remote says.
    pub fn registers(&mut self, thread: ThreadId) -> Result<RegisterFile, RemoteError> {
        self.select(thread)?;
        let reply = self.ask(b"g", "read registers")?;
        RegisterFile::parse(&reply).ok_or_else(|| self.unexpected(&reply, "registers in digits"))
    }

    /// A thread's `NT_PRSTATUS` set, and the remote's registers that it is made of.
    ///
    /// # Errors
    /// What the remote says; [`DescriptionError::Register`].
    pub fn prstatus(
        &mut self,
        thread: ThreadId,
        layout: &Layout,
    ) -> Result<(Vec<u8>, RegisterFile), RemoteError> {
        let registers = self.registers(thread)?;
        let set = layout.prstatus(&registers)?;
        Ok((set, registers))
    }

    /// Writes what differs between an `NT_PRSTATUS` set and the thread's registers as last read; every other register stays.
    /// `registers` then holds the new values.
    ///
    /// # Errors
    /// What the remote says.
    pub fn set_prstatus(
        &mut self,
        thread: ThreadId,
        layout: &Layout,
        registers: &mut RegisterFile,
        set: &[u8],
    ) -> Result<(), RemoteError> {
        let mut new = registers.clone();
        let changed = layout.update(&mut new, set);
        self.write_changed(thread, layout, &new, &changed)?;
        *registers = new;
        Ok(())
    }

    fn write_changed(
        &mut self,
        thread: ThreadId,
        layout: &Layout,
        all: &RegisterFile,
        changed: &[(u32, Vec<u8>)],
    ) -> Result<(), RemoteError> {
        if changed.is_empty() {
            return Ok(());
        }
        // A packet of all registers would give values to those that are not known.
        let single = changed.len() <= FEW || !all.is_complete();
        if !single || self.takes_single_registers == Some(false) {
            return self.write_all(thread, layout.whole(all));
        }
        for (number, bytes) in changed {
            match self.set_register(thread, *number, bytes) {
                Err(RemoteError::Unsupported { .. }) if all.is_complete() => {
                    self.takes_single_registers = Some(false);
                    return self.write_all(thread, layout.whole(all));
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// Writes all registers of a thread.
    ///
    /// # Errors
    /// What the remote says.
    pub fn set_registers(&mut self, thread: ThreadId, registers: &RegisterFile) -> Result<(), RemoteError> {
        self.write_all(thread, registers.bytes())
    }

    fn write_all(&mut self, thread: ThreadId, registers: &[u8]) -> Result<(), RemoteError> {
        self.select(thread)?;
        self.command(format!("G{}", hex(registers)).as_bytes(), "write registers")
    }

    /// One register by its number, in the target's order of bytes; `None` where the remote does not know its value.
    ///
    /// # Errors
    /// What the remote says.
    pub fn register(&mut self, thread: ThreadId, number: u32) -> Result<Option<Vec<u8>>, RemoteError> {
        self.select(thread)?;
        let reply = self.ask(format!("p{number:x}").as_bytes(), "read a register")?;
        if reply.iter().all(|digit| *digit == b'x') {
            return Ok(None);
        }
        unhex(&reply).map(Some).ok_or_else(|| self.unexpected(&reply, "a register in digits"))
    }

    /// Writes one register by its number, in the target's order of bytes.
    ///
    /// # Errors
    /// What the remote says.
    pub fn set_register(&mut self, thread: ThreadId, number: u32, bytes: &[u8]) -> Result<(), RemoteError> {
        self.select(thread)?;
        self.command(format!("P{number:x}={}", hex(bytes)).as_bytes(), "write a register")
    }
}
