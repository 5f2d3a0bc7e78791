//! Target descriptions, and what is made of their registers.

use std::collections::HashMap;

use insn::isa::{Isa, Order, RegisterSlot};
use remote::description::{DescriptionError, RegisterFile, order};
use remote::{Description, RemoteError};

fn read(documents: &[(&str, &str)]) -> Result<Description, RemoteError> {
    let documents: HashMap<&str, &str> = documents.iter().copied().collect();
    Description::read(&mut |name| match documents.get(name) {
        Some(text) => Ok(text.as_bytes().to_vec()),
        None => Err(RemoteError::Refused { sent: name.to_owned(), code: "E00".to_owned() }),
    })
}

fn target(inside: &str) -> Result<Description, RemoteError> {
    read(&[("target.xml", &format!("<target>{inside}</target>"))])
}

/// A description as the server of this ISA has it: the ABI's registers one after another, with some that the ABI has not.
fn described(isa: Isa, architecture: &str) -> Description {
    let bits = 8 * isa.abi().word;
    let mut registers = format!(r#"<reg name="before" bitsize="{bits}"/>"#);
    let mut seen: Vec<RegisterSlot> = Vec::new();
    for (name, slot) in isa.abi().registers {
        if !seen.contains(slot) {
            seen.push(*slot);
            registers.push_str(&format!(
                r#"<reg name="{name}" bitsize="{bits}"/><reg name="v_{name}" bitsize="128"/>"#
            ));
        }
    }
    target(&format!("<architecture>{architecture}</architecture><feature name='f'>{registers}</feature>"))
        .unwrap()
}

fn file(description: &Description) -> RegisterFile {
    let len: usize = description.registers.iter().map(remote::description::Register::len).sum();
    let digits: String = (0..len).map(|index| format!("{:02x}", index % 251)).collect();
    RegisterFile::parse(digits.as_bytes()).unwrap()
}

const ARCHITECTURES: &[(&str, Isa)] = &[
    ("i386:x86-64", Isa::X86_64),
    ("i386", Isa::I386),
    ("aarch64", Isa::Arm64),
    ("arm", Isa::Arm),
    ("powerpc:common", Isa::PowerPc),
    ("powerpc:common64", Isa::PowerPc64),
    ("powerpc:common64", Isa::PowerPc64Le),
    ("riscv:rv32", Isa::RiscV32),
    ("riscv:rv64", Isa::RiscV64),
    ("mips", Isa::Mips),
    ("mips", Isa::MipsLe),
    ("mips", Isa::Mips64),
    ("mips", Isa::Mips64Le),
    ("sparc", Isa::Sparc),
    ("sparc:v9", Isa::Sparc64),
    ("s390:64-bit", Isa::S390x),
];

#[test]
fn a_set_is_made_and_brought_back_for_every_isa() {
    for &(architecture, isa) in ARCHITECTURES {
        let description = described(isa, architecture);
        assert_eq!(description.isa(Some(isa.abi().order)), Ok(isa));
        let layout = description.layout(isa).unwrap();
        let before = file(&description);
        let set = layout.prstatus(&before).unwrap();
        assert_eq!(set.len(), isa.abi().regset_len);
        let mut same = before.clone();
        assert_eq!(layout.update(&mut same, &set), []);
        assert_eq!(same, before);
        let changed: Vec<u8> = set.iter().map(|byte| !byte).collect();
        let mut after = before.clone();
        let registers = layout.update(&mut after, &changed);
        assert!(registers.iter().all(|(number, _)| number % 2 == 1), "only the ABI's: {registers:?}");
        assert_eq!(layout.prstatus(&after).unwrap(), masked(isa, &changed));
        // Every byte of the others is as it was.
        let differs = after.bytes().iter().zip(before.bytes()).filter(|(one, other)| one != other).count();
        assert_eq!(differs, registers.len() * isa.abi().word);
    }
}

/// What a set has where the ABI names a register; 0 elsewhere.
fn masked(isa: Isa, set: &[u8]) -> Vec<u8> {
    let abi = isa.abi();
    let mut masked = vec![0; set.len()];
    abi.registers.iter().for_each(|(_, slot)| abi.set(&mut masked, *slot, abi.get(set, *slot)));
    masked
}

#[test]
fn narrow_and_missing_registers_have_their_values() {
    let abi = Isa::X86_64.abi();
    let names = ["rip", "rsp", "rax", "rdi", "rsi", "rdx", "r10", "r8", "r9"];
    let wide: String = names.iter().map(|name| format!(r#"<reg name="{name}" bitsize="64"/>"#)).collect();
    let inside =
        format!(r#"<feature name="org.gnu.gdb.i386.core">{wide}<reg name="eflags" bitsize="32"/></feature>"#);
    let description = target(&inside).unwrap();
    assert_eq!(description.isa(None), Ok(Isa::X86_64), "known by its registers");
    let layout = description.layout(Isa::X86_64).unwrap();
    let mut registers = RegisterFile::parse(&b"ff".repeat(9 * 8 + 4)).unwrap();
    let mut set = layout.prstatus(&registers).unwrap();
    assert_eq!(abi.get(&set, abi.flags.unwrap()), 0xffff_ffff);
    let original = abi.syscall.original_number.unwrap();
    assert_eq!((layout.has(original), abi.get(&set, original)), (false, u64::MAX));
    abi.set(&mut set, original, 7);
    abi.set(&mut set, abi.flags.unwrap(), 0x1_0000_0246);
    assert_eq!(layout.update(&mut registers, &set), [(9, vec![0x46, 2, 0, 0])]);
}

#[test]
fn unknown_values_are_missed_only_where_they_are_needed() {
    let description = described(Isa::Arm64, "aarch64");
    let layout = description.layout(Isa::Arm64).unwrap();
    let digits = "11".repeat(file(&description).bytes().len());
    let with_unknown = |name: &str| {
        let before = description.registers.iter().take_while(|register| register.name != name);
        let at: usize = 2 * before.map(remote::description::Register::len).sum::<usize>();
        let mut digits = digits.clone();
        digits.replace_range(at..at + 16, &"x".repeat(16));
        let registers = RegisterFile::parse(digits.as_bytes()).unwrap();
        assert!(!registers.is_complete());
        layout.prstatus(&registers)
    };
    let isa = "arm64";
    assert_eq!(with_unknown("pc"), Err(DescriptionError::Register { register: "pc", isa }));
    assert_eq!(with_unknown("x19").map(|set| set[19 * 8]), Ok(0));
    let short = RegisterFile::parse(b"00").unwrap();
    assert_eq!(layout.prstatus(&short), Err(DescriptionError::Register { register: "x0", isa }));
    for wrong in ["", "0", "0g", "x0", "xxx"] {
        assert_eq!(RegisterFile::parse(wrong.as_bytes()), None, "{wrong}");
    }
}

#[test]
fn an_architecture_is_known_or_named() {
    let isa = |inside: &str, order| target(inside).unwrap().isa(order);
    for foreign in ["i386:x64-32", "aarch64:ilp32", "m68k", "s390:31-bit"] {
        let error = isa(&format!("<architecture>{foreign}</architecture>"), None).unwrap_err();
        assert_eq!(error, DescriptionError::Architecture { architecture: foreign.to_owned() });
    }
    let power = "<architecture>powerpc:common64</architecture>";
    assert_eq!(isa(power, None), Err(DescriptionError::Order));
    assert_eq!(isa(power, Some(Order::Big)), Ok(Isa::PowerPc64));
    let big = isa("<architecture>aarch64</architecture>", Some(Order::Big)).unwrap_err();
    let text = "the remote's architecture `aarch64 with bytes in Big order` is not supported: i386:x86-64, i386, aarch64, arm, \
                powerpc:common, powerpc:common64, riscv:rv32, riscv:rv64, mips, sparc, \
                sparc:v9, s390:64-bit are";
    assert_eq!(big.to_string(), text);
    let lacking = target("<architecture>i386</architecture>").unwrap().layout(Isa::I386);
    assert_eq!(lacking, Err(DescriptionError::Register { register: "eip", isa: "i386" }));
}

#[test]
fn numbers_go_on_from_the_last_across_documents() {
    let description = read(&[
        ("target.xml", r#"<target><xi:include href="a.xml"/><reg name="c" bitsize="8"/></target>"#),
        (
            "a.xml",
            r#"<feature name="a&amp;b"><reg name="a" bitsize="1" regnum="7"/><reg name="b" bitsize="9"/></feature>"#,
        ),
    ]);
    let registers = description.unwrap().registers;
    let seen: Vec<_> = registers.iter().map(|it| (it.name.as_str(), it.number, it.len())).collect();
    assert_eq!(seen, [("a", 7, 1), ("b", 8, 2), ("c", 9, 1)]);
    assert_eq!(registers[0].feature, "a&b");
}

#[test]
fn wrong_descriptions_say_what_is_wrong() {
    let wrong = |inside: &str| match target(inside) {
        Err(RemoteError::Description(DescriptionError::Wrong { why, .. })) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(wrong(r#"<reg bitsize="8"/>"#), "a register without a name");
    for bits in ["", "bitsize='0'", "bitsize='x'", "bitsize='-8'", "bitsize='4294967295'"] {
        assert_eq!(wrong(&format!("<reg name='r' {bits}/>")), "register r has no width that makes sense");
    }
    assert_eq!(wrong("<reg name='r' bitsize='8' regnum='-1'/>"), "register r has the number `-1`");
    assert_eq!(wrong("<reg name='r' bitsize='8' regnum='4294967295'/>"), "register r has too high a number");
    let twice = "<reg name='r' bitsize='8'/><reg name='s' bitsize='8' regnum='0'/>";
    assert_eq!(wrong(twice), "r and s have the same number 0");
    assert_eq!(wrong(&"<reg name='r' bitsize='8'/>".repeat(1 << 16)), "too many registers");
    assert!(!wrong("</nonsense>").is_empty());
    // A document that includes itself; one that is not there.
    assert_eq!(wrong(r#"<xi:include href="target.xml"/>"#), "it includes too many others");
    let missing = target(r#"<xi:include href="b.xml"/>"#);
    assert!(matches!(missing, Err(RemoteError::Refused { .. })), "{missing:?}");
}

/// Entities that a document defines are not looked at: none of them can grow.
#[test]
fn no_entity_is_expanded() {
    let bomb = r#"<!DOCTYPE target [<!ENTITY a "0123456789"><!ENTITY b "&a;&a;&a;">]>
        <target><architecture>&b;</architecture><feature name="&b;"><reg name="r" bitsize="8"/></feature></target>"#;
    let description = read(&[("target.xml", bomb)]).unwrap();
    assert_eq!(description.registers[0].feature, "");
    assert!(description.architecture.is_none_or(|name| name.len() < 10));
}

#[test]
fn the_order_of_bytes_is_that_in_which_the_auxiliary_vector_makes_sense() {
    let entries = [(3_u64, 0x40_0040_u64), (6, 0x1000), (9, 0x40_0580), (0, 0)];
    for (order_wanted, word) in [(Order::Little, 8), (Order::Little, 4), (Order::Big, 8), (Order::Big, 4)] {
        let mut auxv = Vec::new();
        for number in entries.iter().flat_map(|(kind, value)| [*kind, *value]) {
            let mut bytes = vec![0; word];
            order_wanted.write(number, &mut bytes);
            auxv.extend(bytes);
        }
        assert_eq!(order(&auxv, word), Some(order_wanted));
        assert_eq!(order(&auxv[..word], word), None);
    }
    for nonsense in [&[][..], &[0; 64], &[0xff; 64], &[6; 3]] {
        assert_eq!(order(nonsense, 8), None);
        assert_eq!(order(nonsense, 0), None);
    }
}
