//! gdb's fast tracepoints: a jump to a pad made by a library that must be preloaded, in a program at a fixed address, on an
//! instruction of five bytes (`programs/gdb_probe.py`). Each hit makes a trace frame, an empty one where nothing is collected.
//! The target stands still while gdbserver empties the library's buffer, which only the clock on the wall shows.

use std::path::Path;
use std::process::{Command, Stdio};

use super::probe::{Armed, Driven, Function, Kind, LIMIT, Setting, version};
use crate::compile;
use crate::error::Error;
use crate::responder::Responder;
use crate::run;

/// Where distributions put gdb's in-process agent.
const AGENTS: [&str; 4] = [
    "/usr/lib/libinproctrace.so",
    "/usr/lib64/libinproctrace.so",
    "/usr/lib/x86_64-linux-gnu/libinproctrace.so",
    "/usr/local/lib/libinproctrace.so",
];

/// Starts a program with the agent and attaches gdbserver to it, and gdb to that.
pub(super) fn arm(setting: &Setting, function: Function, kind: Kind) -> Result<Armed, Error> {
    let version = version(&run::output(Command::new("gdbserver").arg("--version"), LIMIT)?);
    let agent = AGENTS.iter().find(|path| Path::new(path).exists());
    let agent =
        agent.ok_or_else(|| Error::Missing("gdbserver's libinproctrace.so is not installed".to_owned()))?;
    let program = setting.workshop.fixed_target()?;
    let mut target = Responder::spawn(Command::new(&program).env("LD_PRELOAD", agent))?;
    let probe = format!("{} {:#x} {}", target.pid(), target.address_of(function.name())?, kind.word());
    let driver = Responder::spawn(
        Command::new("gdb")
            .args(["-nx", "-q", "-batch", "-x"])
            .args([&compile::program("gdb_probe.py"), &program])
            .env("XOL_BENCH_PROBE", probe)
            .stderr(Stdio::null()),
    )?;
    Ok(Armed { version, probe: Driven::armed(driver, target, None)? })
}
