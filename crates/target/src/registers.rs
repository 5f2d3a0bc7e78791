//! A register set as the kernel gives it, read and written through the ISA's slots.

use insn::Address;
use insn::isa::{Failure, Isa, RegisterSlot};

/// The `NT_PRSTATUS` registers of one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers {
    isa: Isa,
    bytes: Vec<u8>,
}

impl Registers {
    /// Registers from the kernel's bytes; `None` if their number is no known ISA's.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        Some(Self { isa: Isa::of_regset(bytes.len())?, bytes })
    }

    /// Registers of a task whose ISA is known; what its set has beyond the bytes is 0.
    #[must_use]
    pub fn of(isa: Isa, mut bytes: Vec<u8>) -> Self {
        bytes.resize(isa.abi().regset_len, 0);
        Self { isa, bytes }
    }

    /// The ISA of the task.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The raw bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The raw bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// One register.
    #[must_use]
    pub fn get(&self, slot: RegisterSlot) -> u64 {
        self.isa.abi().get(&self.bytes, slot)
    }

    /// Sets one register, as much of the value as it has room for.
    pub fn set(&mut self, slot: RegisterSlot, value: u64) {
        self.isa.abi().set(&mut self.bytes, slot, value);
    }

    /// The kernel's answer to a system call: `-errno`, or a number or address that may have the register's highest bit.
    #[must_use]
    pub fn answer(&self) -> i64 {
        let abi = self.isa.abi();
        let unused = 64 - 8 * abi.word;
        let value = self.get(abi.syscall.result);
        let signed = (value << unused).cast_signed() >> unused;
        if let Failure::Flag(flags, bit) = abi.syscall.failure {
            let failed = self.get(flags) & bit != 0;
            return if failed { signed.wrapping_neg() } else { value.cast_signed() };
        }
        // `IS_ERR_VALUE`, include/linux/err.h.
        if (-4095..0).contains(&signed) { signed } else { value.cast_signed() }
    }

    /// The program counter.
    #[must_use]
    pub fn pc(&self) -> Address {
        Address(self.get(self.isa.abi().pc))
    }

    /// Sets the program counter.
    pub fn set_pc(&mut self, pc: Address) {
        self.isa.abi().set_pc(&mut self.bytes, pc.0);
    }

    /// The stack pointer.
    #[must_use]
    pub fn sp(&self) -> Address {
        Address(self.get(self.isa.abi().sp))
    }

    /// Sets the stack pointer.
    pub fn set_sp(&mut self, sp: Address) {
        self.set(self.isa.abi().sp, sp.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(len: usize, value: u64) -> i64 {
        let mut registers = Registers::new(vec![0; len]).unwrap();
        registers.set(registers.isa().abi().syscall.result, value);
        registers.answer()
    }

    #[test]
    fn answers_are_errors_or_addresses_of_any_width() {
        let no_memory = (-i64::from(libc::ENOMEM)).cast_unsigned();
        for len in [216, 68] {
            assert_eq!(answer(len, no_memory), -i64::from(libc::ENOMEM));
            assert_eq!(answer(len, 0xd404_8000), 0xd404_8000);
            assert_eq!(answer(len, 0), 0);
        }
        assert_eq!(answer(68, 0xffff_f000), 0xffff_f000);
    }

    #[test]
    fn power_tells_a_failure_by_a_flag() {
        let mut registers = Registers::of(Isa::PowerPc64Le, Vec::new());
        let abi = registers.isa().abi();
        let Failure::Flag(flags, bit) = abi.syscall.failure else { panic!("{:?}", abi.syscall.failure) };
        registers.set(abi.syscall.result, 12);
        assert_eq!(registers.answer(), 12);
        registers.set(flags, bit);
        assert_eq!(registers.answer(), -12);
    }

    #[test]
    fn a_narrow_register_has_no_neighbours_bytes() {
        let mut registers = Registers::new((0..68).collect()).unwrap();
        let before = registers.clone();
        let sp = registers.sp();
        registers.set_sp(Address(u64::MAX));
        assert_eq!(registers.sp(), Address(u64::from(u32::MAX)));
        registers.set_sp(sp);
        assert_eq!(registers, before);
    }
}
