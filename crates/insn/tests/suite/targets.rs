//! Where branches go, from registers.

use insn::relocate::{Thread, branch_target};
use insn::{Address, Isa};

/// A register set in which every 64-bit slot holds a value of its own.
fn registers() -> Vec<u8> {
    let mut set: Vec<u8> =
        (0..27u64).flat_map(|slot| (0x1000_0000_0000 + slot * 0x1000).to_le_bytes()).collect();
    let abi = Isa::X86_64.abi();
    set[abi.sp.0..abi.sp.0 + 8].copy_from_slice(&0x7ffe_0000_u64.to_le_bytes());
    set
}

fn register(slot: usize) -> u64 {
    u64::from_le_bytes(registers()[slot..slot + 8].try_into().unwrap())
}

/// The target, where each word of memory holds its own address plus 1.
fn go(bytes: &[u8]) -> Option<(Address, Address)> {
    let mut read = |from: Address, out: &mut [u8]| {
        out.copy_from_slice(&(from.0 + 1).to_le_bytes());
        true
    };
    let thread = Thread { registers: &registers(), thread_pointer: None };
    branch_target(Isa::X86_64, Address(0x40_0000), bytes, &thread, &mut read)
}

const GS: u64 = 0xf7f0_0000;

/// The same of 32 bits: each slot holds 0x1000_0000 and 0x1000 times its number, the stack pointer 0xffff_fff8.
fn go_32(bytes: &[u8]) -> Option<(Address, Address)> {
    let mut set: Vec<u8> = (0..17u32).flat_map(|slot| (0x1000_0000 + slot * 0x1000).to_le_bytes()).collect();
    let sp = Isa::I386.abi().sp.0;
    set[sp..sp + 4].copy_from_slice(&0xffff_fff8_u32.to_le_bytes());
    let mut read = |from: Address, out: &mut [u8]| {
        out.copy_from_slice(&u32::try_from(from.0 + 1).unwrap().to_le_bytes());
        true
    };
    let thread = Thread { registers: &set, thread_pointer: Some(Address(GS)) };
    branch_target(Isa::I386, Address(0x0804_8000), bytes, &thread, &mut read)
}

#[test]
fn branches_of_32_bits() {
    let sp = Address(0xffff_fff8);
    assert_eq!(go_32(&[0xc3]), Some((Address(sp.0 + 1), sp + 4)));
    assert_eq!(go_32(&[0xc2, 0x04, 0x00]), Some((Address(sp.0 + 1), Address(sp.0 + 8))));
    // eax is the seventh slot, ecx the second.
    assert_eq!(go_32(&[0xff, 0xe0]), Some((Address(0x1000_6000), sp)));
    assert_eq!(go_32(&[0xff, 0x20]), Some((Address(0x1000_6001), sp)));
    // jmp *0xf0000000(%eax,%ecx,8): the sum wraps
    assert_eq!(go_32(&[0xff, 0xa4, 0xc8, 0, 0, 0, 0xf0]), Some((Address(0x8000_e001), sp)));
    // jmp *%gs:0x10
    assert_eq!(go_32(&[0x65, 0xff, 0x25, 0x10, 0, 0, 0]), Some((Address(GS + 0x11), sp)));
    assert_eq!(go_32(&[0x64, 0xff, 0x25, 0x10, 0, 0, 0]), None);
    assert_eq!(go_32(&[0xe9, 0, 0, 0, 0xf8]), Some((Address(0x4_8005), sp)));
}

const SP: u64 = 0x7ffe_0000;
const RAX: usize = 80;
const RCX: usize = 88;
const R12: usize = 24;

#[test]
fn returns_pop_the_address_and_their_arguments() {
    assert_eq!(go(&[0xc3]), Some((Address(SP + 1), Address(SP + 8))));
    assert_eq!(go(&[0xf3, 0xc3]), Some((Address(SP + 1), Address(SP + 8))));
    assert_eq!(go(&[0xc2, 0x10, 0x00]), Some((Address(SP + 1), Address(SP + 0x18))));
}

#[test]
fn jumps_through_registers_and_memory() {
    let sp = Address(SP);
    assert_eq!(go(&[0xff, 0xe0]), Some((Address(register(RAX)), sp)));
    assert_eq!(go(&[0x41, 0xff, 0xe4]), Some((Address(register(R12)), sp)));
    assert_eq!(go(&[0xff, 0xe4]), Some((sp, sp)));
    assert_eq!(go(&[0xff, 0x20]), Some((Address(register(RAX) + 1), sp)));
    // jmp *0x10(%rax,%rcx,8)
    let indexed = register(RAX) + register(RCX) * 8 + 0x10 + 1;
    assert_eq!(go(&[0xff, 0x64, 0xc8, 0x10]), Some((Address(indexed), sp)));
    // jmp *-8(%rip)
    assert_eq!(go(&[0xff, 0x25, 0xf8, 0xff, 0xff, 0xff]), Some((Address(0x40_0000 + 6 - 8 + 1), sp)));
    // jmp *(%eax): the address is cut to 32 bits
    assert_eq!(go(&[0x67, 0xff, 0x20]), Some((Address((register(RAX) & 0xffff_ffff) + 1), sp)));
    assert_eq!(go(&[0xe9, 1, 0, 0, 0]), Some((Address(0x40_0006), sp)));
}

#[test]
fn what_is_no_unconditional_branch_has_no_target() {
    for bytes in
        [&[0x90][..], &[0x74, 5], &[0xff, 0xd0], &[0xe8, 0, 0, 0, 0], &[0x0f], &[], &[0x64, 0xff, 0x20]]
    {
        assert_eq!(go(bytes), None, "{bytes:x?}");
    }
}

#[test]
fn unreadable_memory_and_short_register_sets_give_none() {
    let mut unreadable = |_: Address, _: &mut [u8]| false;
    let all = registers();
    let thread = |registers| Thread { registers, thread_pointer: None };
    assert_eq!(branch_target(Isa::X86_64, Address(0), &[0xc3], &thread(&all), &mut unreadable), None);
    let mut readable = |_: Address, _: &mut [u8]| true;
    assert_eq!(branch_target(Isa::X86_64, Address(0), &[0xc3], &thread(&all[..68]), &mut readable), None);
}
