//! A program under a GDB server: qemu-user's, for any machine, or gdbserver.
//!
//! Servers listen when a test gets them, and are killed by their own handle when it drops them. What a test cannot have on
//! this machine is an error with the reason, to skip by.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use insn::isa::{Isa, Order};
use object::{Object, ObjectSection, ObjectSymbol, SymbolFlags};
use remote::{Client, Endpoint, Link};

use crate::PATIENCE;
use crate::compile::which;
use crate::process::{Process, wait_for};

/// A machine that programs are compiled for by Debian's cross compilers, and run as by qemu.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Its ISA.
    pub isa: Isa,
    /// The C compiler.
    pub compiler: &'static str,
    /// The emulator.
    pub qemu: &'static str,
}

/// All of them.
pub const MACHINES: &[Machine] = &[
    Machine { isa: Isa::Arm64, compiler: "aarch64-linux-gnu-gcc", qemu: "qemu-aarch64" },
    Machine { isa: Isa::Arm, compiler: "arm-linux-gnueabihf-gcc", qemu: "qemu-arm" },
    Machine { isa: Isa::PowerPc, compiler: "powerpc-linux-gnu-gcc", qemu: "qemu-ppc" },
    Machine { isa: Isa::PowerPc64, compiler: "powerpc64-linux-gnu-gcc", qemu: "qemu-ppc64" },
    Machine { isa: Isa::PowerPc64Le, compiler: "powerpc64le-linux-gnu-gcc", qemu: "qemu-ppc64le" },
    Machine { isa: Isa::RiscV64, compiler: "riscv64-linux-gnu-gcc", qemu: "qemu-riscv64" },
    Machine { isa: Isa::S390x, compiler: "s390x-linux-gnu-gcc", qemu: "qemu-s390x" },
    Machine { isa: Isa::Sh, compiler: "sh4-linux-gnu-gcc", qemu: "qemu-sh4" },
    Machine { isa: Isa::Alpha, compiler: "alpha-linux-gnu-gcc", qemu: "qemu-alpha" },
    Machine { isa: Isa::Mips, compiler: "mips-linux-gnu-gcc", qemu: "qemu-mips" },
    Machine { isa: Isa::MipsLe, compiler: "mipsel-linux-gnu-gcc", qemu: "qemu-mipsel" },
    Machine { isa: Isa::Mips64Le, compiler: "mips64el-linux-gnuabi64-gcc", qemu: "qemu-mips64el" },
    Machine { isa: Isa::Sparc, compiler: "sparc64-linux-gnu-gcc", qemu: "qemu-sparc" },
    Machine { isa: Isa::Sparc64, compiler: "sparc64-linux-gnu-gcc", qemu: "qemu-sparc64" },
    Machine { isa: Isa::I386, compiler: "i686-linux-gnu-gcc", qemu: "qemu-i386" },
    Machine { isa: Isa::X86_64, compiler: "gcc", qemu: "qemu-x86_64" },
];

impl Machine {
    /// The machine of an ISA.
    ///
    /// # Panics
    /// There is none in [`MACHINES`].
    #[must_use]
    pub fn of(isa: Isa) -> &'static Self {
        MACHINES.iter().find(|machine| machine.isa == isa).expect("a machine of the list")
    }

    /// Where the first instruction of a function is, in the program's file: behind Power's descriptor (64-bit, big-endian) or
    /// global entry (little-endian), behind what loads alpha's gp.
    ///
    /// # Panics
    /// The file has no such function.
    #[must_use]
    pub fn entry(&self, program: &Path, function: &str) -> u64 {
        let bytes = fs::read(program).expect("a compiled program");
        let file = object::File::parse(bytes.as_slice()).expect("an ELF file");
        let symbol = file.symbols().find(|symbol| symbol.name() == Ok(function));
        let symbol = symbol.unwrap_or_else(|| panic!("no {function} in {}", program.display()));
        match (self.isa, symbol.flags()) {
            (Isa::PowerPc64, _) => {
                let table = file.section_by_name(".opd").expect("ELFv1 has descriptors");
                let data = table.data_range(symbol.address(), 8).ok().flatten().expect("a descriptor");
                Order::Big.number(data)
            }
            // `PPC64_LOCAL_ENTRY_OFFSET` (elf.h): 1 << n bytes in the upper three bits.
            (Isa::PowerPc64Le, SymbolFlags::Elf { st_other, .. }) => {
                symbol.address() + (1 << (st_other >> 5) >> 2 << 2)
            }
            // `STO_ALPHA_STD_GPLOAD` (include/elf/alpha.h of binutils).
            (Isa::Alpha, SymbolFlags::Elf { st_other: 0x88, .. }) => symbol.address() + 8,
            (Isa::Arm, _) => symbol.address() & !1,
            _ => symbol.address(),
        }
    }
}

/// A program under a GDB server.
#[derive(Debug)]
pub struct Server {
    /// The server; where it started the program too, the program's lines come from it.
    pub process: Process,
    /// Where it listens, for one connection.
    pub endpoint: Endpoint,
    /// The folder of its socket.
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts a program under the emulator; it stands before its first instruction.
    ///
    /// # Errors
    /// The emulator is not on this machine.
    ///
    /// # Panics
    /// It does not listen in time.
    pub fn emulated(machine: &Machine, program: &Path, arguments: &[&str]) -> Result<Self, String> {
        let qemu = which(machine.qemu).ok_or_else(|| format!("no {} on this machine", machine.qemu))?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("socket");
        let mut command = Command::new(qemu);
        command.arg("-g").arg(&socket).arg(program).args(arguments).current_dir(folder.path());
        let process = Process::spawn(&mut command);
        wait_for("qemu to listen", || listens(&socket).then_some(()));
        Ok(Self { process, endpoint: Endpoint::Unix(socket), _folder: folder })
    }

    /// Starts gdbserver with these arguments, behind the address: a program, or `--attach PID`, or `--multi` before it.
    ///
    /// # Errors
    /// It is not on this machine.
    ///
    /// # Panics
    /// It does not listen in time.
    pub fn gdbserver(options: &[&str], arguments: &[&str]) -> Result<Self, String> {
        let server = which("gdbserver").ok_or("no gdbserver on this machine")?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let said = folder.path().join("said");
        let file = fs::File::create(&said).expect("a file of ours");
        let mut command = Command::new(server);
        command.arg("--once").args(options).arg("127.0.0.1:0").args(arguments).stderr(Stdio::from(file));
        let process = Process::spawn(&mut command);
        let port = wait_for("gdbserver to listen", || {
            let said = fs::read_to_string(&said).ok()?;
            let (_, port) = said.split_once("Listening on port ")?;
            port.split_once('\n').map(|(port, _)| port.to_owned())
        });
        Ok(Self { process, endpoint: Endpoint::Tcp(format!("127.0.0.1:{port}")), _folder: folder })
    }

    /// Makes the one connection that it takes.
    ///
    /// # Panics
    /// It fails.
    #[must_use]
    pub fn connect(&self) -> Client<Link> {
        let link = self.endpoint.connect(PATIENCE).expect("it listens");
        Client::connect(link, PATIENCE).expect("it speaks the protocol")
    }
}

/// Whether somebody listens at this socket: a connection to find out would be the only one that is taken.
fn listens(socket: &Path) -> bool {
    // `__SO_ACCEPTCON`, include/uapi/linux/net.h.
    const LISTENING: &str = "00010000";
    let known = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    known.lines().any(|line| {
        line.ends_with(&*socket.to_string_lossy()) && line.split_whitespace().nth(3) == Some(LISTENING)
    })
}
