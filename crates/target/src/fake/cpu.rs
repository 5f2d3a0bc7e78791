//! The fake's processor: one instruction at a time, as many kinds as stubs and the tests' program use.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use insn::Address;
use insn::isa::RegisterSlot;

use super::space::{Access, Space};
use crate::registers::Registers;
use crate::sys::ptrace::SigInfo;

/// `si_code` of a breakpoint, an invalid opcode, an address that is not mapped (include/uapi/asm-generic/siginfo.h).
pub(crate) const SI_KERNEL: i32 = 0x80;
pub(crate) const ILL_ILLOPN: i32 = 2;
pub(crate) const SEGV_MAPERR: i32 = 1;

const CF: u64 = 1;
const PF: u64 = 1 << 2;
const AF: u64 = 1 << 4;
const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const OF: u64 = 1 << 11;
const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;

/// What came of an instruction.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    Done,
    /// It was a system call; the PC is behind it.
    Syscall,
    /// It raised this signal; the PC is what the kernel reports.
    Trap(SigInfo),
}

/// Runs the instruction at the PC.
pub(super) fn step(space: &mut Space, registers: &mut Registers) -> Outcome {
    let pc = registers.pc();
    let mut bytes = [0; 15];
    let readable =
        (1..=bytes.len()).rev().find(|len| space.read(pc, &mut bytes[..*len], Access::Execute).is_some());
    let Some(len) = readable else { return trap(libc::SIGSEGV, SEGV_MAPERR, pc) };
    let insn = Decoder::with_ip(64, &bytes[..len], pc.0, DecoderOptions::NONE).decode();
    if insn.is_invalid() {
        return trap(libc::SIGILL, ILL_ILLOPN, pc);
    }
    let before = registers.clone();
    registers.set_pc(Address(insn.next_ip()));
    if insn.mnemonic() == Mnemonic::Int3 {
        return trap(libc::SIGTRAP, SI_KERNEL, Address(0));
    }
    let mut cpu = Cpu { space, registers, insn };
    match cpu.execute() {
        Ok(outcome) => outcome,
        Err(Fault(address)) => {
            *registers = before;
            trap(libc::SIGSEGV, SEGV_MAPERR, address)
        }
    }
}

fn trap(signal: i32, code: i32, address: Address) -> Outcome {
    Outcome::Trap(SigInfo::new(signal, code, address.0))
}

/// A memory access that is not allowed.
struct Fault(Address);

struct Cpu<'a> {
    space: &'a mut Space,
    registers: &'a mut Registers,
    insn: Instruction,
}

/// Where the kernel keeps a register in `struct user_regs_struct`, arch/x86/include/asm/user_64.h.
pub(crate) fn slot(register: Register) -> RegisterSlot {
    RegisterSlot(match register.full_register() {
        Register::R15 => 0,
        Register::R14 => 8,
        Register::R13 => 16,
        Register::R12 => 24,
        Register::RBP => 32,
        Register::RBX => 40,
        Register::R11 => 48,
        Register::R10 => 56,
        Register::R9 => 64,
        Register::R8 => 72,
        Register::RAX => 80,
        Register::RCX => 88,
        Register::RDX => 96,
        Register::RSI => 104,
        Register::RDI => 112,
        Register::RIP => 128,
        Register::RSP => 152,
        Register::FS => 168,
        other => panic!("the fake's processor has no register {other:?}"),
    })
}

fn mask(len: usize) -> u64 {
    if len >= 8 { u64::MAX } else { (1 << (8 * len)) - 1 }
}

impl Cpu<'_> {
    fn register(&self, register: Register) -> u64 {
        let value = self.registers.get(slot(register));
        if matches!(register, Register::AH) { value >> 8 & 0xff } else { value & mask(register.size()) }
    }

    fn set_register(&mut self, register: Register, value: u64) {
        let old = self.registers.get(slot(register));
        let new = match register.size() {
            // A write of 32 bits clears the rest, a narrower one does not (Intel SDM volume 1, 3.4.1.1).
            4 | 8 => value & mask(register.size()),
            len => old & !mask(len) | value & mask(len),
        };
        self.registers.set(slot(register), new);
    }

    fn len(&self, operand: u32) -> usize {
        match self.insn.op_kind(operand) {
            OpKind::Register => self.insn.op_register(operand).size(),
            OpKind::Memory => self.insn.memory_size().size(),
            _ => 8,
        }
    }

    fn address(&self, operand: u32) -> Address {
        let value = |register: Register, _, _| match register {
            Register::FS => Some(self.registers.get(slot(Register::FS))),
            Register::DS | Register::SS | Register::ES | Register::CS => Some(0),
            other => Some(self.register(other)),
        };
        Address(self.insn.virtual_address(operand, 0, value).expect("an address"))
    }

    fn get(&self, operand: u32) -> Result<u64, Fault> {
        match self.insn.op_kind(operand) {
            OpKind::Register => Ok(self.register(self.insn.op_register(operand))),
            OpKind::Memory => self.load(self.address(operand), self.len(operand)),
            OpKind::NearBranch64 => Ok(self.insn.near_branch_target()),
            _ => Ok(self.insn.immediate(operand)),
        }
    }

    fn set(&mut self, operand: u32, value: u64) -> Result<(), Fault> {
        match self.insn.op_kind(operand) {
            OpKind::Register => self.set_register(self.insn.op_register(operand), value),
            _ => return self.store(self.address(operand), value, self.len(operand)),
        }
        Ok(())
    }

    fn load(&self, at: Address, len: usize) -> Result<u64, Fault> {
        self.space.load(at, len, Access::Read).ok_or(Fault(at))
    }

    fn store(&mut self, at: Address, value: u64, len: usize) -> Result<(), Fault> {
        self.space.write(at, &value.to_le_bytes()[..len], Access::Write).ok_or(Fault(at))
    }

    fn push(&mut self, value: u64) -> Result<(), Fault> {
        let sp = self.registers.sp().offset(-8);
        self.store(sp, value, 8)?;
        self.registers.set_sp(sp);
        Ok(())
    }

    fn pop(&mut self) -> Result<u64, Fault> {
        let sp = self.registers.sp();
        let value = self.load(sp, 8)?;
        self.registers.set_sp(sp + 8);
        Ok(value)
    }

    fn flags(&self) -> u64 {
        self.registers.get(self.flags_slot())
    }

    fn flags_slot(&self) -> RegisterSlot {
        self.registers.isa().abi().flags.expect("x86-64 has flags")
    }

    fn set_flags(&mut self, which: u64, flags: u64) {
        let slot = self.flags_slot();
        self.registers.set(slot, self.flags() & !which | flags & which);
    }

    /// `a + b` of `len` bytes: the result and its flags.
    fn sum(a: u64, b: u64, len: usize) -> (u64, u64) {
        let (a, b) = (a & mask(len), b & mask(len));
        let sum = a.wrapping_add(b) & mask(len);
        let top = |value: u64| value >> (8 * len - 1) & 1 == 1;
        let mut flags = 0;
        let mut flag = |bit: u64, is_set: bool| flags |= if is_set { bit } else { 0 };
        flag(CF, sum < a);
        flag(PF, sum.to_le_bytes()[0].count_ones().is_multiple_of(2));
        flag(AF, (a & 0xf) + (b & 0xf) > 0xf);
        flag(ZF, sum == 0);
        flag(SF, top(sum));
        flag(OF, top(a) == top(b) && top(sum) != top(a));
        (sum, flags)
    }

    fn execute(&mut self) -> Result<Outcome, Fault> {
        match self.insn.mnemonic() {
            Mnemonic::Nop | Mnemonic::Endbr64 => {}
            Mnemonic::Syscall => return Ok(Outcome::Syscall),
            Mnemonic::Push => self.push(self.get(0)?)?,
            Mnemonic::Pop => {
                let value = self.pop()?;
                self.set(0, value)?;
            }
            Mnemonic::Call => {
                let to = self.get(0)?;
                self.push(self.registers.pc().0)?;
                self.registers.set_pc(Address(to));
            }
            Mnemonic::Jmp => self.registers.set_pc(Address(self.get(0)?)),
            Mnemonic::Ret => {
                let to = self.pop()?;
                self.registers.set_pc(Address(to));
            }
            Mnemonic::Mov => self.set(0, self.get(1)?)?,
            Mnemonic::Lea => {
                let address = self.address(1);
                self.set(0, address.0)?;
            }
            _ => self.arithmetic()?,
        }
        Ok(Outcome::Done)
    }

    fn arithmetic(&mut self) -> Result<(), Fault> {
        let len = self.len(0);
        match self.insn.mnemonic() {
            Mnemonic::Add => {
                let (sum, flags) = Self::sum(self.get(0)?, self.get(1)?, len);
                self.set(0, sum)?;
                self.set_flags(ARITHMETIC, flags);
            }
            Mnemonic::Inc => {
                let (sum, flags) = Self::sum(self.get(0)?, 1, len);
                self.set(0, sum)?;
                self.set_flags(ARITHMETIC & !CF, flags);
            }
            Mnemonic::Xor => {
                self.set(0, self.get(0)? ^ self.get(1)?)?;
                self.set_flags(ARITHMETIC, !self.flags());
            }
            Mnemonic::Imul => {
                self.set(0, self.get(1)?.wrapping_mul(self.get(2)?))?;
                // Some are undefined: whoever relies on any must have saved them.
                self.set_flags(ARITHMETIC, !self.flags());
            }
            Mnemonic::Shr => {
                self.set(0, self.get(0)? >> (self.get(1)? & 63))?;
                self.set_flags(ARITHMETIC, !self.flags());
            }
            Mnemonic::Lahf => {
                let rax = self.registers.get(slot(Register::RAX));
                let low = self.flags() & 0xd5 | 2;
                self.registers.set(slot(Register::RAX), rax & !0xff00 | low << 8);
            }
            Mnemonic::Sahf => self.set_flags(ARITHMETIC & 0xff, self.register(Register::AH)),
            Mnemonic::Seto => self.set(0, u64::from(self.flags() & OF != 0))?,
            _ => panic!("the fake's processor does not know `{}`", self.insn),
        }
        Ok(())
    }
}
