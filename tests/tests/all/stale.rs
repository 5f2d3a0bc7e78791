//! The coherence procedure by its effect. Emulators keep caches coherent, which is why nothing else here can show a step of it
//! missing; but qemu-aarch64 from 8.1 on translates code that was written through another mapping anew only when the program names
//! it by `ic ivau`. So it is a machine on which that instruction is needed, at the address that is executed. (That the others
//! are needed is shown by the model of `coherence`, not by a run.)

use std::path::{Path, PathBuf};
use std::process::Command;

use insn::isa::Isa;
use target::stepper::routine;
use tests::{Line, Machine, Process, Program, need, which};

/// `ic ivau, x0` and `nop`, in memory.
const INVALIDATE: [u8; 4] = [0x20, 0x75, 0x0b, 0xd5];
const NOP: [u8; 4] = [0x1f, 0x20, 0x03, 0xd5];

/// An emulator whose translations are stale as long as the program allows it: this machine's, or the one that
/// `scripts/fetch-newer-qemu` unpacked.
fn newer_qemu() -> Result<PathBuf, String> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/qemu/qemu-aarch64");
    let candidates = which("qemu-aarch64").into_iter().chain([unpacked]);
    let is_new = |qemu: &PathBuf| version(qemu).is_some_and(|version| version >= (8, 1));
    candidates.into_iter().find(is_new).ok_or_else(|| {
        "no qemu-aarch64 of version 8.1 or later, the first that knows of stale code (scripts/fetch-newer-qemu)".to_owned()
    })
}

fn version(qemu: &Path) -> Option<(u32, u32)> {
    let said = Command::new(qemu).arg("--version").output().ok()?.stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    let mut numbers = said.split_once("version ")?.1.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn run(qemu: &Path, program: &Path, routine: &[u8], at: &str) -> Line {
    let digits: String = routine.iter().map(|byte| format!("{byte:02x}")).collect();
    Process::spawn(Command::new(qemu).arg(program).args([digits.as_str(), at])).hear()
}

#[test]
fn arm64_code_is_stale_until_the_procedure_has_run() {
    let qemu = need!(newer_qemu());
    let program = need!(Program::new("stale.c").machine(Machine::of(Isa::Arm64)).build());
    let procedure = routine(Isa::Arm64).expect("arm64's is instructions");
    let at = procedure.as_chunks::<4>().0.iter().position(|word| *word == INVALIDATE).expect("`ic ivau`");
    let mut without = procedure.clone();
    without[4 * at..][..4].copy_from_slice(&NOP);
    for (what, routine, at, expected) in [
        ("nothing", &[][..], "executed", 11),
        ("all but `ic ivau`", &without, "executed", 11),
        ("the procedure on the other mapping", &procedure, "written", 11),
        ("the procedure", &procedure, "executed", 22),
    ] {
        let over = run(&qemu, &program, routine, at);
        assert_eq!((over.number("first"), over.number("second")), (11, expected), "{what}: {over:?}");
    }
}
