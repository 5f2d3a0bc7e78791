//! The displaced instruction as code for another place (`copy_ixol` with its fix-ups).
//!
//! Each form is given with its state equation: `(pc, sp)` of the original program at each of its instructions, where
//! `@` is the original instruction, `+` the one behind it. No form touches the flags, and none but `syscall`'s a register.
//!
//! Two differences remain, and no program is known that minds. The x87 unit remembers where its last instruction was
//! (`fnstenv` stores it): displaced, that is in the stub. And a displaced call pushes before it reads its operand: where the
//! operand faults, the eight bytes below the stack pointer hold the return address already; an operand that lies in these
//! bytes is refused where the encoding shows it.

use iced_x86::{Code, Decoder, Instruction, Register};

use crate::address::Address;
use crate::isa::Isa;
use crate::plan::Reason;
use crate::relocate::{Destination, Exit, Moved, Point, aligned_word};
use crate::x86::analyze::{Kind, displaceable, refused};
use crate::x86::mode::Mode;

const JMP_REL32: u8 = 0xe9;
/// `push qword [rip+disp32]`.
const PUSH_RIP: [u8; 2] = [0xff, 0x35];
/// `push imm32`.
const PUSH: u8 = 0x68;
/// `movabs $imm64, %rcx`.
const MOVABS_RCX: [u8; 2] = [0x48, 0xb9];

pub(crate) fn relocate(isa: Isa, original: Address, bytes: &[u8], at: Address) -> Result<Moved, Reason> {
    let mode = Mode::of(isa);
    let mut decoder = mode.decoder(original, bytes);
    let insn = decoder.decode();
    if insn.is_invalid() || insn.len() != bytes.len() {
        return Err(Reason::Undecodable);
    }
    let next = isa.wrap(original + bytes.len() as u64);
    let form = Form { isa, mode, original, next, insn, at, moved: Moved::default() };
    match displaceable(&insn, bytes)? {
        Kind::Plain => form.copy(&decoder, bytes, Leaves::No),
        Kind::Faults => form.copy(&decoder, bytes, Leaves::ByFault),
        Kind::Return | Kind::IndirectJump => form.copy(&decoder, bytes, Leaves::ByBranch),
        Kind::Jump(to) => form.jump(to),
        Kind::Conditional(to) => form.conditional(bytes, to),
        Kind::Counted(to) => form.counted(bytes, to),
        Kind::Call(to) => form.call(to),
        Kind::IndirectCall => form.indirect_call(),
        Kind::Syscall => Ok(form.syscall(bytes)),
        Kind::Refused(why) => Err(refused(&insn, why)),
    }
}

/// The distance from `end` to `to` modulo 2^32.
fn wrapped(to: Address, end: Address) -> [u8; 4] {
    let [a, b, c, d, ..] = (to - end).to_le_bytes();
    [a, b, c, d]
}

/// How a copied instruction ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    No,
    ByFault,
    ByBranch,
}

/// A form in the making.
struct Form {
    isa: Isa,
    mode: &'static Mode,
    original: Address,
    next: Address,
    insn: Instruction,
    at: Address,
    moved: Moved,
}

impl Form {
    /// The offset of what is appended next.
    fn here(&self) -> u32 {
        u32::try_from(self.moved.bytes.len()).unwrap_or(u32::MAX)
    }

    fn point(&mut self, original: Address, sp_shift: i32) {
        let offset = self.here();
        self.moved.points.push(Point { offset, original, sp_shift, behind_syscall: false });
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.moved.bytes.extend_from_slice(bytes);
    }

    /// The displacement from the end of an instruction that ends `len` bytes from here.
    fn displacement(&self, to: Address, len: usize) -> Result<[u8; 4], Reason> {
        let end = self.isa.wrap(self.at + (self.moved.bytes.len() + len) as u64);
        self.mode
            .displacement(end, to)
            .ok_or_else(|| refused(&self.insn, &format!("{to} is out of reach of a copy at {}", self.at)))
    }

    /// `jmp rel32` to a fixed original address.
    fn exit(&mut self, to: Address) -> Result<(), Reason> {
        let displacement = self.displacement(to, 5)?;
        self.moved.exits.push(Exit { offset: self.here(), to: Destination::Fixed(to) });
        self.bytes(&[JMP_REL32]);
        self.bytes(&displacement);
        Ok(())
    }

    /// `(@, sp)`: the bytes as they are, but for the displacement of a RIP-relative operand.
    fn copy(mut self, decoder: &Decoder<'_>, bytes: &[u8], leaves: Leaves) -> Result<Moved, Reason> {
        self.point(self.original, 0);
        let mut copied = bytes.to_vec();
        if self.insn.is_ip_rel_memory_operand() {
            let to = Address(self.insn.ip_rel_memory_address());
            let displacement = match self.insn.memory_base() {
                // An address-size prefix: the sum has 32 bits (Intel SDM vol. 1, 3.7.5.1), whatever the copy's address.
                Register::EIP => wrapped(to, self.at + bytes.len() as u64),
                _ => self.displacement(to, bytes.len())?,
            };
            let offset = decoder.get_constant_offsets(&self.insn).displacement_offset();
            let field = copied.get_mut(offset..offset + 4).ok_or(Reason::Undecodable)?;
            field.copy_from_slice(&displacement);
        }
        if leaves == Leaves::ByBranch {
            self.moved.exits.push(Exit { offset: 0, to: Destination::Computed });
        }
        self.bytes(&copied);
        self.moved.falls_through = leaves == Leaves::No;
        Ok(self.moved)
    }

    /// ```text
    /// (@, sp)       jmp target
    /// ```
    fn jump(mut self, to: Address) -> Result<Moved, Reason> {
        self.point(self.original, 0);
        self.exit(to)?;
        Ok(self.moved)
    }

    /// ```text
    /// (@, sp)       jncc 1f
    /// (target, sp)  jmp target
    /// (+, sp)    1:
    /// ```
    fn conditional(mut self, bytes: &[u8], to: Address) -> Result<Moved, Reason> {
        // `7x rel8` and `0f 8x rel32` hold the condition in the same four bits; the lowest one inverts it.
        let immediate = if bytes.len() >= 6 && bytes[bytes.len() - 6] == 0x0f { 5 } else { 2 };
        let opcode =
            bytes.len().checked_sub(immediate).and_then(|at| bytes.get(at)).ok_or(Reason::Undecodable)?;
        self.point(self.original, 0);
        self.bytes(&[0x70 | ((opcode & 0xf) ^ 1), 5]);
        self.point(to, 0);
        self.exit(to)?;
        self.moved.falls_through = true;
        Ok(self.moved)
    }

    /// ```text
    /// (@, sp)       loop 1f          (also loope, loopne, jrcxz, jecxz)
    /// (+, sp)       jmp 2f
    /// (target, sp) 1: jmp target
    /// (+, sp)    2:
    /// ```
    fn counted(mut self, bytes: &[u8], to: Address) -> Result<Moved, Reason> {
        self.point(self.original, 0);
        // The prefixes stay: 0x67 makes the count 32 bits wide.
        self.bytes(&bytes[..bytes.len() - 1]);
        self.bytes(&[2]);
        self.point(self.next, 0);
        self.bytes(&[0xeb, 5]);
        self.point(to, 0);
        self.exit(to)?;
        self.moved.falls_through = true;
        Ok(self.moved)
    }

    /// `(@, sp)`: `push` of the original return address, which is a literal behind the branch of `branch_len` bytes that
    /// follows. Unwinders look for its FDE, and it stays right after we are gone.
    fn push_return_address(&mut self, branch_len: usize) {
        self.point(self.original, 0);
        match self.isa {
            Isa::I386 => {
                self.bytes(&[PUSH]);
                let next = self.next_word();
                self.bytes(&next);
            }
            _ => {
                self.bytes(&PUSH_RIP);
                let behind_branch = self.moved.bytes.len() + size_of::<i32>() + branch_len;
                let (gap, _) = aligned_word(self.at + behind_branch as u64, self.next.0);
                let displacement = i32::try_from(branch_len + gap).unwrap_or(i32::MAX);
                self.bytes(&displacement.to_le_bytes());
            }
        }
        self.point(self.original, i32::from(self.mode.word));
    }

    /// The address of the next instruction, as memory has it.
    fn next_word(&self) -> Vec<u8> {
        self.next.0.to_le_bytes()[..usize::from(self.mode.word)].to_vec()
    }

    /// What [`Self::push_return_address`] refers to, if anything.
    fn literal(&mut self) {
        if self.isa == Isa::X86_64 {
            let (_, bytes) = aligned_word(self.at + self.moved.bytes.len() as u64, self.next.0);
            self.bytes(&bytes);
        }
    }

    /// ```text
    /// (@, sp)       push 1f(%rip)        i386: push $+
    /// (@, sp+8)     jmp target                 (@, sp+4)
    ///            1: .quad +
    /// ```
    fn call(mut self, to: Address) -> Result<Moved, Reason> {
        self.push_return_address(5);
        self.exit(to)?;
        self.literal();
        Ok(self.moved)
    }

    /// ```text
    /// (@, sp)       push 1f(%rip)        i386: push $+
    /// (@, sp+8)     jmp *operand               (@, sp+4)     (relative to rsp: a word more)
    ///            1: .quad +
    /// ```
    fn indirect_call(mut self) -> Result<Moved, Reason> {
        let mut jump = self.insn;
        jump.set_code(match self.isa {
            Isa::I386 => Code::Jmp_rm32,
            _ => Code::Jmp_rm64,
        });
        if matches!(jump.memory_base(), Register::RSP | Register::ESP) {
            let operand = jump.memory_displacement64().wrapping_add(u64::from(self.mode.word));
            jump.set_memory_displacement64(self.isa.wrap(Address(operand)).0);
            jump.set_memory_displ_size(u32::from(self.mode.word));
        }
        self.push_return_address(0);
        let branch_at = self.at + self.moved.bytes.len() as u64;
        let mut encoder = self.mode.encoder();
        encoder.encode(&jump, branch_at.0).map_err(|_| {
            refused(&self.insn, &format!("its operand is out of reach of a copy at {}", self.at))
        })?;
        let branch = encoder.take_buffer();
        self.moved = Moved::default();
        self.push_return_address(branch.len());
        self.moved.exits.push(Exit { offset: self.here(), to: Destination::Computed });
        self.bytes(&branch);
        self.literal();
        Ok(self.moved)
    }

    /// ```text
    /// (@, sp)       syscall              or: int $0x80
    /// (+, sp)       movabs $+, %rcx          nothing
    /// ```
    /// Behind `syscall` (`behind_syscall`) rcx holds the moved address, where the kernel returned to.
    fn syscall(mut self, bytes: &[u8]) -> Moved {
        self.point(self.original, 0);
        self.bytes(bytes);
        let behind = self.here();
        self.moved.points.push(Point {
            offset: behind,
            original: self.next,
            sp_shift: 0,
            behind_syscall: true,
        });
        if self.insn.code() == Code::Syscall {
            self.bytes(&MOVABS_RCX);
            let next = self.next_word();
            self.bytes(&next);
        }
        self.moved.falls_through = true;
        self.moved
    }
}
